//! The thread that opens windows, for all targets of this host: when, how long, and for how many births the governor says.
//!
//! It waits for nobody: links are made and ended by processes that tell how it went (`attach/holder.rs`). Where this process is
//! stopped, they end by themselves.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rand::{SeedableRng as _, rngs::SmallRng};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fd::{AsFd as _, OwnedFd},
    time::Timespec,
};
use tracer_common::bursts::WindowKind;

use super::{
    hosted::{Hosted, OpenWindow, Retry, Traps, show},
    staying::StayingHook,
    target::{BurstTarget, burst_number},
    tracker::EndedWindow,
};
use crate::{
    attach::{
        AttachError, Holder, Holders, Mechanism, News,
        governor::{
            self, Config, Costs, Governor, Hook, HookHits, Mode, Next, Observation, OpenFailure, Outcome, Paid,
            TargetId,
        },
    },
    export::Refusal,
    pipeline::{
        Killswitch,
        error::with_causes,
        goroutines::{began_ns, monotonic_ns},
        own,
    },
    units::approximate,
};

/// Between two looks at each target's CPU time.
const OBSERVE_NS: u64 = 1_000_000_000;
/// Between two heartbeats for links that stay; they end after a second of silence.
const BEAT_NS: u64 = 300_000_000;
/// The thread sleeps no longer than this, so that heartbeats come in time.
const NAP_NS: u64 = 200_000_000;
/// Before a link that stays is tried again that could not be made, the first time.
const RETRY_NS: u64 = 10_000_000_000;
/// Before it is made again after it has ended: by itself where we were stopped, or since its process was killed.
const AGAIN_NS: u64 = 500_000_000;
/// A link that stays and is told to end has so long for it.
const LEAVE_NS: u64 = 1_000_000_000;
/// Who sleeps for [`NAP_NS`] and wakes up so much later was stopped.
const STOPPED_NS: u64 = 2_000_000_000;
/// Why there was no window for an impulse that was to have one.
const NO_TURN: &str = "no window could open for it at once: others were open, or what was spent had to come in first";
/// At the end: probes are gone in some tens of milliseconds each.
const GOODBYE: Duration = Duration::from_secs(3);

/// The scheduler of this host. Ends all windows when dropped.
#[derive(Debug)]
pub(in crate::pipeline) struct BurstHost {
    shared: Arc<Shared>,
    mechanism: Mechanism,
    why_slow: Option<String>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    commands: Mutex<VecDeque<Command>>,
    /// Wakes the thread up.
    bell: OwnedFd,
    /// Targets that have a place.
    targets: AtomicUsize,
    /// Targets so far: the number of the next.
    numbers: AtomicU64,
}

#[derive(Debug)]
enum Command {
    Add(TargetId, Box<BurstTarget>),
    Remove(TargetId),
    Stop,
}

impl Shared {
    fn commands(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, command: Command) {
        self.commands().push_back(command);
        self.ring();
    }

