//! The statement, its findings and its advice, from numbers that are made up.

use super::*;
use crate::read::books::{Pacer, Phase, SystemBytes};
use crate::read::heap_pages::HeapTally;
use crate::read::residency::Owned;
use crate::read::system::cgroup::{Limit, Version};

const MIB: u64 = 1 << 20;

fn pacer() -> Pacer {
    Pacer {
        gc_percent: Some(100),
        memory_limit_bytes: None,
        percent_goal_bytes: Some(400 * MIB),
        limit_goal_bytes: None,
        goal_bytes: 400 * MIB,
        heap_live_bytes: 250 * MIB,
        heap_marked_bytes: 200 * MIB,
        mark_start_ns: 0,
        mapped_ready_bytes: 290 * MIB,
    }
}

/// 250 MiB allocated, of which 200 were marked.
pub(crate) fn books() -> Books {
    Books {
        classes: Vec::new(),
        tiny_allocs: 0,
        tiny_slack: 0,
        large_allocs: 2,
        large_alloc_bytes: 250 * MIB,
        large_frees: 0,
        large_free_bytes: 0,
        heap_in_use_bytes: 260 * MIB,
        heap_free_bytes: 8 * MIB,
        heap_released_bytes: 4 * MIB,
        stacks_bytes: 4 * MIB,
        work_buffers_bytes: 0,
        pointer_bits_bytes: 0,
        system: SystemBytes::default(),
        collections: 7,
        forced_collections: 0,
        last_end_unix_ns: 1_000_000_000,
        last_end_ns: 1,
        gc_cpu_fraction: 0.0,
        pause_total_ns: 0,
        pauses: Vec::new(),
        processors: 2,
        pacer: Ok(pacer()),
        phase: Ok(Phase::Off),
        structures: Ok(crate::read::books::Structures {
            spans_in_use_bytes: 0,
            caches_in_use_bytes: 0,
            sweep_generation: 14,
        }),
        threads: Ok(5),
        goroutines: Ok(3),
    }
}

fn tally() -> HeapTally {
    HeapTally {
        small_bytes: 200 * MIB,
        small_resident_bytes: 180 * MIB,
        large_marked_bytes: 40 * MIB,
        large_marked_resident_bytes: 30 * MIB,
        large_other_bytes: 10 * MIB,
        large_other_resident_bytes: 10 * MIB,
        gaps_resident_bytes: 10 * MIB,
        stacks_resident_bytes: 4 * MIB,
        collector_resident_bytes: MIB,
        free_resident_bytes: 8 * MIB,
        unclear_resident_bytes: 0,
    }
}

fn residency() -> Residency {
    let heap_rss = tally().resident_bytes();
    Residency {
        rss_bytes: heap_rss + 50 * MIB,
        swap_bytes: 0,
        heap: Some(HeapResidency { tally: tally(), rss_bytes: heap_rss, ..HeapResidency::default() }),
        runtime_bytes: Some(9 * MIB),
        file: Owned { bytes: 20 * MIB, parts: Vec::new() },
        first_stack_bytes: MIB,
        native: Owned { bytes: 20 * MIB, parts: Vec::new() },
        native_huge_bytes: 0,
        unknown_bytes: 0,
    }
}

fn group(limit: u64) -> Cgroup {
    Cgroup {
        version: Version::V2,
        path: "/x".into(),
        current_bytes: Some(300 * MIB),
        limit: Some(Limit { bytes: limit, levels_above: 0 }),
        high: None,
        low_bytes: None,
        swap_bytes: None,
        swap_limit_bytes: None,
        // 20 MiB more than the process has.
        anonymous_bytes: Some(293 * MIB),
        file_bytes: Some(10 * MIB),
        inactive_file_bytes: Some(5 * MIB),
        shared_bytes: None,
        limit_reached: None,
        oom_kills: None,
        pressure: None,
    }
}

struct Case {
    residency: Option<Residency>,
    resident: Option<Resident>,
    books: Option<Books>,
    cgroup: Option<Cgroup>,
    cgo: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self { residency: Some(residency()), resident: None, books: Some(books()), cgroup: None, cgo: false }
    }
}

impl Case {
    fn statement(&self) -> MemoryStatement {
        self.maybe().unwrap()
    }

