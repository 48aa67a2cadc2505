//! The evidence of one process put together: what grows, who made it grow, and what is missing to know.
//!
//! Fed with readings in order of time; asked for an [`Assessment`] as often as a report is wanted. Works with whatever there
//! is: without a profile the classes are known and the names are not.

use std::collections::BTreeMap;

use super::attribution::{ClassGrowth, Sampled, SiteGrowth, share};
use super::birth_evidence::BirthEvidence;
use super::marked::{MarkedSeries, Reading};
use super::reason::{Doubt, Measured, Reason};
use super::samples::SampleHistory;
use super::slope::{POINTS_MIN, Point};
use super::verdict::{self, Circumstances, Classes, Hysteresis, SAMPLES_TO_NAME, SPAN_MIN_S, Trend, Verdict};
use super::{Rate, SiteId};
use crate::units::approximate;

/// Sites whose history is kept; of more, those not seen in the last report are forgotten.
const HISTORY_MAX: usize = 16_384;
/// Windows shorter than this say nothing of whether something leaks, seconds; two of them are needed.
const WINDOW_MIN_S: f64 = 30.0;
/// Values that are judged however old they are: collections may be rare.
const JUDGED_MIN: usize = 6;
/// Growth counts as growth since the beginning while the window is over this part of the process's age.
const AGE_SHARE: f64 = 1.0 / 3.0;
/// Standard deviations by which samples and books may differ.
pub(super) const DISAGREEMENT: f64 = 3.3;

/// What the runtime's profile says of the objects of one size that one site allocated. Counts of samples since the program
/// began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteSamples {
    /// The site.
    pub site: SiteId,
    /// Bytes of a slot.
    pub size_bytes: u64,
    /// Samples allocated.
    pub allocs: u64,
    /// Samples freed.
    pub frees: u64,
}

/// The runtime's profile at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileReading {
    /// When, ns since 1970.
    pub at_unix_ns: u64,
    /// Mean bytes between two samples.
    pub rate_bytes: f64,
    /// In any order; a site and size may be there more than once.
    pub samples: Vec<SiteSamples>,
}

/// What is said of one size class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassAssessment {
    /// Bytes of a slot; `None`: large objects.
    pub size_bytes: Option<u64>,
    /// What the bytes do that collections find alive in it.
    pub trend: Trend,
    /// Whether it rose in both halves of what was seen.
    pub is_confirmed: bool,
    /// Why that is thought.
    pub why: Reason,
}

/// What is said of one site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteAssessment {
    /// The site.
    pub site: SiteId,
    /// What is said of it.
    pub verdict: Verdict,
    /// Bytes per second.
    pub growth_bytes_per_s: Rate,
    /// Samples more in use than at the beginning of the window.
    pub samples: f64,
    /// Why that is said.
    pub why: Reason,
}

/// Everything that is known at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// Between the first and the last collection that count.
    pub window_s: f64,
    /// Collections that count.
    pub cycles: usize,
    /// What all that collections find alive does.
    pub total: Trend,
    /// All classes that had anything alive; large objects last.
    pub classes: Vec<ClassAssessment>,
    /// Growth that is above chance, over all classes that rise, bytes per second.
    pub rising_bytes_per_s: f64,
    /// Most growth first; those that have none are left out.
    pub sites: Vec<SiteAssessment>,
    /// Where something rises and nobody was named: seconds until enough samples are due to name who. `None`: there is no
    /// profile, or nothing rises without a name.
    pub name_due_s: Option<f64>,
    /// Seconds until anything can be said to leak, however it grows, at least; 0: it can now. What a young process does is no
    /// leak yet.
    pub leak_due_s: f64,
    /// What is said of the process as a whole.
    pub verdict: Verdict,
    /// Why that is said.
    pub why: Reason,
}

/// The evidence of one process.
#[derive(Clone, Debug)]
pub struct Assessor {
    /// Seconds over which growth is judged at least.
    window_s: f64,
    /// When the process began, ns since 1970.
    began_unix_ns: Option<u64>,
    /// Below this age nothing is said to leak, seconds.
    warm_after_s: f64,
    /// Whether the heap was larger before we looked.
    was_larger: bool,
    /// What is older is only compared with.
    judged_from_unix_ns: u64,
    series: MarkedSeries,
    profiles: SampleHistory,
    births: Option<BirthEvidence>,
    sites: BTreeMap<SiteId, History>,
    whole: Hysteresis,
    sizes: Vec<u64>,
}

