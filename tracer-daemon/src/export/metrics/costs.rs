//! What bursts cost the processes of an identity, and what they have seen. Counters stay when a process ends.

use std::collections::BTreeMap;

use super::{state::grown, top_sites::ProcessKey};
use crate::{
    export::CostFacts,
    model::{birth_look::BirthCounts, impulses::ImpulseKind},
};

/// All processes of one identity.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// Whether windows were opened in one of them, or were to be.
    pub(super) is_known: bool,
    pub(super) bursts: u64,
    pub(super) open_s: f64,
    pub(super) added_s: f64,
    pub(super) births: u64,
    pub(super) looked: u64,
    pub(super) missed: u64,
    /// Jumps of the books, by the number of their kind.
    pub(super) impulses: [u64; ImpulseKind::ALL.len()],
    /// Of the living, over the last minute.
    ratios: BTreeMap<ProcessKey, f64>,
}

/// What one process has paid when it was looked at last.
#[derive(Debug, Default)]
pub(super) struct Paid {
    bursts: u64,
    open_s: f64,
    added_s: f64,
    births: u64,
    looked: u64,
    missed: u64,
}

impl Costs {
    pub(super) fn observe(&mut self, key: ProcessKey, paid: &mut Paid, cost: &CostFacts) {
        self.is_known = true;
        self.bursts += grown(&mut paid.bursts, cost.bursts.unwrap_or_default());
        self.open_s += grown_s(&mut paid.open_s, cost.bursts_open_s);
        self.added_s += grown_s(&mut paid.added_s, cost.target_added_s);
        match cost.target_ratio_last_minute {
            Some(ratio) => drop(self.ratios.insert(key, ratio)),
            None => drop(self.ratios.remove(&key)),
        }
    }

    pub(super) fn looked(&mut self, paid: &mut Paid, counts: &BirthCounts) {
        self.births += grown(&mut paid.births, counts.born);
        self.looked += grown(&mut paid.looked, counts.cycles_looked);
        self.missed += grown(&mut paid.missed, counts.cycles_missed);
    }

    /// A process is gone, or goes on under another identity.
    pub(super) fn end(&mut self, key: ProcessKey) {
        self.ratios.remove(&key);
    }

    /// The worst. `None`: it is not known of any.
    pub(super) fn ratio(&self) -> Option<f64> {
        self.ratios.values().copied().max_by(f64::total_cmp)
    }
}

/// What was added since last time, seconds; nothing where the account says less, as one does that begins anew.
fn grown_s(before: &mut f64, now: Option<f64>) -> f64 {
    let now = now.filter(|now| now.is_finite()).unwrap_or_default();
    let grown = (now - *before).max(0.0);
    *before = before.max(now);
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(bursts: u64, open_s: f64, ratio: Option<f64>) -> CostFacts {
        CostFacts {
            bursts: Some(bursts),
            bursts_open_s: Some(open_s),
            target_added_s: Some(open_s / 10.0),
            target_ratio_last_minute: ratio,
            ..CostFacts::default()
        }
    }

    #[test]
    fn counters_add_processes_and_stay_when_one_ends_and_the_ratio_is_the_worst_of_the_living() {
        let (first, second) = (ProcessKey(1), ProcessKey(2));
        let (mut costs, mut paid, mut other) = (Costs::default(), Paid::default(), Paid::default());
        assert!(!costs.is_known && costs.ratio().is_none());
        costs.observe(first, &mut paid, &cost(3, 0.5, Some(0.004)));
        costs.observe(second, &mut other, &cost(1, 0.25, Some(0.009)));
        costs.observe(first, &mut paid, &cost(5, 0.75, Some(0.005)));
        assert_eq!((costs.bursts, costs.open_s, costs.ratio()), (6, 1.0, Some(0.009)));
        costs.end(second);
        assert_eq!((costs.bursts, costs.open_s, costs.ratio()), (6, 1.0, Some(0.005)));
        costs.observe(first, &mut paid, &cost(5, 0.75, None));
        assert_eq!((costs.is_known, costs.ratio()), (true, None));
    }

    #[test]
    fn seconds_never_fall_whatever_the_account_says() {
        let (mut costs, mut paid) = (Costs::default(), Paid::default());
        for open_s in [2.0, 1.0, f64::NAN, f64::INFINITY, -1.0, 2.0] {
            costs.observe(ProcessKey(1), &mut paid, &cost(1, open_s, None));
            assert!((costs.open_s - 2.0).abs() < 1e-9, "{}", costs.open_s);
        }
    }
}
