//! What the governor is told once: the user's limits, and what a hit costs on this kernel.

use super::super::{Mechanism, TrapCosts};

/// Limits of one host. Shares are of one core, or of the target's own CPU time where that is less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Share of a target's CPU time that it may pay, and share of one core.
    pub max_overhead: f64,
    /// Share of one core that all targets together may pay, with what we pay for the bursts ourselves.
    pub node_overhead: f64,
    /// Share of one core that leakline itself may take before evidence is shed.
    pub own_overhead: f64,
    /// Bursts that begin within a second on this host, at most.
    pub bursts_per_s: f64,
    /// Part of the bursts that probe only where a thread takes new slots (`nextFree`).
    pub slots_share: f64,
    /// The shortest window, ns. Below it the time for switching on and off outweighs what is seen.
    pub window_min_ns: u64,
    /// The longest window where hits are plenty, ns: many short bursts say more than few long ones.
    pub window_max_ns: u64,
    /// The longest window of all, ns: where allocations are few.
    pub long_window_ns: u64,
    /// Time after a burst in which a target that cannot pay for bursts has none, ns.
    pub floor_gap_ns: u64,
    /// What a burst costs ourselves, ns of CPU; counts for the host, not for the target.
    pub own_burst_ns: f64,
    /// How long a target is new since it was added, ns.
    pub new_ns: u64,
    /// Share of one core that the bursts of all targets that are not new may take of ourselves.
    pub settled_overhead: f64,
}

impl Config {
    /// The defaults with another share per target. The host's share is 3 % of a core, or twice that of a target if that is more, so that
    /// one target can use what the user has allowed it. Our own grow with it.
    pub fn for_overhead(max_overhead: f64) -> Self {
        let max_overhead = if max_overhead.is_finite() { max_overhead.clamp(0.0, 1.0) } else { 0.0 };
        let defaults = Self::default();
        Self {
            max_overhead,
            node_overhead: defaults.node_overhead.max(2.0 * max_overhead),
            own_overhead: defaults.own_overhead.max(max_overhead),
            settled_overhead: defaults.settled_overhead.max(0.25 * max_overhead),
            ..defaults
        }
    }
}

/// Share of one core that leakline itself may take. Without optimisation it takes three times as much for the same.
const OWN_OVERHEAD: f64 = if cfg!(debug_assertions) { 0.15 } else { 0.05 };

impl Default for Config {
    fn default() -> Self {
        Self {
            max_overhead: 0.01,
            node_overhead: 0.03,
            own_overhead: OWN_OVERHEAD,
            bursts_per_s: 20.0,
            slots_share: 0.2,
            window_min_ns: 2_000_000,
            window_max_ns: 20_000_000,
            long_window_ns: 500_000_000,
            floor_gap_ns: 60_000_000_000,
            // `cargo xtask bench links`.
            own_burst_ns: 4_000_000.0,
            new_ns: 180_000_000_000,
            settled_overhead: 0.007,
        }
    }
}

/// What things cost a target, ns of its CPU time. The traps are those of the instructions that its plan found, as measured on this kernel.
///
/// The defaults were measured on Linux 6.18 in a virtual machine: a trap on `push` or a jump that the kernel emulates 570 ns, prediction,
/// record and one frame of a walk 370, 120 and 20 to 34. By the kernel's own statistics (`kernel.bpf_stats_enabled`) the program of a window takes about 120 where it only counts, and that of a collection,
/// which wakes somebody up, 14,000 to 20,000.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// A hit at a birth point, before any program runs.
    pub birth_trap_ns: f64,
    /// A hit at `nextFree`.
    pub slot_trap_ns: f64,
    /// The program where the hit is only counted.
    pub count_ns: f64,
    /// What a birth takes more than a count, without its frames.
    pub birth_ns: f64,
    /// One frame of a birth's stack.
    pub frame_ns: f64,
    /// A hit at the collector's cycle probe, its record included: the first guess of what hits teach.
    pub cycle_ns: f64,
    /// A hit at the creation or the exit of a goroutine, its record included.
    pub goroutine_ns: f64,
    /// Putting a breakpoint at one point and taking it away.
    pub point_ns: f64,
    /// Time before a window, while probes are being put in place, and behind it, while they are being taken away, in which hits cost and do not count: the first
    /// guess of what windows teach.
    pub tail_ns: f64,
    /// What a window costs beside that for each core that the target uses: the processes that open and close it run on the same processors.
    pub beside_ns: f64,
}

impl Costs {
    /// As guessed before anything was measured on this host.
    pub fn of(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::UprobeMulti => Self::default(),
            // Of one busy point, which is gone first: as long as the process that holds it takes to exit on a busy host.
            Mechanism::PerfEvents => Self { tail_ns: 30_000_000.0, ..Self::default() },
        }
    }

    /// With traps as they were measured here.
    #[must_use]
    pub fn with_traps(self, traps: &TrapCosts) -> Self {
        let birth_trap_ns = traps.push.ns;
        Self {
            birth_trap_ns,
            slot_trap_ns: traps.jump.ns,
            cycle_ns: birth_trap_ns + WAKE_NS,
            goroutine_ns: birth_trap_ns + RECORD_NS,
            ..self
        }
    }
}

/// What a hit at a goroutine's creation or exit costs beyond the trap, its record included, ns: 950 in all were measured where a trap is 570.
const RECORD_NS: f64 = 380.0;
/// The same at the end of a collection, where somebody is woken up: 15,000 in the virtual machine, where each interrupt of another processor is dear.
const WAKE_NS: f64 = 5_000.0;

impl Default for Costs {
    fn default() -> Self {
        Self {
            birth_trap_ns: 570.0,
            slot_trap_ns: 570.0,
            count_ns: 120.0,
            birth_ns: 600.0,
            frame_ns: 20.0,
            cycle_ns: 570.0 + WAKE_NS,
            goroutine_ns: 570.0 + RECORD_NS,
            point_ns: 5_000.0,
            // Windows of 0.2 ms by one link cost as much as 0.64 ms.
            tail_ns: 750_000.0,
            // What short windows cost more than long ones suggest: 1.5 ms with 1.15 cores in use, 3.5 ms with 1.85. About half of it, since windows far from each other had none.
            beside_ns: 750_000.0,
        }
    }
}
