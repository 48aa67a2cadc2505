//! Kernel tests: where an object will lie, read before it is there, against what the program itself wrote down.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use tracer_common::bursts::{BirthRecord, BurstTotal, PREFERENCES, SlotRecord, WindowKind, WindowState};
use tracer_daemon::{
    addr::Avma,
    attach::{Holder, Holders, KernelObject, Link, LinkPoint, Mechanism, Most, News, Until, bytes_of},
    collect::births::{Birth, BurstCounters, BurstEvent, BurstReader, PreferenceMap, Unplaced},
    discover::target_by_pid,
    inspect::{Global, cache::FactsCache},
    pipeline::Subject,
    plan::{BirthPoints, BurstPlan, Purpose},
};

use crate::{
    go::{Build, WITH_PROFILE, build},
    leakline::can_attach,
    target::Target,
};

/// Windows of one run, each so long; more where the host is so busy that they see little.
const WINDOWS: u32 = 30;
const WINDOWS_MOST: u32 = 20 * WINDOWS;
const WINDOW_NS: u64 = 5_000_000;
/// Records of which one in a thousand can be told.
const EVENTS_ENOUGH: usize = 5_000;
/// Hits of which so many are births that their weights say what they stand for.
const HITS_ENOUGH: u64 = 5_000;

/// What the program wrote down of one object.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at_ns: u64,
    size_bytes: u64,
    address: u64,
}

/// What became of the births of one run.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Births that the program wrote down.
    known: u64,
    /// Of those, with an address.
    placed: u64,
    /// Of those, whose slot was found by `nextFree`.
    refilled: u64,
    /// Addresses that are not the object's, of births whose place nothing can change any more.
    wrong: u64,
    /// Addresses that are not the object's, of others.
    wrong_at_entrance: u64,
    /// Without an address, since the collector had to be helped first.
    assists: u64,
    /// Without an address, since the span was full and no slot came, though the goroutine went on in the same window.
    unresolved: u64,
    /// The same at the end of a window: the slot was found behind it.
    cut_off: u64,
    /// Large objects, which are found behind.
    large: u64,
}

/// A program in whose process windows are opened one after the other.
struct Bursts {
    object: KernelObject,
    reader: BurstReader,
    counters: BurstCounters,
    totals: std::os::fd::OwnedFd,
    holders: Holders,
    points: Vec<LinkPoint>,
    pid: u32,
    exe: File,
    certain: bool,
    /// Whether it is seen where `nextFree` finds a slot: where the compiler has shaped it otherwise, it is not.
    sees_slots: bool,
    /// When windows were open.
    times: Vec<u64>,
}

impl Bursts {
    fn of(pid: u32) -> Self {
        Self::with_ring(pid, 16 << 20)
    }

    fn with_ring(pid: u32, bytes: u32) -> Self {
        let target = target_by_pid(pid).unwrap();
        let subject = Subject::open(&target, &FactsCache::default()).unwrap();
        let plan = BurstPlan::of(&subject.facts, BirthPoints::Certain).unwrap();
        let runtime = subject.runtime();
        let address = |global| runtime.address(global).unwrap();
        let config = plan.config(address(Global::GcBlackenEnabled), address(Global::Mheap), &subject.facts.layout);
        let common = plan.target_config(subject.bias);
        let constants = [("TARGET", bytes_of(&common)), ("BURST", bytes_of(&config))];
        let capacities = [("STACKS", 4096), ("ALLOCATIONS", 1), ("BIRTHS", bytes)];
        let mut object = KernelObject::embedded(&constants, &capacities, &["burst"], Mechanism::UprobeMulti).unwrap();
        let totals = object.map_fd("BURST_TOTALS").unwrap().try_clone_to_owned().unwrap();
        let counters = BurstCounters::new(|name| object.take_map(name)).unwrap();
        let reader = BurstReader::new(|name| object.take_map(name)).unwrap();
        let point = |point: &tracer_daemon::plan::ProbePoint| {
            let cookie = point.purpose().burst_point().unwrap() as u64;
            LinkPoint { file_offset: point.file_offset().0, cookie }
        };
        Self {
            object,
            reader,
            counters,
            totals,
            holders: Holders::of_program(Path::new(env!("CARGO_BIN_EXE_leakline"))),
            points: plan.window().map(point).collect(),
            pid,
            exe: target.exe,
            certain: plan.births.iter().all(|point| {
                matches!(point.purpose(), Purpose::Birth | Purpose::SpecialisedBirth | Purpose::SlowPathBirth)
            }),
            sees_slots: !plan.slots.is_empty() || !plan.searches.is_empty(),
            times: Vec::new(),
        }
    }

