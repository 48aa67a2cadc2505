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
const AT_RISK_MIN: f64 = 10.0;
/// A plateau is flat where survival falls by less than this share over [`FLAT_AGES`] ages.
const FLAT: f64 = 0.05;
const FLAT_AGES: usize = 3;
/// Weights below this are what rounding leaves; those of objects are one or more.
const ROUNDING: f64 = 1e-9;

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
        let mut lives: Vec<Life> =
            lives.iter().copied().filter(|life| life.weight.is_finite() && life.weight > 0.0).collect();
        lives.sort_unstable_by_key(|life| life.age_cycles);
        let mut at_risk = Weights::default();
        for life in &lives {
            at_risk.add(life, 1.0);
        }
        let (mut survival, mut greenwood) = (1.0, 0.0);
        let mut steps = Vec::new();
        for group in lives.chunk_by(|one, next| one.age_cycles == next.age_cycles) {
            let lived = at_risk.effective();
            // The collection after this age tested those only of which it is known what it found.
            for life in group.iter().filter(|life| !life.died) {
                at_risk.add(life, -1.0);
            }
            let effective = at_risk.effective();
            let before = at_risk.sum;
            for life in group.iter().filter(|life| life.died) {
                at_risk.add(life, -1.0);
            }
            let hazard = hazard(before, at_risk.sum);
            survival *= 1.0 - hazard;
            // d / (r (r - d)) in effective objects.
            greenwood += if hazard < 1.0 { hazard / (effective * (1.0 - hazard)) } else { 0.0 };
            let age_cycles = group.first().map_or(0, |life| life.age_cycles);
            steps.push(Step { age_cycles, survival: interval(survival, greenwood, lived), at_risk: lived });
        }
        Self(steps)
    }

    /// The share that stays: survival at the largest age with enough objects at risk where it has become flat.
    /// `None`: not known yet.
    pub fn plateau(&self) -> Option<Rate> {
        Some(self.plateau_step()?.survival)
    }

    /// The step at which [`Self::plateau`] is read.
    pub(super) fn plateau_step(&self) -> Option<&Step> {
        let known: Vec<&Step> = self.0.iter().take_while(|step| step.at_risk >= AT_RISK_MIN).collect();
        let last = known.last()?;
        let is_earlier = |age: u32| usize::try_from(last.age_cycles - age).is_ok_and(|ages| ages >= FLAT_AGES);
        // Before the first age all are alive.
        let earlier = known.iter().rev().find(|step| is_earlier(step.age_cycles)).map(|step| step.survival.value);
        let earlier = earlier.or_else(|| is_earlier(0).then_some(1.0))?;
        let fall = earlier - last.survival.value;
        (fall <= FLAT * earlier.max(f64::MIN_POSITIVE)).then_some(last)
    }
}

/// Survival through more than this many collections, of some of those that were sampled: in order of age, youngest first, with
/// positive and finite weights. The estimate alone, where it is wanted often.
pub(super) fn survival_at<'a>(lives: impl Iterator<Item = &'a Life> + Clone, age_cycles: u32) -> f64 {
    let mut at_risk: f64 = lives.clone().map(|life| life.weight).sum();
    let (mut survival, mut age, mut unknown, mut dead) = (1.0, 0, 0.0, 0.0);
    for life in lives.take_while(|life| life.age_cycles <= age_cycles) {
        if life.age_cycles != age {
            survival *= 1.0 - hazard(at_risk - unknown, at_risk - unknown - dead);
            at_risk -= unknown + dead;
            (age, unknown, dead) = (life.age_cycles, 0.0, 0.0);
        }
        *if life.died { &mut dead } else { &mut unknown } += life.weight;
    }
    survival * (1.0 - hazard(at_risk - unknown, at_risk - unknown - dead))
}

/// The part of what was tested that is gone.
fn hazard(before: f64, after: f64) -> f64 {
    // What rounding leaves of nothing is nothing.
    if before > ROUNDING { ((before - after) / before).clamp(0.0, 1.0) } else { 0.0 }
}

/// Sums of weights and of their squares.
#[derive(Default)]
struct Weights {
    sum: f64,
    squares: f64,
}

impl Weights {
    fn add(&mut self, life: &Life, sign: f64) {
        self.sum += sign * life.weight;
        self.squares += sign * life.weight * life.weight;
    }

    /// How many equally weighted objects would be as sure (Kish 1965).
    fn effective(&self) -> f64 {
        if self.squares > 0.0 { (self.sum * self.sum / self.squares).max(1.0) } else { 1.0 }
    }
}

/// On the scale of log(-log S), where the interval cannot leave 0 to 1. Where all lived or all died, by the rule of
/// three for that many objects.
fn interval(survival: f64, greenwood: f64, effective: f64) -> Rate {
    if survival >= 1.0 {
        return Rate { value: 1.0, low: (1.0 - 3.0 / effective).max(0.0), high: Some(1.0) };
    }
    if survival <= 0.0 {
        return Rate { value: 0.0, low: 0.0, high: Some((3.0 / effective).min(1.0)) };
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
        assert!((estimate - 0.5).abs() < 1e-12 && (survival_at(sample.iter(), 0) - 0.5).abs() < 1e-12, "{estimate}");
        assert!((survival_at(sample.iter(), 9) - 0.5).abs() < 1e-12);
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
        assert_eq!(Survival::of(&lives(&[(1, true); 700])).plateau(), None, "one age says nothing of later ones");
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
