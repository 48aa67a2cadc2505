//! `cargo xtask demo`: leakline on a service with two planted leaks, from nothing to the lines that are to blame.
//!
//! Sets up what it needs, builds leakline and `leakyservice`, records it by the default evidence, prints the report, and checks by
//! itself that both planted lines are accused in it; then counts for a moment with hooks on every allocation and checks that, too.
//! The lines are found by the marks in the service's source, never by number. The report and
//! the closing words go to stdout, progress to stderr. Whatever happens, the service ends by the time we do; should we be
//! killed, it ends by itself.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::{command, setup};

/// The service, relative to the workspace.
const SERVICE: &str = "tracer-daemon/tests/programs/leakyservice";
/// Exit status where this host does not allow attaching; the same as leakline's own.
const CANNOT_ATTACH: u8 = 3;
/// The further look, with `exact`.
const CHECK_TIME: Duration = Duration::from_secs(3);
/// For how long the service outlives what we plan for it, should we be killed.
const SPARE_TIME: Duration = Duration::from_secs(60);
/// How often a running leakline is looked after.
const STEP: Duration = Duration::from_millis(50);
/// How long the service may take to end when asked.
const STEPS_TO_END: u32 = 100;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long to watch
    #[arg(long, default_value = "45s", value_parser = humantime::parse_duration)]
    duration: Duration,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    ensure!(options.duration >= Duration::from_secs(1), "--duration must be at least 1s");
    if !setup::for_demo(root).is_empty() {
        bail!("something is missing, see above");
    }
    progress("building leakline (the first time takes a few minutes)");
    let leakline = crate::build_leakline(root)?;
    if let Some(fixes) = what_stands_in_the_way(&leakline)? {
        eprint!("{fixes}");
        return Ok(ExitCode::from(CANNOT_ATTACH));
    }
    progress("building leakyservice");
    let planted = Planted::in_source(&fs::read_to_string(root.join(SERVICE).join("main.go"))?)?;
    let program = build_service(root)?;

    // From here on a signal must not end us before the service has ended.
    let asked = Interrupts::listen()?;
    let service = Service::start(&program, options.duration + CHECK_TIME + SPARE_TIME)?;
    progress(&format!(
        "leakyservice serves {}, pid {}; attaching for {:?}",
        service.address,
        service.pid(),
        options.duration
    ));
    let recording = program.with_file_name("service.leakline");
    // The service is a minute old at most: it is said that this is its usual life.
    let mut record = Command::new(&leakline);
    record.args(["record", "--warm-after", "0s", "--file"]).arg(&recording);
    let status = watch(record, &service, options.duration, &asked)?;
    ensure!(status.success(), "`leakline record` ended with {status}");
    if asked.any() {
        return Ok(ExitCode::FAILURE);
    }
    progress(&format!("looking once more, for {CHECK_TIME:?} with --evidence exact"));
    let exact = program.with_file_name("report-exact.json");
    let mut count = Command::new(&leakline);
    count.args(["attach", "--evidence", "exact", "--output", "json"]).stdout(created(&exact)?);
    let status = watch(count, &service, CHECK_TIME, &asked)?;
    ensure!(status.success(), "`leakline attach --output json` ended with {status}");
    let last_words = service.end()?;
    let mut replay = Command::new(&leakline);
    replay.arg("replay").arg(&recording).args(["--output", "json"]);
    let read = document(command::capture(&mut replay)?.as_bytes())?;
    Ok(planted.judge(&read, &document(&fs::read(&exact)?)?, &last_words))
}

fn document(json: &[u8]) -> Result<Value> {
    serde_json::from_slice(json).context("the report of leakline is not JSON")
}

fn created(file: &Path) -> Result<File> {
    File::create(file).with_context(|| format!("cannot write {}", file.display()))
}

fn progress(what: &str) {
    eprintln!("demo: {what}");
}

/// What `leakline doctor` says must be repaired before it can attach. None: nothing.
fn what_stands_in_the_way(leakline: &Path) -> Result<Option<String>> {
    let mut doctor = Command::new(leakline);
    let output = doctor.args(["doctor", "--output", "json"]).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run `{}`", command::shown(&doctor)))?;
    let document: Value = serde_json::from_slice(&output.stdout).context("`leakline doctor` printed no JSON")?;
    if document["doctor"]["can_attach"] == true {
        return Ok(None);
    }
    let missing = elements(&document["doctor"]["checks"]).filter(|check| check["status"] == "missing");
    let fixes = missing.map(|check| {
        let text = |field: &str| check[field].as_str().unwrap_or_default().to_owned();
        format!("  {}: {}\n    fix: {}\n", text("id"), text("found"), text("fix"))
    });
    Ok(Some(format!("demo: leakline cannot attach on this host:\n{}", fixes.collect::<String>())))
}

