//! The sampled objects of one target: which are followed, and what became of the others.
//!
//! Owns the book-keeping between births as they are caught, looks at mark bits, and [`BirthLook`]s for the model. Pure: the caller
//! has the clock, the ring and the target's memory. Refuses nothing that it does not count ([`BirthCounts`]).
//!
//! # Bounds, and why they bias nothing
//!
//! At most [`Limits::objects`] are followed. When they are as many, a coin is thrown for each, and half of them are let go: what is
//! known of such an object is that it lived until now, and nothing more. From then on one coin more is thrown for each birth, and
//! only those with heads are followed; of the others is known that they were born. With room again, one coin less. When coins are
//! thrown follows from how many objects there are, and what falls from chance alone, so losing sight of an object says nothing of how
//! long it would have lived: it is censored at random, which leaves the estimate of Kaplan and Meier consistent. The number of births
//! (each stands for the inverse of the probability with which it was caught) is not touched at all. Keeping half and doubling its
//! weight would leave totals unbiased, too (Horvitz and Thompson), but forget what the other half has lived through and give the
//! births' total a variance of its own.
//!
//! Whoever died, or was let go, or was lost sight of, is kept as part of a sum over those that are alike. Births are kept by slices of
//! time; slices older than the window go, with all their objects.
//!
//! # Deaths
//!
//! A look that comes after a collection was missed finds deaths, but of those that it finds alive it is not sure any more
//! (`read/marks.rs`). To believe the one and not the other would make lives seem short: so both are lost sight of where they were seen
//! last.
//!
//! # Weights
//!
//! The weight of a birth is the inverse of the probability that its hit was chosen, times the time that its burst stands for over
//! the time that it was open. That is known when the burst has ended ([`Tracked::burst_ended`]); until then its births are followed,
//! and told nobody.
//!
//! References: D. G. Horvitz, D. J. Thompson, A generalization of sampling without replacement from a finite universe, JASA 47
//! (1952); J. D. Kalbfleisch, R. L. Prentice, The Statistical Analysis of Failure Time Data, 1.3, for independent censoring.

mod groups;
mod paths;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::groups::Groups;
use self::paths::Paths;
use self::sums::Sums;
use super::birth_look::{BirthCounts, BirthLook, CLUSTERS, CellKey, Seen, Slice, age_step, size_step};
use crate::read::marks::{Censored, Cycle, Look, TrackedObject};

/// Bursts of which births came and the end did not; of more, the oldest is given up.
const OPEN_MAX: usize = 16;
/// Births of one burst that wait for its end without being followed.
const WAITING_MAX: usize = 16_384;
/// One coin less is thrown when fewer than this part of the objects are followed.
const ROOM: usize = 4;

/// Bursts with this number or a higher one are parts of the time in which a hook that stays catches all large objects.
pub const LARGE_BURSTS: u32 = 1 << 31;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Objects that are followed.
    pub objects: usize,
    /// Sums that are kept.
    pub cells: usize,
    /// Stacks that are told apart.
    pub paths: usize,
    /// Births older than this count no more, nanoseconds.
    pub window_ns: u64,
    /// They are let go so much at a time, nanoseconds.
    pub slice_ns: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { objects: 20_000, cells: 32_768, paths: 16_384, window_ns: 900_000_000_000, slice_ns: 180_000_000_000 }
    }
}

/// A goroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Goroutine {
    /// Its number (`goid`); never used twice.
    pub id: u64,
    /// The address of the function that it began with: what short-lived ones have in common.
    pub start_pc: u64,
}

/// A birth that was caught.
#[derive(Clone, Copy, Debug)]
pub struct BirthEvent<'a> {
    /// When, nanoseconds of the clock of [`super::observation::Moment::at_ns`].
    pub at_ns: u64,
    /// The number of the burst that caught it.
    pub burst: u32,
    /// Who allocated it.
    pub goroutine: Goroutine,
    /// The return addresses of the stack, leaf first.
    pub frames: &'a [u64],
    /// What is to be looked at. `None`: its address is not known, so that it is counted and not followed.
    pub object: Option<TrackedObject>,
    /// Bytes of its slot.
    pub slot_bytes: u64,
    /// Whether the collector marked when it was born: then the collection that runs keeps it, whatever becomes of it.
    pub is_black: bool,
    /// The inverse of the probability that this hit was chosen within its burst; 1 or more.
    pub weight: f64,
}

