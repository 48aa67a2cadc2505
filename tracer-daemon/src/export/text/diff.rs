//! `leakline diff` for people: what grew and what shrank, by line.

use super::{
    Style,
    layout::{Page, function, last_columns},
};
use crate::{
    export::{
        diff::{FileFacts, window_s},
        human,
    },
    model::profile_change::{Amount, Change, ProfileChange, SiteChange},
    symbolize::Frame,
};

/// Lines that grew; JSON has all.
const MAX_GROWN: usize = 15;
/// Lines that shrank.
const MAX_SHRUNK: usize = 5;
/// Lines whose stacks are shown.
const MAX_WITH_STACKS: usize = 3;
/// Stacks of one line.
const MAX_WAYS: usize = 2;
/// Columns before the function: change, change of objects, before, after.
const NUMBERS_WIDTH: usize = 46;
/// Before the frame that allocates for a place.
const VIA: &str = "via ";

/// The difference as text, with a line feed at the end.
pub fn render(change: &ProfileChange, before: &FileFacts, after: &FileFacts, style: Style) -> String {
    let mut page = Page::new(style);
    headline(&mut page, change, before, after);
    page.fact("before", &before.name);
    page.fact("after", &after.name);
    page.blank();
    let grown: Vec<&SiteChange> = change.sites.iter().take_while(|site| growth(site).bytes > 0).collect();
    let shrunk: Vec<&SiteChange> = change.sites.iter().rev().take_while(|site| growth(site).bytes < 0).collect();
    if !grown.is_empty() {
        page.section(
            "WHAT GREW",
            "Bytes in use, estimated from samples of the allocator. Growth between two moments is not yet a leak: a cache \
             that fills looks the same. Rows with via are the allocating line behind the line above.",
        );
        table(&mut page, &grown, MAX_GROWN);
        stacks(&mut page, &grown);
    }
    if !shrunk.is_empty() {
        page.section("WHAT SHRANK", "");
        table(&mut page, &shrunk, MAX_SHRUNK);
    }
    let unknown = change.unknown.difference();
    if unknown.bytes != 0 {
        page.line(&format!("{}  stacks without a name", numbers(change.unknown)));
    }
    page.finish()
}

fn growth(site: &SiteChange) -> Amount {
    site.in_use.difference()
}

fn headline(page: &mut Page, change: &ProfileChange, before: &FileFacts, after: &FileFacts) {
    let bytes = |bytes: i64| human::bytes(human::whole(bytes.into()));
    let grown = change.in_use.difference().bytes;
    let within = match window_s(before, after) {
        Some(seconds) if seconds > 0.0 => {
            let rate = human::whole(grown.into()) / seconds;
            format!(" in {} ({}/s)", human::seconds(seconds), human::bytes(rate))
        }
        _ => String::new(),
    };
    let verb = match grown {
        0 => String::from("did not change"),
        1.. => format!("grew by {}{within}", bytes(grown)),
        _ => format!("shrank by {}{within}", bytes(grown.saturating_neg())),
    };
    page.heading(&format!(
        "Heap in use {verb}: {} before, {} after.",
        bytes(change.in_use.before.bytes),
        bytes(change.in_use.after.bytes)
    ));
    page.blank();
}

fn numbers(change: Change) -> String {
    let signed = |bytes: i64| {
        let sign = if bytes > 0 { "+" } else { "" };
        format!("{sign}{}", human::bytes(human::whole(bytes.into())))
    };
    let plain = |bytes: i64| human::bytes(human::whole(bytes.into()));
    let difference = change.difference();
    format!(
        "{:>11}{:>11}{:>12}{:>12}",
        signed(difference.bytes),
        human::signed(difference.objects.into()),
        plain(change.before.bytes),
        plain(change.after.bytes)
    )
}

