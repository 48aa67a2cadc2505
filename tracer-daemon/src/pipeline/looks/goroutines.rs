//! The goroutine table, every few seconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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

/// The last look, and the clock that ids are.
#[derive(Debug)]
pub(in crate::pipeline) struct GoroutineLooks {
    reader: GoroutineReader,
    clock: IdClock,
    pace: Pace,
    last: Option<Arc<GoroutineTable>>,
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
            last: None,
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

    /// Believes what was read last where the process behind it was still the same.
    pub(in crate::pipeline) fn settle(&mut self, is_same: bool) {
        if let Some(table) = self.pending.take().filter(|_| is_same) {
            self.last = Some(Arc::new(table));
        }
    }

    /// What it said. `None`: not looked at yet.
    pub(in crate::pipeline) fn last(&self) -> Option<Arc<GoroutineTable>> {
        self.last.clone()
    }

    /// What was not believed so far.
    pub(in crate::pipeline) fn discards(&self) -> Discards {
        self.discards
    }
}
