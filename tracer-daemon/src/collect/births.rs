//! The ring of bursts: births, slots and collections, in their order; and what was counted beside them.
//!
//! Counterpart: `tracer-ebpf/src/{births,cycles}.rs`. Decoding is pure. What does not follow the contract is counted.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use tracer_common::bursts::{
    BirthRecord, BurstTotal, CycleRecord, LARGE_WINDOW, PREFERENCES, RecordKind, SlotRecord, WindowState, birth_flags,
};
use tracer_common::exact::MAX_FRAMES;

use super::{CollectError, ring::Records, sum, unreadable};
use crate::addr::Avma;

/// An object that was chosen in a window, when it was about to be born.
#[derive(Clone, Debug, PartialEq)]
pub struct Birth {
    /// The number of the burst.
    pub burst: u32,
    /// When, ns of the monotonic clock. With `g` it is the birth's name.
    pub time_ns: u64,
    /// Address of the `runtime.g` that allocates.
    pub g: Avma,
    /// Its id; 0: one of the scheduler's.
    pub goroutine: u64,
    /// The function that it runs.
    pub goroutine_entry: Avma,
    /// Where the object lies. `None`: not known, or not yet.
    pub address: Option<Avma>,
    /// Its type; `None`: none, or not known.
    pub type_address: Option<Avma>,
    /// What was asked for, bytes.
    pub size_bytes: u64,
    /// What counts, bytes: those of the slot, of a tiny object those that were asked for.
    pub bytes: u64,
    /// The size class; 0: large.
    pub size_class: u32,
    /// Whether the collector marked.
    pub is_black: bool,
    /// Why there is no address.
    pub unplaced: Option<Unplaced>,
    /// Whether it shares its slot with others.
    pub is_tiny: bool,
    /// `mheap_.sweepgen`; 0: not known.
    pub sweepgen: u32,
    /// The inverse of the probability with which it was chosen; at least 1.
    pub weight: f64,
    /// Leaf first; the first is the probed instruction, the others are return addresses.
    pub frames: Vec<Avma>,
}

/// Why a birth has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unplaced {
    /// The cached span was full: a [`SlotFound`] will say.
    SpanFull,
    /// It had to help the collector first.
    AssistDue,
    /// Memory could not be read.
    Unreadable,
}

/// A slot that `nextFree` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotFound {
    /// The number of the burst.
    pub burst: u32,
    /// When, ns of the monotonic clock.
    pub time_ns: u64,
    /// The [`Birth::time_ns`] of the birth that waits for it. `None`: the window is for weighing goroutines.
    pub birth_ns: Option<u64>,
    /// Address of the `runtime.g` that allocates.
    pub g: Avma,
    /// Its id; 0: one of the scheduler's.
    pub goroutine: u64,
    /// The function that it runs.
    pub goroutine_entry: Avma,
    /// The slot.
    pub address: Avma,
    /// Bytes of the slot; 0: not known.
    pub slot_bytes: u64,
    /// The class of its span.
    pub span_class: u32,
    /// `mheap_.sweepgen`; 0: not known.
    pub sweepgen: u32,
}

/// Marking is over, the world stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CycleMarked {
    /// `mheap_.sweepgen`, of the cycle that ends; 0: not known.
    pub sweepgen: u32,
    /// When, ns of the monotonic clock.
    pub time_ns: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq)]
pub enum BurstEvent {
    /// A birth.
    Birth(Birth),
    /// A slot.
    Slot(SlotFound),
    /// A collection.
    Cycle(CycleMarked),
}

/// What was counted of windows since the programs were loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BurstTotals {
    /// Hits inside of windows and outside.
    pub hits: u64,
    /// Those inside.
    pub hits_in_windows: u64,
    /// Births that were recorded.
    pub births: u64,
    /// Records that found no room in the ring.
    pub lost: u64,
    /// Frames that were walked.
    pub frames: u64,
    /// Slots that were recorded.
    pub slots: u64,
    /// Births whose slot cannot be told, since too many waited.
    pub pending_full: u64,
    /// What our program took at hits that were recorded, ns.
    pub recorded_ns: u64,
}

macro_rules! take {
    ($take:ident, $name:literal) => {
        $take($name)
            .ok_or(CollectError::NoSuchMap { name: $name })?
            .try_into()
            .map_err(|source| CollectError::Unreadable { name: $name, source })?
    };
}

