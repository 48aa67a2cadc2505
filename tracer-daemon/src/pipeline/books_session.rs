//! One target whose memory is read, and in which windows may be opened.

use std::{
    fs::File,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Means, StartError, Subject,
    goroutines::monotonic_ns,
    looks::{BirthLooks, BirthStart, Failures, GoroutineLooks, HeapLooks, Look, MemoryLooks, ProfileLooks},
    own,
};
use crate::{
    export::{CostFacts, Refusal},
    model::{
        Snapshot,
        observation::{Moment, Observation},
        process::{ProcessConstants, ProcessModel},
    },
    read::{Discards, ReadError},
};

/// How long a program may take from its first instruction to a runtime with processors: some milliseconds, unless it is stopped.
const BEGIN: Duration = Duration::from_secs(1);
/// How often it is looked whether that is so.
const BEGIN_STEP: Duration = Duration::from_millis(10);

/// A target that is read.
#[derive(Debug)]
pub struct BooksSession {
    subject: Subject,
    heap: Option<HeapLooks>,
    profile: Option<ProfileLooks>,
    goroutines: Option<GoroutineLooks>,
    memory: MemoryLooks,
    births: Option<BirthLooks>,
    /// How they begin. `None`: they are not to.
    births_start: Option<BirthStart>,
    model: ProcessModel,
    /// What the model was told, for whoever records it. `None`: nobody does.
    told: Option<Vec<(Moment, Observation)>>,
    /// Where the clock of the model begins.
    began: Instant,
    is_closed: bool,
    /// From the beginning.
    refused: Vec<Refusal>,
    /// Since then.
    failures: Failures,
}

impl BooksSession {
    /// Has a first look at each part.
    ///
    /// # Errors
    /// Where no part can be read: nothing would be left to report. Where the runtime has not begun: what is found then says
    /// nothing of what will be.
    pub fn start(
        subject: Subject,
        exe: &File,
        means: &Means,
        refused: Vec<Refusal>,
    ) -> Result<Self, Box<(Subject, StartError)>> {
        let (now, now_ns) = (own::now(), monotonic_ns());
        let mut parts = Parts { refused, first_error: None };
        let heap = match begun(&subject, means.books_every) {
            Err(error @ ReadError::NotStarted) => {
                let error = subject.unread(error);
                return Err(Box::new((subject, error)));
            }
            heap => parts.take(heap),
        };
        let mut profile = None;
        match ProfileLooks::start(&subject) {
            Ok(None) => match means.adopt.as_deref().map(|folder| subject.adopt(folder)) {
                Some(Ok(adopted)) => {
                    tracing::info!(
                        pid = subject.identity.pid,
                        rate_bytes = adopted.rate_bytes(),
                        "the sampler of the target is on; it is turned off again at the end"
                    );
                    profile = parts.take(ProfileLooks::adopted(&subject, adopted, now));
                }
                Some(Err(error)) => parts.refused.push(Refusal::new(error.reason(), error.full_text())),
                None => parts.refused.push(sampler_off(&subject)),
            },
            started => profile = parts.take(started).flatten(),
        }
        let goroutines = parts.take(GoroutineLooks::start(&subject));
        if heap.is_none() && profile.is_none() && goroutines.is_none() {
            let error = parts.first_error.map(|error| subject.unread(error));
            let error = error.unwrap_or(StartError::Vanished { pid: subject.identity.pid });
            return Err(Box::new((subject, error)));
        }
        if let Err(error) = subject.still_there() {
            return Err(Box::new((subject, error)));
        }
        let mut births_start = None;
        if let Some(bursts) = &means.bursts {
            let start = |exe| BirthStart::new(exe, Arc::clone(bursts), means.limits, now_ns, now);
            births_start = match exe.try_clone() {
                Ok(exe) => Some(start(exe)),
                Err(source) => {
                    let error = StartError::Exe { pid: subject.identity.pid, source };
                    parts.refused.push(Refusal::new(error.reason(), format!("no bursts: {}", error.full_text())));
                    None
                }
            };
        }
        let births = begin_births(&mut births_start, &subject, now, &mut parts.refused);
        let refused = parts.refused;
        let constants = subject.constants(means.warm_after);
        let mut session = Self {
            subject,
            heap,
            profile,
            goroutines,
            memory: MemoryLooks::new(),
            births,
            births_start,
            model: ProcessModel::new(constants),
            told: means.is_recorded.then(Vec::new),
            began: now,
            is_closed: false,
            refused,
            failures: Failures::default(),
        };
        session.take(session.moment_of(now), now);
        Ok(session)
    }

