//! The thread that follows the sampled objects of one target: births from the ring, a look at the marks after each collection.
//!
//! It opens and closes nothing: while probes come or go it must not wait, or it would miss collections. What it knows is taken by
//! whoever reports ([`Tracker::take`]); which windows have ended it is told ([`Tracker::ended`]).

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};
use tracer_common::bursts::WindowKind;

use super::bell::Bell;
use crate::{
    addr::Avma,
    collect::births::{Birth, BurstEvent, BurstReader, BurstTotals, CycleMarked, SlotFound, Unplaced},
    model::{
        impulses::{Catch, Catching, Unserved},
        tracked::{BirthEvent, BurstEnd, BurstKind, Goroutine, LARGE_BURSTS, Limits, Refill, Taken, Tracked},
    },
    pipeline::{StartError, own},
    read::{
        ReadError, Runtime,
        marks::{Cycle, MarksReader, TrackedObject},
        memory::ProcessMemory,
    },
    units::approximate,
};

/// How long it sleeps at most while births come, which wake nobody up before the ring is half full, or the end of a collection would not.
const NAP: Duration = Duration::from_millis(20);
/// The same where only a collection or a window can bring news. Births of large objects come in between: as many as their hook may have in
/// that time find room in the smallest ring.
const LONG_NAP: Duration = Duration::from_millis(100);
/// Where collections are too many to be told of each, it looks so often in the time of one whether there was one more: behind the end of one its marks can be read until
/// the next has ended.
const LOOKS_PER_CYCLE: u32 = 4;
/// But no more often than this: each look at a number in the target's memory takes some microseconds of ours.
const SHORT_NAP: Duration = Duration::from_micros(500);
/// Births of one nap that are more than a few.
const MANY: u64 = 50;
/// While births come, it does not look at the ring for each of them.
const BREATH: Duration = Duration::from_millis(1);
/// A window is told as over so long after its end: a program that was interrupted between taking room in the ring and filling it keeps
/// back what came behind it.
const SETTLE: Duration = Duration::from_millis(20);
/// Between the end of marking and the beginning of the next cycle the world is stopped for some microseconds.
const SPIN: Duration = Duration::from_micros(20);
/// So often it is looked whether the cycle has begun: in all some milliseconds.
const SPINS: u32 = 200;
/// Instructions whose births are told apart: more than any binary has.
const POINTS_MAX: usize = 4_096;
/// Births that wait for their slot.
const WAITING_MAX: usize = 4_096;
/// Goroutines of one window that are told apart, times sizes.
const REFILLS_MAX: usize = 65_536;
/// Impulses whose bursts are not over, and those that nobody asked for yet; the oldest goes first.
const IMPULSES_MAX: usize = 8;

/// A window that has ended: what the scheduler knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedWindow {
    /// The number of the burst.
    pub(super) burst: u32,
    pub(super) caught: Caught,
    /// When it began, ns of the monotonic clock.
    pub(super) began_ns: u64,
    /// How long hits counted.
    pub(super) open_ns: u64,
    /// The time that it stands for.
    pub(super) stands_for_ns: u64,
    /// How many births or slots were chosen for each that came through the ring.
    pub(super) chosen_per_told: f64,
}

/// What a window was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Caught {
    Births,
    Slots,
    /// No window: a part of the time in which all large objects are caught.
    LargeObjects,
}

impl From<WindowKind> for Caught {
    fn from(kind: WindowKind) -> Self {
        match kind {
            WindowKind::Births => Self::Births,
            WindowKind::Slots => Self::Slots,
        }
    }
}

/// How a window was left.
#[derive(Clone, Copy, Debug)]
enum Left {
    Ended(EndedWindow),
    /// Nobody knows when it ended, or whose births it caught.
    Lost(u32),
}

/// What the bursts of impulses catch. They are no random sample: `tracked` is not told of them.
#[derive(Debug, Default)]
struct ImpulseBursts {
    caught_now: VecDeque<Catching>,
    caught: VecDeque<Catch>,
    unserved: VecDeque<Unserved>,
}

