//! Sites that share the line a person would change, taken together.
//!
//! A site is a line with the frame that allocates for it. Where a program's only frame is a handler or a middleware, dozens
//! of sites differ in the library's line alone; a person looks for the first line, so the text counts by it. JSON and metrics
//! keep the sites apart.

use std::collections::HashMap;

use crate::{
    model::{Counted, ExactCounts, Path, Site},
    symbolize::Frame,
};

/// A line with all that was allocated for it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) frame: &'a Frame,
    pub(super) counted: Counted,
    /// Most bytes first, never empty.
    pub(super) sites: Vec<&'a Site>,
}

/// One way to a place.
#[derive(Debug)]
pub(super) struct Way<'a> {
    pub(super) site: &'a Site,
    pub(super) path: &'a Path,
    /// Its part of the bytes of the place, 0 to 1.
    pub(super) share: f64,
}

impl<'a> Place<'a> {
    /// The paths of all its sites, most bytes first.
    pub(super) fn ways(&self) -> Vec<Way<'a>> {
        let of_site = |&site: &&'a Site| {
            let share = super::sites::share(site.counted.bytes, self.counted.bytes);
            site.paths.iter().map(move |path| Way { site, path, share: share * path.share })
        };
        let mut ways: Vec<Way<'_>> = self.sites.iter().flat_map(of_site).collect();
        // Stable: equals stay in the model's order.
        ways.sort_by(|one, other| other.share.total_cmp(&one.share));
        ways
    }
}

/// All places of a snapshot, most bytes first; of equals in the model's order.
pub(super) fn of(snapshot: &ExactCounts) -> Vec<Place<'_>> {
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut indices = HashMap::new();
    for site in &snapshot.sites {
        let key = (&site.place.function, &site.place.file, site.place.line);
        let index = *indices.entry(key).or_insert(places.len());
        match places.get_mut(index) {
            Some(place) => {
                place.counted = sum(place.counted, site.counted);
                place.sites.push(site);
            }
            None => places.push(Place { frame: &site.place, counted: site.counted, sites: vec![site] }),
        }
    }
    places.sort_by_key(|place| std::cmp::Reverse(place.counted.bytes));
    places
}

pub(super) fn sum(one: Counted, other: Counted) -> Counted {
    Counted { objects: one.objects.saturating_add(other.objects), bytes: one.bytes.saturating_add(other.bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixture::{self, frame};

    #[test]
    fn sites_of_one_line_are_one_place_and_its_paths_share_its_bytes() {
        let counted = |bytes| Counted { objects: 1, bytes };
        let (handler, other) = (frame("main.handle", "/src/h.go", 5), frame("main.other", "/src/o.go", 9));
        let via = |line| frame("lib.f", "/lib/f.go", line);
        let mut snapshot = fixture::counts();
        snapshot.sites = vec![
            fixture::site(1, &other, &other, counted(500), &[1.0]),
            fixture::site(2, &handler, &via(1), counted(400), &[0.75, 0.25]),
            fixture::site(3, &handler, &via(2), counted(200), &[1.0]),
        ];
        let places = of(&snapshot);
        let rows: Vec<_> = places.iter().map(|place| (&*place.frame.function, place.counted.bytes)).collect();
        assert_eq!(rows, [("main.handle", 600), ("main.other", 500)]);
        let shares: Vec<_> = places[0].ways().iter().map(|way| (way.site.id.0, (way.share * 6.0).round())).collect();
        assert_eq!(shares, [(2, 3.0), (3, 2.0), (2, 1.0)]);
    }
}
