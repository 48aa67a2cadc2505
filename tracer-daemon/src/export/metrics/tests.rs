//! The whole exposition, and what it says over the life of processes.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use expect_test::{expect, expect_file};
use proptest::prelude::*;
use tracer_common::loss::Loss;

use super::*;
use crate::{
    export::{CostFacts, fixture},
    model::{
        Counted, LossCount, Rate, SiteId, Snapshot,
        goroutines::hooks::HookedGoroutines,
        live::LiveSite,
        verdict::{Trend, Verdict},
    },
};

const FIRST: ProcessKey = ProcessKey(1);
const SECOND: ProcessKey = ProcessKey(2);

fn metrics() -> Metrics {
    Metrics::new(MetricsSettings { version: "0.0.0", ..MetricsSettings::default() })
}

fn facts() -> ProcessFacts {
    fixture::report().process
}

/// Values by series; all are counts here.
fn series(metrics: &Metrics) -> BTreeMap<String, u64> {
    let text = metrics.classic_text().unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap())).unwrap())
        .collect()
}

#[test]
fn metrics_reference_is_up_to_date() {
    expect_file!["../../../../docs/metrics.md"].assert_eq(&reference());
}

#[test]
fn the_exposition_of_one_process() {
    let metrics = metrics();
    metrics.observe(FIRST, &facts(), &fixture::snapshot());
    metrics.refuse("books_not_implemented");
    metrics.set_own(OwnFacts { cpu_seconds: Some(1.5), resident_memory_bytes: Some(23_068_672), open_fds: Some(12) });
    expect_file!["testdata/one_process.om"].assert_eq(&metrics.open_metrics().unwrap());
    expect_file!["testdata/one_process.prom"].assert_eq(&metrics.classic_text().unwrap());
}

#[test]
fn the_exposition_of_one_process_by_the_books() {
    let metrics = metrics();
    let mut snapshot = fixture::books();
    metrics.observe(FIRST, &facts(), &snapshot);
    if let Some(heap) = &mut snapshot.heap {
        heap.allocated_bytes += 1000;
        heap.gc_cycles_total += 2;
    }
    metrics.observe(FIRST, &facts(), &snapshot);
    expect_file!["testdata/one_process_books.om"].assert_eq(&metrics.open_metrics().unwrap());
    expect_file!["testdata/one_process_books.prom"].assert_eq(&metrics.classic_text().unwrap());
}

#[test]
fn the_exposition_of_one_process_that_leaks() {
    let metrics = metrics();
    metrics.observe(FIRST, &facts(), &fixture::growing());
    expect_file!["testdata/growing.om"].assert_eq(&metrics.open_metrics().unwrap());
    expect_file!["testdata/growing.prom"].assert_eq(&metrics.classic_text().unwrap());
}

/// The labels of the fixture's process.
const IDENTITY: &str = "namespace=\"prod\",pod=\"shop-7c9d\",container=\"shop\",service=\"shop\"";

/// The real value of a series, without the labels of identity. `None`: there is none.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.classic_text().unwrap();
    let of_identity = text.replace(&format!("{{{IDENTITY}}}"), "").replace(&format!("{IDENTITY},"), "");
    let line = of_identity.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[test]