    /// The window begins.
    pub fn open(&mut self) {
        // Since its first look, however long that took: what is counted is counted from there on.
        let at = self.look(true).unwrap_or_else(|| self.moment());
        self.tell(at, Observation::Opened);
    }

    /// Looks again at what it is time to look at. A target that ended keeps its last looks, and so does a part
    /// that cannot be read any more, see [`Self::blind_for`].
    pub fn step(&mut self) {
        if !self.is_closed {
            let _at = self.look(false);
        }
    }

    /// The window ends, with a last look at everything.
    pub fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            let _at = self.look(true);
            if let Some(births) = &mut self.births {
                births.stop();
            }
            if let Some(profile) = &mut self.profile {
                profile.restore(self.subject.identity.pid);
            }
        }
    }

    /// When it was. None: nothing was read.
    fn look(&mut self, must: bool) -> Option<Moment> {
        let Self {
            subject, heap, profile, goroutines, memory, failures, births, births_start, is_closed, refused, ..
        } = self;
        let due = own::now();
        if births.is_none() && !*is_closed {
            if subject.still_there().is_err() {
                return None;
            }
            *births = begin_births(births_start, subject, due, refused);
        }
        if let Some((heap, births)) = heap.as_mut().zip(births.as_ref()) {
            heap.slow_down(births.reads_slower());
        }
        let books = heap.as_mut().map(|heap| heap.look(subject, due, must));
        // What the books count is of now. On a busy host they take long to read, and so does all that follows.
        let now = own::now();
        let collections = heap.as_ref().map(HeapLooks::collections);
        let live = profile.as_mut().map(|profile| profile.look(subject, now, collections, must));
        let table = goroutines.as_mut().map(|goroutines| goroutines.look(subject, now, must));
        // The least urgent part, and the only one that reads more than the target's memory.
        let statement = memory.look(subject, now, must);
        let had = [&books, &live, &table].map(|looked| matches!(looked, Some(Ok(Look::Had) | Err(_))));
        if !had.contains(&true) && matches!(statement, Ok(Look::NotDue)) {
            return None;
        }
        // What was read of a process that is over may be its successor's, and that it cannot be read is no news.
        if subject.still_there().is_err() {
            return None;
        }
        let pid = subject.identity.pid;
        for (part, outcome) in [("books", books), ("heap profile", live), ("goroutine table", table)] {
            if let Some(outcome) = outcome {
                failures.note(pid, part, outcome, now);
            }
        }
        failures.note(pid, "memory statement", statement, now);
        let at = self.moment_of(now);
        self.take(at, now);
        Some(at)
    }

    /// Tells the model what was read, then.
    fn take(&mut self, at: Moment, read: Instant) {
        let Self { subject, heap, profile, goroutines, memory, births, .. } = self;
        let profile = profile.as_mut().and_then(|profile| profile.take(subject));
        let books = heap.as_mut().and_then(HeapLooks::take);
        if let Some((births, books)) = births.as_mut().zip(books.as_deref()) {
            births.read(books, goroutines.as_ref().and_then(|goroutines| goroutines.begun(subject)), read);
        }
        let is_closed = self.is_closed;
        let hooks = births.as_mut().and_then(|births| births.look_at_hooks(subject, own::now(), is_closed));
        let impulses = births.as_mut().and_then(|births| births.look_at_impulses(subject));
        let births = births.as_mut().and_then(|births| births.look(subject, own::now(), at.at_ns, is_closed));
        let is_looked = births.is_some();
        let seen = [
            // What it means depends on what was born.
            births,
            books.map(Observation::Books),
            impulses,
            // What it means depends on the collections that the books know of.
            profile.map(Observation::Profile),
            goroutines.as_mut().and_then(GoroutineLooks::take).map(Arc::new).map(Observation::Goroutines),
            hooks,
            memory.take().map(Arc::new).map(Observation::Memory),
            Some(Observation::Discards(self.discards())),
        ];
        for observation in seen.into_iter().flatten() {
            self.tell(at, observation);
        }
        if let Some(births) = self.births.as_ref().filter(|_| is_looked) {
            births.prefer(self.model.preferences());
        }
    }

    fn tell(&mut self, at: Moment, observation: Observation) {
        if let Some(told) = &mut self.told {
            told.push((at, observation.clone()));
        }
        self.model.observe(at, observation);
    }

    /// What the model was told since this was asked last; nothing where it is not kept.
    pub fn take_told(&mut self) -> Vec<(Moment, Observation)> {
        self.told.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Now.
    pub fn moment(&self) -> Moment {
        self.moment_of(own::now())
    }

    fn moment_of(&self, now: Instant) -> Moment {
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let ago_ns = nanoseconds(own::now().saturating_duration_since(now));
        Moment {
            at_ns: nanoseconds(now.saturating_duration_since(self.began)),
            unix_ns: own::unix_ns().saturating_sub(ago_ns),
        }
    }

    fn discards(&self) -> Discards {
        let discards = [
            self.heap.as_ref().map(HeapLooks::discards),
            self.profile.as_ref().map(ProfileLooks::discards),
            self.goroutines.as_ref().map(GoroutineLooks::discards),
        ];
        discards.into_iter().flatten().fold(Discards::default(), Discards::plus)
    }

    /// Whether windows are opened in it.
    pub fn has_bursts(&self) -> bool {
        self.births.is_some()
    }

    /// What looking has cost the target so far.
    pub fn cost(&self) -> CostFacts {
        self.births.as_ref().map(BirthLooks::cost).unwrap_or_default()
    }

    /// For how long some part that could be read at first could not be: what is said of it is so old.
    pub fn blind_for(&self) -> Duration {
        self.failures.longest(own::now())
    }

    /// What is known; `at`: when that is, which is now.
    pub fn snapshot(&self, at: Moment) -> Snapshot {
        self.model.snapshot(at)
    }

    /// What the model knew beforehand.
    pub fn constants(&self) -> &ProcessConstants {
        self.model.constants()
    }

    /// The process that is followed.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What is not measured now, and why.
    pub fn refused(&self) -> Vec<Refusal> {
        let known = self.refused.iter().chain(self.failures.refusals()).chain(self.memory.refused()).cloned();
        let unstarted = self.births_start.as_ref().and_then(BirthStart::refused).cloned();
        known.chain(unstarted).chain(self.births.as_ref().into_iter().flat_map(BirthLooks::refused)).collect()
    }

    /// Between the first look and the last.
    pub fn window(&self) -> Duration {
        Duration::try_from_secs_f64(self.model.window_s()).unwrap_or_default()
    }
}

