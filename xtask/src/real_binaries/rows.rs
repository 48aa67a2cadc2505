//! The results: one row a program, written so that a change of one is a change of one line.

use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::RESULTS;

/// What was found about one program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// `Debian bookworm`
    pub(crate) origin: String,
    /// Name and version.
    pub(crate) package: String,
    /// Path in the package.
    pub(crate) program: String,
    pub(crate) size_bytes: u64,
    /// As leakline says; None: refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) go_version: Option<String>,
    /// As `go version` says; None: it does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version_by_go: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stripped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pie: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cgo: Option<bool>,
    pub(crate) evidence: Vec<String>,
    /// Sentences with their ids.
    pub(crate) refused: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) functions: Option<u64>,
    /// None: there is no symbol table to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) names: Option<Names>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lines: Option<Lines>,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
    /// The commit that leakline was built from; with `+` where its sources had been changed.
    pub(crate) commit: String,
}

/// Functions compared with the symbol table.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Names {
    pub(crate) equal: u64,
    /// At the right address, but the symbol table has a hash for a name.
    pub(crate) hashed: u64,
}

/// Places of instructions that were looked at.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Lines {
    pub(crate) looked_at: u64,
    /// Padding, and code that has no line.
    pub(crate) without_place: u64,
    /// In files that are neither Go nor assembly (`//line`).
    pub(crate) other_files: u64,
}

impl Row {
    /// For the terminal.
    pub(crate) fn line(&self) -> String {
        let version = self.go_version.as_deref().unwrap_or("refused");
        let checked = match (self.names, self.lines) {
            (Some(names), _) => format!("{} names equal, {} hashed", names.equal, names.hashed),
            (None, Some(lines)) => format!("{} lines looked at", lines.looked_at),
            (None, None) => self.refused.join("; "),
        };
        let problems: Vec<_> = self.problems.iter().map(|problem| format!("\n    PROBLEM: {problem}")).collect();
        let evidence = if self.evidence.is_empty() { "none".to_owned() } else { self.evidence.join(", ") };
        format!(
            "{} {}: {}: {version}, evidence {evidence}; {checked}{}",
            self.origin,
            self.package,
            self.program,
            problems.concat()
        )
    }
}

/// The committed rows.
pub(crate) fn read(root: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(root.join(RESULTS)).with_context(|| format!("cannot read {RESULTS}"))?;
    serde_json::from_str(&text).with_context(|| format!("{RESULTS} is not what `cargo xtask real-binaries` writes"))
}

/// As [`read`]; no rows where there is no file yet, and only then: what cannot be read must not be written over.
pub(super) fn read_or_none(root: &Path) -> Result<Vec<Row>> {
    read(root).or_else(|error| match error.downcast_ref::<io::Error>() {
        Some(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(error),
    })
}

/// Sorts and writes, a row a line.
pub(super) fn write(root: &Path, mut rows: Vec<Row>) -> Result<()> {
    rows.sort_by(|one, other| {
        (&one.origin, &one.package, &one.program).cmp(&(&other.origin, &other.package, &other.program))
    });
    let lines = rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let file = root.join(RESULTS);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&file, format!("[\n{}\n]\n", lines.join(",\n")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_that_are_not_there_are_empty() {
        let root = std::env::temp_dir().join(format!("leakline-results-{}", std::process::id()));
        assert!(read_or_none(&root).unwrap().is_empty());
        let file = root.join(RESULTS);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "broken").unwrap();
        let broken = read_or_none(&root);
        fs::remove_dir_all(&root).unwrap();
        assert!(broken.is_err());
    }
}
