//! `cargo xtask kernels`: bursts on kernels other than this one, in virtual machines.
//!
//! Kernels are those that Debian's suites have, as they are. Each is booted by QEMU with nothing but leakline, busybox and Go programs that leak;
//! [`guest`] says what happens there and how it is judged. What was seen goes to `docs/results/kernels.json`.

mod guest;
mod machine;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};

pub(crate) use guest::{Cell, RESULTS, Seen};

use crate::apt::Apt;
use crate::results::{Recorded as _, Results};
use crate::{build_leakline, command, setup, workspace};

/// The command's own sources.
const SOURCES: &str = "xtask/src/kernels";
/// Versions of Go that the programs are built with: one point for all allocations, and many.
const RELEASES: [&str; 2] = ["1.22.12", "1.27.3"];
const PROGRAM: &str = "tracer-daemon/tests/programs/checked";

/// A kernel: its name here, the suite whose newest it is, and whether links of `uprobe_multi` do there what windows need.
const KERNELS: [(&str, &str, bool); 5] = [
    ("5.10", "bullseye", false),
    ("6.1", "bookworm", false),
    ("6.12", "trixie", true),
    ("7.2", "forky", true),
    ("newest", "trixie-backports", true),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only the kernel of this name, such as `6.1`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Watch no program: only see whether the kernel takes leakline's programs. Nothing is recorded
    #[arg(long, conflicts_with = "duration")]
    short: bool,
    /// How long leakline watches each program. On an emulated processor it takes more CPU than it may by itself, and gives up bursts but for one a minute
    #[arg(long, default_value = "90s")]
    duration: String,
    /// Run the virtual machines by KVM, where it works; else they are emulated, ten times slower
    #[arg(long)]
    kvm: bool,
    /// Processors of a machine. Linux 7.2 was seen to hang at boot with two emulated ones on a busy host
    #[arg(long, default_value_t = 2)]
    processors: u8,
    /// Boot nothing: judge what the last run has said
    #[arg(long)]
    logged: bool,
    /// A leakline that is built already
    #[arg(long, value_name = "FILE")]
    leakline: Option<PathBuf>,
}

/// Whether the oldest kernel takes all programs, as a test. It is booted with nothing but leakline.
///
/// # Errors
/// Where it does not, and [`NotTried`] where that could not be seen.
pub(crate) fn oldest_takes_all_programs(root: &Path) -> Result<()> {
    let not_tried = |error: anyhow::Error| error.context(NotTried);
    if let Some(missing) = setup::for_kernels(root).into_iter().next() {
        return Err(not_tried(missing));
    }
    let [(name, suite, _), ..] = KERNELS;
    let apt = Apt::new(&workspace::cache(root).join("kernels"), &[suite]).map_err(not_tried)?;
    let (package, kernel) = machine::kernel(&apt, suite).map_err(not_tried)?;
    println!("… {package} of {suite}");
    let folder = root.join("target/kernels");
    std::fs::create_dir_all(&folder)?;
    let image = machine::image(&folder, &build_leakline(root)?, &[], "0s")?;
    let log = folder.join(format!("{name}.log"));
    let said = boot(&kernel, &image, &log, 1, false)?;
    let failures = guest::judge_checks(&said);
    ensure!(failures.is_empty(), "{name}: {} (see {})", failures.join("; "), log.display());
    Ok(())
}

/// Boots a machine; what it said.
fn boot(kernel: &Path, image: &Path, log: &Path, processors: u8, kvm: bool) -> Result<String> {
    machine::boot(kernel, image, log, processors, kvm).with_context(|| format!("see {}", log.display()))?;
    said(log)
}

fn said(log: &Path) -> Result<String> {
    let said = std::fs::read(log).with_context(|| format!("see {}", log.display()))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// It could not be seen, for want of a kernel or of a machine to boot it.
#[derive(Debug)]
pub(crate) struct NotTried;

impl std::fmt::Display for NotTried {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("no kernel could be booted")
    }
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let missing = setup::for_kernels(root);
    if !missing.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let results = Results::<Cell>::new(root, RESULTS, SOURCES)?;
    let folder = root.join("target/kernels");
    std::fs::create_dir_all(&folder)?;
    let image = if options.logged { PathBuf::new() } else { image(root, &folder, options)? };
    let suites = KERNELS.map(|(_, suite, _)| suite);
    let apt = Apt::new(&workspace::cache(root).join("kernels"), &suites)?;
    let mut wrong = 0;
    for (name, suite, has_multi) in KERNELS {
        if options.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let log = folder.join(format!("{name}.log"));
        let (package, kernel) = machine::kernel(&apt, suite)?;
        println!("… {package} of {suite}");
        let said =
            if options.logged { said(&log)? } else { boot(&kernel, &image, &log, options.processors, options.kvm)? };
        if options.short {
            let failures = guest::judge_checks(&said);
            println!(
                "{name}: {}",
                if failures.is_empty() { "takes all programs".to_owned() } else { failures.join("\n    ") }
            );
            wrong += usize::from(!failures.is_empty());
            continue;
        }
        let cell = guest::judge(&said, has_multi, package, &results.commit);
        println!("{name}: {cell}");
        wrong += usize::from(!cell.is_good());
        results.put(name, cell)?;
    }
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What all machines boot.
fn image(root: &Path, folder: &Path, options: &Options) -> Result<PathBuf> {
    let leakline = options.leakline.clone().map_or_else(|| build_leakline(root), Ok)?;
    let releases = if options.short { &[][..] } else { &RELEASES };
    let programs = releases.iter().map(|release| build(root, folder, release)).collect::<Result<Vec<_>>>()?;
    machine::image(folder, &leakline, &programs, &options.duration)
}

fn build(root: &Path, folder: &Path, release: &str) -> Result<PathBuf> {
    let program = folder.join(format!("checked-{release}"));
    let mut go = Command::new(setup::go_command(root)?);
    go.current_dir(root.join(PROGRAM))
        .env("GOTOOLCHAIN", format!("go{release}"))
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("CGO_ENABLED", "0")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".");
    command::capture(&mut go)?;
    Ok(program)
}
