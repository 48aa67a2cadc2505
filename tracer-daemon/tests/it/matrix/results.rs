//! The committed results: one entry a cell, with the commit on which it ran.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::cell::{Mode, Row};

/// Cells by toolchain and mode.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Cells(BTreeMap<String, BTreeMap<String, Cell<Row>>>);

/// What was seen in a cell of a matrix, and on which commit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cell<Row> {
    commit: String,
    #[serde(flatten)]
    outcome: Outcome<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<Row> {
    Right(Row),
    Wrong(String),
}

impl<Row> Cell<Row> {
    /// As it ran on this commit.
    pub(crate) fn new(commit: String, outcome: Result<Row, String>) -> Self {
        Self { commit, outcome: outcome.map_or_else(Outcome::Wrong, Outcome::Right) }
    }
}

pub(super) struct Results {
    cells: Cells,
    commit: String,
}

impl Results {
    /// Those of earlier runs.
    pub(super) fn read() -> Self {
        let cells = match fs::read_to_string(path()) {
            Ok(text) => serde_json::from_str(&text).unwrap(),
            Err(_) => Cells::default(),
        };
        Self { cells, commit: commit() }
    }

    pub(super) fn ran_on_this_commit(&self, toolchain: &str, mode: Mode) -> bool {
        let cell = self.cells.0.get(toolchain).and_then(|modes| modes.get(mode.name()));
        cell.is_some_and(|cell| cell.commit == self.commit && matches!(cell.outcome, Outcome::Right(_)))
    }

    /// What was seen in a cell that was right.
    pub(super) fn right(&self, toolchain: &str, mode: Mode) -> Option<Row> {
        match &self.cells.0.get(toolchain)?.get(mode.name())?.outcome {
            Outcome::Right(row) => Some(row.clone()),
            Outcome::Wrong(_) => None,
        }
    }

    /// Writes at once: a run of hours may be cut off. Another shard may have written meanwhile.
    pub(super) fn put(&mut self, toolchain: &str, mode: Mode, outcome: Result<Row, String>) {
        // Not beside the results, where it would be taken for one; and left there, since others may wait for it.
        let lock = fs::File::create(env::temp_dir().join("leakline-fixtures.lock")).unwrap();
        lock.lock().unwrap();
        self.cells = Self::read().cells;
        let cell = Cell::new(self.commit.clone(), outcome);
        self.cells.0.entry(toolchain.to_owned()).or_default().insert(mode.name().to_owned(), cell);
        fs::write(path(), serde_json::to_string_pretty(&self.cells).unwrap() + "\n").unwrap();
    }
}

/// `1/3`: the first third is (0, 3).
pub(super) fn shard(text: &str) -> (usize, usize) {
    let parsed = text.split_once('/').and_then(|(share, of)| Some((share.parse().ok()?, of.parse().ok()?)));
    match parsed {
        Some((share, of)) if (1..=of).contains(&share) => (share - 1, of),
        _ => panic!("{text:?} is no share such as 1/3"),
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/results/fixtures.json")
}

/// The commit that is tested; with a mark where files differ from it.
pub(crate) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        output.ok().filter(|output| output.status.success()).map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else { return "unknown".to_owned() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no", "--", ".", "../tracer-common", "../tracer-ebpf"]);
    let mark = if changed.is_some_and(|changed| !changed.is_empty()) { "+" } else { "" };
    format!("{}{mark}", commit.trim())
}