    fn window(&mut self, burst: u32, kind: WindowKind, mean_birth_bytes: u64) -> Vec<BurstEvent> {
        let mut holder = self.open(burst, kind, mean_birth_bytes);
        let mut events = Vec::new();
        while !is_gone(&mut holder, &mut self.times) {
            self.reader.drain(|event| events.push(event));
        }
        self.reader.drain(|event| events.push(event));
        events
    }

    fn open(&mut self, burst: u32, kind: WindowKind, mean_birth_bytes: u64) -> Holder {
        let state = WindowState { until_ns: 0, mean_birth_bytes, burst, kind: kind as u32 };
        self.holders
            .open(&Link {
                mechanism: Mechanism::UprobeMulti,
                programs: &[self.object.program("burst").unwrap()],
                exe: self.exe.as_fd(),
                pid: self.pid,
                points: &self.points,
                hits: Some((self.totals.as_fd(), BurstTotal::Hits as u32)),
                until: Until::Window {
                    map: self.object.map_fd("WINDOW").unwrap(),
                    state,
                    length_ns: WINDOW_NS,
                    most: Most::hits(u64::MAX),
                },
            })
            .unwrap()
    }
}

/// Waits for news, at most for a while; true where the link is gone.
fn is_gone(holder: &mut Holder, times: &mut Vec<u64>) -> bool {
    let timeout = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    poll(&mut [PollFd::new(&holder.fd(), PollFlags::IN)], Some(&timeout)).unwrap();
    while let Some(news) = holder.news() {
        match news {
            News::Gone => return true,
            News::Failed(error) => panic!("{error}"),
            News::Opened { at_ns } | News::Closed { at_ns, .. } => times.push(at_ns),
        }
    }
    false
}

/// What the program wrote down, by goroutine.
fn entries(target: &mut Target, goroutines: usize, times: &[u64]) -> HashMap<u64, Vec<Entry>> {
    let times: Vec<String> = times.iter().map(u64::to_string).collect();
    target.say(&times.join(" "));
    let mut logs = HashMap::new();
    for _ in 0..goroutines {
        let head = target.line();
        let (goroutine, count) = head.split_once(' ').unwrap();
        let entry = |line: String| {
            let numbers: Vec<u64> = line.split(' ').map(|word| u64::from_str_radix(word, 16).unwrap()).collect();
            Entry { at_ns: numbers[0], size_bytes: numbers[1], address: numbers[2] }
        };
        let count: usize = count.parse().unwrap();
        logs.insert(goroutine.parse().unwrap(), (0..count).map(|_| entry(target.line())).collect());
    }
    logs
}

/// Compares births with what the program wrote down: the next entry of the goroutine after a birth is that object.
fn tally(events: Vec<BurstEvent>, logs: &HashMap<u64, Vec<Entry>>, certain: bool, pads_tiny: bool) -> Tally {
    let mut tally = Tally::default();
    let mut slots = HashMap::new();
    let mut births: Vec<Birth> = Vec::new();
    // When a goroutine was last seen in a window.
    let mut last_seen: HashMap<(Avma, u32), u64> = HashMap::new();
    for event in events {
        let (g, burst, time_ns) = match event {
            BurstEvent::Birth(birth) => {
                let seen = (birth.g, birth.burst, birth.time_ns);
                births.push(birth);
                seen
            }
            BurstEvent::Slot(slot) => {
                slots.insert((slot.g, slot.birth_ns.unwrap()), slot.address);
                (slot.g, slot.burst, slot.time_ns)
            }
            BurstEvent::Cycle(_) => panic!("no probe tells of collections"),
        };
        let last = last_seen.entry((g, burst)).or_default();
        *last = (*last).max(time_ns);
    }
    for birth in births {
        let Some(log) = logs.get(&birth.goroutine) else { continue };
        let next = log.partition_point(|entry| entry.at_ns < birth.time_ns);
        let Some(entry) = log.get(next).filter(|_| next > 0) else { continue };
        let is_large = birth.size_class == 0;
        // Of what the runtime allocates on the same stack nothing was written down.
        if (is_large && birth.size_bytes < entry.size_bytes) || (!is_large && entry.size_bytes != birth.size_bytes) {
            continue;
        }
        tally.known += 1;
        tally.large += u64::from(is_large);
        let slot = slots.get(&(birth.g, birth.time_ns)).copied();
        let address = match (birth.address, birth.unplaced) {
            (Some(address), _) => Some(address),
            (None, Some(Unplaced::SpanFull)) => slot,
            (None, Some(Unplaced::AssistDue)) => {
                tally.assists += 1;
                None
            }
            (None, other) => panic!("{other:?}"),
        };
        let Some(address) = address else {
            if birth.unplaced == Some(Unplaced::SpanFull) {
                let went_on = last_seen.get(&(birth.g, birth.burst)).is_some_and(|last| *last > birth.time_ns);
                *(if went_on { &mut tally.unresolved } else { &mut tally.cut_off }) += 1;
            }
            continue;
        };
        tally.placed += 1;
        tally.refilled += u64::from(slot.is_some());
        // `nextFree` gives the slot, in which the object may lie behind a header of 8 bytes; tiny ones share a slot.
        let offset = entry.address.wrapping_sub(address.0);
        let is_padded = pads_tiny && birth.is_tiny && offset < 16;
        let is_right = offset == 0 || is_padded || (slot.is_some() && offset <= 8);
        if !is_right {
            if certain {
                println!("wrong by {offset:#x}: {entry:?}, {birth:?}, slot {slot:?}");
            }
            *(if certain { &mut tally.wrong } else { &mut tally.wrong_at_entrance }) += 1;
        }
    }
    tally
}

