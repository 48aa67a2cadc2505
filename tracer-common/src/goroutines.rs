//! `goroutine-hooks` evidence: what its points are. What it counts is as in `exact`.
//!
//! Counterparts: `tracer-ebpf/src/goroutines.rs` writes, `tracer-daemon/src/collect/hooks.rs` reads.

/// What a point of the hooks is: the cookie with which the kernel calls our program there.
#[repr(u64)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GoroutinePoint {
    /// A goroutine was made and is handed to the scheduler: BX is its `runtime.g`.
    Created = 1,
    /// The same, where it was returned: AX is its `runtime.g`.
    Returned = 2,
    /// A goroutine or coroutine has ended: AX is its `runtime.g`.
    Exited = 3,
}