/// The ring of bursts of one target.
pub struct BurstReader {
    ring: Records,
}

impl fmt::Debug for BurstReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BurstReader").field("ring", &self.ring).finish_non_exhaustive()
    }
}

impl BurstReader {
    /// Takes the ring out of a loaded object.
    ///
    /// # Errors
    /// Where it is missing or of another kind.
    pub fn new(mut take: impl FnMut(&'static str) -> Option<Map>) -> Result<Self, CollectError> {
        Ok(Self { ring: Records::new(take!(take, "BIRTHS")) })
    }

    /// Hands every record now in the ring to `receive`, oldest first.
    pub fn drain(&mut self, receive: impl FnMut(BurstEvent)) {
        self.ring.drain(decode, receive);
    }

    /// To wait for a collection, or for the ring to be half full: else births and slots wake nobody up.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.ring.descriptor()
    }

    /// Records that did not follow the contract; anything but 0 is a bug.
    pub fn undecodable(&self) -> u64 {
        self.ring.undecodable()
    }
}

/// Until when the hook on large objects counts, and as which burst.
pub struct LargeGate(Array<MapData, WindowState>);

impl fmt::Debug for LargeGate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LargeGate").finish_non_exhaustive()
    }
}

impl LargeGate {
    const MAP: &'static str = "WINDOW";

    /// Takes a descriptor of the map `WINDOW`, whose other window is not touched.
    ///
    /// # Errors
    /// Where it is another map.
    pub fn new(windows: OwnedFd) -> Result<Self, CollectError> {
        let map = MapData::from_fd(windows).map_err(unreadable(Self::MAP))?;
        Ok(Self(Map::Array(map).try_into().map_err(unreadable(Self::MAP))?))
    }

    /// From now on hits count as this says.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set(&mut self, window: WindowState) -> Result<(), CollectError> {
        self.0.set(LARGE_WINDOW, window, 0).map_err(unreadable(Self::MAP))
    }
}

/// Which size classes are worth more than their bytes where births are chosen.
pub struct PreferenceMap {
    map: Array<MapData, u64>,
    /// What it says, by class.
    known: [u16; PREFERENCES as usize],
}

impl fmt::Debug for PreferenceMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PreferenceMap").field("known", &self.known).finish_non_exhaustive()
    }
}

impl PreferenceMap {
    /// Takes the map out of a loaded object.
    ///
    /// # Errors
    /// Where it is missing or of another kind.
    pub fn new(mut take: impl FnMut(&'static str) -> Option<Map>) -> Result<Self, CollectError> {
        Ok(Self { map: take!(take, "PREFERRED"), known: [0; PREFERENCES as usize] })
    }

    /// From now on bytes of each class, by its number, count so many times; those that are missing as before.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn set(&mut self, times: &[u16]) -> Result<(), CollectError> {
        for ((class, known), times) in (0..).zip(&mut self.known).zip(times) {
            if known != times {
                self.map.set(class, u64::from(*times), 0).map_err(unreadable("PREFERRED"))?;
                *known = *times;
            }
        }
        Ok(())
    }
}

/// A birth that waits for its slot, as the kernel side keeps it: its time, class and burst.
type Pending = [u64; 3];

/// What bursts of one target count beside the ring.
pub struct BurstCounters {
    totals: PerCpuArray<MapData, u64>,
    /// Births that wait for their slot, by the address of the `g`.
    pending: HashMap<MapData, u64, Pending>,
}

impl fmt::Debug for BurstCounters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BurstCounters").finish_non_exhaustive()
    }
}

