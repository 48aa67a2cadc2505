//! A heap in fake memory, with one span of which every field can be set, and a memory that changes while it is read.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::inspect::layout::known;
use crate::inspect::{Architecture, RuntimeLayout};
use crate::read::heap::SpanIdentity;
use crate::read::memory::{FakeMemory, MemoryError};

const MHEAP: u64 = 0x10_0000;
const TABLE: u64 = 0x7000_0000_0000;
const ARENA: u64 = 0x6000_0000_0000;
const SPAN: u64 = 0x5000_0000_0000;
const ALLOC_BITS: u64 = 0x4000_0000_0000;
const MARK_BITS: u64 = 0x4000_0000_1000;
const SPECIALS: u64 = 0x3000_0000_0000;
/// Of a span of one page with 126 slots of 64 bytes, with pointers: size class 6.
const START: u64 = 0xc0_0123_4000;
const SLOT_BYTES: u64 = 64;
const SPAN_CLASS: u8 = 12;
const NOW: u32 = 40;
const INDEX: u64 = 77;

fn layout() -> RuntimeLayout {
    known(27, Architecture::Amd64).unwrap()
}

/// What happens at a read: it is given the address.
type Happening = Box<dyn FnMut(u64, &mut FakeMemory) + Send>;

/// A heap with one span that nobody has changed yet: swept, no bit set.
struct FakeHeap {
    layout: RuntimeLayout,
    memory: Mutex<FakeMemory>,
    happening: Mutex<Happening>,
}

impl std::fmt::Debug for FakeHeap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FakeHeap")
    }
}

impl TargetMemory for FakeHeap {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let mut memory = self.memory.lock().unwrap();
        let outcome = memory.read(at, into);
        (self.happening.lock().unwrap())(at.0, &mut memory);
        outcome
    }
}

fn put(memory: &mut FakeMemory, at: u64, bytes: &[u8]) {
    let (start, content) = memory.0.range_mut(..=at).next_back().unwrap();
    let from = usize::try_from(at - start).unwrap();
    content[from..from + bytes.len()].copy_from_slice(bytes);
}

impl FakeHeap {
    fn new() -> Self {
        let layout = layout();
        let ranges = [
            (MHEAP, layout.mheap.arenas + 512),
            // The entry of the arena only: the table has 32 MiB.
            (TABLE + 8 * ((START + 0x8000_0000_0000) >> 26) / 256 * 256, 256),
            (ARENA, layout.heap_arena.size_bytes + 512),
            (SPAN, 4096),
            (ALLOC_BITS, 4096),
            (MARK_BITS, 4096),
            (SPECIALS, 4096),
            (START, 8192),
        ];
        let memory = ranges.map(|(at, bytes)| (at, vec![0; usize::try_from(bytes).unwrap()])).into();
        let heap = Self { layout, memory: Mutex::new(FakeMemory(memory)), happening: Mutex::new(Box::new(|_, _| {})) };
        heap.set_cycle(NOW);
        heap.put(MHEAP + layout.mheap.arenas, &TABLE.to_le_bytes());
        heap.put(TABLE + 8 * ((START + 0x8000_0000_0000) >> 26), &ARENA.to_le_bytes());
        heap.put(Self::span_word(), &SPAN.to_le_bytes());
        let span = &layout.mspan;
        for (offset, value) in [
            (span.start_addr, START),
            (span.npages, 1),
            (span.elemsize, SLOT_BYTES),
            (span.limit, START + 126 * SLOT_BYTES),
            (span.alloc_bits, ALLOC_BITS),
            (span.gcmark_bits, MARK_BITS),
        ] {
            heap.put(SPAN + offset, &value.to_le_bytes());
        }
        heap.put(SPAN + span.nelems, &126_u16.to_le_bytes());
        heap.put(SPAN + span.spanclass, &[SPAN_CLASS]);
        heap.put(SPAN + span.state, &[1]);
        heap.set_sweepgen(0);
        heap
    }

