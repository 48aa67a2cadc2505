//! The reader on memory that changes between two of its reads, and on hostile memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::inspect::{Architecture, layout};
use crate::read::memory::{FakeMemory, MemoryError};

const MBUCKETS: u64 = 0x1000;
const CYCLE: u64 = 0x1008;
const RATE: u64 = 0x1010;
const TEXT: Range<u64> = 0x40_0000..0x50_0000;

/// Objects allocated and freed.
type Count = (u64, u64);

/// One bucket: where it is, its size, and counts of `active` and of each of `future`.
#[derive(Clone, Debug)]
struct Made {
    at: u64,
    size: u64,
    stack: Vec<u64>,
    active: Count,
    future: [Count; 3],
}

fn made(at: u64, active: Count, future: [Count; 3]) -> Made {
    Made { at, size: 48, stack: vec![TEXT.start + at, TEXT.start + 9], active, future }
}

fn layouts(minor: u32) -> Layouts {
    let layout = layout::known(minor, Architecture::Amd64).unwrap();
    Layouts { bucket: layout.bucket, record: layout.mem_record, cycle: layout.mem_record_cycle }
}

fn reader(minor: u32) -> ProfileReader {
    let places = Places {
        mbuckets: Avma(MBUCKETS),
        cycle: Avma(CYCLE),
        rate: Avma(RATE),
        text: Avma(TEXT.start)..Avma(TEXT.end),
    };
    ProfileReader::at(places, layouts(minor)).unwrap()
}

/// Memory with these buckets, the last of which is the head of the list.
fn memory(minor: u32, cycle: u32, buckets: &[Made]) -> FakeMemory {
    let layouts = layouts(minor);
    let mut ranges = BTreeMap::new();
    let head = buckets.last().map_or(0, |bucket| bucket.at);
    let globals = [head.to_le_bytes(), u64::from(cycle).to_le_bytes(), (512_u64 << 10).to_le_bytes()].concat();
    ranges.insert(MBUCKETS, globals);
    let mut next = 0_u64;
    for bucket in buckets {
        let mut words = vec![0, next, 1, 7, bucket.size, bucket.stack.len() as u64];
        words.extend(&bucket.stack);
        for (allocs, frees) in [&bucket.active].into_iter().chain(&bucket.future) {
            words.extend([*allocs, *frees]);
            if layouts.cycle.alloc_bytes.is_some() {
                words.extend([allocs * bucket.size, frees * bucket.size]);
            }
        }
        ranges.insert(bucket.at, words.into_iter().flat_map(u64::to_le_bytes).collect());
        next = bucket.at;
    }
    FakeMemory(ranges)
}

fn counts(allocs: u64, frees: u64) -> Counts {
    Counts { allocs, frees, alloc_bytes: 48 * allocs, free_bytes: 48 * frees }
}

/// Cycle number 7, told to be published: `future[1]` is empty, frees go to 2, allocations to 0.
const FLUSHED_7: u32 = 7 << 1 | 1;

#[test]
fn both_states_are_read_in_both_layouts() {
    for minor in [19, 26, 27] {
        let buckets = [made(0x2000, (10, 4), [(3, 0), (0, 0), (2, 1)]), made(0x3000, (1, 1), [(0, 0); 3])];
        let profile = reader(minor).read(&memory(minor, FLUSHED_7, &buckets)).unwrap();
        let expected = [
            Bucket { published: counts(10, 4), newest: counts(15, 5) },
            Bucket { published: counts(1, 1), newest: counts(1, 1) },
        ];
        assert_eq!((profile.counts.as_slice(), profile.rate_bytes), (&expected[..], 512 << 10), "go1.{minor}");
        assert_eq!((profile.lag_cycles, profile.is_settled, profile.is_cut), (2, true, false));
    }
}

