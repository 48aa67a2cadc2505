//! Weights of sampled births that are more even, where few would stand for most.
//!
//! Births of one size class are chosen with different probabilities at different times: more of them once the class is known to grow (`preferences.rs`), fewer where
//! a window is cheap. A birth from before then stands for dozens of later ones, and what becomes of that one object would decide who is said to leak. The estimate of a share by weights trimmed
//! at a limit has a much smaller variance, and is wrong only as far as the class was used otherwise when births were rare (D. J. Potter, A study of procedures to identify and trim
//! extreme sampling weights, 1990). How much the class allocates in all is known from the books, so nothing is lost of that.

use std::collections::BTreeMap;

use super::births::BirthCell;
use crate::units::approximate;

/// Births of a class whose weights are worth at least this part of as many even ones (Kish 1965) are left as they are; of others the weights are trimmed until they are.
const EVEN: f64 = 0.5;

/// Trims the weights of each of these classes. Others are left alone: their weights say how much they allocate.
pub(super) fn even_out(cells: &mut [BirthCell], is_known: impl Fn(u64) -> bool) {
    let mut classes: BTreeMap<u64, Vec<&mut BirthCell>> = BTreeMap::new();
    for cell in cells.iter_mut().filter(|cell| is_known(cell.size_bytes)) {
        classes.entry(cell.size_bytes).or_default().push(cell);
    }
    for cells in classes.values_mut() {
        let Some(limit) = limit(cells) else { continue };
        for cell in cells {
            let factor = limit / each(cell);
            if factor < 1.0 {
                cell.lives.weight *= factor;
                cell.lives.squares *= factor * factor;
            }
        }
    }
}

/// What a birth of the cell stands for: the mean, by what each stands for.
fn each(cell: &BirthCell) -> f64 {
    cell.lives.squares / cell.lives.weight
}

/// The largest limit of weights with which they are even enough. `None`: they are as they are.
fn limit(cells: &mut [&mut BirthCell]) -> Option<f64> {
    cells.sort_by(|one, other| each(other).total_cmp(&each(one)));
    let number: f64 = cells.iter().map(|cell| approximate(cell.number)).sum();
    // Sums over those that are below the limit, and over those above it as parts of the limit.
    let mut below = cells
        .iter()
        .fold((0.0, 0.0), |(weights, squares), cell| (weights + cell.lives.weight, squares + cell.lives.squares));
    let mut above = (0.0, 0.0);
    let mut last = None;
    for cell in cells.iter() {
        let least = each(cell);
        let is_even = |limit: f64| {
            let (weights, squares) = (below.0 + limit * above.0, below.1 + limit * limit * above.1);
            weights * weights >= EVEN * number * squares
        };
        if is_even(least) {
            return last.map(|most| last_that(least, most, is_even));
        }
        let (weight, squares) = (cell.lives.weight, cell.lives.squares);
        below = (below.0 - weight, below.1 - squares);
        above = (above.0 + weight / least, above.1 + squares / least / least);
        last = Some(least);
    }
    last
}

/// About the largest value of which this is so, where it is of the least and not of the most.
fn last_that(mut least: f64, mut most: f64, is_so: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..20 {
        let middle = f64::midpoint(least, most);
        *(if is_so(middle) { &mut least } else { &mut most }) = middle;
    }
    least
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::survival::Lives;

    fn cell(size_bytes: u64, number: u64, each: f64) -> BirthCell {
        let weight = each * approximate(number);
        let lives = Lives { age_cycles: 1, died: false, weight, squares: each * weight };
        BirthCell { site: None, path: 0, size_bytes, group: 0, cluster: 0, number, lives }
    }

    fn effective(cells: &[BirthCell]) -> f64 {
        let sum = |of: fn(&BirthCell) -> f64| cells.iter().map(of).sum::<f64>();
        sum(|cell| cell.lives.weight).powi(2) / sum(|cell| cell.lives.squares)
    }

    #[test]
    fn one_birth_from_when_few_were_caught_does_not_decide() {
        let mut cells = vec![cell(448, 1, 76.0), cell(448, 20, 1.0), cell(448, 30, 1.1)];
        even_out(&mut cells, |_| true);
        assert!(effective(&cells) >= 0.5 * 51.0 * 0.999, "{}", effective(&cells));
        assert!(cells[0].lives.weight > 1.1 && cells[0].lives.weight < 10.0, "{:?}", cells[0]);
        assert_eq!((cells[1], cells[2]), (cell(448, 20, 1.0), cell(448, 30, 1.1)));
    }

    #[test]
    fn weights_that_are_even_enough_and_classes_of_which_no_more_is_known_are_left_alone() {
        let even = vec![cell(64, 20, 3.0), cell(64, 20, 1.0), cell(128, 5, 900.0)];
        let mut cells = even.clone();
        even_out(&mut cells, |_| true);
        assert_eq!(cells, even, "of another class they may differ as they like");
        let uneven = vec![cell(64, 1, 300.0), cell(64, 20, 1.0)];
        let mut cells = uneven.clone();
        even_out(&mut cells, |size| size != 64);
        assert_eq!(cells, uneven);
    }

    proptest! {
        #[test]
        fn nothing_becomes_heavier_and_what_is_left_is_even(
            births in prop::collection::vec((1_u64..50, 0.01..1e4_f64), 1..40),
        ) {
            let before: Vec<BirthCell> = births.iter().map(|(number, each)| cell(64, *number, *each)).collect();
            let mut cells = before.clone();
            even_out(&mut cells, |_| true);
            let number: f64 = cells.iter().map(|cell| approximate(cell.number)).sum();
            prop_assert!(effective(&cells) >= 0.499 * number);
            for (cell, before) in cells.iter().zip(&before) {
                prop_assert!(cell.lives.weight <= before.lives.weight * 1.000_001 && cell.lives.weight > 0.0);
            }
        }
    }
}
