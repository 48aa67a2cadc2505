//! What is remembered of one place that starts goroutines, look after look.

use std::collections::VecDeque;

use super::{FALL_SHARE, FALL_WINDOWS, Waits};
use crate::model::goroutines::{TableSite, whole};
use crate::model::slope::Point;
use crate::model::verdict::Hysteresis;
use crate::symbolize::Frame;
use crate::units::approximate;

/// The part of the window after which a goroutine counts as one that stays, and seconds.
const OLD_SHARE: f64 = 0.25;
const OLD_MIN_S: f64 = 10.0;
/// Looks in which it must have been there, so that one that comes and goes in step with the looks does not count.
const OLD_LOOKS: usize = 3;

/// One look at one place.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    pub(super) live: u64,
    /// How many of them had been there for a while. `None`: not looked at for so long.
    pub(super) old: Option<u64>,
    /// Old ones that left since the look before. `None`: not known.
    pub(super) left: Option<u64>,
    /// The same, estimated where it is not known. Below 0 by chance.
    pub(super) left_about: f64,
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Since the first one.
    pub(super) at_s: f64,
    pub(super) live: u64,
    pub(super) highest_id: Option<u64>,
}

/// What is remembered of one place.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) place: Frame,
    pub(super) waits: Option<Waits>,
    pub(super) wait_for_ever: u64,
    /// The last ones of the process's looks.
    pub(super) samples: VecDeque<Sample>,
    /// Numbers, ascending, with the time when each was seen first. `None`: the last look did not see them all.
    pub(super) known: Option<Vec<(u64, f64)>>,
    /// The largest fall from the highest count of a window: when, and by how many.
    pub(super) fall: Option<(f64, u64)>,
    pub(super) verdicts: Hysteresis,
}

impl History {
    /// Of a place that no earlier look has seen.
    pub(super) fn of_new(site: &TableSite, earlier_looks: usize) -> Self {
        Self {
            place: site.place.clone(),
            waits: None,
            wait_for_ever: 0,
            samples: (0..earlier_looks)
                .map(|_| Sample { live: 0, old: Some(0), left: Some(0), left_about: 0.0 })
                .collect(),
            known: Some(Vec::new()),
            fall: None,
            verdicts: Hysteresis::default(),
        }
    }

    /// One more look; `site`: what it saw of this place. `room`: how many more numbers may be remembered.
    pub(super) fn observe(
        &mut self,
        site: Option<&TableSite>,
        looks: &VecDeque<Look>,
        window_s: f64,
        room: &mut usize,
    ) {
        let Some(now) = looks.back() else { return };
        let before = looks.len().checked_sub(2).and_then(|index| looks.get(index));
        let ids = site.map(|site| &*site.ids).unwrap_or_default();
        let live = site.map_or(0, |site| site.live);
        let is_whole = ids.len() as u64 == live;
        let mut sample = Sample { live, old: None, left: None, left_about: 0.0 };
        // Since when those must have been there that are old now, and those that were old at the look before.
        let old_before_s = old_before_s(looks, looks.len(), window_s);
        let known = self.known.take();
        let held = known.as_ref().map_or(0, Vec::len);
        if is_whole && ids.len() <= held.saturating_add(*room) {
            *room = held.saturating_add(*room) - ids.len();
            let first_seen = |id: u64| match &known {
                Some(known) => known
                    .binary_search_by_key(&id, |(known, _)| *known)
                    .ok()
                    .and_then(|index| known.get(index))
                    .map_or(now.at_s, |(_, at_s)| *at_s),
                None => first_possible_s(looks, id),
            };
            let now_known: Vec<(u64, f64)> = ids.iter().map(|id| (*id, first_seen(*id))).collect();
            sample.old = old_before_s.map(|at_s| now_known.iter().filter(|(_, seen)| *seen <= at_s).count() as u64);
            let old_before_s = before.and_then(|_| self::old_before_s(looks, looks.len() - 1, window_s));
            sample.left = known.as_ref().map(|known| {
                let was_old = |seen: f64| old_before_s.is_some_and(|at_s| seen <= at_s);
                let gone = |(id, seen): &&(u64, f64)| was_old(*seen) && ids.binary_search(id).is_err();
                known.iter().filter(gone).count() as u64
            });
            sample.left_about = sample.left.map_or(0.0, approximate);
            self.known = Some(now_known);
        } else {
            *room = room.saturating_add(held);
            if let Some((old, gone)) = old_before_s.and_then(|at_s| self.estimate_old(looks, at_s, ids, live)) {
                let since_s = now.at_s - old_before_s.unwrap_or(now.at_s);
                let between_s = before.map_or(0.0, |before| now.at_s - before.at_s);
                (sample.old, sample.left_about) = (Some(old), gone * between_s / since_s.max(1e-3));
            }
        }
        self.samples.push_back(sample);
        let highest = self.samples.iter().map(|sample| sample.live).max().unwrap_or_default();
        let fall = highest.saturating_sub(live);
        let known = self.fall.filter(|(at_s, _)| now.at_s - at_s <= FALL_WINDOWS * window_s);
        let size = known.map_or(fall, |(_, size)| size.max(fall));
        // Nearly as deep again is a new one.
        let is_new = fall > 0 && approximate(fall) >= FALL_SHARE * approximate(size);
        self.fall = if is_new { Some((now.at_s, size)) } else { known };
        if let Some(site) = site {
            self.wait_for_ever = site
                .states
                .iter()
                .filter(|state| state.waits_on.as_ref().is_some_and(|object| object.kind.is_for_ever()))
                .map(|state| state.count)
                .sum();
            self.waits = site.states.first().map(|state| Waits {
                reason: state.wait_reason.clone(),
                blocked: state.blocked.clone(),
                count: state.count,
            });
        } else {
            (self.wait_for_ever, self.waits) = (0, None);
        }
    }

