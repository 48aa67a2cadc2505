//! Kernel tests: when was most allocated, and by whom? On `tests/programs/spikes`, which says what it did when.

use std::{fs, path::PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    go,
    leakline::{Running, can_attach, unbroken_text},
    record::last_report,
    target::Target,
};

/// Bytes of one object of a spike.
const OBJECT_BYTES: u64 = 1_024;
/// What the runtime may allocate for itself meanwhile: it starts a thread or a worker of the collector now and then.
const OF_THE_RUNTIME_BYTES: u64 = 8 * OBJECT_BYTES;

fn spikes() -> PathBuf {
    go::build("spikes", "go1.27.3", &[])
}

/// One spike as the program says: objects, and when it began and ended, ns.
struct Spike {
    objects: u64,
    began_ns: i64,
    ended_ns: i64,
}

fn spike(target: &mut Target, objects: u64) -> Spike {
    target.say(&format!("spike {objects}"));
    let line = target.line();
    let times: Vec<i64> = line.split(' ').map(|time| time.parse().unwrap()).collect();
    Spike { objects, began_ns: times[0], ended_ns: times[1] }
}

fn rest(target: &mut Target, milliseconds: u64) {
    target.say(&format!("rest {milliseconds}"));
    assert_eq!(target.line(), "rested");
}

/// A list of a series, which may have gaps.
fn list(document: &Value, name: &str) -> Vec<Option<u64>> {
    document["series"][name].as_array().unwrap().iter().map(Value::as_u64).collect()
}

fn sum(list: &[Option<u64>]) -> u64 {
    list.iter().flatten().sum()
}

#[test]
fn each_object_of_a_spike_is_in_its_millisecond() {
    if !can_attach("each_object_of_a_spike_is_in_its_millisecond") {
        return;
    }
    let mut target = Target::start(&spikes(), &[]);
    let running = Running::attach(target.pid(), &[]);
    let mut done = Vec::new();
    for objects in [40, 3_000, 200, 1, 900] {
        done.push(spike(&mut target, objects));
        rest(&mut target, 120);
    }
    let document = running.report();
    let (bytes, objects) = (list(&document, "alloc_bytes"), list(&document, "alloc_objects"));
    assert_eq!(document["series"]["step_s"], 0.001);
    assert_eq!(document["series"]["began_s"], 0.0, "the window is shorter than what is kept");
    assert_eq!(document["series"].get("unplaced"), None);
    assert_eq!(document["loss"]["milliseconds_unread"], 0);
    // Nothing is lost, and nothing is counted twice.
    assert_eq!(sum(&objects), document["heap"]["counted"]["objects"].as_u64().unwrap());
    assert_eq!(sum(&bytes), document["heap"]["counted"]["bytes"].as_u64().unwrap());
    // Whole objects of spikes; what the runtime allocates beside them is smaller.
    let in_spike = |place: &usize| bytes[*place].unwrap() >= OBJECT_BYTES;
    let places: Vec<usize> = (0..bytes.len()).filter(in_spike).collect();
    let mut clusters: Vec<(usize, usize)> = Vec::new();
    for place in places {
        match clusters.last_mut() {
            Some((_, last)) if place - *last < 60 => *last = place,
            _ => clusters.push((place, place)),
        }
    }
    assert_eq!(clusters.len(), done.len(), "{clusters:?}");
    // When the window began, in milliseconds of the program's clock: some time that puts each spike between the program's own two looks
    // at the clock.
    let (mut earliest, mut latest) = (i64::MIN, i64::MAX);
    for (spike, (first, last)) in done.iter().zip(&clusters) {
        let counted = sum(&bytes[*first..=*last]);
        let of_the_runtime = counted.checked_sub(spike.objects * OBJECT_BYTES);
        let is_right = of_the_runtime.is_some_and(|bytes| bytes <= OF_THE_RUNTIME_BYTES);
        assert!(is_right, "{} objects, but {counted} bytes in {first} to {last} ms", spike.objects);
        earliest = earliest.max(spike.began_ns / 1_000_000 - i64::try_from(*first).unwrap());
        latest = latest.min(spike.ended_ns / 1_000_000 - i64::try_from(*last).unwrap());
    }
    assert!(earliest <= latest, "no beginning of the window fits: after {earliest}, before {latest} ms");
    // The largest millisecond is of the largest spike.
    let peaks = document["series"]["peaks"].as_array().unwrap();
    let most = peaks.iter().max_by_key(|peak| peak["bytes"].as_u64()).unwrap();
    let at_ms = (most["at_s"].as_f64().unwrap() * 1e3).round();
    let (first, last) = clusters[1];
    assert!((first..=last).any(|place| format!("{place}") == format!("{at_ms:.0}")), "{peaks:?}");
    target.close_stdin();
    assert!(target.wait().success());
}