/// What a burst counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurstKind<'a> {
    /// Births: each allocation was hooked.
    Births,
    /// Large objects alone, by the hook that stays.
    LargeObjects,
    /// Refills: how often each group of goroutines asked for slots of a size.
    Refills(&'a [Refill]),
}

/// How often one goroutine asked for slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// Who.
    pub goroutine: Goroutine,
    /// Bytes of a slot.
    pub slot_bytes: u64,
    /// How often in this burst.
    pub hits: u64,
}

/// A burst that has ended. All births of it were told before.
#[derive(Clone, Copy, Debug)]
pub struct BurstEnd<'a> {
    /// Its number; as in its births.
    pub number: u32,
    /// When it began, nanoseconds of the same clock.
    pub began_ns: u64,
    /// How long hits counted, nanoseconds.
    pub open_ns: u64,
    /// The time that it stands for: the mean time between the beginnings of two of its kind, at the pace of that moment, nanoseconds.
    pub stands_for_ns: u64,
    /// How many births (or slots) were chosen for each that was told: above 1 where some were lost on the way.
    pub chosen_per_told: f64,
    /// What it counted.
    pub kind: BurstKind<'a>,
}

/// A look for the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// What is new. Its stacks are to be filled in.
    pub look: BirthLook,
    /// The return addresses of the new stacks, in their order: to be named.
    pub new_paths: Vec<Box<[u64]>>,
}

/// What is known of one object beside what is looked at.
#[derive(Clone, Copy, Debug)]
struct Detail {
    /// What it will be counted as, but for its age.
    key: Kin,
    is_black: bool,
    /// The burst that has not ended yet; else `weight` is final.
    open: Option<u32>,
    weight: f64,
}

/// All of a key but what became of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kin {
    slice: u32,
    cluster: u8,
    group: u32,
    size_bytes: u64,
    path: u32,
}

impl Kin {
    fn cell(self, age_cycles: u32, died: bool) -> CellKey {
        let seen = Seen::Lives { path: self.path, age_cycles: age_step(age_cycles), died };
        CellKey { slice: self.slice, cluster: self.cluster, group: self.group, size_bytes: self.size_bytes, seen }
    }
}

/// A burst whose end was not told yet.
#[derive(Debug)]
struct OpenBurst {
    number: u32,
    cluster: u8,
    slice: u32,
    /// Births that nothing more will be known of, with the weight within the burst.
    ended: Vec<(CellKey, f64)>,
}

/// The sampled objects of one target.
#[derive(Debug)]
pub struct Tracked {
    limits: Limits,
    coins: Coins,
    /// In the order in which they are looked at, with [`Self::details`].
    objects: Vec<TrackedObject>,
    details: Vec<Detail>,
    /// Coins that are thrown for each birth.
    thrown: u32,
    open: VecDeque<OpenBurst>,
    paths: Paths,
    groups: Groups,
    slices: VecDeque<Slice>,
    /// The number of the next slice.
    next_slice: u32,
    /// Bursts of each kind so far: dealt out to clusters in turn.
    birth_bursts: usize,
    large_bursts: usize,
    refill_bursts: usize,
    sums: Sums,
    counts: BirthCounts,
    looked: Option<Cycle>,
    refill_trap: f64,
    /// From this burst on births are of a slice of their own.
    cut: Option<u32>,
}

impl Tracked {
    /// Nothing was caught yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            coins: Coins(0x9e37_79b9_7f4a_7c15),
            objects: Vec::new(),
            details: Vec::new(),
            thrown: 0,
            open: VecDeque::new(),
            paths: Paths::new(limits.paths),
            groups: Groups::default(),
            slices: VecDeque::new(),
            next_slice: 0,
            birth_bursts: 0,
            large_bursts: 0,
            refill_bursts: 0,
            sums: Sums::new(limits.cells),
            counts: BirthCounts::default(),
            looked: None,
            refill_trap: 0.0,
            cut: None,
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> BirthCounts {
        self.counts
    }

