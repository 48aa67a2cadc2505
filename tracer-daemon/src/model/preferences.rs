//! Which size classes births are chosen from rather than from others: those that the books see grow.
//!
//! By bytes alone, births follow what is allocated. A leak of 20 KB/s in 200 MB/s is one byte in ten thousand, so it is born unseen for minutes, although the
//! books say within seconds in which class it is. So bytes count
//!
//! ```text
//!     times = (class's part of what grows) / (class's part of what is allocated),        from 1 to 4,096
//! ```
//!
//! That is: of the births that are wanted one half is shared out by what is allocated, and the other by what grows; all classes together are chosen at most twice as often
//! as without. Each birth carries the probability that it was chosen with, so nothing that is estimated depends on it but its precision.

use tracer_common::bursts::PREFERENCES;
use tracer_common::size_class::CLASS_TO_SIZE;

/// Bytes count at most so many times.
const TIMES_MAX: f64 = 4_096.0;

/// What the books say of one size class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassGrowth {
    /// Bytes of a slot.
    pub size_bytes: u64,
    /// Bytes per second that it allocates.
    pub allocates_bytes_per_s: f64,
    /// Bytes per second by which it grows beyond chance; 0: it does not.
    pub grows_bytes_per_s: f64,
}

/// How many times the bytes of objects count where births are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferences {
    /// By the number of the size class; 0 and 1 are the same.
    pub times: [u16; PREFERENCES as usize],
}

impl Default for Preferences {
    fn default() -> Self {
        Self { times: [1; PREFERENCES as usize] }
    }
}

impl Preferences {
    /// Of all classes that allocate. Those that nothing is known of count once.
    pub fn of(classes: &[ClassGrowth]) -> Self {
        let is_sane = |value: f64| value.is_finite() && value > 0.0;
        let sum = |of: fn(&ClassGrowth) -> f64| classes.iter().map(of).filter(|value| is_sane(*value)).sum::<f64>();
        let grows = sum(|class| class.grows_bytes_per_s);
        let allocates = sum(|class| class.allocates_bytes_per_s);
        let mut preferences = Self::default();
        for class in classes {
            let number = CLASS_TO_SIZE.iter().position(|size| u64::from(*size) == class.size_bytes);
            let Some(times) = number.and_then(|number| preferences.times.get_mut(number)) else { continue };
            let part = class.grows_bytes_per_s / grows;
            if is_sane(part) && is_sane(class.allocates_bytes_per_s) {
                let exact = (part * allocates / class.allocates_bytes_per_s).clamp(1.0, TIMES_MAX);
                *times = u16::try_from(crate::units::whole(exact)).unwrap_or(u16::MAX);
            }
        }
        preferences
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(size_bytes: u64, allocates_bytes_per_s: f64, grows_bytes_per_s: f64) -> ClassGrowth {
        ClassGrowth { size_bytes, allocates_bytes_per_s, grows_bytes_per_s }
    }

    fn times(preferences: &Preferences, size_bytes: u64) -> u16 {
        let number = CLASS_TO_SIZE.iter().position(|size| u64::from(*size) == size_bytes).unwrap();
        preferences.times[number]
    }

    #[test]
    fn a_slow_leak_in_much_garbage_is_preferred() {
        let classes = [class(448, 8e6, 20e3), class(2_048, 92e6, 0.0), class(8_192, 100e6, 0.0)];
        let preferences = Preferences::of(&classes);
        assert_eq!(times(&preferences, 448), 25);
        assert_eq!(times(&preferences, 2_048), 1);
        assert_eq!(times(&preferences, 64), 1);
    }

    #[test]
    fn where_nothing_grows_or_all_does_bytes_count_as_they_are() {
        for grows in [0.0, 1e6] {
            let classes = [class(64, 1e6, grows), class(128, 1e6, grows)];
            assert_eq!(Preferences::of(&classes), Preferences::default());
        }
        assert_eq!(Preferences::of(&[]), Preferences::default());
    }

    proptest! {
        #[test]
        fn nothing_is_chosen_more_than_twice_as_often_and_hostile_rates_change_nothing(
            rates in prop::collection::vec((0_usize..70, prop_oneof![0.0..1e9_f64, Just(f64::NAN), Just(-1.0), Just(f64::INFINITY)], 0.0..1e9_f64), 0..68),
        ) {
            let mut classes: Vec<ClassGrowth> = Vec::new();
            for (number, allocates, grows) in rates {
                let size_bytes = CLASS_TO_SIZE.get(number).map_or(7, |size| u64::from(*size));
                if classes.iter().all(|class| class.size_bytes != size_bytes) {
                    classes.push(class(size_bytes, allocates, grows));
                }
            }
            let preferences = Preferences::of(&classes);
            prop_assert!(preferences.times.iter().all(|times| (1..=4_096).contains(times)));
            let known = classes.iter().filter(|class| class.allocates_bytes_per_s.is_finite() && class.allocates_bytes_per_s > 0.0);
            let (mut all, mut chosen) = (0.0, 0.0);
            for class in known.filter(|class| CLASS_TO_SIZE.iter().any(|size| u64::from(*size) == class.size_bytes)) {
                all += class.allocates_bytes_per_s;
                chosen += class.allocates_bytes_per_s * f64::from(times(&preferences, class.size_bytes));
            }
            let unknown: f64 = classes.iter().map(|class| class.allocates_bytes_per_s).filter(|rate| rate.is_finite() && *rate > 0.0).sum();
            prop_assert!(chosen <= all + unknown * 1.000_001, "{chosen} of {all}");
        }
    }
}
