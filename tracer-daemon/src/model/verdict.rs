//! Does it leak? Rules over growth and its interval, with a sentence that says why.
//!
//! A verdict is a claim about people's work: a false accusation is worse than a late one. So `leaking` needs a class whose
//! growth is above chance in both halves of what was seen (at least 60 s in all), a site whose part of it is, and two
//! reports in a row that agree; a verdict is taken back as slowly. Thirds of the window tell warming up from leaking: what
//! fills a cache slows down; what has grown ever since the process began may still do so.
//!
//! Rules and thresholds: measured on 1,191 windows of 57 runs of 23 programs, of which 423 steady: no false accusation.

use super::Rate;
use super::attribution::SiteGrowth;
use super::reason::{Doubt, Named, Reason};
use super::slope::{POINTS_MIN, Point, rises_in_thirds, slope_in_units, slope_of_bent, span_s};

/// The shortest time over which anything is said to grow, seconds.
pub(super) const SPAN_MIN_S: f64 = 20.0;
/// The part of the window that the collections must span.
const SPAN_SHARE: f64 = 0.6;
/// Growth that slows down to less than this part of what it was is warming up.
const DECELERATION: f64 = 0.5;
/// Standard deviations above none for a site to leak, and to grow.
const LEAKING_SCORE: f64 = 1.96;
const GROWING_SCORE: f64 = 1.3;
/// Standard deviations above chance of the samples of a site that shares what grows with others, to leak, and to grow. Of many lines
/// that are looked at again and again some are far above chance by chance.
const SHARED_LEAKING_SCORE: f64 = 3.7;
const SHARED_GROWING_SCORE: f64 = 3.0;
/// Before this a site may be said to grow on less: it is a first guess, seconds.
const GUESS_S: f64 = 110.0;
/// Samples that a site must have grown by.
const SAMPLES_MIN: f64 = 3.0;
/// Samples after which a leak is nearly always named (97 % of the time).
pub const SAMPLES_TO_NAME: f64 = 6.0;
/// Growth below this is nobody's trouble, bytes per second.
const FLOOR_BYTES_PER_S: f64 = 1024.0;
/// And below this share of the live heap in a minute.
const FLOOR_OF_LIVE_PER_MINUTE: f64 = 0.0005;
/// Reports in a row that must agree.
const IN_A_ROW: u32 = 2;

/// What is said of a site, a class, or a whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It is not known yet; the sentence beside says what is missing.
    #[default]
    Unknown,
    /// What is alive becomes less.
    Shrinking,
    /// Nothing grows beyond chance.
    Steady,
    /// It grows, and ever more slowly: a cache that fills.
    WarmingUp,
    /// It probably grows.
    Growing,
    /// It grows beyond chance and has not slowed down, twice in a row.
    Leaking,
}

impl Verdict {
    /// The name in JSON, metrics and text.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Shrinking => "shrinking",
            Self::Steady => "steady",
            Self::WarmingUp => "warming_up",
            Self::Growing => "growing",
            Self::Leaking => "leaking",
        }
    }
}

/// What a series does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trend {
    /// Too little is known.
    Unknown {
        /// Values that are missing.
        values: usize,
        /// Seconds that are missing, at least.
        seconds: f64,
    },
    /// It does not grow beyond chance.
    Flat(Rate),
    /// It falls beyond chance.
    Falling(Rate),
    /// It grows and slows down.
    Slowing(Rate),
    /// It grows.
    Rising(Rate),
}

impl Trend {
    /// Of a series in order of time, within a window of so many seconds.
    pub fn of(points: &[Point], window_s: f64) -> Self {
        Self::of_units(points, window_s, 0.0)
    }

