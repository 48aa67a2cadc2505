//! A process that is looked at as it would be: books, births in bursts, looks at their marks, and a profile or none; and what is said of
//! it.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::super::assess::Assessment;
use super::super::observation::{Moment, Observation, ProfileLook};
use super::super::process::{ProcessConstants, ProcessModel};
use super::super::reason::Reason;
use super::super::site::place_allocation;
use super::super::tracked::{BirthEvent, BurstEnd, BurstKind, Goroutine, Limits, Tracked};
use super::super::verdict::Verdict;
use super::super::{SiteId, Snapshot, Stack, memory};
use super::chance::{binomial, poisson};
use super::runs::count;
use crate::addr::Avma;
use crate::read::books::{Books, ClassCount, Pause};
use crate::read::marks::{Cycle, Look, TrackedObject};
use crate::read::profile::{Bucket, Counts};
use crate::symbolize::{Frame, Origin};

const NS: u64 = 1_000_000_000;
/// Long after the program began.
const BEGIN_S: u64 = 100_000;
const OPEN_S: f64 = 0.002;
/// Bytes between two births that are chosen, within bursts.
const MEAN_BYTES: f64 = 1_500.0;
const PROFILE_RATE: f64 = 524_288.0;

/// A line: bytes, births a second, and how many collections keep an object.
#[derive(Clone, Copy)]
struct Line {
    name: &'static str,
    size_bytes: u64,
    per_s: u64,
    kept: u64,
}

const FOR_EVER: u64 = 1 << 40;
/// 20 KB/s stay, beside 12 MB/s of garbage, a population of 2,000 and a pool of buffers that lives for 40 collections.
const LINES: [Line; 5] = [
    Line { name: "main.leak", size_bytes: 512, per_s: 40, kept: FOR_EVER },
    Line { name: "main.garbage", size_bytes: 512, per_s: 10_000, kept: 0 },
    Line { name: "main.sessions", size_bytes: 512, per_s: 100, kept: 20 },
    Line { name: "main.small", size_bytes: 64, per_s: 100_000, kept: 0 },
    Line { name: "main.buffers", size_bytes: 2_048, per_s: 200, kept: 40 },
];

fn stack(line: usize) -> Stack {
    let frame = |function: &str| Frame {
        function: function.into(),
        file: "/f.go".into(),
        line: 1,
        function_start_line: 1,
        inlined: false,
        origin: Origin::Go,
    };
    Arc::from(vec![frame("runtime.mallocgc"), frame(LINES[line].name)])
}

fn site(line: usize) -> SiteId {
    place_allocation(&stack(line), None).unwrap().id
}

/// What of a line's objects was freed when so many collections were swept, one a second.
fn freed(line: &Line, collections: u64) -> u64 {
    line.per_s * collections.saturating_sub(line.kept)
}

/// The books, tenths of a second after the beginning.
fn books(tenths: u64) -> Books {
    let collections = tenths / 10;
    // Within a cycle the garbage of the one before is swept.
    let swept = if tenths % 10 >= 4 { collections } else { collections.saturating_sub(1) };
    let mut classes: Vec<ClassCount> = Vec::new();
    for line in &LINES {
        let (allocs, frees) = (line.per_s * tenths / 10, freed(line, swept));
        match classes.iter_mut().find(|class| class.size_bytes == line.size_bytes) {
            Some(class) => {
                class.allocs += allocs;
                class.frees += frees;
            }
            None => classes.push(ClassCount { size_bytes: line.size_bytes, allocs, frees, slack: 0 }),
        }
    }
    classes.sort_by_key(|class| class.size_bytes);
    let marked: u64 =
        LINES.iter().map(|line| (line.per_s * collections - freed(line, collections)) * line.size_bytes).sum();
    let end = |collection: u64| (BEGIN_S + collection) * NS;
    let mut books = memory::tests::books();
    books.classes = classes;
    (books.large_allocs, books.large_alloc_bytes) = (0, 0);
    books.collections = collections as u32;
    books.last_end_unix_ns = end(collections);
    books.pauses =
        (0..3).map(|back| Pause { duration_ns: 1, end_unix_ns: end(collections.saturating_sub(back)) }).collect();
    if let Ok(pacer) = &mut books.pacer {
        pacer.heap_marked_bytes = marked;
    }
    books
}