    fn maybe(&self) -> Option<MemoryStatement> {
        memory(MemoryInput {
            residency: self.residency.as_ref(),
            resident: self.resident.as_ref(),
            books: self.books.as_ref(),
            cgroup: self.cgroup.as_ref(),
            host: Some(Host { total_bytes: 64 << 30, available_bytes: Some(32 << 30) }),
            cgo: self.cgo,
            now_unix_ns: 11_000_000_000,
        })
    }

    fn with(change: impl FnOnce(&mut Self)) -> MemoryStatement {
        let mut case = Self::default();
        change(&mut case);
        case.statement()
    }
}

/// A program that a limit, swap, fragmentation and others of its group trouble.
pub(crate) fn example() -> MemoryStatement {
    Case::with(|case| {
        let residency = case.residency.as_mut().unwrap();
        residency.rss_bytes += 90 * MIB;
        residency.swap_bytes = 5 * MIB;
        residency.file.parts = vec![
            Part { name: "the executable".into(), bytes: 15 * MIB },
            Part { name: "/data/a\nb".into(), bytes: 5 * MIB },
        ];
        let heap = residency.heap.as_mut().unwrap();
        heap.tally.gaps_resident_bytes += 90 * MIB;
        let mut group = group(512 * MIB);
        (group.oom_kills, group.limit_reached, group.low_bytes) = (Some(1), Some(3), Some(MIB));
        (group.swap_bytes, group.swap_limit_bytes, group.shared_bytes) = (Some(5 * MIB), Some(9 * MIB), Some(MIB));
        group.high = Some(Limit { bytes: 500 * MIB, levels_above: 1 });
        group.pressure =
            Some(crate::read::system::cgroup::Pressure { some_10s: 12.5, some_60s: 3.0, full_10s: 1.0, full_60s: 0.5 });
        case.cgroup = Some(group);
    })
    .grown_since(&Case::default().statement(), 10.0)
}

impl MemoryStatement {
    /// With growth that is known without doubt.
    fn grown_since(mut self, earlier: &Self, seconds: f64) -> Self {
        for line in &mut self.lines {
            let before = earlier.bytes(line.component);
            let rate = before.map(|before| (approximate(line.bytes) - approximate(before)) / seconds);
            line.growth_bytes_per_s = rate.map(Rate::counted);
        }
        self
    }
}

fn sum(statement: &MemoryStatement) -> i128 {
    statement.lines.iter().map(|line| i128::from(line.bytes)).sum::<i128>() + statement.unexplained_bytes
}

fn ids(statement: &MemoryStatement) -> Vec<&'static str> {
    statement.diagnoses.iter().map(Diagnosis::id).collect()
}

#[test]
fn lines_and_what_is_left_sum_to_the_resident_memory() {
    let statement = Case::default().statement();
    assert_eq!(sum(&statement), i128::from(statement.rss_bytes));
    assert_eq!(statement.unexplained_bytes, 0);
    // 160 MiB of the small objects were marked, nine tenths of which are in memory; of the large ones 30 MiB.
    assert_eq!(statement.bytes(Component::LiveHeap), Some(144 * MIB + 30 * MIB));
    assert_eq!(statement.bytes(Component::Garbage), Some(36 * MIB + 10 * MIB));
    assert_eq!(statement.bytes(Component::Stacks), Some(5 * MIB));
    assert_eq!(statement.bytes(Component::RuntimeMetadata), Some(10 * MIB));
    assert_eq!(statement.misleading.unwrap().untouched_bytes, 30 * MIB);
    assert_eq!(ids(&statement), Vec::<&str>::new());
    // 50 MiB in 10 s.
    let rate = statement.heap.unwrap().pacer.unwrap().alloc_bytes_per_s().unwrap();
    assert!((rate - 5.0 * 1_048_576.0).abs() < 1.0, "{rate}");
}

#[test]
fn what_changed_while_it_was_read_is_unexplained_and_may_be_negative() {
    let statement = Case::with(|case| {
        case.residency.as_mut().unwrap().rss_bytes -= 3 * MIB;
    });
    assert_eq!(statement.unexplained_bytes, -3 * i128::from(MIB));
    assert_eq!(sum(&statement), i128::from(statement.rss_bytes));
}

