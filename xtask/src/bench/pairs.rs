//! Pairs of windows with and without a tracer, which alternate in one process of the target: what two benches are made of.
//!
//! Each window with the tracer is compared to the two halves without it next to it, so slow drift of the machine cancels. No half
//! belongs to two pairs: an interval over pairs takes them for independent.

use std::ops::Add;

use anyhow::{Result, ensure};

use super::{
    account::Account,
    slices::{Added, pretended_windows},
    target::{Load, Target, TargetBinary},
    tracers::{Tools, Tracer},
};

/// Reports until the heap of a new target has found its size.
pub(crate) const WARM_REPORTS: u32 = 6;

/// How long things take, in reports of the target (250 ms each).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) pairs: u32,
    /// Reports that are thrown away of a new target.
    pub(crate) warm_reports: u32,
    /// Half of a window.
    pub(crate) half_reports: u32,
    /// Reports that are thrown away after a tracer has come.
    pub(crate) settle_reports: u32,
}

/// Reports that are thrown away after a tracer has gone.
const SETTLE_REPORTS: u32 = 2;

/// What the target did in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) cpu_ns: u64,
    pub(crate) wall_ns: u64,
    pub(crate) allocations: u64,
}

impl Window {
    /// CPU time per allocation.
    pub(crate) fn ns_per_allocation(&self) -> f64 {
        ratio(self.cpu_ns, self.allocations)
    }

    pub(crate) fn allocations_per_s(&self) -> f64 {
        ratio(self.allocations, self.wall_ns) * 1e9
    }

    pub(crate) fn seconds(&self) -> f64 {
        ratio(self.wall_ns, 1_000_000_000)
    }

    /// Cores in use.
    pub(crate) fn cores(&self) -> f64 {
        ratio(self.cpu_ns, self.wall_ns)
    }
}

impl Add for Window {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns + other.cpu_ns,
            wall_ns: self.wall_ns + other.wall_ns,
            allocations: self.allocations + other.allocations,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "both are far below 2^53")]
fn ratio(number: u64, of: u64) -> f64 {
    number as f64 / of as f64
}

/// One window with the tracer, and its two neighbours without.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) without: Window,
    pub(crate) with: Window,
    /// What the tracer itself says of the window with it; None where it says nothing.
    pub(crate) account: Option<Account>,
    /// What leakline's windows added in the window with it, slice by slice; where nothing is attached, what was found at times that are none of any window.
    pub(crate) added: Option<Added>,
}

impl Pair {
    /// CPU time per allocation with the tracer over that without.
    pub(crate) fn cost_ratio(&self) -> f64 {
        self.with.ns_per_allocation() / self.without.ns_per_allocation()
    }

    /// Allocations per second with the tracer over those without.
    pub(crate) fn throughput_ratio(&self) -> f64 {
        self.with.allocations_per_s() / self.without.allocations_per_s()
    }
}

/// Measures one row.
pub(crate) fn measure(
    tools: &Tools,
    binary: &TargetBinary,
    tracer: Tracer,
    load: &Load,
    pace: Pace,
) -> Result<Vec<Pair>> {
    // More than any row can take; a bound in case that we are killed.
    let seconds = 60 + pace.warm_reports + pace.pairs * (60 + pace.half_reports + pace.settle_reports / 4);
    let mut target = Target::start(binary, tracer.needs_moved_symbol(), load, seconds)?;
    skip(&mut target, pace.warm_reports)?;
    let mut pairs = Vec::new();
    for _ in 0..pace.pairs {
        let before = window(&mut target, pace.half_reports)?;
        let mut attached = tools.attach(tracer, binary, &mut target, seconds)?;
        skip(&mut target, pace.settle_reports)?;
        let begin = attached.account()?;
        target.take_slices();
        let with = window(&mut target, 2 * pace.half_reports)?;
        let slices = target.take_slices();
        let end = attached.account()?;
        attached.check(&target)?;
        let last = attached.detach(&mut target)?;
        let account = last.map(|last| Account::within(begin, end, last));
        skip(&mut target, SETTLE_REPORTS)?;
        let after = window(&mut target, pace.half_reports)?;
        let windows = match tracer {
            Tracer::Bursts { .. } => Some(tools.windows()?),
            Tracer::Nothing => Some(pretended_windows(&slices)),
            _ => None,
        };
        let added = windows.map(|windows| Added::of(&slices, &windows));
        pairs.push(Pair { without: before + after, with, account, added });
    }
    Ok(pairs)
}

fn skip(target: &mut Target, reports: u32) -> Result<()> {
    for _ in 0..reports {
        target.next_report()?;
    }
    Ok(())
}

/// What the target does over so many reports.
fn window(target: &mut Target, reports: u32) -> Result<Window> {
    let first = target.next_report()?;
    let mut last = first;
    for _ in 0..reports {
        last = target.next_report()?;
    }
    let window = Window {
        cpu_ns: last.cpu_ns.saturating_sub(first.cpu_ns),
        wall_ns: last.ns.saturating_sub(first.ns),
        allocations: last.allocations.saturating_sub(first.allocations),
    };
    ensure!(window.allocations > 0 && window.cpu_ns > 0, "the target made no allocation in a window");
    Ok(window)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pair of windows of a second and a million allocations.
    pub(in crate::bench) fn pair(without_ns: u64, with_ns: u64) -> Pair {
        let window = |ns| Window { cpu_ns: ns * 1_000_000, wall_ns: 1_000_000_000, allocations: 1_000_000 };
        Pair { without: window(without_ns), with: window(with_ns), account: None, added: None }
    }

    #[test]
    fn halves_of_a_window_weigh_as_much_as_they_saw() {
        let one = Window { cpu_ns: 300, wall_ns: 1_000, allocations: 3 };
        let other = Window { cpu_ns: 100, wall_ns: 1_000, allocations: 5 };
        assert!(((one + other).ns_per_allocation() - 50.0).abs() < 1e-9);
        assert!(((one + other).allocations_per_s() - 4e6).abs() < 1e-3);
        assert!(((one + other).cores() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn cost_and_throughput_are_ratios_to_the_windows_without() {
        let pair = pair(50, 60);
        assert!((pair.cost_ratio() - 1.2).abs() < 1e-9);
        assert!((pair.throughput_ratio() - 1.0).abs() < 1e-9);
    }
}
