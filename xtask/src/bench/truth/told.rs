//! What `knownlines` says that it did. Counterpart: `tracer-daemon/tests/programs/knownlines/main.go`.
//!
//! Refuses a window that the program has not told of up to its end. A last line that is cut off is left out, since a program may be
//! ended while it prints.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// What was done at one line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Amount {
    pub(super) objects: f64,
    /// Of their slots.
    pub(super) bytes: f64,
    /// Objects of those that stay for ever.
    pub(super) kept: f64,
}

impl Amount {
    fn combine(self, other: Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            objects: with(self.objects, other.objects),
            bytes: with(self.bytes, other.bytes),
            kept: with(self.kept, other.kept),
        }
    }
}

/// What was done within a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) seconds: f64,
    /// Collections that ended.
    pub(super) collections: f64,
    /// By the name of the line.
    pub(super) lines: BTreeMap<String, Amount>,
}

/// Sums since the beginning, at one time.
#[derive(Deserialize)]
struct Line {
    knownlines: String,
    unix_ms: f64,
    #[serde(default)]
    gc: f64,
    #[serde(default)]
    lines: Vec<ToldLine>,
}

#[derive(Deserialize)]
struct ToldLine {
    name: String,
    objects: f64,
    bytes: f64,
    kept: f64,
}

/// What was done from one time to another, milliseconds since 1970, by all that the program printed. Between two lines of it in proportion.
pub(super) fn within(printed: &str, from_ms: f64, to_ms: f64) -> Result<Done> {
    let lines: Vec<Line> = printed.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<Line> = lines.into_iter().filter(|line| line.knownlines == "truth").collect();
    let (gc_before, before) =
        at(&lines, from_ms).context("the program told nothing yet when it was looked at first")?;
    let (gc_after, after) = at(&lines, to_ms).context("the program told nothing more when it was looked at last")?;
    let amounts = after.into_iter().map(|(name, after)| {
        let before = before.get(&name).copied().unwrap_or_default();
        (name, after.combine(before, |after, before| after - before))
    });
    Ok(Done { seconds: (to_ms - from_ms) / 1000.0, collections: gc_after - gc_before, lines: amounts.collect() })
}

/// Collections and amounts at a time. None where nothing was told before it or behind it.
fn at(lines: &[Line], unix_ms: f64) -> Option<(f64, BTreeMap<String, Amount>)> {
    let after = lines.partition_point(|line| line.unix_ms <= unix_ms);
    let (earlier, later) = (lines.get(after.checked_sub(1)?)?, lines.get(after)?);
    let share = (unix_ms - earlier.unix_ms) / (later.unix_ms - earlier.unix_ms);
    let between = |one: f64, other: f64| one + (other - one) * share;
    let amount = |line: &ToldLine| Amount { objects: line.objects, bytes: line.bytes, kept: line.kept };
    let amounts = later.lines.iter().map(|line| {
        let before = earlier.lines.iter().find(|known| known.name == line.name).map(amount).unwrap_or_default();
        (line.name.clone(), before.combine(amount(line), between))
    });
    Some((between(earlier.gc, later.gc), amounts.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
{\"knownlines\":\"ready\",\"unix_ms\":1000,\"shape\":\"survival\"}
{\"knownlines\":\"truth\",\"unix_ms\":1000,\"gc\":2,\"lines\":[{\"name\":\"a\",\"objects\":0,\"bytes\":0,\"kept\":0}]}
{\"knownlines\":\"truth\",\"unix_ms\":2000,\"gc\":4,\"lines\":[{\"name\":\"a\",\"objects\":10,\"bytes\":640,\"kept\":1}]}
{\"knownlines\":\"truth\",\"unix_ms\":4000,\"gc\":10,\"lines\":[{\"name\":\"a\",\"objects\":30,\"bytes\":1920,\"kept\":3}]}
{\"knownlines\":\"tru";

    #[test]
    fn amounts_between_two_lines_are_in_proportion() {
        let done = within(PRINTED, 1500.0, 3000.0).unwrap();
        assert!((done.seconds - 1.5).abs() < 1e-9 && (done.collections - 4.0).abs() < 1e-9, "{done:?}");
        let amount = done.lines["a"];
        assert!((amount.objects - 15.0).abs() < 1e-9, "{amount:?}");
        assert!((amount.bytes - 960.0).abs() < 1e-9 && (amount.kept - 1.5).abs() < 1e-9, "{amount:?}");
    }

    #[test]
    fn a_window_beyond_what_was_told_is_refused() {
        assert!(within(PRINTED, 900.0, 2000.0).is_err());
        assert!(within(PRINTED, 1000.0, 4100.0).is_err());
        assert!(within("", 0.0, 1.0).is_err());
    }
}
