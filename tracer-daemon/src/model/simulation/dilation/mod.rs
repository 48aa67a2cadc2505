//! Programs that are slowed by being looked at: what bursts see of them, and what they do when nobody looks.
//!
//! In a window each allocation costs a trap more, and one that takes 35 ns goes on at a thirtieth of its speed beside one that
//! takes 5 us and hardly notices. What a window sees of each depends on what moves a program: the clock (goroutines on processors of
//! their own, time slices, phases), work that arrives, or one part waiting for another. A shape is a list of actors, of which each is
//! moved by one of these. What is not seen is counted by the actor without any trap: that is the truth.

mod study;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::chance::{normal, poisson};

/// What a hit costs in a window of births, ns (prototype: 1.19 us with four frames).
pub(super) const TRAP_NS: f64 = 1_200.0;
/// What a hit costs at a refill in the other windows.
pub(super) const REFILL_TRAP_NS: f64 = 700.0;
/// How long windows are open, and how far apart they begin.
pub(super) const OPEN_NS: f64 = 3e6;

/// A line that a goroutine allocates at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) site: u64,
    pub(super) size_bytes: u64,
    /// Its part of the goroutine's allocations.
    pub(super) part: f64,
}

/// One thing that a goroutine does for a while.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) group: u32,
    /// Between two allocations where nobody looks.
    pub(super) each_ns: f64,
    pub(super) lines: Vec<Line>,
}

/// What moves a program.
#[derive(Clone, Debug)]
pub(super) enum Actor {
    /// A goroutine on a processor of its own.
    Alone(Work),
    /// It does one thing after the other, each for so long by the clock.
    Phases(Vec<(f64, Work)>),
    /// Goroutines that share a processor by time slices.
    Slices(f64, Vec<Work>),
    /// Requests arrive at random, so many a second, and each allocates so often: short-lived goroutines that wait for a processor.
    Requests { per_s: f64, allocations: f64, work: Work },
    /// Each allocation of the one goroutine goes with one of the other, and the slower one sets the pace.
    Coupled([Work; 2]),
}

/// What was done: by whom, how many allocations.
pub(super) type Done = Vec<(Work, f64)>;

impl Work {
    /// Between two allocations where each costs so much more.
    fn slowed_ns(&self, cost_ns: &impl Fn(&Line) -> f64) -> f64 {
        self.each_ns + self.lines.iter().map(|line| line.part * cost_ns(line)).sum::<f64>()
    }
}

impl Actor {
    /// Allocations per second of each work where nobody looks.
    pub(super) fn truth(&self) -> Done {
        let per_s = |work: &Work| 1e9 / work.each_ns;
        match self {
            Self::Alone(work) => vec![(work.clone(), per_s(work))],
            Self::Phases(phases) => {
                let all: f64 = phases.iter().map(|(length_ns, _)| length_ns).sum();
                phases.iter().map(|(length_ns, work)| (work.clone(), per_s(work) * length_ns / all)).collect()
            }
            Self::Slices(_, works) => {
                works.iter().map(|work| (work.clone(), per_s(work) / works.len() as f64)).collect()
            }
            Self::Requests { per_s, allocations, work } => vec![(work.clone(), per_s * allocations)],
            Self::Coupled(works) => {
                let pace_ns = works.iter().map(|work| work.each_ns).fold(0.0, f64::max);
                works.iter().map(|work| (work.clone(), 1e9 / pace_ns)).collect()
            }
        }
    }