    fn span_word() -> u64 {
        ARENA + layout().heap_arena.spans + 8 * (START / PAGE_BYTES % 8192)
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        put(&mut self.memory.lock().unwrap(), at, bytes);
    }

    fn remove(&self, start: u64) {
        self.memory.lock().unwrap().0.remove(&start).unwrap();
    }

    fn set_cycle(&self, cycle: u32) {
        self.put(MHEAP + self.layout.mheap.sweepgen, &cycle.to_le_bytes());
    }

    /// Relative to the present cycle.
    fn set_sweepgen(&self, difference: i32) {
        self.put(SPAN + self.layout.mspan.sweepgen, &NOW.wrapping_add_signed(difference).to_le_bytes());
    }

    fn set_bit(&self, bits: u64) {
        self.put(bits + INDEX / 8, &[1 << (INDEX % 8)]);
    }

    /// The span is one whose marks lie within, and the object's is set or not.
    fn set_inline(&self, marked: bool) {
        let page = START / PAGE_BYTES % 8192;
        let flags = self.layout.heap_arena.page_use_span_inline_mark_bits.unwrap();
        self.put(ARENA + flags + page / 8, &[1 << (page % 8)]);
        self.put(START + 8192 - 128 + 64 + INDEX / 8, &[u8::from(marked) << (INDEX % 8)]);
    }

    /// Records of these kinds, each for the slot with the same place in the list, counted from ours.
    fn set_specials(&self, kinds: &[u8]) {
        let special = &self.layout.special;
        self.put(SPAN + self.layout.mspan.specials, &SPECIALS.to_le_bytes());
        for (number, kind) in kinds.iter().enumerate() {
            let at = SPECIALS + 256 * number as u64;
            let next = if number + 1 < kinds.len() { at + 256 } else { 0 };
            self.put(at + special.next, &next.to_le_bytes());
            self.put(at + special.offset, &((INDEX + number as u64) * SLOT_BYTES + 8).to_le_bytes());
            self.put(at + special.kind, &[*kind]);
        }
    }

    fn on_read(&self, happening: impl FnMut(u64, &mut FakeMemory) + Send + 'static) {
        *self.happening.lock().unwrap() = Box::new(happening);
    }

    fn reader(&self) -> MarksReader {
        MarksReader::of(Heap::of(&self.layout, Architecture::Amd64, Avma(MHEAP)).unwrap())
    }

    fn look(&self) -> (Look, MarksReader) {
        self.look_at(object())
    }

    fn look_at(&self, object: TrackedObject) -> (Look, MarksReader) {
        let mut reader = self.reader();
        let looks = reader.look(self, &[object], Cycle(NOW)).unwrap();
        assert_eq!(looks.len(), 1);
        (looks[0], reader)
    }
}

/// Born two cycles ago, alive in the last one.
fn object() -> TrackedObject {
    TrackedObject {
        address: Avma(START + INDEX * SLOT_BYTES),
        span: Some(SpanIdentity { start: Avma(START), slot_bytes: SLOT_BYTES, span_class: SPAN_CLASS }),
        born: Cycle(NOW - 4),
        alive: Cycle(NOW - 2),
    }
}

const ALIVE: Look = Look::Alive { cycle: Cycle(NOW) };
const DEAD: Look = Look::Dead { cycle: Cycle(NOW) };

fn discarded(reader: &MarksReader, reason: Discard) -> u64 {
    reader.discards().iter().find(|(found, _)| *found == reason).map_or(0, |(_, count)| count)
}

#[test]
fn the_span_says_which_bits_hold_the_last_marks() {
    for (difference, bits) in [(0, ALLOC_BITS), (3, ALLOC_BITS), (-2, MARK_BITS), (1, MARK_BITS)] {
        for set in [ALLOC_BITS, MARK_BITS] {
            let heap = FakeHeap::new();
            heap.set_sweepgen(difference);
            heap.set_bit(set);
            let expected = if set == bits { ALIVE } else { DEAD };
            assert_eq!(heap.look().0, expected, "sweepgen {difference}, {set:#x} set");
        }
    }
}

