//! What was read and not believed, counted by reason.

/// Why something that was read was thrown away. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// A processor's cache changed while it was read; the look was begun anew.
    CacheMoved,
    /// A span was swept, freed or made while its mark bits were read.
    SpanMoved,
    /// A span was being swept when its mark bits were to be read.
    SpanBeingSwept,
    /// The collector went on to its next cycle while mark bits were read.
    CycleMoved,
    /// The collector had not yet ended the cycle that was asked for.
    CycleNotOver,
    /// A span that mark bits were to be read of contradicts itself.
    SpanImplausible,
    /// A pointer on the way to mark bits leads nowhere.
    MarksUnreadable,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CacheMoved,
        Self::SpanMoved,
        Self::SpanBeingSwept,
        Self::CycleMoved,
        Self::CycleNotOver,
        Self::SpanImplausible,
        Self::MarksUnreadable,
    ];

    /// Stable identifier.
    pub const fn id(self) -> &'static str {
        match self {
            Self::CacheMoved => "cache_moved",
            Self::SpanMoved => "span_moved",
            Self::SpanBeingSwept => "span_being_swept",
            Self::CycleMoved => "cycle_moved",
            Self::CycleNotOver => "cycle_not_over",
            Self::SpanImplausible => "span_implausible",
            Self::MarksUnreadable => "marks_unreadable",
        }
    }

    /// A sentence for the operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::CacheMoved => "a processor's cache of spans changed while it was read",
            Self::SpanMoved => "a span was swept, freed or made while its mark bits were read",
            Self::SpanBeingSwept => "a span was being swept when its mark bits were to be read",
            Self::CycleMoved => "the collector went on to its next cycle while mark bits were read",
            Self::CycleNotOver => "the collector had not yet ended the cycle whose mark bits were to be read",
            Self::SpanImplausible => "a span whose mark bits were to be read contradicts itself",
            Self::MarksUnreadable => "a pointer on the way to mark bits leads nowhere",
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
