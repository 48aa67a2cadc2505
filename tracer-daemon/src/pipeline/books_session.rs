//! One target whose memory is read and that has no probe: its books, again and again.

use std::time::{Duration, Instant};

use super::{StartError, Subject, own};
use crate::{
    export::Refusal,
    model::{Evidence, HeapLook, Snapshot, account},
    read::{
        ReadError,
        books::{Books, BooksReader},
        memory::MemoryError,
    },
};

/// Between two looks at the books: often enough to see most collections by themselves.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A target that is read.
#[derive(Debug)]
pub struct BooksSession {
    subject: Subject,
    books: BooksReader,
    first: Look,
    last: Look,
    stopped: Option<Instant>,
    refused: Vec<Refusal>,
}

/// The books at one moment.
#[derive(Debug)]
struct Look {
    at: Instant,
    books: Books,
}

impl BooksSession {
    /// Has a first look.
    ///
    /// # Errors
    /// Where the books cannot be read: nothing would be left to report.
    pub fn start(subject: Subject, refused: Vec<Refusal>) -> Result<Self, StartError> {
        let mut books = BooksReader::new(subject.runtime()).map_err(|error| subject.unread(error))?;
        let (first, last) = (look(&mut books, &subject)?, look(&mut books, &subject)?);
        subject.still_there()?;
        Ok(Self { subject, books, first, last, stopped: None, refused })
    }

    /// The window begins.
    ///
    /// # Errors
    /// Where the books cannot be read any more.
    pub fn open(&mut self) -> Result<(), StartError> {
        self.first = look(&mut self.books, &self.subject)?;
        Ok(())
    }

    /// Looks again where it is time to. A target that ended keeps its last look.
    ///
    /// # Errors
    /// Where the books cannot be read any more although the target is there.
    pub fn step(&mut self) -> Result<(), StartError> {
        if self.stopped.is_some() || own::now() - self.last.at < LOOK_EVERY {
            return Ok(());
        }
        self.look()
    }

    /// The window ends, with a last look.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn close(&mut self) -> Result<(), StartError> {
        if self.stopped.is_none() {
            self.look()?;
            self.stopped = Some(self.last.at);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), StartError> {
        match look(&mut self.books, &self.subject) {
            // What was read after the end of the process would be its successor's.
            Ok(look) if self.subject.still_there().is_ok() => self.last = look,
            Ok(_) | Err(StartError::Read { source: ReadError::Memory(MemoryError::Gone { .. }), .. }) => {}
            Err(_) if self.subject.still_there().is_err() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let at_s = |look: &Look| look.at.duration_since(self.first.at).as_secs_f64();
        let [first, last] = [&self.first, &self.last].map(|look| HeapLook { at_s: at_s(look), books: &look.books });
        Snapshot { window_s: last.at_s, evidence: vec![Evidence::Books], heap: Some(account(first, last)), exact: None }
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
        self.last.at.duration_since(self.first.at)
    }
}

fn look(books: &mut BooksReader, subject: &Subject) -> Result<Look, StartError> {
    let at = own::now();
    let books = books.read(&subject.memory).map_err(|error| subject.unread(error))?;
    Ok(Look { at, books })
}
