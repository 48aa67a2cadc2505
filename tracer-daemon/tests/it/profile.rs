//! The heap profile that is read from outside is the one that the program itself reports; snapshots, differences, adopted
//! samplers.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use rustix::{
    process::Signal,
    time::{ClockId, clock_gettime},
};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tracer_daemon::{
    discover::target_by_pid,
    export::pprof::Profile,
    inspect::cache::FactsCache,
    pipeline::Subject,
    read::profile::{Counts, ProfileReader},
};

use crate::{
    go::{Build, build},
    leakline::{Running, failure, leakline},
    schema::is_valid,
    target::{Target, wait_until},
};

const TOOLCHAINS: [&str; 9] =
    ["go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.26.6", "go1.27.3"];

/// Frames in a `runtime.MemProfileRecord`.
const RECORD_FRAMES: usize = 32;
/// Bytes of the slot of what the program asks for when it is told `known`: 1,234 bytes (runtime/sizeclasses.go).
const KNOWN_BYTES: u64 = 1280;

/// Stack and bytes allocated, freed, objects allocated, freed: how often.
type Records = BTreeMap<(Vec<u64>, [u64; 4]), usize>;

/// `runtime.MemProfile`.
#[derive(Deserialize)]
struct OwnProfile {
    rate: i64,
    records: Vec<(u64, u64, u64, u64, Vec<u64>)>,
}

fn ask(target: &mut Target, question: &str) -> String {
    target.say(question);
    target.line()
}

#[track_caller]
fn tell(target: &mut Target, what: &str) {
    assert_eq!(ask(target, what), "done");
}

fn subject(target: &Target) -> Subject {
    Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap()
}

fn own_records(target: &mut Target) -> (i64, Records) {
    let own: OwnProfile = serde_json::from_str(&ask(target, "profile")).unwrap();
    let mut records = Records::new();
    for (alloc_bytes, free_bytes, allocs, frees, stack) in own.records {
        *records.entry((stack, [alloc_bytes, free_bytes, allocs, frees])).or_default() += 1;
    }
    (own.rate, records)
}

/// What has never been published is in neither: which buckets have come into being since differs by a moment.
fn published(records: Records) -> Records {
    records.into_iter().filter(|((_, counts), _)| *counts != [0; 4]).collect()
}

fn records_equal_those_of_the_program(toolchain: &str, flags: &[&str], rate: &str) {
    let mut target = Target::start(&build("heapprofile", toolchain, flags), &[rate]);
    let subject = subject(&target);
    let mut reader = ProfileReader::new(&subject.runtime()).unwrap();
    let mut seen = 0;
    // Before the first collection; after one, with garbage; with what was freed; with two cycles that are not published.
    for commands in [&["work"][..], &["gc"], &["work", "drop", "gc"], &["work", "gc"], &["gc", "work"]] {
        for command in commands {
            tell(&mut target, command);
        }
        let (own_rate, own) = own_records(&mut target);
        let profile = reader.read(&subject.memory).unwrap();
        let mut ours = Records::new();
        for (number, bucket) in profile.counts.iter().enumerate() {
            let counts = bucket.published;
            let stack = reader.buckets().stack(number).iter().take(RECORD_FRAMES).map(|pc| pc.0).collect();
            let counts = [counts.alloc_bytes, counts.free_bytes, counts.allocs, counts.frees];
            *ours.entry((stack, counts)).or_default() += 1;
        }
        assert_eq!(profile.rate_bytes, own_rate);
        assert!(profile.is_settled && !profile.is_cut);
        let (ours, own) = (published(ours), published(own));
        let only_ours: Vec<_> = ours.iter().filter(|(record, count)| own.get(*record) != Some(*count)).collect();
        let only_own: Vec<_> = own.iter().filter(|(record, count)| ours.get(*record) != Some(*count)).collect();
        assert!(
            only_ours.is_empty() && only_own.is_empty(),
            "{toolchain} {flags:?} rate {rate} after {commands:?}: ours {only_ours:#x?}\nits own {only_own:#x?}"
        );
        seen += own.len();
    }
    assert!(seen > 20, "{seen} records only");
    assert_eq!(reader.discards().iter().next(), None);
}

