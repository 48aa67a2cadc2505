//! From a file to entries, however hostile the file.

use std::collections::HashMap;
use std::io::Read;

use super::blocks::{Block, Blocks};
use super::from_node::{Amount, Source};
use super::input::Input;
use super::node::{Node, Tables};
use super::writer::{ENTRY, STRUCTURES, TEXTS};
use super::{
    ALL_TEXT_BYTES_MAX, BYTES_PER_REPORT_MIN, Entry, Note, PROFILE_FRAMES_MAX, PROFILE_TEXT_MAX, RECORD_TEXT_MAX,
    REMEMBERED_MAX, REPORTS_MAX, RecordingError, SHARED_MAX, TEXT_BYTES_MAX, TEXT_WORK_MAX, TEXT_WORK_PER_BYTE_MAX,
    TEXTS_MAX, WORK_MAX, WORK_PER_BYTE_MAX,
};
use crate::model::Stack;
use crate::model::impulses;
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
    /// Records of this block. One is decoded when it is asked for: a few bytes can stand for much.
    records: Vec<u8>,
    /// How many bytes of them are done with.
    done: usize,
    /// Values that are remembered at most: of all kinds when they were counted, and made since.
    remembered: usize,
    /// Values that were handed out, moved or looked through, and texts that were handed out.
    spent: Amount,
    /// What a report is of: the last entry of each kind, and all of the heap profile.
    told: HashMap<u32, Amount>,
    reports: usize,
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
            records: Vec::new(),
            done: 0,
            remembered: 0,
            spent: Amount::default(),
            told: HashMap::new(),
            reports: 0,
            profile_frames: 0,
            skipped: Skipped::default(),
            ending: None,
        })
    }

    /// The next entry. `None`: there is none, and [`Self::ending`] says why.
    pub fn next_entry(&mut self) -> Option<(Moment, Entry)> {
        while self.ending.is_none() {
            if self.done < self.records.len() {
                match self.record() {
                    Ok(Some(entry)) => return Some(entry),
                    Ok(None) => {}
                    Err(error) => self.ending = Some(Ending::Damaged(error)),
                }
                continue;
            }
            self.ending = match self.blocks.next() {
                Ok(Some(Block::Records(records))) => {
                    (self.records, self.done) = (records, 0);
                    None
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
        self.records = Vec::new();
        None
    }

    /// Why there is no further entry; [`Ending::Cut`] also before that is known.
    pub fn ending(&self) -> &Ending {
        self.ending.as_ref().unwrap_or(&Ending::Cut)
    }

    /// What was passed over so far.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }

    /// The next record of this block; `None` where it gives no entry.
    fn record(&mut self) -> Result<Option<(Moment, Entry)>, RecordingError> {
        // Aside, so that the rest of us can change while they are read.
        let records = std::mem::take(&mut self.records);
        let mut input = Input::new(records.get(self.done..).unwrap_or_default());
        let outcome = self.record_of(&mut input);
        self.done = self.done.saturating_add(input.offset());
        self.records = records;
        outcome
    }

    fn record_of(&mut self, input: &mut Input<'_>) -> Result<Option<(Moment, Entry)>, RecordingError> {
        let items = input.array()?;
        let kind = input.number()?;
        let rest = items.checked_sub(1).ok_or(RecordingError::Malformed { what: "record" })?;
        match kind {
            TEXTS => self.texts(input, rest)?,
            STRUCTURES => self.structures(input, rest)?,
            ENTRY => return self.entry(input, rest),
            _ => {
                self.skipped.unknown += 1;
                (0..rest).try_for_each(|_| input.skip())?;
            }
        }
        Ok(None)
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

    fn entry(&mut self, input: &mut Input<'_>, items: usize) -> Result<Option<(Moment, Entry)>, RecordingError> {
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
        // Whether its kind is known or not.
        self.spend(Amount { nodes: input.passed(), text_bytes: 0 })?;
        let outcome = self.understood(kind, &node);
        // What a map has no more is remembered for its next change.
        self.remember(kind, std::mem::replace(&mut node, Node::Null), input.take_made())?;
        match outcome {
            Ok(entry) => return Ok(Some((self.at, entry))),
            Err(RecordingError::UnknownKind) => self.skipped.unknown += 1,
            Err(RecordingError::Unfit(why)) => {
                tracing::debug!(why, "an entry of the recording is not understood");
                self.skipped.not_understood += 1;
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// How much may still be done for what was read of the file.
    fn left(&self) -> Amount {
        let all = Amount {
            nodes: self.blocks.read.saturating_mul(WORK_PER_BYTE_MAX).saturating_add(WORK_MAX),
            text_bytes: self.blocks.read.saturating_mul(TEXT_WORK_PER_BYTE_MAX).saturating_add(TEXT_WORK_MAX),
        };
        all.less(self.spent)
    }

    fn spend(&mut self, amount: Amount) -> Result<(), RecordingError> {
        let left = self.left();
        if amount.nodes > left.nodes {
            return Err(RecordingError::TooLarge { what: "values of a recording", max: WORK_MAX });
        }
        if amount.text_bytes > left.text_bytes {
            return Err(RecordingError::TooLarge { what: "bytes of texts of a recording", max: TEXT_WORK_MAX });
        }
        self.spent = self.spent.plus(amount);
        Ok(())
    }

    fn understood(&mut self, kind: u32, node: &Node) -> Result<Entry, RecordingError> {
        let mut left = self.left();
        left.text_bytes = left.text_bytes.min(RECORD_TEXT_MAX);
        let source = Source::new(&self.tables, left);
        let name = self.tables.text(kind)?;
        let node = Some(node).filter(|node| **node != Node::Null);
        let entry = match source.variant::<Observation>(name, node) {
            Err(RecordingError::UnknownKind) => source.variant::<Note>(name, node).map(Entry::Note),
            observation => observation.map(Entry::Observation),
        };
        let amount = left.less(source.left());
        self.spent = self.spent.plus(amount);
        match &entry {
            Ok(Entry::Observation(Observation::Profile(look))) => self.stacks(kind, &look.new_stacks, amount)?,
            Ok(Entry::Observation(Observation::Births(look))) => self.stacks(kind, &look.new_stacks, amount)?,
            Ok(Entry::Observation(Observation::Impulses(_))) => {
                // The last few are kept.
                let kept = (0..impulses::KEPT_MAX).fold(Amount::default(), |sum, _| sum.plus(amount));
                let before = self.told.get(&kind).copied().unwrap_or_default();
                self.told.insert(kind, before.max(kept));
            }
            Ok(Entry::Note(Note::Reported(_))) => self.report()?,
            Ok(_) => {
                self.told.insert(kind, amount);
            }
            Err(_) => {}
        }
        entry
    }

    /// They are kept.
    fn stacks(&mut self, kind: u32, new_stacks: &[Stack], amount: Amount) -> Result<(), RecordingError> {
        let frames: usize = new_stacks.iter().map(|stack| stack.len() + 1).sum();
        self.profile_frames = self.profile_frames.saturating_add(frames);
        if self.profile_frames > PROFILE_FRAMES_MAX {
            return Err(RecordingError::TooLarge { what: "stacks of a heap profile", max: PROFILE_FRAMES_MAX });
        }
        // Not the values: the same counts may be told a thousand times, and a report has them once.
        let before = self.told.get(&kind).copied().unwrap_or_default();
        let text_bytes = before.text_bytes.saturating_add(amount.text_bytes);
        if text_bytes > PROFILE_TEXT_MAX {
            return Err(RecordingError::TooLarge { what: "bytes of texts of a heap profile", max: PROFILE_TEXT_MAX });
        }
        self.told.insert(kind, Amount { nodes: self.profile_frames, text_bytes });
        Ok(())
    }

    /// One may be asked for with six bytes, and says again what was told.
    fn report(&mut self) -> Result<(), RecordingError> {
        self.reports = self.reports.saturating_add(1);
        if self.reports > REPORTS_MAX.saturating_add(self.blocks.read / BYTES_PER_REPORT_MIN) {
            return Err(RecordingError::TooLarge { what: "reports", max: REPORTS_MAX });
        }
        let told = self.told.values().copied().fold(Amount::default(), Amount::plus);
        self.spend(told)
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