    fn ring(&self) {
        // A full counter rings, too.
        let _rung = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// Windows are opened in so many processes at most: each takes about 2 MB and, where it is busy, 1 % of a core of ours, and twenty windows a second are all that a host has.
pub(in crate::pipeline) const TARGETS_MAX: usize = 64;

/// A target that the scheduler has. Taken from it when dropped.
#[derive(Debug)]
pub(in crate::pipeline) struct Place {
    shared: Arc<Shared>,
    id: TargetId,
}

impl Place {
    /// The session has left something on the desk that is not to wait.
    pub(in crate::pipeline) fn ring(&self) {
        self.shared.ring();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.targets.fetch_sub(1, Ordering::Relaxed);
        self.shared.command(Command::Remove(self.id));
    }
}

impl BurstHost {
    /// Starts the thread. `why_slow`: why windows are not opened by the faster mechanism.
    ///
    /// # Errors
    /// Where the system has no room for it.
    pub(super) fn start(
        config: Config,
        costs: Costs,
        holders: Holders,
        mechanism: Mechanism,
        why_slow: Option<String>,
        killswitch: Option<Killswitch>,
    ) -> std::io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (targets, numbers) = (AtomicUsize::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { commands: Mutex::default(), bell, targets, numbers });
        let now_ns = monotonic_ns();
        let mut scheduler = Scheduler {
            shared: Arc::clone(&shared),
            governor: Governor::new(now_ns, config, SmallRng::seed_from_u64(own::unix_ns() ^ now_ns)),
            costs,
            holders,
            targets: BTreeMap::new(),
            window: None,
            leaving: Vec::new(),
            beat_ns: now_ns,
            observed_ns: now_ns,
            awake_ns: now_ns,
            killswitch,
            off: None,
            stops: false,
        };
        let thread = thread::Builder::new().name("bursts".into()).spawn(move || scheduler.run())?;
        Ok(Self { shared, mechanism, why_slow, thread: Some(thread) })
    }

    /// How windows are opened.
    pub(in crate::pipeline) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Why windows are not opened by the faster mechanism. `None`: they are.
    pub(in crate::pipeline) fn why_slow(&self) -> Option<&str> {
        self.why_slow.as_deref()
    }

    /// Whether one target more may be added; beyond that windows would be rare for all.
    pub(in crate::pipeline) fn has_room(&self) -> bool {
        self.shared.targets.load(Ordering::Relaxed) < TARGETS_MAX
    }

    /// From now on windows are opened in this target, until the place is dropped.
    pub(in crate::pipeline) fn add(&self, target: BurstTarget) -> Place {
        // A process that became another program is another target, which may come before the first has gone.
        let id = TargetId(self.shared.numbers.fetch_add(1, Ordering::Relaxed));
        self.shared.targets.fetch_add(1, Ordering::Relaxed);
        self.shared.command(Command::Add(id, Box::new(target)));
        Place { shared: Arc::clone(&self.shared), id }
    }
}

impl Drop for BurstHost {
    fn drop(&mut self) {
        self.shared.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so; links end with this process.
            let _panicked = thread.join();
        }
    }
}

struct Scheduler {
    shared: Arc<Shared>,
    governor: Governor,
    costs: Costs,
    holders: Holders,
    targets: BTreeMap<TargetId, Hosted>,
    window: Option<OpenWindow>,
    /// Links that were told to end, and were not heard of since; with when they are ended by force.
    leaving: Vec<(Holder, u64)>,
    beat_ns: u64,
    observed_ns: u64,
    /// When it was seen last that this thread runs.
    awake_ns: u64,
    killswitch: Option<Killswitch>,
    /// Why no probe is to be in place. `None`: they may be.
    off: Option<Refusal>,
    stops: bool,
}

impl Scheduler {
    fn run(&mut self) {
        let mut stopped_ns = None;
        loop {
            self.obey();
            self.hear();
            let now_ns = monotonic_ns();
            if self.stops {
                let stopped_ns = *stopped_ns.get_or_insert(now_ns);
                let is_over = self.window.is_none() && self.leaving.is_empty();
                let closing_ns = self.window.as_ref().map_or(0, |window| window.closing_ns);
                let is_late = now_ns.saturating_sub(stopped_ns) > nanoseconds(GOODBYE).saturating_add(closing_ns);
                if is_over || is_late {
                    if is_late {
                        tracing::warn!("probes are being taken away yet: the processes that hold them are slow to end");
                    }
                    self.holders.dismiss(GOODBYE);
                    return;
                }
                self.sleep(now_ns.saturating_add(NAP_NS), now_ns);
                continue;
            }
            if now_ns.saturating_sub(self.awake_ns) > STOPPED_NS && !self.targets.is_empty() {
                let seconds = approximate(now_ns.saturating_sub(self.awake_ns)) / 1e9;
                tracing::warn!(
                    "leakline stood still for {seconds:.1} s: no windows were open, and collections went by unseen"
                );
            }
            self.awake_ns = now_ns;
            self.heed_killswitch(now_ns);
            if self.off.is_none() {
                self.keep(now_ns);
                self.heed_impulses(now_ns);
            }
            if now_ns.saturating_sub(self.observed_ns) >= OBSERVE_NS {
                self.observed_ns = now_ns;
                self.observe(now_ns);
            }
            let until_ns = if self.off.is_some() { u64::MAX } else { self.decide(now_ns) };
            self.sleep(until_ns, now_ns);
        }
    }