fn table(page: &mut Page, sites: &[&SiteChange], most: usize) {
    let title = "function and line";
    let title = if page.width() < NUMBERS_WIDTH + 2 + title.len() { "line" } else { title };
    page.quiet_line(&format!("{:>11}{:>11}{:>12}{:>12}  {title}", "bytes", "objects", "before", "after"));
    for site in sites.iter().take(most) {
        row(page, &format!("{}  ", numbers(site.in_use)), &site.place, Page::line);
        if site.allocator != site.place {
            row(page, &format!("{:1$}  {VIA}", "", NUMBERS_WIDTH), &site.allocator, Page::quiet_line);
        }
    }
    let hidden = sites.get(most..).unwrap_or_default();
    if !hidden.is_empty() {
        let mut rest = Change::default();
        for site in hidden {
            rest = sum(rest, site.in_use);
        }
        let noun = if hidden.len() == 1 { "line" } else { "lines" };
        page.line(&format!("{}  {} more {noun} (--output json)", numbers(rest), hidden.len()));
    }
    page.blank();
}

fn sum(a: Change, b: Change) -> Change {
    let amount = |a: Amount, b: Amount| Amount {
        objects: a.objects.saturating_add(b.objects),
        bytes: a.bytes.saturating_add(b.bytes),
    };
    Change { before: amount(a.before, b.before), after: amount(a.after, b.after) }
}

fn row(page: &mut Page, before: &str, frame: &Frame, print: fn(&mut Page, &str)) {
    let room = page.width().saturating_sub(before.chars().count());
    let (columns, below) = last_columns(frame, room);
    print(page, &format!("{before}{columns}"));
    if let Some(place) = below {
        print(page, &format!("{:1$}  {place}", "", NUMBERS_WIDTH));
    }
}

fn stacks(page: &mut Page, grown: &[&SiteChange]) {
    page.section("HOW IT GETS THERE", "The call paths of the first lines, the allocating frame first.");
    for site in grown.iter().take(MAX_WITH_STACKS) {
        page.strong_line(&format!("{}  [{}]", function(&site.place), site.id));
        for path in site.paths.iter().take(MAX_WAYS) {
            let grown = path.in_use.difference().bytes;
            let sign = if grown > 0 { "+" } else { "" };
            page.quiet_line(&format!("  {sign}{} by", human::bytes(human::whole(grown.into()))));
            page.stack(&path.frames, &site.place);
        }
        let hidden = site.paths.len().saturating_sub(MAX_WAYS);
        if hidden > 0 {
            let noun = if hidden == 1 { "path" } else { "paths" };
            page.quiet_line(&format!("  {hidden} more {noun} (--output json)"));
        }
    }
    page.blank();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        export::fixture,
        model::profile_change::{ProfileStack, compare},
    };

    fn rendered(width: usize, function: &str) -> String {
        let stack = |bytes: i64| ProfileStack {
            frames: vec![fixture::frame(function, "/src/very/long/path/of/a/module/store.go", 42)],
            in_use: Amount { objects: bytes / 100, bytes },
            allocated: Amount { objects: bytes / 50, bytes: bytes * 2 },
        };
        let file = |name: &str, seconds: i64| FileFacts {
            counts_of: None,
            as_of_unix_ns: None,
            name: name.into(),
            time_unix_ns: seconds * 1_000_000_000,
            rate_bytes: 524_288,
        };
        let change = compare(&[stack(1 << 20)], &[stack(3 << 20)], None);
        render(&change, &file("a.pb.gz", 100), &file("b.pb.gz", 160), Style { width, colour: false })
    }

    #[test]
    fn the_first_line_says_how_much_and_how_fast() {
        let text = rendered(100, "main.put");
        let expected = "Heap in use grew by 2.00 MiB in 60.0 s (34.1 KiB/s): 1.00 MiB before, 3.00 MiB after.";
        assert_eq!(text.lines().next(), Some(expected), "{text}");
        assert!(text.contains("  +2.00 MiB"), "{text}");
    }

    #[test]
    fn tables_fit_their_width() {
        for width in [60, 80, 100, 160] {
            for function in ["main.put", &*"f".repeat(200)] {
                let text = rendered(width, function);
                // Stacks have whole names, so that they can be copied.
                let (table, _) = text.split_once("HOW IT GETS THERE").unwrap();
                assert!(table.lines().all(|line| line.chars().count() <= width), "{width}: {text}");
            }
        }
    }
}
