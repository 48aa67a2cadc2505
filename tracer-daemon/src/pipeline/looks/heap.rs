//! The books, again and again.

use std::time::{Duration, Instant};

use super::{Look, Pace};
use crate::{
    pipeline::Subject,
    read::{
        Discards, ReadError,
        books::{Books, BooksReader},
    },
};

/// How they are looked at.
#[derive(Debug)]
pub(in crate::pipeline) struct HeapLooks {
    reader: BooksReader,
    /// How often it is looked where leakline takes no more than it may.
    usual: Duration,
    pace: Pace,
    /// Collections that had ended at the last look.
    collections: u32,
    /// Read, but not yet known to be of the same process.
    pending: Option<Box<Books>>,
}

impl HeapLooks {
    /// Has a first look; `every`: how often it is looked again.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub(in crate::pipeline) fn start(subject: &Subject, every: Duration) -> Result<Self, ReadError> {
        let mut reader = BooksReader::new(&subject.runtime())?;
        let books = reader.read(&subject.memory)?;
        let (collections, pending) = (books.collections, Some(Box::new(books)));
        Ok(Self { reader, usual: every, pace: Pace::new(every), collections, pending })
    }

    /// From now on looks come so many times less often than usual.
    pub(in crate::pipeline) fn slow_down(&mut self, times: f64) {
        self.pace.every = Duration::try_from_secs_f64(self.usual.as_secs_f64() * times).unwrap_or(self.usual);
    }

    /// Looks where it is time to, or where it must be.
    pub(in crate::pipeline) fn look(&mut self, subject: &Subject, now: Instant, must: bool) -> Result<Look, ReadError> {
        if !(self.pace.is_due(now) || must) {
            return Ok(Look::NotDue);
        }
        let books = self.reader.read(&subject.memory)?;
        self.collections = books.collections;
        self.pending = Some(Box::new(books));
        Ok(Look::Had)
    }

    /// What was read last, once.
    pub(in crate::pipeline) fn take(&mut self) -> Option<Box<Books>> {
        self.pending.take()
    }

    /// Collections that had ended at the last look.
    pub(in crate::pipeline) fn collections(&self) -> u32 {
        self.collections
    }

    /// What was not believed so far.
    pub(in crate::pipeline) fn discards(&self) -> Discards {
        self.reader.discards()
    }
}
