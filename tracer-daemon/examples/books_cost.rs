//! What reading a process's books costs, and whether they stay true for long; prints lines of JSON.
//!
//! `books_cost cost PID READS`: thread CPU time of each read.
//! `books_cost share SECONDS PID…`: CPU time of reading all of them ten times a second.
//! `books_cost soak PID…`: reads all of them ten times a second while the last line of stdin was `on`, until it ends, and
//! checks what must hold between one read and the next.
//!
//! Counterpart: `cargo xtask bench books` and `soak-books`, which build this in release mode.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench: its output is its purpose, and the clock is what it measures with"
)]

mod own_cost;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::read::ReadError;
use tracer_daemon::read::books::{Books, BooksReader};

use self::own_cost::thread_cpu_ns;

/// Ten times a second.
const PERIOD: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let pids = |pids: &[&str]| pids.iter().map(|pid| Ok(pid.parse()?)).collect::<Result<Vec<u32>>>();
    match arguments.as_slice() {
        ["cost", pid, reads] => cost(pid.parse()?, reads.parse()?),
        ["share", seconds, rest @ ..] => share(seconds.parse()?, &pids(rest)?),
        ["soak", rest @ ..] => soak(&pids(rest)?),
        _ => bail!("usage: books_cost cost PID READS | share SECONDS PID… | soak PID…"),
    }
}

struct Watched {
    subject: Subject,
    reader: BooksReader,
}

fn watched(pid: u32, cache: &FactsCache) -> Result<Watched> {
    let subject = Subject::open(&target_by_pid(pid)?, cache)?;
    let reader = BooksReader::new(&subject.runtime())?;
    Ok(Watched { subject, reader })
}

