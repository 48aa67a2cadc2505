//! `cargo xtask bench overhead`: whether leakline's windows cost their target what they may, at any rate of allocations.
//!
//! A group is one release of Go, one rate and one number of goroutines; its rows are leakline with some budgets, other tracers, and nothing, which shows the
//! noise. Each row is pairs of windows with and without it in one process (`pairs.rs`). Rows are written to `docs/results/overhead.json` as they are done.
//! No time is asserted: what can be claimed is said at the end (`claims.rs`).

mod cell;
mod claims;
mod plan;

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use self::cell::Numbers;
use self::plan::{Rate, Row};
use super::{
    pairs::{self, Pace, WARM_REPORTS},
    target::{Load, TargetBinary},
    tracers::{Tools, Tracer},
};
use crate::results::Results;

pub(crate) use self::cell::Cell;
pub(crate) use self::claims::text as claims;
pub(crate) use self::plan::Group;

/// The name of the results.
pub(crate) const RESULTS: &str = "overhead";

/// Memory of the target that stays alive, MiB: so a collection comes every tens of MiB, as in programs of that size.
const LIVE_MIB: u32 = 64;
/// Reports of the target within a second.
const REPORTS_PER_S: u32 = 4;
/// Reports that are thrown away after leakline has come. Its purse is full at first and then becomes half full, by a factor e in 3.6 s, whatever the budget: of
/// what it costs too much at first a tenth is left after 8 s, which adds 4 % to the cost of a window of 10 s.
const LEAKLINE_SETTLE_REPORTS: u32 = 32;
/// How old a target is before leakline comes for the first time: its budget is of what the target used in a minute, and a younger one has used less.
const LEAKLINE_WARM_REPORTS: u32 = 60 * REPORTS_PER_S;
/// The same after others, and half of their windows: they cost so much that it shows at once.
const OTHERS_SETTLE_REPORTS: u32 = 2;
const OTHERS_HALF_REPORTS: u32 = 5;

/// Options of `cargo xtask bench overhead`.
#[derive(Debug, clap::Args)]
pub(crate) struct OverheadArgs {
    /// A trial run, not a measurement: two rates, one release, one goroutine, three short pairs; nothing is written down
    #[arg(long)]
    quick: bool,
    /// Allocations per second of the target, or `max`; may be given several times [default: 10k, 100k, 1.2M, 9.6M, max]
    #[arg(long, value_name = "RATE")]
    rate: Vec<Rate>,
    /// Go releases to build the target with; may be given several times [default: 1.22.12, 1.27.3]
    #[arg(long, value_name = "RELEASE")]
    go: Vec<String>,
    /// Goroutines that allocate; may be given several times [default: 1, 2]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=64))]
    goroutines: Vec<u32>,
    /// Pairs of windows per row; intervals need at least 5 [default: 8]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: Option<u32>,
    /// Seconds of a window; those of other tracers are 2.5 s [default: 10]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,
    /// Only rows whose name contains this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    tool: Vec<String>,
    /// Leave out rows that were measured on this commit
    #[arg(long)]
    resume: bool,
}

impl OverheadArgs {
    fn pace(&self, tracer: Tracer) -> Pace {
        let pairs = self.pairs.unwrap_or(if self.quick { 3 } else { 8 });
        let seconds = self.seconds.unwrap_or(if self.quick { 4 } else { 10 });
        let part = if self.quick { 2 } else { 1 };
        let half_reports = seconds * REPORTS_PER_S / 2;
        match tracer {
            Tracer::Bursts { .. } => Pace {
                pairs,
                warm_reports: LEAKLINE_WARM_REPORTS / (part * part),
                half_reports,
                settle_reports: LEAKLINE_SETTLE_REPORTS / part,
            },
            // As long as the rows whose noise it shows.
            Tracer::Nothing => {
                Pace { pairs, warm_reports: WARM_REPORTS, half_reports, settle_reports: LEAKLINE_SETTLE_REPORTS / part }
            }
            _ => Pace {
                pairs,
                warm_reports: WARM_REPORTS,
                half_reports: OTHERS_HALF_REPORTS,
                settle_reports: OTHERS_SETTLE_REPORTS,
            },
        }
    }
}

/// Measures all rows, prints them as they come, and says what can be claimed.
pub(crate) fn run(root: &Path, args: &OverheadArgs) -> Result<()> {
    let rows = plan::rows(args);
    let results: Results<Cell> = Results::new(root, RESULTS, "xtask/src/bench")?;
    let directory = root.join("target/bench");
    std::fs::create_dir_all(&directory)?;
    let measures_leakline = rows.iter().any(|row| matches!(row.tracer, Tracer::Bursts { .. }));
    let leakline = measures_leakline.then(|| crate::build_leakline(root)).transpose()?;
    let tools = Tools::find(&directory, leakline)?;
    let mut out = io::stdout().lock();
    let mut binary: Option<(String, TargetBinary)> = None;
    let mut group: Option<Group> = None;
    let mut cells: Vec<Cell> = Vec::new();
    for row in &rows {
        if group.as_ref() != Some(&row.group) {
            writeln!(out, "\n{}\n\n{}", row.group, cell::HEADING)?;
            group = Some(row.group.clone());
        }
        if args.resume && results.is_done(&row.name())? {
            let cell = results.read()?.remove(&row.name()).context("a row that was there is gone")?;
            writeln!(out, "{cell}")?;
            cells.push(cell);
            continue;
        }
        if binary.as_ref().is_none_or(|(release, _)| *release != row.group.go_release) {
            let release = &row.group.go_release;
            binary = Some((release.clone(), TargetBinary::build(root, &directory, release)?));
        }
        let (_, built) = binary.as_ref().context("the target was not built")?;
        let outcome = match tools.refusal(row.tracer) {
            Some(reason) => Err(format!("skipped: {reason}")),
            None => measure(&tools, built, row, args).map_err(|error| format!("failed: {error:#}")),
        };
        let cell = Cell::new(&results.commit, row, outcome);
        writeln!(out, "{cell}")?;
        if !args.quick {
            results.put(&row.name(), cell.clone())?;
        }
        cells.push(cell);
    }
    writeln!(out, "\n{}", claims(&cells))?;
    let failed = cells.iter().filter(|cell| cell.skipped.as_ref().is_some_and(|why| why.starts_with("failed"))).count();
    ensure!(failed == 0, "{failed} rows failed");
    Ok(())
}

fn measure(tools: &Tools, binary: &TargetBinary, row: &Row, args: &OverheadArgs) -> Result<Numbers> {
    let load = Load {
        size_bytes: None,
        depth: 0,
        allocations_per_s: row.group.rate.allocations_per_s(),
        goroutines: row.group.goroutines,
        live_mib: LIVE_MIB,
    };
    let pairs = pairs::measure(tools, binary, row.tracer, &load, args.pace(row.tracer))?;
    Numbers::of(&pairs).context("no pairs")
}
