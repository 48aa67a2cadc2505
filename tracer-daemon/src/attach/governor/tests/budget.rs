//! What targets pay: never more than the budget, and what there is where it is of use.

use super::super::super::Mechanism;
use super::*;

/// Programs of all kinds.
fn programs() -> Vec<(&'static str, Program)> {
    let mut programs = vec![
        ("a million a second", Program::constant(1e6, 1.0)),
        ("twenty millions on two threads", Program::constant(2e7, 2.0)),
        ("ten thousand", Program::constant(1e4, 1.0)),
        ("few and little CPU", Program::constant(1e3, 0.05)),
        ("many for its CPU", Program::constant(5e4, 0.05)),
        ("a two-hundredth of a core", Program::constant(5e3, 0.005)),
        ("next to no CPU", Program::constant(10.0, 0.0001)),
        ("64 cores", Program::constant(1e8, 64.0)),
        ("idle", Program::constant(0.0, 0.0)),
        ("a thousand times as fast at once", jumping(150.0, (1e4, 1e7), (1.0, 1.0))),
        ("a thousand times as fast, CPU too", jumping(150.0, (1e4, 1e7), (0.01, 8.0))),
        ("falls asleep", jumping(150.0, (1e7, 100.0), (8.0, 0.0))),
        ("phases of 100 ms", phased(0.1, 0.3, (1e7, 100.0), (1.0, 0.1))),
        ("phases of 20 s", phased(20.0, 0.5, (1e7, 100.0), (2.0, 0.01))),
        ("phases of two minutes", phased(120.0, 0.5, (1e7, 1e4), (4.0, 0.05))),
        ("ramp", Program { allocations_per_s: Box::new(|at_s| 1e3 * (at_s / 20.0).exp()), ..Program::default() }),
    ];
    programs.push(("no books", Program { has_books: false, ..jumping(150.0, (1e3, 1e7), (0.5, 1.0)) }));
    programs.push(("100 collections a second", Program { collections_per_s: 100.0, ..Program::constant(2e6, 1.0) }));
    programs.push((
        "100 collections a second, little CPU",
        Program { collections_per_s: 100.0, ..Program::constant(2e4, 0.05) },
    ));
    programs.push(("many goroutines", Program { goroutines_per_s: 2_000.0, ..Program::constant(1e5, 1.0) }));
    programs.push(("millions of goroutines", Program { goroutines_per_s: 1e6, ..Program::constant(1e6, 2.0) }));
    programs.push(("large objects", Program { large_per_s: 700.0, ..Program::constant(1e5, 1.0) }));
    programs.push(("just begun", Program { age_s: 0.1, ..Program::constant(1e6, 2.0) }));
    let births_times = Box::new(|at_s: f64| if at_s % 10.0 < 3.0 { 1e3 } else { 1.0 });
    programs.push(("at times each hit is a birth", Program { births_times, ..Program::constant(1e6, 1.0) }));
    let impulses_s = (0..300).map(f64::from).collect();
    programs.push(("impulses all the time", Program { impulses_s, ..Program::constant(1e7, 1.0) }));
    programs
}

#[test]
fn no_target_pays_more_than_its_budget_over_any_minute() {
    for (max_overhead, seed) in [(0.002, 1), (0.01, 2), (0.01, 3), (0.05, 4)] {
        for (name, program) in programs() {
            let run = run(Config::for_overhead(max_overhead), vec![program], 300.0, seed);
            run.assert_within_budget(&format!("{name}, {max_overhead}, seed {seed}"));
        }
    }
}

/// Slow programs have long windows, so these become fast within one now and then.
#[test]
fn who_becomes_a_thousand_times_as_fast_within_a_window_pays_no_more() {
    let mut met = 0;
    for seed in 0..600 {
        let at_s = 100.0 + f64::from(u32::try_from(seed).unwrap()) * 0.037;
        let program = jumping(at_s, (1e4, 1e7), (0.01, 1.0));
        let run = run(Config::default(), vec![program], 130.0, seed);
        run.assert_within_budget(&format!("fast at {at_s} s"));
        let meets = |window: &&simulation::Window| (time_s(window.at_ns)..time_s(window.free_ns)).contains(&at_s);
        met += run.windows.iter().filter(meets).count();
    }
    assert!(met >= 10, "windows met {met} jumps");
}

