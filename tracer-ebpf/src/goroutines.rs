//! Goroutine creations and exits, counted per creation stack.
//!
//! For `exact` by a program for each kind of point, open while `GATE` is. For the hooks that stay by one program for all, open until a
//! time that is put off again and again: where whoever does so was stopped, nothing counts. Exits are counted by the creating line alone
//! there, so that no entry is made and removed for each goroutine.
//!
//! Counterparts: `tracer-daemon/src/collect/mod.rs`, `tracer-daemon/src/collect/hooks.rs`.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_NOEXIST,
    helpers::{bpf_ktime_get_ns, generated::bpf_get_attach_cookie},
    macros::{map, uprobe},
    maps::{Array, HashMap},
    programs::ProbeContext,
};
use tracer_common::{
    exact::{GoroutineCount, StackKey, StackKind, Total},
    goroutines::GoroutinePoint,
    loss::Loss,
};

use crate::{
    counters::{add, add_loss, add_total, gate_is_open},
    stacks::{Introduction, Position, is_full, key_of, note_failed_insertion},
    target::{Registers, begins, g_goid_offset, g_gopc_offset, read_word},
};

/// Creations and exits by creation stack. Never emptied: it lives as long as the attachment.
#[map]
static GOROUTINES: HashMap<StackKey, GoroutineCount> = HashMap::with_max_entries(4_096, 0);

/// Goroutines whose creation was seen and whose exit was not, by id. The exit removes its entry.
#[map]
static LIVE_GOROUTINES: HashMap<u64, StackKey> = HashMap::with_max_entries(65_536, 0);

/// Exits of goroutines whose creation was not seen, by `g.gopc`: the return address of the `go` statement.
#[map]
static EXIT_PLACES: HashMap<u64, u64> = HashMap::with_max_entries(4_096, 0);

/// Until when hits of the hooks that stay count, ns of the monotonic clock; 0: none does.
#[map]
static HOOKS_UNTIL: Array<u64> = Array::with_max_entries(1, 0);

/// At the call of `runqput` in `runtime.newproc.func1`: BX = the new *g, its fields set.
#[uprobe]
pub(crate) fn goroutine_created(context: ProbeContext) -> u32 {
    add_total(Total::ProbeHits, 1);
    if gate_is_open() {
        let registers = Registers::of(&context);
        created(&registers, registers.bx);
    }
    0
}

/// Behind the call of `newproc1`, which returned the new *g in AX: in `runtime.newcoro.func1`, and in
/// `runtime.newproc.func1` where the compiler inlined `runqput` there.
#[uprobe]
pub(crate) fn goroutine_returned(context: ProbeContext) -> u32 {
    add_total(Total::ProbeHits, 1);
    if gate_is_open() {
        let registers = Registers::of(&context);
        created(&registers, registers.ax);
    }
    0
}

/// At the beginning of `runtime.gdestroy` (`goexit0` up to Go 1.21): AX = the dying *g, its id and creator still set.
#[uprobe]
pub(crate) fn goroutine_exited(context: ProbeContext) -> u32 {
    add_total(Total::ProbeHits, 1);
    if gate_is_open() && begins(&context) {
        exited(Registers::of(&context).ax);
    }
    0
}

/// All points of the hooks that stay, told apart by their cookies.
#[uprobe]
pub(crate) fn goroutines(context: ProbeContext) -> u32 {
    add_total(Total::ProbeHits, 1);
    if !hooks_are_open() {
        return 0;
    }
    // SAFETY: the context is that of the program that runs.
    let point = unsafe { bpf_get_attach_cookie(context.as_ptr()) };
    if point != GoroutinePoint::Exited as u64 {
        count_creation(&Registers::of(&context));
    } else if begins(&context) {
        add_total(Total::GoroutinesExited, 1);
        match read_word(Registers::of(&context).ax + g_gopc_offset()) {
            Some(creator) => count_exit_by_place(creator),
            None => add_loss(Loss::GoroutineUnreadable),
        }
    }
    0
}

#[inline(always)]
fn hooks_are_open() -> bool {
    let Some(until_ns) = HOOKS_UNTIL.get_ptr(0) else { return false };
    // SAFETY: a pointer to a map value. Volatile: the daemon writes it.
    let until_ns = unsafe { core::ptr::read_volatile(until_ns) };
    // SAFETY: no arguments.
    until_ns != 0 && unsafe { bpf_ktime_get_ns() } < until_ns
}

/// Counts a creation by its stack. None: the stack has no place, counted.
#[inline(always)]
fn count_creation(registers: &Registers) -> Option<StackKey> {
    add_total(Total::GoroutinesCreated, 1);
    let key = key_of(registers, Position::InsideFrame);
    if GOROUTINES.get_ptr_mut(&key).is_none() {
        if is_full(StackKind::GoroutineCreation) {
            add_loss(Loss::GoroutineStacksFull);
            return None;
        }
        let introduction = Introduction::reserve()?;
        match GOROUTINES.insert(&key, &GoroutineCount { created: 0, exited: 0 }, u64::from(BPF_NOEXIST)) {
            Ok(()) => introduction.send(key, StackKind::GoroutineCreation, registers, Position::InsideFrame),
            Err(error) => {
                introduction.withdraw();
                note_failed_insertion(StackKind::GoroutineCreation, error);
            }
        }
    }
    let Some(counted) = GOROUTINES.get_ptr_mut(&key) else {
        add_loss(Loss::GoroutineStacksFull);
        return None;
    };
    // SAFETY: a pointer to a map value, valid until the program ends.
    add(unsafe { &raw mut (*counted).created }, 1);
    Some(key)
}

#[inline(always)]
fn created(registers: &Registers, g: u64) {
    let Some(key) = count_creation(registers) else { return };
    let Some(id) = read_word(g + g_goid_offset()) else {
        add_loss(Loss::GoroutineUnreadable);
        return;
    };
    if LIVE_GOROUTINES.insert(&id, &key, 0).is_err() {
        add_loss(Loss::LiveGoroutinesFull);
    }
}

#[inline(always)]
fn exited(g: u64) {
    add_total(Total::GoroutinesExited, 1);
    let (Some(id), Some(creator)) = (read_word(g + g_goid_offset()), read_word(g + g_gopc_offset())) else {
        add_loss(Loss::GoroutineUnreadable);
        return;
    };
    if let Some(key) = LIVE_GOROUTINES.get_ptr(&id) {
        // SAFETY: a pointer to a map value. Copied, because a map key must lie on the stack and the entry is removed.
        let key = unsafe { *key };
        if let Some(counted) = GOROUTINES.get_ptr_mut(&key) {
            // SAFETY: a pointer to a map value, valid until the program ends.
            add(unsafe { &raw mut (*counted).exited }, 1);
        }
        // Nothing to do where it is gone already: ids are unique, and each goroutine ends once.
        let _gone = LIVE_GOROUTINES.remove(&id);
        return;
    }
    count_exit_by_place(creator);
}

#[inline(always)]
fn count_exit_by_place(creator: u64) {
    if EXIT_PLACES.get_ptr_mut(&creator).is_none() {
        // A full map shows in the next look-up, and so does another CPU that was faster.
        let _full = EXIT_PLACES.insert(&creator, &0, u64::from(BPF_NOEXIST));
    }
    match EXIT_PLACES.get_ptr_mut(&creator) {
        Some(counted) => add(counted, 1),
        None => add_loss(Loss::ExitPlacesFull),
    }
}
