//! What is decoded from `memstats`, `gcController`, `sched` and `mheap_`: everything but the caches.

use super::goal::GoalInputs;
use super::{Books, Pacer, Part, PartMissing, Pause, Phase, SIZE_CLASSES, Structures, SystemBytes};
use crate::inspect::RuntimeLayout;
use crate::inspect::layout::{HeapStatisticsLayout, StatisticsLayout};
use crate::read::ReadError;
use crate::read::memory::Words;

/// Beyond any number of bytes that are mapped: addresses have 47 bits (amd64) or 48 (arm64).
const MAPPED_BYTES_MAX: u64 = 1 << 48;
/// Beyond any count of objects or bytes since a program began: 10 GB/s for three years.
const COUNT_MAX: u64 = 1 << 60;
/// More threads and goroutines than fit.
const GOROUTINES_MAX: u64 = 1 << 32;

/// Sums of `heapStats` at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeapSums {
    pub(super) allocs: [u64; SIZE_CLASSES],
    pub(super) frees: [u64; SIZE_CLASSES],
    pub(super) tiny_allocs: u64,
    pub(super) large_allocs: u64,
    pub(super) large_alloc_bytes: u64,
    pub(super) large_frees: u64,
    pub(super) large_free_bytes: u64,
    /// Bytes by purpose; each in turn grows and shrinks.
    committed: u64,
    released: u64,
    in_heap: u64,
    in_stacks: u64,
    in_work_buffers: u64,
    in_pointer_bits: u64,
}

/// The deltas of `heapStats`: three that are filled in turn, whose sum is the truth, and which of them is filled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deltas<'a> {
    words: Words<'a>,
    statistics: &'a StatisticsLayout,
    delta: &'a HeapStatisticsLayout,
}

impl<'a> Deltas<'a> {
    /// From bytes that begin where `memstats` does.
    pub(super) fn new(words: Words<'a>, layout: &'a RuntimeLayout) -> Self {
        Self { words, statistics: &layout.mstats, delta: &layout.heap_stats_delta }
    }

    fn generation(self) -> u64 {
        u64::from(self.words.u32(self.statistics.heap_stats_generation))
    }

    fn word(self, index: u64, offset: u64) -> u64 {
        self.words.u64(self.statistics.heap_stats + index * self.delta.size_bytes + offset)
    }

    fn delta(self, index: u64) -> &'a [u8] {
        let start = self.statistics.heap_stats + index * self.delta.size_bytes;
        let range =
            usize::try_from(start).unwrap_or(usize::MAX)..usize::try_from(start + self.delta.size_bytes).unwrap_or(0);
        self.words.0.get(range).unwrap_or_default()
    }

    /// Whether their sum was right between two readings of them.
    ///
    /// `runtime/metrics` merges (`consistentHeapStats.read` of runtime/mstats.go): it makes the next delta the one that is filled,
    /// adds the oldest to the middle one, and only then clears the oldest. So the oldest must be clear, the middle one
    /// the same in both readings, and what is filled must not have shrunk.
    pub(super) fn is_settled(self, behind: Self) -> bool {
        let (count, filled) = (self.statistics.heap_stats_count, self.generation());
        if filled != behind.generation() || count == 0 || filled >= count {
            return false;
        }
        let (oldest, middle) = ((filled + 1) % count, (filled + 2) % count);
        let is_same = |index: u64| self.delta(index) == behind.delta(index);
        let is_clear =
            (0..self.delta.size_bytes / 8).map(|word| self.word(oldest, 8 * word)).fold(0, |all, word| all | word) == 0;
        let has_grown = || {
            let counters = [self.delta.small_alloc_count, self.delta.small_free_count];
            counters.into_iter().all(|offset| {
                let mut classes = (0..self.delta.size_classes).map(|class| offset + 8 * class);
                classes.all(|at| self.word(filled, at) <= behind.word(filled, at))
            })
        };
        is_same(middle) && is_same(oldest) && is_clear && (is_same(filled) || has_grown())
    }

    fn sum(self, offset: u64) -> u64 {
        (0..self.statistics.heap_stats_count).map(|index| self.word(index, offset)).fold(0, u64::wrapping_add)
    }

    /// How many objects of a size class were added between two readings, of which [`Self::is_settled`] holds.
    pub(super) fn added_until(self, behind: Self, class: usize) -> u64 {
        let offset = self.delta.small_alloc_count + 8 * class as u64;
        behind.sum(offset).saturating_sub(self.sum(offset))
    }

    /// As [`Self::added_until`], of tiny objects.
    pub(super) fn tiny_added_until(self, behind: Self) -> u64 {
        let offset = self.delta.tiny_alloc_count;
        behind.sum(offset).saturating_sub(self.sum(offset))
    }

    /// Their sums, checked: none is negative or larger than can be.
    pub(super) fn sums(self) -> Result<HeapSums, ReadError> {
        let delta = self.delta;
        let checked = |what: &'static str, offset: u64, max: u64| match self.sum(offset) {
            value if value <= max => Ok(value),
            value => Err(ReadError::Implausible { what, value }),
        };
        let classes = |what: &'static str, offset: u64| {
            let mut counts = [0; SIZE_CLASSES];
            for (count, class) in counts.iter_mut().zip(0_u64..) {
                *count = checked(what, offset + 8 * class, COUNT_MAX)?;
            }
            Ok::<_, ReadError>(counts)
        };
        let bytes = |what: &'static str, offset: u64| checked(what, offset, MAPPED_BYTES_MAX);
        Ok(HeapSums {
            allocs: classes("count of allocated objects", delta.small_alloc_count)?,
            frees: classes("count of freed objects", delta.small_free_count)?,
            tiny_allocs: checked("count of tiny objects", delta.tiny_alloc_count, COUNT_MAX)?,
            large_allocs: checked("count of large objects", delta.large_alloc_count, COUNT_MAX)?,
            large_alloc_bytes: checked("bytes of large objects", delta.large_alloc, COUNT_MAX)?,
            large_frees: checked("count of freed large objects", delta.large_free_count, COUNT_MAX)?,
            large_free_bytes: checked("bytes of freed large objects", delta.large_free, COUNT_MAX)?,
            committed: bytes("bytes of committed memory", delta.committed)?,
            released: bytes("bytes of released memory", delta.released)?,
            in_heap: bytes("bytes in use", delta.in_heap)?,
            in_stacks: bytes("bytes of stacks", delta.in_stacks)?,
            in_work_buffers: bytes("bytes of work buffers", delta.in_work_buffers)?,
            in_pointer_bits: delta.in_pointer_bits.map_or(Ok(0), |offset| bytes("bytes of pointer bits", offset))?,
        })
    }
}

