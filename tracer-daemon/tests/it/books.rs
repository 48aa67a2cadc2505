//! The books that are read from outside are those that the program itself reports.

use std::collections::BTreeMap;

use serde::Deserialize;
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::read::books::{Books, BooksReader, ClassCount};
use tracer_daemon::read::recording::RecordingMemory;
use tracer_daemon::read::{Discard, ReadError, memory::ProcessMemory};

use crate::go::build;
use crate::target::{Target, wait_until};

/// `runtime.MemStats`, and what runtime/metrics says of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statistics {
    mallocs: u64,
    frees: u64,
    total_alloc: u64,
    heap_alloc: u64,
    heap_objects: u64,
    heap_inuse: u64,
    heap_idle: u64,
    heap_released: u64,
    heap_sys: u64,
    stack_inuse: u64,
    sys: u64,
    stack_sys: u64,
    #[serde(rename = "MSpanInuse")]
    span_inuse: u64,
    #[serde(rename = "MSpanSys")]
    span_sys: u64,
    #[serde(rename = "MCacheInuse")]
    cache_inuse: u64,
    #[serde(rename = "MCacheSys")]
    cache_sys: u64,
    buck_hash_sys: u64,
    #[serde(rename = "GCSys")]
    gc_sys: u64,
    other_sys: u64,
    #[serde(rename = "NextGC")]
    next_gc: u64,
    #[serde(rename = "LastGC")]
    last_gc: u64,
    pause_total_ns: u64,
    #[serde(rename = "NumGC")]
    num_gc: u32,
    #[serde(rename = "NumForcedGC")]
    num_forced_gc: u32,
    num_goroutine: u64,
    #[serde(rename = "GCCPUFraction")]
    gc_cpu_fraction: f64,
    pause_ns: Vec<u64>,
    pause_end: Vec<u64>,
    by_size: Vec<(u64, u64, u64)>,
    metrics: BTreeMap<String, u64>,
    histograms: BTreeMap<String, Vec<u64>>,
}

const BUILDS: [&[&str]; 3] = [&[], &["-ldflags=-s -w"], &["-buildmode=pie", "-ldflags=-s -w"]];

fn subject(target: &Target) -> Subject {
    Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap()
}

fn said(target: &mut Target, line: &str) -> String {
    target.say(line);
    target.line()
}

/// What the program says after some work, and the books at a time when nothing changed: it says the same before and behind. Now
/// and then its runtime starts a thread, gives memory back or sweeps on.
fn at_rest(target: &mut Target, reader: &mut BooksReader, subject: &Subject) -> (Statistics, Books) {
    let mut before = said(target, "stats");
    for _ in 0..100 {
        let books = reader.read(&subject.memory).unwrap();
        let behind = said(target, "again");
        if before == behind {
            return (serde_json::from_str(&before).unwrap(), books);
        }
        before = behind;
    }
    panic!("the program is never at rest");
}

fn books_equal_those_of_the_program(toolchain: &str) {
    for flags in BUILDS {
        let mut target = Target::start(&build("books", toolchain, flags), &[]);
        let subject = subject(&target);
        let mut reader = BooksReader::new(&subject.runtime()).unwrap();
        for round in 0..12 {
            let (expected, books) = at_rest(&mut target, &mut reader, &subject);
            let wrong = differences(&books, &expected);
            assert!(wrong.is_empty(), "{toolchain} {flags:?}, round {round}:\n{}", wrong.join("\n"));
        }
    }
}

