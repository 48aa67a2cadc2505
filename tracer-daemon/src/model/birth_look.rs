//! What is told of sampled births: sums over objects that are alike, never single objects. What is recorded of them is this.
//!
//! Counterparts: `tracked` makes it, beside whoever catches births; `birth_history` keeps what was told.

use serde::{Deserialize, Serialize};

use super::{Stack, by_number};

/// Bursts are dealt out to so many clusters; what one burst caught belongs together, so that errors come from how clusters differ.
pub const CLUSTERS: usize = 8;
/// The path of what had no room of its own.
pub const OTHER_PATH: u32 = u32::MAX;
/// The group of goroutines that had no room of their own.
pub const OTHER_GROUP: u32 = u32::MAX;
/// Ages up to here are told apart; above they are rounded down to this many steps for each power of two.
const AGE_STEPS: u32 = 16;

/// What is new about sampled births since the look before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BirthLook {
    /// Stacks that were not there before, numbered on from the last one; with the frames of the runtime.
    pub new_stacks: Vec<Stack>,
    /// Numbers of stacks that are forgotten: no cell is of them any more. Should one come again, it is new.
    pub gone_stacks: Vec<u32>,
    /// Cells that were not there before, numbered on from the last one.
    pub new_cells: Vec<CellKey>,
    /// Sums that are others than at the look before, by the number of the cell.
    #[serde(with = "by_number")]
    pub changed: Vec<(u32, CellSum)>,
    /// The parts of time that are still known, oldest first. Cells of others are gone.
    pub slices: Vec<Slice>,
    /// What a hit in a burst of refills costs, as a part of what one in a burst of births costs. 0: not known.
    pub refill_trap: f64,
    /// What happened so far to what was caught.
    pub counts: BirthCounts,
}

/// Objects that are alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct CellKey {
    /// The number of the part of time in which they were born.
    pub slice: u32,
    /// Which part of the bursts caught them; below [`CLUSTERS`].
    pub cluster: u8,
    /// The group of goroutines that allocated them.
    pub group: u32,
    /// Bytes of their slot; of large objects about.
    pub size_bytes: u64,
    /// What was seen.
    pub seen: Seen,
}

/// What a cell counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// How often slots were asked for when the 64 that a processor looks at were used up, in windows in which nothing else was
    /// hooked: it slows nobody down much.
    #[default]
    Refills,
    /// Objects that were caught.
    Lives {
        /// The number of the stack.
        path: u32,
        /// Collections that tested them and kept them; see [`age_step`].
        age_cycles: u32,
        /// Whether the next one found them dead; else nothing is known of later.
        died: bool,
    },
}

/// How many they are and what they stand for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CellSum {
    /// Objects, or refills.
    pub number: u64,
    /// Of all that happened in the time that bursts stand for, as many: the inverse of the probabilities of being caught.
    pub weight: f64,
    /// The squares of the weights.
    pub squares: f64,
}

impl CellSum {
    /// One more, which stands for so many.
    pub fn add(&mut self, weight: f64) {
        self.number = self.number.saturating_add(1);
        self.weight += weight;
        self.squares += weight * weight;
    }

    /// Those of another cell, too.
    pub fn add_all(&mut self, other: &Self) {
        self.number = self.number.saturating_add(other.number);
        self.weight += other.weight;
        self.squares += other.squares;
    }

    /// Whether it can be: hostile or broken sums count for nothing.
    pub fn is_sane(&self) -> bool {
        let is_positive = |value: f64| value.is_finite() && value > 0.0;
        self.number > 0 && is_positive(self.weight) && is_positive(self.squares)
    }
}

/// A part of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slice {
    /// Ascending.
    pub number: u32,
    /// When it began, nanoseconds of the clock of [`super::observation::Moment::at_ns`].
    pub began_ns: u64,
    /// Bursts that caught births, by cluster; those that caught nothing included.
    pub birth_bursts: [u32; CLUSTERS],
    /// Parts of the time in which all large objects were caught.
    pub large_bursts: [u32; CLUSTERS],
    /// Bursts that counted refills.
    pub refill_bursts: [u32; CLUSTERS],
    /// Seconds that the bursts of births stand for.
    pub births_stand_for_s: f64,
    /// Seconds that the bursts of refills stand for.
    pub refills_stand_for_s: f64,
}