    /// How many objects are followed.
    pub fn followed(&self) -> usize {
        self.objects.len()
    }

    /// What it takes on the heap, about, bytes.
    pub fn memory_bytes(&self) -> usize {
        let objects =
            self.objects.capacity() * size_of::<TrackedObject>() + self.details.capacity() * size_of::<Detail>();
        let ended = self.open.iter().map(|open| open.ended.capacity()).sum::<usize>();
        objects
            + ended * size_of::<(CellKey, f64)>()
            + self.paths.memory_bytes()
            + self.sums.memory_bytes()
            + self.groups.memory_bytes()
    }

    /// What a hit in a burst of refills costs, as a part of what one in a burst of births costs, by calibration.
    pub fn refill_trap(&mut self, part: f64) {
        self.refill_trap = part;
    }

    /// Births of this burst and of later ones are chosen otherwise than those before: they are kept apart, so that within a slice
    /// births of a class stand for about as many.
    pub fn chosen_otherwise_from(&mut self, burst: u32) {
        self.cut = Some(burst);
    }

    /// One more birth, in the order in which they were caught. One whose weight is no positive number is counted and left out.
    pub fn born(&mut self, birth: &BirthEvent<'_>) {
        self.counts.born = self.counts.born.saturating_add(1);
        if !(birth.weight.is_finite() && birth.weight > 0.0) {
            self.counts.no_room = self.counts.no_room.saturating_add(1);
            return;
        }
        let (number, cluster, slice) = self.open_burst(birth.burst, birth.at_ns);
        let kin = Kin {
            slice,
            cluster,
            group: self.groups.of(birth.goroutine, birth.burst, birth.at_ns),
            size_bytes: size_step(birth.slot_bytes),
            path: self.paths.number(birth.frames),
        };
        let is_followed = (0..self.thrown).all(|_| self.coins.heads());
        match birth.object {
            Some(object) if is_followed => {
                self.objects.push(object);
                self.details.push(Detail {
                    key: kin,
                    is_black: birth.is_black,
                    open: Some(number),
                    weight: birth.weight,
                });
                if self.objects.len() >= self.limits.objects {
                    self.let_half_go();
                }
            }
            Some(_) => {
                self.counts.not_followed = self.counts.not_followed.saturating_add(1);
                self.end(kin.cell(0, false), birth.weight, Some(number));
            }
            None => {
                self.counts.unresolved = self.counts.unresolved.saturating_add(1);
                self.end(kin.cell(0, false), birth.weight, Some(number));
            }
        }
    }

    /// A burst has ended, and all its births were told. Also where it caught none: that counts.
    pub fn burst_ended(&mut self, end: &BurstEnd<'_>) {
        let chosen_per_told = if end.chosen_per_told.is_finite() { end.chosen_per_told.max(1.0) } else { 1.0 };
        let factor = chosen_per_told * crate::units::approximate(end.stands_for_ns)
            / crate::units::approximate(end.open_ns.max(1));
        match end.kind {
            BurstKind::Births | BurstKind::LargeObjects => {
                let (number, cluster, slice) = self.open_burst(end.number, end.began_ns);
                let Some(place) = self.open.iter().position(|open| open.number == number) else { return };
                let Some(open) = self.open.remove(place) else { return };
                for detail in self.details.iter_mut().filter(|detail| detail.open == Some(number)) {
                    detail.open = None;
                    detail.weight *= factor;
                }
                for (key, weight) in open.ended {
                    self.add(key, weight * factor);
                }
                if let Some(slice) = self.slices.iter_mut().find(|known| known.number == slice) {
                    let bursts = if end.kind == BurstKind::Births {
                        slice.births_stand_for_s += crate::units::approximate(end.stands_for_ns) / 1e9;
                        &mut slice.birth_bursts
                    } else {
                        &mut slice.large_bursts
                    };
                    if let Some(bursts) = bursts.get_mut(usize::from(cluster)) {
                        *bursts = bursts.saturating_add(1);
                    }
                }
            }
            BurstKind::Refills(refills) => {
                let cluster = cluster(self.refill_bursts);
                self.refill_bursts = self.refill_bursts.wrapping_add(1);
                let slice = self.slice(end.began_ns);
                for refill in refills {
                    let group = self.groups.of(refill.goroutine, end.number, end.began_ns);
                    let size_bytes = size_step(refill.slot_bytes);
                    let key = CellKey { slice, cluster, group, size_bytes, seen: Seen::Refills };
                    let is_kept = self.sums.add_many(key, refill.hits, factor);
                    self.counts.no_room = self.counts.no_room.saturating_add(u64::from(!is_kept));
                }
                if let Some(slice) = self.slices.iter_mut().find(|known| known.number == slice) {
                    slice.refills_stand_for_s += crate::units::approximate(end.stands_for_ns) / 1e9;
                    if let Some(bursts) = slice.refill_bursts.get_mut(usize::from(cluster)) {
                        *bursts = bursts.saturating_add(1);
                    }
                }
            }
        }
    }

