//! `cargo xtask bench links`: what windows cost leakline, by `tracer-daemon/examples/links_cost.rs`, which cannot be part of xtask; and what
//! stays of many hundred of them, some of whose holders are killed.
//!
//! The bound decides the exit status: it is of CPU time, which depends little on what else runs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stats::Estimate;
use super::target::{Load, Target, TargetBinary};
use crate::{command, setup, workspace};

/// CPU time of the process that holds a link, from its start to its end.
const CPU_MS_MAX: f64 = 6.0;

/// Options of `cargo xtask bench links`.
#[derive(Debug, clap::Args)]
pub(crate) struct LinksArgs {
    /// Windows of 10 ms
    #[arg(long, default_value_t = 100)]
    windows: u32,
    /// Go release that builds the program
    #[arg(long, default_value = "1.27.3")]
    go: String,
}

pub(super) fn run(root: &Path, args: &LinksArgs) -> Result<()> {
    let example = crate::build_example(root, "links_cost")?;
    let mut build = Command::new(workspace::cargo());
    command::run(build.current_dir(root).args([
        "build",
        "--release",
        "--package",
        "tracer-daemon",
        "--bin",
        "leakline",
    ]))?;
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let load = Load::of_size(96, 0);
    let target = Target::start(&TargetBinary::build(root, &folder, &args.go)?, false, &load, 600)?;
    let leakline = crate::release_folder(root).join("leakline");
    let measured = command::capture(
        Command::new(&example).arg(leakline).arg(target.pid().to_string()).arg(args.windows.to_string()),
    )?;
    drop(target);
    let measured: Value = serde_json::from_str(&measured)?;
    let number = |name: &str| measured[name].as_f64().with_context(|| format!("no {name}"));
    let cpu_ms = number("holder_cpu_ms")?;
    println!(
        "go{}, {} points, {} windows of 10 ms, one program that allocates as fast as it can",
        args.go, measured["points"], args.windows
    );
    println!(
        "CPU time of a holder: {cpu_ms:.2} ms, of which {:.2} ms are a process that holds nothing; of leakline itself: {:.2} ms; bound {CPU_MS_MAX} ms",
        number("idle_holder_cpu_ms")?,
        number("own_cpu_ms")?
    );
    for (name, what) in [
        ("opening_ms", "until a link is there"),
        ("open_ms", "until its window ends"),
        ("going_ms", "until it is gone"),
    ] {
        let values: Vec<f64> = measured[name].as_array().context("no list")?.iter().filter_map(Value::as_f64).collect();
        let time = Estimate::of(&values).context("no values")?;
        println!("{what}: median {:.1} ms (95 % interval {:.1} to {:.1})", time.median, time.low, time.high);
    }
    println!("CPU time of a hit, ns (instruction, ns, whether measured): {}", measured["hit_ns"]);

    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(root).args(["test", "--package", "tracer-daemon", "--test", "it", "links::", "--"]);
    cargo.args(["--ignored", "--test-threads", "1", "--nocapture"]);
    if let Ok(go) = setup::go_command(root) {
        cargo.env(setup::GO_VARIABLE, go);
    }
    command::run(&mut cargo).context("a window left something")?;
    ensure!(cpu_ms <= CPU_MS_MAX, "above the bound");
    Ok(())
}
