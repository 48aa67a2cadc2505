//! `cargo xtask bench survival`: which part of what a line allocates stays, as windows and mark bits say it, against what the program says, at
//! several paces of collections.
//!
//! What must come out, for each pace: the median error over all lines that keep something at most 5 %, at least 90 % of the intervals of all lines
//! cover the truth, and at most 2 % of the collections were missed. What was not said is counted apart.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Compared, Planned, RUNS_MIN, Runs, Seen, TruthArgs, made_now, median, percent, say};
use crate::reported::Rate;
use crate::results::{Recorded, Results};

/// The name of the results.
pub(crate) const RESULTS: &str = "survival";

/// The default of leakline.
const MAX_OVERHEAD: &str = "1%";
const MEDIAN_ERROR_MAX: f64 = 0.05;
const COVERAGE_MIN: f64 = 0.90;
const MISSED_MAX: f64 = 0.02;
/// The part of the collections asked for that a machine must manage: what is slower is another pace.
const PACE_MIN: f64 = 0.8;
/// It has collected some times before.
const WARMUP: Duration = Duration::from_secs(3);

/// Options of `cargo xtask bench survival`.
#[derive(Debug, clap::Args)]
pub(crate) struct SurvivalArgs {
    /// Runs at each pace
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// For how long each is watched
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(5..=3600))]
    seconds: u64,
    /// Collections per second
    #[arg(long, value_delimiter = ',', default_values_t = [0.5, 20.0, 100.0])]
    pace: Vec<f64>,
    #[command(flatten)]
    truth: TruthArgs,
}