/// The first look at the books, as soon as there are any.
fn begun(subject: &Subject, every: Duration) -> Result<HeapLooks, ReadError> {
    let first = own::now();
    loop {
        let now = own::now();
        match HeapLooks::start(subject, every) {
            Err(ReadError::NotStarted) if now.saturating_duration_since(first) < BEGIN => thread::sleep(BEGIN_STEP),
            begun => return begun,
        }
    }
}

/// Begins with bursts where it is time to and works. Where they have begun, or never will, nothing is left to be tried.
fn begin_births(
    start: &mut Option<BirthStart>,
    subject: &Subject,
    now: Instant,
    refused: &mut Vec<Refusal>,
) -> Option<BirthLooks> {
    let births = start.as_mut().and_then(|start| start.begin(subject, now));
    if let Some(over) = start.take_if(|start| !start.may_begin()) {
        refused.extend(over.refused().cloned());
    }
    births
}

/// What could be had, and why not what could not.
struct Parts {
    refused: Vec<Refusal>,
    first_error: Option<ReadError>,
}

impl Parts {
    fn take<T>(&mut self, part: Result<T, ReadError>) -> Option<T> {
        part.map_err(|error| {
            self.refused.push(Refusal::new(error.id(), error.to_string()));
            self.first_error.get_or_insert(error);
        })
        .ok()
    }
}

fn sampler_off(subject: &Subject) -> Refusal {
    let text = if subject.facts.sampler_linked() {
        "no line can be named by the heap profile: the program has set MemProfileRate to 0 (--adopt-sampler turns it on while \
         we look)"
    } else {
        "no line can be named by the heap profile: the sampler is not linked into this binary (import net/http/pprof, \
         or ask for --adopt-sampler or --evidence exact)"
    };
    Refusal::new("sampler_off", text)
}
