//! What is said when evidence is missing, broken, or contradicts itself.

use super::*;
use crate::model::birth_evidence::BirthEvidence;
use crate::model::births::tests::{Birth, reading_of};
use crate::model::births::{ClassRate, estimate};
use crate::model::marked::Restart;

const NS: u64 = 1_000_000_000;
const BEGIN_S: u64 = 1_000_000;

/// The books of a program with a collection every two seconds: 1,000 objects of 64 bytes are born and die in each, and so many
/// of 512 bytes stay.
#[derive(Clone, Copy)]
struct Books {
    stays: u64,
    collections: u32,
    at_s: u64,
}

impl Books {
    fn new(stays: u64) -> Self {
        Self { stays, collections: 10, at_s: BEGIN_S }
    }

    /// The readings of the next cycle: just after the end of the last one, and before the end of the next.
    fn cycle(&mut self) -> [Reading; 2] {
        self.collections += 1;
        self.at_s += 2;
        let number = u64::from(self.collections);
        let (at_ns, stayed) = (self.at_s * NS, self.stays * number);
        let reading = |at_unix_ns, born, freed| Reading {
            at_unix_ns,
            collections: self.collections,
            last_end_unix_ns: at_ns,
            marked_bytes: 512 * stayed,
            classes: vec![[64, 1_000 * number + born, 1_000 * freed], [512, stayed, 0]],
            large: [0, 0],
        };
        [reading(at_ns, 0, number - 1), reading(at_ns + 19 * NS / 10, 900, number)]
    }

    fn run(&mut self, assessor: &mut Assessor, cycles: u32) {
        for _ in 0..cycles {
            self.cycle().into_iter().for_each(|reading| assessor.observe_books(reading));
        }
    }

    /// So many samples of 512 bytes by one site, allocated and freed.
    fn profile(&self, site: u64, allocs: u64, frees: u64) -> ProfileReading {
        let samples = vec![SiteSamples { site: SiteId(site), size_bytes: 512, allocs, frees }];
        ProfileReading { at_unix_ns: self.at_s * NS, rate_bytes: 524_288.0, samples }
    }
}

/// A leak of 256 KB/s: a sample every second cycle, seen for so many cycles with a report and a profile every five.
fn leaking(cycles: u32) -> (Books, Assessor, Assessment) {
    let (mut books, mut assessor) = (Books::new(1_024), Assessor::new(0.0));
    assessor.observe_profile(books.profile(7, 5, 0));
    for _ in 0..cycles / 5 {
        books.run(&mut assessor, 5);
        assessor.observe_profile(books.profile(7, u64::from(books.collections), 0));
        assessor.report(1e8);
    }
    let report = assessor.report(1e8);
    (books, assessor, report)
}

#[test]
fn a_leak_leaks_and_says_why() {
    let (_, _, report) = leaking(60);
    assert_eq!(report.verdict, Verdict::Leaking);
    assert!(matches!(report.why, Reason::Leaks(_)), "{}", report.why);
    let [site] = report.sites.as_slice() else { panic!("{:?}", report.sites) };
    assert!((site.growth_bytes_per_s.value / 262_144.0 - 1.0).abs() < 0.05, "{site:?}");
}

#[test]
fn what_leaks_is_said_to_grow_until_no_more_time_is_due() {
    // A collection every two seconds; the half of one is yet to end.
    let due = |cycles| leaking(cycles).2.leak_due_s;
    assert!((40.0..42.5).contains(&due(10)), "{}", due(10));
    assert!((0.0..2.5).contains(&due(30)) && leaking(30).2.verdict < Verdict::Leaking, "{}", due(30));
    assert!(due(60).abs() < 1e-9 && leaking(60).2.verdict == Verdict::Leaking, "{}", due(60));
    let (_, mut young, _) = leaking(60);
    young.process_began((BEGIN_S - 10) * NS);
    young.warm_after(600.0);
    let due_s = young.report(1e8).leak_due_s;
    assert!((468.0..=472.5).contains(&due_s), "600 s are to pass, 130 have: {due_s}");
    // What was seen before the window counts, and each half of the window is to be long enough.
    let (mut books, mut anew, _) = leaking(60);
    anew.begin(books.at_s * NS);
    books.run(&mut anew, 10);
    let due_s = anew.report(1e8).leak_due_s;
    assert!((19.5..24.5).contains(&due_s), "{due_s}");
}

