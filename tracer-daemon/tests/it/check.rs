//! `leakline check`: what fails, what passes, what is left of a command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    go::build,
    leakline::{Running, can_attach},
    schema::is_valid,
    target::wait_until,
};

const TOOLCHAIN: &str = "go1.26.6";
/// Bytes a second: thirty samples in the window, and more than the floor by far.
const LEAK: &str = "-leak=700000";
/// As short as it takes to say of the heap, goroutines and native memory that they do not leak, and something more.
const WHOLE_WINDOW: [&str; 4] = ["--warmup=15s", "--duration=140s", "--output=json", "--grace=3s"];
/// As short as verdicts on the heap allow (a minute is seen, each half of what counts is 20 s, then two reports), and something for a machine
/// that is busy.
const WINDOW: [&str; 4] = ["--warmup=15s", "--duration=80s", "--output=json", "--grace=3s"];

fn checked() -> String {
    build("checked", TOOLCHAIN, &["-tags=sampler"]).to_str().unwrap().to_owned()
}

/// The line that is marked, as `main.go` has it.
fn marked(mark: &str) -> u64 {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/checked/main.go"));
    let line = source.unwrap().lines().position(|line| line.ends_with(&format!("// LEAK {mark}"))).unwrap();
    u64::try_from(line).unwrap() + 1
}

struct Check {
    status: i32,
    document: Value,
    stderr: String,
}

fn check(arguments: &[&str], command: &[&str]) -> Check {
    let mut leakline = Command::new(env!("CARGO_BIN_EXE_leakline"));
    leakline.arg("check").args(arguments).arg("--").args(command).stdin(Stdio::null());
    let Output { status, stdout, stderr } = leakline.output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    let document = if stdout.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"))
    };
    if document != Value::Null {
        is_valid(&document, include_str!("../../../docs/schema/check.schema.json"));
    }
    Check { status: status.code().unwrap_or(-1), document, stderr }
}

/// The sites that fail: function and line.
fn failing(check: &Check) -> Vec<(String, u64)> {
    let sites = check.document["check"]["sites"].as_array().unwrap_or_else(|| panic!("{}", check.stderr));
    let failing = sites.iter().filter(|site| site["fails"] == true);
    failing.map(|site| (site["function"].as_str().unwrap().to_owned(), site["line"].as_u64().unwrap())).collect()
}

