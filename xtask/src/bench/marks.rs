//! `cargo xtask bench marks`: CPU time of looking at 1,000 objects of a running Go program, by
//! `tracer-daemon/examples/marks_cost.rs`, which cannot be part of xtask.
//!
//! Their kinds are those of `tests/programs/marks`, in a heap of 300 MB: as they were born, one behind the other, and from all over the
//! heap. The bound decides the exit status: it is of CPU time, which does not depend on what else runs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stats::Estimate;
use crate::{command, setup};

/// Thread CPU time of a look at 1,000 objects.
const CPU_MS_MAX: f64 = 2.0;

/// Options of `cargo xtask bench marks`.
#[derive(Debug, clap::Args)]
pub(crate) struct MarksArgs {
    /// Looks of which the median is taken
    #[arg(long, default_value_t = 500)]
    looks: u32,
    /// Go releases that build the program
    #[arg(long, value_delimiter = ',', default_value = "1.19.13,1.22.12,1.27.3")]
    go: Vec<String>,
}

pub(super) fn run(root: &Path, args: &MarksArgs) -> Result<()> {
    let example = crate::build_example(root, "marks_cost")?;
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let mut worst = 0.0_f64;
    for release in &args.go {
        let program = folder.join(format!("marks-go{release}"));
        let mut go = Command::new(setup::go_command(root)?);
        go.current_dir(root.join("tracer-daemon/tests/programs/marks")).envs([
            ("GOTOOLCHAIN", format!("go{release}").as_str()),
            ("CGO_ENABLED", "0"),
            ("GOWORK", "off"),
        ]);
        command::run(go.args(["build", "-ldflags=-s -w", "-o"]).arg(&program))?;
        let measured = command::capture(Command::new(&example).arg(&program).arg(args.looks.to_string()))?;
        let measured: Value = serde_json::from_str(&measured)?;
        for (what, values) in measured["cpu_ns"].as_object().context("no cpu_ns")? {
            let values: Vec<f64> = values
                .as_array()
                .context("no values")?
                .iter()
                .filter_map(|value| Some(value.as_f64()? / 1e6))
                .collect();
            let cpu = Estimate::of(&values).context("no values")?;
            println!(
                "go{release}, {} objects {what}: median {:.3} ms (95 % interval {:.3} to {:.3}) of {} looks; bound {CPU_MS_MAX} ms",
                measured["objects"], cpu.median, cpu.low, cpu.high, cpu.values
            );
            worst = worst.max(cpu.median);
        }
    }
    ensure!(worst <= CPU_MS_MAX, "above the bound");
    Ok(())
}
