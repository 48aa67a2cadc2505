//! Medians and their intervals for paired measurements. Pure: no clock, no random source but a fixed seed, so the same
//! numbers always give the same table.

use serde::{Deserialize, Serialize};

/// Resamples of one bootstrap: the ends of a 95 % interval then rest on 250 values each.
const RESAMPLES: usize = 10_000;
/// Standard errors to each side of a 95 % interval of a normal distribution.
const Z_95: f64 = 1.96;
const SEED: u64 = 0x6c65_616b_6c69_6e65;

/// A median, or what is made of medians or of a sum, and its 95 % bootstrap interval (percentile method). With fewer than six values the interval is
/// nearly their whole range, which is what so few values can support.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// How many values it rests on.
    pub(crate) values: usize,
}

impl Estimate {
    /// None for no values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut random = SplitMix64(SEED);
        Self::bootstrap(median(&mut values.to_vec())?, values.len(), || resampled_median(values, &mut random))
    }

    /// The median of `numerators` over that of `denominators`, which were measured apart: both are resampled, each by
    /// itself. None where either has no values, or the denominators are not clearly above 0.
    pub(crate) fn of_ratio(numerators: &[f64], denominators: &[f64]) -> Option<Self> {
        let mut random = SplitMix64(SEED);
        let below = Self::of(denominators).filter(|estimate| estimate.low > 0.0)?.median;
        Self::bootstrap(median(&mut numerators.to_vec())? / below, numerators.len().min(denominators.len()), || {
            Some(resampled_median(numerators, &mut random)? / resampled_median(denominators, &mut random)?)
        })
    }

    /// The slope of a line through medians of values that were measured at some places each, by least squares, weighted by how sure each median is. The
    /// values of each place are resampled. None where fewer than two places have values, or all are one.
    pub(crate) fn of_slope(places: &[(f64, Vec<f64>)]) -> Option<Self> {
        let places: Vec<&(f64, Vec<f64>)> = places.iter().filter(|(_, values)| !values.is_empty()).collect();
        let variances = places.iter().map(|(_, values)| {
            let estimate = Self::of(values)?;
            Some(((estimate.high - estimate.low) / (2.0 * Z_95)).powi(2))
        });
        let variances = variances.collect::<Option<Vec<_>>>()?;
        // Of few values that happen to agree, the interval is too narrow: none counts as much surer than the others are.
        let floor = median(&mut variances.clone())? / 10.0;
        let weights: Vec<f64> =
            variances.iter().map(|variance| if floor > 0.0 { 1.0 / variance.max(floor) } else { 1.0 }).collect();
        let line = |medians: &[f64]| {
            let points = || places.iter().map(|(at, _)| *at).zip(medians).zip(&weights);
            let sum = |value: fn(f64, f64) -> f64| points().map(|((x, y), weight)| weight * value(x, *y)).sum::<f64>();
            let (all, x, y) = (sum(|_, _| 1.0), sum(|x, _| x), sum(|_, y| y));
            let spread = sum(|x, _| x * x) - x * x / all;
            (spread > 1e-12 * all).then(|| (sum(|x, y| x * y) - x * y / all) / spread)
        };
        let medians = places.iter().map(|(_, values)| median(&mut values.clone())).collect::<Option<Vec<_>>>()?;
        let mut random = SplitMix64(SEED);
        Self::bootstrap(line(&medians)?, places.iter().map(|(_, values)| values.len()).sum(), || {
            let medians = places.iter().map(|(_, values)| resampled_median(values, &mut random));
            line(&medians.collect::<Option<Vec<_>>>()?)
        })
    }

    /// The share that `parts` add to what a whole would be without them; `whole` is with them. The parts are resampled. None for no parts, or no whole.
    pub(crate) fn of_added(parts: &[f64], whole: f64) -> Option<Self> {
        let share = |sum: f64| (whole > sum).then(|| sum / (whole - sum));
        if parts.is_empty() {
            return None;
        }
        let mut random = SplitMix64(SEED);
        Self::bootstrap(share(parts.iter().sum())?, parts.len(), || {
            share((0..parts.len()).map(|_| parts[random.below(parts.len())]).sum())
        })
    }

    fn bootstrap(median: f64, values: usize, mut resample: impl FnMut() -> Option<f64>) -> Option<Self> {
        let mut resamples = (0..RESAMPLES).map(|_| resample()).collect::<Option<Vec<_>>>()?;
        resamples.sort_by(f64::total_cmp);
        Some(Self { median, low: resamples[RESAMPLES / 40], high: resamples[RESAMPLES - 1 - RESAMPLES / 40], values })
    }
}

/// The median of as many values drawn with replacement. None for no values.
fn resampled_median(values: &[f64], random: &mut SplitMix64) -> Option<f64> {
    median(&mut (0..values.len()).map(|_| values[random.below(values.len())]).collect::<Vec<_>>())
}

