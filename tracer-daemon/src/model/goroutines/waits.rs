//! What groups wait for, and who could wake them.
//!
//! A channel's next user is not written down anywhere. But who is about to use it has its address, and mostly on its stack: so those are
//! named on whose stacks the address lies, as candidates. A stack also holds what is left of earlier calls, and the address can be
//! in the heap or a global variable instead: no conclusion is drawn from where it is not.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::object::{ObjectKind, Waited};
use super::{Group, Grouping};
use crate::addr::Avma;
use crate::read::goroutines::{Channel, WaitsOn};

/// Channels of a select that are shown.
const CASES_MAX: usize = 16;
/// Groups that are named as candidates to wake one.
const HOLDERS_MAX: usize = 16;

/// What most members of a group wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Where; `None` where the runtime has no record of it, and for a select.
    pub address: Option<Avma>,
    /// How many of those that were looked at wait for it.
    pub waiters: u64,
    /// What is known of the channel.
    pub channel: Option<Channel>,
    /// The channels of a select.
    pub cases: Vec<Channel>,
}

/// On whose stacks the addresses of a group's channels lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holders {
    /// Channels that the group waits for.
    pub channels: u64,
    /// Those among them whose address is on no stack but those of goroutines that wait for it.
    pub on_no_other_stack: u64,
    /// Whether each goroutine's whole stack was searched.
    pub all_searched: bool,
    /// The groups that have them, the most frequent first.
    pub groups: Vec<Holder>,
}

/// Goroutines of one group that have the address of a channel for which others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The place that started them: index in the sites of the table.
    pub site: usize,
    /// Index in the states of the site.
    pub state: usize,
    /// How many of them.
    pub count: u64,
}

/// What one group waits for, before groups have their places in the result.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) object: Option<Object>,
    pub(super) objects: u64,
    /// With the groups in the order in which they were found, and how many of each.
    pub(super) holders: Option<(Holders, Vec<(usize, u64)>)>,
}

/// Who has which channel's address, over all groups.
#[derive(Debug)]
pub(super) struct Waits {
    holders: BTreeMap<Avma, Vec<usize>>,
    all_searched: bool,
}

impl Waits {
    pub(super) fn of(grouping: &Grouping<'_>) -> Self {
        let table = grouping.input.table;
        let mut holders: BTreeMap<Avma, Vec<usize>> = BTreeMap::new();
        for (channel, goroutine) in &table.mentions {
            holders.entry(*channel).or_default().extend(usize::try_from(*goroutine));
        }
        let all_searched = table.complete
            && !table.mentions_cut
            && table.unknown == 0
            && table.goroutines.iter().all(|goroutine| goroutine.stack.is_ok());
        Self { holders, all_searched }
    }

    pub(super) fn of_group(&self, grouping: &Grouping<'_>, group: &Group) -> Waiting {
        let table = grouping.input.table;
        let mut waiters: BTreeMap<Waited, u64> = BTreeMap::new();
        let mut channels: BTreeSet<Avma> = BTreeSet::new();
        let mut selects: BTreeMap<&[Avma], u64> = BTreeMap::new();
        for index in &group.members {
            let Some(waited) = grouping.waited(*index, &group.reason) else { continue };
            *waiters.entry(waited).or_default() += 1;
            match grouping.goroutine(*index).map(|goroutine| &goroutine.waits_on) {
                Some(WaitsOn::Channel(channel)) => {
                    channels.insert(*channel);
                }
                Some(WaitsOn::Select(of_select)) => {
                    *selects.entry(of_select).or_default() += 1;
                    channels.extend(of_select.iter().copied());
                }
                Some(WaitsOn::Nothing | WaitsOn::Semaphore(_)) | None => {}
            }
        }
        // Of equals the one with the lowest address, so that the same table gives the same answer.
        let Some((waited, count)) = waiters.iter().rev().max_by_key(|(_, count)| **count) else {
            return Waiting::default();
        };
        let cases = selects.iter().rev().max_by_key(|(_, count)| **count);
        let cases = cases.filter(|_| waited.kind == ObjectKind::Select).map(|(cases, _)| *cases).unwrap_or_default();
        let with_address = waiters.keys().filter(|waited| waited.address.is_some()).count();
        let object = Object {
            kind: waited.kind,
            address: waited.address,
            waiters: *count,
            channel: waited.address.and_then(|address| table.channels.get(&address)).copied(),
            cases: cases.iter().filter_map(|channel| table.channels.get(channel)).take(CASES_MAX).copied().collect(),
        };
        let objects = with_address.max(selects.len()) as u64;
        Waiting { object: Some(object), objects, holders: self.holders(grouping, &channels) }
    }

    fn holders(&self, grouping: &Grouping<'_>, channels: &BTreeSet<Avma>) -> Option<(Holders, Vec<(usize, u64)>)> {
        if channels.is_empty() {
            return None;
        }
        let mut members: BTreeSet<usize> = BTreeSet::new();
        let mut on_no_other_stack = 0;
        for channel in channels {
            match self.holders.get(channel) {
                Some(holders) => members.extend(holders),
                None => on_no_other_stack += 1,
            }
        }
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        for member in members {
            // The runtime's own goroutines belong to no group, and wake nobody.
            if let Some(group) = grouping.group_of_member.get(member).copied().flatten() {
                *counts.entry(group).or_default() += 1;
            }
        }
        let mut groups: Vec<(usize, u64)> = counts.into_iter().collect();
        groups.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        groups.truncate(HOLDERS_MAX);
        let holders = Holders {
            channels: channels.len() as u64,
            on_no_other_stack,
            all_searched: self.all_searched,
            groups: Vec::new(),
        };
        Some((holders, groups))
    }
}
