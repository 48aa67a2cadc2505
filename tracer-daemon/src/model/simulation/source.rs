//! One allocating line and how long its objects live.

use std::collections::VecDeque;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::PROFILE_RATE_BYTES;
use super::chance::{binomial, poisson};

/// A line that allocates objects of one size.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Source {
    pub(in crate::model) size_bytes: u64,
    pub(in crate::model) rule: Rule,
}

/// How many objects are allocated and how long they live. What is steady is steady from the beginning.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) enum Rule {
    /// They die soon: at the end of a collection those of the last `held_s` are alive.
    Churn { per_s: f64, held_s: f64 },
    /// They stay for ever and come at equal distances.
    Leak { per_s: f64 },
    /// They stay for ever and come at random.
    RandomLeak { per_s: f64 },
    /// Each lives for an exponential time: connections, sessions.
    Population { per_s: f64, life_s: f64 },
    /// A cache that is empty until `from_s` and then fills, or is full if that is 0; once it holds `capacity` objects each
    /// new one drives one out.
    Lru { per_s: f64, capacity: u64, from_s: f64 },
    /// A batch is collected for `period_s` and then dropped as a whole.
    Sawtooth { per_s: f64, period_s: f64 },
    /// A population that comes for `on_s` of each `period_s`, and is idle for the rest.
    Bursts { per_s: f64, life_s: f64, period_s: f64, on_s: f64 },
    /// A population that comes three times as fast in the second half of each `period_s`.
    Phases { per_s: f64, life_s: f64, period_s: f64 },
    /// Each lives through this many collections.
    Survivors { per_s: f64, cycles: usize },
}

impl Rule {
    /// Allocations per second at a time.
    fn per_s(&self, at_s: f64) -> f64 {
        match *self {
            Self::Churn { per_s, .. }
            | Self::Leak { per_s }
            | Self::RandomLeak { per_s }
            | Self::Population { per_s, .. }
            | Self::Lru { per_s, .. }
            | Self::Sawtooth { per_s, .. }
            | Self::Survivors { per_s, .. } => per_s,
            Self::Bursts { per_s, period_s, on_s, .. } => {
                if at_s.rem_euclid(period_s) < on_s {
                    per_s
                } else {
                    per_s * 0.01
                }
            }
            Self::Phases { per_s, period_s, .. } => {
                if at_s.rem_euclid(period_s) < period_s / 2.0 {
                    per_s
                } else {
                    3.0 * per_s
                }
            }
        }
    }

    /// Objects alive before anything is seen.
    fn first(&self) -> f64 {
        match *self {
            Self::Population { per_s, life_s } => per_s * life_s,
            // At the beginning of the first half, as the second left it.
            Self::Phases { per_s, life_s, period_s } => {
                let stays = (-period_s / 2.0 / life_s).exp();
                per_s * life_s * (3.0 + stays) / (1.0 + stays)
            }
            Self::Lru { capacity, from_s, .. } if from_s <= 0.0 => capacity as f64,
            _ => 0.0,
        }
    }

    /// After how long everything has come back to where it was.
    pub(super) fn period_s(&self) -> f64 {
        match *self {
            Self::Sawtooth { period_s, .. } | Self::Bursts { period_s, .. } | Self::Phases { period_s, .. } => period_s,
            _ => 0.0,
        }
    }
}

/// Objects that are sampled, or those that are not: both live by the same rule.
#[derive(Clone, Debug, Default)]
struct Part {
    allocs: u64,
    /// Freed when the cycle that is running has swept.
    frees: u64,
    frees_before: u64,
    alive: u64,
    /// Of this cycle.
    born: u64,
    /// What this cycle will leave alive.
    next_alive: u64,
    /// Of earlier cycles, for those that live through some.
    generations: VecDeque<u64>,
}

/// A source with what it did so far.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) source: Source,
    probability: f64,
    unsampled: Part,
    sampled: Part,
    /// Whether allocations come early in the cycle or late: the power of the time into it.
    order: f64,
}

impl State {
    pub(super) fn new(source: Source, random: &mut SmallRng) -> Self {
        let size = source.size_bytes as f64;
        let probability = -(-size / PROFILE_RATE_BYTES).exp_m1();
        let first = source.rule.first();
        let full = matches!(source.rule, Rule::Lru { .. });
        let all = if full { first as u64 } else { poisson(first, random) };
        let sampled = binomial(all, probability, random);
        let part = |alive| Part { allocs: alive, alive, next_alive: alive, ..Part::default() };
        Self { source, probability, unsampled: part(all - sampled), sampled: part(sampled), order: 1.0 }
    }