    /// The same of something that comes in units of this size, perhaps at random.
    pub fn of_units(points: &[Point], window_s: f64, unit: f64) -> Self {
        let span_s = span_s(points);
        let wanted_s = SPAN_MIN_S.max(SPAN_SHARE * window_s);
        let missing = POINTS_MIN.saturating_sub(points.len());
        if missing > 0 || span_s < wanted_s {
            return Self::Unknown { values: missing, seconds: (wanted_s - span_s).max(0.0) };
        }
        let (Some(rate), Some(thirds)) = (slope_in_units(points, unit), rises_in_thirds(points)) else {
            return Self::Unknown { values: 1, seconds: 0.0 };
        };
        let [first, second, third] = thirds;
        let slows = third < DECELERATION * first.max(second);
        // What a cache fills with is no line: about a line its errors are large, and nothing would seem sure.
        let bent = || slope_of_bent(points).filter(|rate| rate.low > 0.0);
        match rate {
            Rate { high: Some(high), .. } if high < 0.0 => Self::Falling(rate),
            Rate { low, .. } if low <= 0.0 => match slows.then(bent).flatten() {
                Some(rate) => Self::Slowing(rate),
                None => Self::Flat(rate),
            },
            _ if slows => Self::Slowing(rate),
            _ => Self::Rising(rate),
        }
    }

    /// Growth per second; `None`: not known.
    pub fn rate(&self) -> Option<Rate> {
        match self {
            Self::Unknown { .. } => None,
            Self::Flat(rate) | Self::Falling(rate) | Self::Slowing(rate) | Self::Rising(rate) => Some(*rate),
        }
    }

    /// The rate of what rises. `None`: it does not.
    pub fn rising(&self) -> Option<Rate> {
        match self {
            Self::Rising(rate) => Some(*rate),
            _ => None,
        }
    }

    /// The verdict on the series alone: it may grow, but nobody is accused of it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Unknown { .. } => Verdict::Unknown,
            Self::Flat(_) => Verdict::Steady,
            Self::Falling(_) => Verdict::Shrinking,
            Self::Slowing(_) => Verdict::WarmingUp,
            Self::Rising(_) => Verdict::Growing,
        }
    }
}

/// Growth below this is not reported, bytes per second.
pub fn floor(live_bytes: f64) -> f64 {
    FLOOR_BYTES_PER_S.max(FLOOR_OF_LIVE_PER_MINUTE * live_bytes / 60.0)
}

/// What is known of the classes in which a site's samples grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Classes {
    /// Some rise.
    pub rise: bool,
    /// Some grew and slowed down.
    pub slow: bool,
    /// Of the site's growth, bytes per second in classes that did not rise in both halves of the time.
    pub unconfirmed_bytes_per_s: f64,
    /// Of that, in classes whose rise is not far above chance either.
    pub weak_bytes_per_s: f64,
}

/// What is known of the process, by which all of its sites are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Circumstances {
    /// Less growth is nobody's trouble, bytes per second.
    pub floor_bytes_per_s: f64,
    /// Over which the site's growth was measured, seconds.
    pub window_s: f64,
    /// Why nothing of this process is said to leak yet.
    pub doubt: Option<Doubt>,
}

/// The verdict of one report on a site, from the classes of its objects that rise.
pub fn of_site(growth: &SiteGrowth, classes: Classes, circumstances: &Circumstances) -> (Verdict, Reason) {
    let within_chance = (Verdict::Steady, Reason::WithinChance { samples: growth.samples });
    if !classes.rise {
        return if classes.slow { (Verdict::WarmingUp, within_chance.1) } else { within_chance };
    }
    let is_own = growth.contested_bytes_per_s < 0.5 * growth.bytes_per_s;
    let (score, sample_score) = (growth.score(), growth.sample_score());
    let may_grow = score > GROWING_SCORE
        && growth.samples > 0.0
        && (circumstances.window_s < GUESS_S
            || classes.weak_bytes_per_s < 0.5 * growth.bytes_per_s && (is_own || sample_score > SHARED_GROWING_SCORE));
    let doubt = match () {
        () if growth.bytes_per_s <= circumstances.floor_bytes_per_s => return within_chance,
        () if growth.samples < SAMPLES_MIN || score <= LEAKING_SCORE => Some(Doubt::FewSamples),
        () if !is_own && sample_score <= SHARED_LEAKING_SCORE => Some(Doubt::Shared),
        () if circumstances.doubt.is_some() => circumstances.doubt,
        () if classes.unconfirmed_bytes_per_s > 0.5 * growth.bytes_per_s => Some(Doubt::NotBefore),
        () => None,
    };
    let named = Named {
        bytes_per_s: growth.rate(),
        samples: growth.samples,
        deviations: score,
        window_s: circumstances.window_s,
    };
    match doubt {
        None => (Verdict::Leaking, Reason::Leaks(named)),
        Some(but) if may_grow => (Verdict::Growing, Reason::Grew { named, but }),
        Some(_) => within_chance,
    }
}

