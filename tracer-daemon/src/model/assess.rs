//! The evidence of one process put together: what grows, who made it grow, and what is missing to know.
//!
//! Fed with readings in order of time; asked for an [`Assessment`] as often as a report is wanted. Works with whatever there
//! is: without a profile the classes are known and the names are not.

use std::collections::{BTreeMap, VecDeque};

use super::attribution::{ClassGrowth, Sampled, SiteGrowth, share};
use super::marked::{MarkedSeries, Reading};
use super::verdict::{self, Hysteresis, SAMPLES_TO_NAME, Trend, Verdict};
use super::{Rate, SiteId};

/// Profiles that are kept: the first of the window, the last, and enough between for the window to slide.
const PROFILES_MAX: usize = 24;
/// Sites whose history is kept; of more, those not seen in the last report are forgotten.
const HISTORY_MAX: usize = 16_384;

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
    /// What is said of the process as a whole.
    pub verdict: Verdict,
}

/// The evidence of one process.
#[derive(Clone, Debug)]
pub struct Assessor {
    /// Seconds over which growth is judged.
    window_s: f64,
    series: MarkedSeries,
    profiles: VecDeque<ProfileReading>,
    sites: BTreeMap<SiteId, Hysteresis>,
    whole: Hysteresis,
    sizes: Vec<u64>,
}

impl Assessor {
    /// Judges growth over windows of so many seconds.
    pub fn new(window_s: f64) -> Self {
        Self {
            window_s,
            series: MarkedSeries::default(),
            profiles: VecDeque::new(),
            sites: BTreeMap::new(),
            whole: Hysteresis::default(),
            sizes: Vec::new(),
        }
    }

    /// The books at one moment.
    pub fn observe_books(&mut self, reading: Reading) {
        self.sizes = reading.classes.iter().map(|[size, ..]| *size).collect();
        let restarts = self.series.restarts;
        self.series.observe(reading);
        if self.series.restarts != restarts {
            self.profiles.clear();
        }
    }

    /// The profile at one moment. Of profiles whose counts fell only the last is kept: the program began anew.
    pub fn observe_profile(&mut self, profile: ProfileReading) {
        let total = |profile: &ProfileReading| profile.samples.iter().map(|sample| sample.allocs).sum::<u64>();
        let is_other = |last: &ProfileReading| {
            last.rate_bytes.total_cmp(&profile.rate_bytes).is_ne()
                || last.at_unix_ns > profile.at_unix_ns
                || total(last) > total(&profile)
        };
        if self.profiles.back().is_some_and(is_other) {
            self.profiles.clear();
        }
        if self.profiles.len() >= PROFILES_MAX {
            // The window begins at the first; of the others every second one goes.
            let mut index = 0;
            self.profiles.retain(|_| {
                index += 1;
                index == 1 || index % 2 == 0
            });
        }
        self.profiles.push_back(profile);
    }

    /// Collections before this no longer count, nor profiles but the last before it.
    pub fn forget_before(&mut self, unix_ns: u64) {
        self.series.forget_before(unix_ns);
        while self.profiles.get(1).is_some_and(|second| second.at_unix_ns <= unix_ns) {
            self.profiles.pop_front();
        }
    }

    /// The window begins here: what was seen before is the past of it, and no verdict on it.
    pub fn begin(&mut self, unix_ns: u64) {
        self.forget_before(unix_ns);
        self.sites.clear();
        self.whole = Hysteresis::default();
    }

    /// The collections and what they found.
    pub fn series(&self) -> &MarkedSeries {
        &self.series
    }

    /// One report. Verdicts on sites need two that agree.
    pub fn report(&mut self, live_bytes: f64) -> Assessment {
        let total = self.series.total();
        let window_s = total.first().zip(total.last()).map_or(0.0, |(first, last)| last.at_s - first.at_s);
        let judged_s = self.window_s;
        let trend = |size: Option<u64>, points: Vec<_>| Trend::of_units(&points, judged_s, size.map_or(0.0, real));
        let small = self.sizes.iter().enumerate().map(|(index, size)| (Some(*size), self.series.class(index)));
        let classes: Vec<ClassAssessment> = small
            .chain([(None, self.series.large())])
            .filter(|(_, points)| points.iter().any(|point| point.value > 0.0))
            .map(|(size_bytes, points)| ClassAssessment { size_bytes, trend: trend(size_bytes, points) })
            .collect();
        let floor = verdict::floor(live_bytes);
        let rising_bytes_per_s = classes.iter().filter_map(|class| rising(&class.trend)).map(|rate| rate.value).sum();
        let (sites, name_due_s) = self.sites(&classes, floor);
        let total = trend(None, total);
        let worst = sites.iter().map(|site| site.verdict).max();
        let whole = worst.filter(|verdict| *verdict >= Verdict::Growing).unwrap_or_else(|| total.verdict());
        Assessment {
            window_s,
            cycles: self.series.cycles().len(),
            total,
            classes,
            rising_bytes_per_s,
            sites,
            name_due_s,
            verdict: self.whole.observe(whole),
        }
    }