impl HeapSums {
    /// Whether a count is below what it was.
    pub(super) fn has_fallen(&self, before: &Self) -> bool {
        let counts = |sums: &Self| {
            [sums.tiny_allocs, sums.large_allocs, sums.large_alloc_bytes, sums.large_frees, sums.large_free_bytes]
        };
        let has_fallen = |now: &[u64], before: &[u64]| now.iter().zip(before).any(|(now, before)| now < before);
        has_fallen(&counts(self), &counts(before))
            || has_fallen(&self.allocs, &before.allocs)
            || has_fallen(&self.frees, &before.frees)
    }

    /// Writes all but allocations by class into the books.
    pub(super) fn write(&self, books: &mut Books) {
        books.large_allocs = self.large_allocs;
        books.large_alloc_bytes = self.large_alloc_bytes;
        books.large_frees = self.large_frees;
        books.large_free_bytes = self.large_free_bytes;
        books.heap_in_use_bytes = self.in_heap;
        books.heap_released_bytes = self.released;
        books.stacks_bytes = self.in_stacks;
        books.work_buffers_bytes = self.in_work_buffers;
        books.pointer_bits_bytes = self.in_pointer_bits;
        // As `/memory/classes/heap/free:bytes` is computed (runtime/metrics.go).
        let taken = [self.in_heap, self.in_stacks, self.in_work_buffers, self.in_pointer_bits];
        books.heap_free_bytes = taken.into_iter().fold(self.committed, u64::saturating_sub);
    }
}

/// Bytes that are not of the heap.
pub(super) fn system_bytes(all: Words<'_>, layout: &StatisticsLayout) -> Result<SystemBytes, ReadError> {
    let bytes = |offset: u64| match all.u64(offset) {
        value if value <= MAPPED_BYTES_MAX => Ok(value),
        value => Err(ReadError::Implausible { what: "bytes of the system", value }),
    };
    Ok(SystemBytes {
        stacks: bytes(layout.stacks_sys)?,
        spans: bytes(layout.mspan_sys)?,
        caches: bytes(layout.mcache_sys)?,
        profile_buckets: bytes(layout.buckhash_sys)?,
        collector: bytes(layout.gc_misc_sys)?,
        other: bytes(layout.other_sys)?,
    })
}

/// The last pauses, newest first: the one of collection n is at (n + 255) % 256 of the ring.
pub(super) fn pauses(all: Words<'_>, layout: &StatisticsLayout, collections: u32, most: u64) -> Vec<Pause> {
    let size = layout.pause_ns_count.min(most);
    let known = u64::from(collections).min(size);
    let entry = |back: u64| (u64::from(collections) + size - 1 - back) % size;
    (0..known)
        .map(|back| Pause {
            duration_ns: all.u64(layout.pause_ns + 8 * entry(back)),
            end_unix_ns: all.u64(layout.pause_end + 8 * entry(back)),
        })
        .collect()
}

