//! What the hook on large objects lets count, while it stays: one part of the time after the other, each as a burst of its own.
//!
//! All that is allocated meanwhile is caught, so each birth stands for itself. Parts are told as over only when the next one has begun
//! for some time: what was hit at the turn is in the ring by then.

use std::os::fd::OwnedFd;

use tracer_common::bursts::{WindowKind, WindowState};

use super::tracker::{Caught, EndedWindow, Tracker};
use crate::{
    attach::LinkPoint,
    collect::{CollectError, births::LargeGate},
    model::tracked::LARGE_BURSTS,
};

/// A part is so long.
const PART_NS: u64 = 1_000_000_000;

/// The points, and the part of the time that runs.
#[derive(Debug)]
pub(super) struct LargeObjects {
    pub(super) points: Vec<LinkPoint>,
    gate: LargeGate,
    /// Parts so far.
    parts: u32,
    now: Option<Part>,
    /// Over, and not told yet.
    over: Option<EndedWindow>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    burst: u32,
    began_ns: u64,
    /// Until when hits count if nobody puts that off.
    until_ns: u64,
}

impl Part {
    fn ended(self, now_ns: u64) -> EndedWindow {
        let open_ns = now_ns.min(self.until_ns).saturating_sub(self.began_ns);
        EndedWindow {
            burst: self.burst,
            caught: Caught::LargeObjects,
            began_ns: self.began_ns,
            open_ns,
            stands_for_ns: open_ns,
            chosen_per_told: 1.0,
        }
    }
}

impl LargeObjects {
    /// `windows`: the map `WINDOW`.
    pub(super) fn new(points: Vec<LinkPoint>, windows: OwnedFd) -> Result<Self, CollectError> {
        Ok(Self { points, gate: LargeGate::new(windows)?, parts: 0, now: None, over: None })
    }

    /// Hits count until then; 0: none does any more.
    pub(super) fn count_until(&mut self, now_ns: u64, until_ns: u64, tracker: &Tracker) -> Result<(), CollectError> {
        if let Some(over) = self.over.take() {
            tracker.ended(over);
        }
        // One that ran out is over, whoever was stopped meanwhile.
        let runs = self.now.filter(|part| now_ns < part.until_ns.min(part.began_ns.saturating_add(PART_NS)));
        if let Some(part) = runs.filter(|_| until_ns > 0) {
            self.now = Some(Part { until_ns, ..part });
        } else {
            self.over = self.now.take().map(|part| part.ended(now_ns));
            if until_ns > 0 {
                self.parts = self.parts.wrapping_add(1);
                self.now = Some(Part { burst: LARGE_BURSTS | self.parts, began_ns: now_ns, until_ns });
            }
        }
        let burst = self.now.map_or(0, |part| part.burst);
        self.gate.set(WindowState { until_ns, mean_birth_bytes: 0, burst, kind: WindowKind::Births as u32 })?;
        if let Some(over) = self.over.take_if(|_| until_ns == 0) {
            tracker.ended(over);
        }
        Ok(())
    }
}
