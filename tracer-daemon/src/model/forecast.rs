//! When does memory run out?

use super::Rate;

/// Seconds until `now_bytes` reaches `limit_bytes` at this growth, with the interval that the growth's interval gives: open
/// upwards where it may not grow at all. `None`: it does not grow.
pub fn seconds_to_limit(now_bytes: f64, limit_bytes: f64, growth_bytes_per_s: Rate) -> Option<Rate> {
    let left = (limit_bytes - now_bytes).max(0.0);
    let seconds = |growth: f64| (growth > 0.0).then(|| left / growth).filter(|seconds| seconds.is_finite());
    let value = seconds(growth_bytes_per_s.value)?;
    let low = growth_bytes_per_s.high.map_or(Some(0.0), seconds)?;
    Some(Rate { value, low, high: seconds(growth_bytes_per_s.low) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_change_places_and_no_growth_is_no_end() {
        let growth = Rate { value: 10.0, low: 5.0, high: Some(20.0) };
        assert_eq!(seconds_to_limit(900.0, 1000.0, growth), Some(Rate { value: 10.0, low: 5.0, high: Some(20.0) }));
        let unsure = Rate { low: -1.0, ..growth };
        assert_eq!(seconds_to_limit(900.0, 1000.0, unsure).unwrap().high, None);
        assert_eq!(seconds_to_limit(900.0, 1000.0, Rate { value: -1.0, ..unsure }), None);
        assert!(seconds_to_limit(1100.0, 1000.0, growth).unwrap().value.abs() < 1e-12, "beyond the limit already");
    }
}
