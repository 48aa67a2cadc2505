//! The memory statement: what the resident memory of a process consists of.
//!
//! Each line is of pages that are in memory, so that the lines and what is left sum to the resident memory:
//! - `live_heap`: objects that the last collection marked. Of large objects each is known; of small ones the number of bytes is,
//!   and where a part of their pages was never touched, it is taken to be as large a part of the marked ones.
//! - `garbage`: all other allocated slots: what died and is not swept, and what was allocated since, of which only the next
//!   collection will tell what lives.
//! - `fragmentation`: the rest of spans of small objects.
//! - `idle`: pages of the heap that hold nothing.
//! - `stacks`: of goroutines, and of the first thread.
//! - `runtime_metadata`: the runtime's own structures.
//! - `file`: the executable with its variables, libraries, mapped files, memory shared between processes.
//! - `native`: all other anonymous memory: malloc of C, mappings that the program made.

mod advice;
mod diagnosis;
pub mod growth;
#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use self::advice::{Advice, Room};
pub use self::diagnosis::Diagnosis;

use super::Rate;
use crate::read::books::Books;
use crate::read::residency::{HeapResidency, Part, Residency};
use crate::read::system::cgroup::Cgroup;
use crate::read::system::status::{Host, Resident};
use crate::units::approximate;

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Objects that the last collection found in use.
    LiveHeap,
    /// Other objects.
    Garbage,
    /// Room between objects.
    Fragmentation,
    /// Pages of the heap without objects.
    Idle,
    /// Stacks.
    Stacks,
    /// The runtime's own structures.
    RuntimeMetadata,
    /// Pages of files.
    File,
    /// Memory that Go's runtime knows nothing of.
    Native,
}

impl Component {
    /// Its name in documents and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LiveHeap => "live_heap",
            Self::Garbage => "garbage",
            Self::Fragmentation => "fragmentation",
            Self::Idle => "idle",
            Self::Stacks => "stacks",
            Self::RuntimeMetadata => "runtime_metadata",
            Self::File => "file",
            Self::Native => "native",
        }
    }
}

/// One line of the statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What for.
    pub component: Component,
    /// Resident bytes.
    pub bytes: u64,
    /// How fast it grows; None: looked at once.
    pub growth_bytes_per_s: Option<Rate>,
    /// What the number stands on.
    pub source: Cow<'static, str>,
    /// The largest contributors; need not be all.
    pub parts: Vec<Part>,
}

/// The heap in addresses, as the runtime counts it, not in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeapNumbers {
    /// `HeapSys`: all that was ever taken for it.
    pub sys_bytes: u64,
    /// `HeapInuse`: spans with objects.
    pub in_use_bytes: u64,
    /// `HeapIdle`: spans without.
    pub idle_bytes: u64,
    /// `HeapReleased`: of them, given back.
    pub released_bytes: u64,
    /// `HeapAlloc`: slots that are taken.
    pub allocated_bytes: u64,
    /// `StackInuse`.
    pub stacks_bytes: u64,
    /// What the runtime has for itself, neither heap nor stacks.
    pub system_bytes: u64,
    /// Collections so far.
    pub collections: u32,
    /// What decides about collections. None: not known.
    pub pacer: Option<PacerNumbers>,
}

/// What decides about collections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PacerNumbers {
    /// Marked by the last collection.
    pub marked_bytes: u64,
    /// Where the next one is to end, by GOGC and GOMEMLIMIT; beyond any memory where neither is set.
    pub goal_bytes: u64,
    /// The same by GOGC alone. None: it is off.
    pub percent_goal_bytes: Option<u64>,
    /// GOGC, percent. None: off.
    pub gc_percent: Option<u32>,
    /// GOMEMLIMIT. None: none.
    pub memory_limit_bytes: Option<u64>,
    /// What GOMEMLIMIT limits: all that the runtime has and has not given back.
    pub held_bytes: u64,
    /// Allocated since the last one, by the runtime's own estimate (`heapLive` less `heapMarked`).
    pub allocated_since_bytes: u64,
    /// Since the last one ended, nanoseconds. None: there was none, or clocks disagree.
    pub since_collection_ns: Option<u64>,
}

impl PacerNumbers {
    /// Bytes allocated for each second since the last collection. None: too little time has passed, or nothing is known.
    pub fn alloc_bytes_per_s(&self) -> Option<f64> {
        let since = self.since_collection_ns.filter(|since| *since >= 10_000_000)?;
        Some(approximate(self.allocated_since_bytes) / (approximate(since) / 1e9))
    }
}

