//! `JUnit` XML, as Jenkins and GitLab read it: a test case for the process and one for each line that was judged.
//!
//! There is no standard; the shape is what their readers share (`testsuites`, `testsuite` with counts, `testcase` with `classname`
//! and `name`, `failure`, `skipped`, `system-out`). What XML 1.0 cannot hold (control characters, U+FFFE, U+FFFF) is escaped in words
//! before, so that the document is well formed whatever a function is called.

use std::fmt::Write as _;

use super::{CheckReport, doubt, file_and_line, subject, verdict};
use crate::export::{human, untrusted};
use crate::model::compare::Compared;
use crate::model::gate::Outcome;

/// Cases; of the quiet lines the rest is left out and counted.
const CASES_MAX: usize = 1000;
/// Frames of the stack below a failure.
const FRAMES_MAX: usize = 16;

/// The document.
pub fn junit(report: &CheckReport<'_>) -> String {
    let (whole, sites): (Vec<&Compared>, Vec<&Compared>) =
        report.judgement.rows.iter().partition(|row| row.site().is_none());
    let left_out = sites.len().saturating_sub(CASES_MAX);
    let is_unknown = report.judgement.outcome == Outcome::Unknown;
    // The case of the process also says what makes the whole uncertain.
    let process_fails = whole.iter().any(|row| row.fails) || (is_unknown && report.strict);
    let failures = usize::from(process_fails) + sites.iter().take(CASES_MAX).filter(|row| row.fails).count();
    let skipped = usize::from(is_unknown && !report.strict);
    let tests = 1 + sites.len().min(CASES_MAX);
    let module = report.process.main_module.as_deref().unwrap_or_else(|| report.process.exe_name());
    let class = attribute(&untrusted::name(module));
    let time = format!("{:.3}", report.snapshot.window_s.max(0.0));
    let counts = format!(r#"tests="{tests}" failures="{failures}" errors="0" skipped="{skipped}" time="{time}""#);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let mut put = |text: std::fmt::Arguments<'_>| xml.write_fmt(text).unwrap_or_default();
    put(format_args!("<testsuites name=\"leakline check\" {counts}>\n"));
    put(format_args!("  <testsuite name=\"leakline check {class}\" {counts} timestamp=\"{}\">\n", timestamp(report)));
    put(format_args!("    <testcase classname=\"{class}\" name=\"process\" time=\"{time}\">\n"));
    let doubts: Vec<String> = report.judgement.doubts.iter().map(|of| human::plain(&doubt(of))).collect();
    let body = process_text(report, &whole, &doubts);
    if process_fails {
        put(format_args!(
            "      <failure message=\"{}\" type=\"{}\">{}</failure>\n",
            attribute(&report.headline()),
            report.judgement.outcome.name(),
            element(&body)
        ));
    } else {
        if is_unknown {
            put(format_args!("      <skipped message=\"{}\"/>\n", attribute(&doubts.join("; "))));
        }
        put(format_args!("      <system-out>{}</system-out>\n", element(&body)));
    }
    put(format_args!("    </testcase>\n"));
    for row in sites.iter().take(CASES_MAX) {
        case(report, row, &class, &mut put);
    }
    if left_out > 0 {
        put(format_args!("    <system-out>{left_out} more lines were judged and do nothing</system-out>\n"));
    }
    put(format_args!("  </testsuite>\n</testsuites>\n"));
    xml
}

fn case(report: &CheckReport<'_>, row: &Compared, class: &str, put: &mut impl FnMut(std::fmt::Arguments<'_>)) {
    // The id makes the name unique, and the same in the next run.
    let site = row.site().map(|site| format!(" [{site}]")).unwrap_or_default();
    let at = file_and_line(row).map(|place| format!(" {}", place.rsplit('/').next().unwrap_or(&place)));
    let name = attribute(&format!("{}{}{site}", subject(row), at.unwrap_or_default()));
    if !row.fails {
        put(format_args!("    <testcase classname=\"{class}\" name=\"{name}\" time=\"0\"/>\n"));
        return;
    }
    let why = human::plain(&report.why(row));
    let mut body = format!("{}\n{}\n{why}\n", subject(row), file_and_line(row).unwrap_or_default());
    let stack = report.live(row).and_then(|live| live.paths.first());
    for frame in stack.iter().flat_map(|path| &path.frames).take(FRAMES_MAX) {
        let (function, file) = (untrusted::name(&frame.function), untrusted::path(&frame.file));
        writeln!(body, "    {function}  {file}:{}", frame.line).unwrap_or_default();
    }
    put(format_args!(
        "    <testcase classname=\"{class}\" name=\"{name}\" time=\"0\">\n      <failure message=\"{}\" \
         type=\"{}\">{}</failure>\n    </testcase>\n",
        attribute(&format!("{}: {why}", subject(row))),
        verdict(row).name(),
        element(&body)
    ));
}