#[test]
fn what_is_allocated_while_leakline_stands_still_is_in_no_millisecond_and_in_all_counts() {
    if !can_attach("what_is_allocated_while_leakline_stands_still_is_in_no_millisecond_and_in_all_counts") {
        return;
    }
    let mut target = Target::start(&spikes(), &[]);
    let running = Running::attach(target.pid(), &[]);
    spike(&mut target, 100);
    rest(&mut target, 200);
    running.signal(Signal::STOP);
    spike(&mut target, 500);
    // Longer than the entries of the kernel side tell apart.
    rest(&mut target, 2_500);
    running.signal(Signal::CONT);
    rest(&mut target, 500);
    spike(&mut target, 300);
    rest(&mut target, 200);
    let document = running.report();
    let objects = list(&document, "alloc_objects");
    let unplaced = document["series"]["unplaced"]["objects"].as_u64().unwrap();
    assert!((500..600).contains(&unplaced), "{unplaced}");
    assert_eq!(document["loss"]["milliseconds_unread"], unplaced);
    assert_eq!(sum(&objects) + unplaced, document["heap"]["counted"]["objects"].as_u64().unwrap());
    assert!(sum(&objects) >= 400, "those before and after are placed");
    let unknown = objects.iter().filter(|objects| objects.is_none()).count();
    assert!(unknown >= 2_000, "{unknown} milliseconds of which nothing is said");
}

#[test]
fn who_allocates_in_an_impulse_is_named_and_in_no_rate() {
    if !can_attach("who_allocates_in_an_impulse_is_named_and_in_no_rate") {
        return;
    }
    let mut target = Target::start(&spikes(), &[]);
    target.say("steady");
    let pid = target.pid().to_string();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spikes.leakline");
    let arguments = ["record", "--pid", &pid, "-o", file.to_str().unwrap(), "--evidence", "bursts"];
    let more = ["--max-overhead", "50%", "--duration", "10m", "--output", "json"];
    let log = ("LEAKLINE_LOG", "info,tracer_daemon::pipeline::bursts=debug");
    let mut running = Running::start_with(&[&arguments[..], &more[..]].concat(), &[log]);
    running.wait_for("a window opens");
    // The books have to know what is usual.
    rest(&mut target, 2_000);
    target.say("storm");
    running.wait_for("the rate of allocation has jumped");
    rest(&mut target, 300);
    target.say("calm");
    assert_eq!(target.line(), "calm");
    rest(&mut target, 1_500);
    let document = running.report();
    let impulses = document["impulses"].as_array().unwrap();
    let jump = impulses.iter().find(|impulse| impulse["kind"] == "allocation_rate" && impulse.get("burst").is_some());
    let jump = jump.unwrap_or_else(|| panic!("{impulses:?}"));
    assert!(jump["seen"].as_f64().unwrap() > 3.0 * jump["usual"].as_f64().unwrap(), "{jump}");
    let sites = jump["burst"]["sites"].as_array().unwrap();
    let share = |function: &str| {
        let site = sites.iter().find(|site| site["function"] == function);
        site.map_or(0.0, |site| site["share"]["value"].as_f64().unwrap())
    };
    assert_eq!(sites[0]["function"], "main.storm", "{sites:?}");
    // 19 of 20 objects of the same size; the interval says how sure that is.
    let shares = &sites[0]["share"];
    assert!(shares["low"].as_f64().unwrap() <= 0.96 && shares["high"].as_f64().unwrap() >= 0.93, "{shares}");
    assert!(share("main.drizzle") < 0.2, "{sites:?}");
    // Ten bursts a second say what is usual; that of the impulse adds nothing to them.
    let counted = document["loss"]["births_no_room"].as_u64().unwrap();
    assert_eq!(counted, 0);
    // The series shows it, too, in steps of 0.1 s.
    assert!(document["series"]["step_s"].as_f64().unwrap() >= 0.1);
    let bytes = list(&document, "alloc_bytes");
    let most = bytes.iter().flatten().max().unwrap();
    let mut usual: Vec<u64> = bytes.iter().flatten().copied().collect();
    usual.sort_unstable();
    assert!(*most > 10 * usual[usual.len() / 4], "{bytes:?}");
    // A recording says the same.
    let again = unbroken_text(&["replay", file.to_str().unwrap()]);
    assert!(again.contains("WHEN IT JUMPED") && again.contains("main.storm"), "{again}");
    let recorded = last_report(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(recorded["impulses"], document["impulses"]);
    assert_eq!(recorded["series"], document["series"]);
}
