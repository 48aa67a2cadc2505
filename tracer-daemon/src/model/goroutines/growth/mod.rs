//! Do goroutines become more, at which place, and do they stay?
//!
//! Counts are exact, so their growth is, too; chance is in what the program does. Three things tell a leak from other
//! growth: the count rises (the same rules as for bytes); those that have been there for a while rise as well, so that it is
//! not only that more come and go; and of these hardly any ever leaves. A pool that grows now and shrinks later looks just
//! the same until it shrinks, so nobody is accused before two windows have passed, unless all wait for what can never happen;
//! and what shrank before is not accused of growing back.
//!
//! Goroutines are known again by their numbers. Where a look was a sample, those that are old are estimated by what the
//! highest number was then, and how many left is not known.

mod history;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts of a simulation")]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use self::history::{History, Look, Sample, old_s};
use super::{GoroutineTable, TableSite};
use crate::model::SiteId;
use crate::model::slope::{Point, missing_s, rise, span_s, within};
use crate::model::verdict::{Hysteresis, Trend, Verdict};
use crate::symbolize::Frame;
use crate::units::approximate;

/// Looks that are kept; at the bound every second of the older half goes.
const LOOKS_MAX: usize = 128;
/// Places that are followed; of more, those with the fewest goroutines are counted only.
const SITES_MAX: usize = 2048;
/// Numbers that are remembered: above the most that are ever all looked at.
const NUMBERS_MAX: usize = 1 << 16;
/// Where looks are rare, the window has so many.
const LOOKS_PER_WINDOW: usize = 8;
/// They come one by one, perhaps at random: what chance alone does to so many is part of the interval.
const ONE: f64 = 1.0;
/// Growth of fewer goroutines is nobody's trouble.
const NET_MIN: f64 = 3.0;
/// And so is slower growth, goroutines per second: 4,320 a day, of at least 2.5 KiB each.
const FLOOR_PER_S: f64 = 0.05;
/// Standard deviations by which more must stay than leave, were it chance alone.
const STAY_SCORE: f64 = 3.0;
/// The part of a place's goroutines that wait for what can never happen, so that no second window is needed.
const FOR_EVER_SHARE: f64 = 0.9;
/// A fall counts where it took away so much of what has grown now, and for so many windows.
const FALL_SHARE: f64 = 0.8;
const FALL_WINDOWS: f64 = 10.0;

/// Why a place has its verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    /// More looks and time are needed to say anything.
    TooEarly {
        /// Seconds, at least.
        needs_s: f64,
    },
    /// The count does not rise beyond chance.
    NoGrowth,
    /// The count falls.
    Falls,
    /// It rises, and ever more slowly.
    SlowsDown,
    /// It rises too little to matter.
    BelowFloor,
    /// There are more of them, and they come and go.
    ComeAndGo {
        /// Hardly more of them are older than this, seconds.
        older_than_s: f64,
    },
    /// It rises, and may shrink again as it did before.
    FellBefore {
        /// By so many.
        goroutines: u64,
        /// Seconds ago.
        ago_s: f64,
    },
    /// It rises, and many of those that were there for long leave.
    Leave,
    /// It rises; that it is no pool that will shrink again is to be seen.
    Unconfirmed {
        /// Seconds until it will have been seen for long enough; 0: only a second report is missing.
        needs_s: f64,
    },
    /// It rises, and they stay.
    Stay,
}

/// Those that have been there for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Old {
    /// For how long, seconds.
    pub older_than_s: f64,
    /// How many there are.
    pub count: u64,
    /// How many of them left since the window began. `None`: not all could be looked at.
    pub left: Option<u64>,
}

/// What most goroutines of a place do.
#[derive(Clone, Debug, PartialEq)]
pub struct Waits {
    /// The runtime's text.
    pub reason: String,
    /// The line. `None`: not known.
    pub blocked: Option<Frame>,
    /// How many, at the last look.
    pub count: u64,
}

/// What is said of one place that starts goroutines.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteGrowth {
    /// The place.
    pub id: SiteId,
    /// The line a person would change.
    pub place: Frame,
    /// How many there are.
    pub live: u64,
    /// What the count does.
    pub trend: Trend,
    /// Seconds that it was judged over.
    pub window_s: f64,
    /// What is said of it.
    pub verdict: Verdict,
    /// Why.
    pub why: Why,
    /// Those that stay. `None`: not looked at for long enough.
    pub old: Option<Old>,
    /// What most of them do. `None`: there are none.
    pub waits: Option<Waits>,
}

