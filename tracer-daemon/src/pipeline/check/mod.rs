//! `leakline check`: runs a command, measures the Go program in it, and says whether it leaks, or leaks more than before.
//!
//! The command and all that it starts belong to a supervisor (`supervisor.rs`), which ends them with us. The program is followed from when it
//! is first seen; what counts is the window behind readiness and warm-up. What the numbers mean is for the model to say.

mod candidates;
mod commanded;
mod error;
mod ready;
mod report;
pub mod supervisor;

pub use self::error::CheckError;
pub use self::ready::ReadyUrl;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::candidates::Candidates;
use self::commanded::Commanded;
use self::supervisor::{News, Order, in_words};
use super::attach::{Progress, Stop};
use super::{KILLSWITCH, Killswitch, Means, Session, StartError, own};
use crate::attach::Limits;
use crate::cli::{EvidenceChoice, OutputFormat};
use crate::discover::{NamePattern, Presence, ProcessIdentity, Target};
use crate::export::{ProcessFacts, Refusal, human, untrusted};
use crate::inspect::BinaryFacts;
use crate::inspect::cache::FactsCache;
use crate::model::Snapshot;
use crate::model::compare::Rules;

/// How often the target is looked after.
const STEP: Duration = Duration::from_millis(50);
/// A program that has lived so long is taken to stay: tools that a build runs are gone by then, and the runtime has begun.
const SETTLED: Duration = Duration::from_millis(500);
/// How often the machine is searched for it.
const SEARCH_EVERY: Duration = Duration::from_millis(100);
/// How often `--ready-url` is asked for.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// After the end of the program, how long is waited for the exit status of the command.
const STATUS_WITHIN: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// Which of its Go programs. `None`: the command itself, else who listens, else who holds most.
    pub name: Option<NamePattern>,
    /// With what to compare.
    pub baseline: Option<PathBuf>,
    /// Where to write what was measured.
    pub write_baseline: Option<PathBuf>,
    /// How long to measure.
    pub duration: Duration,
    /// How long to wait before, once it is ready.
    pub warmup: Duration,
    /// It is ready when this answers.
    pub ready_url: Option<ReadyUrl>,
    /// It is ready when a line of its output matches.
    pub ready_log: Option<Regex>,
    /// How long it may take to begin and be ready.
    pub start_timeout: Duration,
    /// What `sh -c` runs from readiness on.
    pub load: Option<OsString>,
    /// Where the output of the command goes. `None`: to our standard error.
    pub command_output: Option<PathBuf>,
    /// Between SIGTERM and SIGKILL at the end.
    pub grace: Duration,
    /// The evidence asked for.
    pub evidence: EvidenceChoice,
    /// Turn on the sampler of a program where it is off.
    pub adopt_sampler: bool,
    /// By what it fails.
    pub rules: Rules,
    /// Whether what cannot be said fails.
    pub strict: bool,
    /// How to print.
    pub output: OutputFormat,
    /// Where to write `JUnit` XML.
    pub junit: Option<PathBuf>,
    /// To what to append a summary in Markdown.
    pub markdown: Option<PathBuf>,
}

impl Options {
    /// Shown in reports.
    fn command_line(&self) -> String {
        self.command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// Runs the check and reports. True: it fails. When this returns, nothing of the command is left.
///
/// # Errors
/// Where there is nothing to judge: the command failed, ran no Go program, or may not be looked at.
pub async fn check(options: Options) -> anyhow::Result<bool> {
    // First of all, so that nobody waits for a minute to learn that a file is not there.
    let baseline = options.baseline.as_deref().map(report::read_baseline).transpose()?;
    report::can_be_written(&options)?;
    let mut run = Run::start(&options)?;
    let measured = run.measured().await;
    run.end();
    // It was ours alone, and empty where the sampler was turned off again.
    drop(std::fs::remove_dir(state_folder()));
    report::report(&options, baseline.as_ref(), &measured?)
}

/// A measurement.
struct Measured {
    process: ProcessFacts,
    facts: Arc<BinaryFacts>,
    snapshot: Snapshot,
    refusals: Vec<Refusal>,
    /// When it began, milliseconds since 1970.
    started_unix_ms: u64,
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Complete,
    TargetEnded,
}

/// A command that is being checked.
struct Run<'a> {
    options: &'a Options,
    commanded: Commanded,
    candidates: Candidates,
    stop: Stop,
    step: Interval,
    progress: Progress,
    started: Instant,
    /// The command itself has ended, well.
    command_ended: bool,
    /// And so has all that it had started.
    all_ended: bool,
    was_ready: bool,
}

impl<'a> Run<'a> {
    fn start(options: &'a Options) -> anyhow::Result<Self> {
        // Before anything is started, so that no signal comes between.
        let stop = Stop::new()?;
        let commanded = Commanded::start(options)?;
        let mut step = interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let candidates = Candidates {
            supervisor: commanded.supervisor_pid(),
            command: None,
            load: None,
            name: options.name.clone(),
            cache: FactsCache::default(),
            refused: None,
        };
        Ok(Self {
            options,
            commanded,
            candidates,
            stop,
            step,
            progress: Progress::new(),
            started: own::now(),
            command_ended: false,
            all_ended: false,
            was_ready: false,
        })
    }

