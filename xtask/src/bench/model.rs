//! `cargo xtask bench model`: what one judgement of a process costs, with more lines and objects than programs have.
//!
//! CPU time and memory are those of `tracer-daemon/examples/model_cost.rs`. Bounds are printed beside the numbers and decide
//! the exit status.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stats::Estimate;
use crate::command;

/// One row of the table: lines, tracked objects, and the bounds of CPU time in ms and of memory in KiB where they are promised.
const ROWS: [(u32, u32, Option<f64>, Option<f64>); 3] =
    [(500, 0, None, Some(256.0)), (2_000, 10_000, None, None), (10_000, 100_000, Some(50.0), None)];
const RUNS: u32 = 50;

pub(super) fn run(root: &Path) -> Result<()> {
    let example = crate::build_example(root, "model_cost")?;
    let mut too_much = false;
    for (sites, objects, cpu_bound_ms, memory_bound_kib) in ROWS {
        let arguments = [sites, objects, RUNS].map(|number| number.to_string());
        let text = command::capture(Command::new(&example).args(arguments))?;
        let measured: Value = serde_json::from_str(&text)?;
        let values = measured["cpu_ns"].as_array().context("no cpu_ns")?;
        let values: Vec<f64> = values.iter().filter_map(|value| Some(value.as_f64()? / 1e6)).collect();
        let cpu = Estimate::of(&values).context("no values")?;
        let kept_kib = measured["kept_bytes"].as_f64().context("no kept_bytes")? / 1024.0;
        let grown_mib = measured["grown_kib"].as_f64().context("no grown_kib")? / 1024.0;
        let bound =
            |bound: Option<f64>, unit: &str| bound.map_or(String::new(), |bound| format!("; bound {bound} {unit}"));
        println!("{sites} lines, {objects} tracked objects, 68 size classes, 256 values each");
        println!(
            "  thread CPU time of a judgement: median {:.2} ms (95 % interval {:.2} to {:.2}) of {}{}",
            cpu.median,
            cpu.low,
            cpu.high,
            cpu.values,
            bound(cpu_bound_ms, "ms")
        );
        println!(
            "  memory kept for the target: {kept_kib:.0} KiB{}; the process grew by {grown_mib:.1} MiB in all, its input included",
            bound(memory_bound_kib, "KiB")
        );
        too_much |= cpu_bound_ms.is_some_and(|bound| cpu.median > bound);
        too_much |= memory_bound_kib.is_some_and(|bound| kept_kib > bound);
    }
    ensure!(!too_much, "above the bound");
    Ok(())
}
