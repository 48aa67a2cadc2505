//! Which resident pages of the Go heap hold what: objects, gaps between them, stacks, nothing.
//!
//! The runtime's statistics count addresses; the kernel counts pages. Both meet here: each 64 MiB of the heap has a table
//! of the span of each of its pages of 8 KiB (runtime/mheap.go, `heapArena.spans`), and the kernel says which of them are
//! in memory. Nothing is stopped meanwhile: a span that comes or goes is taken as it is found.
//!
//! One arena is held at a time, so memory stays small for a heap of any size.

mod chunks;
mod known;
mod resident;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::chunks::CHUNK_BYTES;
use self::chunks::chunks;
use self::known::Known;
pub(super) use self::known::merged;
use self::resident::Resident;

use super::memory::{READ_BYTES_MAX, TargetMemory, Words};
use super::system::pagemap::Pages;
use super::system::smaps::{Mapping, MappingKind};
use super::{ReadError, Runtime};
use crate::addr::Avma;
use crate::inspect::Global;

/// Bytes of a page of the runtime (`_PageSize`, runtime/malloc.go).
const PAGE_BYTES: u64 = 8 << 10;
/// Bytes of an arena on 64-bit Linux (`heapArenaBytes`, runtime/malloc.go).
pub(super) const ARENA_BYTES: u64 = 64 << 20;
/// What is added to an address before it is divided into arenas (`arenaBaseOffset`, runtime/malloc.go): addresses of amd64 are
/// signed. A target has our own architecture.
const ARENA_OFFSET: u64 = if cfg!(target_arch = "x86_64") { 1 << 47 } else { 0 };
/// Entries of the table of arenas (`arenaL2Bits`, runtime/malloc.go); the first level has one entry.
const ARENAS_MAX: u64 = 1 << 22;
/// Most arenas that are looked at: 4 TiB of heap.
const ARENAS_LOOKED_AT_MAX: usize = 1 << 16;
/// Bytes of one bitmap of free pages and of what it stands for (`pallocData` times `1 << pallocChunksL2Bits`,
/// runtime/mpagealloc.go; 128 bytes for 512 pages).
const CHUNKS_BYTES: u64 = 128 << 13;
/// States of a span (runtime/mheap.go): in use for objects; in use for stacks and the collector.
const IN_USE: u8 = 1;
const MANUAL: u8 = 2;

/// What the resident pages of the heap's arenas hold. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapTally {
    /// Small objects: allocated slots, whether in memory or not.
    pub small_bytes: u64,
    /// Of them, in memory.
    pub small_resident_bytes: u64,
    /// Large objects that the last collection marked, whether in memory or not.
    pub large_marked_bytes: u64,
    /// Of them, in memory.
    pub large_marked_resident_bytes: u64,
    /// Large objects that it did not mark: dead ones, and those allocated since. In memory or not.
    pub large_other_bytes: u64,
    /// Of them, in memory.
    pub large_other_resident_bytes: u64,
    /// In memory: the rest of spans with small objects.
    pub gaps_resident_bytes: u64,
    /// In memory: stacks of goroutines.
    pub stacks_resident_bytes: u64,
    /// In memory: what the collector has to do.
    pub collector_resident_bytes: u64,
    /// In memory: pages of no span.
    pub free_resident_bytes: u64,
    /// In memory: pages of which the runtime's tables say nothing that can be.
    pub unclear_resident_bytes: u64,
}

impl HeapTally {
    /// All that is in memory.
    pub fn resident_bytes(&self) -> u64 {
        self.small_resident_bytes
            + self.large_marked_resident_bytes
            + self.large_other_resident_bytes
            + self.gaps_resident_bytes
            + self.stacks_resident_bytes
            + self.collector_resident_bytes
            + self.free_resident_bytes
            + self.unclear_resident_bytes
    }
}

