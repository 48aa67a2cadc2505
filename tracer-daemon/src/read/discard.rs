//! What was read and not believed, counted by reason.

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
    /// A count was below what it was before; the look was begun anew.
    CountFell: "count_fell", "a count that cannot fall was smaller than before";
    /// The runtime published a cycle of its heap profile while that was read; the look was begun anew.
    ProfilePublished: "profile_published", "the runtime published a cycle of its heap profile while that was read";
    /// The heap profile has more stacks than are read.
    ProfileTooLarge: "profile_too_large", "the heap profile has more stacks than are read; the oldest are missing";
    /// A stack of the heap profile has no address in the program's own code.
    ForeignStack: "foreign_stack", "a stack of the heap profile has no address in the program's own code";
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
        Discard::ALL.iter().copied().zip(self.0).filter(|(_, count)| *count > 0)
    }
}
