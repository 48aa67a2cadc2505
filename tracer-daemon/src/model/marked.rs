//! What each collection found alive, by size class: the series whose growth is a leak.
//!
//! Slots in use at any one moment of a cycle will not do: they hold garbage, whose amount at equal phase grows with the
//! collector's goal, so that every class that churns seems to grow when anything leaks (by up to 89 % in measurements).
//! What a collection marked is y = A - F: slots allocated up to the end of marking less those freed by then, where F
//! is complete once that collection's garbage is swept. The end of marking lies between two readings of A; where
//! exactly is found from the runtime's own total of marked bytes, which is exact:
//!
//! ```text
//! w = (heapMarked + sum(size F) - sum(size A0)) / sum(size (A1 - A0)),   y = size (A0 + w (A1 - A0) - F)
//! ```
//!
//! Source of the facts: runtime/mgc.go (gcMarkTermination), runtime/mgcpacer.go (resetLive), go1.26.

use std::collections::VecDeque;

use super::slope::Point;
use crate::read::books::Books;

/// Collections that are kept; of more, every second one is let go.
const CYCLES_MAX: usize = 1024;

/// The books at one moment, in what the series needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// When, ns since 1970.
    pub at_unix_ns: u64,
    /// Collections that have ended.
    pub collections: u32,
    /// When the last one ended, ns since 1970.
    pub last_end_unix_ns: u64,
    /// Bytes that it marked.
    pub marked_bytes: u64,
    /// By size class, smallest first: slot size, slots allocated and freed since the program began.
    pub classes: Vec<[u64; 3]>,
    /// Bytes of large objects allocated and freed.
    pub large: [u64; 2],
}

impl Reading {
    /// Bytes allocated less freed, over all classes.
    fn allocated_bytes(&self) -> f64 {
        real(self.large[0]) + self.classes.iter().map(|[size, allocs, _]| real(*size) * real(*allocs)).sum::<f64>()
    }

    fn freed_bytes(&self) -> f64 {
        real(self.large[1]) + self.classes.iter().map(|[size, _, frees]| real(*size) * real(*frees)).sum::<f64>()
    }
}

/// What one collection found alive.
#[derive(Clone, Debug, PartialEq)]
pub struct Cycle {
    /// Its number: collections that had ended with it.
    pub number: u32,
    /// When its marking ended, ns since 1970.
    pub end_unix_ns: u64,
    /// Bytes in all classes, by the runtime's own count.
    pub marked_bytes: u64,
    /// Bytes by size class, smallest first.
    pub classes: Vec<f64>,
    /// Bytes of large objects.
    pub large: f64,
}

/// The series of one process, fed with readings in order of time.
#[derive(Clone, Debug, Default)]
pub struct MarkedSeries {
    cycles: VecDeque<Cycle>,
    /// The last reading before the end of the marking that is not yet accounted for, and the first behind it.
    around: Option<(Reading, Reading)>,
    last: Option<Reading>,
    /// Collections of which no reading was had between their end and the next one's.
    pub missed_cycles: u64,
    /// Readings that contradict the one before: counts that fell, time that went back. The series begins anew with them.
    pub restarts: u64,
}

impl MarkedSeries {
    /// One more reading.
    pub fn observe(&mut self, reading: Reading) {
        let Some(last) = self.last.take() else {
            self.last = Some(reading);
            return;
        };
        if contradicts(&last, &reading) {
            *self = Self { restarts: self.restarts + 1, missed_cycles: self.missed_cycles, ..Self::default() };
            self.last = Some(reading);
            return;
        }
        if reading.collections > last.collections {
            // The sweep of the collection before is over: `last` has all that it freed.
            self.finish(&last);
            self.missed_cycles += u64::from(reading.collections - last.collections) - 1;
            // Before the first collection nothing was ever freed, and the time of its end is not known.
            self.around = Some((last, reading.clone()));
        }
        self.last = Some(reading);
    }

    /// The collections whose accounts are complete: all but the last that ended.
    pub fn cycles(&self) -> impl ExactSizeIterator<Item = &Cycle> + Clone {
        self.cycles.iter()
    }

