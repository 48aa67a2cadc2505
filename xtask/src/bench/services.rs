//! Real services under load: a Prometheus that scrapes and is queried, an etcd that is written to.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::{command, setup};

/// Go release that builds both services.
pub(crate) const RELEASE: &str = "1.26.6";
/// Clients of each service: enough to keep it busy.
const CLIENTS: usize = 3;
/// What Prometheus is asked for: sums over what it scrapes of itself, `sum by (__name__)({__name__=~"prometheus_.+"})`.
const QUERY: &str = "/api/v1/query?query=sum%20by%20(__name__)(%7B__name__%3D~%22prometheus_.%2B%22%7D)";

/// A process; killed when dropped.
pub(super) struct Process(pub(super) Child);

impl Process {
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
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

/// An etcd that is written to.
pub(super) struct Etcd {
    address: SocketAddr,
    pub(super) service: Process,
    _load: Vec<Process>,
}

impl Etcd {
    /// Starts it, and clients that write as fast as it answers and end by themselves somewhat after this time.
    pub(super) fn start(root: &Path, folder: &Path, duration: Duration) -> Result<Self> {
        Self::start_at_rate(root, folder, duration, 5_000)
    }

    /// The same with clients that write no more often than so many times per second, each.
    pub(super) fn start_at_rate(root: &Path, folder: &Path, duration: Duration, rate: u32) -> Result<Self> {
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
                command.args(["-endpoint", &address.to_string(), "-rate", &rate.to_string(), "-for", &until]);
                Process::start(&mut command, &folder.join(format!("putload-{client}.log")))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { address, service, _load: load })
    }

    /// Writes that it has answered.
    pub(super) fn puts(&self) -> Result<f64> {
        let metrics = get(self.address, "/metrics").context("etcd gives no metrics")?;
        let line = metrics.lines().find_map(|line| line.strip_prefix("etcd_mvcc_put_total "));
        line.context("etcd counts no puts")?.parse().context("a count of puts that is no number")
    }
}

/// A Prometheus that scrapes itself and is queried.
pub(super) struct Prometheus {
    pub(super) service: Process,
    answers: Arc<AtomicU64>,
    has_ended: Arc<AtomicBool>,
}

impl Prometheus {
    /// Starts it, and clients that ask as fast as it answers and end with it.
    pub(super) fn start(root: &Path, folder: &Path) -> Result<Self> {
        Self::start_with_pauses(root, folder, Duration::ZERO)
    }

    /// The same with clients that pause after each answer.
    pub(super) fn start_with_pauses(root: &Path, folder: &Path, pause: Duration) -> Result<Self> {
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
                    thread::sleep(pause);
                }
            });
        }
        Ok(Self { service, answers, has_ended })
    }

    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    /// Queries that it has answered.
    pub(super) fn answers(&self) -> f64 {
        self.answers.load(Ordering::Relaxed) as f64
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

fn build(root: &Path, folder: &Path, module: &str, name: &str, package: &str) -> Result<PathBuf> {
    build_with(root, folder, module, name, package, &[])
}

/// Builds a package that a module of `tests/programs/real` pins, with more flags than the usual ones.
pub(crate) fn build_with(
    root: &Path,
    folder: &Path,
    module: &str,
    name: &str,
    package: &str,
    more: &[String],
) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut go = Command::new(setup::go_command(root)?);
    go.current_dir(root.join(module)).env("GOTOOLCHAIN", format!("go{RELEASE}")).env("CGO_ENABLED", "0");
    command::run(
        go.args(["build", "-trimpath", "-tags=remove_all_sd", "-ldflags=-s -w"])
            .args(more)
            .arg("-o")
            .arg(&path)
            .arg(package),
    )?;
    Ok(path)
}

/// An address on loopback that nothing listened on a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
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
pub(super) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    // 1.0, so that the answer is not in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1)? == "200").then(|| body.to_owned())
}
