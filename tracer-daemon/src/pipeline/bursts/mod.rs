//! Bursts: windows in which allocations are hooked, at random times and within a budget, and the objects that they catch.
//!
//! Three parties, none of which waits for another: the *scheduler* (one thread for all targets) opens windows when the
//! governor says so; for each target a *tracker* (a thread) follows the objects that were caught; a *session* takes what the
//! tracker knows for its model and leaves on the *desk* what the books say.

mod bell;
mod calibrator;
mod desk;
mod host;
mod hosted;
mod large;
mod scheduler;
mod staying;
mod target;
mod tracker;
mod window;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

pub(super) use self::desk::{BookRates, Desk};
pub(super) use self::host::{BurstHost, Place, TARGETS_MAX};
pub(super) use self::target::BurstTarget;
pub(super) use self::tracker::Tracker;
use crate::{
    attach::{
        AttachError, Calibration, Holders, Mechanism, MultiSupport,
        governor::{Config, Costs},
    },
    export::Refusal,
    pipeline::{Killswitch, error::with_causes, own},
};

/// Bursts on this host: begun when the first target asks for them.
#[derive(Debug)]
pub struct Bursts {
    max_overhead: f64,
    /// The program that holds windows; `None`: the one that runs.
    holder: Option<PathBuf>,
    /// What takes all probes away. `None`: nothing does.
    killswitch: Option<Killswitch>,
    /// Whether windows are opened by perf events, also where links of `uprobe_multi` work.
    by_perf_events: bool,
    host: OnceLock<BurstHost>,
    /// Why there is none, and since when.
    refused: Mutex<Option<(Instant, Refusal)>>,
}

/// Why the host has no bursts is asked again after so long: it may have lacked memory, descriptors or threads.
const AGAIN: Duration = Duration::from_secs(60);

impl Bursts {
    /// Targets may pay this share of their CPU time, and of one core.
    pub fn new(max_overhead: f64) -> Self {
        Self {
            max_overhead,
            holder: None,
            killswitch: None,
            by_perf_events: false,
            host: OnceLock::new(),
            refused: Mutex::default(),
        }
    }

    /// Windows are held by this program `leakline` instead of the one that runs.
    #[must_use]
    pub fn held_by(self, program: &Path) -> Self {
        Self { holder: Some(program.to_owned()), ..self }
    }

    /// No probe stays while this is on.
    #[must_use]
    pub fn off_by(self, killswitch: Killswitch) -> Self {
        Self { killswitch: Some(killswitch), ..self }
    }

    /// Windows are opened by perf events, as on kernels without links of `uprobe_multi`.
    #[must_use]
    pub fn by_perf_events(self) -> Self {
        Self { by_perf_events: true, ..self }
    }

    /// What a target may pay, a share.
    pub fn max_overhead(&self) -> f64 {
        self.max_overhead
    }

    /// The scheduler; the first call takes about a tenth of a second.
    pub(super) fn host(&self) -> Result<&BurstHost, Refusal> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        // Who comes second waits for who came first.
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let now = own::now();
        if let Some((since, refusal)) = &*refused
            && now.saturating_duration_since(*since) < AGAIN
        {
            return Err(refusal.clone());
        }
        match self.begin() {
            Ok(host) => Ok(self.host.get_or_init(|| host)),
            Err(refusal) => {
                *refused = Some((now, refusal.clone()));
                Err(refusal)
            }
        }
    }

    fn begin(&self) -> Result<BurstHost, Refusal> {
        let why_slow = if self.by_perf_events {
            Some("nothing else is to be used".to_owned())
        } else {
            MultiSupport::of_this_kernel().map_err(|error| refused(&with_causes(&error)))?.why_not()
        };
        let mechanism = if why_slow.is_some() { Mechanism::PerfEvents } else { Mechanism::UprobeMulti };
        let guess = Costs::of(mechanism);
        let calibration = match (Calibration::begin(mechanism), &why_slow) {
            (Ok(calibration), _) => Some(calibration),
            (Err(error), Some(why)) if !is_unmeasured(&error) => {
                let text = format!("{why}; nor perf events: {} (see `leakline doctor`)", with_causes(&error));
                return Err(refused(&text));
            }
            (Err(error), _) => {
                tracing::warn!(%error, "what a hit costs was not measured: taking what it costs elsewhere");
                None
            }
        };
        let costs = calibration.as_ref().map_or(guess, |calibration| guess.with_traps(&calibration.costs()));
        let holders = self.holder.as_deref().map_or_else(Holders::default, Holders::of_program);
        let killswitch = self.killswitch.clone();
        let config = Config::for_overhead(self.max_overhead);
        let host = BurstHost::start(config, costs, holders, mechanism, why_slow, killswitch.clone());
        let mut host = host.map_err(|error| refused(&error.to_string()))?;
        if let Some(calibration) = calibration {
            host.calibrate(calibration, killswitch);
        }
        Ok(host)
    }
}

fn refused(text: &str) -> Refusal {
    Refusal::new("bursts_unsupported", format!("no bursts: {text}"))
}

/// Whether probes may work although their price is not known.
fn is_unmeasured(error: &AttachError) -> bool {
    matches!(error, AttachError::Uncalibrated { .. } | AttachError::OwnCode { .. } | AttachError::Totals { .. })
}
