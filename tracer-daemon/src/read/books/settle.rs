//! From a look to counts: what the caches add to the statistics of each class, at least and at most.
//!
//! `refill` (runtime/mcache.go) marks the old span as no longer cached, adds its objects to the statistics, and then takes a new
//! one. So what a span adds is certain where it is marked as cached behind the statistics, by a cache that had it before and has
//! it still: no less than was missing from the statistics, no more than was allocated when the look ended. As allocations come
//! one by one, the sum was the true count at some moment between. Elsewhere the span's objects are in the statistics
//! already or not: none of them at least, all slots at most.
//!
//! `releaseAll` clears what was allocated before the span was cached, adds its objects to the statistics, and only then marks it.
//! It does so after each collection with spans that are marked as cached before it, so such a span is not certain where
//! that number is 0. When it does so for `ReadMemStats` or GOMAXPROCS it is seen by the span that is missing behind; not where the
//! thread is stopped by the kernel between these few instructions until the look has ended. Nor where the cache has taken the same
//! span again meanwhile: so what was added to the statistics until the look ended can be missing in what was read of them first.

use tracer_common::size_class::CLASS_TO_SIZE;

use super::SIZE_CLASSES;
use super::caches::{ClassSet, SPAN_CLASSES};
use super::look::{CachedSpan, Look};
use crate::inspect::RuntimeLayout;

/// Pages of a span, by size class (`class_to_allocnpages` of runtime/sizeclasses.go, the same in go1.19 to go1.27).
const CLASS_TO_PAGES: [u8; SIZE_CLASSES] = [
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 2,
    1, 2, 1, 3, 2, 3, 1, 3, 2, 3, 4, 5, 6, 1, 7, 6, 5, 4, 3, 5, 7, 2, 9, 7, 5, 8, 3, 10, 7, 4,
];
/// Bytes of a page.
const PAGE_BYTES: u64 = 8192;
/// The span class of tiny objects (`tinySpanClass` of runtime/malloc.go): 16 bytes without pointers.
const TINY_SPAN_CLASS: usize = 5;
/// Its size class.
pub(super) const TINY_CLASS: usize = TINY_SPAN_CLASS / 2;
/// Most tiny objects in a block: of one byte each.
const TINY_OBJECTS_MAX: u64 = 16;
/// `mSpanInUse` (runtime/mheap.go).
const STATE_IN_USE: u8 = 1;
/// How far the sweep generation of a cached span is ahead of the heap's (runtime/mheap.go): cached since it was swept.
const AHEAD_WHILE_CACHED: u32 = 3;
/// The same where it was cached before the present cycle, and is to be given back.
const AHEAD_WHILE_STALE: u32 = 1;

/// Objects that are not in the statistics yet: at least and at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Uncounted {
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Uncounted {
    fn add(&mut self, least: u64, most: u64) {
        self.least = self.least.saturating_add(least);
        self.most = self.most.saturating_add(most);
    }
}

/// What the caches add.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    /// By size class.
    pub(super) classes: [Uncounted; SIZE_CLASSES],
    pub(super) tiny: Uncounted,
    /// Classes of which a cache exchanged a span.
    pub(super) moved: ClassSet,
}

impl Settled {
    /// What one cache adds to a class; `None`: that is not certain.
    fn add(&mut self, class: usize, objects: Option<u64>) {
        if let Some(uncounted) = self.classes.get_mut(class) {
            uncounted.add(objects.unwrap_or(0), objects.unwrap_or(slots(class)));
        }
        if objects.is_none() {
            self.moved.insert(class);
        }
    }

    /// The tiny objects of one cache.
    fn add_tiny(&mut self, is_certain: bool, before: u64, behind: u64) {
        if is_certain {
            self.tiny.add(behind, behind);
        } else {
            let most = slots(TINY_CLASS).saturating_mul(TINY_OBJECTS_MAX);
            self.tiny.add(0, most.max(before).max(behind));
            self.moved.insert(TINY_CLASS);
        }
    }
}

/// Slots of a span of a size class, at most: those with marks inside (go1.25) have fewer.
fn slots(class: usize) -> u64 {
    let pages = CLASS_TO_PAGES.get(class).map_or(0, |pages| u64::from(*pages));
    let size = CLASS_TO_SIZE.get(class).map_or(0, |size| u64::from(*size));
    (pages * PAGE_BYTES).checked_div(size).unwrap_or_default()
}

/// What is certain of a cached span: objects allocated from it since it was cached.
fn certain(look: &Look, cached: &CachedSpan, layout: &RuntimeLayout) -> Option<u64> {
    let span = look.span(cached, layout);
    let (base, allocated) = (span.allocated_before_cache(), span.allocated());
    let is_marked =
        look.sweep_generation().is_none_or(|generation| match span.sweep_generation().wrapping_sub(generation) {
            AHEAD_WHILE_CACHED => true,
            AHEAD_WHILE_STALE => base != 0,
            _ => false,
        });
    let is_certain = is_marked
        && span.state() == STATE_IN_USE
        && span.span_class() == cached.span_class
        && base <= allocated
        && allocated <= slots(cached.span_class / 2);
    is_certain.then(|| allocated - base)
}

/// What the caches add to the statistics of some classes, as seen by a look.
pub(super) fn settle(look: &Look, layout: &RuntimeLayout, classes: ClassSet) -> Settled {
    let mut settled =
        Settled { classes: [Uncounted::default(); SIZE_CLASSES], tiny: Uncounted::default(), moved: ClassSet::NONE };
    let mut spans = look.spans.iter().peekable();
    for (processor, (before, behind)) in look.caches(layout).enumerate() {
        while let Some(cached) = spans.next_if(|span| span.processor == processor) {
            let is_same = before.span(cached.span_class) == behind.span(cached.span_class);
            let added = if is_same { certain(look, cached, layout) } else { None };
            settled.add(cached.span_class / 2, added);
            if cached.span_class == TINY_SPAN_CLASS {
                // They are added to the statistics together with the objects of this span.
                let is_certain = added.is_some() && before.tiny_allocs <= behind.tiny_allocs;
                settled.add_tiny(is_certain, before.tiny_allocs, behind.tiny_allocs);
            }
        }
        let empty = before.empty_span();
        if before.span(TINY_SPAN_CLASS) == empty && classes.contains(TINY_CLASS) {
            // The span was given back: there are none, or they are about to be added.
            let is_certain =
                behind.span(TINY_SPAN_CLASS) == empty && (before.tiny_allocs, behind.tiny_allocs) == (0, 0);
            settled.add_tiny(is_certain, before.tiny_allocs, behind.tiny_allocs);
        }
        if before.has_same_spans(&behind) {
            continue;
        }
        let wanted = (2..SPAN_CLASSES).filter(|span_class| classes.contains(span_class / 2));
        for span_class in wanted.filter(|span_class| before.span(*span_class) == empty) {
            if behind.span(span_class) != empty {
                settled.add(span_class / 2, None);
            }
        }
    }
    let (first, last) = (look.deltas(layout), look.deltas_behind(layout));
    for class in (1..SIZE_CLASSES).filter(|class| classes.contains(*class)) {
        let added = first.added_until(last, class);
        if let Some(uncounted) = settled.classes.get_mut(class).filter(|_| added > 0) {
            uncounted.add(0, added);
            settled.moved.insert(class);
        }
    }
    let tiny_added = first.tiny_added_until(last);
    if tiny_added > 0 && classes.contains(TINY_CLASS) {
        settled.tiny.add(0, tiny_added);
        settled.moved.insert(TINY_CLASS);
    }
    settled
}
