//! `leakline record` and `replay`: the same reports, whatever happens to the file.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;
use tracer_daemon::export::{json, text};
use tracer_daemon::recording::{Replay, Skipped, with_records};

use crate::go::build;
use crate::leakline::{Running, failure, leakline};
use crate::target::{Target, wait_until};

/// A program that allocates and collects all the time, and keeps a little.
fn busy() -> Target {
    Target::start(&build("heapprofile", "go1.26.6", &[]), &["524288", "busy"])
}

fn replayed(file: &Path, output: &str) -> (Vec<u8>, String) {
    let output = leakline(&["replay", file.to_str().unwrap(), "--output", output]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    (output.stdout, stderr)
}

/// Records for some seconds, and gives what was printed.
fn record(target: &Target, file: &Path, duration: &str, more: &[&str]) -> (Vec<u8>, String) {
    let pid = target.pid().to_string();
    let mut arguments = vec!["record", "--pid", &pid, "-o", file.to_str().unwrap(), "--duration", duration];
    arguments.extend(more);
    let output = leakline(&arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    (output.stdout, stderr)
}

/// The last report of a recording as JSON; `None` where no process was seen.
pub(crate) fn last_report(file: &[u8]) -> Option<Value> {
    let mut replay = Replay::new(file).unwrap();
    let report = std::iter::from_fn(|| replay.next_report()).last()?;
    Some(serde_json::from_str(&json::line(&report).unwrap()).unwrap())
}

#[test]
fn replay_prints_what_record_printed_byte_for_byte() {
    let mut target = busy();
    target.say("work");
    assert_eq!(target.line(), "done");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.leakline");
    fs::write(&file, "what was there before").unwrap();
    let (printed, stderr) = record(&target, &file, "6s", &["--output", "json", "--interval", "2s"]);
    assert_eq!(String::from_utf8_lossy(&printed).lines().count(), 3, "two on the way and the last one");
    assert!(stderr.contains("wrote"), "{stderr}");
    let (again, stderr) = replayed(&file, "json");
    assert!(again == printed, "{}\n{}", String::from_utf8_lossy(&printed), String::from_utf8_lossy(&again));
    assert_eq!(stderr, "", "nothing is wrong with it");
    let document: Value = serde_json::from_slice(printed.split(|byte| *byte == b'\n').nth(2).unwrap()).unwrap();
    let used = document["evidence"]["used"].as_array().unwrap();
    // Windows, and hooks beside them, only where probes are allowed.
    let of_windows = ["goroutine-hooks", "bursts", "marks"];
    let read: Vec<&Value> = used.iter().filter(|part| !of_windows.iter().any(|known| part == known)).collect();
    assert_eq!(read, ["books", "goroutine-table", "profile"]);
    assert_eq!(document["final"], true);
    assert!(document["cost"]["self_rss_bytes"].as_u64().is_some());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");

    each_cut_of_a_recording_gives_a_report(&fs::read(&file).unwrap());

    let (printed, _) = record(&target, &file, "3s", &[]);
    assert!(replayed(&file, "text").0 == printed);
}

/// Of what is there, as far as anything is.
fn each_cut_of_a_recording_gives_a_report(file: &[u8]) {
    let mut reports = 0;
    for cut in (16..file.len()).step_by(97) {
        let Some(report) = last_report(&file[..cut]) else { continue };
        assert_eq!(report["final"], true);
        assert!(report["heap"]["gc_cycles"].as_u64().is_some(), "{report}");
        reports += 1;
    }
    assert!(reports > 0, "the first block is the whole file");
}

#[test]
fn what_a_killed_leakline_has_recorded_can_be_replayed() {
    let target = busy();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.leakline");
    let pid = target.pid().to_string();
    let arguments = ["record", "--pid", &pid, "-o", file.to_str().unwrap(), "--duration", "10m"];
    let mut running = Running::start(&arguments);
    let size = || fs::metadata(&file).map_or(0, |found| found.len());
    wait_until("a block was written", || size() > 16);
    let first = size();
    wait_until("another block was written", || size() > first);
    running.kill();
    let (printed, stderr) = replayed(&file, "json");
    let document: Value = serde_json::from_slice(&printed).unwrap();
    assert_eq!(document["final"], true);
    assert!(document["window_s"].as_f64().unwrap() > 4.0, "{document}");
    assert!(stderr.contains("was not ended by its writer"), "{stderr}");
}

#[test]
fn a_recording_ends_when_it_is_as_large_as_it_may_be() {
    let target = busy();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.leakline");
    let (printed, stderr) = record(&target, &file, "10m", &["--max-size", "4KiB", "--output", "json"]);
    assert!(stderr.contains("is as large as it may be"), "{stderr}");
    assert!(fs::metadata(&file).unwrap().len() >= 4096);
    let (again, stderr) = replayed(&file, "json");
    assert!(again == printed);
    assert_eq!(stderr, "");
}

/// In a folder of others it may lead to any file of ours.
#[test]
fn a_link_is_replaced_and_what_it_leads_to_is_not_touched() {
    let target = busy();
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("a.leakline"), folder.path().join("other"));
    fs::write(&other, "of somebody else").unwrap();
    symlink(&other, &file).unwrap();
    record(&target, &file, "1s", &[]);
    assert_eq!(fs::read_to_string(&other).unwrap(), "of somebody else");
    let found = fs::symlink_metadata(&file).unwrap();
    assert!(found.is_file(), "{found:?}");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert!(last_report(&fs::read(&file).unwrap()).is_some());

    // A link of the system stays, as does what can be neither replaced nor written.
    let pid = target.pid().to_string();
    fs::remove_file(&file).unwrap();
    symlink("/proc/self/exe", &file).unwrap();
    for place in [&file, folder.path()] {
        let (status, stderr) = failure(&["record", "--pid", &pid, "-o", place.to_str().unwrap(), "--duration", "1s"]);
        assert!(status == 1 && stderr.contains("is no regular file"), "{status}: {stderr}");
    }
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
}

#[test]
fn a_recording_that_cannot_be_written_any_more_costs_itself_only() {
    let target = busy();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = thread::spawn({
        let pipe = pipe.clone();
        // The header, and then it is gone: what is written later fails.
        move || fs::File::open(pipe).unwrap().read_exact(&mut [0; 16]).unwrap()
    });
    let pid = target.pid().to_string();
    let place = pipe.to_str().unwrap();
    // Longer than it takes until a block is written.
    let output = leakline(&["record", "--pid", &pid, "-o", place, "--duration", "7s", "--output", "json"]);
    reader.join().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let document: Value = serde_json::from_slice(&output.stdout).expect(&stderr);
    assert_eq!(document["final"], true);
    assert!(document["window_s"].as_f64().unwrap() > 6.0, "it went on: {document}");
    assert_eq!(stderr.matches("recording ends here").count(), 1, "{stderr}");
    assert!(stderr.lines().last().unwrap().contains("cannot write"), "{stderr}");
}

#[test]
fn what_is_no_recording_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let refused = |file: &Path, expected: &str| {
        let (status, stderr) = failure(&["replay", file.to_str().unwrap()]);
        assert!(status == 1 && stderr.contains(expected), "{status}: {stderr}");
    };
    refused(&write("text", b"hello"), "not a recording of leakline");
    refused(folder.path(), "is no regular file");
    refused(&folder.path().join("nothing"), "No such file");
    let empty = with_records(&[]).unwrap();
    refused(&write("empty", &empty), "no look at a process");
    let mut later = empty;
    later[8] = 9;
    refused(&write("later", &later), "format 9");
    let (status, stderr) = failure(&["record", "--pid", "1", "-o", "/dev/null", "--evidence", "exact"]);
    assert!(status == 2 && stderr.contains("cannot be recorded"), "{status}: {stderr}");
    let target = busy();
    let nowhere = folder.path().join("no/folder");
    let pid = target.pid().to_string();
    let (status, stderr) = failure(&["record", "--pid", &pid, "-o", nowhere.to_str().unwrap()]);
    assert!(status == 1 && stderr.contains("cannot write"), "{status}: {stderr}");
}

