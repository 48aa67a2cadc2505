//! The goroutine table as a person reads it: who waits for what, since when, who started them, and who could wake them.

use std::collections::BTreeSet;

use super::layout::{Page, function, place};
use super::{Style, binary, go_version};
use crate::export::report::GoroutineReport;
use crate::export::{human, untrusted};
use crate::model::Turnover;
use crate::model::goroutines::hooks::HookedGoroutines;
use crate::model::goroutines::{AgeBounds, GoroutineTable, Holders, Object, ObjectKind, TableSite, TableState};
use crate::read::Discards;
use crate::read::goroutines::{Channel, Queue};

/// Groups of the table; JSON has all.
const GROUPS_MAX: usize = 20;
/// Groups for which it is shown who could wake them.
const TREES_MAX: usize = 5;
/// Levels of such a tree, and candidates of one group.
const DEPTH_MAX: usize = 5;
const CANDIDATES_MAX: usize = 4;
/// What stands below a row of the table.
const INDENT: usize = 12;

/// A group, by its place in the table.
type Index = (usize, usize);

/// The table as text, with a line feed at the end.
pub fn goroutine_table(report: &GoroutineReport<'_>, style: Style) -> String {
    let mut page = Page::new(style);
    let table = report.table;
    let groups = by_count(table);
    headline(&mut page, report, groups.len());
    rows(&mut page, table, None, &groups);
    trees(&mut page, table, &groups);
    discarded(&mut page, report.discards);
    page.finish()
}

/// The most frequent groups, as part of another page.
pub(super) fn section(page: &mut Page, table: &GoroutineTable, hooks: Option<&HookedGoroutines>, groups_max: usize) {
    let mut groups = by_count(table);
    let hidden = groups.len().saturating_sub(groups_max);
    groups.truncate(groups_max);
    rows(page, table, hooks, &groups);
    if hidden > 0 {
        page.quiet_line(&format!("… {hidden} more groups (leakline goroutines, or --output json)"));
        page.blank();
    }
}

fn by_count(table: &GoroutineTable) -> Vec<Index> {
    let of_site = |(site, one): (usize, &TableSite)| (0..one.states.len()).map(move |state| (site, state));
    let mut groups: Vec<Index> = table.sites.iter().enumerate().flat_map(of_site).collect();
    groups.sort_by_key(|index| std::cmp::Reverse(get(table, *index).map_or(0, |(_, state)| state.count)));
    groups
}

fn get(table: &GoroutineTable, (site, state): Index) -> Option<(&TableSite, &TableState)> {
    let site = table.sites.get(site)?;
    Some((site, site.states.get(state)?))
}

fn headline(page: &mut Page, report: &GoroutineReport<'_>, groups: usize) {
    let (table, process) = (report.table, report.process);
    let noun = if groups == 1 { "group" } else { "groups" };
    page.heading(&format!(
        "{} (pid {}, {}) has {} in {groups} {noun}; the runtime has {} more of its own.",
        untrusted::name(process.exe_name()),
        process.pid,
        go_version(process),
        goroutines(table.live),
        table.system,
    ));
    page.blank();
    let looked = match table.sampled {
        None => String::from("every goroutine was looked at; nothing was stopped, nothing was probed"),
        Some(sampled) => format!(
            "all goroutines were counted; where they wait is estimated from a random sample of {sampled} (95 % bounds are given); \
             nothing was stopped, nothing was probed"
        ),
    };
    page.fact("evidence", &format!("goroutine-table: {looked}"));
    if table.without_stack > 0 {
        page.fact("", &format!("{} without a stack: running, or changing all the time", table.without_stack));
    }
    if table.unknown > 0 {
        page.fact("", &format!("{} ended or began while they were read, and belong to no group", table.unknown));
    }
    if table.callbacks > 0 {
        page.fact("", &format!("{} of the runtime's own run finalizers or cleanups of the program", table.callbacks));
    }
    page.fact("stacks", &human::bytes(human::approximate(table.stack_bytes)));
    page.fact("binary", &binary(process));
    page.blank();
}

