//! What windows and books have taught of a target: its rates, what happens before and behind a window, how many births come of a plan.

use super::budget::MINUTE_NS;
use super::config::Costs;
use super::types::{Observation, Outcome, WindowKind, WindowPlan};
use super::window::Outlook;
use crate::units::approximate;

/// A window of less says nothing of a rate by which windows could be measured, seconds.
const LONG_S: f64 = 0.02;

/// Hits of one kind of window.
#[derive(Clone, Copy, Debug)]
struct HitRate {
    /// Per second, while nothing is slowed.
    per_s: f64,
    /// Hits for each allocation that the books count.
    per_allocation: f64,
    /// The first guess of that.
    guess: f64,
    /// Hits that windows saw of late, and allocations that the books expected in them.
    seen: (f64, f64),
    /// The highest rate of the minute that runs, and of the one before.
    peaks: (f64, f64),
}

impl HitRate {
    fn new(per_s: f64, per_allocation: f64) -> Self {
        Self { per_s, per_allocation, guess: per_allocation, seen: (0.0, 0.0), peaks: (0.0, 0.0) }
    }

    /// One more window: how many hits, and how many allocations the books expect in it.
    fn learn(&mut self, hits: f64, allocations: f64) {
        /// What was seen counts this part less with each window.
        const FORGETS: f64 = 0.9;
        /// Before so many hits are seen the first guess counts, too.
        const GUESS_HITS: f64 = 20.0;
        self.seen = (FORGETS * self.seen.0 + hits, FORGETS * self.seen.1 + allocations);
        let guess_allocations = GUESS_HITS / self.guess;
        let ratio = (self.seen.0 + GUESS_HITS) / (self.seen.1 + guess_allocations);
        self.per_allocation = ratio.clamp(1.0 / 1_024.0, 8.0);
    }

    /// What was seen in a window, without books: the first counts more than any guess.
    fn learn_unslowed(&mut self, unslowed_per_s: f64) {
        let weight = if self.peaks == (0.0, 0.0) { 1.0 } else { 0.3 };
        self.per_s += weight * (unslowed_per_s - self.per_s);
    }

    /// Only what was seen is a peak.
    fn raise(&mut self) {
        self.peaks.0 = self.peaks.0.max(self.per_s);
    }
}

#[derive(Clone, Debug)]
pub(super) struct Learnt {
    births: HitRate,
    slots: HitRate,
    pub(super) busy_threads: f64,
    /// Cores that it used of late, on average. `None`: not known yet.
    used: Option<f64>,
    /// What our program takes at the end of a collection, ns.
    pub(super) cycle_ns: Option<f64>,
    /// When the minute of the peaks began, ns.
    minute_ns: u64,
    /// Time before and behind windows in which hits cost and do not count, ns: mean, and mean distance from it.
    tail_ns: (f64, f64),
    /// The first guess of it.
    tail_guess_ns: f64,
    /// How many windows that was learnt from.
    tails: u16,
    /// Frames of a birth's stack.
    pub(super) frames: f64,
    /// What the program takes to record a birth, and a slot, as measured. `None`: not yet.
    pub(super) birth_ns: Option<f64>,
    pub(super) slot_ns: Option<f64>,
    /// What windows have cost of late on average, ns. `None`: there was none.
    pub(super) cost_ns: Option<f64>,
    /// How many windows that was learnt from.
    costs: u16,
    /// Births recorded for each that was expected.
    pub(super) births_ratio: f64,
}

impl Learnt {
    /// Nothing yet.
    pub(super) fn new(costs: &Costs) -> Self {
        Self {
            births: HitRate::new(10_000.0, 1.0),
            // A full span of small slots has hundreds, one of large slots a few.
            slots: HitRate::new(300.0, 1.0 / 32.0),
            busy_threads: 1.0,
            used: None,
            cycle_ns: None,
            minute_ns: 0,
            tail_ns: (costs.tail_ns, costs.tail_ns / 3.0),
            tail_guess_ns: costs.tail_ns,
            tails: 0,
            frames: 12.0,
            birth_ns: None,
            slot_ns: None,
            cost_ns: None,
            costs: 0,
            births_ratio: 1.0,
        }
    }

