//! Kernel tests: leakline opens windows in real programs, and somebody ends, stops or kills one of them meanwhile. A report comes, the target is
//! as it was, and nothing of ours is left.

mod ends;
mod ours;
mod random;
mod stacks;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    go,
    leakline::Running,
    safety::{changed, text_bytes, text_of_file},
    target::{Target, wait_until},
};

/// The environment variable that marks a leakline of a test, and the processes that it starts.
const MARK: &str = "LEAKLINE_TEST_MARK";
/// What of the log is needed: that a window opens.
const LOG: &str = "info,tracer_daemon::pipeline::bursts=debug";
/// Breakpoints in place where a window is open: the probes for collections and large objects and two or three for goroutines, which stay,
/// and at least two of the window.
const IN_WINDOW: usize = 6;

fn unruly(toolchain: &str) -> PathBuf {
    go::build("unruly", toolchain, &[])
}

/// A program of `tests/programs/unruly`.
fn target(toolchain: &str, arguments: &[&str]) -> Target {
    Target::start(&unruly(toolchain), arguments)
}

/// Breakpoints that are in the process's memory now.
fn breakpoints(pid: u32) -> usize {
    changed(&text_of_file(pid), &text_bytes(pid))
}

/// Waits until nothing is in the process's memory that its file has not.
fn wait_until_clean(pid: u32) {
    wait_until("all breakpoints are gone", || breakpoints(pid) == 0);
}

/// Waits until a window is open, or on its way.
fn wait_for_window(pid: u32) {
    let file = text_of_file(pid);
    wait_until("a window is open", || {
        // Windows are short: more often than others wait.
        (0..20).any(|_| changed(&file, &text_bytes(pid)) >= IN_WINDOW)
    });
}

/// Waits until the target has allocated more than now.
fn wait_for_allocations(target: &mut Target) {
    let before = count(target);
    wait_until("the target has allocated", || count(target) > before);
}

fn count(target: &mut Target) -> u64 {
    target.say("count");
    target.line().parse().unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// A leakline that opens windows as often as it may.
struct Bursting {
    running: Running,
    mark: String,
}

impl Bursting {
    fn attach(pid: u32, more: &[&str]) -> Self {
        let pid = pid.to_string();
        let mut arguments = vec!["attach", "--pid", &pid, "--evidence", "bursts", "--max-overhead", "50%"];
        arguments.extend(["--duration", "10m", "--output", "json"]);
        arguments.extend(more);
        Self::start(&arguments)
    }

    fn start(arguments: &[&str]) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let running = Running::start_with(arguments, &[(MARK, &mark), ("LEAKLINE_LOG", LOG)]);
        Self { running, mark }
    }

    /// Waits until so many windows more have been opened.
    fn wait_for_windows(&mut self, count: usize) {
        for _ in 0..count {
            self.running.wait_for("a window opens");
        }
    }

    /// Ids of its processes that hold links, or wait for an order to.
    fn holders(&self) -> Vec<u32> {
        let wanted = format!("{MARK}={}\0", self.mark);
        let numbers =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_holder = |pid: &u32| {
            let of = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            holds(&of("cmdline"), "hold-probes") && holds(&of("environ"), &wanted)
        };
        numbers.filter(is_holder).collect()
    }

    /// Waits until there are none.
    fn wait_until_gone(&self) {
        wait_until("no process of ours is left", || self.holders().is_empty());
    }

    /// Waits for its end, which must be a good one that leaves nothing behind; the last document that it printed.
    fn finish(self) -> Value {
        let mark = self.mark;
        let (status, document) = self.running.finish();
        assert_eq!(status, 0);
        let left = Self { running: Running::start(&["--version"]), mark }.holders();
        assert_eq!(left, [0; 0], "processes are left");
        document
    }
}

/// Windows that were opened, by a document.
fn windows(document: &Value) -> u64 {
    document["cost"]["bursts"].as_u64().unwrap()
}

fn refusal<'a>(document: &'a Value, id: &str) -> Option<&'a str> {
    let refused = document["evidence"]["refused"].as_array().unwrap();
    refused.iter().find(|refused| refused["id"] == id).and_then(|refused| refused["text"].as_str())
}

fn copy(of: &Path, to: &Path) {
    fs::copy(of, to).unwrap();
}
