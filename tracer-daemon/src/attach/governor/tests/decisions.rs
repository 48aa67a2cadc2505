//! What is decided for one target: shapes of windows, impulses, hooks, failures, and values that cannot be.

use proptest::prelude::*;
use rand::SeedableRng as _;

use super::Mode::{Bursts, Continuous, Off};
use super::*;
use crate::attach::{TrapCost, TrapCosts};

fn facts() -> TargetFacts {
    TargetFacts {
        birth_points: 5,
        slot_points: 1,
        costs: Costs::default(),
        cpu_ns: 600 * SECOND_NS,
        age_ns: 600 * SECOND_NS,
        births_max: 3_000,
        tracked_max: 10_000,
    }
}

fn governor() -> Governor {
    let mut governor = Governor::new(BEGIN_NS, Config::default(), SmallRng::seed_from_u64(1));
    governor.add(BEGIN_NS, id(0), facts());
    governor
}

fn busy(at_ns: u64) -> Observation {
    Observation {
        at_ns,
        cpu_ns: 600 * SECOND_NS + (at_ns - BEGIN_NS),
        allocations_per_s: Some(1e6),
        bytes_per_s: Some(64e6),
        goroutines_per_s: Some(10.0),
        large_per_s: Some(1.0),
        collections_per_s: Some(1.0),
        ..Observation::default()
    }
}

/// Waits until a window opens.
fn open(governor: &mut Governor, mut at_ns: u64) -> (u64, WindowPlan) {
    for _ in 0..100_000 {
        match governor.next(at_ns) {
            Next::Open(plan) => return (at_ns, *plan),
            Next::Wait { until_ns } => at_ns = until_ns,
        }
    }
    panic!("no window opened");
}

#[test]
fn windows_are_short_where_hits_are_plenty_and_long_where_they_are_few() {
    let length_ms = |rate: f64, cores: f64| {
        let run = run(Config::default(), vec![Program::constant(rate, cores)], 200.0, 2);
        let births: Vec<&simulation::Window> = run
            .windows
            .iter()
            .filter(|window| window.plan.kind == WindowKind::Births && time_s(window.at_ns) > 5.0)
            .collect();
        assert!(births.iter().all(|window| (2_000_000..=500_000_000).contains(&window.plan.length_ns)));
        assert!(births.iter().all(|window| window.plan.is_long == (window.plan.length_ns > 20_000_000)));
        let sum: f64 = births.iter().map(|window| seconds(window.plan.length_ns) * 1e3).sum();
        sum / crate::units::approximate(u64::try_from(births.len()).unwrap())
    };
    assert!((2.0..5.0).contains(&length_ms(2e7, 2.0)));
    assert!((5.0..20.0).contains(&length_ms(1e6, 1.0)));
    assert!((300.0..500.0).contains(&length_ms(1e4, 1.0)));
    assert!(length_ms(100.0, 1.0) > 490.0);
}

#[test]
fn a_burst_records_about_as_many_births_as_find_room_at_most() {
    let mut governor = Governor::new(BEGIN_NS, Config::default(), SmallRng::seed_from_u64(1));
    governor.add(BEGIN_NS, id(0), TargetFacts { births_max: 300, ..facts() });
    governor.observe(id(0), busy(BEGIN_NS + SECOND_NS));
    let (_, plan) = open(&mut governor, BEGIN_NS + SECOND_NS);
    assert!(plan.kind == WindowKind::Births && plan.births > 250.0 && plan.births < 320.0, "{plan:?}");
}

#[test]
fn a_burst_records_twenty_to_two_thousand_births_and_fewer_where_looks_are_frequent() {
    let births = |program: Program| {
        let run = run(Config::default(), vec![program], 200.0, 2);
        let recorded: Vec<u64> = run
            .windows
            .iter()
            .filter(|window| window.plan.kind == WindowKind::Births && time_s(window.at_ns) > 5.0)
            .map(|window| window.births)
            .collect();
        let sum: u64 = recorded.iter().sum();
        (recorded.iter().copied().max().unwrap(), sum / u64::try_from(recorded.len()).unwrap())
    };
    let (most, mean) = births(Program::constant(1e6, 1.0));
    assert!(most <= 2_500 && (1_000..=2_000).contains(&mean), "{most}, {mean}");
    let (_, mean) = births(Program { collections_per_s: 100.0, ..Program::constant(1e6, 1.0) });
    assert!((300..=700).contains(&mean), "{mean}");
    let (_, mean) = births(Program { tracked: 99_980, ..Program::constant(1e6, 1.0) });
    assert!((15..=30).contains(&mean), "{mean}");
}