#[test]
fn marks_within_a_span_count_where_the_arena_says_so_and_until_it_is_swept() {
    for (difference, flagged, marked, expected) in [
        (-2, true, true, ALIVE),
        (1, true, true, ALIVE),
        (-2, true, false, DEAD),
        (0, true, true, DEAD),
        (-2, false, true, DEAD),
    ] {
        let heap = FakeHeap::new();
        heap.set_sweepgen(difference);
        heap.set_inline(marked);
        if !flagged {
            let flags = heap.layout.heap_arena.page_use_span_inline_mark_bits.unwrap();
            heap.put(ARENA + flags + START / PAGE_BYTES % 8192 / 8, &[0]);
        }
        let (look, reader) = heap.look();
        assert_eq!(look, expected, "sweepgen {difference}, flagged {flagged}, marked {marked}");
        assert_eq!(reader.sources().inline, u64::from(difference != 0 && flagged));
    }
}

#[test]
fn marks_within_a_span_that_the_layout_does_not_know_are_refused() {
    let mut heap = FakeHeap::new();
    heap.set_sweepgen(-2);
    heap.set_inline(true);
    heap.layout.inline_marks.marks = None;
    assert_eq!(heap.look().0, Look::Censored(Censored::Implausible));
}

#[test]
fn nothing_is_known_in_the_cycle_of_birth() {
    for set in [false, true] {
        let heap = FakeHeap::new();
        if set {
            heap.set_bit(ALLOC_BITS);
        }
        let born = TrackedObject { born: Cycle(NOW), alive: Cycle(NOW), ..object() };
        assert_eq!(heap.look_at(born).0, Look::Censored(Censored::NotYetKnown));
    }
}

#[test]
fn after_a_missed_cycle_a_set_bit_says_nothing_and_a_clear_one_death() {
    let heap = FakeHeap::new();
    let missed = TrackedObject { alive: Cycle(NOW - 4), ..object() };
    assert_eq!(heap.look_at(missed).0, DEAD);
    heap.set_bit(ALLOC_BITS);
    assert_eq!(heap.look_at(missed).0, Look::Censored(Censored::MissedCycle));
    assert_eq!(heap.look_at(TrackedObject { alive: Cycle(NOW), ..missed }).0, ALIVE, "a second look in one cycle");
    assert!(Censored::MissedCycle.is_final());
}

#[test]
fn cycles_wrap_around() {
    assert_eq!(Cycle(2).since(Cycle(u32::MAX - 1)), 2);
    assert_eq!(Cycle(u32::MAX - 1).since(Cycle(2)), -2);
    assert_eq!(Cycle(u32::MAX - 1).next(), Cycle(0));
}

#[test]
fn a_span_that_is_another_one_proves_death() {
    let span = layout().mspan;
    for (what, at, bytes) in [
        ("freed", span.state, vec![0]),
        ("a stack", span.state, vec![2]),
        ("elsewhere", span.start_addr, (START + (1 << 20)).to_le_bytes().to_vec()),
        ("shorter", span.limit, (START + SLOT_BYTES).to_le_bytes().to_vec()),
        ("of another class", span.spanclass, vec![SPAN_CLASS + 1]),
    ] {
        let heap = FakeHeap::new();
        heap.set_bit(ALLOC_BITS);
        heap.put(SPAN + at, &bytes);
        let (look, reader) = heap.look();
        assert_eq!(look, DEAD, "{what}");
        assert_eq!(reader.sources().recycled, 1, "{what}");
    }
}

#[test]
fn a_span_that_goes_while_the_cycle_does_is_a_death_of_the_later_cycle() {
    let heap = FakeHeap::new();
    let mheap = MHEAP + heap.layout.mheap.sweepgen;
    let state = SPAN + heap.layout.mspan.state;
    // Right after the cycle was read first, the next one begins and frees the span.
    let mut first = true;
    heap.on_read(move |at, memory| {
        if at == mheap && first {
            first = false;
            put(memory, mheap, &(NOW + 2).to_le_bytes());
            put(memory, state, &[0]);
        }
    });
    assert_eq!(heap.look().0, Look::Dead { cycle: Cycle(NOW + 2) });
}

