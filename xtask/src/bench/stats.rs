//! Medians and their intervals for paired measurements. Pure: no clock, no random source but a fixed seed, so the same
//! numbers always give the same table.

use serde::Serialize;

/// Resamples of one bootstrap: the ends of a 95 % interval then rest on 250 values each.
const RESAMPLES: usize = 10_000;

/// A median and its 95 % bootstrap interval (percentile method). With fewer than six values the interval is
/// nearly their whole range, which is what so few values can support.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
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
        if values.is_empty() {
            return None;
        }
        let mut random = SplitMix64(0x6c65_616b_6c69_6e65);
        let mut resample = vec![0.0; values.len()];
        let mut medians: Vec<f64> = (0..RESAMPLES)
            .map(|_| {
                for slot in &mut resample {
                    *slot = values[random.below(values.len())];
                }
                median(&mut resample)
            })
            .collect();
        medians.sort_by(f64::total_cmp);
        Some(Self {
            median: median(&mut values.to_vec()),
            low: medians[RESAMPLES / 40],
            high: medians[RESAMPLES - 1 - RESAMPLES / 40],
            values: values.len(),
        })
    }
}

/// Median of at least one value; sorts them.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
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
