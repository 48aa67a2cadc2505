//! What a judgement of a process costs: `model_cost SITES OBJECTS RUNS` prints a line of JSON.
//!
//! The process is made up: 68 size classes of which every second grows, as many lines as wanted that take turns in them, and
//! tracked objects of as many lines. Counterpart: `cargo xtask bench model`, which builds this in release mode and makes a
//! table of it.
#![allow(clippy::print_stdout, reason = "a command-line tool talks to the program that runs it")]

mod own_cost;

use std::env;

use anyhow::{Context as _, Result, bail};
use tracer_daemon::model::SiteId;
use tracer_daemon::model::assess::{Assessor, ProfileReading, SiteSamples};
use tracer_daemon::model::birth_evidence::BirthEvidence;
use tracer_daemon::model::birth_look::CLUSTERS;
use tracer_daemon::model::births::{BirthCell, BirthReading, ClassRate, estimate};
use tracer_daemon::model::marked::Reading;
use tracer_daemon::model::survival::Lives;

use self::own_cost::{status_kib, thread_cpu_ns};

const NS: u64 = 1_000_000_000;
const CLASSES: u64 = 68;
const BURSTS: u32 = 100;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [sites, objects, runs] = arguments.as_slice() else { bail!("usage: model_cost SITES OBJECTS RUNS") };
    let sites: u64 = sites.parse().context("SITES must be a number")?;
    let objects: u64 = objects.parse().context("OBJECTS must be a number")?;
    let runs: u64 = runs.parse().context("RUNS must be a number")?;
    let before_kib = status_kib("VmRSS:")?;
    let mut assessor = Assessor::new(60.0);
    for cycle in 1..=600 {
        assessor.observe_books(books(cycle));
    }
    let mut cpu_ns = Vec::new();
    let mut leaking = 0;
    for run in 0..=runs {
        for cycle in 0..10 {
            assessor.observe_books(books(601 + 10 * run + cycle));
        }
        let (profile, births) = (profile(sites, run), births(sites, objects));
        let start = thread_cpu_ns();
        assessor.observe_profile(profile);
        if objects > 0 {
            assessor.observe_births(BirthEvidence {
                window_s: births.window_s,
                seen_s: births.window_s,
                caught: births.caught(),
                all_followed: true,
                sites: estimate(&births).sites,
            });
        }
        let report = assessor.report(1e9);
        cpu_ns.push(thread_cpu_ns().saturating_sub(start));
        leaking = report.sites.len();
    }
    // The first one allocates what the others use.
    cpu_ns.remove(0);
    let grown_kib = status_kib("VmHWM:")?.saturating_sub(before_kib);
    println!(
        "{}",
        serde_json::json!({
            "cpu_ns": cpu_ns, "kept_bytes": assessor.memory_bytes(), "grown_kib": grown_kib, "sites_told": leaking,
        })
    );
    Ok(())
}

/// Just before the end of a collection each second: all that was born is counted, and all that died before is freed.
fn books(cycle: u64) -> Reading {
    let born = |class: u64| if class.is_multiple_of(2) { 100 } else { 1_000 };
    let stays = |class: u64| if class.is_multiple_of(2) { 100 } else { 0 };
    let classes = (1..=CLASSES).map(|class| {
        let noise = class.wrapping_mul(cycle).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        [class * 16, cycle * born(class) + noise, (cycle - 1) * (born(class) - stays(class))]
    });
    let at_unix_ns = (1_000_000 + cycle) * NS;
    Reading {
        at_unix_ns,
        collections: u32::try_from(cycle).unwrap_or(u32::MAX),
        last_end_unix_ns: at_unix_ns - NS / 10,
        marked_bytes: cycle * (1..=CLASSES).map(|class| stays(class) * class * 16).sum::<u64>(),
        classes: classes.collect(),
        large: [0, 0],
    }
}

fn profile(sites: u64, run: u64) -> ProfileReading {
    let samples = (0..sites).map(|site| SiteSamples {
        site: SiteId(site.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        size_bytes: (site % CLASSES + 1) * 16,
        // One in ten moves.
        allocs: 20 + if site % 10 == 0 { run * 2 } else { 0 },
        frees: 5 + if site % 20 == 0 { run * 2 } else { 0 },
    });
    ProfileReading { at_unix_ns: (1_000_600 + 10 * run) * NS, rate_bytes: 524_288.0, samples: samples.collect() }
}

/// Each object in a cell of its own: as many cells as there can be.
fn births(sites: u64, objects: u64) -> BirthReading {
    let cells = (0..objects).map(|object| {
        let mixed = object.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let site = mixed % sites.max(1);
        let died = object % 3 != 0;
        BirthCell {
            site: Some(SiteId(site.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
            path: u32::try_from(site).unwrap_or_default(),
            size_bytes: (site % CLASSES + 1) * 16,
            group: u32::try_from(mixed % 20).unwrap_or_default(),
            cluster: u8::try_from(object % CLUSTERS as u64).unwrap_or_default(),
            number: 1,
            lives: Lives {
                age_cycles: u32::try_from(mixed % if died { 2 } else { 40 }).unwrap_or_default(),
                died,
                weight: 50.0,
                squares: 2_500.0,
            },
        }
    });
    let class = |class: u64| ClassRate { size_bytes: Some(class * 16), bytes_per_s: 1e6 };
    BirthReading {
        window_s: 60.0,
        bursts: [BURSTS / 8; CLUSTERS],
        cells: cells.collect(),
        classes: (1..=CLASSES).map(class).collect(),
        ..BirthReading::default()
    }
}
