//! `cargo xtask real-binaries`: what leakline says of Go programs that others have built, and whether it is right.
//!
//! Judges by what does not come from leakline: `go version` says which files are Go programs and of which version, symbol
//! tables say where functions begin. Of stripped programs it can only see whether lines are plausible. Writes
//! `docs/results/real-binaries.json`, from which `cargo xtask support` makes a page. A source that cannot be had keeps its
//! rows of an earlier run; each row names the commit that it was made with.

mod rows;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use serde_json::Value;

pub(crate) use rows::{Lines, Names, Row, read};
pub(crate) use sources::debian;

use crate::{command, setup, workspace};
use sources::Source;

/// The results, relative to the workspace.
pub(crate) const RESULTS: &str = "docs/results/real-binaries.json";
/// Functions of each program whose lines are looked at.
const DRAWS: &str = "1000";
/// `//line` directives name other files (`.y`, `.rl`, …); where they are more than this share, in percent, paths are wrong.
const OTHER_FILES_MAX: u64 = 5;
/// Functions without a name: the one whose name stands first, which Go's runtime does not name either.
const UNNAMED_MAX: u64 = 2;
/// The same of those that were drawn, in percent: of few functions one is drawn often.
const UNNAMED_DRAWN_MAX: u64 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only packages whose name contains this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
}

