//! `leakline check` for people: passed or not, by whom, and what a reviewer needs to see it.

use super::{
    Style,
    layout::{Page, last_columns},
};
use crate::{
    export::check::{CheckReport, doubt, growth, mark, quiet, subject, verdict},
    export::untrusted,
    model::compare::{Compared, Place},
    symbolize::{Frame, Origin},
};

/// Lines in the table; JSON has all.
const MAX_ROWS: usize = 20;
/// Lines whose stacks are shown.
const MAX_WITH_STACKS: usize = 3;
/// Columns before the function: change, before, now.
const NUMBERS_WIDTH: usize = 38;

/// The report as text, with a line feed at the end.
pub fn check(report: &CheckReport<'_>, style: Style) -> String {
    let mut page = Page::new(style);
    if report.fails() {
        page.warning(&report.headline());
    } else {
        page.heading(&report.headline());
    }
    page.blank();
    page.fact("measured", &report.scope());
    if let Some(baseline) = report.compared_with() {
        page.fact("baseline", &baseline);
    }
    if let Some(forecast) = report.forecast() {
        page.fact("limit", &forecast);
    }
    for of in &report.judgement.doubts {
        page.fact("unsure", &doubt(of));
    }
    for refusal in report.refusals {
        page.fact("missing", &untrusted::name(&refusal.text));
    }
    page.blank();
    table(&mut page, report);
    stacks(&mut page, report);
    page.quiet_line(&quiet(report));
    page.finish()
}

fn table(page: &mut Page, report: &CheckReport<'_>) {
    let rows: Vec<&Compared> = report.shown().collect();
    if rows.is_empty() {
        return;
    }
    page.quiet_line(&format!("{:<12}{:>12}{:>12}  {}", "", "before", "now", "line"));
    let room = page.width().saturating_sub(NUMBERS_WIDTH);
    for row in rows.iter().take(MAX_ROWS) {
        let numbers =
            format!("{:<12}{:>12}{:>12}  ", mark(row), growth(row.before.as_ref()), growth(row.after.as_ref()));
        let (columns, below) = match row.newest().and_then(|newest| newest.place.as_ref()) {
            Some(place) => last_columns(&frame(place), room),
            None => (subject(row), None),
        };
        let line = format!("{numbers}{columns}");
        if row.fails {
            page.strong_line(&line);
        } else {
            page.line(&line);
        }
        if let Some(place) = below {
            page.line(&format!("{:NUMBERS_WIDTH$}{place}", ""));
        }
        page.indented(4, &format!("{}: {}", verdict(row).name().replace('_', " "), report.why(row)));
    }
    if let Some(hidden) = rows.len().checked_sub(MAX_ROWS).filter(|hidden| *hidden > 0) {
        page.line(&format!("{hidden} more (--output json)"));
    }
    page.blank();
}

/// The way to what fails: where it goes through the program.
fn stacks(page: &mut Page, report: &CheckReport<'_>) {
    let failing = report.judgement.rows.iter().filter(|row| row.fails);
    let ways = failing.filter_map(|row| report.live(row)).filter_map(|live| Some((live, live.paths.first()?)));
    let ways: Vec<_> = ways.take(MAX_WITH_STACKS).collect();
    if ways.is_empty() {
        return;
    }
    page.section("HOW IT GETS THERE", "The call path that holds most, the allocating frame first.");
    for (live, path) in ways {
        page.stack(&path.frames, &live.place);
        page.blank();
    }
}

fn frame(place: &Place) -> Frame {
    Frame {
        function: place.function.as_str().into(),
        file: place.file.as_str().into(),
        line: place.line,
        function_start_line: 0,
        inlined: false,
        origin: Origin::Go,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;
    use crate::export::check::fixture::Checked;

    const STYLE: Style = Style { width: 100, colour: false };

    #[test]
    fn a_failed_check() {
        expect_file!["testdata/check_failed.txt"].assert_eq(&check(&Checked::failed().report(), STYLE));
    }

    #[test]
    fn an_unknown_one() {
        expect_file!["testdata/check_unknown.txt"].assert_eq(&check(&Checked::unknown().report(), STYLE));
    }

    #[test]
    fn one_without_a_baseline() {
        let text = check(&Checked::without_baseline().report(), STYLE);
        assert!(text.starts_with("FAILED: 1 line leaks.\n"), "{text}");
    }

    #[test]
    fn tables_fit_their_width() {
        for width in [60, 80, 160] {
            let text = check(&Checked::failed().report(), Style { width, colour: false });
            // Stacks have whole names, so that they can be copied.
            let (table, _) = text.split_once("HOW IT GETS THERE").unwrap();
            assert!(table.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
        }
    }
}