/// What `gcController` says, from bytes that begin where it does.
pub(super) fn pacer(words: Words<'_>, layout: &RuntimeLayout, minor: u32, books: &Books) -> Part<Pacer> {
    let fields = &layout.gc_controller;
    let checked = |what: &'static str, offset: u64, max: u64| match words.u64(offset) {
        value if value <= max => Ok(value),
        value => Err(PartMissing::Implausible { what: what.into(), value }),
    };
    let gc_percent = words.u32(fields.gc_percent).cast_signed();
    if gc_percent < -1 {
        return Err(PartMissing::Implausible { what: "GOGC".into(), value: words.u32(fields.gc_percent).into() });
    }
    let memory_limit = checked("memory limit", fields.memory_limit, i64::MAX.cast_unsigned())?;
    let heap_in_use = checked("bytes in use of the pacer", fields.heap_in_use, MAPPED_BYTES_MAX)?;
    if heap_in_use == 0 && books.heap_in_use_bytes > 0 {
        return Err(PartMissing::Implausible { what: "bytes in use of the pacer".into(), value: heap_in_use });
    }
    let heap_marked_bytes = checked("marked bytes", fields.heap_marked, MAPPED_BYTES_MAX)?;
    let mapped_ready_bytes = checked("mapped bytes", fields.mapped_ready, MAPPED_BYTES_MAX)?;
    let inputs = GoalInputs {
        minor,
        gc_percent_heap_goal: words.u64(fields.gc_percent_heap_goal),
        memory_limit,
        heap_marked: heap_marked_bytes,
        heap_free: checked("free bytes of the pacer", fields.heap_free, MAPPED_BYTES_MAX)?,
        total_alloc: words.u64(fields.total_alloc),
        total_free: words.u64(fields.total_free),
        mapped_ready: mapped_ready_bytes,
        sweep_min_trigger: words.u64(fields.sweep_min_trigger),
        triggered: words.u64(fields.triggered),
    };
    let has_limit = memory_limit < i64::MAX.cast_unsigned();
    Ok(Pacer {
        gc_percent: u32::try_from(gc_percent).ok(),
        memory_limit_bytes: has_limit.then_some(memory_limit),
        percent_goal_bytes: (gc_percent >= 0).then_some(inputs.gc_percent_heap_goal),
        limit_goal_bytes: has_limit.then(|| inputs.by_limit()),
        goal_bytes: inputs.goal(),
        // Corrections are made apart from additions: it can be below zero for a moment.
        heap_live_bytes: words.u64(fields.heap_live).cast_signed().max(0).cast_unsigned().min(MAPPED_BYTES_MAX),
        heap_marked_bytes,
        mark_start_ns: words.u64(fields.mark_start_time),
        mapped_ready_bytes,
    })
}

/// `gcphase`.
pub(super) fn phase(value: u32) -> Part<Phase> {
    match value {
        0 => Ok(Phase::Off),
        1 => Ok(Phase::Mark),
        2 => Ok(Phase::MarkTermination),
        value => Err(PartMissing::Implausible { what: "phase of the collector".into(), value: value.into() }),
    }
}

/// The heap's own structures, from single words.
pub(super) fn structures(spans: u64, caches: u64, sweep_generation: u32) -> Part<Structures> {
    for value in [spans, caches] {
        if value == 0 || value > MAPPED_BYTES_MAX {
            return Err(PartMissing::Implausible { what: "bytes of the heap's structures".into(), value });
        }
    }
    Ok(Structures { spans_in_use_bytes: spans, caches_in_use_bytes: caches, sweep_generation })
}

/// Threads, and goroutines that are kept for new ones or are the runtime's own, from bytes that begin where `sched` does.
pub(super) fn scheduler(words: Words<'_>, layout: &RuntimeLayout) -> Part<(u64, u64)> {
    let fields = &layout.sched;
    let threads = words.u64(fields.mnext).wrapping_sub(words.u64(fields.nmfreed));
    if threads == 0 || threads > GOROUTINES_MAX {
        return Err(PartMissing::Implausible { what: "number of threads".into(), value: threads });
    }
    let counts = [
        Some(fields.ngsys),
        fields.free_goroutines,
        fields.free_goroutines_with_stack,
        fields.free_goroutines_without_stack,
    ];
    let apart = counts.into_iter().flatten().map(|offset| u64::from(words.u32(offset))).sum();
    Ok((threads, apart))
}

/// `gcount` (runtime/proc.go): all that were made, less those that ended and those of the runtime.
pub(super) fn goroutines(made: u64, apart: u64) -> Part<u64> {
    match made.saturating_sub(apart).max(1) {
        count if made <= GOROUTINES_MAX => Ok(count),
        _ => Err(PartMissing::Implausible { what: "number of goroutines".into(), value: made }),
    }
}
