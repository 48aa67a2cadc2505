//! Which span and which slot of it does an address of the heap belong to?
//!
//! The way is that of `spanOf` (runtime/mheap.go): table of arenas, arena, page, span. Owns the batched reading of spans, and the
//! checks without which nothing of a span is believed. What an arena's address is never changes, so it is kept; everything
//! else is read each time, since the runtime uses the structures of freed spans again and leaves pointers to them behind.
//! Counterpart: `marks.rs`, which reads whether a slot's object was kept.

use std::collections::HashMap;

use tracer_common::size_class::CLASS_TO_SIZE;

use super::blocks::Blocks;
use super::memory::{TargetMemory, Words};
use super::{ReadError, Runtime};
use crate::addr::Avma;
use crate::inspect::{Architecture, Global, RuntimeLayout};

/// Bytes of a page of the runtime (runtime/sizeclasses.go, `_PageShift`; go1.19 to go1.27).
pub(super) const PAGE_BYTES: u64 = 8192;
/// Pages of an arena on 64-bit Linux: 64 MiB (runtime/malloc.go, `heapArenaBytes`).
const ARENA_PAGES: u64 = 8192;
/// Bits of an arena's number on 64-bit Linux, where the first level of the table has one entry (`arenaL1Bits` is 0 there,
/// `arenaL2Bits` 22).
const ARENA_NUMBER_BITS: u32 = 22;
/// Arenas that are kept, about: 4 TiB of heap. Beyond, they are looked up anew.
const ARENAS_MAX: usize = 1 << 16;
/// Most bytes between the first and the last field of a span that we read; all releases have 120 or less.
const SPAN_BYTES_MAX: u64 = 1024;
/// `heapBitsInSpan` (runtime/mbitmap.go, go1.22 and later): larger objects with pointers have a header.
const WITHOUT_HEADER_BYTES: u64 = 512;
/// The span class of tiny objects' blocks: 16 bytes without pointers (`tinySpanClass` in runtime/malloc.go).
const TINY_SPAN_CLASS: u8 = 5;

/// `mSpanDead`, `mSpanInUse`, `mSpanManual` (runtime/mheap.go).
const STATE_IN_USE: u8 = 1;
const STATE_MAX: u8 = 2;

/// What the runtime adds to an address before it divides by the size of an arena: addresses are signed on amd64
/// (`arenaBaseOffset` of runtime/malloc.go is what it subtracts).
const fn arena_base(architecture: Architecture) -> u64 {
    match architecture {
        Architecture::Amd64 => 0x8000_0000_0000,
        Architecture::Arm64 => 0,
    }
}

/// The arena of an address, or none where the runtime's table has no entry for it.
fn arena_number(architecture: Architecture, address: Avma) -> Option<u64> {
    let number = address.0.wrapping_add(arena_base(architecture)) / (ARENA_PAGES * PAGE_BYTES);
    (number >> ARENA_NUMBER_BITS == 0).then_some(number)
}

/// What tells a span from one that takes its place later: none of it changes while one of its objects lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanIdentity {
    /// Its first byte.
    pub start: Avma,
    /// Bytes of each slot; of a large object's span all of it.
    pub slot_bytes: u64,
    /// The runtime's `spanClass`: twice the size class, and one more where objects hold no pointers.
    pub span_class: u8,
}

impl SpanIdentity {
    /// The size class; 0 stands for one large object.
    pub const fn size_class(&self) -> usize {
        (self.span_class >> 1) as usize
    }

    /// Whether its objects hold no pointers.
    pub const fn without_pointers(&self) -> bool {
        self.span_class & 1 == 1
    }

    /// Whether its slots are blocks which objects below 16 bytes without pointers share: they live and die with the block.
    /// An object of 16 bytes without pointers has such a slot for itself. The block that a processor is filling when marking
    /// begins is kept by that collection (`gcMarkTinyAllocs` in runtime/mgcmark.go).
    pub const fn may_be_shared(&self) -> bool {
        self.span_class == TINY_SPAN_CLASS
    }
}

/// The slot that an address lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Its span.
    pub span: SpanIdentity,
    /// Which slot of the span, from 0.
    pub index: u64,
    /// Bytes before the user's pointer: 8 for small objects with pointers above 512 bytes (go1.22 and later), else 0.
    pub header_bytes: u64,
}

