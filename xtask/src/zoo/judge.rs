//! Compares what leakline reported with what a program of the zoo says it did. Pure: documents and truth in, findings out.
//!
//! What counts as right is the contract of the verdict: a leaking line is named once six samples and four collections are due,
//! its rate is within ten percent or two over the root of its samples, and no innocent line is ever called leaking, nor growing
//! after two minutes.

use serde_json::Value;

use super::cell::{Evidence, Finding};
use super::truth::{Kind, Leak, Truth};
use crate::reported::{Rate, place, sites, window, window_s};

/// Mean bytes between two samples of Go's heap profile (`runtime.MemProfileRate`).
const SAMPLE_BYTES: f64 = 524_288.0;
/// What naming a line takes.
const SAMPLES_DUE: f64 = 6.0;
const COLLECTIONS_DUE: f64 = 4.0;
const WINDOW_DUE_S: f64 = 20.0;
/// How much later than due a name may come, as a share of the time until then: six samples are due on average only, and the runtime's
/// profile lags behind by two collections.
const LATE_SHARE: f64 = 0.5;
const LATE_LEAST_S: f64 = 15.0;
/// Where there are windows and no profile, with the lateness that is allowed: one minute.
const PROBED_S: f64 = 40.0;
/// The same where a case is watched for longer than this, since it is slow: three minutes.
const PROBED_LONG_S: f64 = 120.0;
const LONG_S: u64 = 300;
/// Leaks of goroutines need no samples.
const COUNTED_DUE_S: f64 = 30.0;
/// Memory outside the heap is what the kernel counts of all mappings less the runtime's own: it needs more looks.
const NATIVE_DUE_S: f64 = 60.0;
/// From then on `growing` is an accusation.
const SETTLED_S: f64 = 120.0;
/// Errors of a rate that are always allowed.
const RATE_ERROR: f64 = 0.10;
/// The same of a size class: another line may share it that grows, too (`//also:`).
const CLASS_ERROR: f64 = 0.15;
/// The same of memory outside the heap, which is known in pages only.
const NATIVE_ERROR: f64 = 0.20;
/// Size classes with less than this share of a leak are not compared.
const CLASS_SHARE: f64 = 0.10;
/// How far the look at the goroutines may be from the end of the window.
const LOOK_MS: f64 = 1500.0;

/// What was found in one run.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) findings: Vec<Finding>,
    /// Innocent lines, with the verdict on them and when it was first given.
    pub(super) accused: Vec<String>,
    /// Why the cell is wrong, in words.
    pub(super) failures: Vec<String>,
}

/// That a leak was named later than it may be, in words. Apart from what is wrong: on a machine that is busy it is no wonder.
pub(super) fn late(finding: &Finding) -> Option<String> {
    let (named, due) = (finding.named_after_s?, finding.due_after_s?);
    let leak = &finding.leak;
    (named > latest_s(due)).then(|| format!("{leak} was named after {named:.0} s, due after {due:.0} s"))
}

fn latest_s(due_s: f64) -> f64 {
    due_s + LATE_LEAST_S.max(LATE_SHARE * due_s)
}

/// Documents are in the order in which they were printed; `seconds`: for how long it was to be watched.
pub(super) fn judge(evidence: Evidence, seconds: u64, truth: &Truth, documents: &[Value]) -> Judgement {
    let mut judgement = Judgement::default();
    let Some(last) = documents.last() else {
        judgement.failures.push("no document was printed".to_owned());
        return judgement;
    };
    let run = Run { truth, documents, last };
    for leak in &truth.leaks {
        let finding = match leak.kind {
            Kind::Heap if evidence == Evidence::None => run.unnamed(leak, &mut judgement.failures),
            Kind::Heap => {
                // Of windows it is asked when a name comes, of a profile when six of its samples are due.
                let due_s =
                    (evidence == Evidence::Bursts).then_some(if seconds > LONG_S { PROBED_LONG_S } else { PROBED_S });
                run.named(leak, due_s, &mut judgement.failures)
            }
            Kind::Goroutine => run.goroutines(leak, &mut judgement.failures),
            Kind::Native => run.native(leak, &mut judgement.failures),
        };
        judgement.findings.push(finding);
    }
    if truth.leaks.iter().any(|leak| leak.kind == Kind::Heap) {
        run.classes(&mut judgement.failures);
    }
    judgement.accused = run.accused(evidence);
    judgement.failures.extend(judgement.accused.iter().map(|accused| format!("accused: {accused}")));
    judgement
}

