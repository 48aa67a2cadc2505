//! Stacks that real programs had, and what is said of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::model::SiteId;
use crate::model::goroutines::{AgeBounds, Object, TablePath};

const RECORDED: &str = include_str!("stacks.tsv");
const PAGE: &str = include_str!("../../../../docs/hints.md");

fn frames(functions: &str) -> Vec<Frame> {
    let frame = |function: &str| Frame {
        function: function.into(),
        file: "/f.go".into(),
        line: 7,
        function_start_line: 1,
        inlined: false,
        origin: Origin::Go,
    };
    functions.split(' ').map(frame).collect()
}

/// A place of which all goroutines do this.
fn site(reason: &str, functions: &str) -> TableSite {
    let lock = |beginning: &str| functions.contains(beginning);
    let kind = match reason {
        "chan send" | "chan receive" => Some(ObjectKind::Chan),
        "chan receive (nil chan)" => Some(ObjectKind::NilChan),
        "select" => Some(ObjectKind::Select),
        "select (no cases)" => Some(ObjectKind::EmptySelect),
        "sleep" => Some(ObjectKind::Sleep),
        "IO wait" => Some(ObjectKind::Io),
        "sync.Cond.Wait" => Some(ObjectKind::Cond),
        _ if lock("sync.(*WaitGroup).Wait") => Some(ObjectKind::WaitGroup),
        _ if lock("sync.(*Mutex).Lock") => Some(ObjectKind::Mutex),
        _ if lock("sync.(*RWMutex).") => Some(ObjectKind::RwMutex),
        _ => None,
    };
    // What the table says of channels of timers, where it can.
    let kind =
        if functions.contains("shapeTickerLoop") && reason == "chan receive" { Some(ObjectKind::Timer) } else { kind };
    let object = |kind| Object { kind, address: None, waiters: 20, channel: None, cases: Vec::new() };
    TableSite {
        id: SiteId(1),
        place: Frame::unknown(),
        creation_stack: Vec::new(),
        entry_function: Arc::from(""),
        live: 20,
        stack_bytes: 0,
        oldest: AgeBounds::default(),
        lowest_id: 1,
        ids: Box::default(),
        states: vec![TableState {
            wait_reason: reason.to_owned(),
            count: 20,
            interval: None,
            looked_at: 20,
            blocked: None,
            entry_function: Arc::from(""),
            oldest: AgeBounds::default(),
            waits_on: kind.map(object),
            objects: 1,
            holders: None,
            paths: vec![TablePath { count: 20, frames: frames(functions), cut: false }],
        }],
    }
}

struct Recorded {
    minor: u32,
    expected: &'static str,
    hint: Option<Hint>,
    stack: &'static str,
    is_heap: bool,
}

fn recorded() -> Vec<Recorded> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [minor, expected, kind, reason, stack] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let program = Program { go_minor: minor.parse().ok(), main_module: None, cgo: false };
            let is_heap = kind == "heap";
            let hint = if is_heap {
                of_allocation(&frames(stack), program)
            } else {
                let mut site = site(reason, stack);
                // Only since go1.23 the runtime says which channels are of timers.
                if program.go_minor < Some(TIMERS_COLLECTED) && stack.contains("shapeTickerLoop") {
                    site.states[0].waits_on.as_mut().unwrap().kind = ObjectKind::Chan;
                }
                of_goroutines(&site, program)
            };
            Recorded { minor: program.go_minor.unwrap(), expected, hint, stack, is_heap }
        })
        .collect()
}

#[test]
fn every_recorded_stack_has_its_hint() {
    let all = recorded();
    let wrong: Vec<String> = all
        .iter()
        .filter(|one| one.hint.map_or("-", Hint::id) != one.expected)
        .map(|one| format!("1.{}: {:?}, not {}: {}", one.minor, one.hint.map(Hint::id), one.expected, one.stack))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    let seen: BTreeSet<Hint> = all.iter().filter_map(|one| one.hint).collect();
    let missing: Vec<_> = Hint::ALL.iter().filter(|hint| !seen.contains(hint)).map(|hint| hint.id()).collect();
    assert_eq!(
        missing,
        ["finalizer-backlog", "c-allocation", "mapped-memory"],
        "none of them has a stack in the programs"
    );
}

