//! One target: what is known of its rates, what it has paid, and how often windows may open.

use super::budget::{LastMinute, MINUTE_NS, Purse};
use super::gap::Gap;
use super::hooks::{self, Hook, HookLoad, Mode};
use super::learnt::{self, Learnt};
use super::own::OwnCost;
use super::types::{
    Account, Cause, HookHits, Hooks, Impulse, Observation, OpenFailure, Outcome, Paid, Refusal, TargetFacts,
    WindowKind, WindowPlan,
};
use super::window::{Allowance, BIRTHS_MIN, HITS_GOAL, Outlook, SLOTS_GOAL, Shape, births_for_tracker};
use super::{Config, Shed, TrapCosts};

/// Part of what a target may pay at most that is planned on. Windows of single programs were seen to cost 0.8 to 1.2 times what they are reckoned to
/// (`docs/decisions/0023-a-hit-costs-what-it-costs-amid-work.md`).
const PLANNED: f64 = 0.9;
/// Share of a minute's budget that one window should cost.
const WINDOW_SHARE: f64 = 0.01;
/// A window may cost this many times what it should before it ends early.
const CAP: f64 = 3.0;
/// Part of the purse that a window should cost at most.
const PURSE_PART: f64 = 0.6;
/// No more than this many minutes' budgets are spent within a minute.
const OVER_MINUTE: f64 = 1.2;
/// What is kept for a program that becomes very fast within a window is at most this share of a minute's budget, so that all of it can be
/// used: where closing takes long, as on a host that has too much to do, little would be left of small budgets.
const SUDDEN_MOST: f64 = 0.2;
/// What hits behind a window may cost above what they cost on average, as a share of a minute's budget. With what the purse holds it is below 0.2.
const TAIL_SLACK: f64 = 0.06;
/// Part of the time that windows of a target are open at most: beyond it next to nothing is learnt.
const OPEN_SHARE: f64 = 0.25;
/// Part of the time that windows of all targets are open or being switched.
const HOST_OPEN_SHARE: f64 = 0.6;
/// Windows on slots are at least such a part of what they are in a program that is never idle.
const SLOTS_LEAST: f64 = 0.1;
/// A window stands for as much time in which none could open as makes this many gaps.
const BLOCKED_GAPS: f64 = 1.0;
/// Of more time than this the next windows do not stand, ns.
const BLOCKED_MAX_NS: u64 = 60_000_000_000;
/// Hits from which a window is worth its cost.
const HITS_WORTH: f64 = 20.0;
/// Mean time to the next burst of a target that cannot pay for more, once the gap is over, s.
const FLOOR_MEAN_S: f64 = 15.0;
/// The same before the first burst of all.
const FIRST_MEAN_S: f64 = 3.0;
/// Windows per second, at most, however much may be spent.
const RATE_MAX_PER_S: f64 = 200.0;
/// How long a hook that has jumped is not continuous, ns.
const JUMPED_NS: u64 = 60_000_000_000;
/// The books of a target are read by then, ns; else there will be none.
const KNOWN_BY_NS: u64 = 5_000_000_000;
/// Impulses have at least this distance, ns, and are forgotten when they could not be served for so long.
const IMPULSE_GAP_NS: u64 = 10_000_000_000;
const IMPULSE_LIFE_NS: u64 = 2_000_000_000;

/// What the host says to each target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// Part of the time in which a window could open.
    pub(super) live: f64,
    pub(super) targets: f64,
    pub(super) shed: Shed,
    /// What the host's purse holds, and what it can hold, ns.
    pub(super) purse_ns: f64,
    pub(super) purse_capacity_ns: f64,
}

#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) facts: TargetFacts,
    pub(super) purse: Purse,
    /// What would have come in without the others of this host.
    pub(super) unshared: LastMinute,
    /// ns per second that the host leaves to it.
    pub(super) allowed_ns_per_s: f64,
    pub(super) gap: Gap,
    /// What the window at the end of the gap is for, where that was decided: it may wait for the host's purse, and what can be paid for
    /// sooner is not to be chosen more often.
    pub(super) next_kind: Option<WindowKind>,
    /// Time in which no window could open, because of what the last had cost or since one was open, and for which none stood yet, ns.
    blocked_ns: u64,
    /// When it was added, ns.
    since_ns: u64,
    /// What its windows cost ourselves.
    pub(super) own: OwnCost,
    pub(super) hooks: Hooks,
    account: Account,
    cpu: LastMinute,
    last_cpu: (u64, u64),
    seen: Observation,
    learnt: Learnt,
    last_end_ns: Option<u64>,
    failed: Option<(OpenFailure, u32, u64)>,
    impulse: Option<(Impulse, u64)>,
    last_impulse_ns: Option<u64>,
    jumped_until_ns: [u64; 3],
}

