//! `cargo xtask bench cost`: what a tracer costs its target, in CPU time per allocation.
//!
//! One target process per row. Windows with and without the tracer alternate; each window with it is compared to the mean of
//! the two without it next to it, so slow drift of the machine cancels. A row without any tracer in both
//! kinds of window shows what is left as noise.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::{
    stats::Estimate,
    target::{Target, TargetBinary},
    tracers::{Tools, Tracer},
};

/// Above 80 bytes Go 1.27 calls `runtime.mallocgc` itself, so that one probe sees every allocation of every release.
const SIZE_BYTES: u32 = 96;

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
    /// Only rows whose name contains this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

/// The measured numbers of one row.
#[derive(Debug, Serialize)]
struct Row {
    go_release: String,
    tracer: String,
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

/// One window with the tracer and the mean of its two neighbours without, in ns per allocation.
#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    without_ns: f64,
    with_ns: f64,
}

/// How long things take, in reports of the target (250 ms each).
#[derive(Debug, Clone, Copy)]
struct Pace {
    pairs: u32,
    window_reports: u32,
    /// Reports that are thrown away after each change.
    settle_reports: u32,
}

/// Measures all rows and prints the table as it grows.
pub(crate) fn run(repository: &Path, args: &CostArgs) -> Result<()> {
    let pace = if args.quick {
        Pace {
            pairs: 3,
            window_reports: 3,
            settle_reports: 1,
        }
    } else {
        Pace {
            pairs: args.pairs,
            window_reports: 6,
            settle_reports: 2,
        }
    };
    ensure!(pace.pairs >= 1, "--pairs must be at least 1");
    let directory = repository.join("target/bench");
    fs::create_dir_all(&directory)?;
    let tools = Tools::find(repository, &directory)?;
    let mut rows = Vec::new();
    let mut out = io::stdout().lock();
    for go_release in &args.go_releases {
        let binary = TargetBinary::build(repository, &directory, go_release)?;
        writeln!(
            out,
            "\nGo {go_release}, 1 goroutine, {SIZE_BYTES}-byte objects, as fast as it can; {} pairs",
            pace.pairs
        )?;
        writeln!(
            out,
            "target CPU ns per allocation: median [95 % interval]\n"
        )?;
        writeln!(
            out,
            "{:<31} {:>22} {:>30} {:>30} {:>28}",
            "row", "nothing attached", "attached", "added", "ratio"
        )?;
        for tracer in Tracer::ALL
            .into_iter()
            .filter(|tracer| tracer.name().contains(&args.only))
        {
            let row = match tools.refusal(tracer) {
                Some(reason) => Row::skipped(go_release, tracer, reason.to_owned()),
                None => match measure(&tools, &binary, tracer, pace) {
                    Ok(numbers) => Row {
                        go_release: go_release.clone(),
                        tracer: tracer.name(),
                        skipped: None,
                        numbers: Some(numbers),
                    },
                    Err(error) => Row::skipped(go_release, tracer, format!("failed: {error:#}")),
                },
            };
            row.print(&mut out)?;
            rows.push(row);
        }
    }
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    let failed = rows
        .iter()
        .filter(|row| {
            row.skipped
                .as_ref()
                .is_some_and(|why| why.starts_with("failed"))
        })
        .count();
    ensure!(failed == 0, "{failed} rows failed");
    Ok(())
}

impl Row {
    fn skipped(go_release: &str, tracer: Tracer, reason: String) -> Self {
        Self {
            go_release: go_release.to_owned(),
            tracer: tracer.name(),
            skipped: Some(reason),
            numbers: None,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.numbers {
            Some(numbers) => writeln!(
                out,
                "{:<31} {:>22} {:>30} {:>30} {:>28}",
                self.tracer,
                cell(&numbers.without_ns, 1),
                cell(&numbers.with_ns, 1),
                cell(&numbers.added_ns, 1),
                cell(&numbers.ratio, 3)
            ),
            None => writeln!(
                out,
                "{:<31} skipped: {}",
                self.tracer,
                self.skipped.as_deref().unwrap_or("no numbers")
            ),
        }
    }
}

fn cell(estimate: &Estimate, digits: usize) -> String {
    format!(
        "{:.digits$} [{:.digits$}, {:.digits$}]",
        estimate.median, estimate.low, estimate.high
    )
}

fn measure(tools: &Tools, binary: &TargetBinary, tracer: Tracer, pace: Pace) -> Result<Numbers> {
    // More than any row can take; a bound in case that we are killed.
    let seconds = 60 + pace.pairs * 60;
    let mut target = Target::start(binary, tracer.needs_moved_symbol(), SIZE_BYTES, seconds)?;
    for _ in 0..4 {
        target.next_report()?; // the heap finds its size
    }
    let mut before = window(&mut target, pace)?;
    let mut pairs = Vec::new();
    for _ in 0..pace.pairs {
        let mut attached = tools.attach(tracer, binary, &mut target, seconds)?;
        let with_ns = window(&mut target, pace)?;
        attached.check(&target)?;
        attached.detach(&mut target)?;
        let after = window(&mut target, pace)?;
        pairs.push(Pair {
            without_ns: f64::midpoint(before, after),
            with_ns,
        });
        before = after;
    }
    Numbers::of(pairs).context("no pairs")
}

impl Numbers {
    fn of(pairs: Vec<Pair>) -> Option<Self> {
        let estimate =
            |value: fn(&Pair) -> f64| Estimate::of(&pairs.iter().map(value).collect::<Vec<_>>());
        Some(Self {
            without_ns: estimate(|pair| pair.without_ns)?,
            with_ns: estimate(|pair| pair.with_ns)?,
            added_ns: estimate(|pair| pair.with_ns - pair.without_ns)?,
            ratio: estimate(|pair| pair.with_ns / pair.without_ns)?,
            pairs,
        })
    }
}

/// Target CPU time per allocation over one window, in ns.
fn window(target: &mut Target, pace: Pace) -> Result<f64> {
    for _ in 0..pace.settle_reports {
        target.next_report()?;
    }
    let first = target.next_report()?;
    let mut last = first;
    for _ in 0..pace.window_reports {
        last = target.next_report()?;
    }
    let allocations = last.allocations - first.allocations;
    ensure!(allocations > 0, "the target made no allocation in a window");
    #[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
    let ns = (last.cpu_ns - first.cpu_ns) as f64 / allocations as f64;
    Ok(ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_within_each_pair() {
        // The machine becomes twice as slow half way; the ratio does not notice.
        let pair = |without_ns: f64| Pair {
            without_ns,
            with_ns: without_ns * 3.0,
        };
        let numbers = Numbers::of(vec![pair(10.0), pair(10.0), pair(20.0), pair(20.0)]).unwrap();
        assert!((numbers.ratio.low - 3.0).abs() < 1e-9 && (numbers.ratio.high - 3.0).abs() < 1e-9);
        assert!(numbers.added_ns.low >= 20.0 && numbers.added_ns.high <= 40.0);
    }

    #[test]
    fn no_pairs_give_no_numbers() {
        assert!(Numbers::of(Vec::new()).is_none());
    }
}