    /// What is done in a window that begins at any time, where each allocation costs so much more.
    pub(super) fn window(&self, cost_ns: &impl Fn(&Line) -> f64, random: &mut SmallRng) -> Done {
        match self {
            Self::Alone(work) => vec![(work.clone(), OPEN_NS / work.slowed_ns(cost_ns))],
            Self::Phases(phases) => by_the_clock(phases, cost_ns, random),
            Self::Slices(slice_ns, works) => {
                let slices: Vec<(f64, Work)> = works.iter().map(|work| (*slice_ns, work.clone())).collect();
                by_the_clock(&slices, cost_ns, random)
            }
            Self::Requests { per_s, allocations, work } => {
                let slowed_ns = work.slowed_ns(cost_ns);
                // The one that is served when the window begins has done some.
                let is_busy = random.random_bool((per_s * allocations * work.each_ns / 1e9).min(1.0));
                let mut waiting = if is_busy { allocations * random.random::<f64>() } else { 0.0 };
                let (mut now_ns, mut done) = (0.0, 0.0);
                while now_ns < OPEN_NS {
                    let next_ns = now_ns - (1.0 - random.random::<f64>()).ln() * 1e9 / per_s;
                    let served = ((next_ns.min(OPEN_NS) - now_ns) / slowed_ns).min(waiting);
                    done += served;
                    waiting = waiting - served + allocations;
                    now_ns = next_ns;
                }
                vec![(work.clone(), done)]
            }
            Self::Coupled(works) => {
                let pace_ns = works.iter().map(|work| work.slowed_ns(cost_ns)).fold(0.0, f64::max);
                works.iter().map(|work| (work.clone(), OPEN_NS / pace_ns)).collect()
            }
        }
    }
}

/// What one after the other does in a window that begins anywhere in them.
fn by_the_clock(phases: &[(f64, Work)], cost_ns: &impl Fn(&Line) -> f64, random: &mut SmallRng) -> Done {
    let all: f64 = phases.iter().map(|(length_ns, _)| length_ns).sum();
    let (mut into_ns, mut left_ns) = (random.random::<f64>() * all, OPEN_NS);
    let mut done = Vec::new();
    for (length_ns, work) in phases.iter().cycle() {
        if into_ns >= *length_ns {
            into_ns -= length_ns;
            continue;
        }
        let part_ns = (length_ns - into_ns).min(left_ns);
        done.push((work.clone(), part_ns / work.slowed_ns(cost_ns)));
        (into_ns, left_ns) = (0.0, left_ns - part_ns);
        if left_ns <= 0.0 {
            break;
        }
    }
    done
}

/// A count around its mean, as programs jitter.
pub(super) fn jittered(mean: f64, random: &mut SmallRng) -> u64 {
    poisson(mean * (0.1 * normal(random) - 0.005).exp(), random)
}

/// Slots that a processor looks at before it asks for more.
pub(super) fn slots_of_refill(size_bytes: u64) -> f64 {
    (8192.0 / size_bytes as f64).clamp(1.0, 64.0)
}

