//! `cargo xtask bench shares`: how much each line allocates, as short looks through windows say it, against what the program says, for programs of two
//! shapes.
//!
//! What must come out, for each shape: 95 % of the intervals that are stated cover the truth, as bytes per second, and as shares of all lines that
//! are said (a program on a busy machine is not as fast all the time; that is the same for all its lines). A line of which no interval is stated is
//! `not said`, and counted as that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Compared, Planned, RUNS_MIN, Runs, Seen, TruthArgs, made_now, median, percent, say};
use crate::reported::Rate;
use crate::results::{Recorded, Results};

/// The name of the results.
pub(crate) const RESULTS: &str = "shares";

/// In 5 s the default of 1 % sees a goroutine that allocates as fast as it can in two or three windows, and says no interval.
const MAX_OVERHEAD: &str = "5%";
const COVERAGE_MIN: f64 = 0.95;
/// A budget is a share of what the program has used in a minute: a younger one has used less.
const WARMUP: Duration = Duration::from_secs(62);

/// Options of `cargo xtask bench shares`.
#[derive(Debug, clap::Args)]
pub(crate) struct SharesArgs {
    /// Runs of each shape
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// For how long each is watched
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Only this shape; may be given several times
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    #[command(flatten)]
    truth: TruthArgs,
}

/// What the program does; see there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// Lines of one goroutine, 10 : 1 : 0.1, in three size classes
    Skew,
    /// Goroutines of very different speed, short-lived ones among them, in one size class
    Uneven,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Skew => "skew",
            Self::Uneven => "uneven",
        }
    }
}

/// One line in one run, bytes per second.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    line: String,
    truth: f64,
    /// What was said of it, with an interval. None: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<Rate>,
    /// Objects that were caught.
    samples: u64,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cell {
    commit: String,
    go_release: String,
    shape: Shape,
    max_overhead: String,
    window_s: f64,
    bursts: u64,
    bursts_open_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_ratio: Option<f64>,
    self_cpu_ratio: f64,
    lines: Vec<Found>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

impl Recorded for Cell {
    fn commit(&self) -> &str {
        &self.commit
    }

    fn is_good(&self) -> bool {
        self.failure.is_none()
    }
}

/// Makes the runs, and says what all of this commit say.
pub(crate) fn run(root: &Path, args: &SharesArgs) -> Result<()> {
    let results: Results<Cell> = Results::new(root, RESULTS, "xtask/src/bench/truth")?;
    let planned = args.truth.shard.of(planned(args));
    let runs = Runs::new(root, &args.truth, &planned, MAX_OVERHEAD)?;
    runs.make(&results, &planned, |planned, seen| cell(&runs, planned, seen, &results.commit))?;
    let summary = Summary::of(&made_now(&results)?);
    say(HEADING, &summary.rows(), &summary.sentences(), &summary.problems())
}

fn planned(args: &SharesArgs) -> Vec<Planned> {
    let shapes = if args.shape.is_empty() { vec![Shape::Skew, Shape::Uneven] } else { args.shape.clone() };
    let of = |run: u32, shape: Shape| {
        let release = args.truth.release(run).to_owned();
        Planned {
            name: format!("{}, run {:03}, {release}", shape.name(), run + 1),
            release,
            arguments: ["-shape", shape.name()].map(str::to_owned).to_vec(),
            warmup: WARMUP,
            is_fresh: false,
            seconds: args.seconds,
        }
    };
    let mut planned: Vec<Planned> =
        shapes.iter().flat_map(|shape| (0..args.runs).map(move |run| of(run, *shape))).collect();
    // All looks at one process after each other.
    planned.sort_by(|one, other| (&one.arguments, &one.release).cmp(&(&other.arguments, &other.release)));
    planned
}

fn cell(runs: &Runs<'_>, planned: &Planned, seen: Result<Seen>, commit: &str) -> Cell {
    let is_uneven = planned.arguments.last().is_some_and(|shape| shape == Shape::Uneven.name());
    let cell = Cell {
        commit: commit.to_owned(),
        go_release: planned.release.clone(),
        shape: if is_uneven { Shape::Uneven } else { Shape::Skew },
        max_overhead: runs.max_overhead.clone(),
        window_s: 0.0,
        bursts: 0,
        bursts_open_s: 0.0,
        target_ratio: None,
        self_cpu_ratio: 0.0,
        lines: Vec::new(),
        failure: None,
    };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return Cell { failure: Some(format!("{error:#}")), ..cell },
    };
    let lines = seen.done.lines.iter().map(|(line, done)| {
        let site = runs.site(&seen, line);
        Found {
            line: line.clone(),
            truth: done.bytes / seen.done.seconds,
            said: site.and_then(|site| Rate::of(&site["alloc_bytes_per_s"])),
            samples: site.and_then(|site| site["samples"].as_u64()).unwrap_or_default(),
        }
    });
    let cost = &seen.document["cost"];
    Cell {
        window_s: seen.done.seconds,
        bursts: cost["bursts"].as_u64().unwrap_or_default(),
        bursts_open_s: cost["bursts_open_s"].as_f64().unwrap_or_default(),
        target_ratio: cost["target_ratio"].as_f64(),
        self_cpu_ratio: seen.self_cpu_ratio,
        lines: lines.collect(),
        ..cell
    }
}

