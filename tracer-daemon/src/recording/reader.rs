//! From a file to entries, however hostile the file.

use std::collections::HashMap;
use std::io::Read;

use super::blocks::{Block, Blocks};
use super::from_node::Source;
use super::input::Input;
use super::node::{Node, Tables};
use super::writer::{ENTRY, STRUCTURES, TEXTS};
use super::{
    ALL_TEXT_BYTES_MAX, Entry, Note, PROFILE_FRAMES_MAX, RECORD_TEXT_MAX, REMEMBERED_MAX, RecordingError, SHARED_MAX,
    TEXT_BYTES_MAX, TEXTS_MAX, WORK_MAX, WORK_PER_BYTE_MAX,
};
use crate::model::observation::{Moment, Observation};

/// Reads one recording, entry by entry.
#[derive(Debug)]
pub struct Reader<R> {
    blocks: Blocks<R>,
    tables: Tables,
    text_bytes: usize,
    /// The last entry of each kind, by the number of its name.
    last: HashMap<u32, Node>,
    at: Moment,
    /// Entries of this block, the next one last.
    entries: Vec<(Moment, Entry)>,
    /// Values that are remembered at most: of all kinds when they were counted, and made since.
    remembered: usize,
    /// Values that were handed out.
    handed_out: usize,
    profile_frames: usize,
    skipped: Skipped,
    ending: Option<Ending>,
}

/// What of a recording was passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Blocks and records of kinds that this version does not know.
    pub unknown: u64,
    /// Entries that hold what this version does not understand.
    pub not_understood: u64,
}

/// Where a recording ends.
#[derive(Debug)]
pub enum Ending {
    /// Where its writer ended it.
    Complete,
    /// Its writer did not end it, or the end is missing.
    Cut,
    /// What follows is not what was written.
    Damaged(RecordingError),
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Where it is no recording, or one of a later format.
    pub fn new(file: R) -> Result<Self, RecordingError> {
        Ok(Self {
            blocks: Blocks::new(file)?,
            tables: Tables::default(),
            text_bytes: 0,
            last: HashMap::new(),
            at: Moment::default(),
            entries: Vec::new(),
            remembered: 0,
            handed_out: 0,
            profile_frames: 0,
            skipped: Skipped::default(),
            ending: None,
        })
    }

    /// The next entry. `None`: there is none, and [`Self::ending`] says why.
    pub fn next_entry(&mut self) -> Option<(Moment, Entry)> {
        while self.entries.is_empty() && self.ending.is_none() {
            self.ending = match self.blocks.next() {
                Ok(Some(Block::Records(records))) => {
                    let outcome = self.records(&records);
                    self.entries.reverse();
                    outcome.err().map(Ending::Damaged)
                }
                Ok(Some(Block::End)) => Some(Ending::Complete),
                Ok(Some(Block::Other)) => {
                    self.skipped.unknown += 1;
                    None
                }
                Ok(None) => Some(Ending::Cut),
                Err(error) => Some(Ending::Damaged(error)),
            };
        }
        self.entries.pop()
    }

    /// Why there is no further entry; [`Ending::Cut`] also before that is known.
    pub fn ending(&self) -> &Ending {
        self.ending.as_ref().unwrap_or(&Ending::Cut)
    }

