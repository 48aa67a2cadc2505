//! When windows open: at random times that no program can meet or avoid.

use rand::SeedableRng as _;

use super::*;

/// The largest distance between the distribution of values and the exponential one of their mean.
fn distance_from_exponential(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let count = crate::units::approximate(u64::try_from(sorted.len()).unwrap());
    let mean = sorted.iter().sum::<f64>() / count;
    let mut largest = 0.0_f64;
    let mut below = 0.0;
    for value in sorted {
        let expected = 1.0 - (-value / mean).exp();
        largest = largest.max(expected - below / count).max((below + 1.0) / count - expected);
        below += 1.0;
    }
    largest
}

/// Gaps between the end of a window and the beginning of the next, s.
fn gaps(run: &Run) -> Vec<f64> {
    run.windows.windows(2).map(|pair| seconds(pair[1].at_ns - pair[0].free_ns)).collect()
}

fn count_of<T>(values: &[T]) -> f64 {
    crate::units::approximate(u64::try_from(values.len()).unwrap())
}

#[test]
fn a_gap_is_exponential_in_the_sum_of_its_rate_however_often_that_changes() {
    let mut random = SmallRng::seed_from_u64(4);
    let sums: Vec<f64> = (0..5_000)
        .map(|_| {
            let mut gap = Gap::begin(0, &mut random);
            let (mut now_ns, mut sum) = (0, 0.0);
            loop {
                let rate_per_s = random.random_range(0.0..3.0);
                let step_ns = random.random_range(1..SECOND_NS);
                match gap.end_ns(rate_per_s) {
                    Some(end_ns) if end_ns <= now_ns + step_ns => break sum + seconds(end_ns - now_ns) * rate_per_s,
                    _ => {
                        now_ns += step_ns;
                        sum += seconds(step_ns) * rate_per_s;
                        gap.advance(now_ns, rate_per_s);
                    }
                }
            }
        })
        .collect();
    let mean = sums.iter().sum::<f64>() / count_of(&sums);
    assert!((mean - 1.0).abs() < 0.06, "{mean}");
    // 1.95 is passed by one true sample in a thousand (Kolmogorov).
    assert!(distance_from_exponential(&sums) * count_of(&sums).sqrt() < 1.95);
}

#[test]
fn gaps_between_windows_are_exponential() {
    // Where the rate is bounded by the time that windows are open it is nearly constant.
    let steady = run(Config::default(), vec![Program::constant(1e4, 1.0)], 2_000.0, 21);
    let gaps_s = gaps(&steady);
    assert!(gaps_s.len() > 800, "{}", gaps_s.len());
    let distance = distance_from_exponential(&gaps_s) * count_of(&gaps_s).sqrt();
    assert!(distance < 1.95, "{distance}");
    // Where it follows the purse, gaps are a mixture of nearly equal rates.
    let paying = run(Config::default(), vec![Program::constant(1e7, 1.0)], 2_000.0, 22);
    let gaps_s = gaps(&paying);
    assert!(gaps_s.len() > 2_000, "{}", gaps_s.len());
    let distance = distance_from_exponential(&gaps_s);
    assert!(distance < 0.06, "{distance}");
}

#[test]
fn windows_meet_every_phase_of_a_periodic_program_alike() {
    for period_s in [0.05, 0.1, 1.0, 7.3, 60.0] {
        let program = phased(period_s, 0.3, (1e7, 1e3), (1.0, 1.0));
        let run = run(Config::default(), vec![program], 1_200.0, 31);
        // The mean direction of all phases, in parts of a circle; each window with the time that it stands for.
        let (mut x, mut y, mut sum, mut squares) = (0.0, 0.0, 0.0, 0.0);
        for window in run.windows.iter().filter(|window| time_s(window.at_ns) > 60.0) {
            let weight = seconds(window.plan.stands_for_ns);
            let angle = std::f64::consts::TAU * (time_s(window.at_ns) / period_s).fract();
            x += weight * angle.cos();
            y += weight * angle.sin();
            sum += weight;
            squares += weight * weight;
        }
        // Without a preferred phase its length is about the square root of 1/n; three times that is rare.
        let length = x.hypot(y) / sum;
        let expected = squares.sqrt() / sum;
        assert!(length < 3.0 * expected, "period {period_s} s: {length} where {expected} is due");
    }
}

/// The mean rate of a program as its windows give it, weighted by what they stand for and not, over the truth.
fn mean_rates(program: Program, truth: f64, seed: u64) -> (f64, f64) {
    let run = run(Config::default(), vec![program], 2_000.0, seed);
    let (mut sum, mut weights, mut plain) = (0.0, 0.0, 0.0);
    for window in &run.windows {
        let weight = seconds(window.plan.stands_for_ns);
        let (hits, births) = (crate::units::approximate(window.hits), crate::units::approximate(window.births));
        // Without the time that the hits took.
        let awake_s = seconds(window.open_ns) - (hits * 600.0 + births * 800.0) / 1e9;
        sum += weight * hits / awake_s;
        weights += weight;
        plain += hits / awake_s;
    }
    (sum / weights / truth, plain / count_of(&run.windows) / truth)
}

#[test]
fn weighted_by_what_they_stand_for_windows_give_the_mean_rate_of_a_program_with_phases() {
    for (period_s, part, cores) in
        [(2.0, 0.5, 0.05), (5.0, 0.5, 0.05), (20.0, 0.2, 0.05), (30.0, 0.5, 0.05), (200.0, 0.5, 0.05), (3.0, 0.2, 1.0)]
    {
        let (fast, slow) = (2e4, 100.0);
        let truth = part * fast + (1.0 - part) * slow;
        let rates: Vec<(f64, f64)> = (0..3)
            .map(|seed| {
                let program = Program { has_slots: false, ..phased(period_s, part, (fast, slow), (cores, cores)) };
                mean_rates(program, truth, seed)
            })
            .collect();
        let weighted = rates.iter().map(|(weighted, _)| weighted).sum::<f64>() / 3.0;
        assert!((weighted - 1.0).abs() < 0.05, "{part} of {period_s} s on {cores}: {rates:?}");
        // Such phases are seen too seldom where windows count alike: what they cost makes the next ones rarer.
        if period_s > 100.0 {
            let plain = rates.iter().map(|(_, plain)| plain).sum::<f64>() / 3.0;
            assert!(plain < 0.8, "the weights are of use: {rates:?}");
        }
    }
}

#[test]
fn the_same_calls_give_the_same_decisions() {
    let plans = |seed| {
        let run = run(Config::default(), vec![Program::constant(1e6, 1.0), Program::constant(1e4, 0.5)], 60.0, seed);
        run.windows.into_iter().map(|window| window.plan).collect::<Vec<_>>()
    };
    assert_eq!(plans(1), plans(1));
    assert_ne!(plans(1), plans(2));
}
