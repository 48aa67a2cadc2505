//! The baseline file of `leakline check`: what was measured of an earlier run, as `leakline-baseline/1`.
//!
//! Made to be committed: sites are sorted by their names, one a line, and numbers have four digits, so that a difference
//! between two baselines shows what changed. The counterpart is `docs/schema/baseline.schema.json`. A file is the word of a
//! stranger: sizes and counts are bounded, names are escaped where they are shown.

use serde::{Deserialize, Serialize};

use crate::model::compare::{Measure, Place, Quantity};
use crate::model::gate::Baseline;
use crate::model::verdict::Verdict;
use crate::model::{Rate, SiteId};

/// The schema's name; what it means changes only with the number.
pub const SCHEMA: &str = "leakline-baseline/1";
/// Longest file that is read.
pub const BYTES_MAX: u64 = 16 << 20;
/// Most sites of a kind that are written: those that grow, then those that hold most.
const SITES_MAX: usize = 2000;
/// Fields of the process as a whole.
const WHOLE: [(&str, Quantity); 3] =
    [("process", Quantity::Bytes), ("goroutines", Quantity::Goroutines), ("native", Quantity::Native)];
/// Digits of a number.
const DIGITS: i32 = 4;

/// Why a file is no baseline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// Not JSON, or not of this shape.
    #[error("not a baseline of leakline")]
    Malformed(#[from] serde_json::Error),
    /// Of another version.
    #[error("has the schema {found:?}, and this leakline reads {SCHEMA}: write it anew with --write-baseline")]
    Schema {
        /// As found.
        found: String,
    },
    /// A word that is none of ours.
    #[error("{what} cannot be {found:?}")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// As found.
        found: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    go_version: String,
    window_s: f64,
    cycles: u64,
    evidence: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(flatten)]
    header: Header,
    process: Row,
    #[serde(default)]
    goroutines: Option<Row>,
    #[serde(default)]
    native: Option<Row>,
    sites: Vec<Row>,
    #[serde(default)]
    goroutine_sites: Vec<Row>,
}

/// A site, or without its first fields a process.
#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    verdict: String,
    /// Bytes per second, or goroutines per second. Absent where nothing is beyond chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    growth_per_s: Option<RateRow>,
    /// Bytes or goroutines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    live: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct RateRow {
    value: f64,
    low: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    high: Option<f64>,
}

/// The file's text.
///
/// # Errors
/// Where a number is none.
pub fn text(baseline: &Baseline) -> serde_json::Result<String> {
    let header = Header {
        schema: SCHEMA.to_owned(),
        module: baseline.module.clone(),
        version: baseline.version.clone(),
        go_version: baseline.go_version.clone(),
        window_s: rounded(baseline.window_s),
        cycles: baseline.cycles,
        evidence: baseline.evidence.clone(),
    };
    let header = serde_json::to_string_pretty(&header)?;
    let mut text = header.trim_end_matches(['}', '\n']).to_owned();
    for (name, quantity) in WHOLE {
        let whole = baseline.measures.iter().find(|measure| measure.quantity == quantity && measure.site.is_none());
        if let Some(whole) = whole {
            text.extend([",\n  \"", name, "\": ", &serde_json::to_string(&row(whole))?]);
        }
    }
    for (name, quantity) in [("sites", Quantity::Bytes), ("goroutine_sites", Quantity::Goroutines)] {
        let rows = sites(&baseline.measures, quantity).into_iter();
        let lines = rows.map(|site| serde_json::to_string(&row(site))).collect::<Result<Vec<_>, _>>()?;
        let lines: Vec<String> = lines.iter().map(|line| format!("\n    {line}")).collect();
        let end = if lines.is_empty() { "]" } else { "\n  ]" };
        text.extend([",\n  \"", name, "\": [", &lines.join(","), end]);
    }
    Ok(text + "\n}\n")
}

/// Sorted by name; where there are too many, those that grow and those that hold most.
fn sites(measures: &[Measure], quantity: Quantity) -> Vec<&Measure> {
    let mut sites: Vec<&Measure> =
        measures.iter().filter(|measure| measure.quantity == quantity && measure.site.is_some()).collect();
    let live = |measure: &Measure| measure.live.unwrap_or_default();
    sites.sort_by(|one, other| {
        other.growth.is_some().cmp(&one.growth.is_some()).then_with(|| live(other).total_cmp(&live(one)))
    });
    sites.truncate(SITES_MAX);
    sites.sort_by(|one, other| (&one.place, one.site).cmp(&(&other.place, other.site)));
    sites
}

fn row(measure: &Measure) -> Row {
    let place = measure.place.as_ref();
    Row {
        site: measure.site.map(|site| site.to_string()),
        function: place.map(|place| place.function.clone()),
        file: place.map(|place| place.file.clone()).filter(|file| !file.is_empty()),
        line: place.map(|place| place.line).filter(|line| *line > 0),
        verdict: measure.verdict.name().to_owned(),
        growth_per_s: measure.growth.filter(|growth| growth.value.is_finite() && growth.low.is_finite()).map(
            |growth| RateRow {
                value: rounded(growth.value),
                low: rounded(growth.low),
                high: growth.high.filter(|high| high.is_finite()).map(rounded),
            },
        ),
        live: measure.live.filter(|live| live.is_finite()).map(rounded),
    }
}

