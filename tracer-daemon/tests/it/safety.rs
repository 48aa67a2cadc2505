//! Kernel tests: no harm to the target, whatever happens to leakline, and totals that stay right when the kernel side is
//! too small.

use std::{fs::File, os::unix::fs::FileExt as _};

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use rustix::process::Signal;
use tracer_daemon::{
    attach::Limits,
    cli::EvidenceChoice,
    discover::target_by_pid,
    inspect::cache::FactsCache,
    model::ExactCounts,
    pipeline::{Killswitch, Means, Session},
};

use crate::{
    exact::knownsites,
    go,
    leakline::{Running, can_attach},
    target::{Target, wait_until},
};

/// The target's executable pages as they are in its memory now.
pub(crate) fn text_bytes(pid: u32) -> Vec<u8> {
    text(pid, |map, _, bytes| {
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        memory.read_exact_at(bytes, map.address.0).unwrap();
    })
}

/// The same pages as the file has them that it runs: those of a program without C code are never changed by loading it.
pub(crate) fn text_of_file(pid: u32) -> Vec<u8> {
    text(pid, |map, exe, bytes| {
        // The last page is longer than the file.
        let read = exe.read_at(bytes, map.offset).unwrap();
        assert!(bytes.len() - read < 4096, "{read} of {} bytes", bytes.len());
    })
}

fn text(pid: u32, read: impl Fn(&MemoryMap, &File, &mut [u8])) -> Vec<u8> {
    let file = File::open(format!("/proc/{pid}/exe")).unwrap();
    let process = Process::new(i32::try_from(pid).unwrap()).unwrap();
    let exe = process.exe().unwrap();
    let mut text = Vec::new();
    for map in process.maps().unwrap() {
        if map.perms.contains(MMPermissions::EXECUTE) && matches!(&map.pathname, MMapPath::Path(path) if *path == exe) {
            let mut bytes = vec![0; usize::try_from(map.address.1 - map.address.0).unwrap()];
            read(&map, &file, &mut bytes);
            text.extend(bytes);
        }
    }
    assert!(text.len() > 100_000, "only {} bytes of text found", text.len());
    text
}

/// How many bytes differ.
pub(crate) fn changed(before: &[u8], now: &[u8]) -> usize {
    assert_eq!(before.len(), now.len());
    before.iter().zip(now).filter(|(before, now)| before != now).count()
}

#[test]
fn every_byte_of_the_target_is_restored_after_detach() {
    if !can_attach("every_byte_of_the_target_is_restored_after_detach") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let running = Running::attach(target.pid(), &[]);
    // One breakpoint byte at each of 1.27's points: this proves that the comparison sees them.
    assert!(changed(&before, &text_bytes(target.pid())) >= 15);
    running.report();
    assert_eq!(changed(&before, &text_bytes(target.pid())), 0);
    target.say("go");
    assert_eq!(target.line(), "done");
}

#[test]
fn nothing_stays_attached_when_leakline_is_killed() {
    if !can_attach("nothing_stays_attached_when_leakline_is_killed") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let mut running = Running::attach(target.pid(), &[]);
    assert!(changed(&before, &text_bytes(target.pid())) >= 15);
    running.kill();
    wait_until("the kernel has removed all breakpoints", || changed(&before, &text_bytes(target.pid())) == 0);
    target.say("go");
    assert_eq!(target.line(), "done");
    target.line();
    target.close_stdin();
    assert!(target.wait().success());
}

#[test]
fn nothing_stays_attached_when_leakline_is_killed_while_it_attaches() {
    if !can_attach("nothing_stays_attached_when_leakline_is_killed_while_it_attaches") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let pid = target.pid().to_string();
    for _ in 0..3 {
        let mut running = Running::start(&["attach", "--pid", &pid, "--evidence", "exact", "--output", "json"]);
        wait_until("the first breakpoint is in place", || changed(&before, &text_bytes(target.pid())) > 0);
        running.kill();
        wait_until("the kernel has removed all breakpoints", || changed(&before, &text_bytes(target.pid())) == 0);
    }
    target.say("go");
    assert_eq!(target.line(), "done");
}

/// A program that allocates as fast as it can, for longer than any test.
pub(crate) fn busy_target() -> Target {
    let program = go::build("allocrate", "go1.27.3", &[]);
    let mut target = Target::start(&program, &["-wait", "-size", "48", "-goroutines", "2", "-seconds", "600"]);
    target.say("go");
    target.line();
    target
}

/// Kills leakline at many moments of its life while the target allocates at full speed. `end` brings it to where it is killed.
fn is_clean_after_kills(kills: u32, mut end: impl FnMut(&Running, u32)) {
    let mut target = busy_target();
    let before = text_bytes(target.pid());
    let pid = target.pid().to_string();
    for kill in 0..kills {
        let mut running = Running::start(&["attach", "--pid", &pid, "--evidence", "exact", "--output", "json"]);
        end(&running, kill);
        running.kill();
        wait_until("the kernel has removed all breakpoints", || changed(&before, &text_bytes(target.pid())) == 0);
        assert!(target.is_running());
    }
}

