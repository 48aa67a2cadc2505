//! What happens to leakline, or is not allowed to it, while windows are open.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tracer_daemon::{
    attach::Limits,
    cli::EvidenceChoice,
    discover::target_by_pid,
    export::Refusal,
    inspect::cache::FactsCache,
    model::Snapshot,
    pipeline::{Bursts, Killswitch, Means, Session},
};

use super::{
    Bursting, breakpoints, count, refusal, target, wait_for_allocations, wait_for_window, wait_until_clean, windows,
};
use crate::{
    leakline::can_attach,
    links::sleep_us,
    target::{Target, wait_until},
};

#[test]
fn a_stopped_leakline_leaves_no_breakpoint_and_goes_on_when_it_does() {
    if !can_attach("a_stopped_leakline_leaves_no_breakpoint_and_goes_on_when_it_does") {
        return;
    }
    let mut target = target("go1.27.3", &["busy", "2"]);
    let mut leakline = Bursting::attach(target.pid(), &[]);
    wait_for_window(target.pid());
    let stopped = begin();
    leakline.running.signal(Signal::STOP);
    wait_until_clean(target.pid());
    println!("clean {:?} after leakline was stopped", stopped.elapsed());
    wait_for_allocations(&mut target);
    // One waits for an order and holds nothing.
    wait_until("those that hold links are gone", || leakline.holders().len() <= 1);
    // Long enough to be told from a host that is slow.
    wait_until("some seconds have passed", || stopped.elapsed() > Duration::from_secs(4));
    assert_eq!(breakpoints(target.pid()), 0);
    leakline.running.signal(Signal::CONT);
    leakline.running.wait_for("leakline stood still");
    wait_for_window(target.pid());
    leakline.wait_for_windows(4);
    leakline.running.signal(Signal::INT);
    let document = leakline.finish();
    assert!(windows(&document) >= 2);
    let missed = document["loss"]["collections_missed"].as_u64().unwrap();
    println!("{missed} collections missed");
    assert!(missed > 0, "{}", document["loss"]);
    assert_eq!(breakpoints(target.pid()), 0);
}

#[allow(clippy::disallowed_methods, reason = "how long it took is printed, and never asserted")]
fn begin() -> Instant {
    Instant::now()
}

#[test]
fn a_killed_leakline_leaves_nothing() {
    if !can_attach("a_killed_leakline_leaves_nothing") {
        return;
    }
    let mut target = target("go1.27.3", &["busy", "2"]);
    for _ in 0..3 {
        let mut leakline = Bursting::attach(target.pid(), &[]);
        wait_for_window(target.pid());
        leakline.running.kill();
        wait_until_clean(target.pid());
        leakline.wait_until_gone();
        wait_for_allocations(&mut target);
    }
}

#[test]
fn when_leakline_ends_in_a_window_nothing_is_left_behind_its_report() {
    if !can_attach("when_leakline_ends_in_a_window_nothing_is_left_behind_its_report") {
        return;
    }
    let mut target = target("go1.27.3", &["busy", "2"]);
    for signal in [Signal::INT, Signal::TERM, Signal::INT, Signal::TERM] {
        let leakline = Bursting::attach(target.pid(), &[]);
        wait_for_window(target.pid());
        leakline.running.signal(signal);
        // That no process is left is looked at there, without waiting.
        let document = leakline.finish();
        assert_eq!(breakpoints(target.pid()), 0);
        assert_eq!(document["final"], true);
        assert_eq!(document["process"]["ended"], false);
        wait_for_allocations(&mut target);
    }
}

#[test]
fn when_nobody_reads_the_reports_windows_end_with_leakline() {
    if !can_attach("when_nobody_reads_the_reports_windows_end_with_leakline") {
        return;
    }
    let mut target = target("go1.27.3", &["busy", "2"]);
    let mut leakline = Bursting::attach(target.pid(), &["--interval", "50ms"]);
    let mut stdout = BufReader::new(leakline.running.take_stdout());
    wait_for_window(target.pid());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("\"final\":false"), "{line}");
    drop(stdout);
    assert_eq!(leakline.running.wait(), 0);
    assert_eq!(breakpoints(target.pid()), 0);
    assert_eq!(leakline.holders(), [0; 0]);
    wait_for_allocations(&mut target);
}

