//! `cargo xtask setup`: what a fresh Debian machine needs for the other commands.
//!
//! Each step says what it does, does nothing where the thing is already there, and on failure shows the command and the end of
//! what it said. Uses apt, cargo, rustup and go as a person would; the machine's own Go is left alone.

mod go;
mod packages;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

pub(crate) use go::{GO_VARIABLE, go_command};
pub(crate) use packages::NeedsRoot;

use crate::{command, ebpf, workspace};

/// The linker of which the kernel object is known to build, with the LLVM that it is built for.
const BPF_LINKER: &str = "bpf-linker";
const BPF_LINKER_VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// A compiler that is recent enough, with the source of its library.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// What the linker is built with.
const LINKER_PACKAGES: [&str; 5] = ["build-essential", "llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also what `cargo xtask ebpf` needs: a compiler for kernel programs and bpf-linker (about 5 minutes)
    #[arg(long)]
    ebpf: bool,
}

/// One thing that a machine needs.
struct Step {
    name: &'static str,
    /// Says what was found or done.
    ensure: fn(&Path) -> Result<String>,
}

pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    let mut failures = ensure(root, &BASIC);
    if options.ebpf {
        failures.extend(ensure(root, &EBPF));
    }
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the demo and the benches need. Returns what is missing; it has been printed.
pub(crate) fn for_demo(root: &Path) -> Vec<anyhow::Error> {
    ensure(root, &DEMO)
}

/// What tests need. Returns what is missing; it has been printed.
pub(crate) fn basic(root: &Path) -> Vec<anyhow::Error> {
    ensure(root, &BASIC)
}

/// What booting other kernels needs. Returns what is missing; it has been printed.
pub(crate) fn for_kernels(root: &Path) -> Vec<anyhow::Error> {
    ensure(root, &KERNELS)
}

/// What building the kernel object needs. Returns what is missing; it has been printed.
pub(crate) fn for_ebpf(root: &Path) -> Vec<anyhow::Error> {
    ensure(root, &EBPF)
}

const C_COMPILER: Step = Step { name: "C compiler", ensure: c_compiler };
const GO: Step = Step { name: "Go", ensure: go::ensure };

const DEMO: [Step; 2] = [C_COMPILER, GO];

const BASIC: [Step; 3] = [C_COMPILER, Step { name: "rustfmt and clippy", ensure: rust_components }, GO];

const KERNELS: [Step; 2] = [GO, Step { name: "QEMU and busybox", ensure: virtual_machines }];

const EBPF: [Step; 2] = [
    Step { name: "compiler for kernel programs", ensure: bpf_compiler },
    Step { name: BPF_LINKER, ensure: bpf_linker },
];

fn ensure(root: &Path, steps: &[Step]) -> Vec<anyhow::Error> {
    let mut failures = Vec::new();
    for step in steps {
        match (step.ensure)(root) {
            Ok(found) => eprintln!("setup: {}: {found}", step.name),
            Err(error) => {
                eprintln!("setup: {}: MISSING: {error:#}", step.name);
                failures.push(error.context(step.name));
            }
        }
    }
    failures
}

/// Says what a step is about to do, since it may take long.
fn doing(what: &str) {
    eprintln!("setup: … {what}");
}

fn c_compiler(_root: &Path) -> Result<String> {
    if !command::succeeds(Command::new("cc").arg("--version")) {
        packages::install(&["build-essential"])?;
    }
    let version = command::capture(Command::new("cc").arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

fn rust_components(_root: &Path) -> Result<String> {
    let present = || {
        let runs = |tool: &str| command::succeeds(Command::new(workspace::cargo()).args([tool, "--version"]));
        runs("clippy") && runs("fmt")
    };
    if present() {
        return Ok("present".to_owned());
    }
    if command::succeeds(Command::new("rustup").arg("--version")) {
        doing("rustup component add clippy rustfmt");
        command::capture(Command::new("rustup").args(["component", "add", "clippy", "rustfmt"]))?;
    } else {
        // Debian's cargo, then: its packages come in two generations.
        let web = packages::is_installed("cargo-web");
        packages::install(if web { &["rust-web-clippy", "rustfmt-web"] } else { &["rust-clippy", "rustfmt"] })?;
    }
    if !present() {
        bail!("installed, but `{} clippy` or `fmt` still does not run", workspace::cargo().display());
    }
    Ok("installed".to_owned())
}

fn virtual_machines(_root: &Path) -> Result<String> {
    packages::install(&["qemu-system-x86", "busybox-static", "binutils"])?;
    let version = command::capture(Command::new("qemu-system-x86_64").arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

fn bpf_compiler(_root: &Path) -> Result<String> {
    if ebpf::toolchains().is_empty() {
        packages::install(&COMPILER_PACKAGES)?;
    }
    let toolchain = ebpf::toolchains().into_iter().next().context("rustc has no source of its library")?;
    Ok(format!("{toolchain:?}"))
}

fn bpf_linker(_root: &Path) -> Result<String> {
    if let Some(linker) = ebpf::linker() {
        return Ok(command::capture(Command::new(linker).arg("--version"))?.trim().to_owned());
    }
    packages::install(&LINKER_PACKAGES)?;
    doing("cargo install bpf-linker (about 5 minutes)");
    command::capture(
        Command::new(workspace::cargo())
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .args(["install", BPF_LINKER, "--version", BPF_LINKER_VERSION, "--locked"])
            .args(["--no-default-features", "--features", "llvm-22"]),
    )?;
    ebpf::linker().context("cargo installed bpf-linker, but it is neither in PATH nor in cargo's bin folder")?;
    Ok(format!("installed {BPF_LINKER_VERSION}"))
}
