//! The table of lines that allocate, and the stacks that lead to the first of them.

use super::{
    layout::{Page, function, last_columns},
    places::{self, Place},
};
use crate::{
    export::human,
    model::{Counted, ExactCounts, Site},
    symbolize::Frame,
};

/// Places in the table; JSON has all sites.
const MAX_ROWS: usize = 15;
/// Allocating frames of one place.
const MAX_ALLOCATORS: usize = 3;
/// An allocating frame has a row of its own from this part of all bytes on.
const MIN_SHARE: f64 = 0.01;
/// Places whose stacks are shown.
const MAX_PLACES_WITH_STACKS: usize = 3;
/// Paths of one place.
const MAX_WAYS: usize = 3;
/// A second path is shown from this part of the bytes of its place on.
const MIN_WAY_SHARE: f64 = 0.1;

/// Columns before the function: rate, share, objects.
const NUMBERS_WIDTH: usize = 32;

/// Before the frame that allocates for a place.
const VIA: &str = "via ";

/// The part of a total, 0 of nothing.
pub(super) fn share(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { human::approximate(part) / human::approximate(total) }
}

pub(super) fn table(page: &mut Page, snapshot: &ExactCounts, places: &[Place<'_>]) {
    if places.is_empty() && snapshot.other == Counted::default() {
        return;
    }
    page.section(
        "WHERE IT ALLOCATES",
        "Rates of allocation, not of leaking: volume is not a leak, most of it may be garbage a moment later. Rows \
         with via are the allocating lines behind the line above them, and part of it.",
    );
    let room = page.width().saturating_sub(NUMBERS_WIDTH);
    page.quiet_line(&format!("{:>10}{:>9}{:>11}  {}", "bytes/s", "share", "objects/s", "function and line"));
    for place in places.iter().take(MAX_ROWS) {
        let (columns, below) = last_columns(place.frame, room);
        page.line(&row(place.counted, snapshot, &columns));
        below_columns(page, below);
        allocators(page, snapshot, place);
    }
    let hidden = places.get(MAX_ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let counted = hidden.iter().fold(Counted::default(), |sum, place| places::sum(sum, place.counted));
        let noun = if hidden.len() == 1 { "line" } else { "lines" };
        page.line(&row(counted, snapshot, &format!("{} more {noun} (--output json)", hidden.len())));
    }
    if snapshot.other != Counted::default() {
        page.line(&row(snapshot.other, snapshot, "other: stacks that did not fit"));
    }
    page.blank();
}

/// The frames that allocate for a place, with their numbers where there is more than one.
fn allocators(page: &mut Page, snapshot: &ExactCounts, place: &Place<'_>) {
    if let [site] = place.sites.as_slice() {
        if site.allocator != *place.frame {
            let blank = " ".repeat(NUMBERS_WIDTH);
            allocator(page, &blank, &site.allocator);
        }
        return;
    }
    let is_worth_a_row = |site: &&&Site| share(site.counted.bytes, snapshot.totals.allocated.bytes) >= MIN_SHARE;
    let worth = place.sites.iter().take_while(is_worth_a_row).count();
    let shown = worth.min(MAX_ALLOCATORS);
    for site in place.sites.iter().take(shown) {
        allocator(page, &row(site.counted, snapshot, ""), &site.allocator);
    }
    let hidden = place.sites.get(shown..).unwrap_or_default();
    let rest = |count: usize| format!("{VIA}{count} {}lines (--output json)", if shown == 0 { "" } else { "more " });
    match hidden {
        [] => {}
        // A lone rest takes no more room than what would say so.
        [site] => allocator(page, &row(site.counted, snapshot, ""), &site.allocator),
        _ if shown == 0 => page.quiet_line(&format!("{:NUMBERS_WIDTH$}{}", "", rest(hidden.len()))),
        _ => {
            let counted = hidden.iter().fold(Counted::default(), |sum, site| places::sum(sum, site.counted));
            page.quiet_line(&row(counted, snapshot, &rest(hidden.len())));
        }
    }
}

fn allocator(page: &mut Page, numbers: &str, frame: &Frame) {
    let (columns, below) = last_columns(frame, page.width().saturating_sub(NUMBERS_WIDTH + VIA.len()));
    page.quiet_line(&format!("{numbers}{VIA}{columns}"));
    below_columns(page, below);
}

fn below_columns(page: &mut Page, place: Option<String>) {
    if let Some(place) = place {
        page.quiet_line(&format!("{:NUMBERS_WIDTH$}{place}", ""));
    }
}

fn row(counted: Counted, snapshot: &ExactCounts, columns: &str) -> String {
    let per_second = |count: u64| human::approximate(count) / snapshot.window_s;
    format!(
        "{:>10}{:>9}{:>11}  {columns}",
        human::bytes(per_second(counted.bytes)),
        human::percent(share(counted.bytes, snapshot.totals.allocated.bytes)),
        human::count(per_second(counted.objects)),
    )
}

pub(super) fn stacks(page: &mut Page, places: &[Place<'_>]) {
    let shown: Vec<&Place<'_>> = places.iter().take(MAX_PLACES_WITH_STACKS).collect();
    if shown.is_empty() {
        return;
    }
    page.section(
        "HOW IT GETS THERE",
        "The call paths of the first lines, the allocating frame first. [site] is the label in metrics.",
    );
    let label = |site: &Site| format!("  [{}]", site.id);
    for place in shown {
        let only_site = place.sites.first().filter(|_| place.sites.len() == 1);
        page.strong_line(&format!(
            "{}{}",
            function(place.frame),
            only_site.map_or_else(String::new, |site| label(site))
        ));
        let ways = place.ways();
        let shown = ways.iter().take(MAX_WAYS).take_while(|way| way.share >= MIN_WAY_SHARE).count().max(1);
        for way in ways.iter().take(shown) {
            // Rounded to one digit, more is everything.
            let share = if way.share >= 0.9995 { String::from("all") } else { human::percent(way.share) };
            let label = if only_site.is_some() { String::new() } else { label(way.site) };
            page.quiet_line(&format!("  {share} of its bytes by{label}"));
            page.stack(&way.path.frames, place.frame);
        }
        let hidden = ways.get(shown..).unwrap_or_default();
        if !hidden.is_empty() {
            let share: f64 = hidden.iter().map(|way| way.share).sum();
            let noun = if hidden.len() == 1 { "path" } else { "paths" };
            page.quiet_line(&format!("  {} by {} more {noun} (--output json)", human::percent(share), hidden.len()));
        }
    }
    page.blank();
}
