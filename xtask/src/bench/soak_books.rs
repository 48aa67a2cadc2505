//! A real Prometheus and etcd under load whose books are read ten times a second, by `tracer-daemon/examples/books_cost.rs`: which
//! law the accepted books break, and what it costs the two in throughput.
//!
//! Windows alternate: nothing, reading, nothing. A window with reading is compared with the mean of the two next to it, so that slow
//! drift cancels; the second without is compared with the first, which shows what is noise. Throughput is what the services
//! themselves count.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::services::{Etcd, Process, Prometheus};
use super::stats::Estimate;
use crate::command;

/// Options of `cargo xtask bench soak-books`.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How long it runs, all windows together
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long one window is
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    window: Duration,
    /// Also write the numbers as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Throughput of one service, per second.
#[derive(Debug, Serialize)]
struct Throughput {
    service: &'static str,
    unit: &'static str,
    without: Estimate,
    with: Estimate,
    /// With reading over without.
    ratio: Estimate,
    /// Without over without: what is noise.
    ratio_of_nothing: Estimate,
}

/// Runs both services and prints what was seen.
#[expect(clippy::disallowed_methods, reason = "throughput is counted per second")]
pub(crate) fn run(root: &Path, args: &SoakArgs) -> Result<()> {
    let example = crate::build_example(root, "books_cost")?;
    let commit = command::capture(Command::new("git").current_dir(root).args(["rev-parse", "HEAD"]))?;
    let folder = root.join("target/bench/soak");
    fs::create_dir_all(&folder)?;
    let etcd = Etcd::start(root, &folder, args.duration)?;
    let prometheus = Prometheus::start(root, &folder)?;
    let mut reader = Reader::start(&example, &[prometheus.service.0.id(), etcd.service.0.id()])?;
    // Both warm up: heaps grow, the first blocks are cut.
    thread::sleep(args.window);

    let begin = Instant::now();
    let mut windows: Vec<[[f64; 2]; 3]> = Vec::new();
    while begin.elapsed() < args.duration {
        let mut three = [[0.0; 2]; 3];
        for (rates, is_on) in three.iter_mut().zip([false, true, false]) {
            reader.switch(is_on)?;
            let before = [etcd.puts()?, prometheus.answers()];
            let window = Instant::now();
            thread::sleep(args.window);
            let after = [etcd.puts()?, prometheus.answers()];
            let seconds = window.elapsed().as_secs_f64();
            *rates = [(after[0] - before[0]) / seconds, (after[1] - before[1]) / seconds];
        }
        windows.push(three);
        eprintln!("{:.0} s: {three:.0?}", begin.elapsed().as_secs_f64());
    }
    let seen = reader.end()?;
    let services = [("etcd", "puts"), ("prometheus", "answered queries")];
    let throughput = services
        .into_iter()
        .enumerate()
        .map(|(index, (service, unit))| compare(service, unit, &windows, index))
        .collect::<Result<Vec<_>>>()?;
    print(&throughput, &seen);
    if let Some(path) = &args.json {
        let text = json!({
            "commit": commit.trim(),
            "duration_seconds": args.duration.as_secs(),
            "window_seconds": args.window.as_secs(),
            "throughput": throughput,
            "seen": seen,
        });
        fs::write(path, serde_json::to_string_pretty(&text)? + "\n")?;
    }
    ensure!(throughput.iter().all(|row| row.without.low > 0.0), "a service did nothing in some window");
    for process in seen["processes"].as_array().context("no processes")? {
        let broken = process["broken"].as_object().context("no laws")?;
        ensure!(broken.is_empty(), "{} broke laws: {broken:?}", process["name"]);
        ensure!(process["reads"].as_u64() > Some(0), "{} was not read", process["name"]);
    }
    Ok(())
}

fn compare(service: &'static str, unit: &'static str, windows: &[[[f64; 2]; 3]], index: usize) -> Result<Throughput> {
    let of = |number: fn(f64, f64, f64) -> f64| {
        let values = windows.iter().map(|[first, with, second]| number(first[index], with[index], second[index]));
        Estimate::of(&values.collect::<Vec<_>>()).context("no windows")
    };
    Ok(Throughput {
        service,
        unit,
        without: of(|first, _, second| f64::midpoint(first, second))?,
        with: of(|_, with, _| with)?,
        ratio: of(|first, with, second| with / f64::midpoint(first, second))?,
        ratio_of_nothing: of(|first, _, second| second / first)?,
    })
}

fn print(throughput: &[Throughput], seen: &Value) {
    println!("service | unit per second | without | with | ratio (95 % interval) | nothing against nothing");
    for row in throughput {
        println!(
            "{} | {} | {:.0} | {:.0} | {:.4} ({:.4} to {:.4}) of {} | {:.4} ({:.4} to {:.4})",
            row.service,
            row.unit,
            row.without.median,
            row.with.median,
            row.ratio.median,
            row.ratio.low,
            row.ratio.high,
            row.ratio.values,
            row.ratio_of_nothing.median,
            row.ratio_of_nothing.low,
            row.ratio_of_nothing.high,
        );
    }
    for process in seen["processes"].as_array().into_iter().flatten() {
        println!(
            "{} ({}): {} reads accepted, refused {}, laws broken {}, discarded {}, most slack {} objects, {} allocations, {} \
             collections",
            process["name"],
            process["go"],
            process["reads"],
            process["refused"],
            process["broken"],
            process["discards"],
            process["slack_max"],
            process["allocs"],
            process["collections"],
        );
    }
    println!("CPU time of the reader: {} ns", seen["cpu_ns"]);
}

/// The reading process: told to read or not by lines.
struct Reader(Process);

impl Reader {
    fn start(example: &Path, pids: &[u32]) -> Result<Self> {
        let mut command = Command::new(example);
        command.arg("soak").args(pids.iter().map(ToString::to_string));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start the reader")?;
        let mut reader = Self(Process(child));
        ensure!(reader.line()? == "ready", "the reader is not ready");
        Ok(reader)
    }

    fn line(&mut self) -> Result<String> {
        // Nothing more is printed before the next line is asked for.
        let mut line = String::new();
        BufReader::new(self.0.0.stdout.as_mut().context("no stdout")?).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn switch(&mut self, is_on: bool) -> Result<()> {
        let stdin = self.0.0.stdin.as_mut().context("no stdin")?;
        Ok(writeln!(stdin, "{}", if is_on { "on" } else { "off" })?)
    }

    fn end(&mut self) -> Result<Value> {
        self.0.0.stdin = None;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}
