//! What the metrics say: counters by identity, which never fall, and facts about leakline itself.
//!
//! Values only; `table` reads them into samples. The pipeline writes through [`super::Metrics`]. All maps are bounded:
//! identities whose processes have all ended are forgotten, oldest first, beyond [`MAX_ENDED_IDENTITIES`], and counted.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::{
    MetricsSettings,
    costs::{Costs, Paid},
    estimates::Estimates,
    identity::Identity,
    outlook::{Outlook, Outlooks},
    runtime::{MemoryGauges, RuntimeBooks},
    site_gauges::{Growth, Holding, SiteGauges, Values},
    top_sites::{Choice, Cursor, ProcessKey, TopSites},
};
use crate::{
    export::{CostFacts, untrusted},
    model::{
        Evidence, ExactCounts, GoroutineSite, Heap, SiteId, Snapshot, Turnover, birth_look::BirthCounts,
        impulses::ImpulseKind, judged::judged, live::LiveSite, memory::MemoryStatement,
    },
    symbolize::Frame,
};

/// Identities without a living process that keep their series, so that a last scrape sees their last numbers and a
/// restart goes on where the counters were.
pub const MAX_ENDED_IDENTITIES: usize = 256;

/// Different refusal reasons that are told apart.
const MAX_REFUSAL_REASONS: usize = 256;

/// What leakline knows about its own process. None means that it could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnFacts {
    /// User and system time used since start, that of child processes that have ended included.
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub resident_memory_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
}

/// Everything behind the metrics.
#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: MetricsSettings,
    pub(super) groups: BTreeMap<Identity, Group>,
    processes: BTreeMap<ProcessKey, Process>,
    pub(super) refusals: BTreeMap<Cow<'static, str>, u64>,
    pub(super) losses: BTreeMap<&'static str, u64>,
    /// What was read and not believed.
    pub(super) discards: BTreeMap<&'static str, u64>,
    pub(super) probe_hits: u64,
    pub(super) identities_forgotten: u64,
    pub(super) own: OwnFacts,
    /// Ends so far: the clock by which the oldest ended identity is found.
    ends: u64,
}

/// One identity.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) allocations: TopSites,
    /// The same by the books, shared by what windows see.
    pub(super) estimated: TopSites,
    pub(super) goroutines: TopSites,
    pub(super) places: BTreeMap<SiteId, Place>,
    pub(super) runtime: RuntimeBooks,
    pub(super) memory: MemoryGauges,
    /// The least limit of a process that was seen last.
    pub(super) limits: BTreeMap<ProcessKey, u64>,
    /// Bytes that are alive, by site, and how fast they grow.
    pub(super) live: SiteGauges,
    /// Goroutines by site and what they wait for.
    pub(super) table: SiteGauges,
    pub(super) outlooks: Outlooks,
    pub(super) costs: Costs,
    living: usize,
    /// When the last process ended, counted in ends; means nothing while one lives.
    ended_at: u64,
}

/// The name of a visible site, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// One living process.
#[derive(Debug)]
struct Process {
    identity: Identity,
    best_evidence: Option<Evidence>,
    probe_hits: u64,
    losses: BTreeMap<&'static str, u64>,
    impulses: [u64; ImpulseKind::ALL.len()],
    paid: Paid,
    estimates: Estimates,
}

