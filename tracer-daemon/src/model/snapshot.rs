//! What the model says at one moment about one process. Plain data, times given, not serializable: `export` has the
//! serializable twins.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::assess::Assessment;
use super::birth_look::BirthCounts;
use super::forecast::Forecast;
use super::goroutines::GoroutineTable;
use super::goroutines::growth::GoroutinesGrowth;
use super::goroutines::hooks::HookedGoroutines;
use super::hints::Hint;
use super::impulses::Impulses;
use super::live::{LivePath, LiveSite};
use super::memory::MemoryStatement;
use super::memory::growth::MemoryGrowthReport;
use super::series::Series;
use super::{Heap, Limit};
use crate::read::Discards;
use crate::symbolize::Frame;

/// Stable identity of a site over restarts and rebuilds of the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteId(pub u64);

impl fmt::Display for SiteId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// The kinds of evidence, from cheapest to dearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Evidence {
    /// The runtime's statistics, read from the target's memory.
    Books,
    /// Every goroutine, read from the target's memory.
    GoroutineTable,
    /// Hooks on the creation and the exit of every goroutine. They say nothing of the heap: who has a profile, too, has more.
    GoroutineHooks,
    /// The runtime's own heap profile, read from the target's memory.
    Profile,
    /// The same, where we turned the sampler on.
    Adopted,
    /// Hooks on allocations during short windows at random times.
    Bursts,
    /// The collector's marks of the objects that these caught, read from the target's memory.
    Marks,
    /// Hooks on every allocation and on goroutine creation and exit.
    Exact,
}

impl Evidence {
    /// All that this version knows.
    pub const ALL: [Self; 8] = [
        Self::Books,
        Self::GoroutineTable,
        Self::GoroutineHooks,
        Self::Profile,
        Self::Adopted,
        Self::Bursts,
        Self::Marks,
        Self::Exact,
    ];

    /// The name in JSON, metrics and text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Books => "books",
            Self::GoroutineTable => "goroutine-table",
            Self::Profile => "profile",
            Self::Adopted => "adopted",
            Self::Bursts => "bursts",
            Self::Marks => "marks",
            Self::GoroutineHooks => "goroutine-hooks",
            Self::Exact => "exact",
        }
    }
}

/// A rate with its 95 % interval, per second.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// The estimate.
    pub value: f64,
    /// Lower bound.
    pub low: f64,
    /// Upper bound; None means open upwards.
    pub high: Option<f64>,
}

impl Rate {
    /// A rate that was counted in full, so that its interval is a point.
    pub const fn counted(value: f64) -> Self {
        Self { value, low: value, high: Some(value) }
    }
}

/// What was really seen in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counted {
    /// Objects allocated.
    pub objects: u64,
    /// Their slot bytes (requested bytes for tiny objects).
    pub bytes: u64,
}

/// One full stack that leads to a site.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// This path's part of the site's counted bytes, 0 to 1.
    pub share: f64,
    /// What was counted on this path.
    pub counted: Counted,
    /// Leaf first, runtime frames trimmed, inlined frames included.
    pub frames: Vec<Frame>,
}

/// An allocation place.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Stable identity.
    pub id: SiteId,
    /// The line a person would change.
    pub place: Frame,
    /// The frame below the runtime, which allocates.
    pub allocator: Frame,
    /// Counted in the window.
    pub counted: Counted,
    /// Objects per second over the window.
    pub alloc_objects_per_s: Rate,
    /// Bytes per second over the window.
    pub alloc_bytes_per_s: Rate,
    /// Sorted by share, descending.
    pub paths: Vec<Path>,
}

/// A place where goroutines are created.
#[derive(Clone, Debug, PartialEq)]
pub struct GoroutineSite {
    /// Stable identity.
    pub id: SiteId,
    /// The frame that contains the `go` statement, by the main-module rule over the creation stack.
    pub place: Frame,
    /// Seen in the window; exits also of goroutines that were created before it.
    pub counted: Turnover,
    /// Creations per second over the window.
    pub created_per_s: Rate,
    /// The creation stack that was seen most, leaf first, runtime frames trimmed; one frame where only the creating
    /// line is known.
    pub creation_stack: Vec<Frame>,
}

/// Goroutines that came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Turnover {
    /// Creations seen in the window.
    pub created: u64,
    /// Exits seen in the window.
    pub exited: u64,
}

/// Exact totals over the window, right whatever was lost on the way to the sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Totals {
    /// All allocations.
    pub allocated: Counted,
    /// All goroutines.
    pub goroutines: Turnover,
    /// How often a probe fired.
    pub probe_hits: u64,
}

/// One reason for which something was not kept, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossCount {
    /// Why.
    pub reason: tracer_common::loss::Loss,
    /// How often.
    pub count: u64,
}

