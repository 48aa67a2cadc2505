//! The goroutine table that is read from outside is what the program's own runtime prints.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::read::goroutines::{GoroutineReader, Table};
use tracer_daemon::symbolize::Frame;

use crate::go::build;
use crate::target::Target;

/// What the program says.
#[derive(Debug, Deserialize)]
struct Truth {
    num: u64,
    profile: String,
    stacks: String,
    objects: BTreeMap<String, String>,
}

/// A frame as Go prints it: function, and file with line.
type Line = (String, String);

/// One goroutine as `runtime.Stack` prints it.
#[derive(Debug, PartialEq, Eq)]
struct Printed {
    reason: String,
    frames: Vec<Line>,
    created_by: Option<Line>,
    creator: Option<u64>,
}

impl Truth {
    fn ask(target: &mut Target) -> Self {
        target.say("look");
        serde_json::from_str(&target.line()).unwrap()
    }

    /// Goroutines by stack, without the one that prints.
    fn by_stack(&self) -> BTreeMap<Vec<Line>, u64> {
        let mut counts = BTreeMap::new();
        for record in self.profile.split("\n\n") {
            let mut lines = record.lines().filter(|line| !line.starts_with("goroutine profile:"));
            let Some(head) = lines.next() else { continue };
            let count: u64 = head.split(' ').next().unwrap().parse().unwrap();
            let frames: Vec<Line> = lines
                .filter(|line| line.starts_with("#\t"))
                .map(|line| {
                    let fields: Vec<&str> = line.split('\t').filter(|field| !field.is_empty()).collect();
                    let name = fields[2].rsplit_once('+').unwrap().0;
                    (name.to_owned(), fields[3].to_owned())
                })
                .collect();
            if !frames.iter().any(|(name, _)| name == "main.say") {
                *counts.entry(visible(frames)).or_default() += count;
            }
        }
        counts
    }

    /// By number, without the one that prints.
    fn printed(&self) -> BTreeMap<u64, Printed> {
        let mut goroutines = BTreeMap::new();
        for block in self.stacks.trim().split("\n\n") {
            let mut lines = block.lines();
            let head = lines.next().unwrap().strip_prefix("goroutine ").unwrap();
            let (id, state) = head.split_once(' ').unwrap();
            let state = state.trim_start_matches('[').trim_end_matches("]:");
            let reason = state.split(", ").next().unwrap().to_owned();
            let (mut frames, mut created_by, mut creator) = (Vec::new(), None, None);
            while let (Some(function), Some(place)) = (lines.next(), lines.next()) {
                let place = place.trim().split(' ').next().unwrap().to_owned();
                if let Some(by) = function.strip_prefix("created by ") {
                    let (name, id) = by.split_once(" in goroutine ").map_or((by, None), |(name, id)| (name, Some(id)));
                    created_by = Some((name.to_owned(), place));
                    creator = id.map(|id| id.parse().unwrap());
                } else {
                    frames.push((function.rsplit_once('(').unwrap().0.to_owned(), place));
                }
            }
            if !frames.iter().any(|(name, _)| name == "main.say") {
                goroutines.insert(id.parse().unwrap(), Printed { reason, frames, created_by, creator });
            }
        }
        goroutines
    }
}

fn line_of(frame: &Frame) -> Line {
    (frame.function.to_string(), format!("{}:{}", frame.file, frame.line))
}

/// What the profile shows of a stack (`printStackRecord` in runtime/pprof/pprof.go).
fn visible(frames: Vec<Line>) -> Vec<Line> {
    let hidden = |name: &str| name.starts_with("runtime.") || name.starts_with("internal/runtime/");
    let frames = frames.into_iter().skip_while(|(name, _)| hidden(name));
    frames.filter(|(name, _)| name != "runtime.goexit").collect()
}

/// What a trace shows of a stack (`showfuncinfo` in runtime/traceback.go).
fn shown(frames: &[Line]) -> Vec<Line> {
    let exported = |name: &str| name.strip_prefix("runtime.").is_none_or(|rest| rest.starts_with(char::is_uppercase));
    frames.iter().filter(|(name, _)| exported(name)).cloned().collect()
}

/// A process with its table.
struct Look {
    subject: Subject,
    table: Table,
    stacks: Vec<Vec<Line>>,
}

