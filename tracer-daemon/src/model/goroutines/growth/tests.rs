//! Places that start goroutines in many ways, looked at as the reader does, and what is said of them.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp, Poisson};

use super::*;
use crate::model::goroutines::{AgeBounds, Object, ObjectKind, TableState};
use crate::model::simulation::runs::{count, pick};

/// What a place does with goroutines.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// All that are started stay.
    Leak { per_s: f64 },
    /// Started at a rate, each living for a random time.
    Population { per_s: f64, life_s: f64 },
    /// The same, with a rate that rises.
    Ramp { from_per_s: f64, more_per_s_s: f64, life_s: f64 },
    /// A number that stays.
    Workers { count: u32 },
    /// A pool that grows for a part of each period, holds, and shrinks to its first size at once.
    Pool { high: u32, period_s: f64, growing: f64, holding: f64, from_s: f64 },
    /// Many at once, which stay for a part of the period.
    Bursts { count: u32, period_s: f64, staying: f64 },
    /// A pool that fills ever more slowly.
    Fills { capacity: u32, time_s: f64 },
}

#[derive(Clone, Debug)]
struct Place {
    shape: Shape,
    /// Number and time of death.
    alive: Vec<(u64, f64)>,
}

/// A program of such places.
struct Program {
    places: Vec<Place>,
    now_s: f64,
    next_id: u64,
    random: SmallRng,
    for_ever: bool,
}

impl Program {
    fn start(shapes: &[Shape], seed: u64) -> Self {
        let places = shapes.iter().map(|shape| Place { shape: *shape, alive: Vec::new() }).collect();
        let mut program =
            Self { places, now_s: 0.0, next_id: 20, random: SmallRng::seed_from_u64(seed), for_ever: false };
        for place in 0..program.places.len() {
            // What is stationary has been running for long.
            let shape = program.places[place].shape;
            if let Shape::Population { per_s, life_s } | Shape::Ramp { from_per_s: per_s, life_s, .. } = shape {
                let count = program.poisson(per_s * life_s);
                for _ in 0..count {
                    let death_s = program.life(life_s);
                    program.add(place, death_s);
                }
            }
        }
        program.go_on(1e-3);
        program
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 0.0 { Poisson::new(mean).unwrap().sample(&mut self.random) as u64 } else { 0 }
    }

    fn life(&mut self, mean_s: f64) -> f64 {
        Exp::new(1.0 / mean_s).unwrap().sample(&mut self.random)
    }

    fn add(&mut self, place: usize, death_s: f64) {
        // Processors have batches of numbers that they use up at their own pace.
        let id = self.next_id * 16 + self.random.random_range(0..16);
        self.next_id += 1;
        self.places[place].alive.push((id, death_s));
    }

    fn go_on(&mut self, seconds: f64) {
        let (begin_s, end_s) = (self.now_s, self.now_s + seconds);
        for index in 0..self.places.len() {
            let have = |program: &Self| program.places[index].alive.len();
            let fit = |program: &mut Self, wanted: usize| {
                program.places[index].alive.truncate(wanted);
                (have(program)..wanted).for_each(|_| program.add(index, f64::INFINITY));
            };
            match self.places[index].shape {
                Shape::Leak { per_s } => {
                    let count = self.poisson(per_s * seconds);
                    (0..count).for_each(|_| self.add(index, f64::INFINITY));
                }
                Shape::Population { life_s, .. } | Shape::Ramp { life_s, .. } => {
                    let per_s = match self.places[index].shape {
                        Shape::Population { per_s, .. } => per_s,
                        Shape::Ramp { from_per_s, more_per_s_s, .. } => from_per_s + more_per_s_s * begin_s,
                        _ => 0.0,
                    };
                    // Of those that were started long before, none is left.
                    let from_s = begin_s.max(end_s - 12.0 * life_s);
                    self.next_id += (per_s * (from_s - begin_s)) as u64;
                    for _ in 0..self.poisson(per_s * (end_s - from_s)) {
                        let born_s = self.random.random_range(from_s..end_s);
                        let death_s = born_s + self.life(life_s);
                        if death_s > end_s {
                            self.add(index, death_s);
                        } else {
                            self.next_id += 1;
                        }
                    }
                }
                Shape::Workers { count } => fit(self, count as usize),
                Shape::Pool { high, period_s, growing, holding, from_s } => {
                    let part = ((end_s + from_s) / period_s).fract();
                    let share = match part {
                        part if part < growing => part / growing,
                        part if part < growing + holding => 1.0,
                        _ => 0.0,
                    };
                    let noise = f64::from(high) * 0.02 * self.random.random_range(-1.0..1.0);
                    fit(self, (5.0 + f64::from(high) * share + noise).max(1.0) as usize);
                }
                Shape::Bursts { count, period_s, staying } => {
                    let is_there = (end_s / period_s).fract() < staying;
                    fit(self, if is_there { count as usize } else { 2 });
                }
                Shape::Fills { capacity, time_s } => {
                    fit(self, (f64::from(capacity) * (1.0 - (-end_s / time_s).exp())) as usize);
                }
            }
            self.places[index].alive.retain(|(_, death_s)| *death_s > end_s);
        }
        self.now_s = end_s;
    }

