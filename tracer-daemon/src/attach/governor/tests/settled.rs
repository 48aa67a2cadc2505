//! Once a target is known, windows are few.

use super::*;

/// Windows per second between two times.
fn windows_per_s(run: &Run, from_s: f64, to_s: f64) -> f64 {
    let between = run.windows.iter().filter(|window| (from_s..to_s).contains(&time_s(window.at_ns))).count();
    crate::units::approximate(u64::try_from(between).unwrap()) / (to_s - from_s)
}

#[test]
fn one_target_costs_ourselves_a_quarter_of_its_budget_once_it_is_known() {
    let config = Config::default();
    let run = run_settling(config, vec![Program::constant(1e6, 1.0)], 1_200.0, 2);
    let own = |from_s, to_s| windows_per_s(&run, from_s, to_s) * config.own_burst_ns / 1e9;
    assert!(own(10.0, 180.0) > 0.4 * config.max_overhead, "{}", own(10.0, 180.0));
    assert!(own(180.0, 1_200.0) < 0.28 * config.max_overhead, "{}", own(180.0, 1_200.0));
    assert!(own(180.0, 1_200.0) > 0.15 * config.max_overhead, "{}", own(180.0, 1_200.0));
}

#[test]
fn twenty_targets_cost_ourselves_less_than_one_percent_of_a_core_once_they_are_known() {
    let config = Config::default();
    let programs = (0..20).map(|_| Program::constant(1e6, 1.0)).collect();
    let run = run_settling(config, programs, 500.0, 3);
    let own = windows_per_s(&run, 200.0, 500.0) * config.own_burst_ns / 1e9;
    assert!((0.005..0.01).contains(&own), "{own}");
}

#[test]
fn what_windows_stand_for_is_all_the_time_whether_they_are_many_or_few() {
    for seed in 0..5 {
        let run = run_settling(Config::default(), vec![Program::constant(1e6, 1.0)], 1_200.0, seed);
        let stands_for: f64 = run.windows.iter().map(|window| seconds(window.plan.stands_for_ns)).sum();
        assert!((stands_for / 1_200.0 - 1.0).abs() < 0.12, "{stands_for} s");
    }
}
