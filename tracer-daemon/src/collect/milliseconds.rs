//! How much was allocated in each millisecond: from entries that only grow, each of which stands for another millisecond whenever the
//! clock has gone round.
//!
//! Counterpart: `tracer-ebpf/src/milliseconds.rs`. What was not looked at within one turn belongs to nobody knows which millisecond:
//! it is counted and placed nowhere.

use std::ops::RangeInclusive;

use tracer_common::exact::{AllocationCount, MILLISECONDS};

/// A program that was interrupted between the clock and its entry adds to a millisecond that has been looked at. So these are looked at
/// again.
const LATE_MS: u64 = 64;
/// And once more after this time, for those that were interrupted for long. Half a turn: nobody else uses the entry yet.
const VERY_LATE_MS: u64 = MILLISECONDS as u64 / 2;
/// Looks have to be so close, so that each entry stands for one millisecond only.
const GAP_MAX_MS: u64 = MILLISECONDS as u64 - LATE_MS;

/// Something about milliseconds, numbered by the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MillisecondNews {
    /// So much more was allocated in one.
    Allocated {
        /// Which.
        millisecond: u64,
        /// Objects and bytes.
        count: AllocationCount,
    },
    /// So much was allocated in some of those, and nobody knows in which.
    Unread {
        /// The first of those.
        first: u64,
        /// The last.
        last: u64,
        /// Objects and bytes.
        count: AllocationCount,
    },
}

/// What was seen of the entries so far.
#[derive(Debug)]
pub struct MillisecondReader {
    known: Vec<AllocationCount>,
    /// When was looked last. `None`: never, and all entries are 0.
    looked: Option<u64>,
    /// What entries had more and nobody was told, since another could not be read.
    untold: AllocationCount,
}

impl Default for MillisecondReader {
    fn default() -> Self {
        Self {
            known: vec![AllocationCount::default(); MILLISECONDS as usize],
            looked: None,
            untold: AllocationCount::default(),
        }
    }
}

impl MillisecondReader {
    /// From now on counts may come: the entries are looked at from here. `now`: the millisecond that is.
    pub fn begin(&mut self, now: u64) {
        self.looked.get_or_insert(now);
    }

    /// Looks at the entries that can have changed. `now`: the millisecond that is, taken before; `read`: what an entry has now.
    ///
    /// # Errors
    /// That of `read`. What was told until then was told, and is not told again.
    pub fn look<E>(
        &mut self,
        now: u64,
        mut read: impl FnMut(u32) -> Result<AllocationCount, E>,
        mut tell: impl FnMut(MillisecondNews),
    ) -> Result<(), E> {
        let looked = *self.looked.get_or_insert(now);
        if now.saturating_sub(looked) >= GAP_MAX_MS {
            for entry in 0..MILLISECONDS {
                self.untold = plus(self.untold, self.grown(entry, &mut read)?);
            }
            self.looked = Some(now);
            let count = std::mem::take(&mut self.untold);
            if count.objects > 0 {
                tell(MillisecondNews::Unread { first: looked.saturating_sub(LATE_MS), last: now, count });
            }
            return Ok(());
        }
        let very_late = looked.saturating_sub(VERY_LATE_MS)..=now.saturating_sub(VERY_LATE_MS);
        let is_apart = now.saturating_sub(looked) + LATE_MS < VERY_LATE_MS;
        let again: Option<RangeInclusive<u64>> = is_apart.then_some(very_late);
        for millisecond in again.into_iter().flatten().chain(looked.saturating_sub(LATE_MS)..=now) {
            let count = self.grown(entry_of(millisecond), &mut read)?;
            if count.objects > 0 {
                tell(MillisecondNews::Allocated { millisecond, count });
            }
        }
        self.looked = Some(now);
        Ok(())
    }

    /// What an entry has more than when it was read last.
    fn grown<E>(
        &mut self,
        entry: u32,
        read: &mut impl FnMut(u32) -> Result<AllocationCount, E>,
    ) -> Result<AllocationCount, E> {
        let now = read(entry)?;
        let Some(known) = usize::try_from(entry).ok().and_then(|entry| self.known.get_mut(entry)) else {
            return Ok(AllocationCount::default());
        };
        let before = std::mem::replace(known, now);
        Ok(AllocationCount {
            objects: now.objects.wrapping_sub(before.objects),
            bytes: now.bytes.wrapping_sub(before.bytes),
        })
    }
}

