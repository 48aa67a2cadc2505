//! Which sites of one identity have a series of their own, and what the counters of all series say.
//!
//! Input: for each process of the identity, what was counted since we began to look at it, as a total and per site.
//! Output: counters that never fall. At most `capacity` sites are visible; `other` accumulates what happened while a
//! site was not. Invariants, held by property tests:
//!
//! - a counter never falls, also when its site was hidden in between or its process ended;
//! - the visible sites, the hidden ones with what they had when they were hidden, and `other` sum to the total;
//! - the total is the sum over the processes of the identity.
//!
//! The total of a process is the authority. Sites may catch up with it late (a stack that becomes known after its hits
//! were counted): what was given to `other` stays there, and the site is paid from what later belongs to no other site.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::model::SiteId;

/// Two counters that move together: bytes and objects, or goroutines created and exited.
pub type Amounts = [u64; 2];

/// Sites that one identity remembers. What further sites do is in `other`.
pub const MAX_REMEMBERED_SITES: usize = 16_384;

/// One process among those of the identity. Not a process id: those are reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey(pub u64);

/// How visible sites are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Most sites that are visible at once.
    pub capacity: usize,
    /// What makes a site matter; more is better.
    pub rank: fn(&Amounts) -> u64,
    /// A hidden site takes the place of a visible one only if its rank is higher by a quarter and by this much, so that
    /// series do not come and go.
    pub margin: u64,
}

/// The counters of all sites of one identity.
#[derive(Clone, Debug)]
pub struct TopSites {
    choice: Choice,
    sites: BTreeMap<SiteId, Ledger>,
    processes: BTreeMap<ProcessKey, Cursor>,
    other: Amounts,
    total: Amounts,
    is_known: bool,
}

/// What is known about one site.
#[derive(Clone, Debug, Default)]
struct Ledger {
    /// All that was ever seen of it; decides the rank.
    seen: Amounts,
    /// The counter: what it did while it was visible.
    counter: Amounts,
    /// Seen while visible, but not yet covered by the total.
    owed: Amounts,
    visible: bool,
}

/// Where we stand in the counts of one process: what is in the counters already.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    total: Amounts,
    sites: BTreeMap<SiteId, Amounts>,
}

impl TopSites {
    /// No sites yet.
    pub fn new(choice: Choice) -> Self {
        Self {
            choice,
            sites: BTreeMap::new(),
            processes: BTreeMap::new(),
            other: Amounts::default(),
            total: Amounts::default(),
            is_known: false,
        }
    }

