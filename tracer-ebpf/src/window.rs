//! A window on the thread's stack: one read of the target's memory serves several frames.
//!
//! Each read costs about 70 ns whatever its length up to some hundred bytes, and the frames of a Go function take about
//! 100 bytes. The bytes lie in scratch memory of the CPU, since a BPF stack has no room for them. There a program can be
//! preempted by another one on the same CPU, so the scratch memory has a lock: a count of those who want it. Who reads
//! another count than 1 behind its own increment does without the window.

use aya_ebpf::{helpers::generated::bpf_probe_read_user, macros::map, maps::PerCpuArray};

use crate::{counters::add, target::read_frame};

/// Bytes of one piece: four to five frames.
const PIECE_BYTES: u32 = 512;
const PIECE_WORDS: usize = PIECE_BYTES as usize / 8;
/// The last place in a piece where a frame's two words fit.
const LAST_START: u64 = PIECE_BYTES as u64 - 16;

#[repr(C)]
struct Scratch {
    /// How many programs on this CPU are between [`Window::open`] and [`Window::close`].
    users: u64,
    /// One word more than is read, so that a masked index and its successor need no check.
    words: [u64; PIECE_WORDS + 1],
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The piece of the stack that was read last.
pub(crate) struct Window {
    scratch: *mut Scratch,
    /// Whether the scratch memory is ours.
    is_ours: bool,
    /// Address of the first word in it.
    base: u64,
    /// Whether a piece was read.
    is_filled: bool,
    /// Whether the memory behind the stack cannot be read, so that no whole piece can.
    is_at_end: bool,
}

impl Window {
    /// Must be closed.
    #[inline(always)]
    pub(crate) fn open() -> Option<Self> {
        let scratch = SCRATCH.get_ptr_mut(0)?;
        // SAFETY: a pointer to a map value, which lives as long as the program. Volatile: other programs write it.
        let is_ours = unsafe {
            add(&raw mut (*scratch).users, 1);
            (&raw const (*scratch).users).read_volatile() == 1
        };
        Some(Self { scratch, is_ours, base: 0, is_filled: false, is_at_end: false })
    }

    #[inline(always)]
    pub(crate) fn close(self) {
        // SAFETY: as above. Adding the largest number takes one away.
        add(unsafe { &raw mut (*self.scratch).users }, u64::MAX);
    }

    /// The two words at an address, which is a multiple of 8. None: they cannot be read.
    #[inline(always)]
    pub(crate) fn read(&mut self, address: u64) -> Option<[u64; 2]> {
        if !self.is_ours || self.is_at_end {
            return read_frame(address);
        }
        let mut offset = address.wrapping_sub(self.base);
        if !self.is_filled || offset > LAST_START {
            if !self.fill(address) {
                self.is_at_end = true;
                return read_frame(address);
            }
            offset = 0;
        }
        let index = (offset >> 3) as usize & (PIECE_WORDS - 1);
        // SAFETY: the index is masked to the words that exist, less one.
        unsafe {
            let words = (&raw const (*self.scratch).words).cast::<u64>();
            Some([words.add(index).read(), words.add(index + 1).read()])
        }
    }

    /// Reads the piece that begins at an address. False: not all of it can be read.
    #[inline(always)]
    fn fill(&mut self, address: u64) -> bool {
        self.base = address;
        self.is_filled = true;
        // SAFETY: the scratch memory has room for a piece; the helper checks the address.
        let error =
            unsafe { bpf_probe_read_user((&raw mut (*self.scratch).words).cast(), PIECE_BYTES, address as *const _) };
        error == 0
    }
}