fn build_service(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/demo");
    fs::create_dir_all(&folder)?;
    let program = folder.join("leakyservice");
    let mut build = Command::new(setup::go_command(root)?);
    // Without the folders of this machine, names in the report are short.
    // A release that leakline knows, whatever is installed.
    build.env("GOTOOLCHAIN", "go1.26.6");
    build.current_dir(root.join(SERVICE)).args(["build", "-trimpath", "-o"]).arg(&program).arg(".");
    command::capture(&mut build)?;
    Ok(program)
}

/// SIGINT and SIGTERM, which from now on only set flags.
struct Interrupts {
    /// Not yet passed on.
    pending: Arc<AtomicBool>,
    /// Never taken back.
    any: Arc<AtomicBool>,
}

impl Interrupts {
    fn listen() -> Result<Self> {
        let this = Self { pending: Arc::default(), any: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            for flag in [&this.pending, &this.any] {
                signal_hook::flag::register(signal, Arc::clone(flag)).context("cannot listen for signals")?;
            }
        }
        Ok(this)
    }

    fn any(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    fn take(&self) -> bool {
        self.pending.swap(false, Ordering::SeqCst)
    }
}

/// Runs leakline on the service to its end. A signal to us is passed on to it, so that it ends early with a full report.
fn watch(mut leakline: Command, service: &Service, duration: Duration, asked: &Interrupts) -> Result<ExitStatus> {
    leakline.args(["--pid", &service.pid().to_string()]);
    leakline.args(["--duration", &humantime::format_duration(duration).to_string().replace(' ', "")]);
    // A group of its own: Ctrl-C reaches it through us and not twice.
    let child = leakline.stdin(Stdio::null()).process_group(0).spawn();
    let mut child = child.with_context(|| format!("cannot run `{}`", command::shown(&leakline)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if asked.take() {
            kill_process(Pid::from_child(&child), Signal::INT).context("cannot interrupt leakline")?;
        }
        thread::sleep(STEP);
    }
}

/// The running service; ended when the value is dropped.
struct Service {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Service {
    /// Starts it for at most this long and waits until it serves.
    fn start(program: &Path, longest: Duration) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["-for", &format!("{}s", longest.as_secs())]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child =
            command.process_group(0).spawn().with_context(|| format!("cannot run `{}`", command::shown(&command)))?;
        let stdout = child.stdout.take().context("the service has no stdout")?;
        let mut service = Self { child, stdout: BufReader::new(stdout), address: String::new() };
        let mut line = String::new();
        service.stdout.read_line(&mut line)?;
        let address = line.strip_prefix("listening ").and_then(|rest| rest.split(' ').next());
        service.address = address.with_context(|| format!("the service said {line:?}"))?.to_owned();
        Ok(service)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and returns what it says about itself.
    fn end(mut self) -> Result<String> {
        let mut said = String::new();
        self.interrupt();
        self.stdout.read_to_string(&mut said)?;
        Ok(said.trim().to_owned())
    }

    /// Asks it to end, and kills it if it does not.
    fn interrupt(&mut self) {
        let ended = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_some());
        if ended(&mut self.child) {
            return;
        }
        if kill_process(Pid::from_child(&self.child), Signal::INT).is_ok() {
            for _ in 0..STEPS_TO_END {
                if ended(&mut self.child) {
                    return;
                }
                thread::sleep(STEP);
            }
        }
        // Both fail only where it has ended meanwhile.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.interrupt();
    }
}

/// The lines that leak by design, from 1.
#[derive(Debug, PartialEq, Eq)]
struct Planted {
    session_line: u64,
    price_line: u64,
}

impl Planted {
    /// Finds them by the marks at the ends of the lines.
    fn in_source(source: &str) -> Result<Self> {
        let line = |mark: &str| {
            let at = source.lines().position(|line| line.ends_with(mark));
            let at = at.with_context(|| format!("{SERVICE}/main.go has no line marked {mark}"))?;
            Ok::<_, anyhow::Error>(u64::try_from(at)? + 1)
        };
        Ok(Self { session_line: line("//site:session")?, price_line: line("//site:price")? })
    }

    /// Says where the planted leaks are in the reports, and fails where one is not: in what the default tells, and in what
    /// was counted with hooks on every allocation.
    fn judge(&self, read: &Value, counted: &Value, last_words: &str) -> ExitCode {
        println!("\nWHAT WAS PLANTED");
        let found = [self.judge_session(read, counted), self.judge_price(read, counted)];
        println!("  The service's own account of its whole life: {last_words}");
        if found.iter().all(|found| *found) {
            println!("  Checked: both lines are in the JSON reports.");
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn judge_session(&self, read: &Value, counted: &Value) -> bool {
        let holds = site_at(&read["sites"], self.session_line).filter(|site| is_accused(site));
        let allocates = site_at(&counted["sites"], self.session_line);
        let (Some(holds), Some(allocates)) = (holds, allocates) else {
            println!("  NOT FOUND: the memory leak at main.go:{}", self.session_line);
            return false;
        };
        println!(
            "  memory leak: {} at main.go:{}\n    keeps every session for ever. By default: {}, {:.0} kB/s (nominal: \
             970).\n    With `exact`, in {} s: it allocated {} objects.",
            holds["function"].as_str().unwrap_or_default(),
            self.session_line,
            holds["verdict"].as_str().unwrap_or_default(),
            holds["growth_bytes_per_s"]["value"].as_f64().unwrap_or_default() / 1e3,
            CHECK_TIME.as_secs(),
            allocates["counted"]["objects"],
        );
        true
    }

    fn judge_price(&self, read: &Value, counted: &Value) -> bool {
        let waits = site_at(&read["goroutines"]["sites"], self.price_line).filter(|site| is_accused(site));
        let starts = site_at(&counted["goroutines"]["sites"], self.price_line).filter(|site| net(site) > 0);
        let (Some(waits), Some(starts)) = (waits, starts) else {
            println!("  NOT FOUND: the goroutine leak at main.go:{}", self.price_line);
            return false;
        };
        println!(
            "  goroutine leak: {} at main.go:{}\n    starts goroutines that wait for ever. By default: {}, {} of them wait, the \
             most for {}.\n    With `exact`, in {} s: {} were started and {} ended.",
            waits["function"].as_str().unwrap_or_default(),
            self.price_line,
            waits["verdict"].as_str().unwrap_or_default(),
            waits["live"],
            waits["states"][0]["wait_reason"].as_str().unwrap_or_default(),
            CHECK_TIME.as_secs(),
            starts["created"],
            starts["exited"],
        );
        true
    }
}

/// The entry of a list of sites for this line of the service.
fn site_at(sites: &Value, line: u64) -> Option<&Value> {
    elements(sites).find(|site| {
        site["line"] == line && site["file"].as_str().is_some_and(|file| file.ends_with("leakyservice/main.go"))
    })
}

/// Whether it is said to leak or to grow.
fn is_accused(site: &Value) -> bool {
    ["leaking", "growing"].contains(&site["verdict"].as_str().unwrap_or_default())
}

/// Created less exited.
fn net(site: &Value) -> i64 {
    let count = |field: &str| site[field].as_i64().unwrap_or(0);
    count("created") - count("exited")
}

fn elements(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{Planted, net, site_at};
    use serde_json::json;

    #[test]
    fn planted_lines_are_found_by_their_marks() {
        let source = "package main\n\tx := 1 //site:session\n\n\tgo func() { //site:price\n";
        assert_eq!(Planted::in_source(source).unwrap(), Planted { session_line: 2, price_line: 4 });
        assert!(Planted::in_source("//site:price\n").unwrap_err().to_string().contains("site:session"));
    }

    #[test]
    fn the_service_has_both_marks() {
        let source = crate::workspace::root().join(super::SERVICE).join("main.go");
        Planted::in_source(&std::fs::read_to_string(source).unwrap()).unwrap();
    }

    #[test]
    fn a_site_is_found_by_file_and_line_and_only_there() {
        let sites = json!([
            { "file": "encoding/json/decode.go", "line": 7 },
            { "file": "example.com/leakyservice/main.go", "line": 7, "created": 9, "exited": 2 },
        ]);
        assert_eq!(net(site_at(&sites, 7).unwrap()), 7);
        assert_eq!(site_at(&sites, 8), None);
        assert_eq!(site_at(&json!(null), 7), None);
    }
}
