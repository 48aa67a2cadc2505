//! One target's kernel side: its programs, maps and points.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use tracer_common::bursts::{BurstPoint, BurstTotal, WindowKind, WindowState};

use super::{desk::Desk, large::LargeObjects, tracker::Tracker};
use crate::{
    addr::Avma,
    attach::{
        AttachError, Holder, Holders, KernelObject, Limits, Link, LinkPoint, Mechanism, Most, MostCost, Until,
        bytes_of,
        governor::{Cause, Costs, Hook, TargetFacts, WindowPlan},
        thread_cpu_ns, verify_code,
    },
    collect::{
        CollectError,
        births::{BurstCounters, BurstReader, PreferenceMap},
        hooks::{HookGate, HookReader, HookTotals, take_hooks},
    },
    discover::ProcessIdentity,
    export::Refusal,
    inspect::Global,
    model::{preferences::Preferences, tracked},
    pipeline::{StartError, Subject, looks::NoBirths},
    plan::{BirthPoints, BurstPlan, ProbePoint, Purpose},
    units::{approximate, whole},
};

/// Program for all points of a window by one link, and that for collections.
const BURST: &str = "burst";
const CYCLE: &str = "cycle_marked";
/// Programs of hooks that stay: for all points of that on goroutines, and for large objects.
const GOROUTINES: &str = "goroutines";
const LARGE: &str = "large_objects";
/// Births are chosen by one preference for so long at least: what was caught by another is kept apart.
const PREFERRED_FOR_NS: u64 = 20_000_000_000;
/// Maps of the object that neither bursts nor hooks use.
const UNUSED: [(&str, u32); 3] = [("ALLOCATIONS", 1), ("LIVE_GOROUTINES", 1), ("MILLISECONDS", 1)];
/// Those that hooks on goroutines use beside their ring: about 150 KiB.
const OF_HOOKS: [(&str, u32); 2] = [("GOROUTINES", 1_024), ("EXIT_PLACES", 1_024)];
/// The same where there are none.
const NO_HOOKS: [(&str, u32); 2] = [("GOROUTINES", 1), ("EXIT_PLACES", 1)];
/// Bytes of their ring then: the least that the kernel makes.
const NO_RING_BYTES: u32 = 4_096;

/// A target in whose process windows can be opened.
#[derive(Debug)]
pub(in crate::pipeline) struct BurstTarget {
    pub(super) identity: ProcessIdentity,
    /// What loading its programs took of our CPU time, once, ns: most of it in the kernel's verifier.
    pub(super) load_cpu_ns: u64,
    pub(super) desk: Arc<Desk>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) counters: BurstCounters,
    preferred: PreferenceMap,
    /// What births are chosen by, and since when, ns of the monotonic clock.
    preferences: (Preferences, Option<u64>),
    exe: File,
    object: KernelObject,
    mechanism: Mechanism,
    /// Births of one window that find room.
    births_max: u64,
    /// What is called at the points of a window.
    programs: Vec<&'static str>,
    /// The map of totals, for the processes that hold links.
    totals: OwnedFd,
    /// With the slots' points.
    births: Vec<LinkPoint>,
    /// The same behind those of large objects.
    births_and_large: Vec<LinkPoint>,
    /// How many of these may be hit often.
    busy_points: usize,
    /// Where these are in the process, by file offset.
    addresses: HashMap<u64, Avma>,
    slots: Vec<LinkPoint>,
    cycle: Vec<LinkPoint>,
    large: LargeObjects,
    /// The hooks on goroutines; why there are none.
    pub(super) goroutines: Result<TargetHooks, String>,
    /// What they count, for the session.
    hook_reader: Option<HookReader>,
}

/// The hooks on goroutines of one target.
#[derive(Debug)]
pub(super) struct TargetHooks {
    points: Vec<LinkPoint>,
    pub(super) gate: HookGate,
    pub(super) totals: Arc<HookTotals>,
}

impl BurstTarget {
    /// Loads the programs. `epoch_ns`: from when the model counts, by the monotonic clock.
    ///
    /// # Errors
    /// The reason for which there are no bursts.
    pub(in crate::pipeline) fn load(
        subject: &Subject,
        exe: &File,
        limits: Limits,
        epoch_ns: u64,
        mechanism: Mechanism,
    ) -> Result<Self, NoBirths> {
        let which = match mechanism {
            Mechanism::UprobeMulti => BirthPoints::Certain,
            Mechanism::PerfEvents => BirthPoints::Few,
        };
        let plan = BurstPlan::of(&subject.facts, which)
            .map_err(|refusal| Refusal::new(refusal.reason.id(), format!("no bursts: {}", refusal.text)))
            .map_err(NoBirths::is_final)?;
        let failed = |error: StartError| {
            NoBirths::may_pass(Refusal::new(error.reason(), format!("no bursts: {}", error.full_text())))
        };
        Self::of_plan(subject, exe, &plan, limits, epoch_ns, mechanism).map_err(failed)
    }