fn file(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

#[test]
fn a_leak_fails_and_is_named_and_none_passes() {
    if !can_attach("a_leak_fails_and_is_named_and_none_passes") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (junit, markdown) = (file(&folder, "junit.xml"), file(&folder, "summary.md"));
    let files = [format!("--junit={}", junit.display()), format!("--markdown={}", markdown.display())];
    let arguments: Vec<&str> = WINDOW.into_iter().chain(files.iter().map(String::as_str)).collect();
    let (leaky, clean) = std::thread::scope(|scope| {
        let clean = scope.spawn(|| check(&WHOLE_WINDOW, &[&checked()]));
        (check(&arguments, &[&checked(), LEAK]), clean.join().unwrap())
    });
    assert_eq!(leaky.status, 10, "{}", leaky.stderr);
    assert_eq!(failing(&leaky), [("main.keepSession".to_owned(), marked("session"))], "{}", leaky.document);
    let xml = fs::read_to_string(junit).unwrap();
    assert!(xml.contains(r#"failures="2""#) && xml.contains("main.keepSession main.go:"), "{xml}");
    let summary = fs::read_to_string(markdown).unwrap();
    assert!(summary.contains("| **FAILS** | <code>main.keepSession</code>"), "{summary}");
    assert_eq!(clean.status, 0, "{}", clean.stderr);
    assert_eq!(clean.document["check"]["outcome"], "passed", "{}", clean.document);
}

#[test]
fn only_what_the_baseline_does_not_have_fails() {
    if !can_attach("only_what_the_baseline_does_not_have_fails") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let baseline = file(&folder, "baseline.json");
    let with = |flag: &str| [WINDOW.as_slice(), &[&*format!("--{flag}={}", baseline.display()).leak()]].concat();
    // A leak that is known; writing does not make it pass.
    let written = check(&with("write-baseline"), &[&checked(), "-other=500000"]);
    assert_eq!(written.status, 10, "{}", written.stderr);
    assert_eq!(failing(&written), [("main.keepOther".to_owned(), marked("other"))]);
    let text = fs::read_to_string(&baseline).unwrap();
    is_valid(&serde_json::from_str(&text).unwrap(), include_str!("../../../docs/schema/baseline.schema.json"));
    let (same, worse) = std::thread::scope(|scope| {
        let same = scope.spawn(|| check(&with("baseline"), &[&checked(), "-other=500000"]));
        let worse = check(&with("baseline"), &[&checked(), "-other=500000", LEAK]);
        (same.join().unwrap(), worse)
    });
    assert_eq!(same.status, 0, "{}\n{}", same.stderr, same.document);
    let known = &same.document["check"]["sites"][0];
    assert_eq!((&known["change"], &known["function"]), (&"known".into(), &"main.keepOther".into()), "{known}");
    assert_eq!(worse.status, 10, "{}", worse.stderr);
    assert_eq!(failing(&worse), [("main.keepSession".to_owned(), marked("session"))], "{}", worse.document);
}

#[test]
fn a_program_without_a_sampler_below_a_shell_is_found_and_its_leak_named() {
    if !can_attach("a_program_without_a_sampler_below_a_shell_is_found_and_its_leak_named") {
        return;
    }
    let program = build("checked", TOOLCHAIN, &[]);
    // The shell stays: it has something to do behind it.
    let script = format!("{} {LEAK}; echo over", program.display());
    // Where it is forbidden, the growth is seen and not named: that is not known, which fails where that is asked for.
    let forbidden = [WINDOW.as_slice(), &["--no-adopt-sampler", "--strict"]].concat();
    let (found, unnamed) = std::thread::scope(|scope| {
        let unnamed = scope.spawn(|| check(&forbidden, &["sh", "-c", &script]));
        let found = check(&WINDOW, &["sh", "-c", &script]);
        (found, unnamed.join().unwrap())
    });
    assert_eq!(found.status, 10, "{}", found.stderr);
    assert_eq!(failing(&found)[0].0, "main.keepSession");
    assert!(found.document["evidence"]["used"].to_string().contains("adopted"), "{}", found.document);
    assert_eq!(unnamed.status, 10, "{}", unnamed.stderr);
    assert_eq!(unnamed.document["check"]["outcome"], "unknown");
    assert_eq!(unnamed.document["check"]["doubts"][0]["id"], "unnamed", "{}", unnamed.document);
}

#[test]
fn too_little_is_unknown_and_fails_only_where_that_is_asked_for() {
    if !can_attach("too_little_is_unknown_and_fails_only_where_that_is_asked_for") {
        return;
    }
    let short = ["--warmup=0s", "--duration=2s", "--output=json"];
    let unknown = check(&short, &[&checked()]);
    assert_eq!((unknown.status, &unknown.document["check"]["outcome"]), (0, &"unknown".into()), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("WARN") && unknown.stderr.contains("--strict"), "{}", unknown.stderr);
    // A file that cannot be written takes the report and the verdict not away: /dev/full takes no byte.
    let full = [short.as_slice(), &["--strict", "--junit=/dev/full"]].concat();
    let strict = check(&full, &[&checked()]);
    assert!(strict.stderr.contains("/dev/full"), "{}", strict.stderr);
    assert_eq!((strict.status, &strict.document["check"]["fails"]), (10, &true.into()), "{}", strict.stderr);
    // A program that ends well before its time is up.
    let ended = check(&["--warmup=0s", "--duration=10m", "--output=json"], &[&checked(), "-after=3s"]);
    assert_eq!((ended.status, &ended.document["process"]["ended"]), (0, &true.into()), "{}", ended.stderr);
    assert!(ended.document["check"]["doubts"].to_string().contains("\"ended\""), "{}", ended.document);
}

#[test]
fn a_command_that_fails_or_runs_no_go_program_says_so() {
    let failed = check(&["--warmup=0s"], &[&checked(), "-exit=3", "-after=1s"]);
    assert_eq!(failed.status, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("exit status: 3"), "{}", failed.stderr);
    let failed = check(&[], &["sh", "-c", "exit 7"]);
    assert!(failed.status == 1 && failed.stderr.contains("exit status: 7"), "{}", failed.stderr);
    let absent = check(&[], &["/no/such/program"]);
    assert!(absent.status == 1 && absent.stderr.contains("/no/such/program"), "{}", absent.stderr);
    let none = check(&["--start-timeout=1s"], &["sleep", "600"]);
    assert!(none.status == 4 && none.stderr.contains("Go program"), "{}", none.stderr);
    let none = check(&[], &["true"]);
    assert!(none.status == 4 && none.stderr.contains("Go program"), "{}", none.stderr);
    let named = check(&["--start-timeout=2s", "--name=another"], &[&checked()]);
    assert!(named.status == 4 && named.stderr.contains("`another`"), "{}", named.stderr);
    let load = check(&["--load=exit 5"], &[&checked()]);
    assert!(load.status == 1 && load.stderr.contains("the load failed"), "{}", load.stderr);
    let baseline = check(&["--baseline=/no/such/file"], &["true"]);
    assert!(baseline.status == 2 && baseline.stderr.contains("/no/such/file"), "{}", baseline.stderr);
    for flag in ["--junit", "--markdown", "--write-baseline"] {
        // Before the command has run.
        let unwritable = check(&[&format!("{flag}=/no/such/folder/file")], &[&checked()]);
        assert!(unwritable.status == 1 && unwritable.stderr.contains("/no/such/folder"), "{}", unwritable.stderr);
        assert!(!unwritable.stderr.contains("reading its memory"), "{}", unwritable.stderr);
    }
    let evidence = check(&["--evidence=exact"], &["true"]);
    assert!(evidence.status == 2 && evidence.stderr.contains("what grows"), "{}", evidence.stderr);
}

#[test]
fn readiness_is_waited_for_and_the_load_begins_with_it() {
    if !can_attach("readiness_is_waited_for_and_the_load_begins_with_it") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (log, loaded) = (file(&folder, "log"), file(&folder, "loaded"));
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // The load looks whether the program has said that it is ready.
    let load = format!("grep -c serving {} > {}; exec sleep 600", log.display(), loaded.display());
    let arguments = [
        format!("--ready-url=http://{address}/"),
        "--ready-log=^serving$".into(),
        format!("--load={load}"),
        format!("--command-output={}", log.display()),
        "--warmup=0s".into(),
        "--duration=2s".into(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let listen = format!("-listen={address}");
    let done = check(&[&arguments[..], &["--output=json"]].concat(), &[&checked(), &listen, "-ready-after=1500ms"]);
    assert_eq!(done.status, 0, "{}", done.stderr);
    assert_eq!(fs::read_to_string(loaded).unwrap().trim(), "1");
    assert!(fs::read_to_string(log).unwrap().contains("got terminated"), "it is ended with SIGTERM");
    let never = check(&["--ready-log=never said", "--start-timeout=2s"], &[&checked()]);
    assert!(never.status == 1 && never.stderr.contains("--ready-log"), "{}", never.stderr);
}

/// Whether a process is there. One that is a zombie is not.
fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
        && test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_ok()
}

/// A check whose command is a shell that starts a program that starts another one, in sessions of their own: their ids.
fn deep(folder: &TempDir, more: &[&str]) -> (Running, Vec<u32>) {
    let ids = file(folder, "ids");
    let program = checked();
    let script = format!(
        "setsid sh -c 'echo $$ >> {ids}; exec {program} {flags}' & sh -c 'echo $$ >> {ids}; exec sleep 600' & echo $$ >> {ids}; wait",
        ids = ids.display(),
        flags = more.join(" ")
    );
    let log = format!("--command-output={}", file(folder, "log").display());
    let mut running = Running::start(&["check", "--warmup=10m", "--grace=4s", &log, "--", "sh", "-c", &script]);
    running.wait_for("reading its memory");
    let read = || -> Vec<u32> {
        fs::read_to_string(&ids).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    };
    wait_until("all three have begun", || read().len() == 3);
    (running, read())
}

#[test]
fn ctrl_c_ends_all_that_the_command_has_started() {
    if !can_attach("ctrl_c_ends_all_that_the_command_has_started") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut running, pids) = deep(&folder, &[]);
    running.signal(Signal::INT);
    assert_eq!(running.wait(), 1);
    assert!(pids.iter().all(|pid| !is_there(*pid)), "{pids:?}");
    let log = fs::read_to_string(file(&folder, "log")).unwrap();
    assert!(log.contains("got terminated"), "it has left the group, and is told to end all the same: {log}");
}

#[test]
fn a_signal_is_passed_on() {
    if !can_attach("a_signal_is_passed_on") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = file(&folder, "log");
    let output = format!("--command-output={}", log.display());
    let mut running = Running::start(&["check", "--warmup=10m", &output, "--", &checked()]);
    running.wait_for("reading its memory");
    running.signal(Signal::INT);
    assert_eq!(running.wait(), 1);
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("got interrupt") && !said.contains("got terminated"), "{said}");
}

#[test]
fn nothing_is_left_where_leakline_is_killed() {
    if !can_attach("nothing_is_left_where_leakline_is_killed") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Also what does not end at a signal.
    let (mut running, pids) = deep(&folder, &["-deaf"]);
    running.kill();
    wait_until("all have ended", || pids.iter().all(|pid| !is_there(*pid)));
    // And where it is the supervisor that is told to end.
    let folder = tempfile::tempdir().unwrap();
    let (mut running, pids) = deep(&folder, &[]);
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse::<i32>().unwrap()
    };
    let shell = pids.iter().copied().find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sh\n");
    kill_process(Pid::from_raw(parent(shell.unwrap())).unwrap(), Signal::TERM).unwrap();
    wait_until("all have ended", || pids.iter().all(|pid| !is_there(*pid)));
    assert_ne!(running.wait(), 0);
    // And where it is killed itself, and cannot end anything.
    let folder = tempfile::tempdir().unwrap();
    let (mut running, pids) = deep(&folder, &["-deaf"]);
    let shell = pids.iter().copied().find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "sh\n");
    kill_process(Pid::from_raw(parent(shell.unwrap())).unwrap(), Signal::KILL).unwrap();
    wait_until("all have ended", || pids.iter().all(|pid| !is_there(*pid)));
    assert_eq!(running.wait(), 1);
}

