//! The runtime's own heap profile: for every stack and size, how many sampled objects were allocated and freed.
//!
//! Source: the list `mbuckets` (runtime/mprof.go). A bucket is never freed, never moved, and never changes its stack; new ones
//! are put in front of the list. So `list.rs` walks each bucket once, and later reads fetch the counts of all known ones in
//! batches. What the program sampled but was not built to show is not here: counts are of samples, `model` makes
//! estimates of them.
//!
//! The runtime counts in cycles, one for each collection, and publishes a cycle when all frees that belong to it are
//! swept (the comment of `memRecord`). Both states are given: the published one, which is what `runtime.MemProfile` would say now,
//! and the newest, which has everything counted so far.

mod list;
mod records;
#[cfg(test)]
mod tests;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use self::list::Buckets;

use self::list::BucketList;
use self::records::Records;
use super::memory::{MemoryError, TargetMemory, Words};
use super::{Discard, Discards, ReadError, Runtime};
use crate::addr::Avma;
use crate::inspect::Global;
use crate::inspect::layout::{BucketLayout, MemoryCycleLayout, MemoryRecordLayout};

/// How often a look is begun anew where the runtime published a cycle meanwhile.
const ATTEMPTS: usize = 6;
/// Cycles that are not yet published (`future [3]memRecordCycle`, go1.19 to go1.27).
const FUTURE_CYCLES: u64 = 3;
/// Most bytes of a structure here. A layout that a program's own DWARF gives can say anything.
const STRUCTURE_BYTES_MAX: u64 = 4096;

/// Sampled objects of one stack and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Allocated since the program began.
    pub allocs: u64,
    /// Freed: swept.
    pub frees: u64,
    /// Bytes of the allocated ones, in slots.
    pub alloc_bytes: u64,
    /// Bytes of the freed ones.
    pub free_bytes: u64,
}

impl Counts {
    /// Neither allocated nor freed.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Objects in use.
    pub fn in_use(self) -> u64 {
        self.allocs.saturating_sub(self.frees)
    }

    /// Their bytes.
    pub fn in_use_bytes(self) -> u64 {
        self.alloc_bytes.saturating_sub(self.free_bytes)
    }

    fn plus(self, other: Self) -> Self {
        Self {
            allocs: self.allocs.saturating_add(other.allocs),
            frees: self.frees.saturating_add(other.frees),
            alloc_bytes: self.alloc_bytes.saturating_add(other.alloc_bytes),
            free_bytes: self.free_bytes.saturating_add(other.free_bytes),
        }
    }

    /// Whether no more was freed than allocated.
    fn is_plausible(self) -> bool {
        self.frees <= self.allocs && self.free_bytes <= self.alloc_bytes
    }

    /// Whether each count is at least what it was.
    fn has_grown_from(self, before: Self) -> bool {
        let pairs = [
            (before.allocs, self.allocs),
            (before.frees, self.frees),
            (before.alloc_bytes, self.alloc_bytes),
            (before.free_bytes, self.free_bytes),
        ];
        pairs.iter().all(|(before, now)| before <= now)
    }
}

/// What is counted of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// What `runtime.MemProfile` would say.
    pub published: Counts,
    /// With all that is not yet published. Objects that died since the last collection, and those that it has not swept yet, are
    /// still counted as in use.
    pub newest: Counts,
}

impl Bucket {
    /// From go1.27 on bytes are not counted, since all objects of a bucket have its size.
    fn count_bytes(&mut self, size_bytes: u64) {
        for counts in [&mut self.published, &mut self.newest] {
            counts.alloc_bytes = counts.allocs.saturating_mul(size_bytes);
            counts.free_bytes = counts.frees.saturating_mul(size_bytes);
        }
    }
}

/// The profile at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeapProfile {
    /// Mean bytes between two samples (`runtime.MemProfileRate`); 0: the sampler is off; 1: every object is sampled.
    pub rate_bytes: i64,
    /// The counts of each bucket, in the order of [`ProfileReader::buckets`].
    pub counts: Vec<Bucket>,
    /// How many of the youngest cycles have counts that are not yet published: 0 none, 1 what came since the last collection, 2 what
    /// came since the last but one.
    pub lag_cycles: u32,
    /// False where the runtime published cycles during every attempt: then some of the published counts are a cycle younger than
    /// others. The newest are right in any case.
    pub is_settled: bool,
    /// Whether there are more buckets than are read: the oldest ones are missing.
    pub is_cut: bool,
}

