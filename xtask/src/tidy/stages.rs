//! Rules over what a source names: stages import only stages before them, `aya` and `unsafe` have their places, `plan` and
//! `model` are pure.

use super::Finding;
use super::names::{Name, Source};

/// The file whose `pub mod` order is the order of the stages.
pub(super) const LIBRARY: &str = "tracer-daemon/src/lib.rs";
const DAEMON: &str = "tracer-daemon/src/";
/// Other crates of the workspace, and the daemon's own tests and binary, name the library by this.
const LIBRARY_CRATE: &str = "tracer_daemon";

/// Modules that every stage may import and that import none.
const FREE: [&str; 3] = ["addr", "units", "selfstat"];
/// Modules that may import everything and that no stage may import.
const TOP: [&str; 4] = ["lib", "main", "pipeline", "cli"];
/// Where `aya` may be named.
const AYA_PLACES: [&str; 4] = ["host/", "attach/", "collect/", "discover/events.rs"];
const AYA_CRATES: [&str; 2] = ["aya", "aya_obj"];
/// Stages that do no IO, read no clock, spawn nothing.
const PURE: [&str; 2] = ["plan", "model"];
/// What a pure stage must not name.
const IMPURE: [&[&str]; 8] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "Instant"],
    &["std", "time", "SystemTime"],
    &["tokio"],
    &["procfs"],
];
/// Files of the daemon in which `unsafe` may stand.
const UNSAFE_FILES: [&str; 1] = ["tracer-daemon/src/attach/bpf.rs"];
/// Crates in which `unsafe` may stand anywhere.
const UNSAFE_CRATES: [&str; 2] = ["tracer-ebpf/", "tracer-common/"];

/// The daemon's modules in the order of the flow.
#[derive(Debug, Default)]
pub(super) struct Order(Vec<String>);

impl Order {
    /// Reads the order of the modules from the text of [`LIBRARY`].
    pub(super) fn of_library(text: &str) -> Result<Self, String> {
        let file = syn::parse_file(text).map_err(|error| format!("cannot be parsed: {error}"))?;
        let modules = file.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) => Some(module.ident.to_string()),
            _ => None,
        });
        Ok(Self(modules.collect()))
    }

    fn position(&self, module: &str) -> Option<usize> {
        self.0.iter().position(|known| known == module)
    }
}

/// All rules that apply to what a file of this name, relative to the workspace, names.
pub(super) fn check(file: &str, source: &Source, order: &Order) -> Vec<Finding> {
    let mut findings = unsafe_places(file, source);
    if let Some(inside) = file.strip_prefix(DAEMON) {
        let module = module_of(inside);
        findings.extend(source.names.iter().filter_map(|name| aya_place(inside, name)));
        findings.extend(source.names.iter().filter_map(|name| stage_order(&module, name, order)));
        findings.extend(source.names.iter().filter_map(|name| purity(&module, name)));
    }
    findings
}

fn unsafe_places(file: &str, source: &Source) -> Vec<Finding> {
    if UNSAFE_FILES.contains(&file) || UNSAFE_CRATES.iter().any(|crate_| file.starts_with(crate_)) {
        return Vec::new();
    }
    let found = source.unsafe_lines.iter();
    found.map(|&line| Finding::failure(line, format!("`unsafe` stands only in {}", UNSAFE_FILES.join(", ")))).collect()
}

fn aya_place(inside: &str, name: &Name) -> Option<Finding> {
    let named = AYA_CRATES.contains(&name.segments.first()?.as_str());
    let allowed = AYA_PLACES.iter().any(|place| inside.starts_with(place));
    (named && !allowed)
        .then(|| Finding::failure(name.line, format!("`aya` is named only in {}", AYA_PLACES.join(", "))))
}

