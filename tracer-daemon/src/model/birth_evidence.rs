//! Who is named by sampled births: the growth of a class that rises, shared among the sites whose objects stay.
//!
//! Where no profile samples what is alive, or not enough yet. Births say what stays of what was born since we look; deaths of what was
//! born before are seen by the books alone. So what lives long looks like a leak to births, and a site is accused only where the others
//! cannot explain all of what the class grows by.

use std::collections::BTreeMap;

use super::assess::{ClassAssessment, DISAGREEMENT, Found};
use super::attribution::{Corrected, Estimate};
use super::births::{Caught, SiteBirths, Without};
use super::slope::Z;
use super::verdict::SAMPLES_TO_NAME;
use super::{Rate, SiteId};

/// Births of less time accuse nobody: of what lives so long the deaths were not seen yet, seconds.
const BIRTHS_MIN_S: f64 = 40.0;
/// The part of what others leave unexplained that a site must be able to explain.
const MOST_OF_THE_REST: f64 = 0.5;
/// The part of a class's growth below which births accuse nobody: tiny objects live as long as those that they share a slot with.
const LEAST_PART: f64 = 0.1;
/// Objects that were seen to stay below which births accuse nobody: some are alive by chance while they are looked at.
const STAYED_MIN: f64 = 3.0;
/// What stays is less than births say where less than this part of it is held.
const HELD_PART: f64 = 0.5;
/// Standard deviations by which births may exceed the books.
const EXCESS: f64 = 2.0;

/// What is known of sampled births at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BirthEvidence {
    /// The time that bursts stand for, seconds.
    pub window_s: f64,
    /// Since the first of them, seconds.
    pub seen_s: f64,
    /// How often objects are caught.
    pub caught: Caught,
    /// Whether next to nobody was lost sight of: then who was not seen to die is alive.
    pub all_followed: bool,
    /// What they say of each site and class.
    pub sites: Vec<SiteBirths>,
}

impl BirthEvidence {
    fn of_class(&self, size_bytes: Option<u64>) -> impl Iterator<Item = &SiteBirths> {
        self.sites.iter().filter(move |births| births.size_bytes == size_bytes)
    }

