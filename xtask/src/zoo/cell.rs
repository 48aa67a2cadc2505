//! What was found in one cell of the zoo, and how it is shown.

use serde::{Deserialize, Serialize};

use crate::reported::Rate;

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