macro_rules! records_equal {
    ($($name:ident: $toolchain:literal;)*) => {$(
        #[test]
        fn $name() {
            for flags in [&[][..], &["-ldflags=-s -w"], &["-buildmode=pie"], &["-buildmode=pie", "-ldflags=-s -w"]] {
                records_equal_those_of_the_program($toolchain, flags, "524288");
            }
            for rate in ["1", "4096"] {
                records_equal_those_of_the_program($toolchain, &["-ldflags=-s -w"], rate);
            }
        }
    )*};
}

records_equal! {
    records_of_go1_19: "go1.19.13";
    records_of_go1_20: "go1.20.14";
    records_of_go1_21: "go1.21.13";
    records_of_go1_22: "go1.22.12";
    records_of_go1_23: "go1.23.12";
    records_of_go1_24: "go1.24.11";
    records_of_go1_25: "go1.25.5";
    records_of_go1_26: "go1.26.6";
    records_of_go1_27: "go1.27.3";
}

/// The newest and the published counts of the objects of [`KNOWN_BYTES`] bytes.
fn known(subject: &Subject, reader: &mut ProfileReader) -> ((u64, u64), (u64, u64), u32) {
    let profile = reader.read(&subject.memory).unwrap();
    let sum = |of: fn(&tracer_daemon::read::profile::Bucket) -> Counts| {
        let counts = profile.counts.iter().enumerate();
        let known = counts.filter(|(number, _)| reader.buckets().size_bytes(*number) == KNOWN_BYTES);
        known.fold((0, 0), |(allocs, frees), (_, bucket)| (allocs + of(bucket).allocs, frees + of(bucket).frees))
    };
    (sum(|bucket| bucket.newest), sum(|bucket| bucket.published), profile.lag_cycles)
}

#[test]
fn the_newest_state_has_every_object_at_once_and_lag_says_what_the_other_lacks() {
    for toolchain in TOOLCHAINS {
        let mut target = Target::start(&build("heapprofile", toolchain, &["-ldflags=-s -w"]), &["1"]);
        let subject = subject(&target);
        let mut reader = ProfileReader::new(&subject.runtime()).unwrap();
        tell(&mut target, "known 1000");
        // Nothing was ever published: all is.
        assert_eq!(known(&subject, &mut reader), ((1000, 0), (1000, 0), 0), "{toolchain}");
        tell(&mut target, "gc");
        tell(&mut target, "known 500");
        let (newest, published, lag) = known(&subject, &mut reader);
        assert_eq!((newest, published, lag), ((1500, 0), (1000, 0), 1), "{toolchain}");
        tell(&mut target, "drop");
        assert_eq!(known(&subject, &mut reader).0, (1500, 0), "{toolchain}: garbage is in use until it is collected");
        tell(&mut target, "gc");
        // `runtime.GC` publishes what it has swept.
        assert_eq!((known(&subject, &mut reader).0, known(&subject, &mut reader).1), ((1500, 1500), (1500, 1500)));
    }
}

/// What it costs us to read is printed and never asserted.
#[test]
fn thousands_of_stacks_are_read_and_only_once() {
    let mut target = Target::start(&build("heapprofile", "go1.26.6", &["-ldflags=-s -w"]), &["1"]);
    let subject = subject(&target);
    let mut reader = ProfileReader::new(&subject.runtime()).unwrap();
    tell(&mut target, "stacks 13");
    let (first_us, profile) = timed(|| reader.read(&subject.memory).unwrap());
    let first = reader.buckets().len();
    assert!(first > 1 << 13 && profile.counts.len() == first, "{first} buckets");
    let (again_us, _) = timed(|| reader.read(&subject.memory).unwrap());
    println!("{first} buckets: first read {first_us} us, second {again_us} us");
    tell(&mut target, "known 10");
    let profile = reader.read(&subject.memory).unwrap();
    assert!(profile.counts.len() > first && profile.counts.len() < first + 50, "{}", profile.counts.len());
}

