//! The processors and their caches: where they are, and which spans they hold.

use super::SIZE_CLASSES;
use crate::addr::Avma;
use crate::inspect::RuntimeLayout;
use crate::read::ReadError;
use crate::read::batch::{Batch, Slot};
use crate::read::memory::{TargetMemory, Words};

/// Most processors that are believed.
const PROCESSORS_MAX: u64 = 4096;
/// Most bytes of one batch: caches of all these processors and a kilobyte around each of their spans would be more.
pub(super) const BATCH_BYTES_MAX: usize = 16 << 20;
/// Span classes: a size class with pointers, and without.
pub(super) const SPAN_CLASSES: usize = 2 * SIZE_CLASSES;

/// A set of size classes. The first, which stands for large objects, has no cached spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClassSet(u128);

impl ClassSet {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self((1 << SIZE_CLASSES) - 2);

    pub(super) fn insert(&mut self, class: usize) {
        self.0 |= 1 << class;
    }

    pub(super) fn contains(self, class: usize) -> bool {
        self.0 >> class & 1 == 1
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The processors and the addresses of their caches, as found before. They change with GOMAXPROCS alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Processors {
    array: Avma,
    places: Vec<Avma>,
    /// Zero where a processor has none: it is being made or unmade.
    caches: Vec<Avma>,
}

/// Where in a batch the words are that confirm [`Processors`].
#[derive(Clone, Debug, Default)]
pub(super) struct Confirmation {
    header: Slot,
    /// Asked for where an entry was empty: others stay, as long as the array and its length do.
    array: Option<Slot>,
    /// Of each processor that was asked about, its index and where its cache is.
    caches: Vec<(usize, Slot)>,
}

/// Which caches are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// All: a processor that was unmade and made again since may have another.
    All,
    /// Those that were missing: one that is unmade meanwhile gives its spans back, which is seen.
    Missing,
}

impl Processors {
    /// Finds them anew.
    pub(super) fn find(memory: &dyn TargetMemory, allp: Avma, layout: &RuntimeLayout) -> Result<Self, ReadError> {
        let mut header = [0; 16];
        memory.read(allp, &mut header)?;
        let (array, length) = (Avma(Words(&header).u64(0)), Words(&header).u64(8));
        if length == 0 {
            return Err(ReadError::NotStarted);
        }
        if length > PROCESSORS_MAX {
            return Err(ReadError::Implausible { what: "number of processors", value: length });
        }
        let mut batch = Batch::default();
        let slot = batch.add(array, 8 * length);
        batch.read(memory, BATCH_BYTES_MAX)?;
        let places: Vec<Avma> = (0..length).map(|index| Avma(batch.words(slot).u64(8 * index))).collect();
        batch.clear();
        let slots: Vec<Option<Slot>> = places
            .iter()
            .map(|place| (place.0 != 0).then(|| batch.add(Avma(place.0.saturating_add(layout.p.mcache)), 8)))
            .collect();
        batch.read(memory, BATCH_BYTES_MAX)?;
        let caches = slots.into_iter().map(|slot| Avma(slot.map_or(0, |slot| batch.words(slot).u64(0)))).collect();
        Ok(Self { array, places, caches })
    }

    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// Adds to a batch what says whether they still are the same.
    pub(super) fn ask(&self, batch: &mut Batch, allp: Avma, layout: &RuntimeLayout, ask: Ask) -> Confirmation {
        let header = batch.add(allp, 16);
        let has_empty = self.places.iter().any(|place| place.0 == 0);
        let array = has_empty.then(|| batch.add(self.array, 8 * self.places.len() as u64));
        let both = self.places.iter().zip(&self.caches).enumerate();
        let asked = both.filter(|(_, (place, cache))| place.0 != 0 && (ask == Ask::All || cache.0 == 0));
        let caches = asked
            .map(|(index, (place, _))| (index, batch.add(Avma(place.0.saturating_add(layout.p.mcache)), 8)))
            .collect();
        Confirmation { header, array, caches }
    }

    /// Whether they still were the same.
    pub(super) fn are_confirmed(&self, batch: &Batch, asked: &Confirmation) -> bool {
        let header = batch.words(asked.header);
        let is_entry = |(place, index): (&Avma, u64), array: Slot| batch.words(array).u64(8 * index) == place.0;
        header.u64(0) == self.array.0
            && header.u64(8) == self.places.len() as u64
            && asked.array.is_none_or(|array| self.places.iter().zip(0_u64..).all(|entry| is_entry(entry, array)))
            && asked
                .caches
                .iter()
                .all(|(index, slot)| self.caches.get(*index).is_some_and(|cache| batch.words(*slot).u64(0) == cache.0))
    }

    /// Each processor that has a cache, and the cache.
    pub(super) fn with_caches(&self) -> impl Iterator<Item = (Avma, Avma)> + '_ {
        let both = self.places.iter().copied().zip(self.caches.iter().copied());
        both.filter(|(place, cache)| place.0 != 0 && cache.0 != 0)
    }
}

/// What one cache held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cache<'a> {
    /// Tiny objects that are not yet in the statistics.
    pub(super) tiny_allocs: u64,
    spans: Words<'a>,
}

impl<'a> Cache<'a> {
    /// Adds it to a batch.
    pub(super) fn ask(batch: &mut Batch, cache: Avma, layout: &RuntimeLayout) -> Slot {
        let (start, end) = range(layout);
        batch.add(Avma(cache.0.saturating_add(start)), end - start)
    }

    pub(super) fn read(batch: &'a Batch, slot: Slot, layout: &RuntimeLayout) -> Self {
        let (start, _) = range(layout);
        let spans = slot.part(layout.mcache.alloc - start, 8 * SPAN_CLASSES as u64);
        let tiny_allocs = batch.words(slot).u64(layout.mcache.tiny_allocs - start);
        Self { tiny_allocs, spans: batch.words(spans) }
    }

    /// The span of a span class; the empty one for all where there is none.
    pub(super) fn span(&self, span_class: usize) -> Avma {
        Avma(self.spans.u64(8 * span_class as u64))
    }

    /// Whether another look saw the same spans.
    pub(super) fn has_same_spans(&self, other: &Self) -> bool {
        self.spans.0 == other.spans.0
    }

    /// The empty span: what the class of large objects has, which is never cached.
    pub(super) fn empty_span(&self) -> Avma {
        self.span(0)
    }
}

/// The part of a cache that is read.
fn range(layout: &RuntimeLayout) -> (u64, u64) {
    let fields = &layout.mcache;
    let spans_end = fields.alloc + 8 * SPAN_CLASSES as u64;
    (fields.tiny_allocs.min(fields.alloc), spans_end.max(fields.tiny_allocs + 8))
}
