//! What a memory statement says in words: diagnoses and advice, the same in text and JSON.
//!
//! A sentence says what is, then who is likely to own it, then what to do.

use super::human;
use crate::model::memory::{Advice, Component, Diagnosis, MemoryStatement, Room};

fn bytes(value: u64) -> String {
    human::bytes(human::approximate(value))
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { String::from("?") } else { human::percent(human::approximate(part) / human::approximate(whole)) }
}

/// Whole MiB where it is some, as GOMEMLIMIT is written.
fn limit(value: u64) -> String {
    if value >= 1 << 20 && value.is_multiple_of(1 << 20) { format!("{}MiB", value >> 20) } else { format!("{value}B") }
}

/// A diagnosis as a sentence or two.
#[expect(clippy::too_many_lines, reason = "a sentence for each")]
pub(super) fn diagnosis(diagnosis: &Diagnosis, statement: &MemoryStatement) -> String {
    match *diagnosis {
        Diagnosis::NativeMemory { native_bytes, rss_bytes } => format!(
            "{} ({} of the resident memory) is native: neither Go's heap nor its runtime has it{}. The binary links C code, \
             so its owner is most likely malloc in C (look at calls through cgo; C.CString and C.malloc are freed by C.free only); no Go \
             profile shows it, and no collection frees it.",
            bytes(native_bytes),
            share(native_bytes, rss_bytes),
            largest(statement)
        ),
        Diagnosis::MappedMemory { native_bytes, rss_bytes } => format!(
            "{} ({} of the resident memory) is anonymous memory that Go's runtime does not have{}. The binary links no C code, so the program \
             maps it itself: some caches and databases keep data outside the heap with mmap. No Go profile shows it.",
            bytes(native_bytes),
            share(native_bytes, rss_bytes),
            largest(statement)
        ),
        Diagnosis::BeyondHeap { rss_bytes, heap_sys_bytes, file_bytes, native_bytes } => format!(
            "Resident memory exceeds all that was ever taken for the Go heap (HeapSys {}) by {}: look at what is not heap, \
             {} of files and {} of native memory among it. Pages of files can be dropped by the kernel where they are clean.",
            bytes(heap_sys_bytes),
            bytes(rss_bytes.saturating_sub(heap_sys_bytes)),
            bytes(file_bytes),
            bytes(native_bytes)
        ),
        Diagnosis::HeapWasLarger { heap_sys_bytes, heap_in_use_bytes, heap_released_bytes } => format!(
            "The heap was larger once: {} were taken for it (HeapSys), {} are in use (HeapInuse); of the rest {} were given \
             back to the system.",
            bytes(heap_sys_bytes),
            bytes(heap_in_use_bytes),
            bytes(heap_released_bytes)
        ),
        Diagnosis::IdleKept { idle_kept_bytes, idle_resident_bytes } => format!(
            "{} hold no objects and were not given back yet (HeapIdle - HeapReleased), {} of idle pages are in memory: the runtime keeps what it \
             expects to need by the last goal, and gives the rest back slowly, with 1 % of its CPU time. A peak that is over, not a leak; \
             debug.FreeOSMemory or GOMEMLIMIT gives it back sooner.",
            bytes(idle_kept_bytes),
            bytes(idle_resident_bytes)
        ),
        Diagnosis::ReleasedLazily { lazy_free_bytes, rss_bytes } => format!(
            "Resident memory misleads: {} of it ({}) were given back with MADV_FREE, and the kernel takes them when it needs \
             them. GODEBUG=madvdontneed=0 is set, most likely; without it the resident memory falls at once.",
            bytes(lazy_free_bytes),
            share(lazy_free_bytes, rss_bytes)
        ),
        Diagnosis::ReleasedIntoHugePages { excess_bytes, huge_bytes } => format!(
            "Resident memory misleads: {} of pages that were given back are in memory again; {} of the heap are in huge pages, \
             which khugepaged makes of small ones, holes included. Set /sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none \
             to 0, or huge pages to madvise (go.dev/doc/gc-guide, transparent huge pages).",
            bytes(excess_bytes),
            bytes(huge_bytes)
        ),
        Diagnosis::Fragmented { fragmentation_bytes, heap_in_use_bytes } => format!(
            "{} lie between objects, in spans that a few objects keep (HeapInuse is {}): after a peak of small objects, those \
             that are left are spread thin. New objects of the same sizes use this room first; other sizes cannot.",
            bytes(fragmentation_bytes),
            bytes(heap_in_use_bytes)
        ),
        Diagnosis::GarbageHeavy { garbage_bytes, live_bytes, goal_bytes } => format!(
            "{} are dead or were allocated since the last collection, against {} that it found in use: the next one ends \
             near {}, and only it can tell what of it lives. GOGC and GOMEMLIMIT decide how much may gather.",
            bytes(garbage_bytes),
            bytes(live_bytes),
            bytes(goal_bytes)
        ),
        Diagnosis::NeverCollected { allocated_bytes, collections } => {
            let why = if collections == 0 {
                "no collection has run yet".to_owned()
            } else {
                format!("the collector is off (GOGC=off and no GOMEMLIMIT) after {collections} collections")
            };
            format!("{why}: of {} allocated nothing can be said to be in use or dead.", bytes(allocated_bytes))
        }
        Diagnosis::StacksLarge { stacks_bytes, rss_bytes } => format!(
            "{} ({}) are stacks: very many goroutines, or deep ones. `leakline goroutines` says who started \
             them and what they wait for.",
            bytes(stacks_bytes),
            share(stacks_bytes, rss_bytes)
        ),
        Diagnosis::Untouched { untouched_bytes, rss_bytes } => format!(
            "{} more are allocated than are in memory: never written, so the kernel has not had to provide them. Resident \
             memory ({}) can grow by as much without another allocation.",
            bytes(untouched_bytes),
            bytes(rss_bytes)
        ),
        Diagnosis::Swapped { swap_bytes, rss_bytes } => format!(
            "Resident memory misleads: {} are in swap on top of {}. Each collection reads what it marks, so swap makes \
             collections slow.",
            bytes(swap_bytes),
            bytes(rss_bytes)
        ),
        Diagnosis::AtMemoryLimit { held_bytes, memory_limit_bytes } => format!(
            "The runtime holds {} of a GOMEMLIMIT of {}: it collects ever more often to stay below, up to half of its CPU time.",
            bytes(held_bytes),
            bytes(memory_limit_bytes)
        ),
        Diagnosis::MemoryLimitTooHigh { memory_limit_bytes, cgroup_limit_bytes } => format!(
            "GOMEMLIMIT ({}) is not below the limit of the cgroup ({}): the kernel kills the process before the collector \
             works harder.",
            bytes(memory_limit_bytes),
            bytes(cgroup_limit_bytes)
        ),
        Diagnosis::NearLimit { working_set_bytes, cgroup_limit_bytes } => format!(
            "The cgroup uses {} of its limit of {} ({}), not counting file pages that can be dropped at once: the next growth may be \
             answered by the OOM killer.",
            bytes(working_set_bytes),
            bytes(cgroup_limit_bytes),
            share(working_set_bytes, cgroup_limit_bytes)
        ),
        Diagnosis::OomKills { kills } => {
            let times = if kills == 1 { "once".to_owned() } else { format!("{kills} times") };
            format!("The kernel has killed a process of this cgroup {times} for lack of memory.")
        }
        Diagnosis::Pressure { some_permille } => format!(
            "Tasks of the cgroup waited for memory for {} of the last 10 s.",
            human::percent(human::approximate(some_permille) / 1000.0)
        ),
    }
}

