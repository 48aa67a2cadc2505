//! The wire contract: every type and number that the kernel programs and the daemon share.
//!
//! Owns the layout of ring records, map keys and values, and the Go allocator's rounding rule. Refuses everything that
//! needs an allocator, an operating system, or a Go version: those are the daemon's. All types are `repr(C)` without
//! implicit padding; the assertions at the end of each file hold both sides to it.
#![no_std]

pub mod bursts;
pub mod exact;
pub mod goroutines;
pub mod loss;
pub mod size_class;