#[test]
fn lag_says_how_many_cycles_are_not_published() {
    for (future, lag) in [([(0, 0); 3], 0), ([(5, 0), (0, 0), (0, 0)], 1), ([(0, 0), (0, 0), (0, 1)], 2)] {
        let profile = reader(22).read(&memory(22, FLUSHED_7, &[made(0x2000, (10, 4), future)])).unwrap();
        assert_eq!(profile.lag_cycles, lag, "{future:?}");
    }
}

#[test]
fn before_anything_is_published_all_is() {
    let buckets = [made(0x2000, (0, 0), [(0, 0), (0, 0), (6, 0)])];
    let profile = reader(22).read(&memory(22, 0, &buckets)).unwrap();
    assert_eq!(profile.counts[0], Bucket { published: counts(6, 0), newest: counts(6, 0) });
    assert_eq!(profile.lag_cycles, 0);
}

#[test]
fn what_is_due_is_published() {
    // Cycle 7 has begun and was not told to be published yet.
    let buckets = [made(0x2000, (10, 4), [(0, 0), (5, 2), (0, 0)])];
    let profile = reader(22).read(&memory(22, 7 << 1, &buckets)).unwrap();
    assert_eq!(profile.counts[0], Bucket { published: counts(15, 6), newest: counts(15, 6) });
}

/// Gives one state of memory after the other: the next one at each read of the cycle.
#[derive(Debug)]
struct Changing {
    states: Mutex<Vec<FakeMemory>>,
}

impl TargetMemory for Changing {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let mut states = self.states.lock().unwrap();
        if at == Avma(CYCLE) && states.len() > 1 {
            states.remove(0);
        }
        states[0].read(at, into)
    }
}

#[test]
fn a_cycle_that_is_being_published_is_read_again() {
    let before = [made(0x2000, (10, 4), [(3, 0), (5, 2), (0, 0)]), made(0x3000, (1, 0), [(0, 0), (1, 0), (0, 0)])];
    let mut during = before.clone();
    during[1] = made(0x3000, (2, 0), [(0, 0); 3]);
    let after = [made(0x2000, (15, 6), [(3, 0), (0, 0), (0, 0)]), during[1].clone()];
    // The first read of the cycle takes the first state away.
    let states =
        [(7 << 1, &before), (7 << 1, &before), (FLUSHED_7, &during), (FLUSHED_7, &during), (FLUSHED_7, &after)];
    let states = states.iter().map(|(cycle, buckets)| memory(22, *cycle, *buckets)).collect();
    let mut reader = reader(22);
    let profile = reader.read(&Changing { states: Mutex::new(states) }).unwrap();
    assert_eq!(profile.counts[0], Bucket { published: counts(15, 6), newest: counts(18, 6) });
    assert_eq!(profile.counts[1], Bucket { published: counts(2, 0), newest: counts(2, 0) });
    assert!(profile.is_settled);
    let discards: Vec<_> = reader.discards().iter().collect();
    assert_eq!(discards, [(Discard::ProfilePublished, 2)]);
}

#[test]
fn a_cycle_that_never_stops_being_published_leaves_the_newest_state() {
    // Half of the record is added and not yet cleared.
    let torn = [made(0x2000, (15, 6), [(0, 0), (5, 2), (0, 0)]), made(0x3000, (1, 0), [(0, 0); 3])];
    let mut reader = reader(22);
    let profile = reader.read(&memory(22, FLUSHED_7, &torn)).unwrap();
    assert!(!profile.is_settled);
    assert_eq!(reader.discards().iter().next(), Some((Discard::ProfilePublished, ATTEMPTS as u64 - 1)));
}

