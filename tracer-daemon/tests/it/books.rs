//! The books that are read from outside are those that the program itself reports.

use std::fs::File;
use std::sync::Arc;

use serde::Deserialize;
use tracer_daemon::addr::LoadBias;
use tracer_daemon::inspect::inspect_file;
use tracer_daemon::read::Runtime;
use tracer_daemon::read::books::{Books, BooksReader};
use tracer_daemon::read::memory::ProcessMemory;

use crate::go::build;
use crate::target::Target;

/// `runtime.MemStats`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statistics {
    mallocs: u64,
    frees: u64,
    total_alloc: u64,
    heap_alloc: u64,
    heap_inuse: u64,
    heap_idle: u64,
    heap_released: u64,
    heap_sys: u64,
    stack_inuse: u64,
    #[serde(rename = "LastGC")]
    last_gc: u64,
    pause_total_ns: u64,
    #[serde(rename = "NumGC")]
    num_gc: u32,
    #[serde(rename = "NumForcedGC")]
    num_forced_gc: u32,
    pause_ns: Vec<u64>,
    by_size: Vec<(u64, u64, u64)>,
}

fn books_equal_those_of_the_program(toolchain: &str) {
    let program = build("books", toolchain, &["-ldflags=-s -w"]);
    let facts = inspect_file(File::open(&program).unwrap()).unwrap();
    let mut target = Target::start(&program, &[]);
    let memory = ProcessMemory::new(target.pid());
    let mut reader = BooksReader::new(Runtime::new(Arc::new(facts), LoadBias(0))).unwrap();
    for _ in 0..12 {
        target.say("");
        let expected: Statistics = serde_json::from_str(&target.line()).unwrap();
        let books = reader.read(&memory).unwrap();
        compare(toolchain, &books, &expected);
    }
}

fn compare(toolchain: &str, books: &Books, expected: &Statistics) {
    let mut wrong = Vec::new();
    let mut check = |what: &str, got: u64, expected: u64| {
        if got != expected {
            wrong.push(format!("{what}: {got}, expected {expected}"));
        }
    };
    check("Mallocs", books.allocs(), expected.mallocs);
    check("Frees", books.frees(), expected.frees);
    check("TotalAlloc", books.alloc_bytes(), expected.total_alloc);
    check("HeapAlloc", books.alloc_bytes() - books.free_bytes(), expected.heap_alloc);
    check("HeapInuse", books.heap_in_use_bytes, expected.heap_inuse);
    check("HeapIdle", books.heap_free_bytes + books.heap_released_bytes, expected.heap_idle);
    // The scavenger goes on in the background, from free to released.
    check("HeapReleased", books.heap_released_bytes.min(expected.heap_released), expected.heap_released);
    let sys = books.heap_in_use_bytes + books.heap_free_bytes + books.heap_released_bytes;
    check("HeapSys", sys, expected.heap_sys);
    check("StackInuse", books.stacks_bytes, expected.stack_inuse);
    check("LastGC", books.last_end_unix_ns, expected.last_gc);
    check("PauseTotalNs", books.pause_total_ns, expected.pause_total_ns);
    check("NumGC", books.collections.into(), expected.num_gc.into());
    check("NumForcedGC", books.forced_collections.into(), expected.num_forced_gc.into());
    for (pause, expected) in books.pauses.iter().zip(&expected.pause_ns) {
        check("PauseNs", pause.duration_ns, *expected);
    }
    check("pauses", books.pauses.len() as u64, expected.pause_ns.len() as u64);
    // MemStats says no more than 61 of them, the first of which is empty.
    for (class, (size, mallocs, frees)) in books.classes.iter().zip(expected.by_size.iter().skip(1)) {
        check("size of a class", class.size_bytes, *size);
        check(&format!("mallocs of {size}"), class.allocs, *mallocs);
        check(&format!("frees of {size}"), class.frees, *frees);
    }
    check("slack", books.slack_objects.unwrap_or(u64::MAX), 0);
    assert!(wrong.is_empty(), "{toolchain}:\n{}", wrong.join("\n"));
}

macro_rules! books_equal {
    ($($name:ident: $toolchain:literal;)*) => {$(
        #[test]
        fn $name() {
            books_equal_those_of_the_program($toolchain);
        }
    )*};
}

books_equal! {
    books_of_go1_19: "go1.19.13";
    books_of_go1_20: "go1.20.14";
    books_of_go1_21: "go1.21.13";
    books_of_go1_22: "go1.22.12";
    books_of_go1_23: "go1.23.12";
    books_of_go1_24: "go1.24.11";
    books_of_go1_25: "go1.25.5";
    books_of_go1_26: "go1.26.6";
    books_of_go1_27: "go1.27.3";
}