    /// As the reader sees it; above `looks_max` a sample.
    fn table(&mut self, looks_max: usize) -> GoroutineTable {
        let live: usize = self.places.iter().map(|place| place.alive.len()).sum();
        let highest_id = Some(self.next_id * 16 + 16);
        let is_sample = live > looks_max;
        let mut table = GoroutineTable {
            live: live as u64,
            sampled: is_sample.then_some(512),
            highest_id,
            ..GoroutineTable::default()
        };
        for (index, place) in self.places.iter().enumerate().filter(|(_, place)| !place.alive.is_empty()) {
            let mut ids: Vec<u64> = place.alive.iter().map(|(id, _)| *id).collect();
            while is_sample && ids.len() > 128 {
                let out = self.random.random_range(0..ids.len());
                ids.swap_remove(out);
            }
            ids.sort_unstable();
            table.sites.push(site(index as u64, place.alive.len() as u64, ids, self.for_ever));
        }
        table
    }
}

fn site(id: u64, live: u64, ids: Vec<u64>, for_ever: bool) -> TableSite {
    let kind = if for_ever { ObjectKind::NilChan } else { ObjectKind::Chan };
    let object = Object { kind, address: None, waiters: live, channel: None, cases: Vec::new() };
    TableSite {
        id: SiteId(id),
        place: Frame::unknown(),
        creation_stack: Vec::new(),
        entry_function: Arc::from(""),
        live,
        stack_bytes: 2048 * live,
        oldest: AgeBounds::default(),
        lowest_id: ids.first().copied().unwrap_or_default(),
        ids: ids.into(),
        states: vec![TableState {
            wait_reason: "chan send".into(),
            count: live,
            interval: None,
            looked_at: live,
            blocked: None,
            entry_function: Arc::from(""),
            oldest: AgeBounds::default(),
            waits_on: Some(object),
            objects: 1,
            holders: None,
            paths: Vec::new(),
        }],
    }
}

const EPOCH_NS: u64 = 1_790_000_000_000_000_000;
const EVERY_S: f64 = 5.0;

/// How a program is looked at.
#[derive(Clone, Copy)]
struct Looking {
    window_s: f64,
    for_s: f64,
    missed: f64,
    looks_max: usize,
}

impl Default for Looking {
    fn default() -> Self {
        Self { window_s: 60.0, for_s: 300.0, missed: 0.0, looks_max: 50_000 }
    }
}

/// Looks and reports until the end; `each` has the time and the report.
fn follow(program: &mut Program, looking: Looking, mut each: impl FnMut(f64, &GoroutinesGrowth)) -> GoroutineGrowth {
    let mut growth = GoroutineGrowth::new(looking.window_s);
    let began_s = program.now_s;
    while program.now_s - began_s <= looking.for_s {
        if program.random.random_range(0.0..1.0) >= looking.missed {
            let at_ns = EPOCH_NS + ((program.now_s - began_s) * 1e9) as u64;
            let table = program.table(looking.looks_max);
            growth.observe(at_ns, &table);
            each(program.now_s - began_s, &growth.report());
        }
        let pause_s = EVERY_S * program.random.random_range(0.98..1.1);
        program.go_on(pause_s);
    }
    growth
}

