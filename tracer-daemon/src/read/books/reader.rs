//! Reads the books of one process again and again: looks, until what was seen fits together, and remembers what cannot fall.

use super::caches::{BATCH_BYTES_MAX, ClassSet, Processors};
use super::look::{Look, Places};
use super::settle::{Settled, settle};
use super::statistics::{self, HeapSums};
use super::{Books, ClassCount, Part, PartMissing, SIZE_CLASSES, SystemBytes};
use crate::addr::Avma;
use crate::inspect::{Global, GlobalMissing, RuntimeLayout};
use crate::read::batch::Batch;
use crate::read::memory::TargetMemory;
use crate::read::{Discard, Discards, ReadError, Runtime};

use tracer_common::size_class::CLASS_TO_SIZE;

/// How often a look is begun anew where the target changed too much meanwhile.
const ATTEMPTS: usize = 8;
/// How often classes are looked at again whose spans were exchanged.
const NARROW_LOOKS: usize = 2;
/// Entries of the ring of pauses that are believed.
const PAUSES_MAX: u64 = 1024;

/// Reads the books of one process, again and again. The process must stay the same: a program that was replaced by another
/// (`execve`) has new books.
#[derive(Debug)]
pub struct BooksReader {
    layout: RuntimeLayout,
    /// The minor version of Go.
    minor: u32,
    places: Places,
    processors: Option<Processors>,
    look: Look,
    /// What can only grow, as it was last.
    floor: Floor,
    pauses: (u32, Vec<super::Pause>),
    cached_spans: usize,
    discards: Discards,
}

/// Counts that never fall.
#[derive(Clone, Debug)]
struct Floor {
    allocs: [u64; SIZE_CLASSES],
    tiny: u64,
    sums: HeapSums,
    collections: u32,
}

impl Floor {
    fn new() -> Self {
        Self { allocs: [0; SIZE_CLASSES], tiny: 0, sums: HeapSums::default(), collections: 0 }
    }
}

/// Allocations of a class, or tiny ones: at least and at most.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    least: u64,
    most: u64,
}

impl Count {
    /// No less than what is known to have been allocated; `None`: that contradicts.
    fn at_least(self, known: u64) -> Option<Self> {
        (known <= self.most).then(|| Self { least: self.least.max(known), ..self })
    }
}

fn count(sum: u64, added: super::settle::Uncounted) -> Count {
    Count { least: sum.saturating_add(added.least), most: sum.saturating_add(added.most) }
}

impl BooksReader {
    /// Finds the places.
    ///
    /// # Errors
    /// Where one of the variables is not known without which there are no books: `memstats`, `allp`.
    pub fn new(runtime: Runtime) -> Result<Self, ReadError> {
        let places = Places {
            memstats: runtime.address(Global::Memstats)?,
            allp: runtime.address(Global::Allp)?,
            mheap: runtime.address(Global::Mheap),
            gc_controller: runtime.address(Global::GcController),
            gcphase: runtime.address(Global::Gcphase),
            sched: runtime.address(Global::Sched),
            allglen: runtime.address(Global::Allglen),
        };
        Ok(Self::with(places, *runtime.layout(), runtime.facts().go_version.minor))
    }

    /// With these places.
    pub(super) fn with(places: Places, layout: RuntimeLayout, minor: u32) -> Self {
        Self {
            layout,
            minor,
            places,
            processors: None,
            look: Look::default(),
            floor: Floor::new(),
            pauses: (0, Vec::new()),
            cached_spans: 0,
            discards: Discards::default(),
        }
    }

    /// What was not believed so far.
    pub fn discards(&self) -> Discards {
        self.discards
    }

    /// How many spans the processors' caches held at the last read: what its cost depends on.
    pub fn cached_spans(&self) -> usize {
        self.cached_spans
    }

    /// The books now.
    ///
    /// # Errors
    /// Where memory cannot be read, or holds what cannot be.
    pub fn read(&mut self, memory: &dyn TargetMemory) -> Result<Books, ReadError> {
        for _ in 0..ATTEMPTS {
            let processors = match self.processors.take() {
                Some(known) => known,
                None => Processors::find(memory, self.places.allp, &self.layout)?,
            };
            let outcome = self.attempt(memory, &processors);
            match outcome? {
                Ok(books) => {
                    self.processors = Some(processors);
                    return Ok(books);
                }
                Err(reason) => {
                    self.discards.add(reason);
                    // Elsewhere than in the processors something moved, and they are the same.
                    self.processors = (reason != Discard::ProcessorsMoved).then_some(processors);
                }
            }
        }
        Err(ReadError::Unsettled { what: "the runtime's statistics", attempts: ATTEMPTS })
    }

