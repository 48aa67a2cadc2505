//! What was read and not believed, counted by reason.

/// Why something that was read was thrown away. Ids are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// A processor's cache exchanged a span while it was read; the class was looked at again, or given a slack.
    CacheMoved,
    /// The processors, or their caches, were others while they were read; the look was begun anew.
    ProcessorsMoved,
    /// The runtime merged its statistics while they were read; the look was begun anew.
    StatisticsMoved,
    /// A count was below what it was before; the look was begun anew.
    CountFell,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::CacheMoved, Self::ProcessorsMoved, Self::StatisticsMoved, Self::CountFell];

    /// Stable identifier.
    pub const fn id(self) -> &'static str {
        match self {
            Self::CacheMoved => "cache_moved",
            Self::ProcessorsMoved => "processors_moved",
            Self::StatisticsMoved => "statistics_moved",
            Self::CountFell => "count_fell",
        }
    }

    /// A sentence for the operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::CacheMoved => "a processor's cache of spans changed while it was read",
            Self::ProcessorsMoved => "GOMAXPROCS changed while the processors were read",
            Self::StatisticsMoved => "the runtime merged its statistics while they were read",
            Self::CountFell => "a count that cannot fall was smaller than before",
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
