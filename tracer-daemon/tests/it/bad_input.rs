//! Process tests: what is no target is refused with a message that says what to do, and the exit status of the contract.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use crate::{
    exact::knownsites,
    go,
    leakline::{Running, can_attach, failure, leakline},
    target::Target,
};

fn attach(pid: u32) -> (i32, String) {
    failure(&["attach", "--pid", &pid.to_string(), "--evidence", "exact", "--duration", "100ms"])
}

#[test]
fn a_pid_that_is_gone_is_no_target() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let (status, message) = attach(child.id());
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("may have ended"), "{message}");
}

#[test]
fn a_kernel_thread_is_no_target() {
    let threads = procfs::process::all_processes().unwrap().flatten();
    let thread = threads.filter_map(|process| process.stat().ok()).find(|stat| stat.flags & 0x0020_0000 != 0);
    let Some(thread) = thread else {
        println!("SKIPPED: a_kernel_thread_is_no_target: /proc shows no process with PF_KTHREAD");
        return;
    };
    let (status, message) = attach(u32::try_from(thread.pid).unwrap());
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("kernel thread"), "{message}");
}

#[test]
fn a_program_that_is_not_go_is_no_target() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let (status, message) = attach(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("not a Go program"), "{message}");
}

/// An ELF header of class 32, machine 386, which is all that an honest answer needs.
fn elf_32() -> Vec<u8> {
    let mut elf = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    elf.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    elf.resize(4096, 0);
    elf
}

#[test]
fn a_32_bit_program_is_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program");
    fs::write(&file, elf_32()).unwrap();
    let (status, message) = failure(&["plan", file.to_str().unwrap()]);
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("32-bit"), "{message}");
}

#[test]
fn a_file_that_is_not_there_or_no_program_is_said_to_be_so() {
    let (status, message) = failure(&["plan", "/nonexistent/program"]);
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("cannot open /nonexistent/program"), "{message}");
    let (status, message) = failure(&["plan", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("not an ELF file"), "{message}");
}

#[test]
fn a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in [pipe.to_str().unwrap(), "/dev/zero"] {
        let (status, message) = failure(&["plan", file]);
        assert_eq!(status, 1, "{message}");
        assert!(message.contains("is no regular file"), "{message}");
    }
}

/// A Go program without DWARF whose version was rewritten to one that we do not know.
#[test]
fn an_unknown_go_version_is_refused_with_the_versions_that_are_known() {
    let built = go::build("knownsites", "go1.26.6", &["-ldflags=-s -w"]);
    let mut bytes = fs::read(built).unwrap();
    let version = b"go1.26.6";
    let places: Vec<usize> =
        bytes.windows(version.len()).enumerate().filter(|(_, window)| window == version).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + version.len()].copy_from_slice(b"go1.99.6");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program");
    fs::write(&file, bytes).unwrap();
    let (status, message) = failure(&["plan", file.to_str().unwrap()]);
    assert_eq!(status, 3, "{message}");
    assert!(message.contains("go1.99.6") && message.contains("go1.27"), "{message}");
}

#[test]
fn evidence_auto_never_chooses_exact() {
    let target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let pid = target.pid().to_string();
    let output = leakline(&["attach", "--pid", &pid, "--duration", "100ms", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["evidence"]["used"], serde_json::json!(["books", "goroutine-table"]));
}

#[test]
fn usage_errors_have_status_2() {
    assert_eq!(failure(&["attach"]).0, 2);
    assert_eq!(failure(&["attach", "--pid", "x"]).0, 2);
    assert_eq!(failure(&["attach", "--pid", "1", "--duration", "10"]).0, 2);
    let (status, message) = failure(&["attach", "--name", "[", "--evidence", "exact"]);
    assert_eq!(status, 2, "{message}");
    let (status, message) = failure(&["attach", "--name", "no-such-program-*", "--evidence", "exact"]);
    assert_eq!(status, 4, "{message}");
}

#[test]
fn without_permission_the_missing_capability_is_named() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: without_permission_the_missing_capability_is_named: not root, cannot drop capabilities");
        return;
    }
    let mut target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    // A copy that a user without rights can reach and run.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("leakline");
    fs::copy(env!("CARGO_BIN_EXE_leakline"), &copy).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy)
        .args(["attach", "--pid", &target.pid().to_string(), "--evidence", "exact", "--duration", "1s"])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("CAP_SYS_PTRACE") && message.contains("CAP_BPF"), "{message}");
    target.close_stdin();
    assert!(target.wait().success());
}

