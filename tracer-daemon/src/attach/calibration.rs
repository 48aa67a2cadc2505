//! What does one hit of a probe cost on this machine? Measured on ourselves: the same calls with and without a probe, in CPU time of
//! the thread, amid some work (`docs/decisions/0023-a-hit-costs-what-it-costs-amid-work.md`).
//!
//! It is the price of the trap, of a program that adds to a counter, and of what comes slower behind it; what a program does beyond that comes on top.

use std::{collections::BTreeMap, hint::black_box};

use super::{
    AttachError, LinkPoint, Mechanism,
    own_code::{InstructionKind, OwnProbes, own_file, point_of, thread_cpu_ns},
};
use crate::units::approximate;

/// Calls of a function in one measurement: with a microsecond for a hit and half of one for the work 1.5 ms.
const CALLS: u64 = 1_000;
/// Measurements of each function, with and without probes; the median counts.
const REPEATS: usize = 7;

/// What a hit costs at one kind of instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrapCost {
    /// CPU time of the probed program, ns.
    pub ns: f64,
    /// Whether it was measured. If not, it is the mean of those that were: our own code has no such instruction.
    pub is_measured: bool,
}

/// What a hit costs, by kind of instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrapCosts {
    /// At a `push` of a register.
    pub push: TrapCost,
    /// At a `call`.
    pub call: TrapCost,
    /// At a conditional jump.
    pub jump: TrapCost,
}

impl TrapCosts {
    /// Measures, in some tens of ms, by perf events some hundred, of which most is waiting.
    ///
    /// # Errors
    /// Where probes cannot be attached in this way, or our own code has nothing that can be probed.
    pub fn measure(mechanism: Mechanism) -> Result<Self, AttachError> {
        let exe = own_file()?;
        let mut points: Vec<(InstructionKind, LinkPoint)> = Vec::new();
        for kind in InstructionKind::ALL {
            let point = point_of(kind, &exe).map_err(|source| AttachError::OwnCode { source })?;
            points.extend(point.map(|point| (kind, point)));
        }
        let without: Vec<f64> = points.iter().map(|(kind, _)| per_call(*kind)).collect();
        let all: Vec<LinkPoint> = points.iter().map(|(_, point)| *point).collect();
        let mut probes = OwnProbes::attach(&exe, &all, mechanism)?;
        let with: Vec<f64> = points.iter().map(|(kind, _)| per_call(*kind)).collect();
        let expected = CALLS * (REPEATS * points.len()) as u64;
        let hits = probes.hits()?;
        if hits != expected {
            return Err(AttachError::Uncalibrated { hits, expected });
        }
        let measured = |kind| {
            let at = points.iter().position(|(of, _)| *of == kind)?;
            Some((with.get(at)? - without.get(at)?).max(0.0))
        };
        Self::of(InstructionKind::ALL.map(measured)).ok_or(AttachError::Uncalibrated { hits, expected })
    }

    /// Of what was measured, in the order of [`InstructionKind::ALL`]. None: nothing was.
    fn of(measured: [Option<f64>; 3]) -> Option<Self> {
        let known: Vec<f64> = measured.into_iter().flatten().collect();
        let mean = known.iter().sum::<f64>() / approximate(known.len() as u64);
        let cost = |ns: Option<f64>| TrapCost { ns: ns.unwrap_or(mean), is_measured: ns.is_some() };
        let [push, call, jump] = measured.map(cost);
        (!known.is_empty()).then_some(Self { push, call, jump })
    }

    /// By kind.
    pub const fn all(&self) -> [(InstructionKind, TrapCost); 3] {
        [(InstructionKind::Push, self.push), (InstructionKind::Call, self.call), (InstructionKind::Jump, self.jump)]
    }
}

/// What a program does between two allocations, some hundred nanoseconds of it. A hit in a loop of nothing else is too cheap: of a loop so short the processor has lost
/// nothing when the kernel is done.
#[derive(Default)]
struct Work {
    tree: BTreeMap<u64, u64>,
}

impl Work {
    /// 2^64 over the golden ratio: multiplied by it, numbers next to each other come to lie far apart.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

    fn some(&mut self, number: u64) {
        let spread = number.wrapping_mul(Self::SPREAD);
        let bytes = 64 + usize::try_from(spread % 960).unwrap_or(0);
        black_box(vec![0_u8; bytes]);
        black_box(format!("{spread} {:?}", approximate(number) / 3.0));
        // At most 4,096 entries.
        self.tree.insert(spread >> 52, number);
    }
}

/// CPU time of one call, ns: the median of some measurements.
fn per_call(kind: InstructionKind) -> f64 {
    let mut work = Work::default();
    let mut measured = [(); REPEATS].map(|()| {
        let before = thread_cpu_ns();
        kind.run(CALLS, |number| work.some(number));
        thread_cpu_ns().saturating_sub(before)
    });
    measured.sort_unstable();
    approximate(measured.get(REPEATS / 2).copied().unwrap_or(0)) / approximate(CALLS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_was_not_measured_costs_what_the_others_do() {
        let costs = TrapCosts::of([Some(500.0), None, Some(700.0)]).unwrap();
        assert_eq!(costs.push, TrapCost { ns: 500.0, is_measured: true });
        assert_eq!(costs.call, TrapCost { ns: 600.0, is_measured: false });
        assert_eq!(TrapCosts::of([None; 3]), None);
    }
}