/// One line in one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    line: String,
    /// The part that stays.
    truth: f64,
    /// What was said of it. None: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    survival: Option<Rate>,
    /// What stays, bytes per second.
    growth_truth: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth: Option<Rate>,
    /// Objects that were caught, or of those that stay where growth is said.
    samples: u64,
}

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cell {
    commit: String,
    go_release: String,
    /// Collections per second that were asked for.
    pace: f64,
    max_overhead: String,
    window_s: f64,
    /// Collections that ended in that time, by the program.
    collections: f64,
    /// Of which leakline has missed so many.
    missed: f64,
    bursts: u64,
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
pub(crate) fn run(root: &Path, args: &SurvivalArgs) -> Result<()> {
    ensure!(args.pace.iter().all(|pace| (0.01..=1000.0).contains(pace)), "a pace is out of its bounds");
    let results: Results<Cell> = Results::new(root, RESULTS, "xtask/src/bench/truth")?;
    let planned = args.truth.shard.of(planned(args));
    let runs = Runs::new(root, &args.truth, &planned, MAX_OVERHEAD)?;
    runs.make(&results, &planned, |planned, seen| cell(&runs, planned, seen, &results.commit))?;
    let summary = Summary::of(&made_now(&results)?);
    say(HEADING, &summary.rows(), &summary.sentences(), &summary.problems())
}

/// The paces in turn, so that whatever the machine does in a while hits all of them.
fn planned(args: &SurvivalArgs) -> Vec<Planned> {
    let of = |run: u32, pace: f64| {
        let release = args.truth.release(run).to_owned();
        Planned {
            name: format!("{pace} GC/s, run {:03}, {release}", run + 1),
            release,
            arguments: ["-shape", "survival", "-collections", &pace.to_string()].map(str::to_owned).to_vec(),
            warmup: WARMUP,
            is_fresh: true,
            seconds: args.seconds,
        }
    };
    (0..args.runs).flat_map(|run| args.pace.iter().map(move |pace| of(run, *pace))).collect()
}

fn cell(runs: &Runs<'_>, planned: &Planned, seen: Result<Seen>, commit: &str) -> Cell {
    let pace = planned.arguments.last().and_then(|pace| pace.parse().ok()).unwrap_or_default();
    let max_overhead = runs.max_overhead.clone();
    let cell =
        Cell { commit: commit.to_owned(), go_release: planned.release.clone(), pace, max_overhead, ..Cell::default() };
    let seen = match seen {
        Ok(seen) => seen,
        Err(error) => return Cell { failure: Some(format!("{error:#}")), ..cell },
    };
    let lines = seen.done.lines.iter().map(|(line, done)| {
        let site = runs.site(&seen, line);
        let said = |name: &str| site.and_then(|site| Rate::of(&site[name]));
        let truth = done.kept / done.objects;
        Found {
            line: line.clone(),
            truth,
            survival: said("survival"),
            growth_truth: done.bytes * truth / seen.done.seconds,
            growth: said("growth_bytes_per_s"),
            samples: site.and_then(|site| site["samples"].as_u64()).unwrap_or_default(),
        }
    });
    let cost = &seen.document["cost"];
    Cell {
        window_s: seen.done.seconds,
        collections: seen.done.collections.round(),
        missed: seen.document["loss"]["collections_missed"].as_f64().unwrap_or_default(),
        bursts: cost["bursts"].as_u64().unwrap_or_default(),
        target_ratio: cost["target_ratio"].as_f64(),
        self_cpu_ratio: seen.self_cpu_ratio,
        lines: lines.collect(),
        ..cell
    }
}

/// All runs at one pace.
#[derive(Debug, Default)]
struct AtPace {
    pace: f64,
    runs: usize,
    failures: Vec<String>,
    seconds: f64,
    collections: f64,
    missed: f64,
    /// By the name of the line.
    survival: BTreeMap<String, Compared>,
    growth: BTreeMap<String, Compared>,
}

impl AtPace {
    /// Lines that keep something.
    fn leaking(&self) -> Compared {
        self.lines(|truth| truth > 0.0)
    }

    /// Lines that keep something and lose something: of one that keeps all the estimate is right however few were caught.
    fn parts(&self) -> Compared {
        self.lines(|truth| truth > 0.0 && truth < 1.0)
    }

    fn lines(&self, of_truth: impl Fn(f64) -> bool) -> Compared {
        let is_wanted = |compared: &&Compared| compared.median_truth().is_some_and(&of_truth);
        self.survival.values().filter(is_wanted).fold(Compared::default(), Compared::plus)
    }

    /// Collections per second that there were.
    fn achieved(&self) -> f64 {
        self.collections / self.seconds.max(f64::MIN_POSITIVE)
    }

    fn all(&self) -> Compared {
        self.survival.values().fold(Compared::default(), Compared::plus)
    }

    fn missed_ratio(&self) -> f64 {
        self.missed / self.collections.max(1.0)
    }

    fn error(&self) -> Option<f64> {
        median(self.leaking().errors())
    }
}

/// What all runs say.
#[derive(Debug)]
pub(crate) struct Summary(Vec<AtPace>);

impl Summary {
    pub(crate) fn of(cells: &[Cell]) -> Self {
        let mut paces: Vec<AtPace> = Vec::new();
        for cell in cells {
            let place = paces.iter().position(|known| known.pace.total_cmp(&cell.pace).is_eq());
            let place = place.unwrap_or_else(|| {
                paces.push(AtPace { pace: cell.pace, ..AtPace::default() });
                paces.len() - 1
            });
            let pace = &mut paces[place];
            pace.runs += 1;
            pace.failures.extend(cell.failure.clone());
            pace.seconds += cell.window_s;
            pace.collections += cell.collections;
            pace.missed += cell.missed;
            for found in &cell.lines {
                pace.survival.entry(found.line.clone()).or_default().add(found.truth, found.survival);
                pace.growth.entry(found.line.clone()).or_default().add(found.growth_truth, found.growth);
            }
        }
        paces.sort_by(|one, other| one.pace.total_cmp(&other.pace));
        Self(paces)
    }

    /// Rows of a table: pace, line, runs in which it was said, truth, median estimate and error, coverage; the same of growth.
    pub(crate) fn rows(&self) -> Vec<[String; 8]> {
        let mut rows = Vec::new();
        for pace in &self.0 {
            let none = Compared::default();
            let lines = pace.survival.iter().map(|(line, survival)| {
                let growth = pace.growth.get(line).unwrap_or(&none);
                row(&pace.pace.to_string(), line, survival, growth)
            });
            rows.extend(lines);
            let growth = pace.growth.values().fold(Compared::default(), Compared::plus);
            let mut all = row(&pace.pace.to_string(), "all that keep something", &pace.leaking(), &growth);
            for unsaid in [3, 4, 7] {
                all[unsaid] = String::new();
            }
            rows.push(all);
        }
        rows
    }

    /// A sentence for each pace, on what is asked.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let sentence = |pace: &AtPace| {
            let all = pace.all();
            format!(
                "{} GC/s ({:.1} achieved): {} runs, {} failed; median error {} of {} numbers of lines that keep something, {} of those that keep a \
                 part; {} of {} intervals of all lines cover the truth ({}), {} not said; {:.0} of {:.0} collections missed ({:.2} %)",
                pace.pace,
                pace.achieved(),
                pace.runs,
                pace.failures.len(),
                percent(pace.error()),
                pace.leaking().pairs.len(),
                percent(median(pace.parts().errors())),
                all.covered(),
                all.pairs.len(),
                percent(all.coverage()),
                all.unsaid,
                pace.missed,
                pace.collections,
                pace.missed_ratio() * 100.0,
            )
        };
        self.0.iter().map(sentence).collect()
    }

    /// What is not as it must be.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for pace in &self.0 {
            let at = pace.pace;
            problems.extend(pace.failures.iter().map(|failure| format!("{at} GC/s: {failure}")));
            if pace.runs < RUNS_MIN {
                continue;
            }
            if pace.error().is_none_or(|error| error > MEDIAN_ERROR_MAX) {
                problems.push(format!("{at} GC/s: the median error is {}", percent(pace.error())));
            }
            let coverage = pace.all().coverage();
            if coverage.is_none_or(|share| share < COVERAGE_MIN) {
                problems.push(format!("{at} GC/s: {} of the intervals cover the truth", percent(coverage)));
            }
            if pace.achieved() < PACE_MIN * at {
                problems.push(format!("{at} GC/s: there were {:.1}: the machine is too busy", pace.achieved()));
            }
            if pace.missed_ratio() > MISSED_MAX {
                problems.push(format!("{at} GC/s: {} of the collections missed", percent(Some(pace.missed_ratio()))));
            }
        }
        problems
    }
}

