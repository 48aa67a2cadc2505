//! From a recording to the reports that were made when it was written.

use std::io::Read;
use std::sync::Arc;

use super::{Beginning, Ending, Entry, Note, Reader, RecordingError, Reported};
use crate::export::{CostFacts, Refusal, Report};
use crate::model::observation::Moment;
use crate::model::process::ProcessModel;

/// The reports of one recording, in order. Where its writer made no last one, what is there makes it.
#[derive(Debug)]
pub struct Replay<R> {
    reader: Reader<R>,
    process: Option<Process>,
}

/// A process as far as its recording was read.
#[derive(Debug)]
struct Process {
    beginning: Beginning,
    model: ProcessModel,
    refusals: Vec<Refusal>,
    /// Of the last entry.
    last: Moment,
    /// Whether anything was seen.
    was_seen: bool,
    /// Whether the last report was made.
    is_over: bool,
}

impl<R: Read> Replay<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Where it is no recording, or one of a later format.
    pub fn new(file: R) -> Result<Self, RecordingError> {
        Ok(Self { reader: Reader::new(file)?, process: None })
    }

    /// The next one. `None`: there is none; where there never was, nothing was seen of a process.
    pub fn next_report(&mut self) -> Option<Report> {
        while let Some((at, entry)) = self.reader.next_entry() {
            let Some(process) = &mut self.process else {
                if let Entry::Note(Note::Began(beginning)) = entry {
                    self.process = Some(Process::new(*beginning, at));
                }
                continue;
            };
            if let Some(report) = process.take(at, entry) {
                return Some(report);
            }
        }
        self.process.as_mut().and_then(Process::last_report)
    }

    /// Of the file.
    pub fn reader(&self) -> &Reader<R> {
        &self.reader
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        matches!(self.reader.ending(), Ending::Complete)
    }
}

impl Process {
    fn new(beginning: Beginning, at: Moment) -> Self {
        let model = ProcessModel::new(beginning.constants.clone());
        Self { beginning, model, refusals: Vec::new(), last: at, was_seen: false, is_over: false }
    }

    /// Gives a report where one was made.
    fn take(&mut self, at: Moment, entry: Entry) -> Option<Report> {
        self.last = at;
        match entry {
            Entry::Observation(observation) => {
                self.was_seen = true;
                self.model.observe(at, observation);
            }
            Entry::Note(Note::Refusals(refusals)) => self.refusals = refusals,
            Entry::Note(Note::Reported(reported)) => {
                self.is_over |= reported.is_final;
                return Some(self.report(*reported));
            }
            // There is one process in a recording.
            Entry::Note(Note::Began(_)) => {}
        }
        None
    }

    fn report(&self, reported: Reported) -> Report {
        let mut process = self.beginning.process.clone();
        process.ended = reported.ended;
        Report {
            snapshot: Arc::new(self.model.snapshot(self.last)),
            process,
            started_unix_ms: self.beginning.started_unix_ms,
            is_final: reported.is_final,
            cost: reported.cost,
            refusals: self.refusals.clone(),
        }
    }

    /// Of all that is there. `None`: it was made, or nothing is there.
    fn last_report(&mut self) -> Option<Report> {
        if std::mem::replace(&mut self.is_over, true) || !self.was_seen {
            return None;
        }
        Some(self.report(Reported { is_final: true, ended: false, cost: CostFacts::default() }))
    }
}