#[test]
fn an_impulse_opens_a_window_at_once_stands_for_no_time_and_is_not_repeated_soon() {
    let mut governor = governor();
    governor.observe(id(0), busy(BEGIN_NS + SECOND_NS));
    let at_ns = BEGIN_NS + SECOND_NS + 1;
    assert_eq!(governor.impulse(at_ns, id(0), Impulse::HeapGrowth), Ok(()));
    assert!(governor.has_impulse(at_ns + SECOND_NS, id(0)) && !governor.has_impulse(at_ns + 3 * SECOND_NS, id(0)));
    let Next::Open(plan) = governor.next(at_ns) else { panic!("waits") };
    assert_eq!((plan.cause, plan.stands_for_ns), (Cause::Impulse(Impulse::HeapGrowth), 0));
    assert!(plan.reason().contains("the heap has grown"), "{}", plan.reason());
    assert_eq!(governor.impulse(at_ns, id(0), Impulse::HeapGrowth), Err(Refusal::TooSoon));
    assert_eq!(governor.impulse(at_ns, id(7), Impulse::Pause), Err(Refusal::NoSuchTarget));
}

#[test]
fn a_poor_target_has_about_one_burst_a_minute_and_says_why() {
    let run = run(Config::default(), vec![Program::constant(5e3, 0.001)], 1_500.0, 3);
    assert!((12..=25).contains(&run.windows.len()), "{}", run.windows.len());
    assert!(run.windows.iter().all(|window| window.plan.cause == Cause::Floor));
    let Standing::Floor(refusal) = run.governor.standing(id(0)) else { panic!() };
    assert!(refusal.to_string().contains("a minute"), "{refusal}");
}

#[test]
fn windows_that_fail_are_tried_ever_later_and_soon_after_they_work_again() {
    let program = Program { frozen_s: (20.0, 400.0), ..Program::constant(1e6, 1.0) };
    let mut run = Run::new(Config::default(), vec![program], 3);
    run.run(390.0);
    let account = run.governor.account(id(0)).unwrap();
    assert!((4..=9).contains(&account.failures), "{}", account.failures);
    let Standing::Refused(Refusal::Failed { failure: OpenFailure::Frozen, times, .. }) = run.governor.standing(id(0))
    else {
        panic!("{:?}", run.governor.standing(id(0)))
    };
    assert_eq!(u64::from(times), account.failures);
    run.run(400.0);
    assert!(matches!(run.governor.standing(id(0)), Standing::Scheduled { .. }));
}

#[test]
fn a_window_of_which_nobody_knows_how_it_went_is_paid_for() {
    let mut governor = governor();
    for second in 0..10 {
        governor.observe(id(0), busy(BEGIN_NS + second * SECOND_NS));
    }
    let before = governor.account(id(0)).unwrap();
    let (at_ns, plan) = open(&mut governor, BEGIN_NS + 10 * SECOND_NS);
    let paid = Paid { hits: 100_000, recorded_ns: 5_000_000 };
    governor.failed(at_ns + SECOND_NS, id(0), plan.window, OpenFailure::Other, paid);
    let after = governor.account(id(0)).unwrap();
    assert_eq!((after.hits - before.hits, after.failures), (100_000, 1));
    let costs = facts().costs;
    let cost_ns = 1e5 * (costs.birth_trap_ns.min(costs.slot_trap_ns) + costs.count_ns) + 5e6;
    assert!(after.cost_ns - before.cost_ns >= cost_ns, "{after:?}");
}

#[test]
fn hooks_follow_the_rates_of_the_books() {
    let modes = |program: Program| {
        let run = run(Config::default(), vec![program], 100.0, 4);
        let hooks = run.governor.hooks(id(0)).unwrap().clone();
        (hooks.cycles.mode, hooks.large_objects.mode, hooks.goroutines.mode)
    };
    assert_eq!(modes(Program::constant(1e6, 1.0)), (Continuous, Continuous, Continuous));
    let storm = Program { goroutines_per_s: 10_000.0, large_per_s: 5_000.0, ..Program::constant(1e6, 1.0) };
    assert_eq!(modes(storm), (Continuous, Bursts, Off));
    let poor = Program { goroutines_per_s: 1e6, collections_per_s: 1_000.0, ..Program::constant(1e6, 0.05) };
    assert_eq!(modes(poor), (Off, Continuous, Off));
}

#[test]
fn evidence_is_shed_where_leakline_itself_takes_too_much() {
    let mut governor = governor();
    for second in 1..60 {
        let at_ns = BEGIN_NS + second * SECOND_NS;
        governor.observe(id(0), busy(at_ns));
        governor.observe_own(at_ns, second * SECOND_NS / 4);
    }
    assert_eq!(governor.shed(), Shed::Reads);
    assert!(governor.reads_slower() > 1.0);
    assert_eq!(governor.hooks(id(0)).unwrap().goroutines.mode, Off);
    assert_eq!(governor.standing(id(0)), Standing::Floor(Refusal::Shed));
}

#[test]
fn a_window_of_which_nothing_is_heard_is_over_after_a_while() {
    let mut governor = governor();
    governor.observe(id(0), busy(BEGIN_NS + SECOND_NS));
    let (at_ns, first) = open(&mut governor, BEGIN_NS + SECOND_NS);
    let (later_ns, second) = open(&mut governor, at_ns);
    assert!(later_ns - at_ns >= 10 * SECOND_NS && second.window != first.window);
    assert_eq!(governor.account(id(0)).unwrap().failures, 1);
    // What is said of it now is too late.
    governor.closed(later_ns, id(0), first.window, &Outcome::default());
    assert_eq!(governor.account(id(0)).unwrap().bursts, 0);
}

