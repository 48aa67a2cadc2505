//! What to set: GOMEMLIMIT and GOGC for what was measured, with the numbers that they follow from.
//!
//! GOMEMLIMIT bounds what the runtime holds: the heap less what was given back, stacks, structures. It does not bound files and
//! native memory, so these are taken from the group's limit first (<https://go.dev/doc/gc-guide>, "Suggested uses").

use serde::{Deserialize, Serialize};

use super::{Component, MemoryStatement, PacerNumbers, approximate};

const MIB: u64 = 1 << 20;
/// Of what is left for Go, the part that is given to it: the rest is for what grows between two looks of the collector.
const HEAD_ROOM_PERCENT: u64 = 95;
/// What the runtime needs beyond what is in use, so that it does not collect all the time, percent.
const WORKING_ROOM_PERCENT: u64 = 125;
/// A collection more often than this is worth a word.
const COLLECTION_INTERVAL_S: f64 = 0.25;

/// The way from a group's limit to what Go may hold. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Room {
    /// Limit of the group.
    pub limit_bytes: u64,
    /// Outside Go: native memory and pages of files.
    pub outside_bytes: u64,
    /// Anonymous memory of other processes of the group.
    pub others_bytes: u64,
    /// What is left, less head room of 5 %, in whole MiB.
    pub for_go_bytes: u64,
    /// What Go cannot do without: live heap, fragmentation, stacks, structures.
    pub needed_bytes: u64,
}

/// What to set, or that something fits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// GOMEMLIMIT would keep the program below the limit of its group.
    SetMemoryLimit {
        /// The arithmetic.
        room: Room,
        /// What it is now.
        now_bytes: Option<u64>,
        /// What to set.
        memory_limit_bytes: u64,
    },
    /// GOMEMLIMIT is right.
    MemoryLimitFits {
        /// The arithmetic.
        room: Room,
        /// What it is.
        memory_limit_bytes: u64,
    },
    /// No setting helps: what is in use leaves no room for the collector to work in.
    RaiseLimit {
        /// The arithmetic.
        room: Room,
        /// Limit of the group that would do.
        limit_bytes: u64,
    },
    /// Without GOMEMLIMIT, GOGC lets the heap grow beyond the limit of the group.
    LowerGogc {
        /// The arithmetic.
        room: Room,
        /// What it is.
        gc_percent: u32,
        /// Marked by the last collection.
        marked_bytes: u64,
        /// How large the heap may become with it.
        goal_bytes: u64,
        /// What Go needs besides the heap.
        besides_bytes: u64,
        /// The largest that fits.
        fitting_percent: u32,
    },
    /// It collects very often, and there is room to do so less often.
    RaiseGogc {
        /// What it is.
        gc_percent: u32,
        /// Bytes allocated each second, since the last collection.
        alloc_bytes_per_s: f64,
        /// Allocated between two collections.
        headroom_bytes: u64,
        /// Seconds between two collections.
        interval_s: f64,
        /// What would do.
        suggested_percent: u32,
        /// How large the heap may become with it.
        suggested_goal_bytes: u64,
    },
}

impl Advice {
    /// Stable identifier; never reused.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::SetMemoryLimit { .. } => "set_gomemlimit",
            Self::MemoryLimitFits { .. } => "gomemlimit_fits",
            Self::RaiseLimit { .. } => "raise_limit",
            Self::LowerGogc { .. } => "lower_gogc",
            Self::RaiseGogc { .. } => "raise_gogc",
        }
    }
}

