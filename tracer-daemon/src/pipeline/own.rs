//! What leakline itself uses, and what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use procfs::process::Process;

use crate::export::metrics::OwnFacts;

/// CPU time, memory and descriptors of this process now.
pub(super) fn facts() -> OwnFacts {
    let Ok(process) = Process::myself() else { return OwnFacts::default() };
    let stat = process.stat().ok();
    #[allow(clippy::cast_precision_loss, reason = "2^53 ticks are millions of years")]
    let cpu_seconds = stat.as_ref().map(|stat| (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64);
    OwnFacts {
        cpu_seconds,
        resident_memory_bytes: stat.map(|stat| stat.rss.saturating_mul(procfs::page_size())),
        open_fds: process.fd_count().ok().and_then(|count| u64::try_from(count).ok()),
    }
}

/// CPU time of this process and of the children that it has seen end, ns.
pub(super) fn cpu_ns_with_children() -> u64 {
    let stat = Process::myself().and_then(|process| process.stat());
    stat.map_or(0, |stat| {
        let children = stat.cutime.saturating_add(stat.cstime);
        let ticks = (stat.utime + stat.stime).saturating_add(u64::try_from(children).unwrap_or(0));
        ticks_ns(ticks)
    })
}

/// CPU time of a process, ns. `None`: it is over.
pub(super) fn cpu_ns_of(pid: u32) -> Option<u64> {
    let stat = Process::new(i32::try_from(pid).ok()?).and_then(|process| process.stat()).ok()?;
    Some(ticks_ns(stat.utime + stat.stime))
}

fn ticks_ns(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / procfs::ticks_per_second().max(1))
}

#[allow(clippy::disallowed_methods, reason = "the pipeline is where time comes from")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    unix_ns() / 1_000_000
}

/// Nanoseconds since 1970.
#[allow(clippy::disallowed_methods, reason = "the pipeline is where time comes from")]
pub(super) fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
