//! The goroutine table, grouped: who started them, what they wait for, where, for how long, and who could wake them.
//!
//! A group is (place that started them, wait reason, place where they wait). Counts are exact where all goroutines were looked at; in
//! a sample the places where they wait are estimates with a 95 % interval, and the rest is exact still. Nothing here says that a
//! goroutine is leaked: that takes several looks.

mod ages;
pub mod growth;
pub mod hooks;
mod object;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::ages::{AgeBounds, IdClock};
pub use self::object::ObjectKind;
pub use self::waits::{Holder, Holders, Object};

use self::object::Waited;
use super::SiteId;
use super::site::{Placed, place_blocked, place_creator};
use super::slope::Z;
use crate::addr::Avma;
use crate::read::goroutines::{Goroutine, Kind, KindCount, Table};
use crate::symbolize::Frame;
use crate::symbolize::names::is_runtime;

/// Stacks of one group that are kept apart; further ones are in its count only.
const PATHS_MAX: usize = 64;

/// A look and the names that belong to it.
#[derive(Clone, Copy, Debug)]
pub struct TableInput<'a> {
    /// What was read.
    pub table: &'a Table,
    /// The frames of each of its stacks.
    pub stacks: &'a [Vec<Frame>],
    /// The frames at each creation address.
    pub creations: &'a BTreeMap<Avma, Vec<Frame>>,
    /// The function at each start address. None: not in Go's code.
    pub starts: &'a BTreeMap<Avma, Arc<str>>,
    /// Path of the main module.
    pub main_module: Option<&'a str>,
    /// What is known of the ages of goroutines.
    pub clock: &'a IdClock,
    /// When the look was, monotonic, ns.
    pub now_ns: u64,
}

/// All goroutines of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GoroutineTable {
    /// The program's own: `runtime.NumGoroutine`.
    pub live: u64,
    /// The runtime's own, which belong to no place.
    pub system: u64,
    /// Among `system`, those that execute finalizers or cleanups of the program just now. They have a place.
    pub callbacks: u64,
    /// Among `live`, those of which no more is known: they ended and began faster than they could be read.
    pub unknown: u64,
    /// Bytes of the stacks of all that have a place.
    pub stack_bytes: u64,
    /// How many were looked at one by one, the runtime's included; `None` where all were.
    pub sampled: Option<u64>,
    /// No goroutine had a number above this when the look began. `None`: not known.
    pub highest_id: Option<u64>,
    /// How many of those that were looked at have no stack: they ran, or it was not believed.
    pub without_stack: u64,
    /// The most frequent first.
    pub sites: Vec<TableSite>,
}

/// One place that starts goroutines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSite {
    /// Stable identity.
    pub id: SiteId,
    /// The line a person would change.
    pub place: Frame,
    /// The frame with the `go` statement, and those that it is inlined into.
    pub creation_stack: Vec<Frame>,
    /// The function that they run.
    pub entry_function: Arc<str>,
    /// How many there are.
    pub live: u64,
    /// Bytes of their stacks.
    pub stack_bytes: u64,
    /// Of the oldest one, as far as numbers tell.
    pub oldest: AgeBounds,
    /// The lowest number among them.
    pub lowest_id: u64,
    /// The numbers of those that were looked at, ascending.
    #[serde(default)]
    pub ids: Box<[u64]>,
    /// What they do; the most frequent first.
    pub states: Vec<TableState>,
}

/// Goroutines of one place that do the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// The runtime's text, or the name of the state.
    pub wait_reason: String,
    /// How many; an estimate where `interval` is there.
    pub count: u64,
    /// Bounds of the count, 95 %. `None`: it was counted.
    pub interval: Option<(u64, u64)>,
    /// How many were looked at.
    pub looked_at: u64,
    /// The line where they wait. `None`: they have no stack that could be read.
    pub blocked: Option<Frame>,
    /// The function that they run; that of the most frequent stack.
    pub entry_function: Arc<str>,
    /// Of the oldest of those that were looked at.
    pub oldest: AgeBounds,
    /// What most of them wait for. `None`: for nothing.
    pub waits_on: Option<Object>,
    /// How many different things with an address they wait for.
    pub objects: u64,
    /// Who has the addresses of their channels. `None`: they wait for none.
    pub holders: Option<Holders>,
    /// Their stacks, the most frequent first.
    pub paths: Vec<TablePath>,
}

