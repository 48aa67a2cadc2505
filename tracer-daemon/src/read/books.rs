//! The runtime's own accounts: how much was allocated and freed, by size class; collections; goals.
//!
//! Sources, read from the process: `memstats` (runtime/mstats.go), `gcController` (runtime/mgcpacer.go), and what every
//! processor has allocated from its cached spans since they were counted last (runtime/mcache.go: `refill` adds
//! `allocCount - allocCountBeforeCache` to the statistics). `runtime.ReadMemStats` stops the program and flushes the
//! caches to say the same.
//!
//! Nothing is stopped here, so caches are read before and behind the statistics: what was allocated in between is the
//! slack of the answer.

use tracer_common::size_class::CLASS_TO_SIZE;

use super::memory::{TargetMemory, Words};
use super::{Discard, Discards, ReadError, Runtime};
use crate::addr::Avma;
use crate::inspect::Global;
use crate::inspect::layout::StatisticsLayout;

/// Size classes; the first stands for large objects and counts nothing here (runtime/sizeclasses.go, go1.19 to go1.27).
pub const SIZE_CLASSES: usize = CLASS_TO_SIZE.len();
/// Most processors that are believed.
const PROCESSORS_MAX: u64 = 4096;
/// How often a look is begun anew where the target changed too much meanwhile.
const ATTEMPTS: usize = 6;
/// Entries of the ring of pauses that are believed.
const PAUSES_MAX: u64 = 1024;

/// What was allocated and freed of one size class since the program began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// Bytes of a slot.
    pub size_bytes: u64,
    /// Objects allocated; tiny objects are counted by their blocks.
    pub allocs: u64,
    /// Objects freed: swept.
    pub frees: u64,
}

/// One pause of the whole program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// How long, ns; both pauses of one collection added.
    pub duration_ns: u64,
    /// When it ended, ns since 1970.
    pub end_unix_ns: u64,
}

/// The accounts at one moment. Counts are since the program began; they never fall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    /// By size class, without the first, in order of size.
    pub classes: Vec<ClassCount>,
    /// Tiny objects (below 16 bytes, without pointers) allocated. Several share a block, and are never freed by themselves.
    pub tiny_allocs: u64,
    /// Large objects (above 32 KiB) allocated.
    pub large_allocs: u64,
    /// Their bytes.
    pub large_alloc_bytes: u64,
    /// Large objects freed.
    pub large_frees: u64,
    /// Their bytes.
    pub large_free_bytes: u64,
    /// How many objects may have been allocated while we read: counts of allocations are too small by at most this.
    /// `None`: not known, since a cache took a new span in each attempt; then by one span of objects per class.
    pub slack_objects: Option<u64>,
    /// Bytes of spans with objects.
    pub heap_in_use_bytes: u64,
    /// Bytes of free spans that the system still backs.
    pub heap_free_bytes: u64,
    /// Bytes of free spans that were given back.
    pub heap_released_bytes: u64,
    /// Bytes of stacks of goroutines.
    pub stacks_bytes: u64,
    /// Collections that have ended.
    pub collections: u32,
    /// Those that the program asked for.
    pub forced_collections: u32,
    /// When the last one ended, ns since 1970; 0 before the first.
    pub last_end_unix_ns: u64,
    /// All pauses together, ns.
    pub pause_total_ns: u64,
    /// The pauses of the last collections, newest first; at most 256.
    pub pauses: Vec<Pause>,
    /// GOGC, percent; `None`: off.
    pub gc_percent: Option<u32>,
    /// GOMEMLIMIT; `None`: none.
    pub memory_limit_bytes: Option<u64>,
    /// Size of the heap at which the next collection is to end, by GOGC alone.
    pub heap_goal_bytes: u64,
    /// What counts as alive: marked by the last collection, and allocated since.
    pub heap_live_bytes: u64,
    /// What the last collection marked.
    pub heap_marked_bytes: u64,
}

impl Books {
    /// `MemStats.Mallocs`: objects allocated, tiny ones each.
    pub fn allocs(&self) -> u64 {
        self.classes.iter().map(|class| class.allocs).sum::<u64>() + self.large_allocs + self.tiny_allocs
    }

