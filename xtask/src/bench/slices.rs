//! What windows add to the CPU time of a target, found where they are: in slices of 25 ms.
//!
//! Pairs of long windows with and without leakline (`pairs.rs`) see all that it does to a target, but on a shared machine each pair is off by some percent, and the
//! one percent that is looked for is lost in it. Nearly all of what leakline adds it adds in windows of milliseconds, one to three in a second, whose
//! times it tells: there a slice costs some ten percent more than those around it, which have none. What the slices with windows cost beyond those around them, over
//! what all slices cost, is the share that windows add. What hooks that stay cost is in all slices alike, and not in it.
//!
//! Pure.

use super::{stats::Estimate, target::Report};

/// Slices to each side that an allocation's usual cost is taken from.
const AROUND: usize = 40;
/// Of fewer than so many the usual cost is not taken.
const AROUND_MIN: usize = 10;
/// Slices behind a window that are counted to it: what it has put off is done there.
const BEHIND: usize = 1;

/// A time, by the kernel's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) begin_ns: u64,
    pub(crate) end_ns: u64,
}

/// What windows added to some stretch of a target's time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Added {
    /// What was added by each window, or by those next to each other, ns of CPU time; below 0 where chance had it.
    windows_ns: Vec<f64>,
    /// CPU time of the whole stretch, ns.
    cpu_ns: f64,
}

impl Added {
    /// From reports next to each other, and the windows of that time, from when they were ordered until they were gone. Windows so close that hardly a slice around them has
    /// none are left out.
    pub(crate) fn of(reports: &[Report], windows: &[Span]) -> Self {
        let slices: Vec<Slice> = reports.windows(2).map(|two| Slice::between(&two[0], &two[1])).collect();
        let is_open = |slice: &Slice| windows.iter().any(|window| slice.overlaps(window));
        let mut has_window: Vec<bool> = slices.iter().map(is_open).collect();
        for at in (0..has_window.len()).rev().filter(|&at| at >= BEHIND) {
            has_window[at] |= has_window[at - BEHIND];
        }
        let cpu_ns = slices.iter().map(|slice| slice.cpu_ns).sum();
        let mut windows_ns = Vec::new();
        let mut begin = 0;
        for run in has_window.chunk_by(|one, next| one == next) {
            let end = begin + run.len();
            if run[0]
                && let Some(usual_ns) = usual_ns(&slices, &has_window, begin, end)
            {
                let spent: f64 =
                    slices[begin..end].iter().map(|slice| slice.cpu_ns - usual_ns * slice.allocations).sum();
                windows_ns.push(spent);
            }
            begin = end;
        }
        Self { windows_ns, cpu_ns }
    }

    /// The share that windows add to the CPU time without them, over all of these stretches. None where there were no windows.
    pub(crate) fn share<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Estimate> {
        let (mut windows_ns, mut cpu_ns) = (Vec::new(), 0.0);
        for part in parts {
            windows_ns.extend_from_slice(&part.windows_ns);
            cpu_ns += part.cpu_ns;
        }
        Estimate::of_added(&windows_ns, cpu_ns)
    }
}

/// Times that are none of any window, for a target that nobody watches: what is found there is noise.
pub(crate) fn pretended_windows(reports: &[Report]) -> Vec<Span> {
    const EVERY: usize = 20;
    const LENGTH_NS: u64 = 30_000_000;
    let spans = reports.iter().skip(EVERY / 2).step_by(EVERY);
    spans.map(|report| Span { begin_ns: report.ns, end_ns: report.ns + LENGTH_NS }).collect()
}

/// CPU time of an allocation in the slices around some, ns. None where too few are without a window.
fn usual_ns(slices: &[Slice], has_window: &[bool], begin: usize, end: usize) -> Option<f64> {
    let around = begin.saturating_sub(AROUND)..slices.len().min(end + AROUND);
    let without: Vec<&Slice> = around.filter(|&at| !has_window[at]).map(|at| &slices[at]).collect();
    let allocations: f64 = without.iter().map(|slice| slice.allocations).sum();
    let cpu_ns: f64 = without.iter().map(|slice| slice.cpu_ns).sum();
    (without.len() >= AROUND_MIN && allocations > 0.0).then(|| cpu_ns / allocations)
}

