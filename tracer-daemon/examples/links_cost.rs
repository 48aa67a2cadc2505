//! What windows cost leakline: `links_cost LEAKLINE PID WINDOWS`; prints a line of JSON with the CPU time of the processes that hold the
//! links of so many windows of 10 ms, and how long links take to come and go.
//!
//! Counterpart: `cargo xtask bench links`, which starts a busy program and makes a table of it.
#![allow(clippy::print_stdout, reason = "a command-line tool talks to the program that runs it")]

mod own_cost;

use std::os::fd::AsFd as _;
use std::{env, fs::File, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use procfs::process::Process;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};
use tracer_common::{bursts::WindowState, exact::Total};
use tracer_daemon::attach::{
    Calibration, Holder, Holders, KernelObject, Link, LinkPoint, Mechanism, Most, News, Until,
};
use tracer_daemon::inspect::inspect_file;
use tracer_daemon::plan::ProbePlan;

use self::own_cost::thread_cpu_ns;

const WINDOW_NS: u64 = 10_000_000;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [leakline, pid, windows] = arguments.as_slice() else { bail!("usage: links_cost LEAKLINE PID WINDOWS") };
    let pid: u32 = pid.parse().context("PID must be a number")?;
    let windows: u32 = windows.parse().context("WINDOWS must be a number")?;
    let exe = File::open(format!("/proc/{pid}/exe"))?;
    let plan = ProbePlan::exact(&inspect_file(exe.try_clone()?)?);
    let points: Vec<LinkPoint> =
        plan.points.iter().map(|point| LinkPoint { file_offset: point.file_offset().0, cookie: 0 }).collect();
    let object = KernelObject::embedded(&[], &[], &["allocation"], Mechanism::UprobeMulti)?;

    let before = children_cpu_ms()?;
    for _ in 0..windows {
        let mut holders = Holders::of_program(Path::new(leakline));
        holders.prepare()?;
        drop(holders);
    }
    // Those that were dropped are waited for by threads of their own.
    while has_children()? {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let idle_cpu_ms = (children_cpu_ms()? - before) / f64::from(windows);

    let mut holders = Holders::of_program(Path::new(leakline));
    let (mut opening_ms, mut open_ms, mut going_ms, mut hits_seen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let before = children_cpu_ms()?;
    let own_before = thread_cpu_ns();
    for burst in 0..windows {
        holders.prepare()?;
        let ordered_ns = now_ns();
        let mut holder = holders.open(&Link {
            mechanism: Mechanism::UprobeMulti,
            programs: &[object.program("allocation")?],
            exe: exe.as_fd(),
            pid,
            points: &points,
            hits: Some((object.map_fd("TOTALS")?, Total::ProbeHits as u32)),
            until: Until::Window {
                map: object.map_fd("WINDOW")?,
                state: WindowState { burst, ..WindowState::default() },
                length_ns: WINDOW_NS,
                most: Most::hits(u64::MAX),
            },
        })?;
        let News::Opened { at_ns: opened_ns } = next(&mut holder)? else { bail!("the link was not opened") };
        let News::Closed { at_ns: closed_ns, hits } = next(&mut holder)? else { bail!("the link was not closed") };
        ensure!(matches!(next(&mut holder)?, News::Gone));
        opening_ms.push(ms(opened_ns.saturating_sub(ordered_ns)));
        open_ms.push(ms(closed_ns.saturating_sub(opened_ns)));
        going_ms.push(ms(now_ns().saturating_sub(closed_ns)));
        hits_seen.extend(hits);
    }
    let own_cpu_ms = ms(thread_cpu_ns() - own_before) / f64::from(windows);
    let cpu_ms = (children_cpu_ms()? - before) / f64::from(windows);
    let costs = Calibration::begin(Mechanism::UprobeMulti)?
        .costs()
        .all()
        .map(|(kind, cost)| (kind.name(), cost.ns, cost.is_measured));
    println!(
        "{}",
        serde_json::json!({
            "points": points.len(),
            "holder_cpu_ms": cpu_ms,
            "idle_holder_cpu_ms": idle_cpu_ms,
            "own_cpu_ms": own_cpu_ms,
            "opening_ms": opening_ms,
            "open_ms": open_ms,
            "going_ms": going_ms,
            "hits": hits_seen,
            "hit_ns": costs,
        })
    );
    Ok(())
}

fn next(holder: &mut Holder) -> Result<News> {
    loop {
        match holder.news() {
            Some(News::Failed(error)) => return Err(error.into()),
            Some(news) => return Ok(news),
            None => poll(&mut [PollFd::new(&holder.fd(), PollFlags::IN)], None)?,
        };
    }
}

/// CPU time of the children that have ended and were waited for, ms.
fn children_cpu_ms() -> Result<f64> {
    let stat = Process::myself()?.stat()?;
    Ok(ms(u64::try_from(stat.cutime + stat.cstime)?.saturating_mul(1_000_000_000 / procfs::ticks_per_second())))
}

fn has_children() -> Result<bool> {
    let own = i32::try_from(std::process::id())?;
    Ok(procfs::process::all_processes()?.flatten().any(|process| process.stat().is_ok_and(|stat| stat.ppid == own)))
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
