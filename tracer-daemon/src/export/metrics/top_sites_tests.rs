//! Laws of the counters under any sequence of snapshots.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

const CAPACITY: usize = 3;
const FIRST: ProcessKey = ProcessKey(1);
const SECOND: ProcessKey = ProcessKey(2);

fn top() -> TopSites {
    TopSites::new(Choice { capacity: CAPACITY, rank: |amounts| amounts[0], margin: 0 })
}

/// Bytes by site id, objects one tenth of them, nothing outside of sites.
fn observe(top: &mut TopSites, process: ProcessKey, bytes: &[(u64, u64)]) {
    let total = bytes.iter().map(|(_, bytes)| bytes).sum::<u64>();
    observe_total(top, process, total, bytes);
}

fn observe_total(top: &mut TopSites, process: ProcessKey, total: u64, bytes: &[(u64, u64)]) {
    let amounts = |bytes: u64| [bytes, bytes / 10];
    top.observe(process, amounts(total), bytes.iter().map(|&(site, bytes)| (SiteId(site), amounts(bytes))));
}

fn visible(top: &TopSites) -> Vec<(u64, u64)> {
    top.visible().map(|(site, amounts)| (site.0, amounts[0])).collect()
}

/// Visible counters, counters of hidden sites, and `other`.
fn sum(top: &TopSites) -> Amounts {
    top.sites.values().map(|ledger| ledger.counter).fold(top.other(), plus)
}

#[test]
fn a_site_that_is_seen_for_the_first_time_keeps_all_it_did() {
    let mut top = top();
    observe(&mut top, FIRST, &[(1, 500), (2, 300)]);
    assert_eq!(visible(&top), [(1, 500), (2, 300)]);
    assert_eq!(top.other(), [0, 0]);
}

#[test]
fn only_the_largest_sites_are_visible_and_the_rest_is_other() {
    let mut top = top();
    observe(&mut top, FIRST, &[(1, 10), (2, 300), (3, 20), (4, 200), (5, 100)]);
    assert_eq!(visible(&top), [(2, 300), (4, 200), (5, 100)]);
    assert_eq!(top.other(), [30, 3]);
}

#[test]
fn a_newcomer_needs_a_clear_lead_and_begins_with_what_it_does_from_then_on() {
    let mut top = top();
    observe(&mut top, FIRST, &[(1, 100), (2, 100), (3, 100), (4, 90)]);
    assert_eq!(visible(&top), [(1, 100), (2, 100), (3, 100)]);
    observe(&mut top, FIRST, &[(1, 100), (2, 100), (3, 100), (4, 120)]);
    assert_eq!(visible(&top), [(1, 100), (2, 100), (3, 100)], "20 % ahead is not enough");
    observe(&mut top, FIRST, &[(1, 100), (2, 100), (3, 100), (4, 150)]);
    assert_eq!(visible(&top), [(1, 100), (2, 100), (4, 30)]);
    assert_eq!(top.other()[0], 120);
}

#[test]
fn a_site_that_comes_back_goes_on_where_it_was() {
    let mut top = top();
    observe(&mut top, FIRST, &[(1, 100), (2, 100), (3, 100)]);
    observe(&mut top, FIRST, &[(1, 100), (2, 100), (3, 100), (4, 200)]);
    assert_eq!(visible(&top), [(1, 100), (2, 100), (4, 200)]);
    observe(&mut top, FIRST, &[(1, 100), (2, 100), (3, 120), (4, 200)]);
    observe(&mut top, FIRST, &[(1, 100), (2, 100), (3, 320), (4, 200)]);
    assert_eq!(visible(&top), [(1, 100), (3, 300), (4, 200)], "the 20 that it did while hidden are in other");
    assert_eq!(top.other()[0], 20);
}

#[test]
fn processes_of_one_identity_are_summed_and_stay_when_they_end() {
    let mut top = top();
    observe(&mut top, FIRST, &[(1, 500)]);
    observe(&mut top, SECOND, &[(1, 30), (2, 3)]);
    assert_eq!(visible(&top), [(1, 530), (2, 3)]);
    top.end(FIRST);
    assert_eq!(visible(&top), [(1, 530), (2, 3)]);
    observe(&mut top, SECOND, &[(1, 40), (2, 3)]);
    assert_eq!(visible(&top), [(1, 540), (2, 3)]);
    assert_eq!(top.total()[0], 543);
}

#[test]
fn a_process_that_changes_its_identity_is_counted_once() {
    let (mut old, mut new) = (top(), top());
    observe(&mut old, FIRST, &[(1, 500)]);
    new.go_on(FIRST, old.end(FIRST).unwrap());
    observe(&mut new, FIRST, &[(1, 530), (2, 7)]);
    assert_eq!((visible(&old), visible(&new)), (vec![(1, 500)], vec![(1, 30), (2, 7)]));
    assert!(old.end(FIRST).is_none());
}