impl Target {
    pub(super) fn new(at_ns: u64, facts: TargetFacts, gap: Gap, config: &Config) -> Self {
        // What it used in its last minute is not known: what it used in a minute on average is the best guess.
        let approximate = crate::units::approximate;
        let age_ns = approximate(facts.age_ns.max(1));
        let minute_ns = approximate(MINUTE_NS);
        let used_ns = approximate(facts.cpu_ns) * (minute_ns / age_ns).min(1.0);
        let income_ns = PLANNED * config.max_overhead * used_ns.min(minute_ns);
        Self {
            facts,
            purse: Purse::of_age(at_ns, income_ns, facts.age_ns),
            unshared: LastMinute::even(at_ns, income_ns),
            allowed_ns_per_s: f64::INFINITY,
            gap,
            next_kind: None,
            blocked_ns: 0,
            since_ns: at_ns,
            own: OwnCost::default(),
            hooks: Hooks::default(),
            account: Account::default(),
            cpu: LastMinute::even(at_ns, used_ns),
            last_cpu: (at_ns, facts.cpu_ns),
            seen: Observation { at_ns, ..Observation::default() },
            learnt: Learnt::new(&facts.costs),
            last_end_ns: None,
            failed: None,
            impulse: None,
            last_impulse_ns: None,
            jumped_until_ns: [0; 3],
        }
    }

    /// From now on.
    pub(super) fn calibrate(&mut self, traps: &TrapCosts) {
        self.facts.costs = self.facts.costs.with_traps(traps);
    }

    /// What it costs and uses is taken into the account; rates are those of the books from now on. Gives the cost, ns.
    pub(super) fn observe(&mut self, seen: Observation, config: &Config, shed: Shed) -> f64 {
        let approximate = crate::units::approximate;
        let (last_ns, last_cpu_ns) = self.last_cpu;
        let passed_ns = approximate(seen.at_ns.saturating_sub(last_ns));
        let used_ns = approximate(seen.cpu_ns.saturating_sub(last_cpu_ns));
        self.last_cpu = (seen.at_ns.max(last_ns), seen.cpu_ns);
        // Seconds of one core; a look that comes late brings no more than a minute.
        let core_ns = used_ns.min(passed_ns).min(approximate(MINUTE_NS));
        let unshared_ns = PLANNED * config.max_overhead * core_ns;
        self.unshared.add(seen.at_ns, unshared_ns);
        self.purse.earn(seen.at_ns, unshared_ns.min(self.allowed_ns_per_s * passed_ns / 1e9));
        self.cpu.add(seen.at_ns, used_ns);
        self.account.cpu_ns += used_ns;
        self.learnt.observe(&seen, used_ns, passed_ns);
        let cost_ns = self.hooks_cost_ns(seen.hits);
        self.charge(seen.at_ns, cost_ns, Cause::Random);
        self.note_jumps(seen, passed_ns / 1e9);
        self.seen = seen;
        self.decide_hooks(shed);
        cost_ns
    }

    fn hooks_cost_ns(&mut self, hits: HookHits) -> f64 {
        let approximate = crate::units::approximate;
        let costs = self.facts.costs;
        let sum = hits.cycles.saturating_add(hits.large_objects).saturating_add(hits.goroutines);
        self.account.hits = self.account.hits.saturating_add(sum);
        approximate(hits.cycles) * costs.birth_trap_ns
            + approximate(hits.cycles_ns)
            + approximate(hits.large_objects) * self.large_ns()
            + approximate(hits.goroutines) * costs.goroutine_ns
    }

    /// What a birth takes more than a hit that is counted, ns.
    fn birth_ns(&self) -> f64 {
        let costs = &self.facts.costs;
        self.learnt.birth_ns.unwrap_or(costs.birth_ns + self.learnt.frames * costs.frame_ns)
    }