/// Reads the heap profile of one process, again and again.
#[derive(Debug)]
pub struct ProfileReader {
    places: Places,
    layouts: Layouts,
    list: BucketList,
    discards: Discards,
}

#[derive(Clone, Debug)]
struct Places {
    mbuckets: Avma,
    cycle: Avma,
    rate: Avma,
    /// Go's code, without that of plugins.
    text: Range<Avma>,
}

#[derive(Clone, Copy, Debug)]
struct Layouts {
    bucket: BucketLayout,
    record: MemoryRecordLayout,
    cycle: MemoryCycleLayout,
}

impl Layouts {
    /// Whether the counts of all cycles lie within the record.
    fn fit(&self) -> bool {
        let end = self.record.future.checked_add(FUTURE_CYCLES.saturating_mul(self.cycle.size_bytes));
        self.record.future_count == FUTURE_CYCLES
            && self.record.size_bytes <= STRUCTURE_BYTES_MAX
            && self.bucket.size_bytes <= STRUCTURE_BYTES_MAX
            && self.cycle.size_bytes > 0
            && end.is_some_and(|end| end <= self.record.size_bytes)
    }
}

/// `mProfCycle`: the number of the cycle, and whether its predecessors were told to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cycle(u32);

impl Cycle {
    /// Where in `future` the counts stand that are published next, and those behind them: of this cycle, the next, and the one
    /// to which allocations go now.
    fn indices(self) -> [u64; 3] {
        let number = u64::from(self.0 >> 1);
        [number, number + 1, number + 2].map(|cycle| cycle % FUTURE_CYCLES)
    }

    fn is_flushed(self) -> bool {
        self.0 & 1 == 1
    }
}

impl ProfileReader {
    /// Finds the places.
    ///
    /// # Errors
    /// Where one of the variables is not known, or the layout cannot be.
    pub fn new(runtime: &Runtime) -> Result<Self, ReadError> {
        let layout = runtime.layout();
        let unreadable = ReadError::Implausible { what: "function table", value: 0 };
        let places = Places {
            mbuckets: runtime.address(Global::Mbuckets)?,
            cycle: runtime.address(Global::MProfCycle)?,
            rate: runtime.address(Global::MemProfileRate)?,
            text: runtime.text().ok_or(unreadable)?,
        };
        Self::at(places, Layouts { bucket: layout.bucket, record: layout.mem_record, cycle: layout.mem_record_cycle })
    }

    fn at(places: Places, layouts: Layouts) -> Result<Self, ReadError> {
        if !layouts.fit() {
            return Err(ReadError::Implausible { what: "layout of a memory record", value: layouts.record.size_bytes });
        }
        Ok(Self { places, layouts, list: BucketList::default(), discards: Discards::default() })
    }

    /// Stack and size of each bucket that was found so far, the oldest first. A bucket keeps its number.
    pub fn buckets(&self) -> &Buckets {
        self.list.buckets()
    }

    /// What was not believed so far.
    pub fn discards(&self) -> Discards {
        self.discards
    }