impl State {
    pub(super) fn new(settings: MetricsSettings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            processes: BTreeMap::new(),
            refusals: BTreeMap::new(),
            losses: tracer_common::loss::Loss::ALL
                .map(tracer_common::loss::Loss::id)
                .into_iter()
                .chain(BirthCounts::default().losses().map(|loss| loss.id))
                .map(|id| (id, 0))
                .collect(),
            discards: BTreeMap::new(),
            probe_hits: 0,
            identities_forgotten: 0,
            own: OwnFacts::default(),
            ends: 0,
        }
    }

    pub(super) fn observe(&mut self, key: ProcessKey, identity: &Identity, snapshot: &Snapshot) {
        if self.processes.get(&key).is_some_and(|process| process.identity != *identity) {
            self.change_identity(key, identity);
        }
        let capacity = self.settings.sites_per_target;
        let group = self.groups.entry(identity.clone()).or_insert_with(|| Group::new(capacity));
        let process = self.processes.entry(key).or_insert_with(|| {
            group.living += 1;
            Process {
                identity: identity.clone(),
                best_evidence: None,
                probe_hits: 0,
                losses: BTreeMap::new(),
                impulses: Default::default(),
                paid: Paid::default(),
                estimates: Estimates::default(),
            }
        });
        if let Some((total, sites)) = process.estimates.observe(snapshot) {
            group.estimated.observe(key, total, sites);
        }
        group.observe(key, snapshot);

        process.best_evidence = snapshot.evidence.iter().copied().max();
        for (reason, count) in snapshot.discards.iter() {
            let before = process.losses.entry(reason.id()).or_default();
            *self.discards.entry(reason.id()).or_default() += grown(before, count);
        }
        if let Some(impulses) = &snapshot.impulses {
            let counted = group.costs.impulses.iter_mut().zip(&mut process.impulses).zip(impulses.counts);
            for ((all, before), now) in counted {
                *all = all.saturating_add(grown(before, now));
            }
        }
        if let Some(counts) = &snapshot.birth_counts {
            group.costs.looked(&mut process.paid, counts);
        }
        for loss in snapshot.birth_counts.iter().flat_map(BirthCounts::losses) {
            let before = process.losses.entry(loss.id).or_default();
            *self.losses.entry(loss.id).or_default() += grown(before, loss.count);
        }
        let Some(exact) = &snapshot.exact else { return };
        self.probe_hits += grown(&mut process.probe_hits, exact.totals.probe_hits);
        for loss in &exact.losses {
            let before = process.losses.entry(loss.reason.id()).or_default();
            *self.losses.entry(loss.reason.id()).or_default() += grown(before, loss.count);
        }
    }

    pub(super) fn observe_cost(&mut self, key: ProcessKey, cost: &CostFacts) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let Some(group) = self.groups.get_mut(&process.identity) else { return };
        if cost.bursts.is_none() {
            // Hits of hooks that are always there are in the snapshot.
            return;
        }
        group.costs.observe(key, &mut process.paid, cost);
        self.probe_hits += grown(&mut process.probe_hits, cost.probe_hits);
    }

    pub(super) fn end(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.remove(&key) else { return };
        self.leave(key, &process.identity);
    }

    /// What became known late, the container's name for example, must not make a process count twice: it goes on under
    /// the new identity with what it does from now on.
    fn change_identity(&mut self, key: ProcessKey, identity: &Identity) {
        let Some(mut process) = self.processes.remove(&key) else { return };
        let capacity = self.settings.sites_per_target;
        self.groups.entry(identity.clone()).or_insert_with(|| Group::new(capacity)).living += 1;
        let stood = self.leave(key, &process.identity);
        if let Some(group) = self.groups.get_mut(identity) {
            group.go_on(key, stood);
        }
        identity.clone_into(&mut process.identity);
        self.processes.insert(key, process);
    }

    /// One process less in an identity. Returns where it stood.
    fn leave(&mut self, key: ProcessKey, identity: &Identity) -> Stood {
        let Some(group) = self.groups.get_mut(identity) else { return Stood::default() };
        let stood = group.leave(key);
        group.living = group.living.saturating_sub(1);
        if group.living == 0 {
            self.ends += 1;
            group.ended_at = self.ends;
            self.forget_the_oldest();
        }
        stood
    }

    fn forget_the_oldest(&mut self) {
        let ended = self.groups.iter().filter(|(_, group)| group.living == 0);
        if ended.clone().count() <= MAX_ENDED_IDENTITIES {
            return;
        }
        let oldest = ended.min_by_key(|(_, group)| group.ended_at).map(|(identity, _)| identity.clone());
        if oldest.is_some_and(|oldest| self.groups.remove(&oldest).is_some()) {
            self.identities_forgotten += 1;
        }
    }

    pub(super) fn refuse(&mut self, reason: Cow<'static, str>) {
        let full = self.refusals.len() >= MAX_REFUSAL_REASONS && !self.refusals.contains_key(&reason);
        let reason = if full { Cow::Borrowed("other") } else { reason };
        *self.refusals.entry(reason).or_default() += 1;
    }

    /// How many living processes stand on a kind of evidence at best.
    pub(super) fn processes_with(&self, evidence: Evidence) -> u64 {
        self.processes.values().map(|process| u64::from(process.best_evidence == Some(evidence))).sum()
    }
}

