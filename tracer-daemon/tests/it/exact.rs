//! Kernel tests: `exact` evidence counts every allocation and goroutine of `tests/programs/knownsites`, whose numbers
//! are known, and attributes each to its line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    go::Build,
    leakline::{Running, can_attach},
    target::Target,
};

const STRIPPED: &[&str] = &["-ldflags=-s -w"];

/// What the program says after its phase.
#[derive(Deserialize)]
struct Truth {
    sites: Vec<SiteTruth>,
    goroutines: Vec<GoroutineTruth>,
    objects: u64,
}

#[derive(Deserialize)]
struct SiteTruth {
    name: String,
    function: String,
    file: String,
    line: u64,
    objects: u64,
    bytes: Option<u64>,
    #[serde(default)]
    paths: Vec<u64>,
}

#[derive(Deserialize)]
struct GoroutineTruth {
    name: String,
    function: String,
    line: u64,
    created: u64,
    exited: u64,
    stacks: u64,
}

pub(crate) fn knownsites(toolchain: &str, flags: &[&str]) -> PathBuf {
    let mut environment = vec![("CGO_ENABLED", "0")];
    if toolchain.starts_with("go1.22") {
        environment.push(("GOEXPERIMENT", "rangefunc")); // iter.Pull before it was official
    }
    Build { program: "knownsites", toolchain, flags, environment: &environment }.path()
}

/// What one run gave: leakline's document and the program's truth.
fn run(program: &Path) -> (Value, Truth) {
    let mut target = Target::start(program, &[]);
    let running = Running::attach(target.pid(), &[]);
    target.say("go");
    assert_eq!(target.line(), "done");
    let truth = serde_json::from_str(&target.line()).unwrap();
    let document = running.report();
    target.close_stdin();
    assert!(target.wait().success(), "the target did not end well after it was watched");
    (document, truth)
}

/// The runtime allocates a little for itself while the program runs; the numbers of lines must not know of it.
const OF_THE_RUNTIME_OBJECTS: u64 = 60;

/// Runs `knownsites` under leakline: how many objects were counted, all of them right; else all that is wrong.
pub(crate) fn count(program: &Path) -> Result<u64, String> {
    let (document, truth) = run(program);
    let mut problems = Vec::new();
    let mut check = |what: String, got: u64, expected: u64| {
        if got != expected {
            problems.push(format!("{what}: {got}, expected {expected}"));
        }
    };

    // One line may be several sites, one for each allocator of the standard library that it calls.
    let mut lines: BTreeMap<(&str, u64), Vec<&Value>> = BTreeMap::new();
    for site in document["sites"].as_array().unwrap() {
        if let (Some(function), Some(line)) = (site["function"].as_str(), site["line"].as_u64()) {
            lines.entry((function, line)).or_default().push(site);
        }
    }
    let sum =
        |sites: &[&Value], field: &str| sites.iter().map(|site| site["counted"][field].as_u64().unwrap()).sum::<u64>();
    for site in &truth.sites {
        let found = lines.get(&(site.function.as_str(), site.line)).map_or(&[][..], Vec::as_slice);
        check(format!("{}: objects", site.name), sum(found, "objects"), site.objects);
        if let Some(bytes) = site.bytes {
            check(format!("{}: bytes", site.name), sum(found, "bytes"), bytes);
        }
        for found in found {
            let file = found["file"].as_str().unwrap();
            check(format!("{}: {file}", site.name), u64::from(file.ends_with(&format!("/{}", site.file))), 1);
        }
        if !site.paths.is_empty() && found.len() == 1 {
            let mut expected = site.paths.clone();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            let paths = found[0]["paths"].as_array().unwrap();
            let mut got: Vec<u64> = paths.iter().map(|path| path["counted"]["objects"].as_u64().unwrap()).collect();
            got.sort_unstable_by(|a, b| b.cmp(a));
            check(format!("{}: number of paths", site.name), got.len() as u64, expected.len() as u64);
            for (got, expected) in got.into_iter().zip(expected) {
                check(format!("{}: a path", site.name), got, expected);
            }
        }
    }

    let goroutines = document["goroutines"]["sites"].as_array().unwrap();
    for line in &truth.goroutines {
        let found: Vec<&Value> = goroutines
            .iter()
            .filter(|site| site["function"] == *line.function && (line.line == 0 || site["line"] == line.line))
            .collect();
        let sum = |field: &str| found.iter().map(|site| site[field].as_u64().unwrap()).sum::<u64>();
        check(format!("goroutines of {}: created", line.name), sum("created"), line.created);
        check(format!("goroutines of {}: exited", line.name), sum("exited"), line.exited);
        if line.stacks > 0 && line.created > 0 {
            let frames = found.first().map_or(0, |site| site["creation_stack"].as_array().unwrap().len());
            check(format!("{}: creation stack of more than one frame", line.name), u64::from(frames > 1), 1);
        }
    }

    // Nothing was lost, and nothing counted twice: beside the truth there is what the program needs to tell it (its
    // functions after the phase) and a few objects of the runtime.
    for (reason, lost) in document["loss"].as_object().unwrap() {
        check(format!("lost by {reason}"), lost.as_u64().unwrap(), 0);
    }
    let of_the_runtime: u64 = lines
        .iter()
        .filter(|((function, _), _)| function.starts_with("runtime."))
        .map(|(_, sites)| sum(sites, "objects"))
        .sum();
    if of_the_runtime > OF_THE_RUNTIME_OBJECTS {
        problems.push(format!("{of_the_runtime} objects of the runtime"));
    }
    if problems.is_empty() { Ok(truth.objects) } else { Err(problems.join("\n")) }
}

fn counts_are_exact(toolchain: &str, flags: &[&str]) {
    if !can_attach(&format!("exact counts of {toolchain} {flags:?}")) {
        return;
    }
    match count(&knownsites(toolchain, flags)) {
        Ok(objects) => println!("{toolchain} {flags:?}: {objects} objects exact"),
        Err(problems) => panic!("{toolchain} {flags:?}:\n{problems}"),
    }
}

macro_rules! every_line_is_counted_exactly {
    ($($name:ident: $toolchain:literal, $flags:expr;)*) => {$(
        #[test]
        fn $name() {
            counts_are_exact($toolchain, $flags);
        }
    )*};
}

every_line_is_counted_exactly! {
    every_line_is_counted_exactly_in_go1_22: "go1.22.12", &[];
    every_line_is_counted_exactly_in_go1_22_stripped: "go1.22.12", STRIPPED;
    every_line_is_counted_exactly_in_go1_23: "go1.23.12", &[];
    every_line_is_counted_exactly_in_go1_24: "go1.24.11", &[];
    every_line_is_counted_exactly_in_go1_24_stripped: "go1.24.11", STRIPPED;
    every_line_is_counted_exactly_in_go1_25: "go1.25.5", &[];
    every_line_is_counted_exactly_in_go1_26: "go1.26.6", &[];
    every_line_is_counted_exactly_in_go1_26_stripped: "go1.26.6", STRIPPED;
    every_line_is_counted_exactly_in_go1_27: "go1.27.3", &[];
    every_line_is_counted_exactly_in_go1_27_stripped: "go1.27.3", STRIPPED;
    every_line_is_counted_exactly_in_go1_27_position_independent: "go1.27.3", &["-buildmode=pie"];
}
