//! One look: caches, statistics twice, the spans of the caches, the caches again, the statistics again.
//!
//! Two system calls: which spans there are is known after the first. Spans that lie close together are read in one piece. What a
//! call costs depends on the number of its pieces, some 0.2 to 0.4 us each.

use super::caches::{Ask, BATCH_BYTES_MAX, Cache, ClassSet, Processors, SPAN_CLASSES};
use super::statistics::Deltas;
use crate::addr::Avma;
use crate::inspect::layout::StatisticsLayout;
use crate::inspect::{GlobalMissing, RuntimeLayout};
use crate::read::batch::{Batch, Slot};
use crate::read::memory::{TargetMemory, Words};
use crate::read::{Discard, ReadError};

/// Spans no further apart than this are read together: so many bytes take less time than another piece (measured: 0.1 us for
/// 1 KiB, 0.4 us for a piece).
const GAP_BYTES_MAX: u64 = 2048;

/// Entries of the rings of pauses that are believed.
pub(super) const PAUSES_MAX: u64 = 1024;
/// More than `memstats` is.
const STATISTICS_BYTES_MAX: u64 = 64 << 10;

/// Where the variables are. Without those that may be missing there are fewer parts.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) memstats: Avma,
    pub(super) allp: Avma,
    pub(super) mheap: Result<Avma, GlobalMissing>,
    pub(super) gc_controller: Result<Avma, GlobalMissing>,
    pub(super) gcphase: Result<Avma, GlobalMissing>,
    pub(super) sched: Result<Avma, GlobalMissing>,
    pub(super) allglen: Result<Avma, GlobalMissing>,
}

/// A span that a cache holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct CachedSpan {
    /// Which of the processors that have a cache.
    pub(super) processor: usize,
    pub(super) span_class: usize,
    address: Avma,
    slot: Slot,
}

/// What is known of a span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    words: Words<'a>,
    layout: &'a RuntimeLayout,
    start: u64,
}

impl Span<'_> {
    pub(super) fn sweep_generation(&self) -> u32 {
        self.words.u32(self.layout.mspan.sweepgen - self.start)
    }

    pub(super) fn allocated(&self) -> u64 {
        self.words.u16(self.layout.mspan.alloc_count - self.start).into()
    }

    pub(super) fn allocated_before_cache(&self) -> u64 {
        self.words.u16(self.layout.mspan.alloc_count_before_cache - self.start).into()
    }

    pub(super) fn span_class(&self) -> usize {
        self.words.u8(self.layout.mspan.spanclass - self.start).into()
    }

    pub(super) fn state(&self) -> u8 {
        self.words.u8(self.layout.mspan.state - self.start)
    }
}

/// The part of a span that is read.
fn range(layout: &RuntimeLayout) -> (u64, u64) {
    let fields = &layout.mspan;
    let starts = [fields.sweepgen, fields.alloc_count, fields.spanclass, fields.state, fields.alloc_count_before_cache];
    let start = starts.into_iter().min().unwrap_or_default();
    let ends = [fields.sweepgen + 4, fields.alloc_count + 2, fields.state + 1, fields.alloc_count_before_cache + 2];
    (start, ends.into_iter().max().unwrap_or_default().max(fields.spanclass + 1))
}

/// Where in the second batch everything else is; empty where the variable is not known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    pub(super) gc_controller: Slot,
    pub(super) gcphase: Slot,
    pub(super) sched: Slot,
    pub(super) allglen: Slot,
    /// Words of `mheap_` that say how many bytes of structures are in use, those of spans first.
    pub(super) structures: Slot,
}

/// The buffers of a look, and what was seen in the last one.
#[derive(Debug, Default)]
pub(super) struct Look {
    first: Batch,
    second: Batch,
    before: Vec<Slot>,
    behind: Vec<Slot>,
    kept_goroutines: Vec<Slot>,
    pub(super) spans: Vec<CachedSpan>,
    order: Vec<usize>,
    sweep_generation: Option<Slot>,
    /// All of `memstats` that is of interest.
    statistics: Slot,
    /// Its beginning, behind all else.
    statistics_behind: Slot,
    pub(super) rest: Rest,
}