    pub(super) fn bytes_per_s(&self, at_s: f64) -> f64 {
        self.source.rule.per_s(at_s) * self.source.size_bytes as f64
    }

    /// Draws what is born in the cycle and what of all is alive at its end.
    pub(super) fn begin_cycle(&mut self, from_s: f64, to_s: f64, random: &mut SmallRng) {
        let length_s = to_s - from_s;
        let per_s = self.source.rule.per_s(from_s);
        let born = match self.source.rule {
            Rule::Leak { per_s } => (per_s * to_s) as u64 - (per_s * from_s) as u64,
            _ => poisson(per_s * length_s, random),
        };
        self.order = random.random_range(0.7..1.4);
        self.sampled.born = binomial(born, self.probability, random);
        self.unsampled.born = born - self.sampled.born;
        let probabilities = [self.probability, 1.0 - self.probability];
        let mut sampled_alive = None;
        for (part, probability) in [&mut self.sampled, &mut self.unsampled].into_iter().zip(probabilities) {
            part.allocs += part.born;
            let all = part.alive + part.born;
            part.next_alive = match self.source.rule {
                Rule::Churn { held_s, .. } => poisson(per_s * probability * held_s, random).min(part.born),
                Rule::Leak { .. } | Rule::RandomLeak { .. } => all,
                Rule::Population { life_s, .. } | Rule::Bursts { life_s, .. } | Rule::Phases { life_s, .. } => {
                    let stays = (-length_s / life_s).exp();
                    // Of those born on the way, each at a random time.
                    let born_stays = life_s / length_s * (1.0 - stays);
                    binomial(part.alive, stays, random) + binomial(part.born, born_stays, random)
                }
                Rule::Lru { from_s: begins_s, .. } if to_s < begins_s => 0,
                Rule::Lru { capacity, .. } => match sampled_alive {
                    // Which of the cache's objects are sampled is chance; how many there are is not.
                    None => {
                        let expected = per_s * length_s + part.alive as f64 / probability;
                        binomial(all, (capacity as f64 / expected.max(1.0)).min(1.0), random)
                    }
                    Some(sampled) => all.min(capacity.saturating_sub(sampled)),
                },
                Rule::Sawtooth { period_s, .. } => {
                    let into_s = to_s.rem_euclid(period_s);
                    if into_s < length_s { binomial(part.born, into_s / length_s, random) } else { all }
                }
                Rule::Survivors { cycles, .. } => {
                    part.generations.push_back(part.born);
                    while part.generations.len() > cycles {
                        part.generations.pop_front();
                    }
                    part.generations.iter().sum()
                }
            };
            sampled_alive = Some(part.next_alive);
        }
    }

    /// Returns the bytes that are alive.
    pub(super) fn end_cycle(&mut self) -> f64 {
        for part in [&mut self.unsampled, &mut self.sampled] {
            part.frees_before = part.frees;
            part.alive = part.next_alive;
            part.frees = part.allocs - part.alive;
            part.born = 0;
        }
        (self.unsampled.alive + self.sampled.alive) as f64 * self.source.size_bytes as f64
    }

    /// Allocations when this part of the cycle is over.
    pub(super) fn allocs_at(&self, part: f64) -> u64 {
        let born = self.unsampled.born + self.sampled.born;
        let all = self.unsampled.allocs + self.sampled.allocs;
        all - born + (born as f64 * part.powf(self.order)) as u64
    }

    /// Frees when this part of the sweep is over.
    pub(super) fn frees_at(&self, part: f64) -> u64 {
        [&self.unsampled, &self.sampled].map(|of| swept(of, part)).iter().sum()
    }

    /// Samples allocated up to the last collection, and those of them that it found dead.
    pub(super) fn sampled_published(&self) -> (u64, u64) {
        (self.sampled.allocs - self.sampled.born, self.sampled.frees)
    }
}

fn swept(of: &Part, part: f64) -> u64 {
    of.frees_before + ((of.frees - of.frees_before) as f64 * part.clamp(0.0, 1.0)) as u64
}
