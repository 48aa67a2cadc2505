//! The runtime's own accounts: how much was allocated and freed, by size class; bytes by purpose; collections; goals.
//!
//! Sources, read from the process: `memstats` (runtime/mstats.go), `gcController` (runtime/mgcpacer.go), `sched` (runtime/proc.go),
//! and what every processor has allocated from its cached spans since they were counted last (runtime/mcache.go).
//! `runtime.ReadMemStats` stops the program and empties the caches to say the same.
//!
//! Nothing is stopped here: see [`Books`] for what that leaves open. A part whose variable is not known, or whose values
//! cannot be, is refused by itself ([`Part`]).

mod caches;
mod goal;
mod look;
mod reader;
mod settle;
mod statistics;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use self::reader::BooksReader;

use crate::inspect::GlobalMissing;

/// Size classes; the first stands for large objects and counts nothing here (runtime/sizeclasses.go, go1.19 to go1.27).
pub const SIZE_CLASSES: usize = tracer_common::size_class::CLASS_TO_SIZE.len();

/// Why a part of the books is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartMissing {
    /// A variable is not known.
    #[error(transparent)]
    Global(#[from] GlobalMissing),
    /// A value is not what it can be.
    #[error("implausible {what}: {value:#x}")]
    Implausible {
        /// Which value.
        what: Cow<'static, str>,
        /// As found.
        value: u64,
    },
}

impl PartMissing {
    /// The stable identifier of the reason.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::Global(missing) => missing.id(),
            Self::Implausible { .. } => "memory_implausible",
        }
    }
}

/// A part of the books, or why it is not there.
pub type Part<T> = Result<T, PartMissing>;

/// What was allocated and freed of one size class since the program began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassCount {
    /// Bytes of a slot.
    pub size_bytes: u64,
    /// Objects allocated, at least; tiny objects are counted by their blocks.
    pub allocs: u64,
    /// How many more there may be: at some moment of the read the true count was between `allocs` and `allocs + slack`.
    pub slack: u64,
    /// Objects freed: swept.
    pub frees: u64,
}

/// One pause of the whole program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pause {
    /// How long, ns; both pauses of one collection added.
    pub duration_ns: u64,
    /// When it ended, ns since 1970.
    pub end_unix_ns: u64,
}

/// Bytes that the runtime has from the system for itself, by purpose; mapped, not necessarily resident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemBytes {
    /// Stacks of threads that the system gave directly; stacks of goroutines are not among them.
    pub stacks: u64,
    /// `MemStats.MSpanSys`: structures that describe spans.
    pub spans: u64,
    /// `MemStats.MCacheSys`: structures of the processors' caches.
    pub caches: u64,
    /// `MemStats.BuckHashSys`: tables of profiles.
    pub profile_buckets: u64,
    /// The collector's, without work buffers.
    pub collector: u64,
    /// `MemStats.OtherSys`: everything else.
    pub other: u64,
}

/// What decides when the next collection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pacer {
    /// GOGC, percent; `None`: off.
    pub gc_percent: Option<u32>,
    /// GOMEMLIMIT; `None`: none.
    pub memory_limit_bytes: Option<u64>,
    /// Size of the heap at which the next collection is to end, by GOGC alone; `None`: GOGC is off.
    pub percent_goal_bytes: Option<u64>,
    /// The same by GOMEMLIMIT alone, computed as the runtime does; `None`: there is no limit.
    pub limit_goal_bytes: Option<u64>,
    /// `MemStats.NextGC`: what follows from both, computed as the runtime does; beyond any memory where neither is set.
    pub goal_bytes: u64,
    /// What counts as alive: marked by the last collection, and allocated since. Cached spans count as if full.
    pub heap_live_bytes: u64,
    /// What the last collection marked.
    pub heap_marked_bytes: u64,
    /// When marking began last, ns of the monotonic clock; 0 before the first.
    pub mark_start_ns: u64,
    /// Bytes that the runtime has mapped and not given back: what GOMEMLIMIT limits.
    pub mapped_ready_bytes: u64,
}

