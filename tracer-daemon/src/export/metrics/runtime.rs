//! What the runtimes of one identity say of themselves: counters that go on from where each process was found, gauges of
//! the living, and the histogram of pauses.

use std::{collections::BTreeMap, sync::Arc};

use super::top_sites::ProcessKey;
use crate::model::{Heap, memory::MemoryStatement};

/// Upper bounds of the buckets of pauses, seconds: from what is usual to what users notice.
pub(super) const PAUSE_BUCKETS_S: [f64; 12] =
    [0.000_01, 0.000_03, 0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, f64::INFINITY];

/// The counters of one identity. They count what happened while we looked.
#[derive(Clone, Debug, Default)]
pub(super) struct RuntimeBooks {
    pub(super) allocated_bytes: u64,
    pub(super) freed_bytes: u64,
    pub(super) gc_cycles: u64,
    pub(super) pauses: Pauses,
    processes: BTreeMap<ProcessKey, Heap>,
}

/// What the processes of one identity have in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryGauges(BTreeMap<ProcessKey, Arc<MemoryStatement>>);

impl MemoryGauges {
    /// What a process has now.
    pub(super) fn observe(&mut self, key: ProcessKey, statement: Arc<MemoryStatement>) {
        self.0.insert(key, statement);
    }

    /// A process is gone, or goes on under another identity.
    pub(super) fn end(&mut self, key: ProcessKey) -> Option<Arc<MemoryStatement>> {
        self.0.remove(&key)
    }

    /// Bytes by component, summed over the living.
    pub(super) fn by_component(&self) -> BTreeMap<&'static str, u64> {
        let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
        for line in self.0.values().flat_map(|statement| &statement.lines) {
            let sum = sums.entry(line.component.name()).or_default();
            *sum = sum.saturating_add(line.bytes);
        }
        sums
    }
}

/// A histogram.
#[derive(Clone, Debug, Default)]
pub(super) struct Pauses {
    pub(super) sum_s: f64,
    pub(super) count: u64,
    /// Of each bucket alone.
    pub(super) buckets: [u64; PAUSE_BUCKETS_S.len()],
}

impl Pauses {
    fn add(&mut self, seconds: f64) {
        self.sum_s += seconds;
        self.count += 1;
        let bucket = PAUSE_BUCKETS_S.iter().position(|bound| seconds <= *bound);
        if let Some(count) = bucket.and_then(|bucket| self.buckets.get_mut(bucket)) {
            *count += 1;
        }
    }
}

impl RuntimeBooks {
    /// A process as it is now. What it did before we first looked is not counted: a counter that begins with years of
    /// allocations would look like a burst.
    pub(super) fn observe(&mut self, key: ProcessKey, heap: &Heap) {
        let Some(before) = self.processes.insert(key, heap.clone()) else { return };
        self.allocated_bytes += heap.allocated_bytes.saturating_sub(before.allocated_bytes);
        self.freed_bytes += heap.freed_bytes.saturating_sub(before.freed_bytes);
        let cycles = heap.gc_cycles_total.saturating_sub(before.gc_cycles_total);
        self.gc_cycles += cycles;
        let new = usize::try_from(cycles).unwrap_or(usize::MAX);
        heap.recent_pauses_s.iter().take(new).for_each(|pause| self.pauses.add(*pause));
    }

    /// A process is gone: its counts stay, its gauges go.
    pub(super) fn end(&mut self, key: ProcessKey) -> Option<Heap> {
        self.processes.remove(&key)
    }

    /// A process goes on here from where it stood.
    pub(super) fn go_on(&mut self, key: ProcessKey, stood: Heap) {
        self.processes.insert(key, stood);
    }

    /// Whether any process of the identity was ever read.
    pub(super) fn is_known(&self) -> bool {
        !self.processes.is_empty() || self.gc_cycles + self.allocated_bytes > 0
    }

    /// A gauge, summed over the living; `None` where no process has it.
    pub(super) fn sum(&self, of: impl Fn(&Heap) -> Option<u64>) -> Option<u64> {
        self.processes.values().filter_map(of).reduce(u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixture;

    #[test]
    fn counters_begin_where_a_process_was_found_and_never_fall() {
        let mut books = RuntimeBooks::default();
        let at = |allocated_bytes, gc_cycles_total, pauses: &[f64]| Heap {
            allocated_bytes,
            freed_bytes: allocated_bytes / 2,
            gc_cycles_total,
            recent_pauses_s: pauses.to_vec(),
            live_bytes: Some(7),
            ..fixture::heap()
        };
        let (first, second) = (ProcessKey(1), ProcessKey(2));
        books.observe(first, &at(1 << 40, 900, &[0.5; 256]));
        assert_eq!((books.allocated_bytes, books.gc_cycles, books.pauses.count), (0, 0, 0));
        books.observe(first, &at((1 << 40) + 100, 902, &[0.002, 0.0001, 0.5]));
        assert_eq!((books.allocated_bytes, books.freed_bytes, books.gc_cycles), (100, 50, 2));
        assert_eq!((books.pauses.count, books.pauses.buckets[2], books.pauses.buckets[5]), (2, 1, 1));
        books.observe(second, &at(5, 1, &[]));
        assert_eq!(books.sum(|heap| heap.live_bytes), Some(14));
        books.end(first);
        books.observe(second, &at(2, 1, &[]));
        assert_eq!((books.allocated_bytes, books.sum(|heap| heap.live_bytes)), (100, Some(7)));
    }
}
