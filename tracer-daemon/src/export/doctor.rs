//! `leakline doctor`: what the host allows, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::json::SCHEMA;
use crate::{
    attach::{InstructionKind, TrapCost, TrapCosts},
    host::{Check, Evidence, Status},
};

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    doctor: Doctor<'a>,
}

#[derive(Serialize)]
struct Doctor<'a> {
    can_attach: bool,
    evidence: [EvidenceDocument<'a>; 3],
    checks: Vec<CheckDocument<'a>>,
    /// Missing: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_costs: Option<Vec<CostDocument>>,
}

#[derive(Serialize)]
struct EvidenceDocument<'a> {
    name: &'static str,
    possible: bool,
    /// Ids of checks.
    missing: Vec<&'a str>,
    limited: Vec<&'a str>,
}

#[derive(Serialize)]
struct CostDocument {
    instruction: &'static str,
    cpu_ns: f64,
    measured: bool,
}

#[derive(Serialize)]
struct CheckDocument<'a> {
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    concerns: Vec<&'static str>,
    found: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
}

/// Whether evidence of some kind is possible.
pub fn can_look(checks: &[Check]) -> bool {
    Evidence::ALL.iter().any(|evidence| evidence.is_possible(checks))
}

/// Whether evidence of every kind is.
fn can_attach(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Missing)
}

/// One line of JSON without the line feed. `costs`: None where they are not known.
pub fn line(checks: &[Check], costs: Option<&TrapCosts>) -> serde_json::Result<String> {
    let checks_document = checks
        .iter()
        .map(|check| CheckDocument {
            id: check.id,
            status: check.status.name(),
            concerns: check.concerns.iter().map(|evidence| evidence.name()).collect(),
            found: &check.found,
            fix: check.fix.as_deref(),
        })
        .collect();
    serde_json::to_string(&Document {
        schema: SCHEMA,
        doctor: Doctor {
            can_attach: can_attach(checks),
            evidence: Evidence::ALL.map(|evidence| evidence_document(evidence, checks)),
            checks: checks_document,
            hit_costs: costs.map(cost_documents),
        },
    })
}

fn evidence_document(evidence: Evidence, checks: &[Check]) -> EvidenceDocument<'_> {
    EvidenceDocument {
        name: evidence.name(),
        possible: evidence.is_possible(checks),
        missing: evidence.missing(checks).map(|check| check.id).collect(),
        limited: evidence.limited(checks).map(|check| check.id).collect(),
    }
}

fn cost_documents(costs: &TrapCosts) -> Vec<CostDocument> {
    let document = |(kind, cost): (InstructionKind, TrapCost)| CostDocument {
        instruction: kind.name(),
        cpu_ns: cost.ns.round(),
        measured: cost.is_measured,
    };
    costs.all().map(document).into()
}

/// For people. `costs`: None where they are not known.
pub fn text(checks: &[Check], costs: Option<&TrapCosts>) -> String {
    let mut text = String::new();
    let id_width = checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
    for check in checks {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{:<7}  {:<id_width$}  {}", check.status.name(), check.id, check.found);
        if let Some(fix) = &check.fix {
            let _infallible = writeln!(text, "{:<7}  {:<id_width$}  -> {fix}", "", "");
        }
    }
    if let Some(costs) = costs {
        let costs = costs.all().map(|(kind, cost)| {
            let guessed = if cost.is_measured { "" } else { " (not measured: as the others)" };
            format!("{:.0} ns at a {}{guessed}", cost.ns, kind.name())
        });
        let _infallible = writeln!(text, "\nA hit of a probe costs the program CPU time: {}.", costs.join(", "));
    }
    let _infallible = writeln!(text, "\nEvidence that is possible on this host:");
    for evidence in Evidence::ALL {
        let _infallible = writeln!(text, "{:<6}  {}", evidence.name(), verdict(&evidence_document(evidence, checks)));
    }
    text
}

/// Whether it is possible, and the checks that say why not, or why it is limited.
fn verdict(evidence: &EvidenceDocument<'_>) -> String {
    let EvidenceDocument { possible, missing, limited, .. } = evidence;
    if !possible {
        format!("not possible before this is fixed: {}", missing.join(", "))
    } else if limited.is_empty() {
        "possible".to_owned()
    } else {
        format!("possible, with limits: {}", limited.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check::good("kernel", "Linux 6.12.1"),
            Check::not_good("capabilities", Status::Missing, Evidence::WITH_PROBES, "lacking CAP_BPF", "run as root"),
            Check::not_good("reading", Status::Limited, &Evidence::ALL, "the same user", "grant CAP_SYS_PTRACE"),
        ]
    }

    #[test]
    fn what_is_missing_stands_with_its_fix() {
        expect![[r"
            good     kernel        Linux 6.12.1
            missing  capabilities  lacking CAP_BPF
                                   -> run as root
            limited  reading       the same user
                                   -> grant CAP_SYS_PTRACE

            Evidence that is possible on this host:
            books   possible, with limits: reading
            bursts  not possible before this is fixed: capabilities
            exact   not possible before this is fixed: capabilities
        "]]
        .assert_eq(&text(&checks(), None));
        expect![[r#"{"schema":"leakline/1","doctor":{"can_attach":false,"evidence":[{"name":"books","possible":true,"missing":[],"limited":["reading"]},{"name":"bursts","possible":false,"missing":["capabilities"],"limited":["reading"]},{"name":"exact","possible":false,"missing":["capabilities"],"limited":["reading"]}],"checks":[{"id":"kernel","status":"good","found":"Linux 6.12.1"},{"id":"capabilities","status":"missing","concerns":["bursts","exact"],"found":"lacking CAP_BPF","fix":"run as root"},{"id":"reading","status":"limited","concerns":["books","bursts","exact"],"found":"the same user","fix":"grant CAP_SYS_PTRACE"}]}}"#]].assert_eq(&line(&checks(), None).unwrap());
    }

    #[test]
    fn one_kind_of_evidence_is_enough() {
        let mut checks = checks();
        assert!(can_look(&checks) && !can_attach(&checks));
        checks.push(Check::not_good("yama_ptrace_scope", Status::Missing, Evidence::READING, "3", "boot"));
        assert!(!can_look(&checks));
    }

    #[test]
    fn what_a_hit_costs_stands_before_the_verdicts() {
        let cost = |ns, is_measured| TrapCost { ns, is_measured };
        let costs = TrapCosts { push: cost(570.4, true), call: cost(650.0, true), jump: cost(610.2, false) };
        expect![[r"
            good     kernel  Linux 6.12.1

            A hit of a probe costs the program CPU time: 570 ns at a push, 650 ns at a call, 610 ns at a jump (not measured: as the others).

            Evidence that is possible on this host:
            books   possible
            bursts  possible
            exact   possible
        "]].assert_eq(&text(&[Check::good("kernel", "Linux 6.12.1")], Some(&costs)));
        let document = line(&[], Some(&costs)).unwrap();
        assert!(document.contains(r#"{"instruction":"jump","cpu_ns":610.0,"measured":false}"#), "{document}");
    }
}
