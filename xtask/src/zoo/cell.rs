//! What was found in one cell of the zoo, and how it is shown.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What leakline could stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(super) enum Evidence {
    /// The program has the runtime's heap profile.
    Sampler,
    /// It has none, and leakline reads its books only.
    None,
    /// It has none, and leakline may probe it in windows.
    Bursts,
    /// It has none, and leakline turns it on.
    Adopted,
}

impl Evidence {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sampler => "sampler",
            Self::None => "none",
            Self::Bursts => "bursts",
            Self::Adopted => "adopted",
        }
    }
}

/// A rate per second with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    pub(super) value: f64,
    pub(super) low: f64,
    /// None: open upwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) high: Option<f64>,
}

impl Rate {
    /// As in a document; None where it is absent.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let low = value["low"].as_f64()?;
        Some(Self { value: value["value"].as_f64()?, low, high: value["high"].as_f64() })
    }

    /// The sum of two that are independent of each other.
    pub(super) fn plus(self, other: Self) -> Self {
        let value = self.value + other.value;
        let below = (self.value - self.low).hypot(other.value - other.low);
        let high = self.high.zip(other.high).map(|(one, two)| value + (one - self.value).hypot(two - other.value));
        Self { value, low: value - below, high }
    }

    pub(super) fn covers(&self, truth: f64) -> bool {
        self.low <= truth && self.high.is_none_or(|high| truth <= high)
    }
}

/// One leak, as it is and as it was reported at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Finding {
    pub(super) leak: String,
    pub(super) unit: String,
    pub(super) truth_per_s: f64,
    pub(super) reported_per_s: Option<Rate>,
    /// Reported over truth, less 1.
    pub(super) error: Option<f64>,
    /// Whether the truth lies in the interval.
    pub(super) covered: Option<bool>,
    pub(super) samples: Option<u64>,
    pub(super) verdict: Option<String>,
    /// Window of the first document that called it growing or leaking.
    pub(super) named_after_s: Option<f64>,
    /// When that was to be expected; None: never in this run.
    pub(super) due_after_s: Option<f64>,
    /// What the first document that said when a name would come said.
    pub(super) name_due_s: Option<f64>,
}

/// One cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Cell {
    /// Of leakline and the zoo; with `+` where files differ from it.
    pub(super) commit: String,
    pub(super) window_s: f64,
    pub(super) collections: u64,
    pub(super) findings: Vec<Finding>,
    pub(super) accused: Vec<String>,
    pub(super) failures: Vec<String>,
    /// CPU time added to the program over its own. None: not reported.
    pub(super) target_ratio: Option<f64>,
    /// leakline's own CPU time over wall time, by the kernel.
    pub(super) self_cpu_ratio: f64,
}

impl Cell {
    pub(super) fn is_right(&self) -> bool {
        self.failures.is_empty()
    }

    /// A row for each finding, and one where there is none.
    pub(super) fn rows(&self, name: &str) -> Vec<String> {
        let cost = format!(
            "{} | {:.2} %",
            self.target_ratio.map_or_else(|| "?".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0)),
            self.self_cpu_ratio * 100.0
        );
        let end = |row: &str| {
            let outcome =
                if self.is_right() { "right".to_owned() } else { format!("WRONG: {}", self.failures.join("; ")) };
            format!("{row} | {} | {cost} | {outcome}", self.accused.len())
        };
        if self.findings.is_empty() {
            return vec![end(&format!("{name} | innocent | | | | |"))];
        }
        self.findings.iter().map(|finding| end(&finding.row(name))).collect()
    }
}

/// Above the rows.
pub(super) const HEADING: &str = "case, Go, evidence | named | true rate/s | reported | error | covered | named after (due) | accused \
     | cost to it | own CPU | outcome";

impl Finding {
    fn row(&self, name: &str) -> String {
        let seconds = |time: Option<f64>| time.map_or_else(|| "never".to_owned(), |time| format!("{time:.0} s"));
        let rate = self.reported_per_s.map_or_else(
            || "none".to_owned(),
            |rate| {
                let high = rate.high.map_or_else(|| "∞".to_owned(), |high| format!("{high:.4e}"));
                format!("{:.4e} ({:.4e} to {high})", rate.value, rate.low)
            },
        );
        format!(
            "{name}: {} | {} | {:.4e} {} | {rate} | {} | {} | {} ({})",
            self.leak,
            self.verdict.as_deref().unwrap_or("no"),
            self.truth_per_s,
            self.unit,
            self.error.map_or_else(|| "?".to_owned(), |error| format!("{:+.1} %", error * 100.0)),
            self.covered.map_or("?", |covered| if covered { "yes" } else { "no" }),
            seconds(self.named_after_s),
            seconds(self.due_after_s),
        )
    }
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
