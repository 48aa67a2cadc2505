//! One target's kernel side: its programs, maps and points.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use tracer_common::bursts::{BurstTotal, WindowKind, WindowState};

use super::{desk::Desk, large::LargeObjects, tracker::Tracker};
use crate::{
    attach::{
        AttachError, Holder, Holders, KernelObject, Limits, Link, LinkPoint, Mechanism, Until, bytes_of,
        governor::{Costs, Hook, TargetFacts, WindowPlan},
        verify_code,
    },
    collect::{
        CollectError,
        births::{BurstCounters, BurstReader, BurstTotals},
        hooks::{HookGate, HookReader, HookTotals, take_hooks},
    },
    discover::ProcessIdentity,
    export::Refusal,
    inspect::Global,
    model::tracked,
    pipeline::{StartError, Subject},
    plan::{BurstPlan, ProbePoint},
};

/// Program for all points of a window, and that for collections.
const BURST: &str = "burst";
const CYCLE: &str = "cycle_marked";
/// Programs of hooks that stay: for all points of that on goroutines, and for large objects.
const GOROUTINES: &str = "goroutines";
const LARGE: &str = "large_objects";
/// Maps of the object that neither bursts nor hooks use.
const UNUSED: [(&str, u32); 3] = [("ALLOCATIONS", 1), ("LIVE_GOROUTINES", 1), ("MILLISECONDS", 1)];
/// Those that hooks on goroutines use: about 400 KiB. The ring has room for some hundred new stacks a second.
const OF_HOOKS: [(&str, u32); 3] = [("STACKS", 256 << 10), ("GOROUTINES", 1_024), ("EXIT_PLACES", 1_024)];
/// The same where there are none.
const NO_HOOKS: [(&str, u32); 3] = [("STACKS", 4_096), ("GOROUTINES", 1), ("EXIT_PLACES", 1)];