/// What happened to births that were caught. Counts only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BirthCounts {
    /// Births that were told.
    pub born: u64,
    /// Of those, not followed since their address is not known.
    pub unresolved: u64,
    /// Of those, not followed since as many as may be were: a coin said so.
    pub not_followed: u64,
    /// Followed and let go to make room: a coin said so.
    pub let_go: u64,
    /// Found dead.
    pub died: u64,
    /// Lost sight of since a collection ended without a look.
    pub missed_cycle: u64,
    /// Looks that could say nothing, of objects of which a later one may.
    pub undecided: u64,
    /// Objects whose sums had no room: lost.
    pub no_room: u64,
    /// Births of bursts whose end was never told: lost.
    pub no_end: u64,
    /// Collections of which there was a look.
    pub cycles_looked: u64,
    /// Collections of which there was none.
    pub cycles_missed: u64,
    /// Births and slots that were chosen and found no room on their way here: lost. The others of the same burst stand for them, too.
    pub ring_full: u64,
    /// Births whose slot cannot be told, since too many waited for theirs: counted and not followed.
    pub slots_untold: u64,
    /// Births of stacks that were one too many: counted, and of no line.
    pub stacks_no_room: u64,
}

/// One reason for which something that windows saw could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BirthLoss {
    /// Stable identifier.
    pub id: &'static str,
    /// Why, for the operator.
    pub text: &'static str,
    /// How often.
    pub count: u64,
}

impl BirthCounts {
    /// Whether next to nobody was lost sight of, of those that were followed.
    pub fn all_followed(&self) -> bool {
        const LOST_PART: u64 = 50;
        let lost = self.let_go.saturating_add(self.not_followed).saturating_add(self.missed_cycle);
        lost.saturating_mul(LOST_PART) <= self.born
    }

    /// What could not be kept.
    pub fn losses(&self) -> [BirthLoss; 6] {
        let loss = |id, text, count| BirthLoss { id, text, count };
        [
            loss(
                "births_ring_full",
                "an object that a window recorded found no room on its way to leakline; the others of that window stand for it",
                self.ring_full,
            ),
            loss(
                "births_slot_untold",
                "the address of an object is not known, so it is counted and not followed",
                self.slots_untold,
            ),
            loss("births_no_room", "leakline had no room for an object that a window recorded", self.no_room),
            loss(
                "births_stack_no_room",
                "leakline had no room for a stack that it had not seen before, so an object is counted and of no line",
                self.stacks_no_room,
            ),
            loss(
                "births_without_end",
                "it is not known when the window ended in which an object was recorded",
                self.no_end,
            ),
            loss(
                "collections_missed",
                "a collection went by without a look at the objects that are followed",
                self.cycles_missed,
            ),
        ]
    }
}

/// The age that stands for it: exact while it is small, then rounded down by at most a sixteenth.
pub fn age_step(age_cycles: u32) -> u32 {
    let shift = (age_cycles / AGE_STEPS).checked_ilog2().unwrap_or_default();
    age_cycles >> shift << shift
}

/// The size that stands for it: of large objects the nearest of sixteen steps for each power of two, which is no further off
/// than a thirtieth.
pub fn size_step(size_bytes: u64) -> u64 {
    if size_bytes <= LARGE_BYTES {
        return size_bytes;
    }
    let shift = size_bytes.ilog2().saturating_sub(4);
    let half = 1_u64 << shift >> 1;
    size_bytes.saturating_add(half) >> shift << shift
}

/// The largest size that has a class (`maxSmallSize`, runtime/sizeclasses.go); above, each object has a span.
const LARGE_BYTES: u64 = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_near_and_do_not_move_twice() {
        for age in (0..2_000).chain([65_535, 1 << 20, u32::MAX]) {
            let step = age_step(age);
            assert!(step <= age && f64::from(age - step) <= f64::from(age) / 16.0, "{age}: {step}");
            assert_eq!(age_step(step), step);
            assert!(age > 31 || step == age);
        }
        for size in [1, 32_768, 32_769, 40_960, 65_536, 1_000_001, 1 << 30, u64::MAX] {
            let step = size_step(size);
            assert!(step.abs_diff(size) <= size / 30, "{size}: {step}");
            assert_eq!(size_step(step), step);
        }
    }
}
