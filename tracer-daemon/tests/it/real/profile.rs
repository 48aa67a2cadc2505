//! A snapshot of a Prometheus is what its own page of profiles says.

use std::fs;

use tempfile::TempDir;
use tracer_daemon::{
    discover::target_by_pid, inspect::cache::FactsCache, pipeline::Subject, read::profile::ProfileReader,
};

use super::services::Prometheus;
use crate::profile::{assert_same_profile, lines, read_profile, snapshot, timed, top};

/// A collection between two looks makes them differ; there is one every few seconds.
const ATTEMPTS: usize = 20;

#[test]
fn a_snapshot_of_prometheus_is_what_its_own_page_says() {
    let mut prometheus = Prometheus::start("");
    prometheus.wait_until("it has scraped itself some times", |prometheus| {
        prometheus.number("sum_over_time(up[10m])") >= 5.0
    });
    let folder = TempDir::new().unwrap();
    let [before, ours, behind] = ["before", "ours", "behind"].map(|name| folder.path().join(name));
    // With a collection of its own the first time, so that there is something to see.
    prometheus.page("/debug/pprof/heap?gc=1").unwrap();
    for attempt in 1.. {
        fs::write(&before, prometheus.page("/debug/pprof/heap").unwrap()).unwrap();
        let said = snapshot(prometheus.pid(), &ours, &[]);
        fs::write(&behind, prometheus.page("/debug/pprof/heap").unwrap()).unwrap();
        let [first, second] = [&before, &behind].map(|path| lines(&read_profile(path)));
        if first != second {
            assert!(attempt < ATTEMPTS, "a collection came between in each attempt");
            continue;
        }
        assert_same_profile(&read_profile(&ours), &read_profile(&before), "prometheus");
        for index in ["inuse_space", "inuse_objects", "alloc_space", "alloc_objects"] {
            assert_eq!(top(&ours, index), top(&before, index), "{index}");
        }
        println!("attempt {attempt}, {} stacks; {said}", first.len());
        break;
    }
    cost(prometheus.pid());
}

/// What it costs us to read, printed and never asserted: thread CPU time.
fn cost(pid: u32) {
    let subject = Subject::open(&target_by_pid(pid).unwrap(), &FactsCache::default()).unwrap();
    let mut reader = ProfileReader::new(&subject.runtime()).unwrap();
    let mut spent: Vec<i64> = (0..101).map(|_| timed(|| reader.read(&subject.memory).unwrap()).0).collect();
    let first = spent[0];
    spent.sort_unstable();
    println!("{} buckets: the first read {first} us, a later one {} us (median)", reader.buckets().len(), spent[50]);
}
