//! Kernel tests: hooks on goroutines that stay count every begin and every end, by line, while the budget allows and not longer; and leave
//! nothing behind.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::ChildStdout,
    sync::Arc,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use tracer_common::exact::StackKey;
use tracer_daemon::{
    addr::Avma,
    attach::{Holder, Holders, KernelObject, Link, LinkPoint, Mechanism, News, Until, bytes_of},
    collect::hooks::{HookGate, HookReader, HookTotals, take_hooks},
    discover::target_by_pid,
    inspect::cache::FactsCache,
    model::{
        GoroutineSite, Stack, Turnover,
        goroutines::hooks::{HookLook, HookedGoroutines},
        observation::{Moment, Observation},
        process::ProcessModel,
    },
    pipeline::Subject,
    plan::{BirthPoints, BurstPlan},
};

use crate::{
    go::{WITH_PROFILE, build},
    leakline::{Running, can_attach, leakline},
    safety::{changed, text_bytes},
    schema::is_valid,
    target::{Target, wait_until},
};

/// What the program says of one of its `go` statements.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    name: String,
    function: String,
    created: u64,
    exited: u64,
    above: String,
}

fn turnover(toolchain: &str, flags: &[&str]) -> PathBuf {
    build("turnover", toolchain, flags)
}

/// Tells the program to do something, and gives the numbers that it says then.
fn told(target: &mut Target, command: &str) -> Vec<Line> {
    target.say(command);
    serde_json::from_str(&target.line()).unwrap()
}

/// The hooks of one process, without anybody who decides whether they may be on.
struct Hooks {
    subject: Subject,
    gate: HookGate,
    totals: Arc<HookTotals>,
    reader: HookReader,
    stacks: HashMap<StackKey, Stack>,
    holder: Holder,
    _object: KernelObject,
}

impl Hooks {
    fn on(pid: u32) -> Self {
        let target = target_by_pid(pid).unwrap();
        let subject = Subject::open(&target, &FactsCache::default()).unwrap();
        let plan = BurstPlan::of(&subject.facts, BirthPoints::Certain).unwrap();
        let common = plan.target_config(subject.bias);
        let capacities = [("ALLOCATIONS", 1), ("LIVE_GOROUTINES", 1), ("BIRTHS", 4096)];
        let constants = [("TARGET", bytes_of(&common))];
        let mut object =
            KernelObject::embedded(&constants, &capacities, &["goroutines"], Mechanism::UprobeMulti).unwrap();
        let (gate, totals, reader) = take_hooks(|name| object.take_map(name)).unwrap();
        let points: Vec<LinkPoint> = plan.goroutines.unwrap().iter().map(link_point).collect();
        let exe: &File = &target.exe;
        let mut holders = Holders::of_program(Path::new(env!("CARGO_BIN_EXE_leakline")));
        let mut holder = holders
            .open(&Link {
                mechanism: Mechanism::UprobeMulti,
                programs: &[object.program("goroutines").unwrap()],
                exe: exe.as_fd(),
                pid,
                points: &points,
                hits: None,
                until: Until::HeartbeatsStop,
            })
            .unwrap();
        loop {
            match holder.news() {
                Some(News::Opened { .. }) => break,
                None => {
                    let timeout = Timespec { tv_sec: 60, tv_nsec: 0 };
                    let ready = poll(&mut [PollFd::new(&holder.fd(), PollFlags::IN)], Some(&timeout)).unwrap();
                    assert_eq!(ready, 1, "waited in vain for a link");
                }
                Some(other) => panic!("{other:?}"),
            }
        }
        Self { subject, gate, totals, reader, stacks: HashMap::new(), holder, _object: object }
    }

    /// Tells the program to do something while the link is kept alive.
    fn while_alive<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let work = scope.spawn(what);
            while !work.is_finished() {
                self.holder.beat();
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            work.join().unwrap()
        })
    }

    /// What a report would say.
    fn counted(&mut self) -> HookedGoroutines {
        let counts = self.reader.counts().unwrap();
        let symbolizer = &mut self.subject.symbolizer;
        let stacks = &mut self.stacks;
        self.reader.drain_stacks(|stack| {
            stacks.insert(stack.key, symbolizer.stacks(&[&stack.frames]).remove(0).into());
        });
        let created = counts.created.iter().map(|(key, created)| (Arc::clone(&stacks[key]), *created, 0));
        let mut all: Vec<(Stack, u64, u64)> = created.collect();
        for (creator, exited) in &counts.exited {
            let creator: Avma = *creator;
            all.push((symbolizer.return_address(creator).into(), 0, *exited));
        }
        let changed = all
            .iter()
            .enumerate()
            .map(|(number, &(_, created, exited))| (u32::try_from(number).unwrap(), Turnover { created, exited }));
        let look = HookLook {
            changed: changed.collect(),
            new_stacks: all.iter().map(|(stack, ..)| Arc::clone(stack)).collect(),
            totals: Turnover { created: counts.totals[0], exited: counts.totals[1] },
            counted_ns: 1_000_000_000,
        };
        let mut model = ProcessModel::new(self.subject.constants(None));
        model.observe(Moment::default(), Observation::GoroutineHooks(Arc::new(look)));
        Arc::unwrap_or_clone(model.snapshot(Moment::default()).goroutine_hooks.unwrap())
    }
}

