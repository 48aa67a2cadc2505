//! What births say of who allocated: every frame is a function of the program, and called by the one behind it, whatever the program does to its
//! threads and stacks meanwhile. A program that lies harms itself at most.

use std::fs::File;

use rustix::process::Signal;
use serde_json::Value;
use tracer_daemon::{
    inspect::inspect_file,
    plan::{BirthPoints, BurstPlan},
};

use super::{Bursting, breakpoints, target, unruly, wait_for_allocations, windows};
use crate::{leakline::can_attach, target::Target};

/// Names of functions of each stack of a report, leaf first.
fn stacks(document: &Value) -> Vec<Vec<String>> {
    let sites = document["sites"].as_array().unwrap().iter();
    let paths = sites.flat_map(|site| site["paths"].as_array().into_iter().flatten());
    let frames = paths.map(|path| path["frames"].as_array().unwrap());
    let of_go = |frame: &Value| {
        // Of another origin than Go's function table says so.
        assert!(frame.get("origin").is_none_or(Value::is_null), "{frame}");
        frame["function"].as_str().unwrap().to_owned()
    };
    frames.map(|frames| frames.iter().map(of_go).collect()).collect()
}

/// Whether the first function is called by the second in this program; None: it is the first of a goroutine.
fn is_called_by(function: &str, caller: Option<&str>) -> bool {
    match (function, caller) {
        ("main.(*ring).keep", Some(caller)) => ["main.busy", "main.thread", "main.descend"].contains(&caller),
        ("main.descend", Some(caller)) => ["main.descend", "main.dive"].contains(&caller),
        ("main.(*ring).keep" | "main.descend", None) => false,
        // `go dive(…)` is a function of the compiler's that calls it.
        ("main.dive", caller) => caller.is_none_or(|caller| caller.starts_with("main.divers.")),
        (function, None) => function.starts_with("main.") || function.starts_with("runtime."),
        _ => true,
    }
}

/// Most frames of a stack that are kept.
const FRAMES_MAX: usize = 64;

fn frames_are_true(test: &str, mode: &str, number: &str, leaf_and_root: [&str; 2]) {
    if !can_attach(test) {
        return;
    }
    for toolchain in ["go1.19.13", "go1.22.12", "go1.27.3"] {
        let mut target = target(toolchain, &[mode, number]);
        let mut leakline = Bursting::attach(target.pid(), &[]);
        leakline.wait_for_windows(25);
        leakline.running.signal(Signal::INT);
        let document = leakline.finish();
        assert_eq!(breakpoints(target.pid()), 0);
        wait_for_allocations(&mut target);
        let stacks = stacks(&document);
        let [leaf, root] = leaf_and_root;
        let known: Vec<&Vec<String>> =
            stacks.iter().filter(|stack| stack.first().is_some_and(|of| of == leaf)).collect();
        assert!(!known.is_empty(), "{toolchain}: {stacks:?}");
        for stack in &known {
            // Deeper ones have no end.
            let is_whole = stack.len() < FRAMES_MAX - 8;
            for (at, function) in stack.iter().enumerate() {
                let caller = stack.get(at + 1).map(String::as_str);
                let is_right = if caller.is_none() && !is_whole { true } else { is_called_by(function, caller) };
                assert!(is_right, "{toolchain}: {function} is not called by {caller:?} in {stack:?}");
            }
            assert!(!is_whole || stack.iter().any(|function| function == root), "{toolchain}: {stack:?}");
        }
        println!("{mode} {toolchain}: {} windows, {} stacks, {}", windows(&document), stacks.len(), document["loss"]);
    }
}

#[test]
fn stacks_are_true_with_1000_threads() {
    frames_are_true("stacks_are_true_with_1000_threads", "threads", "1000", ["main.(*ring).keep", "main.thread"]);
}

#[test]
fn stacks_are_true_while_the_number_of_processors_changes() {
    let test = "stacks_are_true_while_the_number_of_processors_changes";
    frames_are_true(test, "procs", "2", ["main.(*ring).keep", "main.busy"]);
}

#[test]
fn stacks_are_true_while_they_move() {
    frames_are_true("stacks_are_true_while_they_move", "deep", "4", ["main.(*ring).keep", "main.dive"]);
}

#[test]
fn a_target_that_lies_about_its_heap_neither_stops_leakline_nor_changes_what_is_true() {
    if !can_attach("a_target_that_lies_about_its_heap_neither_stops_leakline_nor_changes_what_is_true") {
        return;
    }
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let program = unruly(toolchain);
        let plan = BurstPlan::of(&inspect_file(File::open(&program).unwrap()).unwrap(), BirthPoints::Certain).unwrap();
        for point in [plan.births.first().unwrap(), plan.births.last().unwrap()] {
            let offset = point.file_offset().0.to_string();
            let mut target = Target::start(&program, &["liar", "1", &offset]);
            let mut leakline = Bursting::attach(target.pid(), &[]);
            leakline.wait_for_windows(25);
            leakline.running.signal(Signal::INT);
            let document = leakline.finish();
            assert!(windows(&document) >= 20, "{}", document["cost"]);
            // It has changed two bytes itself, in its own copy of the page.
            assert_eq!(breakpoints(target.pid()), 2);
            wait_for_allocations(&mut target);
            let stacks = stacks(&document);
            assert!(stacks.iter().any(|stack| *stack == ["main.(*ring).keep", "main.busy"]), "{stacks:?}");
            let memory = document["cost"]["self_rss_bytes"].as_u64().unwrap();
            println!("{toolchain} {}: {} stacks, {memory} bytes, {}", point.function(), stacks.len(), document["loss"]);
            for site in document["sites"].as_array().unwrap() {
                assert!(!["leaking", "growing"].contains(&site["verdict"].as_str().unwrap_or_default()), "{site}");
            }
        }
    }
}
