//! Which interval of a slope covers at its nominal rate? Ours beside the textbook's, on errors of many kinds.

use std::fmt::Write as _;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand_distr::{Distribution as _, Exp, Pareto};

use super::super::Rate;
use super::super::slope::{Point, slope, student};
use super::chance::normal;

/// Errors without a trend.
#[derive(Clone, Copy, Debug)]
enum Errors {
    /// Independent.
    White,
    /// A population whose members live so long, and independent errors of this part.
    Population { life_s: f64, white: f64 },
    /// Members live for times with a heavy tail.
    HeavyLives,
    /// Members are of sizes with a heavy tail.
    HeavySizes,
    /// Something is there or is not, for 3 s on average.
    Telegraph,
    /// A sawtooth of so many teeth.
    Sawtooth { teeth: f64 },
}

fn errors(kind: Errors, times: &[f64], random: &mut SmallRng) -> Vec<f64> {
    match kind {
        Errors::White => times.iter().map(|_| normal(random)).collect(),
        Errors::Population { life_s, white } => {
            let (mut now, mut before) = (normal(random), times.first().copied().unwrap_or_default());
            let mut next = |time: f64| {
                let stays = (-(time - before) / life_s).exp();
                before = time;
                now = stays * now + (1.0 - stays * stays).sqrt() * normal(random);
                now + white * normal(random)
            };
            times.iter().map(|time| next(*time)).collect()
        }
        Errors::HeavyLives => {
            let lives = Pareto::new(0.5_f64, 1.5).unwrap();
            members(20.0, 600.0, times, random, |random| (lives.sample(random).min(500.0), 1.0))
        }
        Errors::HeavySizes => {
            let (lives, sizes) = (Exp::new(0.5_f64).unwrap(), Pareto::new(1.0_f64, 1.2).unwrap());
            members(5.0, 20.0, times, random, |random| (lives.sample(random), sizes.sample(random).min(1e4)))
        }
        Errors::Telegraph => {
            let stays = Exp::new(1.0_f64 / 3.0).unwrap();
            let (mut is_on, mut until) = (random.random_bool(0.5), stays.sample(random));
            let mut next = |time: f64| {
                while until < time {
                    is_on = !is_on;
                    until += stays.sample(random);
                }
                f64::from(u8::from(is_on))
            };
            times.iter().map(|time| next(*time)).collect()
        }
        Errors::Sawtooth { teeth } => {
            let period = times.last().copied().unwrap_or_default() / teeth;
            let begin = random.random_range(0.0..period);
            times.iter().map(|time| (time + begin).rem_euclid(period) / period + 0.05 * normal(random)).collect()
        }
    }
}

/// Members that come at a rate, for a time before the window too; of each, how long it stays and how large it is.
fn members(
    per_s: f64,
    before_s: f64,
    times: &[f64],
    random: &mut SmallRng,
    mut draw: impl FnMut(&mut SmallRng) -> (f64, f64),
) -> Vec<f64> {
    let between = Exp::new(per_s).unwrap();
    let mut values = vec![0.0; times.len()];
    let (mut at, end) = (-before_s, times.last().copied().unwrap_or_default());
    while at < end {
        at += between.sample(random);
        let (life, size) = draw(random);
        let first = times.partition_point(|time| *time < at);
        let last = times.partition_point(|time| *time < at + life);
        values[first..last].iter_mut().for_each(|value| *value += size);
    }
    values
}

/// Ordinary least squares with independent errors.
fn least_squares(points: &[Point]) -> Rate {
    let n = points.len() as f64;
    let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (time, value) = (mean(|point| point.at_s), mean(|point| point.value));
    let spread: f64 = points.iter().map(|point| (point.at_s - time).powi(2)).sum();
    let slope = points.iter().map(|point| (point.at_s - time) * (point.value - value)).sum::<f64>() / spread;
    let squares: f64 = points.iter().map(|point| (point.value - value - slope * (point.at_s - time)).powi(2)).sum();
    let half_width = student((points.len() - 2).min(24)) * (squares / (n - 2.0) / spread).sqrt();
    Rate { value: slope, low: slope - half_width, high: Some(slope + half_width) }
}

