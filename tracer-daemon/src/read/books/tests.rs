//! The books of a simulated runtime, whose caches and statistics change between any two pieces that are read, in the order in
//! which the runtime's own code changes them. What was truly allocated is known at every moment.

use std::sync::Mutex;

use super::BooksReader;
use super::look::Places;
use crate::addr::Avma;
use crate::inspect::layout::known;
use crate::inspect::{Architecture, GlobalMissing, RuntimeLayout};
use crate::read::memory::{MemoryError, TargetMemory};
use crate::read::{Discard, ReadError};

const PROCESSORS: usize = 3;
/// Size classes in use: the one of tiny blocks, and two others.
const CLASSES: [usize; 3] = [2, 5, 12];
const SPANS: usize = 60;
const BASE: u64 = 0x10000;
const MEMSTATS: u64 = BASE;
const ALLP: u64 = 0x20000;
const ARRAY: u64 = 0x20100;
const MHEAP: u64 = 0x30000;
const EMPTY_SPAN: u64 = 0x60000;
const SPAN: u64 = 0x61000;
const PROCESSOR: u64 = 0x70000;
const CACHE: u64 = 0xc0000;
const END: u64 = 0x100_000;
/// Slots of every span; fewer than a real one has.
const SLOTS: u64 = 40;

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % bound as u64).unwrap()
    }
}

/// One write that no other write divides.
#[derive(Clone, Copy, Debug)]
enum Step {
    Acquire,
    Release,
    CountAllocs {
        class: usize,
        objects: u64,
    },
    CountFrees {
        class: usize,
        objects: u64,
    },
    CountTiny,
    ClearTiny,
    SetGeneration {
        span: usize,
        ahead: u32,
    },
    SetBefore {
        span: usize,
        value: u64,
    },
    Sweep {
        span: usize,
    },
    Cache {
        span_class: usize,
        span: Option<usize>,
    },
    /// Back to where spans are taken from.
    Free {
        span: usize,
    },
}

struct Simulation {
    layout: RuntimeLayout,
    bytes: Vec<u8>,
    random: Random,
    /// What each processor is about to do, in reverse.
    queues: Vec<Vec<Step>>,
    /// The delta that it has acquired.
    acquired: Vec<u64>,
    flushed: Vec<u32>,
    /// Spans that no cache has, by span class.
    free: Vec<(usize, usize)>,
    /// A merge of the deltas: words that are still to be merged, or cleared.
    merge: Option<u64>,
    allocs: [u64; 68],
    tiny: u64,
    most_steps: usize,
}

impl Simulation {
    fn new(seed: u64, most_steps: usize) -> Self {
        let layout = known(26, Architecture::Amd64).unwrap();
        let mut new = Self {
            layout,
            bytes: vec![0; usize::try_from(END - BASE).unwrap()],
            random: Random(seed),
            queues: vec![Vec::new(); PROCESSORS],
            acquired: vec![0; PROCESSORS],
            flushed: vec![10; PROCESSORS],
            free: Vec::new(),
            merge: None,
            allocs: [0; 68],
            tiny: 0,
            most_steps,
        };
        new.set(ALLP, 8, ARRAY);
        new.set(ALLP + 8, 8, PROCESSORS as u64);
        new.set(MHEAP + layout.mheap.sweepgen, 4, 10);
        new.set(MHEAP + layout.mheap.span_structures_in_use, 8, 160);
        new.set(MHEAP + layout.mheap.cache_structures_in_use, 8, 1200);
        for index in 0..PROCESSORS {
            new.set(ARRAY + 8 * index as u64, 8, processor(index));
            new.set(processor(index) + layout.p.mcache, 8, cache(index));
            for span_class in 0..136 {
                new.set(cache(index) + layout.mcache.alloc + 8 * span_class, 8, EMPTY_SPAN);
            }
        }
        for index in 0..SPANS {
            let span_class = CLASSES[index % 3] * 2 + index / 3 % 2;
            new.set(span(index) + layout.mspan.spanclass, 1, span_class as u64);
            new.set(span(index) + layout.mspan.state, 1, 1);
            new.set(span(index) + layout.mspan.sweepgen, 4, 10);
            new.free.push((span_class, index));
        }
        new
    }

    fn get(&self, at: u64, length: usize) -> u64 {
        let start = usize::try_from(at - BASE).unwrap();
        let mut word = [0; 8];
        word[..length].copy_from_slice(&self.bytes[start..start + length]);
        u64::from_le_bytes(word)
    }

