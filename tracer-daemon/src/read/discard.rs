//! What was read and not believed, counted by reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The one table of reasons: name, stable identifier, sentence for the operator.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident: $id:literal, $text:literal;)*) => {
        /// Why something that was read was thrown away. Ids are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Discard {
            $($(#[doc = $doc])* $name,)*
        }

        impl Discard {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Stable identifier.
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }

            /// A sentence for the operator.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// A processor's cache exchanged a span while it was read; the class was looked at again, or given a slack.
    CacheMoved: "cache_moved", "a processor's cache of spans changed while it was read";
    /// The processors, or their caches, were others while they were read; the look was begun anew.
    ProcessorsMoved: "processors_moved", "GOMAXPROCS changed while the processors were read";
    /// The runtime merged its statistics while they were read; the look was begun anew.
    StatisticsMoved: "statistics_moved", "the runtime merged its statistics while they were read";
    /// A collection's marking ended while the caches were read; the look was begun anew.
    CollectionEnded: "collection_ended", "a collection ended while the processors' caches were read";
    /// Something was no address, or no count, that can be there; the look was begun anew.
    DidNotFit: "did_not_fit", "what was read of the processors' caches or statistics cannot be";
    /// A count was below what it was before; the look was begun anew.
    CountFell: "count_fell", "a count that cannot fall was smaller than before";
    /// The runtime published a cycle of its heap profile while that was read; the look was begun anew.
    ProfilePublished: "profile_published", "the runtime published a cycle of its heap profile while that was read";
    /// The heap profile has more stacks than are read.
    ProfileTooLarge: "profile_too_large", "the heap profile has more stacks than are read; the oldest are missing";
    /// A stack of the heap profile has no address in the program's own code.
    ForeignStack: "foreign_stack", "a stack of the heap profile has no address in the program's own code";
    /// What the runtime lists as a goroutine is none.
    GoroutineImplausible: "goroutine_implausible", "the runtime lists a goroutine at an address that holds none";
    /// A goroutine ran while it was read; it was read again.
    GoroutineMoved: "goroutine_moved", "a goroutine ran while it was read; it was read again";
    /// A goroutine ran at each attempt to read it; it was counted without its stack.
    GoroutineRestless: "goroutine_restless", "a goroutine ran at each attempt to read it; it was counted without its stack";
    /// A goroutine ended at each attempt to read it, and another one began in its place.
    GoroutineReplaced: "goroutine_replaced", "a goroutine ended while it was read and another one began in its place; it belongs to no group";
    /// A stack is not where the goroutine says.
    StackUnreadable: "stack_unreadable", "a goroutine's stack cannot be read where the runtime says that it is";
    /// A walk over a stack did not end where stacks end.
    StackBroken: "stack_broken", "the walk over a goroutine's stack did not end where stacks end";
    /// There are more different stacks than are kept.
    StacksFull: "stacks_full", "there are more different stacks than are kept";
    /// What a goroutine waits with is not its own.
    WaiterImplausible: "waiter_implausible", "the record of what a goroutine waits for belongs to another one";
    /// What a goroutine waits for is no channel.
    ChannelImplausible: "channel_implausible", "a goroutine waits for a channel at an address that holds none";
    /// A span was swept, freed or made while its mark bits were read.
    SpanMoved: "span_moved", "a span was swept, freed or made while its mark bits were read";
    /// A span was being swept when its mark bits were to be read.
    SpanBeingSwept: "span_being_swept", "a span was being swept when its mark bits were to be read";
    /// The collector went on to its next cycle while mark bits were read.
    CycleMoved: "cycle_moved", "the collector went on to its next cycle while mark bits were read";
    /// The collector had not yet ended the cycle that was asked for.
    CycleNotOver: "cycle_not_over", "the collector had not yet ended the cycle whose mark bits were to be read";
    /// A span that mark bits were to be read of contradicts itself.
    SpanImplausible: "span_implausible", "a span whose mark bits were to be read contradicts itself";
    /// A pointer on the way to mark bits leads nowhere.
    MarksUnreadable: "marks_unreadable", "a pointer on the way to mark bits leads nowhere";
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

    /// Of two readers.
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        self
    }

    /// Those that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().copied().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// By stable id, so that a recording means the same after reasons were added.
impl Serialize for Discards {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, count)| (reason.id(), count)))
    }
}

/// What this version has no reason for is left out.
impl<'de> Deserialize<'de> for Discards {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = BTreeMap::<String, u64>::deserialize(deserializer)?;
        Ok(Self(std::array::from_fn(|index| {
            let count = Discard::ALL.get(index).and_then(|reason| counts.get(reason.id()));
            count.copied().unwrap_or_default()
        })))
    }
}