fn addresses_are_right(name: &str, program: PathBuf, gogc: &str) {
    addresses_are_right_of(name, program, gogc, false);
}

/// `pads_tiny`: with the race detector a tiny object lies at the end of a slot of its own (`mallocgc` of runtime/malloc.go).
fn addresses_are_right_of(name: &str, program: PathBuf, gogc: &str, pads_tiny: bool) {
    if !can_attach(name) {
        return;
    }
    let mut command = std::process::Command::new(program);
    command.args(["3", "2000"]).env("GOGC", gogc).env("GOMAXPROCS", "3");
    let mut target = Target::spawn(command);
    let mut bursts = Bursts::of(target.pid());
    let mut events = Vec::new();
    for burst in 0..WINDOWS_MOST {
        // Half of the time all are taken, else some: what is not chosen must not disturb.
        events.extend(bursts.window(burst, WindowKind::Births, if burst % 2 == 0 { 1 } else { 400 }));
        // On a busy host a window sees little.
        if burst + 1 >= WINDOWS && events.len() > EVENTS_ENOUGH {
            break;
        }
    }
    let totals = bursts.counters.totals().unwrap();
    assert_eq!(bursts.reader.undecodable(), 0);
    let logs = entries(&mut target, 3, &bursts.times);
    let tally = tally(events, &logs, bursts.certain, pads_tiny);
    println!("{name} GOGC={gogc}: {tally:?}; {totals:?}");
    assert!(tally.known > 500, "{name}: {tally:?}");
    assert_eq!(tally.wrong, 0, "{name}: {tally:?}");
    assert!(tally.wrong_at_entrance * 1000 <= tally.placed * 3, "{name}: {tally:?}");
    assert!(!bursts.sees_slots || tally.unresolved * 1000 <= tally.known, "{name}: {tally:?}");
    target.close_stdin();
}

macro_rules! addresses_are_right {
    ($($test:ident: $toolchain:literal;)*) => {$(
        #[test]
        fn $test() {
            let program = build("births", $toolchain, &[]);
            addresses_are_right($toolchain, program.clone(), "100");
            addresses_are_right($toolchain, program, "3000");
        }
    )*};
}

addresses_are_right! {
    addresses_are_right_go1_19: "go1.19.13";
    addresses_are_right_go1_20: "go1.20.14";
    addresses_are_right_go1_21: "go1.21.13";
    addresses_are_right_go1_22: "go1.22.12";
    addresses_are_right_go1_23: "go1.23.12";
    addresses_are_right_go1_24: "go1.24.11";
    addresses_are_right_go1_25: "go1.25.5";
    addresses_are_right_go1_26: "go1.26.6";
    addresses_are_right_go1_27: "go1.27.3";
}

#[test]
fn addresses_are_right_where_the_compiler_inlines() {
    for toolchain in ["go1.21.13", "go1.22.12", "go1.24.11", "go1.26.6", "go1.27.3"] {
        addresses_are_right(toolchain, build("births", toolchain, &[WITH_PROFILE]), "100");
    }
}

#[test]
fn addresses_are_right_with_cgo_and_with_the_race_detector() {
    for (toolchain, flags) in [("go1.22.12", vec!["-race"]), ("go1.27.3", vec!["-race"]), ("go1.26.6", vec![])] {
        let build = Build { program: "births", toolchain, flags: &flags, environment: &[("CGO_ENABLED", "1")] };
        let is_race = flags.contains(&"-race");
        addresses_are_right_of(&format!("{toolchain} {flags:?} cgo"), build.path(), "100", is_race);
    }
}

