//! The section on what windows cost, from the results of `cargo xtask bench overhead`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::{Section, table};
use crate::bench::overhead::{self, Cell, Group};
use crate::results;

pub(super) const SECTION: Section = Section { title: "What watching costs a program", text };

const INTRODUCTION: &str = "\
Made by `cargo xtask bench overhead`. A program allocates objects of 64 to 1,024 bytes at a given rate, or as fast as it can, with 64 MiB alive, and reports \
its own CPU time. Windows of time with and without a tool alternate; each with it is compared to its two neighbours without. A cell is the CPU time per allocation that \
the tool adds, in percent: the median of the pairs, and its 95 % interval. *nothing* has no tool in either kind of window, and shows what the machine adds by \
itself: a difference within that range was not measured. *In windows*: what the slices of 25 ms with a window of leakline's, and the one behind each, cost beyond \
those of the second before and behind, over what all slices cost. That is nearly all that leakline adds, told apart from the noise of the rest of the time; what hooks that \
stay cost (the collector's, those of goroutines) is not in it. With *nothing* it is what is found at times that are no windows. leakline is given its budget by `--max-overhead`, a share of the program's CPU time, and of one core where the \
program uses more. The others count each call of `runtime.mallocgc`, at an instruction that the kernel need not single-step.";

/// Columns: names of tools, and what is above them.
const COLUMNS: [(&str, &str); 10] = [
    ("nothing", "nothing"),
    ("leakline 0.2 %", "leakline 0.2 %"),
    ("leakline 1 %", "**leakline 1 %** (default)"),
    ("leakline 2 %", "leakline 2 %"),
    ("leakline 5 %", "leakline 5 %"),
    ("leakline 10 %", "leakline 10 %"),
    ("bpftrace push, count by stack", "bpftrace, by stack"),
    ("bpftrace push, count", "bpftrace, count"),
    ("bcc push, count by stack", "bcc, by stack"),
    ("bcc push, count", "bcc, count"),
];

fn text(root: &Path) -> Result<String> {
    let cells: Vec<Cell> = results::read(root, overhead::RESULTS)?.into_values().collect();
    if cells.is_empty() {
        return Ok(format!("{INTRODUCTION}\n\nNot measured yet."));
    }
    let mut groups: BTreeMap<&Group, Vec<&Cell>> = BTreeMap::new();
    for cell in &cells {
        groups.entry(&cell.group).or_default().push(cell);
    }
    let rows: Vec<[String; 11]> = groups.iter().map(|(group, cells)| row(group, cells)).collect();
    let mut heading = ["program"; 11];
    for (above, (_, title)) in heading.iter_mut().skip(1).zip(COLUMNS) {
        *above = title;
    }
    let commits: BTreeSet<&str> = cells.iter().map(|cell| cell.commit.as_str()).collect();
    let commits: Vec<&str> = commits.into_iter().collect();
    Ok(format!(
        "{INTRODUCTION}\n\n{}\nWhat that allows to say:\n\n```text\n{}\n```\n\nOn the commits {} (`docs/results/{}.json` says which on which).",
        table(heading, &rows),
        overhead::claims(&cells),
        commits.join(", "),
        overhead::RESULTS,
    ))
}

fn row(group: &Group, cells: &[&Cell]) -> [String; 11] {
    let mut row: [String; 11] = Default::default();
    row[0] = group.to_string();
    for (text, (name, _)) in row.iter_mut().skip(1).zip(COLUMNS) {
        // `leakline 1 %` is `leakline 1 % (default)`, and `bpftrace push, count` not what counts by stack.
        let cell = cells.iter().find(|cell| cell.tool == name || cell.tool.starts_with(&format!("{name} (")));
        *text = match cell.map(|cell| (cell.added(), &cell.skipped)) {
            Some((Some(added), _)) => added,
            Some((None, Some(why))) if why.starts_with("skipped") => "not installed".to_owned(),
            Some(_) => "failed".to_owned(),
            None => "not measured".to_owned(),
        };
    }
    row
}