    /// What was passed over so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    fn records(&mut self, records: &[u8]) -> Result<(), RecordingError> {
        let mut input = Input::new(records);
        while !input.is_at_end() {
            let items = input.array()?;
            let kind = input.number()?;
            let rest = items.checked_sub(1).ok_or(RecordingError::Malformed { what: "record" })?;
            match kind {
                TEXTS => self.texts(&mut input, rest)?,
                STRUCTURES => self.structures(&mut input, rest)?,
                ENTRY => self.entry(&mut input, rest)?,
                _ => {
                    self.skipped.unknown += 1;
                    (0..rest).try_for_each(|_| input.skip())?;
                }
            }
        }
        Ok(())
    }

    fn texts(&mut self, input: &mut Input<'_>, count: usize) -> Result<(), RecordingError> {
        for _ in 0..count {
            let text = input.text(TEXT_BYTES_MAX)?;
            self.text_bytes = self.text_bytes.saturating_add(text.len());
            if self.text_bytes > ALL_TEXT_BYTES_MAX || self.tables.texts.len() >= TEXTS_MAX {
                return Err(RecordingError::TooLarge { what: "texts", max: TEXTS_MAX });
            }
            self.tables.texts.push(text);
        }
        Ok(())
    }

    fn structures(&mut self, input: &mut Input<'_>, count: usize) -> Result<(), RecordingError> {
        for _ in 0..count {
            let node = input.whole()?;
            // None within another, so that each is as small as it is long; all fields are of use at once, or none is.
            let is_plain = |(_, node): &(u32, Node)| {
                matches!(node, Node::Null | Node::Bool(_) | Node::Integer(_) | Node::Float(_) | Node::Text(_))
            };
            match &node {
                Node::Struct(fields) if fields.len() <= SHARED_FIELDS_MAX && fields.iter().all(is_plain) => {}
                _ => return Err(RecordingError::Malformed { what: "frame" }),
            }
            if self.tables.shared.len() >= SHARED_MAX {
                return Err(RecordingError::TooLarge { what: "frames", max: SHARED_MAX });
            }
            input.take_made();
            self.tables.shared.push(node);
        }
        Ok(())
    }

    fn entry(&mut self, input: &mut Input<'_>, items: usize) -> Result<(), RecordingError> {
        // A later version may put more behind them.
        let more = items.checked_sub(4).ok_or(RecordingError::Malformed { what: "record" })?;
        let kind = input.number()?;
        let (since, drift) = (input.signed()?, input.signed()?);
        self.at = Moment {
            at_ns: self.at.at_ns.wrapping_add_signed(since),
            unix_ns: self.at.unix_ns.wrapping_add_signed(since).wrapping_add_signed(drift),
        };
        input.take_made();
        let mut node = match self.last.remove(&kind) {
            Some(mut last) => {
                input.change(&mut last)?;
                last
            }
            None => input.whole()?,
        };
        (0..more).try_for_each(|_| input.skip())?;
        let outcome = self.understood(kind, &node);
        // What a map has no more is remembered for its next change.
        self.remember(kind, std::mem::replace(&mut node, Node::Null), input.take_made())?;
        match outcome {
            Ok(entry) => self.entries.push((self.at, entry)),
            Err(RecordingError::UnknownKind) => self.skipped.unknown += 1,
            Err(RecordingError::Unfit(why)) => {
                tracing::debug!(why, "an entry of the recording is not understood");
                self.skipped.not_understood += 1;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn understood(&mut self, kind: u32, node: &Node) -> Result<Entry, RecordingError> {
        let work_max = self.blocks.read.saturating_mul(WORK_PER_BYTE_MAX).saturating_add(WORK_MAX);
        let left = work_max.saturating_sub(self.handed_out);
        let source = Source::new(&self.tables, left, RECORD_TEXT_MAX);
        let name = self.tables.text(kind)?;
        let node = Some(node).filter(|node| **node != Node::Null);
        let entry = match source.variant::<Observation>(name, node) {
            Err(RecordingError::UnknownKind) => source.variant::<Note>(name, node).map(Entry::Note),
            observation => observation.map(Entry::Observation),
        };
        self.handed_out = self.handed_out.saturating_add(left - source.nodes_left());
        if let Ok(Entry::Observation(Observation::Profile(look))) = &entry {
            let frames: usize = look.new_stacks.iter().map(|stack| stack.len() + 1).sum();
            self.profile_frames = self.profile_frames.saturating_add(frames);
            if self.profile_frames > PROFILE_FRAMES_MAX {
                return Err(RecordingError::TooLarge { what: "stacks of a heap profile", max: PROFILE_FRAMES_MAX });
            }
        }
        entry
    }

    fn remember(&mut self, kind: u32, node: Node, made: usize) -> Result<(), RecordingError> {
        self.last.insert(kind, node);
        self.remembered = self.remembered.saturating_add(made);
        if self.remembered > REMEMBERED_MAX {
            self.remembered = self.last.values().map(Node::size).sum();
            // Not again before as many were made: so counting costs no more than making.
            if self.remembered > REMEMBERED_MAX / 2 {
                return Err(RecordingError::TooLarge { what: "values that are remembered", max: REMEMBERED_MAX / 2 });
            }
        }
        Ok(())
    }
}

/// Fields of a frame; a later version may have more.
const SHARED_FIELDS_MAX: usize = 16;
