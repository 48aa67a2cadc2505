//! `leakline attach`: one target, for a while, then a report.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    Means, Session, own,
    pprof_file::{mappings, replace},
    record::{self, Recorder},
    stdout::{self, Reader},
};
use crate::{
    cli::OutputFormat,
    discover::{Presence, Target},
    export::{Report, check::doubt, human, json, leak_profile, metrics::OwnFacts, pprof::Mapping, text},
    inspect::cache::FactsCache,
    model::{Snapshot, gate::is_at_least, verdict::Verdict},
};

/// How often new stacks are taken from the ring and the target is looked after.
const STEP: Duration = Duration::from_millis(50);

/// So many probes are gone before anybody wonders.
const SOON_GONE: usize = 5;

/// What to do with a target.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to watch.
    pub duration: Duration,
    /// How often to report on the way; None: only at the end.
    pub interval: Option<Duration>,
    /// How to print.
    pub output: OutputFormat,
    /// Where to write a pprof file at the end, too.
    pub pprof: Option<PathBuf>,
    /// What to look with.
    pub means: Means,
    /// The least verdict, on the process or on a site, that makes it fail. `None`: none does.
    pub fail_on: Option<Verdict>,
}

/// Why watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The time was up.
    Time,
    /// The user asked for it, or somebody wants no probes.
    Interrupted,
    /// The target ended, or replaced its program.
    Target(Presence),
    /// Nobody reads the reports any more.
    ReaderGone,
    /// The recording is as large as it may be.
    RecordingFull,
}

/// Attaches, watches, reports to stdout; true where the condition of `fail_on` is met. When this returns nothing is counted any
/// more, and the probes go with the program.
pub async fn attach(target: Target, options: Options) -> anyhow::Result<bool> {
    watched(target, options, None).await
}

/// As [`attach`]; `recorder` writes down what is seen.
pub(super) async fn watched(target: Target, options: Options, recorder: Option<record::Draft>) -> anyhow::Result<bool> {
    let mut stop = Stop::new()?;
    let own_before = own::facts();
    let mut session = Session::start(&target, &options.means, &FactsCache::default())?;
    session.announce();
    let outcome = observe(&mut session, &options, &mut stop, own_before, recorder).await;
    // Also after a failure: this is the only safe way out of a living target.
    session.leave();
    outcome
}

async fn observe(
    session: &mut Session,
    options: &Options,
    stop: &mut Stop,
    own_before: OwnFacts,
    recorder: Option<record::Draft>,
) -> anyhow::Result<bool> {
    let started_unix_ms = own::unix_ms();
    let mappings = match &options.pprof {
        // Now: it may have ended when the file is written.
        Some(file) => {
            can_be_written(file)?;
            mappings(session.subject())
        }
        None => Vec::new(),
    };
    let mut recorder = recorder.map(|draft| draft.begin(session, started_unix_ms)).transpose()?;
    session.open()?;
    let end = watch(session, options, stop, started_unix_ms, recorder.as_mut()).await?;
    session.close()?;
    if let End::Target(presence) = end {
        tracing::info!(pid = session.subject().identity.pid, ?presence, "the target ended; reporting what was seen");
    }
    if let Some(recorder) = &mut recorder {
        recorder.follow(session);
    }
    let at = session.moment();
    let snapshot = session.snapshot(at)?;
    session.warn_of_gaps();
    let mut report = report(session, snapshot, started_unix_ms, true);
    report.process.ended = matches!(end, End::Target(_));
    let own_after = own::facts();
    report.cost.self_rss_bytes = own_after.resident_memory_bytes;
    report.cost.self_cpu_ratio = own_before
        .cpu_seconds
        .zip(own_after.cpu_seconds)
        .map(|(before, after)| (after - before) / session.window().as_secs_f64().max(1e-3));
    // Said at the end: the report is there however the file is.
    let recorded = recorder.map_or(Ok(()), |mut recorder| {
        recorder.reported(at, &report);
        recorder.finish()
    });
    let fails = options.fail_on.is_some_and(|verdict| fails(&report.snapshot, verdict));
    if end != End::ReaderGone {
        print(&report, options.output)?;
    }
    if let Some(file) = &options.pprof {
        write_profile(&report, mappings, file)?;
    }
    let probes = session.probes();
    if io::stderr().is_terminal() && probes > SOON_GONE {
        // Progress that cannot be written is no reason to stop.
        let _unwritten =
            writeln!(io::stderr(), "the kernel takes {probes} probes away, about {} s", probes.div_ceil(10));
    }
    recorded?;
    Ok(fails)
}

/// Whether the process or a site has at least this verdict; says so where that is not known.
fn fails(snapshot: &Snapshot, verdict: Verdict) -> bool {
    is_at_least(snapshot, verdict).unwrap_or_else(|doubts| {
        let doubts: Vec<String> = doubts.iter().map(|of| human::plain(&doubt(of))).collect();
        tracing::warn!(
            "--fail-on: too little is known to say that nothing is {}: {}",
            verdict.name(),
            doubts.join("; ")
        );
        false
    })
}

