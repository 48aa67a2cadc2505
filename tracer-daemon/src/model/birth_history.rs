//! Births that were caught, look after look: what is known of them now, and which sites they are of.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::birth_look::{BirthCounts, BirthLook, CLUSTERS, CellKey, CellSum, Seen, Slice};
use super::births::{BirthCell, BirthEstimates, BirthReading, ClassRate, RefillCell, SiteBirths};
use super::even;
use super::hints::{self, Program};
use super::live::LivePath;
use super::observation::Moment;
use super::process::ProcessConstants;
use super::site::{Placed, place_allocation};
use super::slope::Z;
use super::snapshot::{BirthSite, Births};
use super::survival::Lives;
use super::{Rate, SiteId, Stack};
use crate::read::books::Books;
use crate::symbolize::Frame;
use crate::units::approximate;

/// Cells that are kept: twice what whoever catches births keeps. More are a broken recording.
const CELLS_MAX: usize = 1 << 17;
/// Stacks that are kept.
const STACKS_MAX: usize = 1 << 16;
/// A hit that counts a refill costs such a part of one that makes a birth, where nobody has calibrated it: measured were 0.6 to 0.7 of
/// 1.2 us.
const REFILL_TRAP: f64 = 0.55;
/// Rates over less are the slack of what the books miss, seconds.
const RATE_MIN_S: f64 = 1.0;
/// Looks at the classes that are kept, one for each slice and one more.
const CLASSES_MAX: usize = 64;

/// What the classes had allocated at one moment, with the slice of that time.
type Allocated = (Moment, u32, Vec<(Option<u64>, u64)>);

/// What is known of births.
#[derive(Debug, Default)]
pub(super) struct BirthHistory {
    /// By their number, with the site of each; `None`: it has no frame.
    stacks: BTreeMap<u32, (Stack, Option<SiteId>)>,
    /// Stacks so far: the number of the next.
    stack_numbers: u32,
    cells: BTreeMap<u32, (CellKey, CellSum)>,
    /// Cells so far: the number of the next.
    numbers: u32,
    slices: Vec<Slice>,
    counts: BirthCounts,
    /// What the classes had allocated when each slice was seen first, bytes, large objects last.
    classes: VecDeque<Allocated>,
    refill_trap: f64,
    last: Option<Moment>,
}

impl BirthHistory {
    /// Seconds since the last look. `None`: there was none.
    pub(super) fn age_s(&self, now: Moment) -> Option<f64> {
        self.last.map(|last| now.seconds_since(last))
    }

    /// Seconds since the first burst of those that count.
    pub(super) fn seen_s(&self, now: Moment) -> f64 {
        let began = Moment { at_ns: self.slices.first().map_or(now.at_ns, |slice| slice.began_ns), ..now };
        now.seconds_since(began)
    }

    /// What happened so far to what was caught. `None`: there was no look.
    pub(super) fn counts(&self) -> Option<BirthCounts> {
        self.last.map(|_| self.counts)
    }

    /// One more look.
    pub(super) fn observe(&mut self, at: Moment, look: &BirthLook, constants: &ProcessConstants) {
        let main_module = constants.main_module.as_deref();
        for stack in &look.new_stacks {
            if self.stacks.len() < STACKS_MAX {
                let site = place_allocation(stack, main_module).map(|placed| placed.id);
                self.stacks.insert(self.stack_numbers, (Arc::clone(stack), site));
            }
            self.stack_numbers = self.stack_numbers.saturating_add(1);
        }
        for gone in &look.gone_stacks {
            self.stacks.remove(gone);
        }
        let slices: BTreeSet<u32> = look.slices.iter().map(|slice| slice.number).collect();
        self.cells.retain(|_, (key, _)| slices.contains(&key.slice));
        for key in &look.new_cells {
            if self.cells.len() < CELLS_MAX {
                self.cells.insert(self.numbers, (*key, CellSum::default()));
            }
            self.numbers = self.numbers.saturating_add(1);
        }
        for (number, sum) in &look.changed {
            if sum.number == 0 {
                self.cells.remove(number);
            } else if let Some((_, known)) = self.cells.get_mut(number) {
                *known = *sum;
            }
        }
        self.slices.clone_from(&look.slices);
        self.counts = look.counts;
        self.refill_trap = look.refill_trap;
        self.last = Some(at);
    }

    /// The window begins: what is said of how much is allocated is of the window.
    pub(super) fn opened(&mut self, at: Moment, books: &Books) {
        self.classes.clear();
        self.observe_books(at, books);
    }

    /// What the classes have allocated by now, where it is not yet known for this slice.
    pub(super) fn observe_books(&mut self, at: Moment, books: &Books) {
        let slice = self.slices.last().map_or(0, |slice| slice.number);
        if self.classes.back().is_some_and(|(_, known, _)| *known == slice) {
            return;
        }
        self.classes.push_back((at, slice, allocated(books)));
        let oldest = self.slices.first().map_or(0, |slice| slice.number);
        while self.classes.len() > CLASSES_MAX || self.classes.get(1).is_some_and(|(_, second, _)| *second <= oldest) {
            self.classes.pop_front();
        }
    }

