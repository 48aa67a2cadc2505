//! What a session and the scheduler tell each other of one target.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::attach::governor::{Account, Impulse, Standing};
use crate::export::Refusal;
use crate::model::preferences::Preferences;

/// What the books say: it is free, and decides how often windows open.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::pipeline) struct BookRates {
    /// Objects per second.
    pub(in crate::pipeline) allocations_per_s: Option<f64>,
    /// Bytes per second.
    pub(in crate::pipeline) bytes_per_s: Option<f64>,
    /// Objects above 32 KiB per second.
    pub(in crate::pipeline) large_per_s: Option<f64>,
    /// Collections per second.
    pub(in crate::pipeline) collections_per_s: Option<f64>,
    /// Goroutines that begin per second.
    pub(in crate::pipeline) goroutines_per_s: Option<f64>,
    /// GOMAXPROCS.
    pub(in crate::pipeline) threads_max: Option<u32>,
}

/// What the scheduler has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::pipeline) struct Shown {
    /// What was paid.
    pub(in crate::pipeline) account: Account,
    /// Why there are few windows, or none.
    pub(in crate::pipeline) standing: Option<Standing>,
    /// How many times less often than usual the books are to be read, since leakline takes more than it may; 0: not known, as usual.
    pub(in crate::pipeline) reads_slower: f64,
    /// Why the last window could not be opened, or collections cannot be seen.
    pub(in crate::pipeline) failure: Option<String>,
    /// Why no probe is to be in place at all. `None`: they may be.
    pub(in crate::pipeline) off: Option<Refusal>,
    /// Why the hooks on goroutines are off; `None`: they are on.
    pub(in crate::pipeline) goroutine_hooks_off: Option<String>,
}

/// Where both leave what they know.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Desk {
    rates: Mutex<BookRates>,
    /// What asks for a burst at once, with the number of that impulse.
    impulse: Mutex<Option<(u32, Impulse)>>,
    preferences: Mutex<Preferences>,
    shown: Mutex<Shown>,
    hook_time: Mutex<HookTime>,
}

/// For how long the hooks on goroutines have counted.
#[derive(Clone, Copy, Debug, Default)]
struct HookTime {
    /// Until they began to count last, ns.
    before_ns: u64,
    /// Since when they count, and until when if nobody puts that off; ns of the monotonic clock.
    on: Option<(u64, u64)>,
}

impl HookTime {
    fn counted_ns(self, now_ns: u64) -> u64 {
        let on_ns = self.on.map_or(0, |(since_ns, until_ns)| now_ns.min(until_ns).saturating_sub(since_ns));
        self.before_ns.saturating_add(on_ns)
    }
}

fn hold<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that panicked has left is as good as before.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    pub(in crate::pipeline) fn tell_rates(&self, rates: BookRates) {
        *hold(&self.rates) = rates;
    }

    pub(super) fn rates(&self) -> BookRates {
        *hold(&self.rates)
    }

    /// Which objects are worth more than their bytes.
    pub(in crate::pipeline) fn prefer(&self, preferences: Preferences) {
        *hold(&self.preferences) = preferences;
    }

    pub(super) fn preferences(&self) -> Preferences {
        *hold(&self.preferences)
    }

    pub(in crate::pipeline) fn demand(&self, number: u32, impulse: Impulse) {
        *hold(&self.impulse) = Some((number, impulse));
    }

    pub(super) fn take_impulse(&self) -> Option<(u32, Impulse)> {
        hold(&self.impulse).take()
    }

    /// From now on the hooks on goroutines count until then; 0: no more. Where that was not put off in time there is a gap.
    pub(super) fn hooks_count_until(&self, now_ns: u64, until_ns: u64) {
        let mut time = hold(&self.hook_time);
        match time.on {
            Some((since_ns, before_ns)) if until_ns > 0 && now_ns <= before_ns => time.on = Some((since_ns, until_ns)),
            _ => {
                *time =
                    HookTime { before_ns: time.counted_ns(now_ns), on: (until_ns > 0).then_some((now_ns, until_ns)) }
            }
        }
    }

    /// For how long they have counted, ns.
    pub(in crate::pipeline) fn hooks_counted_ns(&self, now_ns: u64) -> u64 {
        hold(&self.hook_time).counted_ns(now_ns)
    }

    pub(super) fn show(&self, shown: Shown) {
        *hold(&self.shown) = shown;
    }

    /// [`Shown::reads_slower`] alone.
    pub(in crate::pipeline) fn reads_slower(&self) -> f64 {
        hold(&self.shown).reads_slower
    }

    pub(in crate::pipeline) fn shown(&self) -> Shown {
        hold(&self.shown).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Desk;

    #[test]
    fn hooks_count_until_they_end_or_nobody_puts_that_off() {
        let desk = Desk::default();
        assert_eq!(desk.hooks_counted_ns(50), 0);
        desk.hooks_count_until(100, 200);
        desk.hooks_count_until(150, 250);
        assert_eq!(desk.hooks_counted_ns(230), 130);
        assert_eq!(desk.hooks_counted_ns(900), 150, "it was not put off");
        desk.hooks_count_until(900, 1_000);
        assert_eq!(desk.hooks_counted_ns(910), 160);
        desk.hooks_count_until(920, 0);
        assert_eq!(desk.hooks_counted_ns(5_000), 170);
        desk.hooks_count_until(6_000, 0);
        assert_eq!(desk.hooks_counted_ns(7_000), 170);
    }
}