/// Programs with known truth.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn shapes() -> Vec<(&'static str, Vec<Actor>)> {
    let line = |site, size_bytes, part| Line { site, size_bytes, part };
    let three = |parts: [f64; 3], sizes: [u64; 3]| -> Vec<Line> {
        (1..).zip(parts.iter().zip(sizes)).map(|(site, (part, size))| line(site, size, *part)).collect()
    };
    let work = |group, each_ns, lines| Work { group, each_ns, lines };
    let one = |site, size_bytes| vec![line(site, size_bytes, 1.0)];
    let same = [64; 3];
    let thirds = [1.0 / 3.0; 3];
    let skewed = [10.0 / 11.1, 1.0 / 11.1, 0.1 / 11.1];
    // Of 500 lines the first has most; each goroutine begins elsewhere in the list and has a speed of its own.
    let many = |group: u32, each_ns: f64, sizes: &[u64]| {
        let lines = (0..500_u64).map(|number| {
            let rank = (number + 125 * u64::from(group)) % 500;
            line(number + 1, sizes[(number % sizes.len() as u64) as usize], 1.0 / (rank + 1) as f64)
        });
        let lines: Vec<Line> = lines.collect();
        let all: f64 = lines.iter().map(|line| line.part).sum();
        Actor::Alone(work(
            group,
            each_ns,
            lines.into_iter().map(|line| Line { part: line.part / all, ..line }).collect(),
        ))
    };
    let requests = |group, per_s, allocations, each_ns, lines| Actor::Requests {
        per_s,
        allocations,
        work: work(group, each_ns, lines),
    };
    vec![
        (
            "equal, one class",
            vec![Actor::Alone(work(1, 100.0, three(thirds, same))), Actor::Alone(work(2, 100.0, three(thirds, same)))],
        ),
        ("10 : 1 : 0.1 in one goroutine", vec![Actor::Alone(work(1, 50.0, three(skewed, same)))]),
        (
            "phases of 100 ms, equal rates",
            vec![Actor::Phases((1..4).map(|site| (1e8, work(1, 100.0, one(site, 64)))).collect())],
        ),
        (
            "phases of 100 ms, 50 ns and 5 us",
            vec![Actor::Phases(vec![(1e8, work(1, 50.0, one(1, 64))), (1e8, work(1, 5_000.0, one(2, 64)))])],
        ),
        (
            "the same in two classes",
            vec![Actor::Phases(vec![(1e8, work(1, 50.0, one(1, 64))), (1e8, work(1, 5_000.0, one(2, 512)))])],
        ),
        (
            "uneven goroutines, one class",
            vec![Actor::Alone(work(1, 35.0, one(1, 64))), Actor::Alone(work(2, 5_000.0, one(2, 64)))],
        ),
        (
            "uneven goroutines, two classes",
            vec![Actor::Alone(work(1, 35.0, one(1, 64))), Actor::Alone(work(2, 5_000.0, one(2, 512)))],
        ),
        (
            "uneven goroutines, 2 KiB slots",
            vec![Actor::Alone(work(1, 150.0, one(1, 2048))), Actor::Alone(work(2, 5_000.0, one(2, 2048)))],
        ),
        (
            "uneven, both at one line too",
            vec![
                Actor::Alone(work(1, 35.0, three([0.8, 0.1, 0.1], [64, 96, 96]))),
                Actor::Alone(work(2, 2_000.0, three([0.1, 0.1, 0.8], [64, 96, 96]))),
            ],
        ),
        (
            "time slices of 10 ms, uneven",
            vec![Actor::Slices(
                1e7,
                vec![work(1, 60.0, one(1, 64)), work(2, 1_000.0, one(2, 64)), work(3, 4_000.0, one(3, 64))],
            )],
        ),
        (
            "10,000 short goroutines, two kinds",
            vec![
                requests(1, 500.0, 1_000.0, 60.0, three([0.5, 0.5, 0.0], [64, 128, 64])),
                requests(2, 200.0, 200.0, 2_000.0, three([0.0, 0.5, 0.5], [64, 128, 64])),
            ],
        ),
        (
            "requests longer than windows",
            vec![requests(1, 20.0, 100_000.0, 80.0, one(1, 64)), requests(2, 50.0, 2_000.0, 3_000.0, one(2, 64))],
        ),
        ("producer and consumer", vec![Actor::Coupled([work(1, 100.0, one(1, 64)), work(2, 300.0, one(2, 64))])]),
        (
            "producer, consumer, a third alone",
            vec![
                Actor::Coupled([work(1, 100.0, one(1, 64)), work(2, 300.0, one(2, 64))]),
                Actor::Alone(work(3, 3_000.0, one(3, 64))),
            ],
        ),
        (
            "500 sites, four speeds, one class",
            vec![many(0, 50.0, &[64]), many(1, 200.0, &[64]), many(2, 1_000.0, &[64]), many(3, 4_000.0, &[64])],
        ),
        (
            "500 sites, four speeds, six classes",
            vec![
                many(0, 50.0, &[16, 48, 64, 256, 1024, 4096]),
                many(1, 200.0, &[16, 48, 64, 256, 1024, 4096]),
                many(2, 1_000.0, &[16, 48, 64, 256, 1024, 4096]),
                many(3, 4_000.0, &[16, 48, 64, 256, 1024, 4096]),
            ],
        ),
    ]
}