fn differences(books: &Books, expected: &Statistics) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, got: u64, expected: u64| {
        if got != expected {
            wrong.push(format!("{what}: {got}, expected {expected}"));
        }
    };
    let structures = books.structures.as_ref().unwrap();
    for (what, got, expected) in [
        ("Mallocs", books.allocs(), expected.mallocs),
        ("Frees", books.frees(), expected.frees),
        ("TotalAlloc", books.alloc_bytes(), expected.total_alloc),
        ("HeapAlloc", books.heap_alloc_bytes(), expected.heap_alloc),
        ("HeapObjects", books.heap_objects(), expected.heap_objects),
        ("HeapInuse", books.heap_in_use_bytes, expected.heap_inuse),
        ("HeapIdle", books.heap_idle_bytes(), expected.heap_idle),
        ("HeapReleased", books.heap_released_bytes, expected.heap_released),
        ("HeapSys", books.heap_sys_bytes(), expected.heap_sys),
        ("StackInuse", books.stacks_bytes, expected.stack_inuse),
        ("StackSys", books.stack_sys_bytes(), expected.stack_sys),
        ("Sys", books.sys_bytes(), expected.sys),
        ("MSpanInuse", structures.spans_in_use_bytes, expected.span_inuse),
        ("MSpanSys", books.system.spans, expected.span_sys),
        ("MCacheInuse", structures.caches_in_use_bytes, expected.cache_inuse),
        ("MCacheSys", books.system.caches, expected.cache_sys),
        ("BuckHashSys", books.system.profile_buckets, expected.buck_hash_sys),
        ("GCSys", books.gc_sys_bytes(), expected.gc_sys),
        ("OtherSys", books.system.other, expected.other_sys),
        ("NextGC", books.next_gc_bytes().unwrap(), expected.next_gc),
        ("LastGC", books.last_end_unix_ns, expected.last_gc),
        ("PauseTotalNs", books.pause_total_ns, expected.pause_total_ns),
        ("NumGC", books.collections.into(), expected.num_gc.into()),
        ("NumForcedGC", books.forced_collections.into(), expected.num_forced_gc.into()),
        ("NumGoroutine", books.goroutines.clone().unwrap(), expected.num_goroutine),
        ("GCCPUFraction", books.gc_cpu_fraction.to_bits(), expected.gc_cpu_fraction.to_bits()),
        ("slack", books.slack(), 0),
        ("slack in bytes", books.slack_bytes(), 0),
    ] {
        check(what, got, expected);
    }
    for ((pause, duration), end) in books.pauses.iter().zip(&expected.pause_ns).zip(&expected.pause_end) {
        check("PauseNs", pause.duration_ns, *duration);
        check("PauseEnd", pause.end_unix_ns, *end);
    }
    check("pauses", books.pauses.len() as u64, expected.pause_ns.len() as u64);
    // MemStats says no more than 61 of them, the first of which is empty.
    for (class, (size, mallocs, frees)) in books.classes.iter().zip(expected.by_size.iter().skip(1)) {
        check("size of a class", class.size_bytes, *size);
        check(&format!("mallocs of {size}"), class.allocs, *mallocs);
        check(&format!("frees of {size}"), class.frees, *frees);
    }

    wrong.extend(differences_of_metrics(books, expected));
    wrong
}

