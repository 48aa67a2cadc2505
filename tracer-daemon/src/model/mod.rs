//! What does it mean?
//!
//! Pure: inputs are values with times given, outputs are plain data. Reads no clock, does no IO, spawns nothing.

mod exact;
pub mod goroutines;
mod site;
mod snapshot;

pub use exact::{ExactInput, Stack, summarize};
pub use snapshot::{
    Counted, Evidence, GoroutineSite, LossCount, Path, Rate, SharedSnapshot, Site, SiteId, Snapshot, Totals, Turnover,
};
