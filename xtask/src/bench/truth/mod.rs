//! `cargo xtask bench survival` and `bench shares`: what windows say of a program that says itself what it allocates and keeps
//! (`tests/programs/knownlines`), in many short runs.
//!
//! Here is what both share: the program is built and run with the real leakline attached, and each run is written down when it is over. What is
//! compared, and what must come out, say `survival.rs` and `shares.rs`.

pub(crate) mod shares;
pub(crate) mod survival;
mod told;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use self::told::Done;
use super::stats;
use crate::reported::{place, sites, window};
use crate::results::{Recorded, Results};
use crate::shard::{self, Shard};
use crate::source_marks::Marks;
use crate::watch::{Look, Target};
use crate::{build_leakline, command, setup};

/// Where the program lies, relative to the workspace.
const PROGRAMS: &str = "tracer-daemon/tests/programs";
const PROGRAM: &str = "knownlines";
/// Releases that the runs take in turn.
const RELEASES: [&str; 2] = ["1.22.12", "1.27.3"];
/// The program tells every 50 ms; somewhat longer.
const TELLS_EVERY: Duration = Duration::from_millis(250);
/// A look takes at most so much longer than asked.
const LOOK_MOST: Duration = Duration::from_secs(90);
/// Of fewer runs nothing is claimed.
const RUNS_MIN: usize = 5;

/// Options that both have.
#[derive(Debug, clap::Args)]
pub(crate) struct TruthArgs {
    /// How much of its CPU time leakline may cost the program [default: 1% of survival, 5% of shares]
    #[arg(long, value_name = "PERCENT")]
    max_overhead: Option<String>,
    /// Go releases to build the program with, taken in turn; may be given several times [default: 1.22.12, 1.27.3]
    #[arg(long, value_name = "RELEASE")]
    go: Vec<String>,
    /// Run every n-th cell only, beginning with the i-th
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = shard::parse)]
    shard: Shard,
    /// Leave out runs that are there of this commit
    #[arg(long)]
    resume: bool,
    /// Use this leakline instead of building one
    #[arg(long, value_name = "FILE")]
    leakline: Option<PathBuf>,
}

impl TruthArgs {
    /// The release of a run, by its number.
    fn release(&self, run: u32) -> &str {
        let number = usize::try_from(run).unwrap_or_default();
        match self.go.len() {
            0 => RELEASES[number % RELEASES.len()],
            releases => &self.go[number % releases],
        }
    }
}

/// One run that is to be made.
#[derive(Clone, Debug)]
struct Planned {
    /// Of the cell.
    name: String,
    release: String,
    /// Of the program.
    arguments: Vec<String>,
    /// How old the program is when it is looked at first.
    warmup: Duration,
    /// Whether it begins anew; else the next run looks at the same process where program and arguments are the same.
    is_fresh: bool,
    /// For how long it is looked at.
    seconds: u64,
}

/// What was seen in one run.
#[derive(Debug)]
struct Seen {
    /// leakline's last document.
    document: Value,
    /// What the program did in its window.
    done: Done,
    self_cpu_ratio: f64,
}

/// Where runs happen.
struct Runs<'run> {
    args: &'run TruthArgs,
    max_overhead: String,
    leakline: PathBuf,
    programs: BTreeMap<String, PathBuf>,
    folder: PathBuf,
    marks: Marks,
}

impl<'run> Runs<'run> {
    /// Builds what is run. `max_overhead`: where the user has said nothing.
    fn new(root: &Path, args: &'run TruthArgs, planned: &[Planned], max_overhead: &str) -> Result<Self> {
        let folder = root.join("target/bench").join(PROGRAM);
        fs::create_dir_all(&folder)?;
        let sources = root.join(PROGRAMS);
        let mut programs = BTreeMap::new();
        for release in planned.iter().map(|planned| &planned.release) {
            if programs.contains_key(release) {
                continue;
            }
            let program = folder.join(format!("{PROGRAM}-{release}"));
            let mut go = Command::new(setup::go_command(root)?);
            go.current_dir(sources.join(PROGRAM)).env("GOTOOLCHAIN", format!("go{release}")).env("CGO_ENABLED", "0");
            command::capture(go.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg("."))?;
            programs.insert(release.clone(), program);
        }
        let leakline = args.leakline.clone().map_or_else(|| build_leakline(root), Ok)?;
        let max_overhead = args.max_overhead.clone().unwrap_or_else(|| max_overhead.to_owned());
        Ok(Self { args, max_overhead, leakline, programs, folder, marks: Marks::read(&sources, PROGRAM)? })
    }

    /// Makes the runs one after the other, and writes each down as `cell` makes it.
    fn make<Cell: Recorded>(
        &self,
        results: &Results<Cell>,
        planned: &[Planned],
        cell: impl Fn(&Planned, Result<Seen>) -> Cell,
    ) -> Result<()> {
        let mut rest = Vec::new();
        for planned in planned {
            if !(self.args.resume && results.is_done(&planned.name)?) {
                rest.push(planned);
            }
        }
        let same = |one: &&Planned, next: &&Planned| {
            !next.is_fresh && one.release == next.release && one.arguments == next.arguments
        };
        for looks in rest.chunk_by(same) {
            let target = self.start(looks);
            for planned in looks {
                eprintln!("bench: {} …", planned.name);
                let seen =
                    target.as_ref().map_err(|error| anyhow!("{error:#}")).and_then(|target| self.look(target, planned));
                results.put(&planned.name, cell(planned, seen))?;
            }
        }
        Ok(())
    }

