//! stub
use std::path::Path; use std::process::ExitCode; use anyhow::Result;
#[derive(Debug, clap::Args)]
pub(crate) struct Options { #[arg(long)] quick: bool }
pub(crate) fn run(_root: &Path, _options: &Options) -> Result<ExitCode> { Ok(ExitCode::SUCCESS) }