    /// Of a burst it will never be told when it ended: what it caught stands for a time that nobody knows, and is lost.
    pub fn burst_lost(&mut self, number: u32) {
        if let Some(place) = self.open.iter().position(|open| open.number == number)
            && let Some(lost) = self.open.remove(place)
        {
            self.give_up(&lost);
        }
    }

    /// What was lost before it was told, since the beginning: births and slots that found no room in the ring, and births whose slot
    /// cannot be told.
    pub fn lost(&mut self, ring_full: u64, slots_untold: u64) {
        self.counts.ring_full = ring_full;
        self.counts.slots_untold = slots_untold;
    }

    /// What is to be looked at when a collection's marking has ended, in their order. Looking takes its time: it is done with a copy of
    /// these, and answered by [`Self::looked_at`].
    pub fn objects(&self) -> &[TrackedObject] {
        &self.objects
    }

    /// Nobody looks for collections any more until somebody is followed again: of those between none is missed.
    pub fn looks_no_more(&mut self) {
        self.looked = None;
    }

    /// A collection's marking has ended, and these objects were looked at, with an answer for each
    /// ([`crate::read::marks::MarksReader::look`]). Those that went meanwhile are passed over; of those that came nothing is known.
    pub fn looked_at(&mut self, cycle: Cycle, objects: &[TrackedObject], looks: &[Look]) {
        let since = self.looked.map_or(1, |before| cycle.since(before)).max(0).unsigned_abs();
        self.counts.cycles_looked = self.counts.cycles_looked.saturating_add(u64::from(since > 0));
        self.counts.cycles_missed = self.counts.cycles_missed.saturating_add(u64::from(since.saturating_sub(1)));
        self.looked = Some(cycle);
        // Objects keep their order.
        let mut answers = objects.iter().zip(looks);
        let answer = |object: &TrackedObject| {
            let is_same = |asked: &TrackedObject| asked.address == object.address && asked.born == object.born;
            answers.find(|(asked, _)| is_same(asked)).map_or(Look::Censored(Censored::NotYetKnown), |(_, look)| *look)
        };
        let looks: Vec<Look> = self.objects.iter().map(answer).collect();
        self.answered(&looks);
    }

