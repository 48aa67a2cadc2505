//! The window that is open: it is opened when the governor says so, and paid for when it is over.

use tracer_common::bursts::WindowKind;

use super::{
    hosted::show,
    scheduler::{NAP_NS, Scheduler},
    target::burst_number,
    tracker::EndedWindow,
};
use crate::{
    attach::{
        AttachError, Holder, News,
        governor::{self, Mode, Next, OpenFailure, Outcome, Paid, WindowPlan},
    },
    collect::births::BurstTotals,
    pipeline::{error::with_causes, goroutines::monotonic_ns},
    units::approximate,
};

/// A window that is not over so long behind its end is ended by force: somebody may have stopped the process that holds it.
const LATE_NS: u64 = 2_000_000_000;
/// As long as it may take to put probes in place, on a host that has no time.
const OPENING_NS: u64 = 10_000_000_000;

/// The window that is open, is being opened, or whose probes are being taken away.
pub(super) struct OpenWindow {
    pub(super) plan: Box<WindowPlan>,
    pub(super) kind: WindowKind,
    pub(super) holder: Holder,
    pub(super) before: BurstTotals,
    pub(super) ordered_ns: u64,
    pub(super) opened_ns: Option<u64>,
    pub(super) closed_ns: Option<u64>,
    pub(super) failure: Option<AttachError>,
    /// Whether its target was taken away. It keeps its place until its probes are gone: the next one is not to meet them.
    pub(super) is_abandoned: bool,
    /// Until when it has time to end where it was told to.
    pub(super) leave_ns: u64,
    /// Whether it was ended by force.
    pub(super) is_killed: bool,
    /// How long its probes may take to go, ns.
    pub(super) closing_ns: u64,
}

impl OpenWindow {
    /// When something must be wrong with the process that holds it.
    pub(super) fn overdue_ns(&self) -> u64 {
        match self.opened_ns {
            Some(opened_ns) => {
                let ends_ns = opened_ns.saturating_add(self.plan.length_ns).saturating_add(LATE_NS);
                self.leave_ns.min(ends_ns).saturating_add(self.closing_ns)
            }
            None => self.ordered_ns.saturating_add(OPENING_NS),
        }
    }
}

impl Scheduler {
    /// True where the window's link is gone.
    pub(super) fn hear_of(&mut self, window: &mut OpenWindow) -> bool {
        while let Some(news) = window.holder.news() {
            match news {
                News::Opened { at_ns } => window.opened_ns = Some(at_ns),
                News::Closed { at_ns, .. } => {
                    window.closed_ns = Some(at_ns);
                    self.window_closed(window);
                }
                News::Failed(error) => window.failure = Some(error),
                News::Gone => return true,
            }
        }
        false
    }

    /// Hits count no more: its births can be told.
    fn window_closed(&mut self, window: &OpenWindow) {
        let (Some(opened_ns), Some(closed_ns)) = (window.opened_ns, window.closed_ns) else { return };
        let Some(hosted) = self.targets.get_mut(&window.plan.target).filter(|_| !window.is_abandoned) else { return };
        let tracker = &hosted.target.tracker;
        if !hosted.is_there() {
            tracker.lost(burst_number(&window.plan));
            return;
        }
        let after = hosted.target.counters.totals().unwrap_or(window.before);
        tracker.losses(&after);
        if after.pending_full > window.before.pending_full
            && let Err(error) = hosted.target.counters.forget_pending()
        {
            tracing::debug!(pid = hosted.target.identity.pid, %error, "births that waited for their slot keep their room");
        }
        let told = (after.births + after.slots).saturating_sub(window.before.births + window.before.slots);
        let lost = after.lost.saturating_sub(window.before.lost);
        tracker.ended(EndedWindow {
            burst: burst_number(&window.plan),
            caught: window.kind.into(),
            began_ns: opened_ns,
            // Who was late to close it had no say: the kernel side looks at the clock.
            open_ns: closed_ns.saturating_sub(opened_ns).min(window.plan.length_ns),
            stands_for_ns: window.plan.stands_for_ns,
            chosen_per_told: 1.0 + approximate(lost) / approximate(told.max(1)),
        });
    }