impl Slot {
    /// The slot's first byte.
    pub fn start(&self) -> Avma {
        Avma(self.span.start.0.wrapping_add(self.index.wrapping_mul(self.span.slot_bytes)))
    }

    /// The address that the program knows its object by.
    pub fn object(&self) -> Avma {
        Avma(self.start().0.wrapping_add(self.header_bytes))
    }
}

/// Why an address has no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoSlot {
    /// It lies in no span that holds objects: a stack, a freed span, no heap at all.
    NotInUse,
    /// What says so could not be read.
    Unreadable,
    /// What was read contradicts itself.
    Implausible,
}

/// One span, as read. Fields of spans that are not in use say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SpanRecord {
    pub(super) start: u64,
    pub(super) pages: u64,
    pub(super) slots: u64,
    pub(super) slot_bytes: u64,
    pub(super) limit: u64,
    pub(super) alloc_bits: u64,
    pub(super) mark_bits: u64,
    pub(super) sweepgen: u32,
    pub(super) span_class: u8,
    pub(super) state: u8,
    pub(super) specials: u64,
}

impl SpanRecord {
    /// Whether it holds objects, one of them at this address. A contradiction to that is a proof that no object lives there:
    /// the fields do not change between the birth of a span's first object and the death of its last one.
    pub(super) fn covers(&self, address: Avma) -> bool {
        self.state == STATE_IN_USE && (self.start..self.limit).contains(&address.0)
    }

    /// Whether its state is one that the runtime knows.
    pub(super) const fn has_known_state(&self) -> bool {
        self.state <= STATE_MAX
    }

    /// Whether this can be a span that holds objects, by the relations that `initSpan` (runtime/mheap.go) makes.
    fn is_plausible(&self) -> bool {
        let span_bytes = self.pages.checked_mul(PAGE_BYTES).filter(|bytes| *bytes > 0);
        let Some(end) = span_bytes.and_then(|bytes| self.start.checked_add(bytes)) else { return false };
        let span_bytes = end - self.start;
        let slot_bytes = match usize::from(self.span_class >> 1) {
            0 => Some(span_bytes),
            class => CLASS_TO_SIZE.get(class).map(|bytes| u64::from(*bytes)),
        };
        self.start.is_multiple_of(PAGE_BYTES)
            && slot_bytes == Some(self.slot_bytes)
            && self.limit <= end
            && self.slots.checked_mul(self.slot_bytes).is_some_and(|bytes| bytes <= span_bytes)
    }

    pub(super) fn identity(&self) -> SpanIdentity {
        SpanIdentity { start: Avma(self.start), slot_bytes: self.slot_bytes, span_class: self.span_class }
    }

    /// Which slot an address that the span covers lies in; none where the span contradicts itself.
    pub(super) fn index_of(&self, address: Avma) -> Option<u64> {
        let index = address.0.checked_sub(self.start)?.checked_div(self.slot_bytes)?;
        (self.is_plausible() && index < self.slots).then_some(index)
    }

    /// Whether nothing happened in between to what mark bits mean. The records of specials may change at any time.
    pub(super) fn is_still(&self, later: &Self) -> bool {
        Self { specials: 0, ..*self } == Self { specials: 0, ..*later }
    }
}

/// What was found at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// This span, which may be another one's remains; by its address.
    Span(Avma),
    /// Memory that has never held an object.
    Nowhere,
    /// A pointer on the way leads nowhere.
    Unreadable,
}

/// Spans of many addresses, read at about the same time.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// In the order of the addresses.
    pub(super) lookups: Vec<Lookup>,
    records: HashMap<Avma, SpanRecord>,
}

impl Spans {
    /// What a span's structure held.
    pub(super) fn record(&self, span: Avma) -> Option<&SpanRecord> {
        self.records.get(&span)
    }

    /// The addresses of the structures that could be read.
    pub(super) fn addresses(&self) -> Vec<Avma> {
        self.records.keys().copied().collect()
    }
}

/// The heap of one process.
#[derive(Debug)]
pub(super) struct Heap {
    pub(super) layout: RuntimeLayout,
    architecture: Architecture,
    mheap: Avma,
    /// The structure of each arena that was found, by number.
    arenas: HashMap<u64, Avma>,
    /// Where in a span's structure the bytes begin that are read, and how many they are.
    span_piece: (u64, usize),
}