/// Where downloads go.
pub(crate) fn cache(root: &Path) -> PathBuf {
    workspace::cache(root).join("real-binaries")
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let leakline = crate::build_leakline(root)?;
    let check_names = crate::build_example(root, "check_names")?;
    let judge = Judge { leakline, check_names, go: setup::go_command(root)?, commit: commit(root)? };
    let mut rows = rows::read_or_none(root)?;
    let (mut skipped, mut problems, mut programs) = (0, 0, 0);
    for source in sources::all(root, &cache(root)) {
        if !options.only.is_empty() && !options.only.iter().any(|text| source.package.contains(text.as_str())) {
            continue;
        }
        let found = match &source.folder {
            Ok(folder) => judge.look(&source, folder),
            Err(error) => {
                println!("SKIPPED: {} {}: {error:#}", source.origin, source.package);
                skipped += 1;
                continue;
            }
        };
        let found = found.with_context(|| format!("{} {}", source.origin, source.package))?;
        for row in &found {
            println!("{}", row.line());
            programs += 1;
            problems += row.problems.len();
        }
        let name = source.package.split(' ').next().unwrap_or_default().to_owned();
        rows.retain(|row| row.origin != source.origin || row.package.split(' ').next() != Some(name.as_str()));
        rows.extend(found);
    }
    rows::write(root, rows)?;
    println!("{programs} Go programs, {problems} problems, {skipped} packages skipped");
    Ok(if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Judge {
    leakline: PathBuf,
    check_names: PathBuf,
    go: PathBuf,
    commit: String,
}

impl Judge {
    /// A row for each Go program below a folder: those that leakline or `go version` takes for one.
    fn look(&self, source: &Source, folder: &Path) -> Result<Vec<Row>> {
        let mut by_go = self.versions_by_go(folder)?;
        let mut plan = Command::new(&self.leakline);
        let printed = command::capture(plan.args(["plan", "--output", "json"]).arg(folder))?;
        let mut rows = Vec::new();
        for line in printed.lines() {
            let document: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
            let exe = PathBuf::from(document["process"]["exe"].as_str().unwrap_or_default());
            if is_wanted(source, &exe) {
                rows.push(self.row(source, folder, &exe, &document, by_go.remove(&exe))?);
            }
        }
        for (exe, version) in by_go.into_iter().filter(|(exe, _)| is_wanted(source, exe)) {
            let mut row = self.row(source, folder, &exe, &Value::Null, Some(version.clone()))?;
            row.problems.push(format!("go version says {version}; leakline takes it for no Go program"));
            rows.push(row);
        }
        rows.sort_by(|one, other| one.program.cmp(&other.program));
        Ok(rows)
    }

    fn row(&self, source: &Source, folder: &Path, exe: &Path, document: &Value, by_go: Option<String>) -> Result<Row> {
        let (process, plan) = (&document["process"], &document["plan"]);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut row = Row {
            origin: source.origin.clone(),
            package: source.package.clone(),
            program: exe.strip_prefix(folder).unwrap_or(exe).display().to_string(),
            size_bytes: exe.metadata()?.len(),
            go_version: text(&process["go_version"]),
            version_by_go: by_go,
            stripped: process["stripped"].as_bool(),
            pie: process["pie"].as_bool(),
            cgo: process["cgo"].as_bool(),
            evidence: list(&plan["evidence"]).iter().filter_map(text).collect(),
            refused: list(&plan["refused"])
                .iter()
                .map(|refused| {
                    format!("{} ({})", refused["text"].as_str().unwrap_or("?"), refused["id"].as_str().unwrap_or("?"))
                })
                .collect(),
            functions: None,
            names: None,
            lines: None,
            problems: Vec::new(),
            commit: self.commit.clone(),
        };
        match (&row.go_version, &row.version_by_go) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                row.problems.push(format!("leakline says {ours}, go version says {theirs}"));
            }
            (None, Some(theirs)) if !row.refused.iter().any(|refused| refused.contains(theirs.as_str())) => {
                row.problems.push(format!("go version says {theirs}, which no refusal names"));
            }
            _ => {}
        }
        // A refused program can have a version too; nothing else is said of it.
        if row.stripped.is_some() {
            self.check(&mut row, exe)?;
        }
        Ok(row)
    }

    /// Names and lines.
    fn check(&self, row: &mut Row, exe: &Path) -> Result<()> {
        let printed = command::capture(Command::new(&self.check_names).arg(exe).arg(DRAWS))?;
        let found: Value = serde_json::from_str(&printed)?;
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        row.functions = found["functions"].as_u64();
        let names = &found["names"];
        if !names.is_null() {
            row.names = Some(Names { equal: number(&names["equal"]), hashed: number(&names["hashed"]) });
            let different = number(&names["different"]);
            if different > 0 {
                row.problems.push(format!("{different} functions differ from the symbol table: {}", names["examples"]));
            }
        }
        let lines = &found["lines"];
        let other = number(&lines["kinds"]["other"]);
        row.lines = Some(Lines {
            looked_at: number(&lines["looked_at"]),
            without_place: number(&lines["without_place"]),
            other_files: other,
        });
        let (looked_at, empty) = (number(&lines["looked_at"]), number(&lines["empty"]));
        if empty > 0 {
            row.problems.push(format!("{empty} places without name, file or line"));
        }
        if other * 100 > looked_at * OTHER_FILES_MAX {
            row.problems.push(format!("{other} of {looked_at} files are no Go files: {}", lines["other_examples"]));
        }
        let (unnamed, drawn) = (number(&names["unnamed"]), number(&lines["unnamed"]));
        if unnamed > UNNAMED_MAX || drawn * 100 > number(&lines["looked_at"]) * UNNAMED_DRAWN_MAX {
            row.problems.push(format!("{unnamed} functions have no name, and {drawn} of those drawn"));
        }
        if lines["has_main"] != true {
            row.problems.push("no function main.main".to_owned());
        }
        Ok(())
    }

    /// What `go version` says of all files below a folder.
    fn versions_by_go(&self, folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
        let printed = command::capture(Command::new(&self.go).arg("version").arg(folder))?;
        let lines = printed.lines().filter_map(|line| line.rsplit_once(": "));
        // It follows links, leakline does not.
        let is_file = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
        let versions = lines.map(|(path, version)| (PathBuf::from(path), version.to_owned()));
        Ok(versions.filter(|(path, _)| is_file(path)).collect())
    }
}

fn is_wanted(source: &Source, exe: &Path) -> bool {
    let name = exe.file_name().unwrap_or_default();
    // The tests of the toolchain hold broken binaries on purpose.
    let is_tool = exe.components().all(|part| part.as_os_str() != "testdata");
    source.only.is_empty() || (is_tool && source.only.iter().any(|only| name == *only))
}

/// The commit at hand, marked where sources differ from it.
fn commit(root: &Path) -> Result<String> {
    let git = |arguments: &[&str]| command::capture(Command::new("git").current_dir(root).args(arguments));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "tracer-common", "tracer-daemon"])?;
    Ok(format!("{}{}", commit.trim(), if changed.trim().is_empty() { "" } else { "+" }))
}
