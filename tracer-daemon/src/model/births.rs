//! What is alive of what was born: growth of a site from births that were sampled and looks at them.
//!
//! Growth of a site is its rate of births times the part of them that stays (the plateau of `survival`). What bursts see is
//! slowed by being seen, most of all what is fastest, so that it says nothing of how much there is; it is only shared out:
//!
//! 1. How much each size class allocates is exact (the books).
//! 2. How much of that each group of goroutines has is known from bursts that hook refills alone, which slow nobody much. Where there
//!    are none, or few, or nobody allocates so fast that hits slow him, births say it.
//! 3. Which sites a group allocates at is known from births: within one goroutine all are slowed alike.
//!
//! `docs/decisions/0015-shares-between-goroutines.md` says why these and no others. What one burst catches belongs together: so errors
//! are those between clusters of bursts (a jackknife that leaves out each in turn), never those between hits, but no less than so many
//! objects could tell at best.
//!
//! An object that is born while the collector marks is black: the collection that runs keeps it unseen, and its first age says
//! nothing. Its age counts from the next (`tracked`).
//!
//! References: M. H. Quenouille, Notes on bias in estimation, Biometrika 43 (1956), and J. W. Tukey (1958) for the jackknife;
//! K. M. Wolter, Introduction to Variance Estimation, chapter 4, for groups of it; W. G. Cochran, Sampling Techniques, 5A, for
//! weighting strata by their known totals. Source of black births: runtime/malloc.go (mallocgc, gcmarknewobject), go1.26.

use std::collections::BTreeMap;

use super::attribution::Estimate;
use super::birth_look::CLUSTERS;
use super::slope::{Z, student};
use super::survival::{Lives, Stays, Survival, Weights, survival_at};
use super::{Rate, SiteId};
use crate::units::approximate;

/// Fewer clusters with bursts than this say nothing of how much they differ.
const CLUSTERS_MIN: usize = 3;
/// Refills that a group's births count for beside its own, at least: so groups of which few were seen are not judged by chance.
const REFILLS_PRIOR: f64 = 2.0;
/// What a hit takes of its goroutine's time, at most, seconds: the trap and a birth that is recorded.
const HIT_S: f64 = 3e-6;
/// The largest size that has a class (runtime/sizeclasses.go).
const SMALL_MAX_BYTES: u64 = 32 << 10;
/// The slot that tiny objects share (`maxTinySize`, runtime/malloc.go).
const TINY_SLOT_BYTES: u64 = 16;
/// A page of the runtime's heap.
const PAGE_BYTES: u64 = 8192;
/// Slots that a processor looks at before it asks for more, at most (`mspan.allocCache`, runtime/mheap.go).
const SLOTS_MAX: f64 = 64.0;
/// Rounds after which slots and refills agree well enough.
const ROUNDS: u32 = 3;
/// Of the time, as much at least is not lost by refills: more is chance.
const LEFT_MIN: f64 = 0.1;
/// Variance of a number that may be anything between 0 and 1.
const UNIFORM: f64 = 1.0 / 12.0;
/// Added to counts of which a share is made, half of it to each side (Agresti and Coull 1998; see `attribution`).
const FEW: f64 = 4.0;

/// Births that are alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BirthCell {
    /// Who allocated them; `None`: their stacks had no room, or no frame.
    pub site: Option<SiteId>,
    /// The number of the stack.
    pub path: u32,
    /// Bytes of the slot.
    pub size_bytes: u64,
    /// The group of goroutines.
    pub group: u32,
    /// Which part of the bursts caught them; below [`CLUSTERS`].
    pub cluster: u8,
    /// How many were caught.
    pub number: u64,
    /// How they lived: the age counts collections that tested them.
    pub lives: Lives,
}

/// Refills of a group of goroutines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefillCell {
    /// Bytes of the slots.
    pub size_bytes: u64,
    /// The group.
    pub group: u32,
    /// Which part of the bursts of refills counted them; below [`CLUSTERS`].
    pub cluster: u8,
    /// How many were counted.
    pub number: u64,
    /// How many they stand for, in the same time as births.
    pub weight: f64,
}