/// CPU time of this thread, us.
pub(crate) fn timed<T>(what: impl FnOnce() -> T) -> (i64, T) {
    let now = || clock_gettime(ClockId::ThreadCPUTime);
    let before = now();
    let value = what();
    let behind = now();
    ((behind.tv_sec - before.tv_sec) * 1_000_000 + (behind.tv_nsec - before.tv_nsec) / 1000, value)
}

#[test]
fn counts_never_fall_and_frees_never_exceed_allocations_while_collections_publish() {
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let target = Target::start(&build("heapprofile", toolchain, &["-ldflags=-s -w"]), &["4096", "busy"]);
        let subject = subject(&target);
        let mut reader = ProfileReader::new(&subject.runtime()).unwrap();
        let mut before: Vec<Counts> = Vec::new();
        let (mut settled, mut published) = (0, 0);
        for _ in 0..400 {
            let profile = reader.read(&subject.memory).unwrap();
            for (before, now) in before.iter().zip(&profile.counts) {
                let (newest, published) = (now.newest, now.published);
                assert!(before.allocs <= newest.allocs && before.frees <= newest.frees, "{before:?} {now:?}");
                assert!(newest.frees <= newest.allocs && published.frees <= published.allocs, "{now:?}");
                assert!(published.allocs <= newest.allocs && published.frees <= newest.frees, "{now:?}");
            }
            settled += usize::from(profile.is_settled);
            published += usize::from(profile.counts.iter().any(|bucket| !bucket.published.is_zero()));
            before = profile.counts.iter().map(|bucket| bucket.newest).collect();
        }
        assert!(settled > 200 && published > 200, "{settled} settled, {published} published of 400");
        println!("{toolchain}: {settled} of 400 reads settled, {:?}", reader.discards().iter().collect::<Vec<_>>());
    }
}

/// A profile as lines of text that do not depend on the order of anything: values, size, and functions with lines.
pub(crate) fn lines(profile: &Profile) -> Vec<String> {
    let line = |line: &tracer_daemon::export::pprof::Line| {
        let function = &profile.functions[line.function];
        format!("{} {}:{}", function.name, function.file, line.line)
    };
    let location = |place: &usize| {
        let location = &profile.locations[*place];
        let lines: Vec<String> = location.lines.iter().map(line).collect();
        format!("{:#x} {}", location.address, lines.join(" < "))
    };
    let samples = profile.samples.iter().filter(|sample| sample.values.iter().any(|value| *value != 0));
    let mut lines: Vec<String> = samples
        .map(|sample| {
            let locations: Vec<String> = sample.locations.iter().map(location).collect();
            format!("{:?} {:?}\n    {}", sample.values, sample.size_bytes, locations.join("\n    "))
        })
        .collect();
    lines.sort_unstable();
    lines
}

pub(crate) fn read_profile(path: &Path) -> Profile {
    Profile::parse(&fs::read(path).unwrap()).unwrap()
}

/// What `go tool pprof` prints of the top, without the first lines, which name the file, the time, and our comments.
pub(crate) fn top(path: &Path, index: &str) -> Vec<String> {
    let mut command = Command::new("go");
    command.env("GOTOOLCHAIN", "go1.26.6").args(["tool", "pprof", "-top", "-nodecount=1000"]);
    let output = command.arg(format!("-sample_index={index}")).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().skip_while(|line| !line.starts_with("Showing nodes")).map(str::to_owned).collect()
}

