//! The document of `leakline check --output json`; its counterpart is `docs/schema/check.schema.json`.

use serde::Serialize;

use super::{CheckReport, doubt, verdict};
use crate::export::json::{self, SCHEMA};
use crate::export::{human, untrusted};
use crate::model;
use crate::model::compare::{Compared, Measure};
use crate::symbolize;

/// Sites that do nothing are counted, and these many of the others are in the document.
const SITES_MAX: usize = 10_000;
/// Stacks of a site.
const PATHS_MAX: usize = 5;

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    started_unix_ms: u64,
    window_s: f64,
    process: json::Process,
    evidence: Evidence,
    check: Check,
}

#[derive(Serialize)]
struct Evidence {
    used: Vec<&'static str>,
    refused: Vec<Sentence>,
}

#[derive(Serialize)]
struct Sentence {
    id: String,
    text: String,
}

#[derive(Serialize)]
struct Check {
    command: String,
    outcome: &'static str,
    fails: bool,
    strict: bool,
    fail_on: &'static str,
    level: f64,
    tolerance: f64,
    cycles: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_to_limit: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Baseline>,
    doubts: Vec<Sentence>,
    whole: Vec<Row>,
    sites: Vec<Row>,
    quiet_sites: usize,
}

#[derive(Serialize)]
struct Baseline {
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    go_version: String,
    window_s: f64,
    cycles: u64,
    evidence: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    quantity: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    change: &'static str,
    fails: bool,
    verdict: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Side>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Side>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paths: Vec<Path>,
}

#[derive(Serialize)]
struct Side {
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_per_s: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<f64>,
}

#[derive(Serialize)]
struct Rate {
    value: f64,
    low: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
}

#[derive(Serialize)]
struct Path {
    share: f64,
    frames: Vec<Frame>,
}

#[derive(Serialize)]
struct Frame {
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    inlined: bool,
}

/// The report as one line of JSON without the line feed.
///
/// # Errors
/// None that is known.
pub fn line(report: &CheckReport<'_>) -> serde_json::Result<String> {
    let CheckReport { judgement, rules, snapshot, .. } = report;
    let is_whole = |row: &&Compared| row.site().is_none();
    serde_json::to_string(&Document {
        schema: SCHEMA,
        started_unix_ms: report.started_unix_ms,
        window_s: finite(snapshot.window_s).unwrap_or_default(),
        process: json::process(report.process),
        evidence: Evidence {
            used: snapshot.evidence.iter().map(|evidence| evidence.name()).collect(),
            refused: report.refusals.iter().map(|refusal| sentence(&refusal.id, &refusal.text)).collect(),
        },
        check: Check {
            command: name(report.command),
            outcome: judgement.outcome.name(),
            fails: report.fails(),
            strict: report.strict,
            fail_on: rules.fail_on.name(),
            level: rules.level,
            tolerance: rules.tolerance,
            cycles: snapshot.assessment.as_deref().map_or(0, |assessment| assessment.cycles),
            seconds_to_limit: snapshot.forecast.and_then(|forecast| rate(forecast.seconds)),
            baseline: report.baseline.map(|baseline| Baseline {
                module: baseline.module.as_deref().map(name),
                version: baseline.version.as_deref().map(name),
                go_version: name(&baseline.go_version),
                window_s: finite(baseline.window_s).unwrap_or_default(),
                cycles: baseline.cycles,
                evidence: baseline.evidence.iter().map(|evidence| name(evidence)).collect(),
            }),
            doubts: judgement.doubts.iter().map(|of| sentence(of.id(), &human::plain(&doubt(of)))).collect(),
            whole: judgement.rows.iter().filter(is_whole).map(|whole| row(report, whole)).collect(),
            sites: report.shown().filter(|row| !is_whole(row)).take(SITES_MAX).map(|site| row(report, site)).collect(),
            quiet_sites: report.quiet(),
        },
    })
}

fn row(report: &CheckReport<'_>, row: &Compared) -> Row {
    let newest = row.newest();
    let place = newest.and_then(|newest| newest.place.as_ref());
    let paths = report.live(row).map_or(&[][..], |live| &live.paths);
    Row {
        quantity: newest.map_or("", |newest| newest.quantity.name()),
        site: row.site().map(|site| site.to_string()),
        function: place.map(|place| name(&place.function)),
        file: place.filter(|place| !place.file.is_empty()).map(|place| untrusted::path(&place.file).into_owned()),
        line: place.map(|place| place.line).filter(|line| *line > 0),
        change: row.change.name(),
        fails: row.fails,
        verdict: verdict(row).name(),
        why: human::plain(&report.why(row)),
        p_value: row.p_value.and_then(finite),
        before: row.before.as_ref().map(side),
        after: row.after.as_ref().map(side),
        paths: paths
            .iter()
            .take(PATHS_MAX)
            .map(|path| Path {
                share: finite(path.share).unwrap_or_default(),
                frames: path.frames.iter().map(frame).collect(),
            })
            .collect(),
    }
}

fn side(measure: &Measure) -> Side {
    let live = measure.live.and_then(finite);
    Side { verdict: measure.verdict.name(), growth_per_s: measure.growth.and_then(rate), live }
}

fn frame(frame: &symbolize::Frame) -> Frame {
    Frame {
        function: name(&frame.function),
        file: (!frame.file.is_empty()).then(|| untrusted::path(&frame.file).into_owned()),
        line: (frame.line > 0).then_some(frame.line),
        inlined: frame.inlined,
    }
}

fn sentence(id: &str, text: &str) -> Sentence {
    Sentence { id: name(id), text: untrusted::name(text).into_owned() }
}

fn name(text: &str) -> String {
    untrusted::name(text).into_owned()
}

fn rate(rate: model::Rate) -> Option<Rate> {
    Some(Rate { value: finite(rate.value)?, low: finite(rate.low)?, high: rate.high.and_then(finite) })
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::export::check::fixture::{self, Checked};
    use crate::export::json::closed_schema::closed;

    #[test]
    fn the_document_is_what_its_schema_says() {
        let schema = include_str!("../../../../docs/schema/check.schema.json");
        let validator = jsonschema::validator_for(&closed(serde_json::from_str(schema).unwrap())).unwrap();
        for checked in [Checked::failed(), Checked::without_baseline(), Checked::unknown()] {
            let document: Value = serde_json::from_str(&line(&checked.report()).unwrap()).unwrap();
            let problems: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
            assert!(problems.is_empty(), "{problems:#?}");
        }
    }

    #[test]
    fn the_line_that_fails_is_the_first_with_its_way_and_reason() {
        let checked = Checked::failed();
        let document: Value = serde_json::from_str(&line(&checked.report()).unwrap()).unwrap();
        let check = &document["check"];
        assert_eq!((&check["outcome"], &check["fails"]), (&"failed".into(), &true.into()));
        let site = &check["sites"][0];
        assert_eq!(site["function"], fixture::HOSTILE_ESCAPED);
        assert_eq!(
            (&site["change"], &site["fails"], &site["verdict"]),
            (&"new".into(), &true.into(), &"leaking".into())
        );
        assert!(site["paths"][0]["frames"].as_array().is_some_and(|frames| !frames.is_empty()), "{site}");
    }
}
