//! Laws of the document: valid by its schema, deterministic, nothing unmeasured, nothing raw.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tracer_common::loss::Loss;

use super::{
    closed_schema::{bundled, closed},
    *,
};
use crate::export::{fixture, report::CostFacts};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../../docs/schema/attach.schema.json")).unwrap()
}

#[track_caller]
fn assert_valid(report: &Report) -> Value {
    let document: Value = serde_json::from_str(&line(report).unwrap()).unwrap();
    for schema in [bundled(schema()), closed(bundled(schema()))] {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let problems: Vec<String> =
            validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{problems:#?}");
    }
    document
}

#[test]
fn a_full_report_is_valid_by_the_committed_schema() {
    let document = assert_valid(&fixture::report());
    assert_eq!(document["schema"], "leakline/1");
    assert_eq!(document["sites"][0]["site"], "3f9c2a1b77d0e4c1");
    assert_eq!(document["sites"][0]["allocator"]["function"], "encoding/json.Unmarshal");
    assert_eq!(document["sites"][0]["counted"]["bytes"], 660_602_880_u64);
    assert_eq!(document["sites"][0]["evidence"], "exact");
    assert_eq!(
        document["sites"][3],
        json!({
            "site": "other",
            "alloc_bytes_per_s": { "value": 1600.0, "low": 1600.0, "high": 1600.0 },
            "alloc_objects_per_s": { "value": 1000.0 / 30.0, "low": 1000.0 / 30.0, "high": 1000.0 / 30.0 },
            "counted": { "objects": 1000, "bytes": 48_000 },
            "evidence": "exact",
        })
    );
    assert_eq!(document["goroutines"]["sites"][1]["growth_per_s"]["value"], 310.0 / 30.0);
}

#[test]
fn a_report_by_the_books_says_who_holds_what() {
    let document = assert_valid(&fixture::report_of(fixture::books()));
    assert_eq!(document["evidence"]["used"], json!(["books", "profile"]));
    assert_eq!(document["profile"], json!({ "rate_bytes": 524_288, "lag_cycles": 2, "lag_s": 1.5 }));
    assert_eq!(document["sites"][0]["live_bytes"], json!({ "value": 30e6, "low": 18e6, "high": 45e6 }));
    assert_eq!((&document["sites"][1]["samples"], document["sites"][1].get("counted")), (&json!(17), None));
    assert_eq!(document["heap"]["live_bytes"], 44_040_192);
    assert_eq!(document["heap"]["gc_cycles"], 28);
    assert_eq!(document["heap"]["size_classes"][2], json!({ "live_objects": 3, "live_bytes": 8_912_000 }));
    assert!(document.get("memory").is_none() && document.get("goroutines").is_none(), "nobody looked");
}

#[test]
fn what_windows_saw_is_told_of_the_lines_that_allocate_most_and_summed_up_of_the_others() {
    let mut snapshot = fixture::growing_by_births();
    let births = snapshot.births.as_mut().map(Arc::make_mut).unwrap();
    let [put, clone, _] = &births.sites[..] else { unreachable!() };
    let many = (1..=52_u64).map(|id| model::BirthSite { id: model::SiteId(id), ..clone.clone() });
    births.sites = std::iter::once(put.clone()).chain(many).collect();
    let counts = BirthCounts { cycles_missed: 3, ..births.counts };
    snapshot.birth_counts = Some(counts);
    let document = assert_valid(&fixture::report_of(snapshot));
    let sites = document["sites"].as_array().unwrap();
    assert_eq!(
        (sites.len(), &sites[0]["site"]),
        (52, &json!("3f9c2a1b77d0e4c1")),
        "the one that grows, 50, and the rest"
    );
    assert_eq!(sites[0]["alloc_objects_per_s"]["value"], 210e3);
    assert_eq!(sites[0]["survival"], json!({ "value": 0.0045, "low": 0.0045 - 0.0003, "high": 0.0045 + 0.0003 }));
    assert!(sites[1].get("survival").is_none() && sites[1].get("counted").is_none());
    let half_width = 0.9e6 * 2.0_f64.sqrt();
    let other = &sites[51];
    assert_eq!((&other["site"], &other["samples"], other.get("function")), (&json!("other"), &json!(2 * 5_904), None));
    assert_eq!(other["alloc_bytes_per_s"]["value"], 38e6);
    assert!((other["alloc_bytes_per_s"]["low"].as_f64().unwrap() - (38e6 - half_width)).abs() < 1.0);
    let loss = &document["loss"];
    assert_eq!((&loss["looks_missed"], &loss["collections_missed"]), (&json!(3), &json!(3)));
}

#[test]
fn what_is_not_known_of_a_step_is_null_and_peaks_are_of_the_whole_window() {
    let document = assert_valid(&fixture::report());
    let series = &document["series"];
    assert_eq!((&series["step_s"], &series["began_s"]), (&json!(0.001), &json!(20.0)));
    assert_eq!((&series["alloc_objects"], &series["alloc_bytes"]), (&json!([250, null, 0]), &json!([41_246, null, 0])));
    assert_eq!(series["peaks"][1], json!({ "at_s": 12.345, "objects": 410, "bytes": 3_355_443 }));
    assert_eq!(series["unplaced"], json!({ "objects": 40, "bytes": 6_000 }));
    assert!(series.get("heap_bytes").is_none() && document.get("impulses").is_none(), "nobody looked");
}

#[test]
fn who_was_caught_in_an_impulse_is_said_and_why_nobody_was() {
    let snapshot = model::Snapshot {
        series: Some(fixture::steps().into()),
        impulses: Some(fixture::impulses().into()),
        ..fixture::books()
    };
    let document = assert_valid(&fixture::report_of(snapshot));
    assert_eq!(document["series"]["live_bytes"][0], 44_040_192);
    assert_eq!(document["series"]["heap_bytes"][2], 50_260_000);
    let [first, second, third] = [0, 1, 2].map(|number| &document["impulses"][number]);
    assert_eq!(
        (&first["kind"], &first["at_s"], &first["usual"]),
        (&json!("allocation_rate"), &json!(3.2), &json!(10_485_760.0))
    );
    assert_eq!(first["burst"]["sites"][0]["share"], json!({ "value": 0.81, "low": 0.81 - 0.03, "high": 0.81 + 0.03 }));
    assert_eq!((second.get("burst"), &second["no_burst"]), (None, &json!("a burst for this reason was not long ago")));
    assert_eq!((third.get("usual"), third.get("no_burst"), &third["seen"]), (None, None, &json!(0.0314)));
}

#[test]
fn an_empty_report_is_valid_and_names_nothing_it_did_not_measure() {
    let mut snapshot = fixture::counts();
    snapshot.window_s = 0.0;
    snapshot.sites.clear();
    snapshot.goroutine_sites.clear();
    snapshot.other = model::Counted::default();
    snapshot.totals = model::Totals::default();
    snapshot.series = None;
    let mut report = fixture::report_of(snapshot);
    report.cost = CostFacts::default();
    report.refusals.clear();
    report.process.main_module = None;
    let document = assert_valid(&report);
    assert_eq!(document["heap"], json!({ "counted": { "objects": 0, "bytes": 0 } }));
    assert_eq!(document["sites"], json!([]));
    assert_eq!(
        document["goroutines"],
        json!({ "created": 0, "exited": 0, "system_created": 0, "system_exited": 0, "sites": [] })
    );
    assert_eq!(document["cost"], json!({ "probe_hits": 0 }));
    assert!(document["process"].get("main_module").is_none());
    assert!(document["loss"].get("looks_missed").is_none());
    assert!(!line(&report).unwrap().contains("null"), "a step of which nothing is known alone is null");
}

#[test]
fn the_schema_refuses_what_is_no_document() {
    let validator = jsonschema::validator_for(&bundled(schema())).unwrap();
    let good = assert_valid(&fixture::report());
    for (pointer, bad) in [
        ("/schema", json!("leakline/2")),
        ("/sites/0/site", json!("3F9C")),
        ("/sites/0/counted/bytes", json!(-1)),
        ("/sites/0/line", json!(0)),
        ("/loss/ring_full", json!(0.5)),
        ("/process/exe", json!("/a\nb")),
        ("/heap/alloc_bytes_per_s", json!(3.0)),
    ] {
        let mut document = good.clone();
        *document.pointer_mut(pointer).unwrap() = bad;
        assert!(!validator.is_valid(&document), "{pointer}");
    }
}

#[test]
fn every_loss_is_listed_by_its_id() {
    let document = assert_valid(&fixture::report());
    for reason in Loss::ALL {
        assert_eq!(document["loss"][reason.id()], 0);
    }
}

#[test]
fn counts_above_two_to_the_53_stay_exact() {
    let mut snapshot = fixture::counts();
    snapshot.sites[0].counted.bytes = u64::MAX;
    assert!(line(&fixture::report_of(snapshot)).unwrap().contains("\"bytes\":18446744073709551615"));
}

#[test]
fn what_is_no_number_is_absent() {
    let mut snapshot = fixture::counts();
    snapshot.sites[0].alloc_bytes_per_s.value = f64::NAN;
    snapshot.sites[1].alloc_bytes_per_s.high = Some(f64::INFINITY);
    let document = assert_valid(&fixture::report_of(snapshot));
    assert!(document["sites"][0].get("alloc_bytes_per_s").is_none());
    assert!(document["sites"][1]["alloc_bytes_per_s"].get("high").is_none());
}

#[test]
fn growth_bounds_allow_for_goroutines_of_no_place() {
    let mut snapshot = fixture::counts();
    snapshot.other_goroutines = model::Turnover { created: 3, exited: 6 };
    snapshot.totals.goroutines.created += 3;
    snapshot.totals.goroutines.exited += 6;
    let document = assert_valid(&fixture::report_of(snapshot));
    let growth = &document["goroutines"]["sites"][1]["growth_per_s"];
    assert_eq!(growth, &json!({ "value": 310.0 / 30.0, "low": 304.0 / 30.0, "high": 313.0 / 30.0 }));
    assert_eq!(document["goroutines"]["sites"][2]["site"], "other");
}

#[test]
fn the_same_report_gives_the_same_bytes_on_one_line() {
    let (first, second) = (line(&fixture::report()).unwrap(), line(&fixture::report()).unwrap());
    assert_eq!(first, second);
    assert!(!first.contains('\n'));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_name_gives_a_valid_document(name in fixture::any_text(), line_number in any::<u32>()) {
        let mut snapshot = fixture::counts();
        snapshot.sites[0].place = fixture::frame(&name, &name, line_number);
        snapshot.sites[0].allocator.function = name.as_str().into();
        let mut report = fixture::report_of(snapshot);
        report.process.exe.clone_from(&name);
        report.process.pod = Some(name);
        assert_valid(&report);
    }
}
