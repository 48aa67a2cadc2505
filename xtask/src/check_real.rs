//! `cargo xtask check-real`: does `leakline check` stop a leak in a real server, and let the same server without it pass?
//!
//! An etcd from the module proxy under a steady load. First a baseline of it as it is; then as it is, three times, which must pass; then
//! with a handler that keeps a copy of each value that is put, which must fail and name the line. The leak is put into a copy of the
//! server's module, which a copy of our `go.mod` replaces it by (`go build -modfile`): nothing in the module cache is touched, nor
//! in the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::bench::services::{RELEASE, build_with, free_address};
use crate::{build_leakline, command, setup};

const MODULE: &str = "tracer-daemon/tests/programs/real/etcd";
const SERVER: &str = "go.etcd.io/etcd/server/v3";
/// The file that the leak goes into, in the server's module, and where in it.
const FILE: &str = "etcdserver/api/v3rpc/key.go";
const BEFORE: &str = "\tresp, err := s.kv.Put(ctx, r)\n";
/// What a cache without an end looks like.
const LEAK: &str = "\tkeepForEver(r.Value)\n";
const KEEPER: &str = "
var kept = struct {
\tsync.Mutex
\tvalues [][]byte
}{}

func keepForEver(value []byte) {
\tkept.Lock()
\tdefer kept.Unlock()
\tkept.values = append(kept.values, append(make([]byte, 0, len(value)), value...)) // LEAK
}
";
/// Puts of values of so many bytes, per second: half a MiB.
const PUTS: u32 = 500;
const VALUE_BYTES: u32 = 1024;
/// The exit status where something leaks.
const LEAKS: i32 = 10;

/// Options of `cargo xtask check-real`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often it must pass as it is
    #[arg(long, default_value_t = 3)]
    passes: u32,
    /// How long each run measures
    #[arg(long, default_value = "75s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How long each run warms up: the log that etcd holds in memory is full after 20 s
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    warmup: Duration,
    /// A leakline that is built already
    #[arg(long, value_name = "FILE")]
    leakline: Option<PathBuf>,
    /// Where the numbers go
    #[arg(long, value_name = "FILE", default_value = "docs/results/check-real.json")]
    json: PathBuf,
}

/// What every run needs.
struct Bench<'a> {
    options: &'a Options,
    leakline: PathBuf,
    folder: PathBuf,
    putload: PathBuf,
}

/// Builds, runs, judges, writes the results. An error where the gate did not do as it must.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let leakline = options.leakline.clone().map_or_else(|| build_leakline(root), Ok)?;
    let commit = command::capture(Command::new("git").current_dir(root).args(["rev-parse", "HEAD"]))?;
    let folder = root.join("target/check-real");
    fs::create_dir_all(&folder)?;
    let patched = patched(root, &folder)?;
    let leaky_line = patched.line;
    let flags = [format!("-modfile={}", patched.module_file.display())];
    let clean = build_with(root, &folder, MODULE, "etcd", SERVER, &[])?;
    let leaky = build_with(root, &folder, MODULE, "etcd-leaky", SERVER, &flags)?;
    let putload = build_with(root, &folder, MODULE, "putload", "./putload", &[])?;
    let bench = Bench { options, leakline, folder: folder.clone(), putload };
    let baseline = folder.join("baseline.json");
    let compared = format!("--baseline={}", baseline.display());

    let mut runs = vec![bench.run("as it is", &clean, &format!("--write-baseline={}", baseline.display()))?];
    for _ in 0..options.passes {
        runs.push(bench.run("as it is", &clean, &compared)?);
    }
    runs.push(bench.run("with the leak", &leaky, &compared)?);
    let text = json!({
        "commit": commit.trim(),
        "go": format!("go{RELEASE}"),
        "server": patched.version,
        "puts_per_second": PUTS,
        "value_bytes": VALUE_BYTES,
        "warmup_seconds": options.warmup.as_secs(),
        "duration_seconds": options.duration.as_secs(),
        "leak": { "function": "go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc.keepForEver", "file": FILE, "line": leaky_line },
        "runs": runs,
    });
    fs::write(root.join(&options.json), serde_json::to_string_pretty(&text)? + "\n")?;
    println!("run | compared | exit status | outcome | fails");
    for run in &runs {
        println!("{} | {} | {} | {} | {}", run["etcd"], run["compared"], run["status"], run["outcome"], run["failing"]);
    }
    judge(&runs, leaky_line)
}

/// What must be so.
fn judge(runs: &[Value], leaky_line: u64) -> Result<()> {
    let (leaky, clean) = runs.split_last().context("no runs")?;
    for run in clean.iter().filter(|run| run["compared"] == true) {
        ensure!(run["status"] == 0 && run["outcome"] == "passed", "etcd as it is does not pass: {run}");
    }
    ensure!(leaky["status"] == LEAKS, "the leak passes: {leaky}");
    let is_it =
        |site: &Value| site["line"] == leaky_line && site["file"].as_str().is_some_and(|file| file.ends_with(FILE));
    let failing = leaky["failing"].as_array().context("no list")?;
    ensure!(failing.iter().any(is_it), "the leak is not named: {leaky}");
    ensure!(failing.iter().all(is_it), "others are accused, too: {leaky}");
    println!(
        "etcd as it is passes {} of {} times; with the leak it fails, and the line is named",
        clean.len() - 1,
        clean.len() - 1
    );
    Ok(())
}