/// Above the rows.
pub(crate) const HEADING: [&str; 8] = [
    "GC/s",
    "line",
    "said of survival",
    "truth",
    "median estimate",
    "median error",
    "intervals that cover",
    "growth: said, median error, intervals that cover",
];

fn row(pace: &str, line: &str, survival: &Compared, growth: &Compared) -> [String; 8] {
    let covered = |compared: &Compared| format!("{} of {}", compared.covered(), compared.pairs.len());
    [
        pace.to_owned(),
        line.to_owned(),
        format!("{} of {}", survival.pairs.len(), survival.runs()),
        percent(survival.median_truth()),
        percent(survival.median_said()),
        percent(median(survival.errors())),
        covered(survival),
        match median(growth.errors()) {
            Some(error) => format!("{}, {}, {}", growth.pairs.len(), percent(Some(error)), covered(growth)),
            None => "not said".to_owned(),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pace: f64, said: f64, missed: f64) -> Cell {
        let found = |line: &str, truth: f64, said: f64| Found {
            line: line.to_owned(),
            truth,
            survival: Some(Rate { value: said, low: said - 0.01, high: Some(said + 0.01) }),
            growth_truth: truth * 1000.0,
            growth: None,
            samples: 100,
        };
        Cell {
            pace,
            window_s: 40.0,
            collections: 40.0 * pace,
            missed,
            lines: vec![found("tenth", 0.1, said), found("none", 0.0, 0.0)],
            ..Cell::default()
        }
    }

    #[test]
    fn paces_are_judged_apart_and_lines_that_keep_nothing_have_no_error() {
        let mut cells: Vec<Cell> = (0..5).map(|_| run(0.5, 0.103, 0.0)).collect();
        cells.extend((0..5).map(|_| run(20.0, 0.13, 24.0)));
        let summary = Summary::of(&cells);
        let problems = summary.problems();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.starts_with("20 GC/s")), "{problems:?}");
        assert!(
            problems[1].contains("50.0 %"),
            "of ten intervals, those of the line that keeps nothing cover: {problems:?}"
        );
        assert_eq!(summary.rows().len(), 6);
    }

    #[test]
    fn a_run_that_failed_is_said_and_few_claim_nothing() {
        let failed = Cell { failure: Some("it ended".to_owned()), ..run(20.0, 0.1, 0.0) };
        assert_eq!(Summary::of(&[failed]).problems(), ["20 GC/s: it ended"]);
        assert!(Summary::of(&[run(20.0, 0.9, 90.0)]).problems().is_empty());
    }
}