/// What hooks counted at the place that started a group. `None`: nothing.
fn turnover_text(hooks: &HookedGoroutines, site: &TableSite) -> Option<String> {
    let Turnover { created, exited } = hooks.sites.iter().find(|counted| counted.id == site.id)?.counted;
    Some(format!(
        "there {} began and {} ended in {}",
        human::grouped(created),
        human::grouped(exited),
        human::seconds(hooks.counted_s)
    ))
}

fn goroutines(count: u64) -> String {
    if count == 1 { String::from("1 goroutine") } else { format!("{} goroutines", human::grouped(count)) }
}

fn rows(page: &mut Page, table: &GoroutineTable, hooks: Option<&HookedGoroutines>, groups: &[Index]) {
    page.section("WHAT GOROUTINES DO, THE MOST FREQUENT FIRST", "");
    page.quiet_line(&format!("{:>10}{:>9}  {:18}  {}", "count", "share", "oldest", "waiting for"));
    for index in groups.iter().take(GROUPS_MAX) {
        let Some((site, state)) = get(table, *index) else { continue };
        let share = human::approximate(state.count) / human::approximate(table.live.max(1));
        let line = format!(
            "{:>10}{:>9}  {:18}  {}",
            human::grouped(state.count),
            human::percent(share.min(1.0)),
            age(state.oldest),
            untrusted::name(&state.wait_reason)
        );
        if waits_for_ever(state) {
            page.strong_line(&line);
        } else {
            page.line(&line);
        }
        if let Some(blocked) = &state.blocked {
            page.indented(INDENT, &format!("at {}", place(blocked)));
        }
        let runs = untrusted::name(&state.entry_function);
        let started = match &*runs {
            "main.main" => String::from("the program's first goroutine"),
            runs => format!("started at {}, runs {runs}", place(&site.place)),
        };
        page.indented(INDENT, &started);
        if let Some(counted) = hooks.and_then(|hooks| turnover_text(hooks, site)) {
            page.indented(INDENT, &counted);
        }
        if let Some(object) = &state.waits_on {
            page.indented(INDENT, &object_text(object, state));
        }
        if let Some((low, high)) = state.interval {
            let bounds = format!(
                "between {} and {} (from {} looked at)",
                human::grouped(low),
                human::grouped(high),
                state.looked_at
            );
            page.indented(INDENT, &bounds);
        }
    }
    let hidden = groups.get(GROUPS_MAX..).unwrap_or_default();
    if !hidden.is_empty() {
        let count = hidden.iter().filter_map(|index| get(table, *index)).map(|(_, state)| state.count).sum::<u64>();
        page.line(&format!("{:>10}  in {} more groups (--output json)", human::grouped(count), hidden.len()));
    }
    page.blank();
}

fn waits_for_ever(state: &TableState) -> bool {
    state.waits_on.as_ref().is_some_and(|object| object.kind.is_for_ever())
}

fn age(age: AgeBounds) -> String {
    let seconds = |ns: u64| human::seconds(human::approximate(ns) / 1e9);
    match (age.at_least_ns, age.at_most_ns) {
        (0, None) => String::from("?"),
        (0, Some(most)) => format!("≤ {}", seconds(most)),
        (least, _) => format!("≥ {}", seconds(least)),
    }
}

fn object_text(object: &Object, state: &TableState) -> String {
    let address = object.address.map(|address| format!(" {:#x}", address.0)).unwrap_or_default();
    let what = match object.kind {
        ObjectKind::Chan => "channel",
        ObjectKind::NilChan => "a nil channel: for ever",
        ObjectKind::Select => "select",
        ObjectKind::EmptySelect => "a select without cases: for ever",
        ObjectKind::Mutex => "sync.Mutex",
        ObjectKind::RwMutex => "sync.RWMutex",
        ObjectKind::WaitGroup => "sync.WaitGroup",
        ObjectKind::Cond => "sync.Cond",
        ObjectKind::Semaphore => "a semaphore",
        ObjectKind::Sleep => "time.Sleep",
        ObjectKind::Timer => "a timer's channel",
        ObjectKind::Io => "a file or connection",
        ObjectKind::Syscall => "the kernel or C code",
        ObjectKind::Coroutine => "the other side of a coroutine",
        ObjectKind::Runtime => "the runtime",
    };
    let mut text = format!("for {what}{address}");
    if let Some(channel) = &object.channel {
        text = format!("{text} ({})", channel_text(channel));
    }
    if !object.cases.is_empty() {
        let cases = object.cases.iter().map(|case| format!("{:#x} ({})", case.address.0, channel_text(case)));
        text = format!("{text} of {} channels: {}", object.cases.len(), cases.collect::<Vec<_>>().join(", "));
    }
    if state.objects > 1 {
        text =
            format!("{text}; this one: {} of {}, {} different in all", object.waiters, state.looked_at, state.objects);
    }
    text
}

