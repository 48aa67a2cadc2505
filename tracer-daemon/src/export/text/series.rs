//! When most was allocated, and who did it when the books jumped.

use super::layout::{Page, last_columns};
use crate::{
    export::{human, untrusted},
    model::{
        impulses::{Impulse, ImpulseBurst, ImpulseKind, Impulses},
        series::{Peak, Series},
    },
    units::approximate,
};

/// Lines of each impulse.
const MAX_SITES: usize = 3;
/// Columns before the function: share, number.
const NUMBERS_WIDTH: usize = 22;
const MILLISECOND_NS: u64 = 1_000_000;

/// `most in a millisecond: 12.3k objects at 3.120 s, 3.2 MB at 12.345 s`.
pub(super) fn peaks(page: &mut Page, series: &Series) {
    let at = |peak: Peak| format!("{:.*} s", digits(series.step_ns), approximate(peak.began_ns) / 1e9);
    let objects = series.most(|counted| counted.objects);
    let bytes = series.most(|counted| counted.bytes);
    let objects = objects.map(|peak| {
        let count = peak.allocated.objects;
        let noun = if count == 1 { "object" } else { "objects" };
        format!("{} {noun} at {}", human::grouped(count), at(peak))
    });
    let bytes = bytes.map(|peak| format!("{} at {}", human::bytes(approximate(peak.allocated.bytes)), at(peak)));
    let most: Vec<String> = objects.into_iter().chain(bytes).collect();
    if most.is_empty() {
        return;
    }
    let step = if series.step_ns == MILLISECOND_NS {
        String::from("a millisecond")
    } else {
        format!("{:.1} s", approximate(series.step_ns) / 1e9)
    };
    let of = if series.step_ns != MILLISECOND_NS && series.began_ns > 0 {
        format!(" since {:.1} s", approximate(series.began_ns) / 1e9)
    } else {
        String::new()
    };
    page.fact("peaks", &format!("most allocated in {step}{of}: {}", most.join(", ")));
}

/// Seconds have as many digits as the step needs.
fn digits(step_ns: u64) -> usize {
    if step_ns < 100 * MILLISECOND_NS { 3 } else { 1 }
}

/// What the books have shown at once, and who was caught.
pub(super) fn impulses(page: &mut Page, impulses: &Impulses) {
    if impulses.last.is_empty() {
        return;
    }
    let all = impulses.counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let shown = u64::try_from(impulses.last.len()).unwrap_or(u64::MAX);
    let of = if all > shown { format!("{shown} of {}", human::grouped(all)) } else { String::from("all of them") };
    page.section(
        "WHEN IT JUMPED",
        &format!(
            "Moments at which the runtime's books jumped, {of}, and who allocated in the window that was opened at once. Such a window \
             stands for itself alone: it is in no rate."
        ),
    );
    for impulse in &impulses.last {
        page.strong_line(&sentence(impulse));
        match (&impulse.burst, &impulse.unserved) {
            (Some(burst), _) => caught(page, burst),
            (None, Some(why)) => page.quiet_line(&format!("  no window: {}", untrusted::name(why))),
            (None, None) => page.quiet_line("  no window was opened"),
        }
    }
    page.blank();
}

fn sentence(impulse: &Impulse) -> String {
    let noticed = &impulse.noticed;
    let from = |unit: &str| {
        let usual = noticed.usual.map_or_else(String::new, |usual| format!("from {}{unit} ", human::bytes(usual)));
        format!("{usual}to {}{unit}", human::bytes(noticed.seen))
    };
    let what = match noticed.kind {
        ImpulseKind::AllocationRate => format!("the rate of allocation jumped {}", from("/s")),
        ImpulseKind::HeapGrowth => format!("the heap grew {}", from("")),
        ImpulseKind::Pause => format!("a collection stopped the program for {:.1} ms", 1e3 * noticed.seen),
    };
    let seconds = impulse.unix_ns / 1_000_000_000 % 86_400;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02} UTC ({:.1} s): {what}", approximate(impulse.at_ns) / 1e9)
}

fn caught(page: &mut Page, burst: &ImpulseBurst) {
    let milliseconds = |nanoseconds: u64| approximate(nanoseconds) / 1e6;
    let noun = if burst.births == 1 { "object" } else { "objects" };
    page.quiet_line(&format!(
        "  {:.0} ms later a window of {:.1} ms recorded {} {noun}, of {} in {}",
        milliseconds(burst.delay_ns),
        milliseconds(burst.open_ns),
        human::grouped(burst.births),
        human::bytes(burst.bytes),
        human::count(burst.objects),
    ));
    let room = page.width().saturating_sub(NUMBERS_WIDTH);
    for site in burst.sites.iter().take(MAX_SITES) {
        let (columns, below) = last_columns(&site.place, room);
        page.line(&format!("{:>10}{:>10}  {columns}", human::percent(site.share.value), human::grouped(site.births)));
        if let Some(place) = below {
            page.quiet_line(&format!("{:NUMBERS_WIDTH$}{place}", ""));
        }
    }
    let hidden = burst.sites.len().saturating_sub(MAX_SITES);
    if hidden > 0 {
        let noun = if hidden == 1 { "line" } else { "lines" };
        page.quiet_line(&format!("{:NUMBERS_WIDTH$}{hidden} more {noun} (--output json)", ""));
    }
}
