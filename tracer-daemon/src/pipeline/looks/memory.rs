//! The memory statement, twice a minute, and what grew since the first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Look, Pace};
use crate::{
    export::{Refusal, untrusted},
    model::memory::MemoryStatement,
    pipeline::{StartError, Subject, memory::look, own},
};

/// A look walks all pages of the heap: some milliseconds for a gigabyte.
const EVERY: Duration = Duration::from_secs(30);

/// The first look and the last.
#[derive(Debug)]
pub(in crate::pipeline) struct MemoryLooks {
    pace: Pace,
    first: Option<(Instant, MemoryStatement)>,
    last: Option<Arc<MemoryStatement>>,
    refused: Vec<Refusal>,
}

impl MemoryLooks {
    /// Of a target that was not looked at.
    pub(in crate::pipeline) const fn new() -> Self {
        Self { pace: Pace::new(EVERY), first: None, last: None, refused: Vec::new() }
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
        self.refused = look.refused;
        self.last = Some(Arc::new(if let Some((at, first)) = &self.first {
            look.statement.since(first, now.duration_since(*at).as_secs_f64())
        } else {
            for refusal in &self.refused {
                let pid = subject.identity.pid;
                tracing::warn!(pid, "not measured: {} ({})", untrusted::name(&refusal.text), refusal.id);
            }
            self.first = Some((now, look.statement.clone()));
            look.statement
        }));
        Ok(Look::Had)
    }

    /// What could not be read at the last look.
    pub(in crate::pipeline) fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// What it said. `None`: not looked at yet.
    pub(in crate::pipeline) fn last(&self) -> Option<Arc<MemoryStatement>> {
        self.last.clone()
    }
}
