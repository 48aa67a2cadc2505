//! The rows of the benches of cost: what is attached to the target, how it is started and stopped, and how we know that it is
//! attached. Every tracer is another process; a row whose tracer is missing is skipped with a stated reason.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::account::Account;
use super::kernel_headers;
use super::slices::Span;
use super::target::{Target, TargetBinary};
use crate::command::succeeds;

const BCC_SCRIPT: &str = include_str!("bcc_row.py");

/// Debian's interpreter: python3-bpfcc installs its module for this one only.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// Reports of the target (250 ms each) that attaching or detaching may take: 20 s.
const PATIENCE_REPORTS: u32 = 80;

/// The function of `allocrate` that allocates.
const ALLOCATING_FUNCTION: &str = "main.(*worker).allocate";

/// What a tracer does at each hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Adds one to a counter.
    Count,
    /// Counts per user stack.
    CountByStack,
    /// Sends a record to user space.
    Record,
}

/// Which instruction of `runtime.mallocgc` carries the probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first one, a `cmp`, which the kernel must single-step: what `uprobe:FILE:runtime.mallocgc` does.
    Entry,
    /// The `push rbp` behind the stack check, which the kernel emulates.
    Body,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracer {
    /// Nothing is attached: the row shows the noise of the method.
    Nothing,
    Bpftrace(Place, Work),
    Bcc(Place, Work),
    /// `leakline attach --evidence exact`: counts per stack, at the same instruction as [`Place::Body`].
    Leakline,
    /// `leakline attach` with this budget, in thousandths of the target's CPU time; with the default one it is not said.
    Bursts {
        per_mille: u16,
    },
}

/// The budget of leakline by default, in thousandths.
pub(crate) const DEFAULT_PER_MILLE: u16 = 10;
/// What leakline says where it has bursts, once it is attached.
const BURSTS_BEGIN: &str = "with probes in short windows";

/// What is logged beside what a person sees: when each window was.
const WINDOWS_LOGGED: &str = "info,tracer_daemon::pipeline::bursts=debug";
/// Counterpart: `tracer-daemon/src/pipeline/bursts/window.rs`.
const WINDOW_IS_OVER: &str = "a window is over";

/// The window of this line of leakline's log, from its order until it was gone. None: the line is about something else.
fn window_of(line: &str) -> Option<Span> {
    let (_, told) = line.split_once(WINDOW_IS_OVER)?;
    let number = |name: &str| {
        let value = told.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
        value.parse::<u64>().ok()
    };
    let begin_ns = number("ordered_ns")?;
    let end_ns = begin_ns + number("opened_after_ns")? + number("open_ns")? + number("gone_after_ns")?;
    Some(Span { begin_ns, end_ns })
}

impl Tracer {
    /// All rows of the cost bench, in the order of the table.
    pub(crate) const ALL: [Self; 11] = [
        Self::Nothing,
        Self::Bpftrace(Place::Entry, Work::Count),
        Self::Bpftrace(Place::Entry, Work::CountByStack),
        Self::Bpftrace(Place::Body, Work::Count),
        Self::Bpftrace(Place::Body, Work::CountByStack),
        Self::Bcc(Place::Entry, Work::Count),
        Self::Bcc(Place::Entry, Work::CountByStack),
        Self::Bcc(Place::Body, Work::Count),
        Self::Bcc(Place::Body, Work::CountByStack),
        Self::Bcc(Place::Body, Work::Record),
        Self::Leakline,
    ];

    /// The name of the row.
    pub(crate) fn name(self) -> String {
        let (tool, place, work) = match self {
            Self::Nothing => return "nothing (noise floor)".to_owned(),
            Self::Leakline => return "leakline exact".to_owned(),
            Self::Bursts { per_mille } => {
                let default = if per_mille == DEFAULT_PER_MILLE { " (default)" } else { "" };
                return format!("leakline {} %{default}", f64::from(per_mille) / 10.0);
            }
            Self::Bpftrace(place, work) => ("bpftrace", place, work),
            Self::Bcc(place, work) => ("bcc", place, work),
        };
        let place = match place {
            Place::Entry => "entry",
            Place::Body => "push",
        };
        let work = match work {
            Work::Count => "count",
            Work::CountByStack => "count by stack",
            Work::Record => "record per hit",
        };
        format!("{tool} {place}, {work}")
    }

