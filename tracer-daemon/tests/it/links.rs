//! Kernel tests: links of `uprobe_multi`, and the perf events that take their place on older kernels, held by processes that exit. Hits come from when a link is open until it is closed, and nothing stays
//! in the target, whoever is killed or stopped when.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, Signal, kill_process},
};
use tracer_common::{bursts::WindowState, exact::Total};
use tracer_daemon::{
    attach::{
        AttachError, Calibration, Holder, Holders, KernelObject, Link, LinkPoint, Mechanism, Most, MultiSupport, News,
        Until,
    },
    host::Status,
    inspect::inspect_file,
    plan::ProbePlan,
};

use crate::{
    exact::knownsites,
    go,
    leakline::can_attach,
    safety::{OBJECTS, busy_target, changed, text_bytes},
    target::{Target, wait_until},
};

/// What tells a process of a test that it is not the test, but another leakline with a link: `PID window` or `PID beats`.
const ANOTHER_LEAKLINE: &str = "LEAKLINE_TEST_HOLDS";
/// Capacities of maps that nothing is to be read from.
const SMALL: &[(&str, u32)] = &[("STACKS", 4096), ("ALLOCATIONS", 1), ("BIRTHS", 4096)];
/// Longer than any test.
const FOR_EVER_NS: u64 = 3_600_000_000_000;

/// Both ways to put probes in place.
const MECHANISMS: [Mechanism; 2] = [Mechanism::UprobeMulti, Mechanism::PerfEvents];

/// What a link is made of.
struct Parts {
    mechanism: Mechanism,
    object: KernelObject,
    exe: File,
    points: Vec<LinkPoint>,
    holders: Holders,
    pid: u32,
}

impl Parts {
    fn of(pid: u32) -> Self {
        Self::by(Mechanism::UprobeMulti, pid)
    }

    fn by(mechanism: Mechanism, pid: u32) -> Self {
        let exe = File::open(format!("/proc/{pid}/exe")).unwrap();
        let plan = ProbePlan::exact(&inspect_file(exe.try_clone().unwrap()).unwrap());
        let points =
            plan.points.iter().map(|point| LinkPoint { file_offset: point.file_offset().0, cookie: 0 }).collect();
        let object = KernelObject::embedded(&[], SMALL, &["allocation"], mechanism).unwrap();
        Self {
            mechanism,
            object,
            exe,
            points,
            holders: Holders::of_program(Path::new(env!("CARGO_BIN_EXE_leakline"))),
            pid,
        }
    }

    /// Opens a window of this length and with this cap, or without an end.
    fn open(&mut self, window: Option<(u64, u64)>) -> Result<Holder, AttachError> {
        let until = match window {
            None => Until::HeartbeatsStop,
            Some((length_ns, hits_max)) => {
                let state = WindowState { mean_birth_bytes: 1, burst: 7, ..WindowState::default() };
                Until::Window { map: self.object.map_fd("WINDOW")?, state, length_ns, most: Most::hits(hits_max) }
            }
        };
        self.holders.open(&Link {
            mechanism: self.mechanism,
            programs: &[self.object.program("allocation")?],
            exe: self.exe.as_fd(),
            pid: self.pid,
            points: &self.points,
            hits: Some((self.object.map_fd("TOTALS")?, Total::ProbeHits as u32)),
            until,
        })
    }

    fn hits(&mut self) -> u64 {
        let map = self.object.map_mut("TOTALS").unwrap();
        let totals: aya::maps::PerCpuArray<_, u64> = (&*map).try_into().unwrap();
        totals.get(&(Total::ProbeHits as u32), 0).unwrap().iter().sum()
    }

    fn window(&mut self) -> WindowState {
        let map = self.object.map_mut("WINDOW").unwrap();
        let window: aya::maps::Array<_, WindowState> = (&*map).try_into().unwrap();
        window.get(&0, 0).unwrap()
    }
}

/// Waits for the next news.
fn next(holder: &mut Holder) -> News {
    loop {
        if let Some(news) = holder.news() {
            return news;
        }
        let timeout = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&holder.fd(), PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(ready, 1, "waited in vain for news of a link");
    }
}

fn opened(holder: &mut Holder) -> u64 {
    match next(holder) {
        News::Opened { at_ns } => at_ns,
        other => panic!("{other:?}"),
    }
}

