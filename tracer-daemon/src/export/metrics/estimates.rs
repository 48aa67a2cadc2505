//! What sites have allocated where windows say who allocates: what the runtime's own books have grown by from look to look, shared
//! among sites by the rates that births give them then.
//!
//! The books are the authority, so the sum is right and never falls; what births cannot give to a site is `other`
//! (`docs/decisions/0021-what-windows-count.md`). Objects are not shared out: of tiny ones the rates say nothing.

use std::collections::BTreeMap;

use super::{
    state::{grown, whole},
    top_sites::{Amounts, MAX_REMEMBERED_SITES},
};
use crate::model::{SiteId, Snapshot};

/// What one process has allocated since windows were first told of.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    /// What the books said last, bytes since the process began.
    books_bytes: Option<u64>,
    total_bytes: u64,
    sites: BTreeMap<SiteId, f64>,
}

impl Estimates {
    /// What is allocated by now, in all and by site; objects are 0. `None`: nobody asked for births, or hooks count all.
    pub(super) fn observe(
        &mut self,
        snapshot: &Snapshot,
    ) -> Option<(Amounts, impl Iterator<Item = (SiteId, Amounts)>)> {
        let books = snapshot.heap.as_ref().filter(|_| snapshot.birth_counts.is_some() && snapshot.exact.is_none())?;
        let before = self.books_bytes.get_or_insert(books.allocated_bytes);
        let allocated = grown(before, books.allocated_bytes);
        self.total_bytes = self.total_bytes.saturating_add(allocated);
        for (births, site) in
            snapshot.births.iter().flat_map(|births| births.sites.iter().map(move |site| (births, site)))
        {
            let share = site.alloc_bytes_per_s.map_or(0.0, |rate| rate.value) / births.all_bytes_per_s;
            let has_room = self.sites.len() < MAX_REMEMBERED_SITES || self.sites.contains_key(&site.id);
            if has_room && share.is_finite() && share > 0.0 {
                *self.sites.entry(site.id).or_default() += share.min(1.0) * crate::units::approximate(allocated);
            }
        }
        Some(([self.total_bytes, 0], self.sites.iter().map(|(site, bytes)| (*site, [whole(*bytes), 0]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{export::fixture, model::Heap};

    const PUT: SiteId = SiteId(0x3f9c_2a1b_77d0_e4c1);

    fn at(allocated_bytes: u64) -> Snapshot {
        Snapshot { heap: Some(Heap { allocated_bytes, ..fixture::heap() }), ..fixture::growing_by_births() }
    }

    fn bytes(estimates: &mut Estimates, snapshot: &Snapshot) -> Option<(u64, BTreeMap<SiteId, u64>)> {
        let ([total, objects], sites) = estimates.observe(snapshot)?;
        assert_eq!(objects, 0);
        Some((total, sites.map(|(site, [bytes, _])| (site, bytes)).collect()))
    }

    #[test]
    fn what_the_books_grow_by_is_shared_as_births_say_and_the_rest_is_nobodys() {
        let mut estimates = Estimates::default();
        let (total, sites) = bytes(&mut estimates, &at(1_000)).unwrap();
        assert_eq!((total, sites.values().sum::<u64>()), (0, 0), "it is not known who allocated what was there before");
        let (total, sites) = bytes(&mut estimates, &at(45_000)).unwrap();
        assert_eq!((total, sites[&PUT], sites[&SiteId(0xaa)], sites.len()), (44_000, 22_000, 19_000, 2));
        let without = Snapshot { births: None, ..at(50_000) };
        assert_eq!(bytes(&mut estimates, &without).unwrap().1[&PUT], 22_000);
        assert_eq!(bytes(&mut estimates, &at(50_000)).unwrap().0, 49_000);
    }

    #[test]
    fn without_windows_or_with_hooks_on_everything_nothing_is_estimated() {
        let mut estimates = Estimates::default();
        assert_eq!(bytes(&mut estimates, &fixture::books()), None);
        let exact = Snapshot { exact: Some(fixture::counts()), ..at(1_000) };
        assert_eq!(bytes(&mut estimates, &exact), None);
    }

    #[test]
    fn no_counter_falls_whatever_the_rates_are() {
        let mut estimates = Estimates::default();
        let mut last = BTreeMap::new();
        for (step, all_bytes_per_s) in (1_u64..).zip([44e6, 0.0, f64::NAN, -1.0, 1.0, f64::INFINITY, 44e6]) {
            let mut snapshot = at(1_000 * step);
            snapshot.births.as_mut().map(std::sync::Arc::make_mut).unwrap().all_bytes_per_s = all_bytes_per_s;
            let (total, sites) = bytes(&mut estimates, &snapshot).unwrap();
            assert!(sites.values().all(|bytes| *bytes <= total), "{sites:?}");
            assert!(last.iter().all(|(site, bytes)| sites[site] >= *bytes), "{last:?} {sites:?}");
            last = sites;
        }
    }
}