/// What the collector does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing, or sweeping.
    Off,
    /// Marking, while the program runs.
    Mark,
    /// Ending the marking; the program stands still.
    MarkTermination,
}

/// The heap's own structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Structures {
    /// `MemStats.MSpanInuse`.
    pub spans_in_use_bytes: u64,
    /// `MemStats.MCacheInuse`.
    pub caches_in_use_bytes: u64,
    /// Grows by 2 with each collection.
    pub sweep_generation: u32,
}

/// The books at one moment. Counts are since the program began and never fall between two reads of one [`BooksReader`].
///
/// The program runs on while we read, for some microseconds. What that leaves open:
/// - Allocations of each class: the true count at some moment of the read is in `allocs ..= allocs + slack`. `slack` is 0 where the
///   processors' caches of this class stayed as they were. Where one exchanged its span, in each attempt, the objects of
///   that span are either counted already or not: `slack` is the slots of one span for each such cache, and what was counted
///   meanwhile.
/// - Frees, large objects, collections and bytes: each number as it was at one moment of the read, but not all at
///   the same one. Two that change together, such as large objects and their bytes, may differ by what was being added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Books {
    /// By size class, without the first, in order of size.
    pub classes: Vec<ClassCount>,
    /// Tiny objects (below 16 bytes, without pointers) allocated, at least. Several share a block, and are never freed by
    /// themselves.
    pub tiny_allocs: u64,
    /// How many more there may be; as [`ClassCount::slack`].
    pub tiny_slack: u64,
    /// Large objects (above 32 KiB) allocated.
    pub large_allocs: u64,
    /// Their bytes.
    pub large_alloc_bytes: u64,
    /// Large objects freed.
    pub large_frees: u64,
    /// Their bytes.
    pub large_free_bytes: u64,
    /// Bytes of spans with objects.
    pub heap_in_use_bytes: u64,
    /// Bytes of free spans that were not given back to the system.
    pub heap_free_bytes: u64,
    /// Bytes of free spans that were given back.
    pub heap_released_bytes: u64,
    /// Bytes of spans with stacks of goroutines.
    pub stacks_bytes: u64,
    /// Bytes of spans with work buffers of the collector.
    pub work_buffers_bytes: u64,
    /// Bytes of spans with unrolled pointer bits; 0 from go1.25 on, which has none.
    pub pointer_bits_bytes: u64,
    /// Bytes that are not of the heap.
    pub system: SystemBytes,
    /// Collections that have ended.
    pub collections: u32,
    /// Those that the program asked for.
    pub forced_collections: u32,
    /// When the last one ended, ns since 1970; 0 before the first.
    pub last_end_unix_ns: u64,
    /// The same, ns of the monotonic clock.
    pub last_end_ns: u64,
    /// Share of the processors' time that the collector has had since the program began.
    pub gc_cpu_fraction: f64,
    /// All pauses together, ns.
    pub pause_total_ns: u64,
    /// The pauses of the last collections, newest first; at most 256.
    pub pauses: Vec<Pause>,
    /// The processors: `GOMAXPROCS`.
    pub processors: u32,
    /// When the next collection begins.
    pub pacer: Part<Pacer>,
    /// What the collector does now.
    pub phase: Part<Phase>,
    /// The heap's own structures.
    pub structures: Part<Structures>,
    /// Threads made and not ended, whether they run or not.
    pub threads: Part<u64>,
    /// Goroutines that have not ended, without those of the runtime: `runtime.NumGoroutine`. Several counts that change
    /// apart from each other: it can be wrong by as many as begin or end while we read.
    pub goroutines: Part<u64>,
}