fn link_point(point: &tracer_daemon::plan::ProbePoint) -> LinkPoint {
    LinkPoint { file_offset: point.file_offset().0, cookie: point.purpose().goroutine_point().unwrap() as u64 }
}

/// Every line as the program says, and nothing that it does not say but for the runtime's own.
fn is_the_truth(counted: &HookedGoroutines, truth: &[Line], build: &str) {
    let mut rest = counted.sites.clone();
    for line in truth {
        let of_line = |site: &GoroutineSite| site.creation_stack.iter().any(|frame| *frame.function == *line.function);
        let (found, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(of_line);
        rest = others;
        let sum = found.iter().fold((0, 0), |sum, site| (sum.0 + site.counted.created, sum.1 + site.counted.exited));
        assert_eq!(sum, (line.created, line.exited), "{build}: {}: {counted:#?}", line.name);
        let named = found.iter().flat_map(|site| &site.creation_stack).any(|frame| *frame.function == *line.above);
        assert!(named, "{build}: {} has no {} above it: {found:#?}", line.name, line.above);
    }
    assert!(rest.is_empty(), "{build}: nobody said that these began: {rest:#?}");
    assert_eq!(counted.other, Turnover::default(), "{build}");
}

fn counts_are_the_programs_own(toolchain: &str, flags: &[&str]) {
    let mut target = Target::start(&turnover(toolchain, flags), &[]);
    let before = text_bytes(target.pid());
    let mut hooks = Hooks::on(target.pid());
    assert!(changed(&before, &text_bytes(target.pid())) >= 2);
    hooks.gate.set(u64::MAX).unwrap();
    let build = format!("{toolchain} {flags:?}");
    let truth = hooks.while_alive(|| told(&mut target, "phase"));
    is_the_truth(&hooks.counted(), &truth, &build);
    let truth = hooks.while_alive(|| told(&mut target, "end"));
    is_the_truth(&hooks.counted(), &truth, &build);
    // What was not stopped cannot be seen to end twice.
    let [created, exited] = hooks.totals.turnover().unwrap();
    assert_eq!(created, exited, "{build}");
    assert_eq!(hooks.totals.hits().unwrap(), created + exited, "{build}");
    drop(hooks);
    wait_until("the kernel has removed all breakpoints", || changed(&before, &text_bytes(target.pid())) == 0);
    target.close_stdin();
    assert!(target.wait().success());
}

#[test]
fn every_begin_and_every_end_is_counted_at_its_line_coroutines_included() {
    if !can_attach("every_begin_and_every_end_is_counted_at_its_line_coroutines_included") {
        return;
    }
    for toolchain in ["go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.26.6", "go1.27.3"] {
        counts_are_the_programs_own(toolchain, &[]);
    }
    counts_are_the_programs_own("go1.27.3", &["-ldflags=-s -w"]);
    counts_are_the_programs_own("go1.27.3", &[WITH_PROFILE]);
}

/// Up to Go 1.20 `goexit0` is probed at its stack check.
#[test]
fn every_begin_and_every_end_is_counted_at_its_line_where_points_sit_on_stack_checks() {
    if !can_attach("every_begin_and_every_end_is_counted_at_its_line_where_points_sit_on_stack_checks") {
        return;
    }
    for toolchain in ["go1.19.13", "go1.20.14"] {
        counts_are_the_programs_own(toolchain, &[]);
    }
}

#[test]
fn nothing_counts_before_hooks_are_let_and_after_nobody_has_put_their_end_off() {
    if !can_attach("nothing_counts_before_hooks_are_let_and_after_nobody_has_put_their_end_off") {
        return;
    }
    let mut target = Target::start(&turnover("go1.27.3", &[]), &[]);
    let mut hooks = Hooks::on(target.pid());
    let begun = |truth: &[Line]| truth.iter().map(|line| line.created + line.exited).sum::<u64>();
    let first = begun(&hooks.while_alive(|| told(&mut target, "phase")));
    assert_eq!((hooks.totals.hits().unwrap(), hooks.totals.turnover().unwrap()), (first, [0, 0]));
    // A moment that is over.
    hooks.gate.set(1).unwrap();
    let second = begun(&hooks.while_alive(|| told(&mut target, "phase")));
    assert_eq!((hooks.totals.hits().unwrap(), hooks.totals.turnover().unwrap()), (second, [0, 0]));
    hooks.gate.set(u64::MAX).unwrap();
    let third = begun(&hooks.while_alive(|| told(&mut target, "phase")));
    assert_eq!(hooks.totals.turnover().unwrap().iter().sum::<u64>(), third - second);
}

/// A leakline that watches a program by bursts and prints a document each second.
struct Watched {
    running: Running,
    documents: BufReader<ChildStdout>,
}

impl Watched {
    fn start(pid: u32, max_overhead: &str) -> Self {
        let pid = pid.to_string();
        let arguments = ["attach", "--pid", &pid, "--evidence", "bursts", "--duration", "10m", "--output", "json"];
        let mut running =
            Running::start(&[&arguments[..], &["--interval", "1s", "--max-overhead", max_overhead]].concat());
        let documents = BufReader::new(running.take_stdout());
        Self { running, documents }
    }

    fn document(&mut self) -> Value {
        let mut line = String::new();
        self.documents.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Reads documents until one is as it should be; they come each second.
    fn until(&mut self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..90 {
            last = self.document();
            if holds(&last) {
                return last;
            }
        }
        panic!("waited in vain until {what}: {last:#}");
    }

    /// Ends it as Ctrl-C does, and gives its last document.
    fn report(mut self) -> Value {
        self.running.signal(Signal::INT);
        let mut last = String::new();
        for line in self.documents.lines() {
            last = line.unwrap();
        }
        self.running.wait();
        serde_json::from_str(&last).unwrap()
    }
}

fn uses_hooks(document: &Value) -> bool {
    document["evidence"]["used"].as_array().unwrap().iter().any(|used| used == "goroutine-hooks")
}

/// Why they are off.
fn refusal(document: &Value) -> Option<String> {
    let refused = document["evidence"]["refused"].as_array().unwrap();
    let refusal = refused.iter().find(|refusal| refusal["id"] == "goroutine_hooks_off")?;
    Some(refusal["text"].as_str().unwrap().to_owned())
}

#[test]
fn reports_have_what_hooks_counted_while_the_budget_allowed_them() {
    if !can_attach("reports_have_what_hooks_counted_while_the_budget_allowed_them") {
        return;
    }
    let mut target = Target::start(&turnover("go1.26.6", &[]), &["-spin"]);
    let mut watched = Watched::start(target.pid(), "30%");
    watched.until("hooks count", uses_hooks);
    told(&mut target, "phase");
    let truth = told(&mut target, "end");
    let document = watched.report();
    is_valid(&document, include_str!("../../../docs/schema/attach.schema.json"));
    assert!(uses_hooks(&document) && refusal(&document).is_none(), "{document:#}");

    let table = &document["goroutines"];
    let sites = table["sites"].as_array().unwrap();
    for line in &truth {
        let site = sites.iter().find(|site| site["function"] == *line.function).unwrap();
        assert_eq!((&site["created"], &site["exited"]), (&line.created.into(), &line.exited.into()), "{}", line.name);
        let stack = site["creation_stack"].as_array().unwrap();
        assert!(stack.iter().any(|frame| frame["function"] == *line.above), "{}: {stack:?}", line.name);
        let per_s = site["created_per_s"]["value"].as_f64().unwrap();
        let counted_s = table["counted_s"].as_f64().unwrap();
        assert!((per_s * counted_s - approximate(line.created)).abs() < 1e-6, "{}", line.name);
    }
    // The one that is there all the time was there before.
    let there = sites.iter().find(|site| site["function"] == "main.main" && site["live"] == 1).unwrap();
    assert_eq!((&there["created"], &there["exited"]), (&0.into(), &0.into()));
    for (total, others) in
        [("created", ["system_created", "other_created"]), ("exited", ["system_exited", "other_exited"])]
    {
        let named: u64 = sites.iter().map(|site| site[total].as_u64().unwrap()).sum();
        let others: u64 = others.iter().map(|other| table[*other].as_u64().unwrap()).sum();
        assert_eq!(table[total].as_u64().unwrap(), named + others);
    }
    target.close_stdin();
    assert!(target.wait().success());
}

#[expect(clippy::cast_precision_loss, reason = "some hundreds")]
fn approximate(count: u64) -> f64 {
    count as f64
}

#[test]
fn a_recording_says_what_hooks_counted() {
    if !can_attach("a_recording_says_what_hooks_counted") {
        return;
    }
    let mut target = Target::start(&turnover("go1.26.6", &[]), &["-spin"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.leakline");
    let (file, pid) = (file.to_str().unwrap(), target.pid().to_string());
    let arguments = ["record", "--pid", &pid, "-o", file, "--evidence", "bursts", "--max-overhead", "30%"];
    let more = ["--duration", "10m", "--output", "json", "--interval", "1s"];
    let mut running = Running::start(&[&arguments[..], &more[..]].concat());
    let documents = BufReader::new(running.take_stdout());
    let mut watched = Watched { running, documents };
    watched.until("hooks count", uses_hooks);
    let truth = told(&mut target, "phase");
    let document = watched.report();
    let created: u64 = truth.iter().map(|line| line.created).sum();
    assert_eq!(document["goroutines"]["created"], created);
    let replayed = leakline(&["replay", file, "--output", "json"]);
    let replayed: Value =
        serde_json::from_slice(replayed.stdout.split(|byte| *byte == b'\n').rev().nth(1).unwrap()).unwrap();
    assert_eq!(replayed, document);
}

#[test]
fn hooks_are_off_above_the_budget_and_the_reason_is_said() {
    if !can_attach("hooks_are_off_above_the_budget_and_the_reason_is_said") {
        return;
    }
    let mut target = Target::start(&turnover("go1.26.6", &[]), &[]);
    target.say("storm");
    assert_eq!(target.line(), "storming");
    let mut watched = Watched::start(target.pid(), "1%");
    let document = watched.until("it is said why hooks are off", |document| refusal(document).is_some());
    let why = refusal(&document).unwrap();
    assert!(why.contains("% of the budget") && why.contains("the goroutine table is read instead"), "{why}");
    let document = watched.report();
    assert!(!uses_hooks(&document), "{document:#}");
    assert!(document["goroutines"].get("created").is_none());
    assert!(document["goroutines"]["live"].as_u64().unwrap() >= 1, "the table is there anyway");
}

#[test]
fn a_jump_of_the_rate_ends_the_hooks_and_what_was_counted_until_then_stays() {
    if !can_attach("a_jump_of_the_rate_ends_the_hooks_and_what_was_counted_until_then_stays") {
        return;
    }
    let mut target = Target::start(&turnover("go1.26.6", &[]), &["-spin"]);
    let mut watched = Watched::start(target.pid(), "2%");
    watched.until("hooks count", uses_hooks);
    target.say("storm");
    assert_eq!(target.line(), "storming");
    let first = watched.until("hooks are off", |document| refusal(document).is_some());
    let second = watched.until("another document", |_| true);
    let part = |document: &Value, key: &str| document["goroutines"][key].clone();
    assert_eq!(part(&first, "counted_s"), part(&second, "counted_s"), "{first:#}");
    assert_eq!(part(&first, "created"), part(&second, "created"));
    assert!(part(&second, "created").as_u64().unwrap() > 0, "the storm was seen");
    assert!(uses_hooks(&second));
    let why = refusal(&second).unwrap();
    assert!(why.contains("jumped") || why.contains("% of the budget"), "{why}");
}

#[test]
fn a_killed_leakline_leaves_no_hook() {
    if !can_attach("a_killed_leakline_leaves_no_hook") {
        return;
    }
    let mut target = Target::start(&turnover("go1.27.3", &[]), &["-spin"]);
    let before = text_bytes(target.pid());
    for _ in 0..3 {
        let mut watched = Watched::start(target.pid(), "30%");
        watched.until("hooks count", uses_hooks);
        assert!(changed(&before, &text_bytes(target.pid())) >= 2);
        watched.running.kill();
        wait_until("the kernel has removed all breakpoints", || changed(&before, &text_bytes(target.pid())) == 0);
    }
    told(&mut target, "phase");
    target.close_stdin();
    assert!(target.wait().success());
}

#[test]
fn a_stopped_leakline_leaves_no_hook_and_counts_nothing_meanwhile() {
    if !can_attach("a_stopped_leakline_leaves_no_hook_and_counts_nothing_meanwhile") {
        return;
    }
    let mut target = Target::start(&turnover("go1.27.3", &[]), &["-spin"]);
    let before = text_bytes(target.pid());
    let mut watched = Watched::start(target.pid(), "30%");
    watched.until("hooks count", uses_hooks);
    watched.running.signal(Signal::STOP);
    wait_until("the processes that hold probes have ended", || changed(&before, &text_bytes(target.pid())) == 0);
    told(&mut target, "phase");
    watched.running.signal(Signal::CONT);
    let document = watched.report();
    assert_eq!((&document["goroutines"]["created"], &document["goroutines"]["exited"]), (&0.into(), &0.into()));
}