impl ImpulseBursts {
    /// True where the birth is of such a burst, and was taken.
    fn born(&mut self, birth: &Birth) -> bool {
        let catching = self.caught_now.iter_mut().find(|catching| catching.burst() == birth.burst);
        let is_taken = catching.is_some();
        if let Some(catching) = catching {
            let frames: Vec<u64> = birth.frames.iter().map(|frame| frame.0).collect();
            catching.born(&frames, birth.weight, birth.bytes);
        }
        is_taken
    }

    fn remove(&mut self, burst: u32) -> Option<Catching> {
        let place = self.caught_now.iter().position(|catching| catching.burst() == burst)?;
        self.caught_now.remove(place)
    }

    /// True where the window was one of those.
    fn ended(&mut self, window: &EndedWindow, epoch_ns: u64) -> bool {
        let Some(catching) = self.remove(window.burst) else { return false };
        let began_ns = window.began_ns.saturating_sub(epoch_ns);
        push(&mut self.caught, catching.ended(began_ns, window.open_ns, window.chosen_per_told));
        true
    }

    fn lost(&mut self, burst: u32) {
        if let Some(catching) = self.remove(burst) {
            let why = "the window could not be opened, or it is not known when it ended".into();
            push(&mut self.unserved, Unserved { number: catching.number(), why });
        }
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T) {
    queue.push_back(item);
    if queue.len() > IMPULSES_MAX {
        queue.pop_front();
    }
}

/// The thread and what it shares.
#[derive(Debug)]
pub(in crate::pipeline) struct Tracker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    state: Mutex<State>,
    /// Wakes the thread up.
    bell: Bell,
}

/// What both sides change, each for a short time.
#[derive(Debug)]
struct State {
    tracked: Tracked,
    /// Whether a window is open, or about to be.
    is_open: bool,
    /// Whether the end of each collection is told through the ring.
    sees_cycles: bool,
    /// Windows that are over and were not told to `tracked` yet, and since when that is known.
    left: VecDeque<(Instant, Left)>,
    impulses: ImpulseBursts,
    undecodable: u64,
    /// Allocations that births stand for, by the instruction that was probed.
    hits: HashMap<Avma, f64>,
    /// Why looks fail now.
    failure: Option<ReadError>,
}

impl State {
    fn hit(&mut self, birth: &Birth) {
        // A hook that stays is hit all the time, and takes no part in the order.
        if birth.burst >= LARGE_BURSTS {
            return;
        }
        let Some(point) = birth.frames.first() else { return };
        if self.hits.len() < POINTS_MAX || self.hits.contains_key(point) {
            *self.hits.entry(*point).or_default() += birth.weight;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked has left is still counts.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracker {
    /// Starts the thread. `epoch_ns`: the moment from which the model counts, by the monotonic clock.
    ///
    /// # Errors
    /// Where the marks cannot be read, or there is no thread to be had.
    pub(super) fn start(
        pid: u32,
        runtime: &Runtime,
        reader: BurstReader,
        limits: Limits,
        epoch_ns: u64,
    ) -> Result<Self, StartError> {
        let marks = MarksReader::new(runtime).map_err(|source| StartError::Read { pid, source })?;
        let state = State {
            tracked: Tracked::new(limits),
            is_open: false,
            sees_cycles: false,
            left: VecDeque::new(),
            impulses: ImpulseBursts::default(),
            undecodable: 0,
            hits: HashMap::new(),
            failure: None,
        };
        let no_thread = |source| StartError::NoThread { pid, source };
        let bell = Bell::new().map_err(no_thread)?;
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), state: Mutex::new(state), bell });
        let mut follower = Follower {
            shared: Arc::clone(&shared),
            reader,
            marks,
            memory: ProcessMemory::new(pid),
            epoch_ns,
            waiting: HashMap::new(),
            refills: HashMap::new(),
            asked: Vec::new(),
            looked: None,
            looked_at: own::now(),
            period: None,
            came: 0,
        };
        let thread = thread::Builder::new().name(format!("marks-{pid}")).spawn(move || follower.run());
        Ok(Self { shared, thread: Some(thread.map_err(no_thread)?) })
    }

