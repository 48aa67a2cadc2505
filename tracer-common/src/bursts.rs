//! `bursts` and `marks` evidence: the window in which hits count, what is recorded of a birth, and of a collection.
//!
//! Counterparts: `tracer-ebpf/src/{births,cycles}.rs` write, `tracer-daemon/src/collect/births.rs` reads.

use crate::exact::MAX_FRAMES;

/// What a point of a burst is: the cookie with which the kernel calls our program there.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BurstPoint {
    /// At the beginning of a function that chooses the slot of a small object and does nothing before (Go 1.24 and later).
    ChoosesSlot = 1,
    /// At the beginning of `mallocgc`, where those functions are inlined or do not exist.
    Mallocgc = 2,
    /// At the beginning of one of Go 1.27's specialised functions.
    Specialised = 3,
    /// At the beginning of a slow path of these: it allocates in their place while the collector marks.
    SlowPath = 4,
    /// At the end of `nextFree`, which found a slot where the cached span had none left at hand.
    SlotFound = 5,
    /// Behind the call of `allocLarge`, which made a span for one large object.
    LargeSpanFound = 6,
    /// At the beginning of `nextFreeIndex`, which looks for a slot in a span: where `nextFree`, which calls it, is inlined.
    SlotSearched = 7,
}

impl BurstPoint {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ChoosesSlot,
        Self::Mallocgc,
        Self::Specialised,
        Self::SlowPath,
        Self::SlotFound,
        Self::LargeSpanFound,
        Self::SlotSearched,
    ];
}

/// A general register, by its number in [`BurstConfig`]; 0 is none.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneralRegister {
    /// RAX.
    Ax = 1,
    /// RBX.
    Bx = 2,
    /// RCX.
    Cx = 3,
    /// RDX.
    Dx = 4,
    /// RSI.
    Si = 5,
    /// RDI.
    Di = 6,
    /// R8.
    R8 = 7,
    /// R9.
    R9 = 8,
    /// R10.
    R10 = 9,
    /// R11.
    R11 = 10,
}

/// What a window is for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WindowKind {
    /// Births: who allocates, and where the object lies.
    Births = 0,
    /// Every slot that `nextFree` finds: how much each goroutine allocates, at a 64th of the hits.
    Slots = 1,
}

/// Values of the map `WINDOW`: the window that is open, and that of the hook on large objects, which stays.
pub const WINDOWS: u32 = 2;
/// The index of the latter. The former is the first.
pub const LARGE_WINDOW: u32 = 1;

/// Values of the map `PREFERRED`, by size class: how many times the bytes of its objects count where chance chooses; 0 is 1.
pub const PREFERENCES: u32 = 68;

/// A window, if one is open: a value of the map `WINDOW`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowState {
    /// Until when hits count, ns of the monotonic clock; 0: none counts. Behind it nothing is recorded, whoever was
    /// stopped before he could take the probes away.
    pub until_ns: u64,
    /// Objects are chosen with the probability of their bytes in this, at most 1; 0 and 1: all are. Of a class that is preferred
    /// the bytes count more, see the map `PREFERRED`.
    pub mean_birth_bytes: u64,
    /// The number of the burst.
    pub burst: u32,
    /// A [`WindowKind`] as its number.
    pub kind: u32,
}

/// What a record of the ring `BIRTHS` is: its first word.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A [`BirthRecord`].
    Birth = 1,
    /// A [`SlotRecord`].
    Slot = 2,
    /// A [`CycleRecord`].
    Cycle = 3,
}

/// Bits of [`BirthRecord::flags`].
pub mod birth_flags {
    /// The collector marked: the object is black, and its first age says nothing.
    pub const MARKING: u32 = 1;
    /// The allocation had to help the collector first, and may have gone on elsewhere: there is no address.
    pub const ASSIST_DUE: u32 = 1 << 1;
    /// The cached span was full: the address comes in a [`super::SlotRecord`] behind.
    pub const SPAN_FULL: u32 = 1 << 2;
    /// An object without pointers of less than 16 bytes, which shares its slot with others.
    pub const TINY: u32 = 1 << 3;
    /// An object with a span of its own.
    pub const LARGE: u32 = 1 << 4;
    /// The objects of its span hold no pointers.
    pub const WITHOUT_POINTERS: u32 = 1 << 5;
    /// What the address depends on could not be read: there is none.
    pub const UNREADABLE: u32 = 1 << 6;
}

/// Ring record: an object that is about to be born, chosen among those of a window.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct BirthRecord {
    /// [`RecordKind::Birth`].
    pub kind: u32,
    /// The number of the burst.
    pub burst: u32,
    /// When, ns of the monotonic clock; also the name by which a [`SlotRecord`] refers to it, together with `g`.
    pub time_ns: u64,
    /// Address of the `runtime.g` that allocates.
    pub g: u64,
    /// Its id; 0: one of the scheduler's.
    pub goroutine: u64,
    /// The function that it runs, an address.
    pub goroutine_entry: u64,
    /// Address of the slot; 0: not known (yet), see the flags.
    pub address: u64,
    /// Address of its type; 0: none, or a large object.
    pub type_address: u64,
    /// What was asked for, bytes; of a large object those of its span.
    pub size: u64,
    /// Bytes that count: those of the slot, for a tiny object those that were asked for.
    pub bytes: u64,
    /// The size class; 0 for large objects.
    pub size_class: u32,
    /// [`birth_flags`].
    pub flags: u32,
    /// `mheap_.sweepgen`.
    pub sweepgen: u32,
    /// How many of `frames` are filled.
    pub frame_count: u32,
    /// The probability with which it was chosen is its bytes in this, at most 1.
    pub mean_birth_bytes: u64,
    /// Program counters, leaf first: frame 0 is the probed instruction, the others are return addresses.
    pub frames: [u64; MAX_FRAMES],
}