async fn watch(
    session: &mut Session,
    options: &Options,
    stop: &mut Stop,
    started_unix_ms: u64,
    mut recorder: Option<&mut Recorder>,
) -> anyhow::Result<End> {
    let started = own::now();
    let mut step = interval(STEP);
    step.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut progress = Progress::new();
    let mut next_report = options.interval.and_then(|interval| started.checked_add(interval));
    loop {
        tokio::select! {
            () = stop.asked() => return Ok(End::Interrupted),
            _ = step.tick() => {}
        }
        session.step();
        if let Some(why) = session.must_end(&options.means.killswitch) {
            tracing::warn!("ending early: {}", why.text);
            return Ok(End::Interrupted);
        }
        let now = own::now();
        if let Some(recorder) = &mut recorder {
            recorder.follow(session);
            if recorder.is_full() {
                return Ok(End::RecordingFull);
            }
        }
        let left = options.duration.saturating_sub(now - started);
        if left.is_zero() {
            return Ok(End::Time);
        }
        match session.subject().presence() {
            Presence::Running => {}
            ended => return Ok(End::Target(ended)),
        }
        if let (Some(at), Some(interval)) = (next_report, options.interval)
            && now >= at
        {
            next_report = at.checked_add(interval);
            progress.clear();
            let at = session.moment();
            let snapshot = session.snapshot(at)?;
            let report = report(session, snapshot, started_unix_ms, false);
            if let Some(recorder) = &mut recorder {
                recorder.reported(at, &report);
            }
            let reader = print(&report, options.output)?;
            if reader == Reader::Gone {
                return Ok(End::ReaderGone);
            }
        }
        progress.show(now, || {
            format!(
                "watching {} ({}), {:.0} s left, Ctrl-C reports now",
                session.subject().identity.pid,
                session.subject().name,
                left.as_secs_f64()
            )
        });
    }
}

/// One document about a session.
fn report(session: &Session, snapshot: Snapshot, started_unix_ms: u64, is_final: bool) -> Report {
    Report {
        cost: session.cost(&snapshot),
        snapshot: Arc::new(snapshot),
        process: session.subject().process_facts(),
        started_unix_ms,
        is_final,
        refusals: session.refused(),
    }
}

/// That a file cannot be made is said before the time is spent.
fn can_be_written(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_folder = folder.is_dir() && !file.is_dir();
    anyhow::ensure!(is_folder, "cannot write {}: give a file in a folder that exists (--pprof)", file.display());
    Ok(())
}

fn write_profile(report: &Report, mappings: Vec<Mapping>, file: &Path) -> anyhow::Result<()> {
    let pid = report.process.pid;
    let profile = leak_profile::of(report, mappings);
    let bytes = profile.to_bytes().context("cannot compress the profile")?;
    replace(file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
    if profile.samples.is_empty() {
        tracing::warn!(pid, "wrote {} without samples: no line is known; its comments say why", file.display());
    } else {
        let shown = &profile.shown_first;
        tracing::info!(
            pid,
            "wrote {}: {} stacks; go tool pprof shows {shown} first",
            file.display(),
            profile.samples.len()
        );
    }
    Ok(())
}

/// Prints one document.
pub(super) fn print(report: &Report, output: OutputFormat) -> anyhow::Result<Reader> {
    let text = match output {
        OutputFormat::Json => json::line(report).context("cannot write the report as JSON")?,
        OutputFormat::Text => text::render(report, stdout::style()),
    };
    stdout::print(&text)
}

/// A line on a terminal's stderr that is written over; nothing where stderr is no terminal.
pub(super) struct Progress {
    shown: Option<Instant>,
    enabled: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { shown: None, enabled: io::stderr().is_terminal() }
    }

    pub(super) fn show(&mut self, now: Instant, text: impl FnOnce() -> String) {
        const EVERY: Duration = Duration::from_millis(200);
        if self.enabled && self.shown.is_none_or(|shown| now - shown >= EVERY) {
            self.shown = Some(now);
            // A progress line that cannot be written is no reason to stop.
            let _unwritten = write!(io::stderr(), "\r\x1b[K{}", text());
        }
    }

    pub(super) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _unwritten = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// SIGINT and SIGTERM.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Resolves at the next signal.
    pub(super) async fn asked(&mut self) {
        self.signal().await;
    }

    /// The next signal.
    pub(super) async fn signal(&mut self) -> rustix::process::Signal {
        tokio::select! {
            _ = self.interrupt.recv() => rustix::process::Signal::INT,
            _ = self.terminate.recv() => rustix::process::Signal::TERM,
        }
    }
}