fn stage_order(module: &[String], name: &Name, order: &Order) -> Option<Finding> {
    let stage = module.first()?.as_str();
    if TOP.contains(&stage) {
        return None;
    }
    let target = absolute(module, name)?;
    let imported = target.first()?;
    if imported == "*" {
        return Some(Finding::failure(name.line, "imports the whole crate: name the stage"));
    }
    if imported == stage || FREE.contains(&imported.as_str()) {
        return None;
    }
    if TOP.contains(&imported.as_str()) {
        return Some(Finding::failure(
            name.line,
            format!("`{imported}` is above the stages: `{stage}` may not name it"),
        ));
    }
    // Not a module: an item of lib.rs.
    let position = order.position(imported)?;
    if FREE.contains(&stage) {
        return Some(Finding::failure(
            name.line,
            format!("`{stage}` is below the stages: it may not name `{imported}`"),
        ));
    }
    match order.position(stage) {
        None => Some(Finding::failure(name.line, format!("`{stage}` is not declared in {LIBRARY}"))),
        Some(own) if position > own => {
            let message = format!("`{stage}` comes before `{imported}` in {LIBRARY} and may not name it");
            Some(Finding::failure(name.line, message))
        }
        Some(_) => None,
    }
}

fn purity(module: &[String], name: &Name) -> Option<Finding> {
    let stage = module.first()?.as_str();
    let for_tests = name.in_test || module.last().is_some_and(|last| last == "tests");
    if !PURE.contains(&stage) || for_tests {
        return None;
    }
    let segments: Vec<_> = name.segments.iter().map(String::as_str).collect();
    let impure = IMPURE.iter().any(|banned| segments.starts_with(banned));
    // `use std::time;` or `use std::time::*` would hide a clock behind a shorter name.
    let hides = name.imported
        && match segments.split_last() {
            Some((&"*", parent)) => IMPURE.iter().any(|banned| banned.starts_with(parent)),
            _ => IMPURE.iter().any(|banned| banned.len() > segments.len() && banned.starts_with(&segments)),
        };
    (impure || hides).then(|| {
        let named = segments.join("::");
        Finding::failure(name.line, format!("`{stage}` is pure: it may not name `{named}`"))
    })
}

