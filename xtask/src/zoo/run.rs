//! Runs one program of the zoo with leakline attached, and collects what both say.
//!
//! Both write into files, so that neither waits for a reader. Whatever happens, both have ended when a run is over.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::cases::{Case, Trait};
use super::cell::Evidence;
use crate::{command, setup};

/// How long a program may take to be ready.
const READY_S: u64 = 60;
/// How long it lives after the watch is over, if nobody ends it.
const REST_S: u64 = 60;
/// How much longer than asked leakline may take.
const LATE_S: u64 = 60;
const STEP: Duration = Duration::from_millis(250);
const STEPS_PER_SECOND: u64 = 4;

/// What both said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) truth: String,
    pub(super) documents: Vec<Value>,
    /// leakline's own CPU time over wall time.
    pub(super) self_cpu_ratio: f64,
}

/// How a program is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// By `leakline attach`.
    Attach,
    /// By `leakline record`; what it would have said is said by `leakline replay`.
    Record,
    /// It is not: the recording of an earlier run is replayed.
    Again,
}

/// Where a run happens.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) leakline: PathBuf,
    /// The folder of the zoo's sources.
    pub(super) zoo: PathBuf,
    /// For what is built and printed.
    pub(super) folder: PathBuf,
    pub(super) go: PathBuf,
}

impl Place {
    pub(super) fn new(root: &Path, leakline: PathBuf) -> Result<Self> {
        let folder = root.join("target/zoo");
        fs::create_dir_all(&folder)?;
        Ok(Self { leakline, zoo: root.join(super::ZOO), folder, go: setup::go_command(root)? })
    }

    /// Where the program of a cell is.
    pub(super) fn program(&self, case: &Case, release: &str, evidence: Evidence) -> PathBuf {
        self.folder.join(format!("{}-{release}-{}", case.name, evidence.name()))
    }

    /// Builds a program. Go's own cache makes a second time cheap.
    pub(super) fn build(&self, case: &Case, release: &str, evidence: Evidence) -> Result<PathBuf> {
        let with = if evidence == Evidence::Sampler { "sampler" } else { "none" };
        // How it is built must make no difference to what probes see.
        let flags: &[&str] = match (evidence, case.releases.iter().position(|known| *known == release)) {
            (Evidence::Bursts, Some(0)) => &["-ldflags=-s -w"],
            (Evidence::Bursts, Some(_)) => &["-buildmode=pie"],
            _ => &[],
        };
        let program = self.program(case, release, evidence);
        let mut go = Command::new(&self.go);
        go.current_dir(self.zoo.join(case.module))
            .env("GOTOOLCHAIN", format!("go{release}"))
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .env("CGO_ENABLED", if case.is(Trait::Cgo) { "1" } else { "0" })
            .args(["build", "-tags", with])
            .args(flags)
            .arg("-o")
            .arg(&program)
            .arg(case.package());
        command::capture(&mut go)?;
        Ok(program)
    }