    /// Starts the program for some runs, and waits until it is as old as it must be.
    fn start(&self, looks: &[&Planned]) -> Result<Target> {
        let first = looks.first().context("no runs")?;
        let length = looks.iter().map(|planned| Duration::from_secs(planned.seconds) + LOOK_MOST).sum::<Duration>();
        let program = &self.programs[&first.release];
        let target = Target::start(program, &first.arguments, first.warmup + length, &self.files(first))?;
        thread::sleep(first.warmup);
        Ok(target)
    }

    fn look(&self, target: &Target, planned: &Planned) -> Result<Seen> {
        let look = Look {
            leakline: &self.leakline,
            seconds: planned.seconds,
            arguments: ["--evidence", "bursts", "--max-overhead", &self.max_overhead].map(Into::into).to_vec(),
            files: &self.files(planned),
            records: false,
        };
        let mut said = target.look(&look)?;
        thread::sleep(TELLS_EVERY);
        let document = said.documents.pop().context("leakline printed nothing")?;
        let (from_ms, to_ms) = window(&document);
        let done = told::within(&target.told()?, from_ms, to_ms)?;
        Ok(Seen { document, done, self_cpu_ratio: said.self_cpu_ratio })
    }

    fn files(&self, planned: &Planned) -> PathBuf {
        self.folder.join(planned.name.replace([' ', '/', ','], "-"))
    }

    /// The site of a marked line. None: it is not in the document.
    fn site<'seen>(&self, seen: &'seen Seen, line: &str) -> Option<&'seen Value> {
        let places = self.marks.sites.get(line)?;
        sites(&seen.document).find(|site| {
            let (_, file, line) = place(site);
            places.iter().any(|place| place.is(file, line))
        })
    }
}

/// Prints what all runs say: a table and sentences. Where something is not as it must be, that is the error.
fn say<const COLUMNS: usize>(
    heading: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
    sentences: &[String],
    problems: &[String],
) -> Result<()> {
    println!("{}", heading.join(" | "));
    for row in rows {
        println!("{}", row.join(" | "));
    }
    println!("{}", sentences.join("\n"));
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// The cells of a file that this commit has made.
fn made_now<Cell: Recorded>(results: &Results<Cell>) -> Result<Vec<Cell>> {
    Ok(results.read()?.into_values().filter(|cell| cell.commit() == results.commit).collect())
}

/// How a number that was said so often compares to its truth.
#[derive(Clone, Debug, Default)]
struct Compared {
    /// Truth and what was said of it.
    pairs: Vec<(f64, crate::reported::Rate)>,
    /// Runs in which nothing was said.
    unsaid: usize,
}

impl Compared {
    fn add(&mut self, truth: f64, said: Option<crate::reported::Rate>) {
        match said {
            Some(said) => self.pairs.push((truth, said)),
            None => self.unsaid += 1,
        }
    }

    fn runs(&self) -> usize {
        self.pairs.len() + self.unsaid
    }

    fn median_truth(&self) -> Option<f64> {
        median(self.pairs.iter().map(|(truth, _)| *truth))
    }

    fn median_said(&self) -> Option<f64> {
        median(self.pairs.iter().map(|(_, said)| said.value))
    }

    /// Without sign, over the truth; of those where this is nothing, what was said itself.
    fn errors(&self) -> impl Iterator<Item = f64> + '_ {
        self.pairs.iter().map(|(truth, said)| {
            let off = (said.value - truth).abs();
            if *truth > 0.0 { off / truth } else { off }
        })
    }

    fn covered(&self) -> usize {
        self.pairs.iter().filter(|(truth, said)| said.covers(*truth)).count()
    }

    /// Of what was said; None where nothing was.
    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    fn coverage(&self) -> Option<f64> {
        (!self.pairs.is_empty()).then(|| self.covered() as f64 / self.pairs.len() as f64)
    }

    /// All of both.
    fn plus(mut self, other: &Self) -> Self {
        self.pairs.extend(&other.pairs);
        self.unsaid += other.unsaid;
        self
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    stats::median(&mut values.collect::<Vec<_>>())
}

/// A share in percent; `?` where there is none.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "?".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reported::Rate;

    #[test]
    fn what_was_not_said_is_counted_and_covers_nothing() {
        let mut compared = Compared::default();
        let said = |value| Some(Rate { value, low: value - 0.1, high: Some(value + 0.1) });
        compared.add(1.0, said(1.05));
        compared.add(1.0, said(0.7));
        compared.add(1.0, None);
        assert_eq!((compared.runs(), compared.unsaid, compared.covered()), (3, 1, 1));
        assert!((median(compared.errors()).unwrap() - 0.175).abs() < 1e-9);
        assert_eq!(compared.coverage(), Some(0.5));
        let mut nothing = Compared::default();
        nothing.add(0.0, said(0.02));
        assert!((nothing.errors().sum::<f64>() - 0.02).abs() < 1e-12);
        assert_eq!(compared.plus(&nothing).runs(), 4);
    }
}