fn growth_of_one_identity_is_summed_the_first_to_end_counts_and_the_worst_verdict() {
    const SITE: &str = "{site=\"3f9c2a1b77d0e4c1\"}";
    let metrics = metrics();
    let mut late = fixture::growing();
    late.forecast.as_mut().unwrap().seconds = Rate { value: 90_000.0, low: 80_000.0, high: None };
    let assessment = late.assessment.as_mut().map(Arc::make_mut).unwrap();
    assessment.sites[0].verdict = Verdict::Growing;
    assessment.verdict = Verdict::Growing;
    metrics.observe(FIRST, &facts(), &late);
    let at = |name: &str| value(&metrics, name);
    assert_eq!(at("leakline_process_verdict{verdict=\"growing\"}"), Some(1.0));
    assert_eq!(at("leakline_memory_seconds_to_limit"), Some(90_000.0));
    assert_eq!(at("leakline_memory_seconds_to_limit_high"), None, "open upwards");
    metrics.observe(SECOND, &ProcessFacts { pid: 4712, ..facts() }, &fixture::growing());
    assert_eq!(at(&format!("leakline_site_growth_bytes_per_second{SITE}")), Some(196_000.0));
    let low = at(&format!("leakline_site_growth_bytes_per_second_low{SITE}")).unwrap();
    assert!((low - (196_000.0 - 7_000.0 * 2.0_f64.sqrt())).abs() < 1e-6, "{low}");
    let high = at("leakline_heap_growth_bytes_per_second_high").unwrap();
    assert!((high - (240_000.0 + 10_000.0 * 2.0_f64.sqrt())).abs() < 1e-6, "{high}");
    assert_eq!(at("leakline_site_verdict{site=\"3f9c2a1b77d0e4c1\",verdict=\"leaking\"}"), Some(1.0));
    assert_eq!(at("leakline_site_verdict{site=\"3f9c2a1b77d0e4c1\",verdict=\"growing\"}"), None);
    assert_eq!(at("leakline_process_verdict{verdict=\"leaking\"}"), Some(1.0));
    assert_eq!(at("leakline_process_verdict{verdict=\"growing\"}"), None);
    assert_eq!(at("leakline_memory_seconds_to_limit"), Some(2_046.0));
    metrics.end(SECOND);
    assert_eq!(at("leakline_memory_seconds_to_limit"), Some(90_000.0));
    assert_eq!(at("leakline_process_verdict{verdict=\"growing\"}"), Some(1.0));
    metrics.end(FIRST);
    let text = metrics.classic_text().unwrap();
    assert!(!["_growth_", "_verdict", "_seconds_to_limit"].iter().any(|part| text.contains(part)), "{text}");
}

#[test]
fn without_growth_or_limit_there_is_no_series_of_it() {
    let metrics = metrics();
    metrics.observe(FIRST, &facts(), &fixture::growing());
    let mut steady = fixture::growing();
    (steady.forecast, steady.limit) = (None, None);
    let assessment = steady.assessment.as_mut().map(Arc::make_mut).unwrap();
    assessment.sites.clear();
    (assessment.total, assessment.verdict) = (Trend::Unknown { values: 2, seconds: 9.0 }, Verdict::Unknown);
    metrics.observe(FIRST, &facts(), &steady);
    let text = metrics.classic_text().unwrap();
    for absent in ["_growth_bytes_per_second", "seconds_to_limit", "_limit_bytes", "verdict=\"leaking\""] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    assert_eq!(value(&metrics, "leakline_process_verdict{verdict=\"unknown\"}"), Some(1.0));
    assert_eq!(value(&metrics, "leakline_site_verdict{site=\"3f9c2a1b77d0e4c1\",verdict=\"unknown\"}"), Some(1.0));
}

#[test]
fn a_process_whose_identity_becomes_better_known_takes_its_growth_along() {
    let metrics = metrics();
    metrics.observe(FIRST, &ProcessFacts { pod: None, ..facts() }, &fixture::growing());
    metrics.observe(FIRST, &facts(), &fixture::growing());
    let text = metrics.classic_text().unwrap();
    for name in
        ["leakline_site_verdict{", "leakline_heap_growth_bytes_per_second{", "leakline_memory_seconds_to_limit{"]
    {
        let series: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
        assert!(!series.is_empty() && series.iter().all(|line| line.contains("pod=\"shop-7c9d\"")), "{series:?}");
    }
}

#[test]
fn a_slow_leak_has_a_series_and_a_name_whatever_others_hold() {
    let metrics = Metrics::new(MetricsSettings { sites_per_target: 3, ..MetricsSettings::default() });
    let mut snapshot = fixture::growing();
    let place = fixture::frame("main.f", "/src/f.go", 1);
    let profile = snapshot.profile.as_mut().unwrap();
    let leak = LiveSite { bytes: Rate::counted(1_000.0), ..profile.sites[0].clone() };
    let large = |id| LiveSite { id: SiteId(id), place: place.clone(), bytes: Rate::counted(1e9), ..leak.clone() };
    profile.sites = (0..100).map(large).chain([leak.clone()]).collect();
    metrics.observe(FIRST, &facts(), &snapshot);
    let text = metrics.classic_text().unwrap();
    assert!(text.contains("site=\"3f9c2a1b77d0e4c1\",function=\"main.(*store).put\""), "{text}");
    assert_eq!(value(&metrics, "leakline_site_live_bytes{site=\"3f9c2a1b77d0e4c1\"}"), Some(1_000.0));
    let count = |prefix: &str| text.lines().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((count("leakline_site_live_bytes{"), count("leakline_site_verdict{")), (4, 3));
}

