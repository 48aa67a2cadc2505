//! What the model promises, counted over many programs that never ran.

use super::super::Rate;
use super::super::assess::{Assessment, Assessor};
use super::super::reason::Reason;
use super::super::verdict::{Trend, Verdict};
use super::runs::{count, pick};
use super::*;

/// How a program is looked at.
#[derive(Clone, Copy, Debug)]
struct Watch {
    /// Over which growth is judged; `None`: over all that is seen.
    window_s: Option<f64>,
    total_s: f64,
    reports: u32,
    /// Whether it is known when the process began, and that this was when the program was started.
    knows_age: bool,
}

/// Readings, with a profile at each report; then what is said at the end of it.
fn watch(program: &mut Program, watch: Watch, mut each: impl FnMut(&Assessment, f64)) -> (Assessor, Assessment) {
    let mut assessor = Assessor::new(watch.window_s.unwrap_or_default());
    if watch.knows_age {
        assessor.process_began(unix_ns(0.0));
    }
    let began_s = program.now_s();
    let mut last = None;
    for number in 1..=watch.reports {
        let until_s = began_s + watch.total_s * f64::from(number) / f64::from(watch.reports);
        assessor.observe_profile(program.profile());
        while program.now_s() < until_s {
            assessor.observe_books(program.read());
        }
        assessor.observe_profile(program.profile());
        if let Some(window_s) = watch.window_s {
            assessor.forget_before(unix_ns((program.now_s() - window_s).max(0.0)));
        }
        let report = assessor.report(program.live_bytes());
        each(&report, program.now_s() - began_s);
        last = Some(report);
    }
    (assessor, last.unwrap())
}

fn source(size_bytes: u64, rule: Rule) -> Source {
    Source { size_bytes, rule }
}

/// Churn that every program has, about 60 MB/s in three sizes, beside a cache that is full: between two collections there
/// are seconds.
fn background(cache_bytes: f64) -> Vec<Source> {
    let mut sources = [(48, 400_000.0), (512, 40_000.0), (4096, 5_000.0)]
        .map(|(size_bytes, per_s)| source(size_bytes, Rule::Churn { per_s, held_s: 0.02 }))
        .to_vec();
    let capacity = (cache_bytes / 4096.0) as u64;
    sources.push(source(4096, Rule::Lru { per_s: 50.0, capacity, from_s: 0.0 }));
    sources
}

/// Slow enough for what churns to hide it: faster ones are covered by the floors of the interval.
const SLOW_PER_S: [f64; 2] = [5.0, 200.0];

/// How many know the growth of the class of a leak at a constant rate beside churn and a population of the same size, how many of
/// their intervals cover the truth, and how many collections that took.
fn class_coverage(window_s: f64, cache_bytes: f64, runs: u64) -> [u32; 3] {
    count(runs, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5eed);
        let per_s = pick(&mut random, SLOW_PER_S[0], SLOW_PER_S[1]);
        let mut sources = background(cache_bytes);
        sources.push(source(512, Rule::Leak { per_s }));
        let life_s = pick(&mut random, 0.3, 3.0);
        sources.push(source(512, Rule::Population { per_s: pick(&mut random, 1_000.0, 20_000.0), life_s }));
        let mut program = Program::start(&sources, Settings::default(), seed);
        let look = Watch { window_s: None, total_s: window_s, reports: 1, knows_age: false };
        let (_, report) = watch(&mut program, look, |_, _| {});
        let class = report.classes.iter().find(|class| class.size_bytes == Some(512)).unwrap();
        let Some(rate) = class.trend.rate() else { return [0, 0, 0] };
        [1, u32::from(covers(rate, per_s * 512.0)), report.cycles as u32]
    })
}

fn covers(rate: Rate, truth: f64) -> bool {
    rate.low <= truth && rate.high.is_none_or(|high| truth <= high)
}

fn percent(part: u32, all: u32) -> f64 {
    f64::from(part) * 100.0 / f64::from(all.max(1))
}

#[test]
fn the_interval_of_a_leak_under_churn_covers_the_truth_at_its_rate() {
    const RUNS: u64 = 1000;
    let (mut all, mut all_covered) = (0, 0);
    for (window_s, cache_bytes) in [
        (30.0, 20e6),
        (30.0, 100e6),
        (60.0, 20e6),
        (60.0, 100e6),
        (60.0, 400e6),
        (120.0, 20e6),
        (120.0, 100e6),
        (120.0, 400e6),
    ] {
        let [known, covered, cycles] = class_coverage(window_s, cache_bytes, RUNS);
        let (percent, cycles) = (percent(covered, known), cycles.checked_div(known).unwrap_or_default());
        println!(
            "class: window {window_s:3.0} s, {cycles:3} collections: {percent:.1} % of {known} intervals cover the truth"
        );
        assert!(u64::from(known) * 10 >= RUNS * 9, "{known}");
        // 95 +- 2, and three standard deviations of a thousand runs, are 2.9: no single row may be off by more.
        assert!((92.1..=97.9).contains(&percent), "{percent}");
        all += known;
        all_covered += covered;
    }
    let percent = percent(all_covered, all);
    println!("class: all: {percent:.1} % of {all} intervals of nominal 95 % cover the truth");
    assert!((93.0..=97.0).contains(&percent), "{percent}");
}