/// What a size class allocates, exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassRate {
    /// Bytes of a slot; `None`: large objects.
    pub size_bytes: Option<u64>,
    /// Bytes per second.
    pub bytes_per_s: f64,
}

/// All births that are known at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BirthReading {
    /// The time that the bursts stand for, seconds.
    pub window_s: f64,
    /// Bursts of births by cluster, those that caught nothing included.
    pub bursts: [u32; CLUSTERS],
    /// The same of parts of the time in which all large objects were caught.
    pub large_bursts: [u32; CLUSTERS],
    /// What was caught, in any order.
    pub cells: Vec<BirthCell>,
    /// What bursts of refills counted, in any order.
    pub refills: Vec<RefillCell>,
    /// What a hit in a burst of refills costs, as a part of what one in a burst of births costs. 0: refills are taken to slow nobody.
    pub refill_trap: f64,
    /// What is known of the classes. Of others the bursts say how much they allocate, too low.
    pub classes: Vec<ClassRate>,
}

impl BirthReading {
    /// How often objects are caught.
    pub fn caught(&self) -> Caught {
        // Caught of each class, and the bytes that these stand for.
        let mut classes: BTreeMap<Option<u64>, (f64, f64)> = BTreeMap::new();
        for cell in self.cells.iter().filter(|cell| is_sane(cell)) {
            let (caught, bytes) = classes.entry(class_of(cell.size_bytes)).or_default();
            *caught += approximate(cell.number);
            *bytes += bytes_of(cell);
        }
        let known: BTreeMap<Option<u64>, f64> =
            self.classes.iter().map(|class| (class.size_bytes, class.bytes_per_s * self.window_s)).collect();
        let per_byte = |is_large: bool| {
            let of_kind = classes.iter().filter(|(size, _)| size.is_none() == is_large);
            let (caught, bytes) = of_kind.fold((0.0, 0.0), |all, (_, class)| (all.0 + class.0, all.1 + class.1));
            let all: f64 = known.iter().filter(|(size, _)| size.is_none() == is_large).map(|(_, bytes)| bytes).sum();
            let bytes = if all > 0.0 { all } else { bytes };
            if bytes > 0.0 { caught / bytes } else { 0.0 }
        };
        let (small_per_byte, large_per_byte) = (per_byte(false), per_byte(true));
        // Few that were caught of a class say little of how often that is: one more is as usual.
        let classes = classes.iter().filter_map(|(size, (caught, bytes))| {
            let bytes = known.get(size).filter(|bytes| **bytes > 0.0).unwrap_or(bytes);
            Some(((*size)?, (caught + 1.0) / (bytes + 1.0 / small_per_byte)))
        });
        Caught { classes: classes.collect(), small_per_byte, large_per_byte }
    }

    /// Bursts by cluster in which objects of a class were caught.
    fn bursts(&self, size_bytes: Option<u64>) -> [u32; CLUSTERS] {
        let mut bursts = self.bursts;
        if size_bytes.is_none() {
            for (bursts, more) in bursts.iter_mut().zip(self.large_bursts) {
                *bursts = bursts.saturating_add(more);
            }
        }
        bursts
    }

    /// Clusters that have such bursts.
    fn clusters(&self, size_bytes: Option<u64>) -> Vec<u8> {
        let bursts = (0_u8..).zip(self.bursts(size_bytes));
        bursts.filter(|(_, bursts)| *bursts > 0).map(|(cluster, _)| cluster).collect()
    }
}

/// Births that were caught for each byte that was allocated: what leaks is caught so often. Large objects may have a hook that stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Caught {
    /// Of objects that have a size class.
    pub small_per_byte: f64,
    /// Of larger ones.
    pub large_per_byte: f64,
    /// Of size classes of which any were, ascending by their bytes: some are preferred.
    pub classes: Vec<(u64, f64)>,
}

impl Caught {
    /// For each byte of a class; `None`: large objects.
    pub fn per_byte(&self, size_bytes: Option<u64>) -> f64 {
        let Some(size) = size_bytes else { return self.large_per_byte };
        let known = self.classes.binary_search_by_key(&size, |(size, _)| *size);
        known.ok().and_then(|index| self.classes.get(index)).map_or(self.small_per_byte, |(_, per_byte)| *per_byte)
    }
}