/// With four significant digits.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the exponent of an f64 is far within an i32")]
    let exponent = value.abs().log10().floor() as i32;
    // What has more digits before the point is whole anyhow.
    let scale = 10_f64.powi(exponent - DIGITS + 1);
    let rounded = (value / scale).round() * scale;
    format!("{rounded:.6}").parse().unwrap_or(rounded)
}

/// Reads the text of a file.
///
/// # Errors
/// Where it is none of ours, or of another version.
pub fn parse(text: &str) -> Result<Baseline, BaselineError> {
    #[derive(Deserialize)]
    struct Only {
        schema: String,
    }
    let Only { schema } = serde_json::from_str(text)?;
    if schema != SCHEMA {
        return Err(BaselineError::Schema { found: schema.chars().take(64).collect() });
    }
    let document: Document = serde_json::from_str(text)?;
    let Header { module, version, go_version, window_s, cycles, evidence, .. } = document.header;
    let mut measures = vec![measure(document.process, Quantity::Bytes)?];
    let others = [(document.goroutines, Quantity::Goroutines), (document.native, Quantity::Native)];
    for (row, quantity) in others.into_iter().filter_map(|(row, quantity)| Some((row?, quantity))) {
        measures.push(measure(row, quantity)?);
    }
    for (rows, quantity) in [(document.sites, Quantity::Bytes), (document.goroutine_sites, Quantity::Goroutines)] {
        for row in rows {
            measures.push(measure(row, quantity)?);
        }
    }
    Ok(Baseline { module, version, go_version, window_s, cycles, evidence, measures })
}

fn measure(row: Row, quantity: Quantity) -> Result<Measure, BaselineError> {
    let site = row.site.map(|site| site_id(&site).ok_or(BaselineError::Unknown { what: "a site", found: site }));
    let function = row.function.unwrap_or_default();
    let place = Place { function, file: row.file.unwrap_or_default(), line: row.line.unwrap_or_default() };
    let site = site.transpose()?;
    Ok(Measure {
        quantity,
        site,
        place: site.map(|_| place),
        verdict: verdict(&row.verdict).ok_or(BaselineError::Unknown { what: "a verdict", found: row.verdict })?,
        growth: row.growth_per_s.map(|RateRow { value, low, high }| Rate { value, low, high }),
        live: row.live,
    })
}

fn site_id(text: &str) -> Option<SiteId> {
    (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(SiteId)).flatten()
}

fn verdict(name: &str) -> Option<Verdict> {
    use Verdict::{Growing, Leaking, Shrinking, Steady, Unknown, WarmingUp};
    [Unknown, Shrinking, Steady, WarmingUp, Growing, Leaking].into_iter().find(|verdict| verdict.name() == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::export::check::fixture;
    use crate::export::json::closed_schema::closed;

    #[test]
    fn a_baseline_is_sorted_by_name_one_site_a_line() {
        let mut baseline = fixture::baseline();
        baseline.measures.reverse();
        let text = text(&baseline).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("\"site\"")).collect();
        assert_eq!(lines.len(), 3, "{text}");
        let mut sorted = lines.clone();
        sorted.sort_by_key(|line| line.split("\"function\":").nth(1).unwrap().to_owned());
        assert_eq!(lines, sorted);
        assert!(text.contains(r#""growth_per_s":{"value":994300.0,"low":984700.0,"high":1004000.0}"#), "{text}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = text(&fixture::baseline()).unwrap();
        let again = parse(&text).unwrap();
        assert_eq!(self::text(&again).unwrap(), text);
        assert_eq!(again.measures.len(), fixture::baseline().measures.len());
        assert_eq!(again.module.as_deref(), Some("example.com/shop"));
    }

    #[test]
    fn a_baseline_is_what_its_schema_says() {
        let schema: Value = serde_json::from_str(include_str!("../../../docs/schema/baseline.schema.json")).unwrap();
        let validator = jsonschema::validator_for(&closed(schema)).unwrap();
        let document = serde_json::from_str(&text(&fixture::baseline()).unwrap()).unwrap();
        let problems: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:#?}");
    }

    #[test]
    fn other_files_are_refused_with_what_is_wrong() {
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        assert!(refused("{}").contains("not a baseline"));
        assert!(refused(r#"{"schema":"leakline-baseline/2"}"#).contains("leakline-baseline/2"));
        let text = text(&fixture::baseline()).unwrap();
        assert!(refused(&text.replacen("leaking", "evil", 1)).contains("evil"));
        assert!(refused(&text.replacen("\"site\":\"", "\"site\":\"x", 1)).contains("a site"));
    }

    #[test]
    fn numbers_have_four_digits() {
        let cases = [(123_456.0, 123_500.0), (0.123_456, 0.1235), (-98_765.4, -98_770.0), (0.0, 0.0), (f64::NAN, 0.0)];
        for (value, expected) in cases {
            assert!((rounded(value) - expected).abs() < 1e-9, "{value}: {}", rounded(value));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in crate::export::fixture::any_text()) {
            drop(parse(&text));
        }
    }
}
