//! The program `leakline` as its users run it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Runs it to its end.
pub(crate) fn leakline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leakline")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs it to its end and gives the text it prints, with one space wherever a line was broken: where that is depends on how long the
/// paths in the text are.
pub(crate) fn unbroken_text(arguments: &[&str]) -> String {
    let text = String::from_utf8(leakline(arguments).stdout).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs it to its end and gives exit status and stderr.
pub(crate) fn failure(arguments: &[&str]) -> (i32, String) {
    let output = leakline(arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Whether this host lets leakline attach. Where it does not, says so as `cargo xtask test` wants it; the proof is what
/// `leakline doctor` found missing.
pub(crate) fn can_attach(test: &str) -> bool {
    let output = leakline(&["doctor", "--output", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    if document["doctor"]["can_attach"] == true {
        return true;
    }
    let missing: Vec<&Value> = document["doctor"]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["status"] == "missing")
        .map(|check| &check["found"])
        .collect();
    assert!(!missing.is_empty(), "doctor says that nothing is missing and that it cannot attach");
    println!("SKIPPED: {test}: {missing:?}");
    false
}

/// A running leakline.
pub(crate) struct Running {
    /// The process it was started for; 0: none.
    target_pid: u32,
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it has said on stderr so far.
    pub(crate) said: String,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// As [`start`](Self::start), with these variables in its environment.
    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leakline"))
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let after_pid = arguments.iter().skip_while(|argument| **argument != "--pid").nth(1);
        let target_pid = after_pid.and_then(|pid| pid.parse().ok()).unwrap_or(0);
        Self { target_pid, child, stderr, said: String::new() }
    }

    /// Attaches with `exact` evidence for long enough, and waits until counting is on.
    pub(crate) fn attach(pid: u32, more: &[&str]) -> Self {
        let pid = pid.to_string();
        let mut arguments = vec!["attach", "--pid", &pid, "--evidence", "exact", "--duration", "10m"];
        arguments.extend(["--output", "json"]);
        arguments.extend(more);
        let mut running = Self::start(&arguments);
        running.wait_for("counting");
        running
    }

    /// Reads stderr until a line holds the text.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).unwrap();
            self.said.push_str(&line);
            assert!(read > 0, "leakline ended without saying {text:?}; it said:\n{}", self.said);
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The process it was started for.
    pub(crate) fn target_pid(&self) -> u32 {
        self.target_pid
    }

    /// What it prints on stdout.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends counting as Ctrl-C does, and gives the last document it prints.
    pub(crate) fn report(self) -> Value {
        self.signal(Signal::INT);
        self.finish().1
    }

    /// Waits for its end: exit status and the last document it printed (null where there is none).
    pub(crate) fn finish(mut self) -> (i32, Value) {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut self.said).unwrap();
        let status = self.child.wait().unwrap();
        let document = stdout.lines().last().map_or(Value::Null, |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}\nstderr: {}", self.said))
        });
        (status.code().unwrap_or(-1), document)
    }

    /// Waits for its end: exit status.
    pub(crate) fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Kills it as the OOM killer would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