/// The slopes of six equal parts of the time, by the values at their ends.
fn batches(points: &[Point]) -> Rate {
    const PARTS: usize = 6;
    let ends: Vec<Point> = (0..=PARTS).map(|part| points[part * (points.len() - 1) / PARTS]).collect();
    let slopes: Vec<f64> =
        ends.windows(2).map(|pair| (pair[1].value - pair[0].value) / (pair[1].at_s - pair[0].at_s)).collect();
    let mean = slopes.iter().sum::<f64>() / PARTS as f64;
    let variance = slopes.iter().map(|slope| (slope - mean).powi(2)).sum::<f64>() / (PARTS * (PARTS - 1)) as f64;
    let half_width = student(PARTS - 1) * variance.sqrt();
    Rate { value: mean, low: mean - half_width, high: Some(mean + half_width) }
}

#[test]
fn the_interval_of_a_slope_covers_at_its_nominal_rate_where_the_textbooks_do_not() {
    const RUNS: u64 = 1000;
    type Estimator = fn(&[Point]) -> Rate;
    let estimators: [(&str, Estimator); 3] =
        [("ours", |points| slope(points).unwrap()), ("least squares", least_squares), ("six batches", batches)];
    // The least coverage that is promised.
    let kinds = [
        (Errors::White, 93.0),
        (Errors::Population { life_s: 2.0, white: 0.0 }, 93.0),
        (Errors::Population { life_s: 3.0, white: 0.5 }, 92.5),
        (Errors::HeavyLives, 88.0),
        (Errors::HeavySizes, 93.0),
        (Errors::Telegraph, 93.0),
        (Errors::Sawtooth { teeth: 5.3 }, 88.0),
        (Errors::Population { life_s: 10.0, white: 0.0 }, 80.0),
    ];
    println!("coverage of nominal 95 %, and width in standard deviations of our slope (3.92 would be enough):");
    for (window_s, count) in [(30.0, 8), (30.0, 60), (60.0, 12), (60.0, 60), (120.0, 24), (120.0, 120)] {
        for (kind, least) in kinds {
            let (mut covered, mut widths, mut squares) = ([0_u32; 3], [0.0; 3], 0.0);
            for seed in 0..RUNS {
                let mut random = SmallRng::seed_from_u64(seed ^ 0x510e);
                let mut times = vec![0.0];
                while times.len() < count {
                    times.push(times[times.len() - 1] + random.random_range(0.8..1.2) * window_s / (count - 1) as f64);
                }
                let errors = errors(kind, &times, &mut random);
                let points: Vec<Point> =
                    times.into_iter().zip(errors).map(|(at_s, value)| Point { at_s, value }).collect();
                for (number, (_, estimator)) in estimators.iter().enumerate() {
                    let rate = estimator(&points);
                    let high = rate.high.unwrap();
                    covered[number] += u32::from(rate.low <= 0.0 && high >= 0.0);
                    widths[number] += high - rate.low;
                    squares += if number == 0 { rate.value * rate.value } else { 0.0 };
                }
            }
            let deviation = (squares / RUNS as f64).sqrt();
            let percent = |number: usize| f64::from(covered[number]) * 100.0 / RUNS as f64;
            let mut row = format!("{window_s:3} s {count:3} values {:40}", format!("{kind:?}"));
            for (number, (name, _)) in estimators.iter().enumerate() {
                let width = widths[number] / RUNS as f64 / deviation;
                write!(row, "  {name} {:5.1} % {width:4.1}", percent(number)).unwrap();
            }
            println!("{row}");
            assert!(percent(0) >= least, "{row}");
        }
    }
}