#[test]
fn where_probes_go_slowly_windows_are_rarer_and_the_budget_holds() {
    for (rate, cores) in [(1e8, 64.0), (2e7, 2.0), (1e6, 1.0), (1e4, 1.0)] {
        let windows_of = |mechanism| {
            let costs = Costs::of(mechanism);
            let program = Program { costs, ..Program::constant(rate, cores) };
            let mut run = Run::new(Config::for_overhead(0.05), vec![program], 7);
            run.tail_ns = costs.tail_ns / 2.0;
            run.run(400.0);
            run.assert_within_budget(&format!("{rate}/s on {cores}, {mechanism:?}"));
            run.windows.len()
        };
        let (by_events, by_links) = (windows_of(Mechanism::PerfEvents), windows_of(Mechanism::UprobeMulti));
        println!("{rate}/s on {cores}: {by_events} windows by events, {by_links} by links");
        assert!(by_events > 0 && by_events <= by_links, "{by_events} {by_links}");
    }
}

#[test]
fn the_budget_holds_however_long_hits_go_on_behind_a_window() {
    for tail_ns in [0.0, 3e5, 3e6] {
        for (rate, cores) in [(1e8, 64.0), (2e7, 2.0), (5e4, 0.05)] {
            let mut run = Run::new(Config::default(), vec![Program::constant(rate, cores)], 6);
            run.tail_ns = tail_ns;
            run.run(400.0);
            assert!(!run.windows.is_empty());
            run.assert_within_budget(&format!("{rate}/s on {cores}, tail {tail_ns} ns"));
        }
    }
}

#[test]
fn a_steady_target_pays_at_most_a_fifth_more_than_its_budget_in_any_minute() {
    for (rate, cores) in [(1e6, 1.0), (2e7, 2.0), (5e4, 0.05), (1e8, 64.0)] {
        let run = run(Config::default(), vec![Program::constant(rate, cores)], 1_000.0, 7);
        let largest = run.assert_within_budget("steady");
        assert!(largest <= 1.2, "{rate}/s on {cores}: {largest}");
    }
}

#[test]
fn what_is_earned_is_spent_where_hits_are_plenty() {
    for (rate, cores) in [(1e6, 1.0), (2e7, 2.0), (2e5, 1.0), (5e4, 0.05), (5e6, 8.0)] {
        let run = run(Config::default(), vec![Program::constant(rate, cores)], 600.0, 3);
        let used = run.use_of_budget(0);
        assert!((0.8..=1.1).contains(&used), "{rate}/s on {cores}: {used}");
    }
}

#[test]
fn what_is_spent_follows_the_setting() {
    let settings = [0.02, 0.05, 0.1];
    let spent: Vec<f64> = settings
        .iter()
        .map(|setting| {
            let run = run(Config::for_overhead(*setting), vec![Program::constant(1.2e6, 1.0)], 400.0, 11);
            run.governor.account(id(0)).unwrap().ratio
        })
        .collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / 3.0;
    let (x, y) = (mean(&settings), mean(&spent));
    let products: f64 = settings.iter().zip(&spent).map(|(setting, spent)| (setting - x) * (spent - y)).sum();
    let squares: f64 = settings.iter().map(|setting| (setting - x).powi(2)).sum();
    let slope = products / squares;
    assert!((0.75..=1.25).contains(&slope), "slope {slope}, spent {spent:?}");
}

#[test]
fn the_account_of_a_minute_counts_what_the_target_used_before_we_came() {
    for seed in 0..20 {
        let run = run(Config::default(), vec![Program::constant(1.2e6, 1.0)], 4.0, seed);
        let account = run.governor.account(id(0)).unwrap();
        assert!(account.cost_ns == 0.0 || account.ratio_last_minute > 0.0);
        assert!(account.ratio_last_minute < 1.2 * 0.01, "{}", account.ratio_last_minute);
    }
}

#[test]
fn nothing_is_spent_where_nothing_is_gained() {
    let idle = run(Config::default(), vec![Program::constant(0.0, 1.0)], 300.0, 1);
    assert!(idle.windows.is_empty());
    assert_eq!(idle.governor.standing(id(0)), Standing::Refused(Refusal::NothingAllocated));
    let moderate = run(Config::default(), vec![Program::constant(1e4, 1.0)], 300.0, 1);
    assert!(moderate.use_of_budget(0) < 0.25, "a quarter of all allocations are seen already");
}