/// The same of runtime/metrics, as far as this version of Go has them.
fn differences_of_metrics(books: &Books, expected: &Statistics) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, got: u64, expected: u64| {
        if got != expected {
            wrong.push(format!("{what}: {got}, expected {expected}"));
        }
    };
    let pacer = books.pacer.as_ref().unwrap();
    let structures = books.structures.as_ref().unwrap();
    let percent = pacer.gc_percent.map_or(u64::MAX, u64::from);
    let limit = pacer.memory_limit_bytes.unwrap_or(i64::MAX.cast_unsigned());
    let metadata = &books.system;
    let known = [
        ("/gc/cycles/total:gc-cycles", books.collections.into()),
        ("/gc/cycles/forced:gc-cycles", books.forced_collections.into()),
        ("/gc/heap/allocs:objects", books.allocs() - books.tiny_allocs),
        ("/gc/heap/frees:objects", books.frees() - books.tiny_allocs),
        ("/gc/heap/tiny/allocs:objects", books.tiny_allocs),
        ("/gc/heap/allocs:bytes", books.alloc_bytes()),
        ("/gc/heap/frees:bytes", books.free_bytes()),
        ("/gc/heap/objects:objects", books.heap_objects()),
        ("/gc/heap/goal:bytes", pacer.goal_bytes),
        ("/gc/heap/live:bytes", pacer.heap_marked_bytes),
        ("/gc/gogc:percent", percent),
        ("/gc/gomemlimit:bytes", limit),
        ("/memory/classes/heap/objects:bytes", books.heap_alloc_bytes()),
        ("/memory/classes/heap/unused:bytes", books.heap_in_use_bytes - books.heap_alloc_bytes()),
        ("/memory/classes/heap/stacks:bytes", books.stacks_bytes),
        ("/memory/classes/heap/free:bytes", books.heap_free_bytes),
        ("/memory/classes/heap/released:bytes", books.heap_released_bytes),
        ("/memory/classes/metadata/mcache/inuse:bytes", structures.caches_in_use_bytes),
        ("/memory/classes/metadata/mcache/free:bytes", metadata.caches - structures.caches_in_use_bytes),
        ("/memory/classes/metadata/mspan/inuse:bytes", structures.spans_in_use_bytes),
        ("/memory/classes/metadata/mspan/free:bytes", metadata.spans - structures.spans_in_use_bytes),
        ("/memory/classes/metadata/other:bytes", books.gc_sys_bytes()),
        ("/memory/classes/os-stacks:bytes", metadata.stacks),
        ("/memory/classes/other:bytes", metadata.other),
        ("/memory/classes/profiling/buckets:bytes", metadata.profile_buckets),
        ("/memory/classes/total:bytes", books.sys_bytes()),
        ("/sched/gomaxprocs:threads", books.processors.into()),
        ("/sched/threads/total:threads", books.threads.clone().unwrap()),
    ];
    let mut compared = 0;
    for (name, got) in known {
        if let Some(expected) = expected.metrics.get(name) {
            check(name, got, *expected);
            compared += 1;
        }
    }
    assert!(compared >= 23, "only {compared} metrics were compared");
    for (name, of_class, large) in [
        ("/gc/heap/allocs-by-size:bytes", (|class| class.allocs) as fn(&ClassCount) -> u64, books.large_allocs),
        ("/gc/heap/frees-by-size:bytes", |class| class.frees, books.large_frees),
    ] {
        let got: Vec<u64> = books.classes.iter().map(of_class).chain([large]).collect();
        let expected = &expected.histograms[name];
        check(name, got.len() as u64, expected.len() as u64);
        for (got, expected) in got.iter().zip(expected) {
            check(name, *got, *expected);
        }
    }
    wrong
}