impl Heap {
    /// Finds the place.
    ///
    /// # Errors
    /// Where it is not known, or the layout is one of another system than Linux on 64 bits.
    pub(super) fn new(runtime: &Runtime) -> Result<Self, ReadError> {
        // Programs for other processors are not inspected.
        Self::of(runtime.layout(), Architecture::Amd64, runtime.address(Global::Mheap)?)
    }

    pub(super) fn of(layout: &RuntimeLayout, architecture: Architecture, mheap: Avma) -> Result<Self, ReadError> {
        let pages = layout.heap_arena.spans_count;
        if pages != ARENA_PAGES {
            return Err(ReadError::Implausible { what: "number of pages of an arena", value: pages });
        }
        let span = &layout.mspan;
        let words = [
            span.start_addr,
            span.npages,
            span.nelems,
            span.alloc_bits,
            span.gcmark_bits,
            span.sweepgen,
            span.spanclass,
            span.state,
            span.elemsize,
            span.limit,
            span.specials,
        ];
        let first = words.into_iter().min().unwrap_or_default();
        let length = words.into_iter().max().unwrap_or_default().saturating_add(8).saturating_sub(first);
        let piece = usize::try_from(length).ok().filter(|_| length <= SPAN_BYTES_MAX);
        let piece = piece.ok_or(ReadError::Implausible { what: "bytes of a span", value: length })?;
        Ok(Self { layout: *layout, architecture, mheap, arenas: HashMap::new(), span_piece: (first, piece) })
    }

