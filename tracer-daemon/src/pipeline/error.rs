//! Why a target cannot be followed, and which exit status that is.

use std::{io, sync::Arc};

use thiserror::Error;

use crate::{
    attach::{AttachError, adopt::AdoptError},
    collect::CollectError,
    discover::{DiscoverError, NameError},
    inspect::InspectError,
    plan::Refusal,
    read::{ReadError, memory::MemoryError},
};

/// Why a target could not be followed. `exit_code` maps it to the command line's contract.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no such target.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// `--name` leads nowhere.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The binary is not one that we can read.
    #[error("process {pid} ({exe})")]
    Inspect {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
        /// Why not.
        source: Arc<InspectError>,
    },
    /// The file is not one that we can read.
    #[error("{file}")]
    InspectFile {
        /// Its path.
        file: String,
        /// Why not.
        source: Arc<InspectError>,
    },
    /// The executable cannot be read.
    #[error("cannot read the executable of process {pid}")]
    Exe {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is nowhere to put probes.
    #[error("process {pid} ({exe}): no evidence is left: {}", .refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoEvidence {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
        /// Why not.
        refused: Vec<Refusal>,
    },
    /// The executable's place in memory is unknown.
    #[error("process {pid} ended or replaced its program while we looked at it")]
    Vanished {
        /// The process.
        pid: u32,
    },
    /// The probes could not be put in place.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The runtime's own books could not be read.
    #[error("cannot read what the runtime of process {pid} knows")]
    Read {
        /// The process.
        pid: u32,
        /// Why not.
        source: ReadError,
    },
    /// The runtime samples nothing.
    #[error(
        "process {pid} ({exe}) keeps no heap profile: its sampler is off (runtime.MemProfileRate is 0){}. {}",
        if *.linked { "" } else { ", since nothing in the program can read a profile" },
        if *.linked {
            "The program itself has turned it off; --adopt-sampler turns it on for a while"
        } else {
            "Import net/http/pprof (for its effect: `import _ \"net/http/pprof\"`) and build anew, or turn it on from outside for \
             a while with --adopt-sampler, which writes 8 bytes to the process and takes them back"
        }
    )]
    SamplerOff {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
        /// Whether the program can read a profile.
        linked: bool,
    },
    /// The sampler could not be turned on or off.
    #[error("cannot adopt the heap sampler of process {pid}")]
    Adopt {
        /// The process.
        pid: u32,
        /// Why not.
        source: AdoptError,
    },
    /// The maps could not be read.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The system gives no thread.
    #[error(
        "no thread to follow the objects of process {pid} with (is `pids.max` of the cgroup, or `ulimit -u`, reached?)"
    )]
    NoThread {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// A message with its causes.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        text = format!("{text}: {current}");
        cause = current.source();
    }
    text
}

impl StartError {
    /// The message with its causes, for a log line.
    pub fn full_text(&self) -> String {
        with_causes(self)
    }

    /// The stable identifier for the metric `leakline_refusals_total{reason}`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Discover(DiscoverError::Gone { .. })
            | Self::Vanished { .. }
            | Self::Attach(AttachError::TargetGone { .. }) => "process_gone",
            Self::Discover(DiscoverError::KernelThread { .. }) => "kernel_thread",
            Self::Discover(DiscoverError::Zombie { .. }) => "zombie",
            Self::Discover(DiscoverError::Ourselves { .. }) => "ourselves",
            Self::Discover(DiscoverError::NotAllowed { .. }) | Self::Attach(AttachError::NotAllowed { .. }) => {
                "not_allowed"
            }
            Self::Discover(DiscoverError::Unreadable { .. }) | Self::Exe { .. } => "process_unreadable",
            Self::Name(_) => "name",
            Self::Inspect { source, .. } | Self::InspectFile { source, .. } => source.id(),
            Self::NoEvidence { refused, .. } => refused.first().map_or("no_evidence", |refusal| refusal.reason.id()),
            Self::Attach(_) => "attach_failed",
            Self::Collect(_) => "collect_failed",
            Self::NoThread { .. } => "no_thread",
            Self::Read { source, .. } => source.id(),
            Self::SamplerOff { .. } => "sampler_off",
            Self::Adopt { source, .. } => source.id(),
        }
    }

    /// Whether it is about probes alone, so that the target's memory may still be read.
    pub fn leaves_books(&self) -> bool {
        matches!(
            self,
            Self::NoEvidence { .. }
                | Self::Attach(
                    AttachError::NotAllowed { .. } | AttachError::Load { .. } | AttachError::LoadProgram { .. }
                )
        )
    }

    /// Whether it may be otherwise in a moment, with the same process.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Read { source: ReadError::NotStarted | ReadError::Unsettled { .. }, .. })
    }

    /// DESIGN 7.1: 1 failed, 2 usage, 3 this host cannot, 4 no such target.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Discover(DiscoverError::NotAllowed { .. })
            | Self::NoEvidence { .. }
            | Self::Attach(
                AttachError::NotAllowed { .. } | AttachError::Load { .. } | AttachError::LoadProgram { .. },
            ) => 3,
            Self::Discover(DiscoverError::Unreadable { .. })
            | Self::Exe { .. }
            | Self::Collect(_)
            | Self::NoThread { .. }
            | Self::Read { source: ReadError::Memory(MemoryError::System { .. }), .. }
            | Self::Adopt { source: AdoptError::System { .. } | AdoptError::Note { .. }, .. } => 1,
            Self::Discover(_)
            | Self::Vanished { .. }
            | Self::Attach(AttachError::TargetGone { .. })
            | Self::Name(NameError::NoMatch { .. })
            | Self::Read { source: ReadError::Memory(MemoryError::Gone { .. }), .. }
            | Self::Adopt { source: AdoptError::Gone { .. }, .. } => 4,
            Self::Attach(_) => 1,
            Self::Name(_) => 2,
            Self::Read { .. } | Self::SamplerOff { .. } | Self::Adopt { .. } => 3,
            Self::Inspect { source, .. } | Self::InspectFile { source, .. } => {
                if source.is_no_target() {
                    4
                } else if source.is_refusal() {
                    3
                } else {
                    1
                }
            }
        }
    }
}