    /// A hit at the birth of a large object, of which each is recorded, ns.
    fn large_ns(&self) -> f64 {
        self.facts.costs.birth_trap_ns + self.facts.costs.count_ns + self.birth_ns()
    }

    fn note_jumps(&mut self, seen: Observation, passed_s: f64) {
        let hits = [seen.hits.cycles, seen.hits.large_objects, seen.hits.goroutines];
        let decisions = [&self.hooks.cycles, &self.hooks.large_objects, &self.hooks.goroutines];
        for ((hits, decision), until_ns) in hits.into_iter().zip(decisions).zip(&mut self.jumped_until_ns) {
            let most = crate::units::approximate(decision.hits_per_s_max) * passed_s.max(1.0);
            if decision.mode == Mode::Continuous && crate::units::approximate(hits) >= most {
                *until_ns = seen.at_ns.saturating_add(JUMPED_NS);
            }
        }
    }

    fn decide_hooks(&mut self, shed: Shed) {
        let (seen, costs) = (self.seen, self.facts.costs);
        let budget_ns_per_s = self.purse.minute_ns() / 60.0;
        let [cycles_jump, large_jump, goroutines_jump] = self.jumped_until_ns.map(|until_ns| seen.at_ns < until_ns);
        let load = |hits_per_s: Option<f64>, hit_ns, is_shed, has_jumped| HookLoad {
            hits_per_s: learnt::sane(hits_per_s),
            hit_ns,
            budget_ns_per_s,
            is_shed,
            has_jumped,
        };
        let goroutine_hits = seen.goroutines_per_s.map(|rate| 2.0 * rate);
        let goroutines = load(goroutine_hits, costs.goroutine_ns, shed >= Shed::GoroutineHooks, goroutines_jump);
        let large_objects = load(seen.large_per_s, self.large_ns(), shed >= Shed::Bursts, large_jump);
        let cycle_ns = self.learnt.cycle_ns.map_or(costs.cycle_ns, |program_ns| costs.birth_trap_ns + program_ns);
        let cycles = load(seen.collections_per_s, cycle_ns, false, cycles_jump);
        self.hooks = Hooks {
            cycles: hooks::decide(Hook::Cycles, cycles, self.hooks.cycles.mode),
            large_objects: hooks::decide(Hook::LargeObjects, large_objects, self.hooks.large_objects.mode),
            goroutines: hooks::decide(Hook::Goroutines, goroutines, self.hooks.goroutines.mode),
        };
    }

    fn charge(&mut self, at_ns: u64, cost_ns: f64, cause: Cause) {
        self.account.cost_ns += cost_ns;
        if cause == Cause::Floor {
            self.purse.spend_floor(at_ns, cost_ns);
        } else {
            self.purse.spend(at_ns, cost_ns);
        }
    }

    /// What is to be expected of a window.
    pub(super) fn outlook(&self, kind: WindowKind) -> Outlook {
        let costs = self.facts.costs;
        let (trap_ns, points) = match kind {
            WindowKind::Births => (costs.birth_trap_ns, self.facts.birth_points),
            WindowKind::Slots => (costs.slot_trap_ns, self.facts.slot_points),
        };
        let seen = &self.seen;
        let beside_ns_per_s = match self.hooks.large_objects.mode {
            Mode::Bursts => learnt::sane(seen.large_per_s).unwrap_or(0.0) * self.large_ns(),
            Mode::Continuous | Mode::Off => 0.0,
        };
        let collections_per_s = learnt::sane(seen.collections_per_s).unwrap_or(0.0);
        let (births_max, hits_goal) = match kind {
            WindowKind::Births => {
                let births = births_for_tracker(seen.tracked, self.facts.tracked_max, collections_per_s);
                (births.min(crate::units::approximate(self.facts.births_max).max(BIRTHS_MIN)), HITS_GOAL)
            }
            WindowKind::Slots => (0.0, SLOTS_GOAL),
        };
        Outlook {
            hits_per_s: self.learnt.hits_per_s(kind),
            peak_per_s: self.learnt.peak_per_s(kind),
            busy_threads: self.learnt.busy_threads,
            hit_ns: trap_ns + costs.count_ns,
            birth_ns: match kind {
                WindowKind::Births => self.birth_ns(),
                WindowKind::Slots => self.learnt.slot_ns.unwrap_or(costs.birth_ns),
            },
            births_max,
            prefers: seen.prefers,
            hits_goal,
            switch_ns: f64::from(points) * costs.point_ns,
            tail_ns: self.learnt.tail_ns(),
            beside_ns_per_s,
        }
    }