    /// Finds the program, waits until it is warm, and measures it.
    async fn measured(&mut self) -> anyhow::Result<Measured> {
        let mut last: Option<Session> = None;
        let mut session = loop {
            let mut session = match self.found().await {
                Err(error) => match last.filter(|_| is_over(&error)) {
                    // It was there, and is over: what was seen of it is reported.
                    Some(session) => break session,
                    None => return Err(error),
                },
                Ok(session) => session,
            };
            if self.warmed_up(&mut session).await? == Phase::Complete {
                break self.best_of_many(session)?;
            }
            tracing::info!(
                pid = session.subject().identity.pid,
                "it ended before it was measured; looking for another"
            );
            last = Some(session);
        };
        let started_unix_ms = own::unix_ms();
        session.open()?;
        let pid = session.subject().identity.pid;
        tracing::info!(pid, name = session.subject().name, "measuring for {}", in_seconds(self.options.duration));
        let phase = self.stay(&mut session, self.options.duration, "measuring").await?;
        session.close()?;
        self.progress.clear();
        if phase == Phase::TargetEnded {
            self.status().await?;
        }
        let subject = session.subject();
        let process = ProcessFacts { ended: phase == Phase::TargetEnded, ..subject.process_facts() };
        let (facts, refusals) = (Arc::clone(&subject.facts), session.refused());
        let snapshot = session.snapshot(session.moment())?;
        session.warn_of_gaps();
        session.leave();
        Ok(Measured { process, facts, snapshot, refusals, started_unix_ms })
    }

    /// The first Go program that stays, with a session.
    async fn found(&mut self) -> anyhow::Result<Session> {
        let mut seen: Option<(ProcessIdentity, Instant)> = None;
        let mut searched: Option<Instant> = None;
        loop {
            self.next().await?;
            let now = own::now();
            if searched.is_some_and(|searched| now.saturating_duration_since(searched) < SEARCH_EVERY) {
                continue;
            }
            searched = Some(now);
            if let Some(target) = self.candidates.best() {
                let identity = target.identity;
                let since = seen.filter(|(before, _)| *before == identity).map_or(now, |(_, since)| since);
                seen = Some((identity, since));
                if now.saturating_duration_since(since) >= SETTLED
                    && let Some(session) = self.session(&target)?
                {
                    return Ok(session);
                }
            } else if self.all_ended {
                return Err(self.nothing_found());
            }
            let waited = now.saturating_duration_since(self.started);
            if waited >= self.options.start_timeout {
                return Err(match self.nothing_found().downcast() {
                    Ok(CheckError::NoGoProgram { name }) => {
                        CheckError::NotFound { waited_s: waited.as_secs(), name }.into()
                    }
                    Ok(other) => other.into(),
                    Err(refused) => refused,
                });
            }
            self.progress.show(now, || String::from("waiting for a Go program"));
        }
    }

    fn nothing_found(&self) -> anyhow::Error {
        match &self.candidates.refused {
            Some((pid, exe, source)) => {
                let exe = untrusted::path(exe).into_owned();
                StartError::Inspect { pid: *pid, exe, source: Arc::clone(source) }.into()
            }
            None => CheckError::NoGoProgram { name: self.options.name.as_ref().map(ToString::to_string) }.into(),
        }
    }

