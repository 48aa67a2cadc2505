//! Where the runtime keeps its structures: places that its own pointers lead to, as ranges.

use std::collections::BTreeSet;

use crate::addr::Avma;

/// Most pages of structures that are remembered.
const KNOWN_PAGES_MAX: usize = 1 << 20;
/// Bytes to which the places of structures are rounded.
const KNOWN_PAGE_BYTES: u64 = 4 << 10;
/// Longest range: the table of what can be scavenged, 16 bytes for each of 2^26 chunks (`scavengeIndex` of
/// runtime/mgcscavenge.go). Each page of a range is looked at, and its length is what the process says.
const RANGE_BYTES_MAX: u64 = 1 << 30;

/// Where structures of the runtime are.
#[derive(Debug, Default)]
pub(super) struct Known {
    pages: BTreeSet<u64>,
    ranges: Vec<(Avma, Avma)>,
}

impl Known {
    pub(super) fn range(&mut self, start: u64, bytes: u64) {
        if start != 0 && bytes > 0 && self.ranges.len() < KNOWN_PAGES_MAX {
            self.ranges.push((Avma(start), Avma(start.saturating_add(bytes.min(RANGE_BYTES_MAX)))));
        }
    }

    pub(super) fn object(&mut self, at: u64) {
        if at != 0 && self.pages.len() < KNOWN_PAGES_MAX {
            self.pages.insert(at / KNOWN_PAGE_BYTES);
        }
    }

    /// In order, none touching another.
    pub(super) fn ranges(mut self) -> Vec<(Avma, Avma)> {
        let page = |page: u64| Avma(page.saturating_mul(KNOWN_PAGE_BYTES));
        self.ranges.extend(self.pages.into_iter().map(|number| (page(number), page(number.saturating_add(1)))));
        merged(self.ranges)
    }
}

/// The same ranges in order, none touching another.
pub(in crate::read) fn merged(mut ranges: Vec<(Avma, Avma)>) -> Vec<(Avma, Avma)> {
    ranges.sort_unstable();
    let mut merged: Vec<(Avma, Avma)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_no_longer_than_one_can_be_whatever_the_process_says() {
        let mut known = Known::default();
        known.range(1 << 40, u64::MAX);
        known.range(1 << 20, 4096);
        known.range(0, 4096);
        let expected = [(1 << 20, (1 << 20) + 4096), (1 << 40, (1 << 40) + RANGE_BYTES_MAX)];
        assert_eq!(known.ranges(), expected.map(|(start, end)| (Avma(start), Avma(end))));
    }
}
