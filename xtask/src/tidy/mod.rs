//! `cargo xtask tidy`: the rules of the architecture that no compiler checks.
//!
//! Owns which rule applies to which file; the rules themselves are pure functions over text in [`stages`] and [`text`], and each
//! has a test that it fails on a bad example. Clippy guards unbounded channels and clocks (`.clippy.toml`).

mod names;
mod stages;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::{command, ebpf};

/// Whether a finding fails the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Warning,
    Failure,
}

/// Something that a rule found in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// From 1; 0 means the whole file.
    pub(crate) line: usize,
    pub(crate) message: String,
}

impl Finding {
    fn failure(line: usize, message: impl Into<String>) -> Self {
        Self { severity: Severity::Failure, line, message: message.into() }
    }
}

pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let library = fs::read_to_string(root.join(stages::LIBRARY)).unwrap_or_default();
    let mut findings = Vec::new();
    let order = stages::Order::of_library(&library);
    match &order {
        Ok(_) => {}
        Err(error) => findings.push((stages::LIBRARY.to_owned(), Finding::failure(0, error.clone()))),
    }
    let order = order.unwrap_or_default();
    for file in files(root)? {
        let Ok(content) = fs::read(root.join(&file)) else {
            continue; // deleted, but still known to git; or a link to nowhere
        };
        let name = file.display().to_string();
        findings.extend(check(&name, &content, &order).into_iter().map(|finding| (name.clone(), finding)));
    }
    let object = ebpf::problems(root)?.into_iter().map(|problem| (String::new(), Finding::failure(0, problem)));
    findings.extend(object);
    Ok(report(&findings))
}

/// All rules that apply to a file of this name, relative to the workspace.
fn check(name: &str, content: &[u8], order: &stages::Order) -> Vec<Finding> {
    let Some(text) = text::as_text(content) else {
        return Vec::new();
    };
    let mut findings = text::machine_paths(text);
    if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
        findings.extend(text::header(text));
        findings.extend(text::size(text));
        match names::of_source(text) {
            Ok(source) => findings.extend(stages::check(name, &source, order)),
            Err(error) => findings.push(Finding::failure(0, format!("cannot be parsed: {error}"))),
        }
    }
    findings
}

/// What belongs to the project: known to git or about to be, else (no repository) everything but `target`.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    if let Ok(listed) = command::capture(&mut git) {
        return Ok(listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect());
    }
    let mut found = BTreeSet::new();
    walk(root, Path::new(""), &mut found)?;
    Ok(found)
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(root.join(folder)).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_file() {
            found.insert(path);
        } else if entry.file_type()?.is_dir() && entry.file_name() != "target" && entry.file_name() != ".git" {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

fn report(findings: &[(String, Finding)]) -> ExitCode {
    for (file, finding) in findings {
        let place = match (file.as_str(), finding.line) {
            ("", _) => String::new(),
            (file, 0) => format!("{file}: "),
            (file, line) => format!("{file}:{line}: "),
        };
        let kind = if finding.severity == Severity::Warning { "warning: " } else { "" };
        println!("{place}{kind}{}", finding.message);
    }
    let failures = findings.iter().filter(|(_, finding)| finding.severity == Severity::Failure).count();
    println!("tidy: {failures} failures, {} warnings", findings.len() - failures);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::{check, stages};

    #[test]
    fn rust_rules_apply_to_rust_files_only() {
        let order = stages::Order::default();
        assert_eq!(check("docs/x.md", b"no header", &order), []);
        assert_eq!(check("xtask/src/x.rs", b"fn no_header() {}", &order).len(), 1);
        assert_eq!(check("deploy/x.bin", b"\0binary", &order), []);
    }

    #[test]
    fn a_file_that_is_no_rust_is_found() {
        let findings = check("xtask/src/x.rs", b"//! Hello.\nfn {", &stages::Order::default());
        assert!(findings[0].message.starts_with("cannot be parsed"), "{findings:?}");
    }
}
