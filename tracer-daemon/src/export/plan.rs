//! `leakline plan`: what a binary is and what would be probed in it, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{json::SCHEMA, untrusted};
use crate::{inspect::BinaryFacts, plan::ProbePlan};

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
    exe: String,
    go_version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    main_module: Option<&'a str>,
    stripped: bool,
    pie: bool,
    cgo: bool,
}

#[derive(Serialize)]
struct Plan<'a> {
    go_version: &'a str,
    functions: Vec<Function<'a>>,
    evidence: Vec<&'static str>,
    refused: Vec<Refused<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    file_offset: u64,
    instruction: &'a str,
    purpose: &'static str,
}

#[derive(Serialize)]
struct Refused<'a> {
    id: &'static str,
    text: &'a str,
}

/// A binary with its plan.
#[derive(Clone, Copy, Debug)]
pub struct Planned<'a> {
    /// The process that runs it; None where a file was given.
    pub pid: Option<u32>,
    /// Path of the binary.
    pub exe: &'a str,
    /// What it is.
    pub facts: &'a BinaryFacts,
    /// What would be probed.
    pub plan: &'a ProbePlan,
}

impl Planned<'_> {
    fn evidence(&self) -> Vec<&'static str> {
        if self.plan.counts_allocations { vec!["exact"] } else { Vec::new() }
    }

    /// One line of JSON without the line feed.
    pub fn line(&self) -> serde_json::Result<String> {
        let facts = self.facts;
        let functions = self
            .plan
            .points
            .iter()
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
                exe: untrusted::path(self.exe).into_owned(),
                go_version: &facts.go_version.text,
                build_id: facts.build_id.as_deref(),
                main_module: facts.main_module.as_deref(),
                stripped: facts.stripped,
                pie: facts.position_independent,
                cgo: facts.cgo,
            },
            plan: Plan {
                go_version: &facts.go_version.text,
                functions,
                evidence: self.evidence(),
                refused: self
                    .plan
                    .refused
                    .iter()
                    .map(|refusal| Refused { id: refusal.reason.id(), text: &refusal.text })
                    .collect(),
            },
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
            "  {}, stripped: {}, position independent: {}, cgo: {}\n  main module: {}\n  build id: {}\n",
            facts.go_version.text,
            yes_no(facts.stripped),
            yes_no(facts.position_independent),
            yes_no(facts.cgo),
            facts.main_module.as_deref().map_or("none stated; packages named main".into(), untrusted::name),
            facts.build_id.as_deref().map_or("none".into(), untrusted::name),
        );
        let points = &self.plan.points;
        let width = points.iter().map(|point| point.function().len()).max().unwrap_or(0);
        for point in points {
            let _infallible = writeln!(
                text,
                "  {:<width$}  {:>#10x}  {:<22}  {}",
                point.function(),
                point.file_offset().0,
                point.instruction(),
                point.purpose().name()
            );
        }
        for refusal in &self.plan.refused {
            let _infallible = writeln!(text, "  refused: {refusal}");
        }
        let evidence = self.evidence();
        let evidence = if evidence.is_empty() { "none".to_owned() } else { evidence.join(", ") };
        let _infallible = writeln!(text, "\n  evidence possible: {evidence}");
        text
    }
}
