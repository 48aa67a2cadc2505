//! The serializable twins of the model's values, field by field as DESIGN 7.2 names them.
//!
//! Data only. The order of the fields is the order in the document. A field that was not measured is absent. The
//! counterpart that others read is `docs/schema/attach.schema.json`: change both in one commit.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    goroutines::Table,
    memory::Memory,
    series::{Impulse, Series},
};
use crate::model;

/// One document about one process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// `leakline/1`.
    pub schema: &'static str,
    /// Whether this is the last document about this process.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// When the window began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Length of the window.
    pub window_s: f64,
    /// Whose document this is.
    pub process: Process,
    /// What it stands on.
    pub evidence: Evidence,
    /// The process as a whole.
    pub heap: Heap,
    /// How old the profile is that `sites` stand on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Sorted by growth where it is known, else by counted bytes, else by live bytes, descending; `other` last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sites: Option<Vec<Site>>,
    /// Creations and exits, or the table of all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goroutines: Option<GoroutinePart>,
    /// What the resident memory consists of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// How much was allocated in each step of the last part of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
    /// Jumps of the books, and what the windows caught that they opened; the last few.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impulses: Option<Vec<Impulse>>,
    /// What the look cost.
    pub cost: Cost,
    /// What could not be kept, by reason.
    pub loss: BTreeMap<&'static str, u64>,
}

/// Goroutines by the evidence that there is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum GoroutinePart {
    /// What hooks counted in the window.
    Counted(Goroutines),
    /// All that there are at the last look.
    Table(Table),
}

/// The process and its binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "the contract has these four independent facts")]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Path of the executable.
    pub exe: String,
    /// `go1.26.6`.
    pub go_version: String,
    /// The linker's build id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Path of the main module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub main_module: Option<String>,
    /// Whether the process ended before the window did.
    pub ended: bool,
    /// No symbol table.
    pub stripped: bool,
    /// Position independent.
    pub pie: bool,
    /// Links C code.
    pub cgo: bool,
    /// Container id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Pod name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Pod namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Container name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// What was used and what was not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Names of the evidence used.
    pub used: Vec<&'static str>,
    /// What was not done, and why.
    pub refused: Vec<Refused>,
}

/// A reason for not doing something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Stable identifier.
    pub id: String,
    /// A sentence for the operator.
    pub text: String,
}

/// The process as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heap {
    /// Bytes that the last collection found alive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<u64>,
    /// How fast what collections find alive grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked_growth_bytes_per_s: Option<Rate>,
    /// What is said of the process as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// Why that is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Seconds until enough is sampled to name who grows. Absent: somebody is named, nothing grows, or nothing is sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_due_s: Option<f64>,
    /// Size of the heap at which the next collection is to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal_bytes: Option<u64>,
    /// Bytes allocated per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alloc_bytes_per_s: Option<Rate>,
    /// Objects allocated per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alloc_objects_per_s: Option<Rate>,
    /// What was counted in the window: by hooks, where it is the sum over `sites`, else by the runtime's own books.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// Collections that ended in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_cycles: Option<u64>,
    /// The longest pause of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_pause_max_s: Option<f64>,
    /// The limit that memory will reach first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Whose it is: `cgroup`, `gomemlimit`, `host`, `none`. Absent: not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_source: Option<&'static str>,
    /// Until it is reached, if it goes on like this. Absent: what is alive does not grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_limit: Option<Rate>,
    /// Slots in use, by size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub size_classes: Vec<SizeClass>,
}

/// The slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SizeClass {
    /// Bytes of a slot; absent: objects above the largest class, which have a span each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Slots in use: alive, or garbage not yet swept.
    pub live_objects: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// How fast what collections find alive of them grows. Absent: not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_s: Option<Rate>,
    /// What is said of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
}

/// What the runtime's own heap profile is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// We turned the sampler on: only what was allocated in these seconds is known. Absent: it was on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted_s: Option<f64>,
    /// Mean bytes between two samples.
    pub rate_bytes: i64,
    /// Collections whose deaths are not all in it yet.
    pub lag_cycles: u32,
    /// Since the end of the collection that it is complete up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_s: Option<f64>,
}

/// A rate with its 95 % interval, per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// The estimate.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound; absent when open upwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
}

