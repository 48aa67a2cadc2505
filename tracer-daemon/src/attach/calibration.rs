//! What does one hit of a probe cost on this machine? Measured on ourselves: calls with and without a probe, in CPU time of
//! the thread, amid some work (`docs/decisions/0023-a-hit-costs-what-it-costs-amid-work.md`).
//!
//! It is the price of the trap, of a program that adds to a counter, and of what comes slower behind it; what a program does beyond that comes on top.

use std::{
    collections::{BTreeMap, VecDeque},
    hint::black_box,
};

use super::{
    AttachError, LinkPoint, Mechanism,
    own_code::{InstructionKind, OwnProbes, own_file, point_of, thread_cpu_ns},
};
use crate::units::approximate;

/// Calls of a function in one measurement: with a microsecond for a hit and half of one for the work 1.5 ms.
const CALLS: u64 = 1_000;
/// Measurements at each kind of instruction; the median counts.
const REPEATS: usize = 7;
/// The same where others have been before.
const REPEATS_AGAIN: usize = 3;
/// So many of the last calibrations are remembered; their median counts.
const REMEMBERED: usize = 5;

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
    fn measure(mechanism: Mechanism, repeats: usize) -> Result<Self, AttachError> {
        let exe = own_file()?;
        let mut points: Vec<(InstructionKind, LinkPoint)> = Vec::new();
        for kind in InstructionKind::ALL {
            let point = point_of(kind, &exe).map_err(|source| AttachError::OwnCode { source })?;
            points.extend(point.map(|point| (kind, point)));
        }
        let all: Vec<LinkPoint> = points.iter().map(|(_, point)| *point).collect();
        let mut probes = OwnProbes::attach(&exe, &all, mechanism)?;
        let costs: Vec<(InstructionKind, f64)> =
            points.iter().map(|(kind, _)| (*kind, per_hit(*kind, repeats).max(0.0))).collect();
        let expected = CALLS * (repeats * points.len()) as u64;
        let hits = probes.hits()?;
        if hits != expected {
            return Err(AttachError::Uncalibrated { hits, expected });
        }
        let measured = |kind| costs.iter().find(|(of, _)| *of == kind).map(|(_, ns)| *ns);
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

/// What a hit costs, measured more than once: on a shared machine one and the same hit costs half as much again in one second as in another.
#[derive(Debug)]
pub struct Calibration {
    mechanism: Mechanism,
    /// The last ones, oldest first. Never empty.
    last: VecDeque<TrapCosts>,
}

impl Calibration {
    /// Measures for the first time, in about a tenth of a second of CPU time; by perf events it also waits some hundred ms.
    ///
    /// # Errors
    /// Where probes cannot be attached in this way, or our own code has nothing that can be probed.
    pub fn begin(mechanism: Mechanism) -> Result<Self, AttachError> {
        Ok(Self { mechanism, last: VecDeque::from([TrapCosts::measure(mechanism, REPEATS)?]) })
    }

    /// Measures once more, in about 80 ms of CPU time.
    ///
    /// # Errors
    /// As [`Self::begin`]. What was measured before stays.
    pub fn again(&mut self) -> Result<(), AttachError> {
        self.remember(TrapCosts::measure(self.mechanism, REPEATS_AGAIN)?);
        Ok(())
    }

    fn remember(&mut self, costs: TrapCosts) {
        while self.last.len() >= REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(costs);
    }

    /// The median of those that are remembered, by kind.
    pub fn costs(&self) -> TrapCosts {
        let of = |cost: fn(&TrapCosts) -> TrapCost| TrapCost {
            ns: median(self.last.iter().map(|costs| cost(costs).ns).collect()),
            is_measured: self.last.iter().all(|costs| cost(costs).is_measured),
        };
        TrapCosts { push: of(|costs| costs.push), call: of(|costs| costs.call), jump: of(|costs| costs.jump) }
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

/// What a call costs more that hits a probe, ns: the median of some measurements. With and without take turns, since a shared machine becomes faster and slower.
fn per_hit(kind: InstructionKind, repeats: usize) -> f64 {
    let mut work = Work::default();
    let mut cpu_ns = |call: fn(u64) -> u64| {
        let before = thread_cpu_ns();
        for number in 0..CALLS {
            work.some(number);
            black_box(call(black_box(number)));
        }
        approximate(thread_cpu_ns().saturating_sub(before))
    };
    let mut difference = || (cpu_ns(kind.function()) - cpu_ns(nothing)) / approximate(CALLS);
    median((0..repeats).map(|_repeat| difference()).collect())
}

/// What is called where no probe is.
#[inline(never)]
fn nothing(number: u64) -> u64 {
    black_box(number)
}

/// The middle one; of none 0.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
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

    #[test]
    fn a_second_in_which_the_machine_was_slow_is_outvoted_and_forgotten() {
        let costs = |ns: f64| TrapCosts::of([Some(ns), Some(ns), Some(ns / 2.0)]).unwrap();
        let mut calibration = Calibration { mechanism: Mechanism::UprobeMulti, last: VecDeque::from([costs(2_000.0)]) };
        let pushes: Vec<f64> = [900.0, 1_000.0, 1_000.0, 800.0, 950.0, 960.0]
            .map(|ns| {
                calibration.remember(costs(ns));
                calibration.costs().push.ns
            })
            .into();
        // Of two the higher one.
        assert_eq!(pushes, [2_000.0, 1_000.0, 1_000.0, 1_000.0, 950.0, 960.0]);
        assert_eq!(calibration.costs().jump, TrapCost { ns: 480.0, is_measured: true });
    }
}
