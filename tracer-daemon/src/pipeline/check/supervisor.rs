//! The process that owns a command: `leakline check` starts itself once more for this, as `leakline supervise`.
//!
//! It is the parent of all that the command starts, also of what its own parent has left behind (`PR_SET_CHILD_SUBREAPER`), and it ends all
//! of that when told to or when the leakline that started it is gone, however that went: then its standard input ends.
//! A signal at a parent's death (`PR_SET_PDEATHSIG`) alone would end the command and not what a shell or `go run` has started.
//!
//! Orders come as lines on standard input, news go as lines to standard output. The command's own output goes to standard error.

use std::io::{self, BufRead as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::discover::{Descendant, descendants};
use crate::pipeline::own;

/// Between two looks whether all have ended.
const STEP: Duration = Duration::from_millis(20);
/// Orders that wait.
const ORDERS_MAX: usize = 8;

/// What to own.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program and its arguments; never empty.
    pub command: Vec<std::ffi::OsString>,
    /// What `sh -c` is to run when told to.
    pub load: Option<std::ffi::OsString>,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Start the load.
    Load,
    /// Send a signal to the command and its group.
    Forward(Signal),
    /// End everything: also said by the end of the orders.
    End,
}

impl Order {
    /// As a line.
    pub(super) fn line(self) -> String {
        match self {
            Self::Load => String::from("load"),
            Self::Forward(signal) => format!("signal {}", signal.as_raw()),
            Self::End => String::from("end"),
        }
    }

    fn of(line: &str) -> Self {
        match line.split_once(' ') {
            None if line == "load" => Self::Load,
            Some(("signal", "2")) => Self::Forward(Signal::INT),
            Some(("signal", "15")) => Self::Forward(Signal::TERM),
            _ => Self::End,
        }
    }
}

/// What it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The command runs.
    Started(u32),
    /// The load runs.
    LoadStarted(u32),
    /// One of them could not be started.
    NotStarted(String),
    /// The command has ended, with this status of `wait`.
    Ended(i32),
    /// The load has ended.
    LoadEnded(i32),
}

impl News {
    fn line(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {pid}"),
            Self::LoadStarted(pid) => format!("load-started {pid}"),
            Self::NotStarted(why) => format!("not-started {}", why.replace(['\n', '\r'], " ")),
            Self::Ended(status) => format!("ended {status}"),
            Self::LoadEnded(status) => format!("load-ended {status}"),
        }
    }

    /// `None`: a line that no supervisor says.
    pub(super) fn of(line: &str) -> Option<Self> {
        let (what, rest) = line.split_once(' ')?;
        Some(match what {
            "started" => Self::Started(rest.parse().ok()?),
            "load-started" => Self::LoadStarted(rest.parse().ok()?),
            "not-started" => Self::NotStarted(rest.to_owned()),
            "ended" => Self::Ended(rest.parse().ok()?),
            "load-ended" => Self::LoadEnded(rest.parse().ok()?),
            _ => return None,
        })
    }
}

/// Owns the command until nothing of it is left.
///
/// # Errors
/// Where this process cannot be made one that owns others; nothing was started then.
pub async fn supervise(options: Options) -> anyhow::Result<()> {
    // For the moment before standard input is read.
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot ask for a signal at the parent's death")?;
    set_child_subreaper(Some(getpid())).context("cannot become the parent of orphans")?;
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let (mut ended, mut terminate, mut interrupt) =
        (listen(SignalKind::child())?, listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut orders = orders();
    let mut owned = Owned::default();
    let (program, arguments) = options.command.split_first().context("no command")?;
    let mut command = Command::new(program);
    match Owned::start(command.args(arguments)) {
        Ok(pid) => {
            owned.command = Some(pid);
            tell(&News::Started(raw(pid)));
        }
        Err(error) => {
            tell(&News::NotStarted(format!("{}: {error}", program.to_string_lossy())));
            return Ok(());
        }
    }
    loop {
        if owned.reap() == Left::Nothing {
            return Ok(());
        }
        tokio::select! {
            _ = ended.recv() => {}
            order = orders.recv() => match order.unwrap_or(Order::End) {
                Order::Load => owned.start_load(options.load.as_deref()),
                Order::Forward(signal) => owned.forward(signal),
                Order::End => break,
            },
            // Whoever sends this to us alone wants us to end, and that must not leave anything behind.
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    owned.end(options.grace, &mut ended).await;
    Ok(())
}

/// Reads standard input in a thread of its own.
fn orders() -> mpsc::Receiver<Order> {
    let (sender, receiver) = mpsc::channel(ORDERS_MAX);
    // It ends with the process: a read of standard input cannot be called off.
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let order = line.map_or(Order::End, |line| Order::of(&line));
            if sender.blocking_send(order).is_err() || order == Order::End {
                return;
            }
        }
        // Nobody is left to give orders: who started us is gone.
        let _gone = sender.blocking_send(Order::End);
    });
    receiver
}

fn tell(news: &News) {
    let mut stdout = io::stdout().lock();
    // Where nobody reads, standard input has ended, too, and that is noticed.
    drop(writeln!(stdout, "{}", news.line()).and_then(|()| stdout.flush()));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Something,
    Nothing,
}

