//! `OpenMetrics` text to the classic Prometheus text format (`text/plain; version=0.0.4`).
//!
//! Pure text to text, so that there is one encoder. What differs: HELP and TYPE carry the name that the samples have
//! (`…_total`, `…_info`), info and stateset are gauges, `unknown` is `untyped`; `# UNIT`, `# EOF`, `_created` samples,
//! exemplars and timestamps are dropped. Refuses to repair input that is not `OpenMetrics`: such lines pass unchanged.

use std::collections::BTreeMap;

/// The same samples in the classic format.
pub fn from_open_metrics(text: &str) -> String {
    let families: BTreeMap<&str, &str> = text.lines().filter_map(|line| metadata(line, "TYPE")).collect();
    let mut classic = String::with_capacity(text.len());
    for line in text.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") || line.is_empty() {
            continue;
        }
        if let Some((name, help)) = metadata(line, "HELP") {
            let kind = families.get(name).copied().unwrap_or_default();
            // Only `\\` and `\n` are escapes in a classic HELP text; a quote stands for itself.
            push_line(&mut classic, &["# HELP ", name, suffix(kind), " ", &unescape_quotes(help)]);
        } else if let Some((name, kind)) = metadata(line, "TYPE") {
            push_line(&mut classic, &["# TYPE ", name, suffix(kind), " ", classic_kind(kind)]);
        } else if line.starts_with('#') {
            push_line(&mut classic, &[line]);
        } else {
            push_sample(&mut classic, line, &families);
        }
    }
    classic
}

/// The family and the rest of `# KEYWORD family rest`.
fn metadata<'a>(line: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let rest = line.strip_prefix("# ")?.strip_prefix(keyword)?.strip_prefix(' ')?;
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

fn suffix(open_metrics_kind: &str) -> &'static str {
    match open_metrics_kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

fn classic_kind(open_metrics_kind: &str) -> &str {
    match open_metrics_kind {
        "info" | "stateset" => "gauge",
        "unknown" | "gaugehistogram" => "untyped",
        same => same,
    }
}

/// `name{labels} value`, without the timestamp and exemplar that may follow; nothing for a `_created` sample.
fn push_sample(classic: &mut String, line: &str, families: &BTreeMap<&str, &str>) {
    let series_end = series_end(line);
    let (series, rest) = line.split_at_checked(series_end).unwrap_or((line, ""));
    let name = series.split('{').next().unwrap_or(series);
    let is_created = name
        .strip_suffix("_created")
        .and_then(|family| families.get(family))
        .is_some_and(|kind| matches!(*kind, "counter" | "histogram" | "summary"));
    if is_created {
        return;
    }
    match rest.split_ascii_whitespace().next() {
        Some(value) => push_line(classic, &[series, " ", value]),
        None => push_line(classic, &[line]),
    }
}

/// Where `name{labels}` ends. Braces, spaces and `#` inside of quotes are part of a label value.
fn series_end(line: &str) -> usize {
    let (mut in_labels, mut in_quotes, mut escaped) = (false, false, false);
    for (index, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_quotes => escaped = true,
            b'"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            b'{' => in_labels = true,
            b'}' => return index + 1,
            b' ' if !in_labels => return index,
            _ => {}
        }
    }
    line.len()
}

fn unescape_quotes(help: &str) -> String {
    let mut unescaped = String::with_capacity(help.len());
    let mut characters = help.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some('"')) => {}
            ('\\', Some(&next)) => {
                unescaped.push(character);
                unescaped.push(next);
                characters.next();
            }
            _ => unescaped.push(character),
        }
    }
    unescaped
}

fn push_line(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use prometheus_client::{metrics::counter::Counter, metrics::family::Family, registry::Registry};
    use proptest::prelude::*;

    use super::*;
    use crate::export::fixture;

    #[track_caller]
    fn check(open_metrics: &str, expected: &Expect) {
        expected.assert_eq(&from_open_metrics(open_metrics));
    }

    #[test]
    fn counters_and_infos_are_named_as_their_samples() {
        check(
            "# HELP a_bytes Bytes.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total{x=\"1\"} 5\n\
             # HELP b Facts.\n# TYPE b info\nb_info{v=\"1\"} 1\n# HELP c Level.\n# TYPE c gauge\nc 1.5\n# EOF\n",
            &expect![[r#"
                # HELP a_bytes_total Bytes.
                # TYPE a_bytes_total counter
                a_bytes_total{x="1"} 5
                # HELP b_info Facts.
                # TYPE b_info gauge
                b_info{v="1"} 1
                # HELP c Level.
                # TYPE c gauge
                c 1.5
            "#]],
        );
    }

    #[test]
    fn other_kinds_get_their_classic_names() {
        check(
            "# TYPE s stateset\ns{s=\"a\"} 1\n# TYPE u unknown\nu 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\n\
             h_sum 2.0\nh_count 1\nh_created 1.5e9\n# EOF\n",
            &expect![[r#"
                # TYPE s gauge
                s{s="a"} 1
                # TYPE u untyped
                u 1
                # TYPE h histogram
                h_bucket{le="+Inf"} 1
                h_sum 2.0
                h_count 1
            "#]],
        );
    }

    #[test]
    fn exemplars_timestamps_and_created_samples_are_dropped() {
        check(
            "# TYPE a counter\na_total{x=\"1\"} 5 1700000000.5 # {trace=\"} 7\"} 0.5 1700000000.0\n\
             a_total 6 # {} 1\na_created{x=\"1\"} 1.7e9\n# TYPE b_created gauge\nb_created 4\n# EOF\n",
            &expect![[r#"
                # TYPE a_total counter
                a_total{x="1"} 5
                a_total 6
                # TYPE b_created gauge
                b_created 4
            "#]],
        );
    }

    #[test]
    fn label_values_may_look_like_syntax() {
        check(
            "# TYPE a counter\na_total{f=\"main.f[...]{} # {\",g=\"} 9 \\\" \\\\\"} 5\na_total{f=\"a # EOF\\n# TYPE\"} 6\n# EOF\n",
            &expect![[r#"
                # TYPE a_total counter
                a_total{f="main.f[...]{} # {",g="} 9 \" \\"} 5
                a_total{f="a # EOF\n# TYPE"} 6
            "#]],
        );
    }

    #[test]
    fn quotes_in_help_stand_for_themselves() {
        check(
            "# HELP a Says \\\"other\\\", a \\\\ and a\\nbreak.\n# TYPE a gauge\n# EOF\n",
            &expect![[r#"
                # HELP a Says "other", a \\ and a\nbreak.
                # TYPE a gauge
            "#]],
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in fixture::any_text()) {
            from_open_metrics(&text);
        }

        /// Whatever the label value is, as the encoder writes it, the sample line survives byte for byte.
        #[test]
        fn any_label_value_passes_unchanged(value in fixture::any_text()) {
            let mut registry = Registry::default();
            let family: Family<[(&str, String); 1], Counter> = Family::default();
            registry.register("a", "Help", family.clone());
            family.get_or_create(&[("f", value)]).inc_by(3);
            let mut open_metrics = String::new();
            prometheus_client::encoding::text::encode(&mut open_metrics, &registry).unwrap();
            let sample = open_metrics.lines().find(|line| line.starts_with("a_total{")).unwrap();
            prop_assert!(from_open_metrics(&open_metrics).lines().any(|line| line == sample));
        }
    }
}