/// What is said of all goroutines of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct GoroutinesGrowth {
    /// Looks that count.
    pub looks: usize,
    /// Between the first of them and the last, seconds.
    pub window_s: f64,
    /// Seconds until a place may be said to leak that does not wait for what can never happen; 0: now.
    pub leak_due_s: f64,
    /// What the number of all does.
    pub total: Trend,
    /// Of the process as a whole: that of its worst place, else that of the number.
    pub verdict: Verdict,
    /// The worst first, then those that grow most.
    pub sites: Vec<SiteGrowth>,
    /// Places that were not followed because there were too many.
    pub sites_left_out: u64,
}

impl GoroutinesGrowth {
    /// The same with what a judgement over a longer time accuses more: what is slow is above chance only there.
    #[must_use]
    pub fn or_worse(mut self, long: &Self) -> Self {
        for site in long.sites.iter().filter(|site| site.verdict >= Verdict::Growing) {
            match self.sites.iter_mut().find(|same| same.id == site.id) {
                Some(same) if same.verdict < site.verdict => {
                    *same = SiteGrowth { live: same.live, waits: same.waits.clone(), ..site.clone() };
                }
                _ => {}
            }
        }
        self.sites.sort_by_key(|site| std::cmp::Reverse(site.verdict));
        if let Some(worst) = self.sites.first().filter(|worst| worst.verdict >= Verdict::Growing) {
            self.verdict = worst.verdict.max(self.verdict);
        }
        self
    }
}

/// The goroutines of one process over time.
#[derive(Clone, Debug)]
pub struct GoroutineGrowth {
    window_s: f64,
    began_ns: u64,
    looks: VecDeque<Look>,
    sites: BTreeMap<SiteId, History>,
    sites_left_out: u64,
    whole: Hysteresis,
}

impl GoroutineGrowth {
    /// Judges growth over windows of so many seconds. A place is accused after two of them.
    pub fn new(window_s: f64) -> Self {
        Self {
            window_s,
            began_ns: 0,
            looks: VecDeque::new(),
            sites: BTreeMap::new(),
            sites_left_out: 0,
            whole: Hysteresis::default(),
        }
    }

    /// One more look; `at_ns`: by any clock that goes on. Where it went back, all that was before is forgotten.
    pub fn observe(&mut self, at_ns: u64, table: &GoroutineTable) {
        let since = at_ns.checked_sub(self.began_ns).map(|ns| approximate(ns) / 1e9);
        let at_s = match (since, self.looks.back()) {
            (Some(at_s), Some(last)) if at_s > last.at_s => at_s,
            _ => {
                self.looks.clear();
                self.sites.clear();
                self.began_ns = at_ns;
                0.0
            }
        };
        if self.looks.len() >= LOOKS_MAX {
            self.thin();
        }
        self.looks.push_back(Look { at_s, live: table.live, highest_id: table.highest_id });
        let known: usize = self.sites.values().map(|site| site.known.as_ref().map_or(0, Vec::len)).sum();
        let mut room = NUMBERS_MAX.saturating_sub(known);
        let earlier = self.looks.len() - 1;
        self.sites_left_out = 0;
        let seen: BTreeMap<SiteId, &TableSite> = table.sites.iter().map(|site| (site.id, site)).collect();
        for site in &table.sites {
            if !self.sites.contains_key(&site.id) {
                if self.sites.len() >= SITES_MAX {
                    self.sites_left_out += 1;
                } else {
                    self.sites.insert(site.id, History::of_new(site, earlier));
                }
            }
        }
        let (looks, window_s) = (&self.looks, self.window_s);
        self.sites.retain(|id, history| {
            history.observe(seen.get(id).copied(), looks, window_s, &mut room);
            history.samples.iter().any(|sample| sample.live > 0)
        });
        self.forget();
    }

