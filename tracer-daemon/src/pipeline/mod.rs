//! The stages joined: the only place that spawns threads and tasks, makes queues, and reads the clock.
//!
//! [`attach`] follows one target for a while; [`run`] follows many until it is told to stop and serves their metrics.
//! Both drive a [`Session`] for each target.

pub mod attach;
mod error;
mod follow;
pub mod goroutines;
pub mod inventory;
mod own;
pub mod run;
mod session;
pub mod stdout;
mod subject;

pub use error::StartError;
pub use session::Session;
pub use subject::Subject;

/// The exit status that an error stands for (DESIGN 7.1).
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<StartError>().map_or(1, StartError::exit_code)
}