/// A stack and how many of those that were looked at have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TablePath {
    /// How many.
    pub count: u64,
    /// Leaf first, the runtime's frames included.
    pub frames: Vec<Frame>,
    /// Whether it goes on.
    pub cut: bool,
}

/// Whose goroutines start with a function (`isSystemGoroutine` of runtime/traceback.go, go1.19 to go1.27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Program,
    /// The runtime's, and for a while it executes what the program registered.
    RuntimeForProgram,
    Runtime,
}

fn owner(start: Option<&Arc<str>>) -> Owner {
    match start.map(|name| &**name) {
        None | Some("runtime.main" | "runtime.corostart" | "runtime.handleAsyncEvent") => Owner::Program,
        Some("runtime.runfinq" | "runtime.runFinalizers" | "runtime.runCleanups") => Owner::RuntimeForProgram,
        Some(name) if name.starts_with("runtime.") => Owner::Runtime,
        Some(_) => Owner::Program,
    }
}

/// A group while it is collected.
#[derive(Debug)]
struct Group {
    site: usize,
    reason: String,
    blocked: Option<Frame>,
    /// Of the first of its kinds, for a group without members that were looked at.
    entry: Arc<str>,
    count: f64,
    low: f64,
    high: f64,
    looked_at: u64,
    lowest_id: u64,
    lived_ns: u64,
    members: Vec<usize>,
}

/// A place while it is collected.
#[derive(Debug)]
struct Site {
    id: SiteId,
    place: Frame,
    creation_stack: Vec<Frame>,
    entries: BTreeMap<Arc<str>, u64>,
    live: u64,
    stack_bytes: u64,
    lowest_id: u64,
    lived_ns: u64,
    ids: Vec<u64>,
}

/// What is collected while going through a table.
struct Grouping<'a> {
    input: TableInput<'a>,
    table: GoroutineTable,
    sites: Vec<Site>,
    site_of: HashMap<Avma, usize>,
    site_by_id: HashMap<SiteId, usize>,
    groups: Vec<Group>,
    group_of: HashMap<(usize, String, Option<Frame>), usize>,
    /// By the goroutine's place in the table.
    group_of_member: Vec<Option<usize>>,
    /// The line where each stack waits.
    blocked: Vec<Option<Frame>>,
}

/// Groups what was read.
pub fn tabulate(input: TableInput<'_>) -> GoroutineTable {
    let blocked = input.stacks.iter().map(|frames| place_blocked(frames, input.main_module)).collect();
    let mut grouping = Grouping {
        input,
        table: GoroutineTable {
            unknown: input.table.unknown,
            live: input.table.unknown,
            highest_id: input.table.highest_id,
            sampled: (!input.table.complete).then_some(input.table.goroutines.len() as u64),
            without_stack: input.table.goroutines.iter().filter(|goroutine| goroutine.stack.is_err()).count() as u64,
            ..GoroutineTable::default()
        },
        sites: Vec::new(),
        site_of: HashMap::new(),
        site_by_id: HashMap::new(),
        groups: Vec::new(),
        group_of: HashMap::new(),
        group_of_member: vec![None; input.table.goroutines.len()],
        blocked,
    };
    let mut members: HashMap<Kind, Vec<usize>> = HashMap::new();
    for (index, goroutine) in input.table.goroutines.iter().enumerate() {
        members.entry(goroutine.kind).or_default().push(index);
    }
    for counted in &input.table.kinds {
        let members = members.remove(&counted.kind).unwrap_or_default();
        grouping.add_kind(counted, &members);
    }
    grouping.finish()
}