/// What births say of one site in one size class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SiteBirths {
    /// The site; `None`: those that cannot be told apart.
    pub site: Option<SiteId>,
    /// Bytes of a slot; `None`: large objects.
    pub size_bytes: Option<u64>,
    /// Bytes per second that it allocates, and the variance of that. `None`: bursts are too few.
    pub allocates: Option<Estimate>,
    /// Mean bytes of its objects. `None`: some may be tiny, of which several share a slot.
    pub object_bytes: Option<f64>,
    /// Growth in bytes per second and its variance. `None`: nothing is known of what stays.
    pub growth: Option<Estimate>,
    /// How it would be without each cluster of bursts: from this follows how sure sums over sites are, whose parts of a class are at each
    /// other's expense.
    pub without: Option<Without>,
    /// The part that stays, with its interval. `None`: nothing is known of it; with the lower bound 0 where more may die.
    pub survival: Option<Rate>,
    /// Whether it is known what stays: else growth may be anything between none and twice of what is said.
    pub is_settled: bool,
    /// Objects that were caught.
    pub caught: u64,
    /// Effective number of those that stay, as far as is known.
    pub stayed: f64,
    /// What of its births was not seen to die though a collection tested it, in bytes per second of the time since the first. What the
    /// site has grown by is no more than this, however long its objects live, and whether or not they live longer and longer.
    pub held: Estimate,
    /// Effective number of these.
    pub held_number: f64,
}

/// An estimate by what is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Without {
    /// Without each cluster that had bursts, as many as there are; the rest is 0.
    pub values: [f64; CLUSTERS],
    /// How many there are: the same for all sites of a class.
    pub count: usize,
    /// Variance that has nothing to do with that of other sites: what looks have not shown yet.
    pub own_variance: f64,
}

impl Without {
    /// The variance of the estimate over clusters, by the jackknife. Inflated to what the quantile of a normal distribution asks for with
    /// so few of them.
    pub fn variance(&self) -> f64 {
        let values = self.values.get(..self.count).unwrap_or(&self.values);
        let count = approximate(u64::try_from(values.len()).unwrap_or(u64::MAX));
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let widening = student(values.len().saturating_sub(1)) / Z;
        squares * (count - 1.0) / count * widening * widening
    }
}

/// One path's part of a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PathBirths {
    /// The number of the stack.
    pub path: u32,
    /// Whose it is.
    pub site: Option<SiteId>,
    /// Bytes per second that it allocates.
    pub allocates_bytes_per_s: f64,
    /// Bytes per second of that which stay, as far as is known.
    pub grows_bytes_per_s: f64,
}

/// What all births say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BirthEstimates {
    /// By class and site.
    pub sites: Vec<SiteBirths>,
    /// By path.
    pub paths: Vec<PathBirths>,
}

/// What each site allocates, and by what it grows. Cells whose weight is not positive and finite are left out.
pub fn estimate(reading: &BirthReading) -> BirthEstimates {
    let mut classes: BTreeMap<Option<u64>, Vec<BirthCell>> = BTreeMap::new();
    for cell in reading.cells.iter().filter(|cell| is_sane(cell)) {
        classes.entry(class_of(cell.size_bytes)).or_default().push(*cell);
    }
    let (clusters, of_large) = (reading.clusters(Some(0)), reading.clusters(None));
    let (slowed, not_slowed) = (Slowed::all(reading, &clusters), Slowed::none(&of_large));
    let mut estimates = BirthEstimates::default();
    let mut paths: BTreeMap<(Option<SiteId>, u32), PathBirths> = BTreeMap::new();
    for (size_bytes, mut cells) in classes {
        cells.sort_unstable_by_key(|cell| (cell.site, cell.lives.age_cycles, cell.path, cell.cluster, cell.group));
        let (clusters, slowed) = if size_bytes.is_some() { (&clusters, &slowed) } else { (&of_large, &not_slowed) };
        let class = Class::new(reading, size_bytes, &cells, clusters, slowed);
        for cells in cells.chunk_by(|one, next| one.site == next.site) {
            estimates.sites.push(class.site(cells));
            class.add_paths(cells, &mut paths);
        }
    }
    estimates.paths = paths.into_values().collect();
    estimates
}