    /// A look at the target: the books say how fast it is, and its CPU time how many threads run.
    pub(super) fn observe(&mut self, seen: &Observation, used_ns: f64, passed_ns: f64) {
        if passed_ns > 0.0 {
            let most = f64::from(seen.threads_max.unwrap_or(u32::MAX)).max(1.0);
            let used = used_ns / passed_ns;
            self.busy_threads = used.clamp(1.0, most);
            let before = self.used.unwrap_or(used);
            self.used = Some(before + 0.1 * (used - before));
        }
        if seen.hits.cycles > 0 {
            let program_ns = approximate(seen.hits.cycles_ns) / approximate(seen.hits.cycles);
            let before_ns = self.cycle_ns.unwrap_or(program_ns);
            self.cycle_ns = Some(before_ns + 0.1 * (program_ns - before_ns));
        }
        let is_over = seen.at_ns >= self.minute_ns.saturating_add(MINUTE_NS);
        for rate in [&mut self.births, &mut self.slots] {
            if is_over {
                rate.peaks = (0.0, rate.peaks.0);
            }
            if let Some(allocations_per_s) = sane(seen.allocations_per_s) {
                rate.per_s = allocations_per_s * rate.per_allocation;
                rate.raise();
            }
        }
        if is_over {
            self.minute_ns = seen.at_ns;
        }
    }

    /// Cores that it uses.
    pub(super) fn cores_used(&self) -> f64 {
        self.used.unwrap_or(1.0)
    }

    /// The part of the time in which a thread runs, at most 1.
    pub(super) fn utilisation(&self) -> f64 {
        self.cores_used().min(1.0)
    }

    pub(super) fn hits_per_s(&self, kind: WindowKind) -> f64 {
        match kind {
            WindowKind::Births => self.births.per_s,
            WindowKind::Slots => self.slots.per_s,
        }
    }

    /// The highest rate of the last minute or two.
    pub(super) fn peak_per_s(&self, kind: WindowKind) -> f64 {
        let rate = match kind {
            WindowKind::Births => &self.births,
            WindowKind::Slots => &self.slots,
        };
        rate.per_s.max(rate.peaks.0).max(rate.peaks.1)
    }

    /// The mean of the time before and behind a window, and what it is rarely above, ns.
    pub(super) fn tail_ns(&self) -> (f64, f64) {
        (self.tail_ns.0, self.tail_ns.0 + 3.0 * self.tail_ns.1)
    }

    /// How fast the program was in a window.
    pub(super) fn learn_rate(&mut self, outlook: &Outlook, plan: &WindowPlan, outcome: &Outcome, books: Option<f64>) {
        let open_s = approximate(outcome.closed_ns.saturating_sub(outcome.opened_ns)) / 1e9;
        if open_s <= 0.0 {
            return;
        }
        let hits = approximate(outcome.hits);
        let births = approximate(outcome.births.min(outcome.hits));
        let busy_s = (hits * outlook.hit_ns + births * outlook.birth_ns) / 1e9 / self.busy_threads;
        // Of a thread that spends nearly all of its time in hits nothing is known but that it is fast.
        let awake_s = (open_s - busy_s).max(0.05 * open_s);
        let unslowed_per_s = hits / awake_s;
        let rate = match plan.kind {
            WindowKind::Births => &mut self.births,
            WindowKind::Slots => &mut self.slots,
        };
        let before_per_s = rate.per_s;
        let is_long = open_s >= LONG_S;
        match sane(books).filter(|books_per_s| *books_per_s > 0.0) {
            Some(books_per_s) => {
                // The books know the rate over a second. What a short window sees of a program that works by fits and starts is
                // either of them, and windows that follow it would shrink: only many of them say how many hits an allocation makes.
                if plan.kind == WindowKind::Slots {
                    rate.learn(hits, books_per_s * awake_s);
                } else if is_long {
                    let ratio = (unslowed_per_s / books_per_s).clamp(1.0 / 1_024.0, 8.0);
                    rate.per_allocation += 0.2 * (ratio - rate.per_allocation);
                }
                rate.per_s = books_per_s * rate.per_allocation;
            }
            None => rate.learn_unslowed(unslowed_per_s),
        }
        // A jump holds until the books say otherwise.
        if (is_long || books.is_none()) && hits >= 50.0 && unslowed_per_s > 2.0 * before_per_s.max(rate.per_s) {
            rate.per_s = unslowed_per_s;
        }
        rate.raise();
    }