#[test]
fn the_interval_of_a_line_covers_the_truth_at_its_rate() {
    const RUNS: u64 = 1000;
    for (name, others) in [("alone in its class", 0_usize), ("beside a steady line", 1), ("beside another leak", 2)] {
        let [known, covered, samples] = count(RUNS, |seed| {
            let mut random = SmallRng::seed_from_u64(seed ^ 0x517e);
            let per_s = pick(&mut random, 100.0, 1_000.0);
            let mut sources = vec![source(640, Rule::Leak { per_s })];
            sources.extend(background(50e6));
            let other = [Rule::Population { per_s: 5_000.0, life_s: 2.0 }, Rule::Leak { per_s: per_s * 0.7 }];
            sources.extend(other.into_iter().take(others).skip(others.saturating_sub(1)).map(|rule| source(640, rule)));
            let mut program = Program::start(&sources, Settings::default(), seed);
            let look = Watch { window_s: None, total_s: 60.0, reports: 1, knows_age: false };
            let (_, report) = watch(&mut program, look, |_, _| {});
            let Some(site) = report.sites.iter().find(|site| site.site == SiteId(1)) else { return [0, 0, 0] };
            [
                1,
                u32::from(covers(site.growth_bytes_per_s, per_s * 640.0)),
                (per_s * 640.0 * 60.0 / PROFILE_RATE_BYTES) as u32,
            ]
        });
        let percent = percent(covered, known);
        println!(
            "line {name}: {percent:.1} % of {known} intervals cover the truth, {} samples each",
            samples.checked_div(known).unwrap_or_default()
        );
        assert!(u64::from(known) * 10 >= RUNS * 9, "{known}");
        assert!(percent >= 92.1, "{name}: {percent}");
    }
}

/// Shapes that do not leak, with periods of at most a third of the window.
fn innocent(random: &mut SmallRng, window_s: f64) -> Source {
    let size_bytes = [16, 64, 256, 1024, 8192][random.random_range(0..5)];
    let per_s = pick(random, 20_000.0, 20_000_000.0) / size_bytes as f64;
    let period_s = pick(random, 0.5, window_s / 3.0);
    let rule = match random.random_range(0..7) {
        0 => Rule::Churn { per_s, held_s: pick(random, 0.001, 1.0) },
        1 => Rule::Population { per_s, life_s: pick(random, 0.05, window_s / 3.0) },
        // Full before anybody looks.
        2 => Rule::Lru { per_s, capacity: pick(random, 10.0, (per_s * 200.0).max(20.0)) as u64, from_s: 0.0 },
        3 => Rule::Sawtooth { per_s, period_s },
        4 => Rule::Bursts { per_s, life_s: period_s / 5.0, period_s, on_s: period_s / 3.0 },
        5 => Rule::Phases { per_s, life_s: period_s / 5.0, period_s },
        // So few that they do not put off the collections that they live through.
        _ => Rule::Survivors { per_s: per_s / 50.0, cycles: random.random_range(1..SURVIVED_MAX) },
    };
    source(size_bytes, rule)
}

#[test]
fn no_steady_shape_is_ever_said_to_leak() {
    const RUNS: u64 = 10_000;
    let [reports, growing, leaking, classes, whole] = count(RUNS, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0xacc5);
        let window_s = pick(&mut random, 30.0, 120.0);
        let mut sources: Vec<Source> =
            (0..random.random_range(1..4)).map(|_| innocent(&mut random, window_s)).collect();
        let has_survivors = sources.iter().any(|source| matches!(source.rule, Rule::Survivors { .. }));
        if has_survivors || random.random::<bool>() {
            let background = background(10f64.powf(random.random_range(6.0..8.5)));
            sources.extend(background);
        }
        let settings = Settings {
            gogc: [50.0, 100.0, 400.0][random.random_range(0..3)],
            missed: [0.0, 0.0, 0.1, 0.5][random.random_range(0..4)],
            ..Settings::default()
        };
        let mut program = Program::start(&sources, settings, seed);
        let mut seen = [0; 5];
        let slides = random.random::<bool>();
        let look =
            Watch { window_s: slides.then_some(window_s), total_s: 2.4 * window_s, reports: 6, knows_age: false };
        watch(&mut program, look, |report, _| {
            seen[0] += 1;
            seen[1] += u32::from(report.sites.iter().any(|site| site.verdict == Verdict::Growing));
            seen[2] += u32::from(report.sites.iter().any(|site| site.verdict == Verdict::Leaking));
            for site in report.sites.iter().filter(|site| site.verdict == Verdict::Leaking) {
                let source = sources[(site.site.0 - 1) as usize];
                println!("{seed} window {window_s:.0} slides {slides} cycles {} {source:?} {site:?}", report.cycles);
            }
            seen[3] += u32::from(report.classes.iter().any(|class| matches!(class.trend, Trend::Rising(_))));
            seen[4] += u32::from(report.verdict >= Verdict::Growing);
        });
        seen
    });
    println!(
        "{RUNS} steady programs, {reports} reports: {leaking} say leaking, {growing} that a line grows, {whole} that the process \
         grows, {classes} that a class rises"
    );
    assert_eq!(leaking, 0);
    assert!(growing * 100 < reports, "{growing} of {reports}");
}