    /// `MemStats.Frees`: objects freed. Tiny ones count as freed when they are allocated.
    pub fn frees(&self) -> u64 {
        self.classes.iter().map(|class| class.frees).sum::<u64>() + self.large_frees + self.tiny_allocs
    }

    /// `MemStats.TotalAlloc`: bytes allocated, in slots.
    pub fn alloc_bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.allocs * class.size_bytes).sum::<u64>() + self.large_alloc_bytes
    }

    /// Bytes freed, in slots.
    pub fn free_bytes(&self) -> u64 {
        self.classes.iter().map(|class| class.frees * class.size_bytes).sum::<u64>() + self.large_free_bytes
    }
}

/// Reads the books of one process, again and again.
#[derive(Debug)]
pub struct BooksReader {
    runtime: Runtime,
    places: Places,
    discards: Discards,
}

#[derive(Clone, Copy, Debug)]
struct Places {
    memstats: Avma,
    gc_controller: Avma,
    allp: Avma,
}

/// What one processor has cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cache {
    address: Avma,
    /// Odd while the processor changes the statistics.
    stats_seq: u32,
    tiny_allocs: u64,
    /// Address of each span, in the order of span classes.
    spans: Vec<Avma>,
}

/// What has been allocated from cached spans since it was counted last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cached {
    caches: Vec<Cache>,
    by_class: Vec<u64>,
    tiny_allocs: u64,
}

impl Cached {
    fn objects(&self) -> u64 {
        self.by_class.iter().sum::<u64>() + self.tiny_allocs
    }
}

/// Whether no cache took or gave a span between two looks, and no processor changed the statistics meanwhile.
fn is_settled(before: &Cached, behind: &Cached) -> bool {
    let same = |(a, b): (&Cache, &Cache)| {
        a.address == b.address && a.stats_seq == b.stats_seq && a.stats_seq % 2 == 0 && a.spans == b.spans
    };
    before.caches.len() == behind.caches.len() && before.caches.iter().zip(&behind.caches).all(same)
}

/// The word at an offset behind each place; an error where one cannot be read.
fn words_at(memory: &dyn TargetMemory, places: &[Avma], offset: u64) -> Result<Vec<u64>, ReadError> {
    let places: Vec<Avma> = places.iter().map(|place| Avma(place.0.saturating_add(offset))).collect();
    let mut bytes = vec![0; 8 * places.len()];
    let readable = memory.read_each(&places, &mut bytes)?;
    match places.iter().zip(readable).find(|(_, readable)| !readable) {
        Some((place, _)) => Err(ReadError::Implausible { what: "address of a processor", value: place.0 }),
        None => Ok(bytes.chunks(8).map(|word| Words(word).u64(0)).collect()),
    }
}

/// The last pauses, newest first: the one of collection n is at (n + 255) % 256 of the ring.
fn pauses(all: Words<'_>, layout: &StatisticsLayout, collections: u32) -> Vec<Pause> {
    let size = layout.pause_ns_count.min(PAUSES_MAX);
    let known = u64::from(collections).min(size);
    let entry = |back: u64| (u64::from(collections) + size - 1 - back) % size;
    (0..known)
        .map(|back| Pause {
            duration_ns: all.u64(layout.pause_ns + 8 * entry(back)),
            end_unix_ns: all.u64(layout.pause_end + 8 * entry(back)),
        })
        .collect()
}

impl BooksReader {
    /// Finds the places.
    ///
    /// # Errors
    /// Where one of the variables is not known.
    pub fn new(runtime: Runtime) -> Result<Self, ReadError> {
        let places = Places {
            memstats: runtime.address(Global::Memstats)?,
            gc_controller: runtime.address(Global::GcController)?,
            allp: runtime.address(Global::Allp)?,
        };
        Ok(Self { runtime, places, discards: Discards::default() })
    }

    /// What was not believed so far.
    pub fn discards(&self) -> Discards {
        self.discards
    }

