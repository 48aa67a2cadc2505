//! `exact` evidence: what is counted per stack, and the record that introduces a stack.
//!
//! Counterparts: `tracer-ebpf/src/{allocations,goroutines,stacks}.rs` write, `tracer-daemon/src/collect/` reads.

/// Most frames kept of one stack, leaf first.
pub const MAX_FRAMES: usize = 64;

/// Nanoseconds of the steps of the finest series of allocations.
pub const MILLISECOND_NS: u64 = 1_000_000;

/// Milliseconds that the map of them tells apart; a power of two. What is allocated in millisecond `m` of the monotonic clock is added to
/// entry `m % MILLISECONDS`, and nothing is ever taken away: who looks at an entry at least once in so many milliseconds knows how much
/// each had. An entry takes 16 bytes on each CPU.
pub const MILLISECONDS: u32 = 2_048;

/// Two independent 64-bit hashes over the program counters of a stack: the key under which its hits are counted.
///
/// One hash would collide among a million stacks with probability 3e-8; that is small, but a collision accuses an
/// innocent line, so there are two.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackKey {
    /// First hash.
    pub first: u64,
    /// Second hash, of another family.
    pub second: u64,
}

impl StackKey {
    /// The hash of no frames at all.
    pub const EMPTY: Self = Self { first: 0xcbf2_9ce4_8422_2325, second: 0x9e37_79b9_7f4a_7c15 };

    /// The key after one more frame. Order matters.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::inline_always, reason = "the kernel programs may not call functions on old kernels")]
    pub const fn with_frame(self, program_counter: u64) -> Self {
        // First: FNV-1a over words, with a fold so that high bits reach low ones. Second: a multiply-rotate family.
        let first = (self.first ^ program_counter).wrapping_mul(0x0000_0100_0000_01b3);
        let first = first ^ (first >> 29);
        let second = self.second.rotate_left(23).wrapping_add(program_counter).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let second = second ^ (second >> 32);
        Self { first, second }
    }
}

/// What a stack in a [`StackRecord`] stands for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StackKind {
    /// A stack that allocates: frame 0 lies in the allocator, frame 1 is a return address into its caller.
    Allocation = 0,
    /// A stack that creates goroutines: frame 0 lies in `runtime.newproc.func1` or `runtime.newcoro.func1`.
    GoroutineCreation = 1,
}

/// Ring record: the frames of a stack, sent when the stack is first seen (rarely twice, when two CPUs race).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackRecord {
    /// The key under which hits on this stack are counted.
    pub key: StackKey,
    /// A [`StackKind`] as its number.
    pub kind: u32,
    /// How many of `frames` are filled.
    pub frame_count: u32,
    /// Program counters, leaf first: frame 0 is the probed instruction, the others are return addresses.
    pub frames: [u64; MAX_FRAMES],
}

/// Hits on one allocation stack, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocationCount {
    /// Objects allocated.
    pub objects: u64,
    /// Their bytes: size of the slot, or the requested size for tiny objects.
    pub bytes: u64,
}

/// Goroutines created at one creation stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoroutineCount {
    /// Creations seen.
    pub created: u64,
    /// Exits seen of those whose creation was seen.
    pub exited: u64,
}

/// Indices of the per-CPU totals, which are right whatever was lost.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// Objects allocated while counting was on.
    AllocatedObjects = 0,
    /// Bytes allocated while counting was on.
    AllocatedBytes = 1,
    /// Goroutines created while counting was on.
    GoroutinesCreated = 2,
    /// Goroutines ended while counting was on.
    GoroutinesExited = 3,
    /// Probe hits while attached, counted or not (deduplicated and size-0 calls included).
    ProbeHits = 4,
}

impl Total {
    /// Number of totals.
    pub const COUNT: u32 = 5;
}

/// What the programs need to know of a target; written once, before they are loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TargetConfig {
    /// First address of `runtime.mallocgc` in the process.
    pub mallocgc_start: u64,
    /// First address after `runtime.mallocgc` in the process.
    pub mallocgc_end: u64,
    /// Offset of `goid` in `runtime.g`, bytes.
    pub g_goid_offset: u64,
    /// Offset of `gopc` in `runtime.g`, bytes.
    pub g_gopc_offset: u64,
    /// Bytes of the malloc header before pointerful objects of over 512 bytes: 8 from Go 1.22, 0 before.
    pub malloc_header_bytes: u64,
    /// Bits of RFLAGS of which each says that a hit at a function's entry is no call yet, since the stack must grow first:
    /// CF and ZF where the probes sit on the stack check's own `jbe` (Go 1.19 and 1.20), none where they sit behind it.
    pub stack_check_flags: u64,
}

const _: () = {
    assert!(size_of::<StackKey>() == 16);
    assert!(size_of::<StackRecord>() == 16 + 8 + 8 * MAX_FRAMES);
    assert!(core::mem::offset_of!(StackRecord, frames) == 24);
    assert!(size_of::<AllocationCount>() == 16);
    assert!(size_of::<GoroutineCount>() == 16);
    assert!(size_of::<TargetConfig>() == 48);
    assert!(MILLISECONDS.is_power_of_two());
};

#[cfg(feature = "aya")]
mod pod {
    use super::{AllocationCount, GoroutineCount, StackKey, TargetConfig};

    // SAFETY: `repr(C)`, integers only, no padding (asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for StackKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for AllocationCount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for GoroutineCount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TargetConfig {}
}

#[cfg(test)]
mod tests {
    use super::StackKey;
    use proptest::prelude::*;

    fn key(frames: &[u64]) -> StackKey {
        frames.iter().fold(StackKey::EMPTY, |key, &frame| key.with_frame(frame))
    }

    #[test]
    fn order_of_frames_matters() {
        assert_ne!(key(&[1, 2]), key(&[2, 1]));
    }

    #[test]
    fn a_prefix_has_another_key() {
        assert_ne!(key(&[1, 2]).first, key(&[1, 2, 0]).first);
        assert_ne!(key(&[1, 2]).second, key(&[1, 2, 0]).second);
    }

    proptest! {
        /// Stacks that differ in one call site by a few bytes, as real ones do, must differ in both hashes.
        #[test]
        fn neighbouring_stacks_differ_in_both_hashes(
            frames in prop::collection::vec(0x40_0000u64..0x400_0000, 1..64),
            at in any::<prop::sample::Index>(),
            delta in 1u64..4096,
        ) {
            let mut other = frames.clone();
            let index = at.index(other.len());
            other[index] += delta;
            prop_assert_ne!(key(&frames).first, key(&other).first);
            prop_assert_ne!(key(&frames).second, key(&other).second);
        }
    }
}
