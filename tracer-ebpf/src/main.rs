//! leakline's kernel programs: what a probe in a Go process does.
//!
//! Each program does the least: is counting on, which stack is this, add one. Everything that needs thought happens in
//! `tracer-daemon`; `tracer-daemon/src/collect/` reads what is written here. Loaded once per target, with the target's
//! [`tracer_common::exact::TargetConfig`] as a constant; the perf event's pid filter keeps other processes out.
//!
//! Absences: nothing here writes user memory, trusts a per-CPU scratch area without a check (a uprobe program can be
//! preempted by another one on the same CPU), or calls a kernel function that older kernels than 5.10 lack.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the programs and maps are not an API; each is described where it stands")]
#![allow(missing_debug_implementations, reason = "no formatting in the kernel")]

mod allocations;
mod births;
mod counters;
mod cycles;
mod goroutines;
mod milliseconds;
mod predict;
mod stacks;
mod target;
mod window;

/// The verifier proves that no path panics; the compiler wants a handler all the same.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Helpers that read user memory are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
