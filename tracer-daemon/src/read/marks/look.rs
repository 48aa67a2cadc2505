//! What is asked of mark bits, and what they can answer: plain data.

use crate::addr::Avma;
use crate::read::heap::{Slot, SpanIdentity};

/// A value of `mheap_.sweepgen`: a collection whose marking has ended, and the time until the next one's has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cycle(pub u32);

impl Cycle {
    /// Collections from `earlier` to this one; negative where it is the later one. The numbers wrap around.
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed() / 2
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(2))
    }
}

/// An object that is followed from its birth on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedObject {
    /// Its slot, or an address within.
    pub address: Avma,
    /// Its span at birth; `None` where that is not known. Then death is proved by bits alone, as late as they tell.
    pub span: Option<SpanIdentity>,
    /// The cycle in which it was born.
    pub born: Cycle,
    /// The last cycle whose look found it alive; that of its birth before the first one.
    pub alive: Cycle,
}

impl TrackedObject {
    /// An object that was born in a cycle.
    pub fn new(slot: &Slot, born: Cycle) -> Self {
        Self { address: slot.start(), span: Some(slot.span), born, alive: born }
    }
}

/// What a look says of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The collection kept it.
    Alive {
        /// The cycle of that collection: the caller's next [`TrackedObject::alive`].
        cycle: Cycle,
    },
    /// A collection found that nothing refers to it. That is final.
    Dead {
        /// The cycle of that collection, or a later one where cycles were missed.
        cycle: Cycle,
    },
    /// Nothing can be said.
    Censored(Censored),
}

/// Why nothing can be said of an object. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Censored {
    /// No collection has ended since its birth.
    NotYetKnown,
    /// Collections have ended of which no look was had. That is final: the slot may be another object's by now.
    MissedCycle,
    /// Its span was being swept in each attempt, or the collector went on.
    Moving,
    /// A pointer on the way leads nowhere.
    Unreadable,
    /// What was read contradicts itself, or can be no object.
    Implausible,
}

impl Censored {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::NotYetKnown, Self::MissedCycle, Self::Moving, Self::Unreadable, Self::Implausible];

    /// Stable identifier.
    pub const fn id(self) -> &'static str {
        match self {
            Self::NotYetKnown => "not_yet_known",
            Self::MissedCycle => "missed_cycle",
            Self::Moving => "moving",
            Self::Unreadable => "unreadable",
            Self::Implausible => "implausible",
        }
    }

    /// A sentence for the operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotYetKnown => "no collection has ended since the object was allocated",
            Self::MissedCycle => {
                "a collection ended without a look, so that another object may have taken the slot meanwhile"
            }
            Self::Moving => "the collector changed what was being read in each attempt",
            Self::Unreadable => "a pointer on the way to the mark bits leads nowhere",
            Self::Implausible => "what was read on the way to the mark bits contradicts itself",
        }
    }

    /// Whether a later look can say more, within the same cycle or after the next collection.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::MissedCycle)
    }
}

/// Where answers came from so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkSources {
    /// The bits of a swept span.
    pub swept: u64,
    /// The bits of a span that was not yet swept.
    pub unswept: u64,
    /// Bits within a span that was not yet swept (Green Tea).
    pub inline: u64,
    /// A finalizer's record.
    pub finalizer: u64,
    /// The span was freed or is another one.
    pub recycled: u64,
}
