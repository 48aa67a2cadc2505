//! What is alive of what was born: growth of a site from births that were sampled and looks at them.
//!
//! Growth of a site is its rate of births times the part of them that stays (the plateau of `survival`). Births are sampled in
//! bursts, and what one burst catches belongs together: so the error is that between bursts (a jackknife over groups of
//! them), not that between objects. Where births are counted in full, only the plateau is uncertain.
//!
//! An object that is born while the collector marks is black: the collection that runs keeps it unseen, and its first age says
//! nothing. Its age counts from the next.
//!
//! References: M. H. Quenouille, Notes on bias in estimation, Biometrika 43 (1956), and J. W. Tukey (1958) for the jackknife;
//! K. M. Wolter, Introduction to Variance Estimation, chapter 4, for groups of it. Source of black births:
//! runtime/malloc.go (mallocgc, gcmarknewobject), go1.26.

use std::collections::BTreeMap;

use super::attribution::Estimate;
use super::slope::{Z, student};
use super::survival::{Life, Survival, survival_at};
use super::{Rate, SiteId};

/// Groups of bursts that are left out in turn.
const GROUPS: u32 = 10;
/// Fewer bursts than this say nothing of how much they differ.
const BURSTS_MIN: u32 = 3;

/// What is known of one sampled object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Birth {
    /// Who allocated it.
    pub site: SiteId,
    /// Bytes of its slot.
    pub size_bytes: u64,
    /// The burst that caught it, counted from 0.
    pub burst: u32,
    /// Whether the collector marked when it was born.
    pub is_black: bool,
    /// What became of it; the age counts the collection that was running at its birth. The weight is that of its birth: how
    /// many births of the whole window it stands for.
    pub life: Life,
}

/// Births that were counted in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedBirths {
    /// Who allocated them.
    pub site: SiteId,
    /// Bytes of a slot.
    pub size_bytes: u64,
    /// Births in the window.
    pub births: u64,
}

/// All births that are known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BirthReading {
    /// The time that the bursts stand for, seconds.
    pub window_s: f64,
    /// Bursts in it, those that caught nothing included.
    pub bursts: u32,
    /// The objects that were caught, in any order.
    pub births: Vec<Birth>,
    /// Where births were counted in full.
    pub counted: Vec<CountedBirths>,
}

/// What births say of one site and size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteBirths {
    /// The site.
    pub site: SiteId,
    /// Bytes of a slot.
    pub size_bytes: u64,
    /// Growth in bytes per second and its variance. `None`: nothing is known of what stays.
    pub growth: Option<Estimate>,
    /// Objects that were caught and stay.
    pub stayed: f64,
}

/// What each site and size grows by. Objects whose weight is not positive and finite are left out.
pub fn growth_of_sites(reading: &BirthReading) -> Vec<SiteBirths> {
    let key = |birth: &Birth| (birth.site, birth.size_bytes);
    let mut births: Vec<Birth> = reading.births.iter().copied().filter(is_sane).collect();
    births.sort_unstable_by_key(|birth| (key(birth), birth.life.age_cycles, birth.burst));
    let mut counted: BTreeMap<(SiteId, u64), u64> = BTreeMap::new();
    for count in &reading.counted {
        let births = counted.entry((count.site, count.size_bytes)).or_default();
        *births = births.saturating_add(count.births);
    }
    let sites = births.chunk_by(|one, next| key(one) == key(next)).filter_map(|births| {
        let (site, size_bytes) = key(births.first()?);
        Some(of_site(reading, births, (site, size_bytes), counted.get(&(site, size_bytes)).copied()))
    });
    sites.collect()
}

