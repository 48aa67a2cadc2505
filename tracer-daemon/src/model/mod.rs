//! What does it mean?
//!
//! Pure: inputs are values with times given, outputs are plain data. Reads no clock, does no IO, spawns nothing.

pub mod attribution;
mod exact;
pub mod forecast;
mod heap;
pub mod marked;
mod site;
pub mod slope;
mod snapshot;
pub mod survival;
pub mod verdict;

pub use exact::{ExactInput, Stack, summarize};
pub use heap::{ClassAccount, Heap, HeapLook, account};
pub use snapshot::{
    Counted, Evidence, ExactCounts, GoroutineSite, LossCount, Path, Rate, SharedSnapshot, Site, SiteId, Snapshot,
    Totals, Turnover,
};