    fn sleep(&self, until_ns: u64, now_ns: u64) {
        let nap_ns = until_ns.saturating_sub(now_ns).min(NAP_NS);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(nap_ns).unwrap_or_default() };
        let bell = self.shared.bell.as_fd();
        let mut waited: Vec<PollFd<'_>> = vec![PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        let links = self.window.iter().map(|window| &window.holder).chain(self.leaving.iter().map(|(link, _)| link));
        let links = links.chain(self.targets.values().filter_map(|hosted| hosted.cycle.as_ref()));
        waited.extend(links.map(|link| PollFd::from_borrowed_fd(link.fd(), PollFlags::IN)));
        let staying = self.targets.values().flat_map(|hosted| [&hosted.goroutines, &hosted.large]);
        waited.extend(staying.filter_map(StayingHook::link));
        // What there is shows when it is looked at.
        let _interrupted = poll(&mut waited, Some(&timeout));
        let mut rung = [0; 8];
        let _silent = rustix::io::read(&self.shared.bell, &mut rung);
    }

    fn obey(&mut self) {
        let commands = std::mem::take(&mut *self.shared.commands());
        for command in commands {
            match command {
                Command::Add(id, target) => self.add(id, *target),
                Command::Remove(id) => self.remove(id),
                Command::Stop => {
                    self.stops = true;
                    let ids: Vec<TargetId> = self.targets.keys().copied().collect();
                    for id in ids {
                        self.remove(id);
                    }
                }
            }
        }
    }

    fn add(&mut self, id: TargetId, target: BurstTarget) {
        let now_ns = monotonic_ns();
        let cpu_ns = own::cpu_ns_of(target.identity.pid).unwrap_or_default();
        let began_ns = began_ns(target.identity.start_ticks, now_ns);
        let age_ns = began_ns.map_or(0, |began_ns| now_ns.saturating_sub(began_ns));
        self.governor.add(now_ns, id, target.facts(self.costs, cpu_ns, age_ns));
        let hosted = Hosted {
            target,
            cycle: None,
            goroutines: StayingHook::new(Hook::Goroutines),
            large: StayingHook::new(Hook::LargeObjects),
            retry: Retry::default(),
            cycle_failure: None,
            failure: None,
            cycles: 0,
            traps: Traps::default(),
            impulse: None,
        };
        self.targets.insert(id, hosted);
    }

    fn remove(&mut self, id: TargetId) {
        self.governor.remove(monotonic_ns(), id);
        if let Some(window) = self.window.as_mut().filter(|window| window.plan.target == id) {
            window.holder.close();
            window.is_abandoned = true;
            window.leave_ns = monotonic_ns().saturating_add(LEAVE_NS);
        }
        let Some(mut hosted) = self.targets.remove(&id) else { return };
        let leave_ns = monotonic_ns().saturating_add(LEAVE_NS);
        for hook in [&mut hosted.goroutines, &mut hosted.large] {
            let link = hook.end(monotonic_ns(), &mut hosted.target);
            self.leaving.extend(link.map(|link| (link, leave_ns)));
        }
        if let Some(cycle) = hosted.cycle {
            cycle.close();
            self.leaving.push((cycle, leave_ns));
        }
    }

    /// Takes what the links have to tell.
    fn hear(&mut self) {
        let now_ns = monotonic_ns();
        self.leaving.retain_mut(|(link, until_ns)| {
            if now_ns >= *until_ns && link.kill_if_open() {
                *until_ns = u64::MAX;
            }
            !ended(link, |_| {})
        });
        for hosted in self.targets.values_mut() {
            hosted.goroutines.hear(monotonic_ns(), &mut hosted.target);
            hosted.large.hear(monotonic_ns(), &mut hosted.target);
            let Some(cycle) = &mut hosted.cycle else { continue };
            let failure = &mut hosted.cycle_failure;
            let is_over = ended(cycle, |news| match news {
                News::Opened { .. } => *failure = None,
                News::Failed(error) => *failure = Some(with_causes(&error)),
                News::Closed { .. } | News::Gone => {}
            });
            if is_over {
                hosted.cycle = None;
                let again_ns = if hosted.cycle_failure.is_some() { RETRY_NS } else { AGAIN_NS };
                hosted.retry.ended(monotonic_ns(), again_ns);
            }
        }
        if let Some(mut window) = self.window.take() {
            // What it has said counts first: we may have been stopped ourselves.
            if self.hear_of(&mut window) {
                if !window.is_abandoned {
                    self.window_is_over(&window);
                }
                return;
            }
            if !window.is_killed && now_ns >= window.overdue_ns() {
                window.is_killed = true;
                let process = window.holder.process_id();
                tracing::warn!(process, "the process that holds a window does not end: it is ended by force");
                window.holder.kill();
            }
            self.window = Some(window);
        }
    }

    /// True where the window's link is gone.
    fn hear_of(&mut self, window: &mut OpenWindow) -> bool {
        while let Some(news) = window.holder.news() {
            match news {
                News::Opened { at_ns } => window.opened_ns = Some(at_ns),
                News::Closed { at_ns, .. } => {
                    window.closed_ns = Some(at_ns);
                    self.window_closed(window);
                }
                News::Failed(error) => window.failure = Some(error),
                News::Gone => return true,
            }
        }
        false
    }

    /// Hits count no more: its births can be told.
    fn window_closed(&mut self, window: &OpenWindow) {
        let (Some(opened_ns), Some(closed_ns)) = (window.opened_ns, window.closed_ns) else { return };
        let Some(hosted) = self.targets.get_mut(&window.plan.target).filter(|_| !window.is_abandoned) else { return };
        let tracker = &hosted.target.tracker;
        if !hosted.is_there() {
            tracker.lost(burst_number(&window.plan));
            return;
        }
        let after = hosted.target.counters.totals().unwrap_or(window.before);
        tracker.losses(&after);
        if after.pending_full > window.before.pending_full
            && let Err(error) = hosted.target.counters.forget_pending()
        {
            tracing::debug!(pid = hosted.target.identity.pid, %error, "births that waited for their slot keep their room");
        }
        let told = (after.births + after.slots).saturating_sub(window.before.births + window.before.slots);
        let lost = after.lost.saturating_sub(window.before.lost);
        tracker.ended(EndedWindow {
            burst: burst_number(&window.plan),
            caught: window.kind.into(),
            began_ns: opened_ns,
            // Who was late to close it had no say: the kernel side looks at the clock.
            open_ns: closed_ns.saturating_sub(opened_ns).min(window.plan.length_ns),
            stands_for_ns: window.plan.stands_for_ns,
            chosen_per_told: 1.0 + approximate(lost) / approximate(told.max(1)),
        });
    }

    fn window_is_over(&mut self, window: &OpenWindow) {
        let (now_ns, id, number) = (monotonic_ns(), window.plan.target, window.plan.window);
        let Some(hosted) = self.targets.get_mut(&id) else { return };
        let (Some(opened_ns), Some(closed_ns)) = (window.opened_ns, window.closed_ns) else {
            // Also where the process that held the link was killed: how long it was open is not known.
            hosted.target.tracker.lost(burst_number(&window.plan));
            let is_gone = !hosted.is_there();
            let failure = match &window.failure {
                _ if is_gone => OpenFailure::Gone,
                Some(AttachError::TargetGone { .. }) => OpenFailure::Gone,
                Some(AttachError::NotAllowed { .. }) => OpenFailure::NotAllowed,
                _ => OpenFailure::Other,
            };
            let why = window
                .failure
                .as_ref()
                .map_or_else(|| "the process that held the probes ended".into(), |error| with_causes(error));
            tracing::debug!(pid = hosted.target.identity.pid, why, "a window could not be opened");
            hosted.failure = Some(why);
            // It may have been open all the same.
            let after = hosted.target.counters.totals().unwrap_or(window.before);
            let paid = Paid {
                hits: after.hits.saturating_sub(window.before.hits),
                recorded_ns: after.recorded_ns.saturating_sub(window.before.recorded_ns),
            };
            self.governor.failed(now_ns, id, number, failure, paid);
            show(hosted, id, &self.governor, self.off.as_ref(), now_ns);
            return;
        };
        hosted.failure = None;
        let after = hosted.target.counters.totals().unwrap_or(window.before);
        let counted = after.hits_in_windows.saturating_sub(window.before.hits_in_windows);
        let hits = after.hits.saturating_sub(window.before.hits);
        let outcome = Outcome {
            opened_ns,
            closed_ns,
            hits: counted,
            hits_outside: Some(hits.saturating_sub(counted)),
            births: (after.births + after.slots).saturating_sub(window.before.births + window.before.slots),
            frames: after.frames.saturating_sub(window.before.frames),
            recorded_ns: after.recorded_ns.saturating_sub(window.before.recorded_ns),
        };
        tracing::debug!(
            pid = hosted.target.identity.pid,
            kind = ?window.kind,
            opened_after_ns = opened_ns.saturating_sub(window.ordered_ns),
            open_ns = closed_ns.saturating_sub(opened_ns),
            gone_after_ns = now_ns.saturating_sub(closed_ns),
            hits = counted,
            hits_outside = hits.saturating_sub(counted),
            "a window is over"
        );
        hosted.traps.learn(window.kind, counted, outcome.recorded_ns);
        if let Some(part) = hosted.traps.refill_part(&self.costs) {
            hosted.target.tracker.refill_trap(part);
        }
        self.governor.closed(now_ns, id, number, &outcome);
        show(hosted, id, &self.governor, self.off.as_ref(), now_ns);
    }

    /// Takes all probes away where that is wanted; afterwards all goes on as if nothing had been.
    fn heed_killswitch(&mut self, now_ns: u64) {
        let off = self.killswitch.as_ref().filter(|killswitch| killswitch.is_on()).map(Killswitch::refusal);
        if off.is_some() == self.off.is_some() {
            return;
        }
        self.off = off;
        self.observed_ns = 0;
        let Some(off) = &self.off else {
            tracing::warn!("probes are allowed again");
            return;
        };
        tracing::warn!("all probes are taken away: {}", off.text);
        let leave_ns = now_ns.saturating_add(LEAVE_NS);
        if let Some(window) = &mut self.window {
            window.holder.close();
            window.leave_ns = leave_ns;
        }
        for hosted in self.targets.values_mut() {
            let hooks = [&mut hosted.goroutines, &mut hosted.large].map(|hook| hook.end(now_ns, &mut hosted.target));
            let links = hooks.into_iter().flatten();
            let cycle = hosted.cycle.take().inspect(Holder::close);
            self.leaving.extend(links.chain(cycle).map(|link| (link, leave_ns)));
        }
    }

    /// Heartbeats, links that stay, a process in reserve.
    fn keep(&mut self, now_ns: u64) {
        let beats = now_ns.saturating_sub(self.beat_ns) >= BEAT_NS;
        if beats {
            self.beat_ns = now_ns;
            self.leave_those_whom_nobody_follows(now_ns);
        }
        for (id, hosted) in &mut self.targets {
            let hooks = self.governor.hooks(*id);
            let decisions = [hooks.map(|hooks| &hooks.goroutines), hooks.map(|hooks| &hooks.large_objects)];
            let Hosted { goroutines, large, target, .. } = hosted;
            for (hook, decision) in [goroutines, large].into_iter().zip(decisions) {
                let (leaving, has_jumped) = hook.keep(now_ns, decision, beats, target, &mut self.holders);
                self.leaving.extend(leaving.map(|link| (link, now_ns.saturating_add(LEAVE_NS))));
                if has_jumped {
                    self.observed_ns = 0;
                }
            }
            let off = hooks.map(|hooks| &hooks.cycles).filter(|cycles| cycles.mode != Mode::Continuous);
            match (hosted.cycle.take_if(|_| off.is_some()), off) {
                (Some(cycle), Some(off)) => {
                    cycle.close();
                    self.leaving.push((cycle, now_ns.saturating_add(LEAVE_NS)));
                    hosted.cycle_failure = Some(off.reason.clone());
                }
                (None, Some(_)) => continue,
                _ => {}
            }
            match &hosted.cycle {
                Some(cycle) if beats => cycle.beat(),
                None if hosted.retry.is_due(now_ns) => {
                    hosted.retry.made(now_ns);
                    match hosted.target.open_hook(Hook::Cycles, &mut self.holders) {
                        Some(Ok(cycle)) => hosted.cycle = Some(cycle),
                        Some(Err(error)) => {
                            hosted.cycle_failure = Some(with_causes(&error));
                            hosted.retry.ended(now_ns, RETRY_NS);
                        }
                        None => hosted.retry.not_before(u64::MAX),
                    }
                }
                _ => {}
            }
        }
        if !self.targets.is_empty() && self.window.is_none() {
            // Without one the next window starts its own.
            let _none = self.holders.prepare();
        }
    }

    /// What is caught in them would be for nothing, and the ring full.
    fn leave_those_whom_nobody_follows(&mut self, now_ns: u64) {
        let left: Vec<TargetId> =
            self.targets.iter().filter(|(_, hosted)| !hosted.target.tracker.runs()).map(|(id, _)| *id).collect();
        for id in left {
            if let Some(hosted) = self.targets.get_mut(&id) {
                let pid = hosted.target.identity.pid;
                tracing::error!(
                    pid,
                    "the thread that follows its objects has ended, so no window opens any more: please report this"
                );
                hosted.failure = Some("the thread that follows its objects has ended; please report this".to_owned());
                show(hosted, id, &self.governor, self.off.as_ref(), now_ns);
            }
            self.remove(id);
        }
    }

    /// Tells the governor how the targets do, and the sessions what they pay.
    fn observe(&mut self, now_ns: u64) {
        self.governor.observe_own(now_ns, own::cpu_ns_with_children());
        for (id, hosted) in &mut self.targets {
            let target = &hosted.target;
            let rates = target.desk.rates();
            let totals = target.counters.totals().unwrap_or_default();
            let cycles = totals.cycles.saturating_sub(hosted.cycles);
            hosted.cycles = totals.cycles;
            let goroutines = hosted.goroutines.take_hits(target);
            let large_objects = hosted.large.take_hits(target);
            if let Some(cpu_ns) = own::cpu_ns_of(target.identity.pid) {
                self.governor.observe(
                    *id,
                    Observation {
                        at_ns: now_ns,
                        cpu_ns,
                        threads_max: rates.threads_max,
                        allocations_per_s: rates.allocations_per_s,
                        bytes_per_s: rates.bytes_per_s,
                        large_per_s: rates.large_per_s,
                        goroutines_per_s: rates.goroutines_per_s,
                        collections_per_s: rates.collections_per_s,
                        tracked: target.tracker.followed(),
                        hits: HookHits { cycles, large_objects, goroutines },
                        prefers: target.desk.preferences().is_any(),
                    },
                );
            }
            show(hosted, *id, &self.governor, self.off.as_ref(), now_ns);
        }
    }

    /// Tells the governor what asks for a burst at once: what is looked at a second later may be over.
    fn heed_impulses(&mut self, now_ns: u64) {
        for (id, hosted) in &mut self.targets {
            if let Some(number) = hosted.impulse.take_if(|_| !self.governor.has_impulse(now_ns, *id)) {
                hosted.target.tracker.unserved(number, NO_TURN.to_owned());
            }
            let Some((number, impulse)) = hosted.target.desk.take_impulse() else { continue };
            match self.governor.impulse(now_ns, *id, impulse) {
                Ok(()) => hosted.impulse = Some(number),
                Err(refusal) => {
                    tracing::debug!(pid = hosted.target.identity.pid, %refusal, "no burst at once");
                    hosted.target.tracker.unserved(number, refusal.to_string());
                }
            }
        }
    }

    /// Opens a window where it is time to. Returns until when nothing is to be decided.
    fn decide(&mut self, now_ns: u64) -> u64 {
        if self.window.is_some() {
            return now_ns.saturating_add(NAP_NS);
        }
        let plan = match self.governor.next(now_ns) {
            Next::Open(plan) => plan,
            Next::Wait { until_ns } => return until_ns,
        };
        let (id, number) = (plan.target, plan.window);
        let kind = match plan.kind {
            governor::WindowKind::Births => WindowKind::Births,
            governor::WindowKind::Slots => WindowKind::Slots,
        };
        let Some(hosted) = self.targets.get_mut(&id) else {
            self.governor.remove(now_ns, id);
            return now_ns;
        };
        if !hosted.is_there() {
            self.governor.failed(now_ns, id, number, OpenFailure::Gone, Paid::default());
            return now_ns;
        }
        let before = hosted.target.counters.totals().unwrap_or_default();
        let is_of_impulse = matches!(plan.cause, governor::Cause::Impulse(_));
        if let Some(impulse) = hosted.impulse.take_if(|_| is_of_impulse) {
            hosted.target.tracker.expect_impulse(impulse, burst_number(&plan));
        }
        // Where their hook shall stay and cannot, windows see them; and those of impulses, which are to see all.
        let large = self.governor.hooks(id).map(|hooks| hooks.large_objects.mode);
        let is_without_hook = large == Some(Mode::Continuous) && !hosted.large.counts();
        let with_large_objects = is_of_impulse || is_without_hook || large == Some(Mode::Bursts);
        match hosted.target.open(&mut self.holders, &plan, kind, with_large_objects, now_ns) {
            Ok(holder) => {
                let stands_for_s = approximate(plan.stands_for_ns) / 1e9;
                tracing::debug!(pid = hosted.target.identity.pid, stands_for_s, reason = %plan.reason(), "a window opens");
                self.window = Some(OpenWindow {
                    plan,
                    kind,
                    holder,
                    before,
                    ordered_ns: now_ns,
                    opened_ns: None,
                    closed_ns: None,
                    failure: None,
                    is_abandoned: false,
                    leave_ns: u64::MAX,
                    is_killed: false,
                    closing_ns: hosted.target.closing_ns(),
                });
            }
            Err(error) => {
                hosted.target.tracker.lost(burst_number(&plan));
                hosted.failure = Some(with_causes(&error));
                let failure = match error {
                    AttachError::TargetGone { .. } => OpenFailure::Gone,
                    AttachError::NotAllowed { .. } => OpenFailure::NotAllowed,
                    _ => OpenFailure::Other,
                };
                self.governor.failed(now_ns, id, number, failure, Paid::default());
            }
        }
        now_ns.saturating_add(NAP_NS)
    }
}

/// Takes all news of a link; true where it is gone.
pub(super) fn ended(link: &mut Holder, mut each: impl FnMut(News)) -> bool {
    while let Some(news) = link.news() {
        if matches!(news, News::Gone) {
            return true;
        }
        each(news);
    }
    false
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
