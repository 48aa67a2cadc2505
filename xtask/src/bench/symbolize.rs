//! What naming an address costs the daemon: runs `tracer-daemon/examples/symbolize_cost.rs`, which cannot be part of
//! xtask, on the compiler of a Go release, a stripped binary of some 40,000 functions that every toolchain brings along.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, setup, workspace};

/// Arguments of `cargo xtask bench symbolize`.
#[derive(Debug, clap::Args)]
pub(crate) struct SymbolizeArgs {
    /// Go binary whose addresses are named [default: the compiler of --go]
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Go release whose compiler is the binary
    #[arg(long, default_value = "1.26.6")]
    go: String,
}

/// Builds the example in release mode, runs it, prints its table.
pub(crate) fn run(root: &Path, args: &SymbolizeArgs) -> Result<()> {
    let binary = match &args.binary {
        // Before the folder changes.
        Some(binary) => binary.canonicalize().with_context(|| format!("find {}", binary.display()))?,
        None => compiler(root, &args.go)?,
    };
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(root).args(["run", "--quiet", "--release", "--package", "tracer-daemon"]);
    command::run(cargo.args(["--example", "symbolize_cost", "--"]).arg(binary))
}

fn compiler(root: &Path, release: &str) -> Result<PathBuf> {
    let mut go = Command::new(setup::go_command(root)?);
    // Not where a go.mod could ask for another toolchain.
    go.current_dir("/").env("GOTOOLCHAIN", format!("go{release}")).args(["env", "GOTOOLDIR"]);
    let folder = command::capture(&mut go)?;
    Ok(Path::new(folder.trim()).join("compile"))
}