/// What was said of a site before.
#[derive(Clone, Copy, Debug, Default)]
struct History {
    verdicts: Hysteresis,
    /// With its rate at the last report that found one.
    last: Option<SiteAssessment>,
}

/// What of a site is known in one report.
#[derive(Default)]
pub(super) struct Found {
    pub(super) growth: SiteGrowth,
    /// Growth in classes in which it may be others that grow: measured, and no reason to accuse.
    pub(super) doubtful: SiteGrowth,
    pub(super) classes: Classes,
    /// Samples that nothing in the books explains, or that should be there and are not.
    disagreement: Option<Reason>,
    /// Where births say it: the time that they stand for, seconds.
    pub(super) births_s: Option<f64>,
}

/// The sites of one class: who, what was sampled, and of which size.
type Sites = Vec<(SiteId, Sampled, u64)>;

impl Assessor {
    /// Judges growth over at least so many seconds, and over all that is not forgotten.
    pub fn new(window_s: f64) -> Self {
        Self {
            window_s,
            began_unix_ns: None,
            warm_after_s: 0.0,
            was_larger: false,
            judged_from_unix_ns: 0,
            series: MarkedSeries::default(),
            profiles: SampleHistory::default(),
            births: None,
            sites: BTreeMap::new(),
            whole: Hysteresis::default(),
            sizes: Vec::new(),
        }
    }

    /// When the process began, ns since 1970: what has grown ever since is not said to leak while the process is young.
    pub fn process_began(&mut self, unix_ns: u64) {
        self.began_unix_ns = Some(unix_ns);
    }

    /// Below this age of the process nothing is said to leak, seconds: what fills up looks the same.
    pub fn warm_after(&mut self, seconds: f64) {
        self.warm_after_s = seconds;
    }

    /// Whether the heap was larger before we looked: then what grows may come down again, as it did.
    pub fn was_larger(&mut self, was_larger: bool) {
        self.was_larger = was_larger;
    }

    /// The books at one moment.
    pub fn observe_books(&mut self, reading: Reading) {
        if self.sizes.len() != reading.classes.len() {
            self.sizes = reading.classes.iter().map(|[size, ..]| *size).collect();
        }
        let restarts = self.series.restarts;
        self.series.observe(reading);
        if self.series.restarts != restarts {
            self.profiles.clear();
            self.births = None;
            self.sites.clear();
            self.judged_from_unix_ns = 0;
        }
    }

    /// The profile at one moment. Where its counts fell the program began anew, and it is the first.
    pub fn observe_profile(&mut self, profile: ProfileReading) {
        self.profiles.observe(profile);
    }

    /// What is known now of sampled births, in place of what was known before. They name sites where there is no profile, or where
    /// it has too few samples yet.
    pub fn observe_births(&mut self, births: BirthEvidence) {
        self.births = Some(births);
    }

    /// Nothing is known of births any more.
    pub fn forget_births(&mut self) {
        self.births = None;
    }

    /// Collections before this are no longer judged, but for a few where they are rare. As much again is kept to compare with.
    pub fn forget_before(&mut self, unix_ns: u64) {
        self.judged_from_unix_ns = unix_ns;
        let judged_ns = self.series.last_unix_ns().map_or(0, |last| last.saturating_sub(unix_ns));
        let kept_from = unix_ns.saturating_sub(judged_ns);
        self.series.forget_before(kept_from, 2 * JUDGED_MIN);
        let first = self.series.cycles().next().map_or(kept_from, |first| first.end_unix_ns);
        self.profiles.forget_before(first.min(kept_from));
    }

    /// The window begins here: what was seen before is no part of it, and nothing was said of it yet. That it was seen counts.
    pub fn begin(&mut self, unix_ns: u64) {
        self.series.forget_before(unix_ns, 0);
        self.profiles.forget_before(unix_ns);
        self.sites.clear();
        self.whole = Hysteresis::default();
    }