    /// Mean bytes between two samples now; 0: the sampler is off.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn rate(&self, memory: &dyn TargetMemory) -> Result<i64, ReadError> {
        let mut bytes = [0; 8];
        memory.read(self.places.rate, &mut bytes)?;
        Ok(i64::from_le_bytes(bytes))
    }

    /// The profile now. Reads all counts twice, and each bucket that is new once.
    ///
    /// # Errors
    /// Where memory cannot be read, or holds what cannot be.
    pub fn read(&mut self, memory: &dyn TargetMemory) -> Result<HeapProfile, ReadError> {
        let rate_bytes = self.rate(memory)?;
        let mut attempt = 1;
        loop {
            let before = self.cycle(memory)?;
            let is_cut = self.list.extend(memory, &self.layouts, &self.places, &mut self.discards)?;
            let records = [self.records(memory)?, self.records(memory)?];
            let behind = self.cycle(memory)?;
            let problem = unsettled(before, behind, &records);
            if problem.is_none() || attempt == ATTEMPTS {
                let [first, second] = &records;
                let is_settled = problem.is_none();
                let Some((mut counts, lag_cycles)) = evaluate(behind, first, second, is_settled) else {
                    return Err(ReadError::Implausible { what: "counts of the heap profile", value: 0 });
                };
                if self.layouts.cycle.alloc_bytes.is_none() {
                    for (number, bucket) in counts.iter_mut().enumerate() {
                        bucket.count_bytes(self.buckets().size_bytes(number));
                    }
                }
                return Ok(HeapProfile { rate_bytes, counts, lag_cycles, is_settled, is_cut });
            }
            if let Some(problem) = problem {
                self.discards.add(problem);
            }
            attempt += 1;
        }
    }

    fn cycle(&self, memory: &dyn TargetMemory) -> Result<Cycle, ReadError> {
        let mut bytes = [0; 4];
        memory.read(self.places.cycle, &mut bytes)?;
        Ok(Cycle(Words(&bytes).u32(0)))
    }

    fn records(&self, memory: &dyn TargetMemory) -> Result<Records, ReadError> {
        Records::read(memory, self.list.spans(), self.buckets().len(), self.layouts)
    }
}

/// Why two readings of all records are not of one state of what is published. `None`: they are.
fn unsettled(before: Cycle, behind: Cycle, [first, second]: &[Records; 2]) -> Option<Discard> {
    let [due, ..] = behind.indices();
    // The flag is set before the counts are moved; afterwards nothing is left of that cycle until the next one begins.
    let is_moving = behind.is_flushed() && second.iter().any(|record| !record.future(due).is_zero());
    let has_moved = first.iter().zip(second.iter()).any(|(first, second)| {
        first.active() != second.active()
            || (0..FUTURE_CYCLES).any(|index| !second.future(index).has_grown_from(first.future(index)))
    });
    (before != behind || is_moving || has_moved).then_some(Discard::ProfilePublished)
}

/// The states of all buckets, and how many cycles are not published. `None`: some counts cannot be.
fn evaluate(cycle: Cycle, first: &Records, second: &Records, is_settled: bool) -> Option<(Vec<Bucket>, u32)> {
    let [due, next, current] = cycle.indices();
    // As `runtime.MemProfile` does: what is due is added, and before anything was published all is.
    let nothing_published = second.iter().all(|record| record.active().is_zero() && record.future(due).is_zero());
    let mut counts = Vec::with_capacity(second.len());
    let mut unpublished = [false; 2];
    for (first, second) in first.iter().zip(second.iter()) {
        let newest = |record: records::Record<'_>| {
            [due, next, current].iter().fold(record.active(), |sum, index| sum.plus(record.future(*index)))
        };
        let mut bucket = Bucket { published: second.active().plus(second.future(due)), newest: newest(second) };
        if !is_settled {
            // A record that was read while it was moved counts twice what had been added and was not yet cleared.
            bucket.newest = least(bucket.newest, newest(first));
            bucket.published = least(bucket.published, bucket.newest);
        }
        if nothing_published {
            bucket.published = bucket.newest;
        } else {
            for (flag, index) in unpublished.iter_mut().zip([next, current]) {
                *flag |= !second.future(index).is_zero();
            }
        }
        if !bucket.newest.is_plausible() || !bucket.published.is_plausible() {
            return None;
        }
        counts.push(bucket);
    }
    let lag_cycles = match unpublished {
        [true, _] => 2,
        [false, true] => 1,
        [false, false] => 0,
    };
    Some((counts, lag_cycles))
}

/// Of two readings the one with fewer allocations.
fn least(one: Counts, other: Counts) -> Counts {
    if other.allocs < one.allocs { other } else { one }
}

/// An address that leads nowhere is a wrong guess of ours, not a failure of the system.
fn implausible(what: &'static str, at: Avma) -> impl Fn(MemoryError) -> ReadError {
    move |error| match error {
        MemoryError::Unmapped { .. } => ReadError::Implausible { what, value: at.0 },
        error => error.into(),
    }
}
