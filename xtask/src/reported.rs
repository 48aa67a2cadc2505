//! What leakline's documents say, as far as several commands read it alike.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    /// None: open upwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<f64>,
}

impl Rate {
    /// As in a document; None where it is absent.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let low = value["low"].as_f64()?;
        Some(Self { value: value["value"].as_f64()?, low, high: value["high"].as_f64() })
    }

    /// The sum of two that are independent of each other.
    pub(crate) fn plus(self, other: Self) -> Self {
        let value = self.value + other.value;
        let below = (self.value - self.low).hypot(other.value - other.low);
        let high = self.high.zip(other.high).map(|(one, two)| value + (one - self.value).hypot(two - other.value));
        Self { value, low: value - below, high }
    }

    pub(crate) fn covers(&self, truth: f64) -> bool {
        self.low <= truth && self.high.is_none_or(|high| truth <= high)
    }
}

/// The sites of a document, those of goroutines apart.
pub(crate) fn sites(document: &Value) -> impl Iterator<Item = &Value> {
    document["sites"].as_array().into_iter().flatten()
}

/// Function, file and line of a site; empty and 0 where it has none.
pub(crate) fn place(site: &Value) -> (&str, &str, u64) {
    let text = |name: &str| site[name].as_str().unwrap_or_default();
    (text("function"), text("file"), site["line"].as_u64().unwrap_or_default())
}

/// How long it was watched up to a document, seconds.
pub(crate) fn window_s(document: &Value) -> f64 {
    document["window_s"].as_f64().unwrap_or_default()
}

/// The window of a document, milliseconds since 1970.
pub(crate) fn window(document: &Value) -> (f64, f64) {
    let from = document["started_unix_ms"].as_f64().unwrap_or_default();
    (from, from + window_s(document) * 1000.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rate_open_upwards_covers_whatever_is_above() {
        let rate = Rate::of(&json!({"value": 5.0, "low": 4.0})).unwrap();
        assert!(rate.covers(1e9) && !rate.covers(3.9));
        assert_eq!(Rate::of(&json!({"value": 5.0})), None);
        assert_eq!(Rate::of(&Value::Null), None);
    }

    #[test]
    fn the_sum_of_two_rates_is_as_uncertain_as_both() {
        let one = Rate { value: 10.0, low: 7.0, high: Some(13.0) };
        let other = Rate { value: 20.0, low: 16.0, high: Some(24.0) };
        let sum = one.plus(other);
        assert_eq!(sum, Rate { value: 30.0, low: 25.0, high: Some(35.0) });
        assert_eq!(one.plus(Rate { high: None, ..other }).high, None);
    }
}