/// Lower and upper bounds of counts that grow, each by name.
fn counts(statistics: &Statistics) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = [
        ("Mallocs", statistics.mallocs),
        ("Frees", statistics.frees),
        ("TotalAlloc", statistics.total_alloc),
        ("PauseTotalNs", statistics.pause_total_ns),
        ("LastGC", statistics.last_gc),
        ("NumGC", statistics.num_gc.into()),
        ("NumForcedGC", statistics.num_forced_gc.into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    for (size, mallocs, frees) in statistics.by_size.iter().skip(1) {
        counts.push((format!("mallocs of {size}"), *mallocs));
        counts.push((format!("frees of {size}"), *frees));
    }
    counts
}

/// The same as read, and its slack, in the same order.
fn counts_of(books: &Books) -> Vec<(u64, u64)> {
    let mut counts = vec![
        (books.allocs(), books.slack()),
        // Tiny objects count as freed when they are allocated.
        (books.frees(), books.tiny_slack),
        (books.alloc_bytes(), books.slack_bytes()),
        (books.pause_total_ns, 0),
        (books.last_end_unix_ns, 0),
        (books.collections.into(), 0),
        (books.forced_collections.into(), 0),
    ];
    for class in books.classes.iter().take(60) {
        counts.push((class.allocs, class.slack));
        counts.push((class.frees, 0));
    }
    counts
}

/// What was seen of one program under load.
#[derive(Debug, Default)]
struct Seen {
    reads: usize,
    /// Reads whose counts are all exact.
    exact: usize,
    slack_max: u64,
}

fn counts_lie_between_those_before_and_behind(toolchain: &str) {
    let mut target = Target::start(&build("books", toolchain, &["-ldflags=-s -w"]), &["busy"]);
    let subject = subject(&target);
    let mut reader = BooksReader::new(&subject.runtime()).unwrap();
    let mut seen = Seen::default();
    let statistics = |target: &mut Target| serde_json::from_str::<Statistics>(&said(target, "stats")).unwrap();
    let mut before = statistics(&mut target);
    for round in 0..60 {
        let mut all = Vec::new();
        for _ in 0..5 {
            match reader.read(&subject.memory) {
                Ok(books) => all.push(books),
                // GOMAXPROCS changes all the time here.
                Err(ReadError::Unsettled { .. }) => {}
                Err(error) => panic!("{toolchain}, round {round}: {error}"),
            }
        }
        let behind = statistics(&mut target);
        for books in &all {
            let bounds = counts(&before).into_iter().zip(counts(&behind));
            for (((name, least), (_, most)), (value, slack)) in bounds.zip(counts_of(books)) {
                assert!(
                    least <= value + slack && value <= most,
                    "{toolchain}, round {round}: {name} is {least} before and {most} behind, and {value} + {slack} was read"
                );
            }
            for class in &books.classes {
                assert!(class.frees <= class.allocs, "{toolchain}: {class:?}");
            }
            seen.reads += 1;
            seen.exact += usize::from(books.slack() == 0);
            seen.slack_max = seen.slack_max.max(books.slack());
        }
        before = behind;
    }
    let discards: Vec<_> = reader.discards().iter().map(|(why, count)| (why.id(), count)).collect();
    println!("{toolchain}: {seen:?}, discarded {discards:?}");
    assert!(seen.reads > 250 && seen.exact > 150, "{toolchain}: {seen:?}, discarded {discards:?}");
    assert_eq!(reader.discards().iter().find(|(why, _)| *why == Discard::CountFell), None, "{toolchain}");
}

macro_rules! for_each_version {
    ($law:ident: $($name:ident: $toolchain:literal;)*) => {$(
        #[test]
        fn $name() {
            $law($toolchain);
        }
    )*};
}

for_each_version! {
    books_equal_those_of_the_program:
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

for_each_version! {
    counts_lie_between_those_before_and_behind:
    books_under_load_of_go1_19: "go1.19.13";
    books_under_load_of_go1_20: "go1.20.14";
    books_under_load_of_go1_21: "go1.21.13";
    books_under_load_of_go1_22: "go1.22.12";
    books_under_load_of_go1_23: "go1.23.12";
    books_under_load_of_go1_24: "go1.24.11";
    books_under_load_of_go1_25: "go1.25.5";
    books_under_load_of_go1_26: "go1.26.6";
    books_under_load_of_go1_27: "go1.27.3";
}

/// What was decoded once is decoded again without the process, and as well through the file that serves where the system
/// call is forbidden.
#[test]
fn a_recording_and_the_file_give_the_same_books() {
    let mut target = Target::start(&build("books", "go1.26.6", &["-ldflags=-s -w"]), &[]);
    let subject = subject(&target);
    said(&mut target, "stats");
    let reader = || BooksReader::new(&subject.runtime()).unwrap();
    let file = ProcessMemory::of_file(target.pid()).unwrap();
    // Until nothing has changed meanwhile: the runtime starts a thread now and then.
    let mut seen = None;
    wait_until("the program is at rest", || {
        let books = reader().read(&subject.memory).unwrap();
        let of_file = reader().read(&file).unwrap();
        let recording = RecordingMemory::new(ProcessMemory::new(target.pid()));
        let recorded_books = reader().read(&recording).unwrap();
        let is_at_rest = reader().read(&subject.memory).unwrap() == books;
        seen = is_at_rest.then(|| (books, of_file, recorded_books, recording.into_recorded()));
        is_at_rest
    });
    let (books, of_file, recorded_books, recorded) = seen.unwrap();
    assert_eq!(of_file, books);
    assert_eq!(recorded_books, books);
    target.kill();
    assert_eq!(reader().read(&recorded).unwrap(), books);
    assert_eq!(recorded.rest(), 0);

    let error = reader().read(&subject.memory).unwrap_err();
    assert_eq!(error.id(), "process_gone");
}