/// Shapes that do not leak; those that rise and fall do so within two windows.
fn innocent(random: &mut SmallRng, window_s: f64) -> Shape {
    let high = pick(random, 5.0, 600.0) as u32;
    let period_s = pick(random, 3.0, 1.9 * window_s);
    match random.random_range(0..7) {
        0 => Shape::Workers { count: high },
        1 => {
            let life_s = pick(random, 0.01, 600.0);
            Shape::Population { per_s: f64::from(high) / life_s, life_s }
        }
        2 => {
            let life_s = pick(random, 0.01, 3.0);
            let per_s = f64::from(high) / life_s;
            Shape::Ramp { from_per_s: per_s, more_per_s_s: per_s * pick(random, 0.001, 0.1), life_s }
        }
        3 => {
            let growing = random.random_range(0.1..0.95);
            let holding = (1.0 - growing) * random.random_range(0.0..0.9);
            Shape::Pool { high, period_s, growing, holding, from_s: random.random_range(0.0..period_s) }
        }
        4 => Shape::Bursts { count: high, period_s, staying: random.random_range(0.05..0.95) },
        5 => Shape::Fills { capacity: high, time_s: pick(random, 1.0, 0.6 * window_s) },
        _ => Shape::Population { per_s: pick(random, 0.005, 0.5), life_s: pick(random, 5.0, 2000.0) },
    }
}

#[test]
fn no_place_that_does_not_leak_is_ever_said_to() {
    const RUNS: u64 = 2000;
    let [sites, reports, growing, leaking] = count(RUNS, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5eed);
        let window_s = pick(&mut random, 30.0, 120.0);
        let shapes: Vec<Shape> = (0..random.random_range(1..5)).map(|_| innocent(&mut random, window_s)).collect();
        let missed = if random.random_range(0..3) == 0 { random.random_range(0.0..0.4) } else { 0.0 };
        let looks_max = if random.random_range(0..4) == 0 { 200 } else { 50_000 };
        let looking = Looking { window_s, for_s: 5.0 * window_s, missed, looks_max };
        let mut seen = [shapes.len() as u32, 0, 0, 0];
        follow(&mut Program::start(&shapes, seed), looking, |at_s, report| {
            for site in &report.sites {
                seen[1] += 1;
                seen[2] += u32::from(site.verdict == Verdict::Growing);
                if site.verdict == Verdict::Leaking {
                    seen[3] += 1;
                    let shape = shapes[site.id.0 as usize];
                    println!(
                        "{seed} at {at_s:.0} s window {window_s:.0} max {looks_max} missed {missed:.2}: {shape:?} {site:?}"
                    );
                }
            }
        });
        seen
    });
    println!(
        "innocent places: {sites} in {RUNS} runs, {reports} reports on them, growing {growing}, leaking {leaking}"
    );
    assert!(reports > 50_000, "{reports}");
    assert_eq!(leaking, 0);
    assert!(growing * 20 < reports, "{growing}");
}

