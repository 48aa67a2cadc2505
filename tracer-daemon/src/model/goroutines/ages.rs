//! How old is a goroutine? Its number tells, against what the highest number was at known times.
//!
//! Numbers are given out in batches of 16 to processors (`newproc1` in runtime/proc.go), and an idle processor can keep the rest of its
//! batch for as long as it likes. So a number above a reading is surely younger than that, but one below need not be older. What is
//! surely older was seen then, or has been waiting since.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Readings that are kept; at the bound every second of the older half goes.
const READINGS_MAX: usize = 256;

/// What the highest number was at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    at_ns: u64,
    highest_id: u64,
}

/// Between which bounds an age lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgeBounds {
    /// Surely so old, ns; 0 where nothing is known.
    pub at_least_ns: u64,
    /// Surely not older, ns; `None` where nothing is known.
    pub at_most_ns: Option<u64>,
}

/// What has been read of one process. All times monotonic, ns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdClock {
    /// When the process began; `None` where that is not known.
    began_ns: Option<u64>,
    readings: VecDeque<Reading>,
}

impl IdClock {
    /// Of a process that began then.
    pub fn new(began_ns: Option<u64>) -> Self {
        Self { began_ns, readings: VecDeque::new() }
    }

    /// No goroutine had a number above `highest_id` at this time. Readings come in the order of time.
    pub fn record(&mut self, at_ns: u64, highest_id: u64) {
        let is_new = |last: &Reading| last.at_ns <= at_ns && last.highest_id <= highest_id;
        if !self.readings.back().is_none_or(is_new) {
            return;
        }
        if self.readings.len() >= READINGS_MAX {
            let mut index = 0;
            self.readings.retain(|_| {
                index += 1;
                index > READINGS_MAX / 2 || index % 2 == 1
            });
        }
        self.readings.push_back(Reading { at_ns, highest_id });
    }

    /// The age at `now_ns` of a goroutine that is known to have lived at `lived_ns`.
    pub fn bounds(&self, id: u64, lived_ns: Option<u64>, now_ns: u64) -> AgeBounds {
        let younger_than = self.readings.iter().rev().find(|reading| reading.highest_id < id);
        let begin = younger_than.map(|reading| reading.at_ns).or(self.began_ns);
        let at_most_ns = begin.map(|begin| now_ns.saturating_sub(begin));
        // Of another clock, where it is before the process began or in the future.
        let plausible = |lived: &u64| *lived <= now_ns && self.began_ns.is_none_or(|began| began <= *lived);
        let at_least_ns = lived_ns.filter(plausible).map_or(0, |lived| now_ns - lived);
        AgeBounds { at_least_ns: at_most_ns.map_or(at_least_ns, |most| at_least_ns.min(most)), at_most_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_above_a_reading_is_younger_than_it() {
        let mut clock = IdClock::new(Some(100));
        for (at, highest) in [(1000, 16), (2000, 160), (3000, 1600)] {
            clock.record(at, highest);
        }
        let most = |id| clock.bounds(id, None, 5000).at_most_ns;
        assert_eq!((most(17), most(160), most(161), most(1601)), (Some(4000), Some(4000), Some(3000), Some(2000)));
        // A low number can have been given out late: all that is known is that the process began before.
        assert_eq!(most(3), Some(4900));
        assert_eq!(IdClock::default().bounds(3, None, 5000), AgeBounds::default());
    }

    #[test]
    fn a_wait_that_began_before_the_process_is_not_believed() {
        let clock = IdClock::new(Some(1000));
        assert_eq!(clock.bounds(1, Some(1500), 5000).at_least_ns, 3500);
        assert_eq!(clock.bounds(1, Some(999), 5000).at_least_ns, 0);
        assert_eq!(clock.bounds(1, Some(5001), 5000).at_least_ns, 0);
    }

    #[test]
    fn readings_are_bounded_and_the_newest_stay() {
        let mut clock = IdClock::new(None);
        (0..10_000).for_each(|at| clock.record(at, at * 10));
        assert!(clock.readings.len() <= READINGS_MAX);
        assert_eq!(clock.bounds(99_985, None, 10_000).at_most_ns, Some(2));
        // A clock that goes back is not one.
        clock.record(5, 1 << 40);
        assert_eq!(clock.bounds(1 << 41, None, 10_000).at_most_ns, Some(1));
    }
}