/// What is said of the first line, which leaks, and whether anybody else is accused, by the samples that were due.
fn detection(window_s: Option<f64>, samples: [f64; 2], runs: u64) -> [u32; 4] {
    count(runs, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x1eac);
        let rate = pick(&mut random, 20_000.0, 400_000.0);
        let total_s = random.random_range(samples[0]..samples[1]) * PROFILE_RATE_BYTES / rate;
        if total_s < 30.0 {
            return [0; 4];
        }
        let size_bytes = [48_u64, 512, 4096, 640][random.random_range(0..4)];
        let mut sources = vec![source(size_bytes, Rule::Leak { per_s: rate / size_bytes as f64 })];
        sources.extend(background(20e6));
        let mut program = Program::start(&sources, Settings::default(), seed);
        let reports = ((total_s / 5.0) as u32).clamp(2, 40);
        let (_, report) = watch(&mut program, Watch { window_s, total_s, reports, knows_age: false }, |_, _| {});
        let of = |site: &SiteId| report.sites.iter().find(|found| found.site == *site).map(|found| found.verdict);
        let leak = of(&SiteId(1)).unwrap_or_default();
        let is_accused = report.sites.iter().any(|site| site.site != SiteId(1) && site.verdict == Verdict::Leaking);
        [1, u32::from(leak >= Verdict::Growing), u32::from(leak == Verdict::Leaking), u32::from(is_accused)]
    })
}

#[test]
fn leaks_are_named_when_enough_samples_are_due() {
    for (samples, least) in [([3.0, 6.0], 40.0), ([6.0, 12.0], 90.0), ([12.0, 30.0], 97.0)] {
        let [due, named, leaking, accused] = detection(None, samples, 300);
        let (named, leaking) = (percent(named, due), percent(leaking, due));
        println!(
            "{samples:?} samples due, {due} leaks: {named:.0} % named, {leaking:.0} % called leaking; innocents accused in {accused}"
        );
        assert!(due > 100 && named >= least, "{due} {named}");
        assert_eq!(accused, 0);
    }
}

#[test]
fn what_takes_longer_than_the_window_may_grow_and_leaks_at_the_earliest_after_two() {
    let [reports, early, late] = count(500, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x10e6);
        let window_s = pick(&mut random, 30.0, 60.0);
        let period_s = window_s * random.random_range(0.4..6.0);
        let per_s = pick(&mut random, 100.0, 2_000.0);
        let capacity = (per_s * period_s) as u64;
        let rule = match random.random_range(0..3) {
            0 => Rule::Sawtooth { per_s, period_s },
            1 => Rule::Lru { per_s, capacity, from_s: 1.0 },
            _ => Rule::Bursts { per_s, life_s: period_s / 3.0, period_s, on_s: period_s / 3.0 },
        };
        let mut sources = vec![source(1024, rule)];
        sources.extend(background(20e6));
        let mut program = Program::start(&sources, Settings::default(), seed);
        let mut seen = [0; 3];
        let look = Watch { window_s: Some(window_s), total_s: 3.0 * window_s, reports: 9, knows_age: false };
        watch(&mut program, look, |report, after_s| {
            let leaks =
                report.verdict == Verdict::Leaking || report.sites.iter().any(|site| site.verdict == Verdict::Leaking);
            seen[0] += 1;
            seen[1] += u32::from(leaks && after_s < 2.0 * window_s);
            seen[2] += u32::from(leaks);
        });
        seen
    });
    println!("periods of 0.4 to 6 windows, {reports} reports: {early} leaking before two windows, {late} in all");
    assert_eq!(early, 0);
}

