//! A program that says the truth on its standard output, and leakline attached to it for a while: what both say.
//!
//! Both write into files, so that neither waits for a reader. Whatever happens, both end.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long a program may take to be ready.
const READY_S: u64 = 60;
/// How much longer than asked leakline may take.
const LATE_S: u64 = 60;
const STEP: Duration = Duration::from_millis(250);
const STEPS_PER_SECOND: u64 = 4;

/// A program that runs; ended when dropped.
pub(crate) struct Target {
    process: Process,
    truth: PathBuf,
}

/// A look at it.
#[derive(Clone, Debug)]
pub(crate) struct Look<'run> {
    pub(crate) leakline: &'run Path,
    /// How long leakline watches.
    pub(crate) seconds: u64,
    /// Arguments of `leakline attach`, beside which process, how long and `--output json`.
    pub(crate) arguments: Vec<OsString>,
    /// The beginning of the names of the files that it writes: logs that stay.
    pub(crate) files: &'run Path,
    /// Whether leakline records: what it would have said is said by a replay then. The recording stays, for [`again`].
    pub(crate) records: bool,
}

/// What leakline said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) documents: Vec<Value>,
    /// leakline's own CPU time over wall time.
    pub(crate) self_cpu_ratio: f64,
}

impl Target {
    /// Starts a program that prints a line with `"ready"` when it is ready, and ends by itself after `-for`, if nobody ends it before. The files
    /// that it writes begin with `files`.
    pub(crate) fn start(program: &Path, arguments: &[String], length: Duration, files: &Path) -> Result<Self> {
        let truth = with_suffix(files, "truth");
        let mut start = Command::new(program);
        start.args(["-for", &format!("{}s", length.as_secs())]).args(arguments);
        start.stdin(Stdio::null()).stdout(File::create(&truth)?).stderr(File::create(with_suffix(files, "log"))?);
        let mut process = Process(start.spawn().with_context(|| format!("cannot start {}", program.display()))?);
        process.wait_until(READY_S, || fs::read_to_string(&truth).is_ok_and(|text| text.contains("\"ready\"")))?;
        Ok(Self { process, truth })
    }

    /// What it has printed so far.
    pub(crate) fn told(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.truth)?)
    }

    /// Attaches leakline to it until that ends.
    pub(crate) fn look(&self, look: &Look<'_>) -> Result<Said> {
        let log = with_suffix(look.files, "leakline.log");
        let mut attach = Command::new(look.leakline);
        if look.records {
            attach.arg("record").arg("--file").arg(with_suffix(look.files, "leakline"));
        } else {
            attach.args(["attach", "--output", "json"]);
        }
        attach.args(["--pid", &self.process.0.id().to_string()]);
        attach.args(["--duration", &format!("{}s", look.seconds)]).args(&look.arguments);
        attach.stdin(Stdio::null()).stdout(File::create(with_suffix(look.files, "documents"))?);
        attach.stderr(File::create(&log)?);
        let mut leakline = Process(attach.spawn().context("cannot start leakline")?);
        let cpu_s = leakline.wait(look.seconds + LATE_S).with_context(|| {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("leakline said: {}", said.trim_end().lines().last().unwrap_or("nothing"))
        })?;
        if look.records {
            replay(look.leakline, look.files)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few minutes")]
        let self_cpu_ratio = cpu_s / look.seconds as f64;
        Ok(Said { documents: documents(look.files)?, self_cpu_ratio })
    }
}

/// What this leakline says of an earlier look that was recorded, and what the program said then.
pub(crate) fn again(leakline: &Path, files: &Path) -> Result<(String, Said)> {
    replay(leakline, files)?;
    let said = Said { documents: documents(files)?, self_cpu_ratio: 0.0 };
    Ok((fs::read_to_string(with_suffix(files, "truth"))?, said))
}

/// Whether there is what [`again`] takes.
pub(crate) fn is_recorded(files: &Path) -> bool {
    ["leakline", "truth"].iter().all(|suffix| with_suffix(files, suffix).exists())
}

fn replay(leakline: &Path, files: &Path) -> Result<()> {
    let mut replay = Command::new(leakline);
    replay.args(["replay", "--output", "json"]).arg(with_suffix(files, "leakline"));
    let said =
        replay.stdout(File::create(with_suffix(files, "documents"))?).output().context("cannot start leakline")?;
    ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr).trim_end());
    Ok(())
}

fn documents(files: &Path) -> Result<Vec<Value>> {
    let documents = with_suffix(files, "documents");
    let printed = fs::read_to_string(&documents)?;
    let parsed = printed.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
    parsed.with_context(|| format!("{} holds what is no JSON", documents.display()))
}

/// Not `with_extension`, which would cut the name at the last dot of a release.
pub(crate) fn with_suffix(files: &Path, suffix: &str) -> PathBuf {
    let mut name = files.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
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
                ensure!(status.success(), "leakline ended with {status}");
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
