//! The Go allocator's rounding: how many bytes a request of a given size takes.
//!
//! The size-class tables have been the same in every Go release from 1.19 to 1.27 (`runtime/sizeclasses.go`,
//! from 1.25 `internal/runtime/gc/sizeclasses.go`).

/// Slot sizes of the small size classes in bytes, ascending; class 0 stands for large objects.
pub const CLASS_TO_SIZE: [u16; 68] = [
    0, 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448,
    480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280, 1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456, 4096,
    4864, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240, 10880, 12288, 13568, 14336, 16384, 18432, 19072,
    20480, 21760, 24576, 27264, 28672, 32768,
];
/// Slot size of the largest small size class, bytes.
const LARGEST_SLOT: u64 = 32768;
/// Pages of the runtime, bytes: large objects take whole pages.
const PAGE: u64 = 8192;
/// Requests below this size, without pointers, are packed several to a slot.
const TINY_LIMIT: u64 = 16;
/// The class of the slots that those share.
const TINY_CLASS: u8 = 2;
/// Pointerful requests above this size carry a malloc header (Go 1.22 and later).
const HEADER_LIMIT: u64 = 512;
/// Requests up to here are looked up in steps of 8 bytes, above in steps of 128.
const FINE_LIMIT: u64 = 1024 - 8;

const FINE_STEPS: usize = 128;
const TABLE_LEN: usize = 512;

/// Slot bytes by index: `[i]` for sizes up to `8 i` (`i <= 127`), `[128 + j]` for sizes up to `1024 + 128 j`. Its length
/// is a power of two so that a masked index needs no bounds check that the verifier could not follow.
static SLOT_BYTES: [u16; TABLE_LEN] = slot_table();

/// Size classes by the same index.
static CLASSES: [u8; TABLE_LEN] = class_table();

#[allow(clippy::cast_possible_truncation, reason = "there are 68 classes")]
const fn class_table() -> [u8; TABLE_LEN] {
    let mut table = [0; TABLE_LEN];
    let mut index = 0;
    while index < TABLE_LEN {
        let mut class = 1;
        while class + 1 < CLASS_TO_SIZE.len() && CLASS_TO_SIZE[class] < SLOT_BYTES[index] {
            class += 1;
        }
        table[index] = class as u8;
        index += 1;
    }
    table
}

const fn slot_table() -> [u16; TABLE_LEN] {
    let mut table = [0; TABLE_LEN];
    let mut index = 0;
    while index < TABLE_LEN {
        let limit = if index < FINE_STEPS { index * 8 } else { 1024 + (index - FINE_STEPS) * 128 };
        table[index] = smallest_slot(limit);
        index += 1;
    }
    table
}

#[allow(clippy::cast_possible_truncation, reason = "32768 fits")]
const fn smallest_slot(size: usize) -> u16 {
    let mut class = 1;
    while class < CLASS_TO_SIZE.len() {
        if CLASS_TO_SIZE[class] as usize >= size {
            return CLASS_TO_SIZE[class];
        }
        class += 1;
    }
    LARGEST_SLOT as u16
}

/// Whether the number of bytes depends on the type having pointers, so that a caller must look.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
pub const fn depends_on_pointers(size: u64) -> bool {
    size < TINY_LIMIT || (size > HEADER_LIMIT && size <= LARGEST_SLOT)
}

/// Bytes that a request of `size` bytes takes from the heap: those of its slot, for tiny objects the requested size.
///
/// `without_pointers` is the runtime's "noscan"; `header_bytes` is 8 from Go 1.22 and 0 before. Source: `mallocgc` in
/// `runtime/malloc.go`, `heapBitsInSpan` in `runtime/mbitmap.go`.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
#[allow(clippy::cast_possible_truncation, reason = "indices are below 512, and no kernel has 32-bit user space here")]
pub const fn allocated_bytes(size: u64, without_pointers: bool, header_bytes: u64) -> u64 {
    if is_tiny(size, without_pointers) {
        return size;
    }
    if is_large(size, header_bytes) {
        return size.saturating_add(PAGE - 1) & !(PAGE - 1);
    }
    SLOT_BYTES[table_index(size, without_pointers, header_bytes)] as u64
}

/// Whether an object of this many bytes has a span of its own.
#[inline(always)]
#[must_use]
#[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
pub const fn is_large(size: u64, header_bytes: u64) -> bool {
    size > LARGEST_SLOT - header_bytes
}