/// All runs of one shape.
#[derive(Debug, Default)]
struct OfShape {
    runs: usize,
    failures: Vec<String>,
    budgets: BTreeSet<String>,
    bursts: Vec<f64>,
    costs: Vec<f64>,
    lines: BTreeMap<String, Compared>,
    /// Parts of the sum over all lines that were said, in place of bytes per second.
    shares: BTreeMap<String, Compared>,
}

impl OfShape {
    fn all(&self) -> Compared {
        self.lines.values().fold(Compared::default(), Compared::plus)
    }

    fn all_shares(&self) -> Compared {
        self.shares.values().fold(Compared::default(), Compared::plus)
    }
}

/// What all runs say.
#[derive(Debug)]
pub(crate) struct Summary(BTreeMap<Shape, OfShape>);

impl Summary {
    pub(crate) fn of(cells: &[Cell]) -> Self {
        let mut shapes: BTreeMap<Shape, OfShape> = BTreeMap::new();
        for cell in cells {
            let shape = shapes.entry(cell.shape).or_default();
            shape.runs += 1;
            shape.failures.extend(cell.failure.clone());
            if cell.failure.is_some() {
                continue;
            }
            shape.budgets.insert(cell.max_overhead.clone());
            #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
            shape.bursts.push(cell.bursts as f64);
            shape.costs.extend(cell.target_ratio);
            for found in &cell.lines {
                shape.lines.entry(found.line.clone()).or_default().add(found.truth, found.said);
            }
            // Of lines of which nothing is said it is not known what part they have.
            let lines: Vec<(&Found, Rate)> = cell.lines.iter().filter_map(|found| Some((found, found.said?))).collect();
            let said: f64 = lines.iter().map(|(_, said)| said.value).sum();
            let truth: f64 = lines.iter().map(|(found, _)| found.truth).sum();
            for (found, rate) in lines.iter().filter(|_| lines.len() > 1) {
                let part =
                    Rate { value: rate.value / said, low: rate.low / said, high: rate.high.map(|high| high / said) };
                shape.shares.entry(found.line.clone()).or_default().add(found.truth / truth, Some(part));
            }
        }
        Self(shapes)
    }

    /// Rows of a table.
    pub(crate) fn rows(&self) -> Vec<[String; 9]> {
        let (mut rows, none) = (Vec::new(), Compared::default());
        for (shape, of_shape) in &self.0 {
            let truth: f64 = of_shape.lines.values().filter_map(Compared::median_truth).sum();
            for (line, compared) in &of_shape.lines {
                let width =
                    compared.pairs.iter().filter_map(|(truth, said)| Some((said.high? - said.low) / 2.0 / truth));
                let shares = of_shape.shares.get(line).unwrap_or(&none);
                rows.push([
                    shape.name().to_owned(),
                    line.clone(),
                    percent(compared.median_truth().map(|of_line| of_line / truth)),
                    format!("{} of {}", compared.pairs.len(), compared.runs()),
                    percent(median(compared.errors())),
                    percent(median(width)),
                    covered(compared),
                    points(median(shares.pairs.iter().map(|(truth, said)| said.value - truth))),
                    covered(shares),
                ]);
            }
        }
        rows
    }

