//! The page about what hooks on every allocation counted.

use super::{
    binary, go_version, goroutines,
    layout::{self, Page},
    places, series, sites, workload,
};
use crate::{
    export::{human, report::Report, untrusted},
    model::ExactCounts,
};

pub(super) fn write(page: &mut Page, report: &Report, exact: &ExactCounts) {
    let places = places::of(exact);
    headline(page, report, exact);
    facts(page, report);
    sites::table(page, exact, &places);
    sites::stacks(page, &places);
    goroutines::table(page, exact);
    losses(page, exact);
    next(page, report, exact, places.first());
}

fn headline(page: &mut Page, report: &Report, snapshot: &ExactCounts) {
    let process = &report.process;
    let totals = &snapshot.totals;
    let bytes = human::approximate(totals.allocated.bytes);
    let objects = human::approximate(totals.allocated.objects);
    let rates = if snapshot.window_s > 0.0 {
        format!(
            " ({}/s, {} objects/s)",
            human::bytes(bytes / snapshot.window_s),
            human::count(objects / snapshot.window_s)
        )
    } else {
        String::new()
    };
    let net = i128::from(totals.goroutines.created) - i128::from(totals.goroutines.exited);
    let goroutines = match net {
        0 => String::from("its number of goroutines did not change"),
        1.. => format!("it has {} more goroutines than at the start", human::count(human::whole(net))),
        _ => format!("it has {} fewer goroutines than at the start", human::count(human::whole(-net))),
    };
    let so_far = if report.is_final { "" } else { " so far" };
    page.heading(&format!(
        "{} (pid {}, {}) allocated {} in {} objects{rates} in {}{so_far}; {goroutines}.",
        untrusted::name(process.exe_name()),
        process.pid,
        go_version(process),
        human::bytes(bytes),
        human::count(objects),
        human::seconds(snapshot.window_s),
    ));
    if process.ended {
        page.warning("The process ended before the window did: this is what was seen until then.");
    }
    page.blank();
}

fn facts(page: &mut Page, report: &Report) {
    let (snapshot, process) = (&*report.snapshot, &report.process);
    let evidence = snapshot.evidence.iter().map(|evidence| evidence.name()).collect::<Vec<_>>().join(", ");
    page.fact(
        "evidence",
        &format!("{evidence}: every allocation and every goroutine of the window was counted, none was estimated"),
    );
    page.fact("cost", &cost(report));
    if let Some(series) = &snapshot.series {
        series::peaks(page, series);
    }
    page.fact("binary", &binary(process));
    if let Some(place) = workload(process) {
        page.fact("runs in", &place);
    }
    for refusal in &report.refusals {
        page.fact("not done", &format!("{} ({})", untrusted::name(&refusal.text), untrusted::name(&refusal.id)));
    }
    page.blank();
}

fn cost(report: &Report) -> String {
    let cost = &report.cost;
    let slower = match cost.target_ratio {
        Some(ratio) => format!(", by {} of its own CPU time", human::percent(ratio)),
        None => String::from(" (by how much was not measured)"),
    };
    let mut text = format!(
        "{} probe hits; every allocation was trapped: the program ran slower while we looked{slower}",
        human::count(human::approximate(cost.probe_hits))
    );
    let own: Vec<String> = [
        cost.self_cpu_ratio.map(|ratio| format!("{} of a core", human::percent(ratio))),
        cost.self_rss_bytes.map(|bytes| human::bytes(human::approximate(bytes))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !own.is_empty() {
        text.push_str("; leakline itself used ");
        text.push_str(&own.join(" and "));
    }
    text
}

fn losses(page: &mut Page, snapshot: &ExactCounts) {
    let mut counted = snapshot.losses.iter().filter(|loss| loss.count > 0).peekable();
    if counted.peek().is_none() {
        return;
    }
    page.section("LOST ON THE WAY", "");
    for loss in counted {
        lost(page, loss.count, loss.reason.text(), loss.reason.id());
    }
    page.blank();
}

/// How often something was lost, and why.
pub(super) fn lost(page: &mut Page, count: u64, text: &str, id: &str) {
    let times = if count == 1 { "time" } else { "times" };
    page.item(&format!("{} {times}: {text} ({id})", human::count(human::approximate(count))));
}

fn next(page: &mut Page, report: &Report, snapshot: &ExactCounts, first: Option<&places::Place<'_>>) {
    page.section("WHAT NEXT", "");
    let growing = goroutines::growing(snapshot);
    match growing.first() {
        Some(site) => page.item(&format!(
            "{} starts goroutines that do not end: {} started, {} ended. If this goes on in a second look, it is a \
             goroutine leak. What they wait for is in a goroutine dump (/debug/pprof/goroutine?debug=2 where the program \
             serves it).",
            layout::place(&site.place),
            human::count(human::approximate(site.counted.created)),
            human::count(human::approximate(site.counted.exited)),
        )),
        None if snapshot.totals.goroutines.created > 0 => {
            page.item("No place starts clearly more goroutines than end: nothing here points to a goroutine leak.");
        }
        None => {}
    }
    if let Some(first) = first {
        let share = sites::share(first.counted.bytes, snapshot.totals.allocated.bytes);
        let by = match first.sites.len() {
            1 => String::new(),
            count => format!(", by {count} lines of what it calls"),
        };
        page.item(&format!(
            "{} allocates {} of all bytes{by}: allocating less there spares the most garbage. Whether it leaks is not \
             known: these are rates of allocation, and nobody looked at what stays alive.",
            layout::place(first.frame),
            human::percent(share),
        ));
    } else {
        page.item("Nothing was allocated in the window. If the program was idle, look again under load.");
    }
    if !report.process.ended {
        page.item(&format!(
            "To look again, for longer: leakline attach --pid {} --evidence exact --duration 60s",
            report.process.pid
        ));
    }
}