#[test]
fn a_span_that_is_swept_for_ever_is_given_up() {
    let heap = FakeHeap::new();
    heap.set_sweepgen(-1);
    let (look, reader) = heap.look();
    assert_eq!(look, Look::Censored(Censored::Moving));
    assert_eq!(discarded(&reader, Discard::SpanBeingSwept), ATTEMPTS as u64);
    assert!(!Censored::Moving.is_final());
}

#[test]
fn a_span_that_is_swept_between_the_readings_is_read_again() {
    let heap = FakeHeap::new();
    heap.set_sweepgen(-2);
    // Not marked before; when the mark bits are read, the sweep has happened and they are those of the next cycle.
    heap.set_bit(ALLOC_BITS);
    let sweepgen = SPAN + heap.layout.mspan.sweepgen;
    heap.on_read(move |at, memory| {
        if (MARK_BITS..MARK_BITS + 4096).contains(&at) {
            put(memory, sweepgen, &NOW.to_le_bytes());
        }
    });
    let (look, reader) = heap.look();
    assert_eq!(look, ALIVE);
    assert_eq!(discarded(&reader, Discard::SpanMoved), 1);
}

/// The next cycle begins right after the present one was read for the first time.
fn next_cycle_begins_early(heap: &FakeHeap) {
    let mheap = MHEAP + heap.layout.mheap.sweepgen;
    heap.on_read(move |at, memory| {
        if at == mheap {
            put(memory, mheap, &(NOW + 2).to_le_bytes());
        }
    });
}

#[test]
fn what_was_swept_in_a_cycle_answers_for_it_when_the_next_one_has_begun() {
    for (difference, expected) in [(0, ALIVE), (3, ALIVE)] {
        let heap = FakeHeap::new();
        heap.set_sweepgen(difference);
        heap.set_bit(ALLOC_BITS);
        next_cycle_begins_early(&heap);
        assert_eq!(heap.look().0, expected, "sweepgen {difference}");
    }
}

#[test]
fn a_span_that_is_being_swept_in_the_next_cycle_is_not_taken_for_a_cached_one() {
    let heap = FakeHeap::new();
    heap.set_sweepgen(1);
    next_cycle_begins_early(&heap);
    let (look, reader) = heap.look();
    assert_eq!(look, Look::Censored(Censored::Moving));
    assert_eq!(discarded(&reader, Discard::CycleMoved), 1);
}

#[test]
fn a_span_that_is_being_swept_two_cycles_later_is_not_taken_for_one_that_was_cached() {
    let heap = FakeHeap::new();
    // Of the cycle before the one that is swept for: by then the slot can be another object's.
    heap.set_bit(ALLOC_BITS);
    let mheap = MHEAP + heap.layout.mheap.sweepgen;
    let sweepgen = SPAN + heap.layout.mspan.sweepgen;
    // Right after the cycle was read first, two begin, as where we are not given a processor; in the second the span is being swept.
    let mut first = true;
    heap.on_read(move |at, memory| {
        if at == mheap && first {
            first = false;
            put(memory, mheap, &(NOW + 4).to_le_bytes());
            put(memory, sweepgen, &(NOW + 3).to_le_bytes());
        }
    });
    let (look, reader) = heap.look();
    assert_eq!(look, Look::Censored(Censored::Moving));
    assert_eq!(discarded(&reader, Discard::CycleMoved), 1);
    assert_eq!(discarded(&reader, Discard::SpanBeingSwept), ATTEMPTS as u64 - 1);
}

