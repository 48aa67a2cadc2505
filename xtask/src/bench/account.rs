//! What leakline itself says that it costs: the part `cost` of the reports of `leakline attach --output json --interval`.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// From leakline's begin to a report, or between two of them. Counterpart: `Cost` in `tracer-daemon/src/export/json/document.rs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Wall time, s.
    pub(crate) window_s: f64,
    /// CPU time added to the target over that of the target. None: not said.
    pub(crate) target_ratio: Option<f64>,
    /// leakline's own CPU time over wall time, from its begin in any case. None: not said.
    pub(crate) self_cpu_ratio: Option<f64>,
    /// Windows that were open.
    pub(crate) bursts: u64,
    /// How long in all, s.
    pub(crate) open_s: f64,
    /// Hits, those outside of windows included.
    pub(crate) hits: u64,
}

/// A report, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Report {
    r#final: bool,
    window_s: f64,
    cost: Cost,
}

#[derive(Debug, Deserialize)]
struct Cost {
    budget_ratio: Option<f64>,
    target_ratio: Option<f64>,
    self_cpu_ratio: Option<f64>,
    probe_hits: u64,
    bursts: Option<u64>,
    bursts_open_s: Option<f64>,
}

impl Account {
    /// The last whole report of what leakline has printed. None where there is none yet.
    pub(crate) fn last_of(printed: &str) -> Result<Option<Self>> {
        let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
        match whole.lines().last() {
            Some(line) => Ok(Some(Self::of(&report(line)?))),
            None => Ok(None),
        }
    }

    /// The last report of a leakline that has ended. An error where it is not what a person would have got: it was cut off, or had another budget than
    /// `max_overhead`.
    pub(crate) fn final_of(printed: &str, max_overhead: f64) -> Result<Self> {
        let report = report(printed.lines().last().context("leakline printed no report")?)?;
        anyhow::ensure!(report.r#final, "leakline's report is not its last");
        if let Some(budget) = report.cost.budget_ratio {
            anyhow::ensure!((budget - max_overhead).abs() < 1e-9, "leakline's budget is {budget}, not {max_overhead}");
        }
        Ok(Self::of(&report))
    }

    fn of(report: &Report) -> Self {
        let cost = &report.cost;
        Self {
            window_s: report.window_s,
            target_ratio: cost.target_ratio,
            self_cpu_ratio: cost.self_cpu_ratio,
            bursts: cost.bursts.unwrap_or(0),
            open_s: cost.bursts_open_s.unwrap_or(0.0),
            hits: cost.probe_hits,
        }
    }

    /// What came between the reports at the begin and at the end of a window, or up to the last report where there are no two; own CPU time is told in the last one
    /// only, for all of it.
    pub(crate) fn within(begin: Option<Self>, end: Option<Self>, last: Self) -> Self {
        let self_cpu_ratio = last.self_cpu_ratio;
        let between = begin.zip(end).and_then(|(begin, end)| Self::between(&begin, &end));
        Self { self_cpu_ratio, ..between.unwrap_or(last) }
    }

    /// What came between two reports; the ratio is weighted by time, as of a target whose use of CPU is even. None where it is no time.
    fn between(begin: &Self, end: &Self) -> Option<Self> {
        let window_s = end.window_s - begin.window_s;
        let cost = |account: &Self| Some(account.target_ratio? * account.window_s);
        (window_s > 0.0).then(|| Self {
            window_s,
            target_ratio: cost(end).map(|cost_s| (cost_s - cost(begin).unwrap_or(0.0)) / window_s),
            self_cpu_ratio: end.self_cpu_ratio,
            bursts: end.bursts.saturating_sub(begin.bursts),
            open_s: end.open_s - begin.open_s,
            hits: end.hits.saturating_sub(begin.hits),
        })
    }

    /// All of them together. None of none.
    pub(crate) fn sum<'a>(accounts: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for account in accounts {
            let before = sum.unwrap_or_default();
            let window_s = before.window_s + account.window_s;
            let mean = |before_ratio: Option<f64>, ratio: Option<f64>| {
                let of_before = before_ratio.unwrap_or(0.0) * before.window_s;
                ratio.map(|ratio| (of_before + ratio * account.window_s) / window_s)
            };
            sum = Some(Self {
                window_s,
                target_ratio: mean(before.target_ratio, account.target_ratio),
                self_cpu_ratio: mean(before.self_cpu_ratio, account.self_cpu_ratio),
                bursts: before.bursts + account.bursts,
                open_s: before.open_s + account.open_s,
                hits: before.hits + account.hits,
            });
        }
        sum
    }
}

fn report(line: &str) -> Result<Report> {
    serde_json::from_str(line).context("leakline's report")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(is_final: bool, window_s: f64, target_ratio: f64, hits: u64) -> String {
        format!(
            "{{\"final\":{is_final},\"window_s\":{window_s},\
             \"cost\":{{\"budget_ratio\":0.01,\"target_ratio\":{target_ratio},\"probe_hits\":{hits},\"bursts\":{hits}}}}}\n"
        )
    }

    #[test]
    fn a_report_that_is_being_written_is_none_yet() {
        let printed = line(false, 5.0, 0.01, 7);
        assert_eq!(Account::last_of(&printed[..20]).unwrap(), None);
        let second = line(false, 10.0, 0.01, 9);
        assert_eq!(Account::last_of(&format!("{printed}{}", &second[..20])).unwrap().unwrap().hits, 7);
        assert_eq!(Account::last_of(&format!("{printed}{second}")).unwrap().unwrap().hits, 9);
    }

    #[test]
    fn the_cost_between_two_reports_is_not_that_since_the_begin() {
        let at = |window_s, ratio, hits| Account::last_of(&line(false, window_s, ratio, hits)).unwrap();
        let last = Account { self_cpu_ratio: Some(0.02), ..at(20.0, 0.01, 40).unwrap() };
        let within = Account::within(at(5.0, 0.02, 10), at(15.0, 0.01, 30), last.clone());
        assert!((within.target_ratio.unwrap() - 0.005).abs() < 1e-12);
        assert_eq!((within.hits, within.bursts, within.self_cpu_ratio), (20, 20, Some(0.02)));
        // Without two reports: all that there is.
        for (begin, end) in [(None, at(5.0, 0.02, 10)), (at(5.0, 0.02, 10), at(5.0, 0.02, 10)), (None, None)] {
            assert_eq!(Account::within(begin, end, last.clone()), last);
        }
    }

    #[test]
    fn accounts_are_summed_by_their_time() {
        let at = |window_s, ratio| Account::last_of(&line(false, window_s, ratio, 1)).unwrap().unwrap();
        let sum = Account::sum([&at(10.0, 0.01), &at(30.0, 0.02)]).unwrap();
        assert!((sum.target_ratio.unwrap() - 0.0175).abs() < 1e-12);
        assert_eq!(sum.bursts, 2);
        assert_eq!(Account::sum([]), None);
    }

    #[test]
    fn a_leakline_with_another_budget_or_cut_off_is_not_what_is_measured() {
        let last = line(true, 5.0, 0.01, 1);
        assert!(Account::final_of(&last, 0.01).is_ok());
        assert!(Account::final_of(&last, 0.02).is_err());
        assert!(Account::final_of(&line(false, 5.0, 0.01, 1), 0.01).is_err());
        assert!(Account::final_of("", 0.01).is_err());
    }
}