fn native_verdict(document: &Value) -> &str {
    document["memory"]["native"]["verdict"].as_str().unwrap_or_default()
}

struct Run<'run> {
    truth: &'run Truth,
    documents: &'run [Value],
    last: &'run Value,
}

impl Run<'_> {
    /// A finding of the rates over the window of the last document.
    fn finding(leak: &Leak, unit: &str, truth: f64, reported: Option<Rate>) -> Finding {
        let error = reported.filter(|_| truth > 0.0).map(|rate| rate.value / truth - 1.0);
        Finding {
            leak: leak.name.clone(),
            unit: unit.to_owned(),
            truth_per_s: truth,
            reported_per_s: reported,
            error,
            covered: reported.map(|rate| rate.covers(truth)),
            samples: None,
            verdict: None,
            named_after_s: None,
            due_after_s: None,
            name_due_s: None,
        }
    }

    /// A leak of the heap whose line must be named.
    fn named(&self, leak: &Leak, probed_due_s: Option<f64>, failures: &mut Vec<String>) -> Finding {
        let (from, to) = window(self.last);
        let truth = leak.rate(from, to);
        let sites: Vec<&Value> = sites(self.last).filter(|site| is_of(leak, site)).collect();
        let reported = sites.iter().filter_map(|site| Rate::of(&site["growth_bytes_per_s"])).reduce(Rate::plus);
        let mut finding = Self::finding(leak, "B", truth.bytes, reported);
        finding.samples = Some(sites.iter().filter_map(|site| site["samples"].as_u64()).sum());
        finding.verdict = sites
            .iter()
            .filter_map(|site| site["verdict"].as_str())
            .min_by_key(|verdict| rank(verdict))
            .map(str::to_owned);
        finding.name_due_s = self.documents.iter().find_map(|document| document["heap"]["name_due_s"].as_f64());
        finding.named_after_s = self.first(|document| sites_with(document, "sites", leak, is_growth));
        let collections = self.truth.collections_passed_after_s(from, COLLECTIONS_DUE);
        let samples_per_s = samples_per_s(&truth.sizes, truth.objects);
        let due = collections
            .map(|seconds| seconds.max(probed_due_s.unwrap_or(SAMPLES_DUE / samples_per_s)).max(WINDOW_DUE_S));
        finding.due_after_s = due;
        let window = window_s(self.last);
        if finding.named_after_s.is_none()
            && let Some(due) = due.filter(|due| latest_s(*due) <= window)
        {
            failures.push(format!("{} was never named, due after {due:.0} s", leak.name));
        }
        if finding.named_after_s.is_some() && finding.error.is_none() {
            failures.push(format!("{} has no rate at the end", leak.name));
        }
        if let Some(error) = finding.error {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let caught = finding.samples.unwrap_or_default() as f64;
            let expected = if probed_due_s.is_some() { caught } else { samples_per_s * window }.max(1.0);
            let allowed = RATE_ERROR.max(2.0 / expected.sqrt());
            if window >= SETTLED_S && error.abs() > allowed {
                failures.push(format!("{}: the rate is {:+.0} % off", leak.name, error * 100.0));
            }
        }
        finding
    }

    /// A leak of the heap that cannot be named, since there is no profile: the heap grows, and the way out is said.
    fn unnamed(&self, leak: &Leak, failures: &mut Vec<String>) -> Finding {
        let (from, to) = window(self.last);
        let heap = &self.last["heap"];
        let all = self.truth.leaks.iter().filter(|leak| leak.kind == Kind::Heap);
        let truth = all.map(|leak| leak.rate(from, to).bytes).sum();
        let reported = Rate::of(&heap["marked_growth_bytes_per_s"]);
        let mut finding = Self::finding(leak, "B", truth, reported);
        finding.verdict = heap["verdict"].as_str().map(str::to_owned);
        finding.named_after_s = self.first(|document| document["heap"]["verdict"].as_str().is_some_and(is_growth));
        finding.due_after_s =
            self.truth.collections_passed_after_s(from, COLLECTIONS_DUE).map(|seconds| seconds.max(WINDOW_DUE_S));
        if reported.is_none() {
            failures.push("no growth of the heap is reported".to_owned());
        }
        // Growth that nobody counted comes on top.
        let most = if self.truth.also.is_empty() && leak.functions.is_empty() { RATE_ERROR } else { 0.5 };
        if finding.error.is_some_and(|error| !(-RATE_ERROR..=most).contains(&error)) {
            failures.push(format!("the growth of the heap is {:+.0} % off", finding.error.unwrap_or_default() * 100.0));
        }
        if !finding.verdict.as_deref().is_some_and(is_growth) {
            failures
                .push(format!("the heap as a whole is {}", finding.verdict.as_deref().unwrap_or("without verdict")));
        }
        let refused = self.last["evidence"]["refused"].as_array().into_iter().flatten();
        let mut said = refused.map(|refused| &refused["text"]).chain([&heap["why"]]).filter_map(Value::as_str);
        if !said.any(|text| text.contains("--adopt-sampler")) {
            failures.push("nobody says how to get a name".to_owned());
        }
        finding
    }

    fn goroutines(&self, leak: &Leak, failures: &mut Vec<String>) -> Finding {
        let (from, to) = window(self.last);
        let sites: Vec<&Value> = goroutine_sites(self.last).filter(|site| is_of(leak, site)).collect();
        let reported = sites.iter().filter_map(|site| Rate::of(&site["growth_per_s"])).reduce(Rate::plus);
        let mut finding = Self::finding(leak, "goroutines", leak.rate(from, to).objects, reported);
        finding.verdict = sites
            .iter()
            .filter_map(|site| site["verdict"].as_str())
            .min_by_key(|verdict| rank(verdict))
            .map(str::to_owned);
        finding.named_after_s = self.first(|document| sites_with(document, "goroutines", leak, is_growth));
        finding.due_after_s = Some(COUNTED_DUE_S);
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let live = sites.iter().filter_map(|site| site["live"].as_u64()).sum::<u64>() as f64;
        let (least, most) = (leak.at(to - LOOK_MS).objects.floor(), leak.at(to + LOOK_MS).objects.ceil());
        if !(least..=most).contains(&live) {
            failures.push(format!("{live} goroutines of {}, and the truth is {least} to {most}", leak.name));
        }
        self.counted(&finding, RATE_ERROR, failures);
        finding
    }

    fn native(&self, leak: &Leak, failures: &mut Vec<String>) -> Finding {
        let (from, to) = window(self.last);
        let lines = self.last["memory"]["lines"].as_array().into_iter().flatten();
        let reported =
            lines.filter(|line| line["name"] == "native").find_map(|line| Rate::of(&line["growth_bytes_per_s"]));
        let mut finding = Self::finding(leak, "B native", leak.rate(from, to).bytes, reported);
        finding.due_after_s = Some(NATIVE_DUE_S);
        finding.named_after_s = self.first(|document| is_growth(native_verdict(document)));
        finding.verdict = Some(native_verdict(self.last).to_owned());
        self.counted(&finding, NATIVE_ERROR, failures);
        finding
    }

    /// What needs no samples: it is right and in time.
    fn counted(&self, finding: &Finding, allowed: f64, failures: &mut Vec<String>) {
        if finding.named_after_s.is_none() {
            failures.push(format!("{} was never called growing", finding.leak));
        }
        match finding.error {
            None => failures.push(format!("{} has no rate", finding.leak)),
            Some(error) if error.abs() > allowed && window_s(self.last) >= SETTLED_S => {
                failures.push(format!("{}: the rate is {:+.0} % off", finding.leak, error * 100.0));
            }
            Some(_) => {}
        }
    }

    /// The size classes of all leaks together, which books alone tell.
    fn classes(&self, failures: &mut Vec<String>) {
        let (from, to) = window(self.last);
        let mut truth = std::collections::BTreeMap::<u64, f64>::new();
        for leak in self.truth.leaks.iter().filter(|leak| leak.kind == Kind::Heap) {
            for (slot, rate) in leak.rate(from, to).sizes {
                *truth.entry(slot).or_default() += rate;
            }
        }
        let all: f64 = truth.values().sum();
        for (slot, rate) in truth.into_iter().filter(|(_, rate)| *rate >= CLASS_SHARE * all) {
            let classes = self.last["heap"]["size_classes"].as_array();
            let class = classes.into_iter().flatten().find(|class| class["size_bytes"].as_u64().unwrap_or(0) == slot);
            match class.and_then(|class| Rate::of(&class["growth_bytes_per_s"])) {
                None => failures.push(format!("no growth of the size class of {slot} bytes is reported")),
                Some(reported) if (reported.value / rate - 1.0).abs() > CLASS_ERROR && !reported.covers(rate) => {
                    let off = (reported.value / rate - 1.0) * 100.0;
                    failures.push(format!("the growth of the size class of {slot} bytes is {off:+.0} % off"));
                }
                Some(_) => {}
            }
        }
    }

    /// Innocent lines that were called leaking at any time, or growing after it had settled.
    fn accused(&self, evidence: Evidence) -> Vec<String> {
        let mut accused: Vec<String> = Vec::new();
        let mut known: Vec<String> = Vec::new();
        let mut accuse = |what: String, verdict: &str, after_s: f64| {
            let wrong = verdict == "leaking" || (verdict == "growing" && after_s > SETTLED_S);
            let key = format!("{verdict} {what}");
            if wrong && !known.contains(&key) {
                accused.push(format!("{what} is {verdict} after {after_s:.0} s"));
                known.push(key);
            }
        };
        for document in self.documents {
            let after_s = window_s(document);
            for site in sites(document).filter(|site| evidence == Evidence::None || !self.is_guilty(site)) {
                accuse(shown(site), site["verdict"].as_str().unwrap_or_default(), after_s);
            }
            for site in goroutine_sites(document) {
                let guilty = self.truth.leaks.iter().any(|leak| leak.kind == Kind::Goroutine && is_of(leak, site));
                if !guilty {
                    accuse(
                        format!("goroutines of {}", shown(site)),
                        site["verdict"].as_str().unwrap_or_default(),
                        after_s,
                    );
                }
            }
            if !self.truth.leaks.iter().any(|leak| leak.kind == Kind::Native) {
                accuse("memory outside of the heap".to_owned(), native_verdict(document), after_s);
            }
            if self.truth.leaks.iter().all(|leak| leak.kind == Kind::Native) {
                let verdict = document["heap"]["verdict"].as_str().unwrap_or_default();
                accuse("the heap as a whole".to_owned(), verdict, after_s);
            }
        }
        accused
    }

    /// Lines of a leak, lines that grow with it, and what the runtime allocates for goroutines that leak.
    fn is_guilty(&self, site: &Value) -> bool {
        let (function, file, line) = place(site);
        let leaks_goroutines = self.truth.leaks.iter().any(|leak| leak.kind == Kind::Goroutine);
        self.truth.leaks.iter().any(|leak| leak.has(function, file, line))
            || self.truth.also.iter().any(|place| place.is(file, line))
            || (leaks_goroutines && function.starts_with("runtime."))
            || site["site"] == "other"
    }

    /// Seconds until a document says so first.
    fn first(&self, says: impl Fn(&Value) -> bool) -> Option<f64> {
        self.documents.iter().find(|document| says(document)).map(window_s)
    }
}

