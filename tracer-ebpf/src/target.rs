//! The target: its constants, its registers, its memory.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_probe_read_user, generated},
    programs::ProbeContext,
};
use tracer_common::{
    bursts::{BurstConfig, GeneralRegister},
    exact::TargetConfig,
};

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

/// As [`TARGET`], for births.
#[unsafe(no_mangle)]
static BURST: BurstConfig = BurstConfig {
    g_m: 0,
    g_goid: 0,
    g_startpc: 0,
    g_gc_assist_bytes: 0,
    m_p: 0,
    p_mcache: 0,
    mcache_tiny: 0,
    mcache_alloc: 0,
    span_start: 0,
    span_freeindex: 0,
    span_nelems: 0,
    span_index_bits: 0,
    span_alloc_cache: 0,
    span_alloc_bits: 0,
    span_elemsize: 0,
    span_spanclass: 0,
    gc_blacken_enabled: 0,
    sweepgen: 0,
    slot_span_register: 0,
    slot_address_register: 0,
    has_slow_paths: 0,
    mallocgc_is_probed: 0,
};

macro_rules! constant {
    ($constants:ident: $($field:ident),*) => {$(
        #[inline(always)]
        pub(crate) fn $field() -> u64 {
            // SAFETY: a valid, aligned static. Volatile, because the loader replaces the value that the compiler sees.
            unsafe { core::ptr::read_volatile(&raw const $constants.$field) }
        }
    )*};
}
constant!(TARGET: mallocgc_start, mallocgc_end, g_goid_offset, g_gopc_offset, malloc_header_bytes, stack_check_flags);
constant!(
    BURST: g_m, g_goid, g_startpc, g_gc_assist_bytes, m_p, p_mcache, mcache_tiny, mcache_alloc, span_start,
    span_freeindex, span_nelems, span_index_bits, span_alloc_cache, span_alloc_bits, span_elemsize, span_spanclass,
    gc_blacken_enabled, sweepgen, slot_span_register, slot_address_register, has_slow_paths, mallocgc_is_probed
);

/// Offset of `PtrBytes` in `internal/abi.Type`; 0 there means a type without pointers (Go 1.19 to 1.27).
const TYPE_PTR_BYTES_OFFSET: u64 = 8;

/// The registers that the programs use, each read from the context once: the compiler would otherwise fold several uses
/// into arithmetic on the context pointer, which the verifier rejects.
pub(crate) struct Registers {
    /// RAX: the first integer argument of Go's register ABI.
    pub(crate) ax: u64,
    /// RBX: the second one.
    pub(crate) bx: u64,
    /// R14: the `runtime.g` that runs.
    pub(crate) g: u64,
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
                g: core::ptr::read_volatile(&raw const (*registers).r14),
                instruction_pointer: core::ptr::read_volatile(&raw const (*registers).rip),
                stack_pointer: core::ptr::read_volatile(&raw const (*registers).rsp),
                frame_pointer: core::ptr::read_volatile(&raw const (*registers).rbp),
            }
        }
    }
}

/// What is in the register with this number ([`GeneralRegister`]); 0: in none. All are read first: the compiler would otherwise make an offset into the
/// context of the number, which the verifier rejects.
#[inline(always)]
pub(crate) fn held(context: &ProbeContext, register: u64) -> u64 {
    let registers: *const pt_regs = context.regs;
    // SAFETY: the kernel hands every uprobe program a valid `pt_regs`.
    let values = unsafe {
        [
            (GeneralRegister::Ax, core::ptr::read_volatile(&raw const (*registers).rax)),
            (GeneralRegister::Bx, core::ptr::read_volatile(&raw const (*registers).rbx)),
            (GeneralRegister::Cx, core::ptr::read_volatile(&raw const (*registers).rcx)),
            (GeneralRegister::Dx, core::ptr::read_volatile(&raw const (*registers).rdx)),
            (GeneralRegister::Si, core::ptr::read_volatile(&raw const (*registers).rsi)),
            (GeneralRegister::Di, core::ptr::read_volatile(&raw const (*registers).rdi)),
            (GeneralRegister::R8, core::ptr::read_volatile(&raw const (*registers).r8)),
            (GeneralRegister::R9, core::ptr::read_volatile(&raw const (*registers).r9)),
            (GeneralRegister::R10, core::ptr::read_volatile(&raw const (*registers).r10)),
            (GeneralRegister::R11, core::ptr::read_volatile(&raw const (*registers).r11)),
        ]
    };
    let mut found = 0;
    for (holds, value) in values {
        if holds as u64 == register {
            found = value;
        }
    }
    found
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

/// Half a word of the target's memory.
#[inline(always)]
pub(crate) fn read_half_word(address: u64) -> Option<u32> {
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_user(address as *const u32) }.ok()
}

/// Two words of the target's memory.
#[inline(always)]
pub(crate) fn read_pair(address: u64) -> Option<[u64; 2]> {
    read_frame(address)
}

/// Some bytes of the target's memory; false: not all of them can be read. `buffer` has room for them.
#[inline(always)]
pub(crate) fn read_record(address: u64, buffer: *mut u64, bytes: u32) -> bool {
    // SAFETY: callers pass memory with room; the helper checks the address.
    unsafe { generated::bpf_probe_read_user(buffer.cast(), bytes, address as *const _) == 0 }
}

/// Fields of a span: one read each, for who needs few.
pub(crate) struct SpanFacts {
    pub(crate) start: u64,
    /// Bytes of a slot.
    pub(crate) slot_bytes: u64,
    /// Size class, and whether its objects hold no pointers as its lowest bit.
    pub(crate) class: u64,
}

impl SpanFacts {
    /// Of a span that cannot be read: no slot has 0 bytes.
    pub(crate) const UNKNOWN: Self = Self { start: 0, slot_bytes: 0, class: 0 };

    #[inline(always)]
    pub(crate) fn read(span: u64) -> Option<Self> {
        Some(Self {
            start: read_word(span + span_start())?,
            slot_bytes: read_word(span + span_elemsize())?,
            class: read_word(span + span_spanclass())? & 0xff,
        })
    }
}

/// Whether objects of a type hold no pointers; 0 stands for such a one.
#[inline(always)]
pub(crate) fn is_without_pointers(type_address: u64) -> bool {
    type_address == 0 || read_word(type_address + TYPE_PTR_BYTES_OFFSET) == Some(0)
}

/// `mheap_.sweepgen`; 0: unreadable.
#[inline(always)]
pub(crate) fn heap_sweepgen() -> u32 {
    read_half_word(sweepgen()).unwrap_or(0)
}

/// Who allocates.
pub(crate) struct Goroutine {
    /// Its id; 0: the scheduler.
    pub(crate) id: u64,
    /// The function that it runs.
    pub(crate) entry: u64,
}

#[inline(always)]
pub(crate) fn goroutine_of(g: u64) -> Goroutine {
    Goroutine { id: read_word(g + g_goid()).unwrap_or(0), entry: read_word(g + g_startpc()).unwrap_or(0) }
}

/// Two words of the target's memory: a saved frame pointer and the return address above it.
#[inline(always)]
pub(crate) fn read_frame(address: u64) -> Option<[u64; 2]> {
    // SAFETY: the helper checks the address itself and fails on a bad one.
    unsafe { bpf_probe_read_user(address as *const [u64; 2]) }.ok()
}