impl BurstCounters {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    /// Where one is missing or of another kind.
    pub fn new(mut take: impl FnMut(&'static str) -> Option<Map>) -> Result<Self, CollectError> {
        Ok(Self { totals: take!(take, "BURST_TOTALS"), pending: take!(take, "PENDING") })
    }

    /// Forgets the births that wait for their slot: those of a window that is over wait in vain, and take the room of others.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget_pending(&mut self) -> Result<(), CollectError> {
        let waiting = self.pending.keys().collect::<Result<Vec<u64>, _>>().map_err(unreadable("PENDING"))?;
        for g in waiting {
            match self.pending.remove(&g) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(unreadable("PENDING")(error)),
            }
        }
        Ok(())
    }

    /// Hits of the point that tells of collections so far.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn cycles(&self) -> Result<u64, CollectError> {
        sum(&self.totals, "BURST_TOTALS", BurstTotal::Cycles as u32)
    }

    /// What our program took at them so far, ns.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn cycles_ns(&self) -> Result<u64, CollectError> {
        sum(&self.totals, "BURST_TOTALS", BurstTotal::CyclesNs as u32)
    }

    /// Hits of the hook on large objects that stays so far.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn large_hits(&self) -> Result<u64, CollectError> {
        sum(&self.totals, "BURST_TOTALS", BurstTotal::LargeHits as u32)
    }

    /// What was counted of windows so far.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn totals(&self) -> Result<BurstTotals, CollectError> {
        let total = |which: BurstTotal| sum(&self.totals, "BURST_TOTALS", which as u32);
        Ok(BurstTotals {
            hits: total(BurstTotal::Hits)?,
            hits_in_windows: total(BurstTotal::HitsInWindows)?,
            births: total(BurstTotal::Births)?,
            lost: total(BurstTotal::BirthsLost)?,
            frames: total(BurstTotal::Frames)?,
            slots: total(BurstTotal::Slots)?,
            pending_full: total(BurstTotal::PendingFull)?,
            recorded_ns: total(BurstTotal::RecordedNs)?,
        })
    }
}

/// The words of a record.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn half(&self, at: usize) -> Option<u32> {
        self.0.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn word(&self, at: usize) -> Option<u64> {
        self.0.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
    }
}

macro_rules! field {
    ($fields:ident.$read:ident($record:ident.$field:ident)) => {
        $fields.$read(core::mem::offset_of!($record, $field))?
    };
}

/// Decodes one ring record. `None`: not a record of this contract.
pub fn decode(bytes: &[u8]) -> Option<BurstEvent> {
    let fields = Fields(bytes);
    let kind = fields.half(0)?;
    let event = if kind == RecordKind::Birth as u32 {
        BurstEvent::Birth(birth(&fields)?)
    } else if kind == RecordKind::Slot as u32 {
        BurstEvent::Slot(slot(&fields)?)
    } else if kind == RecordKind::Cycle as u32 {
        let sweepgen = field!(fields.half(CycleRecord.sweepgen));
        BurstEvent::Cycle(CycleMarked { sweepgen, time_ns: field!(fields.word(CycleRecord.time_ns)) })
    } else {
        return None;
    };
    Some(event)
}

fn birth(fields: &Fields<'_>) -> Option<Birth> {
    let flags = field!(fields.half(BirthRecord.flags));
    let is = |flag: u32| flags & flag != 0;
    let count = usize::try_from(field!(fields.half(BirthRecord.frame_count))).ok()?;
    if !(1..=MAX_FRAMES).contains(&count) {
        return None;
    }
    let first = core::mem::offset_of!(BirthRecord, frames);
    let frames = (0..count).map(|index| fields.word(first + 8 * index).map(Avma)).collect::<Option<Vec<Avma>>>()?;
    let address = Some(Avma(field!(fields.word(BirthRecord.address)))).filter(|address| address.0 != 0);
    let unplaced = match address {
        Some(_) => None,
        None if is(birth_flags::SPAN_FULL) => Some(Unplaced::SpanFull),
        None if is(birth_flags::ASSIST_DUE) => Some(Unplaced::AssistDue),
        None => Some(Unplaced::Unreadable),
    };
    let bytes = field!(fields.word(BirthRecord.bytes)).max(1);
    let mean = field!(fields.word(BirthRecord.mean_birth_bytes));
    let approximate = crate::units::approximate;
    Some(Birth {
        burst: field!(fields.half(BirthRecord.burst)),
        time_ns: field!(fields.word(BirthRecord.time_ns)),
        g: Avma(field!(fields.word(BirthRecord.g))),
        goroutine: field!(fields.word(BirthRecord.goroutine)),
        goroutine_entry: Avma(field!(fields.word(BirthRecord.goroutine_entry))),
        address,
        type_address: Some(Avma(field!(fields.word(BirthRecord.type_address)))).filter(|address| address.0 != 0),
        size_bytes: field!(fields.word(BirthRecord.size)),
        bytes,
        size_class: field!(fields.half(BirthRecord.size_class)),
        is_black: is(birth_flags::MARKING),
        unplaced,
        is_tiny: is(birth_flags::TINY),
        sweepgen: field!(fields.half(BirthRecord.sweepgen)),
        weight: (approximate(mean) / approximate(bytes)).max(1.0),
        frames,
    })
}