fn percent_of(bytes: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// What follows from a statement; nothing where it is not known when the collector runs.
pub(super) fn of(statement: &MemoryStatement) -> Vec<Advice> {
    let Some(pacer) = statement.heap.and_then(|heap| heap.pacer) else { return Vec::new() };
    let room = room(statement);
    let mut advice = Vec::new();
    if let Some(room) = room {
        advice.push(of_memory_limit(room, &pacer));
        advice.extend(of_gogc(room, &pacer));
    }
    // Room for more than now: of the group, else a quarter of what the host has.
    let host = statement.host.and_then(|host| host.available_bytes).map(|bytes| bytes / 4);
    let spare = room.map(|room| room.for_go_bytes).or(host).unwrap_or_default();
    advice.extend(of_pace(&pacer, spare));
    advice
}

fn room(statement: &MemoryStatement) -> Option<Room> {
    let group = statement.cgroup.as_ref()?;
    let limit = group.limit.as_ref()?;
    // A limit beyond the host's memory is none.
    if statement.host.is_some_and(|host| limit.bytes >= host.total_bytes) {
        return None;
    }
    let bytes = |component| statement.bytes(component).unwrap_or_default();
    let anonymous: u64 =
        statement.lines.iter().filter(|line| line.component != Component::File).map(|line| line.bytes).sum();
    let outside_bytes = bytes(Component::Native) + bytes(Component::File);
    let others_bytes = group.anonymous_bytes.unwrap_or_default().saturating_sub(anonymous);
    let left = limit.bytes.saturating_sub(outside_bytes).saturating_sub(others_bytes);
    let needed = [Component::LiveHeap, Component::Fragmentation, Component::Stacks, Component::RuntimeMetadata];
    Some(Room {
        limit_bytes: limit.bytes,
        outside_bytes,
        others_bytes,
        for_go_bytes: percent_of(left, HEAD_ROOM_PERCENT) / MIB * MIB,
        needed_bytes: needed.into_iter().map(bytes).sum(),
    })
}

fn of_memory_limit(room: Room, pacer: &PacerNumbers) -> Advice {
    let wanted = percent_of(room.needed_bytes, WORKING_ROOM_PERCENT);
    if wanted > room.for_go_bytes {
        let for_go = u128::from(wanted) * 100 / u128::from(HEAD_ROOM_PERCENT);
        let limit_bytes = u64::try_from(for_go).unwrap_or(u64::MAX);
        let limit_bytes = limit_bytes.saturating_add(room.outside_bytes).saturating_add(room.others_bytes);
        return Advice::RaiseLimit { room, limit_bytes: limit_bytes.div_ceil(MIB).saturating_mul(MIB) };
    }
    match pacer.memory_limit_bytes {
        Some(now) if now <= room.for_go_bytes.saturating_add(MIB) && now >= wanted => {
            Advice::MemoryLimitFits { room, memory_limit_bytes: now }
        }
        now_bytes => Advice::SetMemoryLimit { room, now_bytes, memory_limit_bytes: room.for_go_bytes },
    }
}

/// The goal is the live heap and GOGC percent of it and of what is scanned with it; the latter is not known apart.
fn of_gogc(room: Room, pacer: &PacerNumbers) -> Option<Advice> {
    let gc_percent = pacer.gc_percent.filter(|_| pacer.memory_limit_bytes.is_none())?;
    let goal_bytes = pacer.percent_goal_bytes?;
    let besides_bytes = room.needed_bytes.saturating_sub(pacer.marked_bytes);
    let for_heap = room.for_go_bytes.saturating_sub(besides_bytes);
    if goal_bytes <= for_heap || pacer.marked_bytes < 4 * MIB || goal_bytes <= pacer.marked_bytes {
        return None;
    }
    // What GOGC has added is in proportion to it.
    let added = u128::from(goal_bytes - pacer.marked_bytes);
    let fitting = u128::from(for_heap.saturating_sub(pacer.marked_bytes)) * u128::from(gc_percent) / added;
    let fitting_percent = u32::try_from(fitting).ok().filter(|percent| *percent >= 10)?;
    let marked_bytes = pacer.marked_bytes;
    Some(Advice::LowerGogc { room, gc_percent, marked_bytes, goal_bytes, besides_bytes, fitting_percent })
}

fn of_pace(pacer: &PacerNumbers, spare_bytes: u64) -> Option<Advice> {
    let gc_percent = pacer.gc_percent.filter(|percent| *percent > 0)?;
    let alloc_bytes_per_s = pacer.alloc_bytes_per_s()?;
    let goal_bytes = pacer.percent_goal_bytes.filter(|goal| *goal <= pacer.goal_bytes)?;
    let headroom_bytes = goal_bytes.checked_sub(pacer.marked_bytes).filter(|bytes| *bytes > 0)?;
    let interval_s = approximate(headroom_bytes) / alloc_bytes_per_s;
    if !interval_s.is_finite() || interval_s >= COLLECTION_INTERVAL_S {
        return None;
    }
    // Four times as rarely, where that leaves half of the room free.
    let suggested_percent = gc_percent.checked_mul(4)?;
    let suggested_goal_bytes = goal_bytes.checked_add(headroom_bytes.checked_mul(3)?)?;
    (suggested_goal_bytes <= spare_bytes / 2).then_some(Advice::RaiseGogc {
        gc_percent,
        alloc_bytes_per_s,
        headroom_bytes,
        interval_s,
        suggested_percent,
        suggested_goal_bytes,
    })
}
