//! What is alive, by line: estimates from the samples of the runtime's own heap profile.
//!
//! Each sample stands for the inverse of its probability. The interval is that of a weighted sum of Poisson counts, which
//! holds for few samples, too; of objects so large that nearly each is sampled, nearly nothing is uncertain.
//!
//! Reference: M. P. Fay, E. J. Feuer, Confidence intervals for directly standardized rates: a method based on the gamma
//! distribution, Statistics in Medicine 16 (1997). Source of the sampling: see `profile.rs`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use statrs::distribution::{ChiSquared, ContinuousCDF as _};

use super::hints::{self, Hint, Program};
use super::profile::{in_use, unsample};
use super::site::{Placed, place_allocation};
use super::{Counted, Rate, SiteId, Stack};
use crate::read::profile::Counts;
use crate::symbolize::Frame;
use crate::units::approximate;

/// Each end of the 95 % interval.
const TAIL: f64 = 0.025;

/// The profile with names.
#[derive(Clone, Debug)]
pub struct LiveInput<'a> {
    /// Mean bytes between two samples; 1 and below: every object is sampled.
    pub rate_bytes: i64,
    /// What is known of the program.
    pub program: Program<'a>,
    /// For each stack and size: frames leaf first with those of the runtime, and the counts of samples.
    pub stacks: Vec<(Stack, Counts)>,
}

/// An allocation place with what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveSite {
    /// Stable identity.
    pub id: SiteId,
    /// The line a person would change.
    pub place: Frame,
    /// The frame below the runtime, which allocates.
    pub allocator: Frame,
    /// Objects in use, estimated.
    pub objects: u64,
    /// Their bytes, with the 95 % interval.
    pub bytes: Rate,
    /// How many sampled objects that stands on.
    pub samples: u64,
    /// What the stack with most bytes looks like.
    pub hint: Option<Hint>,
    /// Whether that stack goes through a pool: then the line that allocates need not be the one that keeps.
    pub is_behind_pool: bool,
    /// Most bytes first.
    pub paths: Vec<LivePath>,
}

/// One stack that leads to a site.
#[derive(Clone, Debug, PartialEq)]
pub struct LivePath {
    /// This path's part of the site's bytes, 0 to 1.
    pub share: f64,
    /// Leaf first, runtime frames trimmed.
    pub frames: Vec<Frame>,
}

/// A weighted sum of samples.
#[derive(Clone, Copy, Debug, Default)]
struct Estimate {
    samples: u64,
    objects: u64,
    bytes: u64,
    /// Of the bytes.
    variance: f64,
    /// Bytes that the heaviest sample stands for, beyond its own.
    heaviest: f64,
}

impl Estimate {
    fn of(counts: Counts, rate_bytes: i64) -> Self {
        let sampled = in_use(counts);
        let Counted { objects, bytes } = unsample(sampled, rate_bytes);
        if sampled.objects == 0 {
            return Self::default();
        }
        let weight = approximate(bytes) / approximate(sampled.objects);
        let probability = (approximate(sampled.bytes) / approximate(bytes.max(1))).min(1.0);
        Self {
            samples: sampled.objects,
            objects,
            bytes,
            variance: approximate(sampled.objects) * weight * weight * (1.0 - probability),
            heaviest: weight * (1.0 - probability),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            samples: self.samples.saturating_add(other.samples),
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
            variance: self.variance + other.variance,
            heaviest: self.heaviest.max(other.heaviest),
        }
    }

    fn interval(&self) -> Rate {
        let value = approximate(self.bytes);
        if self.variance <= 0.0 || value <= 0.0 {
            return Rate::counted(value);
        }
        let bound = |sum: f64, variance: f64, at: f64| {
            let degrees = 2.0 * sum * sum / variance;
            ChiSquared::new(degrees).ok().map(|chi| variance / (2.0 * sum) * chi.inverse_cdf(at))
        };
        let upper = (value + self.heaviest, self.variance + self.heaviest * self.heaviest);
        Rate {
            value,
            low: bound(value, self.variance, TAIL).unwrap_or_default(),
            high: bound(upper.0, upper.1, 1.0 - TAIL),
        }
    }
}

#[derive(Debug)]
struct Parts {
    place: Frame,
    allocator: Frame,
    sum: Estimate,
    /// With bytes, and one of the stacks with all of its frames.
    paths: HashMap<Vec<Frame>, (u64, Stack)>,
}

