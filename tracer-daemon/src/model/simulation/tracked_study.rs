//! From births to growth, through all of the book-keeping: a program of which every tenth object of one line stays for ever, those of
//! another for about five collections, and those of a third die at once; followed at few and many collections a second, with looks
//! that are missed and addresses that were foretold wrong.

use std::sync::Arc;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::super::SiteId;
use super::super::birth_history::BirthHistory;
use super::super::birth_look::BirthCounts;
use super::super::births::{BirthEstimates, ClassRate, SiteBirths, estimate};
use super::super::observation::Moment;
use super::super::process::ProcessConstants;
use super::super::site::place_allocation;
use super::super::tracked::{BirthEvent, BurstEnd, BurstKind, Goroutine, Limits, Tracked};
use super::chance::poisson;
use crate::addr::Avma;
use crate::model::Stack;
use crate::read::marks::{Censored, Cycle, Look, TrackedObject};
use crate::symbolize::{Frame, Origin};

const SIZES: [u64; 3] = [64, 96, 48];
/// Births of each line in a second.
const BORN_PER_S: f64 = 100_000.0;
/// Of the first line, so many stay.
const STAYS: f64 = 0.1;
const BURST_EVERY_S: f64 = 0.1;
const OPEN_S: f64 = 0.002;
/// The part of a cycle in which the collector marks.
const MARKS: f64 = 0.2;
/// Addresses that are another object's.
const MISTAKEN: f64 = 0.001;

/// How it is followed.
#[derive(Clone, Copy, Debug)]
struct Followed {
    collections_per_s: f64,
    missed: f64,
    seconds: f64,
    limits: Limits,
    /// Births that are chosen of each line in a burst.
    chosen: f64,
}

fn stack(line: usize) -> Stack {
    let frame = |function: &str| Frame {
        function: function.into(),
        file: "/f.go".into(),
        line: 1,
        function_start_line: 1,
        inlined: false,
        origin: Origin::Go,
    };
    Arc::from(vec![frame("runtime.mallocgc"), frame(["main.a", "main.b", "main.c"][line])])
}

fn site(line: usize) -> SiteId {
    place_allocation(&stack(line), None).unwrap().id
}

/// Collections that test an object of a line and keep it.
fn lives(line: usize, random: &mut SmallRng) -> u32 {
    match line {
        0 if random.random_bool(STAYS) => u32::MAX,
        1 => 4 + u32::from(random.random_bool(0.7)),
        _ => 0,
    }
}

fn run(followed: Followed, seed: u64) -> (BirthEstimates, BirthCounts) {
    let mut random = SmallRng::seed_from_u64(seed ^ 0x7ac3);
    let (mut tracked, mut history) = (Tracked::new(followed.limits), BirthHistory::default());
    let constants = ProcessConstants::default();
    // By address: up to which collection the object is kept.
    let mut kept: Vec<u32> = Vec::new();
    let (mut burst, mut burst_s, mut told_s) = (0, 0.0, 0.0);
    let (mut collection, mut from_s) = (0_u32, 0.0);
    while from_s < followed.seconds {
        let to_s = from_s + random.random_range(0.5..1.5) / followed.collections_per_s;
        while burst_s < to_s {
            let at_ns = (burst_s * 1e9) as u64;
            let is_black = burst_s > to_s - MARKS * (to_s - from_s);
            for (line, slot_bytes) in SIZES.into_iter().enumerate() {
                for _ in 0..poisson(followed.chosen, &mut random) {
                    let really = if random.random_bool(MISTAKEN) { random.random_range(0..3) } else { line };
                    // The first collection does not test what is black.
                    let until =
                        lives(really, &mut random).saturating_add(u32::from(is_black)).saturating_add(collection);
                    kept.push(until);
                    let born = Cycle(2 * collection);
                    tracked.born(&BirthEvent {
                        at_ns,
                        burst,
                        goroutine: Goroutine { id: 1, start_pc: 1 },
                        frames: &[line as u64 + 1],
                        object: Some(TrackedObject { address: Avma(kept.len() as u64), span: None, born, alive: born }),
                        slot_bytes,
                        is_black,
                        weight: BORN_PER_S * OPEN_S / followed.chosen,
                    });
                }
            }
            let (open_ns, stands_for_ns) = ((OPEN_S * 1e9) as u64, (BURST_EVERY_S * 1e9) as u64);
            let kind = BurstKind::Births;
            tracked.burst_ended(&BurstEnd {
                number: burst,
                began_ns: at_ns,
                open_ns,
                stands_for_ns,
                chosen_per_told: 1.0,
                kind,
            });
            burst += 1;
            burst_s -= (1.0 - random.random::<f64>()).ln() * BURST_EVERY_S;
        }
        (collection, from_s) = (collection + 1, to_s);
        if !random.random_bool(followed.missed) {
            let cycle = Cycle(2 * collection);
            let answer = |object: &TrackedObject| {
                let is_kept = kept[(object.address.0 - 1) as usize] >= collection;
                match cycle.since(object.alive) {
                    1 if is_kept => Look::Alive { cycle },
                    _ if !is_kept => Look::Dead { cycle },
                    _ => Look::Censored(Censored::MissedCycle),
                }
            };
            let objects = tracked.objects().to_vec();
            let looks: Vec<Look> = objects.iter().map(answer).collect();
            tracked.looked_at(cycle, &objects, &looks);
        }
        if from_s > told_s + 4.0 || from_s >= followed.seconds {
            told_s = from_s;
            let mut taken = tracked.take((from_s * 1e9) as u64);
            taken.look.new_stacks = taken.new_paths.iter().map(|path| stack(path[0] as usize - 1)).collect();
            history.observe(Moment { at_ns: (from_s * 1e9) as u64, unix_ns: 0 }, &taken.look, &constants);
        }
    }
    let mut reading = history.reading(None).unwrap();
    let class = |size: &u64| ClassRate { size_bytes: Some(*size), bytes_per_s: BORN_PER_S * *size as f64 };
    reading.classes = SIZES.iter().map(class).collect();
    (estimate(&reading), tracked.counts())
}

