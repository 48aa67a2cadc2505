//! The section on mark bits, from the results of `cargo xtask marks`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{Section, table, with_commas};

pub(super) const SECTION: Section = Section { title: "Who lives, by mark bits", text };

const RESULTS: &str = "docs/results/marks.json";

/// Counterpart: `tracer-daemon/tests/it/marks/results.rs`.
#[derive(Debug, Deserialize)]
struct Cell {
    commit: String,
    right: Option<Right>,
}

#[derive(Debug, Deserialize)]
struct Right {
    objects: u64,
    answers: BTreeMap<String, u64>,
    frozen: u64,
    cycles: u64,
    missed_cycles: u64,
    sources: BTreeMap<String, u64>,
}

const INTRODUCTION: &str = "\
Made by `cargo xtask marks`. A program of known objects of 22 kinds, from 1 byte to 1 MiB, keeps and forgets them as it is told, with collections \
on request, frozen in the middle of sweeping, and at its own pace for 200 collections. leakline reads the collector's mark bits from outside and \
says *alive*, *dead*, or why it cannot know. A row is here only if no kept object was called dead and no forgotten one alive after the first \
collection that began without it; a slot that another object took while no one looked must be called unknown. *missed*: collections that \
ended between two looks (every 0.5 ms, without a probe). The last columns say how many answers came from spans that were not swept yet, and from marks \
that lie within such spans (Green Tea). The program runs with `GODEBUG=asyncpreemptoff=1`: a goroutine that is interrupted anywhere has its \
innermost frame searched for whatever looks like a pointer, which may keep what the program has forgotten.";

fn text(root: &Path) -> Result<String> {
    let json = fs::read_to_string(root.join(RESULTS)).with_context(|| format!("cannot read {RESULTS}"))?;
    let cells: BTreeMap<String, Cell> =
        serde_json::from_str(&json).with_context(|| format!("cannot understand {RESULTS}"))?;
    let rows: Vec<[String; 9]> = cells.iter().map(|(name, cell)| row(name, cell)).collect();
    let heading = ["program", "objects", "alive", "dead", "unknown", "missed", "not swept", "within", "commit"];
    Ok(format!("{INTRODUCTION}\n\n{}", table(heading, &rows)))
}

fn row(name: &str, cell: &Cell) -> [String; 9] {
    let Some(right) = &cell.right else {
        let mut row: [String; 9] = Default::default();
        row[0] = format!("{name}: **wrong**");
        row[8].clone_from(&cell.commit);
        return row;
    };
    let of = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or_default();
    let (alive, dead) = (of(&right.answers, "alive"), of(&right.answers, "dead"));
    let unknown = right.answers.values().sum::<u64>() - alive - dead;
    let unswept = of(&right.sources, "unswept") + of(&right.sources, "inline");
    [
        name.to_owned(),
        with_commas(right.objects),
        with_commas(alive),
        with_commas(dead),
        with_commas(unknown),
        format!("{} of {}", right.missed_cycles, right.cycles),
        format!("{} ({} times frozen)", with_commas(unswept), right.frozen),
        with_commas(of(&right.sources, "inline")),
        cell.commit.clone(),
    ]
}
