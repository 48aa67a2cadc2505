//! What the rows allow to say: only what their intervals resolve.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::cell::{Cell, Numbers, percent};
use super::plan::Group;
use crate::bench::stats::Estimate;

/// What is promised of the default budget, a share of the target's CPU time.
const PROMISED: f64 = 0.01;
/// Budgets between which the slope is taken.
const SLOPE: [f64; 3] = [0.02, 0.05, 0.1];
/// How far the slope may be from 1.
const SLOPE_TOLERANCE: f64 = 0.25;
/// Budgets that are too small for a slope.
const SMALL: [f64; 2] = [0.002, 0.01];

/// Of fewer pairs an interval says nothing.
const PAIRS_MIN: usize = 5;
/// Of fewer windows neither.
const WINDOWS_MIN: usize = 20;
const FEW_PAIRS: &str = "not resolved, of fewer than 5 pairs";

/// The claims for all groups.
pub(crate) fn text(cells: &[Cell]) -> String {
    let mut groups: BTreeMap<&Group, Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        groups.entry(&cell.group).or_default().push(cell);
    }
    let mut text = String::new();
    section(&mut text, "By default at most 1 % of the target's CPU time:", &groups, at_most_promised);
    section(&mut text, "What its windows add, slice by slice, by default at most 1 %:", &groups, windows_claim);
    section(
        &mut text,
        "Slope of the cost against what 2, 5 and 10 % allow, which is to be within 0.75 and 1.25:",
        &groups,
        |cells| slope_claim(cells, Cell::allowed, |numbers| &numbers.pairs),
    );
    section(&mut text, "The same of what its windows add, slice by slice:", &groups, |cells| {
        slope_claim(cells, Cell::allowed, |numbers| &numbers.pairs_in_windows)
    });
    section(&mut text, "Slope of the cost against leakline's own account of the same windows:", &groups, |cells| {
        slope_claim(cells, Cell::by_own_account, |numbers| &numbers.pairs)
    });
    section(&mut text, "The same of what its windows add, slice by slice:", &groups, |cells| {
        slope_claim(cells, Cell::by_own_account, |numbers| &numbers.pairs_in_windows)
    });
    section(&mut text, "0.2 and 1 %, by leakline's own account and as measured:", &groups, small_claims);
    text.truncate(text.trim_end().len());
    text
}

fn section(
    text: &mut String,
    title: &str,
    groups: &BTreeMap<&Group, Vec<&Cell>>,
    claim: fn(&[&Cell]) -> Option<String>,
) {
    let lines: Vec<_> =
        groups.iter().filter_map(|(group, cells)| Some(format!("  {group}: {}\n", claim(cells)?))).collect();
    if !lines.is_empty() {
        let _always_fits = write!(text, "{title}\n{}\n", lines.concat());
    }
}

fn with_budget<'a>(cells: &[&'a Cell], budget: f64) -> Option<&'a Cell> {
    let has = |cell: &&&Cell| cell.max_overhead.is_some_and(|share| (share - budget).abs() < 1e-9);
    cells.iter().find(has).copied().filter(|cell| cell.numbers.is_some())
}

/// None where the default budget was not measured.
fn at_most_promised(cells: &[&Cell]) -> Option<String> {
    let cost = &with_budget(cells, PROMISED)?.numbers.as_ref()?.cost;
    let claim = match cost {
        _ if cost.values < PAIRS_MIN => FEW_PAIRS,
        _ if cost.high <= PROMISED => "yes",
        _ if cost.low > PROMISED => "NO",
        _ => "not resolved",
    };
    let noise = nothing(cells)
        .map_or_else(String::new, |numbers| format!("; with nothing attached {}", percent(&numbers.cost)));
    Some(format!("{claim}: {}{noise}", percent(cost)))
}