    /// How fast what is alive grows, where that is above chance, worth a word, and does not slow down, bytes per second.
    pub fn rising(assessment: &Assessment, live_bytes: f64) -> Option<Rate> {
        assessment.total.rising().filter(|rate| rate.value > verdict::floor(live_bytes))
    }

    /// The collections and what they found.
    pub fn series(&self) -> &MarkedSeries {
        &self.series
    }

    /// What it takes, about, bytes.
    pub fn memory_bytes(&self) -> usize {
        let sites = self.sites.len() * (size_of::<SiteId>() + size_of::<History>());
        let births = self.births.as_ref().map_or(0, BirthEvidence::memory_bytes);
        size_of::<Self>() + self.series.memory_bytes() + self.profiles.memory_bytes() + sites + births
    }

    /// One report. Verdicts on sites need two that agree.
    pub fn report(&mut self, live_bytes: f64) -> Assessment {
        let window = self.window();
        let total_points = self.series.total();
        let total = Trend::of(window.judged(&total_points), self.window_s);
        let is_confirmed = window.rises_in_both_halves(&total_points, 0.0);
        let small = self.sizes.iter().enumerate().map(|(index, size)| (Some(*size), self.series.class(index)));
        let classes: Vec<ClassAssessment> = small
            .chain([(None, self.series.large())])
            .filter(|(_, points)| points.iter().any(|point| point.value > 0.0))
            .map(|(size, points)| self.class(size, &points, &window))
            .collect();
        let circumstances = Circumstances {
            floor_bytes_per_s: verdict::floor(live_bytes),
            window_s: window.span_s,
            doubt: self.doubt(&window, &classes),
        };
        let rising_bytes_per_s = classes.iter().filter_map(|class| class.trend.rising()).map(|rate| rate.value).sum();
        let (sites, name_due_s) = self.sites(&classes, &window, &circumstances);
        let (verdict, why) = self.of_process(
            (total, is_confirmed),
            &classes,
            &sites,
            name_due_s,
            &window,
            circumstances.floor_bytes_per_s,
        );
        let shown = self.whole.observe(verdict);
        Assessment {
            window_s: window.span_s,
            cycles: window.collections,
            total,
            classes,
            rising_bytes_per_s,
            sites,
            name_due_s,
            leak_due_s: self.leak_due_s(&window),
            verdict: shown,
            why: if shown == verdict { why } else { Reason::Unconfirmed },
        }
    }

    /// What is judged of what is kept.
    fn window(&self) -> Window {
        let cycles = self.series.cycles();
        let old = cycles.clone().take_while(|cycle| cycle.end_unix_ns < self.judged_from_unix_ns).count();
        let first = old.min(cycles.len().saturating_sub(JUDGED_MIN));
        let judged = || cycles.clone().skip(first);
        let at = |cycle: Option<&super::marked::Cycle>| cycle.map_or(0, |cycle| cycle.end_unix_ns);
        let (from_unix_ns, to_unix_ns) = (at(judged().next()), at(judged().last()));
        Window {
            first,
            from_unix_ns,
            to_unix_ns,
            span_s: seconds(to_unix_ns.saturating_sub(from_unix_ns)),
            collections: judged().map(|cycle| usize::try_from(cycle.merged).unwrap_or(usize::MAX)).sum(),
        }
    }

    fn class(&self, size_bytes: Option<u64>, points: &[Point], window: &Window) -> ClassAssessment {
        let unit = size_bytes.map_or(0.0, approximate);
        let trend = Trend::of_units(window.judged(points), self.window_s, unit);
        let is_confirmed = trend.rising().is_some() && window.rises_in_both_halves(points, unit);
        ClassAssessment { size_bytes, trend, is_confirmed, why: self.why(&trend, window) }
    }

