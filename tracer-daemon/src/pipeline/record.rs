//! `leakline record`: `attach`, and what the model is told goes to a file as well, so that `replay` prints the same.
//!
//! A block is written every few seconds: after a kill the file is readable up to the last one. The file is for its owner alone,
//! since it has names of the target's code in it.

use std::{
    ffi::OsString,
    fs::{self, File, FileType, OpenOptions},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{Session, attach, own};
use crate::{
    discover::Target,
    export::{Refusal, Report},
    model::observation::{Moment, Observation},
    recording::{Beginning, Note, RecordingError, Reported, Writer},
};

/// How much of the end a kill may cost.
const BLOCK_EVERY: Duration = Duration::from_secs(5);

/// Where to write, and how much.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file; one that is there is replaced.
    pub file: PathBuf,
    /// Recording ends when the file is so large; the last looks come on top.
    pub max_bytes: usize,
}

/// Attaches, watches, records, reports to stdout.
pub async fn record(target: Target, options: attach::Options, recording: Options) -> anyhow::Result<()> {
    // Before anything is done to the target: it may not be possible.
    let draft = Draft::new(recording)?;
    attach::watched(target, options, Some(draft)).await?;
    Ok(())
}

/// A file that has not its name yet.
#[derive(Debug)]
pub(super) struct Draft {
    options: Options,
    file: File,
    /// Where it is now. `None`: it has its name.
    partial: Option<PathBuf>,
}

impl Draft {
    fn new(options: Options) -> anyhow::Result<Self> {
        let context = || format!("cannot write {}", options.file.display());
        if let Ok(found) = fs::symlink_metadata(&options.file).map(|found| found.file_type()) {
            if is_stream(found) || (found.is_symlink() && leads_to_stream(&options.file)) {
                let file = OpenOptions::new().write(true).open(&options.file).with_context(context)?;
                // It may be another one by now. Nothing was cut off by opening it.
                let is_stream = is_stream(file.metadata().with_context(context)?.file_type());
                anyhow::ensure!(is_stream, "cannot write {}: it was replaced", options.file.display());
                return Ok(Self { options, file, partial: None });
            }
            // A link is replaced and not followed: in a folder of others it may lead to any file of ours. But not those of the
            // system (`/dev/stdout`), which everybody needs.
            let is_replaceable = found.is_file() || (found.is_symlink() && !is_of_the_system(&options.file));
            anyhow::ensure!(is_replaceable, "cannot write {}: it is no regular file", options.file.display());
        }
        let mut partial = OsString::from(&options.file);
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        // Made anew, so that in a folder of others it is nobody's link to somewhere else.
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        let file = made.with_context(context)?;
        Ok(Self { options, file, partial: Some(partial) })
    }

    /// Gives the file its name and its beginning.
    pub(super) fn begin(mut self, session: &Session, started_unix_ms: u64) -> anyhow::Result<Recorder> {
        let context = || format!("cannot write {}", self.options.file.display());
        let mut writer = Writer::new(self.file.try_clone().with_context(context)?).with_context(context)?;
        let subject = session.subject();
        let beginning = Beginning {
            leakline_version: env!("CARGO_PKG_VERSION").to_owned(),
            process: subject.process_facts(),
            constants: session.constants().cloned().unwrap_or_default(),
            started_unix_ms,
        };
        writer.note(session.moment(), &Note::Began(Box::new(beginning))).with_context(context)?;
        if let Some(partial) = self.partial.take() {
            fs::rename(&partial, &self.options.file).inspect_err(|_error| remove(&partial)).with_context(context)?;
        }
        Ok(Recorder {
            pid: subject.identity.pid,
            file: self.options.file.clone(),
            max_bytes: self.options.max_bytes,
            writer,
            flushed: own::now(),
            refusals: Vec::new(),
            observations: 0,
            is_full: false,
            failure: None,
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            remove(partial);
        }
    }
}

/// What is written to and not replaced.
fn is_stream(found: FileType) -> bool {
    found.is_fifo() || found.is_char_device() || found.is_socket()
}

fn leads_to_stream(link: &Path) -> bool {
    fs::metadata(link).is_ok_and(|found| is_stream(found.file_type()))
}

fn is_of_the_system(link: &Path) -> bool {
    fs::read_link(link).is_ok_and(|to| to.starts_with("/proc") || to.starts_with("/dev"))
}

fn remove(partial: &Path) {
    // It may be gone already.
    drop(fs::remove_file(partial));
}

/// Writes down what a session sees.
#[derive(Debug)]
pub(super) struct Recorder {
    pid: u32,
    file: PathBuf,
    max_bytes: usize,
    writer: Writer<File>,
    flushed: Instant,
    /// As they were written last.
    refusals: Vec<Refusal>,
    observations: u64,
    is_full: bool,
    /// Why nothing is written any more: what follows a block that is half there could not be read.
    failure: Option<anyhow::Error>,
}

impl Recorder {
    /// Writes down what the session saw since this was called last. Where that fails, watching goes on without it, and
    /// [`Self::finish`] says why: a full disk is no reason to lose the report as well.
    pub(super) fn follow(&mut self, session: &mut Session) {
        // Taken in any case, so that they do not pile up.
        let told = session.take_told();
        if self.failure.is_none() {
            let outcome = self.write(session, told);
            self.settle(outcome);
        }
    }