    fn of_plan(
        subject: &Subject,
        exe: &File,
        plan: &BurstPlan,
        limits: Limits,
        epoch_ns: u64,
        mechanism: Mechanism,
    ) -> Result<Self, StartError> {
        let (pid, began_cpu_ns) = (subject.identity.pid, thread_cpu_ns());
        let exe = exe.try_clone().map_err(|source| StartError::Exe { pid, source })?;
        let runtime = subject.runtime();
        let address = |global| runtime.address(global).map_err(|missing| subject.unread(missing.into()));
        let config = plan.config(address(Global::GcBlackenEnabled)?, address(Global::Mheap)?, &subject.facts.layout);
        let target = plan.target_config(subject.bias);
        let constants = [("TARGET", bytes_of(&target)), ("BURST", bytes_of(&config))];
        let mut capacities = UNUSED.to_vec();
        let goroutines = match mechanism {
            Mechanism::UprobeMulti => plan.goroutines.as_ref().map_err(|refusal| refusal.text.clone()),
            Mechanism::PerfEvents => Err("they take links of uprobe_multi (Linux 6.6)".to_owned()),
        };
        capacities.extend(if goroutines.is_ok() { OF_HOOKS } else { NO_HOOKS });
        capacities.push(("STACKS", if goroutines.is_ok() { limits.goroutine_ring_bytes } else { NO_RING_BYTES }));
        capacities.push(("BIRTHS", limits.birth_ring_bytes));
        for point in plan.window().chain(&plan.cycle).chain(plan.goroutines.iter().flatten()) {
            verify_code(&exe, point)?;
        }
        let kinds = PointPrograms::of(plan, mechanism);
        let mut programs = kinds.names.clone();
        programs.extend([CYCLE, LARGE]);
        programs.extend(goroutines.is_ok().then_some(GOROUTINES));
        let mut object = KernelObject::embedded(&constants, &capacities, &programs, mechanism)?;
        let clone = |source| StartError::Exe { pid, source };
        let totals = object.map_fd("BURST_TOTALS")?.try_clone_to_owned().map_err(clone)?;
        let counters = BurstCounters::new(|name| object.take_map(name))?;
        let reader = BurstReader::new(|name| object.take_map(name))?;
        let preferred = PreferenceMap::new(|name| object.take_map(name))?;
        let points = |is_wanted: fn(&ProbePoint) -> bool| -> Vec<LinkPoint> {
            let points = PointPrograms::in_order(plan, mechanism).into_iter().filter(|point| is_wanted(point));
            points.filter_map(|point| kinds.link_point(point)).collect()
        };
        let large = plan.large.iter().map(only_point).collect();
        let windows = object.map_fd("WINDOW")?.try_clone_to_owned().map_err(clone)?;
        let (gate, hook_totals, hook_reader) = take_hooks(|name| object.take_map(name))?;
        let goroutines = goroutines.map(|points: &Vec<ProbePoint>| TargetHooks {
            points: points.iter().filter_map(hook_point).collect(),
            gate,
            totals: hook_totals,
        });
        let tracker = Tracker::start(pid, &runtime, reader, tracked::Limits::default(), epoch_ns)?;
        Ok(Self {
            identity: subject.identity,
            load_cpu_ns: thread_cpu_ns().saturating_sub(began_cpu_ns),
            desk: Arc::default(),
            tracker: Arc::new(tracker),
            counters,
            preferred,
            preferences: (Preferences::default(), None),
            exe,
            object,
            mechanism,
            births_max: limits.births_max,
            totals,
            births: points(|point| point.purpose() != Purpose::LargeSpanFound),
            births_and_large: points(|_| true),
            large: LargeObjects::new(large, windows)?,
            slots: plan.slots.iter().filter_map(|point| kinds.link_point(point)).collect(),
            busy_points: plan.births.iter().filter(|point| point.purpose() != Purpose::SlowPathBirth).count(),
            addresses: plan
                .window()
                .map(|point| (point.file_offset().0, point.address().in_process(subject.bias)))
                .collect(),
            programs: kinds.names,
            hook_reader: goroutines.is_ok().then_some(hook_reader),
            goroutines,
            cycle: plan.cycle.iter().map(only_point).collect(),
        })
    }

    /// Who follows what is caught in it.
    pub(in crate::pipeline) fn tracker(&self) -> Arc<Tracker> {
        Arc::clone(&self.tracker)
    }

