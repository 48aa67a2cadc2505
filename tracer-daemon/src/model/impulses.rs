//! Impulses: moments at which the books jump, and what the burst caught that was opened at once.
//!
//! Such a burst is no random sample: it was opened since much was allocated. So what it caught is kept apart from all rates, and says
//! only who allocated just then. [`Catching`] sums it up beside whoever catches births, [`Impulses`] keeps the last few for reports.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::observation::Moment;
use super::site::{Placed, place_allocation};
use super::{Rate, SiteId, Stack};
use crate::symbolize::Frame;
use crate::units::approximate;

/// Impulses that are kept for reports.
pub const KEPT_MAX: usize = 8;
/// Stacks of one burst that are told apart while it is caught.
const STACKS_MAX: usize = 1_024;
/// Of those, told to the model, most bytes first.
const TOLD_MAX: usize = 64;
/// Return addresses of one stack.
const FRAMES_MAX: usize = 128;
/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.96;

/// What has jumped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImpulseKind {
    /// The rate of allocation, bytes per second.
    #[default]
    AllocationRate,
    /// Bytes of objects.
    HeapGrowth,
    /// A pause of the whole program, seconds.
    Pause,
}

impl ImpulseKind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::AllocationRate, Self::HeapGrowth, Self::Pause];

    /// The name in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AllocationRate => "allocation_rate",
            Self::HeapGrowth => "heap_growth",
            Self::Pause => "pause",
        }
    }
}

/// News of impulses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImpulseLook {
    /// What was seen at this moment.
    pub noticed: Vec<Noticed>,
    /// What bursts of earlier ones caught.
    pub caught: Vec<Caught>,
    /// Which earlier ones had no burst.
    pub unserved: Vec<Unserved>,
}

impl ImpulseLook {
    /// Whether there is no news.
    pub fn is_empty(&self) -> bool {
        self.noticed.is_empty() && self.caught.is_empty() && self.unserved.is_empty()
    }
}

/// A jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noticed {
    /// Its number; never used twice.
    pub number: u32,
    /// What has jumped.
    pub kind: ImpulseKind,
    /// What was usual, in the unit of the kind. `None`: there is nothing usual to it.
    pub usual: Option<f64>,
    /// What was seen.
    pub seen: f64,
}

/// Of an impulse: why no burst came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unserved {
    /// The number of the impulse.
    pub number: u32,
    /// A sentence.
    pub why: Arc<str>,
}

/// What the burst of an impulse caught.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caught {
    /// The number of the impulse.
    pub number: u32,
    /// When it began, nanoseconds of the clock of [`Moment::at_ns`].
    pub began_ns: u64,
    /// How long hits counted, nanoseconds.
    pub open_ns: u64,
    /// Most bytes first.
    pub stacks: Vec<CaughtStack>,
    /// All that is in none of them.
    pub other: CaughtSum,
}

/// What one stack allocated in the burst.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaughtStack {
    /// Leaf first, with the frames of the runtime.
    pub stack: Stack,
    /// How much.
    pub sum: CaughtSum,
}

impl Default for CaughtStack {
    fn default() -> Self {
        Self { stack: Arc::from([]), sum: CaughtSum::default() }
    }
}

/// How much was caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaughtSum {
    /// Births that were recorded.
    pub births: u64,
    /// All objects of the burst that they stand for.
    pub objects: f64,
    /// Their bytes.
    pub bytes: f64,
    /// The squares of the bytes that each birth stands for: how much chance is in the sum.
    pub squares: f64,
}

impl CaughtSum {
    fn birth(weight: f64, bytes: u64) -> Self {
        let bytes = weight * approximate(bytes);
        Self { births: 1, objects: weight, bytes, squares: bytes * bytes }
    }

    fn add(&mut self, other: &Self) {
        self.births = self.births.saturating_add(other.births);
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.squares += other.squares;
    }

    fn times(self, factor: f64) -> Self {
        let Self { births, objects, bytes, squares } = self;
        Self { births, objects: objects * factor, bytes: bytes * factor, squares: squares * factor * factor }
    }

