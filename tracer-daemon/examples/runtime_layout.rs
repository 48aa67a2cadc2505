//! Prints what the DWARF of Go programs says about the runtime, and what leakline's own tables say: one JSON document per
//! program and line. For `cargo xtask codegen layouts`.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

use std::fs::File;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};
use tracer_daemon::inspect::layout::{self, RuntimeLayout};
use tracer_daemon::inspect::{FunctionIds, GoVersion};

fn main() -> Result<()> {
    for path in std::env::args().skip(1) {
        let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        let program = layout::of_program(file).with_context(|| format!("cannot read {path}"))?;
        let version = GoVersion::parse(&program.version).with_context(|| format!("{path} was built by no release"))?;
        let known = layout::known(version.minor, program.architecture);
        let document = json!({
            "version": program.version,
            "minor": version.minor,
            "architecture": program.architecture.name(),
            "layout": sources(&program.layout),
            "known": known.as_ref().map(sources),
            "function_ids": format!("{:?}", program.function_ids),
            "known_function_ids": FunctionIds::known(version.minor).map(|ids| format!("{ids:?}")),
        });
        println!("{document}");
    }
    Ok(())
}

/// The structures in their order, each with its fields in theirs; values are Rust source.
fn sources(layout: &RuntimeLayout) -> Value {
    let structures = layout.sources().into_iter().map(|structure| {
        let fields: Vec<Value> = structure.fields.into_iter().map(|(name, value)| json!([name, value])).collect();
        let mut object = Map::new();
        object.insert("name".to_owned(), structure.name.into());
        object.insert("type".to_owned(), structure.type_name.into());
        object.insert("fields".to_owned(), fields.into());
        Value::Object(object)
    });
    structures.collect()
}
