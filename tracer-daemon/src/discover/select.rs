//! `--name`: processes by the name of their executable.

use std::fmt;

use globset::{Glob, GlobMatcher};
use procfs::process::all_processes;
use thiserror::Error;

use super::{DiscoverError, Target, name_of, target_by_pid};

/// A shell pattern over the file names of executables.
#[derive(Clone, Debug)]
pub struct NamePattern {
    text: String,
    matcher: GlobMatcher,
}

/// Why `--name` does not lead to a target.
#[derive(Debug, Error)]
pub enum NameError {
    /// Not a pattern.
    #[error("`{pattern}` is not a pattern: {reason} (*, ? and [a-z] are understood)")]
    BadPattern {
        /// As given.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing matches.
    #[error("no process runs an executable named `{pattern}` (it is compared with the file name of /proc/PID/exe)")]
    NoMatch {
        /// As given.
        pattern: String,
    },
    /// One was asked for and there are more.
    #[error("`{pattern}` matches {} processes, choose one with --pid: {}", .pids.len(), list(.pids))]
    Ambiguous {
        /// As given.
        pattern: String,
        /// The matches.
        pids: Vec<u32>,
    },
}

fn list(pids: &[u32]) -> String {
    const SHOWN: usize = 20;
    let mut text = pids.iter().take(SHOWN).map(u32::to_string).collect::<Vec<_>>().join(", ");
    if pids.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

impl NamePattern {
    /// Reads a pattern as a shell would: `*`, `?`, `[a-z]`.
    pub fn new(pattern: &str) -> Result<Self, NameError> {
        let glob = Glob::new(pattern)
            .map_err(|error| NameError::BadPattern { pattern: pattern.to_owned(), reason: error.kind().to_string() })?;
        Ok(Self { text: pattern.to_owned(), matcher: glob.compile_matcher() })
    }

    /// Whether an executable of this file name matches.
    pub fn matches(&self, executable: &str) -> bool {
        self.matcher.is_match(executable)
    }

    /// Ids of all processes that match now, ascending, without ourselves. What cannot be looked at does not match.
    pub fn pids(&self) -> Vec<u32> {
        let Ok(processes) = all_processes() else { return Vec::new() };
        let mut pids: Vec<u32> = processes
            .flatten()
            .filter(|process| process.exe().is_ok_and(|exe| self.matches(name_of(&exe).trim_end_matches(" (deleted)"))))
            .filter_map(|process| u32::try_from(process.pid()).ok())
            .filter(|&pid| pid != std::process::id())
            .collect();
        pids.sort_unstable();
        pids
    }

    /// The only process that matches.
    pub fn only_target(&self) -> Result<Result<Target, DiscoverError>, NameError> {
        match self.pids().as_slice() {
            [] => Err(NameError::NoMatch { pattern: self.text.clone() }),
            [pid] => Ok(target_by_pid(*pid)),
            pids => Err(NameError::Ambiguous { pattern: self.text.clone(), pids: pids.to_vec() }),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_the_shells() {
        let pattern = NamePattern::new("prom*-[0-9]").unwrap();
        assert!(pattern.matches("prometheus-2"));
        assert!(!pattern.matches("prometheus"));
        assert!(matches!(NamePattern::new("[a"), Err(NameError::BadPattern { .. })));
    }

    #[test]
    fn no_match_says_what_was_compared() {
        let error = NamePattern::new("surely-nobody-is-called-this").unwrap().only_target().unwrap_err();
        assert!(error.to_string().contains("file name of /proc/PID/exe"), "{error}");
    }
}