#[test]
fn a_jump_of_the_rate_costs_at_most_one_cap() {
    for seed in 0..20 {
        let run = run(Config::default(), vec![jumping(100.0, (1e4, 1e7), (1.0, 1.0))], 130.0, seed);
        let first = run.windows.iter().find(|window| time_s(window.at_ns) > 99.9).unwrap();
        assert!(first.hits <= first.plan.hit_cap);
        for window in &run.windows {
            assert!(window.hits <= window.plan.hit_cap);
            let tail_slack_ns = 0.08 * 6e8;
            assert!(window.cost_ns <= window.plan.most_ns + tail_slack_ns, "{window:?}");
        }
        // Those behind it know the new rate.
        let later: Vec<_> = run.windows.iter().filter(|window| time_s(window.at_ns) > 102.0).collect();
        let mean_ns = later.iter().map(|window| window.cost_ns).sum::<f64>() / seconds(ns(1.0)) / 1e6;
        let count = crate::units::approximate(u64::try_from(later.len()).unwrap());
        assert!(mean_ns / count <= 8.0, "{} ms a window", mean_ns / count);
    }
}

#[test]
fn however_many_hits_become_births_a_window_costs_no_more_than_planned() {
    for seed in 0..20 {
        let births_times = Box::new(|at_s: f64| if at_s % 10.0 < 3.0 { 1e3 } else { 1.0 });
        let program = Program { births_times, ..Program::constant(1e6, 1.0) };
        let run = run(Config::default(), vec![program], 130.0, seed);
        assert!(run.windows.iter().any(|window| 2 * window.births > window.hits), "no window with so many births");
        for window in &run.windows {
            let tail_slack_ns = 0.08 * 6e8;
            assert!(window.cost_ns <= window.plan.most_ns + tail_slack_ns, "{window:?}");
        }
    }
}

#[test]
fn the_host_pays_no_more_than_its_budget_and_targets_share_it_evenly() {
    for seed in 0..1 {
        let programs = (0..30).map(|_| Program::constant(1e6, 1.0)).collect();
        let run = run(Config::default(), programs, 240.0, seed);
        let minute_ns = 60 * SECOND_NS;
        let own_ns = Config::default().own_burst_ns;
        for window in run.windows.iter().step_by(5) {
            let (from_ns, to_ns) = (window.free_ns.saturating_sub(minute_ns), window.free_ns);
            let paid_ns: f64 = run
                .charges
                .iter()
                .filter(|charge| charge.at_ns > from_ns && charge.at_ns <= to_ns)
                .map(|charge| charge.cost_ns + if charge.is_window { own_ns } else { 0.0 })
                .sum();
            assert!(paid_ns <= 1.2 * 0.03 * 60e9, "{:.1} ms within a minute", paid_ns / 1e6);
        }
        let paid: Vec<f64> = (0..30).map(|target| run.paid_ns(target, BEGIN_NS + minute_ns, u64::MAX).0).collect();
        let mean = paid.iter().sum::<f64>() / 30.0;
        let bursts = run.windows.iter().filter(|window| window.at_ns > BEGIN_NS + minute_ns).count();
        let own = own_ns * crate::units::approximate(u64::try_from(bursts).unwrap()) / 180e9;
        let targets = mean * 30.0 / 180e9;
        assert!(own + targets > 0.75 * 0.03 && own < 0.55 * 0.03, "{targets} for targets, {own} for ourselves");
        for paid in &paid {
            assert!((0.6..1.5).contains(&(paid / mean)), "{paid} of {mean}");
        }
    }
}

#[test]
fn a_small_target_is_not_starved_by_large_ones() {
    let mut programs: Vec<Program> = (0..20).map(|_| Program::constant(1e7, 4.0)).collect();
    programs.push(Program::constant(5e4, 0.05));
    let run = run(Config::default(), programs, 300.0, 5);
    let used = run.use_of_budget(20);
    assert!(used > 0.5, "{used}");
}

#[test]
fn at_most_twenty_windows_begin_within_a_second_one_at_a_time() {
    let programs = (0..200).map(|_| Program::constant(1e6, 1.0)).collect();
    let run = run(Config { node_overhead: 10.0, ..Config::for_overhead(0.1) }, programs, 30.0, 9);
    assert!(run.windows.len() > 100);
    for pair in run.windows.windows(2) {
        assert!(pair[1].at_ns >= pair[0].free_ns);
    }
    for some in run.windows.windows(21) {
        assert!(some[20].at_ns - some[0].at_ns >= SECOND_NS, "{} ns", some[20].at_ns - some[0].at_ns);
    }
}