fn moment(tenths: u64) -> Moment {
    let at_ns = BEGIN_S * NS + tenths * NS / 10;
    Moment { at_ns, unix_ns: at_ns }
}

/// Looks at a process for so many seconds; what is known each ten.
fn watch(seconds: u64, has_births: bool, has_profile: bool, seed: u64, mut each: impl FnMut(u64, &Snapshot)) {
    let mut random = SmallRng::seed_from_u64(seed ^ 0xf0110);
    // The same profile, whether there are bursts or not.
    let mut sampler = SmallRng::seed_from_u64(seed ^ 0x9f0f);
    let constants = ProcessConstants { began_unix_ns: Some(NS), ..ProcessConstants::default() };
    let (mut model, mut tracked) = (ProcessModel::new(constants), Tracked::new(Limits::default()));
    // By address, the collection that frees it.
    let mut dies: Vec<u64> = Vec::new();
    let mut samples = [Counts::default(); LINES.len()];
    // Of each collection, as long as they live.
    let mut sampled = [const { VecDeque::new() }; LINES.len()];
    let (warm, mut is_open) = (60_u64, false);
    for tenths in warm * 10..(warm + seconds) * 10 {
        let (collection, at) = (tenths / 10, moment(tenths));
        if has_births {
            let burst = tenths as u32;
            for (line, source) in LINES.iter().enumerate() {
                let probability = (source.size_bytes as f64 / MEAN_BYTES).min(1.0);
                for _ in 0..poisson(source.per_s as f64 * OPEN_S * probability, &mut random) {
                    dies.push(collection + 1 + source.kept);
                    let born = Cycle(2 * collection as u32);
                    let address = Avma(dies.len() as u64);
                    tracked.born(&BirthEvent {
                        at_ns: at.at_ns,
                        burst,
                        goroutine: Goroutine { id: 1, start_pc: 1 },
                        frames: &[line as u64],
                        object: Some(TrackedObject { address, span: None, born, alive: born }),
                        slot_bytes: source.size_bytes,
                        is_black: random.random_bool(0.1),
                        weight: 1.0 / probability,
                    });
                }
            }
            let kind = BurstKind::Births;
            let (open_ns, stands_for_ns) = ((OPEN_S * 1e9) as u64, NS / 10);
            tracked.burst_ended(&BurstEnd {
                number: burst,
                began_ns: at.at_ns,
                open_ns,
                stands_for_ns,
                chosen_per_told: 1.0,
                kind,
            });
        }
        if tenths % 10 == 0 {
            let cycle = Cycle(2 * collection as u32);
            let answer = |object: &TrackedObject| {
                let is_alive = dies[(object.address.0 - 1) as usize] > collection;
                if is_alive { Look::Alive { cycle } } else { Look::Dead { cycle } }
            };
            let objects = tracked.objects().to_vec();
            let looks: Vec<Look> = objects.iter().map(answer).collect();
            tracked.looked_at(cycle, &objects, &looks);
        }
        if has_births && tenths % 30 == 0 {
            let mut taken = tracked.take(at.at_ns);
            taken.look.new_stacks = taken.new_paths.iter().map(|path| stack(path[0] as usize)).collect();
            model.observe(at, Observation::Births(Arc::new(taken.look)));
        }
        // Samples of the last second are published with its collection.
        if tenths % 10 == 0 {
            for ((line, counts), generations) in LINES.iter().zip(&mut samples).zip(&mut sampled) {
                let probability = -(-(line.size_bytes as f64) / PROFILE_RATE).exp_m1();
                let born = binomial(line.per_s, probability, &mut sampler);
                generations.push_back(born);
                counts.allocs += born;
                if generations.len() as u64 > line.kept {
                    counts.frees += generations.pop_front().unwrap();
                }
                counts.alloc_bytes = counts.allocs * line.size_bytes;
                counts.free_bytes = counts.frees * line.size_bytes;
            }
        }
        model.observe(at, Observation::Books(Box::new(books(tenths))));
        if tenths == warm * 10 {
            model.observe(at, Observation::Opened);
        }
        if has_profile && tenths % 50 == 0 {
            let changed =
                (0_u32..).zip(samples).map(|(line, counts)| (line, Bucket { published: counts, newest: counts }));
            let new_stacks = if is_open { Vec::new() } else { (0..LINES.len()).map(stack).collect() };
            is_open = true;
            let look = ProfileLook {
                rate_bytes: PROFILE_RATE as i64,
                lag_cycles: 1,
                new_stacks,
                changed: changed.collect(),
                ..ProfileLook::default()
            };
            model.observe(at, Observation::Profile(look));
        }
        if tenths % 100 == 90 {
            each(tenths / 10 - warm, &model.snapshot(at));
        }
    }
}