#[test]
fn a_cycle_that_never_stays_is_given_up() {
    let heap = FakeHeap::new();
    let mheap = MHEAP + heap.layout.mheap.sweepgen;
    let mut cycle = NOW;
    heap.on_read(move |at, memory| {
        if at == mheap {
            cycle += 2;
            put(memory, mheap, &cycle.to_le_bytes());
            put(memory, SPAN + layout().mspan.sweepgen, &cycle.to_le_bytes());
        }
    });
    let (look, reader) = heap.look();
    assert_eq!(look, Look::Censored(Censored::Moving));
    assert!(discarded(&reader, Discard::CycleMoved) + discarded(&reader, Discard::SpanMoved) == ATTEMPTS as u64);
}

#[test]
fn a_cycle_that_is_not_over_is_waited_for_in_vain() {
    let heap = FakeHeap::new();
    let mut reader = heap.reader();
    let looks = reader.look(&heap, &[object()], Cycle(NOW).next()).unwrap();
    assert_eq!(looks, [Look::Censored(Censored::Moving)]);
    assert_eq!(discarded(&reader, Discard::CycleNotOver), ATTEMPTS as u64);
}

#[test]
fn an_object_that_a_finalizer_keeps_is_alive_before_the_sweep_says_so() {
    let finalizer = u8::try_from(layout().constants.special_kind_finalizer).unwrap();
    for (kinds, expected) in [(vec![finalizer], ALIVE), (vec![finalizer + 1, finalizer], DEAD)] {
        let heap = FakeHeap::new();
        heap.set_sweepgen(-2);
        heap.set_specials(&kinds);
        let (look, reader) = heap.look();
        assert_eq!(look, expected, "{kinds:?}");
        assert_eq!(reader.sources().finalizer, u64::from(expected == ALIVE));
    }
    // After the sweep the bit says all.
    let heap = FakeHeap::new();
    heap.set_specials(&[finalizer]);
    assert_eq!(heap.look().0, DEAD);
}

#[test]
fn records_that_go_in_circles_or_nowhere_end() {
    for next in [SPECIALS, 0x1234] {
        let heap = FakeHeap::new();
        heap.set_sweepgen(-2);
        heap.set_specials(&[0]);
        heap.put(SPECIALS + heap.layout.special.next, &next.to_le_bytes());
        assert_eq!(heap.look().0, Look::Censored(Censored::Moving));
    }
}

#[test]
fn pointers_that_lead_nowhere_are_refused() {
    let heap = FakeHeap::new();
    heap.put(MHEAP + heap.layout.mheap.arenas, &0_u64.to_le_bytes());
    assert_eq!(heap.look().0, Look::Censored(Censored::Implausible), "no table of arenas");
    let heap = FakeHeap::new();
    heap.put(TABLE + 8 * ((START + 0x8000_0000_0000) >> 26), &0_u64.to_le_bytes());
    assert_eq!(heap.look().0, Look::Censored(Censored::Implausible), "no arena");
    let heap = FakeHeap::new();
    heap.remove(ARENA);
    assert_eq!(heap.look().0, Look::Censored(Censored::Unreadable), "no memory where the arena is");
    let heap = FakeHeap::new();
    heap.put(FakeHeap::span_word(), &0_u64.to_le_bytes());
    assert_eq!(heap.look().0, Look::Censored(Censored::Implausible), "no span");
    for garbage in [1, 0xdead_beef, u64::MAX] {
        let heap = FakeHeap::new();
        heap.put(FakeHeap::span_word(), &garbage.to_le_bytes());
        assert_eq!(heap.look().0, Look::Censored(Censored::Unreadable), "{garbage:#x} for a span");
    }
    for bits in [0, u64::MAX, 0x1234] {
        let heap = FakeHeap::new();
        heap.put(SPAN + heap.layout.mspan.alloc_bits, &bits.to_le_bytes());
        let (look, reader) = heap.look();
        assert_eq!(look, Look::Censored(Censored::Unreadable), "{bits:#x} for bits");
        assert_eq!(discarded(&reader, Discard::MarksUnreadable), 1);
    }
    let heap = FakeHeap::new();
    heap.remove(MHEAP);
    assert!(matches!(heap.reader().look(&heap, &[object()], Cycle(NOW)), Err(ReadError::Memory(_))));
}

