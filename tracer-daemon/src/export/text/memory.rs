//! `leakline memory`: what takes the memory, then what is odd about it, then what to do.

use super::layout::Page;
use super::{Style, go_version};
use crate::export::{ProcessFacts, Refusal, human, memory_words, untrusted};
use crate::model::memory::{Component, Line, MemoryStatement, PacerNumbers};
use crate::read::system::cgroup::{Cgroup, Version};

/// Contributors to a line that are shown.
const PARTS_SHOWN: usize = 3;

/// The statement as text, with a line feed at the end.
pub fn render(process: &ProcessFacts, statement: &MemoryStatement, refused: &[Refusal], style: Style) -> String {
    let mut page = Page::new(style);
    headline(&mut page, process, statement);
    lines(&mut page, statement);
    findings(&mut page, statement);
    advice(&mut page, statement);
    surroundings(&mut page, statement);
    for refusal in refused {
        page.fact("not read", &format!("{} ({})", untrusted::name(&refusal.text), untrusted::name(&refusal.id)));
    }
    page.finish()
}

fn bytes(value: u64) -> String {
    human::bytes(human::approximate(value))
}

fn words(component: Component) -> &'static str {
    match component {
        Component::LiveHeap => "objects that the last collection found in use",
        Component::Garbage => "objects that are dead, or newer than the last collection",
        Component::Fragmentation => "room between objects",
        Component::Idle => "pages of the heap without objects, not given back",
        Component::Stacks => "stacks of goroutines",
        Component::RuntimeMetadata => "what Go's runtime needs for itself",
        Component::File => "executable, libraries, mapped files",
        Component::Native => "C code, and memory that the program maps",
    }
}

fn headline(page: &mut Page, process: &ProcessFacts, statement: &MemoryStatement) {
    let largest = statement.lines.iter().max_by_key(|line| line.bytes);
    let most = largest.map_or_else(String::new, |line| {
        let share = human::approximate(line.bytes) / human::approximate(statement.rss_bytes.max(1));
        format!("; the most of it, {}, is {}: {}", human::percent(share), line.component.name(), words(line.component))
    });
    page.heading(&format!(
        "{} (pid {}, {}) has {} in memory{most}.",
        untrusted::name(process.exe_name()),
        process.pid,
        go_version(process),
        bytes(statement.rss_bytes)
    ));
    page.blank();
}

pub(super) fn lines(page: &mut Page, statement: &MemoryStatement) {
    page.section("WHAT TAKES THE MEMORY", "Bytes in memory; the lines sum to the resident memory.");
    page.quiet_line(&format!("{:>10}  {:>7}  {:16}  {:11}  what it is", "bytes", "share", "name", "source"));
    let share = |bytes: f64| human::percent(bytes / human::approximate(statement.rss_bytes.max(1)));
    for line in &statement.lines {
        let of_all = share(human::approximate(line.bytes));
        let growth = line.growth_bytes_per_s.map_or_else(String::new, |rate| {
            let sign = if rate.value > 0.0 { "+" } else { "" };
            format!(" ({sign}{}/s)", human::bytes(rate.value))
        });
        page.line(&format!(
            "{:>10}  {of_all:>7}  {:16}  {:11}  {}{growth}",
            bytes(line.bytes),
            line.component.name(),
            line.source,
            words(line.component)
        ));
        parts(page, line);
    }
    let unexplained = human::whole(statement.unexplained_bytes);
    page.line(&format!(
        "{:>10}  {:>7}  {:16}  {:11}  no line explains it",
        human::bytes(unexplained),
        share(unexplained),
        "unexplained",
        ""
    ));
    page.strong_line(&format!(
        "{:>10}  {:>7}  resident",
        bytes(statement.rss_bytes),
        share(human::approximate(statement.rss_bytes))
    ));
    page.blank();
}

fn parts(page: &mut Page, line: &Line) {
    // A single contributor is the line itself, unless it has a name that says more.
    for part in line.parts.iter().take(PARTS_SHOWN) {
        let room = page.width().saturating_sub(24);
        page.quiet_line(&format!(
            "{:>10}           {}",
            bytes(part.bytes),
            untrusted::keep_end(&untrusted::path(&part.name), room)
        ));
    }
}

