//! The sections on how right windows are, from the results of `cargo xtask bench survival` and `bench shares`.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::{Section, table};
use crate::bench::truth::{shares, survival};
use crate::results::{self, Recorded};

pub(super) const SURVIVAL: Section =
    Section { title: "Which part of what a line allocates stays", text: survival_text };
pub(super) const SHARES: Section = Section { title: "How much a line allocates", text: shares_text };

const SURVIVAL_INTRODUCTION: &str = "\
Made by `cargo xtask bench survival`. A program allocates 83,000 objects a second at six lines and keeps a known part of each; `held` is kept through four \
collections. leakline watches it through windows (`--evidence bursts`) and follows what it has caught by its mark bits. The error is over the truth; of what keeps nothing it \
is the estimate itself. Growth is said of a line that is accused.";

const SHARES_INTRODUCTION: &str = "\
Made by `cargo xtask bench shares`. leakline looks for 5 s at a program that says how much it has allocated at which line. `skew` is one goroutine, as fast as it can, at lines \
with 10 : 1 : 0.1 in one size class and two in others. `uneven` is one size class with a goroutine as fast as it can, one that allocates every 5 us, and 2,000 a \
second that end after ten objects. A line is `said` where bytes per second are stated with an interval. Its share is its \
part of what is said of all lines of the program: the program's own speed does not matter for it.";

fn survival_text(root: &Path) -> Result<String> {
    let cells: Vec<survival::Cell> = results::read(root, survival::RESULTS)?.into_values().collect();
    let summary = survival::Summary::of(&cells);
    Ok(text(SURVIVAL_INTRODUCTION, survival::RESULTS, &cells, survival::HEADING, &summary.rows(), &summary.sentences()))
}

fn shares_text(root: &Path) -> Result<String> {
    let cells: Vec<shares::Cell> = results::read(root, shares::RESULTS)?.into_values().collect();
    let summary = shares::Summary::of(&cells);
    Ok(text(SHARES_INTRODUCTION, shares::RESULTS, &cells, shares::HEADING, &summary.rows(), &summary.sentences()))
}

fn text<const N: usize>(
    introduction: &str,
    name: &str,
    cells: &[impl Recorded],
    heading: [&str; N],
    rows: &[[String; N]],
    sentences: &[String],
) -> String {
    if cells.is_empty() {
        return format!("{introduction}\n\nNot measured yet.");
    }
    let commits: BTreeSet<&str> = cells.iter().map(Recorded::commit).collect();
    let commits: Vec<&str> = commits.into_iter().collect();
    let sentences: Vec<String> = sentences.iter().map(|sentence| format!("- {sentence}")).collect();
    format!(
        "{introduction}\n\n{}\n{}\n\nOn the commits {} (`docs/results/{name}.json` has each run).",
        table(heading, rows),
        sentences.join("\n"),
        commits.join(", "),
    )
}
