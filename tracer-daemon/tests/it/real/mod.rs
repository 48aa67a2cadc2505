//! Real services: Prometheus and etcd under leakline, where their source says whether the named lines are right, and a
//! Prometheus that scrapes leakline. Pinned in `tests/programs/real/`; the first build takes minutes.

mod profile;
mod proxy;
mod services;
mod source;

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    exact::knownsites,
    leakline::{can_attach, leakline},
    run::Daemon,
    target::{Target, wait_until},
};
use proxy::RecordingProxy;
use services::{ETCD, Etcd, Prometheus};
pub(crate) use services::{PROMETHEUS, PROMTOOL};
use source::Sources;

/// Sites whose lines are looked up.
const LOOKED_UP: usize = 20;
/// Scrapes over which counters are watched.
const SCRAPES: u32 = 6;

/// The document of ten seconds of `exact`.
fn watched(pid: u32) -> Value {
    let pid = pid.to_string();
    let arguments = ["attach", "--pid", &pid, "--evidence", "exact", "--duration", "10s", "--output", "json"];
    let output = leakline(&arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Everything is counted, and the first sites are lines of the program.
fn is_named_line_by_line(document: &Value, main_module: &str, sources: &Sources) {
    let sites = document["sites"].as_array().unwrap();
    let paths: usize = sites.iter().filter_map(|site| site["paths"].as_array()).map(Vec::len).sum();
    println!("{} sites, {paths} paths, loss {}, cost {}", sites.len(), document["loss"], document["cost"]);
    let mut problems = Vec::new();
    for (reason, count) in document["loss"].as_object().unwrap() {
        if count != 0 {
            problems.push(format!("{count} lost: {reason}"));
        }
    }
    if document["process"]["main_module"] != main_module {
        problems.push(format!("the main module is {}", document["process"]["main_module"]));
    }
    if sites.len() < 10 {
        problems.push(format!("{} sites only", sites.len()));
    }
    if let Some(other) = sites.iter().find(|site| site["site"] == "other") {
        problems.push(format!("belongs to no site: {}", other["counted"]));
    }
    for site in sites.iter().take(LOOKED_UP) {
        for frame in [site, &site["allocator"]] {
            let (function, file) = (frame["function"].as_str().unwrap(), frame["file"].as_str().unwrap());
            if let Err(problem) = sources.check(function, file, frame["line"].as_u64().unwrap()) {
                problems.push(format!("{function} at {file}:{}: {problem}", frame["line"]));
            }
        }
    }
    let package = format!("{main_module}/");
    let of_main = |site: &&Value| site["function"].as_str().is_some_and(|function| function.starts_with(&package));
    let of_main = sites.iter().take(10).filter(of_main).count();
    if of_main < 5 {
        problems.push(format!("{of_main} of the first 10 sites are lines of {main_module}"));
    }
    assert!(problems.is_empty(), "{problems:#?}\n{document:#}");
}

#[test]
fn a_prometheus_that_scrapes_itself_is_named_line_by_line() {
    if !can_attach("a_prometheus_that_scrapes_itself_is_named_line_by_line") {
        return;
    }
    let mut prometheus = Prometheus::start("");
    prometheus.wait_until("it has scraped itself", |prometheus| prometheus.number(r#"up{job="prometheus"}"#) > 0.0);
    let document = watched(prometheus.pid());
    is_named_line_by_line(&document, "github.com/prometheus/prometheus", &Sources::of(&PROMETHEUS));
}

#[test]
fn an_etcd_under_puts_is_named_line_by_line() {
    if !can_attach("an_etcd_under_puts_is_named_line_by_line") {
        return;
    }
    let etcd = Etcd::under_load();
    let document = watched(etcd.pid());
    is_named_line_by_line(&document, "go.etcd.io/etcd/server/v3", &Sources::of(&ETCD));
}

#[test]
fn a_real_prometheus_scrapes_leakline() {
    if !can_attach("a_real_prometheus_scrapes_leakline") {
        return;
    }
    let etcd = Etcd::under_load();
    let daemon = Daemon::start(&["--pid", &etcd.pid().to_string()]);
    let proxy = RecordingProxy::to(daemon.address);
    // What we tell users to write.
    let example = include_str!("../../../../deploy/prometheus/scrape.yml");
    let (_, jobs) = example.split_once("scrape_configs:\n").unwrap();
    let job = jobs.replace("127.0.0.1:9464", &proxy.address.to_string());
    assert_ne!(job, jobs);
    let mut prometheus = Prometheus::start(&job);
    prometheus.wait_until("leakline has been scraped often enough", |prometheus| {
        prometheus.number(r#"sum_over_time(up{job="leakline"}[10m])"#) >= f64::from(SCRAPES)
            && prometheus.number(r#"up{job="leakline"}"#) > 0.0
    });

    for exchange in proxy.exchanges() {
        assert!(exchange.accept.contains("application/openmetrics-text"), "{exchange:?}");
        assert!(exchange.content_type.starts_with("application/openmetrics-text; version=1.0.0"), "{exchange:?}");
    }
    let named = prometheus.query(
        "leakline_site_allocated_bytes_total * on (namespace, pod, container, service, site) \
         group_left (function, file, line) leakline_site_info",
    );
    let of_etcd =
        |series: &&Value| series["metric"]["function"].as_str().unwrap().starts_with("go.etcd.io/etcd/server/");
    assert!(named.iter().filter(of_etcd).count() >= 5, "{named:#?}");

    let counters = prometheus.query(r#"{__name__=~"leakline_.+_total"}[10m]"#);
    let mut long = 0;
    for series in &counters {
        let values: Vec<f64> =
            series["values"].as_array().unwrap().iter().map(|pair| services::number(&pair[1])).collect();
        assert!(values.is_sorted(), "{} falls: {values:?}", series["metric"]);
        long += usize::from(values.len() >= 5);
    }
    assert!(long >= 20, "{long} of {} counters have five samples", counters.len());
    println!(
        "{} scrapes, {} counters, {long} of them with five samples or more",
        proxy.exchanges().len(),
        counters.len()
    );
}

#[test]
fn promtool_check_metrics_is_clean_on_the_classic_format() {
    if !can_attach("promtool_check_metrics_is_clean_on_the_classic_format") {
        return;
    }
    let mut target = Target::start(&knownsites("go1.26.6", &[]), &[]);
    let daemon = Daemon::start(&["--pid", &target.pid().to_string()]);
    wait_until("it is ready", || daemon.is_ready());
    target.say("go");
    assert_eq!(target.line(), "done");
    wait_until("sites have series", || daemon.sum("leakline_goroutines_created_total", "site") > 0);
    let answer = daemon.metrics();
    let (head, metrics) = answer.split_once("\n\n").unwrap();
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    is_clean_to_promtool(metrics);
}

/// What promtool says of a text in the classic format: nothing.
pub(crate) fn is_clean_to_promtool(metrics: &str) {
    let mut promtool = Command::new(PROMETHEUS.path_of(PROMTOOL))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
    assert!(output.status.success() && said.is_empty(), "promtool ended with {}: {said}\n{metrics}", output.status);
    println!("{} lines of metrics are clean", metrics.lines().count());
}
