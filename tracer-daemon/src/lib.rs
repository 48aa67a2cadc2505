//! leakline: which line of a running Go program leaks, how fast, and when does memory run out?
//!
//! The modules are the stages of the flow in their order; a stage imports only stages before it (and `addr`).
//! `ARCHITECTURE.md` draws the map.

pub mod addr;
pub mod units;

pub mod host;

pub mod discover;

pub mod inspect;

pub mod plan;

pub mod attach;

pub mod read;

pub mod collect;

pub mod symbolize;

pub mod model;

pub mod export;

pub mod recording;

pub mod cli;
pub mod pipeline;