fn closed(holder: &mut Holder) -> (u64, u64) {
    match next(holder) {
        News::Closed { at_ns, hits } => (at_ns, hits.unwrap()),
        other => panic!("{other:?}"),
    }
}

fn gone(holder: &mut Holder) {
    let news = next(holder);
    assert!(matches!(news, News::Gone), "{news:?}");
    assert!(holder.news().is_none());
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn hits_come_while_a_link_is_open_and_then_no_more() {
    if !can_attach("hits_come_while_a_link_is_open_and_then_no_more") {
        return;
    }
    for mechanism in MECHANISMS {
        hits_come_while_it_is_open(mechanism);
    }
}

fn hits_come_while_it_is_open(mechanism: Mechanism) {
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let mut parts = Parts::by(mechanism, target.pid());
    assert_eq!(parts.hits(), 0);
    let mut holder = parts.open(Some((FOR_EVER_NS, u64::MAX))).unwrap();
    let opened_ns = opened(&mut holder);
    let window = parts.window();
    assert_eq!((window.until_ns, window.burst, window.mean_birth_bytes), (opened_ns + FOR_EVER_NS, 7, 1));
    assert_eq!(changed(&before, &text_bytes(target.pid())), parts.points.len());
    target.say("go");
    assert_eq!(target.line(), "done");
    holder.close();
    let (closed_ns, hits) = closed(&mut holder);
    assert!(closed_ns > opened_ns);
    assert!(hits >= OBJECTS, "{hits}");
    assert_eq!(parts.window(), WindowState::default());
    gone(&mut holder);
    assert_eq!(changed(&before, &text_bytes(target.pid())), 0);
    let all = parts.hits();
    target.line();
    target.close_stdin();
    assert!(target.wait().success());
    assert_eq!(parts.hits(), all);
}

#[test]
fn a_window_ends_by_the_clock_or_by_its_hits() {
    if !can_attach("a_window_ends_by_the_clock_or_by_its_hits") {
        return;
    }
    let mut target = busy_target();
    let mut parts = Parts::of(target.pid());
    parts.holders.prepare().unwrap();
    let mut holder = parts.open(Some((20_000_000, u64::MAX))).unwrap();
    let opened_ns = opened(&mut holder);
    let (closed_ns, hits) = closed(&mut holder);
    assert!(closed_ns - opened_ns >= 20_000_000 && hits > 0);
    gone(&mut holder);

    let mut holder = parts.open(Some((FOR_EVER_NS, 1_000))).unwrap();
    opened(&mut holder);
    assert!(closed(&mut holder).1 >= 1_000);
    gone(&mut holder);
    assert!(target.is_running());
}

#[test]
fn a_link_without_an_end_stays_for_as_long_as_heartbeats_come() {
    if !can_attach("a_link_without_an_end_stays_for_as_long_as_heartbeats_come") {
        return;
    }
    let mut target = busy_target();
    let mut parts = Parts::of(target.pid());
    let mut holder = parts.open(None).unwrap();
    opened(&mut holder);
    let mut beats = 0;
    wait_until("three seconds of heartbeats have passed", || {
        std::thread::sleep(std::time::Duration::from_millis(90));
        holder.beat();
        beats += 1;
        assert!(holder.news().is_none(), "it ended although heartbeats came");
        beats == 30
    });
    closed(&mut holder);
    gone(&mut holder);
    assert!(target.is_running());
}

#[test]
fn nothing_stays_when_the_holder_is_killed() {
    if !can_attach("nothing_stays_when_the_holder_is_killed") {
        return;
    }
    let mut target = busy_target();
    let quiet = Target::start(&go::build("allocrate", "go1.27.3", &[]), &["-wait"]);
    let before = text_bytes(quiet.pid());
    let for_ever = Some((FOR_EVER_NS, u64::MAX));
    for (mechanism, window) in MECHANISMS.into_iter().flat_map(|by| [(by, for_ever), (by, None)]) {
        let mut parts = Parts::by(mechanism, target.pid());
        let mut holder = parts.open(window).unwrap();
        opened(&mut holder);
        assert!(changed(&before, &text_bytes(target.pid())) >= 15);
        signal(holder.process_id(), Signal::KILL);
        gone(&mut holder);
        assert_eq!(changed(&before, &text_bytes(target.pid())), 0);
    }
    assert!(target.is_running());
}

#[test]
fn of_perf_events_the_one_that_was_made_last_is_gone_first() {
    if !can_attach("of_perf_events_the_one_that_was_made_last_is_gone_first") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let mut parts = Parts::by(Mechanism::PerfEvents, target.pid());
    let places = places_of(target.pid(), &parts.points);
    let memory = File::open(format!("/proc/{}/mem", target.pid())).unwrap();
    let mut holder = parts.open(Some((FOR_EVER_NS, u64::MAX))).unwrap();
    opened(&mut holder);
    holder.close();
    let mut seen = Vec::new();
    wait_until("all are gone", || {
        let mut is_there: Vec<bool> = places.iter().map(|place| byte_at(&memory, *place) == BREAKPOINT).collect();
        // Looked at in the order in which they are to go, so that one that goes meanwhile makes no difference.
        is_there.reverse();
        let left = is_there.iter().filter(|is_there| **is_there).count();
        assert!(is_there.is_sorted(), "{is_there:?}");
        seen.push(left);
        left == 0
    });
    seen.dedup();
    println!("{} points, one after the other: {seen:?}", places.len());
    assert!(seen.len() > 2, "it was not seen how they went: {seen:?}");
    while !matches!(next(&mut holder), News::Gone) {}
    assert_eq!(changed(&before, &text_bytes(target.pid())), 0);
    assert!(target.is_running());
}

/// `int3`.
const BREAKPOINT: u8 = 0xcc;

/// Addresses of points in the process, which is no PIE and has one mapping of code.
fn places_of(pid: u32, points: &[LinkPoint]) -> Vec<u64> {
    let maps = procfs::process::Process::new(pid.cast_signed()).unwrap().maps().unwrap();
    let code = maps.iter().find(|map| map.perms.contains(procfs::process::MMPermissions::EXECUTE)).unwrap();
    points.iter().map(|point| point.file_offset - code.offset + code.address.0).collect()
}

fn byte_at(memory: &File, address: u64) -> u8 {
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(memory, &mut byte, address).unwrap();
    byte[0]
}

#[test]
fn signals_that_end_other_programs_do_not_end_a_holder_early() {
    if !can_attach("signals_that_end_other_programs_do_not_end_a_holder_early") {
        return;
    }
    let target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let mut parts = Parts::of(target.pid());
    let mut holder = parts.open(Some((FOR_EVER_NS, u64::MAX))).unwrap();
    opened(&mut holder);
    for ends_others in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        signal(holder.process_id(), ends_others);
    }
    // It answers.
    holder.close();
    closed(&mut holder);
    gone(&mut holder);
}