    /// The sentence of a series.
    fn why(&self, trend: &Trend, window: &Window) -> Reason {
        let measured = |rate| Measured { bytes_per_s: rate, collections: window.collections, window_s: window.span_s };
        match *trend {
            Trend::Unknown { values, seconds } => {
                let anew = self.series.last_restart;
                if values == 0 {
                    return Reason::NeedsTime { seconds, anew };
                }
                // The last collection counts when the next one ends.
                let gaps = approximate(window.collections.saturating_sub(1).try_into().unwrap_or(u64::MAX));
                let pace_s = (gaps > 0.0).then(|| window.span_s / gaps);
                let needed =
                    pace_s.map(|pace_s| (pace_s * approximate(values.try_into().unwrap_or(u64::MAX))).max(seconds));
                Reason::NeedsCollections { collections: values, seconds: needed, anew }
            }
            Trend::Flat(rate) => Reason::NoGrowth(measured(rate)),
            Trend::Falling(rate) => Reason::Falls(measured(rate)),
            Trend::Slowing(rate) => Reason::Slows(measured(rate)),
            Trend::Rising(rate) => Reason::Grows(measured(rate)),
        }
    }

    /// How much longer is to be looked until anything may be said to leak, seconds.
    fn leak_due_s(&self, window: &Window) -> f64 {
        let seen_s = self.seen_min_s() - self.series.observed_s();
        // Growth is confirmed by two halves, of which each is long enough to say that it grows.
        let halves_s = if window.first >= POINTS_MIN { 0.0 } else { 2.0 * SPAN_MIN_S - window.span_s };
        let age_s = self.began_unix_ns.map(|began| seconds(window.to_unix_ns.saturating_sub(began)));
        let young_s = age_s.map_or(0.0, |age_s| self.warm_after_s - age_s);
        seen_s.max(halves_s).max(young_s).max(0.0)
    }

    /// Of what was seen for less nothing is said to leak, seconds.
    fn seen_min_s(&self) -> f64 {
        2.0 * self.window_s.max(WINDOW_MIN_S)
    }

    /// Why nothing of this process is said to leak yet.
    fn doubt(&self, window: &Window, classes: &[ClassAssessment]) -> Option<Doubt> {
        if self.series.observed_s() < self.seen_min_s() {
            return Some(Doubt::SeenTooShortly);
        }
        if self.was_larger {
            return Some(Doubt::LargerBefore);
        }
        let age_s = seconds(window.to_unix_ns.saturating_sub(self.began_unix_ns?));
        if age_s < self.warm_after_s {
            return Some(Doubt::Young);
        }
        if window.span_s <= AGE_SHARE * age_s {
            return None;
        }
        // All of what was seen may be the beginning. It is no longer if what rises still rises in the last third of its life.
        let recent = |points: &[Point], unit: f64| {
            let last_s = points.last().map_or(0.0, |last| last.at_s);
            let first = points.partition_point(|point| point.at_s < last_s - AGE_SHARE * age_s);
            let trend = Trend::of_units(points.get(first..).unwrap_or_default(), WINDOW_MIN_S, unit);
            matches!(trend, Trend::Rising(_))
        };
        let goes_on = classes.iter().filter(|class| class.is_confirmed).any(|class| match class.size_bytes {
            Some(size) => {
                self.sizes.binary_search(&size).is_ok_and(|index| recent(&self.series.class(index), approximate(size)))
            }
            None => recent(&self.series.large(), 0.0),
        });
        (age_s * AGE_SHARE < WINDOW_MIN_S || !goes_on).then_some(Doubt::SinceStart)
    }

