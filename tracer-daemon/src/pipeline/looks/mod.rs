//! The parts of a target that are read without probes, each with its own reader, pace, and last look. What one of them
//! cannot read is refused by itself; the others go on.

mod births;
mod failures;
mod goroutines;
mod heap;
mod hooks;
mod memory;
mod profile;

pub(super) use self::births::{BirthLooks, BirthStart, NoBirths};
pub(super) use self::failures::{Failures, Look};
pub(super) use self::goroutines::GoroutineLooks;
pub(super) use self::heap::HeapLooks;
use self::hooks::HookLooks;
pub(super) use self::memory::MemoryLooks;
pub(super) use self::profile::{ProfileLooks, SETTLE};

use std::time::{Duration, Instant};

/// A part is looked at for at most one in so many of our seconds: a target with very much to look at is looked at less often.
const LOOK_PART: u32 = 200;
/// But at least this often.
const LONGEST_PACE: Duration = Duration::from_secs(60);

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

    /// A look took so long: the next one is later where that is much.
    fn took(&mut self, took: Duration, at_least: Duration) {
        self.every = took.saturating_mul(LOOK_PART).min(LONGEST_PACE).max(at_least);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_looked_at_less_often_but_once_a_minute() {
        let mut pace = Pace::new(Duration::from_secs(5));
        let mut after = |milliseconds| {
            pace.took(Duration::from_millis(milliseconds), Duration::from_secs(5));
            pace.every.as_secs()
        };
        assert_eq!([after(1), after(25), after(110), after(300), after(9_000), after(2)], [5, 5, 22, 60, 60, 5]);
    }
}
