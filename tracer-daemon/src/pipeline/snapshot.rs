//! `leakline snapshot`: the runtime's own heap profile, once, into a pprof file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::time::sleep;

use super::{
    StartError, Subject,
    attach::{Progress, Stop},
    looks::SETTLE,
    own,
    pprof_file::{mappings, replace},
    restore::tell,
};
use crate::{
    discover::{Presence, Target},
    export::{
        heap_profile::{CountsOf, HeapProfileFile},
        human::{self, plain},
    },
    inspect::cache::FactsCache,
    model::{
        Counted,
        profile::{in_use, since, unsample},
    },
    read::{
        books::BooksReader,
        profile::{Bucket, Counts, HeapProfile, ProfileReader},
    },
    symbolize::RuntimeFrames,
};

/// How often the target is looked after while its sampler is on.
const STEP: Duration = Duration::from_millis(50);
/// But for no more than this part of the time that it is on.
const SETTLE_PART: u32 = 4;

/// Which counts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// What /debug/pprof/heap would say: as of a collection, so that allocations and frees belong together.
    Published,
    /// All that was counted until now: garbage of which nothing is known yet is in use.
    Newest,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to write.
    pub file: PathBuf,
    /// Which counts.
    pub state: State,
    /// Turn the sampler on for a while; `None`: it must be on.
    pub adopt: Option<Adoption>,
}

/// How to turn the sampler on.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// For how long.
    pub duration: Duration,
    /// Where it is noted.
    pub folder: PathBuf,
}

/// What was read.
struct Taken {
    profile: HeapProfile,
    /// Of what the sampler saw before it had settled.
    baseline: Vec<Counts>,
    rate_bytes: i64,
    state: State,
    /// How long the sampler was on; `None`: since the program began.
    duration: Option<Duration>,
}

impl Taken {
    fn counts(&self, number: usize, bucket: &Bucket) -> Counts {
        let counts = match self.state {
            State::Published => bucket.published,
            State::Newest => bucket.newest,
        };
        since(self.baseline.get(number).copied().unwrap_or_default(), counts)
    }
}

/// Reads the profile and writes the file.
pub async fn snapshot(target: Target, options: &Options) -> anyhow::Result<()> {
    let subject = Subject::open(&target, &FactsCache::default())?;
    subject.announce();
    let mut reader = ProfileReader::new(&subject.runtime()).map_err(|error| subject.unread(error))?;
    let taken = match &options.adopt {
        Some(adoption) => adopted(&subject, &mut reader, adoption).await?,
        None => at_once(&subject, &mut reader, options.state)?,
    };
    write(subject, &reader, &taken, &options.file)
}

fn at_once(subject: &Subject, reader: &mut ProfileReader, state: State) -> Result<Taken, StartError> {
    let profile = read(subject, reader)?;
    let rate_bytes = profile.rate_bytes;
    if rate_bytes <= 0 {
        return Err(StartError::SamplerOff {
            pid: subject.identity.pid,
            exe: subject.exe.clone(),
            linked: subject.facts.sampler_linked(),
        });
    }
    Ok(Taken { profile, baseline: Vec::new(), rate_bytes, state, duration: None })
}

fn read(subject: &Subject, reader: &mut ProfileReader) -> Result<HeapProfile, StartError> {
    let profile = reader.read(&subject.memory).map_err(|error| subject.unread(error))?;
    subject.still_there()?;
    Ok(profile)
}

/// With the sampler on for a while, and off again whatever happens.
async fn adopted(subject: &Subject, reader: &mut ProfileReader, adoption: &Adoption) -> anyhow::Result<Taken> {
    let pid = subject.identity.pid;
    // Before anything is written, so that no signal comes between.
    let mut stop = Stop::new()?;
    let adopted = subject.adopt(&adoption.folder)?;
    let started = own::now();
    let rate_bytes = adopted.rate_bytes();
    tracing::info!(pid, rate_bytes, "the sampler of the target is on; it is turned off again at the end");
    let settled = wait(subject, &mut stop, SETTLE.min(adoption.duration / SETTLE_PART)).await?;
    let baseline = read(subject, reader)?.counts.iter().map(|bucket| bucket.newest).collect();
    tracing::info!(pid, "samples count from now on");
    if settled == Waited::InFull {
        wait(subject, &mut stop, adoption.duration.saturating_sub(started.elapsed())).await?;
    }
    let profile = read(subject, reader)?;
    let duration = Some(started.elapsed());
    tell(pid, adopted.restore());
    // Few cycles are published in so short a time.
    Ok(Taken { profile, baseline, rate_bytes, state: State::Newest, duration })
}

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    InFull,
    UntilInterrupted,
}