#[test]
fn spans_that_contradict_themselves_are_refused() {
    let span = layout().mspan;
    let own = TrackedObject { span: None, ..object() };
    for (what, at, bytes) in [
        ("slots of no bytes", span.elemsize, 0_u64.to_le_bytes().to_vec()),
        ("slots of another class", span.elemsize, 80_u64.to_le_bytes().to_vec()),
        ("no class", span.spanclass, vec![200]),
        ("no slots", span.nelems, vec![0, 0]),
        ("more slots than room", span.nelems, vec![0xff, 0xff]),
        ("no pages", span.npages, 0_u64.to_le_bytes().to_vec()),
        ("too many pages", span.npages, u64::MAX.to_le_bytes().to_vec()),
        ("a start within a page", span.start_addr, (START + 8).to_le_bytes().to_vec()),
        ("an end beyond its pages", span.limit, u64::MAX.to_le_bytes().to_vec()),
        ("a state that does not exist", span.state, vec![77]),
    ] {
        let heap = FakeHeap::new();
        heap.set_bit(ALLOC_BITS);
        heap.put(SPAN + at, &bytes);
        let (look, reader) = heap.look_at(own);
        assert_eq!(look, Look::Censored(Censored::Implausible), "{what}");
        assert_eq!(discarded(&reader, Discard::SpanImplausible), 1, "{what}");
        let slot = heap.reader().slot_of(&heap, own.address).unwrap();
        assert_eq!(slot, Err(NoSlot::Implausible), "{what}");
    }
}

#[test]
fn many_objects_are_answered_in_their_order() {
    let heap = FakeHeap::new();
    // Every third one is marked.
    let marked = |index: u64| index.is_multiple_of(3);
    for byte in 0..16 {
        let bits = (0..8).map(|bit| u8::from(marked(8 * byte + bit)) << bit).sum::<u8>();
        heap.put(ALLOC_BITS + byte, &[bits]);
    }
    let index = |number: u64| number * 7 % 126;
    let objects: Vec<TrackedObject> =
        (0..3000).map(|n| TrackedObject { address: Avma(START + index(n) * SLOT_BYTES), ..object() }).collect();
    let looks = heap.reader().look(&heap, &objects, Cycle(NOW)).unwrap();
    assert_eq!(looks.len(), objects.len());
    for (number, look) in looks.into_iter().enumerate() {
        assert_eq!(look, if marked(index(number as u64)) { ALIVE } else { DEAD }, "object {number}");
    }
}

/// Bytes that depend on the address in some way, mostly small numbers, so that pointers are followed for a while.
#[derive(Debug)]
struct Garbage(u64);

impl TargetMemory for Garbage {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        for (byte, at) in into.iter_mut().zip(at.0..) {
            let mixed = (at ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *byte = if mixed >> 61 == 0 {
                mixed.to_le_bytes()[4]
            } else {
                self.0.to_le_bytes()[usize::try_from(at % 8).unwrap()] & 3
            };
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn garbage_ends_and_never_panics(seed: u64, addresses in prop::collection::vec(any::<u64>(), 1..40), now: u32) {
        let mut reader = MarksReader::of(Heap::of(&layout(), Architecture::Amd64, Avma(seed)).unwrap());
        let addresses: Vec<Avma> = addresses.into_iter().map(Avma).collect();
        let memory = Garbage(seed);
        prop_assert_eq!(reader.slots(&memory, &addresses).unwrap().len(), addresses.len());
        let object = |address: &Avma| TrackedObject { address: *address, span: None, born: Cycle(now), alive: Cycle(now) };
        let objects: Vec<TrackedObject> = addresses.iter().map(object).collect();
        prop_assert_eq!(reader.look(&memory, &objects, Cycle(now)).unwrap().len(), objects.len());
    }
}
