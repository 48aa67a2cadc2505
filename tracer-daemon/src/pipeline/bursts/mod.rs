//! Bursts: windows in which allocations are hooked, at random times and within a budget, and the objects that they catch.
//!
//! Three parties, none of which waits for another: the *scheduler* ([`BurstHost`], one thread for all targets) opens windows when the
//! governor says so; for each target a *tracker* (a thread) follows the objects that were caught; a *session* takes what the
//! tracker knows for its model and leaves on the *desk* what the books say.

mod desk;
mod scheduler;
mod target;
mod tracker;

pub(super) use self::desk::{BookRates, Desk, Shown};
pub use self::scheduler::BurstHost;
pub(super) use self::scheduler::Place;
pub(super) use self::target::BurstTarget;
pub(super) use self::tracker::Tracker;
