//! Which slot an address belongs to.

use proptest::prelude::*;

use super::*;
use crate::inspect::layout::known;

const MIB_64: u64 = 64 << 20;

#[test]
fn arenas_are_counted_from_the_lowest_address_of_the_architecture() {
    let number = |architecture, address| arena_number(architecture, Avma(address));
    // Where heaps began before go1.26.
    assert_eq!(number(Architecture::Arm64, 0x40_0000_0000), Some(0x40_0000_0000 / MIB_64));
    assert_eq!(number(Architecture::Amd64, 0xc0_0000_0000), Some((0xc0_0000_0000 + (1 << 47)) / MIB_64));
    // The ends of what can be addressed.
    assert_eq!(number(Architecture::Amd64, 0xffff_8000_0000_0000), Some(0));
    assert_eq!(number(Architecture::Amd64, 0x7fff_ffff_ffff), Some((1 << 22) - 1));
    assert_eq!(number(Architecture::Amd64, 0x8000_0000_0000), None);
    assert_eq!(number(Architecture::Arm64, 0xffff_ffff_ffff), Some((1 << 22) - 1));
    assert_eq!(number(Architecture::Arm64, 1 << 48), None);
}

#[test]
fn layouts_of_other_systems_are_refused() {
    let mut layout = known(27, Architecture::Amd64).unwrap();
    let refused = |layout: &RuntimeLayout| Heap::of(layout, Architecture::Amd64, Avma(0)).is_err();
    assert!(!refused(&layout));
    layout.mspan.limit = u64::MAX;
    assert!(refused(&layout));
    let mut layout = known(27, Architecture::Amd64).unwrap();
    layout.heap_arena.spans_count = 512;
    assert!(refused(&layout));
}

#[test]
fn only_small_objects_with_pointers_above_512_bytes_have_headers() {
    for minor in 19..=27 {
        let heap = Heap::of(&known(minor, Architecture::Amd64).unwrap(), Architecture::Amd64, Avma(0)).unwrap();
        for (class, slot_bytes) in CLASS_TO_SIZE.into_iter().enumerate().skip(1) {
            for without_pointers in [0, 1] {
                let record = span(class, 8, without_pointers);
                let slot = heap.slot(&record, Avma(record.start)).unwrap();
                let has_header = minor >= 22 && slot_bytes > 512 && without_pointers == 0;
                assert_eq!(slot.header_bytes, if has_header { 8 } else { 0 }, "go1.{minor}, {slot_bytes} bytes");
            }
        }
        let large = span(0, 20, 0);
        assert_eq!(heap.slot(&large, Avma(large.start)).unwrap().header_bytes, 0);
    }
}

/// Of a size class and so many pages.
fn span(class: usize, pages: u64, without_pointers: u8) -> SpanRecord {
    let start = 0xc0_0000_0000 + 3 * PAGE_BYTES;
    let slot_bytes = if class == 0 { pages * PAGE_BYTES } else { u64::from(CLASS_TO_SIZE[class]) };
    let slots = pages * PAGE_BYTES / slot_bytes;
    SpanRecord {
        start,
        pages,
        slots,
        slot_bytes,
        limit: start + slots * slot_bytes,
        span_class: u8::try_from(2 * class).unwrap() + without_pointers,
        state: STATE_IN_USE,
        ..SpanRecord::default()
    }
}

proptest! {
    #[test]
    fn every_address_within_a_slot_leads_back_to_it(
        class in 0..CLASS_TO_SIZE.len(),
        pages in 4u64..20,
        without_pointers in 0u8..2,
        index: prop::sample::Index,
        within: prop::sample::Index,
    ) {
        let heap = Heap::of(&known(27, Architecture::Amd64).unwrap(), Architecture::Amd64, Avma(0)).unwrap();
        let record = span(class, pages, without_pointers);
        let index = index.index(usize::try_from(record.slots).unwrap()) as u64;
        let start = record.start + index * record.slot_bytes;
        let address = start + within.index(usize::try_from(record.slot_bytes).unwrap()) as u64;
        let slot = heap.slot(&record, Avma(address)).unwrap();
        prop_assert_eq!((slot.index, slot.start()), (index, Avma(start)));
        prop_assert_eq!(slot.span.size_class(), class);
        prop_assert_eq!(heap.slot(&record, slot.object()).unwrap(), slot);
        prop_assert_eq!(heap.slot(&record, Avma(record.limit)), Err(NoSlot::NotInUse));
        prop_assert_eq!(heap.slot(&record, Avma(record.start - 1)), Err(NoSlot::NotInUse));
    }
}
