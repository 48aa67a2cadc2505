//! The memory statement of programs that take memory in a known way (`tests/programs/memory`).

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use object::{Object as _, ObjectSymbol as _};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tracer_daemon::addr::Avma;
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::read::heap_pages::heap_pages;
use tracer_daemon::read::memory::TargetMemory as _;
use tracer_daemon::read::system::System;

use crate::go::Build;
use crate::leakline::{failure, leakline, unbroken_text};
use crate::schema::is_valid;
use crate::target::Target;

const MIB: i64 = 1 << 20;
/// Without symbol table and DWARF.
const STRIPPED: &str = "-ldflags=-s -w";

fn program(toolchain: &str, flags: &[&str], cgo: bool) -> PathBuf {
    let environment = [("CGO_ENABLED", if cgo { "1" } else { "0" })];
    Build { program: "memory", toolchain, flags, environment: &environment }.path()
}

/// What the statement says: bytes by line.
#[derive(Debug)]
struct Statement {
    rss: i64,
    unexplained: i64,
    lines: BTreeMap<String, i64>,
    diagnoses: Vec<String>,
    document: Value,
}

impl Statement {
    fn line(&self, name: &str) -> i64 {
        self.lines[name]
    }

    fn heap(&self, name: &str) -> u64 {
        self.document["memory"]["heap"][name].as_u64().unwrap()
    }

    fn has(&self, diagnosis: &str) -> bool {
        self.diagnoses.iter().any(|id| id == diagnosis)
    }
}

