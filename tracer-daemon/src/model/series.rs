//! How much was allocated in each step of time: peaks that means over the window do not show.
//!
//! Two ways lead to a [`Series`]: looks at the runtime's books, about ten a second, whose growth is spread over steps (`BookSeries`),
//! and counts of each millisecond where every allocation is hooked ([`Milliseconds`]). Both keep a bounded time and no more. What is not
//! known of a step is `None`, never 0.

use std::collections::VecDeque;

use super::Counted;
use super::observation::Moment;
use crate::read::books::Books;

/// The shortest step of what the books say.
const STEP_NS: u64 = 100_000_000;
/// A series of the books goes back so far.
const BOOKS_NS: u64 = 60_000_000_000;
/// Looks that are kept: as many as that has steps, and some more where looks are closer.
const LOOKS_MAX: usize = 1_200;
/// Looks that are further apart than this many steps say nothing of the steps between them.
const GAP_STEPS: u64 = 4;
/// A series of milliseconds goes back so far.
const MILLISECONDS_MAX: usize = 10_000;
const MILLISECOND_NS: u64 = 1_000_000;
/// No clock comes to this millisecond.
const LATEST: u64 = u64::MAX / 2;
/// Peaks that are kept, by bytes and by objects each.
const PEAKS_MAX: usize = 4;

/// Steps of the same length, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Length of a step, nanoseconds.
    pub step_ns: u64,
    /// When the first began, nanoseconds since the window began.
    pub began_ns: u64,
    /// Oldest first.
    pub steps: Vec<Step>,
    /// The steps with the most bytes and those with the most objects, oldest first. Of milliseconds: of the whole window.
    pub peaks: Vec<Peak>,
    /// Of what was allocated in the window it is not known in which step. 0 for what the books say.
    pub unplaced: Counted,
}

/// One step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What was allocated in it. `None`: not known.
    pub allocated: Option<Counted>,
    /// Bytes of objects at its end: alive, or garbage not yet swept. `None`: not known.
    pub heap_bytes: Option<u64>,
    /// Bytes that the last collection before its end found alive. `None`: not known.
    pub live_bytes: Option<u64>,
}

/// A step with much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// When it began, nanoseconds since the window began.
    pub began_ns: u64,
    /// What was allocated in it.
    pub allocated: Counted,
}

impl Series {
    /// The step with most by a measure, the first of equals. `None`: nothing was allocated.
    pub fn most(&self, of: impl Fn(&Counted) -> u64) -> Option<Peak> {
        let most = self.peaks.iter().copied().rev().max_by_key(|peak| of(&peak.allocated));
        most.filter(|peak| of(&peak.allocated) > 0)
    }
}

/// One look at the books.
#[derive(Clone, Copy, Debug)]
struct BookLook {
    at_ns: u64,
    allocated: Counted,
    heap_bytes: u64,
    live_bytes: Option<u64>,
}

/// What looks at the books say.
#[derive(Clone, Debug, Default)]
pub(super) struct BookSeries {
    looks: VecDeque<BookLook>,
}

impl BookSeries {
    /// One more look. What is not later than the last one is passed over.
    pub(super) fn observe(&mut self, at: Moment, books: &Books) {
        let last = self.looks.back().copied();
        if last.is_some_and(|last| at.at_ns <= last.at_ns) {
            return;
        }
        // What a look missed is in the next one: counts of a process only grow.
        let before = last.map_or(Counted::default(), |last| last.allocated);
        let allocated =
            Counted { objects: books.allocs().max(before.objects), bytes: books.alloc_bytes().max(before.bytes) };
        let pacer = books.pacer.as_ref().ok().filter(|_| books.collections > 0);
        self.looks.push_back(BookLook {
            at_ns: at.at_ns,
            allocated,
            heap_bytes: books.heap_alloc_bytes(),
            live_bytes: pacer.map(|pacer| pacer.heap_marked_bytes),
        });
        // The one before the oldest step is needed for what it grew by.
        let oldest_ns = at.at_ns.saturating_sub(BOOKS_NS);
        while self.looks.len() > LOOKS_MAX || self.looks.get(1).is_some_and(|second| second.at_ns <= oldest_ns) {
            self.looks.pop_front();
        }
    }