fn slot(fields: &Fields<'_>) -> Option<SlotFound> {
    Some(SlotFound {
        burst: field!(fields.half(SlotRecord.burst)),
        time_ns: field!(fields.word(SlotRecord.time_ns)),
        birth_ns: Some(field!(fields.word(SlotRecord.birth_ns))).filter(|birth_ns| *birth_ns != 0),
        g: Avma(field!(fields.word(SlotRecord.g))),
        goroutine: field!(fields.word(SlotRecord.goroutine)),
        goroutine_entry: Avma(field!(fields.word(SlotRecord.goroutine_entry))),
        address: Avma(field!(fields.word(SlotRecord.address))),
        slot_bytes: field!(fields.word(SlotRecord.slot_bytes)),
        span_class: field!(fields.half(SlotRecord.span_class)),
        sweepgen: field!(fields.half(SlotRecord.sweepgen)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record as the kernel programs write it, its fields in the order of the structure.
    fn record(halves: [u32; 2], words: &[u64], tail: [u32; 4], mean: u64, frames: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(tail.iter().flat_map(|half| half.to_le_bytes()));
        bytes.extend(mean.to_le_bytes());
        bytes.extend(frames.iter().flat_map(|frame| frame.to_le_bytes()));
        bytes.resize(size_of::<BirthRecord>(), 0xaa);
        bytes
    }

    #[test]
    fn a_birth_is_what_was_recorded() {
        let words = [7, 0xc000, 18, 0x46_0000, 0xc000_1000, 0x4a_0000, 100, 112];
        let bytes = record([1, 3], &words, [9, birth_flags::MARKING, 42, 2], 1120, &[0x40_0000, 0x40_1000]);
        let Some(BurstEvent::Birth(birth)) = decode(&bytes) else { panic!("no birth") };
        assert_eq!((birth.burst, birth.time_ns, birth.g, birth.goroutine), (3, 7, Avma(0xc000), 18));
        assert_eq!((birth.address, birth.unplaced), (Some(Avma(0xc000_1000)), None));
        assert_eq!((birth.size_bytes, birth.bytes, birth.size_class), (100, 112, 9));
        assert_eq!((birth.is_black, birth.is_tiny, birth.sweepgen), (true, false, 42));
        assert!((birth.weight - 10.0).abs() < 1e-12, "{}", birth.weight);
        assert_eq!(birth.frames, [Avma(0x40_0000), Avma(0x40_1000)]);
    }

    #[test]
    fn a_birth_without_an_address_says_why() {
        for (flags, why) in [
            (birth_flags::SPAN_FULL, Unplaced::SpanFull),
            (birth_flags::ASSIST_DUE | birth_flags::MARKING, Unplaced::AssistDue),
            (birth_flags::UNREADABLE, Unplaced::Unreadable),
        ] {
            let bytes = record([1, 0], &[7, 1, 1, 1, 0, 0, 16, 16], [2, flags, 2, 1], 0, &[1]);
            let Some(BurstEvent::Birth(birth)) = decode(&bytes) else { panic!("no birth") };
            assert_eq!((birth.address, birth.unplaced), (None, Some(why)));
            assert!((birth.weight - 1.0).abs() < f64::EPSILON, "all are chosen");
        }
    }

    #[test]
    fn an_unknown_kind_and_an_impossible_count_are_not_records() {
        assert_eq!(decode(&record([9, 0], &[0; 8], [0, 0, 0, 1], 0, &[1])), None);
        assert_eq!(decode(&record([1, 0], &[0; 8], [0, 0, 0, 65], 0, &[1])), None);
        assert_eq!(decode(&record([1, 0], &[0; 8], [0, 0, 0, 0], 0, &[1])), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..700), kind in 0u8..5) {
            let mut bytes = bytes;
            if bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            if let Some(BurstEvent::Birth(birth)) = decode(&bytes) {
                prop_assert!(birth.weight >= 1.0 && birth.weight.is_finite());
            }
        }
    }
}