#[track_caller]
fn look(pid: u32) -> Statement {
    let output = leakline(&["memory", "--pid", &pid.to_string(), "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    is_valid(&document, include_str!("../../../docs/schema/memory.schema.json"));
    let memory = &document["memory"];
    assert!(
        memory["refused"]
            .as_array()
            .unwrap()
            .iter()
            .all(|refused| refused["id"].as_str().unwrap().starts_with("cgroup"))
    );
    let lines = memory["lines"].as_array().unwrap();
    let statement = Statement {
        rss: memory["rss_bytes"].as_i64().unwrap(),
        unexplained: memory["unexplained_bytes"].as_i64().unwrap(),
        lines: lines
            .iter()
            .map(|line| (line["name"].as_str().unwrap().to_owned(), line["bytes"].as_i64().unwrap()))
            .collect(),
        diagnoses: memory["diagnoses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|diagnosis| diagnosis["id"].as_str().unwrap().to_owned())
            .collect(),
        document,
    };
    let names = ["live_heap", "garbage", "fragmentation", "idle", "stacks", "runtime_metadata", "file", "native"];
    assert!(names.iter().all(|name| statement.lines.contains_key(*name)), "{statement:#?}");
    assert_eq!(statement.lines.values().sum::<i64>() + statement.unexplained, statement.rss, "{statement:#?}");
    assert!(statement.unexplained.abs() * 100 < statement.rss * 3, "{statement:#?}");
    // Both of the kernel: of its tables of pages, and counted on the way, which may be some pages behind for each thread.
    let counted = procfs::process::Process::new(i32::try_from(pid).unwrap()).unwrap().status().unwrap().vmrss.unwrap();
    let counted = i64::try_from(counted << 10).unwrap();
    assert!((statement.rss - counted).abs() < 4 * MIB, "{} and {counted}", statement.rss);
    statement
}

/// `runtime.MemStats`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MemStats {
    heap_sys: u64,
    heap_inuse: u64,
    heap_idle: u64,
    heap_alloc: u64,
    stack_inuse: u64,
    #[serde(rename = "NextGC")]
    next_gc: u64,
}

/// The way, the line that must take nearly all, how much that is at least and at most, and what must be said about it.
struct Expected {
    way: &'static str,
    line: &'static str,
    mebibytes: std::ops::Range<i64>,
    diagnosis: Option<&'static str>,
}

const fn expected(
    way: &'static str,
    line: &'static str,
    mebibytes: std::ops::Range<i64>,
    diagnosis: Option<&'static str>,
) -> Expected {
    Expected { way, line, mebibytes, diagnosis }
}

const WAYS: [Expected; 8] = [
    expected("live", "live_heap", 126..137, None),
    expected("garbage", "garbage", 125..140, Some("garbage_heavy")),
    expected("fragmented", "fragmentation", 108..116, Some("fragmented")),
    // The runtime gives back what is idle, with 1 % of its time.
    expected("idle", "idle", 90..134, Some("idle_kept")),
    expected("stacks", "stacks", 88..140, Some("stacks_large")),
    expected("mapped", "native", 126..130, Some("mapped_memory")),
    expected("untouched", "live_heap", 15..20, Some("untouched")),
    expected("file", "file", 128..134, Some("rss_beyond_heap")),
];

fn known_memory_is_in_its_line(toolchain: &str, flags: &[&str]) {
    let program = program(toolchain, flags, false);
    let file = file_of_128_mebibytes();
    for expected in &WAYS {
        let mut target = Target::start(&program, &[expected.way, file.path().to_str().unwrap()]);
        let statement = look(target.pid());
        let found = statement.line(expected.line);
        let range = expected.mebibytes.start * MIB..expected.mebibytes.end * MIB;
        assert!(range.contains(&found), "{toolchain} {}: {statement:#?}", expected.way);
        if let Some(diagnosis) = expected.diagnosis {
            assert!(statement.has(diagnosis), "{toolchain} {}: {statement:#?}", expected.way);
        }
        // Nobody has native memory in a program without C code that maps none, but for a rest that we cannot tell.
        if expected.line != "native" {
            assert!(statement.line("native") < MIB / 2, "{toolchain} {}: {statement:#?}", expected.way);
        }
        let told = stats(&mut target, "stats");
        // Asking allocates a little.
        assert!(near(statement.heap("sys_bytes"), told.heap_sys, 4 << 20), "{told:?} {statement:#?}");
        assert!(near(statement.heap("in_use_bytes"), told.heap_inuse, 1 << 20), "{told:?} {statement:#?}");
        assert!(near(statement.heap("idle_bytes"), told.heap_idle, 4 << 20), "{told:?} {statement:#?}");
        assert!(near(statement.heap("allocated_bytes"), told.heap_alloc, 1 << 20), "{told:?} {statement:#?}");
        assert!(near(statement.heap("stacks_bytes"), told.stack_inuse, 1 << 20), "{told:?} {statement:#?}");
        assert_eq!(statement.heap("goal_bytes"), told.next_gc, "{toolchain} {}", expected.way);
    }
}

fn near(a: u64, b: u64, slack: u64) -> bool {
    a.abs_diff(b) <= slack
}

fn stats(target: &mut Target, line: &str) -> MemStats {
    target.say(line);
    serde_json::from_str(&target.line()).unwrap()
}

fn file_of_128_mebibytes() -> tempfile::NamedTempFile {
    // Not in memory only: pages of such files count as shared memory.
    let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mebibyte = vec![7; 1 << 20];
    for _ in 0..128 {
        file.write_all(&mebibyte).unwrap();
    }
    file.flush().unwrap();
    file
}

macro_rules! known_memory {
    ($($name:ident: $toolchain:literal $flags:expr;)*) => {$(
        #[test]
        fn $name() {
            known_memory_is_in_its_line($toolchain, &$flags);
        }
    )*};
}

known_memory! {
    known_memory_of_go1_19_is_in_its_line: "go1.19.13" [];
    known_memory_of_go1_20_is_in_its_line: "go1.20.14" [STRIPPED];
    known_memory_of_go1_21_is_in_its_line: "go1.21.13" [];
    known_memory_of_go1_22_is_in_its_line: "go1.22.12" [STRIPPED];
    known_memory_of_go1_23_is_in_its_line: "go1.23.12" ["-buildmode=pie"];
    known_memory_of_go1_24_is_in_its_line: "go1.24.11" [];
    known_memory_of_go1_25_is_in_its_line: "go1.25.5" ["-buildmode=pie", STRIPPED];
    known_memory_of_go1_26_is_in_its_line: "go1.26.6" [STRIPPED];
    known_memory_of_go1_27_is_in_its_line: "go1.27.3" ["-buildmode=pie", STRIPPED];
}

/// The list of all chunks, by the program's symbol table: which no stripped program has.
fn chunks_of_the_list(program: &Path, subject: &Subject) -> Vec<u64> {
    let bytes = std::fs::read(program).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let head = file.symbols().find(|symbol| symbol.name() == Ok("runtime.persistentChunks")).unwrap();
    let word = |at: u64| {
        let mut word = [0; 8];
        subject.memory.read(Avma(at), &mut word).unwrap();
        u64::from_le_bytes(word)
    };
    let older = |chunk: u64| Some(word(chunk)).filter(|older| *older != 0);
    std::iter::successors(older(head.address()), |chunk| older(*chunk)).collect()
}

fn chunks_are_those_of_the_runtimes_list(toolchain: &str) {
    let program = program(toolchain, &[], false);
    let mut command = std::process::Command::new(&program);
    // Many structures, on more processors than there are.
    command.env("GOMAXPROCS", "16").arg("fragmented");
    let target = Target::spawn(command);
    let subject = Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap();
    let system = System::default();
    let mappings = system.mappings(target.pid()).unwrap();
    let pages = system.pages(target.pid()).unwrap();
    let found = heap_pages(&subject.runtime(), &subject.memory, &mappings, &pages).unwrap().chunks;
    let mut expected = chunks_of_the_list(&program, &subject);
    expected.sort_unstable();
    assert!(expected.len() > 8, "{toolchain}: {expected:x?}");
    assert_eq!(found.iter().map(|(start, _)| start.0).collect::<Vec<_>>(), expected, "{toolchain}");
    assert!(found.iter().all(|(start, end)| end.0 - start.0 == 256 << 10));
}

#[test]
fn chunks_of_the_runtime_are_found_without_the_list_of_them() {
    let toolchains = ["go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5"];
    for toolchain in toolchains.into_iter().chain(["go1.26.6", "go1.27.3"]) {
        chunks_are_those_of_the_runtimes_list(toolchain);
    }
}

#[test]
fn memory_of_c_is_a_line_of_its_own_and_its_growth_is_seen() {
    for (toolchain, flags) in [("go1.19.13", &[][..]), ("go1.25.5", &[STRIPPED]), ("go1.27.3", &["-buildmode=pie"])] {
        let mut target = Target::start(&program(toolchain, flags, true), &["native"]);
        let before = look(target.pid());
        assert!((128 * MIB..132 * MIB).contains(&before.line("native")), "{toolchain}: {before:#?}");
        assert!(before.has("native_memory"), "{before:#?}");
        stats(&mut target, "grow");
        let behind = look(target.pid());
        let grown = behind.line("native") - before.line("native");
        assert!((grown - 16 * MIB).abs() < MIB, "{toolchain}: {grown}");
        let go = |statement: &Statement| statement.line("live_heap") + statement.line("garbage");
        assert!(go(&behind) < MIB && go(&before) < MIB, "{behind:#?}");
    }
}

#[test]
fn what_was_given_back_lazily_is_idle_and_said_to_mislead() {
    // The variable is for the program alone: a test must not change its own environment while others run.
    let program = program("go1.27.3", &[], false);
    for toolchain_default in [false, true] {
        let mut command = std::process::Command::new("env");
        if !toolchain_default {
            command.arg("GODEBUG=madvdontneed=0");
        }
        command.arg(&program).arg("madvfree");
        let target = Target::spawn(command);
        let statement = look(target.pid());
        let lazy = statement.document["memory"]["misleading"]["lazy_free_bytes"].as_i64().unwrap();
        assert_eq!(statement.has("released_lazily"), !toolchain_default, "{statement:#?}");
        if toolchain_default {
            assert_eq!(lazy, 0);
            assert!(statement.line("idle") < 8 * MIB, "{statement:#?}");
        } else {
            assert!(lazy > 120 * MIB && statement.line("idle") > 120 * MIB, "{statement:#?}");
        }
    }
}

#[test]
fn a_stopped_process_is_read_as_any_other() {
    let target = Target::start(&program("go1.22.12", &[STRIPPED], false), &["live"]);
    let pid = Pid::from_raw(i32::try_from(target.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let statement = look(target.pid());
    assert!(statement.line("live_heap") > 120 * MIB, "{statement:#?}");
    assert_eq!(statement.unexplained, 0, "nothing changes in a stopped process");
    kill_process(pid, Signal::CONT).unwrap();
}

#[test]
fn text_names_every_line_and_what_takes_the_most() {
    let target = Target::start(&program("go1.27.3", &["-buildmode=pie", STRIPPED], false), &["mapped"]);
    let text = unbroken_text(&["memory", "--pid", &target.pid().to_string()]);
    let (head, _) = text.split_once(". ").unwrap();
    assert!(head.contains("in memory; the most of it"), "{text}");
    for word in ["live_heap", "native", "unexplained", "resident", "(mapped_memory)", "HeapSys", "GOGC 100"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn a_target_that_is_none_has_its_exit_status() {
    let mut target = Target::start(&program("go1.22.12", &[STRIPPED], false), &["live"]);
    let pid = target.pid().to_string();
    target.kill();
    let (code, said) = failure(&["memory", "--pid", &pid]);
    assert_eq!(code, 4, "{said}");
    let (code, said) = failure(&["memory", "--pid", &std::process::id().to_string()]);
    assert_eq!(code, 4, "not a Go program: {said}");
    let (code, _) = failure(&["memory"]);
    assert_eq!(code, 2);
}

#[test]
fn who_may_not_read_the_process_is_told_what_is_missing() {
    if !rustix::process::getuid().is_root() {
        println!(
            "SKIPPED: who_may_not_read_the_process_is_told_what_is_missing: uid {:?} cannot become another",
            rustix::process::getuid()
        );
        return;
    }
    let target = Target::start(&program("go1.22.12", &[STRIPPED], false), &["live"]);
    let copy = tempfile::tempdir().unwrap();
    let own = copy.path().join("leakline");
    std::fs::copy(env!("CARGO_BIN_EXE_leakline"), &own).unwrap();
    open_to_all(copy.path());
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&own)
        .args(["memory", "--pid", &target.pid().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("CAP_SYS_PTRACE") || said.contains("not allowed"), "{said}");
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
