//! What the model promises, counted over many programs that never ran.

use std::thread;

use super::super::assess::Assessor;
use super::super::verdict::{Trend, Verdict};
use super::*;

/// A window of readings, with a profile at each report.
fn assessor(
    program: &mut Program,
    window_s: f64,
    reports: u32,
    mut each: impl FnMut(&mut Assessor, &Program),
) -> Assessor {
    let mut assessor = Assessor::new(window_s);
    let readings = (window_s / program.settings.read_every_s) as u32;
    for number in 0..=readings {
        assessor.observe_books(program.read());
        if number % (readings / reports).max(1) == 0 {
            assessor.observe_profile(program.profile());
            each(&mut assessor, program);
        }
    }
    assessor
}

/// Runs with seeds from 0 on, on all processors; the sum of what each gives.
fn count<const N: usize>(runs: u64, run: impl Fn(u64) -> [u32; N] + Sync) -> [u32; N] {
    let workers = thread::available_parallelism().map_or(2, usize::from) as u64;
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let mut sum = [0; N];
                    for seed in (worker..runs).step_by(workers as usize) {
                        sum.iter_mut().zip(run(seed)).for_each(|(sum, one)| *sum += one);
                    }
                    sum
                })
            })
            .collect();
        threads.into_iter().fold([0; N], |mut sum, thread| {
            sum.iter_mut().zip(thread.join().unwrap()).for_each(|(sum, one)| *sum += one);
            sum
        })
    })
}

fn pick(random: &mut SmallRng, low: f64, high: f64) -> f64 {
    (random.random_range(low.ln()..high.ln())).exp()
}

/// Churn that every program has, about 60 MB/s in three sizes.
fn background() -> Vec<Source> {
    [(48, 400_000.0), (512, 40_000.0), (4096, 5_000.0)]
        .map(|(size_bytes, per_s)| Source { size_bytes, rule: Rule::Churn { per_s, held_s: 0.02 } })
        .to_vec()
}

#[test]
fn the_interval_of_a_leak_under_churn_covers_the_truth_at_its_rate() {
    const RUNS: u64 = 1000;
    let [known, covered] = count(RUNS, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5eed);
        let per_s = pick(&mut random, 40.0, 4_000.0);
        let mut sources = background();
        sources.push(Source { size_bytes: 512, rule: Rule::Leak { per_s } });
        sources.push(Source { size_bytes: 1024, rule: Rule::Population { per_s: 2_000.0, life_s: 2.0 } });
        let mut program = Program::start(&sources, Settings::default(), seed);
        let mut assessor = assessor(&mut program, 60.0, 1, |_, _| {});
        let report = assessor.report(program.live_bytes());
        let class = report.classes.iter().find(|class| class.size_bytes == Some(512)).unwrap();
        let Some(rate) = class.trend.rate() else { return [0, 0] };
        let truth = per_s * 512.0;
        [1, u32::from(rate.low <= truth && rate.high.is_some_and(|high| truth <= high))]
    });
    println!("coverage of nominal 95 %: {covered} of {known} runs");
    assert!(known > 950, "{known}");
    assert!(covered * 100 >= known * 93, "{covered} of {known}");
}

/// Shapes that do not leak, with periods of at most a third of the window.
fn innocent(random: &mut SmallRng, window_s: f64) -> Source {
    let size_bytes = [16, 64, 256, 1024, 8192][random.random_range(0..5)];
    let per_s = pick(random, 20_000.0, 20_000_000.0) / size_bytes as f64;
    let period_s = pick(random, 0.5, window_s / 3.0);
    let rule = match random.random_range(0..5) {
        0 => Rule::Churn { per_s, held_s: pick(random, 0.001, 1.0) },
        1 => Rule::Population { per_s, life_s: pick(random, 0.05, window_s / 3.0) },
        // Full before anybody looks.
        2 => Rule::Lru { per_s, capacity: pick(random, 10.0, (per_s * 200.0).max(20.0)) as u64, from_s: 0.0 },
        3 => Rule::Sawtooth { per_s, period_s },
        _ => Rule::Bursts { per_s, life_s: period_s / 5.0, period_s, on_s: period_s / 3.0 },
    };
    Source { size_bytes, rule }
}