    /// What it takes on the heap, about, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.sites.capacity() * size_of::<SiteBirths>()
    }

    /// Whether births can say more of a class that rises than a profile that has too few samples yet.
    pub(super) fn is_enough(&self, size_bytes: Option<u64>, rate: Rate) -> bool {
        self.seen_s >= BIRTHS_MIN_S && self.survivors(size_bytes) >= SAMPLES_TO_NAME && !self.exceed(size_bytes, rate)
    }

    /// Objects of a class that were caught and stay.
    fn survivors(&self, size_bytes: Option<u64>) -> f64 {
        self.of_class(size_bytes).filter(|births| births.growth.is_some()).map(|births| births.stayed).sum()
    }

    /// Whether more seems to stay in a class than it grows by: then some of what lives will die, and births do not say whose. Deaths of
    /// what was born before we looked are seen by the books alone.
    fn exceed(&self, size_bytes: Option<u64>, rate: Rate) -> bool {
        let (all, variance) = sum(self.of_class(size_bytes).filter_map(|births| births.growth));
        all - rate.high.unwrap_or(f64::INFINITY) > EXCESS * variance.sqrt()
    }

    /// In how many seconds enough survivors of what grows so fast are due. `None`: nothing is caught.
    pub(super) fn name_due_s(&self, size_bytes: Option<u64>, rate: Rate) -> Option<f64> {
        let due_s = SAMPLES_TO_NAME / (rate.value * self.caught.per_byte(size_bytes)) - self.window_s;
        due_s.is_finite().then_some(due_s.max(BIRTHS_MIN_S - self.seen_s))
    }

    /// Shares the growth of a class that rises among its sites, by what is alive of what was born.
    pub(super) fn attribute(&self, class: &ClassAssessment, rate: Rate, found: &mut BTreeMap<SiteId, Found>) {
        // Of few bursts nobody knows how much they differ: what one of them caught may be all that it met.
        if self.seen_s < BIRTHS_MIN_S || self.of_class(class.size_bytes).any(|births| births.allocates.is_none()) {
            return;
        }
        // A site that was not caught may have what one survivor would stand for; and all that those that were cannot explain.
        let survivor = 1.0 / (self.caught.per_byte(class.size_bytes) * self.window_s);
        let one = |variance| if survivor.is_finite() { survivor * survivor } else { variance };
        let lacks = |(all, variance): (f64, f64)| {
            let unexplained = rate.low - all;
            (unexplained > DISAGREEMENT * (variance + one(variance)).sqrt()).then_some(unexplained)
        };
        let mut sites = self.stays(class.size_bytes);
        if self.all_followed && lacks(sum(sites.iter().map(|site| site.growth))).is_some() {
            // Objects that live longer and longer, such as those of a queue, all die in the end: what is held counts.
            sites = self.held(class.size_bytes);
        }
        let (all, variance) = sum(sites.iter().map(|site| site.growth));
        let unexplained = lacks((all, variance)).unwrap_or(0.0);
        let unseen = one(variance).max(f64::MIN_POSITIVE) + unexplained * unexplained;
        let estimates: Vec<Estimate> = sites.iter().map(|site| site.growth).collect();
        let corrected = Corrected::of(rate.value, &estimates, unseen);
        let all_most = Together::of(&sites);
        for (site, corrected) in sites.iter().zip(corrected.sites) {
            let Some(id) = site.site.filter(|_| site.growth.growth > 0.0) else { continue };
            let found = found.entry(id).or_default();
            found.births_s = Some(self.window_s);
            let Estimate { growth: others, variance: others_variance } = all_most.but(site);
            // Where these explain all, nobody else is needed. Survivors alone do not accuse: of what lives long, births are seen
            // before deaths are, and deaths of what was born before we looked are seen by the books alone.
            let is_needed = others + Z * others_variance.sqrt() < rate.low;
            // Nor is one accused for what somebody else must have, of whom nothing was caught: it explains most of what the others
            // leave, or it is not it.
            let own_most = site.growth.growth + Z * site.growth.variance.max(0.0).sqrt();
            let is_enough =
                own_most >= MOST_OF_THE_REST * (rate.low - others) && site.growth.growth >= LEAST_PART * rate.low;
            if is_needed && is_enough && site.number >= STAYED_MIN {
                found.growth.add_births(rate, &corrected, site.number, others);
                found.classes.rise = true;
                found.classes.add(class, rate, corrected.growth.max(0.0));
            } else {
                found.doubtful.add_births(rate, &corrected, site.number, others);
            }
        }
    }

    /// What each site grows by if its objects live as long as they have until now.
    fn stays(&self, size_bytes: Option<u64>) -> Vec<Part> {
        let part = |births: &SiteBirths| {
            let Estimate { growth: held, variance } = births.held;
            // It has grown by no more than it holds, though most may live through a collection now and then.
            let is_bounded = |growth: &Estimate| held + Z * variance.sqrt() < HELD_PART * growth.growth;
            let bounded = births.growth.filter(is_bounded).map(|_| births.held);
            let growth = bounded.or(births.growth).unwrap_or(Estimate::NONE);
            // Of those of whom too few were caught it may be all that they allocate; of those that were all seen to die it is none.
            let most = match births.allocates {
                Some(allocates) if births.growth.is_none() => Estimate { variance: 0.0, ..allocates },
                _ if growth.growth > 0.0 => growth,
                _ => Estimate::NONE,
            };
            let without = births.without.filter(|_| bounded.is_none() && most.growth > 0.0);
            Part { site: births.site, growth, most, without, number: births.stayed.min(births.held_number) }
        };
        self.of_class(size_bytes).map(part).collect()
    }

    /// What each site has grown by at most, whatever its objects do.
    fn held(&self, size_bytes: Option<u64>) -> Vec<Part> {
        let part = |births: &SiteBirths| Part {
            site: births.site,
            growth: births.held,
            most: births.held,
            without: None,
            number: births.held_number,
        };
        self.of_class(size_bytes).map(part).collect()
    }
}

/// One site's part of a class.
#[derive(Clone, Copy, Debug)]
struct Part {
    site: Option<SiteId>,
    growth: Estimate,
    /// What it may have at most.
    most: Estimate,
    /// The same by what is left out. `None`: it has nothing to do with that of others.
    without: Option<Without>,
    /// Objects that say so.
    number: f64,
}

/// What all sites of a class have together: their parts are at each other's expense, where it is known how much all of them allocate.
struct Together {
    growth: f64,
    /// Variance of those of whom no more is known.
    variance: f64,
    without: Option<Without>,
}

impl Together {
    fn of(sites: &[Part]) -> Self {
        let mut all = Self { growth: 0.0, variance: 0.0, without: None };
        for site in sites {
            all.growth += site.most.growth;
            match (&mut all.without, site.without) {
                (_, None) => all.variance += site.most.variance,
                (None, Some(_)) => all.without = site.without,
                (Some(all), Some(site)) => {
                    for (all, site) in all.values.iter_mut().zip(site.values) {
                        *all += site;
                    }
                    all.own_variance += site.own_variance;
                }
            }
        }
        all
    }

    /// What all others have.
    fn but(&self, site: &Part) -> Estimate {
        let growth = self.growth - site.most.growth;
        let Some(own) = site.without else {
            let variance = (self.variance - site.most.variance).max(0.0) + self.without.map_or(0.0, variance_of);
            return Estimate { growth, variance };
        };
        let others = self.without.map(|mut all| {
            for (all, own) in all.values.iter_mut().zip(own.values) {
                *all -= own;
            }
            Without { own_variance: (all.own_variance - own.own_variance).max(0.0), ..all }
        });
        let variance = others.map_or(0.0, variance_of);
        Estimate { growth, variance: self.variance + variance }
    }
}

fn variance_of(without: Without) -> f64 {
    without.variance() + without.own_variance
}

fn sum(estimates: impl Iterator<Item = Estimate>) -> (f64, f64) {
    estimates.fold((0.0, 0.0), |(all, variance), estimate| (all + estimate.growth, variance + estimate.variance))
}
