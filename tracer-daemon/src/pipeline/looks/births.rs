//! Births that bursts catch, and what became of them: taken from the tracker, told to the model.

use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{HookLooks, Pace};
use crate::{
    addr::Avma,
    attach::{
        Limits,
        governor::{self, Impulse, Impulses, Jump, Pulse, Standing},
    },
    export::{CostFacts, Refusal},
    model::{
        Stack,
        impulses::{Caught, CaughtStack, ImpulseKind, ImpulseLook, Noticed},
        observation::Observation,
        preferences::Preferences,
    },
    pipeline::{
        Subject,
        bursts::{BookRates, BurstTarget, Bursts, Desk, Place, TARGETS_MAX, Tracker},
    },
    read::books::Books,
    symbolize::{Frame, Origin},
    units::approximate,
};

/// How often the model is told what is new.
const EVERY: Duration = Duration::from_secs(1);
/// Rates of the books are over at least so long.
const RATES_OVER: Duration = Duration::from_secs(1);

/// Where there are no bursts for a reason that may pass they are tried again after so long, and after twice as long each time.
const AGAIN: Duration = Duration::from_secs(30);
/// But after this at the latest.
const AGAIN_MOST: Duration = Duration::from_secs(600);

/// What it takes to begin with bursts in one target.
#[derive(Debug)]
pub(in crate::pipeline) struct BirthStart {
    exe: File,
    bursts: Arc<Bursts>,
    limits: Limits,
    /// From when the model counts, ns of the monotonic clock.
    epoch_ns: u64,
    /// Why there are none.
    refused: Option<Refusal>,
    /// When they are tried, and how long after that again. `None`: never any more.
    next: Option<(Instant, Duration)>,
}

impl BirthStart {
    /// They are to be tried now. `epoch_ns`: from when the model counts, by the monotonic clock.
    pub(in crate::pipeline) fn new(
        exe: File,
        bursts: Arc<Bursts>,
        limits: Limits,
        epoch_ns: u64,
        now: Instant,
    ) -> Self {
        Self { exe, bursts, limits, epoch_ns, refused: None, next: Some((now, AGAIN)) }
    }

    /// Begins, where it is time to and works.
    pub(in crate::pipeline) fn begin(&mut self, subject: &Subject, now: Instant) -> Option<BirthLooks> {
        let (_, wait) = self.next.filter(|(at, _)| now >= *at)?;
        let started = BirthLooks::start(subject, &self.exe, &self.bursts, self.limits, self.epoch_ns);
        self.next = None;
        self.refused = None;
        match started {
            Ok(births) => Some(births),
            Err(no) => {
                if no.may_pass {
                    self.next = Some((now + wait, (wait * 2).min(AGAIN_MOST)));
                }
                self.refused = Some(no.why);
                None
            }
        }
    }

    /// Whether they may begin yet.
    pub(in crate::pipeline) fn may_begin(&self) -> bool {
        self.next.is_some()
    }

    /// Why there are none.
    pub(in crate::pipeline) fn refused(&self) -> Option<&Refusal> {
        self.refused.as_ref()
    }
}

/// Why there are no bursts.
#[derive(Debug)]
pub(in crate::pipeline) struct NoBirths {
    pub(in crate::pipeline) why: Refusal,
    /// Whether it may be otherwise later, with the same process.
    pub(in crate::pipeline) may_pass: bool,
}

impl NoBirths {
    /// For ever.
    pub(in crate::pipeline) fn is_final(why: Refusal) -> Self {
        Self { why, may_pass: false }
    }

    /// For now.
    pub(in crate::pipeline) fn may_pass(why: Refusal) -> Self {
        Self { why, may_pass: true }
    }
}