    pub(super) fn window_is_over(&mut self, window: &OpenWindow) {
        let (now_ns, id, number) = (monotonic_ns(), window.plan.target, window.plan.window);
        let Some(hosted) = self.targets.get_mut(&id) else { return };
        let (Some(opened_ns), Some(closed_ns)) = (window.opened_ns, window.closed_ns) else {
            // Also where the process that held the link was killed: how long it was open is not known.
            hosted.target.tracker.lost(burst_number(&window.plan));
            let is_gone = !hosted.is_there();
            let failure = match &window.failure {
                _ if is_gone => OpenFailure::Gone,
                Some(error) => failure_of(error),
                None => OpenFailure::Other,
            };
            let why = window
                .failure
                .as_ref()
                .map_or_else(|| "the process that held the probes ended".into(), |error| with_causes(error));
            tracing::debug!(pid = hosted.target.identity.pid, why, "a window could not be opened");
            hosted.failure = Some(why);
            // It may have been open all the same.
            let after = hosted.target.counters.totals().unwrap_or(window.before);
            let paid = Paid {
                hits: after.hits.saturating_sub(window.before.hits),
                recorded_ns: after.recorded_ns.saturating_sub(window.before.recorded_ns),
            };
            self.governor.failed(now_ns, id, number, failure, paid);
            show(hosted, id, &self.governor, self.off.as_ref(), now_ns);
            return;
        };
        hosted.failure = None;
        let after = hosted.target.counters.totals().unwrap_or(window.before);
        let counted = after.hits_in_windows.saturating_sub(window.before.hits_in_windows);
        let hits = after.hits.saturating_sub(window.before.hits);
        let outcome = Outcome {
            opened_ns,
            closed_ns,
            hits: counted,
            hits_outside: Some(hits.saturating_sub(counted)),
            births: (after.births + after.slots).saturating_sub(window.before.births + window.before.slots),
            frames: after.frames.saturating_sub(window.before.frames),
            recorded_ns: after.recorded_ns.saturating_sub(window.before.recorded_ns),
        };
        tracing::debug!(
            pid = hosted.target.identity.pid,
            kind = ?window.kind,
            ordered_ns = window.ordered_ns,
            opened_after_ns = opened_ns.saturating_sub(window.ordered_ns),
            open_ns = closed_ns.saturating_sub(opened_ns),
            gone_after_ns = now_ns.saturating_sub(closed_ns),
            hits = counted,
            hits_outside = hits.saturating_sub(counted),
            births = outcome.births,
            "a window is over"
        );
        hosted.traps.learn(window.kind, counted, outcome.recorded_ns);
        if let Some(part) = hosted.traps.refill_part(&self.costs) {
            hosted.target.tracker.refill_trap(part);
        }
        self.governor.closed(now_ns, id, number, &outcome);
        show(hosted, id, &self.governor, self.off.as_ref(), now_ns);
    }

    /// Opens a window where it is time to. Returns until when nothing is to be decided.
    pub(super) fn decide(&mut self, now_ns: u64) -> u64 {
        if self.window.is_some() {
            return now_ns.saturating_add(NAP_NS);
        }
        let plan = match self.governor.next(now_ns) {
            Next::Open(plan) => plan,
            Next::Wait { until_ns } => return until_ns,
        };
        let (id, number) = (plan.target, plan.window);
        let kind = match plan.kind {
            governor::WindowKind::Births => WindowKind::Births,
            governor::WindowKind::Slots => WindowKind::Slots,
        };
        let Some(hosted) = self.targets.get_mut(&id) else {
            self.governor.remove(now_ns, id);
            return now_ns;
        };
        if !hosted.is_there() {
            self.governor.failed(now_ns, id, number, OpenFailure::Gone, Paid::default());
            return now_ns;
        }
        let before = hosted.target.counters.totals().unwrap_or_default();
        let is_of_impulse = matches!(plan.cause, governor::Cause::Impulse(_));
        if let Some(impulse) = hosted.impulse.take_if(|_| is_of_impulse) {
            hosted.target.tracker.expect_impulse(impulse, burst_number(&plan));
        }
        // Where their hook shall stay and cannot, windows see them; and those of impulses, which are to see all.
        let large = self.governor.hooks(id).map(|hooks| hooks.large_objects.mode);
        let is_without_hook = large == Some(Mode::Continuous) && !hosted.large.counts();
        let with_large_objects = is_of_impulse || is_without_hook || large == Some(Mode::Bursts);
        match hosted.target.open(&mut self.holders, &plan, kind, with_large_objects, now_ns) {
            Ok(holder) => {
                let stands_for_s = approximate(plan.stands_for_ns) / 1e9;
                tracing::debug!(pid = hosted.target.identity.pid, stands_for_s, reason = %plan.reason(), "a window opens");
                hosted.target.tracker.begins();
                self.window = Some(OpenWindow {
                    plan,
                    kind,
                    holder,
                    before,
                    ordered_ns: now_ns,
                    opened_ns: None,
                    closed_ns: None,
                    failure: None,
                    is_abandoned: false,
                    leave_ns: u64::MAX,
                    is_killed: false,
                    closing_ns: hosted.target.closing_ns(),
                });
            }
            Err(error) => {
                hosted.target.tracker.lost(burst_number(&plan));
                hosted.failure = Some(with_causes(&error));
                self.governor.failed(now_ns, id, number, failure_of(&error), Paid::default());
            }
        }
        now_ns.saturating_add(NAP_NS)
    }
}

fn failure_of(error: &AttachError) -> OpenFailure {
    match error {
        AttachError::TargetGone { .. } => OpenFailure::Gone,
        AttachError::NotAllowed { .. } => OpenFailure::NotAllowed,
        _ => OpenFailure::Other,
    }
}