/// The heap's arenas, and what is known of where the runtime keeps its structures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeapPages {
    /// Counting the pages that belong to this process alone.
    pub own: HeapTally,
    /// Counting also those that are shared with a child, or are the page of zeros.
    pub all: HeapTally,
    /// First address of each arena.
    pub arenas: BTreeSet<u64>,
    /// Spans that were looked at.
    pub spans: u64,
    /// Ranges of the runtime's structures, in order.
    pub structures: Vec<(Avma, Avma)>,
    /// The chunks in which it keeps small structures that are never freed, in order.
    pub chunks: Vec<(Avma, Avma)>,
}

impl HeapPages {
    /// Whether an address is in an arena.
    pub fn holds(&self, at: Avma) -> bool {
        self.arenas.range(..=at.0).next_back().is_some_and(|base| at.0 - base < ARENA_BYTES)
    }
}

/// Looks at all arenas with something in memory.
///
/// # Errors
/// Where the heap is not found or not readable, or the kernel does not show its pages.
pub fn heap_pages(
    runtime: &Runtime,
    memory: &dyn TargetMemory,
    mappings: &[Mapping],
    pages: &dyn Pages,
) -> Result<HeapPages, ReadError> {
    let heap = runtime.address(Global::Mheap)?;
    let mut generation = [0; 4];
    memory.read(heap_field(heap, runtime.layout().mheap.sweepgen), &mut generation)?;
    let mut walk = Walk {
        runtime,
        memory,
        generation: Words(&generation).u32(0),
        found: HeapPages::default(),
        known: Known::default(),
    };
    walk.known_tables(heap)?;
    for (base, arena) in walk.arenas(heap, mappings)? {
        walk.arena(base, arena, mappings, pages)?;
    }
    walk.found.structures = walk.known.ranges();
    walk.found.chunks = chunks(runtime, memory)?;
    Ok(walk.found)
}

fn heap_field(heap: Avma, offset: u64) -> Avma {
    Avma(heap.0.wrapping_add(offset))
}

struct Walk<'a> {
    runtime: &'a Runtime,
    memory: &'a dyn TargetMemory,
    /// The heap's `sweepgen`.
    generation: u32,
    found: HeapPages,
    known: Known,
}

/// A span as far as it matters here.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    pages: u64,
    state: u8,
    /// Bytes of allocated slots.
    allocated_bytes: u64,
    /// Bytes of a slot; of a stack; 0: neither.
    element_bytes: u64,
    is_large: bool,
    /// Address of the bits that the last collection set.
    marks: u64,
}

/// Consecutive pages of an arena that the table gives to one span.
#[derive(Clone, Copy, Debug)]
struct Run {
    span: u64,
    first: usize,
    count: usize,
}