/// Recordings of real programs give the reports that stand beside them, however the code has changed since.
///
/// To add one: `leakline record -o tests/recordings/NAME.leakline …`, then `UPDATE_EXPECT=1 cargo test -p tracer-daemon --test it
/// recordings_give`, which also renews those whose report has changed on purpose.
/// The document with lists of numbers on one line each: a series has hundreds.
fn numbers_joined(document: &str) -> String {
    let is_number = |line: &&str| {
        let item = line.trim().trim_end_matches(',');
        item == "null" || item.parse::<u64>().is_ok()
    };
    let (mut joined, mut was_number) = (String::new(), true);
    for line in document.lines() {
        let is_item = is_number(&line);
        joined.push_str(match (was_number, is_item) {
            _ if joined.is_empty() => "",
            (true, true) => " ",
            _ => "\n",
        });
        joined.push_str(if is_item && was_number { line.trim_start() } else { line });
        was_number = is_item;
    }
    joined
}

#[test]
fn recordings_give_the_reports_beside_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "leakline") {
            continue;
        }
        // Seen only where it fails.
        println!("{}", path.display());
        let mut replay = Replay::new(fs::File::open(&path).unwrap()).unwrap();
        let report = std::iter::from_fn(|| replay.next_report()).last().expect("a report");
        assert!(replay.is_complete());
        assert_eq!(replay.reader().skipped(), Skipped::default(), "no name of a kind or field may go");
        let document: Value = serde_json::from_str(&json::line(&report).unwrap()).unwrap();
        let document = numbers_joined(&serde_json::to_string_pretty(&document).unwrap());
        expect_test::expect_file![path.with_extension("json")].assert_eq(&format!("{document}\n"));
        expect_test::expect_file![path.with_extension("txt")].assert_eq(&text::render(&report, text::Style::default()));
        count += 1;
    }
    assert!(count > 0, "no recordings in {}", folder.display());
}