#[test]
fn a_site_that_only_births_know_has_a_name() {
    let metrics = metrics();
    metrics.observe(FIRST, &facts(), &fixture::growing_by_births());
    let text = metrics.classic_text().unwrap();
    let site_of = |line: &str| Some(line.split_once("site=\"")?.1.split_once('"')?.0.to_owned());
    let is_info = |line: &&str| line.starts_with("leakline_site_info{");
    let sites =
        |of: &dyn Fn(&&str) -> bool| -> BTreeSet<String> { text.lines().filter(of).filter_map(site_of).collect() };
    let served = sites(&|line| !is_info(line));
    assert!(served.contains("3f9c2a1b77d0e4c1"), "{text}");
    assert_eq!(served.iter().filter(|site| *site != OTHER).cloned().collect::<BTreeSet<_>>(), sites(&is_info));
    assert!(
        text.contains(
            "site=\"3f9c2a1b77d0e4c1\",function=\"main.(*store).put\",file=\"/src/shop/store.go\",line=\"42\""
        ),
        "{text}"
    );
}

#[test]
fn what_windows_see_is_counted_as_an_estimate_that_sums_to_the_books_and_never_falls() {
    let metrics = metrics();
    let at = |site: &str| {
        value(&metrics, &format!("leakline_site_allocated_bytes_total{{site=\"{site}\",evidence=\"estimate\"}}"))
    };
    let mut snapshot = fixture::growing_by_births();
    metrics.observe(FIRST, &ProcessFacts { pod: None, ..facts() }, &snapshot);
    for _ in 0..2 {
        snapshot.heap.as_mut().unwrap().allocated_bytes += 44_000;
        metrics.observe(FIRST, &facts(), &snapshot);
        metrics.observe(FIRST, &facts(), &snapshot);
    }
    let counted = ["3f9c2a1b77d0e4c1", "00000000000000aa", OTHER].map(at);
    assert_eq!(counted, [Some(44_000.0), Some(38_000.0), Some(6_000.0)], "the second name of the process goes on");
    assert_eq!(at("ffee000012345678"), None, "too few were caught");
    assert!(metrics.classic_text().unwrap().contains("site=\"00000000000000aa\",function=\"example.com/shop"));
    metrics.end(FIRST);
    assert_eq!(at("3f9c2a1b77d0e4c1"), Some(44_000.0));
    assert!(!metrics.classic_text().unwrap().contains(",evidence=\"exact\""));
}

