//! Who made a size class grow: the exact growth of the class, shared among the sites that were sampled in it.
//!
//! Each site's sampled growth is corrected so that all of them, and one site that no sample has seen yet, sum to the exact
//! growth, each in proportion to its variance: the best linear unbiased estimate under the sum constraint. Sharing in
//! proportion to what grew is simpler and biased by up to -53 % where a steady site churns in the class of a leak.
//!
//! References: A. C. Aitken, On least squares and linear combination of observations (1935); D. C. Montgomery, Introduction
//! to Linear Regression Analysis, restricted least squares. Source of the sampling: runtime/mprof.go, runtime/malloc.go
//! (nextSample), go1.26.

use super::Rate;

/// Two-sided 95 % of a normal distribution.
const Z: f64 = 1.959_964;

/// The samples of one site in one size class over a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sampled {
    /// Samples allocated in the window.
    pub allocs: u64,
    /// Samples freed in the window.
    pub frees: u64,
    /// Samples in use when the window began.
    pub in_use_first: u64,
    /// Samples in use when it ended.
    pub in_use_last: u64,
}

impl Sampled {
    /// Samples more in use than when the window began.
    pub fn growth(&self) -> f64 {
        real(self.in_use_last) - real(self.in_use_first)
    }

    /// Variance of the growth: no more moved than was allocated and freed, nor than was in use at both ends.
    pub fn variance(&self) -> f64 {
        self.moved() + 1.0
    }

    fn moved(&self) -> f64 {
        real((self.allocs.saturating_add(self.frees)).min(self.in_use_first.saturating_add(self.in_use_last)))
    }
}

/// A class that grew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassGrowth {
    /// Its exact growth, bytes per second.
    pub bytes_per_s: Rate,
    /// Bytes that one sample stands for: size / (1 - exp(-size / rate)).
    pub bytes_per_sample: f64,
    /// The window, seconds.
    pub window_s: f64,
}

/// What one site has of the growth of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Variance of that, by sampling alone.
    pub variance: f64,
    /// Whether other sites of the class grew so much that sampling decides between them.
    pub is_contested: bool,
}

/// Other sites contest a class where they grew by more than this share of its growth.
const CONTESTED: f64 = 0.15;

/// Shares the growth of a class among its sites, in their order.
pub fn share(class: &ClassGrowth, sites: &[Sampled]) -> Vec<Share> {
    let per_sample = class.bytes_per_sample / class.window_s;
    if !(per_sample.is_finite() && per_sample > 0.0) {
        return Vec::new();
    }
    let expected = class.bytes_per_s.value / per_sample;
    let grown: f64 = sites.iter().map(Sampled::growth).sum();
    let positive: f64 = sites.iter().map(|site| site.growth().max(0.0)).sum();
    // One more: the site that no sample has seen yet.
    let variance: f64 = sites.iter().map(Sampled::variance).sum::<f64>() + 1.0;
    sites
        .iter()
        .map(|site| {
            let own = site.variance();
            let corrected = site.growth() + own / variance * (expected - grown);
            Share {
                bytes_per_s: corrected * per_sample,
                variance: own * (1.0 - own / variance) * per_sample * per_sample,
                is_contested: positive - site.growth().max(0.0) > CONTESTED * expected.abs(),
            }
        })
        .collect()
}

/// What the samples of a site say over all its classes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SiteGrowth {
    /// Bytes per second.
    pub bytes_per_s: f64,
    /// Variance by sampling.
    pub variance: f64,
    /// Half of the interval of the classes' growth, in this site's part of it.
    pub class_half_width: f64,
    /// Samples more in use than before.
    pub samples: f64,
    /// Samples that moved: their root is what chance would do.
    pub moved: f64,
    /// Bytes per second out of contested classes.
    pub contested_bytes_per_s: f64,
}

impl SiteGrowth {
    /// One more class of the site.
    pub fn add(&mut self, class: &ClassGrowth, sampled: &Sampled, share: &Share) {
        self.bytes_per_s += share.bytes_per_s;
        self.variance += share.variance;
        self.samples += sampled.growth();
        self.moved += sampled.moved();
        if share.is_contested {
            self.contested_bytes_per_s += share.bytes_per_s.max(0.0);
        }
        let half_width = class.bytes_per_s.value - class.bytes_per_s.low;
        let part = if class.bytes_per_s.value.abs() > 0.0 { share.bytes_per_s / class.bytes_per_s.value } else { 0.0 };
        self.class_half_width += part.abs() * half_width;
    }

    /// How many standard deviations of sampling the growth is above none.
    pub fn score(&self) -> f64 {
        if self.variance > 0.0 {
            self.bytes_per_s / self.variance.sqrt()
        } else {
            f64::INFINITY.copysign(self.bytes_per_s)
        }
    }

    /// How many standard deviations the samples alone are above chance.
    pub fn sample_score(&self) -> f64 {
        if self.moved > 0.0 { self.samples / self.moved.sqrt() } else { self.samples }
    }

    /// Bytes per second with the 95 % interval.
    pub fn rate(&self) -> Rate {
        let half_width = Z * (self.variance + (self.class_half_width / Z).powi(2)).sqrt();
        Rate { value: self.bytes_per_s, low: self.bytes_per_s - half_width, high: Some(self.bytes_per_s + half_width) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples, far below 2^53")]
fn real(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(bytes_per_s: f64) -> ClassGrowth {
        ClassGrowth { bytes_per_s: Rate::counted(bytes_per_s), bytes_per_sample: 524_288.0, window_s: 60.0 }
    }

    fn sampled(allocs: u64, frees: u64, in_use_first: u64) -> Sampled {
        Sampled { allocs, frees, in_use_first, in_use_last: in_use_first + allocs - frees }
    }

    #[test]
    fn shares_and_the_unseen_sum_to_the_class() {
        let sites = [sampled(40, 0, 3), sampled(300, 302, 50), sampled(0, 0, 0)];
        let class = class(300_000.0);
        let shares = share(&class, &sites);
        let unseen = {
            let variance: f64 = sites.iter().map(Sampled::variance).sum::<f64>() + 1.0;
            let grown: f64 = sites.iter().map(Sampled::growth).sum();
            let per_sample = class.bytes_per_sample / class.window_s;
            (class.bytes_per_s.value / per_sample - grown) / variance * per_sample
        };
        let sum: f64 = shares.iter().map(|share| share.bytes_per_s).sum();
        assert!((sum + unseen - class.bytes_per_s.value).abs() < 1e-6, "{sum} + {unseen}");
        assert!(shares.iter().all(|share| share.variance >= 0.0));
    }

    #[test]
    fn a_site_alone_in_its_class_has_nearly_all_of_it() {
        let shares = share(&class(300_000.0), &[sampled(30, 0, 0)]);
        assert!((shares[0].bytes_per_s / 300_000.0 - 1.0).abs() < 0.05, "{shares:?}");
        assert!(!shares[0].is_contested);
    }

    #[test]
    fn steady_churn_beside_a_leak_gets_little_and_is_not_sure_of_it() {
        let sites = [sampled(35, 0, 0), sampled(500, 500, 40)];
        let shares = share(&class(300_000.0), &sites);
        let mut churn = SiteGrowth::default();
        churn.add(&class(300_000.0), &sites[1], &shares[1]);
        assert!(churn.rate().low < 0.0, "{churn:?}");
        assert!(churn.sample_score() < 1.0);
    }
}
