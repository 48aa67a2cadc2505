//! Was an object kept by the last collection?
//!
//! Owns the reading of the collector's mark bits for given objects, and the argument why an answer is the truth. Refuses an
//! answer ([`Censored`]) wherever the argument does not hold. Knows no clock: the caller looks once per cycle.
//!
//! # Why an answer is the truth
//!
//! Let `h` be `mheap_.sweepgen`. It grows by 2 when marking has ended, while the world is stopped (`gcSweep` in
//! runtime/mgc.go); a value of it names a *cycle*: the collection whose marking it ended, and the time until the next.
//! Allocating is not interrupted by that (`mallocgc` keeps its thread), so each object is born in one cycle.
//!
//! *Which bits.* `span.sweepgen` relative to `h` (runtime/mheap.go, comment at `mspan.sweepgen`) says which bits hold the
//! marks of cycle `h`: 0, or 3 for a span in a processor's cache: it was swept, and sweeping made the mark bits its `allocBits`
//! (`sweepLocked.sweep` in runtime/mgcsweep.go). -2, or 1 for one in a cache: it was not, and they are in `gcmarkBits`; with the
//! collector Green Tea they are in the first page of the span where the arena says so (`pageUseSpanInlineMarkBits`;
//! `runtime/mgcmark_greenteagc.go`). -1: it is being swept, and they are on the way. Allocating changes neither: it moves
//! `freeindex` and `allocCache`. Marking of the next cycle sets bits of `gcmarkBits` early, but it begins when all spans are swept
//! (`gcStart` in runtime/mgc.go), and of those we read `allocBits`. A span that was made in cycle `h` begins as swept with
//! all bits clear.
//!
//! *Finalizers.* An unmarked object that has one is marked by the sweep, and not freed. So where an unswept span has records
//! (`specials`), they are searched for a finalizer. They stay as they are until the sweep (`addspecial` sweeps first).
//!
//! *Whose bits.* A slot is freed by the sweep of a cycle in which it is not marked, and only then; it can be taken again in that
//! same cycle. So where an object was alive (or born) in cycle `h - 2`, its slot is still its own during the marking
//! that ends as cycle `h`, and the bit of cycle `h` is its own. Where the last that is known is older, a clear bit still proves death: what
//! is in the slot now was not marked, and if that is another object, ours was freed before. A set bit can be another object's:
//! [`Censored::MissedCycle`]. In the cycle of birth the bits say what was there before: [`Censored::NotYetKnown`].
//!
//! *Whose span.* From the birth of an object to the sweep that frees it, its page's entry in the arena, and start, end, slot
//! size, class and state of its span do not change. Anything else than at birth proves its death, even if read while it changes: by
//! the cycle that is read afterwards, since the collector may have gone on meanwhile.
//!
//! *Torn reads.* The span is read before and after the bits; where it differs, all is read again. `sweepgen` is written
//! atomically before and after a sweep touches bits, and a freed span's bits are not used again in the same cycle
//! (`nextMarkBitArenaEpoch` in runtime/mheap.go): so bits between two equal readings are of one state. Which cycle that is follows
//! from `h`, which is read first. Where it grows by 2 meanwhile, what is swept relative to the old one is still what was said; but 1
//! would be -1 relative to the new one, and 3 where it grows by 4. So bits of unswept spans count only if `h` is the same
//! afterwards, and others only if no more than one cycle has begun.
//!
//! *Alive* means kept by the collector. That can be more than the program refers to: a frame that is searched for whatever looks
//! like a pointer (`scanframeworker` in runtime/mgcmark.go), the other objects of a tiny object's block.
//!
//! Out of reach: objects that programs free by hand (`GOEXPERIMENT=runtimefreegc` and `arenas`).

mod look;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub use self::look::{Censored, Cycle, Look, MarkSources, TrackedObject};

use super::blocks::Blocks;
use super::heap::{Heap, Lookup, NoSlot, PAGE_BYTES, Slot, SpanRecord, Spans};
use super::memory::{TargetMemory, Words};
use super::{Discard, Discards, ReadError, Runtime};
use crate::addr::Avma;

/// Objects whose bits are read between two readings of the cycle: about half a millisecond.
const BATCH: usize = 1024;
/// How often an object is tried in one look.
const ATTEMPTS: usize = 8;
/// Records of one span that are searched for finalizers. A span has at most 1024 slots, and records of objects that have
/// several are rare.
const SPECIALS_MAX: usize = 4096;
/// Records that are searched in one look.
const SPECIALS_IN_ALL_MAX: usize = 1 << 16;

/// Reads the mark bits of one process, again and again.
#[derive(Debug)]
pub struct MarksReader {
    heap: Heap,
    discards: Discards,
    sources: MarkSources,
}