impl Look {
    fn at(pid: u32) -> Self {
        let mut subject = Subject::open(&target_by_pid(pid).unwrap(), &FactsCache::default()).unwrap();
        let mut reader = GoroutineReader::new(subject.runtime()).unwrap();
        let table = reader.read(&subject.memory, 1).unwrap();
        let stacks = named(&mut subject, &table);
        Self { subject, table, stacks }
    }

    fn is_system(&mut self, index: usize) -> bool {
        let goroutine = &self.table.goroutines[index];
        let start = goroutine.kind.start;
        let name = self.subject.symbolizer.stack(&[start]).pop().unwrap().function;
        name.starts_with("runtime.") && &*name != "runtime.main" && &*name != "runtime.corostart"
    }
}

fn named(subject: &mut Subject, table: &Table) -> Vec<Vec<Line>> {
    let pcs: Vec<_> = table.stacks.iter().map(|stack| &*stack.pcs).collect();
    subject.symbolizer.stacks(&pcs).iter().map(|frames| frames.iter().map(line_of).collect()).collect()
}

fn start(toolchain: &str, flags: &[&str], arguments: &[&str]) -> Target {
    Target::start(&program(toolchain, flags), arguments)
}

fn program(toolchain: &str, flags: &[&str]) -> std::path::PathBuf {
    build("goroutines", toolchain, flags)
}

fn table_equals_what_the_program_prints(toolchain: &str, flags: &[&str]) {
    let mut target = start(toolchain, flags, &[]);
    let truth = Truth::ask(&mut target);
    let mut look = Look::at(target.pid());
    let context = format!("{toolchain} {flags:?}");
    let discards: Vec<_> = look.table.discards.iter().collect();
    let users: Vec<usize> = (0..look.table.goroutines.len()).filter(|index| !look.is_system(*index)).collect();
    assert_eq!(users.len() as u64, truth.num, "{context}: {discards:?}");

    let mut by_stack: BTreeMap<Vec<Line>, u64> = BTreeMap::new();
    let mut printed = BTreeMap::new();
    for index in &users {
        let goroutine = &look.table.goroutines[*index];
        if goroutine.id == 1 {
            assert_eq!(look.table.state_name(&goroutine.kind), "syscall", "{context}");
            continue;
        }
        let stack = goroutine.stack.unwrap_or_else(|why| panic!("{context}: {why:?} {goroutine:?} {discards:?}"));
        let frames = &look.stacks[stack.index()];
        *by_stack.entry(visible(frames.clone())).or_default() += 1;
        let created = look.subject.symbolizer.return_address(goroutine.kind.creation);
        let created_by = created
            .last()
            .zip(created.first())
            .map(|(function, place)| (function.function.to_string(), format!("{}:{}", place.file, place.line)));
        let reason = look.table.state_name(&goroutine.kind);
        printed.insert(goroutine.id, Printed { reason, frames: shown(frames), created_by, creator: goroutine.parent });
    }
    same(&context, &by_stack, &truth.by_stack());
    same(&context, &printed, &truth.printed());
}

/// Fails with what differs, and with nothing else.
#[track_caller]
fn same<K: Ord + Debug, V: PartialEq + Debug>(context: &str, ours: &BTreeMap<K, V>, theirs: &BTreeMap<K, V>) {
    let only = |a: &BTreeMap<K, V>, b: &BTreeMap<K, V>| {
        a.iter().filter(|(key, value)| b.get(key) != Some(value)).map(|entry| format!("{entry:?}")).collect::<Vec<_>>()
    };
    let (ours, theirs) = (only(ours, theirs), only(theirs, ours));
    assert!(ours.is_empty() && theirs.is_empty(), "{context}: we say {ours:#?}, the program says {theirs:#?}");
}

macro_rules! tables_equal {
    ($($name:ident: $toolchain:literal;)*) => {$(
        #[test]
        fn $name() {
            for flags in [&[][..], &["-ldflags=-s -w"], &["-buildmode=pie"], &["-buildmode=pie", "-ldflags=-s -w"]] {
                table_equals_what_the_program_prints($toolchain, flags);
            }
        }
    )*};
}

tables_equal! {
    goroutines_of_go1_19: "go1.19.13";
    goroutines_of_go1_20: "go1.20.14";
    goroutines_of_go1_21: "go1.21.13";
    goroutines_of_go1_22: "go1.22.12";
    goroutines_of_go1_23: "go1.23.12";
    goroutines_of_go1_24: "go1.24.11";
    goroutines_of_go1_25: "go1.25.5";
    goroutines_of_go1_26: "go1.26.6";
    goroutines_of_go1_27: "go1.27.3";
}
