//! How often windows open, for how long, and for how many births: so that what a target pays stays within its budget.
//!
//! Owns decisions only: it does no IO and reads no clock. Times are given, in ns of one clock that never goes back, and so is the generator
//! of random numbers, so that the same calls give the same decisions. Whoever asks opens the windows, enforces their caps and reports what they cost.
//!
//! # Budget
//!
//! A target earns a share s (`max_overhead`) of the CPU time that it uses, and at most of one core: in a step of dt in which it used dc it
//! earns s·min(dc, dt), less where the host's budget is shared (`share`: each gets what it can use, up to the same level). What was earned within a minute,
//! M, is the budget of that minute. A purse (`budget`) holds at most 0.12·M, and a window opens only if the purse holds what
//! the window is planned to cost. It ends early where it has cost three times that, or all that may be spent now. So within any minute no more is spent than
//! M + 0.12·(M of the minute before), and what hits behind the last window have cost above their mean, of which 0.06·M are left out of account beforehand: below
//! 1.2 budgets. The same holds where the program becomes however fast while a window is open: what the threads that run can lose before and behind
//! it is left of 1.2·M beforehand, up to 0.2·M (`sudden_ns`). Beyond that is what cannot be known or afforded: more threads than ran before (a nearly
//! idle program that takes eight cores at once), and tails that are long against a small budget (perf events, a host that has too much to do). What
//! they cost is a debt. Debts are carried over. The host has a purse of its own, filled by time instead of CPU time, which pays for each burst what the
//! target pays and what it costs ourselves.
//!
//! A target for which a window that shows anything is too expensive has the *floor*: 60 s after a burst one more becomes possible, at a random time (15 s on
//! average, so that no program's own minute is met). It may cost what is left of the minute's budget, or the least that shows anything.
//!
//! # Cost of a window
//!
//! With R hits per second unslowed, k threads that run at once, and h ns for a hit (trap, count, and b ns more for the part p of hits that become
//! births: h = trap + count + p·b), each thread makes a hit per k/R + h of time. So a window of length w sees
//!
//! ```text
//!     n(w) = w·R / (1 + R·h/k)     hits, and costs     c(w) = points·a + (tail + w)·R·h / (1 + R·h/k)
//! ```
//!
//! where a is what a breakpoint costs to put and to take away, and the tail is the time before all points are on and behind the end in which hits
//! cost and do not count (learnt from windows; 0.75 ms at first: bursts of 0.2 ms were measured to cost as much as 0.64 ms; 30 ms
//! where the points go one after the other, by perf events). A fast program
//! loses k·w and no more, which is why the cost is bounded whatever the rate.
//!
//! The planned cost is a hundredth of M, at least four times the switching, twice the tail, and what a burst costs ourselves, at most 0.6 of a purse
//! (0.3 where the latter decides). From it follows w, within 2 to 20 ms. Where 20 ms would see fewer than 4,000 hits w is longer, up to 500 ms
//! (`docs/decisions/0014-windows-may-be-long-where-hits-are-few.md`). w is that for the highest rate of the last minute or two. The cap is in hits,
//! (most − switching − tail)/h: a jump of the rate costs one cap and no more, and the next decision knows it. Where more hits become births than expected it ends by what both cost.
//!
//! Of n hits n/4 are wanted as births, of few up to 500 all, or half of them once some size class is preferred, within 20 and 2,000, fewer where many
//! objects are tracked or collections are frequent; a birth of so many bytes is chosen with probability min(1, bytes/mean), with mean = n·(mean size)/births, corrected by what windows have given. Bytes of size classes that the books see grow count
//! more ([`crate::model::preferences`]).
//!
//! # Times
//!
//! Windows open at the times of a Poisson process (`gap`) of rate
//!
//! ```text
//!     r = 2·x · (M / 60 s) / (mean cost of late) · worth / live        x = (what may be spent now − planned)/(capacity − planned)
//! ```
//!
//! so that the purse stays about half full and all that is earned is spent; the mean cost counts up to three times what a window would cost now.
//! worth is less than 1 where fewer than 20 hits are expected or the model wants less; live
//! is the part of the time in which no window is open or being switched. At most a quarter of the time is in windows, and at most 20 begin per second on a
//! host, one at a time. What they cost ourselves (`own`) is at most 4/3 of what the target may pay while it is *new*, for three minutes. Then the lines that
//! leak have a name, and what is to be learnt comes with time, not with windows: at most a quarter of what the target may pay, and for all targets 0.7 % of a
//! core, of which each gets what it can use, up to the same level (`docs/decisions/0022-windows-are-fewer-once-a-target-is-known.md`).
//!
//! Rates differ with what was spent, so a window carries the time that it stands for: 1/r, and the time since the one before in which none could
//! open. Means over windows are weighted by it: programs with phases of 2 to 200 s are then seen right within 5 % (in simulation; unweighted windows see them up to a
//! factor of 3 wrong). Where nothing is allocated no window opens, and none stands for that time ([`Account::unseen_ns`]). An impulse opens a window at once where
//! the purse has it, and stands for no time.
//!
//! # Giving way
//!
//! Hooks that may stay (`hooks`) are continuous below a share of the budget, in windows above it, off where not even that fits. Where leakline itself
//! takes more CPU than it may it sheds (`shed`): goroutine hooks, bursts but for one a minute, then reads come less often. Windows that cannot be opened are tried
//! again after 5 s, 10 s, … 5 min (where not allowed 1 min to 1 h).
//!
//! # Use
//!
//! ```text
//!     governor.add(now, id, facts);
//!     each second and target:   governor.observe(id, observation);   follow governor.hooks(id)
//!     each second:              governor.observe_own(now, own_cpu);  read targets governor.reads_slower() times less often
//!     scheduler:                match governor.next(now) {
//!                                   Wait { until_ns } => sleep until then, or until something was observed
//!                                   Open(plan) => open the window; then governor.closed(…) or governor.failed(…)
//!                               }
//! ```