    fn answered(&mut self, looks: &[Look]) {
        // A span that is gone is dated by what is read last, when the collector may be one further. Where those that live were still
        // found in the cycle that was asked for, so were these.
        let is_next = |object: &TrackedObject, cycle: Cycle| cycle.since(object.alive) == 1;
        let pairs = || self.objects.iter().zip(looks);
        let seen =
            pairs().filter(|(object, look)| matches!(look, Look::Alive { cycle } if is_next(object, *cycle))).count();
        let late = pairs().filter(|(_, look)| matches!(look, Look::Censored(Censored::MissedCycle))).count();
        let gap_max = if seen > late { 2 } else { 1 };
        let mut gone = vec![false; self.objects.len()];
        let mut ended = Vec::new();
        for (((object, detail), look), gone) in self.objects.iter_mut().zip(&self.details).zip(looks).zip(&mut gone) {
            let died = match *look {
                Look::Alive { cycle } => {
                    object.alive = cycle;
                    continue;
                }
                Look::Dead { cycle } => cycle.since(object.alive) <= gap_max,
                Look::Censored(reason) if reason.is_final() => false,
                Look::Censored(Censored::NotYetKnown) => continue,
                Look::Censored(_) => {
                    self.counts.undecided = self.counts.undecided.saturating_add(1);
                    continue;
                }
            };
            let count = if died { &mut self.counts.died } else { &mut self.counts.missed_cycle };
            *count = count.saturating_add(1);
            *gone = true;
            ended.extend(life(object, detail, died).map(|key| (key, detail.weight, detail.open)));
        }
        self.drop_where(&gone);
        for (key, weight, open) in ended {
            self.end(key, weight, open);
        }
        if self.thrown > 0 && self.objects.len() < self.limits.objects / ROOM {
            self.thrown -= 1;
        }
    }

    /// What is new since the last one was taken, at a time of the same clock.
    pub fn take(&mut self, now_ns: u64) -> Taken {
        self.forget_before(now_ns.saturating_sub(self.limits.window_ns));
        let alive = self.objects.iter().zip(&self.details).filter(|(_, detail)| detail.open.is_none());
        let alive = alive.filter_map(|(object, detail)| Some((life(object, detail, false)?, detail.weight)));
        let (new_cells, changed, refused) = self.sums.changed_with(alive);
        self.counts.no_room = self.counts.no_room.saturating_add(refused);
        self.counts.stacks_no_room = self.paths.refused();
        let (new_paths, gone_stacks) = self.paths.take_news();
        let look = BirthLook {
            new_stacks: Vec::new(),
            gone_stacks,
            new_cells,
            changed,
            slices: self.slices.iter().copied().collect(),
            refill_trap: self.refill_trap,
            counts: self.counts,
        };
        Taken { look, new_paths }
    }

    /// Slices that ended before this go, with their objects.
    fn forget_before(&mut self, at_ns: u64) {
        let known = self.slices.len();
        // The last one ends where no burst has come since: nothing is known any more.
        let slice_ns = self.limits.slice_ns;
        let is_over = |slices: &VecDeque<Slice>| match (slices.front(), slices.get(1)) {
            (_, Some(second)) => second.began_ns <= at_ns,
            (Some(last), None) => last.began_ns.saturating_add(slice_ns) <= at_ns,
            (None, None) => false,
        };
        while is_over(&self.slices) {
            self.slices.pop_front();
        }
        let oldest = self.slices.front().map_or(self.next_slice, |slice| slice.number);
        let gone: Vec<bool> = self.details.iter().map(|detail| detail.key.slice < oldest).collect();
        self.drop_where(&gone);
        self.sums.forget_before(oldest);
        for open in &mut self.open {
            open.ended.retain(|(key, _)| key.slice >= oldest);
        }
        if self.slices.len() == known {
            return;
        }
        let ended = self.open.iter().flat_map(|open| open.ended.iter().map(|(key, _)| key));
        let of_cells = ended.chain(self.sums.keys()).filter_map(|key| match key.seen {
            Seen::Lives { path, .. } => Some(path),
            Seen::Refills => None,
        });
        let used = self.details.iter().map(|detail| detail.key.path).chain(of_cells).collect();
        self.paths.keep(&used);
    }

    /// Each object with probability one half.
    fn let_half_go(&mut self) {
        self.thrown = self.thrown.saturating_add(1);
        let gone: Vec<bool> = self.objects.iter().map(|_| self.coins.heads()).collect();
        let let_go = self.objects.iter().zip(&self.details).zip(&gone).filter(|(_, gone)| **gone);
        let ended: Vec<_> = let_go
            .filter_map(|((object, detail), _)| Some((life(object, detail, false)?, detail.weight, detail.open)))
            .collect();
        let number = u64::try_from(gone.iter().filter(|gone| **gone).count()).unwrap_or(u64::MAX);
        self.counts.let_go = self.counts.let_go.saturating_add(number);
        self.drop_where(&gone);
        for (key, weight, open) in ended {
            self.end(key, weight, open);
        }
    }

