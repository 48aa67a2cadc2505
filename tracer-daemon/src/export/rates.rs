//! Rates of several processes as one: sums with intervals, of estimates that know nothing of each other.

use crate::model::Rate;

/// The sum of independent estimates. Half widths add as their squares do, each side by itself; open upwards where one of
/// them is. `None`: there is none.
pub(super) fn sum(rates: impl IntoIterator<Item = Rate>) -> Option<Rate> {
    let mut rates = rates.into_iter();
    // One alone keeps its bounds to the last digit.
    let first = rates.next()?;
    let Some(second) = rates.next() else { return Some(first) };
    let (mut value, mut below, mut above) = (0.0, 0.0, Some(0.0));
    for rate in [first, second].into_iter().chain(rates) {
        value += rate.value;
        below += (rate.value - rate.low).powi(2);
        above = above.zip(rate.high).map(|(above, high)| above + (high - rate.value).powi(2));
    }
    Some(Rate { value, low: value - below.sqrt(), high: above.map(|above: f64| value + above.sqrt()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_widths_add_as_their_squares_on_each_side() {
        let one = Rate { value: 100.0, low: 97.0, high: Some(106.0) };
        let other = Rate { value: 50.0, low: 46.0, high: Some(58.0) };
        assert_eq!(sum([one, other]), Some(Rate { value: 150.0, low: 145.0, high: Some(160.0) }));
        assert_eq!(sum([one]), Some(one));
        assert_eq!(sum([]), None);
    }

    #[test]
    fn what_is_open_upwards_stays_so() {
        let open = Rate { value: 10.0, low: 4.0, high: None };
        let closed = Rate { value: 1.0, low: -7.0, high: Some(2.0) };
        assert_eq!(sum([closed, open]), Some(Rate { value: 11.0, low: 1.0, high: None }));
    }
}
