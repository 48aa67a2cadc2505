//! Process tests of `leakline run`: metrics, discovery, shutdown.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

use rustix::process::Signal;

use crate::{
    exact::knownsites,
    leakline::{Running, can_attach, failure},
    safety::{changed, text_bytes},
    target::{Target, wait_until},
};

/// A leakline that serves.
pub(crate) struct Daemon {
    running: Running,
    pub(crate) address: SocketAddr,
}

impl Daemon {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::with_evidence("exact", arguments)
    }

    pub(crate) fn with_evidence(evidence: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["run", "--listen", "127.0.0.1:0", "--evidence", evidence];
        all.extend(arguments);
        let mut running = Running::start(&all);
        let line = running.wait_for("serving");
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        let address = address.trim_matches('"').parse().unwrap();
        Self { running, address }
    }

    /// Status and body of a page.
    fn get(&self, path: &str, accept: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), format!("{head}\n\n{body}"))
    }

    pub(crate) fn metrics(&self) -> String {
        self.get("/metrics", "text/plain").1
    }

    /// The sum of all series of a counter whose labels hold a text.
    pub(crate) fn sum(&self, name: &str, label: &str) -> u64 {
        self.metrics()
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz", "*/*").0 == 200
    }
}

/// A copy of the test program under a name of its own, so that `--name` finds it alone.
fn named_copy(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    let copy = folder.path().join(name);
    fs::copy(knownsites("go1.26.6", &[]), &copy).unwrap();
    copy
}

#[test]
fn processes_are_picked_up_by_name_and_their_counters_outlive_them() {
    if !can_attach("processes_are_picked_up_by_name_and_their_counters_outlive_them") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = named_copy(&folder, "picked-up-1");
    let daemon = Daemon::start(&["--name", "picked-up-?"]);
    wait_until("it is ready without any target", || daemon.is_ready());
    assert_eq!(daemon.get("/healthz", "*/*").0, 200);

    let mut target = Target::start(&program, &[]);
    wait_until("the new process is picked up", || {
        daemon.metrics().contains("leakline_processes{best_evidence=\"exact\"} 1")
    });
    target.say("go");
    assert_eq!(target.line(), "done");
    let allocated = || daemon.sum("leakline_site_allocated_objects_total", "service=\"picked-up-1\"");
    wait_until("its allocations are counted", || allocated() >= 152_732);
    target.kill();
    wait_until("it is dropped", || daemon.metrics().contains("leakline_processes{best_evidence=\"exact\"} 0"));
    let after = allocated();
    assert!(after >= 152_732);

    let mut second = Target::start(&program, &[]);
    wait_until("its successor is picked up", || {
        daemon.metrics().contains("leakline_processes{best_evidence=\"exact\"} 1")
    });
    second.say("go");
    assert_eq!(second.line(), "done");
    wait_until("both are one series", || allocated() >= after + 152_732);
    daemon.running.signal(Signal::TERM);
    assert_eq!(daemon.running.finish().0, 0);
}

#[test]
fn metrics_are_negotiated() {
    if !can_attach("metrics_are_negotiated") {
        return;
    }
    let target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let daemon = Daemon::start(&["--pid", &target.pid().to_string(), "--pid-label"]);
    wait_until("it is ready", || daemon.is_ready());
    let (status, open) = daemon.get("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert_eq!(status, 200);
    assert!(open.contains("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{open}");
    let classic = daemon.metrics();
    assert!(classic.contains("text/plain; version=0.0.4") && !classic.contains("# EOF"), "{classic}");
    assert!(classic.contains(&format!("pid=\"{}\"", target.pid())), "{classic}");
    for name in ["leakline_build_info", "leakline_probe_hits_total", "process_cpu_seconds_total", "process_open_fds"] {
        assert!(classic.contains(name), "{name}: {classic}");
    }
}

#[test]
fn after_sigterm_counting_stops_then_the_program_ends_and_the_target_runs_on() {
    if !can_attach("after_sigterm_counting_stops_then_the_program_ends_and_the_target_runs_on") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.27.3", &[]), &[]);
    let before = text_bytes(target.pid());
    let mut daemon = Daemon::start(&["--pid", &target.pid().to_string()]);
    wait_until("it is ready", || daemon.is_ready());
    assert!(changed(&before, &text_bytes(target.pid())) >= 15);
    // A client that never ends its request must not hold the end up.
    let mut half = TcpStream::connect(daemon.address).unwrap();
    write!(half, "GET /metrics HTTP/1.1\r\nHost: x\r\n").unwrap();
    daemon.running.signal(Signal::TERM);
    daemon.running.wait_for("counting has stopped");
    daemon.running.wait_for("probes away");
    assert_eq!(daemon.running.finish().0, 0);
    assert_eq!(changed(&before, &text_bytes(target.pid())), 0, "the program ends when the breakpoints are gone");
    target.say("go");
    assert_eq!(target.line(), "done");
    target.close_stdin();
    assert!(target.wait().success());
}

#[test]
fn a_successor_under_the_same_pid_is_not_taken_up() {
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    if !can_attach("a_successor_under_the_same_pid_is_not_taken_up") {
        return;
    }
    if let Err(error) = fs::OpenOptions::new().write(true).open(LAST_PID) {
        println!("SKIPPED: a_successor_under_the_same_pid_is_not_taken_up: {LAST_PID}: {error}");
        return;
    }
    let program = knownsites("go1.26.6", &[]);
    let mut first = Target::start(&program, &[]);
    let pid = first.pid();
    let mut daemon = Daemon::start(&["--pid", &pid.to_string()]);
    daemon.running.wait_for("counting");
    first.kill();
    wait_until("it is dropped", || daemon.metrics().contains("leakline_processes{best_evidence=\"exact\"} 0"));
    // Others start processes meanwhile: some tries may be needed.
    let mut second = None;
    wait_until("another process has the id", || {
        fs::write(LAST_PID, (pid - 1).to_string()).unwrap();
        second = Some(Target::start(&program, &[]));
        second.as_ref().is_some_and(|second| second.pid() == pid)
    });
    // It looks once a second, and says what it has used since when it does: two looks.
    let cpu_seconds = || {
        let metrics = daemon.metrics();
        metrics.lines().find(|line| line.starts_with("process_cpu_seconds_total ")).unwrap().to_owned()
    };
    for _ in 0..2 {
        let before = cpu_seconds();
        wait_until("it has looked again", || cpu_seconds() != before);
    }
    assert!(daemon.metrics().contains("leakline_processes{best_evidence=\"exact\"} 0"));
    drop(second);
}

#[test]
fn an_address_in_use_is_said_to_be_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, message) = failure(&["run", "--name", "x", "--listen", &address, "--evidence", "exact"]);
    assert_eq!(status, 1, "{message}");
    assert!(message.contains("--listen"), "{message}");
}

#[test]
fn a_pid_that_is_no_target_ends_a_run_that_has_no_other() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id().to_string();
    let (status, message) = failure(&["run", "--pid", &pid, "--listen", "127.0.0.1:0", "--evidence", "exact"]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("not a Go program"), "{message}");
}
