//! `cargo xtask bench cost`: what a tracer costs its target, in CPU time per allocation.
//!
//! One target process per row, in pairs of windows (`pairs.rs`). A row without any tracer in both kinds of window shows what is left
//! as noise.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{
    pairs::{self, Pace, WARM_REPORTS},
    stats::Estimate,
    target::{Load, TargetBinary},
    tracers::{Place, Tools, Tracer, Work},
};

/// Above 80 bytes Go 1.27 calls `runtime.mallocgc` itself, so that one probe sees every allocation of every release.
const SIZE_BYTES: u32 = 96;

/// Frames of the target's stack at `-depth 0`, those of the runtime included.
const FRAMES: u32 = 4;

/// Options of `cargo xtask bench cost`.
#[derive(Debug, clap::Args)]
pub(crate) struct CostArgs {
    /// Pairs of windows per row; intervals need at least 5.
    #[arg(long, default_value_t = 7)]
    pairs: u32,
    /// Three pairs of short windows: a trial run, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Also write the rows as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Go releases to build the target with.
    #[arg(long = "go", value_name = "RELEASE", default_values_t = ["1.22.12".to_owned(), "1.27.3".to_owned()])]
    go_releases: Vec<String>,
    /// Frames to add below the allocating one, which has 4 with those of the runtime; with some, only tracers that walk the
    /// stack are measured.
    #[arg(long = "depth", value_name = "FRAMES", default_values_t = [0, 26])]
    depths: Vec<u32>,
    /// Only rows whose name contains this text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
}

impl CostArgs {
    fn wants(&self, tracer: Tracer, depth: u32) -> bool {
        let name = tracer.name();
        let named = self.only.is_empty() || self.only.iter().any(|text| name.contains(text));
        named && (depth == 0 || tracer.walks_stack())
    }
}

/// The measured numbers of one row.
#[derive(Debug, Serialize)]
struct Row {
    go_release: String,
    /// Frames below the allocating one.
    depth: u32,
    tracer: Tracer,
    /// Why the row has no numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    numbers: Option<Numbers>,
}

/// CPU time of the target in ns per allocation, and the paired comparison.
#[derive(Debug, Serialize)]
struct Numbers {
    without_ns: Estimate,
    with_ns: Estimate,
    added_ns: Estimate,
    ratio: Estimate,
    pairs: Vec<Pair>,
}

/// One window with the tracer and its two neighbours without, in ns per allocation.
#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    without_ns: f64,
    with_ns: f64,
}

/// Measures all rows and prints the table as it grows.
pub(crate) fn run(repository: &Path, args: &CostArgs) -> Result<()> {
    let pace = if args.quick {
        Pace { pairs: 3, warm_reports: WARM_REPORTS, half_reports: 2, settle_reports: 1 }
    } else {
        Pace { pairs: args.pairs, warm_reports: WARM_REPORTS, half_reports: 3, settle_reports: 2 }
    };
    ensure!(pace.pairs >= 1, "--pairs must be at least 1");
    let directory = repository.join("target/bench");
    fs::create_dir_all(&directory)?;
    // Only where it is measured: the others do not need it.
    let measures_leakline = args.depths.iter().any(|&depth| args.wants(Tracer::Leakline, depth));
    let leakline = measures_leakline.then(|| crate::build_leakline(repository)).transpose()?;
    let tools = Tools::find(&directory, leakline)?;
    let mut rows = Vec::new();
    let mut out = io::stdout().lock();
    for go_release in &args.go_releases {
        let binary = TargetBinary::build(repository, &directory, go_release)?;
        for &depth in &args.depths {
            let tracers: Vec<_> = Tracer::ALL.into_iter().filter(|&tracer| args.wants(tracer, depth)).collect();
            if tracers.is_empty() {
                continue;
            }
            writeln!(
                out,
                "\nGo {go_release}, 1 goroutine, {SIZE_BYTES}-byte objects, {} frames, as fast as it can; {} pairs",
                depth + FRAMES,
                pace.pairs
            )?;
            writeln!(out, "target CPU ns per allocation: median [95 % interval]\n")?;
            writeln!(
                out,
                "{:<31} {:>22} {:>30} {:>30} {:>28}",
                "row", "nothing attached", "attached", "added", "ratio"
            )?;
            let table = rows.len();
            for tracer in tracers {
                let numbers = match tools.refusal(tracer) {
                    Some(reason) => Err(reason.to_owned()),
                    None => measure(&tools, &binary, tracer, depth, pace).map_err(|error| format!("failed: {error:#}")),
                };
                let row = Row::new(go_release, depth, tracer, numbers);
                row.print(&mut out)?;
                rows.push(row);
            }
            if let Some(comparison) = comparison(&rows[table..]) {
                writeln!(out, "\n{comparison}")?;
            }
        }
    }
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_vec_pretty(&rows)?).with_context(|| format!("write {}", path.display()))?;
    }
    let failed = rows.iter().filter(|row| row.skipped.as_ref().is_some_and(|why| why.starts_with("failed"))).count();
    ensure!(failed == 0, "{failed} rows failed");
    Ok(())
}

