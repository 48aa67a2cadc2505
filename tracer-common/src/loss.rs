//! Why the kernel side could not keep something: numbered reasons, one per-CPU counter each.
//!
//! Counterpart: `tracer-ebpf/src/counters.rs` counts, `tracer-daemon/src/collect/` reads. An id is never reused.

/// A reason for which an event was not kept by the kernel programs. The number is the index of its counter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// The ring had no room for a new stack: its hits went to `other`, totals are right.
    RingFull = 0,
    /// The map of allocation stacks was full: hits on further stacks went to `other`, totals are right.
    AllocationStacksFull = 1,
    /// The map of goroutine creation stacks was full: further creations went to `other`, totals are right.
    GoroutineStacksFull = 2,
    /// The map of live goroutines was full: exits of those not in it are attributed by their creating line only.
    LiveGoroutinesFull = 3,
    /// The map of exits by creating line was full: the exit is only in the total.
    ExitPlacesFull = 4,
    /// A field of a `runtime.g` could not be read at a goroutine probe: the event is only in the total.
    GoroutineUnreadable = 5,
    /// Counts of milliseconds were not looked at in time: it is not known in which one these objects were allocated. The kernel
    /// programs cannot know; `collect` counts them.
    MillisecondsUnread = 6,
}

impl Loss {
    /// Number of reasons, and of counters.
    pub const COUNT: u32 = 7;

    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::RingFull,
        Self::AllocationStacksFull,
        Self::GoroutineStacksFull,
        Self::LiveGoroutinesFull,
        Self::ExitPlacesFull,
        Self::GoroutineUnreadable,
        Self::MillisecondsUnread,
    ];

    /// The stable identifier used in JSON and as the metric label `reason`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::AllocationStacksFull => "allocation_stacks_full",
            Self::GoroutineStacksFull => "goroutine_stacks_full",
            Self::LiveGoroutinesFull => "live_goroutines_full",
            Self::ExitPlacesFull => "exit_places_full",
            Self::GoroutineUnreadable => "goroutine_unreadable",
            Self::MillisecondsUnread => "milliseconds_unread",
        }
    }

    /// One sentence for the operator.
    pub const fn text(self) -> &'static str {
        match self {
            Self::RingFull => {
                "the ring was full when a new stack appeared; its hits are counted in `other`, totals are right"
            }
            Self::AllocationStacksFull => {
                "more distinct allocation stacks than the map holds; the rest is counted in `other`, totals are right"
            }
            Self::GoroutineStacksFull => {
                "more distinct goroutine creation stacks than the map holds; the rest is counted in `other`"
            }
            Self::LiveGoroutinesFull => {
                "more live goroutines than the map holds; the exit of one not in it is attributed by its creating line only"
            }
            Self::ExitPlacesFull => {
                "more goroutine creating lines than the map holds; some exits are only in the total"
            }
            Self::GoroutineUnreadable => "a goroutine descriptor could not be read; the event is only in the total",
            Self::MillisecondsUnread => {
                "leakline stood still for too long to know in which millisecond an object was allocated; all other counts are right"
            }
        }
    }
}

const _: () = {
    let mut index = 0;
    while index < Loss::ALL.len() {
        assert!(Loss::ALL[index] as usize == index);
        index += 1;
    }
};
