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