#[test]
fn without_targets_only_leakline_itself_is_shown() {
    expect![[r##"
        # HELP leakline_build The version of leakline.
        # TYPE leakline_build info
        leakline_build_info{version="0.0.0"} 1
        # HELP leakline_processes Processes that are looked at, by the best evidence that is used.
        # TYPE leakline_processes gauge
        leakline_processes{best_evidence="books"} 0
        leakline_processes{best_evidence="goroutine-table"} 0
        leakline_processes{best_evidence="goroutine-hooks"} 0
        leakline_processes{best_evidence="profile"} 0
        leakline_processes{best_evidence="adopted"} 0
        leakline_processes{best_evidence="bursts"} 0
        leakline_processes{best_evidence="marks"} 0
        leakline_processes{best_evidence="exact"} 0
        # HELP leakline_events_lost How often something that happened could not be kept, by reason.
        # TYPE leakline_events_lost counter
        leakline_events_lost_total{reason="allocation_stacks_full"} 0
        leakline_events_lost_total{reason="births_no_room"} 0
        leakline_events_lost_total{reason="births_ring_full"} 0
        leakline_events_lost_total{reason="births_slot_untold"} 0
        leakline_events_lost_total{reason="births_stack_no_room"} 0
        leakline_events_lost_total{reason="births_without_end"} 0
        leakline_events_lost_total{reason="collections_missed"} 0
        leakline_events_lost_total{reason="exit_places_full"} 0
        leakline_events_lost_total{reason="goroutine_stacks_full"} 0
        leakline_events_lost_total{reason="goroutine_unreadable"} 0
        leakline_events_lost_total{reason="live_goroutines_full"} 0
        leakline_events_lost_total{reason="milliseconds_unread"} 0
        leakline_events_lost_total{reason="ring_full"} 0
        # HELP leakline_probe_hits How often a probe fired in any target, those of bursts included.
        # TYPE leakline_probe_hits counter
        leakline_probe_hits_total 0
        # HELP leakline_identities_forgotten Identities without a living process whose series were dropped to bound memory.
        # TYPE leakline_identities_forgotten counter
        leakline_identities_forgotten_total 0
        # EOF
    "##]].assert_eq(&metrics().open_metrics().unwrap());
}

#[test]
fn every_label_and_name_is_in_the_table_once() {
    let metrics = metrics();
    metrics.observe(FIRST, &facts(), &fixture::snapshot());
    let state = metrics.state();
    for definition in TABLE {
        for sample in (definition.samples)(&state) {
            assert_eq!(sample.labels.len(), definition.labels.len(), "{}", definition.stem);
            assert_eq!(sample.identity.is_some(), definition.by_identity, "{}", definition.stem);
        }
        let same = TABLE.iter().filter(|other| other.sample_name() == definition.sample_name());
        assert_eq!(same.count(), 1, "{}", definition.stem);
        assert!(definition.help.ends_with('.') && !definition.help.contains(['\\', '"', '\n', '|']));
    }
}

#[test]
fn processes_of_one_identity_are_summed_and_no_counter_falls_when_one_ends() {
    let metrics = metrics();
    let put = "leakline_site_allocated_bytes_total{namespace=\"prod\",pod=\"shop-7c9d\",container=\"shop\",\
               service=\"shop\",site=\"3f9c2a1b77d0e4c1\",evidence=\"exact\"}";
    metrics.observe(FIRST, &facts(), &fixture::snapshot());
    metrics.observe(SECOND, &ProcessFacts { pid: 4712, ..facts() }, &fixture::snapshot());
    let both = series(&metrics);
    assert_eq!(both[put], 2 * 660_602_880);
    assert_eq!(both["leakline_processes{best_evidence=\"exact\"}"], 2);
    assert_eq!(both["leakline_probe_hits_total"], 2 * 7_519_557);
    metrics.end(FIRST);
    metrics.end(FIRST);
    let one = series(&metrics);
    assert_eq!(one["leakline_processes{best_evidence=\"exact\"}"], 1);
    for (name, value) in both.iter().filter(|(name, _)| name.contains("_total")) {
        assert_eq!(one[name], *value, "{name}");
    }
}

#[test]
fn a_repeated_snapshot_adds_nothing() {
    let metrics = metrics();
    metrics.observe(FIRST, &facts(), &fixture::snapshot());
    let before = series(&metrics);
    metrics.observe(FIRST, &facts(), &fixture::snapshot());
    assert_eq!(series(&metrics), before);
}

#[test]
fn losses_are_added_over_processes() {
    let metrics = metrics();
    let mut snapshot = fixture::counts();
    snapshot.losses = vec![LossCount { reason: Loss::RingFull, count: 5 }];
    metrics.observe(FIRST, &facts(), &snapshot.clone().into());
    metrics.observe(SECOND, &facts(), &snapshot.clone().into());
    snapshot.losses[0].count = 7;
    metrics.observe(SECOND, &facts(), &snapshot.clone().into());
    assert_eq!(series(&metrics)["leakline_events_lost_total{reason=\"ring_full\"}"], 12);
}

#[test]
fn what_bursts_cost_is_counted_once_and_stays_when_the_process_ends() {
    let metrics = metrics();
    let cost = CostFacts {
        probe_hits: 700,
        bursts: Some(9),
        bursts_open_s: Some(0.25),
        target_added_s: Some(0.5),
        target_ratio_last_minute: Some(0.0075),
        ..CostFacts::default()
    };
    // Of a process that is not known nothing can be said.
    metrics.observe_cost(FIRST, &cost);
    metrics.observe(FIRST, &ProcessFacts { pod: None, ..facts() }, &fixture::books());
    metrics.observe_cost(FIRST, &cost);
    metrics.observe(FIRST, &facts(), &fixture::books());
    metrics.observe_cost(FIRST, &CostFacts { bursts: Some(11), probe_hits: 900, ..cost });
    let at = |name: &str| value(&metrics, name);
    assert_eq!(at("leakline_target_cpu_overhead_ratio"), Some(0.0075));
    assert_eq!(at("leakline_bursts_total"), Some(2.0), "nine under the name that it had before");
    metrics.end(FIRST);
    assert_eq!((at("leakline_target_cpu_overhead_ratio"), at("leakline_bursts_total")), (None, Some(2.0)));
    assert_eq!(at("leakline_probe_hits_total"), Some(900.0));
    let text = metrics.classic_text().unwrap();
    let sum = |name: &str| -> f64 {
        let series = text.lines().filter(|line| line.starts_with(name));
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    let sums =
        ["leakline_bursts_total{", "leakline_bursts_open_seconds_total{", "leakline_target_added_cpu_seconds_total{"]
            .map(sum);
    let is_near = |(sum, expected): (&f64, f64)| (sum - expected).abs() < 1e-9;
    assert!(sums.iter().zip([11.0, 0.25, 0.5]).all(is_near), "{sums:?}");
}

#[test]
fn impulses_are_counted_once_by_kind_where_windows_are_opened() {
    let metrics = metrics();
    let snapshot = Snapshot { impulses: Some(fixture::impulses().into()), ..fixture::books() };
    let at = |kind: &str| value(&metrics, &format!("leakline_impulses_total{{kind=\"{kind}\"}}"));
    metrics.observe(FIRST, &facts(), &snapshot);
    assert_eq!(at("pause"), None, "no window was asked for");
    metrics.observe_cost(FIRST, &CostFacts { bursts: Some(1), ..CostFacts::default() });
    metrics.observe(FIRST, &facts(), &snapshot);
    assert_eq!(["allocation_rate", "heap_growth", "pause"].map(at), [Some(5.0), Some(3.0), Some(1.0)]);
    metrics.observe(SECOND, &ProcessFacts { pid: 4712, ..facts() }, &snapshot);
    metrics.end(FIRST);
    assert_eq!(["allocation_rate", "heap_growth", "pause"].map(at), [Some(10.0), Some(6.0), Some(2.0)]);
}

#[test]
fn without_windows_there_is_no_series_of_their_cost() {
    let metrics = metrics();
    metrics.observe(FIRST, &facts(), &fixture::snapshot());
    let hits = value(&metrics, "leakline_probe_hits_total");
    metrics.observe_cost(FIRST, &CostFacts { probe_hits: 12, ..CostFacts::default() });
    let text = metrics.classic_text().unwrap();
    for absent in ["leakline_bursts", "leakline_target_", "leakline_births", "leakline_collections"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    assert_eq!(value(&metrics, "leakline_probe_hits_total"), hits, "the snapshot counts them");
}

#[test]
fn the_pid_label_tells_processes_apart() {
    let metrics = Metrics::new(MetricsSettings { pid_label: true, ..MetricsSettings::default() });
    metrics.observe(FIRST, &facts(), &fixture::snapshot());
    metrics.observe(SECOND, &ProcessFacts { pid: 4712, ..facts() }, &fixture::snapshot());
    let text = metrics.classic_text().unwrap();
    assert!(text.contains("service=\"shop\",pid=\"4711\",site=\"3f9c2a1b77d0e4c1\""));
    assert!(text.contains("service=\"shop\",pid=\"4712\",site=\"3f9c2a1b77d0e4c1\""));
}

#[test]
fn a_process_whose_identity_becomes_better_known_is_counted_once() {
    let metrics = metrics();
    let mut snapshot = fixture::counts();
    snapshot.losses = vec![LossCount { reason: Loss::RingFull, count: 5 }];
    metrics.observe(FIRST, &ProcessFacts { pod: None, ..facts() }, &snapshot.clone().into());
    metrics.observe(FIRST, &facts(), &snapshot.clone().into());
    let series = series(&metrics);
    assert_eq!(series["leakline_processes{best_evidence=\"exact\"}"], 1);
    assert_eq!(series["leakline_probe_hits_total"], 7_519_557);
    assert_eq!(series["leakline_events_lost_total{reason=\"ring_full\"}"], 5);
    let bytes = series.iter().filter(|(name, _)| name.starts_with("leakline_site_allocated_bytes_total"));
    assert_eq!(bytes.map(|(_, bytes)| bytes).sum::<u64>(), snapshot.totals.allocated.bytes);
}

#[test]
fn what_goroutine_hooks_counted_is_served_and_never_falls() {
    let metrics = metrics();
    let hooked = |created: u64, exited: u64| {
        let place = fixture::frame("main.f", "/src/f.go", 1);
        let turnover = crate::model::Turnover { created, exited };
        let hooks = HookedGoroutines {
            counted_s: 1.0,
            totals: turnover,
            sites: vec![fixture::goroutine_site(7, &place, created, exited)],
            ..HookedGoroutines::default()
        };
        Snapshot { goroutine_hooks: Some(Arc::new(hooks)), ..Snapshot::default() }
    };
    let sum = |name: &str| {
        let series = series(&metrics);
        series.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, count)| count).sum::<u64>()
    };
    metrics.observe(FIRST, &facts(), &hooked(40, 30));
    metrics.observe(FIRST, &facts(), &hooked(45, 41));
    assert_eq!((sum("leakline_goroutines_created_total"), sum("leakline_goroutines_exited_total")), (45, 41));
    assert!(series(&metrics).keys().any(|key| key.starts_with("leakline_site_info") && key.contains("main.f")));
    metrics.end(FIRST);
    assert_eq!((sum("leakline_goroutines_created_total"), sum("leakline_goroutines_exited_total")), (45, 41));
}

#[test]
fn there_are_never_more_series_than_the_cap() {
    let metrics = metrics();
    let mut snapshot = fixture::counts();
    let place = fixture::frame("main.f", "/src/f.go", 1);
    snapshot.sites =
        (0..100).map(|id| fixture::site(id, &place, &place, Counted { objects: 1, bytes: id }, &[])).collect();
    snapshot.goroutine_sites = (0..100).map(|id| fixture::goroutine_site(1000 + id, &place, id, 0)).collect();
    snapshot.totals.goroutines.created = (0..100).sum();
    metrics.observe(FIRST, &facts(), &snapshot.clone().into());
    let count = |prefix: &str| series(&metrics).keys().filter(|name| name.starts_with(prefix)).count();
    assert_eq!(count("leakline_site_allocated_bytes_total"), 21);
    assert_eq!(count("leakline_goroutines_created_total"), 21);
    assert_eq!(count("leakline_site_info"), 40);
}

#[test]
fn identities_without_processes_are_forgotten_oldest_first() {
    let metrics = metrics();
    for number in 0..MAX_ENDED_IDENTITIES as u64 + 2 {
        let pod = Some(format!("pod-{number}"));
        metrics.observe(ProcessKey(number), &ProcessFacts { pod, ..facts() }, &fixture::snapshot());
        metrics.end(ProcessKey(number));
    }
    let text = metrics.classic_text().unwrap();
    assert!(!text.contains("pod=\"pod-0\"") && !text.contains("pod=\"pod-1\"") && text.contains("pod=\"pod-2\""));
    assert_eq!(series(&metrics)["leakline_identities_forgotten_total"], 2);
}

#[test]
fn names_of_targets_cannot_break_the_exposition() {
    let metrics = metrics();
    let mut snapshot = fixture::counts();
    let evil = "f\"} 1\n# TYPE x counter\r\nx_total 1 # {\\";
    snapshot.sites[0].place = fixture::frame(evil, &format!("/{evil}.go"), 1);
    metrics.observe(FIRST, &ProcessFacts { pod: Some(evil.into()), ..facts() }, &snapshot.clone().into());
    let text = metrics.open_metrics().unwrap();
    assert!(!text.lines().any(|line| line.starts_with('x') || line.starts_with("# TYPE x")));
    let mut names = String::new();
    for (id, place) in &metrics.state().groups.values().next().unwrap().places {
        if *id == SiteId(0x3f9c_2a1b_77d0_e4c1) {
            write!(names, "{}", place.function).unwrap();
        }
    }
    assert_eq!(names, "f\"} 1\\u{a}# TYPE x counter\\u{d}\\u{a}x_total 1 # {\\");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_name_reaches_the_exposition_raw(name in fixture::any_text()) {
        let mut snapshot = fixture::counts();
        snapshot.sites[0].place = fixture::frame(&name, &name, 1);
        snapshot.goroutine_sites[0].place = fixture::frame(&name, &name, 0);
        let some = || Some(name.clone());
        let named = ProcessFacts { pod: some(), namespace: some(), container: some(), ..facts() };
        let unnamed = ProcessFacts { exe: name.clone(), container: None, ..facts() };
        let metrics = metrics();
        metrics.observe(FIRST, &named, &snapshot.clone().into());
        metrics.observe(SECOND, &unnamed, &snapshot.clone().into());
        let text = metrics.open_metrics().unwrap();
        prop_assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(samples(&text), samples(&classic::from_open_metrics(&text)));
    }
}