    /// Where its session and the scheduler meet.
    pub(in crate::pipeline) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// What the hooks on goroutines count, once. `None`: there are none.
    pub(in crate::pipeline) fn take_hook_reader(&mut self) -> Option<HookReader> {
        self.hook_reader.take()
    }

    /// What the governor is told of it.
    pub(super) fn facts(&self, costs: Costs, cpu_ns: u64, age_ns: u64) -> TargetFacts {
        let costs = Costs { tail_ns: costs.tail_ns * self.mechanism.tails(self.busy_points), ..costs };
        let count = |points: &[LinkPoint]| u32::try_from(points.len()).unwrap_or(u32::MAX);
        TargetFacts {
            birth_points: count(&self.births_and_large),
            slot_points: count(&self.slots),
            costs,
            cpu_ns,
            age_ns,
            births_max: self.births_max,
            tracked_max: u64::try_from(tracked::Limits::default().objects).unwrap_or(u64::MAX),
        }
    }

    /// How long it may take on a busy host until the probes of a window are gone, ns.
    pub(super) fn closing_ns(&self) -> u64 {
        self.mechanism.closing_ns(self.births_and_large.len())
    }

    /// Tells the kernel side by what births of this window are to be chosen. Gives how many times all that is allocated counts.
    fn prefer(&mut self, plan: &WindowPlan, now_ns: u64) -> f64 {
        let wanted = self.desk.preferences();
        let is_time = self.preferences.1.is_none_or(|since_ns| now_ns >= since_ns.saturating_add(PREFERRED_FOR_NS));
        if is_time && wanted.differs(&self.preferences.0) {
            self.preferences = (wanted, Some(now_ns));
            self.tracker.chosen_otherwise_from(burst_number(plan));
        }
        // An impulse asks who allocates, not who leaks.
        let now = if matches!(plan.cause, Cause::Impulse(_)) { Preferences::default() } else { self.preferences.0 };
        // A birth says what it was chosen by, so where the map cannot be written nothing is lost but precision.
        if let Err(error) = self.preferred.set(&now.times) {
            tracing::debug!(pid = self.identity.pid, %error, "births are chosen as before");
        }
        now.all
    }

    /// Orders a window.
    pub(super) fn open(
        &mut self,
        holders: &mut Holders,
        plan: &WindowPlan,
        kind: WindowKind,
        with_large_objects: bool,
        now_ns: u64,
    ) -> Result<Holder, AttachError> {
        let pid = self.identity.pid;
        if self.mechanism == Mechanism::PerfEvents {
            // Those with the most hits last, so that they are gone first.
            let hits = self.tracker.hits();
            let hits = |point: &LinkPoint| {
                let address = self.addresses.get(&point.file_offset);
                address.and_then(|address| hits.get(address)).copied().unwrap_or_default()
            };
            for points in [&mut self.births, &mut self.births_and_large] {
                points.sort_by(|one, other| hits(one).total_cmp(&hits(other)));
            }
        }
        let mean_birth_bytes = whole(approximate(plan.mean_birth_bytes) * self.prefer(plan, now_ns));
        let points = match kind {
            WindowKind::Births if with_large_objects => &self.births_and_large,
            WindowKind::Births => &self.births,
            WindowKind::Slots => &self.slots,
        };
        let state = WindowState {
            until_ns: 0,
            mean_birth_bytes: mean_birth_bytes.min(u64::from(u32::MAX)),
            burst: burst_number(plan),
            kind: kind as u32,
        };
        let cost = Some(MostCost { births_index: BurstTotal::Births as u32, caught: plan.caught });
        let until = Until::Window {
            map: self.object.map_fd("WINDOW")?,
            state,
            length_ns: plan.length_ns,
            most: Most { hits: plan.hit_cap, cost },
        };
        let programs = self.programs.iter().map(|name| self.object.program(name)).collect::<Result<Vec<_>, _>>()?;
        holders.open(&Link {
            mechanism: self.mechanism,
            programs: &programs,
            exe: self.exe.as_fd(),
            pid,
            points,
            hits: Some((self.totals.as_fd(), BurstTotal::Hits as u32)),
            until,
        })
    }
}

/// Hooks that stay.
impl BurstTarget {
    /// Orders its link; it counts nothing until it is told to. `None`: it has no points.
    pub(super) fn open_hook(&self, hook: Hook, holders: &mut Holders) -> Option<Result<Holder, AttachError>> {
        let (program, points) = match hook {
            Hook::Cycles => (CYCLE, &self.cycle),
            Hook::LargeObjects => (LARGE, &self.large.points),
            Hook::Goroutines => (GOROUTINES, &self.goroutines.as_ref().ok()?.points),
        };
        if points.is_empty() {
            return None;
        }
        let (exe, pid) = (self.exe.as_fd(), self.identity.pid);
        let program = match self.object.program(program) {
            Ok(program) => program,
            Err(error) => return Some(Err(error)),
        };
        let (mechanism, programs, until) = (self.mechanism, &[program], Until::HeartbeatsStop);
        Some(holders.open(&Link { mechanism, programs, exe, pid, points, hits: None, until }))
    }

