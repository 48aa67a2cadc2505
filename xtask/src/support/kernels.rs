//! The section on kernels, from the results of `cargo xtask kernels`.

use std::path::Path;

use anyhow::Result;

use super::{Section, table};
use crate::kernels::{Cell, RESULTS, Seen};
use crate::results::{self, Recorded as _};

pub(super) const SECTION: Section = Section { title: "Bursts on other kernels", text };

const INTRODUCTION: &str = "\
Made by `cargo xtask kernels`. Debian's kernels, as they are, each in a virtual machine of one or two emulated processors with nothing but leakline and a program that leaks \
400 kB a second, built with two versions of Go. leakline opens windows in it (`--evidence bursts`), by links of `uprobe_multi` where the kernel has them and they do what windows need, else by \
perf events, and must name the line that leaks and no other. Then nothing may be in the program's code that is not in its file; leakline is killed (SIGKILL) while a window is open, \
and the same must hold some seconds later, with the program running on and no process of ours left. An emulated processor is some ten times slower than a real one, so what a \
window costs is not to be learnt here.";

fn text(root: &Path) -> Result<String> {
    let cells = results::read::<Cell>(root, RESULTS)?;
    if cells.is_empty() {
        return Ok(format!("{INTRODUCTION}\n\nNot measured yet."));
    }
    let mut cells: Vec<Cell> = cells.into_values().collect();
    cells.sort_by_key(|cell| version(&cell.release));
    let rows: Vec<[String; 7]> = cells
        .iter()
        .flat_map(|cell| cell.programs.iter().map(move |(release, seen)| row(cell, release, seen)))
        .collect();
    let heading =
        ["kernel", "windows by", "Go", "windows", "line named", "breakpoints when killed, and left", "commit"];
    let wrong = cells.iter().flat_map(|cell| {
        cell.failures.iter().map(move |failure| format!("\n- {}: {failure}", name(&cell.release, &cell.package)))
    });
    let wrong: String = wrong.collect();
    let wrong = if wrong.is_empty() { wrong } else { format!("\n**Wrong:**\n{wrong}\n") };
    Ok(format!("{INTRODUCTION}\n\n{}{wrong}", table(heading, &rows)))
}

fn row(cell: &Cell, release: &str, seen: &Seen) -> [String; 7] {
    [
        name(&cell.release, &cell.package),
        if cell.by_perf_events.is_some() { "perf events" } else { "`uprobe_multi`" }.to_owned(),
        release.to_owned(),
        format!("{}, open for {:.1} s", seen.bursts, seen.open_s),
        if seen.named.is_some() { "yes" } else { "**no**" }.to_owned(),
        format!("{}, {}", seen.killed_at, seen.left),
        cell.commit().to_owned(),
    ]
}

/// A machine that did not come to its end has not said the release of its kernel.
fn name(release: &str, package: &str) -> String {
    if release.is_empty() { package.to_owned() } else { format!("{release} ({package})") }
}

/// Numbers at the beginning of a release, by which kernels are put in order.
fn version(release: &str) -> Vec<u32> {
    release.split(|character: char| !character.is_ascii_digit()).map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{name, version};

    #[test]
    fn a_kernel_that_said_nothing_is_named_by_its_package() {
        assert_eq!(name("6.1.0-50-amd64", "linux-image 6.1"), "6.1.0-50-amd64 (linux-image 6.1)");
        assert_eq!(name("", "linux-image 7.2"), "linux-image 7.2");
    }

    #[test]
    fn kernels_are_in_the_order_of_their_numbers() {
        assert!(version("5.10.0-32-amd64") < version("6.1.0-50-amd64"));
        assert!(version("6.1.0-50-amd64") < version("6.12.107+deb13-amd64"));
    }
}