#[test]
fn a_link_goes_with_the_value_that_stands_for_it() {
    if !can_attach("a_link_goes_with_the_value_that_stands_for_it") {
        return;
    }
    let target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let mut parts = Parts::of(target.pid());
    let mut holder = parts.open(Some((FOR_EVER_NS, u64::MAX))).unwrap();
    opened(&mut holder);
    let process = holder.process_id();
    drop(holder);
    wait_until("the process has gone, and nothing is left of it", || !Path::new(&format!("/proc/{process}")).exists());
    assert_eq!(changed(&before, &text_bytes(target.pid())), 0);
}

#[test]
fn a_link_ends_well_when_its_target_does() {
    if !can_attach("a_link_ends_well_when_its_target_does") {
        return;
    }
    let mut target = busy_target();
    let mut parts = Parts::of(target.pid());
    let mut holder = parts.open(Some((FOR_EVER_NS, u64::MAX))).unwrap();
    opened(&mut holder);
    target.kill();
    holder.close();
    closed(&mut holder);
    gone(&mut holder);
    // And there is none to be had any more.
    let mut holder = parts.open(Some((FOR_EVER_NS, u64::MAX))).unwrap();
    let news = next(&mut holder);
    let pid = target.pid();
    assert!(matches!(news, News::Failed(AttachError::TargetGone { pid: gone }) if gone == pid), "{news:?}");
    gone(&mut holder);
}