    /// Whether anybody follows what is caught. Nobody does where the thread has panicked.
    pub(super) fn runs(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// A window is about to open: births come soon.
    pub(super) fn begins(&self) {
        self.shared.state().is_open = true;
        self.shared.bell.ring();
    }

    /// Whether the end of each collection is told through the ring from now on.
    pub(super) fn sees_cycles(&self, sees_cycles: bool) {
        let before = std::mem::replace(&mut self.shared.state().sees_cycles, sees_cycles);
        if before != sees_cycles {
            self.shared.bell.ring();
        }
    }

    /// A window has ended.
    pub(super) fn ended(&self, window: EndedWindow) {
        self.leave(Left::Ended(window), matches!(window.caught, Caught::LargeObjects));
    }

    fn leave(&self, left: Left, stays_open: bool) {
        let mut state = self.shared.state();
        state.is_open &= stays_open;
        state.left.push_back((own::now(), left));
        drop(state);
        self.shared.bell.ring();
    }

    /// A window is over, and what it caught means nothing: it is not known when it ended, or the target was another by then.
    pub(super) fn lost(&self, burst: u32) {
        self.leave(Left::Lost(burst), false);
    }

    /// The window of this burst, which is about to open, is an impulse's.
    pub(super) fn expect_impulse(&self, impulse: u32, burst: u32) {
        push(&mut self.shared.state().impulses.caught_now, Catching::new(impulse, burst));
    }

    /// No window is opened for an impulse.
    pub(super) fn unserved(&self, impulse: u32, why: String) {
        push(&mut self.shared.state().impulses.unserved, Unserved { number: impulse, why: why.into() });
    }

    /// What the bursts of impulses caught, and which had none; once.
    pub(in crate::pipeline) fn take_impulses(&self) -> (VecDeque<Catch>, VecDeque<Unserved>) {
        let impulses = &mut self.shared.state().impulses;
        (std::mem::take(&mut impulses.caught), std::mem::take(&mut impulses.unserved))
    }

    /// From this burst on births are chosen otherwise.
    pub(super) fn chosen_otherwise_from(&self, burst: u32) {
        self.shared.state().tracked.chosen_otherwise_from(burst);
    }

    /// What the kernel side could not hand on since it was loaded.
    pub(super) fn losses(&self, totals: &BurstTotals) {
        self.shared.state().tracked.lost(totals.lost, totals.pending_full);
    }

    /// How many objects are followed.
    pub(super) fn followed(&self) -> u64 {
        u64::try_from(self.shared.state().tracked.followed()).unwrap_or(u64::MAX)
    }

    /// How many allocations births stand for, by the instruction that was probed.
    pub(super) fn hits(&self) -> HashMap<Avma, f64> {
        self.shared.state().hits.clone()
    }

    /// What is new for the model.
    pub(in crate::pipeline) fn take(&self, now_ns: u64) -> Taken {
        self.shared.state().tracked.take(now_ns)
    }

    /// What a hit in a window on slots costs, as a part of what one in a window on births does.
    pub(super) fn refill_trap(&self, part: f64) {
        self.shared.state().tracked.refill_trap(part);
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _panicked = thread.join();
        }
    }
}

/// What the thread owns.
struct Follower {
    shared: Arc<Shared>,
    reader: BurstReader,
    marks: MarksReader,
    memory: ProcessMemory,
    epoch_ns: u64,
    /// Births whose span was full, by goroutine and time.
    waiting: HashMap<(Avma, u64), Birth>,
    /// Of windows that weigh goroutines: who asked for slots of which size, how often.
    refills: HashMap<(u32, Goroutine, u64), u64>,
    /// The objects of the last look.
    asked: Vec<TrackedObject>,
    /// The cycle of the last look.
    looked: Option<Cycle>,
    /// When that was.
    looked_at: Instant,
    /// From the end of one collection to that of the next, of late.
    period: Option<Duration>,
    /// Births that were in the ring after the last nap.
    came: u64,
}

impl Follower {
    fn run(&mut self) {
        self.follow();
        let state = self.shared.state();
        if state.undecodable > 0 {
            tracing::error!(records = state.undecodable, "records that follow no contract: please report this");
        }
        tracing::debug!(counts = ?state.tracked.counts(), "what became of births");
    }