#[test]
fn an_attach_fails_on_a_leak_where_that_is_asked_for() {
    if !can_attach("an_attach_fails_on_a_leak_where_that_is_asked_for") {
        return;
    }
    let mut program = Command::new(checked()).arg(LEAK).stdout(Stdio::null()).spawn().unwrap();
    let pid = program.id().to_string();
    let attach = |more: &[&str]| {
        let mut leakline = Command::new(env!("CARGO_BIN_EXE_leakline"));
        let output = leakline.args(["attach", "--pid", &pid, "--output=json"]).args(more).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (long, short) = std::thread::scope(|scope| {
        let long = scope.spawn(|| attach(&["--duration=75s", "--warm-after=0s", "--fail-on=leaking"]));
        let short = attach(&["--duration=1s", "--fail-on=leaking"]);
        (long.join().unwrap(), short)
    });
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(long.0, 10, "{}", long.1);
    assert_eq!(short.0, 0, "{}", short.1);
    assert!(short.1.contains("too little is known"), "{}", short.1);
    // As long as is usual: nothing can be said to leak by then, so that is no pass without a word.
    let mut program = Command::new(checked()).arg(LEAK).stdout(Stdio::null()).spawn().unwrap();
    let pid = program.id().to_string();
    let mut leakline = Command::new(env!("CARGO_BIN_EXE_leakline"));
    let usual = leakline.args(["attach", "--pid", &pid, "--warm-after=0s", "--fail-on=leaking"]).output().unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    let said = String::from_utf8_lossy(&usual.stderr);
    assert_eq!(usual.status.code(), Some(0), "{said}");
    assert!(said.contains("too little was seen of the heap") && said.contains("of goroutines"), "{said}");
}
