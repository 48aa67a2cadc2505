//! leakline's own tools, run as `cargo xtask COMMAND`: one file or folder per command.
//!
//! Nothing here depends on `tracer-daemon`, whose build fails while the kernel object is stale: this is what renews it.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool talks to the person who runs it")]

mod apt;
mod bench;
mod check_real;
mod codegen;
mod command;
mod demo;
mod ebpf;
mod fuzz;
mod kernels;
mod machine_paths;
mod marks;
mod matrix;
mod real_binaries;
mod reported;
mod results;
mod setup;
mod shard;
#[path = "../../tracer-daemon/source_hash.rs"]
mod source_hash;
mod source_marks;
mod support;
mod test;
mod tidy;
mod watch;
mod workspace;
mod zoo;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "leakline's own tools")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the kernel programs and renew the prebuilt object
    Ebpf(ebpf::Options),
    /// Install what the other commands need: Go, a C compiler, lints; with flags, more
    Setup(setup::Options),
    /// Attach to a service with two planted leaks and show the lines that are to blame (root; two minutes after the build)
    Demo(demo::Options),
    /// Measure what leakline promises, against other tracers in the same run
    Bench(bench::BenchArgs),
    /// Run all cells of the fixture matrix: every version of Go, every way to build (hours)
    Matrix(matrix::Options),
    /// Read the mark bits of known objects in all versions of Go, and compare with the truth (minutes)
    Marks(marks::Options),
    /// Watch programs that say what they leak, and compare the verdicts with the truth (hours; --quick: a quarter of an hour)
    Zoo(zoo::Options),
    /// Open bursts under other kernels, in virtual machines of QEMU (half an hour)
    Kernels(kernels::Options),
    /// Run `leakline check` on an etcd under load, as it is and with a leak put in (a quarter of an hour)
    CheckReal(check_real::Options),
    /// Make the sources that are made by a program, or check that they are fresh
    #[command(subcommand)]
    Codegen(codegen::Codegen),
    /// Look at Go programs that others have built, and check what leakline says of them
    RealBinaries(real_binaries::Options),
    /// Make docs/support.md from the results
    Support(support::Options),
    /// Feed the parsers with hostile input, guided by what they do with it (needs a C++ compiler; a minute for each target)
    Fuzz(fuzz::Options),
    /// Check the rules of the architecture that no compiler checks
    Tidy,
    /// Run every check and test, and count
    Test(test::Options),
}

fn main() -> ExitCode {
    let root = workspace::root();
    let result = match Arguments::parse().command {
        Command::Ebpf(options) => ebpf::run(&root, &options),
        Command::Setup(options) => Ok(setup::run(&root, &options)),
        Command::Demo(options) => demo::run(&root, &options),
        Command::Bench(args) => bench::run(&root, &args).map(|()| ExitCode::SUCCESS),
        Command::Matrix(options) => matrix::run(&root, &options).map(|()| ExitCode::SUCCESS),
        Command::Marks(options) => marks::run(&root, &options).map(|()| ExitCode::SUCCESS),
        Command::Zoo(options) => zoo::run(&root, &options),
        Command::Kernels(options) => kernels::run(&root, &options),
        Command::CheckReal(options) => check_real::run(&root, &options).map(|()| ExitCode::SUCCESS),
        Command::Codegen(codegen) => codegen::run(&root, &codegen),
        Command::RealBinaries(options) => real_binaries::run(&root, &options),
        Command::Support(options) => support::run(&root, &options),
        Command::Fuzz(options) => fuzz::run(&root, &options),
        Command::Tidy => tidy::run(&root),
        Command::Test(options) => Ok(test::run(&root, &options)),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the program as its users run it, and says where it is.
fn build_leakline(root: &Path) -> anyhow::Result<PathBuf> {
    let mut build = std::process::Command::new(workspace::cargo());
    command::run(build.current_dir(root).args(["build", "--release", "--package", "tracer-daemon"]))?;
    Ok(release_folder(root).join("leakline"))
}

/// Builds an example of the daemon's library as its users run the library, and says where it is.
fn build_example(root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut build = std::process::Command::new(workspace::cargo());
    command::run(build.current_dir(root).args([
        "build",
        "--release",
        "--package",
        "tracer-daemon",
        "--example",
        name,
    ]))?;
    Ok(release_folder(root).join("examples").join(name))
}

fn release_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("release")
}