/// What is known of an object before its bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The span is not the object's any more.
    Recycled,
    Answer(Look),
    Again(Discard),
    Bit(Bit),
}

/// Which bit answers for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bit {
    span: Avma,
    index: u64,
    byte: Avma,
    /// Where the span was not swept yet.
    unswept: bool,
    /// The byte that says whether marks lie within the span, with its bit, and the byte of the mark.
    inline: Option<Inline>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Inline {
    flag: Avma,
    flag_bit: u64,
    /// None where the layout has no marks within spans, or not so many.
    mark: Option<Avma>,
}

const fn has_bit(byte: u8, index: u64) -> bool {
    byte >> (index % 8) & 1 == 1
}

impl MarksReader {
    /// Finds the heap.
    ///
    /// # Errors
    /// Where it is not known where that is.
    pub fn new(runtime: &Runtime) -> Result<Self, ReadError> {
        Ok(Self::of(Heap::new(runtime)?))
    }

    fn of(heap: Heap) -> Self {
        Self { heap, discards: Discards::default(), sources: MarkSources::default() }
    }

    /// What was not believed so far.
    pub fn discards(&self) -> Discards {
        self.discards
    }

    /// Where answers came from so far.
    pub fn sources(&self) -> MarkSources {
        self.sources
    }

    /// The present cycle.
    ///
    /// # Errors
    /// Where memory cannot be read.
    pub fn cycle(&self, memory: &dyn TargetMemory) -> Result<Cycle, ReadError> {
        Ok(Cycle(self.heap.sweepgen(memory)?))
    }