/// What was said of one thing, report after report: up and down only when two reports agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hysteresis {
    shown: Verdict,
    candidate: Verdict,
    times: u32,
    /// Reports in a row that said less than is shown, and the most that one of them said.
    below: u32,
    most_below: Verdict,
}

impl Hysteresis {
    /// The verdict to show, given that of one more report.
    pub fn observe(&mut self, verdict: Verdict) -> Verdict {
        if verdict == self.candidate {
            self.times = self.times.saturating_add(1);
        } else {
            (self.candidate, self.times) = (verdict, 1);
        }
        if verdict < self.shown {
            self.most_below = if self.below == 0 { verdict } else { self.most_below.max(verdict) };
            self.below = self.below.saturating_add(1);
        } else {
            self.below = 0;
        }
        self.shown = match (self.shown, verdict) {
            (shown, verdict) if shown == verdict => shown,
            (_, verdict) if self.times >= IN_A_ROW => verdict,
            // They differ among themselves, and none of them says what is shown.
            _ if self.below >= IN_A_ROW => {
                self.below = 0;
                self.most_below
            }
            // The first time is not yet an accusation.
            (Verdict::Leaking, _) => Verdict::Leaking,
            (_, Verdict::Leaking) => Verdict::Growing,
            (Verdict::Unknown, verdict) => verdict,
            (shown, _) => shown,
        };
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl IntoIterator<Item = f64>) -> Vec<Point> {
        values.into_iter().zip(0_u32..).map(|(value, at)| Point { at_s: f64::from(at), value }).collect()
    }

    #[test]
    fn too_little_is_unknown_and_says_what_is_missing() {
        assert_eq!(Trend::of(&[], 30.0), Trend::Unknown { values: 4, seconds: 20.0 });
        let short = series((0..10).map(f64::from));
        assert_eq!(Trend::of(&short, 30.0), Trend::Unknown { values: 0, seconds: 11.0 });
    }

    #[test]
    fn leaks_rise_and_caches_slow_down() {
        assert_eq!(Trend::of(&series((0..60).map(f64::from)), 60.0).verdict(), Verdict::Growing);
        let filling = series((0..60).map(|at| 1000.0 * (1.0 - (-f64::from(at) / 30.0).exp())));
        assert_eq!(Trend::of(&filling, 60.0).verdict(), Verdict::WarmingUp);
        assert_eq!(Trend::of(&series((0..60).map(|at| f64::from(at % 7))), 60.0).verdict(), Verdict::Steady);
        assert_eq!(Trend::of(&series((0..60).map(|at| -f64::from(at))), 60.0).verdict(), Verdict::Shrinking);
    }

    #[test]
    fn nobody_is_accused_by_one_report_nor_acquitted_by_one() {
        use Verdict::{Growing, Leaking, Steady, Unknown};
        let shown = |reports: &[Verdict]| {
            let mut history = Hysteresis::default();
            reports.iter().map(|verdict| history.observe(*verdict)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[Unknown, Leaking, Leaking]), [Unknown, Growing, Leaking]);
        assert_eq!(shown(&[Leaking, Leaking, Steady, Leaking]), [Growing, Leaking, Leaking, Leaking]);
        assert_eq!(shown(&[Leaking, Leaking, Steady, Steady]), [Growing, Leaking, Leaking, Steady]);
        assert_eq!(shown(&[Steady, Leaking, Steady, Leaking]), [Steady, Growing, Growing, Growing]);
        assert_eq!(shown(&[Steady, Growing, Steady]), [Steady, Steady, Steady]);
        // Reports that flicker below it do not hold an accusation for ever.
        assert_eq!(
            shown(&[Leaking, Leaking, Growing, Steady, Growing, Steady]),
            [Growing, Leaking, Leaking, Growing, Growing, Growing]
        );
    }
}
