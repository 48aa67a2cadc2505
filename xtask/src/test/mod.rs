//! `cargo xtask test`: every check and test, counted, whatever failed before; what `.ci/run` calls.
//!
//! Each check (format, lints, documentation, tidy, generated layouts, the kernel object from its sources) counts as one
//! test. The last line is `N passed, N failed, N skipped`. Counterpart: tests that cannot run here print `SKIPPED: NAME PROOF` and return.

mod outcome;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{codegen, command, ebpf, kernels, setup, source_hash, support, tidy, workspace, zoo};
use outcome::{Outcome, Parser};

/// Makes the daemon embed another object than the prebuilt one (`tracer-daemon/build.rs`).
const FRESH_VARIABLE: &str = "LEAKLINE_EBPF_OBJECT_FRESH";
/// Makes the tests ask all big programs for names (`tracer-daemon/tests/it/symbolize/oracle.rs`).
const ORACLE_VARIABLE: &str = "LEAKLINE_ORACLE_ALL";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Neither rebuild the kernel object from its sources, nor boot the oldest kernel, nor run the zoo
    #[arg(long)]
    quick: bool,
    /// Compare names with the compiler of every Go release and with Prometheus, not with three compilers only (half an
    /// hour more where they are not built yet)
    #[arg(long)]
    oracle: bool,
}

pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    let mut total = Outcome::default();
    step("setup", &mut total, || {
        let missing = setup::basic(root);
        // What is there already is no test; what is missing fails here, by name, and not later in disguise.
        Ok(Outcome {
            failures: missing.iter().map(|error| format!("setup: {error:#}")).collect(),
            ..Outcome::default()
        })
    });
    check("format", &mut total, || cargo(root, &["fmt", "--all", "--check"]));
    check("lints", &mut total, || cargo(root, &["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]));
    check("documentation", &mut total, || {
        let mut cargo = cargo_command(root);
        command::run(cargo.env("RUSTDOCFLAGS", "-D warnings").args(["doc", "--quiet", "--no-deps"]))
    });
    check("tidy", &mut total, || match tidy::run(root)? {
        ExitCode::SUCCESS => Ok(()),
        _ => bail!("see above"),
    });
    check("layouts are those of each Go version", &mut total, || codegen::layouts::check_short(root));
    check("support table", &mut total, || support::check(root));
    let mut fresh = None;
    if !options.quick {
        step("kernel object from its sources", &mut total, || kernel_object(root, &mut fresh));
    }
    step("tests", &mut total, || tests(root, fresh.as_deref(), options.oracle));
    if !options.quick {
        step("Linux 5.10 takes the kernel programs", &mut total, || on_the_oldest_kernel(root));
        check("zoo, eight programs that say what they leak, with a sampler and without", &mut total, || {
            zoo::quick(root)
        });
    }
    println!("\n== summary");
    total.skips.iter().for_each(|skip| println!("skipped: {skip}"));
    total.failures.iter().for_each(|failure| println!("FAILED: {failure}"));
    println!("{total}");
    if total.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one step under a heading; an error of the step itself counts as one failure.
#[allow(clippy::disallowed_methods, reason = "how long a step took is for the person who waits")]
fn step(name: &str, total: &mut Outcome, work: impl FnOnce() -> Result<Outcome>) {
    println!("\n== {name}");
    let start = Instant::now();
    let outcome = work().unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        Outcome::failure(format!("{name}: {error:#}"))
    });
    println!("== {name}: {outcome} in {:.1} s", start.elapsed().as_secs_f64());
    total.add(outcome);
}

fn check(name: &str, total: &mut Outcome, work: impl FnOnce() -> Result<()>) {
    step(name, total, || work().map(|()| Outcome::pass()));
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<()> {
    command::run(cargo_command(root).args(arguments))
}

fn cargo_command(root: &Path) -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(root);
    cargo
}

/// Builds the object as a person without the prebuilt one would.
fn kernel_object(root: &Path, fresh: &mut Option<PathBuf>) -> Result<Outcome> {
    if let Some(missing) = setup::for_ebpf(root).first() {
        let failure = format!("kernel object: {missing:#}");
        // Without root the packages cannot be had: the error says so and which they are.
        let may_skip = missing.chain().any(<dyn std::error::Error>::is::<setup::NeedsRoot>);
        return Ok(if may_skip { Outcome::skip(failure) } else { Outcome::failure(failure) });
    }
    let object = ebpf::build(root)?;
    let same = std::fs::read(root.join(source_hash::OBJECT))
        .is_ok_and(|prebuilt| std::fs::read(&object).is_ok_and(|built| built == prebuilt));
    println!("{} the prebuilt one", if same { "identical to" } else { "differs in bytes (another compiler?) from" });
    *fresh = Some(object);
    Ok(Outcome::pass())
}

/// Boots it in a virtual machine. Where there is none to be had, that is the proof.
fn on_the_oldest_kernel(root: &Path) -> Result<Outcome> {
    match kernels::oldest_takes_all_programs(root) {
        Ok(()) => Ok(Outcome::pass()),
        Err(error) if error.is::<kernels::NotTried>() => Ok(Outcome::skip(format!("Linux 5.10: {error:#}"))),
        Err(error) => Err(error),
    }
}

/// All tests of the workspace, with this object embedded instead of the prebuilt one.
fn tests(root: &Path, fresh: Option<&Path>, oracle: bool) -> Result<Outcome> {
    let mut cargo = cargo_command(root);
    if oracle {
        cargo.env(ORACLE_VARIABLE, "1");
    }
    // `--show-output` so that the lines of skipping tests, which pass, are seen.
    cargo.args(["test", "--no-fail-fast", "--", "--show-output"]).stdout(Stdio::piped());
    if let Some(object) = fresh {
        println!("embedding {}", object.display());
        cargo.env(FRESH_VARIABLE, object);
    }
    if let Ok(go) = setup::go_command(root) {
        cargo.env(setup::GO_VARIABLE, go);
    }
    let mut child = cargo.spawn().with_context(|| format!("cannot run `{}`", command::shown(&cargo)))?;
    let stdout = child.stdout.take().context("no stdout of cargo test")?;
    let mut parser = Parser::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if parser.line(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    Ok(parser.finish(status.success(), &format!("`{}` ended with {status}", command::shown(&cargo))))
}