    fn set(&mut self, at: u64, length: usize, value: u64) {
        let start = usize::try_from(at - BASE).unwrap();
        self.bytes[start..start + length].copy_from_slice(&value.to_le_bytes()[..length]);
    }

    fn add(&mut self, at: u64, length: usize, value: u64) {
        self.set(at, length, self.get(at, length).wrapping_add(value));
    }

    fn generation(&self) -> u32 {
        u32::try_from(self.get(MHEAP + self.layout.mheap.sweepgen, 4)).unwrap()
    }

    fn count(&self, span_index: usize) -> u64 {
        self.get(span(span_index) + self.layout.mspan.alloc_count, 2)
    }

    fn before(&self, span_index: usize) -> u64 {
        self.get(span(span_index) + self.layout.mspan.alloc_count_before_cache, 2)
    }

    fn cached(&self, processor: usize, span_class: usize) -> Option<usize> {
        let at = self.get(cache(processor) + self.layout.mcache.alloc + 8 * span_class as u64, 8);
        (at != EMPTY_SPAN).then(|| usize::try_from((at - SPAN) / 160).unwrap())
    }

    /// One step of someone.
    fn step(&mut self) {
        match self.random.below(PROCESSORS + 1) {
            PROCESSORS => self.step_of_all(),
            processor => match self.queues[processor].pop() {
                Some(step) => self.execute(processor, step),
                None => self.choose(processor),
            },
        }
    }

    /// Collections begin, and runtime/metrics merges.
    fn step_of_all(&mut self) {
        let words = self.layout.heap_stats_delta.size_bytes / 8;
        let generation_at = MEMSTATS + self.layout.mstats.heap_stats_generation;
        let filled = self.get(generation_at, 4);
        let delta_bytes = self.layout.heap_stats_delta.size_bytes;
        let delta = |index: u64| MEMSTATS + index % 3 * delta_bytes;
        match self.merge {
            None => match self.random.below(200) {
                0 => {
                    self.set(generation_at, 4, (filled + 1) % 3);
                    self.merge = Some(0);
                }
                1..4 if self.queues.iter().all(Vec::is_empty) => {
                    self.add(MHEAP + self.layout.mheap.sweepgen, 4, 2);
                    self.add(MEMSTATS + self.layout.mstats.numgc, 4, 1);
                    for (span_class, index) in self.free.clone() {
                        let dead = self.random.below(usize::try_from(self.count(index)).unwrap() + 1) as u64;
                        self.set(span(index) + self.layout.mspan.alloc_count, 2, self.count(index) - dead);
                        let frees = self.layout.heap_stats_delta.small_free_count + 8 * (span_class as u64 / 2);
                        self.add(delta(filled) + frees, 8, dead);
                    }
                }
                4..6 if self.queues.iter().all(Vec::is_empty) => self.flush_and_cache_again(),
                _ => {}
            },
            // It waits for those who still write to the old one.
            Some(0) if !(0..PROCESSORS).all(|index| self.sequence(index).is_multiple_of(2)) => {}
            Some(done) => {
                for word in done..done + 20 {
                    if word < words {
                        let oldest = self.get(delta(filled + 1) + 8 * word, 8);
                        self.add(delta(filled + 2) + 8 * word, 8, oldest);
                    } else if word < 2 * words {
                        self.set(delta(filled + 1) + 8 * (word - words), 8, 0);
                    }
                }
                self.merge = (done + 20 < 2 * words).then_some(done + 20);
            }
        }
    }

    /// `runtime.ReadMemStats` empties all caches while the program stands still, and each takes the same spans again.
    fn flush_and_cache_again(&mut self) {
        let delta = self.layout.heap_stats_delta;
        let filled = MEMSTATS + self.get(MEMSTATS + self.layout.mstats.heap_stats_generation, 4) * delta.size_bytes;
        for index in 0..PROCESSORS {
            // What was cached before a collection is given back first.
            if self.flushed[index] != self.generation() {
                continue;
            }
            for span_class in 2..136 {
                let Some(cached) = self.cached(index, span_class) else { continue };
                let objects = self.count(cached) - self.before(cached);
                self.add(filled + delta.small_alloc_count + 8 * (span_class as u64 / 2), 8, objects);
                self.set(span(cached) + self.layout.mspan.alloc_count_before_cache, 2, self.count(cached));
            }
            let tiny_at = cache(index) + self.layout.mcache.tiny_allocs;
            self.add(filled + delta.tiny_alloc_count, 8, self.get(tiny_at, 8));
            self.set(tiny_at, 8, 0);
        }
    }

    fn sequence(&self, index: usize) -> u64 {
        self.get(processor(index) + self.layout.p.stats_seq, 4)
    }

