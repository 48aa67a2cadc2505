//! What a check leaves behind: the report, the baseline, the files for a pipeline.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;

use super::{CheckError, Measured, Options};
use crate::cli::OutputFormat;
use crate::export::check::{self, CheckReport};
use crate::export::{baseline, text, untrusted};
use crate::model::gate::{Baseline, Outcome, Wanted, judge, measures};
use crate::pipeline::stdout;

/// The baseline in a file.
///
/// # Errors
/// Where it cannot be read, or is none.
pub(super) fn read_baseline(file: &Path) -> Result<Baseline, CheckError> {
    let shown = || untrusted::path(&file.display().to_string()).into_owned();
    let unread = |source| CheckError::File { doing: "read", file: shown(), source };
    let mut text = String::new();
    let most = baseline::BYTES_MAX + 1;
    File::open(file).and_then(|file| file.take(most).read_to_string(&mut text)).map_err(unread)?;
    if u64::try_from(text.len()).is_ok_and(|length| length >= most) {
        return Err(unread(io::Error::new(io::ErrorKind::FileTooLarge, "larger than any baseline")));
    }
    baseline::parse(&text).map_err(|source| CheckError::Baseline { file: shown(), source })
}

/// Judges, prints, writes. True: the check fails.
pub(super) fn report(options: &Options, before: Option<&Baseline>, measured: &Measured) -> anyhow::Result<bool> {
    let snapshot = &measured.snapshot;
    let module = measured.facts.main_module.as_deref();
    let wanted = Wanted { window_s: options.duration.as_secs_f64(), ended: measured.process.ended };
    let judgement = judge(snapshot, before, module, &options.rules, &wanted);
    let report = CheckReport {
        process: &measured.process,
        snapshot,
        judgement: &judgement,
        rules: &options.rules,
        strict: options.strict,
        baseline: before,
        command: &options.command_line(),
        started_unix_ms: measured.started_unix_ms,
        refusals: &measured.refusals,
    };
    if judgement.outcome == Outcome::Unknown && !options.strict {
        tracing::warn!("it cannot be said whether it leaks; that is no failure without --strict");
    }
    // First of all what was found: a file that cannot be written takes nothing of that away.
    stdout::print(&match options.output {
        OutputFormat::Text => text::check(&report, stdout::style()),
        OutputFormat::Json => check::line(&report).context("cannot write the report as JSON")?,
    })?;
    let fails = report.fails();
    match write_files(options, &report, measured) {
        Err(error) if fails => {
            tracing::error!("{error:#}; the check fails all the same");
            Ok(true)
        }
        outcome => outcome.map(|()| fails),
    }
}

/// That a file cannot be written is said before the time is spent.
///
/// # Errors
/// Where its folder is not there, or it is a folder itself.
pub(super) fn can_be_written(options: &Options) -> Result<(), CheckError> {
    let files = [&options.write_baseline, &options.junit, &options.markdown, &options.command_output];
    for file in files.into_iter().flatten() {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let refused = match (folder.is_dir(), file.is_dir()) {
            (true, false) => continue,
            (true, true) => io::ErrorKind::IsADirectory,
            (false, _) => io::ErrorKind::NotFound,
        };
        return written(file, Err(refused.into()));
    }
    Ok(())
}

/// Each file, also where another one cannot be written; the first error.
fn write_files(options: &Options, report: &CheckReport<'_>, measured: &Measured) -> anyhow::Result<()> {
    let baseline = options.write_baseline.as_deref().map_or(Ok(()), |file| write_baseline(file, measured));
    let junit = options.junit.as_deref().map_or(Ok(()), |file| written(file, fs::write(file, check::junit(report))));
    let markdown = options.markdown.as_deref().map_or(Ok(()), |file| {
        // The file of a pipeline's summary may hold that of the steps before.
        let appended = OpenOptions::new().create(true).append(true).open(file);
        written(file, appended.and_then(|mut file| file.write_all(check::markdown(report).as_bytes())))
    });
    baseline?;
    junit?;
    Ok(markdown?)
}

fn write_baseline(file: &Path, measured: &Measured) -> anyhow::Result<()> {
    let snapshot = &measured.snapshot;
    let assessment = snapshot.assessment.as_deref().filter(|assessment| assessment.total.rate().is_some());
    let Some(assessment) = assessment else {
        tracing::warn!(file = %file.display(), "no baseline was written: too little was seen");
        return Ok(());
    };
    let baseline = Baseline {
        module: measured.facts.main_module.clone(),
        version: measured.facts.main_version.clone(),
        go_version: measured.facts.go_version.text.clone(),
        window_s: assessment.window_s,
        cycles: u64::try_from(assessment.cycles).unwrap_or(u64::MAX),
        evidence: snapshot.evidence.iter().map(|evidence| evidence.name().to_owned()).collect(),
        measures: measures(snapshot),
    };
    let text = baseline::text(&baseline).context("cannot write the baseline as JSON")?;
    written(file, fs::write(file, text))?;
    tracing::info!(file = %file.display(), "wrote the baseline");
    Ok(())
}

fn written(file: &Path, outcome: io::Result<()>) -> Result<(), CheckError> {
    let shown = || untrusted::path(&file.display().to_string()).into_owned();
    outcome.map_err(|source| CheckError::File { doing: "write", file: shown(), source })
}
