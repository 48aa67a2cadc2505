//! The target: its constants, its registers, its memory.

use aya_ebpf::{bindings::pt_regs, helpers::bpf_probe_read_user, programs::ProbeContext};
use tracer_common::exact::TargetConfig;

/// Set by the loader before the verifier sees the programs, so that it can follow the values.
#[unsafe(no_mangle)]
static TARGET: TargetConfig = TargetConfig {
    mallocgc_start: 0,
    mallocgc_end: 0,
    g_goid_offset: 0,
    g_gopc_offset: 0,
    malloc_header_bytes: 0,
    stack_check_flags: 0,
};

macro_rules! constant {
    ($($field:ident),*) => {$(
        #[inline(always)]
        pub(crate) fn $field() -> u64 {
            // SAFETY: a valid, aligned static. Volatile, because the loader replaces the value that the compiler sees.
            unsafe { core::ptr::read_volatile(&raw const TARGET.$field) }
        }
    )*};
}
constant!(mallocgc_start, mallocgc_end, g_goid_offset, g_gopc_offset, malloc_header_bytes, stack_check_flags);

/// The registers that the programs use, each read from the context once: the compiler would otherwise fold several uses
/// into arithmetic on the context pointer, which the verifier rejects.
pub(crate) struct Registers {
    /// RAX: the first integer argument of Go's register ABI.
    pub(crate) ax: u64,
    /// RBX: the second one.
    pub(crate) bx: u64,
    pub(crate) instruction_pointer: u64,
    pub(crate) stack_pointer: u64,
    pub(crate) frame_pointer: u64,
}

impl Registers {
    #[inline(always)]
    pub(crate) fn of(context: &ProbeContext) -> Self {
        let registers: *const pt_regs = context.regs;
        // SAFETY: the kernel hands every uprobe program a valid `pt_regs`.
        unsafe {
            Self {
                ax: core::ptr::read_volatile(&raw const (*registers).rax),
                bx: core::ptr::read_volatile(&raw const (*registers).rbx),
                instruction_pointer: core::ptr::read_volatile(&raw const (*registers).rip),
                stack_pointer: core::ptr::read_volatile(&raw const (*registers).rsp),
                frame_pointer: core::ptr::read_volatile(&raw const (*registers).rbp),
            }
        }
    }
}

/// Whether the probed function has enough stack to begin. If not, it makes room and begins anew: another hit follows.
#[inline(always)]
pub(crate) fn begins(context: &ProbeContext) -> bool {
    let registers: *const pt_regs = context.regs;
    // SAFETY: the kernel hands every uprobe program a valid `pt_regs`.
    let flags = unsafe { core::ptr::read_volatile(&raw const (*registers).eflags) };
    flags & stack_check_flags() == 0
}

/// One word of the target's memory; None where it is not mapped or not resident.
#[inline(always)]
pub(crate) fn read_word(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// Two words of the target's memory: a saved frame pointer and the return address above it.
#[inline(always)]
pub(crate) fn read_frame(address: u64) -> Option<[u64; 2]> {
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_user(address as *const [u64; 2]) }.ok()
}