fn of(estimates: &BirthEstimates, line: usize) -> SiteBirths {
    *estimates.sites.iter().find(|births| births.site == Some(site(line))).unwrap()
}

#[test]
fn what_stays_is_found_at_any_pace_of_the_collector_though_looks_are_missed() {
    const RUNS: u64 = 20;
    let truth = BORN_PER_S * STAYS * SIZES[0] as f64;
    let (mut all, mut all_covered) = (0, 0);
    for (collections_per_s, seconds) in [(0.5, 60.0), (20.0, 30.0), (100.0, 20.0)] {
        for missed in [0.0, 0.02, 0.2] {
            let limits = Limits::default();
            let followed = Followed { collections_per_s, missed, seconds, limits, chosen: 20.0 };
            let (mut errors, mut covered, mut leaks, mut missed_cycles, mut cycles) = (Vec::new(), 0, 0, 0, 0);
            for seed in 0..RUNS {
                let (estimates, counts) = run(followed, seed);
                let growth = of(&estimates, 0).growth.unwrap();
                errors.push((growth.growth / truth - 1.0).abs());
                covered += u32::from((growth.growth - truth).abs() <= 1.96 * growth.variance.sqrt());
                for line in [1, 2] {
                    let other = of(&estimates, line);
                    let growth = other.growth.unwrap();
                    // Growth that is sure would be a leak.
                    leaks += u32::from(
                        growth.growth - 1.96 * growth.variance.sqrt() > 0.01 * BORN_PER_S * SIZES[line] as f64,
                    );
                }
                (missed_cycles, cycles) = (missed_cycles + counts.cycles_missed, cycles + counts.cycles_looked);
            }
            errors.sort_by(f64::total_cmp);
            let median = 100.0 * errors[errors.len() / 2];
            println!(
                "{collections_per_s:5.1} GC/s, {missed_cycles} of {} cycles missed: median error {median:.1} %, largest {:.1} %, \
                 {covered} of {RUNS} intervals cover, {leaks} false leaks",
                missed_cycles + cycles,
                100.0 * errors.last().unwrap(),
            );
            assert!(median <= 5.0, "{median}");
            assert_eq!(leaks, 0);
            all += RUNS as u32;
            all_covered += covered;
        }
    }
    println!("{all_covered} of {all} intervals cover the truth");
    assert!(all_covered * 100 >= all * 90, "{all_covered} of {all}");
}

#[test]
fn room_for_few_objects_biases_nothing() {
    const RUNS: u64 = 40;
    let limits = Limits { objects: 600, ..Limits::default() };
    let truth = BORN_PER_S * STAYS * SIZES[0] as f64;
    let (mut sum, mut covered, mut let_go) = (0.0, 0, 0);
    for seed in 0..RUNS {
        let followed = Followed { collections_per_s: 10.0, missed: 0.02, seconds: 30.0, limits, chosen: 30.0 };
        let (estimates, counts) = run(followed, seed);
        let growth = of(&estimates, 0).growth.unwrap();
        sum += growth.growth / truth - 1.0;
        covered += u32::from((growth.growth - truth).abs() <= 1.96 * growth.variance.sqrt());
        let_go += counts.let_go;
        assert!(counts.let_go > 600 && counts.no_room == 0);
    }
    let bias = 100.0 * sum / RUNS as f64;
    println!(
        "600 objects at a time, {} let go in each run: bias {bias:+.1} %, {covered} of {RUNS} intervals cover",
        let_go / RUNS
    );
    assert!(bias.abs() < 3.0 && covered * 100 >= RUNS as u32 * 90, "{bias} {covered}");
}
