//! All that the model was told of a process, in a file; and from the file again.
//!
//! Owns the format (docs/decisions/0011-recordings.md says why it is so) and its bounds. Knows what a recording holds
//! ([`Entry`]) and nothing of what an observation means: their types say by `serde` what their fields are called. Never holds
//! memory of the target: names, numbers and addresses only.
//!
//! A file is blocks (`blocks.rs`), a block is records (`writer.rs`, `reader.rs`), a record is what has changed since the last one of
//! its kind (`changes.rs`, `output.rs`, `input.rs`) in a tree (`node.rs`) that is made of any type (`to_node.rs`) and made into it (`from_node.rs`).
//!
//! **To add a kind of observation** add a variant to [`Observation`], or to [`Note`] what is none, and derive `serde` on what it
//! holds. Older readers pass over it. **To add a field** give it `#[serde(default)]`. Names of variants and fields are the
//! format: they are never renamed, and never used again for something else.

mod blocks;
mod changes;
mod from_node;
mod input;
mod node;
mod output;
mod reader;
mod replay;
#[cfg(test)]
mod tests;
mod to_node;
mod writer;

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

pub use self::reader::{Ending, Reader, Skipped};
pub use self::replay::Replay;
pub use self::writer::Writer;

use crate::export::{CostFacts, ProcessFacts, Refusal};
use crate::model::observation::Observation;
use crate::model::process::ProcessConstants;

/// Most bytes of records in one block.
const BLOCK_BYTES_MAX: usize = 16 << 20;
/// Most bytes of a block in the file.
const STORED_BYTES_MAX: usize = 8 << 20;
/// Most values of one record.
const RECORD_NODES_MAX: usize = 1 << 20;
/// Values that are remembered of the last record of each kind, in all.
const REMEMBERED_MAX: usize = 1 << 21;
/// How deep a record is.
const DEPTH_MAX: usize = 32;
/// Different texts.
const TEXTS_MAX: usize = 1 << 20;
/// Bytes of one text; names of functions are cut at 4 KiB where they are read.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// Bytes of all texts.
const ALL_TEXT_BYTES_MAX: usize = 128 << 20;
/// Different frames.
const SHARED_MAX: usize = 1 << 20;
/// Bytes of texts that one record may stand for.
const RECORD_TEXT_MAX: usize = 128 << 20;
/// Frames of all stacks of a heap profile, which are kept for as long as the process is followed.
const PROFILE_FRAMES_MAX: usize = 1 << 21;
/// Bytes of texts that looks at a heap profile stand for, in all: they are kept as the frames are.
const PROFILE_TEXT_MAX: usize = 256 << 20;
/// Values that are handed out, moved or looked through whatever the file's size, and for each byte of it: a look at the books of
/// an idle process has 1,000 and takes some 20 bytes.
const WORK_MAX: usize = 1 << 26;
const WORK_PER_BYTE_MAX: usize = 1000;
/// Bytes of texts that are handed out whatever the file's size, and for each byte of it.
const TEXT_WORK_MAX: usize = 1 << 30;
const TEXT_WORK_PER_BYTE_MAX: usize = 16 << 10;
/// Reports whatever the file's size. A report follows a look at least, which takes more bytes than stand for one report here.
const REPORTS_MAX: usize = 1000;
const BYTES_PER_REPORT_MIN: usize = 8;

/// What stands in a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// What the model was told.
    Observation(Observation),
    /// What a report says beside the model.
    Note(Note),
}

/// What is known beside the observations. The names are others than those of [`Observation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The first record.
    Began(Box<Beginning>),
    /// What is not measured from here on.
    Refusals(Vec<Refusal>),
    /// A report was made of all that stands before.
    Reported(Box<Reported>),
}

/// What is known before anything was seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beginning {
    /// The version of the leakline that wrote it.
    pub leakline_version: String,
    /// Whose recording this is.
    pub process: ProcessFacts,
    /// What the model knows beforehand.
    pub constants: ProcessConstants,
    /// When the window began, milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// What a report says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reported {
    /// Whether it was the last one.
    pub is_final: bool,
    /// Whether the process ended before the window did.
    pub ended: bool,
    /// What the look cost.
    pub cost: CostFacts,
}

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something else.
    #[error("not a recording of leakline")]
    NoRecording,
    /// Of a later leakline.
    #[error("a recording of format {found}, and this leakline reads up to {known}: take a later leakline")]
    Newer {
        /// Of the file.
        found: u16,
        /// The last one that is known.
        known: u16,
    },
    /// Beyond a bound.
    #[error("{what}: more than {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// What no writer writes.
    #[error("malformed {what}")]
    Malformed {
        /// What.
        what: &'static str,
    },
    /// Of a kind that this version does not know.
    #[error("of an unknown kind")]
    UnknownKind,
    /// Another type.
    #[error("{0}")]
    Unfit(String),
}

/// A recording with these bytes as records, whatever they are: for tests of what a hostile file may do.
///
/// # Errors
/// Where they are beyond the bounds of a block.
pub fn with_records(records: &[u8]) -> Result<Vec<u8>, RecordingError> {
    let mut file = Vec::new();
    blocks::write_header(&mut file)?;
    blocks::write_records(&mut file, records)?;
    blocks::write_end(&mut file)?;
    Ok(file)
}

impl serde::ser::Error for RecordingError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Unfit(message.to_string())
    }
}

impl serde::de::Error for RecordingError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Unfit(message.to_string())
    }
}