fn class_of(size_bytes: u64) -> Option<u64> {
    (size_bytes <= SMALL_MAX_BYTES).then_some(size_bytes)
}

fn is_sane(cell: &BirthCell) -> bool {
    let is_positive = |value: f64| value.is_finite() && value > 0.0;
    is_positive(cell.lives.weight) && is_positive(cell.lives.squares) && usize::from(cell.cluster) < CLUSTERS
}

/// What is left out of a jackknife: nothing, or one cluster.
type LeftOut = Option<u8>;

/// How much faster each group would be if its refills were not hooked.
///
/// The time between two allocations grows with what traps cost, whoever sets the pace: so its inverse, the rate, is known without any
/// trap from two kinds of bursts that cost differently. With `x` for the cost in the one kind over that in the other, by allocation,
/// and rates `r` (refills) and `b` (births): `1 / r0 = (1 / r - x / b) / (1 - x)`. The slots that a refill brings cancel out of
/// `r x / b`.
struct Slowed {
    left_out: LeftOut,
    factors: BTreeMap<u32, f64>,
    /// The part of its time that a group spends in hits, in bursts of births.
    trapped: BTreeMap<u32, f64>,
}

impl Slowed {
    /// Slots by class are those that the books and refills agree on, or as many as there can be where these say nothing.
    fn new(reading: &BirthReading, slots: &BTreeMap<Option<u64>, f64>, left_out: LeftOut) -> Self {
        // Of each group births, the refills that these should have taken, and refills.
        let mut groups: BTreeMap<u32, (f64, f64, f64)> = BTreeMap::new();
        let is_kept = |cluster: u8| left_out != Some(cluster);
        for cell in reading.cells.iter().filter(|cell| is_kept(cell.cluster) && is_sane(cell)) {
            let slots = slots.get(&class_of(cell.size_bytes)).copied();
            let (births, due, _) = groups.entry(cell.group).or_default();
            *births += cell.lives.weight;
            *due += cell.lives.weight / slots.unwrap_or_else(|| slots_of_refill(cell.size_bytes));
        }
        for refill in reading.refills.iter().filter(|refill| is_kept(refill.cluster)) {
            groups.entry(refill.group).or_default().2 += refill.weight;
        }
        let factor = |(births, due, refills): (f64, f64, f64)| {
            let (cost, lost) = (reading.refill_trap * due / births, reading.refill_trap * refills / births);
            let factor = (1.0 - cost) / (1.0 - lost).max(LEFT_MIN);
            if factor.is_finite() { factor.max(1.0) } else { 1.0 }
        };
        let trapped = groups.iter().map(|(group, (births, ..))| (*group, births / reading.window_s * HIT_S)).collect();
        Self { left_out, factors: groups.into_iter().map(|(group, sums)| (group, factor(sums))).collect(), trapped }
    }

    /// Nobody is slowed by what is rare.
    fn none(clusters: &[u8]) -> Vec<Self> {
        let left_out = std::iter::once(None).chain(clusters.iter().copied().map(Some));
        left_out.map(|left_out| Self { left_out, factors: BTreeMap::new(), trapped: BTreeMap::new() }).collect()
    }

    /// With nothing left out, and with each of the clusters.
    fn all(reading: &BirthReading, clusters: &[u8]) -> Vec<Self> {
        let mut slots = BTreeMap::new();
        // What refills are slowed by follows from the slots that each brings, and these from how many refills there would be.
        for _ in 0..ROUNDS {
            slots = Self::new(reading, &slots, None).slots(reading);
        }
        let left_out = std::iter::once(None).chain(clusters.iter().copied().map(Some));
        left_out.map(|left_out| Self::new(reading, &slots, left_out)).collect()
    }