    /// How many of `live`, of which `ids` are a sample, were there at this time already. All that were, where the sample does
    /// not say otherwise: then the number is exact, and its growth is no noise of sampling.
    /// And how many have gone since, as the sample says.
    fn estimate_old(&self, looks: &VecDeque<Look>, at_s: f64, ids: &[u64], live: u64) -> Option<(u64, f64)> {
        let then = looks.iter().rposition(|look| look.at_s <= at_s)?;
        let (highest, live_then) = (looks.get(then)?.highest_id?, self.samples.get(then)?.live);
        let looked_at = approximate(ids.len() as u64);
        if ids.is_empty() {
            return None;
        }
        let share = approximate(ids.partition_point(|id| *id <= highest) as u64) / looked_at;
        let deviation = (share * (1.0 - share) / looked_at).sqrt() + 1.0 / looked_at;
        let (about, at_most) = (approximate(live) * share, approximate(live) * (share + 2.0 * deviation));
        let old = if at_most >= approximate(live_then) { live_then } else { whole(about) };
        Some((old.min(live), approximate(live_then) - about))
    }

    pub(super) fn points(&self, looks: &VecDeque<Look>, of: impl Fn(&Sample) -> Option<u64>) -> Vec<Point> {
        let skipped = looks.len().saturating_sub(self.samples.len());
        let pairs = looks.iter().skip(skipped).zip(&self.samples);
        pairs.filter_map(|(look, sample)| Some(Point { at_s: look.at_s, value: approximate(of(sample)?) })).collect()
    }
}

pub(super) fn old_s(window_s: f64) -> f64 {
    (OLD_SHARE * window_s).max(OLD_MIN_S)
}

/// Goroutines that were seen at this time, or before, were old at the last of so many looks. `None`: there was no such time.
pub(super) fn old_before_s(looks: &VecDeque<Look>, count: usize, window_s: f64) -> Option<f64> {
    let at_s = looks.get(count.checked_sub(1)?)?.at_s;
    let looked = looks.get(count.checked_sub(OLD_LOOKS)?)?.at_s;
    let since_s = (at_s - old_s(window_s)).min(looked);
    (since_s >= looks.front()?.at_s).then_some(since_s)
}

/// The first look at which a goroutine of this number may have been there.
pub(super) fn first_possible_s(looks: &VecDeque<Look>, id: u64) -> f64 {
    let may_have = |look: &&Look| look.highest_id.is_none_or(|highest| id <= highest);
    looks.iter().find(may_have).or(looks.back()).map_or(0.0, |look| look.at_s)
}