mod budget;
mod config;
mod gap;
mod hooks;
mod impulses;
mod learnt;
mod own;
mod share;
mod shed;
mod target;
mod types;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::SmallRng;

use budget::{LastMinute, Purse};
use gap::Gap;
use shed::Shedding;
use target::{Host, Target};

use super::TrapCosts;

pub use config::{Config, Costs};
pub use hooks::{Hook, HookDecision, Mode};
pub use impulses::{Impulses, Jump, Pulse};
pub use shed::Shed;
pub use types::{
    Account, CaughtCost, Cause, HookHits, Hooks, Impulse, Next, Observation, OpenFailure, Outcome, Paid, Refusal,
    Standing, TargetFacts, TargetId, WindowKind, WindowPlan,
};

/// Nobody is told to wait longer than this, ns: what is not observed changes nothing, but the host's purse fills.
const WAIT_MAX_NS: u64 = 1_000_000_000;
/// Nor is anybody told to wait for less than this, ns.
const WAIT_MIN_NS: u64 = 10_000_000;
/// A window of which nothing was heard for so long behind its end is over, ns.
const LOST_AFTER_NS: u64 = 10_000_000_000;
/// What the host earns in one step is for no longer than this, ns: while we were stopped nobody was observed.
const STEP_MAX_NS: u64 = 2_000_000_000;

/// The window that is open.
#[derive(Clone, Debug)]
struct Open {
    plan: WindowPlan,
    at_ns: u64,
}

/// Decides for all targets of one host.
#[derive(Debug)]
pub struct Governor {
    config: Config,
    random: SmallRng,
    targets: BTreeMap<TargetId, Target>,
    open: Option<Open>,
    /// From when a window may open.
    free_ns: u64,
    /// The host's budget.
    purse: Purse,
    now_ns: u64,
    /// Time in which no window could open.
    dead: LastMinute,
    /// What bursts have cost ourselves.
    own: LastMinute,
    began_ns: u64,
    shedding: Shedding,
    shared_ns: Option<u64>,
    windows: u64,
}

impl Governor {
    /// Begins at a time.
    pub fn new(at_ns: u64, config: Config, random: SmallRng) -> Self {
        Self {
            config,
            random,
            targets: BTreeMap::new(),
            open: None,
            free_ns: at_ns,
            purse: Purse::with_income(at_ns, config.node_overhead * 60e9),
            now_ns: at_ns,
            dead: LastMinute::default(),
            own: LastMinute::default(),
            began_ns: at_ns,
            shedding: Shedding::default(),
            shared_ns: None,
            windows: 0,
        }
    }

    /// From now on there is this target. One of the same id is replaced.
    pub fn add(&mut self, at_ns: u64, id: TargetId, facts: TargetFacts) {
        self.pass(at_ns);
        let gap = Gap::begin(self.now_ns.max(self.free_ns), &mut self.random);
        self.targets.insert(id, Target::new(self.now_ns, facts, gap, &self.config));
        self.shared_ns = None;
    }

