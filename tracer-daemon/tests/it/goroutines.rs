//! The goroutine table that is read from outside is what the program's own runtime prints.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde_json::Value;
use tracer_daemon::addr::Avma;
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::Global;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::read::goroutines::{Channel, GoroutineReader, Table};
use tracer_daemon::read::memory::{MemoryError, ProcessMemory, TargetMemory};
use tracer_daemon::read::{Discard, ReadError};
use tracer_daemon::symbolize::Frame;

use crate::go::build;
use crate::leakline::{leakline, unbroken_text};
use crate::schema::is_valid;
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
    channels_are_those_of_the_program(&context, &look.table, &truth);
    objects_are_those_of_the_program(&context, minor(toolchain), &document(target.pid()), &truth);
}

fn minor(toolchain: &str) -> u32 {
    toolchain.split('.').nth(1).unwrap().parse().unwrap()
}

/// What `leakline goroutines` prints, which is what its schema says.
fn document(pid: u32) -> Value {
    let output = leakline(&["goroutines", "--pid", &pid.to_string(), "--output", "json"]);
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    is_valid(&document, include_str!("../../../docs/schema/goroutines.schema.json"));
    document
}

fn channels_are_those_of_the_program(context: &str, table: &Table, truth: &Truth) {
    let found = |name: &str| {
        let address = u64::from_str_radix(truth.objects[name].strip_prefix("0x").unwrap(), 16).unwrap();
        let channel = table.channels.get(&Avma(address)).unwrap_or_else(|| panic!("{context}: no channel {name}"));
        let Channel { len, cap, element_bytes, closed, senders, receivers, .. } = *channel;
        assert!(!closed && !senders.or_more && !receivers.or_more, "{context}: {channel:?}");
        (len, cap, element_bytes, senders.count, receivers.count)
    };
    assert_eq!(found("full"), (4, 4, 24, 5, 0), "{context}");
    assert_eq!(found("empty"), (0, 7, 1, 0, 3), "{context}");
    assert_eq!(found("unbuffered"), (0, 0, 8, 0, 1), "{context}");
    assert_eq!(found("sender"), (0, 0, 8, 1, 0), "{context}");
    assert_eq!(found("give"), (0, 0, 8, 0, 1), "{context}");
    assert_eq!([found("case0"), found("case2")], [(0, 0, 8, 0, 1); 2], "{context}");
    assert_eq!(found("case1"), (4, 4, 8, 1, 0), "{context}");
}

/// The one group that waits in this function of the program.
fn state_in<'a>(document: &'a Value, function: &str) -> &'a Value {
    let sites = document["goroutines"]["sites"].as_array().unwrap().iter();
    let mut states = sites.flat_map(|site| site["states"].as_array().unwrap());
    states.find(|state| state["function"] == function).unwrap_or_else(|| panic!("no group waits in {function}"))
}

