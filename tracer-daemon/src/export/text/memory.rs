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
        Component::LiveHeap => "in use at the last collection",
        Component::Garbage => "dead, or newer than that",
        Component::Fragmentation => "room between objects",
        Component::Idle => "empty pages, not given back",
        Component::Stacks => "stacks of goroutines",
        Component::RuntimeMetadata => "the runtime's own structures",
        Component::File => "executable, libraries, files",
        Component::Native => "C code, mappings of the program",
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
    let has_growth = statement.lines.iter().any(|line| line.growth_bytes_per_s.is_some());
    let row = |bytes: &str, share: &str, growth: &str, name: &str, source: &str, words: &str| {
        let growth = if has_growth { format!("  {growth:>12}") } else { String::new() };
        format!("{bytes:>10}  {share:>7}{growth}  {name:16}  {source:11}  {words}")
    };
    page.quiet_line(&row("bytes", "share", "growth", "name", "source", "what it is"));
    let share = |bytes: f64| human::percent(bytes / human::approximate(statement.rss_bytes.max(1)));
    for line in &statement.lines {
        let growth = line.growth_bytes_per_s.map_or_else(String::new, |rate| {
            let sign = if rate.value > 0.0 { "+" } else { "" };
            format!("{sign}{}/s", human::bytes(rate.value))
        });
        let of_all = share(human::approximate(line.bytes));
        let name = line.component.name();
        page.line(&row(&bytes(line.bytes), &of_all, &growth, name, &line.source, words(line.component)));
        parts(page, line);
    }
    let unexplained = human::whole(statement.unexplained_bytes);
    page.line(&row(&human::bytes(unexplained), &share(unexplained), "", "unexplained", "", "no line explains it"));
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
            page.fact("", &step);
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::model::memory::tests::example;

    #[test]
    fn what_takes_the_memory_stands_first_then_what_is_odd_then_what_to_set() {
        let process =
            ProcessFacts { pid: 7, exe: "/srv/shop".into(), go_version: "go1.27.3".into(), ..ProcessFacts::default() };
        let refused = [Refusal::new("cgroup_unread", "cannot read /proc/7/cgroup: \u{1b}[31m")];
        let text = render(&process, &example(), &refused, Style::default());
        assert!(text.lines().all(|line| line.chars().count() <= Style::default().width), "{text}");
        expect![[r"
            shop (pid 7, go1.27.3) has 383 MiB in memory; the most of it, 45.4 %, is live_heap: in use at the
            last collection.

            WHAT TAKES THE MEMORY
            Bytes in memory; the lines sum to the resident memory.
                 bytes    share        growth  name              source       what it is
               174 MiB   45.4 %         0 B/s  live_heap         books+pages  in use at the last collection
              46.0 MiB   12.0 %         0 B/s  garbage           books+pages  dead, or newer than that
               100 MiB   26.1 %   +9.00 MiB/s  fragmentation     pages        room between objects
              8.00 MiB    2.1 %         0 B/s  idle              pages        empty pages, not given back
              5.00 MiB    1.3 %         0 B/s  stacks            pages        stacks of goroutines
              10.0 MiB    2.6 %         0 B/s  runtime_metadata  pages        the runtime's own structures
              20.0 MiB    5.2 %         0 B/s  file              smaps        executable, libraries, files
              15.0 MiB           the executable
              5.00 MiB           /data/a\u{a}b
              20.0 MiB    5.2 %         0 B/s  native            smaps        C code, mappings of the program
                   0 B   0.00 %                unexplained                    no line explains it
               383 MiB  100.0 %  resident

            WHAT IS NOTEWORTHY
            - Resident memory misleads: 5.00 MiB are in swap on top of 383 MiB. Each collection reads what it
              marks, so swap makes collections slow. (swapped)
            - 100 MiB lie between objects, in spans that a few objects keep (HeapInuse is 260 MiB): after a peak
              of small objects, those that are left are spread thin. New objects of the same sizes use this room
              first; other sizes cannot. (fragmented)
            - The kernel has killed a process of this cgroup once for lack of memory. (oom_kills)
            - Tasks of the cgroup waited for memory for 12.5 % of the last 10 s. (memory_pressure)

            WHAT TO SET
            - Set GOMEMLIMIT=448MiB (now it is not set): then the collector works harder before the cgroup's
              limit of 512 MiB is reached.
                      limit 512 MiB - 40.0 MiB outside Go (native, files) = 472 MiB
                      472 MiB x 95 % = 448 MiB for Go
                      Go needs 289 MiB now (live heap, fragmentation, stacks, metadata)
            - Without GOMEMLIMIT: GOGC=100 lets the heap grow to 400 MiB, beyond what is left for Go below
              512 MiB; GOGC=79 is the largest that fits.
                      limit 512 MiB - 40.0 MiB outside Go (native, files) = 472 MiB
                      472 MiB x 95 % = 448 MiB for Go
                      Go needs 289 MiB now (live heap, fragmentation, stacks, metadata)
                      heap 400 MiB by GOGC=100 + 89.0 MiB besides > 448 MiB
                      (448 MiB - 89.0 MiB besides - 200 MiB marked) / (400 MiB - 200 MiB marked) x 100 = 79

            collector 7 collections; marked 200 MiB, next goal 400 MiB; GOGC 100, GOMEMLIMIT none; 5.00 MiB
                      allocated per second since the last
            addresses HeapSys 272 MiB, HeapInuse 260 MiB, HeapIdle 12.0 MiB of which released 4.00 MiB,
                      HeapAlloc 250 MiB, StackInuse 4.00 MiB
            cgroup    /x (version 2), uses 300 MiB, limit 512 MiB, slowed down from 500 MiB on, 5.00 MiB in
                      swap, 1 OOM kills, waits for memory 12.5 % of the time
            host      64.0 GiB of memory, 32.0 GiB available
            not read  cannot read /proc/7/cgroup: \u{1b}[31m (cgroup_unread)
        "]]
        .assert_eq(&text);
    }
}