/// What makes the resident memory mislead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Misleading {
    /// In swap: in use, not in the resident memory.
    pub swap_bytes: u64,
    /// Of the heap: given back, and in memory until the kernel needs it.
    pub lazy_free_bytes: u64,
    /// Of the heap: in huge pages.
    pub huge_bytes: u64,
    /// Of the heap: allocated, and never touched since.
    pub untouched_bytes: u64,
    /// Of native memory: in huge pages.
    pub native_huge_bytes: u64,
}

/// All that is known of a process's memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryStatement {
    /// Resident memory.
    pub rss_bytes: u64,
    /// In the order of [`Component`]; what could not be measured is not there.
    pub lines: Vec<Line>,
    /// What no line explains: `rss_bytes` less all lines. Negative where lines overlap, or where memory changed while we looked.
    pub unexplained_bytes: i128,
    /// The heap as the runtime counts it. None: not readable.
    pub heap: Option<HeapNumbers>,
    /// What the resident memory does not say. None: the mappings could not be read.
    pub misleading: Option<Misleading>,
    /// Limits and use of its group. None: not known.
    pub cgroup: Option<Cgroup>,
    /// The host. None: not known.
    pub host: Option<Host>,
    /// What is noteworthy, the largest first.
    pub diagnoses: Vec<Diagnosis>,
    /// What to set.
    pub advice: Vec<Advice>,
}

impl MemoryStatement {
    /// A line's bytes. None: not measured.
    pub fn bytes(&self, component: Component) -> Option<u64> {
        self.lines.iter().find(|line| line.component == component).map(|line| line.bytes)
    }
}

/// What was read. None: it could not be.
#[derive(Clone, Copy, Debug)]
pub struct MemoryInput<'a> {
    /// Pages by owner.
    pub residency: Option<&'a Residency>,
    /// What the kernel counts on the way.
    pub resident: Option<&'a Resident>,
    /// The runtime's accounts.
    pub books: Option<&'a Books>,
    /// The group.
    pub cgroup: Option<&'a Cgroup>,
    /// The host.
    pub host: Option<Host>,
    /// Whether the binary links C code.
    pub cgo: bool,
    /// When it was read, ns since 1970.
    pub now_unix_ns: u64,
}

/// The statement. None: not even the size of the resident memory is known.
pub fn memory(input: MemoryInput<'_>) -> Option<MemoryStatement> {
    let rss_bytes = input.residency.map(|residency| residency.rss_bytes);
    let rss_bytes = rss_bytes.or_else(|| input.resident.map(|resident| resident.rss_bytes))?;
    let heap = input.books.map(|books| heap_numbers(books, input.now_unix_ns));
    let mut lines = match (input.residency, input.residency.and_then(|residency| residency.heap)) {
        (Some(residency), Some(arenas)) => by_pages(residency, &arenas, heap.as_ref()),
        (Some(residency), None) => by_books(heap.as_ref(), residency),
        (None, _) => by_books(heap.as_ref(), &of_status(input.resident)),
    };
    lines.sort_by_key(|line| line.component);
    let explained: i128 = lines.iter().map(|line| i128::from(line.bytes)).sum();
    let misleading = input.residency.map(|residency| {
        let arenas = residency.heap.unwrap_or_default();
        let tally = arenas.tally;
        let touched = tally.small_resident_bytes + tally.large_marked_resident_bytes + tally.large_other_resident_bytes;
        let allocated = tally.small_bytes + tally.large_marked_bytes + tally.large_other_bytes;
        Misleading {
            swap_bytes: residency.swap_bytes,
            lazy_free_bytes: arenas.lazy_free_bytes,
            huge_bytes: arenas.huge_bytes,
            native_huge_bytes: residency.native_huge_bytes,
            untouched_bytes: allocated.saturating_sub(touched).saturating_sub(arenas.swap_bytes),
        }
    });
    let mut statement = MemoryStatement {
        rss_bytes,
        lines,
        unexplained_bytes: i128::from(rss_bytes) - explained,
        heap,
        misleading,
        cgroup: input.cgroup.cloned(),
        host: input.host,
        diagnoses: Vec::new(),
        advice: Vec::new(),
    };
    statement.diagnoses = diagnosis::of(&statement, input.cgo);
    statement.advice = advice::of(&statement);
    Some(statement)
}

