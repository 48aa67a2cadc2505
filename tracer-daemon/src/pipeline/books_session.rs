//! One target whose memory is read and that has no probe.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Means, StartError, Subject,
    looks::{Failures, GoroutineLooks, HeapLooks, Look, MemoryLooks, ProfileLooks},
    own,
};
use crate::{
    export::Refusal,
    model::{Evidence, Limit, Profile, Snapshot},
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
    opened: Instant,
    /// When the last look was.
    looked: Instant,
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
    pub fn start(subject: Subject, means: &Means, refused: Vec<Refusal>) -> Result<Self, Box<(Subject, StartError)>> {
        let now = own::now();
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
        let refused = parts.refused;
        Ok(Self {
            subject,
            heap,
            profile,
            goroutines,
            memory: MemoryLooks::new(),
            opened: now,
            looked: now,
            is_closed: false,
            refused,
            failures: Failures::default(),
        })
    }

    /// The window begins.
    pub fn open(&mut self) {
        self.opened = own::now();
        self.look(true);
        if let Some(heap) = &mut self.heap {
            heap.begin();
        }
        self.opened = self.looked;
    }

    /// Looks again at what it is time to look at. A target that ended keeps its last looks, and so does a part
    /// that cannot be read any more, see [`Self::blind_for`].
    pub fn step(&mut self) {
        if !self.is_closed {
            self.look(false);
        }
    }

    /// The window ends, with a last look at everything.
    pub fn close(&mut self) {
        if !self.is_closed {
            self.is_closed = true;
            self.look(true);
            if let Some(profile) = &mut self.profile {
                profile.restore(self.subject.identity.pid);
            }
        }
    }

    fn look(&mut self, must: bool) {
        let Self { subject, heap, profile, goroutines, memory, failures, .. } = self;
        if subject.still_there().is_err() {
            return;
        }
        let now = own::now();
        let books = heap.as_mut().map(|heap| heap.look(subject, now, must));
        let collections = heap.as_ref().map(|heap| heap.last().collections);
        let live = profile.as_mut().map(|profile| profile.look(subject, now, collections, must));
        let table = goroutines.as_mut().map(|goroutines| goroutines.look(subject, now, must));
        // The least urgent part, and the only one that reads more than the target's memory.
        let statement = memory.look(subject, now, must);
        let had = [&books, &live, &table].map(|looked| matches!(looked, Some(Ok(Look::Had) | Err(_))));
        if !had.contains(&true) && matches!(statement, Ok(Look::NotDue)) {
            return;
        }
        // What was read of a process that is over may be its successor's, and that it cannot be read is no news.
        let is_same = subject.still_there().is_ok();
        if let Some(heap) = heap {
            heap.settle(is_same);
        }
        if let Some(profile) = profile {
            profile.settle(is_same, subject);
        }
        if let Some(goroutines) = goroutines {
            goroutines.settle(is_same);
        }
        if !is_same {
            return;
        }
        self.looked = now;
        let pid = subject.identity.pid;
        for (part, outcome) in [("books", books), ("heap profile", live), ("goroutine table", table)] {
            if let Some(outcome) = outcome {
                failures.note(pid, part, outcome, now);
            }
        }
        failures.note(pid, "memory statement", statement, now);
    }

    /// For how long some part that could be read at first could not be: what is said of it is so old.
    pub fn blind_for(&self) -> Duration {
        self.failures.longest(own::now())
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let books = self.heap.as_ref().map(HeapLooks::last);
        let now_unix_ns = own::unix_ns();
        let profile = self.profile.as_ref().and_then(|profile| profile.live(books, now_unix_ns));
        let goroutines = self.goroutines.as_ref().and_then(GoroutineLooks::last);
        let used = [
            (self.heap.is_some(), Evidence::Books),
            (goroutines.is_some(), Evidence::GoroutineTable),
            (profile.is_some(), profile.as_ref().map_or(Evidence::Profile, Profile::evidence)),
        ];
        let discards = [
            self.heap.as_ref().map(HeapLooks::discards),
            self.profile.as_ref().map(ProfileLooks::discards),
            self.goroutines.as_ref().map(GoroutineLooks::discards),
        ];
        Snapshot {
            window_s: self.window().as_secs_f64(),
            evidence: used.into_iter().filter(|(is_used, _)| *is_used).map(|(_, evidence)| evidence).collect(),
            heap: self.heap.as_ref().map(HeapLooks::account),
            profile,
            goroutines,
            limit: Limit::least(books, self.memory.last().as_deref()),
            memory: self.memory.last(),
            discards: discards.into_iter().flatten().fold(Discards::default(), Discards::plus),
            exact: None,
        }
    }

    /// The process that is followed.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What is not measured now, and why.
    pub fn refused(&self) -> Vec<Refusal> {
        self.refused.iter().chain(self.failures.refusals()).chain(self.memory.refused()).cloned().collect()
    }

    /// Between the first look and the last.
    pub fn window(&self) -> Duration {
        self.looked.duration_since(self.opened)
    }
}

/// The first look at the books, as soon as there are any.
fn begun(subject: &Subject, every: Duration) -> Result<HeapLooks, ReadError> {
    let first = own::now();
    loop {
        let now = own::now();
        match HeapLooks::start(subject, every, now) {
            Err(ReadError::NotStarted) if now.saturating_duration_since(first) < BEGIN => thread::sleep(BEGIN_STEP),
            begun => return begun,
        }
    }
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