/// Samples that a leak gives a second: an object of many bytes is nearly always one, a small one rarely.
fn samples_per_s(sizes: &std::collections::BTreeMap<u64, f64>, objects_per_s: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a slot has at most 32 KiB")]
    let small: Vec<(f64, f64)> =
        sizes.iter().filter(|(slot, _)| **slot > 0).map(|(&slot, &rate)| (slot as f64, rate)).collect();
    let large_objects = objects_per_s - small.iter().map(|(slot, rate)| rate / slot).sum::<f64>();
    let large = sizes.get(&0).map(|rate| (rate / large_objects.max(f64::MIN_POSITIVE), *rate));
    let all = small.into_iter().chain(large);
    all.map(|(size, rate)| rate / size * (1.0 - (-size / SAMPLE_BYTES).exp())).sum()
}

/// The worst first.
fn rank(verdict: &str) -> usize {
    let order = ["leaking", "growing", "warming_up", "unknown", "steady", "shrinking"];
    order.iter().position(|known| *known == verdict).unwrap_or(order.len())
}

fn is_growth(verdict: &str) -> bool {
    matches!(verdict, "leaking" | "growing")
}

fn goroutine_sites(document: &Value) -> impl Iterator<Item = &Value> {
    sites(&document["goroutines"])
}

fn sites_with(document: &Value, of: &str, leak: &Leak, verdict: impl Fn(&str) -> bool) -> bool {
    let among: &Value = if of == "goroutines" { &document["goroutines"] } else { document };
    sites(among).any(|site| is_of(leak, site) && site["verdict"].as_str().is_some_and(&verdict))
}

fn is_of(leak: &Leak, site: &Value) -> bool {
    let (function, file, line) = place(site);
    leak.has(function, file, line)
}

fn shown(site: &Value) -> String {
    let (function, file, line) = place(site);
    format!("{function} {}:{line}", file.rsplit('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests;