    fn execute(&mut self, index: usize, step: Step) {
        let layout = self.layout;
        let filled = MEMSTATS + self.acquired[index] * layout.heap_stats_delta.size_bytes;
        match step {
            Step::Acquire => {
                self.add(processor(index) + layout.p.stats_seq, 4, 1);
                self.acquired[index] = self.get(MEMSTATS + layout.mstats.heap_stats_generation, 4);
            }
            Step::Release => self.add(processor(index) + layout.p.stats_seq, 4, 1),
            Step::CountAllocs { class, objects } => {
                self.add(filled + layout.heap_stats_delta.small_alloc_count + 8 * class as u64, 8, objects);
            }
            Step::CountFrees { class, objects } => {
                self.add(filled + layout.heap_stats_delta.small_free_count + 8 * class as u64, 8, objects);
            }
            Step::CountTiny => {
                let tiny = self.get(cache(index) + layout.mcache.tiny_allocs, 8);
                self.add(filled + layout.heap_stats_delta.tiny_alloc_count, 8, tiny);
            }
            Step::ClearTiny => self.set(cache(index) + layout.mcache.tiny_allocs, 8, 0),
            Step::SetGeneration { span: index, ahead } => {
                self.set(span(index) + layout.mspan.sweepgen, 4, u64::from(self.generation().wrapping_add(ahead)));
            }
            Step::SetBefore { span: index, value } => {
                self.set(span(index) + layout.mspan.alloc_count_before_cache, 2, value);
            }
            Step::Sweep { span: swept } => {
                let dead = self.random.below(usize::try_from(self.count(swept)).unwrap() + 1) as u64;
                let class = usize::try_from(self.get(span(swept) + layout.mspan.spanclass, 1)).unwrap() / 2;
                let at = span(swept) + layout.mspan.alloc_count;
                self.set(at, 2, self.count(swept) - dead);
                self.queues[index].extend([Step::Release, Step::CountFrees { class, objects: dead }, Step::Acquire]);
            }
            Step::Cache { span_class, span: taken } => {
                let address = taken.map_or(EMPTY_SPAN, span);
                self.set(cache(index) + layout.mcache.alloc + 8 * span_class as u64, 8, address);
            }
            Step::Free { span: freed } => {
                let span_class = usize::try_from(self.get(span(freed) + layout.mspan.spanclass, 1)).unwrap();
                self.free.push((span_class, freed));
            }
        }
    }

    /// What a processor does next: allocates, or gives its caches back after a collection.
    fn choose(&mut self, index: usize) {
        let generation = self.generation();
        if self.flushed[index] != generation {
            self.flushed[index] = generation;
            let steps = self.release_all(index);
            self.queues[index].extend(steps.into_iter().rev());
            return;
        }
        let class = CLASSES[self.random.below(CLASSES.len())];
        let span_class = 2 * class + self.random.below(2);
        if span_class == 5 && self.random.below(3) > 0 {
            self.add(cache(index) + self.layout.mcache.tiny_allocs, 8, 1);
            self.tiny += 1;
            return;
        }
        match self.cached(index, span_class) {
            Some(has_room) if self.count(has_room) < SLOTS => {
                self.add(span(has_room) + self.layout.mspan.alloc_count, 2, 1);
                self.allocs[class] += 1;
            }
            full => {
                let steps = self.refill(span_class, full);
                self.queues[index].extend(steps.into_iter().rev());
            }
        }
    }

    /// `(*mcache).refill` of runtime/mcache.go.
    fn refill(&mut self, span_class: usize, full: Option<usize>) -> Vec<Step> {
        let class = span_class / 2;
        let mut steps = Vec::new();
        let fits = |simulation: &Self, (free_class, index): (usize, usize)| {
            free_class == span_class && simulation.count(index) < SLOTS
        };
        let Some(place) = (0..self.free.len()).find(|place| fits(self, self.free[*place])) else { return steps };
        let (_, new) = self.free.swap_remove(place);
        if let Some(old) = full {
            steps.extend([Step::SetGeneration { span: old, ahead: 0 }, Step::Acquire]);
            steps.push(Step::CountAllocs { class, objects: self.count(old) - self.before(old) });
            if span_class == 5 {
                steps.extend([Step::CountTiny, Step::ClearTiny]);
            }
            steps.extend([Step::Release, Step::SetBefore { span: old, value: 0 }, Step::Free { span: old }]);
        }
        steps.push(Step::SetGeneration { span: new, ahead: 3 });
        steps.push(Step::SetBefore { span: new, value: self.count(new) });
        steps.push(Step::Cache { span_class, span: Some(new) });
        steps
    }

