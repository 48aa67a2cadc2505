//! What the windows of a target cost ourselves: much while it is new, little once it is known.

use super::{Config, share};

/// What they cost, as a multiple of what the target may pay at most: while it is new, and afterwards.
const NEW: f64 = 4.0 / 3.0;
const SETTLED: f64 = 0.25;
/// Part of the host's budget that windows of new targets cost ourselves at most.
const NEW_PART: f64 = 0.5;

/// Of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnCost {
    since_ns: u64,
    /// What the other targets leave to it, ns per second.
    left_ns_per_s: f64,
}

impl OwnCost {
    /// It was added now.
    pub(super) fn new(at_ns: u64) -> Self {
        Self { since_ns: at_ns, left_ns_per_s: f64::INFINITY }
    }

    /// When much has been learnt of it.
    pub(super) fn new_until_ns(&self, config: &Config) -> u64 {
        self.since_ns.saturating_add(config.new_ns)
    }

    /// Without the others, ns per second.
    fn most_ns_per_s(&self, at_ns: u64, config: &Config) -> f64 {
        let times = if at_ns < self.new_until_ns(config) { NEW } else { SETTLED };
        times * config.max_overhead * 1e9
    }

    /// Windows per second that we pay for at most.
    pub(super) fn windows_per_s(&self, at_ns: u64, config: &Config) -> f64 {
        self.most_ns_per_s(at_ns, config).min(self.left_ns_per_s) / config.own_burst_ns.max(1.0)
    }
}

/// Divides what we may take among the targets: those that are new, and those that are known. `wanted_per_s`: windows that each would have if we were for free.
pub(super) fn divide(at_ns: u64, targets: &mut [(&mut OwnCost, f64)], config: &Config) {
    let pools = [(true, NEW_PART * config.node_overhead.min(config.own_overhead)), (false, config.settled_overhead)];
    for (is_new, share) in pools {
        let is_in = |cost: &OwnCost| (at_ns < cost.new_until_ns(config)) == is_new;
        let wants = |(cost, wanted_per_s): &(&mut OwnCost, f64)| {
            is_in(cost).then(|| (wanted_per_s * config.own_burst_ns).min(cost.most_ns_per_s(at_ns, config)))
        };
        let wants: Vec<f64> = targets.iter().filter_map(wants).collect();
        let left_ns_per_s = share::level(&wants, share * 1e9);
        for (cost, _) in targets.iter_mut().filter(|(cost, _)| is_in(cost)) {
            cost.left_ns_per_s = left_ns_per_s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_NS: u64 = 60_000_000_000;

    #[test]
    fn one_that_is_busy_has_what_many_that_are_idle_do_not_want() {
        let config = Config::default();
        let mut costs = vec![OwnCost::new(0); 60];
        let mut targets: Vec<_> = costs.iter_mut().map(|cost| (cost, 0.01)).collect();
        targets[59].1 = 10.0;
        divide(10 * MINUTE_NS, &mut targets, &config);
        let per_s = costs[59].windows_per_s(10 * MINUTE_NS, &config);
        assert!((per_s - 0.25 * 0.01 * 1e9 / config.own_burst_ns).abs() < 1e-9, "{per_s}");
    }

    #[test]
    fn a_new_one_does_not_wait_for_those_that_are_known() {
        let config = Config::default();
        let mut costs = vec![OwnCost::new(0); 60];
        costs[0] = OwnCost::new(10 * MINUTE_NS);
        let mut targets: Vec<_> = costs.iter_mut().map(|cost| (cost, 10.0)).collect();
        divide(10 * MINUTE_NS, &mut targets, &config);
        let [new, known] = [0, 1].map(|index: usize| costs[index].windows_per_s(10 * MINUTE_NS, &config));
        assert!((new - 4.0 / 3.0 * 0.01 * 1e9 / config.own_burst_ns).abs() < 1e-9, "{new}");
        assert!((known * 59.0 - config.settled_overhead * 1e9 / config.own_burst_ns).abs() < 1e-9, "{known}");
    }
}