    fn drop_where(&mut self, gone: &[bool]) {
        let mut is_gone = gone.iter();
        self.objects.retain(|_| !is_gone.next().copied().unwrap_or_default());
        let mut is_gone = gone.iter();
        self.details.retain(|_| !is_gone.next().copied().unwrap_or_default());
    }

    /// Nothing more will be known of an object.
    fn end(&mut self, key: CellKey, weight: f64, open: Option<u32>) {
        let Some(number) = open else { return self.add(key, weight) };
        match self.open.iter_mut().find(|open| open.number == number) {
            Some(open) if open.ended.len() < WAITING_MAX => open.ended.push((key, weight)),
            _ => self.counts.no_room = self.counts.no_room.saturating_add(1),
        }
    }

    fn add(&mut self, key: CellKey, weight: f64) {
        if !self.sums.add(key, weight) {
            self.counts.no_room = self.counts.no_room.saturating_add(1);
        }
    }

    /// The burst of births with this number: its number, cluster and slice.
    fn open_burst(&mut self, number: u32, at_ns: u64) -> (u32, u8, u32) {
        if let Some(open) = self.open.iter().find(|open| open.number == number) {
            return (open.number, open.cluster, open.slice);
        }
        let bursts = if number < LARGE_BURSTS { &mut self.birth_bursts } else { &mut self.large_bursts };
        let cluster = cluster(*bursts);
        *bursts = bursts.wrapping_add(1);
        let is_cut = self.cut.take_if(|from| (*from..LARGE_BURSTS).contains(&number)).is_some();
        let slice = if is_cut { self.new_slice(at_ns) } else { self.slice(at_ns) };
        self.open.push_back(OpenBurst { number, cluster, slice, ended: Vec::new() });
        if self.open.len() > OPEN_MAX
            && let Some(lost) = self.open.pop_front()
        {
            self.give_up(&lost);
        }
        (number, cluster, slice)
    }

    fn give_up(&mut self, lost: &OpenBurst) {
        let gone: Vec<bool> = self.details.iter().map(|detail| detail.open == Some(lost.number)).collect();
        let births = gone.iter().filter(|gone| **gone).count() + lost.ended.len();
        self.counts.no_end = self.counts.no_end.saturating_add(u64::try_from(births).unwrap_or(u64::MAX));
        self.drop_where(&gone);
    }

    /// The number of the slice of a time. What comes late belongs to the last one.
    fn slice(&mut self, at_ns: u64) -> u32 {
        match self.slices.back() {
            Some(last) if at_ns.saturating_sub(last.began_ns) < self.limits.slice_ns.max(1) => last.number,
            _ => self.new_slice(at_ns),
        }
    }

    fn new_slice(&mut self, at_ns: u64) -> u32 {
        let number = self.next_slice;
        self.next_slice = number.saturating_add(1);
        self.slices.push_back(Slice { number, began_ns: at_ns, ..Slice::default() });
        number
    }
}

fn cluster(bursts: usize) -> u8 {
    u8::try_from(bursts % CLUSTERS).unwrap_or_default()
}

/// What is known of an object's life: the collections that tested it and kept it. The first after a black birth did not test it.
/// `None`: a black one that the first found dead, which cannot be.
fn life(object: &TrackedObject, detail: &Detail, died: bool) -> Option<CellKey> {
    let lived = object.alive.since(object.born).max(0).unsigned_abs();
    if !detail.is_black {
        return Some(detail.key.cell(lived, died));
    }
    match lived.checked_sub(1) {
        Some(tested) => Some(detail.key.cell(tested, died)),
        None => (!died).then(|| detail.key.cell(0, false)),
    }
}

/// Coins without any source of chance: the same births give the same objects (splitmix64: Steele, Lea, Flood, Fast splittable
/// pseudorandom number generators, OOPSLA 2014).
#[derive(Debug)]
struct Coins(u64);

impl Coins {
    fn heads(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) & 1 == 1
    }
}
