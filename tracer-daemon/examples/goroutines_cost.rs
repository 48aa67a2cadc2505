//! What a look at the goroutine table costs: `goroutines_cost PID RUNS` prints a line of JSON.
//!
//! Counterpart: `cargo xtask bench goroutines`, which builds this in release mode and makes a table of it.
#![allow(clippy::print_stdout, reason = "a command-line tool talks to the program that runs it")]

mod own_cost;

use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::model::goroutines::IdClock;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::pipeline::goroutines::{monotonic_ns, tabulated};
use tracer_daemon::read::goroutines::GoroutineReader;

use self::own_cost::{status_kib, thread_cpu_ns};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [pid, runs] = arguments.as_slice() else { bail!("usage: goroutines_cost PID RUNS") };
    let target = target_by_pid(pid.parse().context("PID must be a number")?)?;
    let runs: usize = runs.parse().context("RUNS must be a number")?;
    let mut subject = Subject::open(&target, &FactsCache::default())?;
    let mut reader = GoroutineReader::new(subject.runtime())?;
    let mut clock = IdClock::default();
    // The first look learns names and frame sizes; its memory counts, its time is told apart.
    fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of the resident memory")?;
    let before_kib = status_kib("VmRSS:")?;
    let (mut cpu_ns, mut read_ns) = (Vec::new(), Vec::new());
    let (mut live, mut groups, mut sampled) = (0, 0, None);
    for _ in 0..=runs {
        let start = thread_cpu_ns();
        let (table, _) = tabulated(&mut subject, &mut reader, &mut clock, monotonic_ns())?;
        cpu_ns.push(thread_cpu_ns().saturating_sub(start));
        let start = thread_cpu_ns();
        reader.read(&subject.memory, start)?;
        read_ns.push(thread_cpu_ns().saturating_sub(start));
        live = table.live;
        groups = table.sites.iter().map(|site| site.states.len()).sum();
        sampled = table.sampled;
    }
    let peak_kib = status_kib("VmHWM:")?;
    let first_ns = cpu_ns.remove(0);
    read_ns.remove(0);
    println!(
        "{}",
        serde_json::json!({
            "live": live, "groups": groups, "sampled": sampled, "first_ns": first_ns, "cpu_ns": cpu_ns, "read_ns": read_ns,
            "before_kib": before_kib, "peak_kib": peak_kib,
        })
    );
    Ok(())
}
