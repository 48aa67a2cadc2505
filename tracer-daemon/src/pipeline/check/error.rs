//! Why a check does not come to an end, and which exit status that is.

use std::io;

use thiserror::Error;

use crate::export::baseline::BaselineError;

/// Why there is nothing to judge. `exit_code` maps it to the command line's contract.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The command could not be started.
    #[error("cannot start the command: {why}")]
    NotStarted {
        /// What the kernel said.
        why: String,
    },
    /// The command or the load failed before the end.
    #[error("{what} failed before the end of the check: {status}")]
    Failed {
        /// `the command`, `the load`.
        what: &'static str,
        /// In words.
        status: String,
    },
    /// The command ended, and no Go program was seen.
    #[error(
        "the command ended, and no Go program{} was seen in what it had started (one that lives for less than half a second may \
         not be seen)",
        named(.name.as_deref())
    )]
    NoGoProgram {
        /// The name asked for.
        name: Option<String>,
    },
    /// No Go program was seen for long.
    #[error(
        "nothing that the command has started in {waited_s} s is a Go program{}; --start-timeout waits longer",
        named(.name.as_deref())
    )]
    NotFound {
        /// For how long.
        waited_s: u64,
        /// The name asked for.
        name: Option<String>,
    },
    /// It was not ready for long.
    #[error("the program was not ready in {waited_s} s: {what}; --start-timeout waits longer")]
    NotReady {
        /// For how long.
        waited_s: u64,
        /// What was waited for.
        what: String,
    },
    /// The user asked for the end.
    #[error("interrupted before the end of the check; the command was ended")]
    Interrupted,
    /// A file cannot be read or written.
    #[error("cannot {doing} {file}")]
    File {
        /// `read`, `write`.
        doing: &'static str,
        /// Which one.
        file: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file is no baseline.
    #[error("{file}")]
    Baseline {
        /// Which one.
        file: String,
        /// Why not.
        source: BaselineError,
    },
    /// Anything else.
    #[error("{doing}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl CheckError {
    /// DESIGN 7.1: 1 failed, 2 usage or configuration, 4 not a Go program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoGoProgram { .. } | Self::NotFound { .. } => 4,
            Self::File { doing: "read", .. } | Self::Baseline { .. } => 2,
            Self::NotStarted { .. }
            | Self::Failed { .. }
            | Self::NotReady { .. }
            | Self::Interrupted
            | Self::File { .. }
            | Self::System { .. } => 1,
        }
    }
}

fn named(name: Option<&str>) -> String {
    name.map(|name| format!(" named `{name}`")).unwrap_or_default()
}
