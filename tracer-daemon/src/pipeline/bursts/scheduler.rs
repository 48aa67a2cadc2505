//! The thread that opens windows, for all targets of this host: when, how long, and for how many births the governor says.
//!
//! It waits for nobody: links are made and ended by processes that tell how it went (`attach/holder.rs`). Where this process is
//! stopped, they end by themselves.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{SeedableRng as _, rngs::SmallRng};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::AsFd as _,
    time::Timespec,
};

use super::{
    host::{Command, Shared},
    hosted::{Growing, Hosted, Traps, show},
    staying::StayingHook,
    target::BurstTarget,
    window::OpenWindow,
};
use crate::{
    attach::{
        Holder, Holders, News,
        governor::{Config, Costs, Governor, Hook, HookHits, Observation, TargetId},
    },
    export::Refusal,
    pipeline::{
        Killswitch,
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
pub(super) const NAP_NS: u64 = 200_000_000;
/// A link that stays and is told to end has so long for it.
const LEAVE_NS: u64 = 1_000_000_000;
/// Who sleeps for [`NAP_NS`] and wakes up so much later was stopped.
const STOPPED_NS: u64 = 2_000_000_000;
/// Why there was no window for an impulse that was to have one.
const NO_TURN: &str = "no window could open for it at once: others were open, or what was spent had to come in first";
/// At the end: probes are gone in some tens of milliseconds each.
const GOODBYE: Duration = Duration::from_secs(3);

pub(super) struct Scheduler {
    shared: Arc<Shared>,
    pub(super) governor: Governor,
    pub(super) costs: Costs,
    pub(super) holders: Holders,
    pub(super) targets: BTreeMap<TargetId, Hosted>,
    pub(super) window: Option<OpenWindow>,
    /// What targets took of our CPU time as they came, ns. To give up evidence would not bring it back.
    load_cpu_ns: u64,
    /// Links that were told to end, and were not heard of since; with when they are ended by force.
    leaving: Vec<(Holder, u64)>,
    beat_ns: u64,
    observed_ns: u64,
    /// When it was seen last that this thread runs.
    awake_ns: u64,
    killswitch: Option<Killswitch>,
    /// Why no probe is to be in place. `None`: they may be.
    pub(super) off: Option<Refusal>,
    stops: bool,
}

impl Scheduler {
    /// Has no target yet.
    pub(super) fn new(
        shared: Arc<Shared>,
        config: Config,
        costs: Costs,
        holders: Holders,
        killswitch: Option<Killswitch>,
    ) -> Self {
        let now_ns = monotonic_ns();
        Self {
            shared,
            governor: Governor::new(now_ns, config, SmallRng::seed_from_u64(own::unix_ns() ^ now_ns)),
            costs,
            holders,
            targets: BTreeMap::new(),
            window: None,
            load_cpu_ns: 0,
            leaving: Vec::new(),
            beat_ns: now_ns,
            observed_ns: now_ns,
            awake_ns: now_ns,
            killswitch,
            off: None,
            stops: false,
        }
    }

    /// Until it is told to stop, and all probes are gone.
    pub(super) fn run(&mut self) {
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
            }
            self.heed_impulses(now_ns);
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
        waited.extend(links.map(|link| PollFd::from_borrowed_fd(link.fd(), PollFlags::IN)));
        let staying = self.targets.values().flat_map(|hosted| [&hosted.cycles, &hosted.goroutines, &hosted.large]);
        waited.extend(staying.filter_map(StayingHook::link));
        // What there is shows when it is looked at.
        let _interrupted = poll(&mut waited, Some(&timeout));
        self.shared.bell.silence();
    }

    fn obey(&mut self) {
        for command in self.shared.take_commands() {
            match command {
                Command::Add(id, target) => self.add(id, *target),
                Command::Remove(id) => self.remove(id),
                Command::Calibrate(traps) => {
                    self.costs = self.costs.with_traps(&traps);
                    self.governor.calibrate(&traps);
                }
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
        self.load_cpu_ns = self.load_cpu_ns.saturating_add(target.load_cpu_ns);
        let cpu_ns = own::cpu_ns_of(target.identity.pid).unwrap_or_default();
        let began_ns = began_ns(target.identity.start_ticks, now_ns);
        let age_ns = began_ns.map_or(0, |began_ns| now_ns.saturating_sub(began_ns));
        self.governor.add(now_ns, id, target.facts(self.costs, cpu_ns, age_ns));
        let hosted = Hosted {
            target,
            cycles: StayingHook::new(Hook::Cycles),
            goroutines: StayingHook::new(Hook::Goroutines),
            large: StayingHook::new(Hook::LargeObjects),
            failure: None,
            cycles_ns: Growing::default(),
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
        self.leaving.extend(hosted.end_hooks(monotonic_ns()).map(|link| (link, leave_ns)));
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
            let Hosted { cycles, goroutines, large, target, .. } = hosted;
            for hook in [cycles, goroutines, large] {
                hook.hear(monotonic_ns(), target);
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
            self.leaving.extend(hosted.end_hooks(now_ns).map(|link| (link, leave_ns)));
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
            let Some(decided) = self.governor.hooks(*id) else { continue };
            let Hosted { cycles, goroutines, large, target, .. } = hosted;
            let hooks = [(cycles, &decided.cycles), (goroutines, &decided.goroutines), (large, &decided.large_objects)];
            for (hook, decision) in hooks {
                let (leaving, has_jumped) = hook.keep(now_ns, decision, beats, target, &mut self.holders);
                self.leaving.extend(leaving.map(|link| (link, now_ns.saturating_add(LEAVE_NS))));
                if has_jumped {
                    self.observed_ns = 0;
                }
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
        self.governor.observe_own(now_ns, own::cpu_ns_with_children().saturating_sub(self.load_cpu_ns));
        for (id, hosted) in &mut self.targets {
            let target = &hosted.target;
            let rates = target.desk.rates();
            let cycles = hosted.cycles.take_hits(target);
            let cycles_ns = hosted.cycles_ns.take(target.counters.cycles_ns().unwrap_or_default());
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
                        hits: HookHits { cycles, cycles_ns, large_objects, goroutines },
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
            if let Some(off) = &self.off {
                hosted.target.tracker.unserved(number, off.text.clone());
                continue;
            }
            match self.governor.impulse(now_ns, *id, impulse) {
                Ok(()) => hosted.impulse = Some(number),
                Err(refusal) => {
                    tracing::debug!(pid = hosted.target.identity.pid, %refusal, "no burst at once");
                    hosted.target.tracker.unserved(number, refusal.to_string());
                }
            }
        }
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
