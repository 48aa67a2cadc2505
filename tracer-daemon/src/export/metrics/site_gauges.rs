//! Gauges by site: what the living processes of an identity hold or run now.
//!
//! At most `capacity` sites have series of their own; the sum of the others is `other`. A hidden site takes the place of a
//! visible one only when it is larger by a quarter, so that series do not come and go.

use std::collections::{BTreeMap, BTreeSet};

use super::top_sites::ProcessKey;
use crate::model::SiteId;

/// The values of one process, by site and a further label.
pub(super) type Values = BTreeMap<(SiteId, String), u64>;

/// The gauges of one identity.
#[derive(Clone, Debug)]
pub(super) struct SiteGauges {
    capacity: usize,
    processes: BTreeMap<ProcessKey, Values>,
    visible: BTreeSet<SiteId>,
}

impl SiteGauges {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, processes: BTreeMap::new(), visible: BTreeSet::new() }
    }

    /// What a process holds now.
    pub(super) fn observe(&mut self, key: ProcessKey, values: Values) {
        self.processes.insert(key, values);
        self.choose();
    }

    /// A process is gone, or counted under another identity: there it goes on with what is returned.
    pub(super) fn end(&mut self, key: ProcessKey) -> Option<Values> {
        let values = self.processes.remove(&key);
        self.choose();
        values
    }

    /// Whether a site has series of its own.
    pub(super) fn is_visible(&self, site: SiteId) -> bool {
        self.visible.contains(&site)
    }

    /// The sums over all processes: visible sites by id, then `None`, which is all others.
    pub(super) fn sums(&self) -> BTreeMap<(Option<SiteId>, &str), u64> {
        let mut sums = BTreeMap::new();
        for ((site, label), value) in self.processes.values().flatten() {
            let key = (Some(*site).filter(|site| self.is_visible(*site)), label.as_str());
            let sum: &mut u64 = sums.entry(key).or_default();
            *sum = sum.saturating_add(*value);
        }
        sums
    }

    fn choose(&mut self) {
        let mut totals: BTreeMap<SiteId, u64> = BTreeMap::new();
        for ((site, _), value) in self.processes.values().flatten() {
            let total = totals.entry(*site).or_default();
            *total = total.saturating_add(*value);
        }
        let rank = |site: &SiteId, total: u64| {
            if self.visible.contains(site) { total.saturating_add(total / 4) } else { total }
        };
        let mut ranked: Vec<(u64, SiteId)> =
            totals.iter().filter(|(_, total)| **total > 0).map(|(site, total)| (rank(site, *total), *site)).collect();
        ranked.sort_by(|(rank, site), (other_rank, other)| other_rank.cmp(rank).then(site.cmp(other)));
        self.visible = ranked.into_iter().take(self.capacity).map(|(_, site)| site).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[(u64, u64)]) -> Values {
        of.iter().map(|(site, value)| ((SiteId(*site), String::new()), *value)).collect()
    }

    fn shown(gauges: &SiteGauges) -> Vec<(Option<u64>, u64)> {
        gauges.sums().into_iter().map(|((site, _), value)| (site.map(|site| site.0), value)).collect()
    }

    #[test]
    fn visible_sites_and_other_sum_to_all_and_do_not_take_turns() {
        let mut gauges = SiteGauges::new(2);
        gauges.observe(ProcessKey(1), values(&[(1, 100), (2, 50), (3, 45)]));
        assert_eq!(shown(&gauges), [(None, 45), (Some(1), 100), (Some(2), 50)]);
        gauges.observe(ProcessKey(1), values(&[(1, 100), (2, 50), (3, 60)]));
        assert_eq!(shown(&gauges), [(None, 60), (Some(1), 100), (Some(2), 50)]);
        gauges.observe(ProcessKey(2), values(&[(3, 10)]));
        assert_eq!(shown(&gauges), [(None, 50), (Some(1), 100), (Some(3), 70)]);
        assert_eq!(gauges.end(ProcessKey(1)).map(|values| values.len()), Some(3));
        assert_eq!(shown(&gauges), [(Some(3), 10)]);
    }
}