    /// Hits that cost and did not count: as reported, else as expected.
    pub(super) fn learn_tail(&mut self, outlook: &Outlook, plan: &WindowPlan, outcome: &Outcome) -> f64 {
        /// Where hits are few, their times say nothing.
        const HITS_PER_S_MIN: f64 = 10_000.0;
        /// Whatever is above so many first guesses, or a tenth of a second, was something else.
        const GUESSES: f64 = 50.0;
        let open_s = approximate(outcome.closed_ns.saturating_sub(outcome.opened_ns)) / 1e9;
        // As many as were seen in it, where its rate had jumped.
        let seen_per_s = if open_s > 0.0 { approximate(outcome.hits) / open_s } else { 0.0 };
        let per_s = outlook.slowed_per_s(outlook.hit_ns).max(seen_per_s);
        let Some(outside) = outcome.hits_outside else { return per_s * self.tail_ns.0 / 1e9 };
        let outside = approximate(outside);
        if per_s >= HITS_PER_S_MIN {
            // Who ends a window at its cap is late, too.
            let late = approximate(outcome.hits.saturating_sub(plan.hit_cap));
            let tail_ns = ((outside + late) / per_s * 1e9).min((GUESSES * self.tail_guess_ns).max(1e8));
            self.tails = self.tails.saturating_add(1);
            let weight = (1.0 / (1.0 + f64::from(self.tails))).max(0.1);
            self.tail_ns.1 += weight * ((tail_ns - self.tail_ns.0).abs() - self.tail_ns.1);
            self.tail_ns.0 += weight * (tail_ns - self.tail_ns.0);
        }
        outside
    }

    /// What our program took for each birth or slot that it recorded.
    pub(super) fn learn_record(&mut self, plan: &WindowPlan, outcome: &Outcome) {
        let known = match plan.kind {
            WindowKind::Births => &mut self.birth_ns,
            WindowKind::Slots => &mut self.slot_ns,
        };
        if outcome.births > 0 && outcome.recorded_ns > 0 {
            let each_ns = approximate(outcome.recorded_ns) / approximate(outcome.births);
            let before_ns = known.unwrap_or(each_ns);
            *known = Some(before_ns + 0.2 * (each_ns - before_ns));
        }
    }

    /// What became of the births that were planned.
    pub(super) fn learn_births(&mut self, plan: &WindowPlan, outcome: &Outcome) {
        let (hits, births) = (approximate(outcome.hits), approximate(outcome.births));
        if outcome.births > 0 {
            self.frames += 0.2 * ((approximate(outcome.frames) / births).min(64.0) - self.frames);
        }
        let expected = plan.births * (hits / plan.hits.max(1.0));
        if plan.mean_birth_bytes > 0 && expected >= 5.0 {
            let ratio = (births / expected).clamp(0.25, 4.0);
            self.births_ratio = (self.births_ratio * ratio.sqrt()).clamp(0.01, 100.0);
        }
    }

    /// What a window has cost: the mean of the first, then of late.
    pub(super) fn learn_cost(&mut self, cost_ns: f64) {
        self.costs = self.costs.saturating_add(1);
        let before_ns = self.cost_ns.unwrap_or(cost_ns);
        let weight = (1.0 / f64::from(self.costs)).max(0.1);
        self.cost_ns = Some(before_ns + weight * (cost_ns - before_ns));
    }
}

/// What a window has cost the target but for hooks beside it, ns.
pub(super) fn cost_ns(outlook: &Outlook, outcome: &Outcome, outside: f64, costs: &Costs) -> f64 {
    let recorded_ns = match outcome.recorded_ns {
        0 => approximate(outcome.births) * costs.birth_ns + approximate(outcome.frames) * costs.frame_ns,
        measured_ns => approximate(measured_ns),
    };
    outlook.switch_ns + (approximate(outcome.hits) + outside) * outlook.hit_ns + recorded_ns
}

/// A rate, where it is one.
pub(super) fn sane(per_s: Option<f64>) -> Option<f64> {
    per_s.filter(|per_s| per_s.is_finite() && *per_s >= 0.0)
}
