//! Which part of what a path allocates stays alive?
//!
//! The Kaplan-Meier estimate over age in collections: a death is an event, an object whose look was missed, or that is
//! still alive at the end, is censored: it lived until then and nothing more is known. Objects are weighted by the inverse
//! of the probability with which they were sampled. The interval is Greenwood's on the complementary log-log scale,
//! which keeps it between 0 and 1, with the effective sample size of the weights.
//!
//! References: E. L. Kaplan, P. Meier, Nonparametric estimation from incomplete observations, JASA 53 (1958); M.
//! Greenwood, The natural duration of cancer (1926); J. D. Kalbfleisch, R. L. Prentice, The Statistical Analysis of
//! Failure Time Data, 1.4; L. Kish, Survey Sampling (1965), for the effective size.

use super::Rate;
use super::slope::Z;

/// Objects at risk below which an age says nothing.
const AT_RISK_MIN: f64 = 5.0;
/// A plateau is flat where survival falls by less than this share, and one object, over [`FLAT_AGES`] ages and over the second half
/// of all: what lives through five collections is flat through four.
const FLAT: f64 = 0.05;
const FLAT_AGES: u32 = 6;
/// Survival of less than this can be nothing that stays.
const EXTINCT: f64 = 1e-6;

/// What is known of one sampled object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Life {
    /// Collections that it is known to have lived through.
    pub age_cycles: u32,
    /// Whether the next one found it dead; else nothing is known of later.
    pub died: bool,
    /// The inverse of the probability with which it was sampled; positive.
    pub weight: f64,
}

/// Sampled objects that lived as long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lives {
    /// As of [`Life`].
    pub age_cycles: u32,
    /// As of [`Life`].
    pub died: bool,
    /// The sum of their weights.
    pub weight: f64,
    /// The sum of the squares of these.
    pub squares: f64,
}

impl From<Life> for Lives {
    fn from(life: Life) -> Self {
        let Life { age_cycles, died, weight } = life;
        Self { age_cycles, died, weight, squares: weight * weight }
    }
}

impl Lives {
    fn is_sane(&self) -> bool {
        let is_positive = |value: f64| value.is_finite() && value > 0.0;
        is_positive(self.weight) && is_positive(self.squares)
    }
}

/// What is known of how much stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stays {
    /// Survival has become flat, or nothing is left: it stays as at this step.
    Settled {
        /// The last one that is known.
        step: Step,
        /// Effective number of objects that were seen to live beyond the age at which it became flat.
        stayed: f64,
    },
    /// It is not known yet whether more will die than at this step.
    AtMost(Step),
}

/// Survival after one age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Age, collections.
    pub age_cycles: u32,
    /// Share that lives through more than this many collections, with its 95 % interval.
    pub survival: Rate,
    /// Effective number of objects that lived to this age.
    pub at_risk: f64,
}

/// The estimate by age, youngest first. Ages at which nobody died and nobody was censored have no step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survival(pub Vec<Step>);

impl Survival {
    /// Of all sampled objects of one path. An object whose weight is not positive and finite is left out.
    pub fn of(lives: &[Life]) -> Self {
        Self::of_all(lives.iter().copied().map(Lives::from).collect())
    }

    /// The same of objects that were summed up.
    pub fn of_all(mut lives: Vec<Lives>) -> Self {
        lives.retain(Lives::is_sane);
        lives.sort_unstable_by_key(|life| life.age_cycles);
        // From the oldest down, since sums that only grow lose nothing by rounding.
        let mut left = Weights::default();
        let mut ages: Vec<AtAge> = Vec::new();
        for group in lives.chunk_by(|one, next| one.age_cycles == next.age_cycles).rev() {
            let mut at_age = AtAge { age_cycles: group.first().map_or(0, |life| life.age_cycles), ..AtAge::default() };
            at_age.after = left.sum;
            group.iter().filter(|life| life.died).for_each(|life| left.add(life));
            // The collection after this age tested those only of which it is known what it found.
            (at_age.tested, at_age.tested_effective) = (left.sum, left.effective());
            group.iter().filter(|life| !life.died).for_each(|life| left.add(life));
            at_age.lived = left.effective();
            ages.push(at_age);
        }
        let (mut survival, mut greenwood) = (1.0, 0.0);
        let steps = ages.iter().rev().map(|at_age| {
            let hazard = hazard(at_age.tested, at_age.after);
            let before = survival;
            survival *= 1.0 - hazard;
            // d / (r (r - d)) in effective objects.
            greenwood += if hazard < 1.0 { hazard / (at_age.tested_effective * (1.0 - hazard)) } else { 0.0 };
            let (age_cycles, at_risk) = (at_age.age_cycles, at_age.lived);
            Step { age_cycles, survival: interval(before, survival, greenwood, at_risk), at_risk }
        });
        Self(steps.collect())
    }