    /// `(*mcache).releaseAll` of runtime/mcache.go.
    fn release_all(&mut self, index: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        for span_class in 2..136 {
            let Some(old) = self.cached(index, span_class) else { continue };
            let objects = self.count(old) - self.before(old);
            steps.extend([Step::SetBefore { span: old, value: 0 }, Step::Acquire]);
            steps.extend([Step::CountAllocs { class: span_class / 2, objects }, Step::Release]);
            steps.extend([Step::SetGeneration { span: old, ahead: 1_u32.wrapping_neg() }, Step::Sweep { span: old }]);
            steps.push(Step::SetGeneration { span: old, ahead: 0 });
            // The other way round in truth. A thread that is stopped between the two for a whole look makes it wrong: see `settle.rs`.
            steps.extend([Step::Cache { span_class, span: None }, Step::Free { span: old }]);
        }
        steps.extend([Step::Acquire, Step::CountTiny, Step::ClearTiny, Step::Release]);
        steps
    }
}

fn processor(index: usize) -> u64 {
    PROCESSOR + 0x8000 * index as u64
}

fn cache(index: usize) -> u64 {
    CACHE + 0x2000 * index as u64
}

fn span(index: usize) -> u64 {
    SPAN + 160 * index as u64
}

/// The simulation goes on by some steps before each piece, and in the midst of long ones.
#[derive(Debug)]
struct SimulatedMemory(Mutex<Simulation>);

impl std::fmt::Debug for Simulation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Simulation").field("queues", &self.queues).finish_non_exhaustive()
    }
}

impl TargetMemory for SimulatedMemory {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let mut simulation = self.0.lock().unwrap();
        for (part, into) in into.chunks_mut(512).enumerate() {
            let most_steps = simulation.most_steps;
            for _ in 0..simulation.random.below(most_steps + 1) {
                simulation.step();
            }
            let start = usize::try_from(at.0 - BASE).unwrap() + 512 * part;
            into.copy_from_slice(&simulation.bytes[start..start + into.len()]);
        }
        Ok(())
    }
}

fn places() -> Places {
    let missing = |name: &'static str| Err(GlobalMissing::NoFunction { name: name.into() });
    Places {
        memstats: Avma(MEMSTATS),
        allp: Avma(ALLP),
        mheap: Ok(Avma(MHEAP)),
        gc_controller: missing("runtime.gcController"),
        gcphase: missing("runtime.gcphase"),
        sched: missing("runtime.sched"),
        allglen: missing("runtime.allglen"),
    }
}

fn reader() -> BooksReader {
    BooksReader::with(places(), &known(26, Architecture::Amd64).unwrap(), 26)
}

#[derive(Debug, Default)]
struct Seen {
    reads: u64,
    unsettled: u64,
    exact: u64,
    collections: u64,
    moved: [u64; Discard::ALL.len()],
}