    /// One attempt. An inner error says why what was seen is thrown away.
    fn attempt(
        &mut self,
        memory: &dyn TargetMemory,
        processors: &Processors,
    ) -> Result<Result<Books, Discard>, ReadError> {
        let layout = self.layout;
        if let Err(reason) = self.look.take(memory, &self.places, &layout, processors, ClassSet::ALL)? {
            return Ok(Err(reason));
        }
        self.cached_spans = self.look.spans.len();
        let sums = self.look.deltas(&layout).sums()?;
        let mut settled = settle(&self.look, &layout, ClassSet::ALL);
        let mut books = self.without_allocs(&sums, processors)?;
        let mut classes = [Count::default(); SIZE_CLASSES];
        for ((class, sum), added) in classes.iter_mut().zip(&sums.allocs).zip(settled.classes) {
            *class = count(*sum, added);
        }
        let mut tiny = count(sums.tiny_allocs, settled.tiny);
        for _ in 0..NARROW_LOOKS {
            if settled.moved.is_empty() {
                break;
            }
            self.discards.add(Discard::CacheMoved);
            let Some(again) = self.narrow_look(memory, processors, settled.moved)? else { break };
            let (sums, narrow) = again;
            for (index, class) in classes.iter_mut().enumerate().filter(|(index, _)| settled.moved.contains(*index)) {
                let sum = sums.allocs.get(index).copied().unwrap_or_default();
                let added = narrow.classes.get(index).copied().unwrap_or_default();
                match count(sum, added).at_least(class.least) {
                    Some(newer) => *class = newer,
                    None => return Ok(Err(Discard::CountFell)),
                }
            }
            if settled.moved.contains(super::settle::TINY_CLASS) {
                match count(sums.tiny_allocs, narrow.tiny).at_least(tiny.least) {
                    Some(newer) => tiny = newer,
                    None => return Ok(Err(Discard::CountFell)),
                }
            }
            settled = narrow;
        }
        // A freed object was allocated before.
        let frees = &sums.frees;
        let known = self.floor.allocs.iter().zip(frees).map(|(floor, frees)| *floor.max(frees));
        for (class, known) in classes.iter_mut().zip(known) {
            match class.at_least(known) {
                Some(at_least) => *class = at_least,
                None => return Ok(Err(Discard::CountFell)),
            }
        }
        let Some(tiny) = tiny.at_least(self.floor.tiny) else { return Ok(Err(Discard::CountFell)) };
        if sums.has_fallen(&self.floor.sums) || books.collections < self.floor.collections {
            return Ok(Err(Discard::CountFell));
        }

        books.classes = (1..SIZE_CLASSES)
            .map(|index| {
                let class = classes.get(index).copied().unwrap_or_default();
                ClassCount {
                    size_bytes: CLASS_TO_SIZE.get(index).map_or(0, |size| u64::from(*size)),
                    allocs: class.least,
                    slack: class.most - class.least,
                    frees: frees.get(index).copied().unwrap_or_default(),
                }
            })
            .collect();
        (books.tiny_allocs, books.tiny_slack) = (tiny.least, tiny.most - tiny.least);
        books.pauses = self.pauses(memory, books.collections)?;
        self.floor =
            Floor { allocs: classes.map(|class| class.least), tiny: tiny.least, collections: books.collections, sums };
        Ok(Ok(books))
    }

    /// Looks once more at the classes whose spans were exchanged. `None`: something else moved, and they keep their slack.
    fn narrow_look(
        &mut self,
        memory: &dyn TargetMemory,
        processors: &Processors,
        classes: ClassSet,
    ) -> Result<Option<(HeapSums, Settled)>, ReadError> {
        let layout = self.layout;
        if let Err(reason) = self.look.take(memory, &self.places, &layout, processors, classes)? {
            self.discards.add(reason);
            return Ok(None);
        }
        Ok(Some((self.look.deltas(&layout).sums()?, settle(&self.look, &layout, classes))))
    }

