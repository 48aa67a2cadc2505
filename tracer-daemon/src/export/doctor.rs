//! `leakline doctor`: what the host allows, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::json::SCHEMA;
use crate::{
    attach::{InstructionKind, TrapCost, TrapCosts},
    host::{Check, Status},
};

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    doctor: Doctor<'a>,
}

#[derive(Serialize)]
struct Doctor<'a> {
    can_attach: bool,
    checks: Vec<CheckDocument<'a>>,
    /// Missing: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    hit_costs: Option<Vec<CostDocument>>,
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
    found: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
}

/// Whether nothing that attaching needs is missing.
pub fn can_attach(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.status != Status::Missing)
}

/// One line of JSON without the line feed. `costs`: None where they are not known.
pub fn line(checks: &[Check], costs: Option<&TrapCosts>) -> serde_json::Result<String> {
    let checks_document = checks
        .iter()
        .map(|check| CheckDocument {
            id: check.id,
            status: check.status.name(),
            found: &check.found,
            fix: check.fix.as_deref(),
        })
        .collect();
    serde_json::to_string(&Document {
        schema: SCHEMA,
        doctor: Doctor {
            can_attach: can_attach(checks),
            checks: checks_document,
            hit_costs: costs.map(cost_documents),
        },
    })
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
    let verdict = if can_attach(checks) {
        "leakline can attach on this host (evidence: exact)."
    } else {
        "leakline cannot attach on this host before what is missing is fixed."
    };
    let _infallible = writeln!(text, "\n{verdict}");
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn checks() -> Vec<Check> {
        vec![
            Check { id: "kernel", status: Status::Good, found: "Linux 6.12.1".into(), fix: None },
            Check {
                id: "capabilities",
                status: Status::Missing,
                found: "lacking CAP_BPF".into(),
                fix: Some("run as root".into()),
            },
        ]
    }

    #[test]
    fn what_is_missing_stands_with_its_fix() {
        expect![[r"
            good     kernel        Linux 6.12.1
            missing  capabilities  lacking CAP_BPF
                                   -> run as root

            leakline cannot attach on this host before what is missing is fixed.
        "]]
        .assert_eq(&text(&checks(), None));
        expect![[r#"{"schema":"leakline/1","doctor":{"can_attach":false,"checks":[{"id":"kernel","status":"good","found":"Linux 6.12.1"},{"id":"capabilities","status":"missing","found":"lacking CAP_BPF","fix":"run as root"}]}}"#]]
        .assert_eq(&line(&checks(), None).unwrap());
    }

    #[test]
    fn what_a_hit_costs_stands_below() {
        let cost = |ns, is_measured| TrapCost { ns, is_measured };
        let costs = TrapCosts { push: cost(570.4, true), call: cost(650.0, true), jump: cost(610.2, false) };
        expect![[r"
            good     kernel        Linux 6.12.1
            missing  capabilities  lacking CAP_BPF
                                   -> run as root

            A hit of a probe costs the program CPU time: 570 ns at a push, 650 ns at a call, 610 ns at a jump (not measured: as the others).

            leakline cannot attach on this host before what is missing is fixed.
        "]]
        .assert_eq(&text(&checks(), Some(&costs)));
        let document = line(&[], Some(&costs)).unwrap();
        assert!(document.contains(r#"{"instruction":"jump","cpu_ns":610.0,"measured":false}"#), "{document}");
    }
}