    /// Whether it can be: hostile or broken sums count for nothing.
    fn is_sane(&self) -> bool {
        let is_positive = |value: f64| value.is_finite() && value > 0.0;
        self.births > 0 && is_positive(self.objects) && is_positive(self.bytes) && is_positive(self.squares)
    }
}

/// The burst of an impulse while it is caught.
#[derive(Debug)]
pub struct Catching {
    number: u32,
    burst: u32,
    stacks: HashMap<Box<[u64]>, CaughtSum>,
    other: CaughtSum,
}

/// What was caught, its stacks not yet named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catch {
    /// Without stacks.
    pub caught: Caught,
    /// The return addresses of each stack, leaf first, and what it allocated; most bytes first.
    pub stacks: Vec<(Box<[u64]>, CaughtSum)>,
}

impl Catching {
    /// The burst of this number is opened for that impulse.
    pub fn new(number: u32, burst: u32) -> Self {
        Self { number, burst, stacks: HashMap::new(), other: CaughtSum::default() }
    }

    /// The number of the impulse.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The number of the burst.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// One more birth of the burst. `weight`: the inverse of the probability that its hit was chosen.
    pub fn born(&mut self, frames: &[u64], weight: f64, bytes: u64) {
        let birth = CaughtSum::birth(weight, bytes);
        if !birth.is_sane() {
            return;
        }
        let frames = frames.get(..FRAMES_MAX).unwrap_or(frames);
        let has_room = self.stacks.len() < STACKS_MAX && !frames.is_empty();
        match self.stacks.get_mut(frames) {
            Some(sum) => sum.add(&birth),
            None if has_room => drop(self.stacks.insert(frames.into(), birth)),
            None => self.other.add(&birth),
        }
    }

    /// The burst has ended. `chosen_per_told`: how many births were chosen for each that was told.
    pub fn ended(self, began_ns: u64, open_ns: u64, chosen_per_told: f64) -> Catch {
        let factor = if chosen_per_told.is_finite() { chosen_per_told.max(1.0) } else { 1.0 };
        let mut other = self.other;
        let mut stacks: Vec<(Box<[u64]>, CaughtSum)> = self.stacks.into_iter().collect();
        stacks.sort_unstable_by(|(frames, sum), (others, other)| {
            other.bytes.total_cmp(&sum.bytes).then_with(|| frames.cmp(others))
        });
        for (_, sum) in stacks.split_off(stacks.len().min(TOLD_MAX)) {
            other.add(&sum);
        }
        for (_, sum) in &mut stacks {
            *sum = sum.times(factor);
        }
        let caught = Caught { number: self.number, began_ns, open_ns, stacks: Vec::new(), other: other.times(factor) };
        Catch { caught, stacks }
    }
}

/// What is known of an impulse.
#[derive(Clone, Debug, PartialEq)]
pub struct Impulse {
    /// When it was noticed, nanoseconds since the window began.
    pub at_ns: u64,
    /// The same, ns since 1970.
    pub unix_ns: u64,
    /// What was noticed.
    pub noticed: Noticed,
    /// What its burst caught. `None`: there was none, or it is not over.
    pub burst: Option<ImpulseBurst>,
    /// Why there was none. `None`: there was one, or nobody knows.
    pub unserved: Option<Arc<str>>,
}

/// What the burst of an impulse caught, by line.
#[derive(Clone, Debug, PartialEq)]
pub struct ImpulseBurst {
    /// When it began, nanoseconds since the impulse was noticed.
    pub delay_ns: u64,
    /// How long hits counted, nanoseconds.
    pub open_ns: u64,
    /// Births that were recorded.
    pub births: u64,
    /// All objects that they stand for.
    pub objects: f64,
    /// Their bytes.
    pub bytes: f64,
    /// Most bytes first.
    pub sites: Vec<CaughtSite>,
}

/// A line and what it allocated in the burst.
#[derive(Clone, Debug, PartialEq)]
pub struct CaughtSite {
    /// Stable identity.
    pub id: SiteId,
    /// The line a person would change.
    pub place: Frame,
    /// The frame below the runtime.
    pub allocator: Frame,
    /// Births that were recorded.
    pub births: u64,
    /// Its part of the bytes of the burst.
    pub share: Rate,
    /// The stack with most bytes, leaf first.
    pub frames: Vec<Frame>,
}

