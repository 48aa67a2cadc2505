//! Who made a size class grow: the exact growth of the class, shared among the sites that were sampled in it.
//!
//! Each site's sampled growth is corrected so that all of them, and one site that no sample has seen yet, sum to the exact
//! growth, each in proportion to its variance: the best linear unbiased estimate under the sum constraint. Sharing in
//! proportion to what grew is simpler and biased by up to -53 % where a steady site churns in the class of a leak.
//!
//! References: A. C. Aitken, On least squares and linear combination of observations (1935); D. C. Montgomery, Introduction
//! to Linear Regression Analysis, restricted least squares. Source of the sampling: runtime/mprof.go, runtime/malloc.go
//! (nextSample), go1.26.

use statrs::distribution::{Binomial, ContinuousCDF as _, DiscreteCDF as _, Normal};

use super::Rate;
use super::slope::Z;
use crate::units::approximate;

/// Up to so many samples chance is counted out.
const EXACT_MAX: f64 = 200.0;

/// Added to counts of samples before they stand for their variance: half of Z squared, which makes intervals of few counts
/// cover at their rate (A. Agresti, B. A. Coull, Approximate is better than "exact", The American Statistician 52, 1998).
const FEW: f64 = 2.0;
/// Variance of the site that no sample has seen yet.
const UNSEEN: f64 = 1.0;
/// Corrections after which variances agree well enough.
const ROUNDS: u32 = 4;

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
        approximate(self.in_use_last) - approximate(self.in_use_first)
    }

    /// Variance of the growth: no more moved than was allocated and freed, nor than was in use at both ends.
    pub fn variance(&self) -> f64 {
        self.moved() + FEW
    }

    fn moved(&self) -> f64 {
        approximate((self.allocs.saturating_add(self.frees)).min(self.in_use_first.saturating_add(self.in_use_last)))
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
    let estimates: Vec<Estimate> =
        sites.iter().map(|site| Estimate { growth: site.growth(), variance: site.variance() }).collect();
    let positive: f64 = sites.iter().map(|site| site.growth().max(0.0)).sum();
    let corrected = Corrected::of_counts(expected, &estimates);
    let shares = sites.iter().zip(corrected.sites).map(|(site, corrected)| Share {
        bytes_per_s: corrected.growth * per_sample,
        variance: corrected.variance * per_sample * per_sample,
        is_contested: positive - site.growth().max(0.0) > CONTESTED * expected.abs(),
    });
    shares.collect()
}

/// What is thought of the growth of one site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// In any unit.
    pub growth: f64,
    /// In its square.
    pub variance: f64,
}

impl Estimate {
    /// Surely no growth.
    pub const NONE: Self = Self { growth: 0.0, variance: 0.0 };
}

/// Estimates that sum to what is known of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrected {
    /// The sites, in their order.
    pub sites: Vec<Estimate>,
    /// What is left for the site that was not seen yet.
    pub unseen: f64,
}

impl Corrected {
    /// What is missing to the sum is given to each site in proportion to its variance, and to one that was not seen.
    pub fn of(expected: f64, sites: &[Estimate], unseen_variance: f64) -> Self {
        let missing = expected - sites.iter().map(|site| site.growth).sum::<f64>();
        let all = sites.iter().map(|site| site.variance).sum::<f64>() + unseen_variance;
        let sites = sites.iter().map(|site| Estimate {
            growth: site.growth + site.variance / all * missing,
            variance: site.variance * (1.0 - site.variance / all),
        });
        Self { sites: sites.collect(), unseen: unseen_variance / all * missing }
    }

