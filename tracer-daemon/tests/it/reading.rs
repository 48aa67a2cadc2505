//! `attach` and `run` without probes: what is read from the target's memory ends in the documents and metrics.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    exact::knownsites,
    go::build,
    leakline::{Running, can_attach, failure, leakline},
    run::Daemon,
    schema::is_valid,
    target::{Target, wait_until},
};

/// What the program keeps, of one line and size; slots have 1280 bytes.
const KNOWN: u64 = 5000;

/// A program that samples each of its objects and keeps known ones.
fn keeper(toolchain: &str, flags: &[&str]) -> Target {
    keeper_at(toolchain, flags, &["1"])
}

/// As [`keeper`], at another rate or none.
fn keeper_at(toolchain: &str, flags: &[&str], arguments: &[&str]) -> Target {
    let mut target = Target::start(&build("heapprofile", toolchain, flags), arguments);
    for command in [&format!("known {KNOWN}"), "gc", "gc", "gc"] {
        target.say(command);
        assert_eq!(target.line(), "done");
    }
    target
}

/// The bytes of the known objects, and of an array with room for them and for half as many more.
fn is_known(bytes: f64) -> bool {
    (1280.0 * 5000.0 + 24.0 * 5000.0..1280.0 * 5000.0 + 24.0 * 7500.0).contains(&bytes)
}