/// Births of some windows stand for as many hits as the kernel counted there, by their weights: what both are, and the standard error of the former.
fn stand_for(bursts: &mut Bursts, first: u32) -> (u64, f64, f64) {
    let before = bursts.counters.totals().unwrap();
    let mut births: Vec<Birth> = Vec::new();
    for burst in first..first + WINDOWS_MOST {
        let events = bursts.window(burst, WindowKind::Births, 512);
        births.extend(events.into_iter().filter_map(|event| match event {
            BurstEvent::Birth(birth) => Some(birth),
            BurstEvent::Slot(_) | BurstEvent::Cycle(_) => None,
        }));
        let hits = bursts.counters.totals().unwrap().hits_in_windows - before.hits_in_windows;
        if burst + 1 >= first + WINDOWS && hits > HITS_ENOUGH {
            break;
        }
    }
    let totals = bursts.counters.totals().unwrap();
    assert_eq!(totals.lost, 0);
    let weight = births.iter().map(|birth| birth.weight).sum();
    let variance: f64 = births.iter().map(|birth| birth.weight * (birth.weight - 1.0)).sum();
    (totals.hits_in_windows - before.hits_in_windows, weight, variance.sqrt())
}

#[test]
fn births_stand_for_all_hits_whichever_classes_are_preferred() {
    if !can_attach("births_stand_for_all_hits_whichever_classes_are_preferred") {
        return;
    }
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let mut command = std::process::Command::new(build("births", toolchain, &[]));
        command.args(["3", "2000"]).env("GOMAXPROCS", "3");
        let mut target = Target::spawn(command);
        let mut bursts = Bursts::of(target.pid());
        let mut preferences = PreferenceMap::new(|name| bursts.object.take_map(name)).unwrap();
        let every_second: Vec<u16> = (0..PREFERENCES).map(|class| if class % 2 == 0 { 16 } else { 1 }).collect();
        let none = vec![1; every_second.len()];
        for (round, times) in (0..).zip([none.clone(), every_second, none]) {
            preferences.set(&times).unwrap();
            let (hits, weight, error) = stand_for(&mut bursts, round * WINDOWS_MOST);
            println!("{toolchain}, round {round}: {hits} hits, births stand for {weight:.0} +- {error:.0}");
            assert!(hits > HITS_ENOUGH, "{toolchain}: {hits} hits");
            assert!(error * 20.0 < weight, "{toolchain}: too few births to tell");
            #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
            let off = weight - hits as f64;
            assert!(
                off.abs() < 5.0 * error,
                "{toolchain}, round {round}: {off} of {hits} hits, standard error {error}"
            );
        }
        target.close_stdin();
    }
}

/// Of a ring that births of some windows fill by half.
const RING_BYTES: u32 = 1 << 20;

#[test]
fn a_ring_wakes_its_reader_up_when_it_becomes_half_full() {
    if !can_attach("a_ring_wakes_its_reader_up_when_it_becomes_half_full") {
        return;
    }
    let mut command = std::process::Command::new(build("births", "go1.27.3", &[]));
    command.args(["3", "2000"]).env("GOMAXPROCS", "3");
    let mut target = Target::spawn(command);
    let mut bursts = Bursts::with_ring(target.pid(), RING_BYTES);
    // What is told of an edge is what somebody was woken up by, not what there is to read.
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let edges = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&epoll, bursts.reader.descriptor(), epoll::EventData::new_u64(0), edges).unwrap();
    let is_woken = || {
        let mut events = Vec::with_capacity(1);
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&Timespec::default())).unwrap() > 0
    };
    assert!(!is_woken(), "it is empty");
    let (mut waiting_bytes, mut seen_empty) = (0, false);
    for burst in 0..WINDOWS_MOST {
        let mut holder = bursts.open(burst, WindowKind::Births, 4_096);
        while !is_gone(&mut holder, &mut bursts.times) {}
        let totals = bursts.counters.totals().unwrap();
        assert_eq!(totals.lost, 0);
        // The kernel puts a head of 8 bytes before each.
        waiting_bytes =
            totals.births * (size_of::<BirthRecord>() as u64 + 8) + totals.slots * (size_of::<SlotRecord>() as u64 + 8);
        let is_half_full = waiting_bytes >= u64::from(RING_BYTES) / 2;
        assert_eq!(is_woken(), is_half_full, "{waiting_bytes} bytes, burst {burst}");
        if is_half_full {
            break;
        }
        seen_empty |= waiting_bytes > 0;
    }
    assert!(seen_empty && waiting_bytes >= u64::from(RING_BYTES) / 2, "{waiting_bytes} bytes");
    target.close_stdin();
}