#[test]
fn what_traps_cost_can_be_measured_again() {
    let trap = |ns| TrapCost { ns, is_measured: true };
    let cost_ns = |calibrated: Option<f64>| {
        let mut governor = governor();
        if let Some(ns) = calibrated {
            governor.calibrate(&TrapCosts { push: trap(ns), call: trap(ns), jump: trap(ns) });
        }
        governor.observe(id(0), busy(BEGIN_NS + SECOND_NS));
        let (at_ns, plan) = open(&mut governor, BEGIN_NS + SECOND_NS);
        let before_ns = governor.account(id(0)).unwrap().cost_ns;
        let outcome = Outcome { opened_ns: plan.length_ns, hits: 10_000, ..Outcome::default() };
        governor.closed(at_ns + plan.length_ns, id(0), plan.window, &outcome);
        governor.account(id(0)).unwrap().cost_ns - before_ns
    };
    let (guessed, same, twice) = (cost_ns(None), cost_ns(Some(570.0)), cost_ns(Some(1_140.0)));
    assert!((same - guessed).abs() < 1e-6, "{same} {guessed}");
    assert!((1.5..2.5).contains(&(twice / guessed)), "{twice} {guessed}");
}

#[test]
fn a_target_that_is_removed_leaves_room_for_others() {
    let mut governor = governor();
    governor.observe(id(0), busy(BEGIN_NS + SECOND_NS));
    let (at_ns, _) = open(&mut governor, BEGIN_NS + SECOND_NS);
    assert!(governor.remove(at_ns, id(0)).is_some());
    assert!(governor.remove(at_ns, id(0)).is_none());
    governor.add(at_ns, id(1), facts());
    let (_, plan) = open(&mut governor, at_ns);
    assert_eq!(plan.target, id(1));
    assert_eq!(governor.standing(id(0)), Standing::Refused(Refusal::NoSuchTarget));
}

/// Values of all kinds, those that cannot be included.
fn any_rate() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        Just(None),
        Just(Some(f64::NAN)),
        Just(Some(f64::INFINITY)),
        Just(Some(-1.0)),
        Just(Some(f64::MAX)),
        (0.0..1e9_f64).prop_map(Some),
    ]
}

proptest! {
    #[test]
    fn whatever_is_observed_the_account_is_finite_and_windows_have_their_bounds(
        looks in prop::collection::vec(
            (0..3 * SECOND_NS, any::<u64>(), any_rate(), any_rate(), any_rate(), any_rate(), any::<u32>()),
            1..40,
        ),
        facts_cpu_ns in any::<u64>(),
        age_ns in any::<u64>(),
        points in any::<u32>(),
        outcomes in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 1..10),
    ) {
        let mut governor = Governor::new(BEGIN_NS, Config::default(), SmallRng::seed_from_u64(1));
        let facts = TargetFacts { birth_points: points, cpu_ns: facts_cpu_ns, age_ns, ..facts() };
        governor.add(BEGIN_NS, id(0), facts);
        let mut at_ns = BEGIN_NS;
        let mut outcomes = outcomes.into_iter().cycle();
        for (step_ns, cpu_ns, allocations, bytes, collections, goroutines, hits) in looks {
            at_ns += step_ns;
            let hits = HookHits { cycles: u64::from(hits), cycles_ns: cpu_ns, goroutines: cpu_ns, large_objects: 0 };
            governor.observe(id(0), Observation {
                at_ns: if step_ns % 7 == 0 { step_ns } else { at_ns },
                cpu_ns,
                threads_max: Some(points),
                allocations_per_s: allocations,
                bytes_per_s: bytes,
                large_per_s: goroutines,
                goroutines_per_s: goroutines,
                collections_per_s: collections,
                tracked: cpu_ns,
                hits,
                prefers: false,
            });
            if let Next::Open(plan) = governor.next(at_ns) {
                prop_assert!((2_000_000..=500_000_000).contains(&plan.length_ns), "{plan:?}");
                prop_assert!(plan.hit_cap >= 1);
                prop_assert!(plan.cost_ns.is_finite() && plan.most_ns.is_finite() && plan.births.is_finite());
                prop_assert!(!plan.reason().contains("NaN"), "{}", plan.reason());
                let (opened_ns, closed_ns, hits, births) = outcomes.next().unwrap();
                let outcome = Outcome {
                    recorded_ns: 0,
                    opened_ns,
                    closed_ns,
                    hits,
                    births,
                    hits_outside: (hits % 2 == 0).then_some(births),
                    frames: opened_ns,
                };
                governor.closed(at_ns, id(0), plan.window, &outcome);
            }
            let account = governor.account(id(0)).unwrap();
            prop_assert!(account.cost_ns.is_finite() && account.cost_ns >= 0.0);
            prop_assert!(account.ratio.is_finite() && account.ratio_last_minute.is_finite());
            if let Standing::Scheduled { gap_s } = governor.standing(id(0)) {
                prop_assert!(gap_s.is_finite() && gap_s > 0.0);
            }
        }
    }
}