    /// It is gone. Its account as it was.
    pub fn remove(&mut self, at_ns: u64, id: TargetId) -> Option<Account> {
        self.pass(at_ns);
        if let Some(open) = self.open.take_if(|open| open.plan.target == id) {
            self.free(open.at_ns);
        }
        self.targets.remove(&id).map(|target| target.account())
    }

    /// Traps were measured again: what comes costs as much as that, in all targets.
    pub fn calibrate(&mut self, traps: &TrapCosts) {
        for target in self.targets.values_mut() {
            target.calibrate(traps);
        }
    }

    /// A look at a target.
    pub fn observe(&mut self, id: TargetId, seen: Observation) {
        self.pass(seen.at_ns);
        self.share();
        let host = self.host();
        let is_dead = self.open.is_some() || self.now_ns < self.free_ns;
        let Some(target) = self.targets.get_mut(&id) else { return };
        if !is_dead {
            target.advance(self.now_ns, host, &self.config);
        }
        let seen = Observation { at_ns: self.now_ns, ..seen };
        let cost_ns = target.observe(seen, &self.config, self.shedding.level());
        self.purse.spend(self.now_ns, cost_ns);
    }

    /// leakline's own CPU time since it began, user and system, without what targets took once as they were added, ns.
    pub fn observe_own(&mut self, at_ns: u64, own_cpu_ns: u64) {
        self.pass(at_ns);
        self.shedding.observe(self.now_ns, own_cpu_ns, self.config.own_overhead);
    }

    /// Something was seen that a burst at once would tell more of. It opens with the next call of [`Self::next`], or never where no window can open for 2 s.
    pub fn impulse(&mut self, at_ns: u64, id: TargetId, impulse: Impulse) -> Result<(), Refusal> {
        self.pass(at_ns);
        let (host, now_ns) = (self.host(), self.now_ns);
        let target = self.targets.get_mut(&id).ok_or(Refusal::NoSuchTarget)?;
        target.demand(now_ns, impulse, host, &self.config)
    }

    /// Whether a burst that was asked for by [`Self::impulse`] is still to open.
    pub fn has_impulse(&self, at_ns: u64, id: TargetId) -> bool {
        self.targets.get(&id).is_some_and(|target| target.impulse(at_ns.max(self.now_ns)).is_some())
    }

    /// What to do now.
    pub fn next(&mut self, at_ns: u64) -> Next {
        self.pass(at_ns);
        self.share();
        if let Some(open) = &self.open {
            let lost_ns = open.at_ns.saturating_add(open.plan.length_ns).saturating_add(LOST_AFTER_NS);
            if self.now_ns < lost_ns {
                return Next::Wait { until_ns: self.now_ns.saturating_add(WAIT_MAX_NS).min(lost_ns) };
            }
            let (target, window) = (open.plan.target, open.plan.window);
            self.failed(self.now_ns, target, window, OpenFailure::Other, Paid::default());
        }
        if self.now_ns < self.free_ns {
            return Next::Wait { until_ns: self.free_ns };
        }
        let latest_ns = self.now_ns.saturating_add(WAIT_MAX_NS);
        match self.due() {
            Some((due_ns, id, cause, per_s)) if due_ns <= self.now_ns => match self.try_open(id, cause, per_s) {
                Ok(plan) => Next::Open(Box::new(plan)),
                Err(wait_ns) => {
                    let wait_ns = crate::units::whole(wait_ns).clamp(WAIT_MIN_NS, WAIT_MAX_NS);
                    Next::Wait { until_ns: self.now_ns.saturating_add(wait_ns) }
                }
            },
            Some((due_ns, ..)) => Next::Wait { until_ns: due_ns.min(latest_ns) },
            None => Next::Wait { until_ns: latest_ns },
        }
    }

    /// The window that opens first, when, and at which rate.
    fn due(&mut self) -> Option<(u64, TargetId, Cause, f64)> {
        let (host, now_ns) = (self.host(), self.now_ns);
        let mut first: Option<(u64, TargetId, Cause, f64)> = None;
        for (id, target) in &mut self.targets {
            target.advance(now_ns, host, &self.config);
            let due = match target.impulse(now_ns) {
                Some(impulse) => Some((0, Cause::Impulse(impulse), 0.0)),
                None => end_of_gap(target, now_ns, host, &self.config),
            };
            let Some((due_ns, cause, per_s)) = due else { continue };
            if first.is_none_or(|(first_ns, ..)| due_ns < first_ns) {
                first = Some((due_ns, *id, cause, per_s));
            }
        }
        first
    }