#[test]
fn too_few_collections_are_unknown_and_say_how_many_and_how_long() {
    let (mut books, mut assessor) = (Books::new(1_024), Assessor::new(0.0));
    let none = assessor.report(0.0);
    assert_eq!(
        (none.verdict, none.why),
        (Verdict::Unknown, Reason::NeedsCollections { collections: 4, seconds: None, anew: None })
    );
    books.run(&mut assessor, 4);
    let some = assessor.report(0.0);
    assert_eq!(some.verdict, Verdict::Unknown);
    let Reason::NeedsCollections { collections: 2, seconds: Some(seconds), anew: None } = some.why else {
        panic!("{:?}", some.why)
    };
    assert!((17.9..18.1).contains(&seconds), "{seconds}: 20 s are needed, 2 are there");
    books.run(&mut assessor, 4);
    assert!(matches!(assessor.report(0.0).why, Reason::NeedsTime { .. }));
}

#[test]
fn a_process_that_begins_anew_is_unknown_at_once() {
    let (_, mut assessor, _) = leaking(60);
    Books::new(1_024).run(&mut assessor, 3);
    let first = assessor.report(1e8);
    let second = assessor.report(1e8);
    assert!(matches!(second.why, Reason::NeedsCollections { anew: Some(Restart::CountsFell), .. }), "{:?}", second.why);
    assert_eq!(second.verdict, Verdict::Unknown);
    assert!(first.sites.is_empty() && second.sites.is_empty());
}

#[test]
fn a_laptop_that_slept_begins_anew() {
    let (mut books, mut assessor, _) = leaking(60);
    books.at_s += 3600;
    books.run(&mut assessor, 4);
    assessor.report(1e8);
    let report = assessor.report(1e8);
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(matches!(report.why, Reason::NeedsCollections { anew: Some(Restart::Gap { .. }), .. }), "{:?}", report.why);
}

#[test]
fn a_frozen_target_that_does_not_leak_is_not_accused_when_it_thaws() {
    let (mut books, mut assessor) = (Books::new(0), Assessor::new(0.0));
    books.run(&mut assessor, 20);
    // Readings go on, collections do not; then many come at once.
    let [_, mut frozen] = books.cycle();
    for _ in 0..60 {
        frozen.at_unix_ns += 5 * NS;
        assessor.observe_books(frozen.clone());
        assert!(assessor.report(1e8).verdict < Verdict::Growing);
    }
    books.at_s = frozen.at_unix_ns / NS + 2;
    for _ in 0..10 {
        books.run(&mut assessor, 5);
        assert!(assessor.report(1e8).verdict < Verdict::Growing);
    }
}

#[test]
fn a_clock_that_steps_does_not_change_the_verdict() {
    for step_s in [-7_200_i64, 7_200] {
        let (mut books, mut assessor) = (Books::new(1_024), Assessor::new(0.0));
        assessor.observe_profile(books.profile(7, 5, 0));
        for cycle in 0..60 {
            for mut reading in books.cycle() {
                // The target's clock, not ours.
                let step_s = if cycle < 30 { 0 } else { step_s };
                reading.last_end_unix_ns = reading.last_end_unix_ns.saturating_add_signed(step_s * 1_000_000_000);
                assessor.observe_books(reading);
            }
            assessor.observe_profile(books.profile(7, u64::from(books.collections), 0));
            assessor.report(1e8);
        }
        let report = assessor.report(1e8);
        assert_eq!(report.verdict, Verdict::Leaking, "{}", report.why);
        assert!((report.sites[0].growth_bytes_per_s.value / 262_144.0 - 1.0).abs() < 0.05, "{report:?}");
    }
}

#[test]
fn samples_that_the_books_do_not_confirm_accuse_nobody() {
    let (mut books, mut assessor) = (Books::new(0), Assessor::new(0.0));
    // The class is there and does not grow.
    let mut grow = |assessor: &mut Assessor, cycles| {
        for _ in 0..cycles {
            for mut reading in books.cycle() {
                reading.classes[1][1] = 100_000;
                reading.marked_bytes = 51_200_000;
                assessor.observe_books(reading);
            }
        }
        books
    };
    let first = grow(&mut assessor, 1);
    assessor.observe_profile(first.profile(7, 100, 0));
    let mut last = None;
    for look in 1..=6 {
        let books = grow(&mut assessor, 10);
        assessor.observe_profile(books.profile(7, 100 + 20 * look, 0));
        last = Some(assessor.report(1e8));
    }
    let report = last.unwrap();
    assert_eq!(report.verdict, Verdict::Steady);
    let [site] = report.sites.as_slice() else { panic!("{:?}", report.sites) };
    assert_eq!((site.verdict, site.why), (Verdict::Unknown, Reason::BooksDisagree { samples: 120.0 }));
}

