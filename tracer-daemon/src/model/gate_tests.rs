//! Tests of the gate: snapshots that pass, fail, or leave open which.

use std::sync::Arc;

use super::*;
use crate::model::assess::SiteAssessment;
use crate::model::goroutines::growth::GoroutinesGrowth;
use crate::model::live::LiveSite;
use crate::model::memory::growth::{MemoryGrowthReport, NativeGrowth};
use crate::model::reason::Reason;
use crate::model::{Profile, SiteId};
use crate::symbolize::Origin;

const WANTED: Wanted = Wanted { window_s: 60.0, ended: false };

fn rate(value: f64) -> Rate {
    Rate { value, low: 0.9 * value, high: Some(1.1 * value) }
}

fn frame(function: &str) -> Frame {
    let file = "/src/main.go".into();
    Frame { function: function.into(), file, line: 7, function_start_line: 1, inlined: false, origin: Origin::Go }
}

/// A process in which each of the sites, by number, has this verdict and growth.
fn snapshot(total: Trend, sites: &[(u64, Verdict, f64)]) -> Snapshot {
    let live = |id: &u64| LiveSite {
        id: SiteId(*id),
        place: frame(&format!("main.f{id}")),
        allocator: frame("main.alloc"),
        objects: 10,
        bytes: rate(1e6),
        samples: 4,
        hint: None,
        is_behind_pool: false,
        paths: Vec::new(),
    };
    let growing = sites.iter().filter(|(_, _, growth)| *growth > 0.0);
    let judged = |(site, verdict, growth): &(u64, Verdict, f64)| SiteAssessment {
        site: SiteId(*site),
        verdict: *verdict,
        growth_bytes_per_s: rate(*growth),
        samples: 12.0,
        why: Reason::Unconfirmed,
    };
    let worst = sites.iter().map(|(_, verdict, _)| *verdict).max().filter(|worst| *worst >= Verdict::Growing);
    let assessment = Assessment {
        window_s: 60.0,
        cycles: 30,
        total,
        classes: Vec::new(),
        rising_bytes_per_s: 0.0,
        sites: growing.map(judged).collect(),
        name_due_s: Some(12.0),
        leak_due_s: 0.0,
        verdict: worst.unwrap_or_else(|| total.verdict()),
        why: Reason::Unconfirmed,
    };
    let profile = Profile {
        adopted_s: None,
        rate_bytes: 524_288,
        lag_cycles: 1,
        lag_s: None,
        sites: sites.iter().map(|(id, ..)| live(id)).collect(),
    };
    Snapshot {
        window_s: 60.0,
        evidence: vec![Evidence::Books, Evidence::Profile],
        assessment: Some(Arc::new(assessment)),
        profile: Some(profile),
        ..beside_the_heap(Verdict::Steady, Verdict::Steady)
    }
}

const FLAT: Trend = Trend::Flat(Rate { value: 1.0, low: -5.0, high: Some(7.0) });

/// What a series does of which that is said.
fn trend(verdict: Verdict) -> Trend {
    match verdict {
        Verdict::Unknown => Trend::Unknown { values: 2, seconds: 9.0 },
        Verdict::Growing | Verdict::Leaking => Trend::Rising(rate(5e4)),
        _ => FLAT,
    }
}

/// A process of which this is said of the goroutines and of native memory, and nothing of the heap.
fn beside_the_heap(goroutines: Verdict, native: Verdict) -> Snapshot {
    let goroutines = GoroutinesGrowth {
        looks: 20,
        window_s: 45.0,
        leak_due_s: 0.0,
        total: trend(goroutines),
        verdict: goroutines,
        sites: Vec::new(),
        sites_left_out: 0,
    };
    let native = NativeGrowth {
        bytes: Some(1 << 24),
        trend: trend(native),
        verdict: native,
        why: NativeWhy::NoGrowth,
        leak_due_s: 0.0,
        largest: None,
        cgo: true,
    };
    let memory = MemoryGrowthReport { looks: 8, window_s: 60.0, rss: FLAT, lines: Vec::new(), native };
    Snapshot {
        window_s: 60.0,
        goroutine_growth: Some(Arc::new(goroutines)),
        memory_growth: Some(Arc::new(memory)),
        ..Snapshot::default()
    }
}

