//! What does it mean?
//!
//! Pure: inputs are values with times given, outputs are plain data. Reads no clock, does no IO, spawns nothing.

mod exact;
pub mod goroutines;
mod heap;
mod limit;
pub mod live;
pub mod memory;
pub mod profile;
pub mod profile_change;
mod site;
mod snapshot;

pub use exact::{ExactInput, Stack, summarize};
pub use heap::{ClassAccount, Heap, HeapLook, account};
pub use limit::{Limit, LimitSource};
pub use snapshot::{
    Counted, Evidence, ExactCounts, GoroutineSite, LossCount, Path, Profile, Rate, SharedSnapshot, Site, SiteId,
    Snapshot, Totals, Turnover,
};
