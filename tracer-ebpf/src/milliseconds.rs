//! Allocations of each millisecond, whoever made them.
//!
//! Counterpart: `tracer-daemon/src/collect/milliseconds.rs`, which looks often enough to tell one turn of the clock from the next.
//! Entries only grow, so that no hit is lost to one that preempts it.

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::map, maps::PerCpuArray};
use tracer_common::exact::{AllocationCount, MILLISECOND_NS, MILLISECONDS as COUNT};

use crate::allocations::add_to;

/// The loader makes it small where nothing counts in it.
#[map]
static MILLISECONDS: PerCpuArray<AllocationCount> = PerCpuArray::with_max_entries(COUNT, 0);

/// Adds one object to the millisecond that is now.
#[inline(always)]
pub(crate) fn count_in_millisecond(bytes: u64) {
    // SAFETY: takes nothing and reads a clock; CLOCK_MONOTONIC.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let entry = (now_ns / MILLISECOND_NS) as u32 % COUNT;
    if let Some(counted) = MILLISECONDS.get_ptr_mut(entry) {
        add_to(counted, bytes);
    }
}