/// The largest contributor to native memory.
fn largest(statement: &MemoryStatement) -> String {
    let native = statement.lines.iter().find(|line| line.component == Component::Native);
    let part = native.and_then(|line| line.parts.first());
    part.map_or_else(String::new, |part| {
        format!("; the most of it, {}, is {}", bytes(part.bytes), super::untrusted::name(&part.name))
    })
}

/// A sentence that says what to do.
pub(super) fn advice(advice: &Advice) -> String {
    match *advice {
        Advice::SetMemoryLimit { room, now_bytes, memory_limit_bytes } => {
            let now =
                now_bytes.map_or_else(|| String::from("now it is not set"), |now| format!("now it is {}", bytes(now)));
            format!(
                "Set GOMEMLIMIT={} ({now}): then the collector works harder before the cgroup's limit of {} is reached.",
                limit(memory_limit_bytes),
                bytes(room.limit_bytes)
            )
        }
        Advice::MemoryLimitFits { room, memory_limit_bytes } => format!(
            "GOMEMLIMIT ({}) suits the cgroup's limit of {}.",
            bytes(memory_limit_bytes),
            bytes(room.limit_bytes)
        ),
        Advice::RaiseLimit { room, limit_bytes } => format!(
            "No setting of the collector helps: what is in use leaves it no room below {}. Raise the cgroup's limit to {} \
             at least, or find what holds the memory (`leakline attach`).",
            bytes(room.limit_bytes),
            bytes(limit_bytes)
        ),
        Advice::LowerGogc { room, gc_percent, goal_bytes, fitting_percent, .. } => format!(
            "Without GOMEMLIMIT: GOGC={gc_percent} lets the heap grow to {}, beyond what is left for Go below {}; \
             GOGC={fitting_percent} is the largest that fits.",
            bytes(goal_bytes),
            bytes(room.limit_bytes)
        ),
        Advice::RaiseGogc { gc_percent, interval_s, suggested_percent, suggested_goal_bytes, .. } => format!(
            "It collects about every {} with GOGC={gc_percent}; GOGC={suggested_percent} makes that a quarter as often, and the heap {} \
             at most, for which there is room.",
            milliseconds(interval_s),
            bytes(suggested_goal_bytes)
        ),
    }
}