    /// The slots that addresses lie in. Of an object, it is right from its birth to its death; of an address where
    /// one will be, from when a processor has taken the span.
    ///
    /// # Errors
    /// Where memory cannot be read at all.
    pub fn slots(
        &mut self,
        memory: &dyn TargetMemory,
        addresses: &[Avma],
    ) -> Result<Vec<Result<Slot, NoSlot>>, ReadError> {
        let mut slots = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            slots.extend(self.heap.slots(memory, batch)?);
        }
        Ok(slots)
    }

    /// As [`Self::slots`], of one address.
    ///
    /// # Errors
    /// As [`Self::slots`].
    pub fn slot_of(&mut self, memory: &dyn TargetMemory, address: Avma) -> Result<Result<Slot, NoSlot>, ReadError> {
        Ok(self.heap.slots(memory, &[address])?.pop().unwrap_or(Err(NoSlot::Unreadable)))
    }

    /// Looks at objects when `cycle` has begun: one answer for each, in their order. An answer is of that cycle, or of a later
    /// one where the collector went on meanwhile: it says which.
    ///
    /// # Errors
    /// Where memory cannot be read at all.
    pub fn look(
        &mut self,
        memory: &dyn TargetMemory,
        objects: &[TrackedObject],
        cycle: Cycle,
    ) -> Result<Vec<Look>, ReadError> {
        let mut looks = Vec::with_capacity(objects.len());
        let mut specials = SPECIALS_IN_ALL_MAX;
        for batch in objects.chunks(BATCH) {
            looks.extend(self.look_at(memory, batch, cycle, &mut specials)?);
        }
        Ok(looks)
    }

    fn look_at(
        &mut self,
        memory: &dyn TargetMemory,
        objects: &[TrackedObject],
        cycle: Cycle,
        specials: &mut usize,
    ) -> Result<Vec<Look>, ReadError> {
        let mut looks = vec![Look::Censored(Censored::Moving); objects.len()];
        let mut open: Vec<usize> = (0..objects.len()).collect();
        for _ in 0..ATTEMPTS {
            let tried: Vec<&TrackedObject> = open.iter().filter_map(|index| objects.get(*index)).collect();
            let outcomes = self.attempt(memory, &tried, cycle, specials)?;
            let mut again = Vec::new();
            for (index, outcome) in open.into_iter().zip(outcomes) {
                match (outcome, looks.get_mut(index)) {
                    (Ok(answer), Some(look)) => *look = answer,
                    (Ok(_), None) => {}
                    (Err(reason), _) => {
                        self.discards.add(reason);
                        again.push(index);
                    }
                }
            }
            open = again;
            if open.is_empty() {
                break;
            }
        }
        Ok(looks)
    }

    /// Each object once. An error is the reason for trying again.
    fn attempt(
        &mut self,
        memory: &dyn TargetMemory,
        objects: &[&TrackedObject],
        cycle: Cycle,
        specials: &mut usize,
    ) -> Result<Vec<Result<Look, Discard>>, ReadError> {
        let now = self.cycle(memory)?;
        if now.since(cycle) < 0 {
            return Ok(objects.iter().map(|_| Err(Discard::CycleNotOver)).collect());
        }
        let spans = self.heap.spans(memory, objects.iter().map(|object| object.address))?;
        let steps: Vec<Step> = objects
            .iter()
            .zip(&spans.lookups)
            .map(|(object, lookup)| self.step(object, *lookup, &spans, now))
            .collect();
        let blocks = Blocks::read(memory, steps.iter().flat_map(places))?;
        let finalized = self.finalized(memory, &steps, &spans, &blocks, specials)?;
        let later = self.heap.records(memory, &spans.addresses())?;
        // Proofs of death and refusals need no second reading of the span; bits do.
        let end = self.cycle(memory)?;
        let mut outcomes = Vec::with_capacity(steps.len());
        for ((object, step), finalized) in objects.iter().zip(steps).zip(finalized) {
            outcomes.push(match step {
                Step::Recycled => Ok(Look::Dead { cycle: end }),
                Step::Answer(look) => Ok(look),
                Step::Again(reason) => Err(reason),
                Step::Bit(bit) if end.since(now) > i32::from(!bit.unswept) => Err(Discard::CycleMoved),
                Step::Bit(bit) => {
                    let still = spans.record(bit.span).zip(later.get(&bit.span)).is_some_and(|(a, b)| a.is_still(b));
                    if still { self.answer(object, bit, &blocks, finalized, now) } else { Err(Discard::SpanMoved) }
                }
            });
        }
        Ok(outcomes)
    }

    /// What can be said before any bit is read.
    fn step(&mut self, object: &TrackedObject, lookup: Lookup, spans: &Spans, now: Cycle) -> Step {
        if now.since(object.born) <= 0 {
            return Step::Answer(Look::Censored(Censored::NotYetKnown));
        }
        let record = match lookup {
            Lookup::Span(span) => spans.record(span).map(|record| (span, record)),
            // Entries of the tables are overwritten, never emptied: there has been no object.
            Lookup::Nowhere => return self.refuse(Censored::Implausible),
            Lookup::Unreadable => None,
        };
        let Some((span, record)) = record else { return self.refuse(Censored::Unreadable) };
        if !record.has_known_state() {
            return self.refuse(Censored::Implausible);
        }
        let is_other = || object.span.is_some_and(|span| span != record.identity());
        if !record.covers(object.address) || is_other() {
            self.sources.recycled += 1;
            return Step::Recycled;
        }
        let Some(index) = record.index_of(object.address) else { return self.refuse(Censored::Implausible) };
        let (unswept, bits) = match record.sweepgen.wrapping_sub(now.0).cast_signed() {
            0 | 3 => (false, record.alloc_bits),
            -2 | 1 => (true, record.mark_bits),
            -1 => return Step::Again(Discard::SpanBeingSwept),
            _ => return Step::Again(Discard::SpanMoved),
        };
        let inline = if unswept { self.inline(record, index) } else { None };
        Step::Bit(Bit { span, index, byte: Avma(bits.wrapping_add(index / 8)), unswept, inline })
    }

    fn refuse(&mut self, reason: Censored) -> Step {
        self.discards.add(match reason {
            Censored::Unreadable => Discard::MarksUnreadable,
            _ => Discard::SpanImplausible,
        });
        Step::Answer(Look::Censored(reason))
    }

    /// Where marks within a span are, if there are any. Only spans of one page have them (`gcUsesSpanInlineMarkBits` in
    /// `runtime/mgcmark_greenteagc.go`), but whether one does is what the arena says.
    fn inline(&self, record: &SpanRecord, index: u64) -> Option<Inline> {
        let flags = self.heap.layout.heap_arena.page_use_span_inline_mark_bits?;
        let start = Avma(record.start);
        let arena = self.heap.arena_of(start)?;
        let page = Heap::page_in_arena(start);
        let layout = &self.heap.layout.inline_marks;
        let mark = layout.size_bytes.zip(layout.marks).and_then(|(size_bytes, marks)| {
            let marks_end = size_bytes.checked_sub(1)?;
            let offset = marks.checked_add(index / 8).filter(|offset| *offset < marks_end)?;
            Some(Avma(record.start.wrapping_add(PAGE_BYTES.checked_sub(size_bytes)?).wrapping_add(offset)))
        });
        let flag = Avma(arena.0.wrapping_add(flags).wrapping_add(page / 8));
        Some(Inline { flag, flag_bit: page % 8, mark })
    }

    /// Which of the objects have finalizers that will keep them: those in unswept spans whose mark is not set.
    fn finalized(
        &self,
        memory: &dyn TargetMemory,
        steps: &[Step],
        spans: &Spans,
        blocks: &Blocks,
        budget: &mut usize,
    ) -> Result<Vec<Finalized>, ReadError> {
        let mut searched: HashMap<Avma, Option<Vec<u64>>> = HashMap::new();
        let mut found = Vec::with_capacity(steps.len());
        for step in steps {
            let Step::Bit(bit) = step else {
                found.push(Finalized::No);
                continue;
            };
            let record = spans.record(bit.span).copied().unwrap_or_default();
            if !bit.unswept || record.specials == 0 || is_marked(bit, blocks) != Some(false) {
                found.push(Finalized::No);
                continue;
            }
            let offsets = match searched.entry(bit.span) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.finalizers(memory, record.specials, budget)?),
            };
            let slot = |offset: &u64| offset.checked_div(record.slot_bytes) == Some(bit.index);
            found.push(match offsets {
                None => Finalized::Unknown,
                Some(offsets) if offsets.iter().any(slot) => Finalized::Yes,
                Some(_) => Finalized::No,
            });
        }
        Ok(found)
    }

    /// The offsets in a span at which its list of records has finalizers; none where it does not end, or leads nowhere.
    fn finalizers(
        &self,
        memory: &dyn TargetMemory,
        first: u64,
        budget: &mut usize,
    ) -> Result<Option<Vec<u64>>, ReadError> {
        let (layout, constants) = (&self.heap.layout.special, &self.heap.layout.constants);
        let mut offsets = Vec::new();
        let mut next = first;
        let piece = usize::try_from(layout.size_bytes.min(PAGE_BYTES)).unwrap_or_default();
        let mut bytes = vec![0; piece];
        for _ in 0..SPECIALS_MAX {
            if next == 0 {
                return Ok(Some(offsets));
            }
            if *budget == 0 {
                return Ok(None);
            }
            *budget -= 1;
            if memory.read_each(&[Avma(next)], &mut bytes)? != [true] {
                return Ok(None);
            }
            let words = Words(&bytes);
            if u64::from(words.u8(layout.kind)) == constants.special_kind_finalizer {
                offsets.push(match layout.offset_bytes {
                    2 => words.u16(layout.offset).into(),
                    _ => words.u64(layout.offset),
                });
            }
            next = words.u64(layout.next);
        }
        Ok(None)
    }

    /// What the bit says, by the argument at the head of this file.
    fn answer(
        &mut self,
        object: &TrackedObject,
        bit: Bit,
        blocks: &Blocks,
        finalized: Finalized,
        now: Cycle,
    ) -> Result<Look, Discard> {
        let Some(marked) = is_marked(&bit, blocks) else {
            let is_unreadable = blocks.u8(bit.byte).is_none();
            let reason = if is_unreadable { Censored::Unreadable } else { Censored::Implausible };
            self.refuse(reason);
            return Ok(Look::Censored(reason));
        };
        if finalized == Finalized::Unknown {
            return Err(Discard::SpanMoved);
        }
        match (bit.unswept, finalized) {
            (_, Finalized::Yes) => self.sources.finalizer += 1,
            (false, _) => self.sources.swept += 1,
            (true, _) if uses_inline_marks(&bit, blocks) == Some(true) => self.sources.inline += 1,
            (true, _) => self.sources.unswept += 1,
        }
        Ok(match now.since(object.alive) {
            _ if !marked && finalized == Finalized::No => Look::Dead { cycle: now },
            ..=1 => Look::Alive { cycle: now },
            _ => Look::Censored(Censored::MissedCycle),
        })
    }
}

