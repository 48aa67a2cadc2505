//! `cargo xtask zoo`: whether the verdicts are true. Runs programs that say exactly what they leak, watches them with the real
//! leakline, and compares.
//!
//! The programs are `tracer-daemon/tests/programs/zoo/`; `cases.rs` says on which versions of Go each runs. Each cell is written to
//! `docs/results/zoo.json` when it is done. Only here is a time asserted: names must come when they are due.

mod cases;
mod cell;
mod judge;
mod results;
mod run;
mod truth;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::{Args as _, FromArgMatches as _};

use cases::{CASES, Case, Trait};
use cell::{Cell, Evidence, HEADING};
use results::Sum;
use run::{Place, Watch};
use truth::Truth;

use crate::reported::window_s;
use crate::shard::{self, Shard};
use crate::source_marks::Marks;
use crate::{command, results::Results, workspace};

/// The programs, relative to the workspace.
const ZOO: &str = "tracer-daemon/tests/programs/zoo";
/// How long a case is watched by `--quick`: long enough for `growing` to be an accusation.
const QUICK_SECONDS: u64 = 130;

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Options {
    /// Telling cases with a sampler and without one, on one version of Go each, at most 15 minutes; what is found is not written down, and how late it was
    /// found is told and not judged
    #[arg(long)]
    quick: bool,
    /// Run every n-th cell only, beginning with the i-th: several machines, or several evenings
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = shard::parse)]
    shard: Shard,
    /// Leave out cells that were right on this commit
    #[arg(long)]
    resume: bool,
    /// Only cases with this name; may be given several times
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// Only cells of this version of Go, such as `1.26`, or all cases on it where it is a release, such as `1.25.5`
    #[arg(long, value_name = "VERSION")]
    go: Option<String>,
    /// Only these kinds of evidence; may be given several times [default: all]
    #[arg(long, value_enum)]
    evidence: Vec<Evidence>,
    /// Cases that use little CPU run so many at a time
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// Keep recordings of what leakline sees, for `--again`
    #[arg(long)]
    record: bool,
    /// Run nothing: judge the recordings that `--record` has kept. Nothing is written down
    #[arg(long, conflicts_with = "record")]
    again: bool,
    /// Use this leakline instead of building one
    #[arg(long, value_name = "FILE")]
    leakline: Option<std::path::PathBuf>,
}

impl Options {
    fn how(&self) -> Watch {
        match (self.again, self.record) {
            (true, _) => Watch::Again,
            (_, true) => Watch::Record,
            _ => Watch::Attach,
        }
    }
}

/// One case on one version of Go with one kind of evidence.
#[derive(Clone, Debug)]
struct Planned {
    case: Case,
    release: String,
    evidence: Evidence,
}

impl Planned {
    fn name(&self) -> String {
        format!("{} {} {}", self.case.name, self.release, self.evidence.name())
    }
}