/// None where the default budget had no windows.
fn windows_claim(cells: &[&Cell]) -> Option<String> {
    let cell = with_budget(cells, PROMISED)?;
    let (allowed, added) = (cell.allowed()?, cell.numbers.as_ref()?.in_windows?);
    let claim = match added {
        _ if added.values < WINDOWS_MIN => "not resolved, of fewer than 20 windows",
        _ if added.low > PROMISED => "NO",
        _ if added.high > PROMISED => "not resolved",
        // Of a program that uses more than a core a core's share is less.
        _ if added.low > allowed => "yes, but more than is allowed",
        _ => "yes",
    };
    let noise = nothing(cells).and_then(|numbers| numbers.in_windows);
    let noise = noise.map_or_else(String::new, |noise| format!("; with nothing attached {}", percent(&noise)));
    Some(format!("{claim}: {}, {:.2} % allowed, {} windows{noise}", percent(&added), allowed * 100.0, added.values))
}

/// What was measured with nothing attached.
fn nothing<'a>(cells: &[&'a Cell]) -> Option<&'a Numbers> {
    cells.iter().find(|cell| cell.tool.starts_with("nothing")).and_then(|cell| cell.numbers.as_ref())
}

/// The slope of a measured cost against a share of the target's CPU time. None where fewer than two of the budgets have both.
fn slope_claim(cells: &[&Cell], share: fn(&Cell) -> Option<f64>, costs: fn(&Numbers) -> &Vec<f64>) -> Option<String> {
    let places = SLOPE.iter().filter_map(|&budget| {
        let cell = with_budget(cells, budget)?;
        Some((share(cell)?, costs(cell.numbers.as_ref()?).clone()))
    });
    let places: Vec<(f64, Vec<f64>)> = places.collect();
    let slope = Estimate::of_slope(&places)?;
    let (least, most) = (1.0 - SLOPE_TOLERANCE, 1.0 + SLOPE_TOLERANCE);
    let claim = match slope {
        _ if places.iter().any(|(_, pairs)| pairs.len() < PAIRS_MIN) => FEW_PAIRS,
        _ if slope.low >= least && slope.high <= most => "yes",
        _ if slope.high < least || slope.low > most => "NO",
        _ => "not resolved",
    };
    Some(format!("{claim}: {:.2} [{:.2}, {:.2}], of {} budgets", slope.median, slope.low, slope.high, places.len()))
}

/// None where neither was measured.
fn small_claims(cells: &[&Cell]) -> Option<String> {
    let claims: Vec<_> = SMALL.iter().filter_map(|&budget| small_claim(with_budget(cells, budget)?)).collect();
    (!claims.is_empty()).then(|| claims.join("; "))
}

fn small_claim(cell: &Cell) -> Option<String> {
    let (allowed, numbers) = (cell.allowed()?, cell.numbers.as_ref()?);
    let account = cell
        .by_own_account()
        .map_or_else(|| "no account".to_owned(), |ratio| format!("account {:.2} %", ratio * 100.0));
    let claim = match numbers.cost {
        cost if cost.values < PAIRS_MIN => FEW_PAIRS,
        cost if cost.low > allowed => "the interval EXCLUDES it: more",
        cost if cost.high < allowed => "the interval excludes it: less",
        _ => "the interval includes it",
    };
    Some(format!("{:.2} % allowed, {account}, measured {}: {claim}", allowed * 100.0, percent(&numbers.cost)))
}

#[cfg(test)]
mod tests {
    use super::super::plan::Row;
    use super::*;
    use crate::bench::pairs::tests::pair;
    use crate::bench::tracers::Tracer;

    /// A row whose pairs add these shares of 100 ns, in hundredths of a percent.
    fn cell(tracer: Tracer, added: &[i32]) -> Cell {
        let group = Group { go_release: "1.27.3".to_owned(), rate: "1.2M".parse().unwrap(), goroutines: 1 };
        let pairs: Vec<_> =
            added.iter().map(|&added| pair(100_000, u64::try_from(100_000 + added * 10).unwrap())).collect();
        let mut numbers = Numbers::of(&pairs);
        if let Some(numbers) = &mut numbers {
            numbers.cores = 0.5;
        }
        Cell::new("c", &Row { group, tracer }, numbers.ok_or_else(|| "skipped".to_owned()))
    }

