//! `leakline plan`: what a binary is and what would be probed in it, as text and as JSON.

use std::{borrow::Cow, fmt::Write as _};

use serde::Serialize;

use super::{json::SCHEMA, untrusted};
use crate::{
    inspect::{BinaryFacts, LayoutSource},
    plan::{ProbePlan, ProbePoint, RarePoints, evidence},
};

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    process: Process<'a>,
    plan: Plan<'a>,
}

#[derive(Serialize)]
struct Process<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    pids: &'a [u32],
    exe: String,
    go_version: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    main_module: Option<Cow<'a, str>>,
    stripped: bool,
    pie: bool,
    cgo: bool,
}

#[derive(Serialize)]
struct Plan<'a> {
    go_version: Cow<'a, str>,
    /// Who says where things lie in the runtime's structures.
    layout: &'static str,
    functions: Vec<Function<'a>>,
    globals: Vec<Variable>,
    evidence: Vec<&'static str>,
    refused: Vec<Refused>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    file_offset: u64,
    instruction: &'a str,
    purpose: &'static str,
}

#[derive(Serialize)]
struct Variable {
    name: &'static str,
    address: u64,
    found_by: String,
}

#[derive(Serialize)]
struct Refused {
    id: &'static str,
    text: String,
}

/// A binary with its plan.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// The process that runs it; None where a file was given.
    pub pid: Option<u32>,
    /// All processes that run it; empty where a file or one process was given.
    pub pids: &'a [u32],
    /// Path of the binary.
    pub exe: &'a str,
    /// What it is.
    pub facts: &'a BinaryFacts,
    /// What `exact` would probe.
    pub plan: &'a ProbePlan,
    /// What other kinds of evidence would probe.
    pub rare: &'a RarePoints,
}

impl Planned<'_> {
    pub(super) fn evidence(&self) -> Vec<&'static str> {
        evidence(self.facts, self.plan)
    }

    fn points(&self) -> impl Iterator<Item = &ProbePoint> {
        self.plan.points.iter().chain(&self.rare.points)
    }

    /// Identifier and sentence of all that is refused or missing.
    fn refusals(&self) -> Vec<(&'static str, String)> {
        let exact = self.plan.refused.iter().map(|refusal| (refusal.reason.id(), refusal.text.clone()));
        let rare = self.rare.refused.iter();
        let rare = rare.map(|(purpose, refusal)| {
            (refusal.reason.id(), format!("no point for {}: {}", purpose.name(), refusal.text))
        });
        let globals = self.facts.globals.iter().filter_map(|(_, found)| found.as_ref().err());
        exact.chain(rare).chain(globals.map(|missing| (missing.id(), missing.to_string()))).collect()
    }

    /// One line of JSON without the line feed.
    pub fn line(&self) -> serde_json::Result<String> {
        let facts = self.facts;
        let functions = self
            .points()
            .map(|point| Function {
                name: point.function(),
                file_offset: point.file_offset().0,
                instruction: point.instruction(),
                purpose: point.purpose().name(),
            })
            .collect();
        serde_json::to_string(&Document {
            schema: SCHEMA,
            process: Process {
                pid: self.pid,
                pids: self.pids,
                exe: untrusted::path(self.exe).into_owned(),
                go_version: untrusted::name(&facts.go_version.text),
                build_id: facts.build_id.as_deref().map(untrusted::name),
                main_module: facts.main_module.as_deref().map(untrusted::name),
                stripped: facts.stripped,
                pie: facts.position_independent,
                cgo: facts.cgo,
            },
            plan: Plan {
                go_version: untrusted::name(&facts.go_version.text),
                layout: facts.layout_source.name(),
                functions,
                globals: self.globals().collect(),
                evidence: self.evidence(),
                refused: self
                    .refusals()
                    .into_iter()
                    .map(|(id, text)| Refused { id, text: untrusted::name(&text).into_owned() })
                    .collect(),
            },
        })
    }

    fn globals(&self) -> impl Iterator<Item = Variable> {
        self.facts.globals.iter().filter_map(|(global, found)| {
            let found = found.as_ref().ok()?;
            Some(Variable { name: global.name(), address: found.address.0, found_by: found.found_by.to_string() })
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let facts = self.facts;
        let yes_no = |yes| if yes { "yes" } else { "no" };
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{}", untrusted::path(self.exe));
        let _infallible = writeln!(
            text,
            "  {}, stripped: {}, position independent: {}, cgo: {}\n  main module: {}\n  build id: {}\n  layout of the runtime's structures: {}\n",
            untrusted::name(&facts.go_version.text),
            yes_no(facts.stripped),
            yes_no(facts.position_independent),
            yes_no(facts.cgo),
            facts.main_module.as_deref().map_or("none stated; packages named main".into(), untrusted::name),
            facts.build_id.as_deref().map_or("none".into(), untrusted::name),
            match facts.layout_source {
                LayoutSource::Table => "known",
                LayoutSource::Dwarf => "from its own DWARF, since its version of Go is not known",
            },
        );
        let globals: Vec<Variable> = self.globals().collect();
        let widths =
            self.points().map(|point| point.function().len()).chain(globals.iter().map(|global| global.name.len()));
        let width = widths.max().unwrap_or(0);
        let _infallible = writeln!(text, "  {:<width$}  {:>10}  {:<22}  purpose", "function", "offset", "instruction");
        for point in self.points() {
            let _infallible = writeln!(
                text,
                "  {:<width$}  {:>#10x}  {:<22}  {}",
                point.function(),
                point.file_offset().0,
                point.instruction(),
                point.purpose().name()
            );
        }
        let _infallible = writeln!(text, "\n  {:<width$}  {:>10}  found by", "variable", "address");
        for global in &globals {
            let _infallible =
                writeln!(text, "  {:<width$}  {:>#10x}  {}", global.name, global.address, global.found_by);
        }
        let refusals = self.refusals();
        if !refusals.is_empty() {
            let _infallible = writeln!(text);
        }
        for (id, why) in refusals {
            let _infallible = writeln!(text, "  refused: {} ({id})", untrusted::name(&why));
        }
        let evidence = self.evidence();
        let evidence = if evidence.is_empty() { "none".to_owned() } else { evidence.join(", ") };
        let _infallible = writeln!(text, "\n  evidence possible: {evidence}");
        text
    }
}