impl Look {
    /// Looks at the caches of some classes. An inner error says why what was seen is thrown away.
    pub(super) fn take(
        &mut self,
        memory: &dyn TargetMemory,
        places: &Places,
        layout: &RuntimeLayout,
        processors: &Processors,
        classes: ClassSet,
    ) -> Result<Result<(), Discard>, ReadError> {
        let is_whole = classes == ClassSet::ALL;
        self.first.clear();
        self.before.clear();
        self.kept_goroutines.clear();
        let asked = processors.ask(&mut self.first, places.allp, layout, Ask::All);
        for (place, cache) in processors.with_caches() {
            if is_whole {
                let at = Avma(place.0.saturating_add(layout.p.free_goroutines));
                self.kept_goroutines.push(self.first.add(at, 4));
            }
            self.before.push(Cache::ask(&mut self.first, cache, layout));
        }
        self.first.read(memory, BATCH_BYTES_MAX)?;
        if !processors.are_confirmed(&self.first, &asked) {
            return Ok(Err(Discard::ProcessorsMoved));
        }
        self.list_spans(layout, classes)?;

        self.second.clear();
        let generation = |batch: &mut Batch| {
            let mheap = places.mheap.as_ref().ok()?;
            Some(batch.add(Avma(mheap.0.saturating_add(layout.mheap.sweepgen)), 4))
        };
        let generation_before = generation(&mut self.second);
        let statistics = &layout.mstats;
        let deltas_end = statistics.heap_stats_generation + 4;
        self.statistics =
            self.second.add(places.memstats, if is_whole { statistics_end(statistics) } else { deltas_end });
        let again = self.second.add(places.memstats, deltas_end);
        self.add_spans(layout);
        self.sweep_generation = generation(&mut self.second);
        self.behind.clear();
        for (_, cache) in processors.with_caches() {
            self.behind.push(Cache::ask(&mut self.second, cache, layout));
        }
        self.statistics_behind = self.second.add(places.memstats, deltas_end);
        let asked = processors.ask(&mut self.second, places.allp, layout, Ask::Missing);
        if is_whole {
            self.add_rest(places, layout);
        }
        self.second.read(memory, BATCH_BYTES_MAX)?;
        if !processors.are_confirmed(&self.second, &asked) {
            return Ok(Err(Discard::ProcessorsMoved));
        }
        // Every cache is emptied behind the end of a marking, and may have been filled and emptied unseen.
        if generation_before.map(|slot| self.second.bytes(slot))
            != self.sweep_generation.map(|slot| self.second.bytes(slot))
        {
            return Ok(Err(Discard::CollectionEnded));
        }
        let again = Deltas::new(self.second.words(again), layout);
        // The second reading is close to the first: between far ones they can have been merged as often as there are deltas.
        let is_settled = self.deltas(layout).is_settled(again) && again.is_settled(self.deltas_behind(layout));
        Ok(if is_settled { Ok(()) } else { Err(Discard::StatisticsMoved) })
    }

    /// Lists the spans that the caches hold.
    fn list_spans(&mut self, layout: &RuntimeLayout, classes: ClassSet) -> Result<(), ReadError> {
        self.spans.clear();
        for (processor, slots) in self.before.iter().enumerate() {
            let cache = Cache::read(&self.first, *slots, layout);
            let empty = cache.empty_span();
            // Both span classes of large objects are never cached.
            if empty.0 == 0 || cache.span(1) != empty {
                return Err(ReadError::Implausible { what: "address of the empty span", value: empty.0 });
            }
            for span_class in 2..SPAN_CLASSES {
                let address = cache.span(span_class);
                if address == empty || !classes.contains(span_class / 2) {
                    continue;
                }
                if address.0 == 0 || !address.0.is_multiple_of(8) {
                    return Err(ReadError::Implausible { what: "address of a cached span", value: address.0 });
                }
                self.spans.push(CachedSpan { processor, span_class, address, slot: Slot::default() });
            }
        }
        self.order.clear();
        self.order.extend(0..self.spans.len());
        let spans = &self.spans;
        self.order.sort_unstable_by_key(|index| spans.get(*index).map(|span| span.address));
        Ok(())
    }

    /// Adds what is read of the spans to the second batch, in the order of their addresses.
    fn add_spans(&mut self, layout: &RuntimeLayout) {
        let (start, end) = range(layout);
        let mut rest = self.order.as_slice();
        while let Some((first, _)) = rest.split_first() {
            let address_of = |index: &usize| self.spans.get(*index).map_or(0, |span| span.address.0);
            let from = address_of(first);
            let mut last = from;
            let together = rest.iter().take_while(|index| {
                let is_close = address_of(index) - last <= GAP_BYTES_MAX;
                last = if is_close { address_of(index) } else { last };
                is_close
            });
            let (now, behind) = rest.split_at_checked(together.count()).unwrap_or_default();
            let piece = self.second.add(Avma(from.saturating_add(start)), (last - from).saturating_add(end - start));
            for index in now {
                if let Some(span) = self.spans.get_mut(*index) {
                    span.slot = piece.part(span.address.0 - from, end - start);
                }
            }
            rest = behind;
        }
    }