    fn bursts(per_mille: u16, added: &[i32]) -> Cell {
        cell(Tracer::Bursts { per_mille }, added)
    }

    #[test]
    fn at_most_a_percent_is_claimed_only_where_the_whole_interval_is_below() {
        let claim = |added: &[i32]| text(&[bursts(10, added)]).lines().nth(1).unwrap().trim().to_owned();
        assert_eq!(claim(&[60, 65, 70, 75, 80]), "Go 1.27.3, 1.2M/s, 1 goroutine: yes: +0.70 % [+0.60, +0.80]");
        assert!(claim(&[-50, -40, 70, 270, 280]).contains(": not resolved: +0.70 % [-0.50, +2.80]"));
        assert!(claim(&[60, 70, 80]).contains(": not resolved, of fewer than 5 pairs: "));
        assert!(claim(&[110, 115, 120, 125, 130]).contains(": NO: "));
    }

    #[test]
    fn windows_may_add_one_percent_and_of_many_cores_less() {
        let claim = |low: f64, high: f64, values: usize, cores: f64| {
            let mut cell = bursts(10, &[60, 65, 70, 75, 80]);
            let numbers = cell.numbers.as_mut().unwrap();
            numbers.in_windows = Some(Estimate { median: f64::midpoint(low, high), low, high, values });
            numbers.cores = cores;
            windows_claim(&[&cell]).unwrap()
        };
        assert_eq!(claim(0.006, 0.008, 100, 1.0), "yes: +0.70 % [+0.60, +0.80], 1.00 % allowed, 100 windows");
        assert!(claim(0.006, 0.008, 100, 2.0).starts_with("yes, but more than is allowed: "));
        assert!(claim(0.004, 0.006, 100, 2.0).starts_with("yes: "));
        assert!(claim(0.008, 0.012, 100, 1.0).starts_with("not resolved: "));
        assert!(claim(0.011, 0.012, 100, 1.0).starts_with("NO: "));
        assert!(claim(0.006, 0.008, 19, 1.0).starts_with("not resolved, of fewer than 20 windows: "));
        assert_eq!(windows_claim(&[&bursts(10, &[60, 65])]), None, "there were none");
    }

    #[test]
    fn a_slope_is_one_where_the_cost_is_what_is_allowed() {
        let around = |centre: i32| [centre - 10, centre - 5, centre, centre + 5, centre + 10];
        let slope = |costs: [i32; 3]| {
            let cells: Vec<_> =
                [20, 50, 100].into_iter().zip(costs).map(|(at, cost)| bursts(at, &around(cost))).collect();
            text(&cells).lines().nth(1).unwrap().to_owned()
        };
        assert!(slope([220, 520, 1020]).contains("yes: 1.00 ["), "{}", slope([220, 520, 1020]));
        assert!(slope([100, 250, 500]).contains("NO: 0.50 ["));
    }

    #[test]
    fn a_small_budget_is_compared_with_the_account_and_the_interval() {
        let said = text(&[bursts(2, &[30, 35, 40, 45, 50]), bursts(10, &[0, 1, 100, 199, 200])]);
        assert!(
            said.contains(
                "0.20 % allowed, no account, measured +0.40 % [+0.30, +0.50]: the interval EXCLUDES it: more"
            )
        );
        assert!(said.contains("1.00 % allowed, no account, measured +1.00 % [+0.00, +2.00]: the interval includes it"));
    }

    #[test]
    fn of_rows_without_numbers_nothing_is_claimed() {
        assert_eq!(text(&[bursts(10, &[]), cell(Tracer::Nothing, &[1, 2, 3])]), "");
        assert_eq!(text(&[]), "");
    }
}