/// What was really seen in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Objects.
    pub objects: u64,
    /// Slot bytes (requested bytes for tiny objects).
    pub bytes: u64,
}

impl From<model::Counted> for Counted {
    fn from(counted: model::Counted) -> Self {
        Self { objects: counted.objects, bytes: counted.bytes }
    }
}

/// An allocation place, or `other`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// 16 hex digits, or `other`.
    pub site: String,
    /// The function a person would change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The frame below the runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocator: Option<Allocator>,
    /// What is said of its growth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// Why that is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it looks like, where it grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
    /// Whether it allocates for a pool: then another line may be the one that keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_pool: Option<bool>,
    /// How fast what it holds grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_s: Option<Rate>,
    /// Bytes allocated per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alloc_bytes_per_s: Option<Rate>,
    /// Objects allocated per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alloc_objects_per_s: Option<Rate>,
    /// The part of what it allocates that stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub survival: Option<Rate>,
    /// Counted in the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// Bytes in use, estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<Rate>,
    /// Objects in use, estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_objects: Option<u64>,
    /// Sampled objects that the estimates stand on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<u64>,
    /// What the numbers stand on.
    pub evidence: String,
    /// Sorted by share, descending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Path>,
}

impl Site {
    /// What belongs to no site that is told, of which nothing is known yet.
    pub(super) fn other(evidence: String) -> Self {
        Self {
            site: super::OTHER.into(),
            function: None,
            file: None,
            line: None,
            allocator: None,
            verdict: None,
            why: None,
            hint: None,
            behind_pool: None,
            growth_bytes_per_s: None,
            alloc_bytes_per_s: None,
            alloc_objects_per_s: None,
            survival: None,
            counted: None,
            live_bytes: None,
            live_objects: None,
            samples: None,
            evidence,
            paths: Vec::new(),
        }
    }
}

/// What something looks like. It is advice: the shape is seen, its cause is guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hint {
    /// Stable identifier.
    pub id: &'static str,
    /// A sentence.
    pub text: &'static str,
    /// Where more is said.
    pub link: &'static str,
}

impl From<model::hints::Hint> for Hint {
    fn from(hint: model::hints::Hint) -> Self {
        Self { id: hint.id(), text: hint.sentence(), link: hint.link() }
    }
}

/// The frame that allocates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Allocator {
    /// Function.
    pub function: String,
    /// File.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// One full stack that leads to a site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Path {
    /// Part of the site's counted bytes, else of its live ones.
    pub share: f64,
    /// Counted on this path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<Counted>,
    /// Leaf first.
    pub frames: Vec<Frame>,
}

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Function.
    pub function: String,
    /// File.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Inlined into the frame that follows.
    pub inlined: bool,
    /// Whose code it is, where that is not Go's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<&'static str>,
}

/// Goroutines as a whole and by creating line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goroutines {
    /// Creations in the window.
    pub created: u64,
    /// Exits in the window.
    pub exited: u64,
    /// Creations less exits, per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_per_s: Option<Rate>,
    /// Of `created`: the runtime's own, which belong to no site.
    pub system_created: u64,
    /// Of `exited`: the runtime's own, which belong to no site.
    pub system_exited: u64,
    /// Sorted by creations, descending; `other` last.
    pub sites: Vec<GoroutineSite>,
}

/// A place where goroutines are created, or `other`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoroutineSite {
    /// 16 hex digits, or `other`.
    pub site: String,
    /// The function that contains the `go` statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Creations in the window.
    pub created: u64,
    /// Exits in the window, of goroutines created here at any time.
    pub exited: u64,
    /// Creations per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_per_s: Option<Rate>,
    /// Creations less exits, per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_per_s: Option<Rate>,
    /// Leaf first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub creation_stack: Vec<Frame>,
}

/// What the look cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// The share of the target's CPU time that we may cost it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_ratio: Option<f64>,
    /// CPU time added to the target / CPU time of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_ratio: Option<f64>,
    /// Our own CPU time / wall time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_cpu_ratio: Option<f64>,
    /// Our own resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_rss_bytes: Option<u64>,
    /// How often a probe fired.
    pub probe_hits: u64,
    /// Windows in which allocations were hooked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bursts: Option<u64>,
    /// How long they were open in all, seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bursts_open_s: Option<f64>,
}