    fn add_rest(&mut self, places: &Places, layout: &RuntimeLayout) {
        let batch = &mut self.second;
        let pacer = &layout.gc_controller;
        let sched = &layout.sched;
        let counts = [
            Some(sched.mnext + 4),
            Some(sched.nmfreed + 4),
            Some(sched.ngsys),
            sched.free_goroutines,
            sched.free_goroutines_with_stack,
            sched.free_goroutines_without_stack,
        ];
        let sched_end = counts.into_iter().flatten().max().unwrap_or_default() + 4;
        let (structures_start, structures_end) = structures(layout);
        let mut word = |place: &Result<Avma, GlobalMissing>, offset: u64, length_bytes: u64| match place {
            Ok(at) => batch.add(Avma(at.0.saturating_add(offset)), length_bytes),
            Err(_) => Slot::default(),
        };
        self.rest = Rest {
            gc_controller: word(&places.gc_controller, 0, pacer.mapped_ready.max(pacer.total_free) + 8),
            gcphase: word(&places.gcphase, 0, 4),
            sched: word(&places.sched, 0, sched_end),
            allglen: word(&places.allglen, 0, 8),
            structures: word(&places.mheap, structures_start, structures_end - structures_start),
        };
    }

    /// What is at a place of [`Rest`].
    pub(super) fn words(&self, slot: Slot) -> Words<'_> {
        self.second.words(slot)
    }

    /// `memstats` from its beginning.
    pub(super) fn statistics(&self) -> Words<'_> {
        self.second.words(self.statistics)
    }

    pub(super) fn deltas<'a>(&'a self, layout: &'a RuntimeLayout) -> Deltas<'a> {
        Deltas::new(self.statistics(), layout)
    }

    /// As [`Self::deltas`], read behind the caches.
    pub(super) fn deltas_behind<'a>(&'a self, layout: &'a RuntimeLayout) -> Deltas<'a> {
        Deltas::new(self.second.words(self.statistics_behind), layout)
    }

    /// Ended goroutines that the processors keep.
    pub(super) fn kept_goroutines(&self) -> u64 {
        self.kept_goroutines.iter().map(|slot| u64::from(self.first.words(*slot).u32(0))).sum()
    }

    /// Generation of the heap's sweeping. None means not known.
    pub(super) fn sweep_generation(&self) -> Option<u32> {
        self.sweep_generation.map(|slot| self.second.words(slot).u32(0))
    }

    /// Bytes of structures of spans and of caches that are in use.
    pub(super) fn structures_in_use(&self, layout: &RuntimeLayout) -> [u64; 2] {
        let (start, _) = structures(layout);
        let words = self.second.words(self.rest.structures);
        [layout.mheap.span_structures_in_use, layout.mheap.cache_structures_in_use].map(|at| words.u64(at - start))
    }

    /// Each cache before and behind.
    pub(super) fn caches<'a>(&'a self, layout: &'a RuntimeLayout) -> impl Iterator<Item = (Cache<'a>, Cache<'a>)> + 'a {
        let both = self.before.iter().zip(&self.behind);
        both.map(|(before, behind)| {
            (Cache::read(&self.first, *before, layout), Cache::read(&self.second, *behind, layout))
        })
    }

    /// A span, as it was behind the statistics.
    pub(super) fn span<'a>(&'a self, span: &CachedSpan, layout: &'a RuntimeLayout) -> Span<'a> {
        let (start, _) = range(layout);
        Span { words: self.second.words(span.slot), layout, start }
    }
}

/// The end of what is read of `memstats`.
fn statistics_end(fields: &StatisticsLayout) -> u64 {
    let rings = [fields.pause_ns, fields.pause_end].map(|start| start + 8 * fields.pause_ns_count.min(PAUSES_MAX));
    let words =
        [fields.gc_cpu_fraction, fields.last_gc_nanotime, fields.numgc, fields.numforcedgc].map(|start| start + 8);
    rings.into_iter().chain(words).max().unwrap_or_default().min(STATISTICS_BYTES_MAX)
}

/// The part of `mheap_` that says how many bytes of structures are in use.
fn structures(layout: &RuntimeLayout) -> (u64, u64) {
    let fields = [layout.mheap.span_structures_in_use, layout.mheap.cache_structures_in_use];
    let (start, end) = (fields.into_iter().min(), fields.into_iter().max());
    (start.unwrap_or_default(), end.unwrap_or_default() + 8)
}