impl Books {
    /// `MemStats.Mallocs`: objects allocated, tiny ones each; at least. See [`Self::slack`].
    pub fn allocs(&self) -> u64 {
        self.sum(|class| class.allocs).saturating_add(self.large_allocs).saturating_add(self.tiny_allocs)
    }

    /// How many more objects than [`Self::allocs`] there may be: the slacks of all classes and of tiny objects.
    pub fn slack(&self) -> u64 {
        self.sum(|class| class.slack).saturating_add(self.tiny_slack)
    }

    /// `MemStats.Frees`: objects freed. Tiny ones count as freed when they are allocated.
    pub fn frees(&self) -> u64 {
        self.sum(|class| class.frees).saturating_add(self.large_frees).saturating_add(self.tiny_allocs)
    }

    /// `MemStats.TotalAlloc`: bytes allocated, in slots; at least. See [`Self::slack_bytes`].
    pub fn alloc_bytes(&self) -> u64 {
        self.sum(|class| class.allocs.saturating_mul(class.size_bytes)).saturating_add(self.large_alloc_bytes)
    }

    /// How many more bytes than [`Self::alloc_bytes`] there may be. Tiny objects are in their blocks.
    pub fn slack_bytes(&self) -> u64 {
        self.sum(|class| class.slack.saturating_mul(class.size_bytes))
    }

    /// Bytes freed, in slots.
    pub fn free_bytes(&self) -> u64 {
        self.sum(|class| class.frees.saturating_mul(class.size_bytes)).saturating_add(self.large_free_bytes)
    }

    /// `MemStats.HeapAlloc`: bytes of objects that are not swept, dead or alive; at least, as [`Self::alloc_bytes`].
    pub fn heap_alloc_bytes(&self) -> u64 {
        self.alloc_bytes().saturating_sub(self.free_bytes())
    }

    /// `MemStats.HeapObjects`: objects that are not swept.
    pub fn heap_objects(&self) -> u64 {
        self.allocs().saturating_sub(self.frees())
    }

    /// `MemStats.HeapIdle`: bytes of free spans.
    pub fn heap_idle_bytes(&self) -> u64 {
        self.heap_free_bytes.saturating_add(self.heap_released_bytes)
    }

    /// `MemStats.HeapSys`: bytes of spans with objects and of free ones.
    pub fn heap_sys_bytes(&self) -> u64 {
        self.heap_in_use_bytes.saturating_add(self.heap_idle_bytes())
    }

    /// `MemStats.StackSys`: bytes of stacks of goroutines and threads.
    pub fn stack_sys_bytes(&self) -> u64 {
        self.stacks_bytes.saturating_add(self.system.stacks)
    }

    /// `MemStats.GCSys`: bytes of the collector.
    pub fn gc_sys_bytes(&self) -> u64 {
        self.system.collector.saturating_add(self.work_buffers_bytes).saturating_add(self.pointer_bits_bytes)
    }

    /// What the runtime has for itself, neither heap nor stacks: spans, caches, profiles, collector, other.
    pub fn metadata_bytes(&self) -> u64 {
        let SystemBytes { spans, caches, profile_buckets, other, .. } = self.system;
        [spans, caches, profile_buckets, other].into_iter().fold(self.gc_sys_bytes(), u64::saturating_add)
    }

    /// `MemStats.Sys`: all bytes that the runtime has mapped, given back or not.
    pub fn sys_bytes(&self) -> u64 {
        self.heap_sys_bytes().saturating_add(self.stack_sys_bytes()).saturating_add(self.metadata_bytes())
    }

    /// `MemStats.NextGC`: size of the heap at which the next collection is to end.
    ///
    /// # Errors
    /// Where the pacer is not known.
    pub fn next_gc_bytes(&self) -> Part<u64> {
        self.pacer.clone().map(|pacer| pacer.goal_bytes)
    }

    fn sum(&self, of: impl Fn(&ClassCount) -> u64) -> u64 {
        self.classes.iter().map(of).fold(0, u64::saturating_add)
    }
}
