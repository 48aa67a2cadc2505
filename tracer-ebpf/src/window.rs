//! A window on the thread's stack: one read of the target's memory serves several frames.
//!
//! Each read costs about 70 ns whatever its length up to some hundred bytes, and the frames of a Go function take about
//! 100 bytes. The bytes lie in scratch memory of the CPU, since a BPF stack has no room for them. There a program can be
//! preempted by another one on the same CPU, which uses the same scratch memory. So the scratch memory names the thread
//! that filled it last; whoever finds another name than its own at the next piece or at the end has read another's bytes
//! and walks again without a window. Only a thread itself writes its name, and it checks before each time: no
//! interference goes unseen.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_user},
    macros::map,
    maps::PerCpuArray,
};

use crate::target::read_frame;

/// Bytes of one piece: four to five frames.
const PIECE_BYTES: u32 = 512;
const PIECE_WORDS: usize = PIECE_BYTES as usize / 8;
/// The last place in a piece where a frame's two words fit.
const LAST_START: u64 = PIECE_BYTES as u64 - 16;

#[repr(C)]
struct Scratch {
    /// Process and thread id of the program that filled it last.
    owner: u64,
    /// One word more than is read, so that a masked index and its successor need no check.
    words: [u64; PIECE_WORDS + 1],
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// The piece of the stack that was read last.
pub(crate) struct Window {
    scratch: *mut Scratch,
    thread: u64,
    /// Address of the first word in it.
    base: u64,
    /// Bytes behind `base` at which a frame may begin.
    last_start: u64,
    /// Whether a piece was read.
    is_filled: bool,
    /// Whether the memory behind the stack cannot be read, so that no whole piece can.
    is_at_end: bool,
    is_disturbed: bool,
}

impl Window {
    #[inline(always)]
    pub(crate) fn open() -> Option<Self> {
        Some(Self {
            scratch: SCRATCH.get_ptr_mut(0)?,
            thread: bpf_get_current_pid_tgid(),
            base: 0,
            last_start: 0,
            is_filled: false,
            is_at_end: false,
            is_disturbed: false,
        })
    }

    /// The two words at an address, which is a multiple of 8. None: they cannot be read.
    #[inline(always)]
    pub(crate) fn read(&mut self, address: u64) -> Option<[u64; 2]> {
        if self.is_at_end {
            return read_frame(address);
        }
        let mut offset = address.wrapping_sub(self.base);
        if !self.is_filled || offset > self.last_start {
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
        self.is_disturbed = !self.is_ours();
        // SAFETY: the scratch memory lives as long as the program and has room for a piece; the helper checks the address.
        let error = unsafe {
            (&raw mut (*self.scratch).owner).write_volatile(self.thread);
            bpf_probe_read_user((&raw mut (*self.scratch).words).cast(), PIECE_BYTES, address as *const _)
        };
        self.base = address;
        self.last_start = LAST_START;
        self.is_filled = true;
        error == 0
    }

    /// Whether every word that was read is the thread's own.
    #[inline(always)]
    pub(crate) fn is_ours(&self) -> bool {
        // SAFETY: as above. Volatile: another program may have written since.
        let owner = || unsafe { (&raw const (*self.scratch).owner).read_volatile() };
        !self.is_disturbed && (!self.is_filled || owner() == self.thread)
    }
}