    fn settle(&mut self, outcome: anyhow::Result<()>) {
        if let Err(error) = outcome {
            tracing::warn!(pid = self.pid, "{error:#}: recording ends here, watching goes on");
            self.failure = Some(error);
        }
    }

    fn write(&mut self, session: &Session, told: Vec<(Moment, Observation)>) -> anyhow::Result<()> {
        for (at, observation) in told {
            self.observations += 1;
            match self.writer.observation(at, &observation) {
                Err(RecordingError::TooLarge { what, max }) => {
                    tracing::warn!(pid = self.pid, what, max, "a look is too large for the recording and left out");
                }
                outcome => self.written(outcome)?,
            }
        }
        self.refused(session.moment(), &session.refused())?;
        let now = own::now();
        if now.saturating_duration_since(self.flushed) >= BLOCK_EVERY {
            self.flushed = now;
            let outcome = self.writer.flush();
            self.written(outcome)?;
        }
        if !self.is_full && self.writer.written_bytes() >= self.max_bytes {
            self.is_full = true;
            tracing::warn!(
                pid = self.pid,
                max_bytes = self.max_bytes,
                "{} is as large as it may be, so recording ends here (--max-size)",
                self.file.display()
            );
        }
        Ok(())
    }

    /// Whether it has grown as large as it may.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Writes down that a report was made of all that was seen.
    pub(super) fn reported(&mut self, at: Moment, report: &Report) {
        if self.failure.is_none() {
            let outcome = self.write_reported(at, report);
            self.settle(outcome);
        }
    }

    fn write_reported(&mut self, at: Moment, report: &Report) -> anyhow::Result<()> {
        self.refused(at, &report.refusals)?;
        let (is_final, ended, cost) = (report.is_final, report.process.ended, report.cost.clone());
        let outcome = self.writer.note(at, &Note::Reported(Box::new(Reported { is_final, ended, cost })));
        self.written(outcome)
    }

    /// The last block.
    ///
    /// # Errors
    /// Where it, or anything before it, could not be written.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        let Self { pid, file, observations, failure, .. } = self;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let (_, bytes) = self.writer.finish().with_context(|| format!("cannot write {}", file.display()))?;
        tracing::info!(pid, bytes, observations, "wrote {}", file.display());
        Ok(())
    }

    fn refused(&mut self, at: Moment, refusals: &[Refusal]) -> anyhow::Result<()> {
        if self.refusals == refusals {
            return Ok(());
        }
        self.refusals = refusals.to_vec();
        let outcome = self.writer.note(at, &Note::Refusals(refusals.to_vec()));
        self.written(outcome)
    }

    fn written(&self, outcome: Result<(), RecordingError>) -> anyhow::Result<()> {
        outcome.with_context(|| format!("cannot write {}", self.file.display()))
    }
}