impl Walk<'_> {
    /// Tables that the heap itself points to.
    fn known_tables(&mut self, heap: Avma) -> Result<(), ReadError> {
        let layout = &self.runtime.layout().mheap;
        let mut slice = |offset: u64, element_bytes: u64| -> Result<(), ReadError> {
            let mut header = [0; 24];
            self.memory.read(heap_field(heap, offset), &mut header)?;
            let words = Words(&header);
            self.known.range(words.u64(0), words.u64(16).saturating_mul(element_bytes));
            Ok(())
        };
        slice(layout.allspans, 8)?;
        for level in 0..layout.page_summaries_count.min(16) {
            slice(layout.page_summaries + 24 * level, 8)?;
        }
        // Elements have 1, 8 or 16 bytes, by version; what is reserved behind them belongs to nobody else.
        slice(layout.scavenge_index, 16)?;
        let mut chunks = vec![0; usize::try_from(8 * layout.page_chunks_count.min(1 << 16)).unwrap_or_default()];
        self.memory.read(heap_field(heap, layout.page_chunks), &mut chunks)?;
        for chunk in chunks.chunks(8) {
            self.known.range(Words(chunk).u64(0), CHUNKS_BYTES);
        }
        Ok(())
    }

    /// First address and structure of each arena in which something is mapped and in memory.
    fn arenas(&mut self, heap: Avma, mappings: &[Mapping]) -> Result<BTreeMap<u64, u64>, ReadError> {
        let mut pointer = [0; 8];
        self.memory.read(heap_field(heap, self.runtime.layout().mheap.arenas), &mut pointer)?;
        let table = Words(&pointer).u64(0);
        if table == 0 {
            return Err(ReadError::Implausible { what: "address of the table of arenas", value: 0 });
        }
        self.known.range(table, 8 * ARENAS_MAX);
        let arena_size = self.runtime.layout().heap_arena.size_bytes;
        let mut arenas = BTreeMap::new();
        let mut behind = 0;
        for mapping in mappings.iter().filter(|mapping| matches!(mapping.kind, MappingKind::Anonymous { .. })) {
            let index = |address: u64| (address.wrapping_add(ARENA_OFFSET) / ARENA_BYTES).min(ARENAS_MAX);
            let (first, end) = (index(mapping.start.0).max(behind), index(mapping.end.0.saturating_sub(1)) + 1);
            if first >= end {
                continue;
            }
            behind = end;
            let length = usize::try_from(8 * (end - first)).unwrap_or(usize::MAX);
            if length > READ_BYTES_MAX {
                continue;
            }
            let mut entries = vec![0; length];
            self.memory.read(Avma(table.saturating_add(8 * first)), &mut entries)?;
            for (index, entry) in (first..).zip(entries.chunks(8)) {
                let arena = Words(entry).u64(0);
                if arena != 0 && arenas.len() < ARENAS_LOOKED_AT_MAX {
                    self.known.range(arena, arena_size);
                    arenas.insert((index * ARENA_BYTES).wrapping_sub(ARENA_OFFSET), arena);
                }
            }
        }
        Ok(arenas)
    }

    fn arena(&mut self, base: u64, arena: u64, mappings: &[Mapping], pages: &dyn Pages) -> Result<(), ReadError> {
        let layout = &self.runtime.layout().heap_arena;
        if layout.spans_count != ARENA_BYTES / PAGE_BYTES {
            return Err(ReadError::Implausible { what: "number of pages of an arena", value: layout.spans_count });
        }
        let mut table = vec![0; usize::try_from(8 * layout.spans_count).unwrap_or_default()];
        self.memory.read(Avma(arena.saturating_add(layout.spans)), &mut table)?;
        let resident = Resident::of(base, mappings, pages)?;
        let runs = runs(&table);
        let spans = self.spans(&runs)?;
        let marked = self.marked_large(&spans)?;
        self.found.arenas.insert(base);
        self.found.spans += spans.len() as u64;
        for run in runs {
            let span = spans.get(&run.span).filter(|span| {
                let at = base.wrapping_add(run.first as u64 * PAGE_BYTES);
                let is_inside =
                    at.checked_sub(span.start).is_some_and(|from| from < span.pages.saturating_mul(PAGE_BYTES));
                is_inside && matches!(span.state, IN_USE | MANUAL)
            });
            let is_unclear = run.span != 0 && !spans.contains_key(&run.span);
            let (own, all) = resident.of_run(run);
            let mapped = run.count as u64 * PAGE_BYTES;
            for (resident, tally) in [(own, &mut self.found.own), (all, &mut self.found.all)] {
                match span {
                    Some(span) => span.add_to(tally, mapped, resident, marked.contains(&run.span)),
                    None if is_unclear => tally.unclear_resident_bytes += resident,
                    None => tally.free_resident_bytes += resident,
                }
            }
        }
        Ok(())
    }

    /// The spans of some pages; those that cannot be read are left out.
    fn spans(&mut self, runs: &[Run]) -> Result<BTreeMap<u64, Span>, ReadError> {
        let layout = &self.runtime.layout().mspan;
        let addresses: BTreeSet<u64> = runs.iter().map(|run| run.span).filter(|span| *span != 0).collect();
        let places: Vec<Avma> = addresses.into_iter().map(Avma).collect();
        let piece = usize::try_from(layout.elemsize.max(layout.spanclass).max(layout.gcmark_bits) + 8).unwrap_or(256);
        let mut bytes = vec![0; piece * places.len()];
        let readable = self.memory.read_each(&places, &mut bytes)?;
        let mut spans = BTreeMap::new();
        for ((place, content), readable) in places.into_iter().zip(bytes.chunks(piece)).zip(readable) {
            if !readable {
                continue;
            }
            let words = Words(content);
            let pages = words.u64(layout.npages);
            let element_bytes = words.u64(layout.elemsize);
            let (state, class) = (words.u8(layout.state), words.u8(layout.spanclass));
            let allocated = u64::from(words.u16(layout.alloc_count)).saturating_mul(element_bytes);
            // Behind a collection the generation of the heap is two ahead of what was not yet swept (runtime/mheap.go).
            let ahead = words.u32(layout.sweepgen).wrapping_sub(self.generation).cast_signed();
            let (alloc_bits, mark_bits) = (words.u64(layout.alloc_bits), words.u64(layout.gcmark_bits));
            let marks = if matches!(ahead, -2 | 1) { mark_bits } else { alloc_bits };
            if matches!(state, IN_USE | MANUAL) {
                self.known.object(place.0);
                self.known.object(place.0.saturating_add(piece as u64));
                self.known.object(alloc_bits);
                self.known.object(mark_bits);
            }
            let span = Span {
                start: words.u64(layout.start_addr),
                pages,
                state,
                allocated_bytes: allocated.min(pages.saturating_mul(PAGE_BYTES)),
                element_bytes,
                is_large: state == IN_USE && class >> 1 == 0,
                marks,
            };
            spans.insert(place.0, span);
        }
        Ok(spans)
    }

    /// Those spans of one large object that the last collection has marked.
    fn marked_large(&self, spans: &BTreeMap<u64, Span>) -> Result<BTreeSet<u64>, ReadError> {
        let large: Vec<(u64, Avma)> =
            spans.iter().filter(|(_, span)| span.is_large).map(|(at, span)| (*at, Avma(span.marks))).collect();
        let places: Vec<Avma> = large.iter().map(|(_, marks)| *marks).collect();
        let mut bits = vec![0; places.len()];
        self.memory.read_each(&places, &mut bits)?;
        Ok(large.iter().zip(bits).filter(|(_, bits)| bits & 1 == 1).map(|((span, _), _)| *span).collect())
    }
}