#[test]
fn growth_that_no_sample_confirms_accuses_nobody() {
    let (mut books, mut assessor) = (Books::new(8_192), Assessor::new(0.0));
    assessor.observe_profile(books.profile(7, 100, 50));
    let mut last = None;
    for _ in 0..12 {
        books.run(&mut assessor, 5);
        assessor.observe_profile(books.profile(7, 100, 50));
        last = Some(assessor.report(1e8));
    }
    let report = last.unwrap();
    assert_eq!(report.verdict, Verdict::Growing, "the books are exact");
    assert!(matches!(report.why, Reason::SamplesDisagree { .. }), "{:?}", report.why);
    assert!(report.sites.iter().all(|site| site.verdict == Verdict::Unknown), "{:?}", report.sites);
}

#[test]
fn without_a_profile_the_class_is_known_and_the_name_is_not() {
    let (mut books, mut assessor) = (Books::new(1_024), Assessor::new(0.0));
    books.run(&mut assessor, 40);
    let report = assessor.report(1e8);
    assert_eq!((report.verdict, report.name_due_s), (Verdict::Growing, None));
    assert!(matches!(report.why, Reason::NeedsName { size_bytes: Some(512), seconds: None, .. }), "{:?}", report.why);
}

#[test]
fn births_name_who_leaks_where_there_is_no_profile() {
    let (mut books, mut assessor) = (Books::new(1_024), Assessor::new(0.0));
    // One site allocates what stays, another what dies; of each hundred births one is caught.
    let birth = |site, burst: u32, died| Birth {
        site: SiteId(site),
        size_bytes: 512,
        burst,
        age_cycles: if died { 0 } else { 12 },
        died,
        weight: 100.0,
    };
    for _ in 0..12 {
        books.run(&mut assessor, 5);
        let births = (0..60).flat_map(|burst| {
            (0..6).map(move |_| birth(7, burst, false)).chain((0..20).map(move |_| birth(8, burst, true)))
        });
        let births: Vec<Birth> = births.collect();
        let mut reading = reading_of(70.0, 60, &births);
        reading.classes = vec![ClassRate { size_bytes: Some(512), bytes_per_s: 26.0 * 60.0 * 100.0 * 512.0 / 70.0 }];
        assessor.observe_births(BirthEvidence {
            window_s: reading.window_s,
            seen_s: reading.window_s,
            caught: reading.caught(),
            all_followed: true,
            sites: estimate(&reading).sites,
        });
        assessor.report(1e8);
    }
    let report = assessor.report(1e8);
    let [site] = report.sites.as_slice() else { panic!("{:?}", report.sites) };
    assert_eq!((site.site, site.verdict), (SiteId(7), Verdict::Leaking), "{}", site.why);
    assert!((site.growth_bytes_per_s.value / 262_144.0 - 1.0).abs() < 0.1, "{site:?}");
}

#[test]
fn one_target_takes_little_memory() {
    let (mut books, mut assessor) = (Books::new(0), Assessor::new(0.0));
    for number in 0..3_000_u64 {
        for reading in books.cycle() {
            let mut reading = Reading { classes: vec![[0, 0, 0]; 68], ..reading };
            for (class, size) in reading.classes.iter_mut().zip(1..) {
                *class = [size * 16, number, number];
            }
            assessor.observe_books(reading);
        }
        let samples = (0..500).map(|site| SiteSamples {
            site: SiteId(site),
            size_bytes: 64,
            allocs: number / 8 * (site % 8),
            frees: 0,
        });
        if number % 10 == 0 {
            let samples = samples.collect();
            assessor.observe_profile(ProfileReading { at_unix_ns: books.at_s * NS, rate_bytes: 524_288.0, samples });
        }
    }
    let bytes = assessor.memory_bytes();
    println!("two hours of 68 classes and 500 lines: {} KiB", bytes / 1024);
    assert!(bytes < 192 * 1024, "{bytes}");
}

#[test]
fn the_heap_as_a_whole_grows_only_far_above_chance_or_in_both_halves() {
    let window = Window { first: 0, from_unix_ns: 0, to_unix_ns: 120 * NS, span_s: 120.0, collections: 40 };
    let of = |low: f64, is_confirmed| {
        let total = Trend::Rising(Rate { value: 2_000.0, low, high: Some(4_000.0 - low) });
        Assessor::new(0.0).of_process((total, is_confirmed), &[], &[], None, &window, 1_024.0)
    };
    assert_eq!(of(1_500.0, false).0, Verdict::Growing);
    assert_eq!(of(100.0, true).0, Verdict::Growing);
    let (verdict, why) = of(100.0, false);
    assert_eq!(verdict, Verdict::Steady);
    assert!(why.to_string().ends_with("; it did not grow in both halves of the time"), "{why}");
}