fn verdict_on(assessment: &Assessment, line: usize) -> Verdict {
    let found = assessment.sites.iter().find(|found| found.site == site(line));
    found.map_or(Verdict::Unknown, |found| found.verdict)
}

fn innocents(assessment: &Assessment) -> u32 {
    (1..LINES.len()).filter(|line| verdict_on(assessment, *line) >= Verdict::Growing).count() as u32
}

#[test]
fn births_alone_name_a_slow_leak_and_nobody_else() {
    const RUNS: u64 = 20;
    let [named, leaking, within, accused, due] = count(RUNS, |seed| {
        let mut seen = [0; 5];
        watch(150, true, false, seed, |at_s, snapshot| {
            let Some(assessment) = &snapshot.assessment else { return };
            seen[0] |= u32::from(at_s <= 90 && verdict_on(assessment, 0) >= Verdict::Growing);
            seen[3] += innocents(assessment);
            if at_s < 40 {
                seen[4] |= u32::from(matches!(assessment.why, Reason::NeedsName { seconds: Some(_), .. }));
            }
            if at_s > 145 {
                seen[1] = u32::from(verdict_on(assessment, 0) == Verdict::Leaking);
                let site = assessment.sites.iter().find(|found| found.site == site(0));
                seen[2] =
                    site.map_or(0, |site| u32::from((site.growth_bytes_per_s.value / 20_480.0 - 1.0).abs() < 0.1));
            }
        });
        seen
    });
    println!(
        "{RUNS} processes without a profile: the leak named after 90 s in {named}, leaking after 150 s in {leaking}, its rate within a \
         tenth in {within}; innocents accused {accused} times; it was said when a name is due in {due}"
    );
    assert_eq!(accused, 0);
    assert_eq!(due, RUNS as u32);
    assert!(named * 10 >= 9 * RUNS as u32 && leaking * 10 >= 9 * RUNS as u32, "{named} {leaking}");
    assert!(within * 10 >= 8 * RUNS as u32, "{within}");
}

#[test]
fn bursts_make_no_verdict_worse_where_there_is_a_profile() {
    const RUNS: u64 = 20;
    let [alone, with, early_alone, early_with, accused_alone, accused] = count(RUNS, |seed| {
        let mut seen = [0; 6];
        for (births, number) in [(false, 0), (true, 1)] {
            watch(300, births, true, seed, |at_s, snapshot| {
                let Some(assessment) = &snapshot.assessment else { return };
                let is_named = verdict_on(assessment, 0) >= Verdict::Growing;
                seen[2 + number] |= u32::from(at_s <= 90 && is_named);
                if at_s > 295 {
                    seen[number] = u32::from(is_named);
                }
                seen[4 + number] += innocents(assessment);
            });
        }
        seen
    });
    println!(
        "{RUNS} processes with a profile: named after 300 s in {alone} without bursts and in {with} with them, after 90 s in {early_alone} \
         and {early_with}; innocents accused {accused_alone} times and {accused}"
    );
    assert!(accused <= accused_alone, "{accused} {accused_alone}");
    assert!(with >= alone && early_with >= early_alone, "{with} {alone} {early_with} {early_alone}");
}
