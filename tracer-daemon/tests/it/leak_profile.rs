//! `attach --pprof`: what leaks is on top of what `go tool pprof` shows; and `run` says the same of it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tracer_daemon::export::human::approximate;

use crate::{
    go::build,
    leakline::{failure, leakline},
    profile::{read_profile, top},
    real::is_clean_to_promtool,
    run::Daemon,
    target::{Target, wait_until},
};

const LEAK: &str = "main.(*sessionStore).put";

/// What `go tool pprof` prints with these options.
fn pprof(file: &Path, options: &[&str]) -> String {
    let mut command = Command::new("go");
    let output =
        command.env("GOTOOLCHAIN", "go1.26.6").args(["tool", "pprof"]).args(options).arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A web service that leaks about 1 MB/s on one line, and ends with the value.
struct Service(Child);

impl Service {
    fn start() -> Self {
        let mut command = Command::new(build("leakyservice", "go1.26.6", &[]));
        command.args(["-for", "10m", "-rate", "200"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        assert!(first.starts_with("listening"), "{first}");
        Self(child)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_leaking_line_is_on_top_of_what_grew_and_the_metrics_say_so_too() {
    let service = Service::start();
    let pid = service.0.id().to_string();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("leaks.pb.gz");
    let daemon = Daemon::with_evidence("books", &["--pid", &pid]);
    let mut arguments = vec!["attach", "--pid", &pid, "--duration", "45s", "--output", "json"];
    arguments.extend(["--pprof", file.to_str().unwrap()]);
    let output = leakline(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("growth_space"), "{said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let site = document["sites"].as_array().unwrap().iter().find(|site| site["function"] == LEAK).unwrap();
    let (id, line) = (site["site"].as_str().unwrap(), site["line"].as_u64().unwrap());
    assert!(["leaking", "growing"].contains(&site["verdict"].as_str().unwrap()), "{site}");

    // What is shown without being asked for is growth, and its first line is the one that leaks.
    let shown = pprof(&file, &["-top"]);
    assert!(shown.contains("Type: growth_space") && shown.contains("File: leakyservice"), "{shown}");
    let grown = top(&file, "growth_space");
    let first = grown.iter().skip_while(|line| !line.contains("flat%")).nth(1).unwrap();
    assert!(first.contains(LEAK), "{grown:#?}");
    let by_line = pprof(&file, &["-lines", "-top"]);
    assert!(by_line.contains(&format!("main.go:{line}")), "{by_line}");
    let comments = pprof(&file, &["-comments"]);
    let said_of_it = comments.lines().find(|comment| comment.contains(LEAK)).unwrap();
    assert!(
        said_of_it.contains(&format!("main.go:{line}")) && said_of_it.ends_with(&format!("site {id}")),
        "{comments}"
    );
    assert!(comments.contains("leakline main module: "), "{comments}");
    let tags = pprof(&file, &["-tags"]);
    assert!(tags.contains("verdict:") && tags.contains(id), "{tags}");

    // The values are those of the document: rate times window, and what is alive.
    let profile = read_profile(&file);
    let sum = |kind: &str| -> f64 {
        let position = profile.position(kind).unwrap();
        let sum: i64 = profile.samples.iter().map(|sample| sample.values[position]).sum();
        approximate(u64::try_from(sum).unwrap())
    };
    let number = |value: &Value| value.as_f64().unwrap();
    let alive: f64 =
        document["sites"].as_array().unwrap().iter().filter_map(|site| site["live_bytes"]["value"].as_f64()).sum();
    assert!((sum("inuse_space") / alive - 1.0).abs() < 0.001, "{} {alive}", sum("inuse_space"));
    let grown_of_site = number(&site["growth_bytes_per_s"]["value"]) * number(&document["window_s"]);
    assert!(sum("growth_space") >= 0.999 * grown_of_site, "{} {grown_of_site}", sum("growth_space"));

    // The daemon watches the same process meanwhile.
    let has =
        |start: &str, part: &str| daemon.metrics().lines().any(|line| line.starts_with(start) && line.contains(part));
    wait_until("the daemon names the line, too", || has("leakline_site_growth_bytes_per_second_low{", id));
    let metrics = daemon.metrics();
    assert!(
        has("leakline_site_info{", LEAK) && has("leakline_heap_growth_bytes_per_second{", "leakyservice"),
        "{metrics}"
    );
    assert!(
        has("leakline_process_verdict{", "} 1") && has("leakline_memory_seconds_to_limit{", "leakyservice"),
        "{metrics}"
    );
    let (_, body) = metrics.split_once("\n\n").unwrap();
    is_clean_to_promtool(body);
    let of_interest = ["_growth", "_verdict{", "_seconds_to_limit"];
    let said: Vec<_> = body
        .lines()
        .filter(|line| of_interest.iter().any(|part| line.contains(part)) && !line.starts_with('#'))
        .collect();
    println!("{}\n{}\n{}", comments.trim(), grown.join("\n"), said.join("\n"));
}

#[test]
fn a_file_that_cannot_be_made_is_said_before_time_is_spent() {
    let target = Target::start(&build("heapprofile", "go1.26.6", &[]), &[]);
    let pid = target.pid().to_string();
    let (status, said) = failure(&["attach", "--pid", &pid, "--duration", "1h", "--pprof", "/nowhere/at/all/x.pb.gz"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("/nowhere/at/all/x.pb.gz") && said.contains("--pprof"), "{said}");
}

#[test]
fn without_names_the_file_says_why_it_is_empty() {
    let target = Target::start(&build("heapprofile", "go1.26.6", &["-tags=nosampler"]), &[]);
    let pid = target.pid().to_string();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.pb.gz");
    let output = leakline(&["attach", "--pid", &pid, "--duration", "1s", "--pprof", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("without samples"), "{said}");
    let profile = read_profile(&file);
    assert!(profile.samples.is_empty());
    assert!(profile.comments.iter().any(|comment| comment.contains("--adopt-sampler")), "{:?}", profile.comments);
}
