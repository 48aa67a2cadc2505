//! Many binaries at once: the facts cache, `leakline plan` for folders and running processes, and programs without build info.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    sync::{Arc, Barrier},
    thread,
};

use serde_json::Value;
use tracer_daemon::inspect::{BinaryFacts, InspectError, VersionSource, cache::FactsCache, inspect_source};

use crate::{exact::knownsites, go::build, leakline::leakline, target::Target};

const PROGRAM: &str = "callersframes";

/// Overwrites every place of a text by another one of the same length; says how many there were.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) -> usize {
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> =
        bytes.windows(old.len()).enumerate().filter(|(_, window)| *window == old).map(|(at, _)| at).collect();
    for at in &places {
        bytes[*at..at + old.len()].copy_from_slice(new);
    }
    places.len()
}

/// The program as if its build info had been removed.
fn without_build_info(toolchain: &str, flags: &[&str]) -> Vec<u8> {
    let mut bytes = fs::read(build(PROGRAM, toolchain, flags)).unwrap();
    assert!(replace(&mut bytes, b"\xff Go buildinf:", b"removed by us!") > 0);
    assert!(replace(&mut bytes, b".go.buildinfo\0", b".removed_by_us") > 0);
    bytes
}

fn inspected(bytes: Vec<u8>) -> Result<BinaryFacts, InspectError> {
    inspect_source(Box::new(bytes))
}

#[test]
fn a_program_without_build_info_tells_its_version_through_the_runtimes_variable() {
    let builds: [(&str, &[&str]); 12] = [
        ("go1.19.13", &[]),
        ("go1.20.14", &["-ldflags=-s -w"]),
        ("go1.21.13", &["-ldflags=-s -w"]),
        ("go1.22.12", &[]),
        ("go1.22.12", &["-buildmode=pie", "-ldflags=-s -w"]),
        ("go1.23.12", &["-ldflags=-s -w"]),
        ("go1.24.11", &[]),
        ("go1.25.5", &["-buildmode=pie"]),
        ("go1.25.5", &["-gcflags=all=-N -l"]),
        ("go1.26.6", &["-ldflags=-s -w"]),
        ("go1.27.3", &[]),
        ("go1.27.3", &["-buildmode=pie", "-ldflags=-s -w"]),
    ];
    for (toolchain, flags) in builds {
        let facts = inspected(without_build_info(toolchain, flags)).unwrap();
        assert_eq!(facts.go_version.text, toolchain, "{flags:?}");
        assert_eq!(facts.version_source, VersionSource::RuntimeVariable);
        assert_eq!((facts.main_module, facts.settings.len()), (None, 0));
        assert!(facts.functions.contains_key("runtime.mallocgc"), "{toolchain} {flags:?}");
    }
}

#[test]
fn a_variable_that_holds_no_version_is_refused() {
    let mut bytes = without_build_info("go1.26.6", &[]);
    assert!(replace(&mut bytes, b"go1.26.6", b"whatever") > 0);
    let error = inspected(bytes).unwrap_err();
    assert!(matches!(error, InspectError::UnreadableGoVersion { .. }), "{error:?}");
}

#[test]
fn a_variable_that_holds_an_unknown_version_is_refused_by_that_version() {
    let mut bytes = without_build_info("go1.26.6", &["-ldflags=-s -w"]);
    assert!(replace(&mut bytes, b"go1.26.6", b"go1.99.6") > 0);
    let error = inspected(bytes).unwrap_err();
    assert!(matches!(&error, InspectError::UnsupportedGoVersion { version, .. } if version == "go1.99.6"), "{error:?}");
}

