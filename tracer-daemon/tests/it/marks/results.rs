//! The committed results: one entry a cell, with the commit on which it ran.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tracer_daemon::read::marks::{Look, MarkSources};

use crate::matrix::{Cell, commit};

/// What was seen in a cell in which nothing is wrong.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Row {
    /// Slots that were followed.
    pub(super) objects: usize,
    /// Answers by what they say; `Moving` and `NotYetKnown` count for each look.
    pub(super) answers: BTreeMap<String, u64>,
    /// Slots that another object had taken over when they were looked at too late; none was called alive.
    pub(super) taken_over: usize,
    /// How often the program was stopped in the middle of sweeping.
    pub(super) frozen: usize,
    /// Objects whose span was just being swept then.
    pub(super) being_swept: usize,
    /// Collections of the concurrent phase.
    pub(super) cycles: u32,
    /// Those of which no look was had.
    pub(super) missed_cycles: u32,
    /// Bits that were read, by where they were; finalizers found; spans that had been freed.
    pub(super) sources: BTreeMap<String, u64>,
}

impl Row {
    pub(super) fn count(&mut self, looks: &[Look]) {
        for look in looks {
            let name = match look {
                Look::Alive { .. } => "alive",
                Look::Dead { .. } => "dead",
                Look::Censored(reason) => reason.id(),
            };
            *self.answers.entry(name.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn add_sources(&mut self, sources: &MarkSources) {
        let MarkSources { swept, unswept, inline, finalizer, recycled } = *sources;
        for (name, count) in [
            ("swept", swept),
            ("unswept", unswept),
            ("inline", inline),
            ("finalizer", finalizer),
            ("recycled", recycled),
        ] {
            *self.sources.entry(name.to_owned()).or_default() += count;
        }
    }

    pub(super) fn summary(&self) -> String {
        format!(
            "{} objects, answers {:?}, {} of {} cycles missed, frozen {} times ({} being swept), {} taken over, bits {:?}",
            self.objects,
            self.answers,
            self.missed_cycles,
            self.cycles,
            self.frozen,
            self.being_swept,
            self.taken_over,
            self.sources
        )
    }
}

/// Writes at once: a run of minutes may be cut off.
pub(super) fn put(cell: &str, outcome: Result<Row, String>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/results/marks.json");
    let mut cells: BTreeMap<String, Cell<Row>> = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).unwrap(),
        Err(_) => BTreeMap::new(),
    };
    cells.insert(cell.to_owned(), Cell::new(commit(), outcome));
    fs::write(path, serde_json::to_string_pretty(&cells).unwrap() + "\n").unwrap();
}
