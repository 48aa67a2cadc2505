//! Why a file could not be inspected: what broke, or what the file is not.

use std::io;

use super::layout::LayoutError;
use crate::addr::FileOffset;

/// Why a file yields no [`BinaryFacts`](super::BinaryFacts). The first three kinds mean that something broke; the others
/// say what the file is, and are the ground for a refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file could not be read, or became shorter while we read it.
    #[error("cannot read {length_bytes} bytes at {offset} of the binary for its {structure}")]
    Io {
        /// What we were reading.
        structure: &'static str,
        /// Where in the file.
        offset: FileOffset,
        /// How many bytes were asked for.
        length_bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A number in the file contradicts the format or exceeds our bound.
    #[error("malformed {structure}: {field} is {value:#x}")]
    Malformed {
        /// The structure that holds the number.
        structure: &'static str,
        /// Which of its numbers.
        field: &'static str,
        /// The number as found.
        value: u64,
    },
    /// Reading what the file claims to hold would cost more than any real program needs.
    #[error("reading its {structure} exceeds what inspecting one binary may cost ({} MiB read)", cost_max >> 20)]
    TooCostly {
        /// What we were reading.
        structure: &'static str,
        /// The bound, in bytes read: usually [`INSPECTION_COST_MAX`](super::source::INSPECTION_COST_MAX).
        cost_max: u64,
    },
    /// The file does not begin with the ELF magic.
    #[error("not an ELF file")]
    NotElf,
    /// An ELF file of the 32-bit class.
    #[error("a 32-bit ELF file, and only 64-bit ones are supported")]
    Elf32,
    /// An ELF file for another machine.
    #[error("built for {architecture}, and only amd64 is supported")]
    WrongArchitecture {
        /// The machine's name, or its number where we know no name.
        architecture: String,
    },
    /// No Go build info and no Go function table.
    #[error("not a Go program: it has neither build info nor a function table")]
    NotGo,
    /// A program that unpacks another one into memory: of any kind, and none of its file is what runs.
    #[error("packed by {packer}: the program that runs is not in its file; use one that is not packed")]
    Packed {
        /// What packed it.
        packer: &'static str,
    },
    /// A Go program which does not say by which version it was built, or not in a form that we read.
    #[error("a Go program without a readable version (found {found:?}); it may be obfuscated or packed")]
    UnreadableGoVersion {
        /// What stands where the version should; empty where nothing does.
        found: String,
    },
    /// A Go program built by a version whose memory layout we do not know.
    #[error("built by {version}, and only go1.{oldest_minor} to go1.{newest_minor} are supported")]
    UnsupportedGoVersion {
        /// The version as the build info states it.
        version: String,
        /// The oldest supported minor version.
        oldest_minor: u32,
        /// The newest supported minor version.
        newest_minor: u32,
    },
    /// A Go program built with experiments that may move what we read, and without DWARF that would tell.
    #[error(
        "built by {version}: such experiments may move what leakline reads, and the binary has no DWARF that would tell; \
         build it without them, or without -ldflags=-w"
    )]
    UnsupportedExperiment {
        /// The version as the build info states it.
        version: String,
    },
    /// A Go program built by a version that we do not know, whose DWARF is there and does not help.
    #[error(
        "built by {version}, which is no release up to go1.{newest_minor}, and its own DWARF does not tell its layout"
    )]
    UnusableDwarf {
        /// The version as the build info states it.
        version: String,
        /// The newest supported minor version.
        newest_minor: u32,
        /// What is wrong with the DWARF.
        source: Box<LayoutError>,
    },
}

impl InspectError {
    /// The stable identifier used in metrics.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::Io { .. } => "binary_unreadable",
            Self::Malformed { .. } => "binary_malformed",
            Self::TooCostly { .. } => "binary_too_costly",
            Self::NotElf => "not_elf",
            Self::Elf32 => "elf_32_bit",
            Self::WrongArchitecture { .. } => "wrong_architecture",
            Self::NotGo => "not_go",
            Self::Packed { .. } => "packed",
            Self::UnreadableGoVersion { .. } => "go_version_unreadable",
            Self::UnsupportedGoVersion { .. } => "go_version_unsupported",
            Self::UnsupportedExperiment { .. } => "go_experiment_unsupported",
            Self::UnusableDwarf { .. } => "go_layout_unknown",
        }
    }

    /// Whether the file is none of ours at all: not a 64-bit Go program.
    pub const fn is_no_target(&self) -> bool {
        matches!(self, Self::NotElf | Self::Elf32 | Self::NotGo)
    }

    /// Whether it is a Go program of a kind that we do not know, or may be one.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::WrongArchitecture { .. }
                | Self::Packed { .. }
                | Self::UnreadableGoVersion { .. }
                | Self::UnsupportedGoVersion { .. }
                | Self::UnsupportedExperiment { .. }
                | Self::UnusableDwarf { .. }
        )
    }

    /// A number that contradicts the format.
    pub(crate) fn malformed(structure: &'static str, field: &'static str, value: u64) -> Self {
        Self::Malformed { structure, field, value }
    }
}
