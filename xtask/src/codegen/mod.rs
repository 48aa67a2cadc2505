//! `cargo xtask codegen`: sources that are made by a program and committed.
//!
//! Each kind says how to make it and how to prove, with `--check`, that the committed one is still what would be made.

pub(crate) mod layouts;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Codegen {
    /// Offsets in the structures of Go's runtime, from the DWARF of programs built by each release
    Layouts(layouts::Options),
}

pub(crate) fn run(root: &Path, codegen: &Codegen) -> Result<ExitCode> {
    match codegen {
        Codegen::Layouts(options) => layouts::run(root, options),
    }
}
