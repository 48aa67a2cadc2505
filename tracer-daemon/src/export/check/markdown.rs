//! A summary in Markdown, for `$GITHUB_STEP_SUMMARY` and for comments on merge requests.
//!
//! Names are HTML code elements in which every sign is a character reference: so no name opens a link, a mention, an image, or
//! another cell, whatever dialect reads it.

use std::fmt::Write as _;

use super::{CheckReport, doubt, file_and_line, growth, mark, quiet, subject, verdict};
use crate::export::human;
use crate::model::compare::Compared;

/// Lines in the table.
const ROWS_MAX: usize = 50;
/// Stacks below it.
const STACKS_MAX: usize = 5;
/// Frames of a stack.
const FRAMES_MAX: usize = 16;

/// The summary, with a line feed at the end.
pub fn markdown(report: &CheckReport<'_>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut put = |line: String| writeln!(text, "{line}").unwrap_or_default();
    put(format!("### leakline check: {}\n", prose(&report.headline())));
    put(format!("Measured {} (`{}`).", code(&report.scope()), report.judgement.outcome.name()));
    if let Some(baseline) = report.compared_with() {
        put(format!("Baseline: {}.", code(&baseline)));
    }
    put(String::new());
    let rows: Vec<&Compared> = report.shown().collect();
    if !rows.is_empty() {
        put(String::from("| | line | before | now | verdict | why |"));
        put(String::from("|---|---|--:|--:|---|---|"));
        for row in rows.iter().take(ROWS_MAX) {
            put(table_row(report, row));
        }
        put(String::new());
    }
    if let Some(hidden) = rows.len().checked_sub(ROWS_MAX).filter(|hidden| *hidden > 0) {
        put(format!("{hidden} more lines are in the JSON document.\n"));
    }
    for of in &report.judgement.doubts {
        put(format!("> Not certain: {}\n", prose(&doubt(of))));
    }
    if let Some(forecast) = report.forecast() {
        put(format!("{}.\n", prose(&forecast)));
    }
    let failing = rows.iter().filter(|row| row.fails);
    for (row, path) in failing.filter_map(|row| Some((row, report.live(row)?.paths.first()?))).take(STACKS_MAX) {
        put(format!("<details><summary>How it gets to {}</summary>\n", code(&subject(row))));
        put(String::from("<pre>"));
        for frame in path.frames.iter().take(FRAMES_MAX) {
            let (function, file) =
                (crate::export::untrusted::name(&frame.function), crate::export::untrusted::path(&frame.file));
            put(references(&format!("{function}  {file}:{}", frame.line)));
        }
        put(String::from("</pre></details>\n"));
    }
    put(quiet(report));
    text
}

fn table_row(report: &CheckReport<'_>, row: &Compared) -> String {
    let mark = if row.fails { "**FAILS**" } else { mark(row) };
    let at = file_and_line(row).map(|place| format!("<br>{}", code(&place))).unwrap_or_default();
    format!(
        "| {mark} | {}{at} | {} | {} | {} | {} |",
        code(&subject(row)),
        prose(&growth(row.before.as_ref())),
        prose(&growth(row.after.as_ref())),
        verdict(row).name().replace('_', " "),
        prose(&report.why(row)),
    )
}

/// Our own words and numbers, in which names may be quoted.
fn prose(text: &str) -> String {
    references(text)
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", references(text))
}

/// Every sign that could mean something as a character reference.
fn references(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    for character in human::plain(text).chars() {
        let is_plain = match character {
            ' ' | '/' | ',' | ';' | '%' | '-' | '+' | '(' | ')' => true,
            // `www.` opens a link in some dialects.
            '.' => !matches!(before, 'w' | 'W'),
            other => other.is_alphanumeric(),
        };
        if is_plain {
            escaped.push(character);
        } else {
            write!(escaped, "&#{};", u32::from(character)).unwrap_or_default();
        }
        before = character;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;
    use proptest::prelude::*;

    use super::*;
    use crate::export::check::fixture::Checked;
    use crate::export::fixture::any_text;

    #[test]
    fn the_summary_of_hostile_names() {
        expect_file!["testdata/failed.md"].assert_eq(&markdown(&Checked::failed().report()));
    }

    #[test]
    fn the_summary_of_what_is_unknown() {
        expect_file!["testdata/unknown.md"].assert_eq(&markdown(&Checked::unknown().report()));
    }

    proptest! {
        #[test]
        fn no_text_means_anything(text in any_text()) {
            let escaped = references(&text);
            let means = escaped.contains(['<', '>', '|', '`', '*', '_', '[', ']', '!', '@', '\n', '\\', '"', '~', ':', '$']);
            prop_assert!(!means, "{}", escaped);
            let opens = references(&["www.", &text].concat()).contains("www.");
            prop_assert!(!opens);
        }
    }
}