    fn of_process(
        &self,
        (total, is_confirmed): (Trend, bool),
        classes: &[ClassAssessment],
        sites: &[SiteAssessment],
        name_due_s: Option<f64>,
        window: &Window,
        floor: f64,
    ) -> (Verdict, Reason) {
        if let Some(worst) =
            sites.iter().filter(|site| site.verdict >= Verdict::Growing).max_by_key(|site| site.verdict)
        {
            return (worst.verdict, worst.why);
        }
        let disagreement = sites.iter().map(|site| site.why).find(|why| matches!(why, Reason::SamplesDisagree { .. }));
        let rising = classes.iter().filter_map(|class| Some((class, class.trend.rising()?)));
        let fastest = rising
            .filter(|(class, rate)| rate.value > floor && (class.is_confirmed || is_strong(*rate)))
            .max_by(|(_, one), (_, other)| one.value.total_cmp(&other.value));
        let measured = |rate| Measured { bytes_per_s: rate, collections: window.collections, window_s: window.span_s };
        match (fastest, total) {
            (Some((class, rate)), _) => {
                let needs_name =
                    Reason::NeedsName { size_bytes: class.size_bytes, measured: measured(rate), seconds: name_due_s };
                (Verdict::Growing, disagreement.unwrap_or(needs_name))
            }
            (None, Trend::Rising(rate)) if rate.value <= floor => {
                (Verdict::Steady, Reason::BelowFloor { measured: measured(rate), floor_bytes_per_s: floor })
            }
            (None, Trend::Rising(rate)) if !is_confirmed && !is_strong(rate) => {
                (Verdict::Steady, Reason::GrewOnce(measured(rate)))
            }
            _ => (total.verdict(), self.why(&total, window)),
        }
    }

    fn sites(
        &mut self,
        classes: &[ClassAssessment],
        window: &Window,
        circumstances: &Circumstances,
    ) -> (Vec<SiteAssessment>, Option<f64>) {
        let has_profile = !self.profiles.is_empty();
        let (sampled, profile_s) = self.profiles.since(window.from_unix_ns);
        let rate_bytes = self.profiles.rate_bytes();
        let sampled = by_class(sampled, &self.sizes);
        let mut found: BTreeMap<SiteId, Found> = BTreeMap::new();
        // Of the class that rises fastest, with its rate.
        let mut name_due: Option<(f64, f64)> = None;
        for class in classes {
            let by_profile = sampled.get(&class.size_bytes).filter(|_| has_profile);
            let births = self.births.as_ref().zip(class.trend.rising()).filter(|(births, rate)| {
                let due_s =
                    || SAMPLES_TO_NAME * bytes_per_sample(class.size_bytes, by_profile, rate_bytes) / rate.value;
                !has_profile || due_s() > profile_s && births.is_enough(class.size_bytes, *rate)
            });
            let due_s = match (births, by_profile) {
                (Some((births, rate)), _) => {
                    births.attribute(class, rate, &mut found);
                    births.name_due_s(class.size_bytes, rate).filter(|_| rate.value > circumstances.floor_bytes_per_s)
                }
                (None, Some(sites)) => attribute(class, sites, rate_bytes, profile_s, circumstances, &mut found),
                (None, None) => None,
            };
            if let Some(due_s) = due_s {
                let rate = class.trend.rate().map_or(0.0, |rate| rate.value);
                name_due = name_due.filter(|(fastest, _)| *fastest >= rate).or(Some((rate, due_s)));
            }
        }
        let named = self.judge(found, circumstances);
        let is_named = named.iter().any(|site| site.verdict >= Verdict::Growing);
        (named, name_due.filter(|_| !is_named).map(|(_, due_s)| due_s.max(0.0)))
    }

    fn remember(&mut self, site: SiteId, history: History) {
        if self.sites.len() < HISTORY_MAX {
            self.sites.insert(site, history);
        }
    }

