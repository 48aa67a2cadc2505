//! What inspecting a binary costs: `inspect_cost cpu FILE RUNS` or `inspect_cost memory FILE`; prints a line of JSON.
//!
//! Counterpart: `cargo xtask bench inspect`, which builds this in release mode and makes a table of it.
#![allow(clippy::print_stdout, reason = "a command-line tool talks to the program that runs it")]

mod own_cost;

use std::{env, fs, fs::File};

use anyhow::{Context as _, Result, bail};
use tracer_daemon::inspect::inspect_file;

use self::own_cost::{status_kib, thread_cpu_ns};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["cpu", file, runs] => cpu(file, runs.parse().context("RUNS must be a number")?),
        ["memory", file] => memory(file),
        _ => bail!("usage: inspect_cost cpu FILE RUNS | inspect_cost memory FILE"),
    }
}

/// CPU time of this thread for each of some inspections, after one that brings the file into the page cache.
fn cpu(file: &str, runs: usize) -> Result<()> {
    let mut functions = inspect(file)?;
    let mut cpu_ns = Vec::new();
    for _ in 0..runs {
        let before = thread_cpu_ns();
        functions = inspect(file)?;
        cpu_ns.push(thread_cpu_ns() - before);
    }
    println!("{}", serde_json::json!({ "functions": functions, "cpu_ns": cpu_ns }));
    Ok(())
}

/// How far one inspection raises the peak of this process's resident memory.
fn memory(file: &str) -> Result<()> {
    // Whatever the first use of the parser needs once is part of the price; what the program's start needed is not.
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of the resident memory")?;
    let before = status_kib("VmRSS:")?;
    let functions = inspect(file)?;
    let peak = status_kib("VmHWM:")?;
    println!("{}", serde_json::json!({ "functions": functions, "before_kib": before, "peak_kib": peak }));
    Ok(())
}

fn inspect(file: &str) -> Result<u64> {
    let facts = inspect_file(File::open(file).with_context(|| format!("cannot open {file}"))?)?;
    Ok(facts.functions_table.len())
}
