//! A host that never ran: programs whose rates and CPU use are functions of time, and what windows on them cost.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::super::*;

pub(super) const SECOND_NS: u64 = 1_000_000_000;
const MILLISECOND_NS: u64 = 1_000_000;

pub(super) fn seconds(ns: u64) -> f64 {
    crate::units::approximate(ns) / 1e9
}

pub(super) fn ns(seconds: f64) -> u64 {
    crate::units::whole(seconds * 1e9)
}

pub(super) fn time_s(at_ns: u64) -> f64 {
    seconds(at_ns.saturating_sub(BEGIN_NS))
}

/// A program: functions of the time in seconds.
pub(super) struct Program {
    pub(super) allocations_per_s: Box<dyn Fn(f64) -> f64>,
    pub(super) cores: Box<dyn Fn(f64) -> f64>,
    /// How many times as many hits become births as is expected.
    pub(super) births_times: Box<dyn Fn(f64) -> f64>,
    pub(super) collections_per_s: f64,
    pub(super) goroutines_per_s: f64,
    pub(super) large_per_s: f64,
    pub(super) points: u32,
    pub(super) has_slots: bool,
    pub(super) age_s: f64,
    /// Whether the books can be read.
    pub(super) has_books: bool,
    /// From when windows fail, and when they work again.
    pub(super) frozen_s: (f64, f64),
    pub(super) tracked: u64,
    /// Impulses at these times.
    pub(super) impulses_s: Vec<f64>,
    /// What the governor is told of costs.
    pub(super) costs: Costs,
}

impl Default for Program {
    fn default() -> Self {
        Self {
            allocations_per_s: Box::new(|_| 1e6),
            cores: Box::new(|_| 1.0),
            births_times: Box::new(|_| 1.0),
            collections_per_s: 2.0,
            goroutines_per_s: 10.0,
            large_per_s: 5.0,
            points: 5,
            has_slots: true,
            age_s: 600.0,
            has_books: true,
            frozen_s: (f64::INFINITY, f64::INFINITY),
            tracked: 0,
            impulses_s: Vec::new(),
            costs: Costs::default(),
        }
    }
}

impl Program {
    pub(super) fn constant(allocations_per_s: f64, cores: f64) -> Self {
        Self {
            allocations_per_s: Box::new(move |_| allocations_per_s),
            cores: Box::new(move |_| cores),
            ..Self::default()
        }
    }
}

/// What was charged to a target's account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    pub(super) at_ns: u64,
    pub(super) target: usize,
    pub(super) cost_ns: f64,
    pub(super) is_window: bool,
    pub(super) is_floor: bool,
    /// Of it: hits before and behind the window on threads that ran only since the last look. Nobody can know of them.
    pub(super) unforeseen_ns: f64,
}

/// A window as it was.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) at_ns: u64,
    pub(super) free_ns: u64,
    pub(super) open_ns: u64,
    pub(super) hits: u64,
    pub(super) births: u64,
    pub(super) cost_ns: f64,
    pub(super) plan: WindowPlan,
}

/// What a target's CPU time has brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Income {
    pub(super) at_ns: u64,
    pub(super) target: usize,
    pub(super) budget_ns: f64,
}

struct State {
    program: Program,
    cpu_s: f64,
    cpu_until_s: f64,
    next_look_ns: u64,
    last_look_ns: u64,
    last_cpu_s: f64,
    hook_cap_hits: HookHits,
}

pub(super) struct Run {
    pub(super) governor: Governor,
    states: Vec<State>,
    random: SmallRng,
    now_ns: u64,
    pub(super) tail_ns: f64,
    pub(super) charges: Vec<Charge>,
    pub(super) incomes: Vec<Income>,
    pub(super) windows: Vec<Window>,
    pub(super) refused_impulses: usize,
    config: Config,
}

pub(super) const BEGIN_NS: u64 = 1_000 * SECOND_NS;