#[test]
fn what_has_grown_since_the_beginning_is_not_called_a_leak_while_the_process_is_young() {
    let [leaking, growing, steady] = count(200, |seed| {
        let mut sources = vec![source(1024, Rule::Lru { per_s: 1_000.0, capacity: 80_000, from_s: 0.001 })];
        sources.extend(background(20e6));
        let mut program = Program::start(&sources, Settings::default(), seed);
        let mut seen = [0; 3];
        let look = Watch { window_s: None, total_s: 240.0, reports: 48, knows_age: true };
        let (_, last) = watch(&mut program, look, |report, _| {
            seen[0] += u32::from(report.sites.iter().any(|site| site.verdict == Verdict::Leaking));
            seen[1] |= u32::from(report.sites.iter().any(|site| site.verdict == Verdict::Growing));
        });
        seen[2] = u32::from(last.sites.iter().all(|site| site.verdict < Verdict::Growing));
        seen
    });
    println!(
        "a cache that fills for 80 s, 200 programs: growing in {growing}, leaking in {leaking} reports, full in {steady}"
    );
    assert_eq!((leaking, steady), (0, 200));
}

#[test]
fn bounds_hold_and_lines_have_no_more_than_their_classes() {
    let [reports, broken] = count(300, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0xb0);
        let mut sources: Vec<Source> = (0..4).map(|_| innocent(&mut random, 60.0)).collect();
        sources.push(source(64, Rule::RandomLeak { per_s: 3_000.0 }));
        sources.push(source(64, Rule::Leak { per_s: 1_000.0 }));
        let settings = Settings { missed: random.random_range(0.0..0.9), ..Settings::default() };
        let mut program = Program::start(&sources, settings, seed);
        let mut seen = [0; 2];
        let look = Watch { window_s: None, total_s: 90.0, reports: 6, knows_age: true };
        watch(&mut program, look, |report, _| {
            let is_ordered = |rate: Rate| rate.low <= rate.value && rate.high.is_none_or(|high| rate.value <= high);
            let classes = report.classes.iter().filter_map(|class| class.trend.rate());
            let ordered = classes.chain(report.sites.iter().map(|site| site.growth_bytes_per_s)).all(is_ordered);
            // Those below the floor are left out, those that fall are not shown: what is shown may exceed it by chance.
            // Those whose verdict is only held show what was measured before.
            let shown: Vec<Rate> = report
                .sites
                .iter()
                .filter(|site| site.why != Reason::Unconfirmed)
                .map(|site| site.growth_bytes_per_s)
                .collect();
            let named: f64 = shown.iter().map(|rate| rate.value).sum();
            let chance: f64 = shown.iter().map(|rate| rate.value - rate.low).sum();
            let is_within = named <= report.rising_bytes_per_s + 2.0 * chance;
            seen[0] += 1;
            seen[1] += u32::from(!ordered || !is_within || !report.why.to_string().is_ascii());
        });
        seen
    });
    assert_eq!(broken, 0, "of {reports}");
}

#[test]
fn steady_lines_that_share_a_class_with_a_leak_are_not_accused_however_often_one_looks() {
    const RUNS: u64 = 200;
    let [reports, growing, leaking, named] = count(RUNS, |seed| {
        // A leak of 100 KB/s beside six lines with about four samples in use each, all of one size.
        let mut sources = vec![source(512, Rule::Leak { per_s: 200.0 })];
        sources.extend((0..6).map(|_| source(512, Rule::Population { per_s: 400.0, life_s: 10.0 })));
        sources.push(source(8192, Rule::Churn { per_s: 2_000.0, held_s: 0.01 }));
        let mut program = Program::start(&sources, Settings { before_s: 60.0, ..Settings::default() }, seed);
        let mut seen = [0; 4];
        let mut number = 0;
        let look = Watch { window_s: None, total_s: 150.0, reports: 30, knows_age: false };
        watch(&mut program, look, |report, _| {
            number += 1;
            let innocents = || report.sites.iter().filter(|site| site.site != SiteId(1));
            seen[0] += 1;
            seen[1] += u32::from(number > 24 && innocents().any(|site| site.verdict == Verdict::Growing));
            seen[2] += u32::from(innocents().any(|site| site.verdict == Verdict::Leaking));
            let is_named = report.sites.iter().any(|site| site.site == SiteId(1) && site.verdict >= Verdict::Growing);
            seen[3] += u32::from(number == 30 && is_named);
        });
        seen
    });
    println!(
        "{RUNS} leaks beside six steady lines of the same size, {reports} reports: innocents leaking in {leaking}, growing \
         after 120 s in {growing}; the leak named in the end in {named}"
    );
    assert_eq!(leaking, 0);
    assert!(growing * 500 <= reports, "{growing} of {reports}");
    assert!(named * 100 >= 95 * u32::try_from(RUNS).unwrap(), "{named} of {RUNS}");
}