pub(super) fn findings(page: &mut Page, statement: &MemoryStatement) {
    if statement.diagnoses.is_empty() {
        return;
    }
    page.section("WHAT IS NOTEWORTHY", "");
    for diagnosis in &statement.diagnoses {
        page.item(&format!("{} ({})", memory_words::diagnosis(diagnosis, statement), diagnosis.id()));
    }
    page.blank();
}

pub(super) fn advice(page: &mut Page, statement: &MemoryStatement) {
    if statement.advice.is_empty() {
        return;
    }
    page.section("WHAT TO SET", "");
    for advice in &statement.advice {
        page.item(&memory_words::advice(advice));
        for step in memory_words::arithmetic(advice) {
            page.quiet_line(&format!("    {step}"));
        }
    }
    page.blank();
}

fn surroundings(page: &mut Page, statement: &MemoryStatement) {
    if let Some(heap) = &statement.heap {
        if let Some(pacer) = &heap.pacer {
            page.fact("collector", &collector(heap.collections, pacer));
        }
        page.fact(
            "addresses",
            &format!(
                "HeapSys {}, HeapInuse {}, HeapIdle {} of which released {}, HeapAlloc {}, StackInuse {}",
                bytes(heap.sys_bytes),
                bytes(heap.in_use_bytes),
                bytes(heap.idle_bytes),
                bytes(heap.released_bytes),
                bytes(heap.allocated_bytes),
                bytes(heap.stacks_bytes)
            ),
        );
    }
    if let Some(group) = &statement.cgroup {
        page.fact("cgroup", &cgroup(group));
    }
    if let Some(host) = &statement.host {
        let available =
            host.available_bytes.map_or_else(String::new, |available| format!(", {} available", bytes(available)));
        page.fact("host", &format!("{} of memory{available}", bytes(host.total_bytes)));
    }
}

fn collector(collections: u32, pacer: &PacerNumbers) -> String {
    let gogc = pacer.gc_percent.map_or_else(|| String::from("off"), |percent| percent.to_string());
    let limit = pacer.memory_limit_bytes.map_or_else(|| String::from("none"), bytes);
    let has_goal = pacer.gc_percent.is_some() || pacer.memory_limit_bytes.is_some();
    let goal = if has_goal { format!(", next goal {}", bytes(pacer.goal_bytes)) } else { String::new() };
    let pace = pacer
        .alloc_bytes_per_s()
        .map_or_else(String::new, |rate| format!("; {} allocated per second since the last", human::bytes(rate)));
    format!(
        "{collections} collections; marked {}{goal}; GOGC {gogc}, GOMEMLIMIT {limit}{pace}",
        bytes(pacer.marked_bytes)
    )
}

fn cgroup(group: &Cgroup) -> String {
    let version = match group.version {
        Version::V1 => 1,
        Version::V2 => 2,
    };
    let mut parts = vec![format!("{} (version {version})", untrusted::path(&group.path))];
    parts.extend(group.current_bytes.map(|current| format!("uses {}", bytes(current))));
    parts.push(group.limit.as_ref().map_or_else(
        || String::from("no limit"),
        |limit| {
            let above = match limit.levels_above {
                0 => String::new(),
                1 => String::from(" (of the group above)"),
                levels => format!(" (of the group {levels} levels above)"),
            };
            format!("limit {}{above}", bytes(limit.bytes))
        },
    ));
    parts.extend(group.high.as_ref().map(|high| format!("slowed down from {} on", bytes(high.bytes))));
    parts.extend(group.swap_bytes.filter(|swap| *swap > 0).map(|swap| format!("{} in swap", bytes(swap))));
    parts.extend(group.oom_kills.map(|kills| format!("{kills} OOM kills")));
    parts.extend(group.pressure.map(|pressure| {
        format!("waits for memory {} of the time", human::percent(f64::from(pressure.some_10s) / 100.0))
    }));
    parts.join(", ")
}
