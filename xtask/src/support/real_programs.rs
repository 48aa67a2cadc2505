//! The section on programs that others have built, from the results of `cargo xtask real-binaries`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::{Section, table, with_commas};
use crate::real_binaries::{self, Row};

pub(super) const SECTION: Section = Section { title: "Real programs", text };

const INTRODUCTION: &str = "\
Go programs as their distributors built them, looked at by `cargo xtask real-binaries`. The version is compared with what `go version` says. Where \
there is a symbol table, address and name of *every* function are compared with it (names of types longer than the linker likes are \
hashes there; then the address counts). Where there is none, 1,000 functions are drawn and the place of an instruction in each must be \
plausible. *Exact* means that every allocation passes a point where a probe can sit; a refusal says why not. \
The Go compiler is built with a profile of its own (cmd/compile/default.pgo, go1.21 and later), so that parts of the runtime are inlined \
into others: most refusals here are its.";

fn text(root: &Path) -> Result<String> {
    let rows = real_binaries::read(root)?;
    let problems = rows.iter().map(|row| row.problems.len()).sum::<usize>();
    let exact = rows.iter().filter(|row| row.evidence.iter().any(|evidence| evidence == "exact")).count();
    let compared: u64 = rows.iter().filter_map(|row| row.names).map(|names| names.equal + names.hashed).sum();
    let sums = format!(
        "{} programs: {exact} allow `exact`, {} do not. {} functions compared with symbol tables. Wrong names, places or \
         versions: {problems}.",
        rows.len(),
        rows.len() - exact,
        with_commas(compared),
    );
    // Programs of one package that are alike share a line.
    let mut alike: BTreeMap<[String; 7], Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        alike.entry(cells(row)).or_default().push(row);
    }
    let lines: Vec<[String; 8]> = alike
        .into_iter()
        .map(|([origin, package, version, build, checked, outcome, commit], rows)| {
            let names: Vec<_> = rows.iter().map(|row| row.program.rsplit('/').next().unwrap_or_default()).collect();
            [origin, package, names.join(", "), version, build, checked, outcome, commit]
        })
        .collect();
    let heading = ["from", "package", "programs", "Go", "build", "checked", "outcome", "commit"];
    Ok(format!("{INTRODUCTION}\n\n{sums}\n\n{}", table(heading, &lines)))
}

/// All but the programs.
fn cells(row: &Row) -> [String; 7] {
    let version = match (&row.go_version, &row.version_by_go) {
        (Some(version), None) => format!("{version} (no build info)"),
        (Some(version), _) | (None, Some(version)) => version.clone(),
        (None, None) => "unknown".to_owned(),
    };
    let flags = [(row.stripped, "stripped"), (row.pie, "PIE"), (row.cgo, "cgo")];
    let build: Vec<_> = flags.into_iter().filter(|(flag, _)| *flag == Some(true)).map(|(_, name)| name).collect();
    let checked = match (row.names, row.lines) {
        (Some(_), _) => "every name",
        (None, Some(_)) => "1,000 lines",
        (None, None) => "",
    };
    let mut outcome: Vec<_> = (!row.evidence.is_empty()).then(|| row.evidence.join(", ")).into_iter().collect();
    outcome.extend(row.refused.iter().map(|refused| format!("refused: {refused}")));
    outcome.extend(row.problems.iter().map(|problem| format!("**wrong**: {problem}")));
    [
        row.origin.clone(),
        row.package.clone(),
        version,
        build.join(", "),
        checked.to_owned(),
        outcome.join("; "),
        row.commit.clone(),
    ]
}