#[test]
fn a_binary_replaced_on_disk_is_read_as_it_runs() {
    if !can_attach("a_binary_replaced_on_disk_is_read_as_it_runs") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program");
    fs::copy(knownsites("go1.26.6", &[]), &file).unwrap();
    let mut target = Target::start(&file, &[]);
    // As `go build -o` and package managers do: another file under the same name.
    fs::remove_file(&file).unwrap();
    fs::write(&file, b"not a program any more").unwrap();
    let running = Running::attach(target.pid(), &[]);
    assert!(running.said.contains("is not what the process runs"), "{}", running.said);
    target.say("go");
    assert_eq!(target.line(), "done");
    let document = running.report();
    let tiny = document["sites"].as_array().unwrap().iter().find(|site| site["function"] == "main.(*worker).tiny");
    assert_eq!(tiny.unwrap()["counted"]["objects"], 30_011);
}

#[test]
fn a_target_that_exits_during_attach_gives_a_report_of_what_was_seen() {
    if !can_attach("a_target_that_exits_during_attach_gives_a_report_of_what_was_seen") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let running = Running::attach(target.pid(), &[]);
    target.say("go");
    assert_eq!(target.line(), "done");
    target.kill();
    let (status, document) = running.finish();
    assert_eq!(status, 0);
    assert_eq!(document["process"]["ended"], true);
    let tiny = document["sites"].as_array().unwrap().iter().find(|site| site["function"] == "main.(*worker).tiny");
    assert_eq!(tiny.unwrap()["counted"]["objects"], 30_011);
}

#[test]
fn a_target_that_execs_during_attach_is_over() {
    if !can_attach("a_target_that_execs_during_attach_is_over") {
        return;
    }
    let program = go::build("misc/execself", "go1.26.6", &[]);
    for command in ["self", "sleep"] {
        let mut target = Target::start(&program, &[]);
        let running = Running::attach(target.pid(), &[]);
        target.say(command);
        let (status, document) = running.finish();
        assert_eq!(status, 0, "{command}");
        assert_eq!(document["process"]["ended"], true, "{command}");
        assert!(target.is_running(), "{command}: the new program lives on");
    }
}

#[test]
fn two_leaklines_on_one_target_are_both_right() {
    if !can_attach("two_leaklines_on_one_target_are_both_right") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let first = Running::attach(target.pid(), &[]);
    let second = Running::attach(target.pid(), &[]);
    assert!(!first.said.contains("another leakline"), "{}", first.said);
    assert!(second.said.contains("another leakline"), "{}", second.said);
    target.say("go");
    assert_eq!(target.line(), "done");
    for running in [first, second] {
        let document = running.report();
        let tiny = document["sites"].as_array().unwrap().iter().find(|site| site["function"] == "main.(*worker).tiny");
        assert_eq!(tiny.unwrap()["counted"]["objects"], 30_011);
    }
}

#[test]
fn leakline_leaves_when_nobody_reads_its_reports_any_more() {
    if !can_attach("leakline_leaves_when_nobody_reads_its_reports_any_more") {
        return;
    }
    let target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let mut running = Running::attach(target.pid(), &["--interval", "50ms"]);
    let mut first = String::new();
    let mut stdout = BufReader::new(running.take_stdout());
    stdout.read_line(&mut first).unwrap();
    assert!(first.contains("\"final\":false"), "{first}");
    drop(stdout);
    // It was asked to watch for ten minutes, which the test would not wait for.
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_closed_stderr_does_not_cost_the_report() {
    if !can_attach("a_closed_stderr_does_not_cost_the_report") {
        return;
    }
    let target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_leakline"))
        .args(["attach", "--pid", &target.pid().to_string(), "--evidence", "exact", "--duration", "300ms"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("allocated"));
}

#[test]
fn names_of_targets_cannot_command_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sl\u{1b}[31mred\nINFO forged");
    fs::copy("/bin/sleep", &file).unwrap();
    let mut child = Command::new(&file).arg("60").spawn().unwrap();
    let (status, message) = attach(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status, 4, "{message}");
    assert!(!message.contains('\u{1b}') && message.trim_end().lines().count() == 1, "{message:?}");
}

#[test]
fn a_pipe_that_closes_early_is_no_failure() {
    let child = Command::new(env!("CARGO_BIN_EXE_leakline"))
        .args(["doctor"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = child;
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn plan_shows_every_point_with_its_instruction() {
    let program = knownsites("go1.27.3", &["-ldflags=-s -w"]);
    let output = leakline(&["plan", program.to_str().unwrap(), "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let functions = document["plan"]["functions"].as_array().unwrap();
    let of = |purpose: &str| functions.iter().filter(|function| function["purpose"] == purpose).count();
    assert_eq!(
        (of("allocation"), of("goroutine_created"), of("goroutine_returned"), of("goroutine_exited")),
        (1, 1, 1, 1)
    );
    assert!(of("specialised_allocation") >= 10, "{functions:?}");
    for function in functions {
        let instruction = function["instruction"].as_str().unwrap();
        assert!(["push rbp", "call ", "j"].iter().any(|known| instruction.starts_with(known)), "{instruction}");
    }
}