pub(crate) fn snapshot(pid: u32, file: &Path, more: &[&str]) -> String {
    let pid = pid.to_string();
    let mut arguments = vec!["snapshot", "--pid", &pid, "-o", file.to_str().unwrap()];
    arguments.extend(more);
    let output = leakline(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

pub(crate) fn assert_same_profile(ours: &Profile, own: &Profile, what: &str) {
    let (ours_lines, own_lines) = (lines(ours), lines(own));
    let differing: Vec<_> = ours_lines.iter().filter(|line| own_lines.binary_search(line).is_err()).collect();
    let missing: Vec<_> = own_lines.iter().filter(|line| ours_lines.binary_search(line).is_err()).collect();
    assert!(differing.is_empty() && missing.is_empty(), "{what}: ours {differing:#?}\nits own {missing:#?}");
}

#[test]
fn a_snapshot_is_the_profile_that_the_program_writes_itself() {
    let folder = TempDir::new().unwrap();
    for toolchain in TOOLCHAINS {
        for flags in [&[][..], &["-ldflags=-s -w"], &["-buildmode=pie"]] {
            let mut target = Target::start(&build("heapprofile", toolchain, flags), &["4096"]);
            let (own, ours) = (folder.path().join("own.pb.gz"), folder.path().join("ours.pb.gz"));
            for command in ["work", "gc", "work"] {
                tell(&mut target, command);
            }
            tell(&mut target, &format!("heap {}", own.display()));
            let said = snapshot(target.pid(), &ours, &[]);
            assert!(said.contains("as of the end of the last collection") && said.contains("(lag: 1"), "{said}");
            let (own_profile, ours_profile) = (read_profile(&own), read_profile(&ours));
            let what = format!("{toolchain} {flags:?}");
            assert_same_profile(&ours_profile, &own_profile, &what);
            assert_eq!(ours_profile.sample_types, own_profile.sample_types, "{what}");
            assert_eq!(
                (ours_profile.period, &ours_profile.period_type),
                (own_profile.period, &own_profile.period_type)
            );
            assert_eq!(ours_profile.mappings[0], own_profile.mappings[0], "{what}");
            if flags.is_empty() {
                for index in ["inuse_space", "inuse_objects", "alloc_space", "alloc_objects"] {
                    assert_eq!(top(&ours, index), top(&own, index), "{what} {index}");
                }
            }
        }
    }
}

#[test]
fn a_snapshot_of_a_program_whose_sampler_is_off_says_what_can_be_done() {
    let target = Target::start(&build("heapprofile", "go1.26.6", &["-tags=nosampler"]), &[]);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.pb.gz");
    let pid = target.pid().to_string();
    let (status, said) = failure(&["snapshot", "--pid", &pid, "-o", file.to_str().unwrap()]);
    assert_eq!(status, 3, "{said}");
    assert!(
        said.contains("sampler is off") && said.contains("net/http/pprof") && said.contains("--adopt-sampler"),
        "{said}"
    );
    let target = Target::start(&build("heapprofile", "go1.26.6", &[]), &["0"]);
    let pid = target.pid().to_string();
    let (status, said) = failure(&["snapshot", "--pid", &pid, "-o", file.to_str().unwrap()]);
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("program itself has turned it off"), "{said}");
    assert!(!file.exists());
}

#[test]
fn a_difference_names_the_line_that_grew() {
    let folder = TempDir::new().unwrap();
    let [a, b, own] = ["a", "b", "own"].map(|name| folder.path().join(name));
    let [first, second] = [&a, &b].map(|path| path.to_str().unwrap());
    let mut target = Target::start(&build("heapprofile", "go1.26.6", &["-ldflags=-s -w"]), &["1"]);
    for command in ["work", "known 100", "gc"] {
        tell(&mut target, command);
    }
    snapshot(target.pid(), &a, &[]);
    for command in ["known 1000", "gc"] {
        tell(&mut target, command);
    }
    snapshot(target.pid(), &b, &[]);

    let output = leakline(&["diff", first, second, "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    is_valid(&document, include_str!("../../../docs/schema/diff.schema.json"));
    let grown = &document["diff"]["sites"][0];
    assert_eq!((&grown["function"], &grown["line"]), (&"main.allocateKnown".into(), &known_line().into()), "{grown}");
    // The slice that holds them grows at the same line.
    let change = |field: &str| grown["in_use"]["change"][field].as_i64().unwrap();
    assert!(change("objects") >= 1000 && change("bytes") >= 1_234_000, "{grown}");
    let sum: i64 = document["diff"]["sites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|site| site["in_use"]["change"]["bytes"].as_i64().unwrap())
        .sum();
    assert_eq!(document["diff"]["in_use"]["change"]["bytes"], sum);

    let text = String::from_utf8(leakline(&["diff", first, second]).stdout).unwrap();
    let row = text.lines().find(|line| line.contains("main.allocateKnown")).unwrap();
    assert!(text.starts_with("Heap in use grew by 1.") && row.trim_start().starts_with("+1."), "{text}");
    let backwards = String::from_utf8(leakline(&["diff", second, first]).stdout).unwrap();
    assert!(backwards.starts_with("Heap in use shrank by 1.") && backwards.contains("WHAT SHRANK"), "{backwards}");

    // As a profile it is what `go tool pprof -diff_base` makes of the two.
    let difference = leakline(&["diff", first, second, "--output", "pprof"]);
    fs::write(&own, &difference.stdout).unwrap();
    let grown = top(&own, "inuse_space").into_iter().find(|line| line.contains("main.allocateKnown")).unwrap();
    let base = format!("-diff_base={first}");
    let mut command = Command::new("go");
    command.env("GOTOOLCHAIN", "go1.26.6").args(["tool", "pprof", "-top", "-sample_index=inuse_space", &base, second]);
    let by_go = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let by_go = by_go.lines().find(|line| line.contains("main.allocateKnown")).unwrap();
    let flat = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    assert_eq!(flat(&grown), flat(by_go));
}

/// Where the program allocates what is known.
fn known_line() -> u64 {
    let source = include_str!("../programs/heapprofile/main.go");
    let (before, _) = source.split_once("known = append(known, make([]byte, 1234))").unwrap();
    before.lines().count() as u64
}

#[test]
fn what_is_no_heap_profile_is_refused_with_what_it_is() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = path("text", b"heap profile: 3: 4 [5: 6] @ heap/524288\n");
    let empty = path("empty", b"");
    let cpu = Build { program: "cpuprofile", toolchain: "go1.26.6", flags: &[], environment: &[] }
        .folder()
        .join("go1.26.pgo");
    let cpu = cpu.to_str().unwrap();
    for (file, expected) in [
        (&*text, "without debug=1"),
        (&empty, "it is empty"),
        (cpu, "not a heap profile: it has no inuse_space, but samples/count, cpu/nanoseconds"),
        ("/nowhere/at/all", "cannot open /nowhere/at/all"),
    ] {
        let (status, said) = failure(&["diff", file, file]);
        assert_eq!(status, 1, "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// A program whose sampler is off, and a folder for notes.
fn without_sampler(toolchain: &str, flags: &[&str]) -> (Target, TempDir) {
    let flags: Vec<&str> = flags.iter().copied().chain(["-tags=nosampler"]).collect();
    let mut target = Target::start(&build("heapprofile", toolchain, &flags), &[]);
    assert_eq!(ask(&mut target, "rate"), "0");
    (target, TempDir::new().unwrap())
}

struct Places {
    state: String,
    file: String,
}

fn places(folder: &TempDir) -> Places {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    Places { state: path("state"), file: path("a.pb.gz") }
}

fn notes(places: &Places) -> usize {
    fs::read_dir(&places.state).map_or(0, Iterator::count)
}

fn adopting(pid: u32, places: &Places, duration: &str) -> Running {
    let pid = pid.to_string();
    let arguments = ["snapshot", "--pid", &pid, "-o", &places.file, "--adopt-sampler", "--duration", duration];
    let mut running = Running::start(&[&arguments[..], &["--state-dir", &places.state]].concat());
    running.wait_for("the sampler of the target is on");
    running
}

fn restore(pid: u32, places: &Places) -> (i32, String) {
    let output = leakline(&["restore", "--pid", &pid.to_string(), "--state-dir", &places.state]);
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    (output.status.code().unwrap(), said)
}

#[test]
fn an_adopted_sampler_sees_what_is_allocated_and_is_given_back() {
    for toolchain in TOOLCHAINS {
        for flags in [&[][..], &["-ldflags=-s -w"], &["-buildmode=pie", "-ldflags=-s -w"]] {
            let (mut target, folder) = without_sampler(toolchain, flags);
            let places = places(&folder);
            let mut running = adopting(target.pid(), &places, "10m");
            assert_eq!((ask(&mut target, "rate"), notes(&places)), ("524288".to_owned(), 1));
            running.wait_for("samples count from now on");
            // 120 MB: 230 samples.
            tell(&mut target, "known 100000");
            running.signal(Signal::INT);
            let (status, said) = (running.wait(), restore(target.pid(), &places));
            assert_eq!((status, said.0), (0, 0), "{toolchain} {flags:?}: {said:?}");
            assert!(said.1.contains("nothing to restore"), "{said:?}");
            assert_eq!((ask(&mut target, "rate"), notes(&places)), ("0".to_owned(), 0));
            let profile = read_profile(Path::new(&places.file));
            let known = profile.samples.iter().filter(|sample| sample.size_bytes == Some(KNOWN_BYTES.cast_signed()));
            let bytes: i64 = known.map(|sample| sample.values[3]).sum();
            // Five standard deviations.
            assert!((85_000_000..175_000_000).contains(&bytes), "{toolchain} {flags:?}: {bytes}");
        }
    }
}

#[test]
fn what_a_killed_leakline_has_left_on_is_turned_off() {
    let (mut target, folder) = without_sampler("go1.26.6", &["-ldflags=-s -w"]);
    let places = places(&folder);
    let pid = target.pid();
    let mut running = adopting(pid, &places, "10m");

    let (status, said) = restore(pid, &places);
    assert!(status == 3 && said.contains("another leakline that is running"), "{said}");
    let arguments = ["--adopt-sampler", "--state-dir", &places.state, "-o", "/dev/null"];
    let (status, said) = failure(&[&["snapshot", "--pid", &pid.to_string()][..], &arguments].concat());
    assert!(status == 3 && said.contains("another leakline that is running"), "{said}");
    assert_eq!(ask(&mut target, "rate"), "524288");

    running.kill();
    assert_eq!((ask(&mut target, "rate"), notes(&places)), ("524288".to_owned(), 1));
    let (status, said) = failure(&[&["snapshot", "--pid", &pid.to_string()][..], &arguments].concat());
    assert!(status == 3 && said.contains("leakline restore --pid"), "{said}");
    let (status, said) = restore(pid, &places);
    assert!(status == 0 && said.starts_with("restored"), "{said}");
    assert_eq!((ask(&mut target, "rate"), notes(&places)), ("0".to_owned(), 0));
    let (status, said) = restore(pid, &places);
    assert!(status == 0 && said.starts_with("nothing to restore"), "{said}");
}

#[test]
fn a_value_that_is_not_ours_is_left_alone() {
    let (mut target, folder) = without_sampler("go1.26.6", &[]);
    let places = places(&folder);
    adopting(target.pid(), &places, "10m").kill();
    tell(&mut target, "setrate 7");
    let (status, said) = restore(target.pid(), &places);
    assert!(status == 1 && said.contains("not ours") && said.contains(" 7,"), "{said}");
    assert_eq!((ask(&mut target, "rate"), notes(&places)), ("7".to_owned(), 0));
}

#[test]
fn a_note_that_names_another_place_is_not_believed() {
    let (mut target, folder) = without_sampler("go1.26.6", &[]);
    let places = places(&folder);
    adopting(target.pid(), &places, "10m").kill();
    let note = fs::read_dir(&places.state).unwrap().next().unwrap().unwrap().path();
    let mut content: Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    content["address"] = (content["address"].as_u64().unwrap() + 8).into();
    fs::write(&note, content.to_string()).unwrap();
    let (status, said) = restore(target.pid(), &places);
    assert!(status == 3 && said.contains("nothing was changed"), "{said}");
    assert_eq!(ask(&mut target, "rate"), "524288");
    fs::write(&note, "{").unwrap();
    let (status, said) = restore(target.pid(), &places);
    assert!(status == 1 && said.contains("cannot be understood"), "{said}");
}

#[test]
fn a_target_that_ends_meanwhile_leaves_nothing_behind() {
    let (mut target, folder) = without_sampler("go1.26.6", &[]);
    let places = places(&folder);
    let mut running = adopting(target.pid(), &places, "10m");
    target.kill();
    assert_eq!(running.wait(), 4);
    assert_eq!(notes(&places), 0);
    assert!(!Path::new(&places.file).exists());

    let (mut target, _folder) = without_sampler("go1.26.6", &[]);
    adopting(target.pid(), &places, "10m").kill();
    target.kill();
    let (status, said) = restore(target.pid(), &places);
    assert!(status == 0 && said.contains("is gone"), "{said}");
    assert_eq!(notes(&places), 0);
}

#[test]
fn sigterm_gives_the_sampler_back() {
    let (mut target, folder) = without_sampler("go1.22.12", &["-ldflags=-s -w"]);
    let places = places(&folder);
    let mut running = adopting(target.pid(), &places, "10m");
    running.signal(Signal::TERM);
    assert_eq!(running.wait(), 0);
    assert_eq!((ask(&mut target, "rate"), notes(&places)), ("0".to_owned(), 0));
}

#[test]
fn a_panic_gives_the_sampler_back() {
    let (mut target, folder) = without_sampler("go1.27.3", &["-ldflags=-s -w"]);
    let places = places(&folder);
    let adopted = subject(&target).adopt(Path::new(&places.state)).unwrap();
    assert_eq!((ask(&mut target, "rate"), notes(&places)), ("524288".to_owned(), 1));
    let panicked = std::panic::catch_unwind(move || {
        let _held = adopted;
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    assert_eq!((ask(&mut target, "rate"), notes(&places)), ("0".to_owned(), 0));
}

#[test]
fn a_folder_of_notes_that_others_can_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (mut target, folder) = without_sampler("go1.26.6", &[]);
    let places = places(&folder);
    fs::create_dir(&places.state).unwrap();
    fs::set_permissions(&places.state, fs::Permissions::from_mode(0o777)).unwrap();
    let pid = target.pid().to_string();
    let arguments = ["snapshot", "--pid", &pid, "-o", "/dev/null", "--adopt-sampler", "--state-dir", &places.state];
    let (status, said) = failure(&arguments);
    assert!(status == 3 && said.contains("nobody else can write"), "{said}");
    let (status, said) = restore(target.pid(), &places);
    assert!(status == 3 && said.contains("nobody else can write"), "{said}");
    assert_eq!(ask(&mut target, "rate"), "0");
}

#[test]
fn a_sampler_that_is_on_is_not_adopted() {
    let mut target = Target::start(&build("heapprofile", "go1.26.6", &[]), &[]);
    let folder = TempDir::new().unwrap();
    let places = places(&folder);
    let pid = target.pid().to_string();
    let arguments = ["snapshot", "--pid", &pid, "-o", "/dev/null", "--adopt-sampler", "--state-dir", &places.state];
    let (status, said) = failure(&arguments);
    assert!(status == 3 && said.contains("is on already"), "{said}");
    assert_eq!((ask(&mut target, "rate"), notes(&places)), ("524288".to_owned(), 0));
    wait_until("it still runs", || target.is_running());
}