    /// `mheap_.sweepgen`: grows by 2 at the end of each marking, while the world is stopped (`gcSweep` in runtime/mgc.go).
    pub(super) fn sweepgen(&self, memory: &dyn TargetMemory) -> Result<u32, ReadError> {
        let mut word = [0; 4];
        memory.read(Avma(self.mheap.0.wrapping_add(self.layout.mheap.sweepgen)), &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    /// The spans that the runtime's tables name for some addresses.
    pub(super) fn spans(
        &mut self,
        memory: &dyn TargetMemory,
        addresses: impl ExactSizeIterator<Item = Avma> + Clone,
    ) -> Result<Spans, ReadError> {
        self.find_arenas(memory, addresses.clone())?;
        let places: Vec<Option<Avma>> = addresses.map(|address| self.span_word(address)).collect();
        let words = Blocks::read(memory, places.iter().flatten().copied())?;
        let lookups: Vec<Lookup> = places
            .into_iter()
            .map(|place| match place.map(|place| words.u64(place)) {
                None | Some(Some(0)) => Lookup::Nowhere,
                Some(None) => Lookup::Unreadable,
                Some(Some(span)) => Lookup::Span(Avma(span)),
            })
            .collect();
        let mut spans: Vec<Avma> = lookups
            .iter()
            .filter_map(|lookup| match lookup {
                Lookup::Span(span) => Some(*span),
                Lookup::Nowhere | Lookup::Unreadable => None,
            })
            .collect();
        spans.sort_unstable();
        spans.dedup();
        let records = self.records(memory, &spans)?;
        let mut found = Spans { lookups, records };
        for lookup in &mut found.lookups {
            if let Lookup::Span(span) = lookup
                && !found.records.contains_key(span)
            {
                *lookup = Lookup::Unreadable;
            }
        }
        Ok(found)
    }

    /// The structures at some addresses, without those that cannot be read.
    pub(super) fn records(
        &self,
        memory: &dyn TargetMemory,
        spans: &[Avma],
    ) -> Result<HashMap<Avma, SpanRecord>, ReadError> {
        let (first, piece) = self.span_piece;
        let places: Vec<Avma> = spans.iter().map(|span| Avma(span.0.wrapping_add(first))).collect();
        let mut bytes = vec![0; piece * places.len()];
        let readable = memory.read_each(&places, &mut bytes)?;
        let contents = spans.iter().zip(bytes.chunks(piece.max(1))).zip(readable);
        Ok(contents
            .filter(|(_, readable)| *readable)
            .map(|((span, content), _)| (*span, self.record(Words(content))))
            .collect())
    }

    fn record(&self, words: Words<'_>) -> SpanRecord {
        let (layout, first) = (&self.layout.mspan, self.span_piece.0);
        let slots = layout.nelems - first;
        SpanRecord {
            start: words.u64(layout.start_addr - first),
            pages: words.u64(layout.npages - first),
            slots: if layout.nelems_bytes == 2 { words.u16(slots).into() } else { words.u64(slots) },
            slot_bytes: words.u64(layout.elemsize - first),
            limit: words.u64(layout.limit - first),
            alloc_bits: words.u64(layout.alloc_bits - first),
            mark_bits: words.u64(layout.gcmark_bits - first),
            sweepgen: words.u32(layout.sweepgen - first),
            span_class: words.u8(layout.spanclass - first),
            state: words.u8(layout.state - first),
            specials: words.u64(layout.specials - first),
        }
    }

    /// Where an arena's table has the span of an address.
    fn span_word(&self, address: Avma) -> Option<Avma> {
        let arena = self.arena_of(address)?;
        let entry = self.layout.heap_arena.spans.wrapping_add(8 * Self::page_in_arena(address));
        Some(Avma(arena.0.wrapping_add(entry)))
    }

    /// The number of an address's page in its arena.
    pub(super) const fn page_in_arena(address: Avma) -> u64 {
        address.0 / PAGE_BYTES % ARENA_PAGES
    }

    /// The structure of an address's arena; none where there is none, or it was not looked for.
    pub(super) fn arena_of(&self, address: Avma) -> Option<Avma> {
        self.arenas.get(&arena_number(self.architecture, address)?).copied()
    }

    /// Looks for the arenas that are not known yet. They are never freed (`sysAlloc` of runtime/malloc.go).
    fn find_arenas(
        &mut self,
        memory: &dyn TargetMemory,
        addresses: impl Iterator<Item = Avma>,
    ) -> Result<(), ReadError> {
        if self.arenas.len() > ARENAS_MAX {
            self.arenas.clear();
        }
        let mut unknown: Vec<u64> = addresses
            .filter_map(|address| arena_number(self.architecture, address))
            .filter(|number| !self.arenas.contains_key(number))
            .collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut table = [0; 8];
        memory.read(Avma(self.mheap.0.wrapping_add(self.layout.mheap.arenas)), &mut table)?;
        let table = u64::from_le_bytes(table);
        let place = |number: u64| Avma(table.wrapping_add(8 * number));
        let words = Blocks::read(memory, unknown.iter().map(|number| place(*number)))?;
        for number in unknown {
            if let Some(arena) = words.u64(place(number)).filter(|arena| *arena != 0) {
                self.arenas.insert(number, Avma(arena));
            }
        }
        Ok(())
    }

    /// The slots of some addresses: of objects, or within them.
    pub(super) fn slots(
        &mut self,
        memory: &dyn TargetMemory,
        addresses: &[Avma],
    ) -> Result<Vec<Result<Slot, NoSlot>>, ReadError> {
        let spans = self.spans(memory, addresses.iter().copied())?;
        let slot = |(address, lookup): (&Avma, &Lookup)| match lookup {
            Lookup::Nowhere => Err(NoSlot::NotInUse),
            Lookup::Unreadable => Err(NoSlot::Unreadable),
            Lookup::Span(span) => {
                let record = spans.record(*span).ok_or(NoSlot::Unreadable)?;
                self.slot(record, *address)
            }
        };
        Ok(addresses.iter().zip(&spans.lookups).map(slot).collect())
    }

    fn slot(&self, record: &SpanRecord, address: Avma) -> Result<Slot, NoSlot> {
        if !record.has_known_state() {
            return Err(NoSlot::Implausible);
        }
        if !record.covers(address) {
            return Err(NoSlot::NotInUse);
        }
        let index = record.index_of(address).ok_or(NoSlot::Implausible)?;
        let span = record.identity();
        let has_header = !span.without_pointers() && span.size_class() != 0 && span.slot_bytes > WITHOUT_HEADER_BYTES;
        let header_bytes = if has_header { self.layout.malloc_header_bytes() } else { 0 };
        Ok(Slot { span, index, header_bytes })
    }
}

#[cfg(test)]
mod tests;