    /// The verdict on each site, in the light of what was said of it before.
    fn judge(&mut self, found: BTreeMap<SiteId, Found>, circumstances: &Circumstances) -> Vec<SiteAssessment> {
        let floor = circumstances.floor_bytes_per_s;
        let mut named = Vec::new();
        let before = std::mem::take(&mut self.sites);
        for (site, Found { growth, doubtful, classes, disagreement, births_s }) in found {
            let mut history = before.get(&site).copied().unwrap_or_default();
            let window_s = births_s.unwrap_or(circumstances.window_s);
            let (mut verdict, mut why) =
                verdict::of_site(&growth, classes, &Circumstances { window_s, ..*circumstances });
            if let Some(reason) = disagreement.filter(|_| verdict < Verdict::Growing) {
                (verdict, why) = (Verdict::Unknown, reason);
            }
            let shown = history.verdicts.observe(verdict);
            let held = history.last.filter(|_| !classes.rise && shown >= Verdict::Growing);
            if let Some(held) = held {
                // Not confirmed this time: what is shown is what was measured when it was.
                named.push(SiteAssessment { verdict: shown, why: Reason::Unconfirmed, ..held });
                self.remember(site, history);
                continue;
            }
            let all = growth.plus(&doubtful);
            let is_worth = all.bytes_per_s > floor && (classes.rise || doubtful.samples > 0.0);
            if is_worth || shown >= Verdict::Growing || disagreement.is_some() {
                let why = match (shown == verdict, why) {
                    (true, why) => why,
                    (false, Reason::Leaks(named)) => Reason::Grew { named, but: Doubt::Once },
                    (false, _) => Reason::Unconfirmed,
                };
                let growth_bytes_per_s = all.rate();
                let said = SiteAssessment { site, verdict: shown, growth_bytes_per_s, samples: all.samples, why };
                history.last = Some(said);
                named.push(said);
            }
            self.remember(site, history);
        }
        // Sites of which nothing rises any more are acquitted as slowly as they were accused.
        for (site, mut history) in before {
            if self.sites.contains_key(&site) {
                continue;
            }
            let shown = history.verdicts.observe(Verdict::Steady);
            if shown >= Verdict::Growing {
                named.extend(history.last.map(|last| SiteAssessment {
                    verdict: shown,
                    why: Reason::Unconfirmed,
                    ..last
                }));
                self.remember(site, history);
            }
        }
        named.sort_by(|one, other| other.growth_bytes_per_s.value.total_cmp(&one.growth_bytes_per_s.value));
        named
    }
}

/// What of the kept collections is judged.
struct Window {
    /// The first of them.
    first: usize,
    from_unix_ns: u64,
    to_unix_ns: u64,
    span_s: f64,
    collections: usize,
}

impl Window {
    fn judged<'a>(&self, points: &'a [Point]) -> &'a [Point] {
        points.get(self.first.min(points.len())..).unwrap_or_default()
    }

    /// What was before the window, and the window; or where that is too short, the halves of it all.
    fn halves<'a>(&self, points: &'a [Point]) -> (&'a [Point], &'a [Point]) {
        let middle_s =
            points.first().zip(points.last()).map_or(0.0, |(first, last)| f64::midpoint(first.at_s, last.at_s));
        let middle = points.partition_point(|point| point.at_s < middle_s);
        let at = if self.first >= POINTS_MIN { self.first } else { middle };
        (points.get(..=at).unwrap_or(points), points.get(at..).unwrap_or_default())
    }

    fn rises_in_both_halves(&self, points: &[Point], unit: f64) -> bool {
        let (early, late) = self.halves(points);
        let grew = |points| Trend::of_units(points, 0.0, unit);
        matches!(grew(early), Trend::Rising(_) | Trend::Slowing(_)) && matches!(grew(late), Trend::Rising(_))
    }
}

/// Shares the growth of a class among its sites. Returns after how many seconds a name is due where it rises.
fn attribute(
    class: &ClassAssessment,
    sites: &Sites,
    rate_bytes: f64,
    profile_s: f64,
    circumstances: &Circumstances,
    found: &mut BTreeMap<SiteId, Found>,
) -> Option<f64> {
    let bytes_per_sample = bytes_per_sample(class.size_bytes, Some(sites), rate_bytes);
    let profile_s = profile_s.max(1e-3);
    let grown: f64 = sites.iter().map(|(_, sampled, _)| sampled.growth()).sum();
    let variance: f64 = sites.iter().map(|(_, sampled, _)| sampled.variance()).sum();
    let expected = |bytes_per_s: f64| bytes_per_s * profile_s / bytes_per_sample;
    // Where nothing is known yet, of nobody anything is said, not even that he is steady.
    class.trend.rate()?;
    let Trend::Rising(rate) = class.trend else {
        let most = class.trend.rate().and_then(|rate| rate.high).map_or(f64::INFINITY, expected).max(0.0);
        let disagrees = grown - most > DISAGREEMENT * (variance + 1.0).sqrt();
        for (site, sampled, _) in sites {
            // Also of those that did not grow it is known from now on.
            let found = found.entry(*site).or_default();
            if sampled.growth() <= 0.0 {
                continue;
            }
            found.classes.slow |= matches!(class.trend, Trend::Slowing(_));
            if disagrees && sampled.growth() > DISAGREEMENT * sampled.variance().sqrt() {
                found.disagreement = Some(Reason::BooksDisagree { samples: sampled.growth() });
            }
        }
        return None;
    };
    let due = (rate.value > circumstances.floor_bytes_per_s)
        .then_some(SAMPLES_TO_NAME * bytes_per_sample / rate.value - profile_s);
    let least = expected(rate.low);
    if least - grown > DISAGREEMENT * (variance + least.max(0.0)).sqrt() {
        let disagreement = Reason::SamplesDisagree { expected: expected(rate.value), samples: grown };
        for (site, ..) in sites {
            found.entry(*site).or_default().disagreement = Some(disagreement);
        }
        return due;
    }
    let growth = ClassGrowth { bytes_per_s: rate, bytes_per_sample, window_s: profile_s };
    let samples: Vec<Sampled> = sites.iter().map(|(_, sampled, _)| *sampled).collect();
    for ((site, sampled, _), share) in sites.iter().zip(share(&growth, &samples)) {
        let found = found.entry(*site).or_default();
        found.growth.add(&growth, sampled, &share);
        found.classes.rise = true;
        found.classes.add(class, rate, share.bytes_per_s.max(0.0));
    }
    due
}

