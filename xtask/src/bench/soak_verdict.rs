//! A real Prometheus and etcd under load, watched without a probe as users do: what is said of them report after report, and
//! which lines are accused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::services::{Etcd, Process, Prometheus};
use crate::{build_leakline, command};

/// Options of `cargo xtask bench soak-verdict`.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How long they are watched
    #[arg(long, default_value = "15m", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long they run before
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// Also write what was seen as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was said of one line.
#[derive(Debug, Default, Serialize)]
struct Accused {
    /// Reports by verdict.
    reports: BTreeMap<String, u32>,
    /// Seconds from the beginning to the first and the last of them.
    first_s: f64,
    last_s: f64,
    /// At the last report, bytes per second.
    growth_bytes_per_s: Value,
}

/// What was said of one service.
#[derive(Debug, Serialize)]
struct Watched {
    service: &'static str,
    reports: u32,
    /// Of the process, in order, each once in a row.
    verdicts: Vec<String>,
    /// Lines that were ever said to leak or grow.
    accused: BTreeMap<String, Accused>,
    /// At the end.
    live_bytes: Value,
    marked_growth_bytes_per_s: Value,
    seconds_to_limit: Value,
    self_cpu_ratio: Value,
}

/// Runs both services and prints what was said.
pub(crate) fn run(root: &Path, args: &SoakArgs) -> Result<()> {
    let leakline = build_leakline(root)?;
    let commit = command::capture(Command::new("git").current_dir(root).args(["rev-parse", "HEAD"]))?;
    let folder = root.join("target/bench/soak");
    fs::create_dir_all(&folder)?;
    let etcd = Etcd::start(root, &folder, args.warmup + args.duration)?;
    let prometheus = Prometheus::start(root, &folder)?;
    thread::sleep(args.warmup);
    let targets = [("prometheus", prometheus.service.0.id()), ("etcd", etcd.service.0.id())];
    let watchers: Vec<_> = targets
        .into_iter()
        .map(|(service, pid)| {
            let (leakline, folder, duration) = (leakline.clone(), folder.clone(), args.duration);
            thread::spawn(move || watch(&leakline, &folder, service, pid, duration))
        })
        .collect();
    let mut watched = Vec::new();
    for watcher in watchers {
        watched.push(watcher.join().map_err(|_panic| anyhow::anyhow!("a watcher panicked"))??);
    }
    watched.iter().for_each(print);
    if let Some(path) = &args.json {
        let text = json!({
            "commit": commit.trim(),
            "duration_seconds": args.duration.as_secs(),
            "watched": watched,
        });
        fs::write(path, serde_json::to_string_pretty(&text)? + "\n")?;
    }
    for service in &watched {
        let leaking: Vec<_> = service.accused.iter().filter(|(_, line)| line.reports.contains_key("leaking")).collect();
        ensure!(leaking.is_empty(), "lines of {} were said to leak: {leaking:?}", service.service);
    }
    Ok(())
}

fn watch(leakline: &Path, folder: &Path, service: &'static str, pid: u32, duration: Duration) -> Result<Watched> {
    let mut command = Command::new(leakline);
    command.args(["attach", "--pid", &pid.to_string(), "--evidence", "auto", "--output", "json", "--interval", "5s"]);
    command.args(["--duration", &format!("{}s", duration.as_secs())]);
    command.stdout(Stdio::piped()).stderr(File::create(folder.join(format!("{service}.leakline.log")))?);
    let mut process = Process(command.spawn().context("start leakline")?);
    let output = process.0.stdout.take().context("no stdout")?;
    let mut watched = Watched {
        service,
        reports: 0,
        verdicts: Vec::new(),
        accused: BTreeMap::new(),
        live_bytes: Value::Null,
        marked_growth_bytes_per_s: Value::Null,
        seconds_to_limit: Value::Null,
        self_cpu_ratio: Value::Null,
    };
    for line in BufReader::new(output).lines() {
        let report: Value = serde_json::from_str(&line?).context("a report that is no JSON")?;
        watched.take(&report);
        // The last one is kept for whoever wants to read it all.
        fs::write(folder.join(format!("{service}.report.json")), report.to_string())?;
    }
    ensure!(process.0.wait()?.success(), "leakline failed on {service}");
    Ok(watched)
}

impl Watched {
    fn take(&mut self, report: &Value) {
        self.reports += 1;
        let heap = &report["heap"];
        let verdict = heap["verdict"].as_str().unwrap_or("none").to_owned();
        if self.verdicts.last() != Some(&verdict) {
            self.verdicts.push(verdict);
        }
        self.live_bytes = heap["live_bytes"].clone();
        self.marked_growth_bytes_per_s = heap["marked_growth_bytes_per_s"].clone();
        self.seconds_to_limit = heap["seconds_to_limit"].clone();
        self.self_cpu_ratio = report["cost"]["self_cpu_ratio"].clone();
        let at_s = report["window_s"].as_f64().unwrap_or_default();
        let parts = [("heap", &report["sites"]), ("goroutines", &report["goroutines"]["sites"])];
        for (part, sites) in parts {
            for site in sites.as_array().into_iter().flatten() {
                let verdict = site["verdict"].as_str().unwrap_or("none");
                if !["leaking", "growing"].contains(&verdict) {
                    continue;
                }
                let text = |field: &str| site[field].as_str().unwrap_or("?").to_owned();
                let name = format!("{part}: {} {}:{}", text("function"), text("file"), site["line"]);
                let accused =
                    self.accused.entry(name).or_insert_with(|| Accused { first_s: at_s, ..Accused::default() });
                *accused.reports.entry(verdict.to_owned()).or_default() += 1;
                accused.last_s = at_s;
                let rate = if part == "heap" { "growth_bytes_per_s" } else { "growth_per_s" };
                accused.growth_bytes_per_s = site[rate].clone();
            }
        }
    }
}

fn print(watched: &Watched) {
    println!(
        "{}: {} reports, verdicts in order {:?}; at the end {} B alive, growth {}, seconds to limit {}, cost {} of a core",
        watched.service,
        watched.reports,
        watched.verdicts,
        watched.live_bytes,
        watched.marked_growth_bytes_per_s,
        watched.seconds_to_limit,
        watched.self_cpu_ratio,
    );
    for (line, accused) in &watched.accused {
        println!(
            "  {line}: {:?} from {:.0} s to {:.0} s, at last {}",
            accused.reports, accused.first_s, accused.last_s, accused.growth_bytes_per_s
        );
    }
}