    /// Its hits count until then; 0: none does any more. Collections count as long as the link is there.
    pub(super) fn count_until(&mut self, hook: Hook, now_ns: u64, until_ns: u64) -> Result<(), CollectError> {
        match hook {
            Hook::Cycles => self.tracker.sees_cycles(until_ns > 0),
            Hook::LargeObjects => self.large.count_until(now_ns, until_ns, &self.tracker)?,
            Hook::Goroutines => {
                let Ok(hooks) = &mut self.goroutines else { return Ok(()) };
                hooks.gate.set(until_ns)?;
                self.desk.hooks_count_until(now_ns, until_ns);
            }
        }
        Ok(())
    }

    /// Its hits since the programs were loaded; 0 where they cannot be read.
    pub(super) fn hook_hits(&self, hook: Hook) -> u64 {
        match hook {
            Hook::Cycles => self.counters.cycles().unwrap_or_default(),
            Hook::LargeObjects => self.counters.large_hits().unwrap_or_default(),
            Hook::Goroutines => {
                self.goroutines.as_ref().ok().and_then(|hooks| hooks.totals.hits().ok()).unwrap_or_default()
            }
        }
    }
}

/// The number of a burst: that of its window.
pub(super) fn burst_number(plan: &WindowPlan) -> u32 {
    // It wraps after years.
    u32::try_from(plan.window & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// A point of a link that has but one kind.
fn only_point(point: &ProbePoint) -> LinkPoint {
    LinkPoint { file_offset: point.file_offset().0, cookie: 0 }
}

fn hook_point(point: &ProbePoint) -> Option<LinkPoint> {
    Some(LinkPoint { file_offset: point.file_offset().0, cookie: point.purpose().goroutine_point()? as u64 })
}

/// The programs at the points of a window.
struct PointPrograms {
    names: Vec<&'static str>,
    /// What each is for. Empty: one is for all.
    kinds: Vec<BurstPoint>,
}

impl PointPrograms {
    fn of(plan: &BurstPlan, mechanism: Mechanism) -> Self {
        if mechanism == Mechanism::UprobeMulti {
            return Self { names: vec![BURST], kinds: Vec::new() };
        }
        let mut kinds: Vec<BurstPoint> = plan.window().filter_map(|point| point.purpose().burst_point()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        Self { names: kinds.iter().copied().map(program_of).collect(), kinds }
    }

    /// The points of a window on births. Where they go one after the other, those last that may have the most hits: they are gone first.
    fn in_order(plan: &BurstPlan, mechanism: Mechanism) -> Vec<&ProbePoint> {
        let mut points: Vec<&ProbePoint> = plan.window().collect();
        if mechanism == Mechanism::PerfEvents {
            let busy = |point: &ProbePoint| match point.purpose().burst_point() {
                None | Some(BurstPoint::LargeSpanFound) => 0,
                Some(BurstPoint::SlotFound | BurstPoint::SlotSearched) => 1,
                // Hit only while the collector marks.
                Some(BurstPoint::SlowPath) => 2,
                Some(BurstPoint::ChoosesSlot) => 3,
                Some(BurstPoint::Specialised) => 4,
                // What all others share.
                Some(BurstPoint::Mallocgc) => 5,
            };
            points.sort_by_key(|point| busy(point));
        }
        points
    }

    /// With the cookie that a link wants: what kind of point it is, or which of the programs is for that kind.
    fn link_point(&self, point: &ProbePoint) -> Option<LinkPoint> {
        let kind = point.purpose().burst_point()?;
        let cookie = match self.kinds.iter().position(|known| *known == kind) {
            Some(index) => u64::try_from(index).ok()?,
            None if self.kinds.is_empty() => kind as u64,
            None => return None,
        };
        Some(LinkPoint { file_offset: point.file_offset().0, cookie })
    }
}

/// The program for one kind of point, where links have no cookies.
fn program_of(point: BurstPoint) -> &'static str {
    match point {
        BurstPoint::ChoosesSlot => "burst_chooses_slot",
        BurstPoint::Mallocgc => "burst_mallocgc",
        BurstPoint::Specialised => "burst_specialised",
        BurstPoint::SlowPath => "burst_slow_path",
        BurstPoint::SlotFound => "burst_slot_found",
        BurstPoint::SlotSearched => "burst_slot_searched",
        BurstPoint::LargeSpanFound => "burst_large_span_found",
    }
}
