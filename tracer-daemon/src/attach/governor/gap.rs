//! Gaps between windows: a Poisson process whose rate may change at any time.
//!
//! One draws a number with the standard exponential distribution and waits until the rate, summed over time, has reached it. As long as the rate
//! depends on the past only, this is a Poisson process of that rate at every moment (D. J. Daley and D. Vere-Jones, An Introduction to
//! the Theory of Point Processes, section 7.4: the random time change), however often the rate is corrected; drawing anew at each
//! correction would be the same in law and cost more numbers. So a window that opens where the rate was r stands for 1/r of time.

use rand::{Rng, RngCore};

/// What is left of a gap, as a sum of rate over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gap {
    remaining: f64,
    /// Up to where the rate has been summed.
    until_ns: u64,
}

impl Gap {
    /// A gap that begins at a time.
    pub(super) fn begin(at_ns: u64, random: &mut impl RngCore) -> Self {
        // `random` gives [0, 1): the logarithm is of (0, 1].
        Self { remaining: -(1.0 - random.random::<f64>()).ln(), until_ns: at_ns }
    }

    /// Up to where the rate has been summed.
    pub(super) fn until_ns(self) -> u64 {
        self.until_ns
    }

    /// Whether it has ended. It then stays at its end, so that of several who wait the first comes first.
    pub(super) fn is_over(self) -> bool {
        self.remaining <= 0.0
    }

    /// Time goes on with a rate per second.
    pub(super) fn advance(&mut self, to_ns: u64, rate_per_s: f64) {
        if let Some(end_ns) = self.end_ns(rate_per_s).filter(|end_ns| *end_ns <= to_ns) {
            *self = Self { remaining: 0.0, until_ns: end_ns };
            return;
        }
        let passed_s = crate::units::approximate(to_ns.saturating_sub(self.until_ns)) / 1e9;
        self.remaining = (self.remaining - passed_s * rate_per_s.max(0.0)).max(0.0);
        self.until_ns = self.until_ns.max(to_ns);
    }

    /// Time that does not count, since nothing could open in it.
    pub(super) fn skip(&mut self, to_ns: u64) {
        if self.is_over() {
            return;
        }
        self.until_ns = self.until_ns.max(to_ns);
    }

    /// When it ends if the rate stays. `None`: never.
    pub(super) fn end_ns(self, rate_per_s: f64) -> Option<u64> {
        if self.is_over() {
            return Some(self.until_ns);
        }
        if rate_per_s.is_nan() || rate_per_s <= 0.0 {
            return None;
        }
        Some(self.until_ns.saturating_add(crate::units::whole((self.remaining / rate_per_s * 1e9).ceil())))
    }
}
