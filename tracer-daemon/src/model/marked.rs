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
use std::time::Duration;

use super::slope::Point;
use crate::read::books::Books;
use crate::units::approximate;

/// Values that are kept; of more, neighbours are averaged, and from then on as many more in each.
const CYCLES_MAX: usize = 256;
/// Readings further apart than this are no series: the machine slept, or nobody was let run. Nothing is known of the time
/// between, so that what comes after begins anew.
const GAP_MAX_NS: u64 = 30_000_000_000;
/// The end of a collection, by the target's clock, may lie so far outside the readings around it.
const CLOCK_TOLERANCE_NS: u64 = 1_000_000_000;
/// Counts of allocations are not read at one moment, and may seem to fall by less than this part.
const FALL_TOLERANCE: f64 = 0.01;

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
        approximate(self.large[0])
            + self.classes.iter().map(|[size, allocs, _]| approximate(*size) * approximate(*allocs)).sum::<f64>()
    }

    fn freed_bytes(&self) -> f64 {
        approximate(self.large[1])
            + self.classes.iter().map(|[size, _, frees]| approximate(*size) * approximate(*frees)).sum::<f64>()
    }
}

/// What one collection found alive, or the mean of some that followed each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Cycle {
    /// Its number: collections that had ended with it, and with the last of them.
    pub number: u32,
    /// When its marking ended, ns since 1970.
    pub end_unix_ns: u64,
    /// Bytes in all classes, by the runtime's own count.
    pub marked_bytes: f64,
    /// Bytes by size class, smallest first. Of single precision: there are many.
    pub classes: Box<[f32]>,
    /// Bytes of large objects.
    pub large: f64,
    /// Collections of which it is the mean.
    pub merged: u32,
}

impl Cycle {
    /// Takes in one that followed.
    fn merge(&mut self, next: &Self) {
        let all = self.merged.saturating_add(next.merged);
        let part = f64::from(next.merged) / f64::from(all);
        let mean = |one: f64, other: f64| one + part * (other - one);
        for (one, other) in self.classes.iter_mut().zip(&next.classes) {
            *one = single(mean(f64::from(*one), f64::from(*other)));
        }
        self.marked_bytes = mean(self.marked_bytes, next.marked_bytes);
        self.large = mean(self.large, next.large);
        let later_ns = next.end_unix_ns.saturating_sub(self.end_unix_ns);
        self.end_unix_ns += later_ns / u64::from(all) * u64::from(next.merged);
        (self.number, self.merged) = (next.number, all);
    }
}

/// Why a series began anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Counts fell: it is another process, or its books were not what they seemed.
    CountsFell,
    /// Time went back.
    ClockWentBack,
    /// Nothing was read for so many seconds.
    Gap {
        /// Between the two readings.
        seconds: u64,
    },
}

/// The series of one process, fed with readings in order of time.
#[derive(Clone, Debug, Default)]
pub struct MarkedSeries {
    cycles: VecDeque<Cycle>,
    /// Collections in each value, where the series is so long that neighbours are averaged; a power of two.
    merged: u32,
    /// The last reading before the end of the marking that is not yet accounted for, and the first behind it.
    around: Option<(Reading, Reading)>,
    last: Option<Reading>,
    /// When the first reading was, ns since 1970.
    began_unix_ns: Option<u64>,
    /// Collections of which no reading was had between their end and the next one's.
    pub missed_cycles: u64,
    /// Readings that contradict the one before. The series begins anew with them.
    pub restarts: u64,
    /// Why it did so last.
    pub last_restart: Option<Restart>,
    /// Collections whose end, by the target's clock, was not between the readings around it. It was placed by what was marked.
    pub strange_ends: u64,
}