    /// One report. Verdicts need two that agree.
    pub fn report(&mut self) -> GoroutinesGrowth {
        let window_s = self.window_of(1.0);
        let points: Vec<Point> =
            self.looks.iter().map(|look| Point { at_s: look.at_s, value: approximate(look.live) }).collect();
        let seen_s = span_s(&points);
        let points = within(&points, window_s);
        let total = Trend::of_units(points, window_s, ONE);
        let judge = Judge { looks: &self.looks, window_s, old_s: old_s(self.window_s) };
        let mut sites: Vec<SiteGrowth> =
            self.sites.iter_mut().map(|(id, history)| judge.report(*id, history)).collect();
        let growth = |site: &SiteGrowth| site.trend.rate().map_or(0.0, |rate| rate.value);
        sites.sort_by(|one, other| {
            let by_verdict = other.verdict.cmp(&one.verdict);
            by_verdict.then_with(|| growth(other).total_cmp(&growth(one))).then_with(|| other.live.cmp(&one.live))
        });
        let worst = sites.first().map(|site| site.verdict).filter(|verdict| *verdict >= Verdict::Growing);
        // More that come and go are no growth.
        let whole = if matches!(total, Trend::Rising(_)) { Verdict::Steady } else { total.verdict() };
        let shown = self.whole.observe(worst.unwrap_or(whole));
        GoroutinesGrowth {
            looks: points.len(),
            window_s: span_s(points),
            leak_due_s: (2.0 * window_s - seen_s).max(0.0),
            total,
            verdict: worst.unwrap_or(shown),
            sites,
            sites_left_out: self.sites_left_out,
        }
    }

    /// So many windows, longer where looks are rare.
    fn window_of(&self, windows: f64) -> f64 {
        let looks = self.looks.len().checked_sub(LOOKS_PER_WINDOW).and_then(|first| self.looks.get(first));
        let of_looks = looks.zip(self.looks.back()).map_or(0.0, |(first, last)| last.at_s - first.at_s);
        windows * self.window_s.max(of_looks)
    }

    /// What is before two windows no longer counts, but for one look.
    fn forget(&mut self) {
        let Some(last) = self.looks.back() else { return };
        let begin_s = last.at_s - self.window_of(2.0);
        while self.looks.get(1).is_some_and(|second| second.at_s <= begin_s) {
            self.looks.pop_front();
            let looks = self.looks.len();
            for history in self.sites.values_mut() {
                while history.samples.len() > looks {
                    history.samples.pop_front();
                }
            }
        }
    }

    /// Makes room: every second look of the older half goes.
    fn thin(&mut self) {
        let goes = |index: usize| index < LOOKS_MAX / 2 && index % 2 == 1;
        let mut index = 0;
        self.looks.retain(|_| {
            index += 1;
            !goes(index - 1)
        });
        for history in self.sites.values_mut() {
            let samples = std::mem::take(&mut history.samples);
            let (mut left_before, mut about_before) = (Some(0_u64), 0.0);
            for (index, sample) in samples.into_iter().enumerate() {
                // Who left is counted at the next look that stays.
                let left = sample.left.zip(left_before).map(|(now, before)| now.saturating_add(before));
                let left_about = sample.left_about + about_before;
                if goes(index) {
                    (left_before, about_before) = (left, left_about);
                } else {
                    history.samples.push_back(Sample { left, left_about, ..sample });
                    (left_before, about_before) = (Some(0), 0.0);
                }
            }
        }
    }
}

/// What all places are judged by.
struct Judge<'a> {
    looks: &'a VecDeque<Look>,
    window_s: f64,
    old_s: f64,
}

/// What is known of those that stay.
struct Staying {
    trend: Trend,
    /// How many more there are than at the beginning.
    net: f64,
    left: f64,
}