fn process_text(report: &CheckReport<'_>, whole: &[&Compared], doubts: &[String]) -> String {
    let mut lines = vec![report.headline(), format!("measured: {}", report.scope())];
    lines.extend(report.compared_with().map(|of| format!("baseline: {of}")));
    lines.extend(whole.iter().map(|row| format!("{}, {}: {}", subject(row), verdict(row).name(), report.why(row))));
    lines.extend(doubts.iter().map(|doubt| format!("not certain: {doubt}")));
    lines.extend(report.forecast());
    human::plain(&lines.join("\n"))
}

/// `2026-01-31T12:00:00`, as the readers want it: UTC.
fn timestamp(report: &CheckReport<'_>) -> String {
    let seconds = report.started_unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, chrono-compatible low-level date algorithms: `civil_from_days`, for days since 1970.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Within double quotes.
fn attribute(text: &str) -> String {
    escaped(text, true)
}

/// Between tags.
fn element(text: &str) -> String {
    escaped(text, false)
}

fn escaped(text: &str, is_attribute: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' if !is_attribute => escaped.push('\n'),
            '\u{a0}' => escaped.push(' '),
            // XML 1.0, 2.2: no other control characters, and not these two.
            '\u{fffe}' | '\u{ffff}' => write!(escaped, "\\u{{{:x}}}", u32::from(character)).unwrap_or_default(),
            other if other.is_control() => write!(escaped, "\\u{{{:x}}}", u32::from(other)).unwrap_or_default(),
            other => escaped.push(other),
        }
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
    fn the_document_of_hostile_names() {
        expect_file!["testdata/failed.xml"].assert_eq(&junit(&Checked::failed().report()));
    }

    #[test]
    fn what_is_unknown_is_skipped_and_fails_where_that_is_asked_for() {
        let mut checked = Checked::unknown();
        expect_file!["testdata/unknown.xml"].assert_eq(&junit(&checked.report()));
        checked.strict = true;
        assert!(junit(&checked.report()).contains(r#"failures="1" errors="0" skipped="0""#));
    }

    #[test]
    fn times_are_utc() {
        let mut checked = Checked::unknown();
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400_000, "2000-02-29T00:00:00"),
            (1_790_000_000_000, "2026-09-21T14:13:20"),
        ] {
            checked.started_unix_ms = unix_ms;
            assert_eq!(timestamp(&checked.report()), expected);
        }
    }

    proptest! {
        #[test]
        fn no_text_leaves_its_place(text in any_text()) {
            for escaped in [attribute(&text), element(&text)] {
                let has_signs = escaped.contains(['<', '>', '"', '\u{0}', '\u{1b}', '\u{fffe}', '\u{ffff}']);
                prop_assert!(!has_signs, "{}", escaped);
                for entity in escaped.split('&').skip(1) {
                    prop_assert!(["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|known| entity.starts_with(known)));
                }
            }
        }
    }
}
