//! Where an object will lie: what `nextFreeFast` is about to choose, read before it does.
//!
//! The thread holds its processor's cache while it is in the probe, so what is read does not change. Sources:
//! `nextFreeFast`, `nextFreeIndex`, `mallocgcTiny` (runtime/malloc.go, mbitmap.go; Go 1.19 to 1.27).

use crate::target::{
    SpanFacts, g_gc_assist_bytes, g_m, m_p, malloc_header_bytes, mcache_alloc, mcache_tiny, p_mcache, read_pair,
    read_record, read_word, span_alloc_bits, span_alloc_cache, span_elemsize, span_freeindex, span_index_bits,
    span_nelems, span_start,
};
use tracer_common::size_class::header_bytes_of;

/// Words of a span's structure that hold all fields that are needed.
pub(crate) const SPAN_WORDS: usize = 16;
/// Words of the bits of a span: it has at most 1,024 slots.
const BIT_WORDS: u32 = 16;
/// Bytes of the block that tiny objects share.
const TINY_BLOCK: u64 = 16;

/// Where an object will lie.
pub(crate) enum Place {
    /// The slot; for a tiny object its own address within the slot.
    Slot(u64),
    /// The cached span has no slot left: `nextFree` will find one.
    SpanFull,
    /// Memory could not be read, or there is no processor.
    Unreadable,
}

/// A copy of a span's structure, in memory that someone else lends: a BPF stack has no room for it.
struct Span {
    words: *const u64,
}

impl Span {
    #[inline(always)]
    fn read(span: u64, words: *mut u64) -> Option<Self> {
        read_record(span, words, SPAN_WORDS as u32 * 8).then_some(Self { words })
    }

    /// The word at an offset; where that is no multiple of 8, what of it comes from there on.
    #[inline(always)]
    fn word(&self, offset: u64) -> u64 {
        let index = (offset >> 3) as usize & (SPAN_WORDS - 1);
        // SAFETY: the index is masked to the words that exist.
        unsafe { self.words.add(index).read() >> (8 * (offset & 7)) }
    }
}

/// Whether the goroutine will have to help the collector before it allocates, and may wait for that. Only to be asked while
/// the collector marks. Source: `deductAssistCredit`.
#[inline(always)]
pub(crate) fn assist_is_due(g: u64, size: u64) -> bool {
    match read_word(g + g_gc_assist_bytes()) {
        Some(credit) => (credit as i64) < size as i64,
        None => true,
    }
}

/// Where an object of this many bytes will lie. `scratch`: room for [`SPAN_WORDS`].
#[inline(always)]
pub(crate) fn place(g: u64, size: u64, span_class: u64, is_tiny: bool, scratch: *mut u64) -> Place {
    let Some(cache) = cache_of(g) else { return Place::Unreadable };
    if is_tiny {
        let Some([block, used]) = read_pair(cache + mcache_tiny()) else { return Place::Unreadable };
        let offset = aligned(used, size);
        if block != 0 && offset + size <= TINY_BLOCK {
            return Place::Slot(block + offset);
        }
    }
    let Some(span) = read_word(cache + mcache_alloc() + 8 * span_class) else { return Place::Unreadable };
    let Some(span) = Span::read(span, scratch) else { return Place::Unreadable };
    let index = match free_index(|offset| Some(span.word(offset))) {
        Free::Index(index) => index,
        Free::None => return Place::SpanFull,
        Free::Unreadable => return Place::Unreadable,
    };
    let header_bytes = header_bytes_of(size, span_class & 1 != 0, malloc_header_bytes());
    Place::Slot(span.word(span_start()) + index * span.word(span_elemsize()) + header_bytes)
}

/// The slot of a span that is taken next. None: it is full, or unreadable.
#[inline(always)]
pub(crate) fn free_slot(span: u64, facts: &SpanFacts) -> Option<u64> {
    match free_index(|offset| read_word(span + offset)) {
        Free::Index(index) => Some(facts.start + index * facts.slot_bytes),
        Free::None | Free::Unreadable => None,
    }
}

/// Which slot of a span is taken next.
enum Free {
    Index(u64),
    /// It is full.
    None,
    Unreadable,
}

/// As `nextFreeIndex` finds it. `word`: what is at an offset of the span's structure.
#[inline(always)]
fn free_index(word: impl Fn(u64) -> Option<u64>) -> Free {
    let (Some(slots), Some(first), Some(cache)) =
        (word(span_nelems()), word(span_freeindex()), word(span_alloc_cache()))
    else {
        return Free::Unreadable;
    };
    let index_of = |word: u64| if span_index_bits() == 64 { word } else { word & 0xffff };
    let (slots, mut first, mut free) = (index_of(slots), index_of(first), cache);
    if free == 0 {
        // The rest of these 64 slots is taken: the next ones of which one is not.
        let Some(bits) = word(span_alloc_bits()) else { return Free::Unreadable };
        for _ in 0..BIT_WORDS {
            first = (first + 64) & !63;
            if first >= slots {
                return Free::None;
            }
            let Some(taken) = read_word(bits + (first >> 3)) else { return Free::Unreadable };
            free = !taken;
            if free != 0 {
                break;
            }
        }
    }
    let index = first + u64::from(trailing_zeros(free));
    if free == 0 || index >= slots { Free::None } else { Free::Index(index) }
}

#[inline(always)]
fn cache_of(g: u64) -> Option<u64> {
    let m = read_word(g + g_m())?;
    let p = read_word(m + m_p())?;
    let cache = if p == 0 { None } else { read_word(p + p_mcache()) }?;
    (cache != 0).then_some(cache)
}

/// Where a tiny object begins in its block, whose first bytes are used.
#[inline(always)]
fn aligned(used: u64, size: u64) -> u64 {
    if size & 7 == 0 {
        (used + 7) & !7
    } else if size & 3 == 0 {
        (used + 3) & !3
    } else if size & 1 == 0 {
        (used + 1) & !1
    } else {
        used
    }
}

/// BPF has no instruction for it, and the compiler's substitute is a table that the verifier cannot follow.
#[inline(always)]
fn trailing_zeros(word: u64) -> u32 {
    let mut lowest = word & word.wrapping_neg();
    let mut count = 0;
    if lowest == 0 {
        return 64;
    }
    if lowest & 0xffff_ffff == 0 {
        count += 32;
        lowest >>= 32;
    }
    if lowest & 0xffff == 0 {
        count += 16;
        lowest >>= 16;
    }
    if lowest & 0xff == 0 {
        count += 8;
        lowest >>= 8;
    }
    if lowest & 0xf == 0 {
        count += 4;
        lowest >>= 4;
    }
    if lowest & 0x3 == 0 {
        count += 2;
        lowest >>= 2;
    }
    if lowest & 0x1 == 0 {
        count += 1;
    }
    count
}