fn channel_text(channel: &Channel) -> String {
    let queue = |queue: Queue, one: &str| {
        let more = if queue.or_more { " or more" } else { "" };
        let plural = if queue.count == 1 { "" } else { "s" };
        format!("{}{more} {one}{plural}", human::grouped(queue.count))
    };
    let mut text = format!("len {}, cap {}", channel.len, channel.cap);
    if channel.closed {
        text.push_str(", closed");
    }
    for (count, one) in [(channel.senders, "sender"), (channel.receivers, "receiver")] {
        if count != Queue::default() {
            text = format!("{text}, {} waiting", queue(count, one));
        }
    }
    text
}

fn trees(page: &mut Page, table: &GoroutineTable, groups: &[Index]) {
    let on_channels = |index: &&Index| get(table, **index).is_some_and(|(_, state)| state.holders.is_some());
    let shown: Vec<Index> = groups.iter().filter(on_channels).take(TREES_MAX).copied().collect();
    if shown.is_empty() {
        return;
    }
    page.section(
        "WHO COULD WAKE THEM",
        "Goroutines on whose stacks the channel's address lies, and what they wait for themselves. An address can also be in the heap, \
         in a global variable, or left over from an earlier call.",
    );
    for index in shown {
        let mut above = BTreeSet::new();
        branch(page, table, index, None, 0, &mut above);
    }
    page.blank();
}

fn branch(
    page: &mut Page,
    table: &GoroutineTable,
    index: Index,
    count: Option<u64>,
    depth: usize,
    above: &mut BTreeSet<Index>,
) {
    let Some((site, state)) = get(table, index) else { return };
    let indent = 2 + 4 * depth;
    let at = state.blocked.as_ref().map_or_else(|| function(&site.place), place);
    let arrow = if depth == 0 { "" } else { "<- " };
    let head = format!(
        "{arrow}{} × {at} [{}]",
        human::grouped(count.unwrap_or(state.count)),
        untrusted::name(&state.wait_reason)
    );
    if !above.insert(index) {
        page.indented(indent, &format!("{head}: a circle, see above"));
        return;
    }
    page.indented(indent, &head);
    if let Some(holders) = &state.holders {
        let hidden = holders.groups.len().saturating_sub(CANDIDATES_MAX);
        if let Some(note) = nobody(holders) {
            page.indented(indent + 4, &note);
        }
        if depth < DEPTH_MAX {
            for holder in holders.groups.iter().take(CANDIDATES_MAX) {
                branch(page, table, (holder.site, holder.state), Some(holder.count), depth + 1, above);
            }
            if hidden > 0 {
                page.indented(indent + 4, &format!("… {hidden} more groups (--output json)"));
            }
        } else if !holders.groups.is_empty() {
            page.indented(indent + 4, "…");
        }
    }
    above.remove(&index);
}

/// What is said of a group whose channels' addresses were not found: that, and no more.
fn nobody(holders: &Holders) -> Option<String> {
    let whole = if holders.all_searched { "" } else { " that was searched" };
    match (holders.on_no_other_stack, holders.channels) {
        (0, _) => None,
        (_, 1) => Some(format!("its channel's address is on no other goroutine's stack{whole}")),
        (none, all) => {
            Some(format!("the addresses of {none} of its {all} channels are on no other goroutine's stack{whole}"))
        }
    }
}

fn discarded(page: &mut Page, discards: &Discards) {
    let mut counted = discards.iter().peekable();
    if counted.peek().is_none() {
        return;
    }
    page.section("READ AND NOT BELIEVED", "");
    for (reason, count) in counted {
        let times = if count == 1 { "time" } else { "times" };
        page.item(&format!("{} {times}: {} ({})", human::grouped(count), reason.text(), reason.id()));
    }
}