fn cost(pid: u32, reads: usize) -> Result<()> {
    let Watched { subject, mut reader } = watched(pid, &FactsCache::default())?;
    let mut cpu_ns = Vec::with_capacity(reads);
    let (mut spans, mut slacks) = (Vec::with_capacity(reads), Vec::with_capacity(reads));
    let (mut processors, mut refused) = (0, 0_u64);
    for _ in 0..reads {
        // A reader that comes back after a while finds its own memory out of the caches, as it will be.
        thread::sleep(Duration::from_millis(1));
        let before = thread_cpu_ns();
        let outcome = reader.read(&subject.memory);
        cpu_ns.push(thread_cpu_ns() - before);
        let books = match outcome {
            Ok(books) => books,
            // The price of trying is part of it.
            Err(ReadError::Unsettled { .. }) => {
                refused += 1;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        spans.push(reader.cached_spans());
        slacks.push(books.slack());
        processors = books.processors;
    }
    spans.sort_unstable();
    slacks.sort_unstable();
    println!(
        "{}",
        json!({
            "go": subject.facts.go_version.text,
            "processors": processors,
            "refused": refused,
            "spans": spans.get(spans.len() / 2),
            "slack_median": slacks.get(slacks.len() / 2),
            "slack_max": slacks.last(),
            "discards": discards(&reader),
            "cpu_ns": cpu_ns,
        })
    );
    Ok(())
}

fn discards(reader: &BooksReader) -> Value {
    reader
        .discards()
        .iter()
        .map(|(why, count)| (why.id().to_owned(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn share(seconds: u64, pids: &[u32]) -> Result<()> {
    let cache = FactsCache::default();
    let mut all = pids.iter().map(|pid| watched(*pid, &cache)).collect::<Result<Vec<_>>>()?;
    let (begin, before) = (Instant::now(), thread_cpu_ns());
    let (mut reads, mut refused) = (0_u64, 0_u64);
    for tick in 1.. {
        for Watched { subject, reader } in &mut all {
            match reader.read(&subject.memory) {
                Ok(_) => reads += 1,
                Err(_) => refused += 1,
            }
        }
        if begin.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
        thread::sleep((PERIOD * tick).saturating_sub(begin.elapsed()));
    }
    let (wall_ns, cpu_ns) = (begin.elapsed().as_nanos(), thread_cpu_ns() - before);
    println!("{}", json!({ "reads": reads, "refused": refused, "wall_ns": wall_ns, "cpu_ns": cpu_ns }));
    Ok(())
}

/// What was seen of one process.
#[derive(Default)]
struct Seen {
    reads: u64,
    refused: BTreeMap<String, u64>,
    broken: BTreeMap<String, u64>,
    slack_max: u64,
    /// Largest difference between the bytes that are mapped by one account and by another.
    mapped_apart_max: u64,
    last: Option<Books>,
}

fn soak(pids: &[u32]) -> Result<()> {
    let cache = FactsCache::default();
    let mut all = pids.iter().map(|pid| Ok((watched(*pid, &cache)?, Seen::default()))).collect::<Result<Vec<_>>>()?;
    let (is_on, has_ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (on, ended) = (Arc::clone(&is_on), Arc::clone(&has_ended));
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            on.store(line == "on", Ordering::Relaxed);
        }
        ended.store(true, Ordering::Relaxed);
    });
    println!("ready");
    let begin = Instant::now();
    let before = thread_cpu_ns();
    let mut tick = 0_u32;
    while !has_ended.load(Ordering::Relaxed) {
        if is_on.load(Ordering::Relaxed) {
            for (watched, seen) in &mut all {
                match watched.reader.read(&watched.subject.memory) {
                    Ok(books) => seen.accept(books),
                    Err(error) => *seen.refused.entry(error.to_string()).or_default() += 1,
                }
            }
        }
        tick += 1;
        thread::sleep((PERIOD * tick).saturating_sub(begin.elapsed()));
    }
    let cpu_ns = thread_cpu_ns() - before;
    let seen: Vec<Value> = all
        .iter()
        .map(|(watched, seen)| {
            let last = seen.last.as_ref();
            json!({
                "name": watched.subject.name,
                "go": watched.subject.facts.go_version.text,
                "reads": seen.reads,
                "refused": seen.refused,
                "broken": seen.broken,
                "slack_max": seen.slack_max,
                "mapped_apart_max_bytes": seen.mapped_apart_max,
                "discards": discards(&watched.reader),
                "allocs": last.map(Books::allocs),
                "frees": last.map(Books::frees),
                "collections": last.map(|books| books.collections),
            })
        })
        .collect();
    println!("{}", json!({ "cpu_ns": cpu_ns, "processes": seen }));
    Ok(())
}

impl Seen {
    fn accept(&mut self, books: Books) {
        self.reads += 1;
        self.slack_max = self.slack_max.max(books.slack());
        let mut broken = Vec::new();
        for class in &books.classes {
            if class.frees > class.allocs {
                broken.push("more freed than allocated of a class");
            }
        }
        if books.large_frees > books.large_allocs || books.frees() > books.allocs() {
            broken.push("more freed than allocated");
        }
        if let Some(last) = &self.last {
            let grew = |now: u64, before: u64| now >= before;
            let classes = books.classes.iter().zip(&last.classes);
            if !classes.clone().all(|(now, before)| grew(now.allocs, before.allocs) && grew(now.frees, before.frees)) {
                broken.push("a count of a class fell");
            }
            // What was known then to be allocated at most, and what is known now to be at least.
            let counts = [
                (books.tiny_allocs, last.tiny_allocs),
                (books.large_allocs, last.large_allocs),
                (books.large_alloc_bytes, last.large_alloc_bytes),
                (books.large_frees, last.large_frees),
                (books.large_free_bytes, last.large_free_bytes),
                (books.pause_total_ns, last.pause_total_ns),
                (books.collections.into(), last.collections.into()),
                (books.last_end_unix_ns, last.last_end_unix_ns),
            ];
            if !counts.into_iter().all(|(now, before)| grew(now, before)) {
                broken.push("a count fell");
            }
        }
        // As the runtime itself checks where it doubts its statistics (`doubleCheckReadMemStats` of runtime/mstats.go).
        match &books.pacer {
            Ok(pacer) => {
                let ready = books.sys_bytes().saturating_sub(books.heap_released_bytes);
                self.mapped_apart_max = self.mapped_apart_max.max(pacer.mapped_ready_bytes.abs_diff(ready));
            }
            Err(_) => broken.push("the pacer is refused"),
        }
        // Objects lie in spans in use: more bytes than those have, beyond what changed while we read, cannot be.
        let most = books.heap_in_use_bytes.saturating_add(books.slack_bytes()).saturating_add(1 << 20);
        if books.heap_alloc_bytes() > most {
            broken.push("more bytes of objects than of spans");
        }
        for what in broken {
            *self.broken.entry(what.to_owned()).or_default() += 1;
        }
        self.last = Some(books);
    }
}
