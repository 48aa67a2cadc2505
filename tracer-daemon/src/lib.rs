//! leakline: which line of a running Go program leaks, how fast, and when does memory run out?
//!
//! The modules are the stages of the flow in their order; a stage imports only stages before it (and `addr`).
//! `ARCHITECTURE.md` draws the map.

pub mod addr;

pub mod inspect;
pub mod model;
pub mod symbolize;