    /// Takes away what is older than this, so that the series is a window.
    pub fn forget_before(&mut self, unix_ns: u64) {
        while self.cycles.front().is_some_and(|cycle| cycle.end_unix_ns < unix_ns) {
            self.cycles.pop_front();
        }
    }

    /// Accounts for the collection that `swept` is the last reading of.
    fn finish(&mut self, swept: &Reading) {
        let Some((before, after)) = self.around.take() else { return };
        let (allocated_before, allocated_after) = (before.allocated_bytes(), after.allocated_bytes());
        let allocated = allocated_after - allocated_before;
        let wanted = real(after.marked_bytes) + swept.freed_bytes() - allocated_before;
        let part = if allocated > 0.0 { (wanted / allocated).clamp(0.0, 1.0) } else { 0.0 };
        let at_end = |before: u64, after: u64| real(before) + part * (real(after) - real(before));
        let classes = before.classes.iter().zip(&after.classes).zip(&swept.classes);
        let cycle = Cycle {
            number: after.collections,
            end_unix_ns: after.last_end_unix_ns,
            marked_bytes: after.marked_bytes,
            classes: classes
                .map(|(([size, before, _], [_, after, _]), [_, _, frees])| {
                    real(*size) * (at_end(*before, *after) - real(*frees)).max(0.0)
                })
                .collect(),
            large: (at_end(before.large[0], after.large[0]) - real(swept.large[1])).max(0.0),
        };
        if self.cycles.len() >= CYCLES_MAX {
            let mut keep = false;
            self.cycles.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.cycles.push_back(cycle);
    }

    /// The series of one size class, by its place among the classes; seconds from the first kept collection.
    pub fn class(&self, index: usize) -> Vec<Point> {
        self.points(|cycle| cycle.classes.get(index).copied().unwrap_or_default())
    }

    /// The series of large objects. A large object that grows by being copied is alive twice while it is copied, so each
    /// value is the lesser of two neighbours.
    pub fn large(&self) -> Vec<Point> {
        let points = self.points(|cycle| cycle.large);
        let lesser = |pair: &[Point]| match pair {
            [one, next] => Some(Point { value: one.value.min(next.value), ..*one }),
            _ => None,
        };
        points.windows(2).filter_map(lesser).collect()
    }

    /// The series of all that was marked.
    pub fn total(&self) -> Vec<Point> {
        self.points(|cycle| real(cycle.marked_bytes))
    }

    fn points(&self, value: impl Fn(&Cycle) -> f64) -> Vec<Point> {
        let Some(first) = self.cycles.front() else { return Vec::new() };
        let at_s = |cycle: &Cycle| real(cycle.end_unix_ns.saturating_sub(first.end_unix_ns)) / 1e9;
        self.cycles.iter().map(|cycle| Point { at_s: at_s(cycle), value: value(cycle) }).collect()
    }
}

/// Whether the second reading cannot follow the first in the same process.
fn contradicts(before: &Reading, after: &Reading) -> bool {
    let falls = |(before, after): (&[u64; 3], &[u64; 3])| before[0] != after[0] || before[2] > after[2];
    before.at_unix_ns > after.at_unix_ns
        || before.collections > after.collections
        || before.classes.len() != after.classes.len()
        || before.classes.iter().zip(&after.classes).any(falls)
        || before.large[1] > after.large[1]
}

impl Reading {
    /// Of the books as they were read at this time.
    pub fn new(books: &Books, at_unix_ns: u64) -> Self {
        Self {
            at_unix_ns,
            collections: books.collections,
            last_end_unix_ns: books.last_end_unix_ns,
            marked_bytes: books.pacer.as_ref().map_or(0, |pacer| pacer.heap_marked_bytes),
            classes: books.classes.iter().map(|class| [class.size_bytes, class.allocs, class.frees]).collect(),
            large: [books.large_alloc_bytes, books.large_free_bytes],
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes and counts of one process are far below 2^53, and estimates follow"
)]
fn real(value: u64) -> f64 {
    value as f64
}