/// All cells that the options ask for. With a sampler, and without one, each case runs on two versions, with what `auto` chooses; with books alone
/// on the first of them; some run with an adopted sampler on the second.
fn planned(options: &Options) -> Vec<Planned> {
    let mut planned = Vec::new();
    for case in CASES.iter().filter(|case| !options.quick || case.is(Trait::Quick)) {
        let [first, second] = case.releases;
        let mut cells = vec![(first, Evidence::Sampler)];
        if options.quick {
            cells.push((second, Evidence::Bursts));
        } else {
            cells.extend([(second, Evidence::Sampler), (first, Evidence::None)]);
            cells.extend([(first, Evidence::Bursts), (second, Evidence::Bursts)]);
            cells.extend(case.is(Trait::Adopted).then_some((second, Evidence::Adopted)));
        }
        let of = |(release, evidence): (&str, Evidence)| Planned { case: *case, release: release.to_owned(), evidence };
        planned.extend(cells.into_iter().map(of));
    }
    planned.retain(|cell| options.case.is_empty() || options.case.iter().any(|name| name == cell.case.name));
    planned.retain(|cell| options.evidence.is_empty() || options.evidence.contains(&cell.evidence));
    if let Some(version) = &options.go {
        let is_release = version.split('.').count() == 3;
        if is_release {
            for cell in &mut planned {
                cell.release.clone_from(version);
            }
            planned.dedup_by_key(|cell| cell.name());
        } else {
            planned.retain(|cell| cell.release.starts_with(&format!("{version}.")));
        }
    }
    options.shard.of(planned)
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    let results = Results::new(root, "zoo", "xtask/src/zoo")?;
    let mut cells = planned(options);
    if options.resume {
        let mut rest = Vec::new();
        for cell in cells {
            if !results.is_done(&cell.name())? {
                rest.push(cell);
            }
        }
        cells = rest;
    }
    let place = Place::new(root, options.leakline.clone().map_or_else(|| build_leakline(root), Ok)?)?;
    if options.again {
        let all = cells.len();
        cells.retain(|cell| run::is_recorded(&place.program(&cell.case, &cell.release, cell.evidence), cell.evidence));
        eprintln!("zoo: {} of {all} cells have no recording", all - cells.len());
    }
    eprintln!("zoo: {} cells on commit {}", cells.len(), results.commit);
    println!("{HEADING}");
    let (next, alone, sum) = (AtomicUsize::new(0), RwLock::new(()), Mutex::new(Sum::default()));
    let work = || -> Result<()> {
        while let Some(planned) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = planned.name();
            let program = match options.how() {
                Watch::Again => place.program(&planned.case, &planned.release, planned.evidence),
                Watch::Attach | Watch::Record => place.build(&planned.case, &planned.release, planned.evidence)?,
            };
            let cell = {
                // A heavy case waits for the others and lets none begin. Only the order rests on it, so a poisoned lock is none.
                let (_heavy, _light);
                if planned.case.is(Trait::Heavy) {
                    _heavy = alone.write().unwrap_or_else(PoisonError::into_inner);
                } else {
                    _light = alone.read().unwrap_or_else(PoisonError::into_inner);
                }
                eprintln!("zoo: {name} …");
                look(&place, planned, &program, options, &results.commit)
            };
            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(&cell, planned.evidence != Evidence::None);
            for row in cell.rows(&name) {
                println!("{row}");
            }
            if !options.quick && !options.again {
                results.put(&name, cell)?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let ends = workers.into_iter().map(|worker| worker.join().ok().context("a worker panicked")?);
        ends.collect::<Result<Vec<()>>>()
    })?;
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{}", sum.text());
    let problems = sum.problems();
    for problem in &problems {
        println!("WRONG: {problem}");
    }
    Ok(if sum.has_wrong() || !problems.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The quick part, as the tests run it.
pub(crate) fn quick(root: &Path) -> Result<()> {
    let arguments = Options::augment_args(clap::Command::new("zoo").no_binary_name(true)).get_matches_from(["--quick"]);
    let options = Options::from_arg_matches(&arguments)?;
    match run(root, &options)? {
        ExitCode::SUCCESS => Ok(()),
        _ => anyhow::bail!("see above"),
    }
}

/// Runs one cell. What keeps it from being run is a failure of the cell.
fn look(place: &Place, planned: &Planned, program: &Path, options: &Options, commit: &str) -> Cell {
    let mut cell = Cell {
        commit: commit.to_owned(),
        window_s: 0.0,
        collections: 0,
        findings: Vec::new(),
        accused: Vec::new(),
        failures: Vec::new(),
        target_ratio: None,
        self_cpu_ratio: 0.0,
    };
    let seconds = if options.quick { QUICK_SECONDS } else { planned.case.seconds };
    if let Err(error) = watch(place, planned, program, seconds, options.how(), &mut cell) {
        cell.failures.push(format!("{error:#}"));
    }
    let late: Vec<String> = cell.findings.iter().filter_map(judge::late).collect();
    if options.quick {
        for late in &late {
            eprintln!("zoo: {}: {late}", planned.name());
        }
    } else {
        cell.failures.extend(late);
    }
    cell
}

#[expect(clippy::cast_precision_loss, reason = "a few minutes")]
fn watch(place: &Place, planned: &Planned, program: &Path, seconds: u64, how: Watch, cell: &mut Cell) -> Result<()> {
    let (truth, said) = place.watch(program, planned.evidence, seconds, how)?;
    let truth = Truth::parse(&truth, &Marks::read(&place.zoo, &planned.case.folder())?)?;
    let judgement = judge::judge(planned.evidence, seconds, &truth, &said.documents);
    cell.findings = judgement.findings;
    cell.accused = judgement.accused;
    cell.failures = judgement.failures;
    cell.self_cpu_ratio = said.self_cpu_ratio;
    let last = said.documents.last().context("leakline printed nothing")?;
    cell.window_s = window_s(last);
    cell.collections = last["heap"]["gc_cycles"].as_u64().unwrap_or_default();
    cell.target_ratio = last["cost"]["target_ratio"].as_f64();
    ensure!(cell.window_s > seconds as f64 - 5.0, "leakline watched for {:.0} of {seconds} s only", cell.window_s);
    Ok(())
}

/// As tests build it: the verdict is the same, and it is there after any test run.
fn build_leakline(root: &Path) -> Result<std::path::PathBuf> {
    let mut build = std::process::Command::new(workspace::cargo());
    command::run(build.current_dir(root).args(["build", "--package", "tracer-daemon"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    Ok(target.join("debug/leakline"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(arguments: &[&str]) -> Vec<String> {
        let command = Options::augment_args(clap::Command::new("zoo").no_binary_name(true));
        let options = Options::from_arg_matches(&command.get_matches_from(arguments)).unwrap();
        planned(&options).iter().map(Planned::name).collect()
    }

    #[test]
    fn all_shards_together_are_all_cells_once() {
        let all = names(&[]);
        let shards: Vec<String> = ["1/3", "2/3", "3/3"].iter().flat_map(|share| names(&["--shard", share])).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>(), shards.iter().collect());
        assert_eq!(all.len(), shards.len());
        assert_eq!(all.len(), CASES.len() * 5 + 8);
    }

    #[test]
    fn cells_are_chosen_by_case_evidence_and_version() {
        assert_eq!(names(&["--quick"]).len(), 16);
        let lru = names(&["--case", "lru", "--evidence", "sampler"]);
        assert_eq!(lru.len(), 2);
        assert_eq!(names(&["--case", "lru", "--evidence", "sampler", "--go", "1.25.5"]), ["lru 1.25.5 sampler"]);
        let of_release = names(&["--case", "zap", "--go", "1.25.5"]);
        assert_eq!(of_release, ["zap 1.25.5 sampler", "zap 1.25.5 none", "zap 1.25.5 bursts"]);
        assert!(names(&["--go", "1.26"]).iter().all(|name| name.contains(" 1.26.6 ")));
    }
}
