//! What could be read at first and cannot be now. One look that fails is no news about the others, and the next one may
//! succeed: memory is read while the program writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    export::{Refusal, untrusted},
    pipeline::StartError,
    read::ReadError,
};

/// The parts whose last look has failed, by name.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Failures {
    now: BTreeMap<&'static str, Failure>,
    /// Parts of which a failure was told.
    told: BTreeSet<&'static str>,
}

/// Why a part cannot be read.
#[derive(Debug)]
struct Failure {
    since: Instant,
    refusal: Refusal,
}

impl Failures {
    /// Takes the outcome of a look at a part of a process that is still there, or of a time at which none was due.
    pub(in crate::pipeline) fn note(
        &mut self,
        pid: u32,
        part: &'static str,
        outcome: Result<Look, impl Into<Reason>>,
        now: Instant,
    ) {
        let reason = match outcome {
            Ok(Look::NotDue) => return,
            Ok(Look::Had) => return drop(self.now.remove(part)),
            Err(reason) => reason.into(),
        };
        let text = format!("the {part} cannot be read any more, what is said of it is of before: {}", reason.text);
        if self.told.insert(part) {
            tracing::warn!(pid, "{} ({})", untrusted::name(&text), reason.id);
        }
        let since = self.now.get(part).map_or(now, |failure| failure.since);
        self.now.insert(part, Failure { since, refusal: Refusal::new(reason.id, text) });
    }

    /// What is not read now.
    pub(in crate::pipeline) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.now.values().map(|failure| &failure.refusal)
    }

    /// How long the first of them has failed.
    pub(in crate::pipeline) fn longest(&self, now: Instant) -> Duration {
        let failed = self.now.values().map(|failure| now.saturating_duration_since(failure.since));
        failed.max().unwrap_or_default()
    }
}

/// What became of a look that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline) enum Look {
    /// It was had.
    Had,
    /// It is not time for one.
    NotDue,
}

/// Why a look failed.
#[derive(Debug)]
pub(in crate::pipeline) struct Reason {
    id: &'static str,
    text: String,
}

impl From<ReadError> for Reason {
    fn from(error: ReadError) -> Self {
        Self { id: error.id(), text: error.to_string() }
    }
}

impl From<StartError> for Reason {
    fn from(error: StartError) -> Self {
        Self { id: error.reason(), text: error.full_text() }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "any moment will do")]
mod tests {
    use super::*;

    fn unsettled() -> Result<Look, ReadError> {
        Err(ReadError::Unsettled { what: "the runtime's statistics", attempts: 8 })
    }

    #[test]
    fn a_failure_lasts_until_the_next_look_that_succeeds() {
        let (mut failures, first) = (Failures::default(), Instant::now());
        let at = |seconds| first + Duration::from_secs(seconds);
        failures.note(1, "books", unsettled(), at(0));
        failures.note(1, "books", Ok::<_, ReadError>(Look::NotDue), at(1));
        failures.note(1, "heap profile", unsettled(), at(2));
        failures.note(1, "books", unsettled(), at(3));
        assert_eq!(failures.longest(at(4)), Duration::from_secs(4));
        let said: Vec<_> = failures.refusals().map(|refusal| (&*refusal.id, &*refusal.text)).collect();
        assert_eq!(said.len(), 2);
        assert_eq!(said[0].0, "memory_unsettled");
        assert!(said[0].1.starts_with("the books cannot be read any more"), "{}", said[0].1);
        failures.note(1, "books", Ok::<_, ReadError>(Look::Had), at(5));
        assert_eq!(failures.longest(at(6)), Duration::from_secs(4));
        failures.note(1, "heap profile", Ok::<_, ReadError>(Look::Had), at(6));
        assert_eq!((failures.refusals().count(), failures.longest(at(7))), (0, Duration::ZERO));
    }
}
