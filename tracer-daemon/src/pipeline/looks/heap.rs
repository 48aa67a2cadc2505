//! The books, again and again.

use std::time::{Duration, Instant};

use super::{Look, Pace};
use crate::{
    model::{Heap, HeapLook, account},
    pipeline::Subject,
    read::{
        Discards, ReadError,
        books::{Books, BooksReader},
    },
};

/// The first look and the last one.
#[derive(Debug)]
pub(in crate::pipeline) struct HeapLooks {
    reader: BooksReader,
    pace: Pace,
    first: Seen,
    last: Seen,
    /// Read, but not yet known to be of the same process.
    pending: Option<Seen>,
}

/// The books at one moment.
#[derive(Clone, Debug)]
struct Seen {
    at: Instant,
    books: Books,
}

impl HeapLooks {
    /// Has a first look; `every`: how often it is looked again.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub(in crate::pipeline) fn start(subject: &Subject, every: Duration, now: Instant) -> Result<Self, ReadError> {
        let mut reader = BooksReader::new(&subject.runtime())?;
        let mut look = || Ok::<_, ReadError>(Seen { at: now, books: reader.read(&subject.memory)? });
        let (first, last) = (look()?, look()?);
        Ok(Self { reader, pace: Pace::new(every), first, last, pending: None })
    }

    /// The window begins with the last look.
    pub(in crate::pipeline) fn begin(&mut self) {
        self.first = self.last.clone();
    }

    /// Looks where it is time to, or where it must be.
    pub(in crate::pipeline) fn look(&mut self, subject: &Subject, now: Instant, must: bool) -> Result<Look, ReadError> {
        if !(self.pace.is_due(now) || must) {
            return Ok(Look::NotDue);
        }
        self.pending = Some(Seen { at: now, books: self.reader.read(&subject.memory)? });
        Ok(Look::Had)
    }

    /// Believes what was read last where the process behind it was still the same.
    pub(in crate::pipeline) fn settle(&mut self, is_same: bool) {
        if let Some(look) = self.pending.take().filter(|_| is_same) {
            self.last = look;
        }
    }

    /// What happened between the first look and the last.
    pub(in crate::pipeline) fn account(&self) -> Heap {
        let at_s = |look: &Seen| look.at.duration_since(self.first.at).as_secs_f64();
        let [first, last] = [&self.first, &self.last].map(|look| HeapLook { at_s: at_s(look), books: &look.books });
        account(first, last)
    }

    /// What was not believed so far.
    pub(in crate::pipeline) fn discards(&self) -> Discards {
        self.reader.discards()
    }

    /// The last look.
    pub(in crate::pipeline) fn last(&self) -> &Books {
        &self.last.books
    }
}