/// The promise: leakline's cost as a part of that of the tool that people would use in its place, at the same instruction
/// and for the same answer. None where one of the two has no numbers.
fn comparison(rows: &[Row]) -> Option<String> {
    let added = |tracer: Tracer| {
        let row = rows.iter().find(|row| row.tracer == tracer)?;
        let pairs = row.numbers.as_ref()?.pairs.iter();
        Some(pairs.map(|pair| pair.with_ns - pair.without_ns).collect::<Vec<_>>())
    };
    let (ours, theirs) = (Tracer::Leakline, Tracer::Bpftrace(Place::Body, Work::CountByStack));
    let ratio = Estimate::of_ratio(&added(ours)?, &added(theirs)?)?;
    Some(format!("added by {} / added by {}: {}", ours.name(), theirs.name(), cell(&ratio, 2)))
}

impl Row {
    fn new(go_release: &str, depth: u32, tracer: Tracer, numbers: Result<Numbers, String>) -> Self {
        let (numbers, skipped) = match numbers {
            Ok(numbers) => (Some(numbers), None),
            Err(why) => (None, Some(why)),
        };
        Self { go_release: go_release.to_owned(), depth, tracer, skipped, numbers }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.numbers {
            Some(numbers) => writeln!(
                out,
                "{:<31} {:>22} {:>30} {:>30} {:>28}",
                self.tracer.name(),
                cell(&numbers.without_ns, 1),
                cell(&numbers.with_ns, 1),
                cell(&numbers.added_ns, 1),
                cell(&numbers.ratio, 3)
            ),
            None => {
                writeln!(out, "{:<31} skipped: {}", self.tracer.name(), self.skipped.as_deref().unwrap_or("no numbers"))
            }
        }
    }
}

fn cell(estimate: &Estimate, digits: usize) -> String {
    format!("{:.digits$} [{:.digits$}, {:.digits$}]", estimate.median, estimate.low, estimate.high)
}

fn measure(tools: &Tools, binary: &TargetBinary, tracer: Tracer, depth: u32, pace: Pace) -> Result<Numbers> {
    let pairs = pairs::measure(tools, binary, tracer, &Load::of_size(SIZE_BYTES, depth), pace)?;
    let of = |pair: &pairs::Pair| Pair {
        without_ns: pair.without.ns_per_allocation(),
        with_ns: pair.with.ns_per_allocation(),
    };
    let pairs = pairs.iter().map(of).collect();
    Numbers::of(pairs).context("no pairs")
}

impl Numbers {
    fn of(pairs: Vec<Pair>) -> Option<Self> {
        let estimate = |value: fn(&Pair) -> f64| Estimate::of(&pairs.iter().map(value).collect::<Vec<_>>());
        Some(Self {
            without_ns: estimate(|pair| pair.without_ns)?,
            with_ns: estimate(|pair| pair.with_ns)?,
            added_ns: estimate(|pair| pair.with_ns - pair.without_ns)?,
            ratio: estimate(|pair| pair.with_ns / pair.without_ns)?,
            pairs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_within_each_pair() {
        // The machine becomes twice as slow half way; the ratio does not notice.
        let pair = |without_ns: f64| Pair { without_ns, with_ns: without_ns * 3.0 };
        let numbers = Numbers::of(vec![pair(10.0), pair(10.0), pair(20.0), pair(20.0)]).unwrap();
        assert!((numbers.ratio.low - 3.0).abs() < 1e-9 && (numbers.ratio.high - 3.0).abs() < 1e-9);
        assert!(numbers.added_ns.low >= 20.0 && numbers.added_ns.high <= 40.0);
    }

    #[test]
    fn leakline_is_compared_with_the_row_that_answers_the_same_at_the_same_place() {
        let row = |tracer, added: f64| {
            let pairs = vec![Pair { without_ns: 30.0, with_ns: 30.0 + added }; 3];
            Row::new("1.27.3", 0, tracer, Numbers::of(pairs).ok_or_else(String::new))
        };
        let (entry, body) =
            (Tracer::Bpftrace(Place::Entry, Work::CountByStack), Tracer::Bpftrace(Place::Body, Work::CountByStack));
        let rows = [row(entry, 4000.0), row(body, 2000.0), row(Tracer::Leakline, 500.0)];
        let said = comparison(&rows).unwrap();
        assert!(said.ends_with("bpftrace push, count by stack: 0.25 [0.25, 0.25]"), "{said}");
        assert_eq!(comparison(&rows[..2]), None);
        assert_eq!(comparison(&rows[2..]), None);
    }

    #[test]
    fn no_pairs_give_no_numbers() {
        assert!(Numbers::of(Vec::new()).is_none());
    }
}
