//! What a program of the zoo says that it has leaked, and which lines do it. Counterpart: `tests/programs/zoo/truth/run.go`.
//!
//! Refuses output that has no beginning or none of its numbers; a last line that is cut off is left out, since a program
//! may be ended while it prints.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::source_marks::{Marks, Place};

/// Where leaked memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Heap,
    Goroutine,
    Native,
}

/// What lives because of a leak, at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Amount {
    pub(super) objects: f64,
    pub(super) bytes: f64,
    /// Bytes by slot size; 0 stands for objects that have a span each.
    pub(super) sizes: BTreeMap<u64, f64>,
}

/// One leak over time.
#[derive(Clone, Debug)]
pub(super) struct Leak {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) places: Vec<Place>,
    /// Names of functions begin with one of these, where no line can carry a mark.
    pub(super) functions: Vec<String>,
    amounts: Vec<(f64, Amount)>,
}

impl Leak {
    /// At a time in milliseconds since 1970, between two that were told in proportion; before the first and behind the last
    /// as told.
    pub(super) fn at(&self, unix_ms: f64) -> Amount {
        let after = self.amounts.partition_point(|(time, _)| *time <= unix_ms);
        let (Some((earlier_ms, earlier)), Some((later_ms, later))) =
            (self.amounts.get(after.wrapping_sub(1)), self.amounts.get(after))
        else {
            let end = if after == 0 { self.amounts.first() } else { self.amounts.last() };
            return end.map(|(_, amount)| amount.clone()).unwrap_or_default();
        };
        let share = (unix_ms - earlier_ms) / (later_ms - earlier_ms);
        let between = |one: f64, other: f64| one + (other - one) * share;
        let sizes = later.sizes.iter().map(|(&slot, &bytes)| {
            let before = earlier.sizes.get(&slot).copied().unwrap_or_default();
            (slot, between(before, bytes))
        });
        Amount {
            objects: between(earlier.objects, later.objects),
            bytes: between(earlier.bytes, later.bytes),
            sizes: sizes.collect(),
        }
    }

    /// Growth per second from one time to another.
    pub(super) fn rate(&self, from_ms: f64, to_ms: f64) -> Amount {
        let (before, after) = (self.at(from_ms), self.at(to_ms));
        let per_second = |growth: f64| growth / ((to_ms - from_ms) / 1000.0);
        let sizes = after
            .sizes
            .iter()
            .map(|(&slot, &bytes)| (slot, per_second(bytes - before.sizes.get(&slot).copied().unwrap_or_default())));
        Amount {
            objects: per_second(after.objects - before.objects),
            bytes: per_second(after.bytes - before.bytes),
            sizes: sizes.collect(),
        }
    }

    /// Whether a site with this function, file and line is the leak's.
    pub(super) fn has(&self, function: &str, file: &str, line: u64) -> bool {
        self.places.iter().any(|place| place.is(file, line))
            || self.functions.iter().any(|name| function.starts_with(name.as_str()))
    }
}

/// All that a program said.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    pub(super) leaks: Vec<Leak>,
    pub(super) also: Vec<Place>,
    /// Ends of collections until then.
    collections: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Line {
    zoo: String,
    unix_ms: f64,
    #[serde(default)]
    gc: f64,
    #[serde(default)]
    leaks: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    name: String,
    kind: Option<Kind>,
    #[serde(default)]
    functions: Vec<String>,
    #[serde(default)]
    objects: f64,
    #[serde(default)]
    bytes: f64,
    #[serde(default)]
    sizes: BTreeMap<String, f64>,
}

