//! Counts drawn at random, cheaply enough for a build without optimisation: large ones by their normal limit.

use rand::Rng as _;
use rand::rngs::SmallRng;
use rand_distr::{Distribution as _, StandardNormal};

/// Means above this are drawn from the normal distribution.
const MANY: f64 = 25.0;

pub(super) fn normal(random: &mut SmallRng) -> f64 {
    StandardNormal.sample(random)
}

pub(super) fn poisson(mean: f64, random: &mut SmallRng) -> u64 {
    if mean > MANY {
        return (mean + mean.sqrt() * normal(random)).round().max(0.0) as u64;
    }
    // Knuth, The Art of Computer Programming 2, 3.4.1: products of uniform numbers until they are small.
    let least = (-mean).exp();
    let mut product: f64 = random.random();
    let mut number = 0;
    while product > least {
        product *= random.random::<f64>();
        number += 1;
    }
    number
}

pub(super) fn binomial(number: u64, probability: f64, random: &mut SmallRng) -> u64 {
    let probability = probability.clamp(0.0, 1.0);
    let mean = number as f64 * probability;
    let rest = number as f64 - mean;
    if mean > MANY && rest > MANY {
        let drawn = mean + (mean * (1.0 - probability)).sqrt() * normal(random);
        return (drawn.round().max(0.0) as u64).min(number);
    }
    if number < 64 {
        return (0..number).filter(|_| random.random::<f64>() < probability).count() as u64;
    }
    // Many, of which few are taken, or few left.
    if mean < rest { poisson(mean, random).min(number) } else { number - poisson(rest, random).min(number) }
}
