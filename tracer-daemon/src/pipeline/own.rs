//! What leakline itself uses, and what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use procfs::process::{Process, Stat};

use crate::export::metrics::OwnFacts;

/// CPU time, memory and descriptors of this process now. Those that held probes for it count in the time once they have ended: where windows
/// are opened, most of it may be theirs.
pub(super) fn facts() -> OwnFacts {
    let Ok(process) = Process::myself() else { return OwnFacts::default() };
    let stat = process.stat().ok();
    #[allow(clippy::cast_precision_loss, reason = "2^53 ticks are millions of years")]
    let cpu_seconds = |stat: &Stat| ticks_with_children(stat) as f64 / procfs::ticks_per_second() as f64;
    OwnFacts {
        cpu_seconds: stat.as_ref().map(cpu_seconds),
        resident_memory_bytes: stat.map(|stat| stat.rss.saturating_mul(procfs::page_size())),
        open_fds: process.fd_count().ok().and_then(|count| u64::try_from(count).ok()),
    }
}

/// CPU time of this process and of the children that it has seen end, ns.
pub(super) fn cpu_ns_with_children() -> u64 {
    let stat = Process::myself().and_then(|process| process.stat());
    stat.map_or(0, |stat| ticks_ns(ticks_with_children(&stat)))
}

fn ticks_with_children(stat: &Stat) -> u64 {
    let children = stat.cutime.saturating_add(stat.cstime);
    (stat.utime + stat.stime).saturating_add(u64::try_from(children).unwrap_or(0))
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_time_of_children_that_ended_is_ours() {
        let before = facts().cpu_seconds.unwrap();
        // Some ticks of CPU time, however fast the machine is.
        let busy = "while [ $(awk '{print $14 + $15 + $16 + $17}' /proc/$$/stat) -lt 20 ]; do :; done";
        assert!(Command::new("sh").args(["-c", busy]).status().unwrap().success());
        let (after, own) = (facts().cpu_seconds.unwrap(), Process::myself().unwrap().stat().unwrap());
        assert!(after - before >= 0.15, "{before} {after}");
        assert!(cpu_ns_with_children() > ticks_ns(own.utime + own.stime));
    }
}
