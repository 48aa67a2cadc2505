//! The section on versions of Go and ways to build, from the results of `cargo xtask matrix`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::Section;

pub(super) const SECTION: Section = Section { title: "Versions of Go and ways to build", text };

const RESULTS: &str = "docs/results/fixtures.json";

/// Cells by version and way to build.
type Cells = BTreeMap<String, BTreeMap<String, Cell>>;

/// Counterpart: `tracer-daemon/tests/it/matrix/results.rs`.
#[derive(Debug, Deserialize)]
struct Cell {
    commit: String,
    right: Option<Right>,
}

#[derive(Debug, Deserialize)]
struct Right {
    globals: usize,
    points: usize,
    refused: Vec<(String, String)>,
    exact_objects: Option<u64>,
}

/// The rows of the table: as people say it.
const MODES: [(&str, &str); 11] = [
    ("default", "`go build`"),
    ("-s -w", "`-ldflags='-s -w'` (stripped)"),
    ("PIE", "`-buildmode=pie`"),
    ("PIE -s -w", "`-buildmode=pie`, stripped"),
    ("cgo external", "cgo, linked by the C linker"),
    ("cgo external PIE", "cgo, linked by the C linker, PIE"),
    ("PGO", "`-pgo=FILE`"),
    ("-trimpath", "`-trimpath`"),
    ("-race", "`-race`"),
    ("GOAMD64=v3", "`GOAMD64=v3`"),
    ("-N -l", "`-gcflags=all='-N -l'`"),
];

const INTRODUCTION: &str = "\
Made by `cargo xtask matrix`. In each cell one program is built three ways: with its symbol table, which tells the truth; the same bytes with \
the symbol table hidden; and stripped by the linker. Without symbols leakline must find every function, every variable of the runtime and every \
probe point where the symbol table says they are, or refuse. Then the program runs under `exact`, and each of its allocating lines and `go` \
statements must be counted exactly as often as the program itself says.

A cell shows how many variables and probe points were found, all at the right place. **exact**: the counts were exact. A number in \
brackets is a refusal, explained below.
";

fn text(root: &Path) -> Result<String> {
    let json = fs::read_to_string(root.join(RESULTS)).with_context(|| format!("cannot read {RESULTS}"))?;
    let cells: Cells = serde_json::from_str(&json).with_context(|| format!("cannot understand {RESULTS}"))?;
    let mut versions: Vec<&String> = cells.keys().collect();
    versions.sort_by_key(|version| minor(version));
    let mut refusals: Vec<String> = Vec::new();
    let mut rows = String::new();
    for (mode, shown) in MODES {
        let texts = versions.iter().map(|version| {
            let cell = cells.get(*version).and_then(|modes| modes.get(mode));
            cell_text(version, mode, cell, &mut refusals)
        });
        let texts = texts.collect::<Result<Vec<_>>>()?;
        writeln!(rows, "| {shown} | {} |", texts.join(" | "))?;
    }
    let heading: Vec<&str> = versions.iter().map(|version| version.strip_prefix("go").unwrap_or(version)).collect();
    let table = format!("| | {} |\n|---|{}\n{rows}", heading.join(" | "), "---|".repeat(versions.len()));
    let mut text = format!("{INTRODUCTION}\n{table}\n");
    for (number, refusal) in refusals.iter().enumerate() {
        writeln!(text, "{}. refused: {refusal}", number + 1)?;
    }
    let commits: BTreeSet<&str> = cells.values().flat_map(BTreeMap::values).map(|cell| cell.commit.as_str()).collect();
    let commits: Vec<&str> = commits.into_iter().collect();
    writeln!(
        text,
        "\nThe cells ran on the commits {} (`{RESULTS}` says which on which; `+` means with changes).",
        commits.join(", ")
    )?;
    Ok(text)
}

fn cell_text(version: &str, mode: &str, cell: Option<&Cell>, refusals: &mut Vec<String>) -> Result<String> {
    let Some(cell) = cell else {
        ensure!(mode == "PGO" && minor(version) < 21, "no result for {version} {mode}: run `cargo xtask matrix`");
        return Ok("does not exist".to_owned());
    };
    let Some(right) = &cell.right else { return Ok("**wrong**".to_owned()) };
    let mut notes = String::new();
    for (_, why) in &right.refused {
        let why = without_addresses(why);
        let number = refusals.iter().position(|known| *known == why).unwrap_or_else(|| {
            refusals.push(why);
            refusals.len() - 1
        });
        write!(notes, " [{}]", number + 1)?;
    }
    let counted = if right.exact_objects.is_some() { "**exact**" } else { "not counted" };
    Ok(format!("{counted} {} + {}{notes}", right.globals, right.points))
}

/// Addresses differ where the reason is the same.
fn without_addresses(text: &str) -> String {
    let word = |word: &str| if word.starts_with("0x") { "…`".to_owned() } else { word.to_owned() };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or_default()
}