fn simulate(seed: u64, most_steps: usize, seen: &mut Seen) {
    let memory = SimulatedMemory(Mutex::new(Simulation::new(seed, most_steps)));
    let mut reader = reader();
    let mut last = None;
    for _ in 0..20 {
        let truth = || {
            let simulation = memory.0.lock().unwrap();
            (simulation.allocs, simulation.tiny)
        };
        let (allocs_before, tiny_before) = truth();
        let books = match reader.read(&memory) {
            Ok(books) => books,
            Err(ReadError::Unsettled { .. }) => {
                seen.unsettled += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        };
        let (allocs_behind, tiny_behind) = truth();
        for (index, class) in books.classes.iter().enumerate() {
            let (least, most) = (allocs_before[index + 1], allocs_behind[index + 1]);
            assert!(
                least <= class.allocs + class.slack && class.allocs <= most,
                "seed {seed}, steps {most_steps}: {class:?}, and true were {least} before and {most} behind"
            );
            assert!(class.frees <= class.allocs, "seed {seed}: {class:?}");
        }
        assert!(tiny_before <= books.tiny_allocs + books.tiny_slack && books.tiny_allocs <= tiny_behind, "seed {seed}");
        if let Some(last) = last.replace(books.clone()) {
            assert!(last.allocs() <= books.allocs() && last.frees() <= books.frees(), "seed {seed}: a count fell");
        }
        assert!(books.pacer.is_err() && books.threads.is_err() && books.goroutines.is_err());
        seen.reads += 1;
        seen.exact += u64::from(books.slack() == 0);
        seen.collections += u64::from(books.collections > 0);
    }
    for (why, count) in reader.discards().iter() {
        seen.moved[why as usize] += count;
    }
}

#[test]
fn the_truth_of_some_moment_of_the_read_lies_within_the_slack_however_the_runtime_moves() {
    let mut seen = Seen::default();
    for seed in 0..25 {
        for most_steps in [0, 1, 3, 12] {
            simulate(seed, most_steps, &mut seen);
        }
    }
    println!("{seen:?}");
    // It has seen what it is to withstand.
    assert!(seen.reads > 1500 && seen.exact > 300 && seen.collections > 300, "{seen:?}");
    assert!(seen.moved[Discard::CacheMoved as usize] > 300, "{seen:?}");
    assert!(seen.moved[Discard::StatisticsMoved as usize] > 50, "{seen:?}");
    assert_eq!(seen.moved[Discard::CountFell as usize], 0, "{seen:?}");
}

#[test]
fn a_runtime_that_has_not_started_or_says_nonsense_is_refused() {
    let refused = |change: fn(&mut Simulation)| {
        let mut simulation = Simulation::new(1, 0);
        change(&mut simulation);
        let error = reader().read(&SimulatedMemory(Mutex::new(simulation))).unwrap_err();
        (error.id(), error.to_string())
    };
    let (id, _) = refused(|simulation| simulation.set(ALLP + 8, 8, 0));
    assert_eq!(id, "runtime_not_started");
    for (change, expected) in [
        ((|simulation| simulation.set(ALLP + 8, 8, 1 << 40)) as fn(&mut Simulation), "number of processors"),
        (|simulation| simulation.set(cache(1) + simulation.layout.mcache.alloc + 8, 8, SPAN), "empty span"),
        (|simulation| simulation.set(cache(1) + simulation.layout.mcache.alloc + 80, 8, SPAN + 1), "cached span"),
        (|simulation| simulation.set(MEMSTATS, 8, u64::MAX), "committed"),
        (
            |simulation| {
                simulation.set(MEMSTATS + simulation.layout.heap_stats_delta.small_alloc_count + 80, 8, 1 << 63);
            },
            "count of allocated objects",
        ),
        (|simulation| simulation.set(MEMSTATS + simulation.layout.mstats.other_sys, 8, 1 << 60), "bytes of the system"),
    ] {
        let (id, text) = refused(change);
        assert_eq!(id, "memory_implausible", "{text}");
        assert!(text.contains(expected), "{text}");
    }
    // A part of its own.
    let mut simulation = Simulation::new(1, 0);
    simulation.set(MHEAP + simulation.layout.mheap.span_structures_in_use, 8, u64::MAX);
    let books = reader().read(&SimulatedMemory(Mutex::new(simulation))).unwrap();
    assert_eq!(books.structures.unwrap_err().id(), "memory_implausible");
}

#[test]
fn a_count_that_falls_is_read_again_and_then_refused() {
    let memory = SimulatedMemory(Mutex::new(Simulation::new(1, 0)));
    let mut reader = reader();
    let large = MEMSTATS + memory.0.lock().unwrap().layout.heap_stats_delta.large_alloc_count;
    memory.0.lock().unwrap().set(large, 8, 7);
    assert_eq!(reader.read(&memory).unwrap().large_allocs, 7);
    memory.0.lock().unwrap().set(large, 8, 6);
    assert_eq!(reader.read(&memory).unwrap_err().id(), "memory_unsettled");
    assert!(reader.discards().iter().any(|(why, count)| why == Discard::CountFell && count > 1));
}

/// Zeros in place of a cache, for some reads: as while GOMAXPROCS changes.
#[derive(Debug)]
struct CacheBeingMade {
    inner: SimulatedMemory,
    reads: Mutex<usize>,
}

impl TargetMemory for CacheBeingMade {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        self.inner.read(at, into)?;
        let mut reads = self.reads.lock().unwrap();
        if (cache(1)..cache(2)).contains(&at.0) && *reads > 0 {
            *reads -= 1;
            into.fill(0);
        }
        Ok(())
    }
}

#[test]
fn a_cache_that_is_being_made_is_read_again() {
    let memory =
        |reads| CacheBeingMade { inner: SimulatedMemory(Mutex::new(Simulation::new(1, 0))), reads: Mutex::new(reads) };
    let mut patient = reader();
    patient.read(&memory(2)).unwrap();
    assert!(patient.discards().iter().any(|(why, count)| why == Discard::DidNotFit && count == 2));
    assert_eq!(reader().read(&memory(usize::MAX)).unwrap_err().id(), "memory_implausible");
}