    /// The share that stays: survival at the largest age with enough objects at risk where it has become flat.
    /// `None`: not known yet.
    pub fn plateau(&self) -> Option<Rate> {
        match self.stays()? {
            Stays::Settled { step, .. } => Some(step.survival),
            Stays::AtMost(_) => None,
        }
    }

    /// What is known of how much stays. `None`: nothing, for want of objects.
    pub fn stays(&self) -> Option<Stays> {
        let known: Vec<&Step> = self.0.iter().take_while(|step| step.at_risk >= AT_RISK_MIN).collect();
        let last = **known.last()?;
        if last.survival.value < EXTINCT {
            return Some(Stays::Settled { step: last, stayed: 0.0 });
        }
        let earlier_age = last.age_cycles.checked_sub(FLAT_AGES).map(|age| age.min(last.age_cycles / 2));
        let Some(earlier_age) = earlier_age else { return Some(Stays::AtMost(last)) };
        let earlier = known.iter().rev().find(|step| step.age_cycles <= earlier_age);
        // Before the first age all are alive.
        let (survival, at_risk) = earlier.map_or((1.0, f64::INFINITY), |step| (step.survival.value, step.at_risk));
        let fall = survival - last.survival.value;
        let is_flat = fall <= (FLAT + 1.0 / at_risk) * survival;
        let later = known.iter().find(|step| step.age_cycles > earlier_age).map_or(last.at_risk, |step| step.at_risk);
        if !is_flat {
            return Some(Stays::AtMost(last));
        }
        // That nobody died was seen of all that lived beyond the age at which it became flat, not of the last of them alone.
        let survival = if last.survival.value < 1.0 { last.survival } else { interval(1.0, 1.0, 0.0, later) };
        Some(Stays::Settled { step: Step { survival, ..last }, stayed: later })
    }
}

/// Survival through more than this many collections, of some of those that were sampled: in order of age, youngest first, with
/// positive and finite weights. The estimate alone, where it is wanted often.
pub(super) fn survival_at(lives: impl DoubleEndedIterator<Item = Lives>, age_cycles: u32) -> f64 {
    let (mut survival, mut age, mut dead, mut unknown, mut left) = (1.0, u32::MAX, 0.0, 0.0, 0.0);
    for life in lives.rev() {
        if life.age_cycles != age {
            // The collection after this age tested those only of which it is known what it found.
            survival *= 1.0 - hazard(dead + left, left);
            left += dead + unknown;
            (age, dead, unknown) = (life.age_cycles, 0.0, 0.0);
        }
        *if life.died && life.age_cycles <= age_cycles { &mut dead } else { &mut unknown } += life.weight;
    }
    survival * (1.0 - hazard(dead + left, left))
}

/// The part of what was tested that is gone.
fn hazard(tested: f64, after: f64) -> f64 {
    if tested > 0.0 { ((tested - after) / tested).clamp(0.0, 1.0) } else { 0.0 }
}

/// Sums at one age.
#[derive(Clone, Copy, Debug, Default)]
struct AtAge {
    age_cycles: u32,
    /// Weight of those that lived longer.
    after: f64,
    /// With those that died here.
    tested: f64,
    tested_effective: f64,
    /// Effective number, also of those of which nothing more is known.
    lived: f64,
}

/// Sums of weights and of their squares.
#[derive(Default)]
pub(super) struct Weights {
    pub(super) sum: f64,
    squares: f64,
}

impl Weights {
    /// All of some.
    pub(super) fn of<'l>(lives: impl Iterator<Item = &'l Lives>) -> Self {
        let mut weights = Self::default();
        lives.for_each(|life| weights.add(life));
        weights
    }

    fn add(&mut self, life: &Lives) {
        self.sum += life.weight;
        self.squares += life.squares;
    }

    /// How many equally weighted objects would be as sure (Kish 1965); 1 of none.
    pub(super) fn effective(&self) -> f64 {
        if self.squares > 0.0 { (self.sum * self.sum / self.squares).max(1.0) } else { 1.0 }
    }
}