    /// What is known now. `None`: no burst has ended yet.
    pub(super) fn reading(&self, now: Option<(Moment, &Books)>) -> Option<BirthReading> {
        let window_s: f64 = self.slices.iter().map(|slice| slice.births_stand_for_s).sum();
        let refills_s: f64 = self.slices.iter().map(|slice| slice.refills_stand_for_s).sum();
        if !(window_s.is_finite() && window_s > 0.0) {
            return None;
        }
        let bursts_of = |of: fn(&Slice) -> [u32; CLUSTERS]| {
            self.slices.iter().fold([0_u32; CLUSTERS], |mut all, slice| {
                for (all, bursts) in all.iter_mut().zip(of(slice)) {
                    *all = all.saturating_add(bursts);
                }
                all
            })
        };
        let bursts = bursts_of(|slice| slice.birth_bursts);
        let large_bursts = bursts_of(|slice| slice.large_bursts);
        let classes = now.map(|(now, books)| self.rates(now, books)).unwrap_or_default();
        let lives = self.cells.values().filter(|(key, _)| key.seen != Seen::Refills);
        let mut factors = even::factors(lives.map(|(key, sum)| ((key.size_bytes, key.slice), sum)));
        // What others allocate only their births say.
        factors.retain(|(size_bytes, _), _| classes.iter().any(|class| class.size_bytes == Some(*size_bytes)));
        let (mut cells, mut refills) = (Vec::new(), Vec::new());
        for (key, sum) in self.cells.values().filter(|(_, sum)| sum.is_sane()) {
            let CellKey { slice, size_bytes, group, cluster, seen } = *key;
            let CellSum { number, weight, squares } = *sum;
            match seen {
                Seen::Refills => {
                    let weight = weight * window_s / refills_s;
                    refills.push(RefillCell { size_bytes, group, cluster, number, weight });
                }
                Seen::Lives { path, age_cycles, died } => {
                    let factor = factors.get(&(size_bytes, slice)).copied().unwrap_or(1.0);
                    let (weight, squares) = (weight * factor, squares * factor * factor);
                    let lives = Lives { age_cycles, died, weight, squares };
                    cells.push(BirthCell { site: self.site(path), path, size_bytes, group, cluster, number, lives });
                }
            }
        }
        let known = self.refill_trap > 0.0 && self.refill_trap <= 1.0;
        let refill_trap = if known { self.refill_trap } else { REFILL_TRAP };
        Some(BirthReading { window_s, bursts, large_bursts, cells, refills, refill_trap, classes })
    }

    fn site(&self, path: u32) -> Option<SiteId> {
        self.stacks.get(&path).and_then(|(_, site)| *site)
    }

    /// Bytes per second that each class has allocated since the oldest slice that is known began.
    pub(super) fn rates(&self, now: Moment, books: &Books) -> Vec<ClassRate> {
        let Some((since, _, before)) = self.classes.front() else { return Vec::new() };
        let seconds = now.seconds_since(*since);
        if seconds < RATE_MIN_S {
            return Vec::new();
        }
        let rates = allocated(books).into_iter().zip(before).filter(|((size, _), (known, _))| size == known);
        // Counts that fell are those of another process.
        let rates = rates.filter_map(|((size_bytes, now), (_, before))| {
            Some(ClassRate { size_bytes, bytes_per_s: approximate(now.checked_sub(*before)?) / seconds })
        });
        rates.collect()
    }

    /// What is said of each site, most bytes first. Those without a name are left out.
    pub(super) fn births(&self, estimates: &BirthEstimates, reading: &BirthReading, program: Program<'_>) -> Births {
        let mut by_site: BTreeMap<SiteId, Vec<&SiteBirths>> = BTreeMap::new();
        for births in &estimates.sites {
            if let Some(site) = births.site {
                by_site.entry(site).or_default().push(births);
            }
        }
        let mut paths: HashMap<SiteId, Vec<(u32, f64, f64)>> = HashMap::new();
        for path in &estimates.paths {
            if let Some(site) = path.site {
                let known = paths.entry(site).or_default();
                known.push((path.path, path.grows_bytes_per_s, path.allocates_bytes_per_s));
            }
        }
        let sites = by_site.into_iter().filter_map(|(id, classes)| {
            let paths = paths.remove(&id).unwrap_or_default();
            self.site_of(id, &classes, &paths, program)
        });
        let mut sites: Vec<BirthSite> = sites.collect();
        let rate = |site: &BirthSite| site.alloc_bytes_per_s.map_or(0.0, |rate| rate.value);
        sites.sort_by(|one, other| rate(other).total_cmp(&rate(one)).then_with(|| one.id.cmp(&other.id)));
        let bursts = self.slices.iter().flat_map(|slice| slice.birth_bursts).fold(0, u32::saturating_add);
        let estimated: f64 = estimates.sites.iter().filter_map(|site| site.allocates).map(|rate| rate.growth).sum();
        let known: f64 = reading.classes.iter().map(|class| class.bytes_per_s).sum();
        Births {
            window_s: reading.window_s,
            bursts,
            counts: self.counts,
            all_bytes_per_s: estimated.max(known),
            sites: sites.into(),
        }
    }

