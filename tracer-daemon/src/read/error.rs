//! Why something cannot be read from a target.

use super::memory::MemoryError;
use crate::inspect::GlobalMissing;

/// Why a part of what the runtime knows cannot be read. Other parts may still be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The memory could not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A variable is not known.
    #[error(transparent)]
    Global(#[from] GlobalMissing),
    /// The runtime has no processors yet: the process has only just begun.
    #[error("the Go runtime of the process has not started yet: try again once it runs")]
    NotStarted,
    /// What was read kept changing, in each of our attempts.
    #[error("{what} changed while it was read, in each of {attempts} attempts")]
    Unsettled {
        /// What changed.
        what: &'static str,
        /// How often we tried.
        attempts: usize,
    },
    /// A value is not what it can be: the layout does not fit, or the address is wrong.
    #[error("implausible {what} in the target's memory: {value:#x}")]
    Implausible {
        /// Which value.
        what: &'static str,
        /// As found.
        value: u64,
    },
    /// The kernel does not say which pages are in memory.
    #[error("cannot read which pages are in memory")]
    Pages {
        /// What it said.
        source: std::io::Error,
    },
}

impl ReadError {
    /// Stable identifier of the refusal that this is.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Memory(MemoryError::Gone { .. }) => "process_gone",
            Self::Memory(MemoryError::NotAllowed { .. }) => "memory_not_allowed",
            Self::Memory(_) => "memory_unreadable",
            Self::Global(_) => "global_missing",
            Self::NotStarted => "runtime_not_started",
            Self::Unsettled { .. } => "memory_unsettled",
            Self::Implausible { .. } => "memory_implausible",
            Self::Pages { .. } => "pagemap_unread",
        }
    }
}
