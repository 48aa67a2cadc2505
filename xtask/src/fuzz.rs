//! `cargo xtask fuzz`: runs the fuzz targets of `fuzz/` under libFuzzer for a while, one after the other.
//!
//! Any toolchain does: the coverage that guides libFuzzer is an LLVM pass which `rustc` runs when told so by `-C`, and the
//! daemon has no `unsafe` that a sanitizer could watch. `cargo fuzz`, where it is at hand, takes the same folder. New inputs
//! go to `fuzz/target/corpus/`; what is worth keeping is copied to `fuzz/corpus/` by hand, where the tests replay it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace};

/// `cfg(fuzzing)` and the flags by which cargo-fuzz, too, gets coverage and comparisons.
const RUST_FLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// An input that takes longer is a finding, seconds.
const TIMEOUT_S: u32 = 10;
/// A process that grows beyond is a finding, MiB: libFuzzer itself and the corpus included.
const MEMORY_MB: u32 = 512;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this target (may be repeated); all, if none is named
    #[arg(long, value_name = "TARGET")]
    target: Vec<String>,
    /// How long to run each
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let folder = root.join("fuzz");
    let known = targets(&fs::read_to_string(folder.join("Cargo.toml"))?);
    if let Some(unknown) = options.target.iter().find(|target| !known.contains(target)) {
        bail!("no target `{unknown}`: there are {}", known.join(", "));
    }
    if !command::succeeds(Command::new("c++").arg("--version")) {
        bail!("libFuzzer is C++ and this machine has no c++: install it (Debian: apt-get install build-essential)");
    }
    // The versions of the workspace; cargo adds libFuzzer to them.
    let lock = folder.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(root.join("Cargo.lock"), &lock).context("cannot copy Cargo.lock")?;
    }
    let machine = host()?;
    command::run(Command::new(workspace::cargo()).current_dir(&folder).env("RUSTFLAGS", RUST_FLAGS).args([
        "build",
        "--release",
        "--bins",
        "--target",
        &machine,
    ]))?;
    let programs = folder.join("target").join(&machine).join("release");
    let chosen = if options.target.is_empty() { &known } else { &options.target };
    let mut findings = Vec::new();
    for target in chosen {
        let artifacts = folder.join("artifacts").join(target);
        let before = files(&artifacts);
        let ended = fuzz(&folder, &programs.join(target), target, options.seconds);
        let new: Vec<_> = files(&artifacts).into_iter().filter(|file| !before.contains(file)).collect();
        if new.is_empty() {
            ended?;
        }
        findings.extend(new.into_iter().map(|file| (target, file)));
    }
    for (target, file) in &findings {
        println!("FOUND: {target}: {}", file.display());
        println!("  smaller: {} -minimize_crash=1 -runs=100000 {}", programs.join(target).display(), file.display());
        println!("  keep: cp … fuzz/corpus/{target}/, which `cargo test -p tracer-daemon --test it fuzz` replays");
    }
    println!("{} targets, {} s each, {} findings", chosen.len(), options.seconds, findings.len());
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fuzz(folder: &Path, program: &Path, target: &str, seconds: u32) -> Result<()> {
    // libFuzzer writes to the first folder and reads all of them.
    let grown = folder.join("target/corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    for made in [&grown, &artifacts] {
        fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let options = [
        format!("-max_total_time={seconds}"),
        format!("-timeout={TIMEOUT_S}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        format!("-artifact_prefix={}/", artifacts.display()),
        "-print_final_stats=1".to_owned(),
    ];
    command::run(Command::new(program).args(options).arg(grown).arg(folder.join("corpus").join(target)))
}

/// The names of the programs that a manifest lists.
fn targets(manifest: &str) -> Vec<String> {
    let paths = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/"));
    paths.filter_map(|path| path.strip_suffix(".rs\"")).map(str::to_owned).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Named, so that the flags do not reach build scripts, which would not link with them.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = command::capture(Command::new(rustc).arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say for which machine it compiles")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::targets;

    #[test]
    fn targets_are_the_programs_of_the_manifest() {
        let manifest = "[[bin]]\nname = \"a\"\npath = \"fuzz_targets/a.rs\"\n[lib]\npath = \"src/lib.rs\"\n";
        assert_eq!(targets(manifest), ["a"]);
    }
}