/// The bursts of one target, as its session sees them.
#[derive(Debug)]
pub(in crate::pipeline) struct BirthLooks {
    tracker: Arc<Tracker>,
    desk: Arc<Desk>,
    /// While it is kept, windows are opened.
    place: Option<Place>,
    pace: Pace,
    budget_ratio: f64,
    /// The books that rates are counted from.
    books: Option<(Instant, Amounts)>,
    /// The last look at them, and when the last pause ended then.
    last: Option<(Instant, Amounts, u64)>,
    impulses: Impulses,
    /// Impulses so far.
    noticed: u32,
    /// Those that the model was not told of.
    untold: Vec<Noticed>,
    /// The hooks on goroutines. `None`: there are none.
    hooks: Option<HookLooks>,
    /// Why windows are fewer on this host than on others.
    slow: Option<Refusal>,
}

/// What was ever allocated.
#[derive(Clone, Copy, Debug)]
struct Amounts {
    objects: u64,
    bytes: u64,
    large: u64,
    collections: u32,
    goroutines: Option<u64>,
}

impl Amounts {
    fn of(books: &Books, goroutines: Option<u64>) -> Self {
        Self {
            objects: books.allocs(),
            bytes: books.alloc_bytes(),
            large: books.large_allocs,
            collections: books.collections,
            goroutines,
        }
    }

    fn since(self, earlier: Self, seconds: f64, threads_max: Option<u32>) -> BookRates {
        let per_s = |now: u64, before: u64| Some(approximate(now.saturating_sub(before)) / seconds);
        BookRates {
            allocations_per_s: per_s(self.objects, earlier.objects),
            bytes_per_s: per_s(self.bytes, earlier.bytes),
            large_per_s: per_s(self.large, earlier.large),
            goroutines_per_s: self.goroutines.zip(earlier.goroutines).and_then(|(now, before)| per_s(now, before)),
            collections_per_s: per_s(self.collections.into(), earlier.collections.into()),
            threads_max,
        }
    }
}

impl BirthLooks {
    /// Loads the programs; windows open from now on. `epoch_ns`: from when the model counts, by the monotonic clock.
    ///
    /// # Errors
    /// The reason for which there are no bursts.
    fn start(subject: &Subject, exe: &File, bursts: &Bursts, limits: Limits, epoch_ns: u64) -> Result<Self, NoBirths> {
        let host = bursts.host().map_err(NoBirths::may_pass)?;
        if !host.has_room() {
            let text = format!("no bursts: windows are opened in {TARGETS_MAX} processes already");
            return Err(NoBirths::may_pass(Refusal::new("bursts_many_targets", text)));
        }
        let mut target = BurstTarget::load(subject, exe, limits, epoch_ns, host.mechanism())?;
        let (tracker, desk) = (target.tracker(), target.desk());
        let hooks = target.take_hook_reader().map(|reader| HookLooks::new(reader, Arc::clone(&desk)));
        Ok(Self {
            tracker,
            desk,
            place: Some(host.add(target)),
            pace: Pace::new(EVERY),
            budget_ratio: bursts.max_overhead(),
            books: None,
            last: None,
            impulses: Impulses::default(),
            noticed: 0,
            untold: Vec::new(),
            hooks,
            slow: host.why_slow().map(slow),
        })
    }

    /// What the books say now; `goroutines`: how many have begun so far.
    pub(in crate::pipeline) fn read(&mut self, books: &Books, goroutines: Option<u64>, now: Instant) {
        let amounts = Amounts::of(books, goroutines);
        if let Some(jump) = self.pulse(books, amounts, now) {
            self.noticed = self.noticed.wrapping_add(1);
            self.untold.push(noticed(self.noticed, jump));
            self.desk.demand(self.noticed, jump.impulse);
            if let Some(place) = &self.place {
                place.ring();
            }
        }
        match self.books {
            Some((at, before)) if now.saturating_duration_since(at) >= RATES_OVER => {
                let seconds = now.saturating_duration_since(at).as_secs_f64();
                self.desk.tell_rates(amounts.since(before, seconds, Some(books.processors)));
                self.books = Some((now, amounts));
            }
            Some(_) => {}
            None => self.books = Some((now, amounts)),
        }
    }

    /// How many times less often than usual the books are to be read; at least 1.
    pub(in crate::pipeline) fn reads_slower(&self) -> f64 {
        self.desk.reads_slower().max(1.0)
    }