#[test]
fn processes_of_one_binary_that_start_at_once_share_one_inspection() {
    let program = build(PROGRAM, "go1.26.6", &["-ldflags=-s -w"]);
    let (cache, start) = (FactsCache::default(), Barrier::new(8));
    let facts: Vec<Arc<BinaryFacts>> = thread::scope(|scope| {
        let inspect = || {
            let file = File::open(&program).unwrap();
            start.wait();
            cache.inspect(file).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(inspect)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(facts.iter().all(|other| Arc::ptr_eq(&facts[0], other)));
    assert_eq!((cache.counts().inspected, cache.counts().shared), (1, 7));
}

#[test]
fn a_binary_with_the_build_id_of_another_is_another_binary() {
    let program = build(PROGRAM, "go1.26.6", &["-ldflags=-s -w"]);
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::copy(&program, copy.path()).unwrap();
    let cache = FactsCache::default();
    let [one, other] = [program.as_path(), copy.path()].map(|path| cache.inspect(File::open(path).unwrap()).unwrap());
    assert_eq!(one.build_id, other.build_id);
    assert!(!Arc::ptr_eq(&one, &other));
}

#[test]
fn facts_that_nobody_wants_are_forgotten_and_those_in_use_are_not() {
    let program = build(PROGRAM, "go1.26.6", &["-ldflags=-s -w"]);
    let limits = tracer_daemon::inspect::cache::CacheLimits { idle: 2, ..Default::default() };
    let cache = FactsCache::new(limits);
    let inspect = || cache.inspect(File::open(&program).unwrap()).unwrap();
    let held = inspect();
    (0..10).for_each(|_| cache.grow_older());
    assert!(Arc::ptr_eq(&held, &inspect()));
    drop(held);
    (0..2).for_each(|_| cache.grow_older());
    inspect();
    assert_eq!(cache.counts().inspected, 1, "asked for in time");
    (0..3).for_each(|_| cache.grow_older());
    inspect();
    assert_eq!(cache.counts().inspected, 2);
}

#[test]
fn whether_gos_own_sampler_runs_is_told_by_what_is_linked() {
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let program = crate::go::Build { program: PROGRAM, toolchain, flags: &[], environment: &[] };
        let compiler = program.go_env("GOTOOLDIR").join("compile");
        let facts = tracer_daemon::inspect::inspect_file(File::open(compiler).unwrap()).unwrap();
        assert!(facts.sampler_linked(), "cmd/compile writes heap profiles (-memprofile)");
        let facts = inspected(fs::read(build(PROGRAM, toolchain, &[])).unwrap()).unwrap();
        assert!(!facts.sampler_linked());
    }
}

#[test]
fn a_folder_is_a_table_of_its_go_programs_and_the_rest_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("usr/bin");
    fs::create_dir_all(&below).unwrap();
    fs::copy(build(PROGRAM, "go1.26.6", &["-ldflags=-s -w"]), below.join("shop")).unwrap();
    fs::copy(build(PROGRAM, "go1.27.3", &[]), below.join("broker")).unwrap();
    let mut unknown = fs::read(build(PROGRAM, "go1.26.6", &["-ldflags=-s -w"])).unwrap();
    replace(&mut unknown, b"go1.26.6", b"go1.99.6");
    fs::write(below.join("unknown"), unknown).unwrap();
    fs::copy(std::env::current_exe().unwrap(), below.join("rust")).unwrap();
    fs::write(below.join("cut_short"), b"\x7fELF").unwrap();
    fs::write(below.join("script"), b"#!/bin/sh").unwrap();

    let output = leakline(&["plan", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap().replace(below.to_str().unwrap(), "DIR");
    expect_test::expect![[r"
        GO VERSION  STRIPPED  PIE  CGO  EVIDENCE              NOTES  PATH
        go1.27.3    no        no   no   books, bursts, exact         DIR/broker
        go1.26.6    yes       no   no   books, bursts, exact         DIR/shop
        go1.99.6    -         -    -    none                  1      DIR/unknown

          1  built by go1.99.6, and only go1.19 to go1.27 are supported (go_version_unsupported)

        books, profile: what the runtime knows can be read, without a probe; profile names lines
        bursts: allocations can be caught in short windows, within a budget; names lines
        exact: all allocations can be counted, by a trap on each of about 1 µs
        5 ELF files, 1 other file: 3 Go programs, 2 with bursts, 2 with exact, 1 refused
    "]]
    .assert_eq(&text);

    let output = leakline(&["plan", folder.path().to_str().unwrap(), "--output", "json", "--verbose"]);
    assert_eq!(output.status.code(), Some(0));
    let documents: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let name = |document: &Value| document["process"]["exe"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(documents.iter().map(name).collect::<Vec<_>>(), ["broker", "cut_short", "rust", "shop", "unknown"]);
    for document in &documents {
        crate::schema::is_valid(document, include_str!("../../../docs/schema/plan.schema.json"));
    }
    assert_eq!(documents[4]["process"]["go_version"], "go1.99.6");
    assert_eq!(documents[2]["plan"]["refused"][0]["id"], "not_go");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("5 ELF files, 1 other file: 3 Go programs, 2 with bursts, 2 with exact, 1 refused")
    );
}

#[test]
fn no_module_name_reaches_stdout_raw() {
    let mut bytes = fs::read(build(PROGRAM, "go1.26.6", &["-ldflags=-s -w"])).unwrap();
    let hostile = "\u{202e}\u{9b}";
    // In the build info and in the variable `runtime.modinfo`.
    let line: Vec<u8> = [b"\nmod\t", hostile.as_bytes()].concat();
    let begins: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"\nmod\t")).collect();
    for at in begins {
        bytes[at..at + line.len()].copy_from_slice(&line);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &bytes).unwrap();
    assert!(inspected(bytes).unwrap().main_module.unwrap().starts_with(hostile));
    for format in ["text", "json"] {
        let output = leakline(&["plan", file.path().to_str().unwrap(), "--output", format]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(r"u{202e}") && !text.contains(|character| hostile.contains(character)), "{text}");
    }
}

#[test]
fn processes_of_one_binary_are_one_row() {
    let program = knownsites("go1.26.6", &[]);
    let targets = [(); 3].map(|()| Target::start(&program, &[]));
    let ours: BTreeSet<u64> = targets.iter().map(|target| u64::from(target.pid())).collect();
    let output = leakline(&["plan", "--all", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let documents: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pids = |document: &Value| -> BTreeSet<u64> {
        document["process"]["pids"].as_array().unwrap().iter().map(|pid| pid.as_u64().unwrap()).collect()
    };
    let rows: Vec<&Value> = documents.iter().filter(|document| !pids(document).is_disjoint(&ours)).collect();
    let [row] = rows.as_slice() else { panic!("one row, not {}", rows.len()) };
    assert!(pids(row).is_superset(&ours));
    for document in &documents {
        crate::schema::is_valid(document, include_str!("../../../docs/schema/plan.schema.json"));
    }
}
