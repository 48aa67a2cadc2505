//! What looking at objects costs: `marks_cost PROGRAM LOOKS`, where the program is `tests/programs/marks`; prints a line of
//! JSON with the CPU time of this thread for each look at 1,000 objects.
//!
//! Counterpart: `cargo xtask bench marks`, which builds both and makes a table of it.
#![allow(clippy::print_stdout, reason = "a command-line tool talks to the program that runs it")]

mod own_cost;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{collections::BTreeMap, env};

use anyhow::{Context as _, Result, bail, ensure};
use tracer_daemon::addr::Avma;
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::read::marks::{Look, MarksReader, TrackedObject};

use self::own_cost::thread_cpu_ns;

const OBJECTS: usize = 1000;
/// Times that the program allocates all its kinds of objects, each followed by as many MiB of others.
const FILLS: usize = 16;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [program, looks] = arguments.as_slice() else { bail!("usage: marks_cost PROGRAM LOOKS") };
    let looks: usize = looks.parse().context("LOOKS must be a number")?;
    let mut program = Program::start(program)?;
    let subject = Subject::open(&target_by_pid(program.child.id())?, &FactsCache::default())?;
    let mut reader = MarksReader::new(&subject.runtime())?;
    program.ask("percent -1")?;
    let mut addresses = Vec::new();
    for _ in 0..FILLS {
        addresses.extend(program.ask("fill 1")?.iter().map(|line| address(line)).collect::<Result<Vec<_>>>()?);
        program.ask(&format!("ballast {FILLS}"))?;
    }
    let born = reader.cycle(&subject.memory)?;
    let slots: Vec<_> = reader.slots(&subject.memory, &addresses)?.into_iter().flatten().collect();
    ensure!(slots.len() == addresses.len(), "{} of {} objects have no slot", slots.len(), addresses.len());
    program.ask("gc")?;

    let objects: Vec<TrackedObject> = slots.iter().map(|slot| TrackedObject::new(slot, born)).collect();
    // A step that shares no factor with their number visits all of them.
    let scattered: Vec<TrackedObject> = objects.iter().cycle().step_by(37).take(OBJECTS).copied().collect();
    let dense: Vec<TrackedObject> = objects.iter().take(OBJECTS).copied().collect();
    let mut costs = BTreeMap::new();
    for (name, objects) in [("in the order of their birth", dense), ("scattered", scattered)] {
        let mut cpu_ns = Vec::with_capacity(looks);
        for _ in 0..looks {
            let before = thread_cpu_ns();
            let cycle = reader.cycle(&subject.memory)?;
            let answers = reader.look(&subject.memory, &objects, cycle)?;
            cpu_ns.push(thread_cpu_ns() - before);
            ensure!(answers.iter().all(|look| matches!(look, Look::Alive { .. })), "all objects are kept");
        }
        costs.insert(name, cpu_ns);
    }
    println!("{}", serde_json::json!({ "objects": OBJECTS, "heap_objects": objects.len(), "cpu_ns": costs }));
    Ok(())
}

fn address(line: &str) -> Result<Avma> {
    let address = line.split(' ').nth(2).and_then(|word| word.parse().ok());
    Ok(Avma(address.with_context(|| format!("the program says {line:?}"))?))
}

struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(path: &str) -> Result<Self> {
        let mut command = Command::new(path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut program = Self { child, stdin, stdout };
        ensure!(program.line()? == "ready", "{path} is another program");
        Ok(program)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line)? > 0, "the program ended");
        Ok(line.trim_end().to_owned())
    }

    fn ask(&mut self, question: &str) -> Result<Vec<String>> {
        writeln!(self.stdin, "{question}")?;
        let mut lines = Vec::new();
        loop {
            match self.line()? {
                line if line == "ok" => return Ok(lines),
                line => lines.push(line),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
