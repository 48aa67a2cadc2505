//! A real Prometheus and etcd under load whose books are read ten times a second, by `tracer-daemon/examples/books_cost.rs`: which
//! law the accepted books break, and what it costs the two in throughput.
//!
//! Windows alternate: nothing, reading, nothing. A window with reading is compared with the mean of the two next to it, so that slow
//! drift cancels; the second without is compared with the first, which shows what is noise. Throughput is what the services
//! themselves count.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::stats::Estimate;
use crate::{command, setup};

/// Go release that builds both services.
const RELEASE: &str = "1.26.6";
/// Clients of each service: enough to keep it busy.
const CLIENTS: usize = 3;
/// What Prometheus is asked for: sums over what it scrapes of itself, `sum by (__name__)({__name__=~"prometheus_.+"})`.
const QUERY: &str = "/api/v1/query?query=sum%20by%20(__name__)(%7B__name__%3D~%22prometheus_.%2B%22%7D)";

/// Options of `cargo xtask bench soak-books`.
#[derive(Debug, clap::Args)]
pub(crate) struct SoakArgs {
    /// How long it runs, all windows together
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long one window is
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    window: Duration,
    /// Also write the numbers as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Throughput of one service, per second.
#[derive(Debug, Serialize)]
struct Throughput {
    service: &'static str,
    unit: &'static str,
    without: Estimate,
    with: Estimate,
    /// With reading over without.
    ratio: Estimate,
    /// Without over without: what is noise.
    ratio_of_nothing: Estimate,
}

/// Runs both services and prints what was seen.
#[expect(clippy::disallowed_methods, reason = "throughput is counted per second")]
pub(crate) fn run(root: &Path, args: &SoakArgs) -> Result<()> {
    let example = crate::build_example(root, "books_cost")?;
    let commit = command::capture(Command::new("git").current_dir(root).args(["rev-parse", "HEAD"]))?;
    let folder = root.join("target/bench/soak");
    fs::create_dir_all(&folder)?;
    let etcd = Etcd::start(root, &folder, args.duration)?;
    let prometheus = Prometheus::start(root, &folder)?;
    let mut reader = Reader::start(&example, &[prometheus.service.0.id(), etcd.service.0.id()])?;
    // Both warm up: heaps grow, the first blocks are cut.
    thread::sleep(args.window);

    let begin = Instant::now();
    let mut windows: Vec<[[f64; 2]; 3]> = Vec::new();
    while begin.elapsed() < args.duration {
        let mut three = [[0.0; 2]; 3];
        for (rates, is_on) in three.iter_mut().zip([false, true, false]) {
            reader.switch(is_on)?;
            let before = [etcd.puts()?, prometheus.answers()];
            let window = Instant::now();
            thread::sleep(args.window);
            let after = [etcd.puts()?, prometheus.answers()];
            let seconds = window.elapsed().as_secs_f64();
            *rates = [(after[0] - before[0]) / seconds, (after[1] - before[1]) / seconds];
        }
        windows.push(three);
        eprintln!("{:.0} s: {three:.0?}", begin.elapsed().as_secs_f64());
    }
    let seen = reader.end()?;
    let services = [("etcd", "puts"), ("prometheus", "answered queries")];
    let throughput = services
        .into_iter()
        .enumerate()
        .map(|(index, (service, unit))| compare(service, unit, &windows, index))
        .collect::<Result<Vec<_>>>()?;
    print(&throughput, &seen);
    if let Some(path) = &args.json {
        let text = json!({
            "commit": commit.trim(),
            "duration_seconds": args.duration.as_secs(),
            "window_seconds": args.window.as_secs(),
            "throughput": throughput,
            "seen": seen,
        });
        fs::write(path, serde_json::to_string_pretty(&text)? + "\n")?;
    }
    ensure!(throughput.iter().all(|row| row.without.low > 0.0), "a service did nothing in some window");
    for process in seen["processes"].as_array().context("no processes")? {
        let broken = process["broken"].as_object().context("no laws")?;
        ensure!(broken.is_empty(), "{} broke laws: {broken:?}", process["name"]);
        ensure!(process["reads"].as_u64() > Some(0), "{} was not read", process["name"]);
    }
    Ok(())
}

fn compare(service: &'static str, unit: &'static str, windows: &[[[f64; 2]; 3]], index: usize) -> Result<Throughput> {
    let of = |number: fn(f64, f64, f64) -> f64| {
        let values = windows.iter().map(|[first, with, second]| number(first[index], with[index], second[index]));
        Estimate::of(&values.collect::<Vec<_>>()).context("no windows")
    };
    Ok(Throughput {
        service,
        unit,
        without: of(|first, _, second| f64::midpoint(first, second))?,
        with: of(|_, with, _| with)?,
        ratio: of(|first, with, second| with / f64::midpoint(first, second))?,
        ratio_of_nothing: of(|first, _, second| second / first)?,
    })
}

fn print(throughput: &[Throughput], seen: &Value) {
    println!("service | unit per second | without | with | ratio (95 % interval) | nothing against nothing");
    for row in throughput {
        println!(
            "{} | {} | {:.0} | {:.0} | {:.4} ({:.4} to {:.4}) of {} | {:.4} ({:.4} to {:.4})",
            row.service,
            row.unit,
            row.without.median,
            row.with.median,
            row.ratio.median,
            row.ratio.low,
            row.ratio.high,
            row.ratio.values,
            row.ratio_of_nothing.median,
            row.ratio_of_nothing.low,
            row.ratio_of_nothing.high,
        );
    }
    for process in seen["processes"].as_array().into_iter().flatten() {
        println!(
            "{} ({}): {} reads accepted, refused {}, laws broken {}, discarded {}, most slack {} objects, {} allocations, {} \
             collections",
            process["name"],
            process["go"],
            process["reads"],
            process["refused"],
            process["broken"],
            process["discards"],
            process["slack_max"],
            process["allocs"],
            process["collections"],
        );
    }
    println!("CPU time of the reader: {} ns", seen["cpu_ns"]);
}

/// A process; killed when dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self(command.spawn().with_context(|| format!("start {command:?}"))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The reading process: told to read or not by lines.
struct Reader(Process);

impl Reader {
    fn start(example: &Path, pids: &[u32]) -> Result<Self> {
        let mut command = Command::new(example);
        command.arg("soak").args(pids.iter().map(ToString::to_string));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start the reader")?;
        let mut reader = Self(Process(child));
        ensure!(reader.line()? == "ready", "the reader is not ready");
        Ok(reader)
    }

