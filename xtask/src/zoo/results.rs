//! The sum over all cells.

use super::cell::Cell;
use crate::results::Recorded;

/// The median error of a rate that is promised, and the share of intervals that must cover the truth.
const MEDIAN_ERROR: f64 = 0.05;
const COVERAGE: f64 = 0.90;
/// Of fewer rates neither says anything.
const RATES_MIN: usize = 20;

impl Recorded for Cell {
    fn commit(&self) -> &str {
        &self.commit
    }

    fn is_good(&self) -> bool {
        self.is_right()
    }
}

/// What is said at the end.
#[derive(Debug, Default)]
pub(super) struct Sum {
    cells: usize,
    wrong: usize,
    accused: usize,
    errors: Vec<f64>,
    covered: usize,
    intervals: usize,
}

impl Sum {
    /// A cell; `has_names`: whether its rates are those of lines.
    pub(super) fn add(&mut self, cell: &Cell, has_names: bool) {
        self.cells += 1;
        self.wrong += usize::from(!cell.is_right());
        self.accused += cell.accused.len();
        for finding in cell.findings.iter().filter(|_| has_names) {
            self.errors.extend(finding.error.map(f64::abs));
            self.intervals += usize::from(finding.covered.is_some());
            self.covered += usize::from(finding.covered == Some(true));
        }
    }

    /// What is wrong with all together, besides wrong cells.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.errors.len() >= RATES_MIN && self.median_error().is_some_and(|error| error > MEDIAN_ERROR) {
            problems.push(format!("the median error is above {:.0} %", MEDIAN_ERROR * 100.0));
        }
        if self.intervals >= RATES_MIN && self.coverage().is_some_and(|share| share < COVERAGE) {
            problems.push(format!("fewer than {:.0} % of the intervals cover the truth", COVERAGE * 100.0));
        }
        problems
    }

    pub(super) fn has_wrong(&self) -> bool {
        self.wrong > 0
    }

    pub(super) fn text(&self) -> String {
        let percent =
            |share: Option<f64>| share.map_or_else(|| "?".to_owned(), |share| format!("{:.1} %", share * 100.0));
        format!(
            "{} cells, {} wrong; median error of a rate {} (of {}), intervals that cover the truth {} (of {}), innocents accused {}",
            self.cells,
            self.wrong,
            percent(self.median_error()),
            self.errors.len(),
            percent(self.coverage()),
            self.intervals,
            self.accused,
        )
    }

    fn median_error(&self) -> Option<f64> {
        let mut errors = self.errors.clone();
        errors.sort_by(f64::total_cmp);
        let middle = errors.len() / 2;
        let upper = errors.get(middle).copied()?;
        Some(if errors.len() % 2 == 1 { upper } else { f64::midpoint(errors[middle - 1], upper) })
    }

    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    fn coverage(&self) -> Option<f64> {
        (self.intervals > 0).then(|| self.covered as f64 / self.intervals as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Finding;
    use super::*;
    use crate::reported::Rate;

    fn cell(error: f64, is_covered: bool) -> Cell {
        let finding = Finding {
            leak: "a".to_owned(),
            unit: "B".to_owned(),
            truth_per_s: 1.0,
            reported_per_s: Some(Rate { value: 1.0 + error, low: 0.0, high: None }),
            error: Some(error),
            covered: Some(is_covered),
            samples: None,
            verdict: Some("leaking".to_owned()),
            named_after_s: Some(30.0),
            due_after_s: Some(20.0),
            name_due_s: None,
        };
        Cell {
            commit: "c".to_owned(),
            window_s: 150.0,
            collections: 60,
            findings: vec![finding],
            accused: Vec::new(),
            failures: Vec::new(),
            target_ratio: None,
            self_cpu_ratio: 0.0,
        }
    }

    #[test]
    fn few_cells_say_nothing_of_all_and_many_do() {
        let mut sum = Sum::default();
        for _ in 0..10 {
            sum.add(&cell(-0.2, false), true);
        }
        assert!(sum.problems().is_empty());
        for _ in 0..10 {
            sum.add(&cell(0.01, true), true);
        }
        assert_eq!(sum.problems().len(), 2, "{}", sum.text());
        assert!(!sum.has_wrong());
    }

    #[test]
    fn growth_of_a_heap_whose_lines_have_no_names_is_no_rate_of_a_line() {
        let mut sum = Sum::default();
        sum.add(&cell(0.5, false), false);
        assert_eq!(
            sum.text(),
            "1 cells, 0 wrong; median error of a rate ? (of 0), intervals that cover the truth ? (of 0), innocents accused 0"
        );
    }
}
