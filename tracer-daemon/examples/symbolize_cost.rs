//! What naming an address costs: `symbolize_cost BINARY`, run by `cargo xtask bench symbolize`.
//!
//! Takes addresses from all over the binary's Go code, always the same ones, and states thread CPU time: for addresses
//! that were never seen, for the same ones again, and how many the cache forgot.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench: its output is its purpose, and where a step fails there is no number"
)]

mod own_cost;

use std::env;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tracer_daemon::addr::{Avma, LoadBias};
use tracer_daemon::inspect::{BinaryFacts, inspect_file};
use tracer_daemon::symbolize::Symbolizer;
use tracer_daemon::units::approximate;

use self::own_cost::thread_cpu_ns;

/// Rounds per measurement; the median is stated.
const ROUNDS: usize = 21;
/// Program counters of one stack.
const DEPTH: usize = 16;
/// Stacks that come at once: as few as an idle program sends, and as many as a busy one at its start.
const BATCHES: [usize; 3] = [1, 20, 600];

fn main() {
    let path = env::args_os().nth(1).unwrap();
    let facts = Arc::new(inspect_file(File::open(&path).unwrap()).unwrap());
    let name = Path::new(&path).file_name().unwrap().display().to_string();
    println!("{name} of {}, {} functions", facts.go_version.text, facts.functions_table.len());
    println!("stacks at once, addresses | ns per new frame | ns per new address | ns per known address | forgotten");
    for stacks in BATCHES {
        let rounds: Vec<Round> = (0..ROUNDS).map(|round| measure(&facts, stacks, round as u64)).collect();
        let median = |number: fn(&Round) -> f64| {
            let mut numbers: Vec<f64> = rounds.iter().map(number).collect();
            numbers.sort_by(f64::total_cmp);
            numbers[ROUNDS / 2]
        };
        println!(
            "{stacks:4}, {:6} | {:6.0} | {:6.0} | {:6.0} | {:6.0}",
            stacks * DEPTH,
            median(|round| round.new_ns / round.frames),
            median(|round| round.new_ns / round.addresses),
            median(|round| round.known_ns / round.addresses),
            median(|round| round.forgotten),
        );
    }
}

struct Round {
    addresses: f64,
    frames: f64,
    new_ns: f64,
    known_ns: f64,
    forgotten: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn measure(facts: &Arc<BinaryFacts>, stacks: usize, seed: u64) -> Round {
    let stacks: Vec<Vec<Avma>> = addresses(facts, stacks * DEPTH, seed).chunks(DEPTH).map(<[Avma]>::to_vec).collect();
    let at_once: Vec<&[Avma]> = stacks.iter().map(|stack| &**stack).collect();
    let mut symbolizer = Symbolizer::new(Arc::clone(facts), LoadBias(0));
    let start = cpu_ns();
    let frames: usize = symbolizer.stacks(&at_once).iter().map(Vec::len).sum();
    let new_ns = cpu_ns() - start;
    // The cache holds at least this many of those asked for last.
    let last: Vec<&Vec<Avma>> = stacks.iter().rev().take(32).collect();
    let known: usize = last.iter().map(|stack| symbolizer.stack(stack).len()).sum();
    let repeats = 100;
    let start = cpu_ns();
    for _ in 0..repeats {
        assert_eq!(last.iter().map(|stack| symbolizer.stack(stack).len()).sum::<usize>(), known);
    }
    let known_ns = (cpu_ns() - start) / f64::from(repeats) * (stacks.len() as f64 / last.len() as f64);
    let counts = symbolizer.counts();
    assert_eq!((counts.unreadable, counts.outside), (0, 0));
    let addresses = (stacks.len() * DEPTH) as f64;
    Round { addresses, frames: frames as f64, new_ns, known_ns, forgotten: counts.forgotten as f64 }
}

/// Addresses inside of functions that are chosen evenly.
fn addresses(facts: &BinaryFacts, count: usize, seed: u64) -> Vec<Avma> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut below = |bound: u64| {
        // Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    };
    let table = &facts.functions_table;
    let mut address = |_| {
        loop {
            let function = table.function(below(table.len())).unwrap().unwrap();
            let size_bytes = function.end.0 - function.start.0;
            if size_bytes > 1 {
                return Avma(function.start.0 + 1 + below(size_bytes - 1));
            }
        }
    };
    (0..count).map(&mut address).collect()
}

fn cpu_ns() -> f64 {
    approximate(thread_cpu_ns())
}