    /// The same of counts of samples, whose variance follows from the counts. A site of which chance has shown little seems less
    /// variable than it is, and the correction would pass it by: so the variances are those of the corrected growth, found
    /// again until they agree.
    pub fn of_counts(expected: f64, sites: &[Estimate]) -> Self {
        let missing = expected - sites.iter().map(|site| site.growth).sum::<f64>();
        let mut counts = sites.to_vec();
        for _ in 0..ROUNDS {
            let all = counts.iter().map(|site| site.variance).sum::<f64>() + UNSEEN;
            for (count, site) in counts.iter_mut().zip(sites) {
                count.variance = (site.variance + count.variance / all * missing).max(FEW);
            }
        }
        Self::of(expected, &counts, UNSEEN)
    }
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
        self.add_class_error(class.bytes_per_s, share.bytes_per_s);
    }

    /// One more class of the site, by its births: corrected growth, objects that were caught and stay, and what the other sites of the
    /// class grew by.
    pub fn add_births(&mut self, class_bytes_per_s: Rate, corrected: &Estimate, stayed: f64, others_bytes_per_s: f64) {
        self.bytes_per_s += corrected.growth;
        self.variance += corrected.variance;
        self.samples += stayed;
        self.moved += stayed;
        if others_bytes_per_s > CONTESTED * class_bytes_per_s.value.abs() {
            self.contested_bytes_per_s += corrected.growth.max(0.0);
        }
        self.add_class_error(class_bytes_per_s, corrected.growth);
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            bytes_per_s: self.bytes_per_s + other.bytes_per_s,
            variance: self.variance + other.variance,
            class_half_width: self.class_half_width + other.class_half_width,
            samples: self.samples + other.samples,
            moved: self.moved + other.moved,
            contested_bytes_per_s: self.contested_bytes_per_s + other.contested_bytes_per_s,
        }
    }

    fn add_class_error(&mut self, class_bytes_per_s: Rate, own_bytes_per_s: f64) {
        let half_width = class_bytes_per_s.value - class_bytes_per_s.low;
        let part = if class_bytes_per_s.value.abs() > 0.0 { own_bytes_per_s / class_bytes_per_s.value } else { 0.0 };
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

    /// How many standard deviations the samples alone are above chance: of those that moved each came or went with the same
    /// probability (sign test). Exact where they are few: then their number is far from a normal distribution.
    pub fn sample_score(&self) -> f64 {
        if self.moved <= 0.0 {
            return 0.0;
        }
        let normal = self.samples / self.moved.sqrt();
        if self.moved > EXACT_MAX || self.samples <= 0.0 {
            return normal;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and EXACT_MAX")]
        let (moved, came) =
            (self.moved.round() as u64, (f64::midpoint(self.moved, self.samples).floor().max(1.0)) as u64);
        let tail = Binomial::new(0.5, moved).map(|chance| chance.sf(came - 1));
        let score = tail.ok().zip(Normal::new(0.0, 1.0).ok()).map(|(tail, normal)| -normal.inverse_cdf(tail));
        score.filter(|score| score.is_finite()).unwrap_or(normal)
    }

    /// Bytes per second with the 95 % interval.
    pub fn rate(&self) -> Rate {
        let half_width = Z * (self.variance + (self.class_half_width / Z).powi(2)).sqrt();
        Rate { value: self.bytes_per_s, low: self.bytes_per_s - half_width, high: Some(self.bytes_per_s + half_width) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(bytes_per_s: f64) -> ClassGrowth {
        ClassGrowth { bytes_per_s: Rate::counted(bytes_per_s), bytes_per_sample: 524_288.0, window_s: 60.0 }
    }

    fn sampled(allocs: u64, frees: u64, in_use_first: u64) -> Sampled {
        Sampled { allocs, frees, in_use_first, in_use_last: in_use_first + allocs - frees }
    }

    proptest! {
        #[test]
        fn shares_and_the_unseen_sum_to_the_class(
            counts in prop::collection::vec((0_u64..500, 0_u64..500, 0_u64..500), 0..20),
            expected in -1e6_f64..1e6,
        ) {
            let estimate = |(allocs, frees, in_use_first): (u64, u64, u64)| {
                let site = sampled(allocs, frees.min(allocs + in_use_first), in_use_first);
                Estimate { growth: site.growth(), variance: site.variance() }
            };
            let sites: Vec<Estimate> = counts.into_iter().map(estimate).collect();
            for corrected in [Corrected::of_counts(expected, &sites), Corrected::of(expected, &sites, UNSEEN)] {
                let sum: f64 = corrected.sites.iter().map(|site| site.growth).sum();
                prop_assert!((sum + corrected.unseen - expected).abs() < 1e-6 * expected.abs().max(1.0));
                prop_assert!(corrected.sites.iter().all(|site| site.variance >= 0.0));
            }
        }
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
