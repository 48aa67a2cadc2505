//! C frames between Go frames: named in their place where the program still holds their names, and never instead of the
//! user's line.

use serde_json::Value;

use crate::go::Build;
use crate::leakline::{Running, can_attach};
use crate::target::Target;

/// Allocations on each path of `cgoframes`.
const OBJECTS: u64 = 500;
/// The functions of C between `main.throughC` and `main.goAllocate`, leaf first. The first is written by cgo.
const CALLS: [&str; 4] = ["goAllocate", "c_hidden", "c_inner", "c_outer"];

/// What leakline reports of `cgoframes`, built with these flags.
fn watched(toolchain: &str, flags: &[&str]) -> Value {
    let environment = &[("CGO_ENABLED", "1")];
    let program = Build { program: "cgoframes", toolchain, flags, environment }.path();
    let mut target = Target::start(&program, &[]);
    let running = Running::attach(target.pid(), &[]);
    target.say(&OBJECTS.to_string());
    assert_eq!(target.line(), "done");
    running.report()
}

/// The frames of the one path to the line of a function, and how many objects were counted there.
fn path_to<'document>(document: &'document Value, function: &str) -> &'document Vec<Value> {
    let sites = document["sites"].as_array().unwrap();
    let of_function = |site: &&Value| site["function"] == function && site["counted"]["objects"] == OBJECTS;
    let found: Vec<&Value> = sites.iter().filter(of_function).collect();
    assert_eq!(found.len(), 1, "{function}: {document:#}");
    assert_eq!(found[0]["allocator"]["function"], function);
    let paths = found[0]["paths"].as_array().unwrap();
    assert_eq!(paths.len(), 1, "{function}: {paths:#?}");
    paths[0]["frames"].as_array().unwrap()
}

fn names<'frames>(frames: &'frames [Value], origin: &str) -> Vec<&'frames str> {
    let of_origin = frames.iter().filter(|frame| frame["origin"] == origin);
    of_origin.map(|frame| frame["function"].as_str().unwrap()).collect()
}

fn all_names(frames: &[Value]) -> String {
    frames.iter().map(|frame| frame["function"].as_str().unwrap()).collect::<Vec<_>>().join(" < ")
}

/// Where in the path a Go function is.
fn place(frames: &[Value], function: &str) -> usize {
    let is_it = |frame: &Value| frame["function"] == function && frame.get("origin").is_none();
    frames.iter().position(is_it).unwrap_or_else(|| panic!("{function} is not in {frames:#?}"))
}

#[test]
fn functions_of_c_are_named_between_those_of_go() {
    if !can_attach("functions_of_c_are_named_between_those_of_go") {
        return;
    }
    for toolchain in ["go1.19.13", "go1.22.12", "go1.26.6", "go1.27.3"] {
        for mode in ["-buildmode=exe", "-buildmode=pie"] {
            let document = watched(toolchain, &[mode]);
            let frames = path_to(&document, "main.goAllocate");
            assert_eq!(place(frames, "main.goAllocate"), 0);
            let native = names(frames, "native");
            println!("{toolchain} {mode}: {}", all_names(frames));
            assert_eq!(native.get(..4), Some(&CALLS[..]), "{toolchain} {mode}");
            let below = place(frames, "main.throughC");
            let first = frames.iter().position(|frame| frame["function"] == "c_hidden").unwrap();
            assert!(0 < first && first + 2 < below, "{frames:#?}");
            assert!(place(frames, "main.main") > below);
            assert!(frames.iter().filter(|frame| frame["origin"] == "native").all(|frame| frame.get("file").is_none()));
            // C's threads have no Go below.
            let frames = path_to(&document, "main.goOnThread");
            println!("{toolchain} {mode}: {}", all_names(frames));
            assert_eq!(names(frames, "native"), ["goOnThread", "c_thread"], "{toolchain} {mode}");
            assert!(frames.iter().all(|frame| frame["function"] != "main.main"), "{frames:#?}");
        }
    }
}

#[test]
fn functions_of_c_without_a_symbol_have_no_name() {
    if !can_attach("functions_of_c_without_a_symbol_have_no_name") {
        return;
    }
    for mode in ["-buildmode=exe", "-buildmode=pie"] {
        let document = watched("go1.26.6", &[mode, "-ldflags=-linkmode=external -s -w"]);
        let frames = path_to(&document, "main.goAllocate");
        let native = names(frames, "native");
        // What is left are the names of the file, and of functions that the dynamic linker must find.
        assert!(!native.is_empty() && !native.contains(&"c_hidden"), "{mode}: {frames:#?}");
        let known = |name: &&str| CALLS.contains(name) || (name.starts_with("[cgoframes") && name.ends_with(']'));
        assert!(native.iter().all(known), "{mode}: {native:?}");
        assert!(place(frames, "main.throughC") > 0);
    }
}
