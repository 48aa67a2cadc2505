//! What reading a process's books costs leakline: runs `tracer-daemon/examples/books_cost.rs`, which cannot be part of xtask, on
//! `tests/programs/books` at rest, under load and with spans all over a large heap; and on fifty of them at once.
//!
//! Bounds are printed beside the numbers and decide the exit status: they are of CPU time, and a loaded machine adds to it
//! only what its caches lose.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stats::Estimate;
use crate::{command, setup};

/// Thread CPU time of a read without any span, and of each span that the processors' caches hold.
const BOUND_US: f64 = 20.0;
const BOUND_US_PER_SPAN: f64 = 0.3;
/// Processes at once, and the share of one core that reading all of them ten times a second may take.
const PROCESSES: usize = 50;
const SHARE_MAX: f64 = 0.05;

/// Options of `cargo xtask bench books`.
#[derive(Debug, clap::Args)]
pub(crate) struct BooksArgs {
    /// Reads of which the median is taken
    #[arg(long, default_value_t = 1000)]
    reads: u32,
    /// Go releases to build the program with
    #[arg(long = "go", value_name = "RELEASE", default_values_t = ["1.19.13".to_owned(), "1.26.6".to_owned()])]
    go_releases: Vec<String>,
    /// How long the fifty are read, seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// A running program; killed when dropped.
struct Program(Child);

impl Program {
    fn start(path: &Path, arguments: &[&str], processors: u32) -> Result<Self> {
        let mut child = Command::new(path)
            .args(arguments)
            .env("GOMAXPROCS", processors.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", path.display()))?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("no stdout")?).read_line(&mut line)?;
        ensure!(line.starts_with("ready"), "{} says {line:?}", path.display());
        Ok(Self(child))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Builds the example in release mode and the program with each release, and prints the tables.
pub(crate) fn run(root: &Path, args: &BooksArgs) -> Result<()> {
    let example = crate::build_example(root, "books_cost")?;
    let folder = root.join("target/bench/books");
    fs::create_dir_all(&folder)?;
    let mut is_above = false;
    println!(
        "program | Go | processors | cached spans | CPU us, median (95 % interval) | bound | slack, median and most"
    );
    for release in &args.go_releases {
        let program = build(root, &folder, release)?;
        for (arguments, processors) in
            [(&[][..], 2), (&["busy"], 2), (&["spread", "2000"], 2), (&["spread", "2000"], 8), (&["spread", "500"], 32)]
        {
            let target = Program::start(&program, arguments, processors)?;
            // Heaps grow for a while.
            std::thread::sleep(std::time::Duration::from_secs(2));
            let reads = args.reads.to_string();
            let measured = measure(Command::new(&example).args(["cost", &target.pid(), &reads]))?;
            let values: Vec<f64> = measured["cpu_ns"]
                .as_array()
                .context("no cpu_ns")?
                .iter()
                .filter_map(|value| Some(value.as_f64()? / 1e3))
                .collect();
            let cpu = Estimate::of(&values).context("no values")?;
            let spans = measured["spans"].as_f64().context("no spans")?;
            let bound = BOUND_US + BOUND_US_PER_SPAN * spans;
            is_above |= cpu.median > bound;
            let name = if arguments.is_empty() { "at rest".to_owned() } else { arguments.join(" ") };
            println!(
                "{name} | {release} | {} | {spans} | {:.1} ({:.1} to {:.1}) | {bound:.1} | {} and {}",
                measured["processors"], cpu.median, cpu.low, cpu.high, measured["slack_median"], measured["slack_max"],
            );
        }
    }
    let release = args.go_releases.last().context("no release")?;
    let program = build(root, &folder, release)?;
    let targets =
        (0..PROCESSES).map(|_| Program::start(&program, &["spread", "200"], 2)).collect::<Result<Vec<Program>>>()?;
    let measured = measure(
        Command::new(&example).args(["share", &args.seconds.to_string()]).args(targets.iter().map(Program::pid)),
    )?;
    let number = |field: &str| measured[field].as_f64().with_context(|| format!("no {field}"));
    let share = number("cpu_ns")? / number("wall_ns")?;
    println!(
        "{PROCESSES} processes, Go {release}, 2 processors each, ten times a second: {} reads ({} refused), {:.2} % of one core; \
         bound {:.0} %",
        measured["reads"],
        measured["refused"],
        100.0 * share,
        100.0 * SHARE_MAX
    );
    ensure!(!is_above && share <= SHARE_MAX, "above the bound");
    Ok(())
}

fn build(root: &Path, folder: &Path, release: &str) -> Result<PathBuf> {
    let path = folder.join(format!("books-go{release}"));
    let mut go = Command::new(setup::go_command(root)?);
    go.current_dir(root.join("tracer-daemon/tests/programs/books"))
        .env("GOTOOLCHAIN", format!("go{release}"))
        .env("CGO_ENABLED", "0");
    command::run(go.args(["build", "-ldflags=-s -w", "-o"]).arg(&path).arg("."))?;
    Ok(path)
}

fn measure(example: &mut Command) -> Result<Value> {
    Ok(serde_json::from_str(&command::capture(example)?)?)
}