    /// `None`: not yet.
    fn session(&self, target: &Target) -> anyhow::Result<Option<Session>> {
        let means = Means {
            evidence: self.options.evidence,
            killswitch: Killswitch::new(KILLSWITCH.into()),
            limits: Limits::default(),
            adopt: self.options.adopt_sampler.then(state_folder),
            // Its sampler names lines; a gate is to need no more privilege than that.
            bursts: None,
            books_every: Means::BOOKS_OFTEN,
            // That is what was waited for.
            warm_after: None,
            is_recorded: false,
        };
        match Session::start(target, &means, &self.candidates.cache) {
            Ok(session) => {
                session.announce();
                Ok(Some(session))
            }
            Err(error) if error.is_passing() || matches!(error, StartError::Vanished { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it is ready, starts the load, and lets it warm up.
    async fn warmed_up(&mut self, session: &mut Session) -> anyhow::Result<Phase> {
        if !self.was_ready {
            if self.became_ready(session).await? == Phase::TargetEnded {
                return Ok(Phase::TargetEnded);
            }
            self.was_ready = true;
            if self.options.load.is_some() {
                self.commanded.order(Order::Load);
            }
        }
        self.stay(session, self.options.warmup, "warming up").await
    }

    async fn became_ready(&mut self, session: &mut Session) -> anyhow::Result<Phase> {
        let mut asked: Option<Instant> = None;
        loop {
            let now = own::now();
            let is_due = asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_EVERY);
            if self.commanded.has_matched() && is_due {
                asked = Some(now);
                let is_ready = match &self.options.ready_url {
                    Some(url) => url.answers().await,
                    None => true,
                };
                if is_ready {
                    return Ok(Phase::Complete);
                }
            }
            let waited = now.saturating_duration_since(self.started);
            if waited >= self.options.start_timeout {
                let what = if self.commanded.has_matched() {
                    "--ready-url does not answer with 2xx"
                } else {
                    "no line of its output matches --ready-log"
                };
                return Err(CheckError::NotReady { waited_s: waited.as_secs(), what: what.to_owned() }.into());
            }
            self.next().await?;
            session.step();
            no_killswitch(session)?;
            if session.subject().presence() != Presence::Running {
                return Ok(Phase::TargetEnded);
            }
            self.progress.show(now, || String::from("waiting until it is ready"));
        }
    }

    /// Looks after the program for so long.
    async fn stay(&mut self, session: &mut Session, duration: Duration, doing: &str) -> anyhow::Result<Phase> {
        let began = own::now();
        loop {
            let now = own::now();
            let left = duration.saturating_sub(now.saturating_duration_since(began));
            if session.subject().presence() != Presence::Running {
                return Ok(Phase::TargetEnded);
            }
            if left.is_zero() {
                return Ok(Phase::Complete);
            }
            let pid = session.subject().identity.pid;
            self.progress.show(now, || format!("{doing}: process {pid}, {:.0} s left", left.as_secs_f64()));
            self.next().await?;
            session.step();
            no_killswitch(session)?;
        }
    }

    /// Now that all run that will: the one that is meant, if that is another one.
    fn best_of_many(&mut self, session: Session) -> anyhow::Result<Session> {
        let Some(best) = self.candidates.best().filter(|best| best.identity.pid != session.subject().identity.pid)
        else {
            return Ok(session);
        };
        match self.session(&best)? {
            Some(better) => {
                session.leave();
                Ok(better)
            }
            None => Ok(session),
        }
    }

    /// Once the program has ended: whether the command failed by that.
    async fn status(&mut self) -> Result<(), CheckError> {
        let began = own::now();
        while !(self.command_ended || self.all_ended) && own::now().saturating_duration_since(began) < STATUS_WITHIN {
            self.next().await?;
        }
        Ok(())
    }

    /// One step of time, or something that happened.
    async fn next(&mut self) -> Result<(), CheckError> {
        tokio::select! {
            signal = self.stop.signal() => {
                self.commanded.order(Order::Forward(signal));
                Err(CheckError::Interrupted)
            }
            news = self.commanded.news(), if !self.all_ended => self.take(news),
            _ = self.step.tick() => Ok(()),
        }
    }

    fn take(&mut self, news: Option<News>) -> Result<(), CheckError> {
        match news {
            None => {
                self.all_ended = true;
                self.commanded.over()?;
            }
            Some(News::Started(pid)) => self.candidates.command = Some(pid),
            Some(News::LoadStarted(pid)) => self.candidates.load = Some(pid),
            Some(News::NotStarted(why)) => return Err(CheckError::NotStarted { why }),
            Some(News::Ended(0)) => self.command_ended = true,
            Some(News::Ended(status)) => {
                return Err(CheckError::Failed { what: "the command", status: in_words(status) });
            }
            Some(News::LoadEnded(0)) => {
                tracing::warn!("the load has ended before the end of the check: what follows is measured without it");
            }
            Some(News::LoadEnded(status)) => {
                return Err(CheckError::Failed { what: "the load", status: in_words(status) });
            }
        }
        Ok(())
    }

    /// Ends the command and all that it has started.
    fn end(mut self) {
        self.progress.clear();
        self.commanded.end();
    }
}

/// Where it is noted what was written to the program: it ends with us, so nobody else needs to find that.
fn state_folder() -> PathBuf {
    std::env::temp_dir().join(format!("leakline-check-{}", std::process::id()))
}

/// Whether there is nothing of the command left.
fn is_over(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(CheckError::NoGoProgram { .. }))
}

fn in_seconds(duration: Duration) -> String {
    human::plain(&human::seconds(duration.as_secs_f64()))
}

/// Hooks on every allocation end where somebody wants no probes, and what they counted is of no length that was asked for.
fn no_killswitch(session: &Session) -> anyhow::Result<()> {
    let killswitch = Killswitch::new(KILLSWITCH.into());
    match session.must_end(&killswitch) {
        Some(why) => Err(anyhow::anyhow!("ended early: {}", why.text)),
        None => Ok(()),
    }
}