    /// All whole steps since the window began, of those that are kept. `None`: there is none yet.
    pub(super) fn series(&self, opened: Moment) -> Option<Series> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let step_ns = self.step_ns()?;
        let from_ns = first.at_ns.max(last.at_ns.saturating_sub(BOOKS_NS)).max(opened.at_ns);
        let skipped = from_ns.saturating_sub(opened.at_ns).div_ceil(step_ns);
        let began_ns = skipped.checked_mul(step_ns)?;
        let mut at_ns = opened.at_ns.checked_add(began_ns)?;
        let (mut steps, mut place) = (Vec::new(), Place::default());
        let mut before = self.allocated_at(at_ns, step_ns, &mut place);
        while let Some(end_ns) = at_ns.checked_add(step_ns).filter(|end_ns| *end_ns <= last.at_ns) {
            let after = self.allocated_at(end_ns, step_ns, &mut place);
            let held = after.and_then(|_| self.looks.get(place.0));
            steps.push(Step {
                allocated: before.zip(after).map(|(before, after)| minus(after, before)),
                heap_bytes: held.map(|look| look.heap_bytes),
                live_bytes: held.and_then(|look| look.live_bytes),
            });
            (at_ns, before) = (end_ns, after);
        }
        let mut peaks = Peaks::default();
        for (began_ns, step) in (0_u64..).map(|step| began_ns.saturating_add(step.saturating_mul(step_ns))).zip(&steps)
        {
            peaks.offer(Peak { began_ns, allocated: step.allocated.unwrap_or_default() });
        }
        let (peaks, unplaced) = (peaks.all(), Counted::default());
        (!steps.is_empty()).then_some(Series { step_ns, began_ns, steps, peaks, unplaced })
    }

    /// Steps are no shorter than what is usual between two looks.
    fn step_ns(&self) -> Option<u64> {
        let mut gaps: Vec<u64> = self
            .looks
            .iter()
            .zip(self.looks.iter().skip(1))
            .map(|(before, after)| after.at_ns.saturating_sub(before.at_ns))
            .collect();
        gaps.sort_unstable();
        // Looks that come every 150 ms, since whoever looks is woken up every 50, still tell 100 ms from each other.
        let usual_ns = *gaps.get(gaps.len() / 2)?;
        Some(usual_ns.saturating_sub(STEP_NS / 2).div_ceil(STEP_NS).max(1).saturating_mul(STEP_NS))
    }

    /// What was allocated by then: between two looks as if it had come evenly. `place`: the look before, from where it is searched on.
    /// `None`: not known, since the two are far from each other.
    fn allocated_at(&self, at_ns: u64, step_ns: u64, place: &mut Place) -> Option<Counted> {
        while self.looks.get(place.0 + 1).is_some_and(|next| next.at_ns <= at_ns) {
            place.0 += 1;
        }
        let before = self.looks.get(place.0).filter(|before| before.at_ns <= at_ns)?;
        let Some(after) = self.looks.get(place.0 + 1) else {
            return (before.at_ns == at_ns).then_some(before.allocated);
        };
        let (passed, whole) = (at_ns - before.at_ns, after.at_ns.saturating_sub(before.at_ns));
        if whole > step_ns.saturating_mul(GAP_STEPS) {
            return (passed == 0).then_some(before.allocated);
        }
        let part = |before: u64, after: u64| {
            let grown = u128::from(after.saturating_sub(before)) * u128::from(passed) / u128::from(whole.max(1));
            before.saturating_add(u64::try_from(grown).unwrap_or(u64::MAX))
        };
        Some(Counted {
            objects: part(before.allocated.objects, after.allocated.objects),
            bytes: part(before.allocated.bytes, after.allocated.bytes),
        })
    }
}

/// The number of a look.
#[derive(Clone, Copy, Debug, Default)]
struct Place(usize);

/// What was counted in each millisecond.
#[derive(Clone, Debug, Default)]
pub struct Milliseconds {
    /// The millisecond in which the window began, on any clock.
    began: u64,
    /// The oldest that is kept.
    first: u64,
    /// `None`: not known.
    kept: VecDeque<Option<Counted>>,
    /// Of those that are not kept any more.
    peaks: Peaks,
    unplaced: Counted,
}

impl Milliseconds {
    /// The window begins in this millisecond.
    pub fn new(began: u64) -> Self {
        let began = began.min(LATEST);
        Self { began, first: began, ..Self::default() }
    }

