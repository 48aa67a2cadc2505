//! Births: who allocates in a window, what, and where the object will lie.
//!
//! Every hit is counted; some, chosen by their bytes, are recorded with their stack. Counterparts:
//! `tracer-daemon/src/attach/` opens windows, `tracer-daemon/src/collect/births.rs` reads the ring.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, generated::bpf_get_attach_cookie},
    macros::{map, uprobe},
    maps::{Array, HashMap, PerCpuArray, RingBuf, ring_buf::RingBufEntry},
    programs::ProbeContext,
};
use tracer_common::{
    bursts::{
        BirthRecord, BurstPoint, BurstTotal, LARGE_WINDOW, PREFERENCES, RecordKind, SlotRecord, WINDOWS, WindowKind,
        WindowState, birth_flags,
    },
    exact::MAX_FRAMES,
    size_class::{allocated_bytes, depends_on_pointers, is_large, is_tiny, size_class},
};

use crate::{
    counters::add,
    predict::{self, Place, SPAN_WORDS},
    stacks::{Position, walk},
    target::{
        Registers, SpanFacts, begins, gc_blacken_enabled, goroutine_of, has_slow_paths, heap_sweepgen, held,
        is_without_pointers, malloc_header_bytes, mallocgc_end, mallocgc_is_probed, mallocgc_start, read_half_word,
        read_word, slot_address_register, slot_span_register,
    },
    window::Window,
};

/// The window that is open, written by the process that holds the probes; and that of large objects, by the daemon.
#[map]
static WINDOW: Array<WindowState> = Array::with_max_entries(WINDOWS, 0);

/// Which classes are worth more than their bytes, written by the daemon.
#[map]
static PREFERRED: Array<u64> = Array::with_max_entries(PREFERENCES, 0);

/// Births, slots and collections, in their order. The loader may set another size.
#[map]
static BIRTHS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

#[map]
static BURST_TOTALS: PerCpuArray<u64> = PerCpuArray::with_max_entries(BurstTotal::COUNT, 0);

/// Births that wait for the slot that `nextFree` finds, by `g`. The slot removes them, and so does the next that waits.
#[map]
static PENDING: HashMap<u64, Pending> = HashMap::with_max_entries(1_024, 0);

/// What so few records take that one of them is seen right behind the middle of the ring.
const CROSSING_BYTES: u64 = 4 * size_of::<BirthRecord>() as u64;

/// A birth that waits.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pending {
    /// [`BirthRecord::time_ns`].
    birth_ns: u64,
    /// The class of the span that is full.
    span_class: u64,
    /// The burst: a slot that is found in a later one is another object's, since its own was found between them.
    burst: u64,
}

/// All points of a burst, told apart by their cookies.
#[uprobe]
pub(crate) fn burst(context: ProbeContext) -> u32 {
    // SAFETY: the context is that of the program that runs.
    let cookie = unsafe { bpf_get_attach_cookie(context.as_ptr()) };
    hit(&context, cookie);
    0
}

/// The same where links have no cookies: a program for each kind of point.
macro_rules! points {
    ($($name:ident: $point:ident),*) => {$(
        #[uprobe]
        pub(crate) fn $name(context: ProbeContext) -> u32 {
            hit(&context, BurstPoint::$point as u64);
            0
        }
    )*};
}
points!(
    burst_chooses_slot: ChoosesSlot,
    burst_mallocgc: Mallocgc,
    burst_specialised: Specialised,
    burst_slow_path: SlowPath,
    burst_slot_found: SlotFound,
    burst_large_span_found: LargeSpanFound,
    burst_slot_searched: SlotSearched
);

#[inline(always)]
pub(crate) fn add_burst_total(total: BurstTotal, amount: u64) {
    if let Some(counter) = BURST_TOTALS.get_ptr_mut(total as u32) {
        add(counter, amount);
    }
}

#[inline(always)]
pub(crate) fn add_time_since(total: BurstTotal, began_ns: u64) {
    // SAFETY: no arguments.
    add_burst_total(total, unsafe { bpf_ktime_get_ns() }.wrapping_sub(began_ns));
}

/// Room in the ring; counted where there is none.
#[inline(always)]
pub(crate) fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    BIRTHS.reserve::<T>(0)
}

