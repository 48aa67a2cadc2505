//! Bursts: windows in which allocations are hooked, at random times and within a budget, and the objects that they catch.
//!
//! Three parties, none of which waits for another: the *scheduler* (one thread for all targets) opens windows when the
//! governor says so; for each target a *tracker* (a thread) follows the objects that were caught; a *session* takes what the
//! tracker knows for its model and leaves on the *desk* what the books say.

mod desk;
mod large;
mod scheduler;
mod staying;
mod target;
mod tracker;

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

pub(super) use self::desk::{BookRates, Desk};
pub(super) use self::scheduler::{BurstHost, Place};
pub(super) use self::target::BurstTarget;
pub(super) use self::tracker::Tracker;
use crate::{
    attach::{
        Holders, MultiSupport, TrapCosts,
        governor::{Config, Costs},
    },
    export::Refusal,
};

/// Bursts on this host: begun when the first target asks for them.
#[derive(Debug)]
pub struct Bursts {
    max_overhead: f64,
    /// The program that holds windows; `None`: the one that runs.
    holder: Option<PathBuf>,
    host: OnceLock<Result<BurstHost, Refusal>>,
}

impl Bursts {
    /// Targets may pay this share of their CPU time, and of one core.
    pub fn new(max_overhead: f64) -> Self {
        Self { max_overhead, holder: None, host: OnceLock::new() }
    }

    /// Windows are held by this program `leakline` instead of the one that runs.
    #[must_use]
    pub fn held_by(self, program: &Path) -> Self {
        Self { holder: Some(program.to_owned()), ..self }
    }

    /// What a target may pay, a share.
    pub fn max_overhead(&self) -> f64 {
        self.max_overhead
    }

    /// The scheduler; the first call takes about a tenth of a second.
    pub(super) fn host(&self) -> Result<&BurstHost, &Refusal> {
        self.host.get_or_init(|| begin(self.max_overhead, self.holder.as_deref())).as_ref()
    }
}

fn begin(max_overhead: f64, holder: Option<&Path>) -> Result<BurstHost, Refusal> {
    let refused = |text: String| Refusal::new("bursts_unsupported", format!("no bursts: {text}"));
    match MultiSupport::of_this_kernel() {
        MultiSupport::Works => {}
        MultiSupport::ThreadsMissed => {
            return Err(refused("links of uprobe_multi miss threads on this kernel (see `leakline doctor`)".into()));
        }
        MultiSupport::Unsupported { reason } => {
            return Err(refused(format!("no links of uprobe_multi (Linux 6.6): {reason} (see `leakline doctor`)")));
        }
    }
    let costs = match TrapCosts::measure() {
        Ok(traps) => Costs { birth_trap_ns: traps.push.ns, slot_trap_ns: traps.jump.ns, ..Costs::default() },
        Err(error) => {
            tracing::warn!(%error, "what a hit costs was not measured: taking what it costs elsewhere");
            Costs::default()
        }
    };
    BurstHost::start(
        Config::for_overhead(max_overhead),
        costs,
        holder.map_or_else(Holders::default, Holders::of_program),
    )
    .map_err(|error| refused(error.to_string()))
}
