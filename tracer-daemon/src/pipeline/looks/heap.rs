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
        Ok(Self { reader, pace: Pace::new(every), collections: books.collections, pending: Some(Box::new(books)) })
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
