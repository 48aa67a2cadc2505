//! What was read and not believed, counted by reason.

/// Why something that was read was thrown away. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// A processor's cache changed while it was read; the look was begun anew.
    CacheMoved,
    /// What the runtime lists as a goroutine is none.
    GoroutineImplausible,
    /// A goroutine ran while it was read; it was read again.
    GoroutineMoved,
    /// A goroutine ran at each attempt to read it; it was counted without its stack.
    GoroutineRestless,
    /// A goroutine ended at each attempt to read it, and another one began in its place.
    GoroutineReplaced,
    /// A stack is not where the goroutine says.
    StackUnreadable,
    /// A walk over a stack did not end where stacks end.
    StackBroken,
    /// There are more different stacks than are kept.
    StacksFull,
    /// What a goroutine waits with is not its own.
    WaiterImplausible,
    /// What a goroutine waits for is no channel.
    ChannelImplausible,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::CacheMoved,
        Self::GoroutineImplausible,
        Self::GoroutineMoved,
        Self::GoroutineRestless,
        Self::GoroutineReplaced,
        Self::StackUnreadable,
        Self::StackBroken,
        Self::StacksFull,
        Self::WaiterImplausible,
        Self::ChannelImplausible,
    ];

    /// Stable identifier.
    pub const fn id(self) -> &'static str {
        match self {
            Self::CacheMoved => "cache_moved",
            Self::GoroutineImplausible => "goroutine_implausible",
            Self::GoroutineMoved => "goroutine_moved",
            Self::GoroutineRestless => "goroutine_restless",
            Self::GoroutineReplaced => "goroutine_replaced",
            Self::StackUnreadable => "stack_unreadable",
            Self::StackBroken => "stack_broken",
            Self::StacksFull => "stacks_full",
            Self::WaiterImplausible => "waiter_implausible",
            Self::ChannelImplausible => "channel_implausible",
        }
    }

    /// A sentence for the operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::CacheMoved => "a processor's cache of spans changed while it was read",
            Self::GoroutineImplausible => "the runtime lists a goroutine at an address that holds none",
            Self::GoroutineMoved => "a goroutine ran while it was read; it was read again",
            Self::GoroutineRestless => "a goroutine ran at each attempt to read it; it was counted without its stack",
            Self::GoroutineReplaced => {
                "a goroutine ended while it was read and another one began in its place; it belongs to no group"
            }
            Self::StackUnreadable => "a goroutine's stack cannot be read where the runtime says that it is",
            Self::StackBroken => "the walk over a goroutine's stack did not end where stacks end",
            Self::StacksFull => "there are more different stacks than are kept",
            Self::WaiterImplausible => "the record of what a goroutine waits for belongs to another one",
            Self::ChannelImplausible => "a goroutine waits for a channel at an address that holds none",
        }
    }
}

/// How often each was the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Discards {
    /// One more.
    pub fn add(&mut self, reason: Discard) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// How often this one happened.
    pub fn count(&self, reason: Discard) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// Those that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}
