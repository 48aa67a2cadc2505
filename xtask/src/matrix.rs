//! `cargo xtask matrix`: all cells of the fixture matrix (every version of Go times every way to build), which takes hours the
//! first time and minutes once all programs are built. The cells are tests of tracer-daemon
//! (`tests/it/matrix/`); each is written to `docs/results/fixtures.json` when it is done.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, setup, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run every n-th cell only, beginning with the i-th: several machines, or several evenings
    #[arg(long, value_name = "I/N", default_value = "1/1")]
    shard: String,
    /// Leave out cells that were right on this commit
    #[arg(long)]
    resume: bool,
    /// Run the cells whose name holds this, such as `go1.27.3` or `PGO`
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if let Some(missing) = setup::basic(root).into_iter().next() {
        return Err(missing);
    }
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(root).args(["test", "--package", "tracer-daemon", "--test", "it", "--"]);
    cargo.args(["--ignored", "--exact", "matrix::all_cells", "--nocapture"]);
    cargo.env("LEAKLINE_MATRIX_SHARD", &options.shard).env("LEAKLINE_MATRIX_ONLY", &options.only);
    if options.resume {
        cargo.env("LEAKLINE_MATRIX_RESUME", "1");
    }
    if let Ok(go) = setup::go_command(root) {
        cargo.env(setup::GO_VARIABLE, go);
    }
    command::run(&mut cargo).context("some cells are wrong; `cargo xtask matrix --only CELL` runs one again")
}
