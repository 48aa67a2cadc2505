//! The whole report, as a person sees it.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use std::sync::Arc;

use expect_test::{expect, expect_file};
use proptest::prelude::*;
use tracer_common::loss::Loss;

use super::*;
use crate::{
    export::{fixture, report::CostFacts},
    model::{Counted, ExactCounts, LossCount, Totals, Turnover, birth_look::BirthCounts},
};

#[test]
fn the_report_at_100_columns() {
    expect_file!["testdata/report_100.txt"].assert_eq(&render(&fixture::report(), Style::default()));
}

#[test]
fn the_report_by_the_books() {
    expect_file!["testdata/books_100.txt"].assert_eq(&render(&fixture::report_of(fixture::books()), Style::default()));
}

#[test]
fn the_report_of_a_program_that_jumps() {
    let snapshot = crate::model::Snapshot {
        series: Some(Arc::new(fixture::steps())),
        impulses: Some(Arc::new(fixture::impulses())),
        ..fixture::books()
    };
    let text = render(&fixture::report_of(snapshot), Style::default());
    let from = text.find("WHEN IT JUMPED").unwrap();
    let peaks: Vec<&str> = text.lines().filter(|line| line.starts_with("peaks")).collect();
    expect![[r#"
        peaks     most allocated in 0.1 s: 260,000 objects at 0.2 s, 39.7 MiB at 0.2 s
        WHEN IT JUMPED
        Moments at which the runtime's books jumped, 3 of 9, and who allocated in the window that was opened
        at once. Such a window stands for itself alone: it is in no rate.
        14:13:26 UTC (3.2 s): the rate of allocation jumped from 10.0 MiB/s to 250 MiB/s
          12 ms later a window of 14.9 ms recorded 1,846 objects, of 1.97 MiB in 4.01 k
            81.0 %     1,495  main.(*store).put               /src/shop/store.go:42
            12.0 %       222  main.copy                       /src/shop/copy.go:9
             6.9 %       129  main.(*server).events           /src/shop/events.go:61
                              1 more line (--output json)
        14:13:29 UTC (6.4 s): the heap grew from 42.0 MiB to 95.0 MiB
          no window: a burst for this reason was not long ago
        14:13:32 UTC (9.6 s): a collection stopped the program for 31.4 ms
          no window was opened"#]]
    .assert_eq(&format!("{}\n{}", peaks.join("\n"), text[from..].split("\n\n").next().unwrap()));
}

/// [`fixture::growing_by_births`], seen by windows.
fn by_windows() -> Report {
    let report = fixture::report_of(fixture::growing_by_births());
    let cost = CostFacts {
        bursts: Some(264),
        bursts_open_s: Some(0.352),
        target_ratio: Some(0.0042),
        budget_ratio: Some(0.01),
        ..report.cost
    };
    Report { cost, ..report }
}

#[test]
fn the_report_by_windows_says_who_allocates() {
    expect_file!["testdata/windows_100.txt"].assert_eq(&render(&by_windows(), Style::default()));
}

#[test]
fn who_allocates_is_a_line_once_and_the_least_are_summed_up() {
    let mut snapshot = fixture::growing_by_births();
    let births = snapshot.births.as_mut().map(Arc::make_mut).unwrap();
    let put = births.sites[0].clone();
    let site = |id: u32| crate::model::BirthSite {
        id: crate::model::SiteId(u64::from(id)),
        place: fixture::frame("main.f", "/src/f.go", id / 2),
        ..put.clone()
    };
    births.sites = (2..30).map(site).collect();
    let text = render(&Report { snapshot: Arc::new(snapshot), ..by_windows() }, Style { width: 60, colour: false });
    let table = text.split_once("WHO ALLOCATES\n").unwrap().1.split_once("\n\n").unwrap().0;
    let rows: Vec<&str> = table.lines().skip_while(|line| !line.contains("bytes/s")).collect();
    expect![[r#"
        |   bytes/s  objects/s    stays recorded  function and line
        |  42.0 MiB      420 k   0.45 %   13,742  main.f  /src/f.go:1
        |                              40.5 MiB to 43.4 MiB/s, 0.42 %
        |                              to 0.48 % stays
        |   168 MiB                       54,968  4 more lines (--output json)"#]]
    .assert_eq(&format!("|{}", [&rows[..4], &rows[rows.len() - 1..]].concat().join("\n|")));
}

#[test]
fn where_no_window_was_opened_nothing_is_said_of_them() {
    let text = render(&fixture::report_of(fixture::growing()), Style::default());
    assert!(!text.contains("WHO ALLOCATES") && !text.contains("LOST"), "{text}");
}

#[test]
fn what_windows_lost_is_said_as_that_of_hooks_on_everything() {
    let mut snapshot = fixture::growing_by_births();
    let counts = snapshot.birth_counts.unwrap();
    snapshot.birth_counts = Some(BirthCounts { ring_full: 1, cycles_missed: 12_345, ..counts });
    let text = render(&Report { snapshot: Arc::new(snapshot), ..by_windows() }, Style::default());
    expect![[r#"
        - 1 time: an object that a window recorded found no room on its way to leakline; the others of that
          window stand for it (births_ring_full)
        - 12.3 k times: a collection went by without a look at the objects that are followed
          (collections_missed)
    "#]]
    .assert_eq(text.split_once("LOST ON THE WAY\n").unwrap().1);
}

#[test]
fn the_report_of_a_leak() {
    expect_file!["testdata/leak_100.txt"].assert_eq(&render(&fixture::report_of(fixture::growing()), Style::default()));
}

#[test]
fn the_report_at_80_columns_with_losses_of_an_ended_process() {
    let mut snapshot = fixture::counts();
    snapshot.losses = vec![
        LossCount { reason: Loss::RingFull, count: 1 },
        LossCount { reason: Loss::AllocationStacksFull, count: 0 },
        LossCount { reason: Loss::LiveGoroutinesFull, count: 12_345 },
    ];
    snapshot.other_goroutines = Turnover { created: 0, exited: 12 };
    let mut report = fixture::report_of(snapshot);
    report.process.ended = true;
    report.process.main_module = None;
    expect_file!["testdata/report_80.txt"].assert_eq(&render(&report, Style { width: 80, colour: false }));
}

#[test]
fn the_report_of_an_idle_process() {
    let snapshot = ExactCounts {
        sites: Vec::new(),
        goroutine_sites: Vec::new(),
        other: Counted::default(),
        totals: Totals::default(),
        series: None,
        ..fixture::counts()
    };
    let mut report = fixture::report_of(snapshot);
    report.cost = CostFacts::default();
    report.refusals.clear();
    expect![[r#"
        shop (pid 4711, go1.26.6) allocated 0 B in 0 objects (0 B/s, 0 objects/s) in 30.0 s; its number of
        goroutines did not change.

        evidence  exact: every allocation and every goroutine of the window was counted, none was estimated
        cost      0 probe hits; every allocation was trapped: the program ran slower while we looked (by how
                  much was not measured)
        binary    /srv/shop, module example.com/shop, build id n0tAReal/BuildId
        runs in   namespace prod, pod shop-7c9d, container shop

        WHAT NEXT
        - Nothing was allocated in the window. If the program was idle, look again under load.
        - To look again, for longer: leakline attach --pid 4711 --evidence exact --duration 60s
    "#]]
    .assert_eq(&render(&report, Style::default()));
}

#[test]
fn only_a_summary_of_what_is_too_much() {
    let place = |line: u64| fixture::frame("main.f", "/src/f.go", u32::try_from(line).unwrap());
    let mut snapshot = fixture::counts();
    let counted = Counted { objects: 30, bytes: 3000 };
    snapshot.sites = (0..40).map(|id| fixture::site(id, &place(id), &place(id), counted, &[0.2; 5])).collect();
    snapshot.goroutine_sites = (0..40).map(|id| fixture::goroutine_site(id, &place(id), 1, 0)).collect();
    let text = render(&fixture::report_of(snapshot), Style::default());
    assert!(text.contains("25 more lines (--output json)"), "{text}");
    assert!(text.contains("30 more places (--output json)"), "{text}");
    assert!(text.contains("40.0 % by 2 more paths (--output json)"), "{text}");
    assert!(text.lines().count() < 120, "{text}");
}

#[test]
fn a_line_behind_which_many_allocate_is_one_row() {
    let middleware = fixture::frame("example.com/shop/web.handle.func1", "/src/shop/web/handle.go", 976);
    let mut snapshot = fixture::counts();
    let library = |line: u64| {
        let place = fixture::frame("github.com/x/metrics.(*Registry).Gather", "/src/metrics/registry.go", 0);
        crate::symbolize::Frame { line: u32::try_from(line).unwrap(), ..place }
    };
    let counted = |line: u64| Counted { objects: 30, bytes: 30_000 - line };
    snapshot.sites =
        (1..=5).map(|line| fixture::site(line, &middleware, &library(line), counted(line), &[1.0])).collect();
    let small = fixture::frame("main.poll", "/src/shop/poll.go", 12);
    let little = Counted { objects: 1, bytes: 50 };
    snapshot.sites.extend((6..=8).map(|line| fixture::site(line, &small, &library(line), little, &[1.0])));
    snapshot.totals.allocated = Counted { objects: 300, bytes: 300_000 };
    snapshot.other = Counted::default();
    snapshot.goroutine_sites.truncate(1);
    snapshot.goroutine_sites[0].creation_stack[0] = library(7);
    let text = render(&fixture::report_of(snapshot), Style::default());
    let (table, rest) = text.split_once("HOW IT GETS THERE").unwrap();
    let (stacks, goroutines) = rest.split_once("WHERE GOROUTINES START").unwrap();
    let (_, table) = table.split_once("WHERE IT ALLOCATES").unwrap();
    let shares: Vec<&str> = stacks.lines().filter(|line| line.contains(" by")).take(4).collect();
    expect![[r#"

        Rates of allocation, not of leaking: volume is not a leak, most of it may be garbage a moment later.
        Rows with via are the allocating lines behind the line above them, and part of it.
           bytes/s    share  objects/s  function and line
          4.88 KiB   50.0 %          5  example.com/shop/web.handle.func1  /src/shop/web/handle.go:976
            1000 B   10.0 %          1  via metrics.(*Registry).Gather      /src/metrics/registry.go:1
            1000 B   10.0 %          1  via metrics.(*Registry).Gather      /src/metrics/registry.go:2
            1000 B   10.0 %          1  via metrics.(*Registry).Gather      /src/metrics/registry.go:3
          1.95 KiB   20.0 %          2  via 2 more lines (--output json)
               5 B   0.05 %       0.10  main.poll                       /src/shop/poll.go:12
                                        via 3 lines (--output json)

          20.0 % of its bytes by  [0000000000000001]
          20.0 % of its bytes by  [0000000000000002]
          20.0 % of its bytes by  [0000000000000003]
          40.0 % by 2 more paths (--output json)

        Net = started less ended in the window. What started earlier and still lives is not counted here.
        Via: the go statement itself, where another line of yours leads to it.
           started    ended        net  function and line
            9.12 k   9.12 k         +2  main.handle                     /src/shop/handle.go:88
                                        via metrics.(*Registry).Gather      /src/metrics/registry.go:7

        WHAT NEXT
        - No place starts clearly more goroutines than end: nothing here points to a goroutine leak.
        - example.com/shop/web.handle.func1 (/src/shop/web/handle.go:976) allocates 50.0 % of all bytes, by
          5 lines of what it calls: allocating less there spares the most garbage. Whether it leaks is not
          known: these are rates of allocation, and nobody looked at what stays alive.
        - To look again, for longer: leakline attach --pid 4711 --evidence exact --duration 60s
    "#]]
    .assert_eq(&format!("{table}{}\n{goroutines}", shares.join("\n")));
}

#[test]
fn the_same_report_gives_the_same_bytes() {
    assert_eq!(render(&fixture::report(), Style::default()), render(&fixture::report(), Style::default()));
}

#[test]
fn without_a_window_there_are_no_rates() {
    let mut snapshot = fixture::counts();
    snapshot.window_s = 0.0;
    let text = render(&fixture::report_of(snapshot), Style::default());
    assert!(!text.contains("inf") && !text.contains("NaN"), "{text}");
}

proptest! {
    #[test]
    fn no_name_reaches_the_terminal_raw(name in fixture::any_text(), width in 0_usize..200) {
        let mut report = fixture::report();
        let mut snapshot = fixture::counts();
        snapshot.sites[0].place = fixture::frame(&name, &name, 3);
        snapshot.goroutine_sites[1].place = fixture::frame(&name, &name, 0);
        report.snapshot = Arc::new(snapshot.into());
        report.process.exe.clone_from(&name);
        report.process.container = Some(name);
        let text = render(&report, Style { width, colour: false });
        prop_assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
    }
}
