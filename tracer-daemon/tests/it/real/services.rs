//! The real services, on loopback with data of their own; ended when the value is dropped.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{go::Build, target::wait_until};

pub(crate) const PROMETHEUS: Build = Build {
    program: "real/prometheus",
    toolchain: "go1.26.6",
    flags: &["-trimpath", "-tags=remove_all_sd"],
    environment: &[("CGO_ENABLED", "0")],
};
pub(super) const ETCD: Build =
    Build { program: "real/etcd", toolchain: "go1.26.6", flags: &["-trimpath"], environment: &[("CGO_ENABLED", "0")] };
pub(crate) const PROMTOOL: &str = "github.com/prometheus/prometheus/cmd/promtool";

/// A Prometheus that scrapes itself every second, and what else it is told to.
pub(super) struct Prometheus {
    service: Service,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts it with more `scrape_configs`, as YAML, and waits until it is ready.
    pub(super) fn start(more_jobs: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = folder.path().join("prometheus.yml");
        let own_job = format!("  - job_name: prometheus\n    static_configs: [{{ targets: [\"{address}\"] }}]\n");
        fs::write(&config, format!("global: {{ scrape_interval: 1s }}\nscrape_configs:\n{own_job}{more_jobs}"))
            .unwrap();
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let program = PROMETHEUS.path_of("github.com/prometheus/prometheus/cmd/prometheus");
        let service = Service::start(&program, &arguments, folder.path());
        let mut prometheus = Self { service, address, _folder: folder };
        prometheus.wait_until("it is ready", |prometheus| get(prometheus.address, "/-/ready").is_some());
        prometheus
    }

    pub(super) fn pid(&self) -> u32 {
        self.service.child.id()
    }

    pub(super) fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        wait_until(what, || {
            self.service.must_run();
            holds(self)
        });
    }

    /// The bytes of one of its pages.
    pub(super) fn page(&self, path: &str) -> Option<Vec<u8>> {
        get_bytes(self.address, path)
    }

    /// The series that an expression gives now.
    pub(super) fn query(&self, expression: &str) -> Vec<Value> {
        let answer = get(self.address, &format!("/api/v1/query?query={}", percent_encoded(expression)));
        let answer: Value = serde_json::from_str(&answer.expect("an answer to a query")).unwrap();
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}")).clone()
    }

    /// The number that an expression gives now, 0 where it gives no series.
    pub(super) fn number(&self, expression: &str) -> f64 {
        self.query(expression).first().map_or(0.0, |series| number(&series["value"][1]))
    }
}

/// An etcd, alone, and a client that puts 200 values a second.
pub(super) struct Etcd {
    _load: Service,
    service: Service,
    _folder: TempDir,
}

impl Etcd {
    /// Starts both and waits until the first puts are done.
    pub(super) fn under_load() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (client, peer) = (free_address(), free_address());
        let arguments = [
            "--name=one".to_owned(),
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls=http://{client}"),
            format!("--advertise-client-urls=http://{client}"),
            format!("--listen-peer-urls=http://{peer}"),
            format!("--initial-advertise-peer-urls=http://{peer}"),
            format!("--initial-cluster=one=http://{peer}"),
            "--log-level=error".to_owned(),
        ];
        let mut service = Service::start(&ETCD.path_of("go.etcd.io/etcd/server/v3"), &arguments, folder.path());
        wait_until("etcd is healthy", || {
            service.must_run();
            get(client, "/health").is_some_and(|health| health.contains("\"true\""))
        });
        // It ends by itself, so that a test that is killed leaves no load behind.
        let arguments = ["-endpoint", &client.to_string(), "-rate", "200", "-for", "5m"].map(str::to_owned);
        let mut load = Service::start(&ETCD.path_of("./putload"), &arguments, folder.path());
        wait_until("etcd has put some values", || {
            load.must_run();
            puts(&get(client, "/metrics").unwrap_or_default()) >= 100.0
        });
        Self { _load: load, service, _folder: folder }
    }

    pub(super) fn pid(&self) -> u32 {
        self.service.child.id()
    }
}

fn puts(metrics: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix("etcd_mvcc_put_total "));
    line.map_or(0.0, |count| count.parse().unwrap())
}

/// A number as Prometheus writes it in JSON.
pub(super) fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// A process whose output goes to a file.
struct Service {
    child: Child,
    log: std::path::PathBuf,
}

impl Service {
    fn start(program: &Path, arguments: &[String], folder: &Path) -> Self {
        let log = folder.join(program.file_name().unwrap()).with_extension("log");
        let output = File::create(&log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        Self { child, log }
    }

    fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            panic!("{} ended with {status}: {said}", self.log.display());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address on loopback that nothing listened on a moment ago. The services need theirs before they start.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The body of a page, where that is text.
fn get(address: SocketAddr, path: &str) -> Option<String> {
    String::from_utf8(get_bytes(address, path)?).ok()
}

/// The body of a page. None: nobody listens yet, or the answer is not 200.
fn get_bytes(address: SocketAddr, path: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    // 1.0, so that the answer is not in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end_of_head = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(answer.get(..end_of_head)?).ok()?, answer.get(end_of_head + 4..)?);
    (head.split(' ').nth(1)? == "200").then(|| body.to_vec())
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