    /// All but allocations by class and pauses.
    fn without_allocs(&self, sums: &HeapSums, processors: &Processors) -> Result<Books, ReadError> {
        let layout = &self.layout;
        let fields = &layout.mstats;
        let all = self.look.statistics();
        let (behind, start) = self.look.collections();
        let mut books = Books {
            system: statistics::system_bytes(all, fields)?,
            collections: behind.u32(fields.numgc - start),
            forced_collections: behind.u32(fields.numforcedgc - start),
            last_end_unix_ns: all.u64(fields.last_gc_unix),
            last_end_ns: behind.u64(fields.last_gc_nanotime.saturating_sub(start)),
            gc_cpu_fraction: f64::from_bits(behind.u64(fields.gc_cpu_fraction.saturating_sub(start))),
            pause_total_ns: all.u64(fields.pause_total_ns),
            processors: u32::try_from(processors.count()).unwrap_or(u32::MAX),
            ..Books::empty()
        };
        sums.write(&mut books);
        let (places, rest) = (&self.places, &self.look.rest);
        books.pacer = part(&places.gc_controller, || {
            statistics::pacer(self.look.words(rest.gc_controller), layout, self.minor, &books)
        });
        books.phase = part(&places.gcphase, || statistics::phase(self.look.words(rest.gcphase).u32(0)));
        books.structures = part(&places.mheap, || {
            let [spans, caches] = [rest.spans_in_use, rest.caches_in_use].map(|slot| self.look.words(slot).u64(0));
            let generation = self.look.sweep_generations().map_or(0, |[_, behind]| behind);
            statistics::structures(spans, caches, generation)
        });
        let scheduler = part(&places.sched, || statistics::scheduler(self.look.words(rest.sched), layout));
        books.goroutines = part(&places.allglen, || {
            let (_, apart) = scheduler.clone()?;
            let apart = apart.saturating_add(self.look.kept_goroutines());
            statistics::goroutines(self.look.words(rest.allglen).u64(0), apart)
        });
        books.threads = scheduler.map(|(threads, _)| threads);
        Ok(books)
    }

    /// The rings are read where a collection has ended since.
    fn pauses(&mut self, memory: &dyn TargetMemory, collections: u32) -> Result<Vec<super::Pause>, ReadError> {
        if self.pauses.0 != collections {
            let fields = &self.layout.mstats;
            let size = fields.pause_ns_count.min(PAUSES_MAX);
            let mut batch = Batch::default();
            let [durations, ends] = [fields.pause_ns, fields.pause_end]
                .map(|offset| batch.add(Avma(self.places.memstats.0.saturating_add(offset)), 8 * size));
            batch.read(memory, BATCH_BYTES_MAX)?;
            let pauses = statistics::pauses(batch.words(durations), batch.words(ends), size, collections);
            self.pauses = (collections, pauses);
        }
        Ok(self.pauses.1.clone())
    }
}

/// A part that depends on a variable.
fn part<T>(place: &Result<Avma, GlobalMissing>, read: impl FnOnce() -> Part<T>) -> Part<T> {
    match place {
        Ok(_) => read(),
        Err(missing) => Err(PartMissing::Global(missing.clone())),
    }
}

impl Books {
    fn empty() -> Self {
        let unread = || PartMissing::Implausible { what: "number of places", value: 0 };
        Self {
            classes: Vec::new(),
            tiny_allocs: 0,
            tiny_slack: 0,
            large_allocs: 0,
            large_alloc_bytes: 0,
            large_frees: 0,
            large_free_bytes: 0,
            heap_in_use_bytes: 0,
            heap_free_bytes: 0,
            heap_released_bytes: 0,
            stacks_bytes: 0,
            work_buffers_bytes: 0,
            pointer_bits_bytes: 0,
            system: SystemBytes::default(),
            collections: 0,
            forced_collections: 0,
            last_end_unix_ns: 0,
            last_end_ns: 0,
            gc_cpu_fraction: 0.0,
            pause_total_ns: 0,
            pauses: Vec::new(),
            processors: 0,
            pacer: Err(unread()),
            phase: Err(unread()),
            structures: Err(unread()),
            threads: Err(unread()),
            goroutines: Err(unread()),
        }
    }
}
