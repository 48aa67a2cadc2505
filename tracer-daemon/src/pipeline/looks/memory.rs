//! The memory statement, twice a minute, and what grew since the first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::Pace;
use crate::{
    export::Refusal,
    model::memory::MemoryStatement,
    pipeline::{StartError, Subject, memory::look},
};

/// A look walks all pages of the heap: some milliseconds for a gigabyte.
const EVERY: Duration = Duration::from_secs(30);

/// The first look and the last.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct MemoryLooks {
    pace: Option<Pace>,
    first: Option<(Instant, MemoryStatement)>,
    last: Option<Arc<MemoryStatement>>,
}

impl MemoryLooks {
    /// Looks where it is time to, or where it must be. Returns what could not be read at the first look.
    pub(in crate::pipeline) fn look(
        &mut self,
        subject: &Subject,
        now: Instant,
        must: bool,
    ) -> Result<Vec<Refusal>, StartError> {
        if !(self.pace.get_or_insert(Pace::new(EVERY)).is_due(now) || must) {
            return Ok(Vec::new());
        }
        let look = look(subject)?;
        let mut refused = Vec::new();
        self.last = Some(Arc::new(if let Some((at, first)) = &self.first {
            look.statement.since(first, now.duration_since(*at).as_secs_f64())
        } else {
            self.first = Some((now, look.statement.clone()));
            refused = look.refused;
            look.statement
        }));
        Ok(refused)
    }

    /// What it said. `None`: not looked at yet.
    pub(in crate::pipeline) fn last(&self) -> Option<Arc<MemoryStatement>> {
        self.last.clone()
    }
}
