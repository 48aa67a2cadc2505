//! Stacks: the walk over Go's frame pointers, and the ring that carries each new stack once.
//!
//! A stack is walked twice: to hash it at every hit, and once more to fill its record when it is new. The thread stands
//! still in the probe meanwhile, so both walks see the same. The first walk reads the stack in pieces (`window`).

use aya_ebpf::{
    macros::map,
    maps::{Array, RingBuf, ring_buf::RingBufEntry},
};
use tracer_common::{
    exact::{MAX_FRAMES, StackKey, StackKind, StackRecord},
    loss::Loss,
};

use crate::{
    counters::add_loss,
    target::{Registers, read_frame},
    window::Window,
};

/// One word for each [`StackKind`]: not 0 once the map of its stacks is full. Maps of stacks never shrink, so that a full one
/// stays full, and no hit on a stack without a place need try the ring (a withdrawn record takes room in it, too).
#[map]
static FULL: Array<u32> = Array::with_max_entries(2, 0);

/// New stacks on their way to the daemon. The loader may set another size.
#[map]
static STACKS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Where in its function the probed instruction stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// At `push rbp`: the frame pointer is still the caller's, the return address is on top of the stack.
    BeforeFrame,
    /// Behind the prologue: the frame pointer is the function's own.
    InsideFrame,
}

/// Calls `visit` with the index and address of each frame, leaf first; returns their number. `read` gives the two words at
/// an address: a saved frame pointer and the return address above it.
///
/// Stops at a frame pointer of 0 (the bottom of every goroutine) or one that is none, at memory that cannot be read, or at
/// [`MAX_FRAMES`]. A walk crosses from a system stack to the goroutine's, so addresses need not rise; the bound ends any
/// cycle.
#[inline(always)]
pub(crate) fn walk(
    registers: &Registers,
    position: Position,
    mut read: impl FnMut(u64) -> Option<[u64; 2]>,
    mut visit: impl FnMut(usize, u64),
) -> u32 {
    visit(0, registers.instruction_pointer);
    let mut count = 1;
    if position == Position::BeforeFrame {
        let Some([return_address, _]) = read(registers.stack_pointer) else { return count };
        visit(1, return_address);
        count = 2;
    }
    let mut frame_pointer = registers.frame_pointer;
    for index in count as usize..MAX_FRAMES {
        if frame_pointer == 0 || frame_pointer & 7 != 0 {
            break;
        }
        let Some([saved_frame_pointer, return_address]) = read(frame_pointer) else { break };
        if return_address == 0 {
            break;
        }
        visit(index, return_address);
        count = index as u32 + 1;
        frame_pointer = saved_frame_pointer;
    }
    count
}

/// The key of the current stack.
#[inline(always)]
pub(crate) fn key_of(registers: &Registers, position: Position) -> StackKey {
    let mut key = StackKey::EMPTY;
    let visit = |_, frame| key = key.with_frame(frame);
    match Window::open() {
        Some(mut window) => {
            walk(registers, position, |address| window.read(address), visit);
            window.close();
        }
        None => {
            walk(registers, position, read_frame, visit);
        }
    }
    key
}

/// Whether the map of these stacks is known to be full.
#[inline(always)]
pub(crate) fn is_full(kind: StackKind) -> bool {
    matches!(FULL.get(kind as u32), Some(&full) if full != 0)
}

/// What to make of an insertion that failed: the map is full from now on, or another CPU was faster, or the kernel could
/// not take a lock. In the last two cases the next look-up or the next hit decides.
#[inline(always)]
pub(crate) fn note_failed_insertion(kind: StackKind, error: i32) {
    /// `E2BIG`.
    const FULL_MAP: i32 = -7;
    if error == FULL_MAP
        && let Some(full) = FULL.get_ptr_mut(kind as u32)
    {
        // SAFETY: a pointer to a map value; every writer writes the same.
        unsafe { core::ptr::write_volatile(full, 1) };
    }
}

/// Room in the ring for one new stack. Must be ended by [`Introduction::send`] or [`Introduction::withdraw`].
pub(crate) struct Introduction(RingBufEntry<StackRecord>);

impl Introduction {
    /// None: the ring is full, counted.
    #[inline(always)]
    pub(crate) fn reserve() -> Option<Self> {
        let entry = STACKS.reserve::<StackRecord>(0).map(Self);
        if entry.is_none() {
            add_loss(Loss::RingFull);
        }
        entry
    }

    #[inline(always)]
    pub(crate) fn send(mut self, key: StackKey, kind: StackKind, registers: &Registers, position: Position) {
        let record = self.0.as_mut_ptr();
        // SAFETY: the ring reserved a whole record; every field that the daemon reads is written here.
        unsafe {
            (&raw mut (*record).key).write(key);
            (&raw mut (*record).kind).write(kind as u32);
            let frames = (&raw mut (*record).frames).cast::<u64>();
            let count = walk(registers, position, read_frame, |index, frame| {
                if index < MAX_FRAMES {
                    frames.add(index).write(frame);
                }
            });
            (&raw mut (*record).frame_count).write(count);
        }
        self.0.submit(0);
    }

    #[inline(always)]
    pub(crate) fn withdraw(self) {
        self.0.discard(u64::from(aya_ebpf::bindings::BPF_RB_NO_WAKEUP));
    }
}
