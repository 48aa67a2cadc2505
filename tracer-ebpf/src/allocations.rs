//! Allocations, counted per stack.
//!
//! Counterpart: `tracer-daemon/src/collect/mod.rs`.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    macros::{map, uprobe},
    maps::PerCpuHashMap,
    programs::ProbeContext,
};
use tracer_common::{
    exact::{AllocationCount, StackKey, StackKind, Total},
    loss::Loss,
    size_class::{allocated_bytes, depends_on_pointers},
};

use crate::{
    counters::{add, add_loss, add_total, gate_is_open},
    milliseconds::count_in_millisecond,
    stacks::{Introduction, Position, is_full, key_of, note_failed_insertion},
    target::{Registers, begins, is_without_pointers, malloc_header_bytes, mallocgc_end, mallocgc_start, read_word},
};

/// What each stack allocated. Never emptied: it lives as long as the attachment. The loader may set another size.
#[map]
static ALLOCATIONS: PerCpuHashMap<StackKey, AllocationCount> = PerCpuHashMap::with_max_entries(16_384, 0);

/// At the beginning of `runtime.mallocgc` (the `push rbp` behind its stack check, or the check's `jbe`): AX = size,
/// BX = *type or 0.
#[uprobe]
pub(crate) fn allocation(context: ProbeContext) -> u32 {
    add_total(Total::ProbeHits, 1);
    if gate_is_open() && begins(&context) {
        count(&Registers::of(&context));
    }
    0
}

/// At the beginning of one of Go 1.27's specialised functions: the same registers. `mallocgc` calls them too, and has
/// counted then.
#[uprobe]
pub(crate) fn specialised_allocation(context: ProbeContext) -> u32 {
    add_total(Total::ProbeHits, 1);
    if gate_is_open() && begins(&context) {
        let registers = Registers::of(&context);
        match read_word(registers.stack_pointer) {
            Some(caller) if caller >= mallocgc_start() && caller < mallocgc_end() => {}
            _ => count(&registers),
        }
    }
    0
}

#[inline(always)]
fn count(registers: &Registers) {
    let size = registers.ax;
    if size == 0 {
        return; // the runtime hands out the address of `zerobase`: nothing is allocated
    }
    let without_pointers = depends_on_pointers(size) && is_without_pointers(registers.bx);
    let bytes = allocated_bytes(size, without_pointers, malloc_header_bytes());
    add_total(Total::AllocatedObjects, 1);
    add_total(Total::AllocatedBytes, bytes);
    count_in_millisecond(bytes);

    let key = key_of(registers, Position::BeforeFrame);
    if let Some(counted) = ALLOCATIONS.get_ptr_mut(&key) {
        add_to(counted, bytes);
        return;
    }
    // A new stack. First a place in the ring, then one in the map: a stack that is counted was always sent, and one that
    // finds the ring full is tried again at its next hit.
    if is_full(StackKind::Allocation) {
        add_loss(Loss::AllocationStacksFull);
        return;
    }
    let Some(introduction) = Introduction::reserve() else { return };
    match ALLOCATIONS.insert(&key, &AllocationCount { objects: 0, bytes: 0 }, u64::from(BPF_NOEXIST)) {
        Ok(()) => introduction.send(key, StackKind::Allocation, registers, Position::BeforeFrame),
        Err(error) => {
            introduction.withdraw();
            note_failed_insertion(StackKind::Allocation, error);
        }
    }
    match ALLOCATIONS.get_ptr_mut(&key) {
        Some(counted) => add_to(counted, bytes),
        None => add_loss(Loss::AllocationStacksFull),
    }
}

#[inline(always)]
pub(crate) fn add_to(counted: *mut AllocationCount, bytes: u64) {
    // SAFETY: a pointer to a map value, valid until the program ends.
    let (objects_counter, bytes_counter) = unsafe { (&raw mut (*counted).objects, &raw mut (*counted).bytes) };
    add(objects_counter, 1);
    add(bytes_counter, bytes);
}
