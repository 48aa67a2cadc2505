//! `leakline doctor`: what the host allows, as text and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::json::SCHEMA;
use crate::host::{Check, Status};

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    doctor: Doctor<'a>,
}

#[derive(Serialize)]
struct Doctor<'a> {
    can_attach: bool,
    checks: Vec<CheckDocument<'a>>,
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

/// One line of JSON without the line feed.
pub fn line(checks: &[Check]) -> serde_json::Result<String> {
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
        doctor: Doctor { can_attach: can_attach(checks), checks: checks_document },
    })
}

/// For people.
pub fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    let id_width = checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
    for check in checks {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{:<7}  {:<id_width$}  {}", check.status.name(), check.id, check.found);
        if let Some(fix) = &check.fix {
            let _infallible = writeln!(text, "{:<7}  {:<id_width$}  -> {fix}", "", "");
        }
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
        .assert_eq(&text(&checks()));
        expect![[r#"{"schema":"leakline/1","doctor":{"can_attach":false,"checks":[{"id":"kernel","status":"good","found":"Linux 6.12.1"},{"id":"capabilities","status":"missing","found":"lacking CAP_BPF","fix":"run as root"}]}}"#]]
        .assert_eq(&line(&checks()).unwrap());
    }
}
