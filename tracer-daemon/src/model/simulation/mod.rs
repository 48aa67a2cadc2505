//! Programs that never ran: histories of allocations with known truth, as the readers would have seen them.
//!
//! A program is a list of sources. A source allocates objects of one size at one site and lets them live by a rule; each object
//! is sampled by the runtime's profile with the probability that its size gives it. Collections come when the heap has grown
//! to its goal. The books are read on a fixed grid of time, so that the ends of collections fall between readings, as
//! they do; of the readings between two ends only the first and the last are made, since others say nothing more (which
//! `marked` proves).

mod chance;
mod dilation;
mod process_study;
pub(super) mod runs;
mod slope_study;
mod source;
mod survival_study;
mod tests;
mod tracked_study;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

pub(super) use self::source::{Rule, Source};

use self::source::State;
use super::SiteId;
use super::assess::{ProfileReading, SiteSamples};
use super::marked::Reading;

/// The runtime's default.
const PROFILE_RATE_BYTES: f64 = 524_288.0;
/// The least goal of the runtime at GOGC=100 (`heapMinimum`, runtime/mgcpacer.go).
const HEAP_MIN_BYTES: f64 = 4_194_304.0;
/// The runtime collects at least this often (`forcegcperiod`, runtime/proc.go).
const PERIOD_MAX_S: f64 = 120.0;
/// The part of a cycle in which the garbage of the one before is swept.
const SWEEP: f64 = 0.3;
/// A hundred collections a second: as often as anybody has seen.
const CYCLE_MIN_S: f64 = 0.01;
/// Collections that anything that dies lives through at most, where that is counted.
const SURVIVED_MAX: usize = 6;
/// An arbitrary beginning.
const EPOCH_NS: u64 = 1_790_000_000_000_000_000;

/// How a program is run and looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) gogc: f64,
    /// Between two readings of the books.
    pub(super) read_every_s: f64,
    /// How much of the program's life passes before the first reading, at least.
    pub(super) before_s: f64,
    /// The part of the readings that fails.
    pub(super) missed: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gogc: 100.0, read_every_s: 0.25, before_s: 2.0, missed: 0.0 }
    }
}

/// A program that is running.
#[derive(Debug)]
pub(super) struct Program {
    settings: Settings,
    random: SmallRng,
    states: Vec<State>,
    sizes: Vec<u64>,
    now_s: f64,
    collections: u32,
    /// When the last collection ended, and what it marked.
    last_end_s: f64,
    marked_bytes: f64,
    next_end_s: f64,
    /// The first point of the grid of readings, and which of them was the last.
    grid_s: f64,
    index: u32,
}

impl Program {
    pub(super) fn start(sources: &[Source], settings: Settings, seed: u64) -> Self {
        let mut sizes: Vec<u64> = sources.iter().map(|source| source.size_bytes).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut random = SmallRng::seed_from_u64(seed);
        let period_s = sources.iter().map(|source| source.rule.period_s()).fold(0.0, f64::max);
        let grid_s = settings.before_s + random.random_range(0.0..=period_s + settings.read_every_s);
        let states = sources.iter().map(|source| State::new(*source, &mut random)).collect();
        let mut program = Self {
            settings,
            random,
            states,
            sizes,
            now_s: 0.0,
            collections: 0,
            last_end_s: 0.0,
            marked_bytes: 0.0,
            next_end_s: 0.0,
            grid_s,
            index: 0,
        };
        // What lives through some collections is steady only after as many.
        for _ in 0..SURVIVED_MAX {
            program.collect();
        }
        program.grid_s += program.next_end_s;
        while program.next_end_s < program.grid_s {
            program.collect();
        }
        program.now_s = program.grid_s;
        program
    }

    /// The next reading of the books that is the last before a collection's end, or the first after one.
    pub(super) fn read(&mut self) -> Reading {
        loop {
            let every_s = self.settings.read_every_s;
            let before_end = ((self.next_end_s - self.grid_s) / every_s).ceil() - 1.0;
            self.index = (before_end.max(0.0) as u32).max(self.index + 1);
            self.now_s = self.grid_s + f64::from(self.index) * every_s;
            while self.next_end_s <= self.now_s {
                self.collect();
            }
            if self.random.random::<f64>() >= self.settings.missed {
                return self.reading();
            }
        }
    }

    fn reading(&self) -> Reading {
        let length_s = self.next_end_s - self.last_end_s;
        let part = ((self.now_s - self.last_end_s) / length_s).clamp(0.0, 1.0);
        let classes = self.sizes.iter().map(|size| {
            let of_class = self.states.iter().filter(|state| state.source.size_bytes == *size);
            let (allocs, frees) = of_class.fold((0, 0), |(allocs, frees), state| {
                (allocs + state.allocs_at(part), frees + state.frees_at(part / SWEEP))
            });
            [*size, allocs, frees]
        });
        Reading {
            classes: classes.collect(),
            at_unix_ns: unix_ns(self.now_s),
            collections: self.collections,
            last_end_unix_ns: unix_ns(self.last_end_s),
            marked_bytes: self.marked_bytes as u64,
            large: [0, 0],
        }
    }

    /// The profile as it is published: allocations up to the last collection, and all frees of it. Newer counts would not do:
    /// garbage in them grows with the heap, so that every churning site seems to grow when anything leaks.
    pub(super) fn profile(&self) -> ProfileReading {
        let samples = self.states.iter().zip(1_u64..).map(|(state, site)| SiteSamples {
            site: SiteId(site),
            size_bytes: state.source.size_bytes,
            allocs: state.sampled_published().0,
            frees: state.sampled_published().1,
        });
        ProfileReading { at_unix_ns: unix_ns(self.now_s), rate_bytes: PROFILE_RATE_BYTES, samples: samples.collect() }
    }

    pub(super) fn live_bytes(&self) -> f64 {
        self.marked_bytes
    }

    pub(super) fn now_s(&self) -> f64 {
        self.now_s
    }

    /// The cycle that was running ends, and the next one is drawn.
    fn collect(&mut self) {
        self.last_end_s = self.next_end_s;
        self.collections += 1;
        self.marked_bytes = self.states.iter_mut().map(State::end_cycle).sum();
        let bytes_per_s: f64 = self.states.iter().map(|state| state.bytes_per_s(self.last_end_s)).sum();
        let room = (self.marked_bytes * self.settings.gogc / 100.0).max(HEAP_MIN_BYTES * self.settings.gogc / 200.0);
        // The pacer ends a little early or late.
        let length_s = (room / bytes_per_s.max(1.0)).min(PERIOD_MAX_S) * self.random.random_range(0.9..1.1);
        self.next_end_s = self.last_end_s + length_s.max(CYCLE_MIN_S);
        for state in &mut self.states {
            state.begin_cycle(self.last_end_s, self.next_end_s, &mut self.random);
        }
    }
}

fn unix_ns(seconds: f64) -> u64 {
    EPOCH_NS + (seconds * 1e9) as u64
}
