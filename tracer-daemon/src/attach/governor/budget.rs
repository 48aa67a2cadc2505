//! A purse of CPU time that fills at a share of what is used, and the sum of its last minute.
//!
//! What was put into it within a minute is the budget of that minute. The purse holds at most [`PURSE_SHARE`] of it, so over any minute no more
//! can be spent than what came in and that share of the minute before. It may be in debt: what cost more than planned delays what follows.

use std::collections::VecDeque;

/// One minute, ns.
pub(super) const MINUTE_NS: u64 = 60_000_000_000;
/// What a purse holds, as a share of a minute's budget. Together with the overrun of one window it must stay below 0.2.
pub(super) const PURSE_SHARE: f64 = 0.12;
/// Debts above this many minutes' budgets are forgiven, so that a mistake does not blind us for ever.
const DEBT_MINUTES: f64 = 3.0;
/// What is earned in less time says nothing of a minute, ns.
const KNOWN_MIN_NS: u64 = 5_000_000_000;
/// Sums are kept for spans of this length, ns.
const SPAN_NS: u64 = 1_000_000_000;

/// What came in the last minute, in spans of a second: at most 61 of them, whatever is added.
#[derive(Clone, Debug, Default)]
pub(super) struct LastMinute {
    /// Beginning of each span and its sum, ascending.
    spans: VecDeque<(u64, f64)>,
}

impl LastMinute {
    /// A minute over which a value came in evenly.
    pub(super) fn even(at_ns: u64, value: f64) -> Self {
        let mut minute = Self::default();
        for ago in (0..60).rev() {
            minute.add(at_ns.saturating_sub(ago * SPAN_NS), value / 60.0);
        }
        minute
    }

    /// Adds a value at a time. A time before the last one counts as the last one.
    pub(super) fn add(&mut self, at_ns: u64, value: f64) {
        match self.spans.back_mut() {
            Some((begin_ns, sum)) if at_ns < begin_ns.saturating_add(SPAN_NS) => *sum += value,
            _ => self.spans.push_back((at_ns - at_ns % SPAN_NS, value)),
        }
        self.forget(at_ns);
    }

    /// Leaves out what is older than a minute.
    pub(super) fn forget(&mut self, at_ns: u64) {
        while self.spans.front().is_some_and(|(begin_ns, _)| begin_ns.saturating_add(MINUTE_NS) <= at_ns) {
            self.spans.pop_front();
        }
    }

    /// The sum, as of the last call of [`Self::add`] or [`Self::forget`].
    pub(super) fn sum(&self) -> f64 {
        self.spans.iter().map(|(_, sum)| sum).sum()
    }
}

/// CPU time that may be spent, ns.
#[derive(Clone, Debug, Default)]
pub(super) struct Purse {
    content_ns: f64,
    /// From when on income is known; before, there was nobody to earn.
    since_ns: u64,
    now_ns: u64,
    income: LastMinute,
    spent: LastMinute,
}

impl Purse {
    /// A purse as if this much had come in over the last minute. It is full.
    pub(super) fn with_income(at_ns: u64, income_ns: f64) -> Self {
        let mut purse = Self { income: LastMinute::even(at_ns, income_ns), now_ns: at_ns, ..Self::default() };
        purse.content_ns = purse.capacity_ns();
        purse
    }

    /// The purse of one that is so old and has earned so much of late: within its age, or a minute. What is less than a minute stands for a
    /// minute at that pace, so that a young one need not wait for a minute to pass; but it has only what it has earned.
    pub(super) fn of_age(at_ns: u64, income_ns: f64, age_ns: u64) -> Self {
        if age_ns >= MINUTE_NS {
            return Self::with_income(at_ns, income_ns);
        }
        let mut purse = Self { since_ns: at_ns.saturating_sub(age_ns), now_ns: at_ns, ..Self::default() };
        purse.income.add(at_ns, income_ns);
        purse.content_ns = PURSE_SHARE * income_ns;
        purse
    }

