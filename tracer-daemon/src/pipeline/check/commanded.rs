//! A command that is being checked, as the leakline that checks it sees it: what its supervisor tells, and what it prints.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use regex::bytes::Regex;
use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};
use tokio::sync::mpsc;

use super::supervisor::{News, Order, in_words};
use super::{CheckError, Options};
use crate::discover::descendants;

/// News that wait.
const NEWS_MAX: usize = 16;
/// Longest line that is compared with `--ready-log`; what is behind counts as another line.
const LINE_BYTES_MAX: usize = 64 << 10;
/// How much longer than the grace time the supervisor may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited for the last output once all have ended.
const COPIED_WITHIN: Duration = Duration::from_secs(2);
/// How long the supervisor may take to be gone once it tells no more.
const EXITED_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks whether it has ended.
const STEP: Duration = Duration::from_millis(20);

/// A command and all that it has started. All of it ends where this is dropped.
#[derive(Debug)]
pub(super) struct Commanded {
    supervisor: Child,
    orders: Option<ChildStdin>,
    news: mpsc::Receiver<News>,
    /// Whether a line has matched.
    matched: Option<Arc<AtomicBool>>,
    /// Passes its output on. `None`: it goes where it is to go by itself, or has been waited for.
    copying: Option<thread::JoinHandle<()>>,
    grace: Duration,
}

impl Commanded {
    /// Starts the command.
    ///
    /// # Errors
    /// Where we cannot start ourselves once more, or not write where its output is to go.
    pub(super) fn start(options: &Options) -> Result<Self, CheckError> {
        let failed = |doing: &'static str| move |source| CheckError::System { doing, source };
        // Where the supervisor is killed, what it owned becomes ours.
        set_child_subreaper(Some(getpid()))
            .map_err(|error| failed("cannot become the parent of orphans")(error.into()))?;
        let own = std::env::current_exe().map_err(failed("cannot find the program of leakline itself"))?;
        let sink = Sink::open(options.command_output.as_ref()).map_err(|source| CheckError::File {
            doing: "write",
            file: shown(options.command_output.as_ref()),
            source,
        })?;
        let mut supervisor = Command::new(own);
        supervisor.arg("supervise").arg(format!("--grace={}ms", options.grace.as_millis()));
        if let Some(load) = &options.load {
            supervisor.arg(joined("--load=", load));
        }
        supervisor.arg("--").args(&options.command).stdin(Stdio::piped()).stdout(Stdio::piped());
        match (&options.ready_log, &sink) {
            (Some(_), _) => supervisor.stderr(Stdio::piped()),
            (None, Sink::Stderr) => supervisor.stderr(Stdio::inherit()),
            (None, Sink::File(file)) => supervisor.stderr(file.try_clone().map_err(failed("cannot share a file"))?),
        };
        // Out of reach of a Ctrl-C on the terminal: it is we who end it.
        let mut supervisor = supervisor.process_group(0).spawn().map_err(failed("cannot start leakline once more"))?;
        let news = supervisor.stdout.take().map_or_else(|| mpsc::channel(1).1, told);
        let copied = supervisor.stderr.take().zip(options.ready_log.clone()).map(|(output, pattern)| {
            let matched = Arc::new(AtomicBool::new(false));
            let told = Arc::clone(&matched);
            (matched, thread::spawn(move || copy(BufReader::new(output), sink, &pattern, &told)))
        });
        let (matched, copying) = copied.unzip();
        let orders = supervisor.stdin.take();
        Ok(Self { supervisor, orders, news, matched, copying, grace: options.grace })
    }

    /// The process below which all of the command is.
    pub(super) fn supervisor_pid(&self) -> u32 {
        self.supervisor.id()
    }

