//! `cargo xtask bench daemon`: what `leakline run` takes for many Go programs at once, by the minute: its CPU time and its memory, both with those of the
//! processes that hold its probes, and the windows that it opened.
//!
//! The bounds decide the exit status. That of CPU time is for programs that are known: new ones get more windows for three minutes.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::exposition::Page;
use super::processes::{cpu_with_all_children_s, proportional_bytes};
use super::services::{Process, free_address, get};
use super::target::{Load, Target, TargetBinary};
use crate::build_leakline;

/// Share of one core, once all programs are known, and memory for twenty programs.
const CPU_MAX: f64 = 0.01;
const MEMORY_MAX_BYTES: f64 = 64.0 * 1024.0 * 1024.0;
/// Minutes until all programs are known, with one in which leakline has begun.
const NEW_MINUTES: u32 = 4;
/// Of `allocrate`.
const REPORTS_PER_S: u32 = 4;

/// Options of `cargo xtask bench daemon`.
#[derive(Debug, clap::Args)]
pub(crate) struct DaemonArgs {
    /// Programs that run
    #[arg(long, default_value_t = 20)]
    programs: u32,
    /// Objects of 64 to 1,024 bytes that each allocates per second
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// How long leakline follows them
    #[arg(long, default_value_t = 8)]
    minutes: u32,
    /// Evidence: `auto`, `books`
    #[arg(long, default_value = "auto")]
    evidence: String,
    /// Go release that builds the program
    #[arg(long, default_value = "1.26.6")]
    go: String,
    /// A leakline that is built already
    #[arg(long, value_name = "FILE")]
    leakline: Option<std::path::PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "CPU time is held against time")]
pub(super) fn run(root: &Path, args: &DaemonArgs) -> Result<()> {
    let leakline = args.leakline.clone().map_or_else(|| build_leakline(root), Ok)?;
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let binary = TargetBinary::build(root, &folder, &args.go)?;
    let load = Load { size_bytes: None, depth: 4, allocations_per_s: Some(args.rate), goroutines: 1, live_mib: 8 };
    let seconds = 60 * args.minutes + 60;
    let mut targets =
        (0..args.programs).map(|_| Target::start(&binary, false, &load, seconds)).collect::<Result<Vec<_>>>()?;

    let address = free_address()?;
    let mut command = Command::new(leakline);
    command.args(["run", "--listen", &address.to_string(), "--evidence", &args.evidence]);
    for target in &targets {
        command.args(["--pid", &target.pid().to_string()]);
    }
    let log = folder.join("daemon.log");
    let daemon = Process::start(&mut command, &log)?;
    println!(
        "{} programs of Go {}, {} objects/s each, --evidence {}",
        args.programs, args.go, args.rate, args.evidence
    );
    println!("minute | CPU, % of a core | memory, MiB | windows/s | cost to the programs, % of a core");
    let (mut cpu, mut windows, mut added) = (0.0, 0.0, 0.0);
    let (mut settled, mut most_bytes) = (Vec::new(), 0.0_f64);
    for minute in 1..=args.minutes {
        let began = Instant::now();
        for _ in 0..60 {
            thread::sleep(Duration::from_secs(1).saturating_sub(Duration::from_millis(5)));
            // A program whose reports nobody reads stops.
            for target in &mut targets {
                for _ in 0..REPORTS_PER_S {
                    target.next_report()?;
                }
            }
        }
        let passed_s = began.elapsed().as_secs_f64();
        let page = Page(get(address, "/metrics").with_context(|| format!("no answer: see {}", log.display()))?);
        let now = cpu_with_all_children_s(daemon.0.id())?;
        let (bursts, cost_s) =
            (page.sum("leakline_bursts_total", &[]), page.sum("leakline_target_added_cpu_seconds_total", &[]));
        let share = (now - cpu) / passed_s;
        let bytes = proportional_bytes(daemon.0.id())?;
        println!(
            "{minute} | {:.2} | {:.0} | {:.2} | {:.2}",
            100.0 * share,
            bytes / 1_048_576.0,
            (bursts - windows) / passed_s,
            100.0 * (cost_s - added) / passed_s
        );
        (cpu, windows, added) = (now, bursts, cost_s);
        most_bytes = most_bytes.max(bytes);
        if minute > NEW_MINUTES {
            settled.push(share);
        }
    }
    ensure!(!settled.is_empty(), "too short to say what known programs take: they are new for {NEW_MINUTES} minutes");
    let mean = settled.iter().sum::<f64>() / f64::from(u32::try_from(settled.len())?);
    println!(
        "known programs: {:.2} % of a core (bound {:.0}), {:.0} MiB at most (bound {:.0})",
        100.0 * mean,
        100.0 * CPU_MAX,
        most_bytes / 1_048_576.0,
        MEMORY_MAX_BYTES / 1_048_576.0
    );
    ensure!(mean <= CPU_MAX && most_bytes <= MEMORY_MAX_BYTES, "above the bound");
    Ok(())
}