impl MarkedSeries {
    /// One more reading.
    pub fn observe(&mut self, reading: Reading) {
        let Some(last) = self.last.take() else {
            self.began_unix_ns = Some(reading.at_unix_ns);
            self.last = Some(reading);
            return;
        };
        if let Some(restart) = contradiction(&last, &reading) {
            *self = Self {
                began_unix_ns: Some(reading.at_unix_ns),
                missed_cycles: self.missed_cycles,
                restarts: self.restarts + 1,
                last_restart: Some(restart),
                strange_ends: self.strange_ends,
                last: Some(reading),
                ..Self::default()
            };
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

    /// How many collections they are.
    pub fn collections(&self) -> usize {
        self.cycles.iter().map(|cycle| usize::try_from(cycle.merged).unwrap_or(usize::MAX)).sum()
    }

    /// Between the first and the last reading, seconds. Forgetting does not shorten it.
    pub fn observed_s(&self) -> f64 {
        let times = self.began_unix_ns.zip(self.last.as_ref().map(|last| last.at_unix_ns));
        times.map_or(0.0, |(began, last)| approximate(last.saturating_sub(began)) / 1e9)
    }

    /// When the last reading was, ns since 1970.
    pub fn last_unix_ns(&self) -> Option<u64> {
        self.last.as_ref().map(|last| last.at_unix_ns)
    }

    /// What it takes on the heap, about, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let cycles: usize = self.cycles.iter().map(|cycle| size_of::<Cycle>() + size_of_val(&*cycle.classes)).sum();
        let readings = self.around.iter().flat_map(|(before, after)| [before, after]).chain(&self.last);
        cycles + readings.map(|reading| size_of_val(reading.classes.as_slice())).sum::<usize>()
    }

    /// Takes away what is older than this, but never so much that fewer than `least` values are left.
    pub fn forget_before(&mut self, unix_ns: u64, least: usize) {
        while self.cycles.len() > least && self.cycles.front().is_some_and(|cycle| cycle.end_unix_ns < unix_ns) {
            self.cycles.pop_front();
        }
    }

    /// Accounts for the collection that `swept` is the last reading of.
    fn finish(&mut self, swept: &Reading) {
        let Some((before, after)) = self.around.take() else { return };
        let (allocated_before, allocated_after) = (before.allocated_bytes(), after.allocated_bytes());
        let allocated = allocated_after - allocated_before;
        let wanted = approximate(after.marked_bytes) + swept.freed_bytes() - allocated_before;
        let part = if allocated > 0.0 { (wanted / allocated).clamp(0.0, 1.0) } else { 0.0 };
        let at_end = |before: u64, after: u64| approximate(before) + part * (approximate(after) - approximate(before));
        let classes = before.classes.iter().zip(&after.classes).zip(&swept.classes);
        let cycle = Cycle {
            number: after.collections,
            end_unix_ns: self
                .end_unix_ns(&before, &after, part)
                .max(self.cycles.back().map_or(0, |last| last.end_unix_ns)),
            marked_bytes: approximate(after.marked_bytes),
            classes: classes
                .map(|(([size, before, _], [_, after, _]), [_, _, frees])| {
                    single(approximate(*size) * (at_end(*before, *after) - approximate(*frees)).max(0.0))
                })
                .collect(),
            large: (at_end(before.large[0], after.large[0]) - approximate(swept.large[1])).max(0.0),
            merged: 1,
        };
        // Where collections have become rare there is room for each.
        if self.cycles.len() < CYCLES_MAX / 4 {
            self.merged = (self.merged / 2).max(1);
        }
        match self.cycles.back_mut() {
            Some(last) if last.merged < self.merged => last.merge(&cycle),
            _ => self.cycles.push_back(cycle),
        }
        if self.cycles.len() > CYCLES_MAX {
            self.halve();
        }
    }

    /// When the collection ended: by the target's clock if that is between the readings; else, after a step of a clock, where
    /// what was marked says.
    fn end_unix_ns(&mut self, before: &Reading, after: &Reading, part: f64) -> u64 {
        let told = after.last_end_unix_ns;
        let is_between = told >= before.at_unix_ns.saturating_sub(CLOCK_TOLERANCE_NS)
            && told <= after.at_unix_ns.saturating_add(CLOCK_TOLERANCE_NS);
        if is_between {
            return told;
        }
        self.strange_ends += 1;
        let between = Duration::from_nanos(after.at_unix_ns.saturating_sub(before.at_unix_ns)).mul_f64(part);
        before.at_unix_ns.saturating_add(u64::try_from(between.as_nanos()).unwrap_or_default())
    }

    /// Each two neighbours become one.
    fn halve(&mut self) {
        let mut cycles = std::mem::take(&mut self.cycles).into_iter();
        while let Some(mut cycle) = cycles.next() {
            if let Some(next) = cycles.next() {
                cycle.merge(&next);
            }
            self.cycles.push_back(cycle);
        }
        self.merged = self.merged.max(1).saturating_mul(2);
    }

    /// The series of one size class, by its place among the classes; seconds from the first kept collection.
    pub fn class(&self, index: usize) -> Vec<Point> {
        self.points(|cycle| cycle.classes.get(index).copied().map_or(0.0, f64::from))
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
        self.points(|cycle| cycle.marked_bytes)
    }

    fn points(&self, value: impl Fn(&Cycle) -> f64) -> Vec<Point> {
        let Some(first) = self.cycles.front() else { return Vec::new() };
        let at_s = |cycle: &Cycle| approximate(cycle.end_unix_ns.saturating_sub(first.end_unix_ns)) / 1e9;
        self.cycles.iter().map(|cycle| Point { at_s: at_s(cycle), value: value(cycle) }).collect()
    }
}

/// Why the second reading cannot follow the first in the same process. `None`: it can.
fn contradiction(before: &Reading, after: &Reading) -> Option<Restart> {
    let fell = |(before, after): (&[u64; 3], &[u64; 3])| before[0] != after[0] || before[2] > after[2];
    let allocated = before.allocated_bytes();
    if before.collections > after.collections
        || before.classes.len() != after.classes.len()
        || before.classes.iter().zip(&after.classes).any(fell)
        || before.large[1] > after.large[1]
        || after.allocated_bytes() < allocated - FALL_TOLERANCE * allocated
    {
        return Some(Restart::CountsFell);
    }
    let Some(apart_ns) = after.at_unix_ns.checked_sub(before.at_unix_ns) else { return Some(Restart::ClockWentBack) };
    (apart_ns > GAP_MAX_NS).then_some(Restart::Gap { seconds: apart_ns / 1_000_000_000 })
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

#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough for what is compared over a window")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NS: u64 = 1_000_000_000;

    /// Of one class of 64 bytes, after so many collections of 10 s each, at a time within the cycle.
    fn reading(collections: u32, into_s: u64, allocs: u64, frees: u64, marked: u64) -> Reading {
        let last_end_unix_ns = (1_000_000 + u64::from(collections) * 10) * NS;
        Reading {
            at_unix_ns: last_end_unix_ns + into_s * NS,
            collections,
            last_end_unix_ns,
            marked_bytes: marked * 64,
            classes: vec![[64, allocs, frees]],
            large: [0, 0],
        }
    }

    /// A program that keeps 10 objects of each cycle's 110, seen at the beginning and the end of each cycle.
    fn readings(cycles: u32) -> impl Iterator<Item = Reading> {
        (1..=cycles).flat_map(|cycle| {
            let number = u64::from(cycle);
            let frees = |cycle: u64| 100 * cycle;
            [
                reading(cycle, 0, 110 * number, frees(number - 1), 10 * number),
                reading(cycle, 9, 110 * number + 109, frees(number), 10 * number),
            ]
        })
    }

    fn series(readings: impl IntoIterator<Item = Reading>) -> MarkedSeries {
        let mut series = MarkedSeries::default();
        readings.into_iter().for_each(|reading| series.observe(reading));
        series
    }

    #[test]
    fn what_was_marked_is_found_again_exactly() {
        let series = series(readings(20));
        assert_eq!(series.cycles().len(), 18, "the first and the last are not complete");
        for (class, total) in series.class(0).iter().zip(series.total()) {
            assert!((class.value - total.value).abs() < 64.0, "{class:?} {total:?}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_events_within_a_cycle_does_not_matter(
            between in prop::collection::vec((1_u64..9, 0_u64..=109, 0_u64..=100), 0..8),
        ) {
            let all = readings(12).flat_map(|first| {
                let mut inner: Vec<Reading> = Vec::new();
                if first.at_unix_ns == first.last_end_unix_ns {
                    let mut steps = between.clone();
                    for column in [0, 1, 2] {
                        let mut values: Vec<u64> = steps.iter().map(|step| [step.0, step.1, step.2][column]).collect();
                        values.sort_unstable();
                        for (step, value) in steps.iter_mut().zip(values) {
                            *[&mut step.0, &mut step.1, &mut step.2][column] = value;
                        }
                    }
                    inner.extend(steps.into_iter().map(|(into_s, allocs, frees)| {
                        let mut reading = first.clone();
                        reading.at_unix_ns += into_s * NS;
                        reading.classes[0][1] += allocs;
                        reading.classes[0][2] += frees;
                        reading
                    }));
                }
                std::iter::once(first).chain(inner)
            });
            let (with, without) = (series(all), series(readings(12)));
            prop_assert_eq!(with.class(0), without.class(0));
        }

        #[test]
        fn averaging_neighbours_keeps_the_slope(cycles in 300_u32..1500) {
            let series = series(readings(cycles));
            prop_assert!(series.cycles().len() <= CYCLES_MAX);
            prop_assert_eq!(series.collections(), cycles as usize - 2);
            let rate = super::super::slope::slope(&series.class(0)).unwrap();
            prop_assert!((rate.value - 64.0).abs() < 1.0, "{:?}", rate);
        }

        #[test]
        fn hostile_readings_give_finite_values_in_order_of_time(
            readings in prop::collection::vec(
                (any::<u64>(), 0_u32..9, any::<u64>(), any::<u64>(), prop::collection::vec(any::<[u64; 3]>(), 0..3), any::<[u64; 2]>()),
                0..40,
            ),
        ) {
            let readings = readings.into_iter().map(|(at_unix_ns, collections, last_end_unix_ns, marked_bytes, classes, large)| {
                Reading { at_unix_ns, collections, last_end_unix_ns, marked_bytes, classes, large }
            });
            let series = series(readings);
            for points in [series.total(), series.class(0), series.large()] {
                prop_assert!(points.iter().all(|point| point.value >= 0.0));
                prop_assert!(points.windows(2).all(|pair| pair[0].at_s <= pair[1].at_s));
            }
        }
    }

    #[test]
    fn counts_that_fall_time_that_goes_back_and_gaps_begin_anew() {
        let change = |change: fn(&mut Reading)| {
            let mut series = series(readings(9));
            let mut next = reading(10, 0, 1100, 900, 100);
            change(&mut next);
            series.observe(next);
            (series.cycles().len(), series.last_restart)
        };
        assert_eq!(change(|_| ()), (8, None));
        assert_eq!(change(|next| next.classes[0][2] = 0), (0, Some(Restart::CountsFell)));
        assert_eq!(change(|next| next.collections = 3), (0, Some(Restart::CountsFell)));
        assert_eq!(change(|next| next.classes[0][1] = 50), (0, Some(Restart::CountsFell)));
        assert_eq!(change(|next| next.at_unix_ns -= 60 * NS), (0, Some(Restart::ClockWentBack)));
        assert_eq!(change(|next| next.at_unix_ns += 600 * NS), (0, Some(Restart::Gap { seconds: 601 })));
    }

    #[test]
    fn a_step_of_the_targets_clock_does_not_move_collections() {
        for step_s in [-86_400_i64, -30, 30, 86_400] {
            let stepped = readings(20).map(|mut reading| {
                if reading.collections > 10 {
                    reading.last_end_unix_ns = reading.last_end_unix_ns.saturating_add_signed(step_s * 1_000_000_000);
                }
                reading
            });
            let (straight, stepped) = (series(readings(20)), series(stepped));
            assert_eq!(stepped.strange_ends, 9);
            for (one, other) in straight.class(0).iter().zip(stepped.class(0)) {
                assert!((one.at_s - other.at_s).abs() <= 1.0, "{one:?} {other:?}");
            }
        }
    }
}