#[test]
fn what_a_pool_made_is_said_to_be_behind_a_pool() {
    let is_behind = |stack: &str| is_behind_pool(&frames(stack), Program::default());
    for one in recorded().iter().filter(|one| one.is_heap) {
        if one.hint == Some(Hint::PooledObject) {
            assert!(is_behind(one.stack), "{}", one.stack);
        }
        if one.stack.contains("zap/buffer.(*Buffer).Append") || one.stack.contains(" fmt.(*buffer).") {
            assert!(is_behind(one.stack), "{}", one.stack);
        }
        let is_no_pool = [Hint::AfterFunc, Hint::MapNeverShrinks, Hint::GrowingSlice, Hint::SqlConnections];
        if one.hint.is_some_and(|hint| is_no_pool.contains(&hint)) {
            assert!(!is_behind(one.stack), "{}", one.stack);
        }
    }
    assert!(
        !is_behind("runtime.growslice bytes.growSlice bytes.(*Buffer).grow bytes.(*Buffer).Write main.f"),
        "a buffer of one's own"
    );
    assert!(is_behind(
        "runtime.newobject main.newThing main.init.func1 sync.(*Pool).Get main.handle net/http.(*conn).serve"
    ));
}

#[test]
fn of_somebody_elses_code_nothing_is_believed() {
    let none = |stack: &str| {
        assert_eq!(
            of_allocation(&frames(stack), Program { go_minor: Some(19), ..Program::default() }),
            None,
            "{stack}"
        );
    };
    none("runtime.mallocgc runtime.newobject main.AfterFunc main.main");
    none("runtime.mallocgc runtime.newobject main.f time.AfterFunc main.main");
    none("runtime.mallocgc runtime.newobject example.com/time.AfterFunc main.main");
    none(
        "runtime.mallocgc runtime.newobject main.handle net/http.HandlerFunc.ServeHTTP net/http.serverHandler.ServeHTTP net/http.(*conn).serve",
    );
    none("main.(*Pool).Get main.f");
    // A main module without a dot in its name looks like the standard library.
    let stack = frames("runtime.mallocgc shop/json.read encoding/json.Unmarshal shop.main");
    let program = |main_module| Program { main_module, ..Program::default() };
    assert_eq!(of_allocation(&stack, program(Some("shop"))), None);
    let native = Frame { origin: Origin::Native, ..frames("time.AfterFunc").remove(0) };
    assert_eq!(of_allocation(&[native], Program::default()), None);
    assert_eq!(of_allocation(&[], Program::default()), None);
}

#[test]
fn timers_of_unknown_versions_are_not_accused() {
    let ticker = frames("runtime.newobject time.NewTicker main.f");
    let of = |go_minor| of_allocation(&ticker, Program { go_minor, ..Program::default() });
    assert_eq!((of(Some(22)), of(Some(23)), of(None)), (Some(Hint::TickerNotStopped), None, None));
}

#[test]
fn what_only_some_do_is_not_what_most_do() {
    let mut mixed = site("chan send", "main.f");
    mixed.live = 100;
    assert_eq!(of_goroutines(&mixed, Program::default()), None);
    mixed.live = 40;
    assert_eq!(of_goroutines(&mixed, Program::default()), Some(Hint::BlockedSend));
    let mut few = site("sync.Mutex.Lock", "sync.(*Mutex).Lock main.f");
    few.states[0].count = 3;
    few.live = 3;
    assert_eq!(of_goroutines(&few, Program::default()), None, "three are no queue");
    let mut apart = site("sync.Mutex.Lock", "sync.(*Mutex).Lock main.f");
    apart.states[0].objects = 20;
    assert_eq!(of_goroutines(&apart, Program::default()), None, "each before a lock of its own");
}

#[test]
fn what_has_no_stack_of_its_own_is_told_by_other_evidence() {
    let cgo = Program { cgo: true, ..Program::default() };
    assert_eq!((of_native(cgo), of_native(Program::default())), (Hint::CAllocation, Hint::MappedMemory));
    let cleanup = frames("runtime.mallocgc runtime.newobject runtime.AddCleanup[...] main.open");
    assert_eq!(of_allocation(&cleanup, Program::default()), Some(Hint::FinalizerBacklog));
}

#[test]
fn each_hint_says_that_it_guesses_and_has_its_section() {
    let anchors: BTreeSet<&str> =
        PAGE.split("<a id=\"").skip(1).filter_map(|rest| rest.split_once('"')).map(|(anchor, _)| anchor).collect();
    for hint in Hint::ALL {
        assert!(hint.sentence().starts_with("looks like "), "{}", hint.id());
        assert!(hint.link().ends_with(hint.id()));
        assert!(anchors.contains(hint.id()), "no section for {}", hint.id());
    }
    assert_eq!(anchors.len(), Hint::ALL.len(), "a section for nothing");
    for section in PAGE.split("<a id=\"").skip(1) {
        let anchor = section.split('"').next().unwrap();
        for part in ["**What it is.**", "**How to see that it is it.**", "**How to repair it.**", "```go\n"] {
            assert!(section.contains(part), "{anchor}: {part}");
        }
    }
}
