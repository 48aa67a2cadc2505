//! What is given up when leakline itself takes more than it may: goroutine hooks, then bursts, then reads come less often.

/// How long a level must have been too little before the next, ns.
const WORSE_AFTER_NS: u64 = 10_000_000_000;
/// How long a level must have been too much before it is taken back, ns.
const BETTER_AFTER_NS: u64 = 60_000_000_000;
/// A level is taken back where we take less than this part of what we may.
const BETTER_BELOW: f64 = 0.7;
/// Reads come at most this many times less often.
const READS_SLOWER_MAX: f64 = 16.0;

/// What has been given up, each level with those above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Shed {
    /// Nothing.
    #[default]
    Nothing,
    /// Hooks on goroutines, of all targets.
    GoroutineHooks,
    /// Bursts, but for one a minute.
    Bursts,
    /// Reads of the targets' memory come less often.
    Reads,
}

/// Which level holds, and since when another would fit.
#[derive(Clone, Debug, Default)]
pub(super) struct Shedding {
    level: Shed,
    reads_slower: f64,
    last: Option<(u64, u64)>,
    rate: f64,
    too_much_since_ns: Option<u64>,
    little_since_ns: Option<u64>,
}

impl Shedding {
    pub(super) fn level(&self) -> Shed {
        self.level
    }

    /// How many times less often than usual targets are to be read; at least 1.
    pub(super) fn reads_slower(&self) -> f64 {
        self.reads_slower.max(1.0)
    }

    /// Our own CPU time, ns since we began, without what was for once, against a share of one core.
    pub(super) fn observe(&mut self, at_ns: u64, own_cpu_ns: u64, share_max: f64) {
        let Some((last_ns, last_cpu_ns)) = self.last.replace((at_ns, own_cpu_ns)) else { return };
        let passed_ns = crate::units::approximate(at_ns.saturating_sub(last_ns));
        if passed_ns <= 0.0 {
            return;
        }
        // Less than before where some of it was found to have been for once.
        let now = (crate::units::approximate(own_cpu_ns) - crate::units::approximate(last_cpu_ns)) / passed_ns;
        // About the mean of the last ten seconds.
        let weight = 1.0 - (-passed_ns / 1e10).exp();
        self.rate += weight * (now - self.rate);
        if self.rate > share_max {
            self.little_since_ns = None;
            let since_ns = *self.too_much_since_ns.get_or_insert(at_ns);
            if at_ns.saturating_sub(since_ns) >= WORSE_AFTER_NS {
                self.too_much_since_ns = Some(at_ns);
                self.worse();
            }
        } else if self.rate < BETTER_BELOW * share_max {
            self.too_much_since_ns = None;
            let since_ns = *self.little_since_ns.get_or_insert(at_ns);
            if at_ns.saturating_sub(since_ns) >= BETTER_AFTER_NS {
                self.little_since_ns = Some(at_ns);
                self.better();
            }
        } else {
            (self.too_much_since_ns, self.little_since_ns) = (None, None);
        }
    }

    fn worse(&mut self) {
        self.level = match self.level {
            Shed::Nothing => Shed::GoroutineHooks,
            Shed::GoroutineHooks => Shed::Bursts,
            Shed::Bursts | Shed::Reads => {
                self.reads_slower = (2.0 * self.reads_slower()).min(READS_SLOWER_MAX);
                Shed::Reads
            }
        };
    }

    fn better(&mut self) {
        self.level = match self.level {
            Shed::Reads if self.reads_slower() > 2.0 => {
                self.reads_slower /= 2.0;
                Shed::Reads
            }
            Shed::Reads => {
                self.reads_slower = 1.0;
                Shed::Bursts
            }
            Shed::Bursts => Shed::GoroutineHooks,
            Shed::GoroutineHooks | Shed::Nothing => Shed::Nothing,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Shed::{Bursts, GoroutineHooks, Nothing, Reads};
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn evidence_is_shed_in_order_and_comes_back_in_reverse() {
        let mut shedding = Shedding::default();
        let (mut cpu_ns, mut seen, mut slowest) = (0, vec![Nothing], 1.0_f64);
        for second in 0..1_200 {
            cpu_ns += if second < 120 { SECOND_NS / 10 } else { SECOND_NS / 1_000 };
            shedding.observe(second * SECOND_NS, cpu_ns, 0.03);
            slowest = slowest.max(shedding.reads_slower());
            if seen.last() != Some(&shedding.level()) {
                seen.push(shedding.level());
            }
        }
        assert_eq!(seen, [Nothing, GoroutineHooks, Bursts, Reads, Bursts, GoroutineHooks, Nothing]);
        assert!((slowest - READS_SLOWER_MAX).abs() < 1e-9, "{slowest}");
        assert!((shedding.reads_slower() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_short_peak_sheds_nothing() {
        let mut shedding = Shedding::default();
        let mut cpu_ns = 0;
        for second in 0..100 {
            cpu_ns += if second == 50 { SECOND_NS / 5 } else { SECOND_NS / 200 };
            shedding.observe(second * SECOND_NS, cpu_ns, 0.03);
            assert_eq!(shedding.level(), Nothing);
        }
    }
}
