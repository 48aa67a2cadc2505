//! All that the model ever sees of a process, in the order in which it was seen. What is recorded is this and nothing else.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::birth_look::BirthLook;
use super::goroutines::GoroutineTable;
use super::goroutines::hooks::HookLook;
use super::impulses::ImpulseLook;
use super::memory::MemoryStatement;
use super::{Stack, by_number};
use crate::read::Discards;
use crate::read::books::Books;
use crate::read::profile::Bucket;

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Moment {
    /// Nanoseconds since an arbitrary one, on a clock that never steps.
    pub at_ns: u64,
    /// Nanoseconds since 1970, on the clock by which the runtime notes its collections; it may be set while we look.
    pub unix_ns: u64,
}

impl Moment {
    /// Seconds that passed since an earlier one. 0 where that is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        crate::units::approximate(self.at_ns.saturating_sub(earlier.at_ns)) / 1e9
    }
}

/// One look at one part of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// The window begins with the last look at each part.
    Opened,
    /// The runtime's accounts.
    Books(Box<Books>),
    /// The runtime's own heap profile.
    Profile(ProfileLook),
    /// Births that were caught in bursts, and what became of them.
    Births(Arc<BirthLook>),
    /// Jumps of the books, and what bursts caught that were opened for them.
    Impulses(Arc<ImpulseLook>),
    /// Every goroutine.
    Goroutines(Arc<GoroutineTable>),
    /// Goroutines that began and ended, counted by hooks.
    GoroutineHooks(Arc<HookLook>),
    /// What the resident memory consists of.
    Memory(Arc<MemoryStatement>),
    /// What was read and not believed so far.
    Discards(Discards),
}

/// What is new in the heap profile.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileLook {
    /// Mean bytes between two samples; 1 and below: every object is sampled.
    pub rate_bytes: i64,
    /// Collections whose deaths are not all in it yet.
    pub lag_cycles: u32,
    /// Whether we have just turned the sampler on: the counts of this look belong to nobody, only what is behind them counts.
    pub is_baseline: bool,
    /// Stacks that were not there before, numbered on from the last one; with the frames of the runtime.
    pub new_stacks: Vec<Stack>,
    /// Counts that are others than at the look before, by the number of the stack.
    #[serde(with = "by_number")]
    pub changed: Vec<(u32, Bucket)>,
}