#[test]
fn a_part_that_was_not_read_is_absent() {
    let without_pages = Case::with(|case| case.residency.as_mut().unwrap().heap = None);
    assert_eq!(without_pages.bytes(Component::RuntimeMetadata), None);
    assert_eq!(without_pages.bytes(Component::LiveHeap), Some(200 * MIB));
    assert_eq!(without_pages.lines[0].source, "books");
    assert_eq!(sum(&without_pages), i128::from(without_pages.rss_bytes));

    let without_books = Case::with(|case| case.books = None);
    assert_eq!(without_books.bytes(Component::Garbage), None);
    assert_eq!(without_books.heap, None);
    assert!(without_books.advice.is_empty());
    assert_eq!(sum(&without_books), i128::from(without_books.rss_bytes));

    let status_alone = Case::with(|case| {
        case.residency = None;
        case.resident = Some(Resident { rss_bytes: 300 * MIB, file_bytes: Some(7 * MIB), ..Resident::default() });
    });
    assert_eq!(status_alone.bytes(Component::File), Some(7 * MIB));
    assert_eq!(status_alone.misleading, None);
    assert_eq!(sum(&status_alone), 300 * i128::from(MIB));

    let nothing = Case { residency: None, resident: None, ..Case::default() };
    assert_eq!(nothing.maybe(), None);
}

#[test]
fn a_limit_gives_gomemlimit_by_arithmetic() {
    let limited = |bytes: u64, limit: Option<u64>| {
        Case::with(|case| {
            case.cgroup = Some(group(bytes));
            case.books.as_mut().unwrap().pacer = Ok(Pacer { memory_limit_bytes: limit, ..pacer() });
        })
    };
    // 512 - 40 outside Go - 20 of others = 452; 95 % of it, in whole MiB.
    let statement = limited(512 * MIB, None);
    let Advice::SetMemoryLimit { room, now_bytes: None, memory_limit_bytes } = statement.advice[0] else {
        panic!("{:?}", statement.advice)
    };
    assert_eq!((room.outside_bytes, room.others_bytes), (40 * MIB, 20 * MIB));
    assert_eq!((room.for_go_bytes, memory_limit_bytes), (429 * MIB, 429 * MIB));
    assert_eq!(room.needed_bytes, (174 + 10 + 5 + 10) * MIB);

    let statement = limited(512 * MIB, Some(400 * MIB));
    assert!(matches!(statement.advice[0], Advice::MemoryLimitFits { .. }), "{:?}", statement.advice);
    let statement = limited(512 * MIB, Some(900 * MIB));
    assert!(matches!(statement.advice[0], Advice::SetMemoryLimit { now_bytes: Some(_), .. }), "{:?}", statement.advice);
    assert_eq!(ids(&statement), ["memory_limit_too_high"]);

    // 199 MiB in use need 248.75 to work in; / 0.95 + 60 = 321.8.
    let statement = limited(310 * MIB, None);
    assert!(
        matches!(statement.advice[0], Advice::RaiseLimit { limit_bytes, .. } if limit_bytes == 322 * MIB),
        "{:?}",
        statement.advice
    );
    assert_eq!(ids(&statement), ["near_limit"]);

    // A limit that the host cannot give is none.
    assert!(limited(1 << 40, None).advice.is_empty());
}

#[test]
fn gogc_that_overshoots_the_limit_is_told_with_the_largest_that_fits() {
    let statement = Case::with(|case| case.cgroup = Some(group(450 * MIB)));
    let Some(Advice::LowerGogc { goal_bytes, fitting_percent, room, .. }) = statement.advice.get(1).copied() else {
        panic!("{:?}", statement.advice)
    };
    // For Go 370 MiB; nothing besides the 200 that were marked; so 170 of the 200 that GOGC=100 adds.
    assert_eq!((goal_bytes, room.for_go_bytes, fitting_percent), (400 * MIB, 370 * MIB, 85));
    // With GOMEMLIMIT GOGC does not have to fit.
    let limited = Case::with(|case| {
        case.cgroup = Some(group(450 * MIB));
        case.books.as_mut().unwrap().pacer = Ok(Pacer { memory_limit_bytes: Some(360 * MIB), ..pacer() });
    });
    assert_eq!(limited.advice.iter().map(Advice::id).collect::<Vec<_>>(), ["gomemlimit_fits"]);
}

