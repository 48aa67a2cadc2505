//! Kernel tests: the probe points that `exact` does not use are hit when they must be, with the registers that they promise.
//!
//! The witness is the kernel's own tracer (tracefs uprobe events), not our programs, which do not exist yet for these points.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use tracer_daemon::inspect::inspect_file;
use tracer_daemon::plan::{ProbePoint, Purpose, RarePoints};

use crate::go::build;
use crate::leakline::can_attach;
use crate::target::Target;

const TRACEFS: &str = "/sys/kernel/tracing";

#[derive(Deserialize)]
struct Truth {
    collections: usize,
    asked_bytes: u64,
    medium_bytes: u64,
    mediums: BTreeSet<u64>,
    large_bytes: u64,
    larges: BTreeSet<u64>,
}

/// One hit: what the registers held.
#[derive(Debug)]
struct Hit {
    ax: u64,
    bx: u64,
    cx: u64,
    /// The word 24 bytes behind AX: `startAddr` where AX is a `*mspan`.
    span_start: u64,
    flags: u64,
}

/// Events of the kernel's tracer, in a buffer of their own; gone when this is dropped.
struct Tracer {
    group: String,
    instance: PathBuf,
    purposes: Vec<(Purpose, bool)>,
}

impl Tracer {
    fn new(name: &str, program: &Path, points: &[ProbePoint]) -> io::Result<Self> {
        let group = format!("leakline_test_{}_{}", std::process::id(), name.replace('.', "_"));
        let instance = Path::new(TRACEFS).join("instances").join(&group);
        fs::create_dir(&instance)?;
        let mut tracer = Self { group, instance, purposes: Vec::new() };
        fs::write(tracer.instance.join("buffer_size_kb"), "8192")?;
        for (number, point) in points.iter().enumerate() {
            let arguments = "ax=%ax:x64 bx=%bx:x64 cx=%cx:x64 flags=%flags:x64 span=+24(%ax):x64";
            let place = format!("{}:{:#x}", program.display(), point.file_offset().0);
            Self::define(&format!("p:{}/hit{number} {place} {arguments}", tracer.group))?;
            tracer.purposes.push((point.purpose(), point.on_stack_check()));
        }
        fs::write(tracer.instance.join(format!("events/{}/enable", tracer.group)), "1")?;
        Ok(tracer)
    }

    fn define(event: &str) -> io::Result<()> {
        use std::io::Write as _;
        fs::OpenOptions::new().append(true).open(Path::new(TRACEFS).join("uprobe_events"))?.write_all(event.as_bytes())
    }

    /// All hits so far at the points for a purpose; without those after which a function begins anew.
    fn hits(&self, purpose: Purpose) -> Vec<Hit> {
        let trace = fs::read_to_string(self.instance.join("trace")).unwrap();
        let mut hits = Vec::new();
        for line in trace.lines().filter(|line| !line.starts_with('#')) {
            let Some((_, rest)) = line.split_once(" hit") else { continue };
            let number: usize = rest.split(':').next().unwrap().parse().unwrap();
            let field = |name: &str| {
                let value = rest.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap();
                value.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
            };
            let hit = Hit {
                ax: field("ax="),
                bx: field("bx="),
                cx: field("cx="),
                span_start: field("span="),
                flags: field("flags="),
            };
            let (of, on_stack_check) = self.purposes[number];
            if of == purpose && !(on_stack_check && hit.flags & 0x41 != 0) {
                hits.push(hit);
            }
        }
        hits
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Whatever fails here leaves something in the tracer's list, not in a program.
        drop(fs::write(self.instance.join(format!("events/{}/enable", self.group)), "0"));
        drop(Self::define(&format!("-:{}/", self.group)));
        for number in 0..self.purposes.len() {
            drop(Self::define(&format!("-:{}/hit{number}", self.group)));
        }
        drop(fs::remove_dir(&self.instance));
    }
}

/// Whether the kernel's tracer can be used. Where not, says so with the proof.
fn can_trace(test: &str) -> bool {
    let events = Path::new(TRACEFS).join("uprobe_events");
    if !events.exists() {
        drop(Command::new("mount").args(["-t", "tracefs", "tracefs", TRACEFS]).status());
    }
    match fs::OpenOptions::new().append(true).open(&events) {
        Ok(_) => true,
        Err(error) => {
            println!("SKIPPED: {test}: cannot open {}: {error}", events.display());
            false
        }
    }
}

fn points_are_hit(toolchain: &str) {
    let name = format!("probe points of {toolchain}");
    if !can_attach(&name) || !can_trace(&name) {
        return;
    }
    // A copy of its own: the tracer watches the file, whoever runs it.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("points");
    fs::copy(build("points", toolchain, &["-ldflags=-s -w"]), &program).unwrap();
    let points = RarePoints::of(&inspect_file(File::open(&program).unwrap()).unwrap());
    assert!(points.refused.is_empty(), "{:?}", points.refused);

    let mut target = Target::start(&program, &[]);
    let tracer = Tracer::new(toolchain, &program, &points.points).unwrap();
    target.say("go");
    let truth: Truth = serde_json::from_str(&target.line()).unwrap();
    let hits = |purpose| tracer.hits(purpose);

    assert_eq!(hits(Purpose::CycleMarked).len(), truth.collections, "{toolchain}: gcSweep");
    assert_eq!(hits(Purpose::CycleEnded).len(), truth.collections, "{toolchain}: gcMarkTermination");

    let births = [hits(Purpose::Birth), hits(Purpose::BirthAtEntrance)];
    let mediums = births.iter().flatten().filter(|hit| hit.ax == truth.asked_bytes).count();
    assert_eq!(mediums, truth.mediums.len(), "{toolchain}: births");

    // Every seventh object needs a new span; sweeping gives some spans back in part.
    let slots: BTreeSet<u64> = hits(Purpose::SlotFound).iter().map(|hit| hit.ax).collect();
    let found = slots.intersection(&truth.mediums).count();
    assert!(found >= truth.mediums.len() / 8, "{toolchain}: {found} slots of {} objects", truth.mediums.len());

    let spans: BTreeSet<u64> = hits(Purpose::LargeSpanFound).iter().map(|hit| hit.span_start).collect();
    assert!(spans.is_superset(&truth.larges), "{toolchain}: large spans");

    for purpose in [Purpose::ProfiledBirth, Purpose::ProfiledDeath] {
        let seen: BTreeSet<(u64, u64)> = hits(purpose).iter().map(|hit| (hit.bx, hit.cx)).collect();
        let mediums = truth.mediums.iter().map(|address| (*address, truth.medium_bytes));
        let expected: BTreeSet<(u64, u64)> =
            mediums.chain(truth.larges.iter().map(|address| (*address, truth.large_bytes))).collect();
        let missing = expected.difference(&seen).count();
        assert_eq!(missing, 0, "{toolchain}: {} of {} objects not seen", purpose.name(), expected.len());
    }
    drop(tracer);
    target.close_stdin();
    assert!(target.wait().success());
    println!("{toolchain}: {} points, {} collections, {} slots", points.points.len(), truth.collections, found);
}

macro_rules! points_are_hit {
    ($($name:ident: $toolchain:literal;)*) => {$(
        #[test]
        fn $name() {
            points_are_hit($toolchain);
        }
    )*};
}

points_are_hit! {
    points_are_hit_in_go1_19: "go1.19.13";
    points_are_hit_in_go1_23: "go1.23.12";
    points_are_hit_in_go1_24: "go1.24.11";
    points_are_hit_in_go1_27: "go1.27.3";
}
