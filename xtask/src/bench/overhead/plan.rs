//! Which rows there are.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::OverheadArgs;
use crate::bench::tracers::{DEFAULT_PER_MILLE, Place, Tracer, Work};

const RATES: [Rate; 5] = [Rate(10_000), Rate(100_000), Rate(1_200_000), Rate(9_600_000), Rate::MAX];
const QUICK_RATES: [Rate; 2] = [Rate(1_200_000), Rate::MAX];
const GO_RELEASES: [&str; 2] = ["1.22.12", "1.27.3"];
const GOROUTINES: [u32; 2] = [1, 2];

/// All rows of a group. Others are put where the kernel need not single-step: what they cost at least.
const TRACERS: [Tracer; 10] = [
    Tracer::Nothing,
    Tracer::Bursts { per_mille: 2 },
    Tracer::Bursts { per_mille: DEFAULT_PER_MILLE },
    Tracer::Bursts { per_mille: 20 },
    Tracer::Bursts { per_mille: 50 },
    Tracer::Bursts { per_mille: 100 },
    Tracer::Bpftrace(Place::Body, Work::Count),
    Tracer::Bpftrace(Place::Body, Work::CountByStack),
    Tracer::Bcc(Place::Body, Work::Count),
    Tracer::Bcc(Place::Body, Work::CountByStack),
];

/// Allocations per second that the target is told to make; 0 is as many as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Rate(u64);

impl Rate {
    const MAX: Self = Self(0);

    /// None: as fast as it can.
    pub(super) fn allocations_per_s(self) -> Option<u64> {
        (self != Self::MAX).then_some(self.0)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::MAX);
        }
        let (number, unit) = match text.strip_suffix('M') {
            Some(number) => (number, 1e6),
            None => text.strip_suffix('k').map_or((text, 1.0), |number| (number, 1e3)),
        };
        let rate = number.parse::<f64>().ok().map(|number| number * unit).filter(|rate| (1.0..=1e9).contains(rate));
        let rate = rate.ok_or_else(|| "not a rate such as 100k, 1.2M or max".to_owned())?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 and 1e9")]
        Ok(Self(rate.round() as u64))
    }
}

impl Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "at most 1e9")]
        let rate = self.0 as f64;
        match self.0 {
            0 => write!(formatter, "max"),
            1..1_000 => write!(formatter, "{rate}"),
            1_000..1_000_000 => write!(formatter, "{}k", rate / 1e3),
            _ => write!(formatter, "{}M", rate / 1e6),
        }
    }
}

/// Rows that share a load.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) go_release: String,
    /// Allocations per second; 0 is as many as it can.
    pub(crate) rate: Rate,
    pub(crate) goroutines: u32,
}

impl Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.goroutines == 1 { "" } else { "s" };
        let unit = if self.rate == Rate::MAX { "" } else { "/s" };
        write!(formatter, "Go {}, {}{unit}, {} goroutine{plural}", self.go_release, self.rate, self.goroutines)
    }
}

/// What is measured at once.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) group: Group,
    pub(super) tracer: Tracer,
}

impl Row {
    /// What it is called in the results.
    pub(super) fn name(&self) -> String {
        format!("{}, {}", self.group, self.tracer.name())
    }
}

/// All that the options ask for, group by group.
pub(super) fn rows(args: &OverheadArgs) -> Vec<Row> {
    let or = |given: &[String], default: &[&str]| -> Vec<String> {
        if given.is_empty() { default.iter().map(|&text| text.to_owned()).collect() } else { given.to_vec() }
    };
    let releases = or(&args.go, if args.quick { &GO_RELEASES[1..] } else { &GO_RELEASES });
    let rates: &[Rate] = match (args.rate.as_slice(), args.quick) {
        ([], true) => &QUICK_RATES,
        ([], false) => &RATES,
        (given, _) => given,
    };
    let goroutines: &[u32] = match (args.goroutines.as_slice(), args.quick) {
        ([], true) => &GOROUTINES[..1],
        ([], false) => &GOROUTINES,
        (given, _) => given,
    };
    let mut rows = Vec::new();
    for go_release in &releases {
        for &rate in rates {
            for &goroutines in goroutines {
                let group = Group { go_release: go_release.clone(), rate, goroutines };
                let wanted = TRACERS.into_iter().filter(|&tracer| wants(args, tracer));
                rows.extend(wanted.map(|tracer| Row { group: group.clone(), tracer }));
            }
        }
    }
    rows
}

fn wants(args: &OverheadArgs, tracer: Tracer) -> bool {
    if args.tool.is_empty() {
        // In a trial not what is too small to be seen, what lies between two others, and a second tool that does what another does.
        return !(args.quick && matches!(tracer, Tracer::Bursts { per_mille: 2 | 50 } | Tracer::Bcc(..)));
    }
    let name = tracer.name();
    args.tool.iter().any(|text| name.contains(text.as_str()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: OverheadArgs,
    }

    fn rows_of(line: &[&str]) -> Vec<String> {
        let line = ["x"].iter().chain(line);
        rows(&Line::try_parse_from(line).unwrap().args).iter().map(Row::name).collect()
    }

    #[test]
    fn rates_are_read_as_they_are_shown() {
        for rate in RATES {
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        assert_eq!("1.2M".parse(), Ok(Rate(1_200_000)));
        for wrong in ["", "k", "-1", "0", "1e30", "nan", "fast"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rows_are_all_or_what_was_asked_for() {
        assert_eq!(rows_of(&[]).len(), 2 * 5 * 2 * TRACERS.len());
        let quick = rows_of(&["--quick"]);
        assert_eq!(quick.len(), 2 * 6, "{quick:?}");
        let one = rows_of(&["--go", "1.25.5", "--rate", "100k", "--goroutines", "2", "--tool", "leakline 1 %"]);
        assert_eq!(one, ["Go 1.25.5, 100k/s, 2 goroutines, leakline 1 % (default)"]);
    }
}