fn of_site(
    reading: &BirthReading,
    births: &[Birth],
    (site, size_bytes): (SiteId, u64),
    counted: Option<u64>,
) -> SiteBirths {
    let mut lives: Vec<(u32, Life)> =
        births.iter().filter_map(|birth| Some((birth.burst % GROUPS, tested(birth)?))).collect();
    lives.sort_unstable_by_key(|(group, life)| (life.age_cycles, *group));
    let all: Vec<Life> = lives.iter().map(|(_, life)| *life).collect();
    let survival = Survival::of(&all);
    let plateau = survival.plateau_step();
    let stayed = plateau.map_or(0.0, |step| step.at_risk);
    let growth = plateau.and_then(|plateau| {
        let per_birth = crate::units::approximate(size_bytes) / reading.window_s;
        let mut born_of_group = [0.0; GROUPS as usize];
        for birth in births {
            if let Ok(group) = usize::try_from(birth.burst % GROUPS)
                && let Some(born) = born_of_group.get_mut(group)
            {
                *born += birth.life.weight;
            }
        }
        let sampled: f64 = born_of_group.iter().sum();
        let born = |sampled: f64| counted.map_or(sampled, crate::units::approximate);
        let Rate { value: stays, low, high } = plateau.survival;
        // What no look has seen stay or die yet is bounded by the interval of the plateau, however much bursts agree.
        let least = born(sampled) * (high.unwrap_or(1.0) - stays).max(stays - low) / Z;
        let variance = jackknife(reading.bursts, |left_out, kept| {
            let without = usize::try_from(left_out).ok().and_then(|group| born_of_group.get(group)).copied();
            let rest = lives.iter().filter(|(group, _)| *group != left_out).map(|(_, life)| life);
            born((sampled - without.unwrap_or_default()) / kept) * survival_at(rest, plateau.age_cycles)
        })?;
        let growth = born(sampled) * stays * per_birth;
        let variance = variance.max(least * least) * per_birth * per_birth;
        (growth.is_finite() && variance.is_finite()).then_some(Estimate { growth, variance })
    });
    SiteBirths { site, size_bytes, growth, stayed }
}

fn is_sane(birth: &Birth) -> bool {
    birth.life.weight.is_finite() && birth.life.weight > 0.0
}

/// The life of an object as far as collections tested it. `None`: none did.
fn tested(birth: &Birth) -> Option<Life> {
    if !birth.is_black {
        return Some(birth.life);
    }
    let age_cycles = birth.life.age_cycles.checked_sub(1)?;
    Some(Life { age_cycles, ..birth.life })
}

/// Variance of an estimate that is made again without each group of bursts; the second argument is the part of the bursts
/// that is kept. Inflated to what the quantile of a normal distribution asks for with so few groups. `None`: too few bursts.
fn jackknife(bursts: u32, estimate: impl Fn(u32, f64) -> f64) -> Option<f64> {
    if bursts < BURSTS_MIN {
        return None;
    }
    let groups = bursts.min(GROUPS);
    let of_group = |group: u32| f64::from((bursts - group).div_ceil(GROUPS));
    let values: Vec<f64> =
        (0..groups).map(|group| estimate(group, 1.0 - of_group(group) / f64::from(bursts))).collect();
    let mean = values.iter().sum::<f64>() / f64::from(groups);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let widening = student(usize::try_from(groups - 1).ok()?) / Z;
    Some(squares * f64::from(groups - 1) / f64::from(groups) * widening * widening)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn birth(burst: u32, age_cycles: u32, died: bool, is_black: bool) -> Birth {
        Birth { site: SiteId(1), size_bytes: 64, burst, is_black, life: Life { age_cycles, died, weight: 10.0 } }
    }

    #[test]
    fn growth_is_births_times_what_stays() {
        // In each burst 10 births, of which 8 die at once and 2 stay.
        let births = (0..20).flat_map(|burst| {
            let dead = (0..8).map(move |_| birth(burst, 0, true, false));
            dead.chain((0..2).map(move |_| birth(burst, 9, false, false)))
        });
        let mut reading = BirthReading { window_s: 60.0, bursts: 20, births: births.collect(), counted: Vec::new() };
        let growth = |reading: &BirthReading| growth_of_sites(reading)[0].growth.unwrap();
        let expected = 20.0 * 2.0 * 10.0 * 64.0 / 60.0;
        assert!((growth(&reading).growth / expected - 1.0).abs() < 1e-9, "{:?}", growth(&reading));
        assert!(growth(&reading).variance > 0.0);
        reading.counted = vec![CountedBirths { site: SiteId(1), size_bytes: 64, births: 1000 }];
        assert!((growth(&reading).growth - 1000.0 * 0.2 * 64.0 / 60.0).abs() < 1e-6);
        reading.bursts = 2;
        assert_eq!(growth_of_sites(&reading)[0].growth, None, "two bursts say nothing of how much they differ");
    }

    #[test]
    fn the_first_age_of_black_births_says_nothing() {
        assert_eq!(tested(&birth(0, 0, false, true)), None);
        assert_eq!(tested(&birth(0, 1, true, true)).unwrap().age_cycles, 0);
        assert_eq!(tested(&birth(0, 1, true, false)).unwrap().age_cycles, 1);
    }
}