    /// The books now.
    ///
    /// # Errors
    /// Where memory cannot be read, or holds what cannot be.
    pub fn read(&mut self, memory: &dyn TargetMemory) -> Result<Books, ReadError> {
        let mut before = self.cached(memory)?;
        for attempt in 1.. {
            let statistics = self.statistics(memory)?;
            let behind = self.cached(memory)?;
            // Where a cache took a new span in between, the old one's objects are in the statistics, in the cache, or in both.
            let settled = is_settled(&before, &behind);
            if settled || attempt == ATTEMPTS {
                let slack_objects = behind.objects().saturating_sub(before.objects());
                return self.books(memory, &before, &statistics, settled.then_some(slack_objects));
            }
            self.discards.add(Discard::CacheMoved);
            before = behind;
        }
        Err(ReadError::Implausible { what: "number of attempts", value: 0 })
    }

    fn statistics(&self, memory: &dyn TargetMemory) -> Result<Vec<u8>, ReadError> {
        let layout = &self.runtime.layout().mstats;
        let end = layout.numforcedgc.max(layout.numgc) + 4;
        let mut bytes = vec![0; usize::try_from(end).unwrap_or_default()];
        memory.read(self.places.memstats, &mut bytes)?;
        Ok(bytes)
    }

    /// What the processors have in their caches.
    fn cached(&self, memory: &dyn TargetMemory) -> Result<Cached, ReadError> {
        let layout = self.runtime.layout();
        let mut header = [0; 16];
        memory.read(self.places.allp, &mut header)?;
        let (array, length) = (Words(&header).u64(0), Words(&header).u64(8));
        if length == 0 || length > PROCESSORS_MAX {
            return Err(ReadError::Implausible { what: "number of processors", value: length });
        }
        let mut pointers = vec![0; usize::try_from(length * 8).unwrap_or_default()];
        memory.read(Avma(array), &mut pointers)?;
        let processors: Vec<Avma> = pointers.chunks(8).map(|bytes| Avma(Words(bytes).u64(0))).collect();

        let caches = words_at(memory, &processors, layout.p.mcache)?;
        // The upper half of the word is another field.
        let sequences = words_at(memory, &processors, layout.p.stats_seq)?.into_iter().map(|word| word as u32);
        let alive: Vec<(Avma, u32)> =
            caches.into_iter().map(Avma).zip(sequences).filter(|(cache, _)| cache.0 != 0).collect();
        let places: Vec<Avma> = alive.iter().map(|(cache, _)| *cache).collect();
        let cache_bytes = usize::try_from(layout.mcache.alloc + 8 * layout.mcache.alloc_count).unwrap_or_default();
        let mut bytes = vec![0; cache_bytes * places.len()];
        let readable = memory.read_each(&places, &mut bytes)?;

        let mut found = Cached { by_class: vec![0; SIZE_CLASSES], ..Cached::default() };
        let mut spans = Vec::new();
        for (((address, stats_seq), content), readable) in
            alive.into_iter().zip(bytes.chunks(cache_bytes)).zip(readable)
        {
            if !readable {
                return Err(ReadError::Implausible { what: "address of a cache", value: address.0 });
            }
            let words = Words(content);
            let cache = Cache {
                address,
                stats_seq,
                tiny_allocs: words.u64(layout.mcache.tiny_allocs),
                spans: (0..layout.mcache.alloc_count)
                    .map(|class| Avma(words.u64(layout.mcache.alloc + 8 * class)))
                    .collect(),
            };
            found.tiny_allocs += cache.tiny_allocs;
            spans.extend(cache.spans.iter().enumerate().map(|(class, span)| (class / 2, *span)));
            found.caches.push(cache);
        }
        self.add_spans(memory, spans, &mut found)?;
        Ok(found)
    }