fn steady() -> Snapshot {
    snapshot(Trend::Flat(Rate { value: 1.0, low: -5.0, high: Some(7.0) }), &[(1, Verdict::Steady, 0.0)])
}

fn leaky() -> Snapshot {
    snapshot(Trend::Rising(rate(5e5)), &[(1, Verdict::Steady, 0.0), (2, Verdict::Leaking, 5e5)])
}

fn baseline(snapshot: &Snapshot) -> Baseline {
    let evidence = snapshot.evidence.iter().map(|evidence| evidence.name().to_owned()).collect();
    Baseline { module: Some("example.com/shop".into()), evidence, measures: measures(snapshot), ..Baseline::default() }
}

fn outcome(snapshot: &Snapshot, before: Option<&Baseline>) -> (Outcome, Vec<&'static str>) {
    let judgement = judge(snapshot, before, Some("example.com/shop"), &Rules::default(), &WANTED);
    (judgement.outcome, judgement.doubts.iter().map(Doubt::id).collect())
}

#[test]
fn what_is_steady_passes_and_what_leaks_fails_with_and_without_a_baseline() {
    assert_eq!(outcome(&steady(), None), (Outcome::Passed, vec![]));
    assert_eq!(outcome(&leaky(), None), (Outcome::Failed, vec![]));
    assert_eq!(outcome(&steady(), Some(&baseline(&steady()))), (Outcome::Passed, vec![]));
    assert_eq!(outcome(&leaky(), Some(&baseline(&steady()))), (Outcome::Failed, vec![]));
    assert_eq!(outcome(&leaky(), Some(&baseline(&leaky()))), (Outcome::Passed, vec![]), "it was known");
    assert_eq!(outcome(&steady(), Some(&baseline(&leaky()))), (Outcome::Passed, vec![]));
}

#[test]
fn too_little_is_unknown() {
    let short = snapshot(Trend::Unknown { values: 3, seconds: 12.0 }, &[(1, Verdict::Unknown, 0.0)]);
    assert_eq!(outcome(&short, None), (Outcome::Unknown, vec!["too_short"]));
    let nothing = vec!["no_books", "not_measured", "not_measured"];
    assert_eq!(outcome(&Snapshot::default(), None), (Outcome::Unknown, nothing));
}

#[test]
fn memory_outside_of_the_heap_is_judged_like_the_heap() {
    let leaky =
        Snapshot { memory_growth: beside_the_heap(Verdict::Steady, Verdict::Leaking).memory_growth, ..steady() };
    assert_eq!(outcome(&leaky, None), (Outcome::Failed, vec![]));
    assert_eq!(outcome(&leaky, Some(&baseline(&steady()))), (Outcome::Failed, vec![]));
    assert_eq!(outcome(&leaky, Some(&baseline(&leaky))), (Outcome::Passed, vec![]), "it was known");
    assert_eq!(is_at_least(&leaky, Verdict::Leaking), Ok(true));
}

#[test]
fn goroutines_and_native_memory_are_judged_where_the_books_are_refused() {
    for leaky in
        [beside_the_heap(Verdict::Leaking, Verdict::Steady), beside_the_heap(Verdict::Steady, Verdict::Leaking)]
    {
        assert_eq!(outcome(&leaky, None), (Outcome::Failed, vec!["no_books"]));
        assert_eq!(is_at_least(&leaky, Verdict::Leaking), Ok(true));
    }
    let rest = beside_the_heap(Verdict::Steady, Verdict::Steady);
    assert_eq!(outcome(&rest, None), (Outcome::Unknown, vec!["no_books"]));
    assert_eq!(is_at_least(&rest, Verdict::Leaking), Err(vec![Doubt::NoBooks]));
}