/// Whether the sweep will find a finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finalized {
    No,
    Yes,
    Unknown,
}

/// The bytes that a step needs.
fn places(step: &Step) -> impl Iterator<Item = Avma> + use<> {
    let (bit, inline) = match step {
        Step::Bit(bit) => (Some(bit.byte), bit.inline),
        Step::Recycled | Step::Answer(_) | Step::Again(_) => (None, None),
    };
    bit.into_iter().chain(inline.map(|inline| inline.flag)).chain(inline.and_then(|inline| inline.mark))
}

/// Whether the marks of a bit's span lie within the span; none where that cannot be read.
fn uses_inline_marks(bit: &Bit, blocks: &Blocks) -> Option<bool> {
    match bit.inline {
        None => Some(false),
        Some(inline) => blocks.u8(inline.flag).map(|flags| has_bit(flags, inline.flag_bit)),
    }
}

/// Whether the mark is set; none where it cannot be read, or would lie where the layout has none.
fn is_marked(bit: &Bit, blocks: &Blocks) -> Option<bool> {
    let marked = has_bit(blocks.u8(bit.byte)?, bit.index);
    if !uses_inline_marks(bit, blocks)? {
        return Some(marked);
    }
    let mark = bit.inline.and_then(|inline| inline.mark)?;
    // The sweep adds these to the others, which are clear until then (`moveInlineMarks`).
    Some(marked || has_bit(blocks.u8(mark)?, bit.index))
}

#[cfg(test)]
mod tests;
