//! From entries to a file.

use std::collections::HashMap;
use std::io::Write;

use serde::Serialize;

use super::node::{Node, Numbers};
use super::output::Output;
use super::to_node::to_node;
use super::{BLOCK_BYTES_MAX, Note, RECORD_NODES_MAX, REMEMBERED_MAX, RecordingError, blocks};
use crate::model::observation::{Moment, Observation};

/// Texts, in the order of their numbers: `[0, text …]`.
pub(super) const TEXTS: u32 = 0;
/// Shared structures, in the order of their numbers: `[1, structure …]`.
pub(super) const STRUCTURES: u32 = 1;
/// An entry: `[2, number of the kind's name, ns since the last entry, the same by the other clock less that, change]`; both are 64 bits
/// that wrap around.
pub(super) const ENTRY: u32 = 2;

/// A block is written when so much waits.
const BLOCK_BYTES: usize = 1 << 20;

/// Writes one recording.
#[derive(Debug)]
pub struct Writer<W> {
    file: W,
    /// Bytes of the file.
    written: usize,
    numbers: Numbers,
    /// The last entry of each kind, by the number of its name.
    last: HashMap<u32, Node>,
    at: Moment,
    /// Records of the next block.
    records: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn new(mut file: W) -> Result<Self, RecordingError> {
        let written = blocks::write_header(&mut file)?;
        Ok(Self {
            file,
            written,
            numbers: Numbers::default(),
            last: HashMap::new(),
            at: Moment::default(),
            records: Vec::new(),
        })
    }

    /// What the model was told.
    ///
    /// # Errors
    /// Where it is beyond a bound, and then nothing of it is in the file; where the file cannot be written.
    pub fn observation(&mut self, at: Moment, observation: &Observation) -> Result<(), RecordingError> {
        self.entry(at, observation)
    }

    /// What is known beside it.
    ///
    /// # Errors
    /// As [`Self::observation`].
    pub fn note(&mut self, at: Moment, note: &Note) -> Result<(), RecordingError> {
        self.entry(at, note)
    }

    /// One variant of an enum.
    pub(super) fn entry(&mut self, at: Moment, entry: &impl Serialize) -> Result<(), RecordingError> {
        let (kind, node) = match to_node(entry, &mut self.numbers)? {
            Node::Variant(kind, node) => (kind, *node),
            Node::Text(kind) => (kind, Node::Null),
            _ => return Err(RecordingError::Malformed { what: "entry" }),
        };
        // Half of what may be remembered of all kinds, so that what is written can be read.
        let max = RECORD_NODES_MAX.min(REMEMBERED_MAX / 4);
        if node.size() > max {
            return Err(RecordingError::TooLarge { what: "values of one record", max });
        }
        let mut records = Vec::new();
        let new = self.numbers.take_new();
        let mut output = Output::new(&mut records);
        if !new.texts.is_empty() {
            output.array(1 + new.texts.len())?;
            output.integer(TEXTS.into())?;
            new.texts.iter().try_for_each(|text| output.text(text))?;
        }
        if !new.shared.is_empty() {
            output.array(1 + new.shared.len())?;
            output.integer(STRUCTURES.into())?;
            new.shared.iter().for_each(|written| records.extend(written));
            output = Output::new(&mut records);
        }
        output.array(5)?;
        output.integer(ENTRY.into())?;
        output.integer(kind.into())?;
        let since = at.at_ns.wrapping_sub(self.at.at_ns);
        let drift = at.unix_ns.wrapping_sub(self.at.unix_ns).wrapping_sub(since);
        output.integer(since.cast_signed().into())?;
        output.integer(drift.cast_signed().into())?;
        if let Some(last) = self.last.get_mut(&kind) {
            output.change(last, node)?;
        } else {
            output.whole(&node)?;
            self.last.insert(kind, node);
        }
        self.at = at;
        if self.records.len().saturating_add(records.len()) > BLOCK_BYTES_MAX {
            self.flush()?;
        }
        self.records.extend(records);
        if self.records.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what waits, as a block.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordingError> {
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            self.written += blocks::write_records(&mut self.file, &records)?;
            self.file.flush()?;
        }
        Ok(())
    }

    /// Says that nothing is missing. Gives the file and its size in bytes.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn finish(mut self) -> Result<(W, usize), RecordingError> {
        self.flush()?;
        self.written += blocks::write_end(&mut self.file)?;
        self.file.flush()?;
        Ok((self.file, self.written))
    }

    /// Bytes of the file so far.
    pub fn written_bytes(&self) -> usize {
        self.written
    }
}