fn attached(pid: u32, evidence: &str) -> Value {
    let pid = pid.to_string();
    let output =
        leakline(&["attach", "--pid", &pid, "--evidence", evidence, "--duration", "500ms", "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = serde_json::from_slice(&output.stdout).unwrap();
    is_valid(&document, include_str!("../../../docs/schema/attach.schema.json"));
    document
}

fn refusals(document: &Value) -> Vec<&str> {
    document["evidence"]["refused"].as_array().unwrap().iter().map(|refused| refused["id"].as_str().unwrap()).collect()
}

#[test]
fn without_a_probe_it_is_known_who_holds_what() {
    for (toolchain, flags) in [
        ("go1.19.13", &["-ldflags=-s -w"][..]),
        ("go1.22.12", &["-buildmode=pie"]),
        ("go1.27.3", &["-ldflags=-s -w", "-buildmode=pie"]),
    ] {
        let target = keeper(toolchain, flags);
        let document = attached(target.pid(), "auto");
        assert_eq!(
            document["evidence"]["used"],
            serde_json::json!(["books", "goroutine-table", "profile"]),
            "{toolchain}"
        );
        assert_eq!(refusals(&document), [""; 0], "{toolchain}");
        let sites = document["sites"].as_array().unwrap();
        let known = sites.iter().find(|site| site["function"] == "main.allocateKnown").unwrap();
        // And the array of the slice that keeps them.
        assert_eq!((&known["live_objects"], &known["samples"]), (&(KNOWN + 1).into(), &(KNOWN + 1).into()));
        assert!(is_known(known["live_bytes"]["value"].as_f64().unwrap()), "{toolchain}: {known:#}");
        assert_eq!(known["live_bytes"]["low"], known["live_bytes"]["high"], "each object was sampled");

        let class = document["heap"]["size_classes"].as_array().unwrap();
        let class = class.iter().find(|class| class["size_bytes"] == 1280).unwrap();
        assert!(class["live_objects"].as_u64().unwrap() >= KNOWN, "{toolchain}");
        assert!(document["heap"]["live_bytes"].as_u64().unwrap() >= 1280 * KNOWN, "{toolchain}");

        let memory = &document["memory"];
        let lines = memory["lines"].as_array().unwrap().iter().map(|line| line["bytes"].as_i64().unwrap());
        assert_eq!(lines.sum::<i64>() + memory["unexplained_bytes"].as_i64().unwrap(), memory["rss_bytes"]);
        assert!(document["goroutines"]["live"].as_u64().unwrap() >= 1, "{toolchain}");
        assert_eq!(document["cost"]["probe_hits"], 0);
    }
}

#[test]
fn without_a_sampler_all_but_the_names_are_known() {
    let target = keeper_at("go1.26.6", &["-ldflags=-s -w", "-tags=nosampler"], &[]);
    let document = attached(target.pid(), "books");
    assert_eq!(document["evidence"]["used"], serde_json::json!(["books", "goroutine-table"]));
    assert_eq!(refusals(&document), ["sampler_off"]);
    assert!(document.get("sites").is_none() && document.get("profile").is_none());
    assert!(document["heap"]["live_bytes"].as_u64().unwrap() >= 1280 * KNOWN);
}

#[test]
fn a_sampler_that_is_off_is_turned_on_where_that_is_asked_for_and_off_again() {
    let folder = tempfile::tempdir().unwrap();
    let program = build("heapprofile", "go1.26.6", &["-ldflags=-s -w", "-tags=nosampler"]);
    let mut target = Target::start(&program, &["0", "busy"]);
    let (pid, folder) = (target.pid().to_string(), folder.path().to_str().unwrap());
    let mut running = Running::start(&[
        "attach",
        "--pid",
        &pid,
        "--evidence",
        "books",
        "--adopt-sampler",
        "--state-dir",
        folder,
        "--duration",
        "3s",
        "--output",
        "json",
    ]);
    running.wait_for("the sampler of the target is on");
    running.wait_for("the sampler of the target is off again");
    let (status, document) = running.finish();
    assert_eq!(status, 0);
    is_valid(&document, include_str!("../../../docs/schema/attach.schema.json"));
    assert_eq!(document["evidence"]["used"], serde_json::json!(["books", "goroutine-table", "adopted"]));
    assert!(document["profile"]["adopted_s"].as_f64().unwrap() > 0.0, "{document:#}");
    let sites = document["sites"].as_array().unwrap();
    assert!(sites.iter().all(|site| site["evidence"] == "adopted") && !sites.is_empty(), "{document:#}");
    target.say("rate");
    assert_eq!(target.line(), "0");
}

#[test]
fn where_probes_are_refused_the_books_are_read() {
    if !can_attach("where_probes_are_refused_the_books_are_read") {
        return;
    }
    let target = keeper("go1.26.6", &[]);
    // May read memory, may not load programs.
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-all,+sys_ptrace,+dac_override,+dac_read_search"])
        .args(["--inh-caps", "-all", env!("CARGO_BIN_EXE_leakline")])
        .args(["attach", "--pid", &target.pid().to_string(), "--evidence", "exact", "--duration", "200ms"])
        .args(["--output", "json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(refusals(&document).contains(&"not_allowed"), "{document:#}");
    assert_eq!(document["evidence"]["used"][0], "books");
    assert!(said.contains("CAP_BPF"), "{said}");
}

#[test]
fn a_target_that_ends_while_it_is_read_gives_a_report_of_what_was_seen() {
    let mut target = keeper("go1.26.6", &[]);
    let pid = target.pid().to_string();
    let mut running =
        Running::start(&["attach", "--pid", &pid, "--evidence", "books", "--duration", "10m", "--output", "json"]);
    running.wait_for("reading its memory");
    target.kill();
    let (status, document) = running.finish();
    assert_eq!(status, 0);
    assert_eq!(document["process"]["ended"], true);
    assert!(document["heap"]["live_bytes"].as_u64().unwrap() >= 1280 * KNOWN);
}

#[test]
fn who_may_read_no_memory_is_told_what_is_missing() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: who_may_read_no_memory_is_told_what_is_missing: not root, cannot drop capabilities");
        return;
    }
    let target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("leakline");
    fs::copy(env!("CARGO_BIN_EXE_leakline"), &copy).unwrap();
    for command in
        [&["attach", "--evidence", "books"][..], &["memory"], &["goroutines"], &["snapshot", "-o", "/dev/null"]]
    {
        let output = Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .arg(&copy)
            .args(command)
            .args(["--pid", &target.pid().to_string()])
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {message}");
        assert!(message.contains("CAP_SYS_PTRACE"), "{command:?}: {message}");
    }
}

/// A program that the loader has executed and that waits there before its own first instruction, for a library that is no file.
struct Waiting {
    _folder: tempfile::TempDir,
    gate: PathBuf,
    child: Child,
}

impl Waiting {
    fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = folder.path().join("gate");
        rustix::fs::mknodat(rustix::fs::CWD, &gate, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let program = fs::canonicalize(program).unwrap();
        let mut command = Command::new(&program);
        command.env("LD_PRELOAD", &gate).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let exe = format!("/proc/{}/exe", child.id());
        wait_until("it is executed", || fs::read_link(&exe).is_ok_and(|exe| exe == program));
        Self { _folder: folder, gate, child }
    }

    /// Lets it begin: what is no library is passed over.
    fn begin(&self) {
        fs::write(&self.gate, "").unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_program_that_has_not_begun_is_taken_up_when_it_has() {
    let waiting = Waiting::start(&build("goroutines", "go1.26.6", &["-buildmode=pie"]));
    let pid = waiting.child.id().to_string();
    for command in [&["attach", "--evidence", "books"][..], &["goroutines"]] {
        let (status, said) = failure(&[command, &["--pid", &pid]].concat());
        assert_eq!(status, 3, "{said}");
        assert!(said.contains("has not started yet"), "{said}");
    }
    // By name, since a run of nothing but what cannot be taken up ends.
    let daemon = Daemon::with_evidence("books", &["--name", "nothing-has-this-name", "--pid", &pid]);
    let refused = "leakline_refusals_total{reason=\"runtime_not_started\"}";
    wait_until("it is refused", || daemon.metrics().contains(refused));
    waiting.begin();
    wait_until("it is read", || daemon.metrics().contains("leakline_heap_live_bytes{"));
    wait_until("its goroutines are known", || daemon.metrics().contains("leakline_goroutines{"));
}

#[test]
fn metrics_say_who_holds_what() {
    let target = keeper("go1.24.11", &["-ldflags=-s -w"]);
    let daemon = Daemon::with_evidence("auto", &["--pid", &target.pid().to_string()]);
    wait_until("it is read", || daemon.metrics().contains("leakline_processes{best_evidence=\"profile\"} 1"));
    wait_until("memory was looked at", || daemon.metrics().contains("leakline_memory_bytes{"));
    let metrics = daemon.metrics();
    let site = |name: &str| metrics.lines().find(|line| line.contains(name)).map(str::to_owned);
    let info = site("function=\"main.allocateKnown\"").unwrap_or_else(|| panic!("{metrics}"));
    let id = info.split("site=\"").nth(1).unwrap().split('"').next().unwrap();
    let live = metrics.lines().find(|line| line.starts_with("leakline_site_live_bytes{") && line.contains(id));
    assert!(is_known(live.unwrap().rsplit(' ').next().unwrap().parse().unwrap()), "{live:?}");
    for name in [
        "leakline_heap_live_bytes{",
        "leakline_gc_goal_bytes{",
        "leakline_gc_cycles_total{",
        "leakline_gc_pause_seconds_bucket{",
        "leakline_runtime_allocated_bytes_total{",
        "leakline_runtime_freed_bytes_total{",
        "leakline_goroutines{",
        "component=\"live_heap\"",
        "leakline_memory_limit_bytes{",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    let counted = |line: &&str| line.starts_with("leakline_site_allocated_") && line.contains("evidence=\"exact\"");
    assert_eq!(metrics.lines().find(counted), None, "what was not measured has no series");
}