    /// So much more was allocated in this one.
    pub fn add(&mut self, millisecond: u64, counted: Counted) {
        self.go_on_to(millisecond);
        let place = usize::try_from(millisecond.max(self.began).saturating_sub(self.first)).ok();
        let is_gone = millisecond < self.first && self.first > self.began;
        match place.filter(|_| !is_gone).and_then(|place| self.kept.get_mut(place)) {
            Some(Some(known)) => *known = known.plus(counted),
            _ => self.unplaced = self.unplaced.plus(counted),
        }
    }

    /// So much was allocated in these, and nobody knows in which.
    pub fn unread(&mut self, first: u64, last: u64, counted: Counted) {
        self.unplaced = self.unplaced.plus(counted);
        self.go_on_to(last);
        let from = usize::try_from(first.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let to = usize::try_from(last.saturating_sub(self.first)).unwrap_or(usize::MAX);
        for unknown in self.kept.iter_mut().take(to.saturating_add(1)).skip(from) {
            *unknown = None;
        }
    }

    /// So much time has passed, whether or not anything was allocated.
    pub fn go_on_to(&mut self, millisecond: u64) {
        let millisecond = millisecond.min(LATEST);
        let behind = millisecond.saturating_sub(self.first);
        let most = u64::try_from(MILLISECONDS_MAX).unwrap_or(u64::MAX);
        if behind >= most.saturating_mul(2) {
            // A clock that leaps: nothing that is kept would stay.
            while self.forget_oldest() {}
            self.first = millisecond.saturating_sub(most);
        }
        while self.first.saturating_add(u64::try_from(self.kept.len()).unwrap_or(u64::MAX)) <= millisecond {
            self.kept.push_back(Some(Counted::default()));
            if self.kept.len() > MILLISECONDS_MAX {
                self.forget_oldest();
            }
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        self.peaks.offer(self.peak(self.first, oldest.unwrap_or_default()));
        self.first = self.first.saturating_add(1);
        true
    }

    fn peak(&self, millisecond: u64, allocated: Counted) -> Peak {
        Peak { began_ns: millisecond.saturating_sub(self.began).saturating_mul(MILLISECOND_NS), allocated }
    }

    /// What is known. The last millisecond may not be over.
    pub fn series(&self) -> Series {
        let mut peaks = self.peaks.clone();
        for (millisecond, counted) in (self.first..).zip(&self.kept) {
            peaks.offer(self.peak(millisecond, counted.unwrap_or_default()));
        }
        let steps = self.kept.iter().map(|allocated| Step { allocated: *allocated, ..Step::default() });
        Series {
            step_ns: MILLISECOND_NS,
            began_ns: self.first.saturating_sub(self.began).saturating_mul(MILLISECOND_NS),
            steps: steps.collect(),
            peaks: peaks.all(),
            unplaced: self.unplaced,
        }
    }
}

/// The steps with most.
#[derive(Clone, Debug, Default)]
struct Peaks {
    by_bytes: Vec<Peak>,
    by_objects: Vec<Peak>,
}

impl Peaks {
    fn offer(&mut self, peak: Peak) {
        keep_most(&mut self.by_bytes, peak, |counted| counted.bytes);
        keep_most(&mut self.by_objects, peak, |counted| counted.objects);
    }

    /// Each once, oldest first.
    fn all(&self) -> Vec<Peak> {
        let mut all: Vec<Peak> = self.by_bytes.iter().chain(&self.by_objects).copied().collect();
        all.sort_unstable_by_key(|peak| peak.began_ns);
        all.dedup();
        all
    }
}

/// Most first; of equals the first that came.
fn keep_most(kept: &mut Vec<Peak>, peak: Peak, of: fn(&Counted) -> u64) {
    let amount = of(&peak.allocated);
    if amount == 0 || (kept.len() >= PEAKS_MAX && kept.last().is_some_and(|least| amount <= of(&least.allocated))) {
        return;
    }
    let place = kept.iter().position(|known| of(&known.allocated) < amount).unwrap_or(kept.len());
    kept.insert(place, peak);
    kept.truncate(PEAKS_MAX);
}

fn minus(after: Counted, before: Counted) -> Counted {
    Counted { objects: after.objects.saturating_sub(before.objects), bytes: after.bytes.saturating_sub(before.bytes) }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
