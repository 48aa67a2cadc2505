//! How much the kernel side may hold for one target.

use tracer_common::bursts::BirthRecord;

/// Capacities of the maps of one attachment. What does not fit is counted, and totals stay right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the ring that carries new stacks; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Distinct allocation stacks.
    pub allocation_stacks: u32,
    /// Distinct goroutine creation stacks.
    pub goroutine_stacks: u32,
    /// Goroutines that were created while attached and have not ended.
    pub live_goroutines: u32,
    /// Creating lines of goroutines that were there before us.
    pub exit_places: u32,
    /// Bytes of the ring that carries the births of windows; as [`Self::ring_bytes`]. The default has room for some thousand, as many as
    /// one window can have.
    pub birth_ring_bytes: u32,
    /// Births that one window is to have at most, so that they find room whenever the ring was emptied last.
    pub births_max: u64,
    /// Bytes of the ring that carries new stacks of goroutines, where hooks stay on these; as [`Self::ring_bytes`].
    pub goroutine_ring_bytes: u32,
}

/// Counts are kept per CPU: on large machines fewer stacks fit into the same memory.
const ALLOCATION_BYTES_CAP: usize = 32 << 20;
/// Kernel memory of one entry beside its per-CPU values: hash node, key, pointer.
const ENTRY_BYTES: usize = 64;
/// What the kernel puts in front of a record of a ring.
const RING_HEADER_BYTES: usize = 8;
/// One per-CPU value.
const VALUE_BYTES: usize = 16;

impl Limits {
    /// The default for a machine with this many CPUs: in the kernel at most 32 MiB for allocation stacks and about 10 MiB
    /// for the rest; in the daemon a named stack takes up to 3 KiB.
    pub fn for_cpus(cpus: usize) -> Self {
        let entry_bytes = ENTRY_BYTES + VALUE_BYTES * cpus.max(1);
        let stacks = (ALLOCATION_BYTES_CAP / entry_bytes).clamp(1_024, 16_384);
        Self {
            ring_bytes: 4 << 20,
            allocation_stacks: u32::try_from(stacks).unwrap_or(1_024),
            goroutine_stacks: 4_096,
            live_goroutines: 65_536,
            exit_places: 4_096,
            birth_ring_bytes: 2 << 20,
            births_max: births_in(2 << 20),
            goroutine_ring_bytes: 256 << 10,
        }
    }

    /// The default where one of many processes is watched: rings of half a megabyte.
    pub fn of_many() -> Self {
        let birth_ring_bytes = 512 << 10;
        let births_max = births_in(birth_ring_bytes);
        Self { birth_ring_bytes, births_max, goroutine_ring_bytes: 64 << 10, ..Self::default() }
    }

    /// Name and capacity of every map that has a limit.
    pub(super) fn capacities(self) -> [(&'static str, u32); 5] {
        [
            ("STACKS", self.ring_bytes),
            ("ALLOCATIONS", self.allocation_stacks),
            ("GOROUTINES", self.goroutine_stacks),
            ("LIVE_GOROUTINES", self.live_goroutines),
            ("EXIT_PLACES", self.exit_places),
        ]
    }
}

/// Births that find room in so many bytes, with those of another window that were not read yet.
fn births_in(ring_bytes: u32) -> u64 {
    let record_bytes = u64::try_from(size_of::<BirthRecord>() + RING_HEADER_BYTES).unwrap_or(u64::MAX);
    u64::from(ring_bytes) / record_bytes / 2
}

impl Default for Limits {
    fn default() -> Self {
        Self::for_cpus(aya::util::nr_cpus().unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::{ALLOCATION_BYTES_CAP, Limits};

    #[test]
    fn a_small_ring_has_room_for_what_a_window_is_to_have() {
        let many = Limits::of_many();
        assert!(many.births_max >= 400 && many.births_max * 616 < u64::from(many.birth_ring_bytes));
        assert!(Limits::default().births_max > 1_500);
    }

    #[test]
    fn memory_stays_below_its_cap_on_every_machine() {
        for cpus in [1, 2, 8, 64, 256, 1024] {
            let stacks = Limits::for_cpus(cpus).allocation_stacks as usize;
            assert!(stacks >= 1_024);
            assert!(stacks * (64 + 16 * cpus) <= ALLOCATION_BYTES_CAP, "{cpus} CPUs");
        }
    }
}