    /// Adds what was allocated from cached spans. A class without a span has a pointer to one for all, which is empty.
    fn add_spans(
        &self,
        memory: &dyn TargetMemory,
        spans: Vec<(usize, Avma)>,
        found: &mut Cached,
    ) -> Result<(), ReadError> {
        let layout = &self.runtime.layout().mspan;
        let mut count_of = std::collections::HashMap::new();
        for (_, span) in &spans {
            *count_of.entry(*span).or_insert(0_u32) += 1;
        }
        // The empty span is in several places; a real one belongs to one cache and one class.
        let real: Vec<(usize, Avma)> =
            spans.into_iter().filter(|(_, span)| span.0 != 0 && count_of.get(span) == Some(&1)).collect();
        let places: Vec<Avma> = real.iter().map(|(_, span)| Avma(span.0.saturating_add(layout.alloc_count))).collect();
        let last = layout.alloc_count_before_cache.max(layout.spanclass) + 2;
        let piece = usize::try_from(last.saturating_sub(layout.alloc_count)).unwrap_or_default();
        let mut bytes = vec![0; piece * places.len()];
        memory.read_each(&places, &mut bytes)?;
        for ((class, _), content) in real.iter().zip(bytes.chunks(piece.max(1))) {
            let words = Words(content);
            let before = words.u16(layout.alloc_count_before_cache - layout.alloc_count);
            let class_of_span = usize::from(words.u8(layout.spanclass - layout.alloc_count) >> 1);
            let allocated = words.u16(0).saturating_sub(before);
            // Large objects are counted at once, and a span of another class was taken away meanwhile.
            if class_of_span != *class || *class == 0 {
                continue;
            }
            if let Some(count) = found.by_class.get_mut(*class) {
                *count += u64::from(allocated);
            }
        }
        Ok(())
    }

    fn books(
        &self,
        memory: &dyn TargetMemory,
        cached: &Cached,
        statistics: &[u8],
        slack_objects: Option<u64>,
    ) -> Result<Books, ReadError> {
        let layout = self.runtime.layout();
        let (all, delta) = (Words(statistics), &layout.heap_stats_delta);
        // Three deltas that are filled in turn; their sum is the truth.
        let sum = |offset: u64| {
            (0..layout.mstats.heap_stats_count)
                .map(|index| all.u64(layout.mstats.heap_stats + index * delta.size_bytes + offset))
                .fold(0_u64, u64::wrapping_add)
        };
        let class = |index: usize| ClassCount {
            size_bytes: CLASS_TO_SIZE.get(index).map_or(0, |size| u64::from(*size)),
            allocs: sum(delta.small_alloc_count + 8 * index as u64)
                .wrapping_add(cached.by_class.get(index).copied().unwrap_or_default()),
            frees: sum(delta.small_free_count + 8 * index as u64),
        };
        let pacer = &layout.gc_controller;
        let mut controller = vec![0; usize::try_from(pacer.total_free + 8).unwrap_or_default()];
        memory.read(self.places.gc_controller, &mut controller)?;
        let controller = Words(&controller);
        let limit = controller.u64(pacer.memory_limit);
        let collections = all.u32(layout.mstats.numgc);
        Ok(Books {
            classes: (1..SIZE_CLASSES).map(class).collect(),
            tiny_allocs: sum(delta.tiny_alloc_count).wrapping_add(cached.tiny_allocs),
            large_allocs: sum(delta.large_alloc_count),
            large_alloc_bytes: sum(delta.large_alloc),
            large_frees: sum(delta.large_free_count),
            large_free_bytes: sum(delta.large_free),
            slack_objects,
            heap_in_use_bytes: controller.u64(pacer.heap_in_use),
            heap_free_bytes: controller.u64(pacer.heap_free),
            heap_released_bytes: controller.u64(pacer.heap_released),
            stacks_bytes: sum(delta.in_stacks),
            collections,
            forced_collections: all.u32(layout.mstats.numforcedgc),
            last_end_unix_ns: all.u64(layout.mstats.last_gc_unix),
            pause_total_ns: all.u64(layout.mstats.pause_total_ns),
            pauses: pauses(all, &layout.mstats, collections),
            gc_percent: u32::try_from(controller.u32(pacer.gc_percent).cast_signed()).ok(),
            memory_limit_bytes: (limit < i64::MAX.cast_unsigned()).then_some(limit),
            heap_goal_bytes: controller.u64(pacer.gc_percent_heap_goal),
            heap_live_bytes: controller.u64(pacer.heap_live),
            heap_marked_bytes: controller.u64(pacer.heap_marked),
        })
    }
}