/// What to put into the environment.
pub(super) fn environment(advice: &Advice) -> Vec<(&'static str, String)> {
    match *advice {
        Advice::SetMemoryLimit { memory_limit_bytes, .. } => vec![("GOMEMLIMIT", limit(memory_limit_bytes))],
        Advice::LowerGogc { fitting_percent, .. } => vec![("GOGC", fitting_percent.to_string())],
        Advice::RaiseGogc { suggested_percent, .. } => vec![("GOGC", suggested_percent.to_string())],
        Advice::MemoryLimitFits { .. } | Advice::RaiseLimit { .. } => Vec::new(),
    }
}

/// How the number comes about.
pub(super) fn arithmetic(advice: &Advice) -> Vec<String> {
    match *advice {
        Advice::SetMemoryLimit { room, .. } | Advice::MemoryLimitFits { room, .. } => room_steps(&room),
        Advice::RaiseLimit { room, limit_bytes } => {
            let mut steps = room_steps(&room);
            steps.push(format!(
                "({} in use x 1.25 to work in) / 0.95 + {} outside Go + {} others = {}",
                bytes(room.needed_bytes),
                bytes(room.outside_bytes),
                bytes(room.others_bytes),
                bytes(limit_bytes)
            ));
            steps
        }
        Advice::LowerGogc { room, gc_percent, marked_bytes, goal_bytes, besides_bytes, fitting_percent } => {
            let mut steps = room_steps(&room);
            steps.push(format!(
                "heap {} by GOGC={gc_percent} + {} besides > {}",
                bytes(goal_bytes),
                bytes(besides_bytes),
                bytes(room.for_go_bytes)
            ));
            steps.push(format!(
                "({} - {} besides - {} marked) / ({} - {} marked) x {gc_percent} = {fitting_percent}",
                bytes(room.for_go_bytes),
                bytes(besides_bytes),
                bytes(marked_bytes),
                bytes(goal_bytes),
                bytes(marked_bytes)
            ));
            steps
        }
        Advice::RaiseGogc { alloc_bytes_per_s, headroom_bytes, interval_s, .. } => vec![format!(
            "{} between two collections / {} allocated per second = {}",
            bytes(headroom_bytes),
            human::bytes(alloc_bytes_per_s),
            milliseconds(interval_s)
        )],
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.0}\u{a0}ms", (seconds * 1000.0).max(1.0))
}

fn room_steps(room: &Room) -> Vec<String> {
    let left = room.limit_bytes.saturating_sub(room.outside_bytes).saturating_sub(room.others_bytes);
    let others = if room.others_bytes > 0 {
        format!(" - {} other processes of the cgroup", bytes(room.others_bytes))
    } else {
        String::new()
    };
    vec![
        format!(
            "limit {} - {} outside Go (native, files){others} = {}",
            bytes(room.limit_bytes),
            bytes(room.outside_bytes),
            bytes(left)
        ),
        format!("{} x 95 % = {} for Go", bytes(left), bytes(room.for_go_bytes)),
        format!("Go needs {} now (live heap, fragmentation, stacks, metadata)", bytes(room.needed_bytes)),
    ]
}