fn heap_numbers(books: &Books, now_unix_ns: u64) -> HeapNumbers {
    let pacer = books.pacer.as_ref().ok();
    HeapNumbers {
        sys_bytes: books.heap_sys_bytes(),
        in_use_bytes: books.heap_in_use_bytes,
        idle_bytes: books.heap_idle_bytes(),
        released_bytes: books.heap_released_bytes,
        allocated_bytes: books.heap_alloc_bytes(),
        stacks_bytes: books.stacks_bytes,
        system_bytes: books.metadata_bytes(),
        collections: books.collections,
        pacer: pacer.map(|pacer| PacerNumbers {
            marked_bytes: pacer.heap_marked_bytes,
            goal_bytes: pacer.goal_bytes,
            percent_goal_bytes: pacer.percent_goal_bytes,
            gc_percent: pacer.gc_percent,
            memory_limit_bytes: pacer.memory_limit_bytes,
            held_bytes: pacer.mapped_ready_bytes,
            allocated_since_bytes: pacer.heap_live_bytes.saturating_sub(pacer.heap_marked_bytes),
            since_collection_ns: (books.last_end_unix_ns > 0)
                .then(|| now_unix_ns.checked_sub(books.last_end_unix_ns))
                .flatten(),
        }),
    }
}

fn line(component: Component, bytes: u64, source: &'static str) -> Line {
    Line { component, bytes, growth_bytes_per_s: None, source: source.into(), parts: Vec::new() }
}

/// A part of a whole, where the whole has another size now.
fn share_of(bytes: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    let share = u128::from(bytes) * u128::from(part.min(whole)) / u128::from(whole);
    u64::try_from(share).unwrap_or(bytes)
}

/// Every page of the heap is known.
fn by_pages(residency: &Residency, arenas: &HeapResidency, heap: Option<&HeapNumbers>) -> Vec<Line> {
    let tally = &arenas.tally;
    let objects = tally.small_resident_bytes + tally.large_marked_resident_bytes + tally.large_other_resident_bytes;
    let mut lines = match heap.and_then(|heap| heap.pacer) {
        Some(pacer) => {
            let small_marked = pacer.marked_bytes.saturating_sub(tally.large_marked_bytes);
            let small_live = share_of(tally.small_resident_bytes, small_marked, tally.small_bytes);
            let live = tally.large_marked_resident_bytes + small_live;
            vec![
                line(Component::LiveHeap, live, "books+pages"),
                line(Component::Garbage, objects - live, "books+pages"),
            ]
        }
        // Which of them live is not known.
        None => vec![line(Component::LiveHeap, objects, "pages")],
    };
    let stacks = tally.stacks_resident_bytes + residency.first_stack_bytes;
    let metadata = tally.collector_resident_bytes + residency.runtime_bytes.unwrap_or_default();
    lines.extend([
        line(Component::Fragmentation, tally.gaps_resident_bytes, "pages"),
        line(Component::Idle, tally.free_resident_bytes, "pages"),
        line(Component::Stacks, stacks, "pages"),
        line(Component::RuntimeMetadata, metadata, "pages"),
        Line { parts: residency.file.parts.clone(), ..line(Component::File, residency.file.bytes, "smaps") },
        Line { parts: residency.native.parts.clone(), ..line(Component::Native, residency.native.bytes, "smaps") },
    ]);
    lines
}

/// The heap is known by its addresses only, of which some may not be in memory.
fn by_books(heap: Option<&HeapNumbers>, residency: &Residency) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(heap) = heap {
        let marked = heap.pacer.map_or(heap.allocated_bytes, |pacer| pacer.marked_bytes.min(heap.allocated_bytes));
        lines.push(line(Component::LiveHeap, marked, "books"));
        if heap.pacer.is_some() {
            lines.push(line(Component::Garbage, heap.allocated_bytes - marked, "books"));
        }
        lines.extend([
            line(Component::Fragmentation, heap.in_use_bytes.saturating_sub(heap.allocated_bytes), "books"),
            line(Component::Idle, heap.idle_bytes.saturating_sub(heap.released_bytes), "books"),
            line(Component::Stacks, heap.stacks_bytes + residency.first_stack_bytes, "books"),
        ]);
    }
    let file = &residency.file;
    if file.bytes > 0 {
        let source = if file.parts.is_empty() { "status" } else { "smaps" };
        lines.push(Line { parts: file.parts.clone(), ..line(Component::File, file.bytes, source) });
    }
    let native = &residency.native;
    if native.bytes > 0 {
        lines.push(Line { parts: native.parts.clone(), ..line(Component::Native, native.bytes, "smaps") });
    }
    lines
}

/// Where the mappings are not known: what the kernel counts.
fn of_status(resident: Option<&Resident>) -> Residency {
    let resident = resident.copied().unwrap_or_default();
    let mut residency = Residency { rss_bytes: resident.rss_bytes, ..Residency::default() };
    residency.file.bytes = resident.file_bytes.unwrap_or_default() + resident.shared_bytes.unwrap_or_default();
    residency
}