    /// What it tells next. `None`: nothing of the command is left.
    pub(super) async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }

    /// Whether a line of its output has matched `--ready-log`; true where none was asked for.
    pub(super) fn has_matched(&self) -> bool {
        self.matched.as_ref().is_none_or(|matched| matched.load(Ordering::Relaxed))
    }

    /// Gives an order; where the supervisor is gone there is nothing left to be ordered.
    pub(super) fn order(&mut self, order: Order) {
        if let Some(orders) = &mut self.orders {
            drop(writeln!(orders, "{}", order.line()).and_then(|()| orders.flush()));
        }
    }

    /// Once it tells no more: whether the supervisor has ended as it should, with nothing left.
    ///
    /// # Errors
    /// Where it was killed, or failed.
    pub(super) fn over(&mut self) -> Result<(), CheckError> {
        let mut left = EXITED_WITHIN;
        loop {
            match self.supervisor.try_wait() {
                Ok(Some(status)) if !status.success() => {
                    return Err(CheckError::Failed {
                        what: "the supervisor of the command",
                        status: in_words(status.into_raw()),
                    });
                }
                Ok(None) if !left.is_zero() => {}
                _ => return Ok(()),
            }
            thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
    }

    /// What a supervisor that was killed has left to us: nothing, where it has ended by itself.
    fn end_orphans() {
        let mut left = PATIENCE;
        loop {
            let orphans = descendants(std::process::id());
            if orphans.is_empty() {
                return;
            }
            if left.is_zero() {
                tracing::error!(processes = orphans.len(), "what the command has started does not end");
                return;
            }
            for pid in orphans.iter().filter_map(|orphan| Pid::from_raw(orphan.pid.cast_signed())) {
                // It may have ended.
                let _gone = kill_process(pid, Signal::KILL);
            }
            thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
    }

    /// Ends everything and waits until it has ended.
    pub(super) fn end(&mut self) {
        self.orders = None;
        let mut left = self.grace.saturating_add(PATIENCE);
        while matches!(self.supervisor.try_wait(), Ok(None)) {
            if left.is_zero() {
                tracing::error!(pid = self.supervisor.id(), "what the command has started does not end");
                return;
            }
            thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
        Self::end_orphans();
        let mut left = COPIED_WITHIN;
        // Somebody who is not ours any more may keep the other end open.
        while self.copying.as_ref().is_some_and(|copying| !copying.is_finished()) && !left.is_zero() {
            thread::sleep(STEP);
            left = left.saturating_sub(STEP);
        }
        self.copying = None;
    }
}

impl Drop for Commanded {
    fn drop(&mut self) {
        self.end();
    }
}

fn shown(file: Option<&PathBuf>) -> String {
    file.map(|file| file.display().to_string()).unwrap_or_default()
}

fn joined(flag: &str, value: &OsString) -> OsString {
    let mut joined = OsString::from(flag);
    joined.push(value);
    joined
}

/// Where the command's output goes.
#[derive(Debug)]
enum Sink {
    Stderr,
    File(File),
}

impl Sink {
    fn open(file: Option<&PathBuf>) -> io::Result<Self> {
        file.map_or(Ok(Self::Stderr), |file| File::create(file).map(Self::File))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
        }
    }
}

/// Reads what the supervisor tells, in a thread of its own.
fn told(output: impl io::Read + Send + 'static) -> mpsc::Receiver<News> {
    let (sender, receiver) = mpsc::channel(NEWS_MAX);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if News::of(&line).is_some_and(|news| sender.blocking_send(news).is_err()) {
                return;
            }
        }
    });
    receiver
}

/// Passes the output on, line by line, and says when one matches. Goes on where the sink is gone: the command must not block.
fn copy(mut output: impl io::BufRead, mut sink: Sink, pattern: &Regex, matched: &AtomicBool) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        match output.by_ref().take(most).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        drop(sink.write(&line));
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if !matched.load(Ordering::Relaxed) && pattern.is_match(text) {
            matched.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_passed_on_whole_and_matched_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log");
        let matched = AtomicBool::new(false);
        let output = b"starting\n\xff\xfe no text\nlistening on :80\nno end".as_slice();
        let copied = |pattern: &str| {
            matched.store(false, Ordering::Relaxed);
            let sink = Sink::open(Some(&file)).unwrap();
            copy(BufReader::new(output), sink, &Regex::new(pattern).unwrap(), &matched);
            assert_eq!(std::fs::read(&file).unwrap(), output);
            matched.load(Ordering::Relaxed)
        };
        assert!(copied("^listening on :[0-9]+$"));
        assert!(!copied("starting.*listening"));
        assert!(copied("^no end$"));
    }
}