impl Grouping<'_> {
    fn add_kind(&mut self, counted: &KindCount, members: &[usize]) {
        let start = self.input.starts.get(&counted.kind.start);
        match owner(start) {
            Owner::Program => {
                self.table.live += counted.count;
                self.add_members(counted, members, counted.count);
            }
            Owner::Runtime => self.table.system += counted.count,
            Owner::RuntimeForProgram => {
                self.table.system += counted.count;
                let executing: Vec<usize> =
                    members.iter().copied().filter(|index| self.executes_program(*index)).collect();
                self.table.callbacks += executing.len() as u64;
                self.add_members(counted, &executing, executing.len() as u64);
            }
        }
    }

    /// Whether a goroutine of the runtime is inside a function of the program: between the call and the return.
    fn executes_program(&self, index: usize) -> bool {
        self.frames(index).iter().any(|frame| !is_runtime(&frame.function))
    }

    /// Adds `count` goroutines of a kind, of which `members` were looked at.
    fn add_members(&mut self, counted: &KindCount, members: &[usize], count: u64) {
        if count == 0 {
            return;
        }
        let site = self.site(&counted.kind);
        let entry = self.entry_function(&counted.kind, members);
        if let Some(site) = self.sites.get_mut(site) {
            *site.entries.entry(Arc::clone(&entry)).or_default() += count;
            site.live += count;
            let looked_at = members.iter().filter_map(|index| self.input.table.goroutines.get(*index));
            site.ids.extend(looked_at.map(|one| one.id));
            let stack_bytes = if count == counted.count {
                counted.stack_bytes
            } else {
                members
                    .iter()
                    .filter_map(|index| self.input.table.goroutines.get(*index))
                    .map(|one| one.stack_bytes)
                    .sum()
            };
            site.stack_bytes += stack_bytes;
            self.table.stack_bytes += stack_bytes;
            site.lowest_id = site.lowest_id.min(counted.lowest_id);
            site.lived_ns = earlier(site.lived_ns, counted.waiting_since_ns);
        }
        let reason = self.input.table.state_name(&counted.kind);
        if members.is_empty() {
            let group = self.group(site, &reason, None, &entry);
            let (share, bounds) = all(count);
            self.add_to(group, share, bounds, counted.lowest_id, counted.waiting_since_ns);
            return;
        }
        let mut by_place: BTreeMap<Option<Frame>, Vec<usize>> = BTreeMap::new();
        for index in members {
            let stack = self.goroutine(*index).and_then(|goroutine| goroutine.stack.ok());
            let blocked = stack.and_then(|stack| self.blocked.get(stack.index()).cloned().flatten());
            by_place.entry(blocked).or_default().push(*index);
        }
        for (blocked, of_place) in by_place {
            let (share, bounds) = if members.len() as u64 >= count {
                all(of_place.len() as u64)
            } else {
                share_of(of_place.len(), members.len(), count)
            };
            let group = self.group(site, &reason, blocked, &entry);
            for index in &of_place {
                let (id, lived_ns) = self.goroutine(*index).map_or((u64::MAX, 0), |one| (one.id, one.waiting_since_ns));
                self.add_to(group, 0.0, (0.0, 0.0), id, lived_ns);
                if let Some(of_member) = self.group_of_member.get_mut(*index) {
                    *of_member = Some(group);
                }
            }
            self.add_to(group, share, bounds, u64::MAX, 0);
            if let Some(group) = self.groups.get_mut(group) {
                group.looked_at += of_place.len() as u64;
                group.members.extend(of_place);
            }
        }
    }

    fn add_to(&mut self, group: usize, count: f64, bounds: (f64, f64), lowest_id: u64, lived_ns: u64) {
        if let Some(group) = self.groups.get_mut(group) {
            group.count += count;
            group.low += bounds.0;
            group.high += bounds.1;
            group.lowest_id = group.lowest_id.min(lowest_id);
            group.lived_ns = earlier(group.lived_ns, lived_ns);
        }
    }

    /// The place that started goroutines of a kind.
    fn site(&mut self, kind: &Kind) -> usize {
        if let Some(known) = self.site_of.get(&kind.creation) {
            return *known;
        }
        let frames = self.input.creations.get(&kind.creation).map(Vec::as_slice).unwrap_or_default();
        let Placed { id, place, frames, .. } = place_creator(frames, self.input.main_module);
        let index = *self.site_by_id.entry(id).or_insert_with(|| {
            self.sites.push(Site {
                id,
                place,
                creation_stack: frames,
                entries: BTreeMap::new(),
                live: 0,
                stack_bytes: 0,
                lowest_id: u64::MAX,
                lived_ns: 0,
                ids: Vec::new(),
            });
            self.sites.len() - 1
        });
        self.site_of.insert(kind.creation, index);
        index
    }

    fn group(&mut self, site: usize, reason: &str, blocked: Option<Frame>, entry: &Arc<str>) -> usize {
        let key = (site, reason.to_owned(), blocked.clone());
        let groups = &mut self.groups;
        *self.group_of.entry(key).or_insert_with(|| {
            groups.push(Group {
                site,
                reason: reason.to_owned(),
                blocked,
                entry: Arc::clone(entry),
                count: 0.0,
                low: 0.0,
                high: 0.0,
                looked_at: 0,
                lowest_id: u64::MAX,
                lived_ns: 0,
                members: Vec::new(),
            });
            groups.len() - 1
        })
    }

    fn goroutine(&self, index: usize) -> Option<&Goroutine> {
        self.input.table.goroutines.get(index)
    }

    fn frames(&self, index: usize) -> &[Frame] {
        let stack = self.goroutine(index).and_then(|goroutine| goroutine.stack.ok());
        stack.and_then(|stack| self.input.stacks.get(stack.index())).map(Vec::as_slice).unwrap_or_default()
    }

    /// The function that goroutines of a kind run. The compiler starts some of them through a wrapper; stacks have what it calls.
    fn entry_function(&self, kind: &Kind, members: &[usize]) -> Arc<str> {
        let start = self.input.starts.get(&kind.start);
        if start.is_some_and(|name| &**name == "runtime.main") {
            return "main.main".into();
        }
        let cut = |index: usize| {
            let stack = self.goroutine(index).and_then(|goroutine| goroutine.stack.ok());
            stack.and_then(|stack| self.input.table.stacks.get(stack.index())).is_none_or(|stack| stack.cut)
        };
        let whole = members.iter().copied().find(|index| !cut(*index));
        let frames = whole.map(|index| self.frames(index)).unwrap_or_default();
        first_function(frames).or_else(|| start.cloned()).unwrap_or_else(|| "".into())
    }

    /// As [`Self::entry_function`], of goroutines that may be of several kinds.
    fn entry_of_group(&self, group: &Group) -> Arc<str> {
        let mut counts: HashMap<Kind, u64> = HashMap::new();
        for goroutine in group.members.iter().filter_map(|index| self.goroutine(*index)) {
            *counts.entry(goroutine.kind).or_default() += 1;
        }
        let kind = counts.into_iter().max_by_key(|(kind, count)| (*count, *kind)).map(|(kind, _)| kind);
        let of_kind = |index: &usize| self.goroutine(*index).map(|goroutine| goroutine.kind) == kind;
        let members: Vec<usize> = group.members.iter().copied().filter(of_kind).collect();
        kind.map_or_else(|| Arc::clone(&group.entry), |kind| self.entry_function(&kind, &members))
    }

    fn waited(&self, index: usize, reason: &str) -> Option<Waited> {
        let goroutine = self.goroutine(index)?;
        let of_timer =
            |channel| self.input.table.channels.get(&channel).is_some_and(|channel| channel.of_timer == Some(true));
        object::of(goroutine.kind.state, reason, &goroutine.waits_on, of_timer, self.frames(index))
    }

    fn paths(&self, group: &Group) -> Vec<TablePath> {
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        for index in &group.members {
            if let Some(stack) = self.goroutine(*index).and_then(|goroutine| goroutine.stack.ok()) {
                *counts.entry(stack.index()).or_default() += 1;
            }
        }
        let mut paths: Vec<TablePath> = counts
            .into_iter()
            .filter_map(|(stack, count)| {
                let cut = self.input.table.stacks.get(stack).is_some_and(|stack| stack.cut);
                Some(TablePath { count, frames: self.input.stacks.get(stack)?.clone(), cut })
            })
            .collect();
        paths.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.frames.cmp(&b.frames)));
        paths.truncate(PATHS_MAX);
        paths
    }

    fn finish(mut self) -> GoroutineTable {
        let clock = self.input.clock;
        let now_ns = self.input.now_ns;
        let age = |id: u64, lived_ns: u64| clock.bounds(id, (lived_ns != 0).then_some(lived_ns), now_ns);
        let waits = waits::Waits::of(&self);
        let mut states: Vec<Vec<(usize, TableState)>> = self.sites.iter().map(|_| Vec::new()).collect();
        let mut holders: HashMap<usize, Vec<(usize, u64)>> = HashMap::new();
        for (index, group) in self.groups.iter().enumerate() {
            let waiting = waits.of_group(&self, group);
            let mut held = None;
            if let Some((of_group, groups)) = waiting.holders {
                held = Some(of_group);
                holders.insert(index, groups);
            }
            let state = TableState {
                wait_reason: group.reason.clone(),
                count: whole(group.count),
                interval: (group.low < group.high).then(|| (whole(group.low), whole(group.high))),
                looked_at: group.looked_at,
                blocked: group.blocked.clone(),
                entry_function: self.entry_of_group(group),
                oldest: age(group.lowest_id, group.lived_ns),
                waits_on: waiting.object,
                objects: waiting.objects,
                holders: held,
                paths: self.paths(group),
            };
            if let Some(of_site) = states.get_mut(group.site) {
                of_site.push((index, state));
            }
        }
        let mut sites: Vec<(Site, Vec<(usize, TableState)>)> = self.sites.drain(..).zip(states).collect();
        sites.sort_by(|(a, _), (b, _)| {
            b.live.cmp(&a.live).then_with(|| a.place.cmp(&b.place)).then_with(|| a.id.cmp(&b.id))
        });
        // Where each group has come to stand.
        let mut places: HashMap<usize, (usize, usize)> = HashMap::new();
        for (site, (_, states)) in sites.iter_mut().enumerate() {
            states.sort_by(|(_, a), (_, b)| {
                let by_count = b.count.cmp(&a.count);
                by_count.then_with(|| a.wait_reason.cmp(&b.wait_reason)).then_with(|| a.blocked.cmp(&b.blocked))
            });
            places.extend(states.iter().enumerate().map(|(state, (group, _))| (*group, (site, state))));
        }
        let placed = |(group, count): &(usize, u64)| {
            places.get(group).map(|&(site, state)| Holder { site, state, count: *count })
        };
        for (mut site, states) in sites {
            site.ids.sort_unstable();
            let states = states.into_iter().map(|(group, mut state)| {
                if let Some(held) = &mut state.holders {
                    held.groups = holders.get(&group).into_iter().flatten().filter_map(placed).collect();
                }
                state
            });
            let entry = site.entries.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name);
            self.table.sites.push(TableSite {
                id: site.id,
                place: site.place,
                creation_stack: site.creation_stack,
                entry_function: entry.unwrap_or_else(|| "".into()),
                live: site.live,
                stack_bytes: site.stack_bytes,
                oldest: age(site.lowest_id, site.lived_ns),
                lowest_id: site.lowest_id,
                ids: site.ids.into(),
                states: states.collect(),
            });
        }
        self.table
    }
}