#[test]
fn a_window_that_begins_anew_is_added() {
    let mut top = top();
    observe(&mut top, FIRST, &[(1, 500)]);
    observe(&mut top, FIRST, &[(1, 70)]);
    assert_eq!(visible(&top), [(1, 570)]);
}

#[test]
fn bytes_that_find_their_site_late_are_not_counted_twice() {
    let mut top = top();
    observe_total(&mut top, FIRST, 100, &[]);
    assert_eq!(top.other()[0], 100);
    observe_total(&mut top, FIRST, 100, &[(1, 60)]);
    assert_eq!((visible(&top), top.other()[0]), (vec![(1, 0)], 100));
    observe_total(&mut top, FIRST, 150, &[(1, 70)]);
    assert_eq!((visible(&top), top.other()[0]), (vec![(1, 50)], 100), "10 of now, 40 of the 60 that it is owed");
    observe_total(&mut top, FIRST, 250, &[(1, 70)]);
    assert_eq!((visible(&top), top.other()[0]), (vec![(1, 70)], 180), "the last 20, and no more");
}

#[test]
fn sites_beyond_the_memory_are_other() {
    let mut top = top();
    let many: Vec<(u64, u64)> = (0..MAX_REMEMBERED_SITES as u64 + 5).map(|site| (site, 1)).collect();
    observe(&mut top, FIRST, &many);
    assert_eq!(top.sites.len(), MAX_REMEMBERED_SITES);
    assert_eq!(top.processes[&FIRST].sites.len(), MAX_REMEMBERED_SITES);
    assert_eq!(sum(&top)[0], many.len() as u64);
}

#[test]
fn without_capacity_everything_is_other() {
    let mut top = TopSites::new(Choice { capacity: 0, rank: |amounts| amounts[0], margin: 0 });
    observe(&mut top, FIRST, &[(1, 500)]);
    assert_eq!((visible(&top), top.other()[0]), (vec![], 500));
}

/// What can happen to the processes of an identity.
#[derive(Clone, Debug)]
enum Step {
    /// Any counts, also ones that fall, and a total that fits them or not.
    Observe {
        process: u64,
        total: Amounts,
        sites: Vec<(u64, Amounts)>,
    },
    End {
        process: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let amounts = || [0_u64..1000, 0_u64..1000];
    let observe = (0_u64..3, amounts(), vec((0_u64..8, amounts()), 0..8))
        .prop_map(|(process, total, sites)| Step::Observe { process, total, sites });
    let end = (0_u64..3).prop_map(|process| Step::End { process });
    vec(prop_oneof![9 => observe, 1 => end], 0..40)
}

proptest! {
    #[test]
    fn counters_never_fall_and_sum_to_the_total(steps in steps()) {
        let mut top = top();
        let mut highest: BTreeMap<SiteId, Amounts> = BTreeMap::new();
        let (mut other, mut total) = (Amounts::default(), Amounts::default());
        for step in steps {
            match step {
                Step::Observe { process, total, sites } => {
                    top.observe(ProcessKey(process), total, sites.into_iter().map(|(site, amounts)| (SiteId(site), amounts)));
                }
                Step::End { process } => drop(top.end(ProcessKey(process))),
            }
            prop_assert!(top.visible().count() <= CAPACITY);
            for (site, counter) in top.visible() {
                let before = highest.insert(site, counter).unwrap_or_default();
                prop_assert!(minus(before, counter) == Amounts::default(), "{site} fell from {before:?} to {counter:?}");
            }
            prop_assert_eq!(minus(other, top.other()), Amounts::default(), "other fell");
            prop_assert_eq!(minus(total, top.total()), Amounts::default(), "the total fell");
            (other, total) = (top.other(), top.total());
            prop_assert_eq!(sum(&top), top.total());
            let seen = |ledger: &Ledger| minus(ledger.counter, ledger.seen) == Amounts::default();
            prop_assert!(top.sites.values().all(seen), "a counter is ahead of what was seen");
        }
    }

    /// Processes that only grow, as real ones do: nothing is owed, and each site has exactly what it did while visible.
    #[test]
    fn the_total_is_the_sum_over_processes(growth in vec((0_u64..3, 0_u64..8, 0_u64..1000, 0_u64..50), 0..60)) {
        let mut top = top();
        let mut processes: BTreeMap<u64, (u64, BTreeMap<u64, u64>)> = BTreeMap::new();
        for (process, site, bytes, unattributed) in growth {
            let (total, sites) = processes.entry(process).or_default();
            *total += bytes + unattributed;
            *sites.entry(site).or_default() += bytes;
            let sites: Vec<_> = sites.iter().map(|(&site, &bytes)| (site, bytes)).collect();
            observe_total(&mut top, ProcessKey(process), *total, &sites);
            prop_assert!(top.sites.values().all(|ledger| ledger.owed[0] == 0));
        }
        prop_assert_eq!(top.total()[0], processes.values().map(|(total, _)| total).sum::<u64>());
        prop_assert_eq!(sum(&top)[0], top.total()[0]);
    }
}
