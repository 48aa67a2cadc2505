//! What becomes of the processes of an identity: how fast what is alive grows, the verdict, and when memory runs out.

use std::collections::BTreeMap;

use super::top_sites::ProcessKey;
use crate::export::rates;
use crate::model::{Rate, Snapshot, verdict::Verdict};

/// What becomes of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outlook {
    /// How fast what collections find alive grows, bytes per second. `None`: not known.
    heap_growth: Option<Rate>,
    /// `None`: it was never judged.
    verdict: Option<Verdict>,
    /// Seconds until the limit is reached. `None`: there is no limit, or it does not grow.
    seconds_to_limit: Option<Rate>,
}

impl Outlook {
    /// As a snapshot has it.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let assessment = snapshot.assessment.as_deref();
        Self {
            heap_growth: assessment.and_then(|assessment| assessment.total.rate()),
            verdict: assessment.map(|assessment| assessment.verdict),
            seconds_to_limit: snapshot.forecast.map(|forecast| forecast.seconds),
        }
    }
}

/// The living processes of one identity.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlooks(BTreeMap<ProcessKey, Outlook>);

impl Outlooks {
    /// What becomes of a process now: what is no longer said of it is no longer shown.
    pub(super) fn observe(&mut self, key: ProcessKey, outlook: Outlook) {
        self.0.insert(key, outlook);
    }

    /// A process is gone, or goes on under another identity.
    pub(super) fn end(&mut self, key: ProcessKey) -> Option<Outlook> {
        self.0.remove(&key)
    }

    /// Summed over those of which it is known.
    pub(super) fn heap_growth(&self) -> Option<Rate> {
        rates::sum(self.0.values().filter_map(|outlook| outlook.heap_growth))
    }

    /// The worst.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.0.values().filter_map(|outlook| outlook.verdict).max()
    }

    /// Of the process that ends first.
    pub(super) fn seconds_to_limit(&self) -> Option<Rate> {
        let known = self.0.values().filter_map(|outlook| outlook.seconds_to_limit);
        known.min_by(|one, other| one.value.total_cmp(&other.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(value: f64) -> Rate {
        Rate { value, low: 0.9 * value, high: Some(1.2 * value) }
    }

    #[test]
    fn the_first_to_end_and_the_worst_stand_for_all() {
        let mut outlooks = Outlooks::default();
        assert_eq!((outlooks.heap_growth(), outlooks.verdict(), outlooks.seconds_to_limit()), (None, None, None));
        let outlook = |growth, verdict, seconds: Option<f64>| Outlook {
            heap_growth: Some(rate(growth)),
            verdict: Some(verdict),
            seconds_to_limit: seconds.map(rate),
        };
        let (first, second) = (ProcessKey(1), ProcessKey(2));
        outlooks.observe(first, outlook(300.0, Verdict::Leaking, Some(7200.0)));
        outlooks.observe(second, outlook(-100.0, Verdict::Shrinking, None));
        outlooks.observe(ProcessKey(3), Outlook { seconds_to_limit: Some(rate(60.0)), ..Outlook::default() });
        assert_eq!(outlooks.heap_growth().map(|rate| rate.value), Some(200.0));
        assert_eq!((outlooks.verdict(), outlooks.seconds_to_limit()), (Some(Verdict::Leaking), Some(rate(60.0))));
        outlooks.end(ProcessKey(3));
        assert_eq!(outlooks.seconds_to_limit(), Some(rate(7200.0)));
        outlooks.observe(first, outlook(0.0, Verdict::Steady, None));
        assert_eq!((outlooks.verdict(), outlooks.seconds_to_limit()), (Some(Verdict::Steady), None));
        outlooks.end(first);
        assert_eq!(outlooks.verdict(), Some(Verdict::Shrinking));
    }
}