    /// Of which size classes more births should be caught.
    pub(in crate::pipeline) fn prefer(&self, preferences: Preferences) {
        self.desk.prefer(preferences);
    }

    /// Whether a burst at once would tell more of what the books show.
    fn pulse(&mut self, books: &Books, amounts: Amounts, now: Instant) -> Option<Jump> {
        let ended_ns = books.pauses.iter().map(|pause| pause.end_unix_ns).max().unwrap_or_default();
        let (at, before, known_ns) = self.last.replace((now, amounts, ended_ns))?;
        let new = books.pauses.iter().filter(|pause| pause.end_unix_ns > known_ns);
        self.impulses.observe(Pulse {
            seconds: now.saturating_duration_since(at).as_secs_f64(),
            allocated_bytes: approximate(amounts.bytes.saturating_sub(before.bytes)),
            heap_bytes: approximate(books.heap_alloc_bytes()),
            pause_ns: new.map(|pause| pause.duration_ns).max().unwrap_or_default(),
        })
    }

    /// What is new for the model, where it is time to tell it or it must be told. `at_ns`: now, by the model's clock.
    pub(in crate::pipeline) fn look(
        &mut self,
        subject: &mut Subject,
        now: Instant,
        at_ns: u64,
        must: bool,
    ) -> Option<Observation> {
        if !(self.pace.is_due(now) || must) {
            return None;
        }
        let taken = self.tracker.take(at_ns);
        let mut look = taken.look;
        look.new_stacks = named(subject, taken.new_paths.iter().map(|path| &**path));
        Some(Observation::Births(Arc::new(look)))
    }

    /// What is new of impulses.
    pub(in crate::pipeline) fn look_at_impulses(&mut self, subject: &mut Subject) -> Option<Observation> {
        let (catches, unserved) = self.tracker.take_impulses();
        let caught = catches.into_iter().map(|catch| {
            let stacks = named(subject, catch.stacks.iter().map(|(path, _)| &**path));
            let stacks =
                stacks.into_iter().zip(&catch.stacks).map(|(stack, (_, sum))| CaughtStack { stack, sum: *sum });
            Caught { stacks: stacks.collect(), ..catch.caught }
        });
        let look = ImpulseLook {
            caught: caught.collect(),
            unserved: unserved.into(),
            noticed: std::mem::take(&mut self.untold),
        };
        (!look.is_empty()).then(|| Observation::Impulses(Arc::new(look)))
    }

    /// What hooks on goroutines have counted, as [`Self::look`].
    pub(in crate::pipeline) fn look_at_hooks(
        &mut self,
        subject: &mut Subject,
        now: Instant,
        must: bool,
    ) -> Option<Observation> {
        let look = self.hooks.as_mut()?.look(subject, now, must)?;
        Some(Observation::GoroutineHooks(Arc::new(look)))
    }

    /// No window opens any more.
    pub(in crate::pipeline) fn stop(&mut self) {
        self.place = None;
    }

    /// What it has cost the target, by the governor's account.
    pub(in crate::pipeline) fn cost(&self) -> CostFacts {
        let shown = self.desk.shown();
        let account = shown.account;
        CostFacts {
            probe_hits: account.hits,
            bursts: Some(account.bursts),
            bursts_open_s: Some(approximate(account.open_ns) / 1e9),
            budget_ratio: Some(self.budget_ratio),
            target_ratio: (account.cpu_ns > 0.0).then_some(account.ratio),
            target_ratio_last_minute: (account.cpu_ns > 0.0).then_some(account.ratio_last_minute),
            target_added_s: Some(account.cost_ns / 1e9),
            ..CostFacts::default()
        }
    }