    /// Runs it for so long; leaves the logs.
    pub(super) fn watch(&self, program: &Path, evidence: Evidence, seconds: u64, how: Watch) -> Result<Said> {
        let truth = with_suffix(program, evidence, "truth");
        let documents = with_suffix(program, evidence, "documents");
        let recording = with_suffix(program, evidence, "leakline");
        let cpu_s = match how {
            Watch::Attach => self.run(program, evidence, seconds, None)?,
            Watch::Record => self.run(program, evidence, seconds, Some(&recording))?,
            Watch::Again => 0.0,
        };
        if how != Watch::Attach {
            let mut replay = Command::new(&self.leakline);
            replay.args(["replay", "--output", "json"]).arg(&recording).stdout(File::create(&documents)?);
            let said = replay.output().context("cannot start leakline")?;
            ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr).trim_end());
        }
        let printed = fs::read_to_string(&documents)?;
        let parsed = printed.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        #[expect(clippy::cast_precision_loss, reason = "a few minutes")]
        let self_cpu_ratio = cpu_s / seconds as f64;
        Ok(Said {
            truth: fs::read_to_string(&truth)?,
            documents: parsed.with_context(|| format!("{} holds what is no JSON", documents.display()))?,
            self_cpu_ratio,
        })
    }

    /// Runs both; returns the seconds of CPU time that leakline took.
    fn run(&self, program: &Path, evidence: Evidence, seconds: u64, recording: Option<&Path>) -> Result<f64> {
        let truth = with_suffix(program, evidence, "truth");
        let length = format!("{}s", seconds + REST_S);
        let mut start = Command::new(program);
        start.args(["-for", &length]).stdin(Stdio::null()).stdout(File::create(&truth)?);
        start.stderr(File::create(with_suffix(program, evidence, "log"))?);
        let mut target = Process(start.spawn().with_context(|| format!("cannot start {}", program.display()))?);
        target.wait_until(READY_S, || fs::read_to_string(&truth).is_ok_and(|text| text.contains("\"ready\"")))?;

        let documents = with_suffix(program, evidence, "documents");
        let log = with_suffix(program, evidence, "leakline.log");
        let mut attach = Command::new(&self.leakline);
        let looks = if evidence == Evidence::Bursts { "bursts" } else { "auto" };
        match recording {
            None => attach.args(["attach", "--output", "json"]),
            Some(file) => attach.arg("record").arg("--file").arg(file),
        };
        attach.args(["--pid", &target.0.id().to_string(), "--evidence", looks]);
        // The hardest on innocents: nothing is put down to warming up.
        attach.args(["--duration", &format!("{seconds}s"), "--interval", "5s", "--warm-after", "0s"]);
        if evidence == Evidence::Adopted {
            attach.arg("--adopt-sampler").arg("--state-dir").arg(self.folder.join("state"));
        }
        attach.stdin(Stdio::null()).stdout(File::create(&documents)?).stderr(File::create(&log)?);
        let mut leakline = Process(attach.spawn().context("cannot start leakline")?);
        let cpu_s = leakline.wait(seconds + LATE_S).with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("leakline said: {}", said.trim_end().lines().last().unwrap_or("nothing"))
        })?;
        // A line of truth more, which tells what was at the end of the window.
        thread::sleep(Duration::from_millis(1500));
        drop(target);
        Ok(cpu_s)
    }
}

/// A process; ended when dropped.
struct Process(Child);

impl Process {
    fn wait_until(&mut self, seconds: u64, is_done: impl Fn() -> bool) -> Result<()> {
        for _ in 0..seconds * STEPS_PER_SECOND {
            if is_done() {
                return Ok(());
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("the program ended with {status} before it was ready");
            }
            thread::sleep(STEP);
        }
        bail!("the program was not ready after {seconds} s")
    }

    /// Until it ends; returns the seconds of CPU time that it took, as of the last look.
    fn wait(&mut self, seconds: u64) -> Result<f64> {
        let mut cpu_s = 0.0;
        for _ in 0..seconds * STEPS_PER_SECOND {
            if let Some(status) = self.0.try_wait()? {
                anyhow::ensure!(status.success(), "leakline ended with {status}");
                return Ok(cpu_s);
            }
            cpu_s = cpu_time_s(self.0.id()).unwrap_or(cpu_s);
            thread::sleep(STEP);
        }
        bail!("leakline did not end after {seconds} s")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// User and system time of a process (fields 14 and 15 of `/proc/PID/stat`, in hundredths of a second on Linux).
fn cpu_time_s(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = |index: usize| fields.split(' ').nth(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// Not `with_extension`, which would cut the name at the last dot of the release.
fn with_suffix(program: &Path, evidence: Evidence, suffix: &str) -> PathBuf {
    let mut name = program.as_os_str().to_owned();
    name.push(format!(".{}.{suffix}", evidence.name()));
    name.into()
}