/// What happened between two reports.
struct Slice {
    span: Span,
    cpu_ns: f64,
    allocations: f64,
}

impl Slice {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn between(one: &Report, next: &Report) -> Self {
        Self {
            span: Span { begin_ns: one.ns, end_ns: next.ns },
            cpu_ns: next.cpu_ns.saturating_sub(one.cpu_ns) as f64,
            allocations: next.allocations.saturating_sub(one.allocations) as f64,
        }
    }

    fn overlaps(&self, window: &Span) -> bool {
        self.span.begin_ns < window.end_ns && window.begin_ns < self.span.end_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE_NS: u64 = 25_000_000;

    /// Slices of 1,000 allocations, of these costs each, ns.
    fn reports(costs_ns: &[u64]) -> Vec<Report> {
        let mut all = vec![Report { ns: 7 * SLICE_NS, allocations: 0, cpu_ns: 0 }];
        for cost_ns in costs_ns {
            let last = all[all.len() - 1];
            all.push(Report {
                ns: last.ns + SLICE_NS,
                allocations: last.allocations + 1_000,
                cpu_ns: last.cpu_ns + 1_000 * cost_ns,
            });
        }
        all
    }

    fn window_in(slice: u64) -> Span {
        let begin_ns = (7 + slice) * SLICE_NS + 1_000_000;
        Span { begin_ns, end_ns: begin_ns + 5_000_000 }
    }

    #[test]
    fn what_a_window_adds_is_what_its_slice_costs_beyond_those_around_it() {
        let mut costs = vec![100; 200];
        let windows: Vec<Span> = (20..180).step_by(20).map(window_in).collect();
        for at in (20..180).step_by(20) {
            costs[at] = 150;
        }
        let added = Added::of(&reports(&costs), &windows);
        assert_eq!(added.windows_ns, vec![50_000.0; 8]);
        let share = Added::share([&added]).unwrap();
        assert!((share.median - 8.0 * 50.0 / 20_000.0).abs() < 1e-9, "{share:?}");
        assert_eq!(share.values, 8);
    }

    #[test]
    fn a_machine_that_becomes_slower_is_no_window() {
        let costs: Vec<u64> = (0..400).map(|at| 100 + at / 4).collect();
        let windows: Vec<Span> = (50..350).step_by(20).map(window_in).collect();
        let share = Added::share([&Added::of(&reports(&costs), &windows)]).unwrap();
        assert!(share.median.abs() < 1e-3, "{share:?}");
    }

    #[test]
    fn windows_next_to_each_other_are_one_and_so_is_what_comes_behind() {
        let mut costs = vec![100; 100];
        costs[50] = 120;
        costs[51] = 130;
        costs[52] = 110;
        let added = Added::of(&reports(&costs), &[window_in(50), window_in(51)]);
        assert_eq!(added.windows_ns, vec![60_000.0]);
        // At the end there is nothing behind.
        assert_eq!(Added::of(&reports(&costs), &[window_in(99)]).windows_ns.len(), 1);
    }

    #[test]
    fn without_windows_or_without_slices_around_nothing_is_said() {
        let costs = vec![100; 100];
        assert_eq!(Added::share([&Added::of(&reports(&costs), &[])]), None);
        let all = Span { begin_ns: 0, end_ns: u64::MAX };
        assert_eq!(Added::share([&Added::of(&reports(&costs), &[all])]), None);
        assert_eq!(Added::of(&[], &[all]), Added::default());
    }

    #[test]
    fn of_a_target_that_nobody_watches_nothing_is_found() {
        let reports = reports(&[100; 400]);
        let windows = pretended_windows(&reports);
        assert!(windows.len() > 15);
        let share = Added::share([&Added::of(&reports, &windows)]).unwrap();
        assert!(share.median.abs() < 1e-12 && share.values == windows.len());
    }
}