    /// The window of a target that is due; else after how long to ask again, ns.
    fn try_open(&mut self, id: TargetId, cause: Cause, per_s: f64) -> Result<WindowPlan, f64> {
        let host = self.host();
        let target = self.targets.get_mut(&id).ok_or(0.0)?;
        let kind = if target.facts.slot_points == 0 || matches!(cause, Cause::Impulse(_)) {
            WindowKind::Births
        } else {
            let is_slots = self.random.random::<f64>() < target.slots_share(&self.config);
            *target.next_kind.get_or_insert(if is_slots { WindowKind::Slots } else { WindowKind::Births })
        };
        let Some((shape, mean_bytes)) = target.plan(cause, kind, host, &self.config) else {
            target.forget_impulse();
            // What cannot be paid for at all is not waited for.
            target.next_kind = None;
            return Err(0.0);
        };
        // Who is due waits for the host's purse; what an impulse asked for is forgotten after a while.
        let needed_ns = if cause == Cause::Floor { 0.0 } else { shape.most_ns.min(host.purse_capacity_ns) };
        if host.purse_ns < needed_ns {
            return Err((needed_ns - host.purse_ns) / self.config.node_overhead.max(1e-6));
        }
        let stands_for_s = if matches!(cause, Cause::Impulse(_)) {
            target.forget_impulse();
            0.0
        } else {
            target.begin(Gap::begin(self.now_ns, &mut self.random), per_s)
        };
        self.windows += 1;
        let whole = crate::units::whole;
        let plan = WindowPlan {
            window: self.windows,
            target: id,
            kind,
            cause,
            length_ns: whole(shape.length_ns),
            hit_cap: whole(shape.hit_cap).max(1),
            caught: CaughtCost {
                most_ns: whole(shape.caught_ns),
                hit_ns: whole(shape.hit_ns),
                birth_ns: whole(shape.birth_ns),
            },
            mean_birth_bytes: whole(mean_bytes),
            hits: shape.hits,
            births: shape.births,
            stands_for_ns: whole(stands_for_s * 1e9),
            cost_ns: shape.cost_ns,
            most_ns: shape.most_ns,
            is_long: shape.length_ns > crate::units::approximate(self.config.window_max_ns),
        };
        self.open = Some(Open { plan: plan.clone(), at_ns: self.now_ns });
        Ok(plan)
    }

    /// The window has closed, and all that its links cost is over. What is not the open window is passed over.
    pub fn closed(&mut self, at_ns: u64, id: TargetId, window: u64, outcome: &Outcome) {
        self.pass(at_ns);
        let Some(open) = self.open.take_if(|open| open.plan.target == id && open.plan.window == window) else {
            return;
        };
        if let Some(target) = self.targets.get_mut(&id) {
            let cost_ns = target.closed(self.now_ns, &open.plan, outcome);
            self.purse.spend(self.now_ns, cost_ns + self.config.own_burst_ns);
            self.own.add(self.now_ns, self.config.own_burst_ns);
        }
        self.free(open.at_ns);
    }

    /// The window could not be opened, or nobody knows how it went: what it has cost all the same.
    pub fn failed(&mut self, at_ns: u64, id: TargetId, window: u64, failure: OpenFailure, paid: Paid) {
        self.pass(at_ns);
        let Some(open) = self.open.take_if(|open| open.plan.target == id && open.plan.window == window) else {
            return;
        };
        if let Some(target) = self.targets.get_mut(&id) {
            let cost_ns = target.failed(self.now_ns, &open.plan, failure, paid);
            self.purse.spend(self.now_ns, cost_ns);
        }
        self.purse.spend(self.now_ns, self.config.own_burst_ns);
        self.own.add(self.now_ns, self.config.own_burst_ns);
        self.free(open.at_ns);
    }

    /// No window is open any more. The next begins after the least distance.
    fn free(&mut self, opened_ns: u64) {
        let distance_ns = crate::units::whole(1e9 / self.config.bursts_per_s.max(1e-3));
        self.free_ns = self.now_ns.max(opened_ns.saturating_add(distance_ns));
        self.dead.add(self.now_ns, crate::units::approximate(self.free_ns.saturating_sub(opened_ns)));
        for target in self.targets.values_mut() {
            target.skip(self.free_ns);
        }
    }