    /// How many slots a refill brought in each class of which it is known how much it allocates.
    fn slots(&self, reading: &BirthReading) -> BTreeMap<Option<u64>, f64> {
        let mut refills: BTreeMap<Option<u64>, f64> = BTreeMap::new();
        for refill in &reading.refills {
            *refills.entry(class_of(refill.size_bytes)).or_default() += refill.weight * self.factor(refill.group);
        }
        let slots = reading.classes.iter().filter_map(|class| {
            let allocated = class.bytes_per_s * reading.window_s / approximate(class.size_bytes?);
            let slots = allocated / refills.get(&class.size_bytes)?;
            slots.is_finite().then(|| (class.size_bytes, slots.clamp(1.0, SLOTS_MAX)))
        });
        slots.collect()
    }

    /// As many refills as know the shares of these groups no better than their births do. Births err by what their goroutines were slowed, a part s/(1 − s) at
    /// most where s of the time is spent in hits; n refills by a part 1/√n, and more of groups that have few of them.
    fn refills_of_births<'g>(&self, groups: impl Iterator<Item = &'g u32>) -> f64 {
        let trapped = groups.filter_map(|group| self.trapped.get(group)).copied().fold(0.0, f64::max);
        let slowed = trapped / (1.0 - trapped).max(LEFT_MIN);
        (slowed * slowed).recip().clamp(REFILLS_PRIOR, 1e9)
    }

    fn factor(&self, group: u32) -> f64 {
        self.factors.get(&group).copied().unwrap_or(1.0)
    }
}

/// Slots that a refill can bring: most spans have one page.
fn slots_of_refill(size_bytes: u64) -> f64 {
    (approximate(PAGE_BYTES) / approximate(size_bytes.max(1))).clamp(1.0, SLOTS_MAX)
}

/// One size class: what each byte that was caught stands for.
struct Class<'a> {
    reading: &'a BirthReading,
    size_bytes: Option<u64>,
    /// By what is left out: nothing first, then each cluster. Bytes per second that a caught byte of each group stands for.
    factors: Vec<BTreeMap<u32, f64>>,
    /// Clusters that had bursts.
    clusters: &'a [u8],
    rate_bytes_per_s: Option<f64>,
    caught: u64,
}