impl Run {
    pub(super) fn new(config: Config, programs: Vec<Program>, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x0057_1a7e);
        let mut governor = Governor::new(BEGIN_NS, config, SmallRng::seed_from_u64(seed));
        let states: Vec<State> = programs
            .into_iter()
            .enumerate()
            .map(|(index, program)| {
                let before_s = (program.cores)(0.0) * program.age_s;
                let facts = TargetFacts {
                    birth_points: program.points,
                    slot_points: u32::from(program.has_slots),
                    costs: program.costs,
                    cpu_ns: ns(before_s),
                    age_ns: ns(program.age_s),
                    births_max: 3_000,
                    tracked_max: 100_000,
                };
                governor.add(BEGIN_NS, id(index), facts);
                let offset_ns = random.random_range(0..SECOND_NS);
                State {
                    cpu_s: before_s,
                    cpu_until_s: 0.0,
                    next_look_ns: BEGIN_NS + offset_ns,
                    last_look_ns: BEGIN_NS,
                    last_cpu_s: before_s,
                    hook_cap_hits: HookHits::default(),
                    program,
                }
            })
            .collect();
        let incomes = states
            .iter()
            .enumerate()
            .map(|(target, state)| {
                let used_s = state.cpu_s * (60.0 / state.program.age_s.max(1e-9)).min(1.0);
                Income { at_ns: BEGIN_NS, target, budget_ns: config.max_overhead * used_s.min(60.0) * 1e9 }
            })
            .collect();
        Self {
            governor,
            states,
            random,
            now_ns: BEGIN_NS,
            tail_ns: 300_000.0,
            charges: Vec::new(),
            incomes,
            windows: Vec::new(),
            refused_impulses: 0,
            config,
        }
    }

    pub(super) fn run(&mut self, length_s: f64) {
        let end_ns = self.now_ns + ns(length_s);
        while self.now_ns < end_ns {
            self.impulses();
            match self.governor.next(self.now_ns) {
                Next::Open(plan) => self.window(&plan),
                Next::Wait { until_ns } => {
                    assert!(until_ns > self.now_ns, "asked again at once");
                    let look_ns = self.states.iter().map(|state| state.next_look_ns).min().unwrap();
                    self.now_ns = until_ns.min(look_ns.max(self.now_ns + 1));
                }
            }
            self.looks();
        }
    }

    fn impulses(&mut self) {
        let now_s = time_s(self.now_ns);
        for index in 0..self.states.len() {
            let due = self.states[index].program.impulses_s.first().is_some_and(|at_s| *at_s <= now_s);
            if due {
                self.states[index].program.impulses_s.remove(0);
                if self.governor.impulse(self.now_ns, id(index), Impulse::HeapGrowth).is_err() {
                    self.refused_impulses += 1;
                }
            }
        }
    }

    /// Each program is looked at once a second, also while a window is open.
    fn looks(&mut self) {
        for index in 0..self.states.len() {
            while self.states[index].next_look_ns <= self.now_ns {
                let at_ns = self.states[index].next_look_ns.max(self.states[index].last_look_ns);
                self.look(index, at_ns);
                self.states[index].next_look_ns += SECOND_NS;
            }
        }
    }

    fn look(&mut self, index: usize, at_ns: u64) {
        let at_s = time_s(at_ns);
        let before = self.governor.account(id(index)).unwrap().cost_ns;
        let hooks = self.governor.hooks(id(index)).unwrap().clone();
        let state = &mut self.states[index];
        // The books count objects, so a rate is the mean between two looks.
        let (mut objects, mut passed_cpu_s) = (0.0, 1e-9);
        while state.cpu_until_s < at_s {
            let step_s = 0.02_f64.min(at_s - state.cpu_until_s);
            state.cpu_s += (state.program.cores)(state.cpu_until_s) * step_s;
            objects += (state.program.allocations_per_s)(state.cpu_until_s) * step_s;
            passed_cpu_s += step_s;
            state.cpu_until_s += step_s;
        }
        let passed_s = seconds(at_ns - state.last_look_ns);
        let program = &state.program;
        let hits = |decision: &HookDecision, per_s: f64| match decision.mode {
            Mode::Continuous => crate::units::whole(per_s * passed_s).min(decision.hits_per_s_max),
            Mode::Bursts | Mode::Off => 0,
        };
        state.hook_cap_hits = HookHits {
            cycles: hits(&hooks.cycles, program.collections_per_s),
            cycles_ns: 20_000 * hits(&hooks.cycles, program.collections_per_s),
            large_objects: hits(&hooks.large_objects, program.large_per_s),
            goroutines: hits(&hooks.goroutines, 2.0 * program.goroutines_per_s),
        };
        let allocations_per_s = objects / passed_cpu_s;
        let observation = Observation {
            at_ns,
            cpu_ns: ns(state.cpu_s),
            threads_max: None,
            allocations_per_s: program.has_books.then_some(allocations_per_s),
            bytes_per_s: program.has_books.then_some(allocations_per_s * 64.0),
            large_per_s: Some(program.large_per_s),
            goroutines_per_s: Some(program.goroutines_per_s),
            collections_per_s: Some(program.collections_per_s),
            tracked: program.tracked,
            hits: state.hook_cap_hits,
            prefers: false,
        };
        let core_s = (state.cpu_s - state.last_cpu_s).min(passed_s);
        state.last_cpu_s = state.cpu_s;
        state.last_look_ns = at_ns;
        self.incomes.push(Income { at_ns, target: index, budget_ns: self.config.max_overhead * core_s * 1e9 });
        self.governor.observe(id(index), observation);
        let cost_ns = self.governor.account(id(index)).unwrap().cost_ns - before;
        self.charges.push(Charge {
            at_ns,
            target: index,
            cost_ns,
            is_window: false,
            is_floor: false,
            unforeseen_ns: 0.0,
        });
    }

    fn window(&mut self, plan: &WindowPlan) {
        let index = usize::try_from(plan.target.0).unwrap();
        let begun_ns = self.now_ns;
        let at_s = time_s(begun_ns);
        let frozen = self.states[index].program.frozen_s;
        if (frozen.0..frozen.1).contains(&at_s) {
            self.now_ns += 10 * MILLISECOND_NS;
            self.governor.failed(self.now_ns, plan.target, plan.window, OpenFailure::Frozen, Paid::default());
            return;
        }
        let costs = Costs::default();
        let opened_ns = begun_ns + 8 * MILLISECOND_NS;
        let (mut hits, mut births, mut open_ns) = (0.0_f64, 0.0_f64, 0_u64);
        let cap = crate::units::approximate(plan.hit_cap);
        let birth_share = match plan.kind {
            WindowKind::Births if plan.mean_birth_bytes > 0 => {
                let times = (self.states[index].program.births_times)(at_s);
                (times * 64.0 / crate::units::approximate(plan.mean_birth_bytes)).min(1.0)
            }
            WindowKind::Births | WindowKind::Slots => 0.0,
        };
        let hit_ns = costs.birth_trap_ns + costs.count_ns + birth_share * (costs.birth_ns + 10.0 * costs.frame_ns);
        // The holder looks at hits, and at what they and the births cost by the governor's numbers.
        let caught = plan.caught;
        let approximate = crate::units::approximate;
        let counted_ns = approximate(caught.hit_ns) + birth_share * approximate(caught.birth_ns);
        let cap = cap.min(approximate(caught.most_ns) / counted_ns.max(1.0));
        let step_ns = (plan.length_ns / 100).clamp(5_000, 200_000);
        while open_ns < plan.length_ns && hits < cap {
            let here_s = time_s(opened_ns + open_ns);
            let per_s = self.slowed(index, plan.kind, here_s, hit_ns);
            let here = (per_s * seconds(step_ns)).min(cap - hits);
            hits += here;
            births += here * birth_share;
            open_ns += step_ns;
        }
        let tail_ns = -self.tail_ns * (1.0 - self.random.random::<f64>()).ln();
        let outside = self.slowed(index, plan.kind, time_s(opened_ns + open_ns), 600.0) * tail_ns / 1e9;
        let whole = crate::units::whole;
        let (hits, births) = (whole(hits), whole(births));
        let outcome = Outcome {
            recorded_ns: 0,
            opened_ns,
            closed_ns: opened_ns + open_ns,
            hits,
            hits_outside: Some(whole(outside)),
            births,
            frames: births * 10,
        };
        self.now_ns = outcome.closed_ns + 26 * MILLISECOND_NS;
        // Looks go on meanwhile.
        self.looks();
        let before = self.governor.account(plan.target).unwrap().cost_ns;
        self.governor.closed(self.now_ns, plan.target, plan.window, &outcome);
        let cost_ns = self.governor.account(plan.target).unwrap().cost_ns - before;
        let is_floor = plan.cause == Cause::Floor;
        let cores = |at_s: f64| (self.states[index].program.cores)(at_s).max(1.0);
        let cores_seen = cores(time_s(self.states[index].last_look_ns.min(begun_ns)));
        let cores_now = cores(time_s(outcome.closed_ns));
        let unforeseen_ns = (1.0 - cores_seen / cores_now).max(0.0) * outside * 600.0;
        let at_ns = self.now_ns;
        self.charges.push(Charge { at_ns, target: index, cost_ns, is_window: true, is_floor, unforeseen_ns });
        let free_ns = self.now_ns.max(begun_ns + 50 * MILLISECOND_NS);
        let plan = plan.clone();
        self.windows.push(Window { at_ns: begun_ns, free_ns, open_ns, hits, births, cost_ns, plan });
    }

    fn slowed(&self, index: usize, kind: WindowKind, at_s: f64, hit_ns: f64) -> f64 {
        let program = &self.states[index].program;
        let share = if kind == WindowKind::Slots { 1.0 / 40.0 } else { 1.0 };
        let (per_s, threads) = ((program.allocations_per_s)(at_s) * share, (program.cores)(at_s).max(1.0));
        per_s / (1.0 + per_s * hit_ns / 1e9 / threads)
    }

    /// What one target paid between two times but for what nobody could foresee, and the part of it that was beside the budget.
    pub(super) fn paid_ns(&self, target: usize, from_ns: u64, to_ns: u64) -> (f64, Vec<f64>) {
        let within = self
            .charges
            .iter()
            .filter(|charge| charge.target == target && charge.at_ns > from_ns && charge.at_ns <= to_ns);
        let (mut paid_ns, mut floors) = (0.0, Vec::new());
        for charge in within {
            if charge.is_floor {
                floors.push(charge.cost_ns);
            } else {
                paid_ns += charge.cost_ns - charge.unforeseen_ns;
            }
        }
        (paid_ns, floors)
    }

    pub(super) fn budget_ns(&self, target: usize, from_ns: u64, to_ns: u64) -> f64 {
        let within = self
            .incomes
            .iter()
            .filter(|income| income.target == target && income.at_ns > from_ns && income.at_ns <= to_ns);
        within.map(|income| income.budget_ns).sum()
    }

    /// All that was spent of what was earned, by one target, behind the first minute.
    pub(super) fn use_of_budget(&self, target: usize) -> f64 {
        let from_ns = BEGIN_NS + 60 * SECOND_NS;
        let (paid_ns, floors) = self.paid_ns(target, from_ns, u64::MAX);
        (paid_ns + floors.iter().sum::<f64>()) / self.budget_ns(target, from_ns, u64::MAX)
    }

    /// The law of the budget, over each minute that ends with a charge. Gives the largest part of the bound that was used.
    pub(super) fn assert_within_budget(&self, name: &str) -> f64 {
        let minute_ns = 60 * SECOND_NS;
        let mut largest = 0.0_f64;
        for charge in &self.charges {
            let (from_ns, to_ns) = (charge.at_ns - minute_ns, charge.at_ns);
            let (paid_ns, floors) = self.paid_ns(charge.target, from_ns, to_ns);
            let budget_ns = self.budget_ns(charge.target, from_ns, to_ns);
            let before_ns = self.budget_ns(charge.target, from_ns - minute_ns, from_ns);
            assert!(floors.len() <= 1, "{name}: {} bursts beside the budget within a minute", floors.len());
            let bound_ns = budget_ns + 0.2 * before_ns;
            // Hooks stay on whatever the budget where they cost less than a microsecond a second each.
            let slack_ns = 180_000.0;
            let floor_ns = floors.first().copied().unwrap_or(0.0);
            // A burst of the floor that the minute's budget can pay for is within it.
            let with_floor_ns = if floor_ns <= budget_ns { paid_ns + floor_ns } else { paid_ns };
            assert!(
                with_floor_ns <= bound_ns + slack_ns,
                "{name}: target {} paid {:.2} ms (floor {:.2}) within a minute, budget {:.2}, before {:.2}, at {:.1} s",
                charge.target,
                paid_ns / 1e6,
                floor_ns / 1e6,
                budget_ns / 1e6,
                before_ns / 1e6,
                time_s(to_ns)
            );
            largest = largest.max(with_floor_ns / (budget_ns + slack_ns));
        }
        largest
    }
}

pub(super) fn id(index: usize) -> TargetId {
    TargetId(u64::try_from(index).unwrap())
}
