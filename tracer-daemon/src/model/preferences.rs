//! Which size classes births are chosen from rather than from others: those that the books see grow.
//!
//! By bytes alone, births follow what is allocated. A leak of 20 KB/s in 200 MB/s is one byte in ten thousand, so it is born unseen for minutes, although the
//! books say within seconds in which class it is. So bytes count
//!
//! ```text
//!     times = 1 + 3 · (class's part of what grows) / (class's part of what is allocated),        at most 4,096
//! ```
//!
//! That is: of the births that are wanted a quarter is shared out by what is allocated, and the rest by what grows. All classes together would be chosen up to four times as often,
//! so the mean by which they are chosen is that much larger. Each birth carries the probability that it was chosen with, so nothing that is estimated depends on it but its precision.

use tracer_common::bursts::PREFERENCES;
use tracer_common::size_class::CLASS_TO_SIZE;

/// For one birth that follows what is allocated so many follow what grows.
const GROWTH: f64 = 3.0;
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preferences {
    /// By the number of the size class; 0 and 1 are the same.
    pub times: [u16; PREFERENCES as usize],
    /// How many times all that is allocated counts, on average.
    pub all: f64,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { times: [1; PREFERENCES as usize], all: 1.0 }
    }
}

impl Preferences {
    /// Whether any class counts more than others.
    pub fn is_any(&self) -> bool {
        self.times.iter().any(|times| *times > 1)
    }

    /// Whether objects of some class that is preferred are chosen at least twice as often by one as by the other, or half as often.
    pub fn differs(&self, other: &Self) -> bool {
        let part = |preferences: &Self, times: u16| f64::from(times) / preferences.all;
        let pairs = self.times.iter().zip(&other.times).filter(|(own, of_other)| **own > 1 || **of_other > 1);
        pairs.map(|(own, of_other)| part(self, *own) / part(other, *of_other)).any(|ratio| !(0.5..2.0).contains(&ratio))
    }

    /// Of all classes that allocate. Those that nothing is known of count once.
    pub fn of(classes: &[ClassGrowth]) -> Self {
        let is_sane = |value: f64| value.is_finite() && value > 0.0;
        let sum = |of: fn(&ClassGrowth) -> f64| classes.iter().map(of).filter(|value| is_sane(*value)).sum::<f64>();
        let grows = sum(|class| class.grows_bytes_per_s);
        let allocates = sum(|class| class.allocates_bytes_per_s);
        let mut preferences = Self::default();
        for class in classes.iter().filter(|class| is_sane(class.allocates_bytes_per_s)) {
            let number = CLASS_TO_SIZE.iter().position(|size| u64::from(*size) == class.size_bytes);
            let Some(times) = number.and_then(|number| preferences.times.get_mut(number)) else { continue };
            let (grows, allocates) = (class.grows_bytes_per_s / grows, class.allocates_bytes_per_s / allocates);
            if is_sane(grows) {
                let exact = (1.0 + GROWTH * grows / allocates).clamp(1.0, TIMES_MAX).floor();
                *times = u16::try_from(crate::units::whole(exact)).unwrap_or(u16::MAX);
                preferences.all += allocates * (f64::from(*times) - 1.0);
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
        assert_eq!(times(&preferences, 448), 76);
        assert!((preferences.all - 4.0).abs() < 1e-9);
        assert_eq!(times(&preferences, 2_048), 1);
        assert_eq!(times(&preferences, 64), 1);
    }

    #[test]
    fn preferences_differ_where_a_class_is_chosen_otherwise() {
        let of = |grows| Preferences::of(&[class(64, 1e5, 1e4), class(128, 1e6, grows)]);
        assert!(of(0.0).differs(&Preferences::default()) && Preferences::default().differs(&of(0.0)));
        assert!(!of(1e4).differs(&of(1.2e4)) && of(1e4).differs(&of(0.0)));
        assert!(!Preferences::of(&[class(64, 1e6, 1e6)]).differs(&Preferences::default()), "all is chosen as before");
    }

    #[test]
    fn where_nothing_grows_or_all_does_bytes_count_as_they_are() {
        let of = |grows| Preferences::of(&[class(64, 1e6, grows), class(128, 1e6, grows)]);
        assert_eq!(of(0.0), Preferences::default());
        assert_eq!(Preferences::of(&[]), Preferences::default());
        let all_grow = of(1e6);
        assert_eq!((times(&all_grow, 64), times(&all_grow, 128)), (4, 4));
        assert!((all_grow.all - 4.0).abs() < 1e-9, "so the mean is as much larger");
    }

    proptest! {
        #[test]
        fn all_counts_at_most_four_times_on_average_and_hostile_rates_change_nothing(
            rates in prop::collection::vec((0_usize..70, any_rate(), any_rate()), 0..68),
        ) {
            let size = |number: usize| CLASS_TO_SIZE.get(number).map_or(7, |size| u64::from(*size));
            let mut classes: Vec<ClassGrowth> = Vec::new();
            for (number, allocates, grows) in rates {
                if classes.iter().all(|class| class.size_bytes != size(number)) {
                    classes.push(class(size(number), allocates, grows));
                }
            }
            let preferences = Preferences::of(&classes);
            prop_assert!(preferences.times.iter().all(|times| (1..=4_096).contains(times)));
            prop_assert!((1.0..4.000_001).contains(&preferences.all), "{}", preferences.all);
            let is_sane = |rate: f64| rate.is_finite() && rate > 0.0;
            let known: Vec<_> = classes.iter().filter(|class| is_sane(class.allocates_bytes_per_s)).collect();
            let all: f64 = known.iter().map(|class| class.allocates_bytes_per_s).sum();
            let more = known.iter().filter(|class| class.size_bytes != 7).map(|class| {
                class.allocates_bytes_per_s / all * (f64::from(times(&preferences, class.size_bytes)) - 1.0)
            });
            prop_assert!((1.0 + more.sum::<f64>() - preferences.all).abs() < 1e-6);
        }
    }

    fn any_rate() -> impl Strategy<Value = f64> {
        prop_oneof![0.0..1e9_f64, Just(0.0), Just(f64::NAN), Just(-1.0), Just(f64::INFINITY)]
    }
}