#[test]
fn when_a_run_is_told_to_end_in_a_window_nothing_is_left() {
    if !can_attach("when_a_run_is_told_to_end_in_a_window_nothing_is_left") {
        return;
    }
    let mut targets = [target("go1.27.3", &["busy", "1"]), target("go1.22.12", &["busy", "1"])];
    let pids = targets.each_ref().map(|target| target.pid().to_string());
    let mut arguments = vec!["run", "--listen", "127.0.0.1:0", "--evidence", "bursts", "--max-overhead", "50%"];
    for pid in &pids {
        arguments.extend(["--pid", pid]);
    }
    let mut leakline = Bursting::start(&arguments);
    leakline.wait_for_windows(4);
    for target in &targets {
        wait_for_window(target.pid());
    }
    leakline.running.signal(Signal::TERM);
    leakline.running.wait_for("counting has stopped");
    assert_eq!(leakline.running.wait(), 0);
    assert_eq!(leakline.holders(), [0; 0]);
    for target in &mut targets {
        assert_eq!(breakpoints(target.pid()), 0);
        wait_for_allocations(target);
    }
}

#[test]
fn a_holder_that_is_stopped_or_killed_ends_its_window_and_no_other() {
    if !can_attach("a_holder_that_is_stopped_or_killed_ends_its_window_and_no_other") {
        return;
    }
    let mut target = target("go1.27.3", &["busy", "2"]);
    for happens in [Signal::KILL, Signal::STOP] {
        let mut leakline = Bursting::attach(target.pid(), &[]);
        leakline.wait_for_windows(2);
        let before = count(&mut target);
        let to_all = |signal| {
            for holder in leakline.holders() {
                // It may be gone by now.
                let _gone = kill_process(Pid::from_raw(holder.cast_signed()).unwrap(), signal);
            }
        };
        wait_until("it has happened to one that holds a window", || {
            // At a random moment: who looks for a window first finds its holder when it is over.
            to_all(happens);
            // What is killed is gone in any case. Other windows come and go meanwhile; one that is held does not go.
            // It is looked at for less time than leakline waits before it ends it by force.
            let (began, mut looks, mut is_held) = (begin(), 0, true);
            let is_enough = |looks: u32| looks >= 10 && began.elapsed() > Duration::from_millis(400);
            while is_held && happens == Signal::STOP && !is_enough(looks) {
                is_held = breakpoints(target.pid()) >= super::IN_WINDOW;
                looks += 1;
                sleep_us(2_000);
            }
            let has_hit = is_held;
            if !has_hit {
                to_all(Signal::CONT);
            }
            has_hit
        });
        if happens == Signal::STOP {
            leakline.running.wait_for("ended by force");
        }
        wait_until("the target has allocated", || count(&mut target) > before);
        leakline.wait_for_windows(1);
        leakline.running.signal(Signal::INT);
        // One that keeps the probe of collections, and is stopped, is told to end and cannot hear it: that one, too, is gone.
        assert!(windows(&leakline.finish()) >= 1);
        assert_eq!(breakpoints(target.pid()), 0);
        wait_for_allocations(&mut target);
    }
}