    /// Whether the target must be the copy whose symbol was moved.
    pub(crate) fn needs_moved_symbol(self) -> bool {
        matches!(self, Self::Bpftrace(Place::Body, _))
    }

    /// Whether it looks at more than the top of the stack, so that its cost depends on the depth.
    pub(crate) fn walks_stack(self) -> bool {
        matches!(self, Self::Leakline | Self::Bpftrace(_, Work::CountByStack) | Self::Bcc(_, Work::CountByStack))
    }

    fn is_leakline(self) -> bool {
        matches!(self, Self::Leakline | Self::Bursts { .. })
    }

    /// The instruction that carries its probe. None: it has none, or not always.
    fn place(self) -> Option<Place> {
        match self {
            Self::Nothing | Self::Bursts { .. } => None,
            Self::Bpftrace(place, _) | Self::Bcc(place, _) => Some(place),
            Self::Leakline => Some(Place::Body),
        }
    }
}

impl Serialize for Tracer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

/// Where the tools are on this machine. What is missing is told once per row.
#[derive(Debug)]
pub(crate) struct Tools {
    bcc_script: PathBuf,
    /// None where bcc finds headers by itself (its own rules: /lib/modules or kheaders).
    bcc_headers: Option<PathBuf>,
    /// None where it is not to be measured.
    leakline: Option<PathBuf>,
    /// What leakline says: its report, and its log.
    report: PathBuf,
    log: PathBuf,
    /// Reasons by tool.
    bpftrace_missing: Option<String>,
    bcc_missing: Option<String>,
}

impl Tools {
    /// Looks for the tools; writes the bcc script and a merged tree of Debian's kernel headers into `directory`.
    pub(crate) fn find(directory: &Path, leakline: Option<PathBuf>) -> Result<Self> {
        let bcc_script = directory.join("bcc_row.py");
        fs::write(&bcc_script, BCC_SCRIPT)?;
        let bpftrace_missing = (!succeeds(Command::new("bpftrace").arg("--version")))
            .then(|| "bpftrace is not installed (apt-get install bpftrace)".to_owned());
        let mut bcc_missing = (!succeeds(Command::new(SYSTEM_PYTHON).args(["-c", "import bcc"])))
            .then(|| "bcc is not installed (apt-get install python3-bpfcc)".to_owned());
        let bcc_headers = if kernel_headers::has_own() { None } else { kernel_headers::merge_debian(directory)? };
        if bcc_headers.is_none() && !kernel_headers::has_own() && bcc_missing.is_none() {
            bcc_missing = Some("bcc needs kernel headers (apt-get install linux-headers-amd64)".to_owned());
        }
        let (report, log) = (directory.join("leakline.json"), directory.join("leakline.log"));
        Ok(Self { bcc_script, bcc_headers, leakline, report, log, bpftrace_missing, bcc_missing })
    }

    /// Why a row cannot be measured here; None when it can.
    pub(crate) fn refusal(&self, tracer: Tracer) -> Option<&str> {
        match tracer {
            Tracer::Nothing => None,
            Tracer::Bpftrace(..) => self.bpftrace_missing.as_deref(),
            Tracer::Bcc(..) => self.bcc_missing.as_deref(),
            Tracer::Leakline | Tracer::Bursts { .. } => self.leakline.is_none().then_some("leakline was not built"),
        }
    }