impl Truth {
    pub(super) fn parse(text: &str, marks: &Marks) -> Result<Self> {
        let lines: Vec<Line> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
        let ready =
            lines.iter().find(|line| line.zoo == "ready").context("the program did not say that it is ready")?;
        let mut leaks = Vec::new();
        for told in &ready.leaks {
            let places = marks.sites.get(&told.name).cloned().unwrap_or_default();
            let kind = told.kind.with_context(|| format!("the leak {} has no kind", told.name))?;
            ensure!(
                kind == Kind::Native || !(places.is_empty() && told.functions.is_empty()),
                "no line is marked //site:{}",
                told.name
            );
            let functions = told.functions.clone();
            leaks.push(Leak { name: told.name.clone(), kind, places, functions, amounts: Vec::new() });
        }
        let mut collections = Vec::new();
        for line in lines.iter().filter(|line| line.zoo == "truth" || line.zoo == "end") {
            collections.push((line.unix_ms, line.gc));
            for told in &line.leaks {
                let Some(leak) = leaks.iter_mut().find(|leak| leak.name == told.name) else { continue };
                // The last two may be of one millisecond.
                if leak.amounts.last().is_some_and(|(time, _)| *time >= line.unix_ms) {
                    continue;
                }
                let sizes = told.sizes.iter().filter_map(|(slot, bytes)| Some((slot.parse().ok()?, *bytes))).collect();
                leak.amounts.push((line.unix_ms, Amount { objects: told.objects, bytes: told.bytes, sizes }));
            }
        }
        ensure!(collections.len() > 1, "the program told no numbers");
        Ok(Self { leaks, also: marks.also.clone(), collections })
    }

    /// Seconds from a time until so many collections more have ended. None: never, while it told.
    pub(super) fn collections_passed_after_s(&self, from_ms: f64, count: f64) -> Option<f64> {
        let before = self.collections.iter().rev().find(|(time, _)| *time <= from_ms).map_or(0.0, |(_, gc)| *gc);
        let (time, _) = self.collections.iter().find(|(_, gc)| *gc >= before + count)?;
        Some((time - from_ms).max(0.0) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "\
{\"zoo\":\"ready\",\"unix_ms\":1000,\"case\":\"x\",\"leaks\":[{\"name\":\"a\",\"kind\":\"heap\"}]}
{\"zoo\":\"truth\",\"unix_ms\":1000,\"gc\":2,\"leaks\":[{\"name\":\"a\",\"objects\":0,\"bytes\":0,\"sizes\":{}}]}
{\"zoo\":\"truth\",\"unix_ms\":2000,\"gc\":4,\"leaks\":[{\"name\":\"a\",\"objects\":10,\"bytes\":640,\"sizes\":{\"64\":640}}]}
{\"zoo\":\"event\",\"unix_ms\":2500,\"event\":\"full\"}
{\"zoo\":\"end\",\"unix_ms\":4000,\"gc\":9,\"leaks\":[{\"name\":\"a\",\"objects\":30,\"bytes\":1920,\"sizes\":{\"64\":1920}}]}
{\"zoo\":\"tru";

    fn marks() -> Marks {
        let place = |line| Place { file: "plain/x/main.go".to_owned(), line };
        Marks { sites: [("a".to_owned(), vec![place(2)])].into(), also: vec![place(3)] }
    }

    #[test]
    fn amounts_between_two_lines_are_in_proportion() {
        let truth = Truth::parse(TOLD, &marks()).unwrap();
        let leak = &truth.leaks[0];
        assert!((leak.at(1500.0).bytes - 320.0).abs() < 1e-9);
        assert!((leak.at(3000.0).sizes[&64] - 1280.0).abs() < 1e-9);
        assert!((leak.at(0.0).objects).abs() < 1e-9);
        assert!((leak.at(9000.0).objects - 30.0).abs() < 1e-9);
        assert!((leak.rate(1000.0, 4000.0).bytes - 640.0).abs() < 1e-9);
        assert!((leak.rate(1000.0, 4000.0).sizes[&64] - 640.0).abs() < 1e-9);
    }

    #[test]
    fn collections_are_counted_from_the_time_asked_for() {
        let truth = Truth::parse(TOLD, &marks()).unwrap();
        assert_eq!(truth.collections_passed_after_s(1000.0, 2.0), Some(1.0));
        assert_eq!(truth.collections_passed_after_s(2100.0, 4.0), Some(1.9));
        assert_eq!(truth.collections_passed_after_s(2100.0, 40.0), None);
    }

    #[test]
    fn a_leak_whose_line_nobody_marked_is_refused() {
        assert!(Truth::parse(TOLD, &Marks::default()).unwrap_err().to_string().contains("//site:a"));
        assert!(Truth::parse("", &marks()).is_err());
    }
}
