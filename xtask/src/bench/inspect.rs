//! `cargo xtask bench inspect`: CPU time and peak memory of inspecting a large binary.
//!
//! The binary is Debian's prometheus (89 MB, stripped, 123,760 functions). For memory it is also lengthened to 200 MB, and once
//! more without its section headers, so that the function table has to be searched for in all of it. Bounds are printed beside the numbers
//! and decide the exit status: they are of CPU time and memory, which do not depend on what else runs.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stats::Estimate;
use crate::{command, real_binaries};

const SUITE: &str = "trixie";
const PACKAGE: &str = "prometheus";
const PROGRAM: &str = "usr/bin/prometheus";
/// Thread CPU time for a binary of 100 MB with 100,000 functions.
const CPU_MS_MAX: f64 = 300.0;
/// Peak of resident memory above that before, for a binary of 200 MB.
const MEMORY_MIB_MAX: f64 = 64.0;
const LONG_BYTES: u64 = 200 << 20;

/// Options of `cargo xtask bench inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Inspections of which the median is taken.
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// Another binary; the bounds are then only printed.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(root: &Path, args: &InspectArgs) -> Result<()> {
    let example = crate::build_example(root, "inspect_cost")?;
    let file = match &args.file {
        Some(file) => file.clone(),
        None => real_binaries::debian(&real_binaries::cache(root), SUITE, PACKAGE)?.join(PROGRAM),
    };
    let measured = measure(Command::new(&example).arg("cpu").arg(&file).arg(args.runs.to_string()))?;
    let values: Vec<f64> = measured["cpu_ns"]
        .as_array()
        .context("no cpu_ns")?
        .iter()
        .filter_map(|value| Some(value.as_f64()? / 1e6))
        .collect();
    let cpu = Estimate::of(&values).context("no values")?;
    println!("{}: {} bytes, {} functions", file.display(), file.metadata()?.len(), measured["functions"]);
    println!(
        "CPU time of a thread: median {:.1} ms (95 % interval {:.1} to {:.1}) of {} inspections; bound {CPU_MS_MAX} ms",
        cpu.median, cpu.low, cpu.high, cpu.values
    );
    let mut worst = 0.0_f64;
    for (what, variant) in variants(root, &file)? {
        let measured = measure(Command::new(&example).arg("memory").arg(&variant))?;
        let kib = |field: &str| measured[field].as_f64().with_context(|| format!("no {field}"));
        let grown = (kib("peak_kib")? - kib("before_kib")?) / 1024.0;
        worst = worst.max(grown);
        println!(
            "peak memory, {what}: {grown:.1} MiB above that before; bound {MEMORY_MIB_MAX} MiB; nothing is mapped"
        );
    }
    if args.file.is_none() {
        ensure!(cpu.median <= CPU_MS_MAX && worst <= MEMORY_MIB_MAX, "above the bound");
    }
    Ok(())
}

fn measure(example: &mut Command) -> Result<Value> {
    Ok(serde_json::from_str(&command::capture(example)?)?)
}

/// The binary itself, and lengthened ones.
fn variants(root: &Path, file: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
    let folder = real_binaries::cache(root).join("bench");
    fs::create_dir_all(&folder)?;
    let [long, bare] = ["long", "bare"].map(|name| folder.join(name));
    for copy in [&long, &bare] {
        fs::copy(file, copy)?;
        let copy = OpenOptions::new().write(true).open(copy)?;
        copy.set_len(copy.metadata()?.len().max(LONG_BYTES))?;
    }
    // e_shoff, and e_shnum with e_shstrndx, of the ELF header.
    let mut header = OpenOptions::new().write(true).open(&bare)?;
    header.seek(SeekFrom::Start(40))?;
    header.write_all(&[0; 8])?;
    header.seek(SeekFrom::Start(60))?;
    header.write_all(&[0; 4])?;
    Ok(vec![("as it is", file.to_owned()), ("200 MB long", long), ("200 MB long, without section headers", bare)])
}