#[test]
fn what_was_not_measured_is_a_doubt_of_its_own() {
    let quantity = Quantity::Goroutines;
    let heap_alone = Snapshot { goroutine_growth: None, ..steady() };
    assert_eq!(outcome(&heap_alone, None), (Outcome::Unknown, vec!["not_measured"]));
    assert_eq!(is_at_least(&heap_alone, Verdict::Growing), Err(vec![Doubt::NotMeasured { quantity }]));
    let mut not_apart = steady();
    let mut memory = MemoryGrowthReport::clone(not_apart.memory_growth.as_deref().unwrap());
    memory.native.why = NativeWhy::NotMeasured;
    not_apart.memory_growth = Some(Arc::new(memory));
    assert_eq!(outcome(&not_apart, None), (Outcome::Unknown, vec!["not_measured"]));
    let early =
        Snapshot { goroutine_growth: beside_the_heap(Verdict::Unknown, Verdict::Steady).goroutine_growth, ..steady() };
    assert_eq!(outcome(&early, None), (Outcome::Unknown, vec!["too_short"]));
}

#[test]
fn what_could_not_have_failed_yet_has_not_passed() {
    let short = |quantity| {
        let mut short = steady();
        let mut assessment = Assessment::clone(short.assessment.as_deref().unwrap());
        let mut goroutines = GoroutinesGrowth::clone(short.goroutine_growth.as_deref().unwrap());
        let mut memory = MemoryGrowthReport::clone(short.memory_growth.as_deref().unwrap());
        match quantity {
            Quantity::Bytes => assessment.leak_due_s = 30.0,
            Quantity::Goroutines => goroutines.leak_due_s = 30.0,
            Quantity::Native => memory.native.leak_due_s = 30.0,
        }
        short.assessment = Some(Arc::new(assessment));
        short.goroutine_growth = Some(Arc::new(goroutines));
        short.memory_growth = Some(Arc::new(memory));
        short
    };
    for quantity in Quantity::ALL {
        let short = short(quantity);
        let missing = vec![Doubt::TooShort { quantity, values: 0, seconds: 30.0 }];
        assert_eq!(outcome(&short, None), (Outcome::Unknown, vec!["too_short"]));
        assert_eq!(outcome(&short, Some(&baseline(&short))), (Outcome::Unknown, vec!["too_short"]));
        assert_eq!(is_at_least(&short, Verdict::Leaking), Err(missing));
        // Less is said sooner.
        assert_eq!(is_at_least(&short, Verdict::Growing), Ok(false));
        let growing = Rules { fail_on: Verdict::Growing, ..Rules::default() };
        assert_eq!(judge(&short, None, None, &growing, &WANTED).outcome, Outcome::Passed);
    }
    // What is said to leak all the same (goroutines that wait for ever) needs no more time.
    let mut leaky = short(Quantity::Goroutines);
    let mut growth = GoroutinesGrowth::clone(leaky.goroutine_growth.as_deref().unwrap());
    growth.verdict = Verdict::Leaking;
    leaky.goroutine_growth = Some(Arc::new(growth));
    assert_eq!(outcome(&leaky, None), (Outcome::Failed, vec![]));
}

#[test]
fn growth_below_the_floor_needs_no_name() {
    let mut low = snapshot(Trend::Rising(rate(160.0)), &[(1, Verdict::Steady, 0.0)]);
    // As the assessor has it.
    let steady =
        |assessment: &Arc<Assessment>| Assessment { verdict: Verdict::Steady, ..Assessment::clone(assessment) };
    low.assessment = low.assessment.as_ref().map(steady).map(Arc::new);
    assert_eq!(outcome(&low, None), (Outcome::Passed, vec![]));
}

#[test]
fn growth_without_a_name_is_unknown_unless_it_is_as_before() {
    let unnamed = snapshot(Trend::Rising(rate(5e5)), &[(1, Verdict::Steady, 0.0)]);
    assert_eq!(outcome(&unnamed, None), (Outcome::Unknown, vec!["unnamed"]));
    assert_eq!(outcome(&unnamed, Some(&baseline(&unnamed))), (Outcome::Passed, vec![]));
    assert_eq!(outcome(&unnamed, Some(&baseline(&steady()))), (Outcome::Unknown, vec!["unnamed"]));
}

