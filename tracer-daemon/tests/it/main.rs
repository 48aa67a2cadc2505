//! The integration tests: one binary, a file per topic.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test; clippy knows that of test functions, not of what they call"
)]

mod alerts;
mod bad_input;
mod births;
mod books;
mod bounds;
mod bursts;
mod check;
mod disguised;
mod exact;
mod fuzz;
#[allow(dead_code, unreachable_pub, reason = "a library of its own where libFuzzer runs it")]
#[path = "../../../fuzz/src/lib.rs"]
mod fuzz_targets;
mod go;
mod goroutine_hooks;
mod goroutines;
mod inspect;
mod inventory;
mod layouts;
mod leak_profile;
mod leakline;
mod links;
mod marks;
mod matrix;
mod memory;
mod places;
mod points;
mod profile;
mod reading;
mod real;
mod record;
mod run;
mod safety;
mod schema;
mod series;
mod site_identity;
mod symbolize;
mod target;