    /// A sentence for each shape, on what is asked.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let sentence = |(shape, of_shape): (&Shape, &OfShape)| {
            let all = of_shape.all();
            let budgets: Vec<&str> = of_shape.budgets.iter().map(String::as_str).collect();
            format!(
                "{}: {} runs, {} failed, --max-overhead {}, in the middle {:.0} windows a run and a cost of {} by leakline's account; {} of {} intervals cover \
                 the truth ({}), as shares of all lines {}; {} of {} numbers not said",
                shape.name(),
                of_shape.runs,
                of_shape.failures.len(),
                budgets.join(", "),
                median(of_shape.bursts.iter().copied()).unwrap_or_default(),
                median(of_shape.costs.iter().copied())
                    .map_or_else(|| "?".to_owned(), |cost| format!("{:.2} %", cost * 100.0)),
                all.covered(),
                all.pairs.len(),
                percent(all.coverage()),
                covered(&of_shape.all_shares()),
                all.unsaid,
                all.runs(),
            )
        };
        self.0.iter().map(sentence).collect()
    }

    /// What is not as it must be.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (shape, of_shape) in &self.0 {
            let shape = shape.name();
            problems.extend(of_shape.failures.iter().map(|failure| format!("{shape}: {failure}")));
            for (what, compared) in [("bytes per second", of_shape.all()), ("shares", of_shape.all_shares())] {
                let coverage = compared.coverage();
                if of_shape.runs >= RUNS_MIN && coverage.is_none_or(|share| share < COVERAGE_MIN) {
                    problems.push(format!("{shape}: {} of the intervals of {what} cover the truth", percent(coverage)));
                }
            }
        }
        problems
    }
}

/// Above the rows.
pub(crate) const HEADING: [&str; 9] = [
    "shape",
    "line",
    "true share",
    "said",
    "median error",
    "half the interval",
    "intervals that cover",
    "share: median said less true",
    "share: intervals that cover",
];

fn covered(compared: &Compared) -> String {
    format!("{} of {} ({})", compared.covered(), compared.pairs.len(), percent(compared.coverage()))
}

/// In percentage points, with its sign.
fn points(share: Option<f64>) -> String {
    share.map_or_else(|| "?".to_owned(), |share| format!("{:+.2} points", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(shape: Shape, said: Option<f64>) -> Cell {
        let found = |line: &str, truth: f64, said: Option<f64>| Found {
            line: line.to_owned(),
            truth,
            said: said.map(|value| Rate { value, low: value * 0.9, high: Some(value * 1.1) }),
            samples: 100,
        };
        Cell {
            commit: "c".to_owned(),
            go_release: "1.27.3".to_owned(),
            shape,
            max_overhead: "1%".to_owned(),
            window_s: 5.0,
            bursts: 20,
            bursts_open_s: 0.05,
            target_ratio: Some(0.009),
            self_cpu_ratio: 0.02,
            lines: vec![found("ten", 1000.0, Some(1000.0)), found("one", 100.0, said)],
            failure: None,
        }
    }

    #[test]
    fn what_is_not_said_is_told_and_no_interval() {
        let cells: Vec<Cell> = (0..6).map(|number| run(Shape::Skew, (number > 1).then_some(105.0))).collect();
        let summary = Summary::of(&cells);
        assert!(summary.problems().is_empty(), "{:?}", summary.problems());
        assert!(summary.sentences()[0].contains("10 of 10 intervals"), "{:?}", summary.sentences());
        assert!(summary.sentences()[0].contains("2 of 12 numbers not said"), "{:?}", summary.sentences());
    }

    #[test]
    fn shapes_are_judged_apart() {
        let mut cells: Vec<Cell> = (0..6).map(|_| run(Shape::Skew, Some(100.0))).collect();
        cells.extend((0..6).map(|_| run(Shape::Uneven, Some(500.0))));
        let summary = Summary::of(&cells);
        let problems = summary.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert_eq!(problems[0], "uneven: 50.0 % of the intervals of bytes per second cover the truth");
        assert_eq!(summary.rows().len(), 4);
    }
}