#[test]
fn very_frequent_collections_are_told_where_there_is_room() {
    let statement = Case::with(|case| {
        let busy = Pacer {
            heap_marked_bytes: 10 * MIB,
            heap_live_bytes: 60 * MIB,
            percent_goal_bytes: Some(20 * MIB),
            goal_bytes: 20 * MIB,
            ..pacer()
        };
        let books = case.books.as_mut().unwrap();
        (books.pacer, books.last_end_unix_ns) = (Ok(busy), 10_900_000_000);
    });
    let Some(Advice::RaiseGogc { interval_s, suggested_percent, suggested_goal_bytes, .. }) =
        statement.advice.first().copied()
    else {
        panic!("{:?}", statement.advice)
    };
    // 10 MiB at 500 MiB/s.
    assert!((interval_s - 0.02).abs() < 1e-9, "{interval_s}");
    assert_eq!((suggested_percent, suggested_goal_bytes), (400, 50 * MIB));
}

#[test]
fn a_finding_needs_bytes_and_a_share() {
    let native = |bytes: u64, cgo: bool| {
        let statement = Case::with(|case| {
            let residency = case.residency.as_mut().unwrap();
            residency.rss_bytes += bytes - residency.native.bytes;
            residency.native.bytes = bytes;
            case.cgo = cgo;
        });
        ids(&statement)
    };
    assert_eq!(native(63 * MIB, true), Vec::<&str>::new());
    assert_eq!(native(70 * MIB, true), ["native_memory"]);
    assert_eq!(native(70 * MIB, false), ["mapped_memory"]);

    let files = Case::with(|case| {
        let residency = case.residency.as_mut().unwrap();
        residency.rss_bytes += 100 * MIB;
        residency.file.bytes += 100 * MIB;
    });
    assert_eq!(ids(&files), ["rss_beyond_heap"]);

    let of = |change: fn(&mut HeapResidency, &mut Books)| {
        let statement = Case::with(|case| {
            let residency = case.residency.as_mut().unwrap();
            let heap = residency.heap.as_mut().unwrap();
            change(heap, case.books.as_mut().unwrap());
            heap.rss_bytes = heap.tally.resident_bytes();
            residency.rss_bytes = heap.rss_bytes + 50 * MIB;
            residency.swap_bytes = heap.swap_bytes;
        });
        ids(&statement)
    };
    assert_eq!(of(|heap, _| heap.lazy_free_bytes = 30 * MIB), ["released_lazily"]);
    assert_eq!(of(|heap, _| heap.swap_bytes = MIB), ["swapped"]);
    assert_eq!(of(|heap, _| heap.tally.gaps_resident_bytes = 90 * MIB), ["fragmented"]);
    assert_eq!(of(|heap, _| heap.tally.stacks_resident_bytes = 90 * MIB), ["stacks_large"]);
    assert_eq!(of(|heap, _| heap.tally.small_bytes = 300 * MIB), ["untouched"]);
    assert_eq!(of(|_, books| books.heap_free_bytes = 40 * MIB), ["idle_kept"]);
    assert_eq!(of(|_, books| books.heap_released_bytes = 300 * MIB), ["heap_was_larger"]);
    assert_eq!(
        of(|heap, _| (heap.tally.free_resident_bytes, heap.huge_bytes) = (50 * MIB, 100 * MIB)),
        ["released_into_huge_pages"]
    );
    assert_eq!(of(|_, books| books.collections = 0), ["never_collected"]);
    let off = |_: &mut HeapResidency, books: &mut Books| books.pacer = Ok(Pacer { gc_percent: None, ..pacer() });
    assert_eq!(of(off), ["never_collected"]);
    let at_limit = |_: &mut HeapResidency, books: &mut Books| {
        books.pacer = Ok(Pacer { memory_limit_bytes: Some(300 * MIB), ..pacer() });
    };
    assert_eq!(of(at_limit), ["at_memory_limit"]);
}

#[test]
fn kills_and_pressure_of_the_group_are_told() {
    let statement = Case::with(|case| {
        let mut group = group(2 << 30);
        group.oom_kills = Some(2);
        group.pressure =
            Some(crate::read::system::cgroup::Pressure { some_10s: 12.5, some_60s: 1.0, full_10s: 0.0, full_60s: 0.0 });
        case.cgroup = Some(group);
    });
    assert_eq!(statement.diagnoses, [Diagnosis::OomKills { kills: 2 }, Diagnosis::Pressure { some_permille: 125 }]);
}