/// A target in whose process windows can be opened.
#[derive(Debug)]
pub(in crate::pipeline) struct BurstTarget {
    pub(super) identity: ProcessIdentity,
    pub(super) desk: Arc<Desk>,
    pub(super) tracker: Arc<Tracker>,
    pub(super) counters: BurstCounters,
    exe: File,
    object: KernelObject,
    /// The map of totals, for the processes that hold links.
    totals: OwnedFd,
    /// With the slots' points.
    births: Vec<LinkPoint>,
    /// The same behind those of large objects.
    births_and_large: Vec<LinkPoint>,
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
    ) -> Result<Self, Refusal> {
        let plan = BurstPlan::of(&subject.facts)
            .map_err(|refusal| Refusal::new(refusal.reason.id(), format!("no bursts: {}", refusal.text)))?;
        let failed = |error: StartError| Refusal::new(error.reason(), format!("no bursts: {}", error.full_text()));
        Self::of_plan(subject, exe, &plan, limits, epoch_ns).map_err(failed)
    }

    fn of_plan(
        subject: &Subject,
        exe: &File,
        plan: &BurstPlan,
        limits: Limits,
        epoch_ns: u64,
    ) -> Result<Self, StartError> {
        let pid = subject.identity.pid;
        let exe = exe.try_clone().map_err(|source| StartError::Exe { pid, source })?;
        let runtime = subject.runtime();
        let address = |global| runtime.address(global).map_err(|missing| subject.unread(missing.into()));
        let config = plan.config(address(Global::GcBlackenEnabled)?, address(Global::Mheap)?, &subject.facts.layout);
        let target = plan.target_config(subject.bias);
        let constants = [("TARGET", bytes_of(&target)), ("BURST", bytes_of(&config))];
        let mut capacities = UNUSED.to_vec();
        capacities.extend(if plan.goroutines.is_ok() { OF_HOOKS } else { NO_HOOKS });
        capacities.push(("BIRTHS", limits.birth_ring_bytes));
        for point in plan.window().chain(&plan.cycle).chain(plan.goroutines.iter().flatten()) {
            verify_code(&exe, point)?;
        }
        let programs = [BURST, CYCLE, GOROUTINES, LARGE];
        let mut object = KernelObject::embedded(&constants, &capacities, &programs, Mechanism::UprobeMulti)?;
        let clone = |source| StartError::Exe { pid, source };
        let totals = object.map_fd("BURST_TOTALS")?.try_clone_to_owned().map_err(clone)?;
        let counters = BurstCounters::new(|name| object.take_map(name))?;
        let reader = BurstReader::new(|name| object.take_map(name))?;
        let large: Vec<LinkPoint> = plan.large.iter().filter_map(link_point).collect();
        let births: Vec<LinkPoint> = plan.slots.iter().chain(&plan.births).filter_map(link_point).collect();
        let windows = object.map_fd("WINDOW")?.try_clone_to_owned().map_err(clone)?;
        let (gate, hook_totals, hook_reader) = take_hooks(|name| object.take_map(name))?;
        let goroutines = plan.goroutines.as_ref().map_err(|refusal| refusal.text.clone());
        let goroutines = goroutines.map(|points| TargetHooks {
            points: points.iter().filter_map(hook_point).collect(),
            gate,
            totals: hook_totals,
        });
        let tracker = Tracker::start(pid, &runtime, reader, tracked::Limits::default(), epoch_ns)
            .map_err(|error| subject.unread(error))?;
        Ok(Self {
            identity: subject.identity,
            desk: Arc::default(),
            tracker: Arc::new(tracker),
            counters,
            exe,
            object,
            totals,
            births_and_large: large.iter().chain(&births).copied().collect(),
            births,
            large: LargeObjects::new(large, windows)?,
            slots: plan.slots.iter().filter_map(link_point).collect(),
            hook_reader: goroutines.is_ok().then_some(hook_reader),
            goroutines,
            cycle: plan.cycle.iter().map(|point| LinkPoint { file_offset: point.file_offset().0, cookie: 0 }).collect(),
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
        let count = |points: &[LinkPoint]| u32::try_from(points.len()).unwrap_or(u32::MAX);
        TargetFacts {
            birth_points: count(&self.births_and_large),
            slot_points: count(&self.slots),
            costs,
            cpu_ns,
            age_ns,
            tracked_max: u64::try_from(tracked::Limits::default().objects).unwrap_or(u64::MAX),
        }
    }

    /// Orders a window.
    pub(super) fn open(
        &mut self,
        holders: &mut Holders,
        plan: &WindowPlan,
        kind: WindowKind,
        with_large_objects: bool,
    ) -> Result<Holder, AttachError> {
        let pid = self.identity.pid;
        let points = match kind {
            WindowKind::Births if with_large_objects => &self.births_and_large,
            WindowKind::Births => &self.births,
            WindowKind::Slots => &self.slots,
        };
        let state = WindowState {
            until_ns: 0,
            mean_birth_bytes: plan.mean_birth_bytes.min(u64::from(u32::MAX)),
            burst: burst_number(plan),
            kind: kind as u32,
        };
        let until = Until::Window {
            map: self.object.map_fd("WINDOW")?,
            state,
            length_ns: plan.length_ns,
            hits_max: plan.hit_cap,
        };
        holders.open(&Link {
            program: self.object.program(BURST)?,
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
        Some(holders.open(&Link { program, exe, pid, points, hits: None, until: Until::HeartbeatsStop }))
    }

    /// Its hits count until then; 0: none does any more. Collections always count.
    pub(super) fn count_until(&mut self, hook: Hook, now_ns: u64, until_ns: u64) -> Result<(), CollectError> {
        match hook {
            Hook::Cycles => {}
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
        let total = |of: fn(&BurstTotals) -> u64| self.counters.totals().map(|totals| of(&totals)).unwrap_or_default();
        match hook {
            Hook::Cycles => total(|totals| totals.cycles),
            Hook::LargeObjects => total(|totals| totals.large_hits),
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

fn hook_point(point: &ProbePoint) -> Option<LinkPoint> {
    Some(LinkPoint { file_offset: point.file_offset().0, cookie: point.purpose().goroutine_point()? as u64 })
}

fn link_point(point: &ProbePoint) -> Option<LinkPoint> {
    Some(LinkPoint { file_offset: point.file_offset().0, cookie: point.purpose().burst_point()? as u64 })
}
