//! What does it mean?
//!
//! Pure: inputs are values with times given, outputs are plain data. Reads no clock, does no IO, spawns nothing.

pub mod assess;
pub mod attribution;
pub mod birth_evidence;
mod birth_history;
pub mod birth_look;
pub mod births;
mod by_number;
pub mod compare;
mod even;
mod exact;
pub mod forecast;
pub mod gate;
pub mod goroutines;
mod heap;
pub mod hints;
pub mod impulses;
pub mod judged;
mod limit;
pub mod live;
pub mod marked;
pub mod memory;
pub mod observation;
pub mod preferences;
pub mod process;
pub mod profile;
pub mod profile_change;
mod profile_history;
pub mod reason;
mod samples;
pub mod series;
#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of a simulation: positive, and far below 2^53"
)]
mod simulation;
mod site;
pub mod slope;
mod snapshot;
pub mod survival;
pub mod tracked;
pub mod verdict;

pub use exact::{ExactInput, Stack, summarize};
pub use heap::{ClassAccount, Heap, HeapLook, account};
pub use limit::{Limit, LimitSource};
pub use snapshot::{
    BirthSite, Births, Counted, Evidence, ExactCounts, GoroutineSite, LossCount, Path, Profile, Rate, SharedSnapshot,
    Site, SiteId, Snapshot, Totals, Turnover,
};
