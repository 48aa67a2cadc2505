//! What a session and the scheduler tell each other of one target.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    attach::governor::{Account, Impulse, Standing},
    export::BirthsLost,
};

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
    /// GOMAXPROCS.
    pub(in crate::pipeline) threads_max: Option<u32>,
}

/// What the scheduler has to say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::pipeline) struct Shown {
    /// What was paid.
    pub(in crate::pipeline) account: Account,
    /// What was lost on its way.
    pub(in crate::pipeline) lost: BirthsLost,
    /// Why there are few windows, or none.
    pub(in crate::pipeline) standing: Option<Standing>,
    /// Why the last window could not be opened, or collections cannot be seen.
    pub(in crate::pipeline) failure: Option<String>,
}

/// Where both leave what they know.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Desk {
    rates: Mutex<BookRates>,
    impulse: Mutex<Option<Impulse>>,
    shown: Mutex<Shown>,
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

    pub(in crate::pipeline) fn demand(&self, impulse: Impulse) {
        *hold(&self.impulse) = Some(impulse);
    }

    pub(super) fn take_impulse(&self) -> Option<Impulse> {
        hold(&self.impulse).take()
    }

    pub(super) fn show(&self, shown: Shown) {
        *hold(&self.shown) = shown;
    }

    pub(in crate::pipeline) fn shown(&self) -> Shown {
        hold(&self.shown).clone()
    }
}
