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
    /// What the other targets leave to it, ns per second.
    left_ns_per_s: f64,
}

impl OwnCost {
    /// Windows per second that we pay for at most.
    pub(super) fn windows_per_s(self, is_new: bool, config: &Config) -> f64 {
        most_ns_per_s(is_new, config).min(self.left_ns_per_s) / config.own_burst_ns.max(1.0)
    }
}

impl Default for OwnCost {
    fn default() -> Self {
        Self { left_ns_per_s: f64::INFINITY }
    }
}

/// What windows of one target may cost without the others, ns per second.
fn most_ns_per_s(is_new: bool, config: &Config) -> f64 {
    let times = if is_new { NEW } else { SETTLED };
    times * config.max_overhead * 1e9
}

/// A target among others.
pub(super) struct Sharer<'a> {
    pub(super) cost: &'a mut OwnCost,
    pub(super) is_new: bool,
    /// Windows per second that it would have if we were for free.
    pub(super) wanted_per_s: f64,
}

/// Divides what we may take among the targets: those that are new, and those that are known.
pub(super) fn divide(targets: &mut [Sharer<'_>], config: &Config) {
    let pools = [(true, NEW_PART * config.node_overhead.min(config.own_overhead)), (false, config.settled_overhead)];
    for (is_new, share) in pools {
        let most_ns_per_s = most_ns_per_s(is_new, config);
        let those = targets.iter().filter(|target| target.is_new == is_new);
        let wants: Vec<f64> =
            those.map(|target| (target.wanted_per_s * config.own_burst_ns).min(most_ns_per_s)).collect();
        let left_ns_per_s = share::level(&wants, share * 1e9);
        for target in targets.iter_mut().filter(|target| target.is_new == is_new) {
            target.cost.left_ns_per_s = left_ns_per_s;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_busy_has_what_many_that_are_idle_do_not_want() {
        let config = Config::default();
        let mut costs = vec![OwnCost::default(); 60];
        let known = |cost| Sharer { cost, is_new: false, wanted_per_s: 0.01 };
        let mut targets: Vec<_> = costs.iter_mut().map(known).collect();
        targets[59].wanted_per_s = 10.0;
        divide(&mut targets, &config);
        let per_s = costs[59].windows_per_s(false, &config);
        assert!((per_s - 0.25 * 0.01 * 1e9 / config.own_burst_ns).abs() < 1e-9, "{per_s}");
    }

    #[test]
    fn a_new_one_does_not_wait_for_those_that_are_known() {
        let config = Config::default();
        let mut costs = vec![OwnCost::default(); 60];
        let known = |cost| Sharer { cost, is_new: false, wanted_per_s: 10.0 };
        let mut targets: Vec<_> = costs.iter_mut().map(known).collect();
        targets[0].is_new = true;
        divide(&mut targets, &config);
        let (new, known) = (costs[0].windows_per_s(true, &config), costs[1].windows_per_s(false, &config));
        assert!((new - 4.0 / 3.0 * 0.01 * 1e9 / config.own_burst_ns).abs() < 1e-9, "{new}");
        assert!((known * 59.0 - config.settled_overhead * 1e9 / config.own_burst_ns).abs() < 1e-9, "{known}");
    }
}