impl Judge<'_> {
    fn report(&self, id: SiteId, history: &mut History) -> SiteGrowth {
        let all = history.points(self.looks, |sample| Some(sample.live));
        let points = within(&all, self.window_s);
        let trend = Trend::of_units(points, self.window_s, ONE);
        let (verdict, why) = self.judge(history, &all, &trend);
        let shown = history.verdicts.observe(verdict);
        let why = match (shown, verdict) {
            (Verdict::Growing, Verdict::Leaking) => Why::Unconfirmed { needs_s: 0.0 },
            _ => why,
        };
        let begin_s = points.first().map_or(0.0, |first| first.at_s);
        let old = history.samples.back().and_then(|last| last.old).map(|count| Old {
            older_than_s: self.old_s,
            count,
            left: self.left_since(history, begin_s),
        });
        SiteGrowth {
            id,
            place: history.place.clone(),
            live: history.samples.back().map_or(0, |last| last.live),
            trend,
            window_s: span_s(points),
            verdict: shown,
            why,
            old,
            waits: history.waits.clone(),
        }
    }

    /// One report's verdict.
    fn judge(&self, history: &History, all: &[Point], trend: &Trend) -> (Verdict, Why) {
        let points = within(all, self.window_s);
        let rate = match trend {
            Trend::Unknown { values, seconds } => {
                let needs_s = missing_s(points, *values, *seconds);
                return (Verdict::Unknown, Why::TooEarly { needs_s });
            }
            Trend::Flat(_) => return (Verdict::Steady, Why::NoGrowth),
            Trend::Falling(_) => return (Verdict::Shrinking, Why::Falls),
            Trend::Slowing(rate) | Trend::Rising(rate) => rate,
        };
        let net = rise(points);
        if net < NET_MIN || rate.value < FLOOR_PER_S {
            return (Verdict::Steady, Why::BelowFloor);
        }
        if matches!(trend, Trend::Slowing(_)) {
            return (Verdict::WarmingUp, Why::SlowsDown);
        }
        let staying = self.staying(history, self.window_s);
        match staying.trend {
            Trend::Unknown { .. } => return (Verdict::Growing, self.unconfirmed(all)),
            Trend::Flat(_) | Trend::Falling(_) => {
                return (Verdict::Steady, Why::ComeAndGo { older_than_s: self.old_s });
            }
            Trend::Slowing(_) => return (Verdict::WarmingUp, Why::SlowsDown),
            Trend::Rising(_) => {}
        }
        let now_s = all.last().map_or(0.0, |last| last.at_s);
        if let Some((at_s, fall)) = history.fall
            && now_s - at_s < FALL_WINDOWS * self.window_s
            && approximate(fall) > FALL_SHARE * net
        {
            return (Verdict::Growing, Why::FellBefore { goroutines: fall, ago_s: now_s - at_s });
        }
        let live = history.samples.back().map_or(0, |last| last.live);
        let is_for_ever = approximate(history.wait_for_ever) >= FOR_EVER_SHARE * approximate(live);
        let judged_s = if is_for_ever { self.window_s } else { 2.0 * self.window_s };
        if !is_for_ever && (span_s(all) < judged_s || !matches!(Trend::of_units(all, judged_s, ONE), Trend::Rising(_)))
        {
            return (Verdict::Growing, self.unconfirmed(all));
        }
        let staying = self.staying(history, judged_s);
        let left = staying.left;
        let came = staying.net + left;
        let is_beyond_chance = staying.net > STAY_SCORE * (came + left).max(0.0).sqrt();
        if !is_beyond_chance || left >= staying.net {
            return (Verdict::Growing, Why::Leave);
        }
        (Verdict::Leaking, Why::Stay)
    }

    fn unconfirmed(&self, all: &[Point]) -> Why {
        Why::Unconfirmed { needs_s: (2.0 * self.window_s - span_s(all)).max(0.0) }
    }

    fn staying(&self, history: &History, window_s: f64) -> Staying {
        let points = history.points(self.looks, |sample| sample.old);
        let points = within(&points, window_s);
        let begin_s = points.first().map_or(0.0, |first| first.at_s);
        // None can be old in the first part of what was ever seen.
        let trend = Trend::of_units(points, window_s - self.old_s, ONE);
        Staying { trend, net: rise(points), left: self.left_about(history, begin_s) }
    }

    /// Old ones that left. `None`: at some look that was not known.
    fn left_since(&self, history: &History, begin_s: f64) -> Option<u64> {
        self.since(history, begin_s).map(|sample| sample.left).sum()
    }

    fn left_about(&self, history: &History, begin_s: f64) -> f64 {
        self.since(history, begin_s).map(|sample| sample.left_about).sum::<f64>().max(0.0)
    }

    /// What looks after this time saw.
    fn since<'h>(&self, history: &'h History, begin_s: f64) -> impl Iterator<Item = &'h Sample> {
        let skipped = self.looks.len().saturating_sub(history.samples.len());
        let pairs = self.looks.iter().skip(skipped).zip(&history.samples);
        pairs.filter(move |(look, _)| look.at_s > begin_s).map(|(_, sample)| sample)
    }
}
