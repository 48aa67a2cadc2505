//! `cargo xtask marks`: whether mark bits that are read from outside tell who lives, for every version of Go, way to build
//! and collector. The cells are tests of tracer-daemon (`tests/it/marks/`); each is written to `docs/results/marks.json` when it is
//! done.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, setup, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run the cells whose name holds this, such as `go1.27.3` or `PIE`
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Collections at the program's own pace
    #[arg(long, default_value_t = 200)]
    cycles: u32,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(root).args(["test", "--package", "tracer-daemon", "--test", "it", "--"]);
    cargo.args(["--ignored", "--exact", "marks::all_cells", "--nocapture"]);
    cargo.env("LEAKLINE_MARKS_ONLY", &options.only).env("LEAKLINE_MARKS_CYCLES", options.cycles.to_string());
    cargo.env(setup::GO_VARIABLE, setup::go_command(root)?);
    command::run(&mut cargo).context("some cells are wrong; `cargo xtask marks --only CELL` runs one again")
}