    fn follow(&mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let ready = self.sleep();
            let left = self.settled();
            let marked = self.drain();
            self.windows_left(left);
            self.look(marked);
            if ready && marked.is_none() {
                thread::sleep(BREATH);
            }
        }
    }

    /// True where something woke it.
    fn sleep(&self) -> bool {
        let state = self.shared.state();
        let is_quiet = state.sees_cycles && !state.is_open && state.left.is_empty() && self.came < MANY;
        let looks_itself = !state.sees_cycles && state.tracked.followed() > 0;
        drop(state);
        let nap = match self.period {
            _ if is_quiet => LONG_NAP,
            // Where they have become rare, so do looks.
            Some(period) if looks_itself => {
                between_looks(period.max(own::now().saturating_duration_since(self.looked_at)))
            }
            _ => NAP,
        };
        let (ring, bell) = (self.reader.descriptor(), &self.shared.bell);
        let mut waited = [PollFd::new(&ring, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        // Interrupted or not: the ring says what there is. It says so also of what cannot be taken yet.
        let ready = poll(&mut waited, Timespec::try_from(nap).ok().as_ref()) != Ok(0);
        bell.silence();
        ready
    }

    /// The windows all of whose births are in the ring by now, or were taken from it.
    fn settled(&self) -> Vec<Left> {
        let now = own::now();
        let mut state = self.shared.state();
        let settled = state.left.partition_point(|(since, _)| now.saturating_duration_since(*since) >= SETTLE);
        state.left.drain(..settled).map(|(_, left)| left).collect()
    }

    /// Hands on what is in the ring; the last collection.
    fn drain(&mut self) -> Option<CycleMarked> {
        let mut marked = None;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let Self { reader, waiting, refills, epoch_ns, came, .. } = self;
        *came = 0;
        reader.drain(|event| match event {
            BurstEvent::Birth(birth) => {
                *came += 1;
                state.hit(&birth);
                if state.impulses.born(&birth) {
                    return;
                }
                if birth.unplaced == Some(Unplaced::SpanFull) && waiting.len() < WAITING_MAX {
                    waiting.insert((birth.g, birth.time_ns), birth);
                } else {
                    tell(&mut state.tracked, &birth, birth.address, *epoch_ns);
                }
            }
            BurstEvent::Slot(slot) => match slot.birth_ns {
                Some(birth_ns) => {
                    if let Some(birth) = waiting.remove(&(slot.g, birth_ns)) {
                        tell(&mut state.tracked, &birth, Some(slot.address), *epoch_ns);
                    }
                }
                None => count_refill(refills, &slot),
            },
            BurstEvent::Cycle(cycle) => marked = Some(cycle),
        });
        state.undecodable = reader.undecodable();
        marked
    }

    /// All births of these windows are in the ring no more.
    fn windows_left(&mut self, left: Vec<Left>) {
        if left.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        for window in left {
            let window = match window {
                Left::Ended(window) => window,
                Left::Lost(burst) => {
                    self.waiting.retain(|_, birth| birth.burst != burst);
                    self.refills.retain(|(of, _, _), _| *of != burst);
                    state.impulses.lost(burst);
                    state.tracked.burst_lost(burst);
                    continue;
                }
            };
            if state.impulses.ended(&window, self.epoch_ns) {
                continue;
            }
            // A slot that has not come by now was found otherwise.
            let unplaced: Vec<(Avma, u64)> =
                self.waiting.iter().filter(|(_, birth)| birth.burst == window.burst).map(|(key, _)| *key).collect();
            for key in unplaced {
                if let Some(birth) = self.waiting.remove(&key) {
                    tell(&mut state.tracked, &birth, None, self.epoch_ns);
                }
            }
            let refills = self.take_refills(window.burst);
            state.tracked.burst_ended(&BurstEnd {
                number: window.burst,
                began_ns: window.began_ns.saturating_sub(self.epoch_ns),
                open_ns: window.open_ns,
                stands_for_ns: window.stands_for_ns,
                chosen_per_told: window.chosen_per_told,
                kind: match window.caught {
                    Caught::Births => BurstKind::Births,
                    Caught::Slots => BurstKind::Refills(&refills),
                    Caught::LargeObjects => BurstKind::LargeObjects,
                },
            });
        }
    }

    fn take_refills(&mut self, burst: u32) -> Vec<Refill> {
        let mut taken = Vec::new();
        self.refills.retain(|(of, goroutine, slot_bytes), hits| {
            let is_taken = *of == burst;
            if is_taken {
                taken.push(Refill { goroutine: *goroutine, slot_bytes: *slot_bytes, hits: *hits });
            }
            !is_taken
        });
        taken
    }

    /// Looks at all objects where a collection has ended since the last look. Nobody waits meanwhile: memory that is slow to be read, as where
    /// it was swapped out, is no matter of the others.
    fn look(&mut self, marked: Option<CycleMarked>) {
        let mut state = self.shared.state();
        if state.tracked.followed() == 0 && marked.is_none() {
            if !state.sees_cycles {
                state.tracked.looks_no_more();
                self.looked = None;
            }
            return;
        }
        drop(state);
        let outcome = self.cycle(marked).and_then(|cycle| {
            let is_new = self.looked.is_none_or(|looked| cycle.since(looked) > 0);
            if !is_new {
                return Ok(());
            }
            self.learn_period(cycle);
            self.looked = Some(cycle);
            self.asked.clear();
            self.asked.extend_from_slice(self.shared.state().tracked.objects());
            let looks = self.marks.look(&self.memory, &self.asked, cycle)?;
            self.shared.state().tracked.looked_at(cycle, &self.asked, &looks);
            Ok(())
        });
        self.shared.state().failure = outcome.err();
    }

    fn learn_period(&mut self, cycle: Cycle) {
        let now = own::now();
        let cycles = self.looked.map_or(0, |looked| cycle.since(looked));
        if let Some(period) =
            now.saturating_duration_since(self.looked_at).checked_div(u32::try_from(cycles).unwrap_or(0))
        {
            self.period = Some(self.period.map_or(period, |before| (before * 7 + period) / 8));
        }
        self.looked_at = now;
    }

    /// The present cycle; after the end of a marking the one that begins with it.
    fn cycle(&self, marked: Option<CycleMarked>) -> Result<Cycle, ReadError> {
        let mut cycle = self.marks.cycle(&self.memory)?;
        let Some(ended) = marked.filter(|marked| marked.sweepgen != 0) else { return Ok(cycle) };
        for _ in 0..SPINS {
            if cycle.since(Cycle(ended.sweepgen)) > 0 {
                break;
            }
            thread::sleep(SPIN);
            cycle = self.marks.cycle(&self.memory)?;
        }
        Ok(cycle)
    }
}

/// How long to sleep where nobody tells of collections.
fn between_looks(period: Duration) -> Duration {
    (period / LOOKS_PER_CYCLE).clamp(SHORT_NAP, NAP)
}

fn tell(tracked: &mut Tracked, birth: &Birth, address: Option<Avma>, epoch_ns: u64) {
    let born = Cycle(birth.sweepgen);
    let object =
        address.filter(|_| birth.sweepgen != 0).map(|address| TrackedObject { address, span: None, born, alive: born });
    let frames: Vec<u64> = birth.frames.iter().map(|frame| frame.0).collect();
    tracked.born(&BirthEvent {
        at_ns: birth.time_ns.saturating_sub(epoch_ns),
        burst: birth.burst,
        goroutine: Goroutine { id: birth.goroutine, start_pc: birth.goroutine_entry.0 },
        frames: &frames,
        object,
        slot_bytes: if birth.is_tiny { TINY_SLOT_BYTES } else { birth.bytes },
        is_black: birth.is_black,
        // Several tiny objects share a slot: each is a part of one.
        weight: if birth.is_tiny {
            birth.weight * approximate(birth.bytes) / approximate(TINY_SLOT_BYTES)
        } else {
            birth.weight
        },
    });
}

/// The slot that tiny objects share.
const TINY_SLOT_BYTES: u64 = 16;

fn count_refill(refills: &mut HashMap<(u32, Goroutine, u64), u64>, slot: &SlotFound) {
    let goroutine = Goroutine { id: slot.goroutine, start_pc: slot.goroutine_entry.0 };
    let key = (slot.burst, goroutine, slot.slot_bytes);
    if refills.len() < REFILLS_MAX || refills.contains_key(&key) {
        *refills.entry(key).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_collections_the_shorter_the_naps_within_bounds() {
        let nap_us = |period_us| between_looks(Duration::from_micros(period_us)).as_micros();
        assert_eq!([0, 1_000, 4_000, 10_000, 1_000_000].map(nap_us), [500, 500, 1_000, 2_500, 20_000]);
    }
}
