//! The page about what was read from the target's memory, and caught in windows.

use std::sync::Arc;

use super::{binary, births, go_version, goroutine_table, layout::Page, live, memory, series, verdict, workload};
use crate::{
    export::{CostFacts, human, report::Report, untrusted},
    model::{Heap, Turnover, assess::Assessment, verdict::Verdict},
};

/// Groups of goroutines.
const MAX_GROUPS: usize = 6;
/// Rows of the table of size classes.
const MAX_CLASSES: usize = 8;

pub(super) fn write(page: &mut Page, report: &Report) {
    headline(page, report);
    verdict::section(page, &report.snapshot);
    verdict::beside_the_heap(page, &report.snapshot, report.process.program());
    facts(page, report);
    if let Some(profile) = &report.snapshot.profile {
        live::table(page, profile);
    }
    if let Some(born) = &report.snapshot.births {
        births::table(page, born, &report.cost);
    }
    if let Some(impulses) = &report.snapshot.impulses {
        series::impulses(page, impulses);
    }
    if let Some(heap) = &report.snapshot.heap {
        size_classes(page, heap);
    }
    if let Some(table) = &report.snapshot.goroutines {
        let hooks = report.snapshot.goroutine_hooks.as_deref();
        goroutine_table::section(page, table, hooks, MAX_GROUPS);
    }
    if let Some(statement) = &report.snapshot.memory {
        memory::lines(page, statement);
        memory::findings(page, statement);
        memory::advice(page, statement);
    }
    if let Some(counts) = &report.snapshot.birth_counts {
        births::losses(page, counts);
    }
}

fn headline(page: &mut Page, report: &Report) {
    let process = &report.process;
    let so_far = if report.is_final { "" } else { " so far" };
    let heap = report.snapshot.heap.as_ref();
    let live = heap.and_then(|heap| heap.live_bytes).map_or_else(
        || String::from("It has not finished a collection yet"),
        |bytes| format!("It had {} alive at its last collection", human::bytes(human::approximate(bytes))),
    );
    let rate = heap.and_then(|heap| heap.alloc_bytes_per_s.zip(heap.alloc_objects_per_s)).map_or_else(
        String::new,
        |(bytes, objects)| {
            format!(" and allocated {}/s in {} objects/s", human::bytes(bytes.value), human::count(objects.value))
        },
    );
    let growth =
        verdict::headline(&report.snapshot).unwrap_or_else(|| String::from("was read, and how it grows is not known"));
    page.heading(&format!(
        "{} (pid {}, {}) {growth}.",
        untrusted::name(process.exe_name()),
        process.pid,
        go_version(process),
    ));
    verdict::forecast(page, &report.snapshot);
    // Where lines are accused, each says why below.
    let is_said_below =
        |assessment: &&Arc<Assessment>| assessment.sites.iter().any(|site| site.verdict >= Verdict::Growing);
    if let Some(assessment) = report.snapshot.assessment.as_ref().filter(|assessment| !is_said_below(assessment)) {
        page.indented(0, &format!("Why: {}.", assessment.why));
    }
    page.indented(0, &format!("{live}{rate} in {}{so_far}.", human::seconds(report.snapshot.window_s)));
    if process.ended {
        page.warning("The process ended before the window did: this is what was seen until then.");
    }
    page.blank();
}

fn facts(page: &mut Page, report: &Report) {
    let snapshot = &*report.snapshot;
    let used = snapshot.evidence.iter().map(|evidence| evidence.name()).collect::<Vec<_>>().join(", ");
    page.fact("evidence", &format!("{used}: {}", how(&report.cost)));
    if let Some(heap) = &snapshot.heap {
        page.fact("collector", &collector(heap));
    }
    if let Some(series) = &snapshot.series {
        series::peaks(page, series);
    }
    if let Some(hooks) = &snapshot.goroutine_hooks {
        let Turnover { created, exited } = hooks.totals;
        page.fact(
            "turnover",
            &format!(
                "{} goroutines began and {} ended in the {} in which hooks counted all of them",
                human::grouped(created),
                human::grouped(exited),
                human::seconds(hooks.counted_s)
            ),
        );
    }
    page.fact("binary", &binary(&report.process));
    if let Some(place) = workload(&report.process) {
        page.fact("runs in", &place);
    }
    for refusal in &report.refusals {
        page.fact("not done", &format!("{} ({})", untrusted::name(&refusal.text), untrusted::name(&refusal.id)));
    }
    page.blank();
}

/// How it was looked at, and what that has cost it.
fn how(cost: &CostFacts) -> String {
    let Some(windows) = windows(cost) else {
        return "read from its memory; it was neither stopped nor probed".to_owned();
    };
    let share = |ratio: f64| format!("{:.2}\u{a0}%", 100.0 * ratio);
    let paid = match (cost.target_ratio, cost.budget_ratio) {
        (Some(paid), Some(budget)) => {
            format!("; that took {} of its CPU time, of {} allowed", share(paid), share(budget))
        }
        (Some(paid), None) => format!("; that took {} of its CPU time", share(paid)),
        (None, _) => String::new(),
    };
    format!("read from its memory; its allocations were probed in {windows}{paid}")
}

/// How many windows, and how long they were open. `None`: none were to be opened.
pub(super) fn windows(cost: &CostFacts) -> Option<String> {
    let windows = match cost.bursts? {
        1 => "1 window".to_owned(),
        bursts => format!("{} windows", human::count(human::approximate(bursts))),
    };
    let length = |open_s: f64| match open_s {
        ..1.0 => format!("{:.0}\u{a0}ms", 1e3 * open_s),
        _ => human::seconds(open_s),
    };
    let open = cost.bursts_open_s.map_or_else(String::new, |open_s| format!(" of {} in all", length(open_s)));
    Some(format!("{windows}{open}"))
}

fn collector(heap: &Heap) -> String {
    let mut text = match heap.gc_cycles {
        0 => String::from("no collection ended in the window"),
        1 => String::from("1 collection ended in the window"),
        cycles => format!("{} collections ended in the window", human::count(human::approximate(cycles))),
    };
    if let Some(pause) = heap.gc_pause_max_s {
        text = format!("{text}, the longest pause took {:.2}\u{a0}ms", pause * 1e3);
    }
    if let Some(goal) = heap.goal_bytes {
        text = format!("{text}; the next one is to end at {}", human::bytes(human::approximate(goal)));
    }
    text
}

fn size_classes(page: &mut Page, heap: &Heap) {
    if heap.size_classes.is_empty() {
        return;
    }
    page.section(
        "WHAT THE HEAP HOLDS",
        "By size of slot, alive or not yet swept. Exact, from the runtime's own books.",
    );
    page.quiet_line(&format!("{:>10}{:>11}{:>12}", "bytes", "objects", "size"));
    let mut classes: Vec<_> = heap.size_classes.iter().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.bytes));
    for class in classes.iter().take(MAX_CLASSES) {
        let size =
            class.size_bytes.map_or_else(|| String::from("large"), |size| human::bytes(human::approximate(size)));
        page.line(&format!(
            "{:>10}{:>11}{size:>12}",
            human::bytes(human::approximate(class.bytes)),
            human::count(human::approximate(class.objects)),
        ));
    }
    let hidden = classes.len().saturating_sub(MAX_CLASSES);
    if hidden > 0 {
        page.quiet_line(&format!("… {hidden} more sizes (--output json)"));
    }
    page.blank();
}