    fn site_of(
        &self,
        id: SiteId,
        classes: &[&SiteBirths],
        paths: &[(u32, f64, f64)],
        program: Program<'_>,
    ) -> Option<BirthSite> {
        // By growth; where nothing stays, by what is allocated.
        let grows = paths.iter().any(|(_, grows, _)| *grows > 0.0);
        let weight = |(_, grown, allocated): &(u32, f64, f64)| if grows { *grown } else { *allocated };
        let total: f64 = paths.iter().map(weight).sum();
        let mut named: HashMap<Vec<Frame>, (f64, u32)> = HashMap::new();
        let mut placed = None;
        for path in paths {
            let Some((stack, _)) = self.stacks.get(&path.0) else { continue };
            let Some(Placed { place, allocator, frames, .. }) = place_allocation(stack, program.main_module) else {
                continue;
            };
            placed.get_or_insert((place, allocator));
            named.entry(frames).or_insert((0.0, path.0)).0 += weight(path);
        }
        let (place, allocator) = placed?;
        let mut named: Vec<(Vec<Frame>, (f64, u32))> = named.into_iter().collect();
        named.sort_by(|(frames, (share, _)), (others, (other, _))| {
            other.total_cmp(share).then_with(|| frames.cmp(others))
        });
        let first = named.first().and_then(|(_, (_, path))| self.stacks.get(path));
        let first = first.map(|(stack, _)| Arc::clone(stack)).unwrap_or_default();
        let paths = named
            .into_iter()
            .map(|(frames, (part, _))| LivePath { share: if total > 0.0 { part / total } else { 0.0 }, frames });
        Some(BirthSite {
            id,
            place,
            allocator,
            caught: classes.iter().fold(0, |sum, class| sum.saturating_add(class.caught)),
            stayed: classes.iter().map(|class| class.stayed).sum(),
            alloc_bytes_per_s: allocation(classes, |_| Some(1.0)),
            alloc_objects_per_s: allocation(classes, |class| class.object_bytes),
            survival: survival(classes),
            is_settled: classes.iter().all(|class| class.is_settled),
            hint: hints::of_allocation(&first, program),
            is_behind_pool: hints::is_behind_pool(&first, program),
            paths: paths.collect(),
        })
    }
}

/// Bytes that each class has allocated since the program began; large objects last.
fn allocated(books: &Books) -> Vec<(Option<u64>, u64)> {
    let small =
        books.classes.iter().map(|class| (Some(class.size_bytes), class.allocs.saturating_mul(class.size_bytes)));
    small.chain([(None, books.large_alloc_bytes)]).collect()
}

/// Over all classes, in units of so many bytes. `None`: of some it is not known how sure it is, or what the unit is.
fn allocation(classes: &[&SiteBirths], unit_bytes: impl Fn(&SiteBirths) -> Option<f64>) -> Option<Rate> {
    let (mut value, mut variance) = (0.0, 0.0);
    for class in classes {
        let (allocates, unit_bytes) = (class.allocates?, unit_bytes(class)?);
        value += allocates.growth / unit_bytes;
        variance += allocates.variance / (unit_bytes * unit_bytes);
    }
    let half_width = Z * variance.sqrt();
    Some(Rate { value, low: (value - half_width).max(0.0), high: Some(value + half_width) })
}

/// Over all classes, each in proportion to its bytes.
fn survival(classes: &[&SiteBirths]) -> Option<Rate> {
    let (mut bytes, mut sum) = (0.0, [0.0; 3]);
    for class in classes {
        let (Some(allocates), Some(rate)) = (class.allocates, class.survival) else { continue };
        bytes += allocates.growth;
        for (sum, part) in sum.iter_mut().zip([rate.value, rate.low, rate.high.unwrap_or(1.0)]) {
            *sum += part * allocates.growth;
        }
    }
    let [value, low, high] = sum.map(|sum| sum / bytes);
    (bytes > 0.0).then_some(Rate { value, low, high: Some(high) })
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::books;
    use super::*;
    use crate::read::books::ClassCount;

    fn at(seconds: u64) -> Moment {
        Moment { at_ns: seconds * 1_000_000_000, unix_ns: seconds * 1_000_000_000 }
    }

    fn allocated(allocs: u64) -> Books {
        Books { classes: vec![ClassCount { size_bytes: 64, allocs, frees: 0, slack: 0 }], ..books() }
    }

    #[test]
    fn what_classes_allocate_is_that_of_the_window() {
        let mut history = BirthHistory::default();
        // Two seconds pass at another pace between the first look and the window.
        history.observe_books(at(0), &allocated(0));
        history.opened(at(2), &allocated(1_000));
        history.observe_books(at(3), &allocated(2_000));
        let rates = history.rates(at(7), &allocated(11_000));
        let small = rates.iter().find(|rate| rate.size_bytes == Some(64)).unwrap();
        assert!((small.bytes_per_s - 64.0 * 2_000.0).abs() < 1e-6, "{small:?}");
    }
}
