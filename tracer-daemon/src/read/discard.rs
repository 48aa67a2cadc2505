//! What was read and not believed, counted by reason.

/// Why something that was read was thrown away. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// A processor's cache changed while it was read; the look was begun anew.
    CacheMoved,
    /// The runtime published a cycle of its heap profile while that was read; the look was begun anew.
    ProfilePublished,
    /// The heap profile has more stacks than are read.
    ProfileTooLarge,
    /// A stack of the heap profile has no address in the program's own code.
    ForeignStack,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::CacheMoved, Self::ProfilePublished, Self::ProfileTooLarge, Self::ForeignStack];

    /// Stable identifier.
    pub const fn id(self) -> &'static str {
        match self {
            Self::CacheMoved => "cache_moved",
            Self::ProfilePublished => "profile_published",
            Self::ProfileTooLarge => "profile_too_large",
            Self::ForeignStack => "foreign_stack",
        }
    }

    /// A sentence for the operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::CacheMoved => "a processor's cache of spans changed while it was read",
            Self::ProfilePublished => "the runtime published a cycle of its heap profile while that was read",
            Self::ProfileTooLarge => "the heap profile has more stacks than are read; the oldest are missing",
            Self::ForeignStack => "a stack of the heap profile has no address in the program's own code",
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

    /// Those that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}
