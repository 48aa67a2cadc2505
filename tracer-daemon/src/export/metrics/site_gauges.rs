//! Gauges by site: what the living processes of an identity hold or run now, and how fast that grows.
//!
//! At most `capacity` sites have series of their own; the sum of the others is `other`. Sites that are said to grow come
//! first, the fastest before all others, whatever they hold, and keep their place for [`STAY_S`] after that; then those
//! that hold most. A hidden site takes the place of a visible one of its kind only when it is ahead by a quarter, so that
//! series do not come and go.

use std::collections::{BTreeMap, BTreeSet};

use super::top_sites::ProcessKey;
use crate::{
    export::rates,
    model::{Rate, SiteId, verdict::Verdict},
};

/// For so long a site counts as one that grows after it was last said to, seconds: what comes and goes with the load is to be
/// one series.
const STAY_S: f64 = 600.0;
/// By how much those that are visible are ahead.
const AHEAD: f64 = 1.25;

/// The values of one process, by site and a further label.
pub(super) type Values = BTreeMap<(SiteId, String), u64>;

/// What is said of one site of one process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Growth {
    pub(super) verdict: Verdict,
    /// Per second. `None`: nothing above chance, or not known.
    pub(super) rate: Option<Rate>,
}

/// One process.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    values: Values,
    growths: BTreeMap<SiteId, Growth>,
    /// Sites that are said to grow, or were a while ago: when that was on the process's own clock, and how fast, per second.
    accused: BTreeMap<SiteId, (f64, f64)>,
}

/// The gauges of one identity.
#[derive(Clone, Debug)]
pub(super) struct SiteGauges {
    capacity: usize,
    processes: BTreeMap<ProcessKey, Holding>,
    visible: BTreeSet<SiteId>,
}

impl SiteGauges {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, processes: BTreeMap::new(), visible: BTreeSet::new() }
    }

    /// What a process holds now, and what is said of its sites; `at_s`: seconds since we began to look at it.
    pub(super) fn observe(
        &mut self,
        key: ProcessKey,
        at_s: f64,
        values: Values,
        growths: impl IntoIterator<Item = (SiteId, Growth)>,
    ) {
        let holding = self.processes.entry(key).or_default();
        holding.values = values;
        holding.growths = growths.into_iter().collect();
        for (site, growth) in holding.growths.iter().filter(|(_, growth)| growth.verdict >= Verdict::Growing) {
            let rate = growth.rate.map_or(0.0, |rate| rate.value.max(0.0));
            holding.accused.insert(*site, (at_s, rate));
        }
        // A clock that goes back is that of a window that began anew: what was said before it is no longer of interest.
        holding.accused.retain(|_, (said_s, _)| (0.0..=STAY_S).contains(&(at_s - *said_s)));
        self.choose();
    }

    /// A process is gone, or counted under another identity: there it goes on with what is returned.
    pub(super) fn end(&mut self, key: ProcessKey) -> Option<Holding> {
        let holding = self.processes.remove(&key);
        self.choose();
        holding
    }

    /// A process goes on here.
    pub(super) fn go_on(&mut self, key: ProcessKey, holding: Holding) {
        self.processes.insert(key, holding);
        self.choose();
    }

    /// Whether a site has series of its own.
    pub(super) fn is_visible(&self, site: SiteId) -> bool {
        self.visible.contains(&site)
    }

    /// The sums over all processes: visible sites by id, then `None`, which is all others.
    pub(super) fn sums(&self) -> BTreeMap<(Option<SiteId>, &str), u64> {
        let mut sums = BTreeMap::new();
        for ((site, label), value) in self.processes.values().flat_map(|holding| &holding.values) {
            let sum: &mut u64 = sums.entry((self.shown_as(*site), label.as_str())).or_default();
            *sum = sum.saturating_add(*value);
        }
        sums
    }

    /// How fast sites grow, over all processes; those that do not, or of which it is not known, are left out.
    pub(super) fn growths(&self) -> BTreeMap<Option<SiteId>, Rate> {
        let mut of_each: BTreeMap<Option<SiteId>, Vec<Rate>> = BTreeMap::new();
        for (site, growth) in self.processes.values().flat_map(|holding| &holding.growths) {
            if let Some(rate) = growth.rate {
                of_each.entry(self.shown_as(*site)).or_default().push(rate);
            }
        }
        of_each.into_iter().filter_map(|(site, rates)| Some((site, rates::sum(rates)?))).collect()
    }

    /// The worst that is said of each visible site in any process.
    pub(super) fn verdicts(&self) -> BTreeMap<SiteId, Verdict> {
        let mut worst: BTreeMap<SiteId, Verdict> = BTreeMap::new();
        for (site, growth) in self.processes.values().flat_map(|holding| &holding.growths) {
            if self.is_visible(*site) {
                let verdict = worst.entry(*site).or_default();
                *verdict = growth.verdict.max(*verdict);
            }
        }
        worst
    }

    fn shown_as(&self, site: SiteId) -> Option<SiteId> {
        Some(site).filter(|site| self.is_visible(*site))
    }

    fn choose(&mut self) {
        // How fast it grows, where it is said to; how much there is of it.
        let mut ranks: BTreeMap<SiteId, (Option<f64>, f64)> = BTreeMap::new();
        for holding in self.processes.values() {
            for ((site, _), value) in holding.values.iter().filter(|(_, value)| **value > 0) {
                ranks.entry(*site).or_default().1 += crate::units::approximate(*value);
            }
            for (site, (_, rate)) in &holding.accused {
                let growth = &mut ranks.entry(*site).or_default().0;
                *growth = Some(growth.unwrap_or_default() + rate);
            }
        }
        let mut ranked: Vec<(Option<f64>, f64, SiteId)> = ranks
            .into_iter()
            .map(|(site, (growth, held))| {
                let ahead = if self.visible.contains(&site) { AHEAD } else { 1.0 };
                (growth.map(|growth| growth * ahead), held * ahead, site)
            })
            .collect();
        let growth = |of: Option<f64>| of.unwrap_or(-1.0);
        ranked.sort_by(|(one_growth, one_held, one), (other_growth, other_held, other)| {
            let by_growth = growth(*other_growth).total_cmp(&growth(*one_growth));
            by_growth.then_with(|| other_held.total_cmp(one_held)).then(one.cmp(other))
        });
        self.visible = ranked.into_iter().take(self.capacity).map(|(.., site)| site).collect();
    }
}

#[cfg(test)]
#[path = "site_gauges_tests.rs"]
mod tests;