/// Where a process stood in the series of its identity.
#[derive(Debug, Default)]
struct Stood {
    allocations: Option<Cursor>,
    estimated: Option<Cursor>,
    goroutines: Option<Cursor>,
    heap: Option<Heap>,
    memory: Option<Arc<MemoryStatement>>,
    limit: Option<u64>,
    live: Option<Holding>,
    table: Option<Holding>,
    outlook: Option<Outlook>,
}

impl Group {
    fn leave(&mut self, key: ProcessKey) -> Stood {
        // The next look says again what it costs.
        self.costs.end(key);
        Stood {
            allocations: self.allocations.end(key),
            estimated: self.estimated.end(key),
            goroutines: self.goroutines.end(key),
            heap: self.runtime.end(key),
            memory: self.memory.end(key),
            limit: self.limits.remove(&key),
            live: self.live.end(key),
            table: self.table.end(key),
            outlook: self.outlooks.end(key),
        }
    }

    fn go_on(&mut self, key: ProcessKey, stood: Stood) {
        let Stood { allocations, estimated, goroutines, heap, memory, limit, live, table, outlook } = stood;
        if let Some(stood) = allocations {
            self.allocations.go_on(key, stood);
        }
        if let Some(stood) = estimated {
            self.estimated.go_on(key, stood);
        }
        if let Some(stood) = goroutines {
            self.goroutines.go_on(key, stood);
        }
        if let Some(stood) = heap {
            self.runtime.go_on(key, stood);
        }
        if let Some(stood) = memory {
            self.memory.observe(key, stood);
        }
        self.limits.extend(limit.map(|limit| (key, limit)));
        if let Some(stood) = live {
            self.live.go_on(key, stood);
        }
        if let Some(stood) = table {
            self.table.go_on(key, stood);
        }
        if let Some(stood) = outlook {
            self.outlooks.observe(key, stood);
        }
    }

    fn new(capacity: usize) -> Self {
        let by_bytes = Choice { capacity, rank: |[bytes, _]| *bytes, margin: 0 };
        Self {
            allocations: TopSites::new(by_bytes),
            estimated: TopSites::new(by_bytes),
            // Growth decides: a place that starts a million goroutines and ends them is no news. The margin keeps
            // places that hover around zero from taking turns.
            goroutines: TopSites::new(Choice {
                capacity,
                rank: |[created, exited]| created.saturating_sub(*exited),
                margin: 16,
            }),
            places: BTreeMap::new(),
            runtime: RuntimeBooks::default(),
            memory: MemoryGauges::default(),
            limits: BTreeMap::new(),
            live: SiteGauges::new(capacity),
            table: SiteGauges::new(capacity),
            outlooks: Outlooks::default(),
            costs: Costs::default(),
            living: 0,
            ended_at: 0,
        }
    }