    /// Why there are few windows, or none, and why hooks on goroutines do not count.
    pub(in crate::pipeline) fn refused(&self) -> Vec<Refusal> {
        let shown = self.desk.shown();
        if let Some(off) = shown.off {
            return vec![off];
        }
        let standing = match shown.standing {
            None | Some(Standing::Scheduled { .. }) => None,
            Some(Standing::Floor(why @ governor::Refusal::Debt { .. })) => {
                Some(Refusal::new("bursts_wait", format!("no window for a while: {}", with_option(&why))))
            }
            Some(Standing::Floor(why)) => {
                Some(Refusal::new("bursts_few", format!("about one window a minute: {}", with_option(&why))))
            }
            Some(Standing::Refused(why)) => Some(Refusal::new("bursts_refused", format!("no windows: {why}"))),
        };
        let failure = shown.failure.map(|failure| Refusal::new("bursts_failed", failure));
        let hooks = shown.goroutine_hooks_off.map(|why| Refusal::new("goroutine_hooks_off", why));
        standing.into_iter().chain(self.slow.clone()).chain(failure).chain(hooks).collect()
    }
}

/// Why there are few windows, with the option that allows more, if one does.
fn with_option(why: &governor::Refusal) -> String {
    use governor::Refusal::{BudgetTooSmall, Debt, Node};
    match why {
        BudgetTooSmall { .. } | Debt { .. } => format!("{why} (--max-overhead)"),
        Node { .. } => format!("{why} (3 %, or twice --max-overhead if that is more)"),
        _ => why.to_string(),
    }
}

fn noticed(number: u32, jump: Jump) -> Noticed {
    let kind = match jump.impulse {
        Impulse::AllocationRate => ImpulseKind::AllocationRate,
        Impulse::HeapGrowth => ImpulseKind::HeapGrowth,
        Impulse::Pause => ImpulseKind::Pause,
    };
    Noticed { number, kind, usual: jump.usual, seen: jump.seen }
}

/// The stacks of these return addresses, in their order.
fn named<'a>(subject: &mut Subject, paths: impl Iterator<Item = &'a [u64]>) -> Vec<Stack> {
    let paths: Vec<Vec<Avma>> = paths.map(|path| path.iter().copied().map(Avma).collect()).collect();
    let addresses: Vec<&[Avma]> = paths.iter().map(Vec::as_slice).collect();
    subject.symbolizer.stacks(&addresses).into_iter().map(known).map(Stack::from).collect()
}

fn slow(why: &str) -> Refusal {
    let text = format!("fewer windows, opened by perf events, which take about 100 ms a probe to go: {why}");
    Refusal::new("bursts_by_perf_events", text)
}

/// What of a stack can be believed. An address that lies in no code shows that the chain of frame pointers was broken by somebody who had
/// other uses for the register: what is found behind it is whatever lay on the stack, and may look like a function. A short stack is true.
fn known(mut frames: Vec<Frame>) -> Vec<Frame> {
    let believed = frames.iter().position(|frame| frame.origin == Origin::Unknown).unwrap_or(frames.len());
    frames.truncate(believed);
    frames
}

#[cfg(test)]
mod tests {
    use super::{Frame, Origin, governor, known, with_option};

    #[test]
    fn the_option_is_named_where_it_helps() {
        let helps = |why: governor::Refusal| with_option(&why).contains("--max-overhead");
        assert!(helps(governor::Refusal::Debt { owed_ns: 1e6 }));
        assert!(helps(governor::Refusal::BudgetTooSmall { window_ns: 5e6, minute_ns: 1e6 }));
        assert!(helps(governor::Refusal::Node { share: 0.03 }));
        assert!(!helps(governor::Refusal::Shed) && !helps(governor::Refusal::NothingAllocated));
    }

    fn frame(function: &str, origin: Origin) -> Frame {
        Frame { function: function.into(), origin, ..Frame::unknown() }
    }

    #[test]
    fn nothing_is_believed_behind_an_address_that_lies_in_no_code() {
        let (leaf, caller) = (frame("main.leaf", Origin::Go), frame("C.caller", Origin::Native));
        let whole = vec![leaf.clone(), caller.clone(), leaf.clone()];
        assert_eq!(known(whole.clone()), whole);
        let broken = vec![leaf.clone(), caller.clone(), Frame::unknown(), frame("main.garbage", Origin::Go)];
        assert_eq!(known(broken), [leaf.clone(), caller]);
        assert_eq!(known(vec![Frame::unknown(), leaf]), []);
    }
}
