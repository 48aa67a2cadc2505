//! The table of lines that hold what is alive, and the stacks that lead to the first of them.

use std::collections::HashMap;

use super::layout::{Page, function, last_columns};
use crate::{
    export::human,
    model::{Profile, live::LiveSite},
    symbolize::Frame,
};

/// Lines in the table; JSON has all.
const MAX_ROWS: usize = 12;
/// Lines whose stacks are shown.
const MAX_STACKS: usize = 3;
/// Columns before the function: bytes, share, objects.
const NUMBERS_WIDTH: usize = 32;

/// A line with all that was allocated there and is alive.
struct Line<'a> {
    frame: &'a Frame,
    bytes: f64,
    objects: u64,
    sites: Vec<&'a LiveSite>,
}

/// All lines, most bytes first.
fn lines(profile: &Profile) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut indices = HashMap::new();
    for site in profile.sites.iter() {
        let key = (&site.place.function, &site.place.file, site.place.line);
        let index = *indices.entry(key).or_insert(lines.len());
        match lines.get_mut(index) {
            Some(line) => {
                line.bytes += site.bytes.value;
                line.objects = line.objects.saturating_add(site.objects);
                line.sites.push(site);
            }
            None => lines.push(Line {
                frame: &site.place,
                bytes: site.bytes.value,
                objects: site.objects,
                sites: vec![site],
            }),
        }
    }
    lines.sort_by(|one, other| other.bytes.total_cmp(&one.bytes));
    lines
}

pub(super) fn table(page: &mut Page, profile: &Profile) {
    let lag = match (profile.lag_cycles, profile.lag_s) {
        _ if profile.adopted_s.is_some() => {
            let seconds = human::seconds(profile.adopted_s.unwrap_or_default());
            format!(
                "of what was allocated in the {seconds} since the sampler was turned on, garbage of which nothing is known yet included"
            )
        }
        (0, _) => String::from("as of now"),
        (_, Some(seconds)) => format!("as of the collection that ended {} ago", human::seconds(seconds)),
        (cycles, None) => format!("{cycles} collections old"),
    };
    page.section(
        "WHO HOLDS IT",
        &format!(
            "What is alive, by the line that allocated it: estimates from the runtime's own samples (one in {}), {lag}. \
             Holding much is not leaking: a leak is what grows.",
            human::bytes(human::approximate(profile.rate_bytes.unsigned_abs())),
        ),
    );
    let lines = lines(profile);
    if lines.is_empty() {
        page.quiet_line("nothing was sampled yet");
        page.blank();
        return;
    }
    let total: f64 = lines.iter().map(|line| line.bytes).sum();
    let room = page.width().saturating_sub(NUMBERS_WIDTH);
    page.quiet_line(&format!("{:>10}{:>9}{:>11}  {}", "alive", "share", "objects", "function and line"));
    for line in lines.iter().take(MAX_ROWS) {
        let (columns, below) = last_columns(line.frame, room);
        page.line(&row(line.bytes, total, line.objects, &columns));
        if let Some(place) = below {
            page.quiet_line(&format!("{:NUMBERS_WIDTH$}{place}", ""));
        }
    }
    let hidden = lines.get(MAX_ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let bytes = hidden.iter().map(|line| line.bytes).sum();
        let objects = hidden.iter().fold(0_u64, |sum, line| sum.saturating_add(line.objects));
        let noun = if hidden.len() == 1 { "line" } else { "lines" };
        page.line(&row(bytes, total, objects, &format!("{} more {noun} (--output json)", hidden.len())));
    }
    page.blank();
    stacks(page, lines.get(..lines.len().min(MAX_STACKS)).unwrap_or_default());
}

fn row(bytes: f64, total: f64, objects: u64, columns: &str) -> String {
    let share = if total > 0.0 { bytes / total } else { 0.0 };
    format!(
        "{:>10}{:>9}{:>11}  {columns}",
        human::bytes(bytes),
        human::percent(share),
        human::count(human::approximate(objects)),
    )
}

/// The way to each line by which most of its bytes came.
fn stacks(page: &mut Page, lines: &[Line<'_>]) {
    page.section("HOW IT GETS THERE", "The first path to each. [site] is the label in metrics.");
    for line in lines {
        let Some((site, path)) = line.sites.first().and_then(|site| Some((site, site.paths.first()?))) else {
            continue;
        };
        let interval = site.bytes.high.map_or_else(String::new, |high| {
            let noun = if site.samples == 1 { "sample" } else { "samples" };
            format!(", {} to {} from {} {noun}", human::bytes(site.bytes.low), human::bytes(high), site.samples)
        });
        page.strong_line(&format!("{}  [{}]", function(line.frame), site.id));
        let share = if line.bytes > 0.0 { path.share * site.bytes.value / line.bytes } else { 0.0 };
        page.quiet_line(&format!("  {} of its bytes{interval}", human::percent(share)));
        page.stack(&path.frames, line.frame);
    }
    page.blank();
}