/// Waits for the time, for a signal, or for the end of the target, which is an error.
async fn wait(subject: &Subject, stop: &mut Stop, duration: Duration) -> Result<Waited, StartError> {
    let started = own::now();
    let mut progress = Progress::new();
    loop {
        let now = own::now();
        let left = duration.saturating_sub(now - started);
        if left.is_zero() {
            return Ok(Waited::InFull);
        }
        if subject.presence() != Presence::Running {
            return Err(StartError::Vanished { pid: subject.identity.pid });
        }
        progress
            .show(now, || format!("sampling {}, {:.0} s left, Ctrl-C writes now", subject.name, left.as_secs_f64()));
        tokio::select! {
            () = stop.asked() => return Ok(Waited::UntilInterrupted),
            () = sleep(STEP.min(left)) => {}
        }
    }
}

fn write(mut subject: Subject, reader: &ProfileReader, taken: &Taken, file: &Path) -> anyhow::Result<()> {
    let pid = subject.identity.pid;
    let buckets = reader.buckets();
    let counts: Vec<(u64, Counts)> = taken
        .profile
        .counts
        .iter()
        .enumerate()
        .map(|(number, bucket)| (buckets.size_bytes(number), taken.counts(number, bucket)))
        .collect();
    // The newest first, as `runtime.MemProfile` lists them.
    let of_interest: Vec<usize> = counts
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, (_, counts))| counts.allocs > 0)
        .map(|(number, _)| number)
        .collect();
    let stacks: Vec<_> = of_interest.iter().map(|number| buckets.stack(*number)).collect();
    let recorded = subject.symbolizer.recorded(&stacks, RuntimeFrames::Hidden);
    let counts: Vec<_> = of_interest.iter().filter_map(|number| counts.get(*number).copied()).collect();
    let total = counts.iter().fold(Counted::default(), |sum, (_, counts)| {
        let estimate = unsample(in_use(*counts), taken.rate_bytes);
        let (objects, bytes) = (sum.objects.saturating_add(estimate.objects), sum.bytes.saturating_add(estimate.bytes));
        Counted { objects, bytes }
    });
    let as_of_unix_ns = match taken.state {
        State::Published => end_unix_ns(&subject, taken.profile.lag_cycles),
        State::Newest => None,
    };
    let freshness = freshness(taken, as_of_unix_ns);
    let main_module = subject.facts.main_module.clone();
    let profile = HeapProfileFile {
        rate_bytes: taken.rate_bytes,
        time_unix_ns: i64::try_from(own::unix_ns()).unwrap_or(i64::MAX),
        duration_ns: taken.duration.map_or(0, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        mappings: mappings(&subject),
        recorded: &recorded,
        counts,
        main_module: main_module.as_deref(),
        counts_of: match (taken.duration, taken.state) {
            (Some(_), _) => CountsOf::Adopted,
            (None, State::Newest) => CountsOf::Newest,
            (None, State::Published) => CountsOf::Published,
        },
        as_of_unix_ns,
        comments: vec![format!("leakline snapshot of process {pid}: {freshness}")],
    }
    .profile();
    let bytes = profile.to_bytes().context("cannot compress the profile")?;
    replace(file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
    for (reason, count) in reader.discards().iter() {
        tracing::debug!(pid, reason = reason.id(), count, "{}", reason.text());
    }
    if taken.profile.is_cut {
        tracing::warn!(pid, "the heap profile has more stacks than are read; the oldest are missing");
    }
    tracing::info!(
        pid,
        "wrote {}: {} stacks, about {} in use in {} objects (mean sampling rate {}); {freshness}",
        file.display(),
        profile.samples.len(),
        plain(&human::bytes(human::approximate(total.bytes))),
        plain(&human::count(human::approximate(total.objects))),
        plain(&human::bytes(human::approximate(taken.rate_bytes.unsigned_abs()))),
    );
    Ok(())
}

/// How old the counts are, in words.
fn freshness(taken: &Taken, as_of_unix_ns: Option<u64>) -> String {
    let unsettled = if taken.profile.is_settled { "" } else { "; some of them one collection newer than others" };
    match (taken.state, taken.profile.lag_cycles) {
        (State::Newest, _) => {
            "counts until now; what has died since the last collection, and what that has not swept yet, counts as in use"
                .to_owned()
        }
        (State::Published, 0) => format!("counts until now{unsettled}"),
        (State::Published, cycles) => {
            let (which, noun) =
                if cycles == 1 { ("the last collection", "cycle") } else { ("the last collection but one", "cycles") };
            let now = Duration::from_nanos(own::unix_ns());
            let age = as_of_unix_ns.map(|end| now.saturating_sub(Duration::from_nanos(end)).as_secs_f64());
            let age = age.map_or_else(String::new, |age| format!(", {age:.1} s ago"));
            format!("counts as of the end of {which}{age} (lag: {cycles} {noun}){unsettled}")
        }
    }
}

/// When the collection number `back` from the last one, which is 1, has ended, ns since 1970. `None`: not known.
fn end_unix_ns(subject: &Subject, back: u32) -> Option<u64> {
    let books = BooksReader::new(&subject.runtime()).ok()?.read(&subject.memory).ok()?;
    let pause = books.pauses.get(usize::try_from(back.checked_sub(1)?).ok()?)?;
    Some(pause.end_unix_ns)
}
