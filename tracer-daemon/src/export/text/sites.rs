//! The table of allocation sites, and the stacks that lead to the first of them.

use super::layout::{Page, function, last_columns};
use crate::{
    export::human,
    model::{Counted, Path, Site, Snapshot},
};

/// Rows of the table; JSON has all.
const MAX_ROWS: usize = 15;
/// Sites whose stacks are shown.
const MAX_SITES_WITH_STACKS: usize = 3;
/// Paths of one site.
const MAX_PATHS: usize = 3;

/// Columns before the function: rate, share, objects.
const NUMBERS_WIDTH: usize = 32;

/// Before the frame that allocates for a site.
const VIA: &str = "via ";

/// The part of a total, 0 of nothing.
pub(super) fn share(part: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { human::approximate(part) / human::approximate(total) }
}

pub(super) fn table(page: &mut Page, snapshot: &Snapshot) {
    if snapshot.sites.is_empty() && snapshot.other == Counted::default() {
        return;
    }
    page.section(
        "WHERE IT ALLOCATES",
        "Rates of allocation, not of leaking: volume is not a leak, most of it may be garbage a moment later.",
    );
    let room = page.width().saturating_sub(NUMBERS_WIDTH);
    page.quiet_line(&format!("{:>10}{:>9}{:>11}  {}", "bytes/s", "share", "objects/s", "function and line"));
    for site in snapshot.sites.iter().take(MAX_ROWS) {
        let (columns, below) = last_columns(&site.place, room);
        page.line(&row(site.counted, snapshot, &columns));
        below_columns(page, below);
        if site.allocator != site.place {
            let (allocator, below) = last_columns(&site.allocator, room - VIA.len());
            page.quiet_line(&format!("{:NUMBERS_WIDTH$}{VIA}{allocator}", ""));
            below_columns(page, below);
        }
    }
    let hidden = snapshot.sites.get(MAX_ROWS..).unwrap_or_default();
    if !hidden.is_empty() {
        let counted = hidden.iter().fold(Counted::default(), |sum, site| Counted {
            objects: sum.objects.saturating_add(site.counted.objects),
            bytes: sum.bytes.saturating_add(site.counted.bytes),
        });
        let noun = if hidden.len() == 1 { "site" } else { "sites" };
        page.line(&row(counted, snapshot, &format!("{} more {noun} (--output json)", hidden.len())));
    }
    if snapshot.other != Counted::default() {
        page.line(&row(snapshot.other, snapshot, "other: stacks that did not fit"));
    }
    page.blank();
}

fn below_columns(page: &mut Page, place: Option<String>) {
    if let Some(place) = place {
        page.quiet_line(&format!("{:NUMBERS_WIDTH$}{place}", ""));
    }
}

fn row(counted: Counted, snapshot: &Snapshot, columns: &str) -> String {
    let per_second = |count: u64| human::approximate(count) / snapshot.window_s;
    format!(
        "{:>10}{:>9}{:>11}  {columns}",
        human::bytes(per_second(counted.bytes)),
        human::percent(share(counted.bytes, snapshot.totals.allocated.bytes)),
        human::count(per_second(counted.objects)),
    )
}

pub(super) fn stacks(page: &mut Page, snapshot: &Snapshot) {
    let shown: Vec<&Site> =
        snapshot.sites.iter().take(MAX_SITES_WITH_STACKS).filter(|site| !site.paths.is_empty()).collect();
    if shown.is_empty() {
        return;
    }
    page.section("HOW IT GETS THERE", "The call paths of the first sites, the allocating frame first.");
    for site in shown {
        page.strong_line(&format!("{}  [{}]", function(&site.place), site.id));
        for path in site.paths.iter().take(MAX_PATHS) {
            self::path(page, path);
        }
        let hidden = site.paths.get(MAX_PATHS..).unwrap_or_default();
        if !hidden.is_empty() {
            let share: f64 = hidden.iter().map(|path| path.share).sum();
            let noun = if hidden.len() == 1 { "path" } else { "paths" };
            page.quiet_line(&format!("  {} by {} more {noun} (--output json)", human::percent(share), hidden.len()));
        }
    }
    page.blank();
}

fn path(page: &mut Page, path: &Path) {
    // Rounded to one digit, more is everything.
    let share = if path.share >= 0.9995 { String::from("all") } else { human::percent(path.share) };
    page.quiet_line(&format!("  {share} of its bytes by"));
    page.stack(&path.frames);
}
