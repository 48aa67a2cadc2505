//! `leakline replay`: the reports of a recording, made again.
//!
//! Needs nothing but the file: no target, no permission, no clock. A recording that was cut off gives a report of what is there.

use std::{io::BufReader, path::Path, sync::Arc};

use anyhow::Context as _;

use super::{attach, stdout};
use crate::{
    cli::OutputFormat,
    discover::{Links, open_regular},
    export::{CostFacts, Refusal, Report, untrusted},
    model::{observation::Moment, process::ProcessModel},
    recording::{Beginning, Ending, Entry, Note, Reader, Reported},
};

/// Prints what was printed when the file was written.
pub fn replay(file: &Path, output: OutputFormat) -> anyhow::Result<()> {
    let shown = untrusted::path(&file.display().to_string()).into_owned();
    let opened = open_regular(file, Links::Follow).with_context(|| format!("cannot open {shown}"))?;
    let mut reader = Reader::new(BufReader::new(opened)).with_context(|| format!("cannot read {shown}"))?;
    let mut replayed: Option<Replayed> = None;
    while let Some((at, entry)) = reader.next_entry() {
        let Some(process) = &mut replayed else {
            if let Entry::Note(Note::Began(beginning)) = entry {
                replayed = Some(Replayed::new(*beginning, at));
            }
            continue;
        };
        if let Some(report) = process.take(at, entry)
            && attach::print(&report, output)? == stdout::Reader::Gone
        {
            return Ok(());
        }
    }
    match reader.ending() {
        Ending::Complete => {}
        Ending::Cut => tracing::warn!("{shown} was not ended by its writer: this is what it holds until there"),
        Ending::Damaged(error) => tracing::warn!(%error, "{shown} is damaged: this is what it holds before that"),
    }
    let skipped = reader.skipped();
    if skipped.unknown + skipped.not_understood > 0 {
        let (unknown, not_understood) = (skipped.unknown, skipped.not_understood);
        tracing::warn!(
            unknown,
            not_understood,
            "a later leakline wrote {shown}: what this one does not know is left out"
        );
    }
    let replayed = replayed.with_context(|| format!("{shown} has no look at a process in it"))?;
    if let Some(report) = replayed.last_report() {
        // Nothing follows that a reader could miss.
        attach::print(&report, output)?;
    }
    Ok(())
}

/// A process as far as its recording was read.
#[derive(Debug)]
struct Replayed {
    beginning: Beginning,
    model: ProcessModel,
    refusals: Vec<Refusal>,
    /// Of the last entry.
    last: Moment,
    is_final: bool,
}

impl Replayed {
    fn new(beginning: Beginning, at: Moment) -> Self {
        let model = ProcessModel::new(beginning.constants.clone());
        Self { beginning, model, refusals: Vec::new(), last: at, is_final: false }
    }

    /// Gives a report where one was made.
    fn take(&mut self, at: Moment, entry: Entry) -> Option<Report> {
        self.last = at;
        match entry {
            Entry::Observation(observation) => self.model.observe(at, observation),
            Entry::Note(Note::Refusals(refusals)) => self.refusals = refusals,
            Entry::Note(Note::Reported(reported)) => {
                self.is_final = reported.is_final;
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

    /// Of all that is there. `None`: that was made.
    fn last_report(&self) -> Option<Report> {
        let cost = CostFacts::default();
        (!self.is_final).then(|| self.report(Reported { is_final: true, ended: false, cost }))
    }
}