/// What was started.
#[derive(Debug, Default)]
struct Owned {
    command: Option<Pid>,
    load: Option<Pid>,
    /// Whether it was asked to end by a signal that was passed on: a second one would tell many programs to hurry.
    is_asked: bool,
}

impl Owned {
    /// In a process group of its own, so that a Ctrl-C on the terminal reaches it through us alone.
    fn start(command: &mut Command) -> io::Result<Pid> {
        let output = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
        // Its own standard output would be taken for news, and in a report for the report.
        let child = command.stdin(Stdio::null()).stdout(output()?).stderr(output()?).process_group(0).spawn()?;
        Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("no process id"))
    }

    fn start_load(&mut self, load: Option<&std::ffi::OsStr>) {
        let Some(load) = load.filter(|_| self.load.is_none()) else { return };
        match Self::start(Command::new("sh").arg("-c").arg(load)) {
            Ok(pid) => {
                self.load = Some(pid);
                tell(&News::LoadStarted(raw(pid)));
            }
            Err(error) => tell(&News::NotStarted(format!("sh: {error}"))),
        }
    }

    /// Takes notice of whatever has ended.
    fn reap(&self) -> Left {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.note(pid, status),
                Ok(None) => return Left::Something,
                Err(Errno::INTR) => {}
                Err(_no_child) => return Left::Nothing,
            }
        }
    }

    fn note(&self, pid: Pid, status: WaitStatus) {
        if Some(pid) == self.command {
            tell(&News::Ended(status.as_raw()));
        } else if Some(pid) == self.load {
            tell(&News::LoadEnded(status.as_raw()));
        }
    }

    fn forward(&mut self, signal: Signal) {
        self.is_asked = true;
        let groups = self.groups(&descendants(std::process::id()));
        // It may have ended.
        if let Some(group) = self.command.filter(|command| groups.contains(command)) {
            let _gone = kill_process_group(group, signal);
        }
    }

    /// SIGTERM to all, and after a while SIGKILL, until nothing is left. Where a signal was passed on, SIGTERM comes half-way.
    async fn end(&self, grace: Duration, ended: &mut Signals) {
        let began: Instant = own::now();
        let mut terminate_at = Some(if self.is_asked { grace / 2 } else { Duration::ZERO });
        while self.reap() == Left::Something {
            let passed = own::now().saturating_duration_since(began);
            if passed >= grace && terminate_at.is_none() {
                self.all(Signal::KILL);
            }
            if terminate_at.take_if(|at| passed >= *at).is_some() {
                self.all(Signal::TERM);
            }
            tokio::select! {
                _ = ended.recv() => {}
                () = sleep(STEP) => {}
            }
        }
    }

    /// To the groups at once, as a terminal would, and to those that have left them.
    fn all(&self, signal: Signal) {
        let owned = descendants(std::process::id());
        let groups = self.groups(&owned);
        for group in &groups {
            let _gone = kill_process_group(*group, signal);
        }
        for other in owned.iter().filter(|process| !groups.iter().any(|group| raw(*group) == process.group)) {
            if let Some(pid) = Pid::from_raw(other.pid.cast_signed()) {
                let _gone = kill_process(pid, signal);
            }
        }
    }

    /// Our groups that somebody of ours is in. An empty one is nobody's: its id may be another's by now.
    fn groups(&self, owned: &[Descendant]) -> Vec<Pid> {
        let is_ours = |group: &Pid| owned.iter().any(|process| process.group == raw(*group));
        [self.command, self.load].into_iter().flatten().filter(is_ours).collect()
    }
}

fn raw(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().cast_unsigned()
}

/// In words: `exit status 1`, `signal: 9 (SIGKILL)`.
pub(super) fn in_words(status: i32) -> String {
    ExitStatus::from_raw(status).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for news in [
            News::Started(7),
            News::LoadStarted(8),
            News::NotStarted("x: no such file".into()),
            News::Ended(256),
            News::LoadEnded(9),
        ] {
            assert_eq!(News::of(&news.line()), Some(news));
        }
        assert_eq!(News::of("nonsense"), None);
        for order in [Order::Load, Order::Forward(Signal::INT), Order::Forward(Signal::TERM), Order::End] {
            assert_eq!(Order::of(&order.line()), order);
        }
        assert_eq!(Order::of("whatever else"), Order::End);
    }

    #[test]
    fn only_a_group_that_somebody_of_ours_is_in_is_ours() {
        let (command, load) = (Pid::from_raw(100).unwrap(), Pid::from_raw(200).unwrap());
        let owned = Owned { command: Some(command), load: Some(load), is_asked: false };
        let member = |pid, group| Descendant { pid, group, start_ticks: 1 };
        // The leader may have ended before the others of its group.
        assert_eq!(owned.groups(&[member(101, 100), member(300, 300)]), [command]);
        assert_eq!(owned.groups(&[member(200, 200), member(100, 100)]), [command, load]);
        assert!(owned.groups(&[member(300, 300)]).is_empty());
        assert!(owned.groups(&[]).is_empty());
    }

    #[test]
    fn news_are_one_line() {
        assert_eq!(News::NotStarted("a\nb".into()).line(), "not-started a b");
    }
}
