//! The stages joined: the only place that spawns threads and tasks, makes queues, and reads the clock.
//!
//! [`attach`] follows one target for a while, [`check`] one that it starts itself; [`run`] follows many until it is told to stop and serves
//! their metrics. Each drives a [`Session`] for each target. [`record`] is `attach` that also writes what it saw to a file, of which
//! [`replay`] makes the same reports again. [`snapshot`] writes a heap profile once, [`diff`] compares two, [`restore`] undoes what a
//! killed leakline has left.

pub mod attach;
mod books_session;
mod bursts;
pub mod check;
pub mod diff;
mod error;
mod exact_session;
mod follow;
pub mod goroutines;
pub mod inventory;
mod killswitch;
mod looks;
pub mod memory;
mod own;
mod pprof_file;
pub mod record;
pub mod replay;
pub mod restore;
pub mod run;
mod session;
pub mod snapshot;
pub mod stdout;
mod subject;

pub use bursts::Bursts;
pub use error::StartError;
pub use killswitch::{KILLSWITCH, Killswitch};
pub use session::{Means, Session};
pub use subject::Subject;

/// The exit status that an error stands for (DESIGN 7.1).
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let start = error.downcast_ref::<StartError>().map(StartError::exit_code);
    start.or_else(|| error.downcast_ref::<check::CheckError>().map(check::CheckError::exit_code)).unwrap_or(1)
}