/// The module path of a file below `src`: `read/mod.rs` is `read`, `read/raw.rs` is `read::raw`.
fn module_of(inside: &str) -> Vec<String> {
    let path = inside.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// What a name means from the root of the crate. None means that it leads outside, or is local.
fn absolute(module: &[String], name: &Name) -> Option<Vec<String>> {
    let mut base: Vec<String> = module.iter().chain(&name.inside).cloned().collect();
    let mut segments = name.segments.as_slice();
    match segments.first()?.as_str() {
        "crate" | LIBRARY_CRATE => return Some(segments[1..].to_vec()),
        "self" => segments = &segments[1..],
        "super" => {
            while segments.first().is_some_and(|segment| segment == "super") {
                base.pop();
                segments = &segments[1..];
            }
        }
        _ => return None,
    }
    base.extend(segments.iter().cloned());
    Some(base)
}

#[cfg(test)]
mod tests {
    use super::{Order, check};
    use crate::tidy::names::of_source;

    const LIBRARY: &str = "//! x\npub mod addr;\npub mod host;\npub mod discover;\npub mod inspect;\npub mod plan;\n\
                           pub mod attach;\npub mod read;\npub mod collect;\npub mod symbolize;\npub mod model;\n\
                           pub mod export;\npub mod pipeline;";

    fn messages(file: &str, text: &str) -> Vec<String> {
        let order = Order::of_library(LIBRARY).unwrap();
        let file = format!("tracer-daemon/src/{file}");
        check(&file, &of_source(text).unwrap(), &order).into_iter().map(|finding| finding.message).collect()
    }

    #[track_caller]
    fn fails(file: &str, text: &str, part: &str) {
        let messages = messages(file, text);
        assert_eq!(messages.len(), 1, "{file}: {text}: {messages:?}");
        assert!(messages[0].contains(part), "{file}: {text}: {messages:?}");
    }

    #[track_caller]
    fn passes(file: &str, text: &str) {
        assert_eq!(messages(file, text), [""; 0], "{file}: {text}");
    }

    #[test]
    fn a_stage_may_not_name_a_later_stage() {
        let part = "may not name";
        fails("symbolize/mod.rs", "use crate::model::Site;", part);
        fails("symbolize/mod.rs", "use crate::{addr::Avma, model::Site};", part);
        fails("symbolize/mod.rs", "fn f() { crate::export::show() }", part);
        fails("symbolize/deep/file.rs", "use super::super::super::model::Site;", part);
        fails("symbolize/mod.rs", "mod inner { use super::super::model::Site; }", part);
        fails("symbolize/mod.rs", "fn f() { dbg!(crate::model::X) }", part);
        fails("symbolize/mod.rs", "fn f(site: &crate::model::Site) {}", part);
        fails("host/mod.rs", "#[cfg(test)] mod tests { use crate::read::Books; }", part);
    }

    #[test]
    fn a_stage_may_not_name_what_runs_the_stages() {
        fails("model/mod.rs", "use crate::pipeline::run;", "above the stages");
        fails("addr.rs", "use crate::model::Site;", "below the stages");
        fails("model/mod.rs", "use crate::*;", "whole crate");
        fails("mystery.rs", "use crate::model::Site;", "not declared");
    }

    #[test]
    fn a_stage_may_name_stages_before_it_and_the_free_modules() {
        passes("model/mod.rs", "use crate::symbolize::Frame; use crate::addr::Avma; use crate::units::Bytes;");
        passes("model/sites.rs", "use super::snapshot::X; use super::super::read::Books; use crate::model::Y;");
        passes("pipeline.rs", "use crate::{export, model, read};");
        passes("cli/mod.rs", "use crate::pipeline;");
        passes("main.rs", "use tracer_daemon::export;");
        passes("model/mod.rs", "// use crate::export\nuse crate::VERSION;");
    }

    #[test]
    fn the_order_is_that_of_the_library() {
        let order = Order::of_library("pub mod model; pub mod symbolize;").unwrap();
        let source = of_source("use crate::model::Site;").unwrap();
        assert_eq!(check("tracer-daemon/src/symbolize/mod.rs", &source, &order), []);
    }

    #[test]
    fn aya_has_its_places() {
        fails("read/mod.rs", "use aya::Ebpf;", "`aya` is named only in");
        fails("discover/mod.rs", "fn f() -> aya::Ebpf {}", "`aya` is named only in");
        fails("model/mod.rs", "fn f() { aya::include_bytes_aligned!(\"x\"); }", "`aya` is named only in");
        fails("export/mod.rs", "extern crate aya;", "`aya` is named only in");
        passes("attach/links.rs", "use aya::programs::UProbe;");
        passes("discover/events.rs", "use aya::maps::RingBuf;");
        passes("read/mod.rs", "// aya::Ebpf\nconst X: &str = \"aya::Ebpf\";");
    }

    #[test]
    fn pure_stages_do_no_io_and_read_no_clock() {
        let bad = [
            "use std::fs;",
            "use std::fs::File;",
            "use std::net::TcpStream;",
            "use std::process::Command;",
            "use std::thread;",
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "use std::time;",
            "use std::time::*;",
            "use std::*;",
            "use std as s;",
            "use tokio::spawn;",
            "use tokio;",
            "use procfs::process::Process;",
            "fn f() { std::fs::read(\"x\"); }",
            "fn f() { assert!(std::time::Instant::now() > x); }",
        ];
        for text in bad {
            fails("plan/mod.rs", text, "is pure");
            fails("model/books.rs", text, "is pure");
        }
        passes("read/mod.rs", "use std::fs;");
        passes("model/mod.rs", "use std::time::Duration; use std::fmt; use std::io::Write;");
        passes("model/mod.rs", "#[cfg(test)] mod tests { fn f() { std::fs::read(\"recording\"); } }");
        passes("model/tests.rs", "use std::fs;");
    }

    #[test]
    fn unsafe_has_its_places() {
        fails("model/mod.rs", "fn f() { unsafe { g() } }", "`unsafe` stands only in");
        fails("host/mod.rs", "unsafe impl Send for X {}", "`unsafe` stands only in");
        fails("host/mod.rs", "fn f() { call!(unsafe { g() }) }", "`unsafe` stands only in");
        passes("attach/bpf.rs", "fn f() { unsafe { g() } }");
        let source = of_source("fn f() { unsafe { g() } }").unwrap();
        let order = Order::default();
        assert_eq!(check("tracer-ebpf/src/main.rs", &source, &order), []);
        assert_eq!(check("tracer-common/src/exact.rs", &source, &order), []);
        assert_eq!(check("xtask/src/main.rs", &source, &order).len(), 1);
        assert_eq!(check("tracer-daemon/tests/it/main.rs", &source, &order).len(), 1);
    }
}