    /// What a window may cost where the target pays for it.
    fn allowance(&self, outlook: &Outlook, host: Host, config: &Config) -> Option<Allowance> {
        let (capacity_ns, minute_ns) = (self.purse.capacity_ns(), self.purse.minute_ns());
        // A window that costs less than its switching is better a longer and rarer one. So is one that costs less than it costs us, where the purse holds several.
        let least_ns = (4.0 * outlook.switch_ns).max(2.0 * outlook.fixed_ns());
        let several = if self.is_shared() { 1.0 } else { 3.0 };
        let worth_ns = least_ns.max(config.own_burst_ns.min(PURSE_PART / several * capacity_ns));
        let planned_ns = (WINDOW_SHARE * minute_ns).max(worth_ns).min(PURSE_PART * capacity_ns);
        let slack_ns = TAIL_SLACK * minute_ns;
        (planned_ns >= outlook.least_ns(slack_ns).max(4.0 * outlook.switch_ns)).then(|| Allowance {
            planned_ns,
            most_ns: (CAP * planned_ns).min(self.room_ns(outlook)),
            slack_ns,
            longest_ns: longest_ns(host, config),
        })
    }

    /// What a window may cost at most as things are, ns: all that the purse holds, but for what it takes to stay within the minute's
    /// bound should the program become very fast while the window is open.
    fn room_ns(&self, outlook: &Outlook) -> f64 {
        let minute_ns = self.purse.minute_ns();
        let bound_ns = OVER_MINUTE * minute_ns - self.purse.spent_ns();
        let sudden_ns = outlook.sudden_ns(TAIL_SLACK * minute_ns).min(SUDDEN_MOST * minute_ns);
        self.purse.content_ns().min(bound_ns - sudden_ns)
    }

    /// Windows per second that the target and we pay for now, or why there are none.
    fn paid_rate(&self, at_ns: u64, host: Host, config: &Config) -> Result<f64, Refusal> {
        let wanted_per_s = self.wanted_rate(host, config)?;
        Ok(wanted_per_s.min(self.own.windows_per_s(at_ns < self.new_until_ns(config), config) / host.live))
    }

    /// Windows per second that the target pays for now, or why there are none.
    pub(super) fn wanted_rate(&self, host: Host, config: &Config) -> Result<f64, Refusal> {
        let outlook = self.outlook(WindowKind::Births);
        let minute_ns = self.purse.minute_ns();
        let too_small = Refusal::BudgetTooSmall { window_ns: 2.0 * outlook.fixed_ns(), minute_ns };
        let allowance = self.allowance(&outlook, host, config).ok_or(too_small)?;
        let full = Allowance { most_ns: CAP * allowance.planned_ns, ..allowance };
        let shape = outlook.shape(full, config).ok_or(too_small)?;
        let (mut cost_ns, mut length_ns) = (shape.cost_ns, shape.length_ns);
        if self.facts.slot_points > 0 {
            let slots = self.outlook(WindowKind::Slots).shape(full, config).unwrap_or(shape);
            let share = self.slots_share(config);
            cost_ns += share * (slots.cost_ns - cost_ns);
            length_ns += share * (slots.length_ns - length_ns);
        }
        let (room_ns, planned_ns) = (self.room_ns(&outlook), allowance.planned_ns);
        if room_ns < planned_ns {
            return Err(Refusal::Debt { owed_ns: planned_ns - room_ns });
        }
        // As windows cost of late, not as this moment's would: were windows more frequent in each slow phase of a program, the few in its fast phases would
        // have to stand for much. One that cost a multiple is paid for by the purse, and says nothing of the next.
        let cost_ns = self.learnt.cost_ns.map_or(cost_ns, |learnt_ns| learnt_ns.min(CAP * cost_ns));
        // Full speed at half a purse: so windows are less frequent after they have cost more, and what is earned is spent.
        let fullness = (room_ns - planned_ns) / (self.purse.capacity_ns() - planned_ns).max(1.0);
        let rate_per_s = 2.0 * fullness.max(0.0) * minute_ns / 60.0 / cost_ns.max(1.0);
        let open_share = OPEN_SHARE.min(HOST_OPEN_SHARE / host.targets.max(1.0));
        let most_per_s = RATE_MAX_PER_S.min(open_share / length_ns * 1e9);
        let worth = (shape.peak_hits / HITS_WORTH).min(1.0);
        Ok(rate_per_s.min(most_per_s) * worth / host.live)
    }

