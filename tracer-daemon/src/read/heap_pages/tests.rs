//! The heap's pages, with pages and spans that are made up.

use std::io;

use super::*;
use crate::read::system::pagemap::Page;

/// Pages of 4 KiB, every `absent`-th of which is not there, and every `shared`-th belongs to others, too.
#[derive(Debug)]
struct FakePages {
    page_bytes: u64,
    absent: u64,
    shared: u64,
}

impl Pages for FakePages {
    fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    fn each(&self, start: Avma, end: Avma, visit: &mut dyn FnMut(Avma, Page)) -> io::Result<()> {
        for number in start.0.div_ceil(self.page_bytes)..end.0.div_ceil(self.page_bytes) {
            let page = match number {
                _ if number % self.absent == 0 => Page::Absent,
                _ if number % self.shared == 0 => Page::Shared,
                _ => Page::Own,
            };
            visit(Avma(number * self.page_bytes), page);
        }
        Ok(())
    }
}

fn mapping(start: u64, bytes: u64) -> Mapping {
    Mapping {
        start: Avma(start),
        end: Avma(start + bytes),
        kind: MappingKind::Anonymous { name: None },
        rss_bytes: bytes,
        anonymous_bytes: bytes,
        lazy_free_bytes: 0,
        huge_bytes: 0,
        swap_bytes: 0,
    }
}

#[test]
fn pages_of_the_kernel_of_any_size_fill_those_of_the_runtime() {
    let base = 0xc0_0000_0000;
    for (page_bytes, absent, own, all) in [
        (4 << 10, 2, 4 << 10, 4 << 10),
        // Of every 64 KiB that are there, each page of the runtime gets its part.
        (64 << 10, 1000, 8 << 10, 8 << 10),
    ] {
        let pages = FakePages { page_bytes, absent, shared: u64::MAX };
        // The first mebibyte of the arena is mapped, and something before it.
        let mappings = [mapping(base - (1 << 20), 2 << 20)];
        let resident = Resident::of(base, &mappings, &pages).unwrap();
        // Neither the first pages, which may be absent, nor what is behind the mapping.
        assert_eq!(resident.of_run(Run { span: 1, first: 64, count: 1 }), (own, all), "{page_bytes}");
        assert_eq!(resident.of_run(Run { span: 1, first: 128, count: 8000 }), (0, 0));
        // A run that no arena has.
        assert_eq!(resident.of_run(Run { span: 1, first: 8000, count: 1000 }), (0, 0));
    }
    let pages = FakePages { page_bytes: 4 << 10, absent: u64::MAX, shared: 2 };
    let resident = Resident::of(base, &[mapping(base, 8 << 10)], &pages).unwrap();
    assert_eq!(resident.of_run(Run { span: 1, first: 0, count: 1 }), (4 << 10, 8 << 10));
}

#[test]
fn a_mapping_with_nothing_in_memory_is_not_asked_for() {
    let unread = Mapping { rss_bytes: 0, ..mapping(0xc0_0000_0000, 1 << 20) };
    let pages = FakePages { page_bytes: 4 << 10, absent: u64::MAX, shared: u64::MAX };
    let resident = Resident::of(0xc0_0000_0000, &[unread], &pages).unwrap();
    assert!(resident.all.iter().all(|bytes| *bytes == 0));
}

#[test]
fn consecutive_pages_of_one_span_are_one_run() {
    let table: Vec<u8> = [0_u64, 7, 7, 7, 9, 7, 0].iter().flat_map(|span| span.to_le_bytes()).collect();
    let found: Vec<(u64, usize, usize)> = runs(&table).iter().map(|run| (run.span, run.first, run.count)).collect();
    assert_eq!(found, [(0, 0, 1), (7, 1, 3), (9, 4, 1), (7, 5, 1), (0, 6, 1)]);
}

fn span(state: u8, is_large: bool, allocated_bytes: u64, element_bytes: u64) -> Span {
    Span { start: 0, pages: 4, state, allocated_bytes, element_bytes, is_large, marks: 0 }
}

#[test]
fn all_resident_bytes_of_a_span_are_somewhere() {
    let cases = [
        span(IN_USE, false, 20 << 10, 1 << 10),
        span(IN_USE, true, 32 << 10, 32 << 10),
        span(MANUAL, false, 0, 2 << 10),
        span(MANUAL, false, 0, 0),
        span(IN_USE, false, u64::MAX, u64::MAX),
    ];
    for case in cases {
        for (mapped, resident) in [(32 << 10, 32 << 10), (32 << 10, 4 << 10), (8 << 10, 8 << 10), (32 << 10, 0)] {
            for is_marked in [false, true] {
                let mut tally = HeapTally::default();
                case.add_to(&mut tally, mapped, resident, is_marked);
                assert_eq!(tally.resident_bytes(), resident, "{case:?}");
                assert!(tally.small_bytes + tally.large_marked_bytes + tally.large_other_bytes <= mapped);
            }
        }
    }
    let mut tally = HeapTally::default();
    // 20 of 32 KiB are allocated and all are in memory; then 16 are, which are the first ones.
    cases[0].add_to(&mut tally, 32 << 10, 32 << 10, false);
    assert_eq!((tally.small_resident_bytes, tally.gaps_resident_bytes), (20 << 10, 12 << 10));
    cases[0].add_to(&mut tally, 32 << 10, 16 << 10, false);
    assert_eq!((tally.small_resident_bytes, tally.gaps_resident_bytes), (36 << 10, 12 << 10));
}

#[test]
fn known_places_are_merged_and_bounded() {
    let mut known = Known::default();
    known.range(0x10_0000, 0x1000);
    known.range(0, 0x1000);
    known.range(u64::MAX - 4, 100);
    known.object(0x10_0fff);
    known.object(0x10_1000);
    known.object(0);
    known.object(u64::MAX);
    let ranges = known.ranges();
    assert_eq!(ranges[0], (Avma(0x10_0000), Avma(0x10_2000)));
    assert_eq!(ranges.len(), 2, "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
}
