//! The table of lines that windows saw allocate, and what was lost of what they recorded.

use std::collections::HashMap;

use super::layout::{Page, last_columns};
use crate::{
    export::{CostFacts, human, rates},
    model::{BirthSite, Births, Rate, birth_look::BirthCounts},
    symbolize::Frame,
};

/// Lines in the table; JSON has more.
const MAX_ROWS: usize = 10;
/// Columns before the function: rate, objects, the part that stays, objects that were recorded.
const NUMBERS_WIDTH: usize = 41;

/// A line with all that is allocated there.
struct Line<'a> {
    frame: &'a Frame,
    sites: Vec<&'a BirthSite>,
}

impl Line<'_> {
    /// The sum over its sites. `None`: it is not known of all.
    fn sum(&self, of: impl Fn(&BirthSite) -> Option<Rate>) -> Option<Rate> {
        let rates: Option<Vec<Rate>> = self.sites.iter().map(|site| of(site)).collect();
        rates::sum(rates?).map(|rate| Rate { low: rate.low.max(0.0), ..rate })
    }

    /// The part that stays, of each site in proportion to its bytes. `None`: it is not known of all.
    fn survival(&self) -> Option<Rate> {
        let (mut bytes, mut sum) = (0.0, [0.0; 3]);
        for site in &self.sites {
            let rate = site.survival.filter(|_| site.is_settled)?;
            let own = site.alloc_bytes_per_s?.value;
            bytes += own;
            for (sum, part) in sum.iter_mut().zip([rate.value, rate.low, rate.high.unwrap_or(1.0)]) {
                *sum += part * own;
            }
        }
        let [value, low, high] = sum.map(|sum| sum / bytes);
        (bytes > 0.0).then_some(Rate { value, low, high: Some(high) })
    }

    fn caught(&self) -> u64 {
        self.sites.iter().fold(0, |sum, site| sum.saturating_add(site.caught))
    }
}

/// All lines, most bytes first; those of which it is not known how much that is last.
fn lines(births: &Births) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut indices = HashMap::new();
    for site in births.sites.iter() {
        let key = (&site.place.function, &site.place.file, site.place.line);
        let index = *indices.entry(key).or_insert(lines.len());
        match lines.get_mut(index) {
            Some(line) => line.sites.push(site),
            None => lines.push(Line { frame: &site.place, sites: vec![site] }),
        }
    }
    let bytes = |line: &Line<'_>| line.sum(|site| site.alloc_bytes_per_s).map_or(-1.0, |rate| rate.value);
    lines.sort_by(|one, other| bytes(other).total_cmp(&bytes(one)).then_with(|| other.caught().cmp(&one.caught())));
    lines
}

pub(super) fn table(page: &mut Page, births: &Births, cost: &CostFacts) {
    page.section(
        "WHO ALLOCATES",
        &format!(
            "Estimates with 95 % intervals from {} objects that were recorded{}; what stays is what collections did not \
             free. Allocating much is not leaking.",
            human::grouped(births.counts.born),
            measured(cost),
        ),
    );
    let lines = lines(births);
    if lines.is_empty() {
        page.quiet_line("no line is known yet");
        page.blank();
        return;
    }
    let room = page.width().saturating_sub(NUMBERS_WIDTH);
    page.quiet_line(&format!(
        "{:>10}{:>11}{:>9}{:>9}  {}",
        "bytes/s", "objects/s", "stays", "recorded", "function and line"
    ));
    for line in lines.iter().take(MAX_ROWS) {
        row(page, line, room);
    }
    let hidden = lines.get(MAX_ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let bytes =
            hidden.iter().filter_map(|line| line.sum(|site| site.alloc_bytes_per_s)).map(|rate| rate.value).sum();
        let caught = hidden.iter().fold(0_u64, |sum, line| sum.saturating_add(line.caught()));
        let noun = if hidden.len() == 1 { "line" } else { "lines" };
        let rest = format!("{} more {noun} (--output json)", hidden.len());
        page.line(&format!("{:>10}{:>29}  {rest}", human::bytes(bytes), human::grouped(caught)));
    }
    page.blank();
}

/// In which windows, and what that has cost the target.
fn measured(cost: &CostFacts) -> String {
    let windows = super::books::windows(cost).map_or_else(String::new, |windows| format!(" in {windows}"));
    let paid = cost.target_ratio.filter(|_| cost.bursts.is_some());
    let paid = paid.map_or_else(String::new, |ratio| format!(", at {} of its CPU time", human::percent(ratio)));
    format!("{windows}{paid}")
}

fn row(page: &mut Page, line: &Line<'_>, room: usize) {
    let unknown = || String::from("?");
    let (bytes, survival) = (line.sum(|site| site.alloc_bytes_per_s), line.survival());
    let (columns, below) = last_columns(line.frame, room);
    page.line(&format!(
        "{:>10}{:>11}{:>9}{:>9}  {columns}",
        bytes.map_or_else(unknown, |rate| human::bytes(rate.value)),
        line.sum(|site| site.alloc_objects_per_s).map_or_else(unknown, |rate| human::count(rate.value)),
        survival.map_or_else(unknown, |rate| human::percent(rate.value)),
        human::grouped(line.caught()),
    ));
    if let Some(place) = below {
        page.quiet_line(&format!("{:NUMBERS_WIDTH$}{place}", ""));
    }
    let between = |rate: Rate, words: fn(f64) -> String| {
        let high = rate.high.map_or_else(|| String::from("?"), words);
        format!("{} to {high}", words(rate.low))
    };
    let allocates = bytes.map(|rate| format!("{}/s", between(rate, human::bytes)));
    let stays = survival.map(|rate| format!("{} stays", between(rate, human::percent)));
    let intervals: Vec<String> = allocates.into_iter().chain(stays).collect();
    if !intervals.is_empty() {
        page.indented(NUMBERS_WIDTH, &intervals.join(", "));
    }
}

/// What could not be kept of what windows saw, as hooks on every allocation say it.
pub(super) fn losses(page: &mut Page, counts: &BirthCounts) {
    let losses = counts.losses();
    let mut lost = losses.iter().filter(|loss| loss.count > 0).peekable();
    if lost.peek().is_none() {
        return;
    }
    page.section("LOST ON THE WAY", "");
    for loss in lost {
        super::exact::lost(page, loss.count, loss.text, loss.id);
    }
    page.blank();
}