    /// Which part of the windows is on slots. They tell who is slowed by being seen more than others: next to nobody, where the program
    /// is idle for most of the time and does what it has to do later.
    pub(super) fn slots_share(&self, config: &Config) -> f64 {
        config.slots_share.clamp(0.0, 1.0) * self.learnt.utilisation().max(SLOTS_LEAST)
    }

    /// Whether there would be anything to see.
    fn allocates(&self, config: &Config) -> bool {
        let longest_s = crate::units::approximate(config.long_window_ns) / 1e9;
        learnt::sane(self.seen.allocations_per_s).is_none_or(|rate| rate * longest_s >= 1.0)
    }

    /// Brings the gap to a time; the rate may change on the way.
    pub(super) fn advance(&mut self, to_ns: u64, host: Host, config: &Config) {
        // It changes by time alone at the end of a wait, of which there are three.
        for _ in 0..4 {
            let from_ns = self.gap.until_ns();
            if from_ns >= to_ns || self.gap.is_over() {
                return;
            }
            let (per_s, until_ns, _, refusal) = self.rate(from_ns, host, config);
            let until_ns = until_ns.clamp(from_ns, to_ns);
            self.gap.advance(until_ns, per_s);
            let passed_ns = until_ns - from_ns;
            match refusal {
                Some(Refusal::NothingAllocated | Refusal::NothingKnown | Refusal::Failed { .. }) => {
                    self.account.unseen_ns = self.account.unseen_ns.saturating_add(passed_ns);
                }
                _ if per_s <= 0.0 => self.blocked_ns = self.blocked_ns.saturating_add(passed_ns),
                _ => {}
            }
        }
    }

    /// Time passes in which no window could open, since one was open.
    pub(super) fn skip(&mut self, to_ns: u64) {
        if !self.gap.is_over() {
            self.blocked_ns = self.blocked_ns.saturating_add(to_ns.saturating_sub(self.gap.until_ns()));
            self.gap.skip(to_ns);
        }
    }

    /// When much has been learnt of it.
    pub(super) fn new_until_ns(&self, config: &Config) -> u64 {
        self.since_ns.saturating_add(config.new_ns)
    }

    /// Whether the books were not read twice yet.
    fn is_unknown(&self, at_ns: u64) -> bool {
        self.seen.allocations_per_s.is_none() && at_ns < self.since_ns.saturating_add(KNOWN_BY_NS)
    }

    /// Windows per second from a time on, until when that holds, and why.
    pub(super) fn rate(&self, at_ns: u64, host: Host, config: &Config) -> (f64, u64, Cause, Option<Refusal>) {
        if let Some((failure, times, until_ns)) = self.failed.filter(|(_, _, until_ns)| at_ns < *until_ns) {
            return (0.0, until_ns, Cause::Random, Some(Refusal::Failed { failure, times, until_ns }));
        }
        // What a window will cost is known when the books were read twice.
        if self.is_unknown(at_ns) {
            return (0.0, self.since_ns.saturating_add(KNOWN_BY_NS), Cause::Random, Some(Refusal::NothingKnown));
        }
        if !self.allocates(config) {
            return (0.0, u64::MAX, Cause::Random, Some(Refusal::NothingAllocated));
        }
        let paid = if host.shed >= Shed::Bursts { Err(Refusal::Shed) } else { self.paid_rate(at_ns, host, config) };
        let (floor_from_ns, mean_s) = match self.last_end_ns {
            Some(end_ns) => (end_ns.saturating_add(config.floor_gap_ns), FLOOR_MEAN_S),
            None => (0, FIRST_MEAN_S),
        };
        let floor_per_s = if at_ns >= floor_from_ns { 1.0 / mean_s } else { 0.0 };
        let changes_ns = [floor_from_ns, self.new_until_ns(config)].into_iter().filter(|change_ns| at_ns < *change_ns);
        let until_ns = changes_ns.min().unwrap_or(u64::MAX);
        match paid {
            Ok(per_s) if per_s >= floor_per_s => (per_s, until_ns, Cause::Random, None),
            // It could pay, and little is gained: then rather seldom, within what it can pay.
            Ok(_) => (floor_per_s, until_ns, Cause::Random, None),
            Err(refusal) => (floor_per_s, until_ns, Cause::Floor, Some(refusal)),
        }
    }

