//! The samples of each site over the window: as they are now, and by how much less they were before.
//!
//! Profiles are large and most of their lines do not change between two looks, so only changes are kept. Counts only grow
//! while a process lives; counts that fall are those of another one, and the history begins anew.

use std::collections::VecDeque;

use super::SiteId;
use super::assess::{ProfileReading, SiteSamples};
use super::attribution::Sampled;

/// Looks that are kept; of more, the one whose neighbours are nearest to each other is let go, so that the rest are spread evenly.
const LOOKS_MAX: usize = 16;

/// One look and what has changed until the next.
#[derive(Clone, Debug)]
struct Look {
    at_unix_ns: u64,
    /// Which entry, and by how many samples allocated and freed; ascending, each once.
    changes: Vec<(u32, u32, u32)>,
}

/// What is known of the samples of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct SampleHistory {
    rate_bytes: f64,
    /// As they are now, in the order of their first appearance.
    entries: Vec<SiteSamples>,
    /// The entries by site and size.
    sorted: Vec<u32>,
    looks: VecDeque<Look>,
}

impl SampleHistory {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    pub(super) fn rate_bytes(&self) -> f64 {
        self.rate_bytes
    }

    /// One more look. Where counts fell, the rate changed, or time went back, it is the first.
    pub(super) fn observe(&mut self, mut profile: ProfileReading) {
        let went_back = self.looks.back().is_some_and(|last| last.at_unix_ns > profile.at_unix_ns);
        if went_back || self.rate_bytes.total_cmp(&profile.rate_bytes).is_ne() {
            self.clear();
        }
        profile.samples.sort_unstable_by_key(key);
        profile.samples.dedup_by(|next, one| {
            let is_same = key(next) == key(one);
            if is_same {
                one.allocs = one.allocs.saturating_add(next.allocs);
                one.frees = one.frees.saturating_add(next.frees);
            }
            is_same
        });
        // A second look at the same time takes the place of the first.
        if self.looks.back().is_some_and(|last| last.at_unix_ns == profile.at_unix_ns) {
            self.looks.pop_back();
        }
        if !self.take(&profile) {
            self.clear();
            self.take(&profile);
        }
        self.rate_bytes = profile.rate_bytes;
        self.looks.push_back(Look { at_unix_ns: profile.at_unix_ns, changes: Vec::new() });
        if self.looks.len() > LOOKS_MAX {
            self.thin();
        }
    }

    /// Before this, only the last look is kept.
    pub(super) fn forget_before(&mut self, unix_ns: u64) {
        while self.looks.get(1).is_some_and(|second| second.at_unix_ns <= unix_ns) {
            self.looks.pop_front();
        }
    }

    /// What it takes on the heap, about, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let changes = self.looks.iter().map(|look| size_of::<Look>() + size_of_val(look.changes.as_slice()));
        size_of_val(self.entries.as_slice()) + size_of_val(self.sorted.as_slice()) + changes.sum::<usize>()
    }

    /// What was sampled between the last look up to a time and the last of all, by entry; with the seconds between these two.
    pub(super) fn since(&self, unix_ns: u64) -> (Vec<(SiteSamples, Sampled)>, f64) {
        let first = self.looks.partition_point(|look| look.at_unix_ns <= unix_ns).saturating_sub(1);
        let mut sampled: Vec<(SiteSamples, Sampled)> =
            self.entries.iter().map(|entry| (*entry, Sampled::default())).collect();
        for (entry, allocs, frees) in self.looks.iter().skip(first).flat_map(|look| &look.changes) {
            if let Some((_, sampled)) = usize::try_from(*entry).ok().and_then(|entry| sampled.get_mut(entry)) {
                sampled.allocs += u64::from(*allocs);
                sampled.frees += u64::from(*frees);
            }
        }
        for (entry, sampled) in &mut sampled {
            sampled.in_use_last = entry.allocs.saturating_sub(entry.frees);
            let (allocs, frees) = (entry.allocs - sampled.allocs, entry.frees - sampled.frees);
            sampled.in_use_first = allocs.saturating_sub(frees);
        }
        let at = |look: Option<&Look>| look.map_or(0, |look| look.at_unix_ns);
        let between_ns = at(self.looks.back()).saturating_sub(at(self.looks.get(first)));
        (sampled, crate::units::approximate(between_ns) / 1e9)
    }

    /// Takes in the counts of a look. False: some fell.
    fn take(&mut self, profile: &ProfileReading) -> bool {
        let mut changes = Vec::new();
        let (mut sorted, mut known) = (Vec::with_capacity(profile.samples.len()), self.sorted.iter().peekable());
        for now in &profile.samples {
            // Sites are never taken from a profile; one that is missing was not read, and stays as it was.
            while let Some(entry) =
                known.next_if(|entry| self.entry(**entry).is_some_and(|entry| key(entry) < key(now)))
            {
                sorted.push(*entry);
            }
            let same = known.next_if(|entry| self.entry(**entry).is_some_and(|entry| key(entry) == key(now)));
            let Some(entry) = same.copied().or_else(|| u32::try_from(self.entries.len()).ok()) else { return true };
            sorted.push(entry);
            if same.is_none() {
                self.entries.push(SiteSamples { allocs: 0, frees: 0, ..*now });
            }
            let Some(before) = usize::try_from(entry).ok().and_then(|entry| self.entries.get_mut(entry)) else {
                continue;
            };
            let (Some(allocs), Some(frees)) =
                (now.allocs.checked_sub(before.allocs), now.frees.checked_sub(before.frees))
            else {
                return false;
            };
            *before = *now;
            if !self.looks.is_empty() && (allocs != 0 || frees != 0) {
                let (Ok(allocs), Ok(frees)) = (u32::try_from(allocs), u32::try_from(frees)) else { return false };
                changes.push((entry, allocs, frees));
            }
        }
        sorted.extend(known);
        self.sorted = sorted;
        if let Some(last) = self.looks.back_mut() {
            merge(&mut last.changes, changes);
        }
        true
    }

    fn entry(&self, index: u32) -> Option<&SiteSamples> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The inner look whose neighbours are nearest to each other is let go: its changes are part of those of the one before.
    fn thin(&mut self) {
        let at = |index: usize| self.looks.get(index).map_or(0, |look| look.at_unix_ns);
        let inner = 1..self.looks.len().saturating_sub(1);
        let Some(least) = inner.min_by_key(|index| at(index + 1).saturating_sub(at(index - 1))) else { return };
        if let Some(look) = self.looks.remove(least)
            && let Some(before) = self.looks.get_mut(least - 1)
        {
            merge(&mut before.changes, look.changes);
        }
    }
}