impl Span {
    /// Adds pages of it, which need not be all: a span may reach over the end of an arena.
    fn add_to(&self, tally: &mut HeapTally, mapped: u64, resident: u64, is_marked: bool) {
        match (self.state, self.is_large) {
            (MANUAL, _) if self.element_bytes > 0 => tally.stacks_resident_bytes += resident,
            (MANUAL, _) => tally.collector_resident_bytes += resident,
            (_, true) if is_marked => {
                tally.large_marked_bytes += mapped;
                tally.large_marked_resident_bytes += resident;
            }
            (_, true) => {
                tally.large_other_bytes += mapped;
                tally.large_other_resident_bytes += resident;
            }
            _ => {
                let all = u128::from(self.pages.saturating_mul(PAGE_BYTES).max(1));
                let part = u128::from(self.allocated_bytes) * u128::from(mapped) / all;
                let allocated = u64::try_from(part).unwrap_or(mapped).min(mapped);
                // Slots are given out from the first one on: what was never touched are the last ones.
                let allocated_resident = allocated.min(resident);
                tally.small_bytes += allocated;
                tally.small_resident_bytes += allocated_resident;
                tally.gaps_resident_bytes += resident - allocated_resident;
            }
        }
    }
}

fn runs(table: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (page, entry) in table.chunks(8).enumerate() {
        let span = Words(entry).u64(0);
        match runs.last_mut() {
            Some(run) if run.span == span => run.count += 1,
            _ => runs.push(Run { span, first: page, count: 1 }),
        }
    }
    runs
}
