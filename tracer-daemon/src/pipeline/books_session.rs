//! One target whose memory is read and that has no probe.

use std::time::{Duration, Instant};

use super::{
    StartError, Subject,
    looks::{GoroutineLooks, HeapLooks, MemoryLooks, ProfileLooks},
    own,
};
use crate::{
    export::Refusal,
    model::{Evidence, Limit, Snapshot},
    read::{Discards, ReadError, memory::MemoryError},
};

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
    refused: Vec<Refusal>,
}

impl BooksSession {
    /// Has a first look at each part.
    ///
    /// # Errors
    /// Where no part can be read: nothing would be left to report.
    pub fn start(subject: Subject, refused: Vec<Refusal>) -> Result<Self, Box<(Subject, StartError)>> {
        let now = own::now();
        let mut parts = Parts { refused, first_error: None };
        let heap = parts.take(HeapLooks::start(&subject, now));
        let mut profile = None;
        match ProfileLooks::start(&subject) {
            Ok(None) => parts.refused.push(sampler_off(&subject)),
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
            memory: MemoryLooks::default(),
            opened: now,
            looked: now,
            is_closed: false,
            refused,
        })
    }

    /// The window begins.
    ///
    /// # Errors
    /// Where the books cannot be read any more.
    pub fn open(&mut self) -> Result<(), StartError> {
        let now = own::now();
        (self.opened, self.looked) = (now, now);
        let opened = self.heap.as_mut().map(|heap| heap.open(&self.subject, now));
        self.unless_over(opened.transpose())
    }

    /// Looks again at what it is time to look at. A target that ended keeps its last looks.
    ///
    /// # Errors
    /// Where it cannot be read any more although it is there.
    pub fn step(&mut self) -> Result<(), StartError> {
        if self.is_closed {
            return Ok(());
        }
        self.look(false)
    }

    /// The window ends, with a last look at everything.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn close(&mut self) -> Result<(), StartError> {
        if self.is_closed {
            return Ok(());
        }
        self.is_closed = true;
        self.look(true)
    }

    fn look(&mut self, must: bool) -> Result<(), StartError> {
        // What is read after the end of the process would be its successor's.
        if self.subject.still_there().is_err() {
            return Ok(());
        }
        let now = own::now();
        let outcome = self.look_at_parts(now, must);
        self.unless_over(outcome)?;
        // The least urgent part, and the only one that reads more than the target's memory.
        match self.memory.look(&self.subject, now, must) {
            Ok(refused) => self.refused.extend(refused),
            Err(_) if self.subject.still_there().is_err() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn look_at_parts(&mut self, now: Instant, must: bool) -> Result<(), ReadError> {
        if let Some(heap) = &mut self.heap {
            heap.look(&self.subject, now, must)?;
        }
        let collections = self.heap.as_ref().map(|heap| heap.last().collections);
        if let Some(profile) = &mut self.profile {
            profile.look(&mut self.subject, now, collections, must)?;
        }
        if let Some(goroutines) = &mut self.goroutines {
            goroutines.look(&mut self.subject, now, must)?;
        }
        self.looked = now;
        Ok(())
    }

    /// A target may end at any time: then it is not an error that it cannot be read.
    fn unless_over<T>(&self, outcome: Result<T, ReadError>) -> Result<(), StartError> {
        match outcome {
            Ok(_) | Err(ReadError::Memory(MemoryError::Gone { .. })) => Ok(()),
            Err(_) if self.subject.still_there().is_err() => Ok(()),
            Err(error) => Err(self.subject.unread(error)),
        }
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let books = self.heap.as_ref().map(HeapLooks::last);
        let now_unix_ns = own::unix_ms().saturating_mul(1_000_000);
        let profile = self.profile.as_ref().and_then(|profile| profile.live(&self.subject, books, now_unix_ns));
        let goroutines = self.goroutines.as_ref().and_then(GoroutineLooks::last).cloned();
        let used = [
            (self.heap.is_some(), Evidence::Books),
            (goroutines.is_some(), Evidence::GoroutineTable),
            (profile.is_some(), Evidence::Profile),
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
            limit: Limit::least(books, self.memory.last()),
            memory: self.memory.last().cloned(),
            discards: discards.into_iter().flatten().fold(Discards::default(), Discards::plus),
            exact: None,
        }
    }

    /// The process that is followed.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What is not measured, and why.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// Between the first look and the last.
    pub fn window(&self) -> Duration {
        self.looked.duration_since(self.opened)
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
        "no line can be named by the heap profile: the program has set MemProfileRate to 0"
    } else {
        "no line can be named by the heap profile: the sampler is not linked into this binary (import net/http/pprof, \
         or ask for --evidence exact)"
    };
    Refusal::new("sampler_off", text)
}