struct Patched {
    /// What `-modfile` is given.
    module_file: PathBuf,
    /// Of the marked line in the file that is compiled.
    line: u64,
    /// Of the server.
    version: String,
}

/// Makes a copy of the server's module with the leak in it, and a module file that has it replaced by that.
fn patched(root: &Path, folder: &Path) -> Result<Patched> {
    let module = root.join(MODULE);
    let mut go = Command::new(setup::go_command(root)?);
    go.current_dir(&module).env("GOTOOLCHAIN", format!("go{RELEASE}"));
    let said = command::capture(go.args(["list", "-m", "-f", "{{.Dir}}\n{{.Path}} {{.Version}}", SERVER]))?;
    let (source, version) = said.trim().split_once('\n').context("go list says too little")?;
    let copy = folder.join("server-with-leak");
    // From an earlier run.
    drop(fs::remove_dir_all(&copy));
    copy_folder(Path::new(source), &copy)?;
    let file = copy.join(FILE);
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    ensure!(text.matches(BEFORE).count() == 1, "{FILE} of {version} is not as it was: the leak has no place");
    let leaky =
        text.replacen("import (\n", "import (\n\t\"sync\"\n", 1).replacen(BEFORE, &format!("{LEAK}{BEFORE}"), 1)
            + KEEPER;
    let line = leaky.lines().position(|line| line.ends_with("// LEAK")).context("no marked line")?;
    fs::write(&file, leaky)?;
    let module_file = folder.join("go.mod");
    let original = fs::read_to_string(module.join("go.mod"))?;
    fs::write(&module_file, format!("{original}\nreplace {SERVER} => {}\n", copy.display()))?;
    // Go looks for it beside the module file.
    fs::copy(module.join("go.sum"), folder.join("go.sum"))?;
    Ok(Patched { module_file, line: u64::try_from(line)? + 1, version: version.to_owned() })
}

/// With files that can be written to, which those of the module cache cannot.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::write(&to, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

impl Bench<'_> {
    /// One check of one etcd.
    #[expect(clippy::disallowed_methods, reason = "it is told how long it took")]
    fn run(&self, etcd: &str, program: &Path, flag: &str) -> Result<Value> {
        let data = self.folder.join("data");
        // From an earlier run.
        drop(fs::remove_dir_all(&data));
        let (address, peer) = (free_address()?, free_address()?);
        let load = format!(
            "exec '{}' -endpoint {address} -rate {PUTS} -value-bytes {VALUE_BYTES} -for 30m",
            self.putload.display()
        );
        let mut check = Command::new(&self.leakline);
        check
            .args(["check", "--output=json", flag])
            .arg(format!("--warmup={}s", self.options.warmup.as_secs()))
            .arg(format!("--duration={}s", self.options.duration.as_secs()))
            .arg(format!("--ready-url=http://{address}/health"))
            .arg(format!("--load={load}"))
            .arg(format!("--command-output={}", self.folder.join("etcd.log").display()))
            .arg("--")
            .arg(program)
            .arg("--name=one")
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls=http://{address}"))
            .arg(format!("--advertise-client-urls=http://{address}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!("--initial-cluster=one=http://{peer}"))
            .arg("--log-level=error");
        eprintln!("etcd {etcd}, {flag}");
        let began = Instant::now();
        let output = check.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("start leakline")?;
        let document: Value = serde_json::from_slice(&output.stdout).context("no document of leakline")?;
        let check = &document["check"];
        let sites = check["sites"].as_array().context("no sites")?;
        let shown = |fails: bool| -> Vec<Value> {
            let of = sites.iter().filter(|site| site["fails"] == fails);
            of.map(|site| {
                json!({
                    "function": site["function"], "file": site["file"], "line": site["line"], "change": site["change"],
                    "verdict": site["verdict"], "why": site["why"],
                })
            })
            .collect()
        };
        let whole = &check["whole"][0];
        let run = json!({
            "etcd": etcd,
            "compared": flag.starts_with("--baseline"),
            "status": output.status.code(),
            "outcome": check["outcome"],
            "doubts": check["doubts"],
            "cycles": check["cycles"],
            "seconds": began.elapsed().as_secs(),
            "whole": { "verdict": whole["verdict"], "why": whole["why"] },
            "failing": shown(true),
            "others": shown(false),
        });
        eprintln!("  exit status {:?}, {}, {}", output.status.code(), check["outcome"], whole["why"]);
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(compared: bool, status: i32, outcome: &str, line: Option<u64>) -> Value {
        let failing: Vec<Value> =
            line.iter().map(|line| json!({ "file": format!("x/{FILE}"), "line": line })).collect();
        json!({ "compared": compared, "status": status, "outcome": outcome, "failing": failing })
    }

    #[test]
    fn it_is_only_well_when_the_leak_alone_fails_and_is_named() {
        let first = run(false, LEAKS, "failed", Some(3));
        let (passed, leaky) = (run(true, 0, "passed", None), run(true, LEAKS, "failed", Some(7)));
        assert!(judge(&[first.clone(), passed.clone(), leaky.clone()], 7).is_ok(), "the first run writes the baseline");
        assert!(judge(&[first.clone(), passed.clone(), leaky.clone()], 8).is_err());
        assert!(judge(&[first.clone(), passed.clone(), run(true, 0, "passed", None)], 7).is_err());
        assert!(judge(&[first.clone(), run(true, LEAKS, "failed", Some(7)), leaky.clone()], 7).is_err());
        assert!(judge(&[first, run(true, 0, "unknown", None), leaky], 7).is_err());
    }
}