#[test]
fn every_leak_is_said_to_grow_and_then_to_leak_with_its_rate() {
    const RUNS: u64 = 300;
    let [growing_in_window, leaking_in_time, leaking, close, covered] = count(RUNS, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x1eaf);
        let per_s = pick(&mut random, 0.3, 300.0);
        let mut shapes = vec![Shape::Leak { per_s }];
        shapes.extend((0..2).map(|_| innocent(&mut random, 60.0)));
        let mut found = [0; 5];
        let (mut growing_s, mut leaking_s) = (f64::INFINITY, f64::INFINITY);
        follow(&mut Program::start(&shapes, seed), Looking::default(), |at_s, report| {
            let Some(site) = report.sites.iter().find(|site| site.id == SiteId(0)) else { return };
            if site.verdict >= Verdict::Growing {
                growing_s = growing_s.min(at_s);
            }
            if site.verdict == Verdict::Leaking {
                leaking_s = leaking_s.min(at_s);
            }
            let rate = site.trend.rate().unwrap_or_default();
            // The count within the window is chance; its rate is not.
            let error = 3.0 / (per_s * 60.0).sqrt();
            found[3] = u32::from((rate.value / per_s - 1.0).abs() < error.max(0.05));
            found[4] = u32::from(rate.low <= per_s && rate.high.is_some_and(|high| per_s <= high));
        });
        found[0] = u32::from(growing_s <= 60.0);
        found[1] = u32::from(leaking_s <= 150.0);
        found[2] = u32::from(leaking_s.is_finite());
        if leaking_s > 150.0 {
            println!("{seed}: {per_s:.2} per second grows at {growing_s:.0} s, leaks at {leaking_s:.0} s");
        }
        found
    });
    println!(
        "leaks of {RUNS}: growing within a window {growing_in_window}, leaking within 150 s {leaking_in_time}, at all \
         {leaking}; rate right {close}, covered {covered}"
    );
    assert!(growing_in_window * 100 >= 90 * RUNS as u32, "{growing_in_window}");
    assert!(leaking_in_time * 100 >= 95 * RUNS as u32, "{leaking_in_time}");
    assert!(leaking * 100 >= 99 * RUNS as u32, "{leaking}");
    assert!(close * 100 >= 97 * RUNS as u32, "{close}");
    assert!(covered * 100 >= 85 * RUNS as u32, "{covered}");
}

fn last_report(shapes: &[Shape], looking: Looking, for_ever: bool) -> GoroutinesGrowth {
    let mut last = None;
    let mut program = Program::start(shapes, 7);
    program.for_ever = for_ever;
    follow(&mut program, looking, |_, report| last = Some(report.clone()));
    last.unwrap()
}

#[test]
fn stable_workers_and_much_churn_are_steady() {
    let churn = Shape::Population { per_s: 50_000.0, life_s: 0.02 };
    let report = last_report(&[Shape::Workers { count: 5000 }, churn], Looking::default(), false);
    assert_eq!(report.verdict, Verdict::Steady);
    for site in &report.sites {
        assert_eq!((site.verdict, site.why), (Verdict::Steady, Why::NoGrowth), "{site:?}");
    }
    let workers = report.sites.iter().find(|site| site.id == SiteId(0)).unwrap();
    assert_eq!(workers.old, Some(Old { older_than_s: 15.0, count: 5000, left: Some(0) }));
}

/// Exactly so many, more with each look, every 5 s.
fn count_up(growth: &mut GoroutineGrowth, looks: u64, per_look: u64, for_ever: bool) -> GoroutinesGrowth {
    let mut last = None;
    for look in 0..looks {
        let live = 10 + per_look * look;
        let mut table = GoroutineTable { live, highest_id: Some(live), ..GoroutineTable::default() };
        table.sites.push(site(1, live, (1..=live).collect(), for_ever));
        growth.observe(EPOCH_NS + look * 5_000_000_000, &table);
        last = Some(growth.report());
    }
    last.unwrap()
}

#[test]
fn what_leaks_evenly_has_its_exact_rate_and_is_accused_after_two_windows() {
    use Verdict::{Growing, Leaking, Unknown};
    let verdict_after = |looks, for_ever| {
        let report = count_up(&mut GoroutineGrowth::new(60.0), looks, 50, for_ever);
        (report.sites[0].verdict, report.verdict, report.sites[0].why)
    };
    assert_eq!(verdict_after(3, false), (Unknown, Unknown, Why::TooEarly { needs_s: 26.0 }));
    let (site, whole, why) = verdict_after(13, false);
    assert_eq!((site, whole, why), (Growing, Growing, Why::Unconfirmed { needs_s: 60.0 }));
    let due = |looks| count_up(&mut GoroutineGrowth::new(60.0), looks, 50, false).leak_due_s;
    assert_eq!([due(1), due(13), due(25), due(90)].map(|due_s| due_s.round() as u64), [120, 60, 0, 0]);
    // Twice after 120 s.
    assert_eq!(verdict_after(25, false).2, Why::Unconfirmed { needs_s: 0.0 });
    assert_eq!(verdict_after(26, false), (Leaking, Leaking, Why::Stay));
    assert_eq!(verdict_after(15, true), (Leaking, Leaking, Why::Stay), "nobody can wake them");
    let report = count_up(&mut GoroutineGrowth::new(60.0), 40, 50, false);
    let rate = report.sites[0].trend.rate().unwrap();
    // What chance would do to 600 of them, had they come at random.
    assert!((rate.value - 10.0).abs() < 1e-9 && rate.low > 9.0 && rate.high.unwrap() < 11.0, "{rate:?}");
    let old = report.sites[0].old.unwrap();
    assert_eq!((old.count, old.left), (10 + 50 * 36, Some(0)));
}