    /// Whether any process was ever counted: what was not has no series, not even one of `other`.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// What a process has done since we began to look at it, in total and by site.
    ///
    /// A total below the last one means that we began anew.
    pub fn observe(&mut self, process: ProcessKey, total: Amounts, sites: impl IntoIterator<Item = (SiteId, Amounts)>) {
        self.is_known = true;
        let cursor = self.processes.entry(process).or_default();
        if total.iter().zip(&cursor.total).any(|(now, before)| now < before) {
            *cursor = Cursor::default();
        }
        let arrived = minus(total, cursor.total);
        cursor.total = total;

        let mut fresh = Vec::new();
        for (site, counted) in sites {
            let remembered = self.sites.len();
            let ledger = match self.sites.entry(site) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(_) if remembered >= MAX_REMEMBERED_SITES => continue,
                Entry::Vacant(new) => new.insert(Ledger::default()),
            };
            let before = cursor.sites.entry(site).or_default();
            let grown = minus(counted, *before);
            *before = max(*before, counted);
            if grown != Amounts::default() {
                ledger.seen = plus(ledger.seen, grown);
                fresh.push((site, grown));
            }
        }
        self.choose();
        self.pay(arrived, &fresh);
    }

    /// The process is gone. Its counts stay in the counters. Returns where it stood, for [`Self::go_on`] of another
    /// identity; None if it was never observed.
    pub fn end(&mut self, process: ProcessKey) -> Option<Cursor> {
        self.processes.remove(&process)
    }

    /// The process was counted under another identity until now; only what it does from now on is counted here.
    pub fn go_on(&mut self, process: ProcessKey, cursor: Cursor) {
        self.processes.insert(process, cursor);
    }

    /// The sites with a series of their own, by id.
    pub fn visible(&self) -> impl Iterator<Item = (SiteId, Amounts)> {
        self.sites.iter().filter(|(_, ledger)| ledger.visible).map(|(&site, ledger)| (site, ledger.counter))
    }

    /// Whether a site has a series of its own.
    pub fn is_visible(&self, site: SiteId) -> bool {
        self.sites.get(&site).is_some_and(|ledger| ledger.visible)
    }

    /// What happened while its site was not visible, and what belongs to no site.
    pub fn other(&self) -> Amounts {
        self.other
    }

    /// All that happened in all processes.
    pub fn total(&self) -> Amounts {
        self.total
    }

    /// Fills free places, then exchanges places as long as a hidden site is clearly ahead of the last visible one.
    fn choose(&mut self) {
        let rank = self.choice.rank;
        let mut visible: Vec<(u64, SiteId)> = Vec::new();
        let mut hidden: Vec<(u64, SiteId)> = Vec::new();
        for (&site, ledger) in &self.sites {
            if ledger.visible { &mut visible } else { &mut hidden }.push((rank(&ledger.seen), site));
        }
        // The next to enter last, the next to leave last; of equals the lower id is ahead.
        hidden.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        visible.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        while let Some((rank, newcomer)) = hidden.pop() {
            if visible.len() >= self.choice.capacity {
                let Some(&(last_rank, last)) = visible.last() else { return };
                let needed = last_rank.saturating_add(last_rank / 4).saturating_add(self.choice.margin);
                if rank <= needed {
                    return;
                }
                visible.pop();
                self.set_visible(last, false);
            }
            // In order: nobody who enters later in this round is ahead of this one.
            let place = visible.partition_point(|&(other_rank, _)| other_rank >= rank);
            visible.insert(place, (rank, newcomer));
            self.set_visible(newcomer, true);
        }
    }

    fn set_visible(&mut self, site: SiteId, visible: bool) {
        if let Some(ledger) = self.sites.get_mut(&site) {
            ledger.visible = visible;
            ledger.owed = Amounts::default();
        }
    }

    /// Divides what arrived: what visible sites did now, then what they are owed, then `other`.
    fn pay(&mut self, arrived: Amounts, fresh: &[(SiteId, Amounts)]) {
        self.total = plus(self.total, arrived);
        let mut purse = arrived;
        for (site, grown) in fresh {
            if let Some(ledger) = self.sites.get_mut(site).filter(|ledger| ledger.visible) {
                let paid = min(*grown, purse);
                purse = minus(purse, paid);
                ledger.counter = plus(ledger.counter, paid);
                ledger.owed = plus(ledger.owed, minus(*grown, paid));
            }
        }
        if purse != Amounts::default() {
            for ledger in self.sites.values_mut().filter(|ledger| ledger.visible) {
                let paid = min(ledger.owed, purse);
                purse = minus(purse, paid);
                ledger.counter = plus(ledger.counter, paid);
                ledger.owed = minus(ledger.owed, paid);
            }
        }
        self.other = plus(self.other, purse);
    }
}

fn plus(a: Amounts, b: Amounts) -> Amounts {
    [a[0].saturating_add(b[0]), a[1].saturating_add(b[1])]
}

fn minus(a: Amounts, b: Amounts) -> Amounts {
    [a[0].saturating_sub(b[0]), a[1].saturating_sub(b[1])]
}

fn min(a: Amounts, b: Amounts) -> Amounts {
    [a[0].min(b[0]), a[1].min(b[1])]
}

fn max(a: Amounts, b: Amounts) -> Amounts {
    [a[0].max(b[0]), a[1].max(b[1])]
}

#[cfg(test)]
#[path = "top_sites_tests.rs"]
mod tests;