    pub(super) fn earn(&mut self, at_ns: u64, income_ns: f64) {
        self.now_ns = self.now_ns.max(at_ns);
        self.income.add(at_ns, income_ns);
        self.spent.forget(at_ns);
        // What the purse cannot hold is lost: who used less in the past may not use more in the future.
        self.content_ns = (self.content_ns + income_ns).min(self.capacity_ns());
    }

    pub(super) fn spend(&mut self, at_ns: u64, cost_ns: f64) {
        self.spent.add(at_ns, cost_ns);
        self.content_ns = (self.content_ns - cost_ns).max(-DEBT_MINUTES * self.minute_ns());
    }

    /// Spends what is spent in any case, once a minute: it makes no more debts than one minute's budget.
    pub(super) fn spend_floor(&mut self, at_ns: u64, cost_ns: f64) {
        self.spent.add(at_ns, cost_ns);
        let least_ns = self.content_ns.min(-self.minute_ns());
        self.content_ns = (self.content_ns - cost_ns).max(least_ns);
    }

    pub(super) fn content_ns(&self) -> f64 {
        self.content_ns
    }

    /// What it holds at most.
    pub(super) fn capacity_ns(&self) -> f64 {
        PURSE_SHARE * self.minute_ns()
    }

    /// The budget of the last minute; of one that is younger what a minute will bring at its pace.
    pub(super) fn minute_ns(&self) -> f64 {
        let known_ns = self.now_ns.saturating_sub(self.since_ns).clamp(KNOWN_MIN_NS, MINUTE_NS);
        let minutes = crate::units::approximate(MINUTE_NS) / crate::units::approximate(known_ns);
        self.income.sum() * if self.since_ns == 0 { 1.0 } else { minutes }
    }

    /// What was spent in the last minute.
    pub(super) fn spent_ns(&self) -> f64 {
        self.spent.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_forgotten_after_a_minute() {
        let mut minute = LastMinute::default();
        for second in 0..200 {
            minute.add(second * SPAN_NS + 7, 1.0);
        }
        assert!((minute.sum() - 60.0).abs() < 1e-9, "{}", minute.sum());
        assert!(minute.spans.len() <= 61);
        minute.forget(1_000 * SPAN_NS);
        assert!(minute.sum().abs() < 1e-9);
    }

    #[test]
    fn a_purse_holds_no_more_than_its_share_of_a_minute() {
        let mut purse = Purse::default();
        for second in 0..600 {
            purse.earn(second * SPAN_NS, 10.0);
        }
        assert!((purse.content_ns() - PURSE_SHARE * 600.0).abs() < 1e-9);
        for second in 600..700 {
            purse.earn(second * SPAN_NS, 0.0);
        }
        assert!(purse.content_ns().abs() < 1e-9, "what was earned long ago is spent by nobody");
    }

    #[test]
    fn one_that_is_young_is_measured_by_its_pace_and_has_what_it_has_earned() {
        let mut purse = Purse::of_age(MINUTE_NS, 10.0, SPAN_NS);
        for second in 1..10 {
            purse.earn(MINUTE_NS + second * SPAN_NS, 10.0);
        }
        assert!((purse.minute_ns() - 600.0).abs() < 1e-6, "{}", purse.minute_ns());
        assert!(purse.content_ns() <= PURSE_SHARE * 600.0 && purse.content_ns() < 92.0);
        for second in 10..200 {
            purse.earn(MINUTE_NS + second * SPAN_NS, 10.0);
        }
        assert!((purse.minute_ns() - 600.0).abs() < 1e-6);
    }

    #[test]
    fn debts_are_carried_over_but_those_of_the_floor_are_bounded_by_a_minute() {
        let mut purse = Purse::with_income(MINUTE_NS, 600.0);
        purse.spend(MINUTE_NS, 672.0);
        assert!((purse.content_ns() + 600.0).abs() < 1e-9);
        let mut poor = Purse::with_income(MINUTE_NS, 600.0);
        poor.spend_floor(MINUTE_NS, 1e9);
        assert!((poor.content_ns() + 600.0).abs() < 1e-9);
        assert!((poor.spent_ns() - 1e9).abs() < 1e-9, "the account keeps all of it");
    }
}
