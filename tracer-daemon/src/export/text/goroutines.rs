//! The table of places that start goroutines: who started more than ended.

use super::layout::{Page, function, last_columns};
use crate::{
    export::human,
    model::{ExactCounts, GoroutineSite, Turnover},
    symbolize::Frame,
};

/// Rows of the table; JSON has all.
const MAX_ROWS: usize = 10;

/// Growing places whose creation stack is shown.
const MAX_STACKS: usize = 3;

/// Columns before the function: started, ended, net.
const NUMBERS_WIDTH: usize = 32;

/// Before the `go` statement that starts a goroutine for a place.
const VIA: &str = "via ";

/// Net growth that chance does not explain is beyond this many standard deviations.
const SIGMAS: f64 = 3.0;

pub(super) fn table(page: &mut Page, snapshot: &ExactCounts) {
    if snapshot.goroutine_sites.is_empty() && snapshot.other_goroutines == Turnover::default() {
        return;
    }
    page.section(
        "WHERE GOROUTINES START",
        "Net = started less ended in the window. What started earlier and still lives is not counted here. Via: the go \
         statement itself, where another line of yours leads to it.",
    );
    let room = page.width().saturating_sub(NUMBERS_WIDTH);
    page.quiet_line(&format!("{:>10}{:>9}{:>11}  {}", "started", "ended", "net", "function and line"));
    let growing = growing(snapshot);
    let sites = by_growth(snapshot);
    for site in sites.iter().take(MAX_ROWS) {
        let (columns, below) = last_columns(&site.place, room);
        let line = row(site.counted.created, site.counted.exited, &columns);
        if growing.iter().any(|grown| std::ptr::eq(*grown, *site)) {
            page.strong_line(&line);
        } else {
            page.line(&line);
        }
        if let Some(place) = below {
            page.quiet_line(&format!("{:NUMBERS_WIDTH$}{place}", ""));
        }
        if let Some(statement) = site.creation_stack.first().filter(|frame| **frame != site.place) {
            via(page, statement);
        }
    }
    let hidden = sites.get(MAX_ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let sum =
            |pick: fn(&GoroutineSite) -> u64| hidden.iter().fold(0_u64, |sum, site| sum.saturating_add(pick(site)));
        let noun = if hidden.len() == 1 { "place" } else { "places" };
        let columns = format!("{} more {noun} (--output json)", hidden.len());
        page.line(&row(sum(|site| site.counted.created), sum(|site| site.counted.exited), &columns));
    }
    if snapshot.other_goroutines != Turnover::default() {
        let Turnover { created, exited } = snapshot.other_goroutines;
        page.line(&row(created, exited, "other: events that belong to no place"));
    }
    // The line itself is in the table; a stack says who called it.
    for site in growing.iter().take(MAX_STACKS).filter(|site| site.creation_stack.len() > 1) {
        page.strong_line(&format!("{}  [{}]", function(&site.place), site.id));
        page.quiet_line("  most often started by");
        page.stack(&site.creation_stack, &site.place);
    }
    page.blank();
}

/// The `go` statement of a library.
fn via(page: &mut Page, statement: &Frame) {
    let (columns, below) = last_columns(statement, page.width().saturating_sub(NUMBERS_WIDTH + VIA.len()));
    for line in std::iter::once(format!("{VIA}{columns}")).chain(below) {
        page.quiet_line(&format!("{:NUMBERS_WIDTH$}{line}", ""));
    }
}

fn row(created: u64, exited: u64, columns: &str) -> String {
    format!(
        "{:>10}{:>9}{:>11}  {columns}",
        human::count(human::approximate(created)),
        human::count(human::approximate(exited)),
        human::signed(i128::from(created) - i128::from(exited)),
    )
}

/// The places in order of net growth, then of creations; of equals in the model's order.
fn by_growth(snapshot: &ExactCounts) -> Vec<&GoroutineSite> {
    let mut sites: Vec<&GoroutineSite> = snapshot.goroutine_sites.iter().collect();
    sites.sort_by_key(|site| std::cmp::Reverse((net(site), site.counted.created)));
    sites
}

fn net(site: &GoroutineSite) -> i128 {
    i128::from(site.counted.created) - i128::from(site.counted.exited)
}

/// Places that started clearly more goroutines than ended: more than starts and ends that are independent of each
/// other would differ by in a steady state, and more than all exits that belong to no place. Most growth first.
pub(super) fn growing(snapshot: &ExactCounts) -> Vec<&GoroutineSite> {
    let beyond_chance = |site: &&GoroutineSite| {
        let events = human::approximate(site.counted.created) + human::approximate(site.counted.exited);
        human::whole(net(site) - i128::from(snapshot.uncertain_exits())) > SIGMAS * events.sqrt()
    };
    by_growth(snapshot).into_iter().filter(beyond_chance).collect()
}

#[cfg(test)]
mod tests {
    use tracer_common::loss::Loss;

    use super::*;
    use crate::{export::fixture, model::LossCount};

    fn is_growing(created: u64, exited: u64, other: (u64, u64)) -> bool {
        let place = fixture::frame("main.f", "/src/f.go", 1);
        let mut snapshot = fixture::counts();
        snapshot.goroutine_sites = vec![fixture::goroutine_site(1, &place, created, exited)];
        snapshot.other_goroutines = Turnover { created: other.0, exited: other.1 };
        !growing(&snapshot).is_empty()
    }

    #[test]
    fn exits_that_lost_their_creation_accuse_nobody() {
        let place = fixture::frame("main.f", "/src/f.go", 1);
        let mut snapshot = fixture::counts();
        snapshot.goroutine_sites = vec![fixture::goroutine_site(1, &place, 100_000, 65_536)];
        snapshot.exits_by_line_alone = 34_464;
        assert!(!growing(&snapshot).is_empty(), "exits of older goroutines do not excuse");
        snapshot.losses = vec![LossCount { reason: Loss::LiveGoroutinesFull, count: 34_464 }];
        assert!(growing(&snapshot).is_empty(), "the exits of the others are counted at another place");
    }

    #[test]
    fn only_growth_beyond_chance_is_named() {
        assert!(is_growing(310, 0, (0, 0)));
        assert!(is_growing(10, 0, (0, 0)));
        assert!(!is_growing(9, 0, (0, 0)), "a pool of nine workers is no leak");
        assert!(!is_growing(9_120, 9_118, (0, 0)));
        assert!(!is_growing(10_000, 9_700, (0, 0)), "300 of 19,700 events can be chance");
        assert!(is_growing(10_000, 9_000, (0, 0)));
        assert!(!is_growing(0, 500, (0, 0)));
    }

    #[test]
    fn exits_of_no_place_acquit() {
        assert!(is_growing(310, 0, (0, 100)));
        assert!(!is_growing(310, 0, (0, 300)));
    }
}