/// The sites that hold anything, most bytes first. What has no frame at all is left out.
pub fn live_sites(input: &LiveInput<'_>) -> Vec<LiveSite> {
    let mut parts: BTreeMap<SiteId, Parts> = BTreeMap::new();
    for (stack, counts) in &input.stacks {
        let estimate = Estimate::of(*counts, input.rate_bytes);
        if estimate.samples == 0 {
            continue;
        }
        let Some(Placed { id, place, allocator, frames }) = place_allocation(stack, input.program.main_module) else {
            continue;
        };
        let site = parts.entry(id).or_insert_with(|| Parts {
            place,
            allocator,
            sum: Estimate::default(),
            paths: HashMap::new(),
        });
        site.sum = site.sum.plus(estimate);
        let (bytes, _) = site.paths.entry(frames).or_insert_with(|| (0, Arc::clone(stack)));
        *bytes = bytes.saturating_add(estimate.bytes);
    }
    let mut sites: Vec<LiveSite> = parts.into_iter().map(|(id, parts)| finish(id, parts, input.program)).collect();
    sites.sort_by(|one, other| other.bytes.value.total_cmp(&one.bytes.value).then_with(|| one.id.cmp(&other.id)));
    sites
}

fn finish(id: SiteId, parts: Parts, program: Program<'_>) -> LiveSite {
    let Parts { place, allocator, sum, paths } = parts;
    let mut paths: Vec<(Vec<Frame>, (u64, Stack))> = paths.into_iter().collect();
    paths.sort_by(|(frames, (bytes, _)), (other_frames, (other_bytes, _))| {
        other_bytes.cmp(bytes).then_with(|| frames.cmp(other_frames))
    });
    let first = paths.first().map(|(_, (_, stack))| Arc::clone(stack)).unwrap_or_default();
    let total = approximate(sum.bytes.max(1));
    LiveSite {
        id,
        place,
        allocator,
        objects: sum.objects,
        bytes: sum.interval(),
        samples: sum.samples,
        hint: hints::of_allocation(&first, program),
        is_behind_pool: hints::is_behind_pool(&first, program),
        paths: paths
            .into_iter()
            .map(|(frames, (bytes, _))| LivePath { share: approximate(bytes) / total, frames })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::Origin;

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            function: function.into(),
            file: "/f.go".into(),
            line,
            function_start_line: 1,
            inlined: false,
            origin: Origin::Go,
        }
    }

    fn in_use_counts(samples: u64, size: u64) -> Counts {
        Counts { allocs: samples + 5, frees: 5, alloc_bytes: (samples + 5) * size, free_bytes: 5 * size }
    }

    #[test]
    fn sizes_and_stacks_of_one_line_are_one_site() {
        let stack = |caller: &str| -> Stack {
            vec![frame("runtime.mallocgc", 1), frame("main.put", 7), frame(caller, 9)].into()
        };
        let input = LiveInput {
            rate_bytes: 524_288,
            program: Program::default(),
            stacks: vec![
                (stack("main.a"), in_use_counts(30, 48)),
                (stack("main.a"), in_use_counts(10, 1 << 20)),
                (stack("main.b"), in_use_counts(20, 48)),
                (stack("main.c"), in_use_counts(0, 48)),
            ],
        };
        let sites = live_sites(&input);
        assert_eq!(sites.len(), 1);
        let site = &sites[0];
        assert_eq!((&*site.place.function, site.samples), ("main.put", 60));
        // 50 samples of 48 bytes stand for half a mebibyte each, 10 of a mebibyte for little more than themselves.
        let expected = 50.0 * 524_312.0 + 10.0 * 1_212_687.0;
        assert!((site.bytes.value / expected - 1.0).abs() < 1e-3, "{:?} {expected}", site.bytes);
        assert!(site.bytes.low < expected && site.bytes.high.unwrap() > expected);
        let shares: Vec<_> = site.paths.iter().map(|path| (&*path.frames[1].function, path.share)).collect();
        assert_eq!(shares.iter().map(|(function, _)| *function).collect::<Vec<_>>(), ["main.a", "main.b"]);
        assert!((shares.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn one_sample_is_a_wide_guess_and_a_full_count_is_none() {
        let one = Estimate::of(in_use_counts(1, 48), 524_288).interval();
        assert!(one.low < 0.1 * one.value && one.high.unwrap() > 4.0 * one.value, "{one:?}");
        assert_eq!(Estimate::of(in_use_counts(7, 48), 1).interval(), Rate::counted(336.0));
        assert_eq!(Estimate::of(Counts::default(), 524_288).interval(), Rate::counted(0.0));
    }

    #[test]
    fn the_interval_covers_the_truth_at_its_rate() {
        // Every count of samples that a Poisson law with this mean gives, weighted with its probability.
        for mean in [2.0_f64, 8.0, 40.0] {
            let truth = mean * 524_312.0;
            let mut probability = (-mean).exp();
            let mut covered = 0.0;
            for samples in 0..200_u64 {
                let interval = Estimate::of(in_use_counts(samples, 48), 524_288).interval();
                let is_covered = samples > 0 && interval.low <= truth && interval.high.unwrap() >= truth;
                covered += if is_covered { probability } else { 0.0 };
                probability *= mean / approximate(samples + 1);
            }
            let unseen = (-mean).exp();
            assert!(covered >= 0.95 - unseen, "{mean}: {covered}");
        }
    }
}