    fn sites(&mut self, classes: &[ClassAssessment], floor: f64) -> (Vec<SiteAssessment>, Option<f64>) {
        let Some((first, last)) = self.profiles.front().zip(self.profiles.back()) else { return (Vec::new(), None) };
        let profile_s = seconds(last.at_unix_ns.saturating_sub(first.at_unix_ns));
        let sampled = by_class(first, last, &self.sizes);
        let mut growths: BTreeMap<SiteId, (SiteGrowth, bool, bool)> = BTreeMap::new();
        let mut name_due_s: Option<f64> = None;
        for class in classes {
            let sites = sampled.get(&class.size_bytes).map(BTreeMap::iter).into_iter().flatten();
            let (rates, slow) = match class.trend {
                Trend::Rising(rate) => (Some(rate), false),
                Trend::Slowing(_) => (None, true),
                _ => continue,
            };
            let Some(rate) = rates else {
                sites.for_each(|(site, (sampled, _))| {
                    let entry = growths.entry(*site).or_default();
                    entry.2 |= slow && sampled.growth() > 0.0;
                });
                continue;
            };
            let sites: Vec<_> = sites.map(|(site, (sampled, size))| (*site, *sampled, *size)).collect();
            // Large objects differ in size: the mean of those sampled stands for all.
            let sizes: f64 = sites.iter().map(|(_, sampled, size)| weight_of(sampled) * size).sum();
            let weights: f64 = sites.iter().map(|(_, sampled, _)| weight_of(sampled)).sum();
            let size = class.size_bytes.map_or(if weights > 0.0 { sizes / weights } else { last.rate_bytes }, real);
            let bytes_per_sample = size / -(-size / last.rate_bytes).exp_m1();
            let growth = ClassGrowth { bytes_per_s: rate, bytes_per_sample, window_s: profile_s.max(1e-3) };
            let samples: Vec<Sampled> = sites.iter().map(|(_, sampled, _)| *sampled).collect();
            for ((site, sampled, _), share) in sites.iter().zip(share(&growth, &samples)) {
                let entry = growths.entry(*site).or_default();
                entry.0.add(&growth, sampled, &share);
                entry.1 = true;
            }
            if rate.value > floor {
                let due = SAMPLES_TO_NAME * bytes_per_sample / rate.value - profile_s;
                name_due_s = Some(name_due_s.map_or(due, |other| other.max(due)));
            }
        }
        let mut named = Vec::new();
        let before = std::mem::take(&mut self.sites);
        for (site, (growth, rises, slows)) in growths {
            let mut history = before.get(&site).copied().unwrap_or_default();
            let verdict = history.observe(verdict::of_site(&growth, rises, slows, floor));
            if self.sites.len() < HISTORY_MAX {
                self.sites.insert(site, history);
            }
            if rises && growth.bytes_per_s > floor || verdict >= Verdict::Growing {
                let samples = growth.samples;
                named.push(SiteAssessment { site, verdict, growth_bytes_per_s: growth.rate(), samples });
            }
        }
        // Sites of which nothing rises any more are acquitted as slowly as they were accused.
        for (site, mut history) in before {
            if !self.sites.contains_key(&site) && history.observe(Verdict::Steady) >= Verdict::Growing {
                self.sites.insert(site, history);
            }
        }
        named.sort_by(|one, other| other.growth_bytes_per_s.value.total_cmp(&one.growth_bytes_per_s.value));
        let is_named = named.iter().any(|site| site.verdict >= Verdict::Growing);
        (named, name_due_s.filter(|_| !is_named).map(|due| due.max(0.0)))
    }
}

/// The rate of what rises.
fn rising(trend: &Trend) -> Option<Rate> {
    match trend {
        Trend::Rising(rate) => Some(*rate),
        _ => None,
    }
}

type ByClass = BTreeMap<Option<u64>, BTreeMap<SiteId, (Sampled, f64)>>;

/// What was sampled between two profiles, by class and site; with the mean size.
fn by_class(first: &ProfileReading, last: &ProfileReading, sizes: &[u64]) -> ByClass {
    let class_of = |size: u64| sizes.binary_search(&size).is_ok().then_some(size);
    let mut classes = ByClass::new();
    let mut add = |sample: &SiteSamples, count: fn(&mut Sampled, &SiteSamples)| {
        let sites = classes.entry(class_of(sample.size_bytes)).or_default();
        let (sampled, size) = sites.entry(sample.site).or_insert((Sampled::default(), real(sample.size_bytes)));
        count(sampled, sample);
        *size = (*size).max(real(sample.size_bytes));
    };
    for sample in &last.samples {
        add(sample, |sampled, now| {
            sampled.allocs += now.allocs;
            sampled.frees += now.frees;
            sampled.in_use_last += now.allocs.saturating_sub(now.frees);
        });
    }
    for sample in &first.samples {
        add(sample, |sampled, then| {
            sampled.allocs = sampled.allocs.saturating_sub(then.allocs);
            sampled.frees = sampled.frees.saturating_sub(then.frees);
            sampled.in_use_first += then.allocs.saturating_sub(then.frees);
        });
    }
    classes
}

fn weight_of(sampled: &Sampled) -> f64 {
    sampled.growth().max(0.0) + f64::EPSILON
}

fn seconds(ns: u64) -> f64 {
    real(ns) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "counts and times of a window, far below 2^53")]
fn real(value: u64) -> f64 {
    value as f64
}