/// Moments spread over the time that attaching and detaching take, without a clock: by how much of the text has changed.
fn wait_for_breakpoints(pid: u32, before: &[u8], holds: impl Fn(usize) -> bool) {
    wait_until("so many breakpoints are in place", || holds(changed(before, &text_bytes(pid))));
}

#[test]
fn nothing_stays_attached_when_leakline_is_killed_while_it_ends_and_the_target_is_busy() {
    if !can_attach("nothing_stays_attached_when_leakline_is_killed_while_it_ends_and_the_target_is_busy") {
        return;
    }
    // Two targets of one text: the second, quiet one tells what the text is.
    let quiet = Target::start(&go::build("allocrate", "go1.27.3", &[]), &["-wait"]);
    let before = text_bytes(quiet.pid());
    is_clean_after_kills(24, |running, kill| {
        let pid = running.target_pid();
        wait_for_breakpoints(pid, &before, |changed| changed >= 17);
        running.signal(Signal::INT);
        // From the first breakpoint that goes to the last but one.
        wait_for_breakpoints(pid, &before, |changed| changed <= 16 - (kill % 16) as usize);
    });
}

#[test]
fn nothing_stays_attached_when_leakline_is_killed_while_it_attaches_and_the_target_is_busy() {
    if !can_attach("nothing_stays_attached_when_leakline_is_killed_while_it_attaches_and_the_target_is_busy") {
        return;
    }
    let quiet = Target::start(&go::build("allocrate", "go1.27.3", &[]), &["-wait"]);
    let before = text_bytes(quiet.pid());
    is_clean_after_kills(17, |running, kill| {
        wait_for_breakpoints(running.target_pid(), &before, |changed| changed > kill as usize);
    });
}

#[test]
fn after_the_gate_is_closed_nothing_is_counted_though_probes_are_there() {
    if !can_attach("after_the_gate_is_closed_nothing_is_counted_though_probes_are_there") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let mut session = exact_session(target.pid(), Limits::default());
    session.open().unwrap();
    session.close().unwrap();
    target.say("go");
    assert_eq!(target.line(), "done");
    let snapshot = session.snapshot(session.moment()).unwrap().exact.unwrap();
    assert!(snapshot.totals.allocated.objects < 100, "{}", snapshot.totals.allocated.objects);
    assert!(snapshot.totals.probe_hits >= OBJECTS, "{}", snapshot.totals.probe_hits);
    while session.detach_next() {}
}

fn exact_session(pid: u32, limits: Limits) -> Session {
    let books_every = std::time::Duration::from_millis(100);
    let means = Means {
        evidence: EvidenceChoice::Exact,
        killswitch: Killswitch::new("/nowhere".into()),
        limits,
        adopt: None,
        bursts: None,
        books_every,
        is_recorded: false,
        warm_after: None,
    };
    Session::start(&target_by_pid(pid).unwrap(), &means, &FactsCache::default()).unwrap()
}

/// Watches the program's phase with these limits, without taking anything from the ring before the end.
fn watched_with(limits: Limits) -> ExactCounts {
    let mut target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let mut session = exact_session(target.pid(), limits);
    session.open().unwrap();
    target.say("go");
    assert_eq!(target.line(), "done");
    session.close().unwrap();
    while session.detach_next() {}
    session.snapshot(session.moment()).unwrap().exact.unwrap()
}

/// What the phase allocates at least; see the program.
pub(crate) const OBJECTS: u64 = 152_732;

fn loss(snapshot: &ExactCounts, id: &str) -> u64 {
    snapshot.losses.iter().find(|loss| loss.reason.id() == id).unwrap().count
}

fn sites_and_other_are_the_total(snapshot: &ExactCounts) {
    let named: u64 = snapshot.sites.iter().map(|site| site.counted.objects).sum();
    assert_eq!(named + snapshot.other.objects, snapshot.totals.allocated.objects);
    assert!(snapshot.totals.allocated.objects >= OBJECTS, "{}", snapshot.totals.allocated.objects);
}

#[test]
fn a_full_ring_is_counted_and_totals_stay_right() {
    if !can_attach("a_full_ring_is_counted_and_totals_stay_right") {
        return;
    }
    let enough = watched_with(Limits::default());
    sites_and_other_are_the_total(&enough);
    assert_eq!((loss(&enough, "ring_full"), enough.other.objects), (0, 0));

    let small = watched_with(Limits { ring_bytes: 4096, ..Limits::default() });
    sites_and_other_are_the_total(&small);
    assert!(loss(&small, "ring_full") > 0);
    assert!(small.other.objects > 0 && small.sites.len() < enough.sites.len());
}

#[test]
fn full_maps_are_counted_and_totals_stay_right() {
    if !can_attach("full_maps_are_counted_and_totals_stay_right") {
        return;
    }
    let small = watched_with(Limits {
        allocation_stacks: 4,
        goroutine_stacks: 2,
        live_goroutines: 8,
        exit_places: 1,
        ..Limits::default()
    });
    sites_and_other_are_the_total(&small);
    for reason in ["allocation_stacks_full", "goroutine_stacks_full", "live_goroutines_full"] {
        assert!(loss(&small, reason) > 0, "{reason}");
    }
    assert!(small.sites.len() <= 4);
    assert!(small.totals.goroutines.created >= 1_013 + 257 + 360);
}
