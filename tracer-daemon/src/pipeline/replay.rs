//! `leakline replay`: the reports of a recording, made again.
//!
//! Needs nothing but the file: no target, no permission, no clock. A recording that was cut off gives a report of what is there.

use std::{io::BufReader, path::Path};

use anyhow::Context as _;

use super::{attach, stdout};
use crate::{
    cli::OutputFormat,
    discover::{Links, open_regular},
    export::untrusted,
    recording::{Ending, Replay, Skipped},
};

/// Prints what was printed when the file was written.
pub fn replay(file: &Path, output: OutputFormat) -> anyhow::Result<()> {
    let shown = untrusted::path(&file.display().to_string()).into_owned();
    let opened = open_regular(file, Links::Follow).with_context(|| format!("cannot open {shown}"))?;
    let mut replay = Replay::new(BufReader::new(opened)).with_context(|| format!("cannot read {shown}"))?;
    let mut reports = 0_usize;
    while let Some(report) = replay.next_report() {
        reports += 1;
        if attach::print(&report, output)? == stdout::Reader::Gone {
            return Ok(());
        }
    }
    match replay.reader().ending() {
        Ending::Complete => {}
        Ending::Cut => tracing::warn!("{shown} was not ended by its writer; this is what it holds"),
        Ending::Damaged(error) => tracing::warn!(%error, "{shown} is damaged; this is what it holds before that"),
    }
    let skipped = replay.reader().skipped();
    if skipped != Skipped::default() {
        let (unknown, not_understood) = (skipped.unknown, skipped.not_understood);
        tracing::warn!(
            unknown,
            not_understood,
            "a later leakline wrote {shown}; what this one does not know is left out"
        );
    }
    anyhow::ensure!(reports > 0, "{shown} has no look at a process in it");
    Ok(())
}