fn key(samples: &SiteSamples) -> (SiteId, u64) {
    (samples.site, samples.size_bytes)
}

fn merge(changes: &mut Vec<(u32, u32, u32)>, more: Vec<(u32, u32, u32)>) {
    changes.extend(more);
    changes.sort_unstable_by_key(|(entry, ..)| *entry);
    changes.dedup_by(|next, one| {
        let is_same = next.0 == one.0;
        if is_same {
            *one = (one.0, one.1.saturating_add(next.1), one.2.saturating_add(next.2));
        }
        is_same
    });
    changes.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NS: u64 = 1_000_000_000;

    fn look(at_s: u64, counts: &[(u64, u64, u64)]) -> ProfileReading {
        let sample = |&(site, allocs, frees)| SiteSamples { site: SiteId(site), size_bytes: 64, allocs, frees };
        ProfileReading { at_unix_ns: at_s * NS, rate_bytes: 524_288.0, samples: counts.iter().map(sample).collect() }
    }

    fn one(history: &SampleHistory, at_s: u64, site: u64) -> (Sampled, f64) {
        let (all, seconds) = history.since(at_s * NS);
        (all.into_iter().find(|(entry, _)| entry.site == SiteId(site)).unwrap().1, seconds)
    }

    #[test]
    fn what_was_sampled_is_the_difference_of_two_looks() {
        let mut history = SampleHistory::default();
        history.observe(look(10, &[(2, 5, 1), (2, 1, 0), (1, 3, 3)]));
        history.observe(look(20, &[(2, 9, 2), (3, 4, 0)]));
        history.observe(look(30, &[(3, 7, 1), (2, 9, 6), (1, 4, 3)]));
        let sampled = |allocs, frees, in_use_first, in_use_last| Sampled { allocs, frees, in_use_first, in_use_last };
        assert_eq!(one(&history, 0, 2), (sampled(3, 5, 5, 3), 20.0));
        assert_eq!(one(&history, 25, 2), (sampled(0, 4, 7, 3), 10.0));
        assert_eq!(one(&history, 10, 1), (sampled(1, 0, 0, 1), 20.0));
        assert_eq!(one(&history, 10, 3), (sampled(7, 1, 0, 6), 20.0));
    }

    #[test]
    fn counts_that_fall_begin_anew() {
        let mut history = SampleHistory::default();
        history.observe(look(10, &[(1, 50, 10)]));
        history.observe(look(20, &[(1, 3, 1)]));
        assert_eq!(one(&history, 0, 1), (Sampled { allocs: 0, frees: 0, in_use_first: 2, in_use_last: 2 }, 0.0));
        history.observe(look(5, &[(1, 4, 1)]));
        assert!(one(&history, 0, 1).1.abs() < 1e-9, "time went back");
    }

    #[test]
    fn what_is_asked_of_the_last_quarter_of_an_hour_is_not_of_the_whole_day() {
        for every_s in [5, 15, 60] {
            let mut history = SampleHistory::default();
            for at_s in (0..20_000).step_by(every_s) {
                history.observe(look(at_s, &[(1, at_s, 0)]));
                history.forget_before(at_s.saturating_sub(1_800) * NS);
            }
            let (sampled, seconds) = one(&history, 20_000 - 900, 1);
            assert!((900.0..1_150.0).contains(&seconds), "{every_s}: {seconds}");
            assert!((sampled.growth() - seconds).abs() < 1e-9, "{every_s}: {sampled:?} {seconds}");
        }
    }

    proptest! {
        #[test]
        fn letting_looks_go_keeps_first_and_last(steps in prop::collection::vec((0_u64..5, 0_u64..5, 0_u64..3), 2..200)) {
            let mut history = SampleHistory::default();
            let (mut site, mut other) = (0, 0);
            let mut first = None;
            for (at, (one, two, three)) in steps.iter().enumerate() {
                site += one;
                other += two * three;
                first.get_or_insert((site, other));
                history.observe(look(at as u64, &[(1, site, 0), (2, other, other / 2)]));
            }
            prop_assert!(history.looks.len() <= LOOKS_MAX);
            let (first_site, first_other) = first.unwrap();
            prop_assert_eq!(one(&history, 0, 1).0.allocs, site - first_site);
            prop_assert_eq!(one(&history, 0, 2).0.in_use_first, first_other - first_other / 2);
            let seconds = one(&history, 0, 2).1;
            prop_assert!((seconds - crate::units::approximate(steps.len() as u64 - 1)).abs() < 1e-9);
        }
    }
}