/// Bytes that one sample of the profile stands for. Large objects differ in size: the mean of those sampled stands for all.
fn bytes_per_sample(size_bytes: Option<u64>, sites: Option<&Sites>, rate_bytes: f64) -> f64 {
    let sites = || sites.into_iter().flatten();
    let weighted: f64 = sites().map(|(_, sampled, size)| weight_of(sampled) * approximate(*size)).sum();
    let weights: f64 = sites().map(|(_, sampled, _)| weight_of(sampled)).sum();
    let size = size_bytes.map_or(if weights > 0.0 { weighted / weights } else { rate_bytes }, approximate);
    size / -(-size / rate_bytes).exp_m1()
}

impl Classes {
    /// One more class that rises at this rate, and the site's part of it.
    pub(super) fn add(&mut self, class: &ClassAssessment, rate: Rate, part: f64) {
        if !class.is_confirmed {
            self.unconfirmed_bytes_per_s += part;
            self.weak_bytes_per_s += if is_strong(rate) { 0.0 } else { part };
        }
    }
}

/// Whether growth is so far above chance that one window is enough to speak of it.
fn is_strong(rate: Rate) -> bool {
    rate.low > 0.5 * rate.value
}

/// By class; sites with nothing sampled in the window and nothing in use say nothing.
fn by_class(sampled: Vec<(SiteSamples, Sampled)>, sizes: &[u64]) -> BTreeMap<Option<u64>, Sites> {
    let mut classes: BTreeMap<Option<u64>, BTreeMap<SiteId, (Sampled, u64)>> = BTreeMap::new();
    for (entry, sampled) in sampled {
        if sampled.in_use_first == 0 && sampled.in_use_last == 0 && sampled.allocs == 0 {
            continue;
        }
        let class = sizes.binary_search(&entry.size_bytes).is_ok().then_some(entry.size_bytes);
        let (all, size) = classes.entry(class).or_default().entry(entry.site).or_default();
        all.allocs = all.allocs.saturating_add(sampled.allocs);
        all.frees = all.frees.saturating_add(sampled.frees);
        all.in_use_first = all.in_use_first.saturating_add(sampled.in_use_first);
        all.in_use_last = all.in_use_last.saturating_add(sampled.in_use_last);
        *size = (*size).max(entry.size_bytes);
    }
    let flat = |sites: BTreeMap<SiteId, (Sampled, u64)>| {
        sites.into_iter().map(|(site, (sampled, size))| (site, sampled, size)).collect()
    };
    classes.into_iter().map(|(class, sites)| (class, flat(sites))).collect()
}

fn weight_of(sampled: &Sampled) -> f64 {
    sampled.growth().max(0.0) + f64::EPSILON
}

fn seconds(ns: u64) -> f64 {
    approximate(ns) / 1e9
}

#[cfg(test)]
#[path = "assess_tests.rs"]
mod tests;
