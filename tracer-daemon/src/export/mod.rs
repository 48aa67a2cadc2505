//! How is it shown?
//!
//! Last stage: turns what the model says into JSON (`leakline/1`), the text that a person reads, metrics, and the HTTP
//! pages that serve them. Owns every format and all escaping of untrusted names; refuses to judge: a number that is not
//! in the snapshot is absent here, never 0. Reads no clock, no environment and no target memory, and serves none.

pub mod baseline;
pub mod check;
pub mod diff;
pub mod doctor;
#[cfg(test)]
pub(crate) mod fixture;
pub mod growth_words;
pub mod heap_profile;
pub mod http;
pub mod human;
pub mod inventory;
pub mod json;
pub mod leak_profile;
mod memory_words;
pub mod metrics;
pub mod plan;
pub mod pprof;
mod rates;
mod report;
pub mod text;
pub mod untrusted;

pub use report::{CostFacts, GoroutineReport, ProcessFacts, Refusal, Report};