/// All that happened, and the last few in full.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Impulses {
    /// How many were noticed in the window, by kind.
    pub counts: [u64; ImpulseKind::ALL.len()],
    /// Oldest first.
    pub last: VecDeque<Impulse>,
}

impl Impulses {
    /// The window begins: what was before is not part of it.
    pub(super) fn opened(&mut self) {
        *self = Self::default();
    }

    /// More news; `opened`: when the window began.
    pub(super) fn observe(&mut self, at: Moment, opened: Moment, look: &ImpulseLook, main_module: Option<&str>) {
        for noticed in &look.noticed {
            if let Some(count) = self.counts.get_mut(noticed.kind as usize) {
                *count = count.saturating_add(1);
            }
            let at_ns = at.at_ns.saturating_sub(opened.at_ns);
            let impulse = Impulse { at_ns, unix_ns: at.unix_ns, noticed: *noticed, burst: None, unserved: None };
            self.last.push_back(impulse);
            if self.last.len() > KEPT_MAX {
                // Those without a burst say less.
                let unserved = self.last.iter().position(|impulse| impulse.unserved.is_some());
                self.last.remove(unserved.unwrap_or_default());
            }
        }
        for unserved in &look.unserved {
            if let Some(impulse) = self.find(unserved.number) {
                impulse.unserved = Some(Arc::clone(&unserved.why));
            }
        }
        for caught in &look.caught {
            if let Some(impulse) = self.find(caught.number) {
                let noticed_ns = opened.at_ns.saturating_add(impulse.at_ns);
                impulse.burst = Some(burst(caught, noticed_ns, main_module));
            }
        }
    }

    fn find(&mut self, number: u32) -> Option<&mut Impulse> {
        self.last.iter_mut().rev().find(|impulse| impulse.noticed.number == number)
    }
}

fn burst(caught: &Caught, noticed_ns: u64, main_module: Option<&str>) -> ImpulseBurst {
    let mut sum = if caught.other.is_sane() { caught.other } else { CaughtSum::default() };
    let mut sites: HashMap<SiteId, (CaughtSite, CaughtSum)> = HashMap::new();
    for CaughtStack { stack, sum: of_stack } in caught.stacks.iter().take(TOLD_MAX) {
        if !of_stack.is_sane() {
            continue;
        }
        sum.add(of_stack);
        let Some(Placed { id, place, allocator, frames }) = place_allocation(stack, main_module) else { continue };
        // The first one has the most bytes.
        let site = || CaughtSite { id, place, allocator, births: 0, share: Rate::default(), frames };
        sites.entry(id).or_insert_with(|| (site(), CaughtSum::default())).1.add(of_stack);
    }
    let mut sites: Vec<CaughtSite> = sites
        .into_values()
        .map(|(site, of_site)| CaughtSite { births: of_site.births, share: share(&of_site, &sum), ..site })
        .collect();
    sites.sort_by(|one, other| other.share.value.total_cmp(&one.share.value).then_with(|| one.id.cmp(&other.id)));
    ImpulseBurst {
        delay_ns: caught.began_ns.saturating_sub(noticed_ns),
        open_ns: caught.open_ns,
        births: sum.births,
        objects: sum.objects,
        bytes: sum.bytes,
        sites,
    }
}

/// A part of the bytes, with what chance leaves open in the choice of births (Wilson, JASA 22, 1927, with as many trials as births of
/// the same weight would tell as much). It says nothing of what was before the window and behind it.
fn share(part: &CaughtSum, whole: &CaughtSum) -> Rate {
    let (value, trials) = (part.bytes / whole.bytes, whole.bytes * whole.bytes / whole.squares);
    if !(value.is_finite() && trials.is_finite() && trials > 0.0) {
        return Rate::default();
    }
    let value = value.clamp(0.0, 1.0);
    let spread = Z * Z / trials;
    let middle = (value + spread / 2.0) / (1.0 + spread);
    let half = (value * (1.0 - value) * spread + spread * spread / 4.0).sqrt() / (1.0 + spread);
    Rate { value, low: (middle - half).clamp(0.0, value), high: Some((middle + half).clamp(value, 1.0)) }
}

#[cfg(test)]
#[path = "impulses_tests.rs"]
mod tests;