    /// The window that opens now. `None`: it cannot be paid for after all.
    pub(super) fn plan(&self, cause: Cause, kind: WindowKind, host: Host, config: &Config) -> Option<(Shape, f64)> {
        let outlook = self.outlook(kind);
        let allowance = match cause {
            Cause::Random | Cause::Impulse(_) => self.allowance(&outlook, host, config)?,
            Cause::Floor => {
                // All that a minute's budget has left, since there is no other burst within a minute; at least the smallest.
                let left_ns = self.purse.minute_ns() - self.purse.spent_ns();
                let slack_ns = TAIL_SLACK * self.purse.minute_ns();
                let most_ns = left_ns.min(host.purse_ns).max(2.0 * outlook.least_ns(slack_ns));
                Allowance { planned_ns: most_ns / 1.5, most_ns, slack_ns, longest_ns: longest_ns(host, config) }
            }
        };
        let shape = outlook.shape(allowance, config)?;
        Some((shape, self.mean_birth_bytes(&shape)))
    }

    /// With which mean size births are chosen, bytes; 0 where none are wanted.
    fn mean_birth_bytes(&self, shape: &Shape) -> f64 {
        if shape.births <= 0.0 {
            return 0.0;
        }
        let rates = (learnt::sane(self.seen.bytes_per_s), learnt::sane(self.seen.allocations_per_s));
        let mean_bytes = match rates {
            (Some(bytes), Some(objects)) if bytes > 0.0 && objects > 0.0 => (bytes / objects).clamp(8.0, 32_768.0),
            _ => 64.0,
        };
        (shape.hits * mean_bytes / shape.births * self.learnt.births_ratio).max(1.0)
    }

    /// An impulse that can be served now.
    pub(super) fn impulse(&self, at_ns: u64) -> Option<Impulse> {
        let is_backing_off = self.failed.is_some_and(|(_, _, until_ns)| at_ns < until_ns);
        self.impulse.filter(|(_, until_ns)| at_ns < *until_ns && !is_backing_off).map(|(impulse, _)| impulse)
    }

    /// A window opens now where the rate is this, and a new gap begins. Gives how much of the time it stands for, s: the inverse of the
    /// rate, and time in which none could open. Of a long one of these the next windows stand for a part each: a single one that stands
    /// for most of all would be most of what is known.
    pub(super) fn begin(&mut self, gap: Gap, per_s: f64) -> f64 {
        self.gap = gap;
        self.next_kind = None;
        self.impulse = None;
        let gap_s = 1.0 / per_s.max(1e-6);
        let blocked_s = (crate::units::approximate(self.blocked_ns) / 1e9).min(BLOCKED_GAPS * gap_s);
        let left_ns = self.blocked_ns.saturating_sub(crate::units::whole(blocked_s * 1e9));
        // No window stands for what is long ago.
        self.blocked_ns = left_ns.min(BLOCKED_MAX_NS);
        self.account.unseen_ns = self.account.unseen_ns.saturating_add(left_ns.saturating_sub(BLOCKED_MAX_NS));
        gap_s + blocked_s
    }

    /// What was asked for at once cannot be.
    pub(super) fn forget_impulse(&mut self) {
        self.impulse = None;
    }

    /// Asks for a window at once.
    pub(super) fn demand(&mut self, at_ns: u64, impulse: Impulse, host: Host, config: &Config) -> Result<(), Refusal> {
        if let Some((failure, times, until_ns)) = self.failed.filter(|(_, _, until_ns)| at_ns < *until_ns) {
            return Err(Refusal::Failed { failure, times, until_ns });
        }
        if self.last_impulse_ns.is_some_and(|last_ns| at_ns < last_ns.saturating_add(IMPULSE_GAP_NS)) {
            return Err(Refusal::TooSoon);
        }
        if host.shed >= Shed::Bursts {
            return Err(Refusal::Shed);
        }
        if self.is_unknown(at_ns) {
            return Err(Refusal::NothingKnown);
        }
        self.wanted_rate(host, config)?;
        self.impulse = Some((impulse, at_ns.saturating_add(IMPULSE_LIFE_NS)));
        self.last_impulse_ns = Some(at_ns);
        Ok(())
    }