#[test]
fn a_later_read_walks_only_what_is_new_and_numbers_stay() {
    let first = [made(0x2000, (1, 0), [(0, 0); 3]), made(0x3000, (2, 0), [(0, 0); 3])];
    let mut reader = reader(22);
    reader.read(&memory(22, FLUSHED_7, &first)).unwrap();
    let [mut oldest, newest] = first;
    // Nobody looks at the chain of a known bucket again.
    oldest.size = 1 << 40;
    let more = [oldest, newest, made(0x9000, (3, 0), [(0, 0); 3])];
    let profile = reader.read(&memory(22, FLUSHED_7, &more)).unwrap();
    let allocs: Vec<u64> = profile.counts.iter().map(|bucket| bucket.published.allocs).collect();
    assert_eq!(allocs, [1, 2, 3]);
    let buckets = reader.buckets();
    assert_eq!((buckets.len(), buckets.size_bytes(0), buckets.size_bytes(9)), (3, 48, 0));
    assert_eq!(buckets.stack(2), [Avma(TEXT.start + 0x9000), Avma(TEXT.start + 9)]);
    assert_eq!(buckets.stack(3), []);
}

fn error_of(memory: &FakeMemory) -> String {
    reader(22).read(memory).unwrap_err().to_string()
}

#[test]
fn records_that_lie_together_are_read_together_across_holes_too() {
    let layouts = layouts(22);
    let near: Vec<Made> = (0..300).map(|n| made(0x1_0000 + n * 192, (n + 1, n), [(0, 0); 3])).collect();
    let joined = memory(22, FLUSHED_7, &near);
    // In memory without holes it takes one span for each 64 KiB.
    let records: Vec<Avma> = near.iter().map(|bucket| Avma(bucket.at + 64)).collect();
    assert_eq!(records::spans(&records, layouts.record.size_bytes).len(), 1);
    let apart: Vec<Avma> = records.iter().map(|at| Avma(at.0 * 100)).collect();
    assert_eq!(records::spans(&apart, layouts.record.size_bytes).len(), 300);
    // The fake memory has a hole between any two buckets.
    let profile = reader(22).read(&joined).unwrap();
    assert_eq!(profile.counts.len(), 300);
    let mut expected = (0..300).map(|n| counts(n + 1, n));
    assert!(profile.counts.iter().all(|bucket| Some(bucket.published) == expected.next()));
}

#[test]
fn lists_that_cannot_be_are_refused() {
    let word = |memory: &mut FakeMemory, at: u64, index: usize, value: u64| {
        memory.0.get_mut(&at).unwrap()[8 * index..8 * index + 8].copy_from_slice(&value.to_le_bytes());
    };
    let good = || memory(22, FLUSHED_7, &[made(0x2000, (1, 0), [(0, 0); 3]), made(0x3000, (1, 0), [(0, 0); 3])]);
    for (index, value, expected) in [
        (1, 0x3000, "list of memory buckets"),
        (1, 0x2001, "address of a memory bucket"),
        (1, 0xdead_0000, "address of a memory bucket"),
        (2, 2, "kind of a memory bucket"),
        (5, 1 << 60, "length of a stack"),
        (5, 1027, "length of a stack"),
        // Freed and never allocated.
        (9, 7, "counts of the heap profile"),
    ] {
        let mut memory = good();
        word(&mut memory, 0x3000, index, value);
        let error = error_of(&memory);
        assert!(error.contains(expected), "{index}: {error}");
    }
    let mut foreign = made(0x2000, (1, 0), [(0, 0); 3]);
    foreign.stack = vec![1, 2, 3];
    assert!(error_of(&memory(22, FLUSHED_7, &[foreign])).contains("stacks of the heap profile"));
}

#[test]
fn a_layout_that_cannot_be_is_refused() {
    let good = layouts(22);
    let places = reader(22).places;
    for layouts in [
        Layouts { record: MemoryRecordLayout { size_bytes: u64::MAX, ..good.record }, ..good },
        Layouts { record: MemoryRecordLayout { future_count: 4, ..good.record }, ..good },
        Layouts { record: MemoryRecordLayout { future: u64::MAX, ..good.record }, ..good },
        Layouts { cycle: MemoryCycleLayout { size_bytes: u64::MAX / 2, ..good.cycle }, ..good },
        Layouts { bucket: BucketLayout { size_bytes: 1 << 40, ..good.bucket }, ..good },
    ] {
        assert!(ProfileReader::at(places.clone(), layouts).is_err());
    }
}
