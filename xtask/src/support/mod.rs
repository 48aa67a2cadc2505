//! `cargo xtask support`: makes `docs/support.md` from the committed results of measurements, a section a file here.
//!
//! Measures nothing: each section reads a file below `docs/results/` that another command has written. `--check` proves
//! that the page says what the results say.

mod fixtures;
mod kernels;
mod marks;
mod overhead;
mod real_programs;
mod truth;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

/// The page, relative to the workspace.
const PAGE: &str = "docs/support.md";
const HEAD: &str = "\
# What leakline supports

Made by `cargo xtask support` from the results below `docs/results/`; do not edit. Each row was made with the commit that it names.
";

/// The sections, in the order of the page.
const SECTIONS: [Section; 7] = [
    fixtures::SECTION,
    real_programs::SECTION,
    marks::SECTION,
    truth::SURVIVAL,
    truth::SHARES,
    kernels::SECTION,
    overhead::SECTION,
];

/// One section of the page.
struct Section {
    title: &'static str,
    /// The text below the title.
    text: fn(root: &Path) -> Result<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail where the page differs from what would be written
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let made = page(root)?;
    if options.check {
        check(root)?;
    } else {
        fs::write(root.join(PAGE), made).with_context(|| format!("cannot write {PAGE}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An error where the page is not what the results say.
pub(crate) fn check(root: &Path) -> Result<()> {
    let found = fs::read_to_string(root.join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    anyhow::ensure!(found == page(root)?, "{PAGE} is not what the results say: run `cargo xtask support`");
    Ok(())
}

fn page(root: &Path) -> Result<String> {
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        let text = (section.text)(root).with_context(|| format!("section `{}`", section.title))?;
        writeln!(page, "\n## {}\n\n{}", section.title, text.trim())?;
    }
    Ok(page)
}

/// A table in Markdown.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut table = line(&heading.map(str::to_owned));
    table.push('|');
    table.push_str(&"---|".repeat(N));
    table.push('\n');
    table.extend(rows.iter().map(|row| line(row)));
    table
}

/// `123,760`
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_cannot_break_a_table() {
        assert_eq!(
            table(["a", "b"], &[["x|y".to_owned(), "1\n2".to_owned()]]),
            "| a | b |\n|---|---|\n| x\\|y | 1 2 |\n"
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1000, 123_760].map(with_commas), ["0", "999", "1,000", "123,760"]);
    }

    #[test]
    fn the_page_says_what_the_results_say() {
        check(&crate::workspace::root()).unwrap();
    }
}
