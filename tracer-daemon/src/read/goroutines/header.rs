//! The fields of one goroutine's structure (`runtime.g`), and whether they are what they can be.

use super::super::memory::{MemoryError, TargetMemory, Words};
use crate::addr::Avma;
use crate::inspect::layout::GoroutineLayout;

/// Set while the collector scans the stack (runtime/runtime2.go).
const SCAN_BIT: u32 = 0x1000;
/// Largest stack of a goroutine that is believed; `debug.SetMaxStack` begins at 1 GB.
const STACK_BYTES_MAX: u64 = 64 << 30;

/// What a goroutine does (`_Grunnable`, … of runtime/runtime2.go, the same numbers in go1.19 to go1.27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for a processor.
    Runnable,
    /// Executes Go code.
    Running,
    /// Is in a system call or in C code.
    Syscall,
    /// Waits in the runtime for something.
    Waiting,
    /// Its stack is being moved.
    CopyStack,
    /// Was stopped by the collector for a moment.
    Preempted,
    /// Waits for what nobody can do any more, as the runtime's own leak profile found out.
    Leaked,
}

impl State {
    /// As the runtime prints it (`gStatusStrings` of runtime/traceback.go).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Syscall => "syscall",
            Self::Waiting => "waiting",
            Self::CopyStack => "copystack",
            Self::Preempted => "preempted",
            Self::Leaked => "leaked",
        }
    }

    /// Whether it has a wait reason.
    pub const fn waits(self) -> bool {
        matches!(self, Self::Waiting | Self::Leaked)
    }
}

/// What a status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive(State),
    /// Not begun, or over: the structure waits to be used again.
    Dead,
    /// No status that there is.
    Implausible,
}

fn life(status: u32) -> Life {
    Life::Alive(match status & !SCAN_BIT {
        1 => State::Runnable,
        2 => State::Running,
        3 => State::Syscall,
        4 => State::Waiting,
        8 => State::CopyStack,
        9 => State::Preempted,
        10 => State::Leaked,
        // 11: of a thread that C has made and that is not in Go now (go1.26 and later).
        0 | 6 | 11 => return Life::Dead,
        _ => return Life::Implausible,
    })
}

/// One goroutine as its structure says. Equal headers at two times mean that it has not run between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) address: Avma,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) creation: Avma,
    pub(super) start: Avma,
    pub(super) state: State,
    /// 0 where it does not wait.
    pub(super) wait_reason: u8,
    pub(super) stack_low: u64,
    pub(super) stack_high: u64,
    /// Stack pointer and program counter of the leaf; 0 where they are not known.
    pub(super) stack_pointer: Avma,
    pub(super) pc: Avma,
    /// The first `sudog`.
    pub(super) waiting: Avma,
    pub(super) running_cleanups: bool,
    /// Counts how often it has stopped running.
    pub(super) stops: u8,
    /// Monotonic, ns; 0: not known. Changes by itself.
    pub(super) waiting_since_ns: u64,
}

/// What the structure at an address holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Alive(Header),
    Dead,
    /// Not readable, or no goroutine.
    Implausible,
}

impl Header {
    /// Whether nothing has happened between two looks.
    pub(super) fn is_unmoved(&self, later: &Slot) -> bool {
        let Slot::Alive(later) = later else { return false };
        *self == Self { waiting_since_ns: self.waiting_since_ns, ..*later }
    }

    /// Whether it is the same goroutine.
    pub(super) fn is_same(&self, later: &Header) -> bool {
        self.id == later.id && self.creation == later.creation && self.start == later.start
    }

    /// Whether it has a stack that can be walked.
    pub(super) fn is_parked(&self) -> bool {
        !matches!(self.state, State::Running | State::CopyStack) && self.stack_pointer.0 != 0
    }

    pub(super) fn stack_bytes(&self) -> u64 {
        self.stack_high - self.stack_low
    }

    /// Bytes of its stack that are in use.
    pub(super) fn used_bytes(&self) -> u64 {
        self.stack_high.saturating_sub(self.stack_pointer.0)
    }
}

/// Bytes of the structure that are read.
pub(super) fn header_bytes(layout: &GoroutineLayout) -> usize {
    let last = [
        layout.stack_hi,
        layout.sched_sp,
        layout.sched_pc,
        layout.syscallsp,
        layout.syscallpc,
        layout.atomicstatus,
        layout.goid,
        layout.waitsince,
        layout.waitreason,
        layout.parent_goid.unwrap_or_default(),
        layout.gopc,
        layout.startpc,
        layout.waiting,
        layout.tracking_seq,
        layout.running_cleanups.unwrap_or_default(),
    ];
    usize::try_from(last.into_iter().max().unwrap_or_default().saturating_add(8)).unwrap_or_default()
}

/// Reads the structures at some addresses.
pub(super) fn read_slots(
    memory: &dyn TargetMemory,
    layout: &GoroutineLayout,
    addresses: &[Avma],
    buffer: &mut Vec<u8>,
) -> Result<Vec<Slot>, MemoryError> {
    let piece = header_bytes(layout);
    buffer.clear();
    buffer.resize(piece.saturating_mul(addresses.len()), 0);
    let readable = memory.read_each(addresses, buffer)?;
    let slots = addresses.iter().zip(buffer.chunks(piece.max(1))).zip(readable);
    Ok(slots
        .map(
            |((address, bytes), readable)| {
                if readable { slot(layout, *address, Words(bytes)) } else { Slot::Implausible }
            },
        )
        .collect())
}

fn slot(layout: &GoroutineLayout, address: Avma, words: Words<'_>) -> Slot {
    let state = match life(words.u32(layout.atomicstatus)) {
        Life::Alive(state) => state,
        Life::Dead => return Slot::Dead,
        Life::Implausible => return Slot::Implausible,
    };
    let (low, high) = (words.u64(layout.stack_lo), words.u64(layout.stack_hi));
    let id = words.u64(layout.goid);
    let size = high.checked_sub(low).filter(|size| *size > 0 && *size <= STACK_BYTES_MAX && low > 0);
    if size.is_none() || id == 0 {
        return Slot::Implausible;
    }
    let syscall = words.u64(layout.syscallsp);
    let (stack_pointer, pc) = match (state, syscall) {
        (State::Running | State::CopyStack, _) => (0, 0),
        (_, 0) => (words.u64(layout.sched_sp), words.u64(layout.sched_pc)),
        (_, syscall) => (syscall, words.u64(layout.syscallpc)),
    };
    let inside = stack_pointer >= low && stack_pointer < high && stack_pointer.is_multiple_of(8);
    Slot::Alive(Header {
        address,
        id,
        parent: layout.parent_goid.map(|offset| words.u64(offset)).filter(|parent| *parent != 0),
        creation: Avma(words.u64(layout.gopc)),
        start: Avma(words.u64(layout.startpc)),
        state,
        wait_reason: if state.waits() { words.u8(layout.waitreason) } else { 0 },
        stack_low: low,
        stack_high: high,
        stack_pointer: Avma(if inside { stack_pointer } else { 0 }),
        pc: Avma(pc),
        waiting: Avma(if state.waits() { words.u64(layout.waiting) } else { 0 }),
        running_cleanups: layout.running_cleanups.is_some_and(|offset| words.u8(offset) != 0),
        stops: words.u8(layout.tracking_seq),
        waiting_since_ns: if state.waits() || state == State::Syscall { words.u64(layout.waitsince) } else { 0 },
    })
}