fn objects_are_those_of_the_program(context: &str, minor: u32, document: &Value, truth: &Truth) {
    let kinds = [
        ("main.fill", "chan", 5, Some("full")),
        ("main.receive", "chan", 3, Some("empty")),
        ("main.locker", "mutex", 3, Some("mutex")),
        ("main.writer", "rwmutex", 3, Some("lock")),
        ("main.reader", "rwmutex", 3, Some("read")),
        ("main.waiter", "waitgroup", 3, Some("group")),
        // Before, the runtime has no record that leads from the goroutine to it.
        ("main.signaled", "cond", 3, (minor >= 26).then_some("cond")),
        ("main.selecting", "select", 1, None),
        ("main.sleeper", "sleep", 1, None),
        ("main.nilSend", "nil_chan", 1, None),
        ("main.nilRecv", "nil_chan", 1, None),
        ("main.forever", "empty_select", 1, None),
        ("main.accepting", "io", 1, None),
        ("main.reading", "io", 1, None),
        ("main.blocked", "syscall", 1, None),
    ];
    for (function, kind, count, object) in kinds {
        let state = state_in(document, function);
        let waits_on = &state["waits_on"];
        assert_eq!(
            (&waits_on["kind"], &state["count"]),
            (&kind.into(), &count.into()),
            "{context} {function}: {state}"
        );
        match object {
            Some(object) => assert_eq!(waits_on["address"], truth.objects[object], "{context} {function}"),
            None => assert_eq!(waits_on.get("address"), None, "{context} {function}"),
        }
    }
    // Until go1.26 a module for go1.19 has the timers of that time (GODEBUG=asynctimerchan=1).
    let timer = if minor >= 27 { "timer" } else { "chan" };
    assert_eq!(state_in(document, "main.timed")["waits_on"]["kind"], timer, "{context}");
    let mut cases: Vec<&Value> = state_in(document, "main.selecting")["waits_on"]["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| &case["address"])
        .collect();
    let mut expected: Vec<Value> = ["case0", "case1", "case2"].map(|name| truth.objects[name].clone().into()).to_vec();
    cases.sort_by_key(|case| case.as_str());
    expected.sort_by_key(|case| case.as_str().unwrap().to_owned());
    assert_eq!(cases, expected.iter().collect::<Vec<_>>(), "{context}");
    let goroutines = &document["goroutines"];
    let sites = goroutines["sites"].as_array().unwrap();
    assert_eq!(goroutines["live"], truth.num, "{context}");
    assert_eq!(sites.iter().map(|site| site["live"].as_u64().unwrap()).sum::<u64>(), truth.num, "{context}");
    let runs = |function: &str| state_in(document, function)["entry_function"].as_str().unwrap().to_owned();
    assert_eq!(
        [runs("main.receive"), runs("main.fill"), runs("main.deep"), runs("main.sleeper")],
        ["main.receiver", "main.fill", "main.deep", "main.sleeper"],
        "{context}: named by what a wrapper calls"
    );
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

/// Frames of the program from the leaf on.
fn of_program(frames: &[Line]) -> Vec<&str> {
    frames.iter().map(|(name, _)| &**name).filter(|name| name.starts_with("main.")).collect()
}

fn churned_stacks_are_real(toolchain: &str) {
    let target = start(toolchain, &[], &["churn"]);
    let mut subject = Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap();
    let mut reader = GoroutineReader::new(subject.runtime()).unwrap();
    let (mut both_sides, mut retried, mut accepted) = ([0_u64; 2], 0, 0_u64);
    for look in 0..300 {
        let table = reader.read(&subject.memory, look).unwrap();
        retried += table.discards.count(Discard::GoroutineMoved);
        let stacks = named(&mut subject, &table);
        accepted += table.goroutines.iter().filter(|goroutine| goroutine.stack.is_ok()).count() as u64;
        for frames in &stacks {
            let functions = of_program(frames);
            let way: Vec<&str> = functions
                .iter()
                .filter_map(|name| name.strip_prefix("main.left").or_else(|| name.strip_prefix("main.right")))
                .collect();
            // Down to 0 without a gap, by one way, and from where both begin.
            let expected: Vec<String> = (0..way.len()).rev().map(|depth| depth.to_string()).collect();
            assert_eq!(way, expected, "{toolchain}: {frames:#?}");
            let sides = ["main.left", "main.right"].map(|side| functions.iter().any(|name| name.starts_with(side)));
            assert_ne!(sides, [true, true], "{toolchain}: {frames:#?}");
            if !way.is_empty() {
                assert_eq!(functions[way.len()..], ["main.alternate"], "{toolchain}: {frames:#?}");
            }
            for (side, is) in both_sides.iter_mut().zip(sides) {
                *side += u64::from(is);
            }
            let runtime_only = functions.is_empty() && frames.iter().all(|(name, _)| !name.starts_with("main."));
            let known = ["main.alternate", "main.feed", "main.spawn", "main.naps", "main.main", "main.startChurn"];
            let bottom = functions.last().copied().unwrap_or_default();
            assert!(runtime_only || known.iter().any(|name| bottom.starts_with(name)), "{toolchain}: {frames:#?}");
        }
    }
    assert!(both_sides.iter().all(|count| *count > 0), "{toolchain}: no goroutine was seen on one of the ways");
    assert!(retried > 0 && accepted > 0, "{toolchain}: nothing has moved in 300 looks: {retried}, {accepted}");
}

#[test]
fn no_stack_is_accepted_that_is_half_of_one_time_and_half_of_another() {
    for toolchain in ["go1.19.13", "go1.22.12", "go1.25.5", "go1.27.3"] {
        churned_stacks_are_real(toolchain);
    }
}

#[test]
fn a_stack_that_was_interrupted_anywhere_has_all_its_callers() {
    for toolchain in ["go1.19.13", "go1.21.13", "go1.23.12", "go1.27.3"] {
        let target = start(toolchain, &[], &["busy"]);
        let mut subject = Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap();
        let mut reader = GoroutineReader::new(subject.runtime()).unwrap();
        let chain = ["main.leaf", "main.step", "main.spin", "main.compute"];
        let mut depths = [0_u64; 5];
        for look in 0..200 {
            let table = reader.read(&subject.memory, look).unwrap();
            let stacks = named(&mut subject, &table);
            for frames in &stacks {
                let functions = of_program(frames);
                if functions.last() == Some(&"main.compute") {
                    assert_eq!(functions, chain[chain.len() - functions.len()..], "{toolchain}: {frames:#?}");
                    depths[functions.len()] += 1;
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert!(depths.iter().sum::<u64>() > 100 && depths[2] + depths[3] > 0, "{toolchain}: {depths:?}");
    }
}

#[test]
fn a_finalizer_that_blocks_is_shown_though_its_goroutine_is_the_runtimes() {
    for toolchain in ["go1.19.13", "go1.24.11", "go1.25.5", "go1.27.3"] {
        let mut target = start(toolchain, &[], &["finalizer"]);
        let truth = Truth::ask(&mut target);
        let document = document(target.pid());
        let goroutines = &document["goroutines"];
        assert_eq!((&goroutines["live"], &goroutines["callbacks"]), (&truth.num.into(), &1.into()), "{toolchain}");
        // The program's own profile counts it, too.
        assert!(truth.profile.starts_with(&format!("goroutine profile: total {}", truth.num + 1)), "{toolchain}");
        assert_eq!(state_in(&document, "main.main.func1")["wait_reason"], "chan receive", "{toolchain}");
    }
}

#[test]
fn who_has_the_channel_on_its_stack_is_named_and_a_circle_is_one() {
    for toolchain in ["go1.19.13", "go1.23.12", "go1.27.3"] {
        let target = start(toolchain, &[], &["chain"]);
        let document = document(target.pid());
        let candidates = |function: &str| {
            let channels = &state_in(&document, function)["channels"];
            let candidates = channels["candidates"].as_array().unwrap().iter();
            let candidates: Vec<String> =
                candidates.map(|candidate| candidate["function"].as_str().unwrap().to_owned()).collect();
            (candidates, channels["on_no_other_stack"].as_u64().unwrap())
        };
        let (last, left, right) = ("main.chain.func1", "main.chain.func2", "main.chain.func3");
        assert!(candidates(last).0.contains(&"main.pass".to_owned()), "{toolchain}: {document}");
        assert!(candidates("main.pass").0.contains(&"main.late".to_owned()), "{toolchain}: {document}");
        assert!(candidates(left).0.contains(&right.to_owned()), "{toolchain}: {document}");
        assert!(candidates(right).0.contains(&left.to_owned()), "{toolchain}: {document}");
        let nowhere = [last, "main.pass", left, right].map(|function| candidates(function).1);
        assert_eq!(nowhere, [0; 4], "{toolchain}: {document}");
        let text = unbroken_text(&["goroutines", "--pid", &target.pid().to_string()]);
        assert!(text.contains("a circle, see above"), "{toolchain}: {text}");
    }
}

#[test]
fn a_channel_that_is_on_no_other_stack_is_said_to_be_that_and_nothing_more() {
    let target = start("go1.26.6", &[], &["leak"]);
    let document = document(target.pid());
    let state = state_in(&document, "main.leak.func1");
    assert_eq!((&state["count"], &state["waits_on"]["senders"]), (&1000.into(), &1000.into()));
    assert_eq!((&state["channels"]["count"], &state["channels"]["on_no_other_stack"]), (&1.into(), &1.into()));
    let text = unbroken_text(&["goroutines", "--pid", &target.pid().to_string()]);
    assert!(text.contains("its channel's address is on no other goroutine's stack"), "{text}");
    assert!(!text.contains("unreachable"), "{text}");
}

#[test]
fn of_too_many_goroutines_counts_are_exact_and_stacks_a_sample() {
    let target = start("go1.26.6", &[], &["parked", "20000"]);
    let mut subject = Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap();
    let mut reader = GoroutineReader::new(subject.runtime()).unwrap();
    let all = reader.read(&subject.memory, 1).unwrap();
    let sampled = reader.read_within(&subject.memory, 1, 1000).unwrap();
    assert!(all.complete && !sampled.complete);
    assert_eq!(all.kinds, sampled.kinds, "counts, bytes and numbers do not depend on who was looked at");
    assert!(sampled.goroutines.len() < 4000, "{}", sampled.goroutines.len());
    // Each stack of the sample is one that there is.
    let (of_all, of_sample) = (named(&mut subject, &all), named(&mut subject, &sampled));
    assert!(of_sample.iter().all(|stack| of_all.contains(stack)));
    let waiting = sampled.kinds.iter().filter(|counted| counted.count == 4000).count();
    assert_eq!(waiting, 5, "{:?}", sampled.kinds);
}

/// The memory of a process, in which some words are others than there.
#[derive(Debug)]
struct Lies {
    memory: ProcessMemory,
    words: Vec<(Avma, u64)>,
}

impl TargetMemory for Lies {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(at, into)?;
        for (place, word) in &self.words {
            for (index, byte) in (0_u64..).zip(word.to_le_bytes()) {
                let offset = (place.0 + index).checked_sub(at.0).and_then(|offset| usize::try_from(offset).ok());
                if let Some(target) = offset.and_then(|offset| into.get_mut(offset)) {
                    *target = byte;
                }
            }
        }
        Ok(())
    }
}

fn word(memory: &dyn TargetMemory, at: u64) -> u64 {
    let mut bytes = [0; 8];
    memory.read(Avma(at), &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn memory_that_lies_costs_what_it_lies_about_and_no_more() {
    let mut target = start("go1.25.5", &[], &[]);
    let truth = Truth::ask(&mut target);
    let subject = Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap();
    let runtime = subject.runtime();
    let layout = *runtime.layout();
    let read = |words: Vec<(Avma, u64)>| {
        let memory = Lies { memory: ProcessMemory::new(target.pid()), words };
        GoroutineReader::new(subject.runtime()).unwrap().read(&memory, 1)
    };
    let honest = read(Vec::new()).unwrap();
    let count = honest.alive();
    let length = runtime.address(Global::Allglen).unwrap();
    assert!(
        matches!(read(vec![(length, 0)]), Err(ReadError::NotStarted)),
        "as before the first instruction of the runtime"
    );
    for absurd in [1 << 40, u64::MAX] {
        assert!(matches!(read(vec![(length, absurd)]), Err(ReadError::Implausible { .. })), "{absurd}");
    }
    // The list ends earlier than it says: what lies behind is no goroutine.
    let listed = word(&subject.memory, length.0);
    assert!(!matches!(read(vec![(length, listed + 3)]), Ok(table) if table.alive() > count));

    let object = |name: &str| u64::from_str_radix(truth.objects[name].strip_prefix("0x").unwrap(), 16).unwrap();
    let full = object("full");
    let first = word(&subject.memory, full + layout.hchan.sendq + layout.waitq.first);
    let sender = word(&subject.memory, first + layout.sudog.g);
    // A queue that goes round.
    let table = read(vec![(Avma(first + layout.sudog.next), first)]).unwrap();
    let queue = table.channels[&Avma(full)].senders;
    assert!(queue.or_more && queue.count <= 5, "{queue:?}");
    // A select whose list of cases goes round.
    let case = word(&subject.memory, object("case0") + layout.hchan.recvq + layout.waitq.first);
    let table = read(vec![(Avma(case + layout.sudog.waitlink), case)]).unwrap();
    assert_eq!(table.alive(), count);
    // A queue that leads into nothing.
    let table = read(vec![(Avma(first + layout.sudog.next), 8)]).unwrap();
    assert!(table.channels[&Avma(full)].senders.or_more);
    // A buffer with more in it than it holds.
    let table = read(vec![(Avma(full + layout.hchan.qcount), u64::MAX)]).unwrap();
    assert_eq!((table.discards.count(Discard::ChannelImplausible), table.channels.get(&Avma(full))), (1, None));

    let high = word(&subject.memory, sender + layout.g.stack_hi);
    let low = word(&subject.memory, sender + layout.g.stack_lo);
    // Bounds of a stack the wrong way round, and a status that there is not.
    let table = read(vec![(Avma(sender + layout.g.stack_lo), high), (Avma(sender + layout.g.stack_hi), low)]).unwrap();
    assert_eq!((table.alive(), table.discards.count(Discard::GoroutineImplausible)), (count - 1, 1));
    let table = read(vec![(Avma(sender + layout.g.atomicstatus), 77)]).unwrap();
    assert_eq!((table.alive(), table.discards.count(Discard::GoroutineImplausible)), (count - 1, 1));
    // A stack pointer into what is not in use, and a stack that is not there.
    let table = read(vec![(Avma(sender + layout.g.sched_sp), low)]).unwrap();
    assert_eq!((table.alive(), table.discards.count(Discard::StackBroken)), (count, 1));
    let nowhere = [(layout.g.stack_lo, 1 << 20), (layout.g.stack_hi, 3 << 20), (layout.g.sched_sp, 2 << 20)];
    let table = read(nowhere.map(|(offset, value)| (Avma(sender + offset), value)).to_vec()).unwrap();
    assert_eq!((table.alive(), table.discards.count(Discard::StackUnreadable)), (count, 1));
    // What it waits with is another one's.
    let table = read(vec![(Avma(first + layout.sudog.g), sender + 8)]).unwrap();
    assert_eq!((table.alive(), table.discards.count(Discard::WaiterImplausible)), (count, 1));
    // A reason without a text.
    let table = read(vec![(Avma(sender + layout.g.waitreason), 0xc8)]).unwrap();
    assert!(table.kinds.iter().any(|counted| table.state_name(&counted.kind) == "wait reason 200"));
}