/// A record wakes nobody up, unless with it the ring becomes half full.
#[inline(always)]
fn wakeup() -> u64 {
    let half = BIRTHS.query(u64::from(BPF_RB_RING_SIZE)) / 2;
    // Of processors that write at the same moment each sees the records of all.
    if (half..half + CROSSING_BYTES).contains(&BIRTHS.query(u64::from(BPF_RB_AVAIL_DATA))) {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}

/// Behind the call of `allocLarge`, where its hook stays: not a part of the window that is open.
#[uprobe]
pub(crate) fn large_objects(context: ProbeContext) -> u32 {
    add_burst_total(BurstTotal::LargeHits, 1);
    if let Some((window, now)) = open_window(LARGE_WINDOW) {
        large(&context, &window, now, LARGE_WINDOW);
    }
    0
}

/// The window with this index, and the time. None: no hit counts there.
#[inline(always)]
fn open_window(index: u32) -> Option<(WindowState, u64)> {
    let window = WINDOW.get_ptr(index)?;
    // SAFETY: a pointer to a map value. Volatile: another process writes it.
    let window = unsafe { core::ptr::read_volatile(window) };
    if window.until_ns == 0 {
        return None;
    }
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    (now < window.until_ns).then_some((window, now))
}

#[inline(always)]
fn hit(context: &ProbeContext, point: u64) {
    add_burst_total(BurstTotal::Hits, 1);
    let Some((window, now)) = open_window(0) else { return };
    if point == BurstPoint::SlotFound as u64 {
        slot_found(context, &window, now);
    } else if point == BurstPoint::SlotSearched as u64 {
        slot_searched(context, &window, now);
    } else if point == BurstPoint::LargeSpanFound as u64 {
        add_burst_total(BurstTotal::HitsInWindows, 1);
        large(context, &window, now, 0);
    } else {
        small(context, &window, now, point);
    }
}

/// Whether chance takes an object of so many bytes.
#[inline(always)]
fn is_chosen(bytes: u64, mean_birth_bytes: u64) -> bool {
    // SAFETY: no arguments.
    bytes >= mean_birth_bytes || u64::from(unsafe { bpf_get_prandom_u32() }) * mean_birth_bytes < bytes << 32
}

/// The mean by which objects of a class are chosen.
#[inline(always)]
fn mean_of(class: u8, window: &WindowState) -> u64 {
    let mean = window.mean_birth_bytes;
    let Some(preference) = PREFERRED.get_ptr(u32::from(class)) else { return mean };
    // SAFETY: a pointer to a map value. Volatile: another process writes it.
    match unsafe { core::ptr::read_volatile(preference) } {
        0 | 1 => mean,
        times => mean / times,
    }
}

#[inline(always)]
fn is_marking() -> bool {
    !matches!(read_half_word(gc_blacken_enabled()), Some(0))
}

/// A small object, where its slot is about to be chosen, or somewhat before.
#[inline(always)]
fn small(context: &ProbeContext, window: &WindowState, now: u64, point: u64) {
    if !begins(context) || window.kind != WindowKind::Births as u32 {
        return;
    }
    let registers = Registers::of(context);
    let size = registers.ax;
    let header_bytes = malloc_header_bytes();
    if size == 0 || is_large(size, header_bytes) {
        return; // no allocation; or one that has its own point
    }
    let is_slow_path = point == BurstPoint::SlowPath as u64;
    let is_specialised = point == BurstPoint::Specialised as u64;
    if is_specialised && mallocgc_is_probed() != 0 {
        match read_word(registers.stack_pointer) {
            Some(caller) if caller >= mallocgc_start() && caller < mallocgc_end() => return,
            _ => {}
        }
    }
    let depends = depends_on_pointers(size);
    let mut without_pointers = depends && is_without_pointers(registers.bx);
    let bytes = allocated_bytes(size, without_pointers, header_bytes);
    let class = size_class(size, without_pointers, header_bytes);
    if !is_slow_path {
        // A slow path was counted when its specialised function began.
        add_burst_total(BurstTotal::HitsInWindows, 1);
    }
    let mean = mean_of(class, window);
    if !is_chosen(bytes, mean) {
        return;
    }
    let is_marking = is_marking();
    // While the collector marks, a specialised function leaves the object to its slow path. Each draws for itself, and of
    // one object one counts.
    if (is_specialised && has_slow_paths() != 0 && is_marking) || (is_slow_path && !is_marking) {
        return;
    }
    if !depends {
        without_pointers = is_without_pointers(registers.bx);
    }
    let mut flags = 0;
    if is_marking {
        flags |= birth_flags::MARKING;
    }
    if without_pointers {
        flags |= birth_flags::WITHOUT_POINTERS;
    }
    if is_tiny(size, without_pointers) {
        flags |= birth_flags::TINY;
    }
    let Some(mut record) = reserve::<BirthRecord>() else {
        add_burst_total(BurstTotal::BirthsLost, 1);
        return;
    };
    let span_class = u64::from(class) << 1 | u64::from(without_pointers);
    let is_certain = point == BurstPoint::ChoosesSlot as u64;
    let mut address = 0;
    if is_marking && !is_certain && predict::assist_is_due(registers.g, size) {
        flags |= birth_flags::ASSIST_DUE;
    } else {
        // The frames come later.
        let scratch = frames_of(&mut record);
        match predict::place(registers.g, size, span_class, flags & birth_flags::TINY != 0, scratch) {
            Place::Slot(slot) => address = slot,
            Place::SpanFull => flags |= birth_flags::SPAN_FULL,
            Place::Unreadable => flags |= birth_flags::UNREADABLE,
        }
    }
    if flags & birth_flags::SPAN_FULL != 0
        && PENDING.insert(&registers.g, &Pending { birth_ns: now, span_class, burst: window.burst.into() }, 0).is_err()
    {
        add_burst_total(BurstTotal::PendingFull, 1);
    }
    let born = Born { size, bytes, class: u32::from(class), type_address: registers.bx, address, flags, mean };
    let frames = send(record, window, now, &registers, Position::BeforeFrame, &born);
    add_birth(now, frames);
}

const _: () = assert!(SPAN_WORDS <= MAX_FRAMES);

#[inline(always)]
fn frames_of(record: &mut RingBufEntry<BirthRecord>) -> *mut u64 {
    // SAFETY: the ring reserved a whole record.
    unsafe { (&raw mut (*record.as_mut_ptr()).frames).cast() }
}

/// An object with a span of its own, which was made just now.
#[inline(always)]
fn large(context: &ProbeContext, window: &WindowState, now: u64, index: u32) {
    if window.kind != WindowKind::Births as u32 {
        return;
    }
    let registers = Registers::of(context);
    let Some(span) = SpanFacts::read(registers.ax) else { return };
    let bytes = span.slot_bytes;
    if !is_chosen(bytes, window.mean_birth_bytes) {
        return;
    }
    let mut flags = birth_flags::LARGE;
    if is_marking() {
        flags |= birth_flags::MARKING;
    }
    if span.class & 1 != 0 {
        flags |= birth_flags::WITHOUT_POINTERS;
    }
    let mean = window.mean_birth_bytes;
    let born = Born { size: bytes, bytes, class: 0, type_address: 0, address: span.start, flags, mean };
    let Some(record) = reserve::<BirthRecord>() else {
        add_burst_total(BurstTotal::BirthsLost, 1);
        return;
    };
    let frames = send(record, window, now, &registers, Position::InsideFrame, &born);
    if index == 0 {
        add_birth(now, frames);
    }
}

/// `nextFree` has found a slot.
#[inline(always)]
fn slot_found(context: &ProbeContext, window: &WindowState, now: u64) {
    let registers = Registers::of(context);
    let mut birth_ns = 0;
    // Linux 5.10 refuses a program that reads what it has not written, and so it would read the fields of an `Option`.
    let facts = SpanFacts::read(held(context, slot_span_register())).unwrap_or(SpanFacts::UNKNOWN);
    if window.kind == WindowKind::Births as u32 {
        let Some(pending) = pending(registers.g, window) else { return };
        if facts.slot_bytes != 0 && facts.class != pending.span_class {
            return; // of an allocation in between
        }
        let _gone = PENDING.remove(&registers.g);
        birth_ns = pending.birth_ns;
    } else {
        add_burst_total(BurstTotal::HitsInWindows, 1);
    }
    let address = held(context, slot_address_register());
    send_slot(window, now, &registers, birth_ns, address, &facts);
}

/// `nextFreeIndex` looks for a slot in a span: for a birth that waits, if there is one in it. Of a full span it says so to `nextFree`, which
/// takes another one and asks again.
#[inline(always)]
fn slot_searched(context: &ProbeContext, window: &WindowState, now: u64) {
    if !begins(context) || window.kind != WindowKind::Births as u32 {
        return;
    }
    let registers = Registers::of(context);
    let Some(pending) = pending(registers.g, window) else { return };
    let Some(facts) = SpanFacts::read(registers.ax) else { return };
    if facts.class != pending.span_class {
        return; // of an allocation in between
    }
    let Some(address) = predict::free_slot(registers.ax, &facts) else { return };
    let _gone = PENDING.remove(&registers.g);
    send_slot(window, now, &registers, pending.birth_ns, address, &facts);
}

/// The birth of this window that waits for a slot, by the `g` that allocates.
#[inline(always)]
fn pending(g: u64, window: &WindowState) -> Option<Pending> {
    let pending = PENDING.get_ptr(&g)?;
    // SAFETY: a pointer to a map value. Copied, because the entry is removed.
    let pending = unsafe { *pending };
    (pending.burst == u64::from(window.burst)).then_some(pending)
}

#[inline(always)]
fn send_slot(window: &WindowState, now: u64, registers: &Registers, birth_ns: u64, address: u64, facts: &SpanFacts) {
    let Some(mut entry) = reserve::<SlotRecord>() else {
        add_burst_total(BurstTotal::BirthsLost, 1);
        return;
    };
    let goroutine = goroutine_of(registers.g);
    let record = entry.as_mut_ptr();
    // SAFETY: the ring reserved a whole record; every field is written here.
    unsafe {
        (&raw mut (*record).kind).write(RecordKind::Slot as u32);
        (&raw mut (*record).burst).write(window.burst);
        (&raw mut (*record).time_ns).write(now);
        (&raw mut (*record).birth_ns).write(birth_ns);
        (&raw mut (*record).g).write(registers.g);
        (&raw mut (*record).goroutine).write(goroutine.id);
        (&raw mut (*record).goroutine_entry).write(goroutine.entry);
        (&raw mut (*record).address).write(address);
        (&raw mut (*record).slot_bytes).write(facts.slot_bytes);
        (&raw mut (*record).span_class).write(facts.class as u32);
        (&raw mut (*record).sweepgen).write(heap_sweepgen());
    }
    entry.submit(wakeup());
    add_burst_total(BurstTotal::Slots, 1);
    add_time_since(BurstTotal::RecordedNs, now);
}

/// What is known of an object that was chosen.
struct Born {
    size: u64,
    bytes: u64,
    class: u32,
    type_address: u64,
    address: u64,
    flags: u32,
    /// It was chosen with the probability of its bytes in this, at most 1.
    mean: u64,
}

/// Records it with its stack, of which it returns the length.
#[inline(always)]
fn send(
    mut entry: RingBufEntry<BirthRecord>,
    window: &WindowState,
    now: u64,
    registers: &Registers,
    position: Position,
    born: &Born,
) -> u32 {
    let frames = frames_of(&mut entry);
    let goroutine = goroutine_of(registers.g);
    let record = entry.as_mut_ptr();
    // SAFETY: the ring reserved a whole record; every field that the daemon reads is written here.
    unsafe {
        (&raw mut (*record).kind).write(RecordKind::Birth as u32);
        (&raw mut (*record).burst).write(window.burst);
        (&raw mut (*record).time_ns).write(now);
        (&raw mut (*record).g).write(registers.g);
        (&raw mut (*record).goroutine).write(goroutine.id);
        (&raw mut (*record).goroutine_entry).write(goroutine.entry);
        (&raw mut (*record).address).write(born.address);
        (&raw mut (*record).type_address).write(born.type_address);
        (&raw mut (*record).size).write(born.size);
        (&raw mut (*record).bytes).write(born.bytes);
        (&raw mut (*record).size_class).write(born.class);
        (&raw mut (*record).flags).write(born.flags);
        (&raw mut (*record).sweepgen).write(heap_sweepgen());
        (&raw mut (*record).mean_birth_bytes).write(born.mean);
    }
    let mut window = Window::open();
    let count = walk(
        registers,
        position,
        |address| match &mut window {
            Some(window) => window.read(address),
            None => None,
        },
        |index, frame| {
            if index < MAX_FRAMES {
                // SAFETY: the index is below the number of frames of the record.
                unsafe { frames.add(index).write(frame) };
            }
        },
    );
    if let Some(window) = window {
        window.close();
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*record).frame_count).write(count) };
    entry.submit(wakeup());
    count
}

/// Counts a birth of the window that is open.
#[inline(always)]
fn add_birth(began_ns: u64, frames: u32) {
    add_burst_total(BurstTotal::Births, 1);
    add_burst_total(BurstTotal::Frames, u64::from(frames));
    add_time_since(BurstTotal::RecordedNs, began_ns);
}
