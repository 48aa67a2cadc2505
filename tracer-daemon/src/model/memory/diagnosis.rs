//! What is noteworthy in a statement: a rule with thresholds for each.
//!
//! A finding must matter in bytes and as a share, so that a small program is not told of its few MiB.

use super::{Component, MemoryStatement};

const MIB: u64 = 1 << 20;

macro_rules! diagnoses {
    ($( $(#[$about:meta])* $variant:ident = $id:literal { $( $(#[$about_field:meta])* $field:ident, )* }, )*) => {
        /// Something noteworthy, with its numbers: bytes unless said.
        #[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Diagnosis {
            $( $(#[$about])* $variant { $( $(#[$about_field])* $field: u64, )* }, )*
        }

        impl Diagnosis {
            /// Stable identifier; never reused.
            pub const fn id(&self) -> &'static str {
                match self { $( Self::$variant { .. } => $id, )* }
            }

            /// Its numbers by name.
            pub fn numbers(&self) -> Vec<(&'static str, u64)> {
                match *self { $( Self::$variant { $( $field, )* } => vec![ $( (stringify!($field), $field), )* ], )* }
            }
        }
    };
}

diagnoses! {
    /// Memory that Go's runtime knows nothing of, in a program with C code: at least 64 MiB and 20 % of the resident memory.
    NativeMemory = "native_memory" {
        /// Of C code and mappings.
        native_bytes,
        /// All.
        rss_bytes,
    },
    /// As `NativeMemory`, in a program without C code: the program maps memory itself.
    MappedMemory = "mapped_memory" {
        /// Of mappings.
        native_bytes,
        /// All.
        rss_bytes,
    },
    /// Resident memory exceeds all that was ever taken for the Go heap, by at least 64 MiB and 25 %, and it is files for
    /// the most part.
    BeyondHeap = "rss_beyond_heap" {
        /// All.
        rss_bytes,
        /// `HeapSys`.
        heap_sys_bytes,
        /// Pages of files.
        file_bytes,
        /// Memory outside Go.
        native_bytes,
    },
    /// The heap was larger once: `HeapSys` exceeds `HeapInuse` by at least 64 MiB, and by as much again.
    HeapWasLarger = "heap_was_larger" {
        /// `HeapSys`.
        heap_sys_bytes,
        /// `HeapInuse`.
        heap_in_use_bytes,
        /// `HeapReleased`.
        heap_released_bytes,
    },
    /// Pages without objects that were not given back: `HeapIdle` less `HeapReleased` is at least 32 MiB and 10 % of the
    /// resident memory.
    IdleKept = "idle_kept" {
        /// `HeapIdle` less `HeapReleased`.
        idle_kept_bytes,
        /// Pages without objects that are in memory.
        idle_resident_bytes,
    },
    /// Pages that were given back lazily and are still in memory: at least 16 MiB and 5 %.
    ReleasedLazily = "released_lazily" {
        /// What the kernel will take when it needs it.
        lazy_free_bytes,
        /// All.
        rss_bytes,
    },
    /// Pages without objects that were given back and are in memory again, at least 16 MiB and 5 %, while the heap has huge pages.
    ReleasedIntoHugePages = "released_into_huge_pages" {
        /// Pages without objects that are in memory beyond those that were kept.
        excess_bytes,
        /// The heap in huge pages.
        huge_bytes,
    },
    /// Room between small objects: at least 32 MiB and a quarter of their spans.
    Fragmented = "fragmented" {
        /// Room between them.
        fragmentation_bytes,
        /// `HeapInuse`.
        heap_in_use_bytes,
    },
    /// More waits for the collector than is in use, and at least 64 MiB.
    GarbageHeavy = "garbage_heavy" {
        /// Dead, or not yet looked at.
        garbage_bytes,
        /// In use.
        live_bytes,
        /// Where the next collection will end.
        goal_bytes,
    },
    /// The collector is off, and there is no limit that would turn it on; or it has not run yet, with at least 16 MiB allocated.
    NeverCollected = "never_collected" {
        /// Allocated so far.
        allocated_bytes,
        /// Collections.
        collections,
    },
    /// Stacks: at least 64 MiB and 20 % of the resident memory.
    StacksLarge = "stacks_large" {
        /// Of goroutines.
        stacks_bytes,
        /// All.
        rss_bytes,
    },
    /// Allocated and never touched: at least 64 MiB and 20 % of the resident memory. It will come into memory when it is written.
    Untouched = "untouched" {
        /// Allocated, not in memory.
        untouched_bytes,
        /// All that is.
        rss_bytes,
    },
    /// In swap: at least 1 MiB.
    Swapped = "swapped" {
        /// In swap.
        swap_bytes,
        /// In memory.
        rss_bytes,
    },
    /// What Go's runtime holds is at least 95 % of GOMEMLIMIT: it collects all the time to stay below.
    AtMemoryLimit = "at_memory_limit" {
        /// What counts: the heap with what is kept, stacks, structures.
        held_bytes,
        /// GOMEMLIMIT.
        memory_limit_bytes,
    },
    /// GOMEMLIMIT is not below the limit of the group: the kernel kills before the collector works harder.
    MemoryLimitTooHigh = "memory_limit_too_high" {
        /// GOMEMLIMIT.
        memory_limit_bytes,
        /// Limit of the group.
        cgroup_limit_bytes,
    },
    /// The group uses at least 90 % of its limit, without file pages that can be dropped.
    NearLimit = "near_limit" {
        /// What cannot be dropped at once.
        working_set_bytes,
        /// Limit of the group.
        cgroup_limit_bytes,
    },
    /// The kernel killed processes of the group for lack of memory.
    OomKills = "oom_kills" {
        /// How many.
        kills,
    },
    /// Tasks of the group waited for memory for at least 10 % of the last 10 s.
    Pressure = "memory_pressure" {
        /// Thousandths of the time in which some task waited.
        some_permille,
    },
}

/// Whether something is large by itself and as a part, in percent, of a whole.
fn matters(bytes: u64, at_least: u64, percent: u64, of: u64) -> bool {
    bytes >= at_least && u128::from(bytes) * 100 >= u128::from(of) * u128::from(percent)
}

/// All that hold, those of the process first, then those of its surroundings.
pub(super) fn of(statement: &MemoryStatement, cgo: bool) -> Vec<Diagnosis> {
    let mut found = of_lines(statement, cgo);
    found.extend(of_heap(statement));
    found.extend(of_surroundings(statement));
    found
}

fn of_lines(statement: &MemoryStatement, cgo: bool) -> Vec<Diagnosis> {
    let rss_bytes = statement.rss_bytes;
    let bytes = |component| statement.bytes(component).unwrap_or_default();
    let mut found = Vec::new();
    let native_bytes = bytes(Component::Native);
    if matters(native_bytes, 64 * MIB, 20, rss_bytes) {
        found.push(if cgo {
            Diagnosis::NativeMemory { native_bytes, rss_bytes }
        } else {
            Diagnosis::MappedMemory { native_bytes, rss_bytes }
        });
    }
    let stacks_bytes = bytes(Component::Stacks);
    if matters(stacks_bytes, 64 * MIB, 20, rss_bytes) {
        found.push(Diagnosis::StacksLarge { stacks_bytes, rss_bytes });
    }
    if let Some(misleading) = statement.misleading {
        let swap_bytes = misleading.swap_bytes;
        if swap_bytes >= MIB {
            found.push(Diagnosis::Swapped { swap_bytes, rss_bytes });
        }
        let untouched_bytes = misleading.untouched_bytes;
        if matters(untouched_bytes, 64 * MIB, 20, rss_bytes) {
            found.push(Diagnosis::Untouched { untouched_bytes, rss_bytes });
        }
        let lazy_free_bytes = misleading.lazy_free_bytes;
        if matters(lazy_free_bytes, 16 * MIB, 5, rss_bytes) {
            found.push(Diagnosis::ReleasedLazily { lazy_free_bytes, rss_bytes });
        }
    }
    found
}

fn of_heap(statement: &MemoryStatement) -> Vec<Diagnosis> {
    let Some(heap) = statement.heap else { return Vec::new() };
    let rss_bytes = statement.rss_bytes;
    let bytes = |component| statement.bytes(component).unwrap_or_default();
    let (live_bytes, garbage_bytes) = (bytes(Component::LiveHeap), bytes(Component::Garbage));
    let idle_resident_bytes = bytes(Component::Idle);
    let mut found = Vec::new();
    let beyond = rss_bytes.saturating_sub(heap.sys_bytes);
    let is_native = matters(bytes(Component::Native), 64 * MIB, 20, rss_bytes);
    // Stacks and structures have findings of their own.
    let outside = bytes(Component::File) + bytes(Component::Native);
    if !is_native && outside >= beyond / 2 && matters(beyond, 64 * MIB, 25, rss_bytes) {
        found.push(Diagnosis::BeyondHeap {
            rss_bytes,
            heap_sys_bytes: heap.sys_bytes,
            file_bytes: bytes(Component::File),
            native_bytes: bytes(Component::Native),
        });
    }
    if matters(heap.sys_bytes.saturating_sub(heap.in_use_bytes), 64 * MIB, 100, heap.in_use_bytes) {
        found.push(Diagnosis::HeapWasLarger {
            heap_sys_bytes: heap.sys_bytes,
            heap_in_use_bytes: heap.in_use_bytes,
            heap_released_bytes: heap.released_bytes,
        });
    }
    let idle_kept_bytes = heap.idle_bytes.saturating_sub(heap.released_bytes);
    if matters(idle_kept_bytes, 32 * MIB, 10, rss_bytes) {
        found.push(Diagnosis::IdleKept { idle_kept_bytes, idle_resident_bytes });
    }
    if let Some(misleading) = statement.misleading {
        let excess_bytes =
            idle_resident_bytes.saturating_sub(idle_kept_bytes).saturating_sub(misleading.lazy_free_bytes);
        if misleading.huge_bytes > 0 && matters(excess_bytes, 16 * MIB, 5, rss_bytes) {
            found.push(Diagnosis::ReleasedIntoHugePages { excess_bytes, huge_bytes: misleading.huge_bytes });
        }
    }
    let fragmentation_bytes = bytes(Component::Fragmentation);
    if matters(fragmentation_bytes, 32 * MIB, 25, fragmentation_bytes + live_bytes + garbage_bytes) {
        found.push(Diagnosis::Fragmented { fragmentation_bytes, heap_in_use_bytes: heap.in_use_bytes });
    }
    let Some(pacer) = heap.pacer else { return found };
    let is_off = pacer.gc_percent.is_none() && pacer.memory_limit_bytes.is_none();
    if (is_off || heap.collections == 0) && heap.allocated_bytes >= 16 * MIB {
        let collections = u64::from(heap.collections);
        found.push(Diagnosis::NeverCollected { allocated_bytes: heap.allocated_bytes, collections });
    } else if matters(garbage_bytes, 64 * MIB, 100, live_bytes) {
        found.push(Diagnosis::GarbageHeavy { garbage_bytes, live_bytes, goal_bytes: pacer.goal_bytes });
    }
    if let Some(memory_limit_bytes) = pacer.memory_limit_bytes {
        let held_bytes = pacer.held_bytes;
        if matters(held_bytes, MIB, 95, memory_limit_bytes) {
            found.push(Diagnosis::AtMemoryLimit { held_bytes, memory_limit_bytes });
        }
    }
    found
}

fn of_surroundings(statement: &MemoryStatement) -> Vec<Diagnosis> {
    let Some(group) = &statement.cgroup else { return Vec::new() };
    let mut found = Vec::new();
    if let Some(limit) = &group.limit {
        let cgroup_limit_bytes = limit.bytes;
        let pacer = statement.heap.and_then(|heap| heap.pacer);
        let memory_limit_bytes = pacer.and_then(|pacer| pacer.memory_limit_bytes);
        if let Some(memory_limit_bytes) = memory_limit_bytes.filter(|bytes| *bytes >= cgroup_limit_bytes) {
            found.push(Diagnosis::MemoryLimitTooHigh { memory_limit_bytes, cgroup_limit_bytes });
        }
        // A limit of a group above is for others, too, whose use is not known here.
        let use_of_group = group.current_bytes.filter(|_| limit.levels_above == 0);
        let working_set_bytes =
            use_of_group.map(|bytes| bytes.saturating_sub(group.inactive_file_bytes.unwrap_or_default()));
        if let Some(working_set_bytes) = working_set_bytes.filter(|bytes| matters(*bytes, 1, 90, cgroup_limit_bytes)) {
            found.push(Diagnosis::NearLimit { working_set_bytes, cgroup_limit_bytes });
        }
    }
    if let Some(kills) = group.oom_kills.filter(|kills| *kills > 0) {
        found.push(Diagnosis::OomKills { kills });
    }
    if let Some(pressure) = group.pressure.filter(|pressure| pressure.some_10s >= 10.0) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 10, and the clamp's bound"
        )]
        let some_permille = (pressure.some_10s * 10.0).clamp(0.0, 1000.0) as u64;
        found.push(Diagnosis::Pressure { some_permille });
    }
    found
}