#[test]
fn no_steady_shape_is_ever_said_to_leak() {
    const RUNS: u64 = 1000;
    let [reports, growing, leaking, classes] = count(RUNS, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0xacc5);
        let window_s = pick(&mut random, 30.0, 120.0);
        let mut sources: Vec<Source> =
            (0..random.random_range(1..5)).map(|_| innocent(&mut random, window_s)).collect();
        sources.extend(background().into_iter().take(random.random_range(0..4)));
        let settings = Settings { gogc: [50.0, 100.0, 400.0][random.random_range(0..3)], ..Settings::default() };
        let mut program = Program::start(&sources, settings, seed);
        let mut seen = [0; 4];
        assessor(&mut program, window_s, 6, |assessor, program| {
            let report = assessor.report(program.live_bytes());
            seen[0] += 1;
            seen[1] += u32::from(report.sites.iter().any(|site| site.verdict == Verdict::Growing));
            seen[2] += u32::from(report.sites.iter().any(|site| site.verdict == Verdict::Leaking));
            for site in report.sites.iter().filter(|site| site.verdict == Verdict::Leaking) {
                let source = sources[(site.site.0 - 1) as usize];
                println!("{seed} window {window_s:.0} cycles {} {source:?} {site:?}", report.cycles);
            }
            seen[3] += u32::from(report.classes.iter().any(|class| matches!(class.trend, Trend::Rising(_))));
        });
        seen
    });
    println!(
        "{RUNS} steady programs, {reports} reports: {leaking} leaking, {growing} growing, {classes} with a class that rises"
    );
    assert_eq!(leaking, 0);
}

#[test]
fn leaks_are_named_when_enough_samples_are_due() {
    const RUNS: u64 = 100;
    let [due, leaking, named, accused] = count(RUNS, |seed| {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x1eac);
        let rate = pick(&mut random, 20_000.0, 2_000_000.0);
        let size_bytes = [48_u64, 512, 4096, 640][random.random_range(0..4)];
        let mut sources = vec![Source { size_bytes, rule: Rule::Leak { per_s: rate / size_bytes as f64 } }];
        sources.extend(background());
        // Young, so that its collections are not rarer than a verdict needs.
        let mut program = Program::start(&sources, Settings { before_s: 10.0, ..Settings::default() }, seed);
        let window_s = (12.0 * PROFILE_RATE_BYTES / rate).max(40.0);
        let mut sites = Vec::new();
        let reports = 6;
        assessor(&mut program, window_s, reports, |assessor, program| {
            sites = assessor.report(program.live_bytes()).sites;
        });
        let of = |site: u64| {
            sites.iter().find(|found| found.site == SiteId(site)).map_or(Verdict::Unknown, |found| found.verdict)
        };
        for site in sites.iter().filter(|site| site.site != SiteId(1) && site.verdict == Verdict::Leaking) {
            println!(
                "{seed}: accused {:?} beside {rate:.0} B/s of {size_bytes}: {site:?}",
                sources[(site.site.0 - 1) as usize]
            );
        }
        let accused = sites.iter().any(|site| site.site != SiteId(1) && site.verdict == Verdict::Leaking);
        let leak = of(1);
        if leak < Verdict::Growing {
            println!("{seed}: {rate:.0} B/s of {size_bytes} in {window_s:.0} s: {leak:?} {sites:?}");
        }
        [1, u32::from(leak == Verdict::Leaking), u32::from(leak >= Verdict::Growing), u32::from(accused)]
    });
    println!("{due} leaks: {leaking} called leaking, {named} leaking or growing, innocents accused in {accused}");
    assert!(named * 100 >= due * 97, "{named} of {due}");
    assert_eq!(accused, 0);
}