#[test]
fn without_capabilities_bursts_are_refused_with_their_names_and_the_books_go_on() {
    if !can_attach("without_capabilities_bursts_are_refused_with_their_names_and_the_books_go_on") {
        return;
    }
    let target = target("go1.27.3", &["busy", "1"]);
    let run = |kept: &str| {
        let output = Command::new("setpriv")
            .args(["--bounding-set", &format!("-all,{kept}"), "--inh-caps", "-all"])
            .arg(env!("CARGO_BIN_EXE_leakline"))
            .args(["attach", "--pid", &target.pid().to_string(), "--evidence", "bursts", "--duration", "2s"])
            .args(["--output", "json"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["evidence"]["used"], serde_json::json!(["books", "goroutine-table"]));
        let text = refusal(&document, "bursts_unsupported").unwrap_or_else(|| panic!("{}", document["evidence"]));
        assert!(said.contains("not measured"), "{said}");
        text.to_owned()
    };
    let text = run("+sys_ptrace,+dac_override,+dac_read_search");
    assert!(text.contains("CAP_BPF") && text.contains("CAP_PERFMON"), "{text}");
    let text = run("+sys_ptrace,+dac_override,+dac_read_search,+bpf");
    assert!(text.contains("CAP_PERFMON"), "{text}");
}

/// Bursts at half of a target's time.
fn many_bursts() -> Bursts {
    Bursts::new(0.5).held_by(Path::new(env!("CARGO_BIN_EXE_leakline")))
}

/// What is known after some windows, with such a ring.
fn watched_with(target: &Target, birth_ring_bytes: u32) -> (Snapshot, f64) {
    let has_rates = |snapshot: &Snapshot| {
        let births = snapshot.births.as_ref();
        births.is_some_and(|births| births.sites.iter().any(|site| site.alloc_bytes_per_s.is_some()))
    };
    let (snapshot, _) = watched_until(target, birth_ring_bytes, many_bursts(), has_rates);
    let births = snapshot.births.as_ref().unwrap();
    let bytes_per_s = births.sites.iter().filter_map(|site| Some(site.alloc_bytes_per_s?.value)).sum();
    (snapshot, bytes_per_s)
}

/// What is known once enough is, and what is refused.
fn watched_until(
    target: &Target,
    birth_ring_bytes: u32,
    bursts: Bursts,
    is_enough: impl Fn(&Snapshot) -> bool,
) -> (Snapshot, Vec<Refusal>) {
    let means = Means {
        evidence: EvidenceChoice::Bursts,
        killswitch: Killswitch::new("/nowhere".into()),
        limits: Limits { birth_ring_bytes, ..Limits::default() },
        adopt: None,
        bursts: Some(Arc::new(bursts)),
        books_every: Means::BOOKS_OFTEN,
        is_recorded: false,
        warm_after: None,
    };
    let mut session = Session::start(&target_by_pid(target.pid()).unwrap(), &means, &FactsCache::default()).unwrap();
    session.open().unwrap();
    wait_until("there were some windows", || {
        session.step();
        is_enough(&session.snapshot(session.moment()).unwrap())
    });
    session.close().unwrap();
    (session.snapshot(session.moment()).unwrap(), session.refused())
}

#[test]
fn without_links_of_uprobe_multi_windows_are_opened_by_perf_events_and_the_report_says_why() {
    if !can_attach("without_links_of_uprobe_multi_windows_are_opened_by_perf_events_and_the_report_says_why") {
        return;
    }
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let mut target = target(toolchain, &["busy", "1"]);
        let has_births = |snapshot: &Snapshot| snapshot.birth_counts.is_some_and(|births| births.born > 0);
        let bursts = many_bursts().by_perf_events();
        let (snapshot, refused) = watched_until(&target, Limits::default().birth_ring_bytes, bursts, has_births);
        println!("{toolchain}: {:?}", snapshot.birth_counts);
        let why = refused.iter().find(|refusal| refusal.id == "bursts_by_perf_events");
        assert!(why.is_some_and(|why| why.text.contains("perf events")), "{refused:?}");
        wait_until_clean(target.pid());
        wait_for_allocations(&mut target);
    }
}

#[test]
fn births_that_find_no_room_in_the_ring_are_counted_and_the_others_stand_for_them() {
    if !can_attach("births_that_find_no_room_in_the_ring_are_counted_and_the_others_stand_for_them") {
        return;
    }
    let target = target("go1.27.3", &["busy", "1"]);
    let (enough, bytes_per_s) = watched_with(&target, Limits::default().birth_ring_bytes);
    let (small, bytes_per_s_of_small) = watched_with(&target, 4096);
    let lost = |snapshot: &Snapshot| snapshot.birth_counts.unwrap().ring_full;
    println!("{:?}\n{:?}", enough.birth_counts, small.birth_counts);
    println!("{bytes_per_s:.3e} bytes a second seen with all births, {bytes_per_s_of_small:.3e} with a small ring");
    // On a host where the tracker is late even a large ring can fill.
    let told = |snapshot: &Snapshot| snapshot.birth_counts.unwrap().born;
    let most_are_told = |snapshot: &Snapshot| told(snapshot) > lost(snapshot);
    assert!(most_are_told(&enough) && !most_are_told(&small), "{:?} {:?}", enough.birth_counts, small.birth_counts);
    for snapshot in [enough, small] {
        let assessment = snapshot.assessment.unwrap();
        assert!(assessment.sites.is_empty(), "nothing leaks: {:?}", assessment.sites);
    }
}