#[test]
fn a_baseline_of_another_program_or_with_names_that_are_missing_now_is_said_to_be_so() {
    let other = Baseline { module: Some("example.com/other".into()), ..baseline(&steady()) };
    assert_eq!(outcome(&steady(), Some(&other)), (Outcome::Unknown, vec!["other_module"]));
    let nameless = Snapshot { evidence: vec![Evidence::Books], profile: None, ..steady() };
    assert_eq!(outcome(&nameless, Some(&baseline(&steady()))), (Outcome::Unknown, vec!["less_evidence"]));
    assert_eq!(outcome(&nameless, Some(&baseline(&nameless))), (Outcome::Passed, vec![]));
}

#[test]
fn what_the_baseline_did_not_know_does_not_fail_as_if_it_had_been_nothing() {
    // The same program with its lines' names, and without.
    let nameless = Snapshot { evidence: vec![Evidence::Books], profile: None, ..leaky() };
    let unsure = (Outcome::Unknown, vec!["baseline_less_evidence"]);
    assert_eq!(outcome(&leaky(), Some(&baseline(&nameless))), unsure);
    assert_eq!(outcome(&nameless, Some(&baseline(&leaky()))), (Outcome::Unknown, vec!["less_evidence"]));
    // Goroutines and native memory, which were not measured, or not for long enough.
    for (leaky, unmeasured, unknown) in [
        (
            beside_the_heap(Verdict::Leaking, Verdict::Steady),
            Snapshot { goroutine_growth: None, ..steady() },
            beside_the_heap(Verdict::Unknown, Verdict::Steady),
        ),
        (
            beside_the_heap(Verdict::Steady, Verdict::Leaking),
            Snapshot { memory_growth: None, ..steady() },
            beside_the_heap(Verdict::Steady, Verdict::Unknown),
        ),
    ] {
        let with_heap = |beside: &Snapshot| Snapshot {
            goroutine_growth: beside.goroutine_growth.clone(),
            memory_growth: beside.memory_growth.clone(),
            ..steady()
        };
        let (leaky, unknown) = (with_heap(&leaky), with_heap(&unknown));
        assert_eq!(outcome(&leaky, Some(&baseline(&unmeasured))), unsure);
        assert_eq!(outcome(&leaky, Some(&baseline(&unknown))), unsure);
        assert_eq!(outcome(&unmeasured, Some(&baseline(&leaky))), (Outcome::Unknown, vec!["not_measured"]));
        assert_eq!(outcome(&unknown, Some(&baseline(&leaky))), (Outcome::Unknown, vec!["too_short"]));
        // Both know it: it is new.
        assert_eq!(outcome(&leaky, Some(&baseline(&steady()))), (Outcome::Failed, vec![]));
    }
}

#[test]
fn a_program_that_ends_early_is_unknown_unless_it_leaks() {
    let wanted = Wanted { window_s: 600.0, ended: true };
    let of = |snapshot: &Snapshot| judge(snapshot, None, None, &Rules::default(), &wanted).outcome;
    assert_eq!([of(&steady()), of(&leaky())], [Outcome::Unknown, Outcome::Failed]);
}

#[test]
fn one_verdict_on_a_snapshot() {
    assert_eq!(is_at_least(&leaky(), Verdict::Leaking), Ok(true));
    assert_eq!(is_at_least(&steady(), Verdict::Growing), Ok(false));
    assert_eq!(is_at_least(&Snapshot::default(), Verdict::Leaking).map_err(|doubts| doubts.len()), Err(3));
    let rising = snapshot(Trend::Rising(rate(5e5)), &[]);
    assert_eq!(is_at_least(&rising, Verdict::Growing), Ok(true), "the process as a whole");
    assert_eq!(
        is_at_least(&rising, Verdict::Leaking).map_err(|doubts| doubts[0].id()),
        Err("unnamed"),
        "nobody can be accused"
    );
    assert_eq!(is_at_least(&steady(), Verdict::Leaking), Ok(false));
}
