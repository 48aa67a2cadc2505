//! Findings on documents and truths that are made up.

use serde_json::json;

use super::super::truth::Truth;
use super::*;
use crate::source_marks::{Marks, Place};

/// A program that leaks 100,000 bytes a second of 1,000 objects in one slot size, from second 0 to 160, and collects twice a second.
fn truth(kind: &str, slot: u64) -> Truth {
    let mut told = format!("{{\"zoo\":\"ready\",\"unix_ms\":0,\"leaks\":[{{\"name\":\"a\",\"kind\":\"{kind}\"}}]}}\n");
    for second in 0..=160_u64 {
        let bytes = second * 100_000;
        let line = json!({
            "zoo": "truth", "unix_ms": second * 1000, "gc": second * 2,
            "leaks": [{"name": "a", "objects": second * 20, "bytes": bytes, "sizes": {slot.to_string(): bytes}}],
        });
        told += &line.to_string();
        told.push('\n');
    }
    let place = |line| Place { file: "plain/x/main.go".to_owned(), line };
    let marks = Marks { sites: [("a".to_owned(), vec![place(1)])].into(), also: vec![place(2)] };
    Truth::parse(&told, &marks).unwrap()
}

fn rate(value: f64) -> Value {
    json!({"value": value, "low": value * 0.9, "high": value * 1.1})
}

/// A document every 5 seconds until 150; each is changed by what is given.
fn documents(change: impl Fn(u64, &mut Value)) -> Vec<Value> {
    let document = |step: u64| {
        let window_s = step * 5;
        let mut document = json!({
            "started_unix_ms": 1000, "window_s": window_s, "evidence": {"used": ["books", "profile"], "refused": []},
            "heap": {
                "verdict": "growing", "why": "", "marked_growth_bytes_per_s": rate(100e3),
                "size_classes": [{"size_bytes": 5000, "growth_bytes_per_s": rate(100e3)}],
            },
            "sites": [
                site(1, if window_s < 45 { "unknown" } else { "leaking" }),
                site(2, "growing"), site(3, "steady"),
            ],
            "goroutines": {"sites": []}, "memory": {"lines": []},
        });
        document["sites"][0]["growth_bytes_per_s"] = rate(98e3);
        document["sites"][0]["samples"] = json!(25);
        change(window_s, &mut document);
        document
    };
    (1..=30).map(document).collect()
}

fn site(line: u64, verdict: &str) -> Value {
    json!({"site": "0", "function": "main.main", "file": "/src/zoo/plain/x/main.go", "line": line, "verdict": verdict})
}

fn failures(judgement: &Judgement) -> String {
    judgement.failures.join("; ")
}

#[test]
fn a_leak_that_is_named_in_time_with_the_right_rate_is_right() {
    let judgement = judge(Evidence::Sampler, 150, &truth("heap", 5000), &documents(|_, _| {}));
    assert_eq!(failures(&judgement), "");
    let finding = &judgement.findings[0];
    assert!((finding.error.unwrap() + 0.02).abs() < 1e-9, "{finding:?}");
    assert_eq!(finding.covered, Some(true));
    assert_eq!((finding.named_after_s, finding.samples), (Some(45.0), Some(25)));
    // 20 objects a second, of which each is a sample with a probability of 0.949 %.
    assert!((finding.due_after_s.unwrap() - 6.0 / (20.0 * (1.0 - (-5000.0_f64 / 524_288.0).exp()))).abs() < 1e-9);
}

#[test]
fn a_leak_that_is_never_named_is_wrong_and_one_that_is_named_late_too() {
    let never = documents(|_, document| document["sites"][0]["verdict"] = json!("unknown"));
    assert!(
        failures(&judge(Evidence::Sampler, 150, &truth("heap", 5000), &never)).contains("never named, due after 32 s")
    );
    let late = documents(|window_s, document| {
        document["sites"][0]["verdict"] = json!(if window_s < 140 { "unknown" } else { "leaking" });
    });
    let judgement = judge(Evidence::Sampler, 150, &truth("heap", 5000), &late);
    let late: Vec<String> = judgement.findings.iter().filter_map(super::late).collect();
    assert!(late[0].contains("named after 140 s"), "{late:?}");
}

#[test]
fn where_it_is_probed_a_name_is_due_after_a_minute_and_of_a_slow_case_after_three() {
    let named = |evidence, seconds, after_s| {
        let documents = documents(|window_s, document| {
            document["sites"][0]["verdict"] = json!(if window_s < after_s { "unknown" } else { "leaking" });
        });
        let judgement = judge(evidence, seconds, &truth("heap", 5000), &documents);
        judgement.findings.iter().find_map(late).is_none()
    };
    assert!(named(Evidence::Bursts, 150, 60) && !named(Evidence::Bursts, 150, 65));
    assert!(named(Evidence::Bursts, 310, 145));
}

