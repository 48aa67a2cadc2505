//! The memory statement, four times a minute: growth takes four looks.

use std::time::{Duration, Instant};

use super::{Look, Pace};
use crate::{
    export::{Refusal, untrusted},
    model::memory::MemoryStatement,
    pipeline::{StartError, Subject, memory::look, own},
};

/// A look walks all pages of the heap: some milliseconds for a gigabyte.
const EVERY: Duration = Duration::from_secs(15);

/// How it is looked at.
#[derive(Debug)]
pub(in crate::pipeline) struct MemoryLooks {
    pace: Pace,
    has_looked: bool,
    /// Read, but not yet known to be of the same process.
    pending: Option<MemoryStatement>,
    refused: Vec<Refusal>,
}

impl MemoryLooks {
    /// Of a target that was not looked at.
    pub(in crate::pipeline) const fn new() -> Self {
        Self { pace: Pace::new(EVERY), has_looked: false, pending: None, refused: Vec::new() }
    }

    /// Looks where it is time to, or where it must be.
    pub(in crate::pipeline) fn look(
        &mut self,
        subject: &Subject,
        now: Instant,
        must: bool,
    ) -> Result<Look, StartError> {
        if !(self.pace.is_due(now) || must) {
            return Ok(Look::NotDue);
        }
        let asked = own::now();
        let look = look(subject)?;
        self.pace.took(own::now().saturating_duration_since(asked), EVERY);
        if !std::mem::replace(&mut self.has_looked, true) {
            for refusal in &look.refused {
                let pid = subject.identity.pid;
                tracing::warn!(pid, "not measured: {} ({})", untrusted::name(&refusal.text), refusal.id);
            }
        }
        (self.refused, self.pending) = (look.refused, Some(look.statement));
        Ok(Look::Had)
    }

    /// What could not be read at the last look.
    pub(in crate::pipeline) fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// What was read last, once.
    pub(in crate::pipeline) fn take(&mut self) -> Option<MemoryStatement> {
        self.pending.take()
    }
}