#[test]
fn a_leak_of_so_many_that_looks_are_samples_is_found() {
    let looking = Looking { looks_max: 500, ..Looking::default() };
    let report = last_report(&[Shape::Leak { per_s: 40.0 }, Shape::Workers { count: 3000 }], looking, false);
    assert_eq!((report.sites[0].id, report.sites[0].verdict), (SiteId(0), Verdict::Leaking));
    assert_eq!(report.sites[0].old.unwrap().left, None);
    assert_eq!(report.sites[1].verdict, Verdict::Steady);
}

#[test]
fn what_is_too_slow_is_below_the_floor() {
    let report = count_up(&mut GoroutineGrowth::new(600.0), 240, 0, false);
    assert_eq!(report.sites[0].why, Why::NoGrowth);
    let shape = Shape::Leak { per_s: 0.02 };
    let looking = Looking { window_s: 600.0, for_s: 1300.0, ..Looking::default() };
    let report = last_report(&[shape], looking, false);
    assert!(report.sites[0].verdict <= Verdict::Steady, "{report:?}");
}

#[test]
fn what_grows_back_after_a_fall_is_not_accused() {
    // Grows for 150 s, which is longer than two windows, shrinks, and grows again.
    let shape = Shape::Pool { high: 900, period_s: 160.0, growing: 0.95, holding: 0.0, from_s: 0.0 };
    let mut leaking = Vec::new();
    let looking = Looking { window_s: 60.0, for_s: 1000.0, ..Looking::default() };
    follow(&mut Program::start(&[shape], 3), looking, |at_s, report| {
        leaking.extend((report.verdict == Verdict::Leaking).then_some(at_s));
    });
    assert!(leaking.iter().all(|at_s| *at_s < 180.0), "the first time only: {leaking:?}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut growth = GoroutineGrowth::new(1e6);
    for look in 0..1000_u64 {
        let mut table = GoroutineTable { highest_id: Some(look * 100), ..GoroutineTable::default() };
        table.sites.extend((0..SITES_MAX as u64 + 10).map(|id| site(id, 1, vec![look], false)));
        growth.observe(EPOCH_NS + look * 100_000_000, &table);
        if look == 0 {
            // All places are new each time, and the old ones stay in the window.
            assert_eq!(growth.report().sites_left_out, 10);
        }
        if look > 150 && look % 2 == 1 {
            break;
        }
    }
    assert!(growth.looks.len() <= LOOKS_MAX && growth.sites.len() <= SITES_MAX);
    assert!(growth.sites.values().all(|site| site.samples.len() == growth.looks.len()));
    let mut growth = GoroutineGrowth::new(60.0);
    for look in 0..4_u64 {
        let ids: Vec<u64> = (0..50_000).collect();
        let mut table = GoroutineTable::default();
        table.sites.extend((0..3).map(|id| site(id, 50_000, ids.clone(), false)));
        growth.observe(EPOCH_NS + look * 5_000_000_000, &table);
    }
    let known: usize = growth.sites.values().map(|site| site.known.as_ref().map_or(0, Vec::len)).sum();
    assert!(known <= NUMBERS_MAX, "{known}");
}

#[test]
fn a_clock_that_goes_back_begins_anew() {
    let mut growth = GoroutineGrowth::new(60.0);
    count_up(&mut growth, 30, 50, false);
    let report = count_up(&mut growth, 1, 50, false);
    assert_eq!((report.looks, report.sites[0].trend.verdict()), (1, Verdict::Unknown));
    assert_eq!(report.sites[0].live, 10);
}