/// Ring record: a slot that `nextFree` found, for a birth that waits for it; in a window of [`WindowKind::Slots`] every one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotRecord {
    /// [`RecordKind::Slot`].
    pub kind: u32,
    /// The number of the burst.
    pub burst: u32,
    /// When, ns of the monotonic clock.
    pub time_ns: u64,
    /// The [`BirthRecord::time_ns`] of the birth that waits for it; 0: none does.
    pub birth_ns: u64,
    /// Address of the `runtime.g` that allocates.
    pub g: u64,
    /// Its id; 0: one of the scheduler's.
    pub goroutine: u64,
    /// The function that it runs, an address.
    pub goroutine_entry: u64,
    /// Address of the slot.
    pub address: u64,
    /// Bytes of the slot.
    pub slot_bytes: u64,
    /// `mspan.spanclass`: the size class, and whether its objects hold no pointers as its lowest bit.
    pub span_class: u32,
    /// `mheap_.sweepgen`.
    pub sweepgen: u32,
}

/// Ring record: marking is over and the world stopped; `mheap_.sweepgen` is about to grow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CycleRecord {
    /// [`RecordKind::Cycle`].
    pub kind: u32,
    /// `mheap_.sweepgen`, of the cycle that ends.
    pub sweepgen: u32,
    /// When, ns of the monotonic clock.
    pub time_ns: u64,
}

/// Indices of the per-CPU totals of bursts, which are right whatever was lost.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurstTotal {
    /// Hits of birth points and slot points, inside of windows and outside: what costs the target.
    Hits = 0,
    /// Those inside of windows.
    HitsInWindows = 1,
    /// Births that were recorded.
    Births = 2,
    /// Births that were chosen and found no room in the ring.
    BirthsLost = 3,
    /// Frames that were walked.
    Frames = 4,
    /// Hits of the cycle point.
    Cycles = 5,
    /// Slots that were recorded.
    Slots = 6,
    /// Births that wait for a slot and found no room for that.
    PendingFull = 7,
    /// What our program took at hits that were recorded, ns.
    RecordedNs = 8,
    /// Hits of the hook on large objects that stays, which no other total counts.
    LargeHits = 9,
    /// What our program took at the cycle point, ns: to wake somebody up costs most of it.
    CyclesNs = 10,
}

impl BurstTotal {
    /// Number of totals.
    pub const COUNT: u32 = 11;
}

/// What the programs of a burst need to know of a target; written once, before they are loaded. Offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BurstConfig {
    /// `runtime.g.m`.
    pub g_m: u64,
    /// `runtime.g.goid`.
    pub g_goid: u64,
    /// `runtime.g.startpc`.
    pub g_startpc: u64,
    /// `runtime.g.gcAssistBytes`.
    pub g_gc_assist_bytes: u64,
    /// `runtime.m.p`.
    pub m_p: u64,
    /// `runtime.p.mcache`.
    pub p_mcache: u64,
    /// `runtime.mcache.tiny`; `tinyoffset` lies behind it.
    pub mcache_tiny: u64,
    /// `runtime.mcache.alloc`.
    pub mcache_alloc: u64,
    /// `runtime.mspan.startAddr`.
    pub span_start: u64,
    /// `runtime.mspan.freeindex`.
    pub span_freeindex: u64,
    /// `runtime.mspan.nelems`.
    pub span_nelems: u64,
    /// Bits of a word of the structure that `freeindex` and `nelems` take: 64, and 16 from Go 1.22 on.
    pub span_index_bits: u64,
    /// `runtime.mspan.allocCache`.
    pub span_alloc_cache: u64,
    /// `runtime.mspan.allocBits`.
    pub span_alloc_bits: u64,
    /// `runtime.mspan.elemsize`.
    pub span_elemsize: u64,
    /// `runtime.mspan.spanclass`.
    pub span_spanclass: u64,
    /// Address of `runtime.gcBlackenEnabled` in the process.
    pub gc_blacken_enabled: u64,
    /// Address of `runtime.mheap_.sweepgen` in the process.
    pub sweepgen: u64,
    /// The register that holds the span at [`BurstPoint::SlotFound`], see [`GeneralRegister`].
    pub slot_span_register: u64,
    /// The same of the slot's address.
    pub slot_address_register: u64,
    /// Not 0 where [`BurstPoint::SlowPath`] points exist, so that a specialised function that will call one is none.
    pub has_slow_paths: u64,
    /// Not 0 where `mallocgc` is probed, so that a specialised function that it calls is no birth.
    pub mallocgc_is_probed: u64,
}

const _: () = {
    assert!(PREFERENCES as usize == crate::size_class::CLASS_TO_SIZE.len());
    assert!(size_of::<WindowState>() == 24);
    assert!(size_of::<BirthRecord>() == 96 + 8 * MAX_FRAMES);
    assert!(core::mem::offset_of!(BirthRecord, frames) == 96);
    assert!(size_of::<SlotRecord>() == 72);
    assert!(size_of::<CycleRecord>() == 16);
    assert!(size_of::<BurstConfig>() == 22 * 8);
};

#[cfg(feature = "aya")]
mod pod {
    use super::{BurstConfig, WindowState};

    // SAFETY: `repr(C)`, integers only, no padding (asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for WindowState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BurstConfig {}
}