    fn observe(&mut self, key: ProcessKey, snapshot: &Snapshot) {
        if let Some(heap) = &snapshot.heap {
            self.runtime.observe(key, heap);
        }
        if let Some(statement) = &snapshot.memory {
            self.memory.observe(key, Arc::clone(statement));
        }
        match snapshot.limit {
            Some(limit) => drop(self.limits.insert(key, limit.bytes)),
            None => drop(self.limits.remove(&key)),
        }
        if snapshot.profile.is_some() || snapshot.births.is_some() {
            let bytes = |site: &LiveSite| ((site.id, String::new()), whole(site.bytes.value));
            let held = snapshot.profile.as_ref().map_or(&[][..], |profile| &profile.sites);
            let growths = judged(snapshot).into_iter().map(|site| {
                let rate = site.growth.map(|growth| growth.growth_bytes_per_s);
                (site.id, Growth { verdict: site.verdict, rate })
            });
            self.live.observe(key, snapshot.window_s, held.iter().map(bytes).collect(), growths);
        }
        self.outlooks.observe(key, Outlook::of(snapshot));
        if let Some(table) = &snapshot.goroutines {
            let mut values = Values::new();
            for (site, state) in table.sites.iter().flat_map(|site| site.states.iter().map(move |state| (site, state)))
            {
                let reason = untrusted::name(&state.wait_reason).into_owned();
                let value = values.entry((site.id, reason)).or_default();
                *value = value.saturating_add(state.count);
            }
            let sites = snapshot.goroutine_growth.iter().flat_map(|growth| &growth.sites);
            let growths = sites.map(|site| (site.id, Growth { verdict: site.verdict, rate: site.trend.rate() }));
            self.table.observe(key, snapshot.window_s, values, growths);
        }
        if let Some(exact) = &snapshot.exact {
            self.observe_exact(key, exact);
        } else if let Some(hooks) = &snapshot.goroutine_hooks {
            self.observe_goroutines(key, hooks.totals, &hooks.sites);
        }
        let counted = snapshot.exact.iter().flat_map(|exact| {
            let sites = exact.sites.iter().map(|site| (site.id, &site.place));
            sites.chain(exact.goroutine_sites.iter().map(|site| (site.id, &site.place)))
        });
        let alive = snapshot.profile.iter().flat_map(|profile| profile.sites.iter()).map(|site| (site.id, &site.place));
        let running = snapshot.goroutines.iter().flat_map(|table| &table.sites).map(|site| (site.id, &site.place));
        let hooked = snapshot.goroutine_hooks.iter().flat_map(|hooks| &hooks.sites).map(|site| (site.id, &site.place));
        let born = snapshot.births.iter().flat_map(|births| births.sites.iter()).map(|site| (site.id, &site.place));
        // The last one names it: births come first, as the heap profile is asked before them.
        for (id, place) in born.chain(counted).chain(alive).chain(running).chain(hooked) {
            if self.is_visible(id) {
                self.places.insert(id, Place::of(place));
            }
        }
        let mut places = std::mem::take(&mut self.places);
        places.retain(|id, _| self.is_visible(*id));
        self.places = places;
    }

    fn observe_exact(&mut self, key: ProcessKey, snapshot: &ExactCounts) {
        let totals = &snapshot.totals;
        self.allocations.observe(
            key,
            [totals.allocated.bytes, totals.allocated.objects],
            snapshot.sites.iter().map(|site| (site.id, [site.counted.bytes, site.counted.objects])),
        );
        self.observe_goroutines(key, totals.goroutines, &snapshot.goroutine_sites);
    }

    fn observe_goroutines(&mut self, key: ProcessKey, totals: Turnover, sites: &[GoroutineSite]) {
        self.goroutines.observe(
            key,
            [totals.created, totals.exited],
            sites.iter().map(|site| (site.id, [site.counted.created, site.counted.exited])),
        );
    }

    fn is_visible(&self, site: SiteId) -> bool {
        self.allocations.is_visible(site)
            || self.estimated.is_visible(site)
            || self.goroutines.is_visible(site)
            || self.live.is_visible(site)
            || self.table.is_visible(site)
    }
}

impl Place {
    fn of(frame: &Frame) -> Self {
        Self {
            function: untrusted::name(&frame.function).into_owned(),
            file: untrusted::path(&frame.file).into_owned(),
            line: frame.line,
        }
    }
}

/// What was added since last time; all of it where the count began anew.
pub(super) fn grown(before: &mut u64, now: u64) -> u64 {
    let grown = if now < *before { now } else { now - *before };
    *before = now;
    grown
}

/// An estimate as a gauge of whole bytes.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and bytes of one process")]
pub(super) fn whole(bytes: f64) -> u64 {
    bytes.max(0.0) as u64
}
