//! The parts of a target that are read without probes, each with its own reader, pace, and last look. What one of them
//! cannot read is refused by itself; the others go on.

mod goroutines;
mod heap;
mod memory;
mod profile;

pub(super) use self::goroutines::GoroutineLooks;
pub(super) use self::heap::HeapLooks;
pub(super) use self::memory::MemoryLooks;
pub(super) use self::profile::{ProfileLooks, SETTLE};

use std::time::{Duration, Instant};

/// When a part is due again.
#[derive(Clone, Copy, Debug)]
struct Pace {
    every: Duration,
    last: Option<Instant>,
}

impl Pace {
    const fn new(every: Duration) -> Self {
        Self { every, last: None }
    }

    /// Whether so much time has passed since the last look; `now` is then taken for one.
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.every);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}