/// Sorts the values. None for no values.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values {
        [] => None,
        _ if values.len() % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Steele, Lea and Flood's generator: enough for resampling, and the same on every machine.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; the bias of the remainder is below 2^-50 for the bounds that occur here.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_values_give_no_estimate() {
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!(Estimate::of_added(&[], 1.0), None);
        assert_eq!(Estimate::of_added(&[1.0], 0.0), None);
    }

    #[test]
    fn what_is_added_is_a_share_of_what_would_be_without() {
        let added = Estimate::of_added(&[1.0, 3.0, 1.0, 3.0], 108.0).unwrap();
        assert!((added.median - 0.08).abs() < 1e-12);
        assert!(added.low < 0.07 && added.high > 0.09 && added.low > 0.03 && added.high < 0.13, "{added:?}");
    }

    #[test]
    fn a_ratio_of_medians_has_the_spread_of_both() {
        let ratio = Estimate::of_ratio(&[300.0, 310.0, 290.0, 305.0, 295.0], &[600.0, 610.0, 590.0]).unwrap();
        assert!((ratio.median - 0.5).abs() < 1e-9);
        assert!(ratio.low >= 290.0 / 610.0 && ratio.high <= 310.0 / 590.0, "{ratio:?}");
        assert!(ratio.low < 0.5 && 0.5 < ratio.high);
        assert_eq!(ratio.values, 3);
    }

    #[test]
    fn nothing_is_compared_with_what_may_be_nothing() {
        assert_eq!(Estimate::of_ratio(&[1.0], &[]), None);
        assert_eq!(Estimate::of_ratio(&[], &[1.0]), None);
        assert_eq!(Estimate::of_ratio(&[1.0, 1.0], &[-0.1, 0.2]), None);
    }

    #[test]
    fn a_slope_is_that_of_the_line_and_the_unsure_place_weighs_little() {
        let around = |centre: f64, spread: f64| [-1.0, -0.5, 0.0, 0.5, 1.0].map(|part| centre + part * spread).to_vec();
        // y = 3 + 2x, but at 10 nobody knows.
        let places = [(1.0, around(5.0, 0.1)), (2.0, around(7.0, 0.1)), (10.0, around(40.0, 30.0))];
        let slope = Estimate::of_slope(&places).unwrap();
        assert!((slope.median - 2.0).abs() < 0.2, "{slope:?}");
        assert!(slope.low < 2.0 && 2.0 < slope.high, "{slope:?}");
        assert_eq!(slope.values, 15);
    }

    #[test]
    fn one_place_has_no_slope() {
        assert_eq!(Estimate::of_slope(&[(1.0, vec![2.0, 3.0])]), None);
        assert_eq!(Estimate::of_slope(&[(1.0, vec![2.0, 3.0]), (2.0, Vec::new())]), None);
        assert_eq!(Estimate::of_slope(&[(1.0, vec![2.0]), (1.0, vec![3.0])]), None);
        assert_eq!(Estimate::of_slope(&[]), None);
    }

    #[test]
    fn values_that_agree_exactly_still_have_a_slope() {
        let slope = Estimate::of_slope(&[(2.0, vec![4.0; 3]), (5.0, vec![10.0; 3])]).unwrap();
        assert!((slope.median - 2.0).abs() < 1e-9);
    }

    #[test]
    fn median_lies_within_its_interval_and_interval_within_the_values() {
        let values = [31.0, 29.5, 30.2, 33.0, 30.1, 28.0];
        let estimate = Estimate::of(&values).unwrap();
        assert!((estimate.median - 30.15).abs() < 1e-9);
        assert!(estimate.low <= estimate.median && estimate.median <= estimate.high);
        assert!(estimate.low >= 28.0 && estimate.high <= 33.0);
    }

    #[test]
    fn one_outlier_of_nine_moves_neither_median_nor_most_of_the_interval() {
        let values = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 50.0];
        let estimate = Estimate::of(&values).unwrap();
        assert!((estimate.median - 1.0).abs() < 1e-9);
        assert!(estimate.high < 2.0);
    }

    /// 95 % intervals of the median of 11 values cover the truth in at least 88 % of 400 simulated runs (the percentile
    /// bootstrap is known to be a little short for small samples).
    #[test]
    fn intervals_cover_the_simulated_truth() {
        let mut random = SplitMix64(7);
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let mut uniform = move || (random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let covered = (0..400)
            .filter(|_| {
                let values: Vec<f64> = (0..11).map(|_| uniform()).collect();
                let estimate = Estimate::of(&values).unwrap();
                estimate.low <= 0.5 && 0.5 <= estimate.high
            })
            .count();
        assert!(covered >= 352, "covered {covered} of 400");
    }
}