    fn command(&self, tracer: Tracer, binary: &TargetBinary, pid: u32, seconds: u32) -> Option<Command> {
        let pid = pid.to_string();
        match tracer {
            Tracer::Nothing => None,
            Tracer::Bpftrace(place, work) => {
                let path = if place == Place::Body { &binary.path_with_moved_symbol } else { &binary.path };
                let action = match work {
                    Work::Count => "@ = count();",
                    Work::CountByStack => "@[ustack] = count();",
                    Work::Record => "printf(\"%lu\\n\", reg(\"ax\"));",
                };
                let mut command = Command::new("bpftrace");
                command.args(["-p", &pid, "-e", &format!("uprobe:{}:runtime.mallocgc {{ {action} }}", path.display())]);
                Some(command)
            }
            Tracer::Bcc(place, work) => {
                let kind = match work {
                    Work::Count => "count",
                    Work::CountByStack => "stack",
                    Work::Record => "record",
                };
                let address = if place == Place::Body { binary.body } else { binary.entry };
                let mut command = Command::new(SYSTEM_PYTHON);
                command.arg(&self.bcc_script).arg(kind).arg(&binary.path).args([format!("{address:x}"), pid]);
                if let Some(headers) = &self.bcc_headers {
                    command.env("BCC_KERNEL_SOURCE", headers);
                }
                Some(command)
            }
            Tracer::Leakline => {
                let mut command = Command::new(self.leakline.as_ref()?);
                command.args(["attach", "--pid", &pid, "--evidence", "exact", "--output", "json"]);
                command.args(["--duration", &format!("{seconds}s")]);
                Some(command)
            }
            Tracer::Bursts { per_mille } => {
                let mut command = Command::new(self.leakline.as_ref()?);
                command.env("LEAKLINE_LOG", WINDOWS_LOGGED);
                command.args(["attach", "--pid", &pid, "--evidence", "bursts", "--output", "json", "--interval", "5s"]);
                command.args(["--duration", &format!("{seconds}s")]);
                if per_mille != DEFAULT_PER_MILLE {
                    command.args(["--max-overhead", &format!("{}%", f64::from(per_mille) / 10.0)]);
                }
                Some(command)
            }
        }
    }

    /// Starts the tracer and returns when it counts: its probe is in the target's text, and leakline says so. `seconds`
    /// bounds how long it would stay by itself.
    pub(crate) fn attach(
        &self,
        tracer: Tracer,
        binary: &TargetBinary,
        target: &mut Target,
        seconds: u32,
    ) -> Result<Attached<'_>> {
        let Some(mut command) = self.command(tracer, binary, target.pid(), seconds) else {
            wait_reports(target, 4)?;
            return Ok(Attached { child: None, tracer, tools: self });
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if tracer.is_leakline() {
            command.stdout(File::create(&self.report)?).stderr(File::create(&self.log)?);
        }
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut attached = Attached { child: Some(child), tracer, tools: self };
        let expected = tracer.place().map(|place| match place {
            Place::Entry => binary.entry,
            Place::Body => binary.body,
        });
        for _ in 0..PATIENCE_REPORTS {
            target.next_report()?;
            match (expected, target.probe()?) {
                (None, _) if self.log()?.contains(BURSTS_BEGIN) => return Ok(attached),
                (Some(expected), Some(found)) if found != expected => {
                    bail!("{command:?} put its probe at {found:#x} and not at {expected:#x}")
                }
                // leakline's gate is closed until all of its probes are in place.
                (Some(_), Some(_)) if tracer != Tracer::Leakline || self.log()?.contains("counting") => {
                    return Ok(attached);
                }
                _ => {}
            }
            ensure!(attached.is_running()?, "{command:?} ended before it was attached{}", attached.last_words());
        }
        bail!("{command:?} did not attach within 20 s{}", attached.last_words())
    }

    /// When leakline's windows were, that it was the last tracer of.
    pub(crate) fn windows(&self) -> Result<Vec<Span>> {
        Ok(self.log()?.lines().filter_map(window_of).collect())
    }

    fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }
}