impl<'a> Class<'a> {
    fn new(
        reading: &'a BirthReading,
        size_bytes: Option<u64>,
        cells: &[BirthCell],
        clusters: &'a [u8],
        slowed: &[Slowed],
    ) -> Self {
        let rate = reading.classes.iter().find(|class| class.size_bytes == size_bytes).map(|class| class.bytes_per_s);
        let rate_bytes_per_s = rate.filter(|rate| rate.is_finite() && *rate >= 0.0);
        let refills: Vec<RefillCell> = reading
            .refills
            .iter()
            .filter(|cell| class_of(cell.size_bytes) == size_bytes && cell.weight.is_finite() && cell.weight > 0.0)
            .copied()
            .collect();
        let caught = cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.number));
        let mut class = Self { reading, size_bytes, factors: Vec::new(), clusters, rate_bytes_per_s, caught };
        class.factors = slowed.iter().map(|slowed| class.factors(cells, &refills, slowed)).collect();
        class
    }

    /// What a caught byte of each group stands for, bytes per second.
    fn factors(&self, cells: &[BirthCell], refills: &[RefillCell], slowed: &Slowed) -> BTreeMap<u32, f64> {
        let left_out = slowed.left_out;
        let is_kept = |cluster: u8| left_out != Some(cluster);
        let mut groups: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for cell in cells.iter().filter(|cell| is_kept(cell.cluster)) {
            groups.entry(cell.group).or_default().0 += bytes_of(cell);
        }
        let (mut number, mut weight) = (0.0, 0.0);
        for refill in refills.iter().filter(|refill| is_kept(refill.cluster)) {
            // Of a group that no birth was caught of it is known how much it has, and of no site that it is its.
            let unslowed = refill.weight * slowed.factor(refill.group);
            weight += unslowed;
            number += approximate(refill.number);
            if let Some((_, own)) = groups.get_mut(&refill.group) {
                *own += unslowed;
            }
        }
        let bytes: f64 = groups.values().map(|(bytes, _)| bytes).sum();
        let of_clusters = self.reading.bursts(self.size_bytes);
        let bursts: f64 = of_clusters.iter().copied().map(f64::from).sum();
        let left_bursts = left_out.and_then(|cluster| of_clusters.get(usize::from(cluster))).copied();
        let kept = 1.0 - f64::from(left_bursts.unwrap_or_default()) / bursts.max(1.0);
        let per_byte = match self.rate_bytes_per_s {
            Some(rate) => rate / bytes,
            None => 1.0 / (self.reading.window_s * kept),
        };
        let per_refill = if weight > 0.0 { number / weight } else { 0.0 };
        let prior = slowed.refills_of_births(groups.keys());
        let factors = groups.into_iter().map(|(group, (own_bytes, own_weight))| {
            let share = own_bytes / bytes;
            let refilled = (own_weight * per_refill + prior * share) / (number + prior);
            (group, per_byte * refilled / share)
        });
        factors.filter(|(_, factor)| factor.is_finite()).collect()
    }

    /// What the cells stand for by what is left out, weights in bytes per second.
    fn lives<'b>(&'b self, cells: &'b [BirthCell], left_out: LeftOut) -> impl DoubleEndedIterator<Item = Lives> + 'b {
        let index = match left_out {
            None => Some(0),
            Some(cluster) => self.clusters.iter().position(|known| *known == cluster).map(|place| place + 1),
        };
        let factors = index.and_then(|index| self.factors.get(index));
        cells.iter().filter(move |cell| left_out != Some(cell.cluster)).filter_map(move |cell| {
            let factor = factors?.get(&cell.group)? * approximate(cell.size_bytes);
            let Lives { weight, squares, .. } = cell.lives;
            Some(Lives { weight: weight * factor, squares: squares * factor * factor, ..cell.lives })
        })
    }

    fn site(&self, cells: &[BirthCell]) -> SiteBirths {
        let all: Vec<Lives> = self.lives(cells, None).collect();
        let allocates: f64 = all.iter().map(|lives| lives.weight).sum();
        let tested = Weights::of(all.iter().filter(|lives| lives.died || lives.age_cycles > 0));
        let alive = Weights::of(all.iter().filter(|lives| !lives.died && lives.age_cycles > 0));
        let survival = Survival::of_all(all);
        let stays = survival.stays();
        let caught = cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.number));
        let sampling = self.sampling_variance(allocates, caught);
        let born = |left_out| self.lives(cells, left_out).map(|lives| lives.weight).sum::<f64>();
        let allocation = self
            .without(born)
            .map(|without| Estimate { growth: allocates, variance: without.variance().max(sampling) });
        // Growth, and how it would be without each cluster.
        let grows = stays.and_then(|stays| {
            let (age_cycles, part, unknown) = match stays {
                // What no look has seen stay or die yet is bounded by the interval of the plateau, however much bursts agree.
                Stays::Settled { step, .. } => {
                    let Rate { value, low, high } = step.survival;
                    (Some(step.age_cycles), value, (high.unwrap_or(1.0) - value).max(value - low) / Z)
                }
                Stays::AtMost(step) => {
                    let most = step.survival.value;
                    (None, most / 2.0, UNIFORM.sqrt() * most)
                }
            };
            let grows = |left_out| match age_cycles {
                Some(age) => born(left_out) * survival_at(self.lives(cells, left_out), age),
                None => born(left_out) * part,
            };
            let without = Without { own_variance: (allocates * unknown).powi(2), ..self.without(grows)? };
            let sampling = sampling * part * part;
            let variance = match age_cycles {
                Some(_) => without.variance().max(without.own_variance + sampling),
                None => without.variance().max(sampling) + without.own_variance,
            };
            Some((Estimate { growth: allocates * part, variance }, without))
        });
        let (survival, is_settled, stayed) = match stays {
            Some(Stays::Settled { step, stayed }) => (Some(step.survival), true, stayed),
            Some(Stays::AtMost(step)) => {
                (Some(Rate { low: 0.0, ..step.survival }), false, step.at_risk * step.survival.value)
            }
            None => (None, false, 0.0),
        };
        let is_finite = |estimate: &Estimate| estimate.growth.is_finite() && estimate.variance.is_finite();
        SiteBirths {
            site: cells.first().and_then(|cell| cell.site),
            size_bytes: self.size_bytes,
            allocates: allocation.filter(is_finite),
            object_bytes: object_bytes(self.size_bytes, cells),
            growth: grows.map(|(growth, _)| growth).filter(is_finite),
            without: grows.map(|(_, without)| without).filter(|without| without.variance().is_finite()),
            survival,
            is_settled,
            caught,
            stayed,
            held: held(
                allocation.unwrap_or(Estimate { growth: allocates, variance: allocates * allocates }),
                &tested,
                &alive,
            ),
            held_number: if alive.sum > 0.0 { alive.effective() } else { 0.0 },
        }
    }

    /// The least variance that an estimate from so few of all caught can have: of a share of what is known, or of a number.
    fn sampling_variance(&self, allocates: f64, caught: u64) -> f64 {
        let caught = approximate(caught);
        match self.rate_bytes_per_s {
            Some(rate) => {
                let all = approximate(self.caught) + FEW;
                let share = (caught + FEW / 2.0) / all;
                rate * rate * share * (1.0 - share) / all
            }
            None => allocates * allocates / caught.max(1.0),
        }
    }

    fn add_paths(&self, cells: &[BirthCell], paths: &mut BTreeMap<(Option<SiteId>, u32), PathBirths>) {
        let mut of_path: BTreeMap<u32, Vec<BirthCell>> = BTreeMap::new();
        for cell in cells {
            of_path.entry(cell.path).or_default().push(*cell);
        }
        for (path, cells) in of_path {
            let Some(site) = cells.first().map(|cell| cell.site) else { continue };
            let all: Vec<Lives> = self.lives(&cells, None).collect();
            let allocates: f64 = all.iter().map(|lives| lives.weight).sum();
            let stays = match Survival::of_all(all).stays() {
                Some(Stays::Settled { step, .. }) => step.survival.value,
                Some(Stays::AtMost(step)) => step.survival.value / 2.0,
                None => 0.0,
            };
            let none = PathBirths { path, site, allocates_bytes_per_s: 0.0, grows_bytes_per_s: 0.0 };
            let known = paths.entry((site, path)).or_insert(none);
            known.allocates_bytes_per_s += allocates;
            known.grows_bytes_per_s += allocates * stays;
        }
    }

    /// An estimate that is made again without each cluster. `None`: too few bursts.
    fn without(&self, estimate: impl Fn(LeftOut) -> f64) -> Option<Without> {
        if self.clusters.len() < CLUSTERS_MIN {
            return None;
        }
        let mut values = [0.0; CLUSTERS];
        for (value, cluster) in values.iter_mut().zip(self.clusters) {
            *value = estimate(Some(*cluster));
        }
        Some(Without { values, count: self.clusters.len(), own_variance: 0.0 })
    }
}

/// What is held of what is allocated, by those that a collection has tested: of the others nothing is known.
fn held(allocates: Estimate, tested: &Weights, alive: &Weights) -> Estimate {
    if tested.sum <= 0.0 {
        return Estimate::NONE;
    }
    let part = (alive.sum / tested.sum).clamp(0.0, 1.0);
    let chance = allocates.growth * allocates.growth * part * (1.0 - part) / tested.effective();
    Estimate { growth: allocates.growth * part, variance: chance + allocates.variance * part * part }
}

/// Mean bytes of the objects of a class. `None`: some may be tiny.
fn object_bytes(size_bytes: Option<u64>, cells: &[BirthCell]) -> Option<f64> {
    if size_bytes == Some(TINY_SLOT_BYTES) {
        return None;
    }
    let objects: f64 = cells.iter().map(|cell| cell.lives.weight).sum();
    let mean = cells.iter().map(bytes_of).sum::<f64>() / objects;
    (mean.is_finite() && mean > 0.0).then_some(mean)
}

fn bytes_of(cell: &BirthCell) -> f64 {
    cell.lives.weight * approximate(cell.size_bytes)
}

#[cfg(test)]
#[path = "births_tests.rs"]
pub(super) mod tests;
