//! Laws of the governor on simulated hosts: the budget, the times, the caps.

mod budget;
mod decisions;
mod settled;
mod simulation;
mod times;

use super::*;
use simulation::{BEGIN_NS, Program, Run, SECOND_NS, id, ns, seconds, time_s};

/// Of programs of which there is always something to be learnt.
fn run(config: Config, programs: Vec<Program>, length_s: f64, seed: u64) -> Run {
    run_settling(Config { new_ns: u64::MAX, ..config }, programs, length_s, seed)
}

fn run_settling(config: Config, programs: Vec<Program>, length_s: f64, seed: u64) -> Run {
    let mut run = Run::new(config, programs, seed);
    run.run(length_s);
    run
}

/// A program that allocates at one rate for a part of each period, and at another for the rest.
fn phased(period_s: f64, part: f64, rates: (f64, f64), cores: (f64, f64)) -> Program {
    let is_first = move |at_s: f64| (at_s / period_s).fract() < part;
    Program {
        allocations_per_s: Box::new(move |at_s| if is_first(at_s) { rates.0 } else { rates.1 }),
        cores: Box::new(move |at_s| if is_first(at_s) { cores.0 } else { cores.1 }),
        ..Program::default()
    }
}

/// A program whose rate jumps at a time.
fn jumping(at_s: f64, rates: (f64, f64), cores: (f64, f64)) -> Program {
    Program {
        allocations_per_s: Box::new(move |now_s| if now_s < at_s { rates.0 } else { rates.1 }),
        cores: Box::new(move |now_s| if now_s < at_s { cores.0 } else { cores.1 }),
        ..Program::default()
    }
}