/// A started tracer; killed on drop.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    child: Option<Child>,
    tracer: Tracer,
    tools: &'a Tools,
}

impl Attached<'_> {
    fn is_running(&mut self) -> Result<bool> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?.is_none(),
            None => true,
        })
    }

    /// Fails when the tracer is no longer there: the window that was just measured is worth nothing then.
    pub(crate) fn check(&mut self, target: &Target) -> Result<()> {
        ensure!(self.is_running()?, "{} ended during the window{}", self.tracer.name(), self.last_words());
        let lost = self.tracer.place().is_some() && target.probe()?.is_none();
        ensure!(!lost, "{} lost its probe", self.tracer.name());
        Ok(())
    }

    /// What leakline has said so far of what its bursts cost. None where it has not, or has none.
    pub(crate) fn account(&self) -> Result<Option<Account>> {
        match self.tracer {
            Tracer::Bursts { .. } => Account::last_of(&fs::read_to_string(&self.tools.report)?),
            _ => Ok(None),
        }
    }

    /// Asks the tracer to end as a person would (SIGINT), and returns when it has and the target's text is whole again, with what
    /// leakline says at last that its bursts cost. A tracer that takes more than 20 s is killed: bpftrace 0.17 once never answered.
    pub(crate) fn detach(mut self, target: &mut Target) -> Result<Option<Account>> {
        let Some(child) = &mut self.child else {
            wait_reports(target, 4)?;
            return Ok(None);
        };
        let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
        ensure!(status.success(), "cannot interrupt {}", self.tracer.name());
        for report in 0..2 * PATIENCE_REPORTS {
            target.next_report()?;
            if let Some(status) = child.try_wait()?
                && target.probe()?.is_none()
            {
                return self.check_report(status);
            }
            if report == PATIENCE_REPORTS {
                child.kill()?;
            }
        }
        bail!("{} left its probe behind", self.tracer.name())
    }

    /// leakline was interrupted, which must give a full report: else what we measured is not what people get.
    fn check_report(&self, status: ExitStatus) -> Result<Option<Account>> {
        if !self.tracer.is_leakline() {
            return Ok(None);
        }
        ensure!(status.success(), "leakline ended with {status}{}", self.last_words());
        let printed = fs::read_to_string(&self.tools.report)?;
        if let Tracer::Bursts { per_mille } = self.tracer {
            return Account::final_of(&printed, f64::from(per_mille) / 1000.0).map(Some);
        }
        let report: Value = serde_json::from_str(&printed).context("leakline's report")?;
        ensure!(report["final"] == true, "leakline's report is not its last");
        let found = report["sites"].as_array().and_then(|sites| sites.first());
        let found = found.and_then(|site| site["function"].as_str()).unwrap_or_default();
        ensure!(found == ALLOCATING_FUNCTION, "leakline blames {found:?} and not {ALLOCATING_FUNCTION}");
        Ok(None)
    }

    /// What leakline said, for an error. Of the other tracers nothing is kept.
    fn last_words(&self) -> String {
        match self.tools.log() {
            Ok(log) if self.tracer.is_leakline() => format!(": {}", log.trim()),
            _ => String::new(),
        }
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only when it has ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn wait_reports(target: &mut Target, count: u32) -> Result<()> {
    for _ in 0..count {
        target.next_report()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_known_from_its_order_until_it_is_gone() {
        let line = "2026-01-01T00:00:00.000000Z DEBUG tracer_daemon::pipeline::bursts::window: a window is over pid=7 kind=Births \
                    ordered_ns=1000 opened_after_ns=20 open_ns=300 gone_after_ns=4 hits=12 hits_outside=1";
        assert_eq!(window_of(line), Some(Span { begin_ns: 1_000, end_ns: 1_324 }));
        assert_eq!(window_of(&line.replace("ordered_ns", "ordered")), None);
        assert_eq!(window_of("DEBUG a window opens pid=7"), None);
    }
}
