//! How one budget is divided: each gets what it can use, and no one more than the same level (max-min fairness).

/// The level up to which each of the wants can be met so that their sum stays within what there is. Infinite where all fit.
pub(super) fn level(wants: &[f64], all: f64) -> f64 {
    let mut wants: Vec<f64> = wants.iter().copied().filter(|want| want.is_finite() && *want > 0.0).collect();
    wants.sort_unstable_by(f64::total_cmp);
    let mut left = all.max(0.0);
    let mut those = f64::from(u32::try_from(wants.len()).unwrap_or(u32::MAX));
    for want in wants {
        if want * those > left {
            return left / those;
        }
        left -= want;
        those -= 1.0;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::level;

    #[test]
    fn small_wants_are_met_in_full_and_large_ones_get_the_same() {
        let level = level(&[1.0, 10.0, 10.0, 2.0], 9.0);
        assert!((level - 3.0).abs() < 1e-9, "{level}");
    }

    proptest! {
        #[test]
        fn what_is_given_out_is_no_more_than_there_is(
            wants in prop::collection::vec(0.0..1e9_f64, 0..50),
            all in 0.0..1e9_f64,
        ) {
            let level = level(&wants, all);
            let given: f64 = wants.iter().map(|want| want.min(level)).sum();
            let wanted: f64 = wants.iter().sum();
            prop_assert!(given <= all.max(0.0) * (1.0 + 1e-9) + 1e-6);
            prop_assert!(given >= all.min(wanted) * (1.0 - 1e-9) - 1e-6);
        }
    }
}