/// Whether an object shares its slot with others.
#[inline(always)]
#[must_use]
#[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
pub const fn is_tiny(size: u64, without_pointers: bool) -> bool {
    without_pointers && size < TINY_LIMIT
}

/// Bytes in front of an object in its slot.
#[inline(always)]
#[must_use]
#[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
pub const fn header_bytes_of(size: u64, without_pointers: bool, header_bytes: u64) -> u64 {
    if !without_pointers && size > HEADER_LIMIT { header_bytes } else { 0 }
}

/// The size class of an object: 0 for large ones; tiny ones share slots of 16 bytes, class 2.
#[inline(always)]
#[must_use]
#[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
pub const fn size_class(size: u64, without_pointers: bool, header_bytes: u64) -> u8 {
    if is_tiny(size, without_pointers) {
        return TINY_CLASS;
    }
    if is_large(size, header_bytes) {
        return 0;
    }
    CLASSES[table_index(size, without_pointers, header_bytes)]
}

#[inline(always)]
#[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
#[allow(clippy::cast_possible_truncation, reason = "indices are below 512, and no kernel has 32-bit user space here")]
const fn table_index(size: u64, without_pointers: bool, header_bytes: u64) -> usize {
    let needed = size + header_bytes_of(size, without_pointers, header_bytes);
    let index = if needed <= FINE_LIMIT { (needed + 7) >> 3 } else { FINE_STEPS as u64 + ((needed + 127 - 1024) >> 7) };
    (index as usize) & (TABLE_LEN - 1)
}

#[cfg(test)]
mod tests {
    use super::{CLASS_TO_SIZE, LARGEST_SLOT, allocated_bytes, is_large, is_tiny, size_class};
    use proptest::prelude::*;

    /// The definition: the smallest slot that holds the request.
    fn by_definition(size: u64, without_pointers: bool, header_bytes: u64) -> u64 {
        if without_pointers && size < 16 {
            return size;
        }
        if size > 32768 - header_bytes {
            return size.div_ceil(8192) * 8192;
        }
        let needed = if !without_pointers && size > 512 { size + header_bytes } else { size };
        CLASS_TO_SIZE[1..].iter().map(|&slot| u64::from(slot)).find(|&slot| slot >= needed).unwrap_or(LARGEST_SLOT)
    }

    #[test]
    fn every_small_size_takes_the_smallest_slot_that_holds_it() {
        for header_bytes in [0, 8] {
            for without_pointers in [false, true] {
                for size in 1..40_000 {
                    assert_eq!(
                        allocated_bytes(size, without_pointers, header_bytes),
                        by_definition(size, without_pointers, header_bytes),
                        "size {size}, without pointers {without_pointers}, header {header_bytes}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_size_of_a_class_is_what_its_objects_take() {
        for header_bytes in [0, 8] {
            for without_pointers in [false, true] {
                for size in 1..40_000 {
                    let class = usize::from(size_class(size, without_pointers, header_bytes));
                    if is_large(size, header_bytes) {
                        assert_eq!(class, 0, "size {size}");
                    } else if is_tiny(size, without_pointers) {
                        assert_eq!(CLASS_TO_SIZE[class], 16, "size {size}");
                    } else {
                        let bytes = allocated_bytes(size, without_pointers, header_bytes);
                        assert_eq!(u64::from(CLASS_TO_SIZE[class]), bytes, "size {size}");
                    }
                }
            }
        }
    }

    #[test]
    fn known_sizes() {
        assert_eq!(allocated_bytes(5, true, 8), 5, "tiny objects count what was asked for");
        assert_eq!(allocated_bytes(5, false, 8), 8);
        assert_eq!(allocated_bytes(513, false, 8), 576);
        assert_eq!(allocated_bytes(1024, false, 8), 1152, "1024 and its header");
        assert_eq!(allocated_bytes(1024, false, 0), 1024);
        assert_eq!(allocated_bytes(32769, true, 8), 40960, "large objects take whole pages");
        assert_eq!(allocated_bytes(32768, true, 0), 32768);
    }

    proptest! {
        #[test]
        fn a_request_never_takes_less_than_it_asks_for(size in 1u64..1 << 40, without_pointers: bool) {
            prop_assert!(allocated_bytes(size, without_pointers, 8) >= size);
        }
    }
}
