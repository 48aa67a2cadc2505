//! `cargo xtask bench goroutines`: what one look at the goroutine table costs, for thousands and for a million of them.
//!
//! The target is `tests/programs/goroutines parked N`: N goroutines of five places that wait. CPU time and memory are those of
//! `tracer-daemon/examples/goroutines_cost.rs`, reading and grouping and naming together. Bounds are printed beside the
//! numbers and decide the exit status.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stats::Estimate;
use crate::{command, setup};

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    goroutines: u64,
    looks: u32,
    /// CPU time of a look in ms, and memory in MiB, where they are promised.
    bounds: Option<(f64, f64)>,
}

const ROWS: [Row; 3] = [
    Row { goroutines: 1_000, looks: 100, bounds: Some((5.0, 64.0)) },
    Row { goroutines: 100_000, looks: 11, bounds: None },
    Row { goroutines: 1_000_000, looks: 5, bounds: Some((3000.0, 64.0)) },
];

/// Options of `cargo xtask bench goroutines`.
#[derive(Debug, clap::Args)]
pub(crate) struct GoroutinesArgs {
    /// Go release that builds the target.
    #[arg(long, default_value = "1.26.6")]
    go: String,
    /// Only rows with at most so many goroutines; a million take about 3 GB.
    #[arg(long, default_value_t = u64::MAX)]
    at_most: u64,
}

pub(super) fn run(root: &Path, args: &GoroutinesArgs) -> Result<()> {
    let example = crate::build_example(root, "goroutines_cost")?;
    let program = build(root, &args.go)?;
    let mut too_much = false;
    for Row { goroutines, looks, bounds } in ROWS.into_iter().filter(|row| row.goroutines <= args.at_most) {
        let target = Target::start(&program, goroutines)?;
        let pid = target.0.id().to_string();
        let text = command::capture(Command::new(&example).args([&pid, &looks.to_string()]))?;
        let measured: Value = serde_json::from_str(&text)?;
        let milliseconds = |field: &str| -> Result<Estimate> {
            let values = measured[field].as_array().with_context(|| format!("no {field}"))?;
            let values: Vec<f64> = values.iter().filter_map(|value| Some(value.as_f64()? / 1e6)).collect();
            Estimate::of(&values).context("no values")
        };
        let (all, read) = (milliseconds("cpu_ns")?, milliseconds("read_ns")?);
        let kib = |field: &str| measured[field].as_f64().with_context(|| format!("no {field}"));
        let grown = (kib("peak_kib")? - kib("before_kib")?) / 1024.0;
        let peak = kib("peak_kib")? / 1024.0;
        let first = measured["first_ns"].as_f64().context("no first_ns")? / 1e6;
        let sampled =
            measured["sampled"].as_u64().map_or("all looked at".into(), |sampled| format!("sample of {sampled}"));
        println!("{} goroutines in {} groups, {sampled}", measured["live"], measured["groups"]);
        println!(
            "  thread CPU time of a look: median {:.2} ms (95 % interval {:.2} to {:.2}) of {}; first one {first:.2} ms; reading alone {:.2} ms{}",
            all.median,
            all.low,
            all.high,
            all.values,
            read.median,
            bounds.map_or(String::new(), |(cpu_ms, _)| format!("; bound {cpu_ms} ms"))
        );
        println!(
            "  peak memory: {peak:.1} MiB, {grown:.1} MiB above that before{}",
            bounds.map_or(String::new(), |(_, memory_mib)| format!("; bound {memory_mib} MiB"))
        );
        too_much |= bounds.is_some_and(|(cpu_ms, memory_mib)| all.median > cpu_ms || peak > memory_mib);
    }
    ensure!(!too_much, "above the bound");
    Ok(())
}

fn build(root: &Path, release: &str) -> Result<PathBuf> {
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let program = folder.join(format!("goroutines-go{release}"));
    let mut go = Command::new(setup::go_command(root)?);
    go.args(["build", "-o"]).arg(&program).arg(".");
    go.current_dir(root.join("tracer-daemon/tests/programs/goroutines"));
    command::run(go.env("GOTOOLCHAIN", format!("go{release}")).env("CGO_ENABLED", "0"))?;
    Ok(program)
}

/// A running program; killed on drop.
#[derive(Debug)]
struct Target(Child);

impl Target {
    fn start(program: &Path, count: u64) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["parked", &count.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut target = Self(command.spawn().with_context(|| format!("start {}", program.display()))?);
        let mut ready = String::new();
        BufReader::new(target.0.stdout.take().context("no stdout")?).read_line(&mut ready)?;
        ensure!(ready.starts_with("ready"), "the target said {ready:?}");
        Ok(target)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
