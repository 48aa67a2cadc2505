//! The goroutine table, every few seconds.

use std::time::{Duration, Instant};

use super::{Look, Pace};
use crate::{
    model::goroutines::{GoroutineTable, IdClock},
    pipeline::{
        Subject,
        goroutines::{began_ns, monotonic_ns, tabulated},
        own,
    },
    read::{Discards, ReadError, goroutines::GoroutineReader},
};

/// A look takes about a millisecond for a thousand goroutines, and is less frequent where that is much.
const EVERY: Duration = Duration::from_secs(5);

/// How it is looked at, and the clock that ids are.
#[derive(Debug)]
pub(in crate::pipeline) struct GoroutineLooks {
    reader: GoroutineReader,
    clock: IdClock,
    pace: Pace,
    /// Read, but not yet known to be of the same process.
    pending: Option<GoroutineTable>,
    discards: Discards,
}

impl GoroutineLooks {
    /// Finds the table.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(in crate::pipeline) fn start(subject: &Subject) -> Result<Self, ReadError> {
        Ok(Self {
            reader: GoroutineReader::new(subject.runtime())?,
            clock: IdClock::new(began_ns(subject.identity.start_ticks, monotonic_ns())),
            pace: Pace::new(EVERY),
            pending: None,
            discards: Discards::default(),
        })
    }

    /// Looks where it is time to, or where it must be.
    pub(in crate::pipeline) fn look(
        &mut self,
        subject: &mut Subject,
        now: Instant,
        must: bool,
    ) -> Result<Look, ReadError> {
        if !(self.pace.is_due(now) || must) {
            return Ok(Look::NotDue);
        }
        let asked = own::now();
        let (table, read) = tabulated(subject, &mut self.reader, &mut self.clock, monotonic_ns())?;
        (self.pending, self.discards) = (Some(table), self.discards.plus(read.discards));
        self.pace.took(own::now().saturating_duration_since(asked), EVERY);
        Ok(Look::Had)
    }

    /// How many goroutines have begun so far, give or take what processors hold in reserve. `None`: it is not known.
    pub(in crate::pipeline) fn begun(&self, subject: &Subject) -> Option<u64> {
        self.reader.numbers_given(&subject.memory).ok().flatten()
    }

    /// What was read last, once.
    pub(in crate::pipeline) fn take(&mut self) -> Option<GoroutineTable> {
        self.pending.take()
    }

    /// What was not believed so far.
    pub(in crate::pipeline) fn discards(&self) -> Discards {
        self.discards
    }
}
