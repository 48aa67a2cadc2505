//! Totals, losses and the gate: what is right whatever else was lost.

use core::arch::asm;

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};
use tracer_common::{exact::Total, loss::Loss};

/// One word: 0 while nothing is to be counted (before all probes are on, and from the moment of shutdown).
#[map]
static GATE: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static TOTALS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Total::COUNT, 0);

#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::COUNT, 0);

/// Adds without losing an update to a program that preempts this one on the same CPU.
#[inline(always)]
pub(crate) fn add(counter: *mut u64, amount: u64) {
    // SAFETY: callers pass pointers into map values, which are aligned to 8 bytes and live as long as the program. The
    // instruction is BPF's oldest atomic; `AtomicU64::fetch_add` does not exist for a target without compare-and-swap.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount,
             options(nostack));
    }
}

#[inline(always)]
pub(crate) fn gate_is_open() -> bool {
    matches!(GATE.get(0), Some(&open) if open != 0)
}

#[inline(always)]
pub(crate) fn add_total(total: Total, amount: u64) {
    if let Some(counter) = TOTALS.get_ptr_mut(total as u32) {
        add(counter, amount);
    }
}

#[inline(always)]
pub(crate) fn add_loss(loss: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        add(counter, 1);
    }
}
