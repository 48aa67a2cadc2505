//! `leakline plan` for all running processes, or for all files below a folder: looks, plans, attaches nothing.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{own, stdout};
use crate::{
    cli::OutputFormat,
    discover::{Links, RunningExecutable, elf_files_below, open_regular, running_executables},
    export::{
        inventory::{self, Finding, Program, Row, Summary},
        plan::Planned,
        untrusted,
    },
    inspect::cache::FactsCache,
    plan::{ProbePlan, RarePoints},
};

/// How often the progress line is renewed.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What to look at.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All processes.
    Running,
    /// All files below a folder.
    Below(PathBuf),
}

/// How to show it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How to print.
    pub output: OutputFormat,
    /// Whether to list what is no Go program, too.
    pub verbose: bool,
}

enum Candidate {
    Running(RunningExecutable),
    File(PathBuf),
}

impl Candidate {
    fn path(&self) -> &Path {
        match self {
            Self::Running(executable) => &executable.path,
            Self::File(path) => path,
        }
    }

    fn pids(&self) -> &[u32] {
        match self {
            Self::Running(executable) => &executable.pids,
            Self::File(_) => &[],
        }
    }
}

/// Looks at everything in scope and prints it, sorted by path.
///
/// # Errors
/// Where the folder or /proc cannot be read, or where stdout cannot be written.
pub fn inventory(scope: &Scope, options: Options) -> anyhow::Result<()> {
    let cache = FactsCache::default();
    let mut progress = Progress::new();
    let (candidates, mut summary) = candidates(scope, &mut progress)?;
    let (total, mut rows) = (candidates.len(), Vec::new());
    for (index, candidate) in candidates.iter().enumerate() {
        progress.show(|| format!("inspecting {} of {total}, {} Go programs so far", index + 1, summary.programs));
        let Some((row, line)) = look_at(candidate, &cache)? else {
            let closed = candidate.pids().len() as u64;
            summary.closed_processes += closed;
            summary.processes = summary.processes.map(|processes| processes.saturating_sub(closed));
            continue;
        };
        summary.count(&row.finding);
        if !options.verbose && !row.finding.is_of_interest() {
            continue;
        }
        match options.output {
            OutputFormat::Text => rows.push(row),
            OutputFormat::Json => {
                progress.clear();
                if stdout::print(&line)? == stdout::Reader::Gone {
                    return Ok(());
                }
            }
        }
    }
    progress.clear();
    match options.output {
        OutputFormat::Text => {
            stdout::print(&inventory::text(&rows, &summary, stdout::style().width))?;
        }
        OutputFormat::Json => {
            for sentence in summary.lines() {
                // Whoever closed stderr does not want to know.
                let _unwritten = writeln!(io::stderr(), "leakline: {sentence}");
            }
        }
    }
    Ok(())
}

fn candidates(scope: &Scope, progress: &mut Progress) -> anyhow::Result<(Vec<Candidate>, Summary)> {
    let mut summary = Summary::default();
    match scope {
        Scope::Running => {
            let running = running_executables().context("cannot look through /proc")?;
            summary.processes = Some(running.processes);
            summary.closed_processes = running.not_allowed;
            Ok((running.executables.into_iter().map(Candidate::Running).collect(), summary))
        }
        Scope::Below(folder) => {
            let shown = untrusted::path(&folder.display().to_string()).into_owned();
            let found = elf_files_below(folder, &mut |seen| progress.show(|| format!("searching: {seen} entries")))
                .with_context(|| format!("cannot search {shown}"))?;
            summary.other_files = found.other_files;
            let mut say = |count: u64, what: &str| {
                if count > 0 {
                    summary.left_out.push(format!("{count} {what}"));
                }
            };
            say(found.unreadable_files, "files could not be opened");
            say(found.unreadable_folders, "folders could not be read");
            say(found.too_deep, "folders were not entered: too deep");
            say(found.made_up, "folders were not entered: the kernel makes up what is in them");
            say(found.too_many, "ELF files were not looked at: too many");
            if found.is_cut_short {
                summary.left_out.push("the search was ended: too many entries".to_owned());
            }
            Ok((found.elf.into_iter().map(Candidate::File).collect(), summary))
        }
    }
}

/// The row of a binary and its line of JSON. `None`: no process runs it any more.
fn look_at(candidate: &Candidate, cache: &FactsCache) -> anyhow::Result<Option<(Row, String)>> {
    let file = match candidate {
        Candidate::Running(executable) => match executable.open() {
            Some(file) => Ok(file),
            None => return Ok(None),
        },
        Candidate::File(path) => open_regular(path, Links::Refuse),
    };
    let path = candidate.path().display().to_string();
    let pids = candidate.pids().to_vec();
    let inspected = match file {
        Ok(file) => cache.inspect(file).map_err(|error| Finding::of_error(&error)),
        Err(source) => {
            let text = format!("cannot open it: {source}");
            Err(Finding::Unreadable(inventory::Reason::new("binary_unreadable", &text)))
        }
    };
    match inspected {
        Ok(facts) => {
            let (plan, rare) = (ProbePlan::exact(&facts), RarePoints::of(&facts));
            let planned = Planned { pid: None, pids: &pids, exe: &path, facts: &facts, plan: &plan, rare: &rare };
            let (finding, line) = (Finding::Program(Program::of(&planned)), planned.line()?);
            Ok(Some((Row { path, pids, finding }, line)))
        }
        Err(finding) => {
            let row = Row { path, pids, finding };
            let line = inventory::line_without_plan(&row)?.unwrap_or_default();
            Ok(Some((row, line)))
        }
    }
}

/// A line on a terminal's stderr that is written over; nothing where stderr is no terminal.
struct Progress {
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: None, is_terminal: io::stderr().is_terminal() }
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        if !self.is_terminal || self.shown.is_some_and(|shown| shown.elapsed() < PROGRESS_EVERY) {
            return;
        }
        self.shown = Some(own::now());
        // Progress that cannot be written is no reason to stop.
        let _unwritten = write!(io::stderr(), "\r\x1b[K{}", text());
    }

    fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _unwritten = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
