//! The heap as the runtime itself accounts for it: two looks at the books, and what happened in between.
//!
//! Exact but for the slack that the reader states: allocations of the moment in which it looked.

use super::{Counted, Rate};
use crate::read::books::Books;
use crate::units::approximate;

/// The books at one moment.
#[derive(Clone, Copy, Debug)]
pub struct HeapLook<'a> {
    /// When, seconds on any clock that both looks share.
    pub at_s: f64,
    /// What they said.
    pub books: &'a Books,
}

/// What the books say about a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Heap {
    /// Bytes that the last collection found alive. `None`: none has ended yet, or it is not known.
    pub live_bytes: Option<u64>,
    /// Size of the heap at which the next collection is to end.
    pub goal_bytes: Option<u64>,
    /// Allocated in the window; tiny objects each.
    pub allocated: Counted,
    /// Bytes allocated per second, in slots.
    pub alloc_bytes_per_s: Option<Rate>,
    /// Objects allocated per second.
    pub alloc_objects_per_s: Option<Rate>,
    /// Bytes allocated since the program began: never falls.
    pub allocated_bytes: u64,
    /// Bytes freed since the program began: never falls.
    pub freed_bytes: u64,
    /// Collections that ended in the window.
    pub gc_cycles: u64,
    /// Collections since the program began.
    pub gc_cycles_total: u64,
    /// The pauses of the last collections since the program began, newest first, at most 256, seconds.
    pub recent_pauses_s: Vec<f64>,
    /// The longest pause of a collection that ended in the window; of the last 256 where there were more. `None`: there was none.
    pub gc_pause_max_s: Option<f64>,
    /// Slots in use, by size, smallest first; the large ones last. Classes without any are left out.
    pub size_classes: Vec<ClassAccount>,
}

/// The slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassAccount {
    /// Bytes of a slot; `None`: objects that have a span each.
    pub size_bytes: Option<u64>,
    /// Slots in use: alive, or garbage that is not yet swept.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What happened between two looks. For one look alone give it twice: then there are no rates.
pub fn account(first: HeapLook<'_>, last: HeapLook<'_>) -> Heap {
    let window_s = last.at_s - first.at_s;
    let grown = |of: fn(&Books) -> u64| of(last.books).saturating_sub(of(first.books));
    let allocated = Counted { objects: grown(Books::allocs), bytes: grown(Books::alloc_bytes) };
    // What a look missed at most; of the first look that makes the growth too large, of the last too small.
    let slack = |of: fn(&Books) -> u64| (of(first.books), of(last.books));
    let rate = |amount: u64, (first, last): (u64, u64)| {
        (window_s > 0.0).then(|| Rate {
            value: approximate(amount) / window_s,
            low: approximate(amount.saturating_sub(first)) / window_s,
            high: Some(approximate(amount.saturating_add(last)) / window_s),
        })
    };
    let gc_cycles = u64::from(last.books.collections.saturating_sub(first.books.collections));
    let recent_pauses_s: Vec<f64> =
        last.books.pauses.iter().map(|pause| approximate(pause.duration_ns) / 1e9).collect();
    let in_window = recent_pauses_s.iter().take(usize::try_from(gc_cycles).unwrap_or(usize::MAX));
    let pacer = last.books.pacer.as_ref().ok();
    Heap {
        live_bytes: pacer.filter(|_| last.books.collections > 0).map(|pacer| pacer.heap_marked_bytes),
        goal_bytes: pacer.map(|pacer| pacer.goal_bytes),
        allocated,
        alloc_bytes_per_s: rate(allocated.bytes, slack(Books::slack_bytes)),
        alloc_objects_per_s: rate(allocated.objects, slack(Books::slack)),
        allocated_bytes: last.books.alloc_bytes(),
        freed_bytes: last.books.free_bytes(),
        gc_cycles,
        gc_cycles_total: last.books.collections.into(),
        gc_pause_max_s: in_window.copied().max_by(f64::total_cmp),
        recent_pauses_s,
        size_classes: size_classes(last.books),
    }
}

fn size_classes(books: &Books) -> Vec<ClassAccount> {
    let small = books.classes.iter().map(|class| {
        let objects = class.allocs.saturating_sub(class.frees);
        ClassAccount { size_bytes: Some(class.size_bytes), objects, bytes: objects.saturating_mul(class.size_bytes) }
    });
    let large = ClassAccount {
        size_bytes: None,
        objects: books.large_allocs.saturating_sub(books.large_frees),
        bytes: books.large_alloc_bytes.saturating_sub(books.large_free_bytes),
    };
    small.chain([large]).filter(|class| class.objects > 0).collect()
}
