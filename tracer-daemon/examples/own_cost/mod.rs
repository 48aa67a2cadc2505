//! What a bench itself uses: CPU time of its thread, memory of its process. Shared by the examples that measure cost.

#![allow(dead_code, reason = "each example is a crate of its own and uses what it measures")]

use std::fs;

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread, ns.
pub(crate) fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A line of `/proc/self/status` such as `VmRSS:`, KiB.
pub(crate) fn status_kib(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    value.trim().trim_end_matches(" kB").parse().with_context(|| format!("{field} is no number"))
}