/// On the scale of log(-log S), where the interval cannot leave 0 to 1. Where all lived or all died, by the rule of
/// three for that many objects: those that died last were as many as `before`, the survival until then, says.
fn interval(before: f64, survival: f64, greenwood: f64, effective: f64) -> Rate {
    if survival >= 1.0 {
        return Rate { value: 1.0, low: (1.0 - 3.0 / effective).max(0.0), high: Some(1.0) };
    }
    if survival <= 0.0 {
        return Rate { value: 0.0, low: 0.0, high: Some(before * (3.0 / effective).min(1.0)) };
    }
    let log = survival.ln();
    let spread = (Z * greenwood.sqrt() / log.abs()).exp();
    Rate { value: survival, low: survival.powf(spread), high: Some(survival.powf(1.0 / spread)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives(ages: &[(u32, bool)]) -> Vec<Life> {
        ages.iter().map(|&(age_cycles, died)| Life { age_cycles, died, weight: 1.0 }).collect()
    }

    #[test]
    fn the_estimate_is_that_of_kaplan_and_meier() {
        // The example of Kaplan and Meier (1958), section 2: deaths at 0.8, 3.1, 5.4, 9.2; losses at 1.0, 2.7, 7.0, 12.1.
        let sample = lives(&[
            (8, true),
            (10, false),
            (27, false),
            (31, true),
            (54, true),
            (70, false),
            (92, true),
            (121, false),
        ]);
        let survival = Survival::of(&sample);
        let at = |age| survival.0.iter().find(|step| step.age_cycles == age).unwrap().survival.value;
        for (age, expected) in [(8, 7.0 / 8.0), (31, 7.0 / 10.0), (54, 21.0 / 40.0), (92, 21.0 / 80.0)] {
            assert!((at(age) - expected).abs() < 1e-12, "{age}: {}", at(age));
        }
    }

    #[test]
    fn what_was_not_looked_at_again_does_not_count_as_alive() {
        // Ten of which five die at once; ten more that nobody ever looked at.
        let mut sample = lives(&[(0, true); 5]);
        sample.extend(lives(&[(4, false); 5]));
        sample.extend(lives(&[(0, false); 10]));
        sample.sort_by_key(|life| life.age_cycles);
        let estimate = Survival::of(&sample).0[0].survival.value;
        let all = || sample.iter().copied().map(Lives::from);
        assert!((estimate - 0.5).abs() < 1e-12 && (survival_at(all(), 0) - 0.5).abs() < 1e-12, "{estimate}");
        assert!((survival_at(all(), 9) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_plateau_is_the_share_that_stays() {
        let mut sample = lives(&[(1, true); 700]);
        sample.extend(lives(&[(2, true); 100]));
        sample.extend(lives(&[(9, false); 200]));
        sample.extend(lives(&[(5, false); 5]));
        let plateau = Survival::of(&sample).plateau().unwrap();
        assert!((plateau.value - 0.2).abs() < 0.01, "{plateau:?}");
        assert!(plateau.low > 0.17 && plateau.high.unwrap() < 0.24, "{plateau:?}");
        assert_eq!(Survival::of(&lives(&[(1, false); 700])).plateau(), None, "one age says nothing of later ones");
        let none = Survival::of(&lives(&[(1, true); 700])).plateau().unwrap();
        assert!(none.value.abs() < 1e-12 && none.high.unwrap() < 0.01, "of what is gone nothing stays: {none:?}");
    }

    #[test]
    fn what_lives_through_five_collections_is_no_plateau_at_four() {
        let kept = |ages: u32| -> Vec<Life> {
            // As births of each cycle until now are known: the youngest are not yet old enough.
            let life = |age: u32| Life { age_cycles: age.min(5), died: age > 5, weight: 1.0 };
            (0..=ages).flat_map(|age| [life(age); 50]).collect()
        };
        for ages in 0..=5 {
            assert_eq!(Survival::of(&kept(ages)).plateau(), None, "{ages}");
        }
        let known = Survival::of(&kept(20)).plateau();
        assert!(known.is_some_and(|rate| rate.value.abs() < 1e-12), "{known:?}");
        assert_eq!(Survival::of(&[]).plateau(), None);
    }

    #[test]
    fn weights_count_and_hostile_ones_do_not() {
        let weighted = |age_cycles, died, weight| Life { age_cycles, died, weight };
        let sample =
            [weighted(1, true, 3.0), weighted(2, false, 1.0), weighted(1, true, f64::NAN), weighted(1, true, -1.0)];
        assert!((Survival::of(&sample).0[0].survival.value - 0.25).abs() < 1e-12);
    }
}
