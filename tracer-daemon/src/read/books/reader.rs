//! Reads the books of one process again and again: looks, until what was seen fits together, and remembers what cannot fall.

use super::caches::{ClassSet, Processors};
use super::look::{Look, PAUSES_MAX, Places};
use super::settle::{Settled, settle};
use super::statistics::{self, HeapSums};
use super::{Books, ClassCount, Part, PartMissing, SIZE_CLASSES, SystemBytes};
use crate::addr::Avma;
use crate::inspect::{Global, GlobalMissing, RuntimeLayout};
use crate::read::memory::{MemoryError, TargetMemory};
use crate::read::{Discard, Discards, ReadError, Runtime};

use tracer_common::size_class::CLASS_TO_SIZE;

/// How often a look is begun anew where the target changed too much meanwhile.
const ATTEMPTS: usize = 8;
/// How often classes are looked at again whose spans were exchanged.
const NARROW_LOOKS: usize = 2;

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
    /// What can only grow, as it was last. None: nothing was read yet.
    floor: Option<Floor>,
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
    pub fn new(runtime: &Runtime) -> Result<Self, ReadError> {
        let places = Places {
            memstats: runtime.address(Global::Memstats)?,
            allp: runtime.address(Global::Allp)?,
            mheap: runtime.address(Global::Mheap),
            gc_controller: runtime.address(Global::GcController),
            gcphase: runtime.address(Global::Gcphase),
            sched: runtime.address(Global::Sched),
            allglen: runtime.address(Global::Allglen),
        };
        Ok(Self::with(places, runtime.layout(), runtime.facts().go_version.minor))
    }

    /// With these places.
    pub(super) fn with(places: Places, layout: &RuntimeLayout, minor: u32) -> Self {
        Self {
            layout: *layout,
            minor,
            places,
            processors: None,
            look: Look::default(),
            floor: None,
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
        let mut unfit = None;
        for _ in 0..ATTEMPTS {
            let processors = match self.processors.take() {
                Some(known) => known,
                None => Processors::find(memory, self.places.allp, &self.layout)?,
            };
            let reason = match self.attempt(memory, &processors) {
                Ok(Ok(books)) => {
                    self.processors = Some(processors);
                    return Ok(books);
                }
                Ok(Err(reason)) => reason,
                // A cache that is being unmade and made anew holds zeros for a moment.
                Err(error @ (ReadError::Implausible { .. } | ReadError::Memory(MemoryError::Unmapped { .. }))) => {
                    unfit = Some(error);
                    Discard::DidNotFit
                }
                Err(error) => return Err(error),
            };
            self.discards.add(reason);
            // Where something else moved, these are the same.
            let is_elsewhere = !matches!(reason, Discard::ProcessorsMoved | Discard::DidNotFit);
            self.processors = is_elsewhere.then_some(processors);
        }
        let unsettled = ReadError::Unsettled { what: "the runtime's statistics", attempts: ATTEMPTS };
        Err(unfit.unwrap_or(unsettled))
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
        let floor = self.floor.as_ref();
        let known = frees.iter().enumerate().map(|(index, frees)| {
            let allocs = floor.and_then(|floor| floor.allocs.get(index));
            allocs.map_or(*frees, |allocs| *allocs.max(frees))
        });
        for (class, known) in classes.iter_mut().zip(known) {
            match class.at_least(known) {
                Some(at_least) => *class = at_least,
                None => return Ok(Err(Discard::CountFell)),
            }
        }
        let tiny_known = floor.map_or(0, |floor| floor.tiny);
        let Some(tiny) = tiny.at_least(tiny_known) else { return Ok(Err(Discard::CountFell)) };
        if floor.is_some_and(|floor| sums.has_fallen(&floor.sums) || books.collections < floor.collections) {
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
        let allocs = classes.map(|class| class.least);
        self.floor = Some(Floor { allocs, tiny: tiny.least, collections: books.collections, sums });
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
        let mut books = Books {
            system: statistics::system_bytes(all, fields)?,
            collections: all.u32(fields.numgc),
            forced_collections: all.u32(fields.numforcedgc),
            last_end_unix_ns: all.u64(fields.last_gc_unix),
            last_end_ns: all.u64(fields.last_gc_nanotime),
            gc_cpu_fraction: f64::from_bits(all.u64(fields.gc_cpu_fraction)),
            pause_total_ns: all.u64(fields.pause_total_ns),
            processors: u32::try_from(processors.count()).unwrap_or(u32::MAX),
            ..Books::empty()
        };
        sums.write(&mut books);
        books.pauses = statistics::pauses(all, fields, books.collections, PAUSES_MAX);
        let (places, rest) = (&self.places, &self.look.rest);
        books.pacer = part(&places.gc_controller, || {
            statistics::pacer(self.look.words(rest.gc_controller), layout, self.minor, &books)
        });
        books.phase = part(&places.gcphase, || statistics::phase(self.look.words(rest.gcphase).u32(0)));
        books.structures = part(&places.mheap, || {
            let [spans, caches] = self.look.structures_in_use(layout);
            let generation = self.look.sweep_generation().unwrap_or_default();
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
        let unread = || PartMissing::Implausible { what: "number of places".into(), value: 0 };
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