#[test]
fn an_innocent_line_may_grow_for_two_minutes_and_never_leak() {
    let grows = documents(|window_s, document| {
        document["sites"][2]["verdict"] = json!(if window_s <= 120 { "growing" } else { "steady" });
    });
    assert_eq!(failures(&judge(Evidence::Sampler, 150, &truth("heap", 5000), &grows)), "");
    let grows_on = documents(|_, document| document["sites"][2]["verdict"] = json!("growing"));
    let judgement = judge(Evidence::Sampler, 150, &truth("heap", 5000), &grows_on);
    assert_eq!(judgement.accused, ["main.main main.go:3 is growing after 125 s"]);
    let leaks = documents(|window_s, document| {
        document["sites"][2]["verdict"] = json!(if window_s == 30 { "leaking" } else { "steady" });
    });
    let judgement = judge(Evidence::Sampler, 150, &truth("heap", 5000), &leaks);
    assert_eq!(judgement.accused, ["main.main main.go:3 is leaking after 30 s"]);
    assert!(failures(&judgement).contains("accused"));
}

#[test]
fn a_rate_and_a_size_class_that_are_off_are_wrong() {
    let off = documents(|_, document| {
        document["sites"][0]["growth_bytes_per_s"] = rate(160e3);
        document["heap"]["size_classes"][0]["growth_bytes_per_s"] = rate(50e3);
    });
    let judgement = judge(Evidence::Sampler, 150, &truth("heap", 5000), &off);
    assert!(failures(&judgement).contains("the rate is +60 % off"), "{:?}", judgement.failures);
    assert!(failures(&judgement).contains("size class of 5000 bytes is -50 % off"), "{:?}", judgement.failures);
    assert_eq!(judgement.findings[0].covered, Some(false));
    let absent = documents(|_, document| document["heap"]["size_classes"] = json!([]));
    assert!(
        failures(&judge(Evidence::Sampler, 150, &truth("heap", 5000), &absent)).contains("no growth of the size class")
    );
}

#[test]
fn large_objects_are_the_class_without_a_size() {
    let large = documents(|_, document| {
        document["heap"]["size_classes"] = json!([{"growth_bytes_per_s": rate(100e3)}]);
    });
    let judgement = judge(Evidence::Sampler, 150, &truth("heap", 0), &large);
    assert_eq!(failures(&judgement), "");
}

#[test]
fn without_names_the_heap_must_grow_and_the_way_out_be_said() {
    let truth = truth("heap", 5000);
    let silent = documents(|_, document| document["sites"] = json!([]));
    assert_eq!(failures(&judge(Evidence::None, 150, &truth, &silent)), "nobody says how to get a name");
    let told = documents(|_, document| {
        document["sites"] = json!([]);
        document["heap"]["why"] = json!("names need --evidence exact or --adopt-sampler");
    });
    let judgement = judge(Evidence::None, 150, &truth, &told);
    assert_eq!(failures(&judgement), "");
    assert_eq!(judgement.findings[0].verdict.as_deref(), Some("growing"));
    let named = documents(|_, document| document["heap"]["why"] = json!("--adopt-sampler"));
    assert!(failures(&judge(Evidence::None, 150, &truth, &named)).contains("main.go:1 is leaking"));
}

#[test]
fn goroutines_are_counted_exactly() {
    let of = |live: u64| {
        documents(move |_, document| {
            document["sites"] = json!([]);
            let mut one = site(1, "leaking");
            one["live"] = json!(live);
            one["growth_per_s"] = rate(20.0);
            document["goroutines"] = json!({"sites": [one, site(3, "steady")]});
        })
    };
    // The last window ends at 151 s.
    let right = judge(Evidence::Sampler, 150, &truth("goroutine", 0), &of(3020));
    assert_eq!(failures(&right), "");
    assert_eq!(right.findings[0].named_after_s, Some(5.0));
    let wrong = judge(Evidence::Sampler, 150, &truth("goroutine", 0), &of(2500));
    assert!(failures(&wrong).contains("2500 goroutines of a, and the truth is 2990 to 3050"), "{:?}", wrong.failures);
}

#[test]
fn what_leaks_outside_the_heap_is_a_line_of_the_memory_statement() {
    let of = |verdict: &'static str| {
        documents(move |_, document| {
            document["sites"] = json!([]);
            document["heap"]["verdict"] = json!(verdict);
            document["memory"]["lines"] = json!([{"name": "native", "growth_bytes_per_s": rate(104e3)}]);
            document["memory"]["native"] = json!({"verdict": "growing"});
        })
    };
    assert_eq!(failures(&judge(Evidence::Sampler, 150, &truth("native", 1024), &of("steady"))), "");
    let judgement = judge(Evidence::Sampler, 150, &truth("native", 1024), &of("leaking"));
    assert_eq!(judgement.accused, ["the heap as a whole is leaking after 5 s"]);
}

#[test]
fn no_document_is_a_failure_and_a_strange_one_no_panic() {
    assert_eq!(failures(&judge(Evidence::Sampler, 150, &truth("heap", 5000), &[])), "no document was printed");
    let judgement =
        judge(Evidence::Sampler, 150, &truth("heap", 5000), &[json!(null), json!({"sites": 3, "heap": []})]);
    assert_eq!((judgement.findings.len(), judgement.accused.len()), (1, 0));
}