#[test]
fn a_point_that_is_not_in_the_file_is_refused() {
    if !can_attach("a_point_that_is_not_in_the_file_is_refused") {
        return;
    }
    let target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let mut parts = Parts::of(target.pid());
    parts.points.push(LinkPoint { file_offset: 1 << 40, cookie: 0 });
    let asked = parts.points.len();
    let mut holder = parts.open(Some((FOR_EVER_NS, u64::MAX))).unwrap();
    let news = next(&mut holder);
    assert!(matches!(news, News::Failed(AttachError::Link { points, .. }) if points == asked), "{news:?}");
    gone(&mut holder);
    assert_eq!(changed(&before, &text_bytes(target.pid())), 0);

    parts.points.clear();
    let refused = parts.open(None).unwrap_err();
    assert!(matches!(refused, AttachError::Holder { .. }), "{refused:?}");
}

#[test]
fn a_holder_takes_orders_from_leakline_alone() {
    let output = Command::new(env!("CARGO_BIN_EXE_leakline")).arg("hold-probes").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("started by leakline itself"), "{said}");
}

/// Whether this process was started by a test to be a leakline that holds a link; it has done so then, until it was killed or heard the end
/// of the link.
fn is_another_leakline() -> bool {
    let Ok(order) = std::env::var(ANOTHER_LEAKLINE) else { return false };
    let (pid, kind) = order.split_once(' ').unwrap();
    let mut parts = Parts::of(pid.parse().unwrap());
    // Two seconds: long enough for whoever wants to see the link.
    let window = (kind == "window").then_some((2_000_000_000, u64::MAX));
    let mut holder = parts.open(window).unwrap();
    opened(&mut holder);
    loop {
        std::thread::sleep(std::time::Duration::from_millis(100));
        holder.beat();
        if let Some(News::Gone) = holder.news() {
            return true;
        }
    }
}

/// Starts this test program once more, as a leakline that holds a link until something happens to it.
fn another_leakline(test: &str, order: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("links::{test}")])
        .env(ANOTHER_LEAKLINE, order)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets something happen to a leakline that has a link of each kind; the target must be rid of it then.
fn is_clean_after(test: &str, happens: Signal) {
    if is_another_leakline() || !can_attach(test) {
        return;
    }
    let quiet = Target::start(&go::build("allocrate", "go1.27.3", &[]), &["-wait"]);
    let before = text_bytes(quiet.pid());
    let mut target = busy_target();
    for kind in ["window", "beats"] {
        let mut other = another_leakline(test, &format!("{} {kind}", target.pid()));
        wait_until("the probes are in place", || changed(&before, &text_bytes(target.pid())) >= 15);
        signal(other.id(), happens);
        wait_until("the probes have gone", || changed(&before, &text_bytes(target.pid())) == 0);
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(target.is_running());
    }
}

#[test]
fn nothing_stays_when_leakline_is_killed_while_a_link_is_open() {
    is_clean_after("nothing_stays_when_leakline_is_killed_while_a_link_is_open", Signal::KILL);
}

#[test]
fn nothing_stays_when_leakline_is_stopped_while_a_link_is_open() {
    is_clean_after("nothing_stays_when_leakline_is_stopped_while_a_link_is_open", Signal::STOP);
}

/// Random enough, and the same each time (`SplitMix64`).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Ends a process that may have ended.
fn kill(holder: &Holder) {
    let _gone = kill_process(Pid::from_raw(holder.process_id().cast_signed()).unwrap(), Signal::KILL);
}

pub(crate) fn sleep_us(time: u64) {
    std::thread::sleep(std::time::Duration::from_micros(time));
}

/// Many windows on a target that allocates as fast as it can, of which `cut` cuts some short.
fn is_clean_after_windows(mechanism: Mechanism, count: usize, mut cut: impl FnMut(&mut Dice, &mut Holder)) {
    let quiet = Target::start(&go::build("allocrate", "go1.27.3", &[]), &["-wait"]);
    let before = text_bytes(quiet.pid());
    let mut target = busy_target();
    let mut parts = Parts::by(mechanism, target.pid());
    let mut dice = Dice(42);
    let mut killed_too_early = 0;
    for window in 0..count {
        parts.holders.prepare().unwrap();
        let mut holder = parts.open(Some((10_000_000, 20_000))).unwrap();
        let process = holder.process_id();
        cut(&mut dice, &mut holder);
        while !matches!(next(&mut holder), News::Gone) {}
        killed_too_early += usize::from(holder.process_id() != process);
        assert_eq!(changed(&before, &text_bytes(target.pid())), 0, "window {window}");
        assert!(target.is_running(), "window {window}");
    }
    println!("{count} windows; what {killed_too_early} may have left was taken away");
}

