//! The numbers of one row, as they are printed and written down.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use super::plan::{Group, Row};
use crate::bench::{account::Account, pairs::Pair, slices::Added, stats::Estimate, tracers::Tracer};
use crate::results::Recorded;

/// Above the rows.
pub(super) const HEADING: &str = "\
tool                         | CPU per allocation            | of it in windows              | throughput                    | without it: ns, /s, cores  | by its own account, own CPU";

/// One row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// The commit on which it ran, with `+` where files differ from it.
    pub(crate) commit: String,
    pub(crate) group: Group,
    pub(crate) tool: String,
    /// leakline's budget, as a share of the target's CPU time and of a core. None: another tool.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) max_overhead: Option<f64>,
    /// Why it has no numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) skipped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) numbers: Option<Numbers>,
}

/// What was measured. Added shares are 0 where nothing changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// Seconds of the window with it, in each pair.
    pub(super) window_s: f64,
    /// CPU time of the target per allocation without it, ns.
    pub(super) without_ns: Estimate,
    /// Allocations per second without it.
    pub(super) allocations_per_s: f64,
    /// Cores that the target uses without it.
    pub(super) cores: f64,
    /// Share of CPU time per allocation that it adds.
    pub(super) cost: Estimate,
    /// Share of CPU time that its windows add, slice by slice. None: it has no windows, or none in this time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) in_windows: Option<Estimate>,
    /// Share of allocations per second that it adds: below 0 where it takes some.
    pub(super) throughput: Estimate,
    /// The added share of CPU time in each pair.
    pub(super) pairs: Vec<f64>,
    /// The share that its windows add in each pair that had any.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) pairs_in_windows: Vec<f64>,
    /// All windows together, as leakline says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) account: Option<Account>,
}

impl Cell {
    /// `outcome`: the numbers, or why there are none.
    pub(super) fn new(commit: &str, row: &Row, outcome: Result<Numbers, String>) -> Self {
        let (numbers, skipped) = match outcome {
            Ok(numbers) => (Some(numbers), None),
            Err(why) => (None, Some(why)),
        };
        let max_overhead = match row.tracer {
            Tracer::Bursts { per_mille } => Some(f64::from(per_mille) / 1000.0),
            _ => None,
        };
        let (commit, group) = (commit.to_owned(), row.group.clone());
        Self { commit, group, tool: row.tracer.name(), max_overhead, skipped, numbers }
    }

    /// The share of its own CPU time that the target may pay: a core's share at most, which is less of what two cores do. None: no budget, or no
    /// numbers.
    pub(super) fn allowed(&self) -> Option<f64> {
        Some(self.max_overhead? / self.numbers.as_ref()?.cores.max(1.0))
    }

    /// The share of the target's CPU time that it adds as it says itself. None: it does not say.
    pub(super) fn by_own_account(&self) -> Option<f64> {
        self.numbers.as_ref()?.account.as_ref()?.target_ratio
    }

    /// The share that it adds to the CPU time of an allocation, as people read it, and what of it windows add. None: no numbers.
    pub(crate) fn added(&self) -> Option<String> {
        let numbers = self.numbers.as_ref()?;
        let in_windows =
            numbers.in_windows.as_ref().map_or_else(String::new, |added| format!("; in windows {}", percent(added)));
        Some(percent(&numbers.cost) + &in_windows)
    }
}

impl Recorded for Cell {
    fn commit(&self) -> &str {
        &self.commit
    }

    fn is_good(&self) -> bool {
        self.numbers.is_some()
    }
}

impl Numbers {
    /// None for no pairs.
    pub(super) fn of(pairs: &[Pair]) -> Option<Self> {
        let values = |value: fn(&Pair) -> f64| pairs.iter().map(value).collect::<Vec<_>>();
        let estimate = |value: fn(&Pair) -> f64| Estimate::of(&values(value));
        let cost = |pair: &Pair| pair.cost_ratio() - 1.0;
        Some(Self {
            window_s: estimate(|pair| pair.with.seconds())?.median,
            without_ns: estimate(|pair| pair.without.ns_per_allocation())?,
            allocations_per_s: estimate(|pair| pair.without.allocations_per_s())?.median,
            cores: estimate(|pair| pair.without.cores())?.median,
            cost: estimate(cost)?,
            in_windows: Added::share(pairs.iter().filter_map(|pair| pair.added.as_ref())),
            throughput: estimate(|pair| pair.throughput_ratio() - 1.0)?,
            pairs: values(cost),
            pairs_in_windows: pairs
                .iter()
                .filter_map(|pair| Some(Added::share([pair.added.as_ref()?])?.median))
                .collect(),
            account: Account::sum(pairs.iter().filter_map(|pair| pair.account.as_ref())),
        })
    }
}

/// `+0.98 % [+0.70, +1.20]`
pub(super) fn percent(estimate: &Estimate) -> String {
    let [median, low, high] = [estimate.median, estimate.low, estimate.high].map(|share| share * 100.0);
    format!("{median:+.2} % [{low:+.2}, {high:+.2}]")
}

impl Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(numbers) = &self.numbers else {
            let why = self.skipped.as_deref().unwrap_or("no numbers");
            return write!(formatter, "{:<28} | {why}", self.tool);
        };
        let without =
            format!("{:.1}, {:.2}M, {:.2}", numbers.without_ns.median, numbers.allocations_per_s / 1e6, numbers.cores);
        write!(
            formatter,
            "{:<28} | {:<29} | {:<29} | {:<29} | {without:<26} |",
            self.tool,
            percent(&numbers.cost),
            numbers.in_windows.as_ref().map(percent).unwrap_or_default(),
            percent(&numbers.throughput),
        )?;
        let Some(account) = &numbers.account else { return Ok(()) };
        let share =
            |ratio: Option<f64>| ratio.map_or_else(|| "?".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0));
        write!(
            formatter,
            " {}, {}; in {:.0} s {} bursts, open {:.2} s, {} hits",
            share(account.target_ratio),
            share(account.self_cpu_ratio),
            account.window_s,
            account.bursts,
            account.open_s,
            account.hits,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::pairs::tests::pair;

    #[test]
    fn added_shares_are_compared_within_each_pair() {
        // The machine becomes twice as slow half way.
        let numbers = Numbers::of(&[pair(100, 102), pair(100, 102), pair(200, 204), pair(200, 204)]).unwrap();
        assert!((numbers.cost.low - 0.02).abs() < 1e-9 && (numbers.cost.high - 0.02).abs() < 1e-9);
        assert!(numbers.throughput.median.abs() < 1e-9);
        assert_eq!(numbers.pairs.len(), 4);
        assert!(Numbers::of(&[]).is_none());
    }

    #[test]
    fn of_two_cores_half_the_share_may_be_paid() {
        let group = Group { go_release: "1.27.3".to_owned(), rate: "max".parse().unwrap(), goroutines: 2 };
        let row = Row { group, tracer: Tracer::Bursts { per_mille: 10 } };
        // 2 µs for each of a million allocations in a second.
        let cell = Cell::new("c", &row, Numbers::of(&[pair(2_000, 2_010)]).ok_or_else(String::new));
        assert!((cell.allowed().unwrap() - 0.005).abs() < 1e-12);
        let cell = Cell::new("c", &row, Numbers::of(&[pair(300, 303)]).ok_or_else(String::new));
        assert!((cell.allowed().unwrap() - 0.01).abs() < 1e-12);
    }
}