/// What the model says about one process. A part that was not measured is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Length of the window, seconds.
    pub window_s: f64,
    /// The evidence that was used, from cheapest to dearest.
    pub evidence: Vec<Evidence>,
    /// The runtime's own accounts.
    pub heap: Option<Heap>,
    /// How much was allocated in each step of time: by hooks, where they count all, else by the books.
    pub series: Option<Arc<Series>>,
    /// What is alive by the runtime's own profile.
    pub profile: Option<Profile>,
    /// What bursts caught and what became of it. `None`: there were none.
    pub births: Option<Arc<Births>>,
    /// Jumps of the books, and what the bursts caught that they opened. `None`: nobody looked for them.
    pub impulses: Option<Arc<Impulses>>,
    /// What became of all births that were told so far. `None`: nobody was asked for any.
    pub birth_counts: Option<BirthCounts>,
    /// What grows, and who is named for it. `None`: the books could not be read.
    pub assessment: Option<Arc<Assessment>>,
    /// When memory runs out. `None`: what is alive does not grow, or the limit is not known.
    pub forecast: Option<Forecast>,
    /// Every goroutine, by what it waits for.
    pub goroutines: Option<Arc<GoroutineTable>>,
    /// Who started goroutines and how many ended, counted by hooks. `None`: no hook has counted.
    pub goroutine_hooks: Option<Arc<HookedGoroutines>>,
    /// Which places start goroutines that stay.
    pub goroutine_growth: Option<Arc<GoroutinesGrowth>>,
    /// How the resident memory grows.
    pub memory_growth: Option<Arc<MemoryGrowthReport>>,
    /// What the resident memory consists of.
    pub memory: Option<Arc<MemoryStatement>>,
    /// The limit that its memory will reach first. `None`: there is none, or it is not known.
    pub limit: Option<Limit>,
    /// What was read from the target and not believed.
    pub discards: Discards,
    /// What hooks on every allocation counted.
    pub exact: Option<ExactCounts>,
}

/// What the runtime's own heap profile says.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Whether we turned the sampler on, so that only what was allocated since is known: for so many seconds. `None`: it was on.
    pub adopted_s: Option<f64>,
    /// Mean bytes between two samples.
    pub rate_bytes: i64,
    /// Collections whose deaths are not all in it yet: the profile is as old as they are.
    pub lag_cycles: u32,
    /// Seconds since the end of the collection that it is complete up to. `None`: none has ended, or it is not known.
    pub lag_s: Option<f64>,
    /// Most bytes first.
    pub sites: Arc<[LiveSite]>,
}

impl Profile {
    /// What it stands on.
    pub fn evidence(&self) -> Evidence {
        if self.adopted_s.is_some() { Evidence::Adopted } else { Evidence::Profile }
    }
}

/// What bursts caught and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Births {
    /// The time that the bursts stand for, seconds.
    pub window_s: f64,
    /// Bursts in it.
    pub bursts: u32,
    /// What happened to all births that were caught so far.
    pub counts: BirthCounts,
    /// What all that allocates has in that time, bytes per second: those without a name and those of whom nothing was caught included.
    pub all_bytes_per_s: f64,
    /// Most bytes allocated first.
    pub sites: Arc<[BirthSite]>,
}

/// An allocation place by births that were caught.
#[derive(Clone, Debug, PartialEq)]
pub struct BirthSite {
    /// Stable identity.
    pub id: SiteId,
    /// The line a person would change.
    pub place: Frame,
    /// The frame below the runtime, which allocates.
    pub allocator: Frame,
    /// Objects that were caught.
    pub caught: u64,
    /// Of those, the effective number that is known to stay so far.
    pub stayed: f64,
    /// Bytes per second. `None`: bursts are too few to say how sure it is.
    pub alloc_bytes_per_s: Option<Rate>,
    /// Objects per second. `None`: the same, or some may be tiny, of which several share a slot.
    pub alloc_objects_per_s: Option<Rate>,
    /// The part of the bytes that stays; `None`: not known yet.
    pub survival: Option<Rate>,
    /// Whether it is known what stays: else it is the part that has stayed so far.
    pub is_settled: bool,
    /// What the stack with most growth looks like.
    pub hint: Option<Hint>,
    /// Whether that stack goes through a pool.
    pub is_behind_pool: bool,
    /// Most growth first; where nothing stays, most bytes.
    pub paths: Vec<LivePath>,
}

impl From<ExactCounts> for Snapshot {
    fn from(mut exact: ExactCounts) -> Self {
        let series = exact.series.take();
        Self {
            window_s: exact.window_s,
            evidence: vec![Evidence::Exact],
            series,
            exact: Some(exact),
            ..Self::default()
        }
    }
}

/// What hooks on every allocation and goroutine counted.
#[derive(Clone, Debug, PartialEq)]
pub struct ExactCounts {
    /// How long hits counted, seconds.
    pub window_s: f64,
    /// Sorted by counted bytes, descending.
    pub sites: Vec<Site>,
    /// What was counted but belongs to no site: stacks that did not fit. Part of the totals.
    pub other: Counted,
    /// Sorted by creations, descending.
    pub goroutine_sites: Vec<GoroutineSite>,
    /// Goroutines that belong to no site because their stacks did not fit. Part of the totals.
    pub other_goroutines: Turnover,
    /// The runtime's own goroutines, which belong to no site. Part of the totals.
    pub system_goroutines: Turnover,
    /// Exits that are known by the creating line alone, in whichever site that line makes: of goroutines created before
    /// the window, or (with [`Loss::LiveGoroutinesFull`](tracer_common::loss::Loss)) perhaps of any site's.
    pub exits_by_line_alone: u64,
    /// Exact totals.
    pub totals: Totals,
    /// Every reason, zeros included.
    pub losses: Vec<LossCount>,
    /// How much was allocated in each millisecond. A [`Snapshot`] has it in its own place.
    pub series: Option<Arc<Series>>,
}

impl ExactCounts {
    /// How many exits may belong to another place than the one they are counted at, or to none: what a place must have
    /// grown beyond, to be said to grow.
    pub fn uncertain_exits(&self) -> u64 {
        let is_full = |loss: &LossCount| loss.reason == tracer_common::loss::Loss::LiveGoroutinesFull && loss.count > 0;
        let misplaced = if self.losses.iter().any(is_full) { self.exits_by_line_alone } else { 0 };
        self.other_goroutines.exited.saturating_add(misplaced)
    }
}

/// A shared snapshot, as exporters hold it.
pub type SharedSnapshot = Arc<Snapshot>;