#[test]
fn nothing_stays_of_windows_that_are_cut_short() {
    if !can_attach("nothing_stays_of_windows_that_are_cut_short") {
        return;
    }
    cut_short(Mechanism::UprobeMulti, 12);
    cut_short(Mechanism::PerfEvents, 3);
}

#[test]
#[ignore = "the long form, for `cargo xtask bench links`"]
fn nothing_stays_of_300_windows_that_are_cut_short() {
    cut_short(Mechanism::UprobeMulti, 300);
}

fn cut_short(mechanism: Mechanism, count: usize) {
    is_clean_after_windows(mechanism, count, |dice, holder| {
        opened(holder);
        sleep_us(dice.below(12_000));
        match dice.below(3) {
            0 => holder.close(),
            1 => kill(holder),
            _ => {}
        }
    });
}

#[test]
fn what_a_holder_leaves_that_is_killed_while_it_opens_is_taken_away() {
    if !can_attach("what_a_holder_leaves_that_is_killed_while_it_opens_is_taken_away") {
        return;
    }
    killed_at_any_moment(Mechanism::UprobeMulti, 24);
    killed_at_any_moment(Mechanism::PerfEvents, 3);
}

#[test]
#[ignore = "the long form, for `cargo xtask bench links`"]
fn what_300_holders_leave_that_are_killed_at_any_moment_is_taken_away() {
    killed_at_any_moment(Mechanism::UprobeMulti, 300);
}

fn killed_at_any_moment(mechanism: Mechanism, count: usize) {
    is_clean_after_windows(mechanism, count, |dice, holder| {
        sleep_us(dice.below(40_000));
        kill(holder);
    });
}

#[test]
fn this_kernel_s_links_are_tried_on_ourselves() {
    if !can_attach("this_kernel_s_links_are_tried_on_ourselves") {
        return;
    }
    // Where this fails on an older kernel, all other tests of this file must, too.
    assert_eq!(*MultiSupport::of_this_kernel().unwrap(), MultiSupport::Works);
    assert_eq!(MultiSupport::of_this_kernel().unwrap().check().status, Status::Good);
    let before = text_bytes(std::process::id());
    for mechanism in MECHANISMS {
        let mut calibration = Calibration::begin(mechanism).unwrap();
        for _ in 0..2 {
            for (kind, cost) in calibration.costs().all() {
                println!("{mechanism:?}: {}: {} ns, measured: {}", kind.name(), cost.ns, cost.is_measured);
                // No trap is as cheap as an instruction; a number that is none would be as odd.
                assert!(cost.ns.is_finite() && cost.ns > 0.0);
            }
            calibration.again().unwrap();
        }
    }
    assert_eq!(changed(&before, &text_bytes(std::process::id())), 0);
}

#[test]
fn who_may_load_no_programs_is_told_which_capabilities_are_missing() {
    if is_run_without_capabilities() || !can_attach("who_may_load_no_programs_is_told_which_capabilities_are_missing") {
        return;
    }
    let status = Command::new("setpriv")
        .args(["--bounding-set", "-all,+sys_ptrace,+dac_override,+dac_read_search", "--inh-caps", "-all"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "links::who_may_load_no_programs_is_told_which_capabilities_are_missing"])
        .env(WITHOUT_CAPABILITIES, "1")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
}

/// What tells a process of a test that it is to try without capabilities.
const WITHOUT_CAPABILITIES: &str = "LEAKLINE_TEST_WITHOUT_CAPABILITIES";

fn is_run_without_capabilities() -> bool {
    if std::env::var_os(WITHOUT_CAPABILITIES).is_none() {
        return false;
    }
    let refused = KernelObject::embedded(&[], SMALL, &["allocation"], Mechanism::UprobeMulti).unwrap_err();
    assert!(matches!(refused, AttachError::NotAllowed { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("CAP_BPF") && text.contains("CAP_PERFMON") && text.contains("root"), "{text}");
    let MultiSupport::Unsupported { reason } = MultiSupport::of_this_kernel().unwrap() else {
        panic!("it works without them")
    };
    assert!(reason.contains("CAP_BPF"), "{reason}");
    true
}