/// The entry of a millisecond.
fn entry_of(millisecond: u64) -> u32 {
    u32::try_from(millisecond % u64::from(MILLISECONDS)).unwrap_or_default()
}

fn plus(one: AllocationCount, other: AllocationCount) -> AllocationCount {
    AllocationCount { objects: one.objects.wrapping_add(other.objects), bytes: one.bytes.wrapping_add(other.bytes) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The map of the kernel side.
    struct Entries(Vec<AllocationCount>);

    impl Entries {
        fn new() -> Self {
            Self(vec![AllocationCount::default(); MILLISECONDS as usize])
        }

        fn allocate(&mut self, millisecond: u64, objects: u64) {
            let entry = &mut self.0[entry_of(millisecond) as usize];
            *entry = plus(*entry, AllocationCount { objects, bytes: objects * 48 });
        }

        fn look(&self, reader: &mut MillisecondReader, now: u64) -> Vec<MillisecondNews> {
            let mut news = Vec::new();
            let read = |entry: u32| Ok::<_, ()>(self.0[entry as usize]);
            reader.look(now, read, |what| news.push(what)).unwrap();
            news
        }
    }

    fn allocated(news: &[MillisecondNews]) -> BTreeMap<u64, u64> {
        let mut sums = BTreeMap::new();
        for news in news {
            let MillisecondNews::Allocated { millisecond, count } = news else { panic!("{news:?}") };
            assert_eq!(count.bytes, 48 * count.objects);
            *sums.entry(*millisecond).or_default() += count.objects;
        }
        sums
    }

    #[test]
    fn who_adds_late_adds_to_its_own_millisecond() {
        let (mut entries, mut reader) = (Entries::new(), MillisecondReader::default());
        reader.begin(10_000);
        entries.allocate(10_040, 5);
        let mut news = entries.look(&mut reader, 10_050);
        // A little late, and very late.
        entries.allocate(10_040, 2);
        news.extend(entries.look(&mut reader, 10_100));
        entries.allocate(10_040, 1);
        for now in (10_150..12_000).step_by(50) {
            news.extend(entries.look(&mut reader, now));
        }
        assert_eq!(allocated(&news), BTreeMap::from([(10_040, 8)]));
    }

    #[test]
    fn what_nobody_looked_at_for_a_turn_is_placed_nowhere_and_later_ones_are() {
        let (mut entries, mut reader) = (Entries::new(), MillisecondReader::default());
        reader.begin(0);
        assert_eq!(entries.look(&mut reader, 100), []);
        entries.allocate(300, 7);
        entries.allocate(300 + u64::from(MILLISECONDS), 9);
        let count = AllocationCount { objects: 16, bytes: 16 * 48 };
        assert_eq!(
            entries.look(&mut reader, 5_000),
            [MillisecondNews::Unread { first: 36, last: 5_000, count }],
            "nobody knows which of them had how much"
        );
        entries.allocate(5_010, 3);
        assert_eq!(allocated(&entries.look(&mut reader, 5_050)), BTreeMap::from([(5_010, 3)]));
    }

    proptest! {
        /// Whenever is looked, as long as that is often enough.
        #[test]
        fn each_object_is_told_once_in_its_millisecond(
            began in 0u64..1 << 40,
            steps in prop::collection::vec((1u64..GAP_MAX_MS, prop::collection::vec((0u64..4_000, 1u64..1_000), 0..6)), 1..30),
        ) {
            let (mut entries, mut reader) = (Entries::new(), MillisecondReader::default());
            let (mut now, mut truth, mut news) = (began, BTreeMap::new(), Vec::new());
            reader.begin(began);
            for (gap, hits) in steps {
                for (place, objects) in hits {
                    let millisecond = now + place % gap;
                    entries.allocate(millisecond, objects);
                    *truth.entry(millisecond).or_default() += objects;
                }
                now += gap;
                news.extend(entries.look(&mut reader, now));
            }
            prop_assert_eq!(allocated(&news), truth);
        }
    }
}