    /// Time goes on; it never goes back.
    fn pass(&mut self, at_ns: u64) {
        let passed_ns = at_ns.saturating_sub(self.now_ns).min(STEP_MAX_NS);
        self.now_ns = self.now_ns.max(at_ns);
        self.purse.earn(self.now_ns, self.config.node_overhead * crate::units::approximate(passed_ns));
        self.dead.forget(self.now_ns);
        self.own.forget(self.now_ns);
    }

    fn host(&self) -> Host {
        let seen_ns = crate::units::approximate(self.now_ns.saturating_sub(self.began_ns)).clamp(1e9, 60e9);
        Host {
            live: (1.0 - self.dead.sum() / seen_ns).clamp(0.05, 1.0),
            targets: f64::from(u32::try_from(self.targets.len()).unwrap_or(u32::MAX)),
            shed: self.shedding.level(),
            purse_ns: self.purse.content_ns(),
            purse_capacity_ns: self.purse.capacity_ns(),
        }
    }

    /// Divides the host's budget, and what we may take ourselves, among the targets, about once a second.
    fn share(&mut self) {
        if self.shared_ns.is_some_and(|shared_ns| self.now_ns < shared_ns.saturating_add(WAIT_MAX_NS)) {
            return;
        }
        self.shared_ns = Some(self.now_ns);
        let all_ns_per_s = (self.config.node_overhead * 1e9 - self.own.sum() / 60.0).max(0.0);
        let wants: Vec<f64> = self.targets.values().map(Target::wants_ns_per_s).collect();
        let level_ns_per_s = share::level(&wants, all_ns_per_s);
        let host = self.host();
        let mut wanted = Vec::with_capacity(self.targets.len());
        for target in self.targets.values_mut() {
            target.allowed_ns_per_s = level_ns_per_s;
            let wanted_per_s = target.wanted_rate(host, &self.config).unwrap_or_default();
            let is_new = self.now_ns < target.new_until_ns(&self.config);
            wanted.push(own::Sharer { cost: &mut target.own, is_new, wanted_per_s });
        }
        own::divide(&mut wanted, &self.config);
    }

    /// Whether a target has windows, and why not.
    pub fn standing(&self, id: TargetId) -> Standing {
        let Some(target) = self.targets.get(&id) else { return Standing::Refused(Refusal::NoSuchTarget) };
        let (per_s, _, cause, refusal) = target.rate(self.now_ns, self.host(), &self.config);
        match (cause, refusal) {
            (Cause::Floor, Some(refusal)) if target.is_shared() => match refusal {
                Refusal::BudgetTooSmall { .. } | Refusal::Debt { .. } => {
                    Standing::Floor(Refusal::Node { share: self.config.node_overhead })
                }
                other => Standing::Floor(other),
            },
            (Cause::Floor, Some(refusal)) => Standing::Floor(refusal),
            (_, Some(refusal)) => Standing::Refused(refusal),
            (_, None) => Standing::Scheduled { gap_s: 1.0 / per_s.max(1e-6) },
        }
    }

    /// The modes of a target's hooks that may stay.
    pub fn hooks(&self, id: TargetId) -> Option<&Hooks> {
        self.targets.get(&id).map(|target| &target.hooks)
    }

    /// What a target has paid.
    pub fn account(&self, id: TargetId) -> Option<Account> {
        self.targets.get(&id).map(Target::account)
    }

    /// What has been given up to keep our own CPU time within what we may take.
    pub fn shed(&self) -> Shed {
        self.shedding.level()
    }

    /// How many times less often than usual targets are to be read; at least 1.
    pub fn reads_slower(&self) -> f64 {
        self.shedding.reads_slower()
    }
}

/// When a target's gap ends if nothing is observed until then, why a window opens then, and the rate at that time.
fn end_of_gap(target: &Target, now_ns: u64, host: Host, config: &Config) -> Option<(u64, Cause, f64)> {
    let mut gap = target.gap;
    if gap.is_over() {
        // It waits for the host's budget; whether it can pay itself may have changed meanwhile.
        let (per_s, _, cause, _) = target.rate(now_ns, host, config);
        return (per_s > 0.0).then_some((gap.until_ns(), cause, per_s));
    }
    for _ in 0..4 {
        let (per_s, until_ns, cause, _) = target.rate(gap.until_ns(), host, config);
        match gap.end_ns(per_s) {
            Some(end_ns) if end_ns <= until_ns && per_s > 0.0 => return Some((end_ns, cause, per_s)),
            _ if until_ns == u64::MAX => return None,
            _ => gap.advance(until_ns, per_s),
        }
    }
    None
}