    /// A window has closed. Gives what it cost, ns.
    pub(super) fn closed(&mut self, at_ns: u64, plan: &WindowPlan, outcome: &Outcome) -> f64 {
        let outcome = Outcome { births: outcome.births.min(outcome.hits), ..*outcome };
        self.learnt.learn_rate(&self.outlook(plan.kind), plan, &outcome, self.seen.allocations_per_s);
        let outlook = self.outlook(plan.kind);
        let outside = self.learnt.learn_tail(&outlook, plan, &outcome);
        self.learnt.learn_record(plan, &outcome);
        // Those of impulses are chosen otherwise.
        if plan.kind == WindowKind::Births && !matches!(plan.cause, Cause::Impulse(_)) {
            self.learnt.learn_births(plan, &outcome);
        }
        let cost_ns = learnt::cost_ns(&outlook, &outcome, outside, &self.facts.costs)
            + self.facts.costs.beside_ns * self.learnt.cores_used();
        self.charge(at_ns, cost_ns, plan.cause);
        if plan.cause == Cause::Random {
            self.learnt.learn_cost(cost_ns);
        }
        self.last_end_ns = Some(at_ns);
        self.failed = None;
        let account = &mut self.account;
        account.bursts += 1;
        account.floor_bursts += u64::from(plan.cause == Cause::Floor);
        account.impulse_bursts += u64::from(matches!(plan.cause, Cause::Impulse(_)));
        account.hits = account.hits.saturating_add(outcome.hits).saturating_add(crate::units::whole(outside));
        account.open_ns = account.open_ns.saturating_add(outcome.closed_ns.saturating_sub(outcome.opened_ns));
        cost_ns
    }

    /// A window could not be opened, or nobody knows how it went: the next is tried later each time. Gives what it cost, ns.
    pub(super) fn failed(&mut self, at_ns: u64, plan: &WindowPlan, failure: OpenFailure, paid: Paid) -> f64 {
        let cost_ns = crate::units::approximate(paid.hits) * self.outlook(plan.kind).hit_ns
            + crate::units::approximate(paid.recorded_ns);
        self.charge(at_ns, cost_ns, plan.cause);
        self.account.hits = self.account.hits.saturating_add(paid.hits);
        let (first_s, most_s) = match failure {
            OpenFailure::Frozen | OpenFailure::Other => (5_u64, 300),
            OpenFailure::Gone => (5, 60),
            OpenFailure::NotAllowed => (60, 3_600),
        };
        let times = self.failed.map_or(0, |(_, times, _)| times).saturating_add(1);
        let wait_s = first_s.saturating_mul(1 << (times - 1).min(20)).min(most_s);
        self.failed = Some((failure, times, at_ns.saturating_add(wait_s * 1_000_000_000)));
        self.account.failures += 1;
        cost_ns
    }

    /// What it could use of the host's budget, ns per second: all that it earns if it spends that, else a little more than it spends.
    pub(super) fn wants_ns_per_s(&self) -> f64 {
        let earned_ns_per_s = self.unshared.sum() / 60.0;
        if self.purse.content_ns() < 0.9 * self.purse.capacity_ns() {
            earned_ns_per_s
        } else {
            earned_ns_per_s.min(1.5 * self.purse.spent_ns() / 60.0)
        }
    }

    /// Whether it has earned less than it would without the others.
    pub(super) fn is_shared(&self) -> bool {
        self.purse.minute_ns() < 0.9 * self.unshared.sum()
    }

    pub(super) fn account(&self) -> Account {
        let ratio = |cost: f64, cpu: f64| if cpu > 0.0 { cost / cpu } else { 0.0 };
        Account {
            ratio: ratio(self.account.cost_ns, self.account.cpu_ns),
            ratio_last_minute: ratio(self.purse.spent_ns(), self.cpu.sum()),
            last_minute_ns: self.purse.spent_ns(),
            budget_last_minute_ns: self.purse.minute_ns(),
            ..self.account
        }
    }
}

/// The longest window where several targets take turns, ns.
fn longest_ns(host: Host, config: &Config) -> f64 {
    crate::units::approximate(config.long_window_ns) * (2.0 / host.targets.max(2.0))
}