    fn line(&mut self) -> Result<String> {
        // Nothing more is printed before the next line is asked for.
        let mut line = String::new();
        BufReader::new(self.0.0.stdout.as_mut().context("no stdout")?).read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    fn switch(&mut self, is_on: bool) -> Result<()> {
        let stdin = self.0.0.stdin.as_mut().context("no stdin")?;
        Ok(writeln!(stdin, "{}", if is_on { "on" } else { "off" })?)
    }

    fn end(&mut self) -> Result<Value> {
        self.0.0.stdin = None;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

struct Etcd {
    address: SocketAddr,
    service: Process,
    _load: Vec<Process>,
}

impl Etcd {
    fn start(root: &Path, folder: &Path, duration: Duration) -> Result<Self> {
        let module = "tracer-daemon/tests/programs/real/etcd";
        let program = build(root, folder, module, "etcd", "go.etcd.io/etcd/server/v3")?;
        let putload = build(root, folder, module, "putload", "./putload")?;
        let data = folder.join("etcd-data");
        // From an earlier run.
        drop(fs::remove_dir_all(&data));
        let (address, peer) = (free_address()?, free_address()?);
        let mut command = Command::new(program);
        command.args([
            "--name=one".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls=http://{address}"),
            format!("--advertise-client-urls=http://{address}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster=one=http://{peer}"),
            // Otherwise history fills the store.
            "--auto-compaction-retention=1000".to_owned(),
            "--auto-compaction-mode=revision".to_owned(),
            "--log-level=error".to_owned(),
        ]);
        let service = Process::start(&mut command, &folder.join("etcd.log"))?;
        wait_for("etcd", || get(address, "/health").is_some_and(|health| health.contains("\"true\"")))?;
        // It ends by itself, so that a bench that is killed leaves no load behind.
        let load = (0..CLIENTS)
            .map(|client| {
                let until = format!("{}s", duration.as_secs() + 120);
                let mut command = Command::new(&putload);
                command.args(["-endpoint", &address.to_string(), "-rate", "5000", "-for", &until]);
                Process::start(&mut command, &folder.join(format!("putload-{client}.log")))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { address, service, _load: load })
    }

    fn puts(&self) -> Result<f64> {
        let metrics = get(self.address, "/metrics").context("etcd gives no metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("etcd_mvcc_put_total "));
        line.context("etcd counts no puts")?.parse().context("a count of puts that is no number")
    }
}

struct Prometheus {
    service: Process,
    answers: Arc<AtomicU64>,
    has_ended: Arc<AtomicBool>,
}

impl Prometheus {
    fn start(root: &Path, folder: &Path) -> Result<Self> {
        let module = "tracer-daemon/tests/programs/real/prometheus";
        let package = "github.com/prometheus/prometheus/cmd/prometheus";
        let program = build(root, folder, module, "prometheus", package)?;
        let data = folder.join("prometheus-data");
        // From an earlier run.
        drop(fs::remove_dir_all(&data));
        let address = free_address()?;
        let config = folder.join("prometheus.yml");
        let own = format!("  - job_name: prometheus\n    static_configs: [{{ targets: [\"{address}\"] }}]\n");
        fs::write(&config, format!("global: {{ scrape_interval: 1s }}\nscrape_configs:\n{own}"))?;
        let mut command = Command::new(program);
        command.args([
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ]);
        let service = Process::start(&mut command, &folder.join("prometheus.log"))?;
        wait_for("prometheus", || get(address, "/-/ready").is_some())?;
        let (answers, has_ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for _ in 0..CLIENTS {
            let (answers, has_ended) = (Arc::clone(&answers), Arc::clone(&has_ended));
            thread::spawn(move || {
                while !has_ended.load(Ordering::Relaxed) {
                    if get(address, QUERY).is_some() {
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        Ok(Self { service, answers, has_ended })
    }

    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    fn answers(&self) -> f64 {
        self.answers.load(Ordering::Relaxed) as f64
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

fn build(root: &Path, folder: &Path, module: &str, name: &str, package: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut go = Command::new(setup::go_command(root)?);
    go.current_dir(root.join(module)).env("GOTOOLCHAIN", format!("go{RELEASE}")).env("CGO_ENABLED", "0");
    command::run(
        go.args(["build", "-trimpath", "-tags=remove_all_sd", "-ldflags=-s -w", "-o"]).arg(&path).arg(package),
    )?;
    Ok(path)
}

/// An address on loopback that nothing listened on a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_for(what: &str, mut is_ready: impl FnMut() -> bool) -> Result<()> {
    for _ in 0..600 {
        if is_ready() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("{what} is not ready after a minute")
}

/// The body of a page. None: nobody listens yet, or the answer is not 200.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    // 1.0, so that the answer is not in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1)? == "200").then(|| body.to_owned())
}
