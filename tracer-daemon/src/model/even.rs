//! Parts of time in which few births of a class were caught count for less, where else few births would stand for most.
//!
//! Births of one size class are chosen with other probabilities once the class is known to grow (`preferences.rs`). A birth from before stands for dozens of later ones, and what becomes of that
//! one object would decide who is said to leak. How much a class allocates is known from the books; births say only how that is divided among lines and how long objects live. So a part of
//! time (a slice, within which births of a class are chosen alike) may count for less than its share of the time: the variance falls by as much, and the estimate is wrong only as far as the class was used
//! otherwise then. Within a slice nothing is changed, so what stands for fast and slow phases does so as before. After D. J. Potter, A study of procedures to identify and trim extreme sampling
//! weights (1990), with whole slices in place of single births.

use std::collections::BTreeMap;

use super::birth_look::CellSum;

/// The effective number of births (Kish 1965) of a class is to be at least this part of what it would be if each slice counted by what it knows.
const EVEN: f64 = 0.7;

/// A size class, bytes of a slot, and the number of a slice.
pub(super) type ClassSlice = (u64, u32);

/// By what the weights of births are to be multiplied. Those that are missing stay as they are; all of a class together stand for as many as before.
pub(super) fn factors<'a>(sums: impl Iterator<Item = (ClassSlice, &'a CellSum)>) -> BTreeMap<ClassSlice, f64> {
    let mut all: BTreeMap<u64, BTreeMap<u32, CellSum>> = BTreeMap::new();
    for ((size_bytes, slice), sum) in sums.filter(|(_, sum)| sum.is_sane()) {
        all.entry(size_bytes).or_default().entry(slice).or_default().add_all(sum);
    }
    let mut factors = BTreeMap::new();
    for (size_bytes, slices) in all {
        let Some(limit) = limit(&slices) else { continue };
        let before: f64 = slices.values().map(|sum| sum.weight).sum();
        let after: f64 = slices.values().map(|sum| sum.weight * factor(sum, limit)).sum();
        factors.extend(slices.iter().map(|(slice, sum)| ((size_bytes, *slice), factor(sum, limit) * before / after)));
    }
    factors
}

/// What a birth stands for: the mean, by what each stands for.
fn each(sum: &CellSum) -> f64 {
    sum.squares / sum.weight
}

fn factor(sum: &CellSum, limit: f64) -> f64 {
    (limit / each(sum)).min(1.0)
}

/// The largest of what a birth may stand for with which a class is even enough. `None`: it is as it is.
fn limit(slices: &BTreeMap<u32, CellSum>) -> Option<f64> {
    let best: f64 = slices.values().map(|sum| sum.weight * sum.weight / sum.squares).sum();
    let is_even = |limit: f64| {
        let (weight, squares) = slices.values().fold((0.0, 0.0), |(weight, squares), sum| {
            let factor = factor(sum, limit);
            (weight + sum.weight * factor, squares + sum.squares * factor * factor)
        });
        weight * weight >= EVEN * squares * best
    };
    let mut most = slices.values().map(each).fold(0.0, f64::max);
    let mut least = slices.values().map(each).fold(f64::INFINITY, f64::min);
    if is_even(most) {
        return None;
    }
    for _ in 0..30 {
        let middle = (least * most).sqrt();
        *(if is_even(middle) { &mut least } else { &mut most }) = middle;
    }
    Some(least)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::units::approximate;

    fn sum(number: u64, each: f64) -> CellSum {
        let weight = each * approximate(number);
        CellSum { number, weight, squares: each * weight }
    }

    /// The effective number, and what all stand for, with and without factors.
    fn of_all(sums: &[(ClassSlice, CellSum)], factors: &BTreeMap<ClassSlice, f64>) -> (f64, f64) {
        let factor = |key| factors.get(key).copied().unwrap_or(1.0);
        let weight: f64 = sums.iter().map(|(key, sum)| sum.weight * factor(key)).sum();
        let squares: f64 = sums.iter().map(|(key, sum)| sum.squares * factor(key).powi(2)).sum();
        (weight * weight / squares, weight)
    }

    fn factors_of(sums: &[(ClassSlice, CellSum)]) -> BTreeMap<ClassSlice, f64> {
        factors(sums.iter().map(|(key, sum)| (*key, sum)))
    }

    #[test]
    fn one_birth_from_when_few_were_caught_does_not_decide() {
        let sums = [((448, 0), sum(1, 76.0)), ((448, 1), sum(20, 1.0)), ((448, 1), sum(30, 1.1))];
        let factors = factors_of(&sums);
        let (effective, all) = of_all(&sums, &factors);
        assert!(effective > 0.69 * 51.0, "{effective}");
        assert!((all - 129.0).abs() < 1e-6, "all stand for as many as before");
        assert!(factors[&(448, 0)] * 76.0 < 12.0 * factors[&(448, 1)], "{factors:?}");
    }

    #[test]
    fn what_is_uneven_within_a_slice_and_between_classes_stays() {
        let sums = [((64, 0), sum(2, 500.0)), ((64, 0), sum(1_000, 1.0)), ((128, 1), sum(3, 900.0))];
        assert!(factors_of(&sums).is_empty());
        let even = [((64, 0), sum(20, 3.0)), ((64, 1), sum(20, 1.0))];
        assert!(factors_of(&even).is_empty());
    }

    proptest! {
        #[test]
        fn a_class_is_even_enough_then_and_stands_for_as_many(
            cells in prop::collection::vec((0_u32..5, 1_u64..50, 0.001..1e6_f64), 1..40),
        ) {
            let sums: Vec<(ClassSlice, CellSum)> =
                cells.iter().map(|(slice, number, each)| ((64, *slice), sum(*number, *each))).collect();
            let factors = factors_of(&sums);
            let mut slices: BTreeMap<u32, CellSum> = BTreeMap::new();
            for ((_, slice), sum) in &sums {
                slices.entry(*slice).or_default().add_all(sum);
            }
            let best: f64 = slices.values().map(|sum| sum.weight * sum.weight / sum.squares).sum();
            let ((_, before), (effective, after)) = (of_all(&sums, &BTreeMap::new()), of_all(&sums, &factors));
            prop_assert!(effective >= 0.699 * best, "{effective} of {best}");
            prop_assert!((after / before - 1.0).abs() < 1e-9);
        }
    }
}