/// The outermost function of a stack that is not the runtime's beginning of it.
fn first_function(frames: &[Frame]) -> Option<Arc<str>> {
    let begins = |frame: &&Frame| !["runtime.goexit", "runtime.corostart"].contains(&&*frame.function);
    frames.iter().rev().find(begins).map(|frame| Arc::clone(&frame.function))
}

/// The earlier of two times of which 0 means that it is not known.
fn earlier(a: u64, b: u64) -> u64 {
    match (a, b) {
        (0, known) | (known, 0) => known,
        (a, b) => a.min(b),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of goroutines, which are small and not negative"
)]
fn whole(count: f64) -> u64 {
    count.round().max(0.0) as u64
}

/// A count without an error.
#[expect(clippy::cast_precision_loss, reason = "counts of goroutines are below 2^52")]
fn all(count: u64) -> (f64, (f64, f64)) {
    (count as f64, (count as f64, count as f64))
}

/// How many of `count` have what `hits` of `looks` have, and the bounds of that, 95 % (the score interval of Wilson, 1927).
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn share_of(hits: usize, looks: usize, count: u64) -> (f64, (f64, f64)) {
    let (hits, looks, count) = (hits as f64, looks as f64, count as f64);
    let share = hits / looks;
    let spread = Z * (share * (1.0 - share) / looks + Z * Z / (4.0 * looks * looks)).sqrt();
    let scale = 1.0 + Z * Z / looks;
    let middle = share + Z * Z / (2.0 * looks);
    let bound = |value: f64| count * (value / scale).clamp(0.0, 1.0);
    (count * share, (bound(middle - spread), bound(middle + spread)))
}
