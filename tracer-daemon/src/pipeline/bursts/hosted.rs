//! What the scheduler keeps of each target, and of the window that is open.

use tracer_common::bursts::WindowKind;

use super::{desk::Shown, staying::StayingHook, target::BurstTarget};
use crate::{
    attach::{
        Holder,
        governor::{Costs, Governor, Hooks, Mode, TargetId},
    },
    discover::{Presence, presence},
    export::Refusal,
    units::approximate,
};

/// A link that stays and has ended is made again after twice as long each time, up to this, ns.
const RETRY_MOST_NS: u64 = 300_000_000_000;
/// One that has held so long has done well, ns: the next wait is a short one again.
const HELD_NS: u64 = 60_000_000_000;

/// When a link that stays is made again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    from_ns: u64,
    /// Waits since it has held for some time.
    waits: u32,
    made_ns: u64,
}

impl Retry {
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.from_ns
    }

    /// It is being made.
    pub(super) fn made(&mut self, now_ns: u64) {
        self.made_ns = now_ns;
    }

    /// It has ended, or could not be made; `first_ns`: how long to wait the first time.
    pub(super) fn ended(&mut self, now_ns: u64, first_ns: u64) {
        if now_ns.saturating_sub(self.made_ns) >= HELD_NS {
            self.waits = 0;
        }
        self.not_before(now_ns.saturating_add(first_ns.saturating_mul(1 << self.waits.min(20)).min(RETRY_MOST_NS)));
        self.waits = self.waits.saturating_add(1);
    }

    pub(super) fn not_before(&mut self, at_ns: u64) {
        self.from_ns = self.from_ns.max(at_ns);
    }
}

/// A target that has its place.
pub(super) struct Hosted {
    pub(super) target: BurstTarget,
    pub(super) cycles: StayingHook,
    pub(super) goroutines: StayingHook,
    pub(super) large: StayingHook,
    /// Why the last window could not be opened.
    pub(super) failure: Option<String>,
    /// What our program takes as collections end.
    pub(super) cycles_ns: Growing,
    pub(super) traps: Traps,
    /// The impulse that the governor was told of last and that has no burst yet.
    pub(super) impulse: Option<u32>,
}

impl Hosted {
    /// No hit of a hook that stays counts any more. Their links, told to end.
    pub(super) fn end_hooks(&mut self, now_ns: u64) -> impl Iterator<Item = Holder> {
        let Self { cycles, goroutines, large, target, .. } = self;
        [cycles, goroutines, large].map(|hook| hook.end(now_ns, target)).into_iter().flatten()
    }

    /// What does not work now.
    fn failures(&self, now_ns: u64, decided: Option<&Hooks>) -> Option<String> {
        // Where it would cost too much the tracker looks for collections itself, and nothing is amiss.
        let wanted = decided.map(|hooks| &hooks.cycles).filter(|cycles| cycles.mode == Mode::Continuous);
        let cycle = wanted.and_then(|cycles| self.cycles.why_off(now_ns, Some(cycles), &self.target));
        let cycle = cycle.map(|why| format!("collections are not seen as they end: {why}"));
        let window = self.failure.as_ref().map(|why| format!("a window could not be opened: {why}"));
        let failures: Vec<String> = cycle.into_iter().chain(window).collect();
        (!failures.is_empty()).then(|| failures.join("; "))
    }

    /// Whether the process is what was asked for. A successor of the same program would hit the same probes.
    pub(super) fn is_there(&self) -> bool {
        presence(&self.target.identity) == Presence::Running
    }
}

/// A count that only grows, and how far it was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growing(u64);

impl Growing {
    /// By how much it has grown since this was asked last.
    pub(super) fn take(&mut self, now: u64) -> u64 {
        let new = now.saturating_sub(self.0);
        self.0 = self.0.max(now);
        new
    }
}

/// What our program took in windows of each kind, besides the traps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traps {
    pub(super) births: (u64, u64),
    pub(super) slots: (u64, u64),
}

impl Traps {
    pub(super) fn learn(&mut self, kind: WindowKind, hits: u64, recorded_ns: u64) {
        let of_kind = match kind {
            WindowKind::Births => &mut self.births,
            WindowKind::Slots => &mut self.slots,
        };
        *of_kind = (of_kind.0.saturating_add(hits), of_kind.1.saturating_add(recorded_ns));
    }

    /// What a hit in a window on slots costs, as a part of what one in a window on births does. `None`: not both were seen.
    pub(super) fn refill_part(&self, costs: &Costs) -> Option<f64> {
        let per_hit =
            |(hits, recorded_ns): (u64, u64)| (hits > 0).then(|| approximate(recorded_ns) / approximate(hits));
        let births_ns = costs.birth_trap_ns + costs.count_ns + per_hit(self.births)?;
        let slots_ns = costs.slot_trap_ns + costs.count_ns + per_hit(self.slots)?;
        Some(slots_ns / births_ns.max(1.0))
    }
}

/// Tells the session what its target pays and what does not work.
///
/// `off`: why no probe is to be in place at all.
pub(super) fn show(hosted: &Hosted, id: TargetId, governor: &Governor, off: Option<&Refusal>, now_ns: u64) {
    let decided = governor.hooks(id);
    let goroutines = decided.map(|hooks| &hooks.goroutines);
    hosted.target.desk.show(Shown {
        account: governor.account(id).unwrap_or_default(),
        standing: Some(governor.standing(id)),
        reads_slower: governor.reads_slower(),
        failure: hosted.failures(now_ns, decided),
        off: off.cloned(),
        goroutine_hooks_off: hosted.goroutines.why_off(now_ns, goroutines, &hosted.target),
    });
}

#[cfg(test)]
mod tests {
    use super::{HELD_NS, RETRY_MOST_NS, Retry};

    #[test]
    fn what_ends_again_and_again_is_tried_ever_more_seldom_until_it_holds() {
        const FIRST_NS: u64 = 500_000_000;
        let mut retry = Retry::default();
        let (mut now_ns, mut waits) = (1_000_000_000, Vec::new());
        for _ in 0..15 {
            assert!(retry.is_due(now_ns));
            retry.made(now_ns);
            retry.ended(now_ns, FIRST_NS);
            waits.push(retry.from_ns - now_ns);
            now_ns = retry.from_ns;
        }
        assert_eq!(waits[..3], [FIRST_NS, 2 * FIRST_NS, 4 * FIRST_NS]);
        assert_eq!(waits[14], RETRY_MOST_NS);
        retry.made(now_ns);
        retry.ended(now_ns + HELD_NS, FIRST_NS);
        assert_eq!(retry.from_ns, now_ns + HELD_NS + FIRST_NS);
    }
}
