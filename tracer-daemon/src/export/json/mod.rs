//! The document `leakline/1`: one line of JSON for one report.
//!
//! Owns the way from a [`Report`] to the serializable twins in `document`; the contract is DESIGN 7.2 and
//! `docs/schema/attach.schema.json`, which a test holds to real output. The same report gives the same bytes.

#[cfg(test)]
pub(crate) mod closed_schema;
mod document;
mod goroutines;
pub mod memory;
mod series;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use self::goroutines::goroutine_table;
pub use self::series::{CaughtSite, Impulse, ImpulseBurst, Peak, Series};
pub use document::{
    Allocator, Cost, Counted, Document, Evidence, Frame, GoroutinePart, GoroutineSite, Goroutines, Heap, Hint, Path,
    Process, Profile, Rate, Refused, Site, SizeClass,
};

use super::{
    human, rates,
    report::{ProcessFacts, Report},
    untrusted,
};
use crate::{
    model::{
        self,
        birth_look::BirthCounts,
        judged::{AllJudged, Judged, all_judged},
        verdict::Verdict,
    },
    symbolize,
};

/// The schema's name; what it means changes only with the number.
pub const SCHEMA: &str = "leakline/1";

/// The `site` of what was counted but could not be given to one.
pub const OTHER: &str = "other";

/// The report as one line of JSON without the line feed.
pub fn line(report: &Report) -> serde_json::Result<String> {
    serde_json::to_string(&document(report))
}

/// The report as the serializable document.
pub fn document(report: &Report) -> Document {
    let snapshot = &*report.snapshot;
    Document {
        schema: SCHEMA,
        is_final: report.is_final,
        started_unix_ms: report.started_unix_ms,
        window_s: finite(snapshot.window_s).filter(|window_s| *window_s >= 0.0).unwrap_or_default(),
        process: process(&report.process),
        evidence: evidence(report),
        heap: heap(snapshot),
        profile: snapshot.profile.as_ref().map(|profile| Profile {
            adopted_s: profile.adopted_s.and_then(finite),
            rate_bytes: profile.rate_bytes,
            lag_cycles: profile.lag_cycles,
            lag_s: profile.lag_s.and_then(finite),
        }),
        sites: snapshot
            .exact
            .as_ref()
            .map(sites)
            .or_else(|| (snapshot.profile.is_some() || snapshot.births.is_some()).then(|| judged_sites(snapshot))),
        goroutines: match (&snapshot.exact, &snapshot.goroutines) {
            (Some(exact), _) => Some(GoroutinePart::Counted(goroutines(exact))),
            (None, Some(table)) => {
                let (growth, program) = (snapshot.goroutine_growth.as_deref(), report.process.program());
                let hooks = snapshot.goroutine_hooks.as_deref();
                Some(GoroutinePart::Table(goroutines::document(table, growth, hooks, program, &snapshot.discards)))
            }
            (None, None) => None,
        },
        memory: snapshot
            .memory
            .as_ref()
            .map(|statement| memory::memory(statement, snapshot.memory_growth.as_deref(), &[])),
        series: snapshot.series.as_deref().map(series::series),
        impulses: snapshot.impulses.as_deref().map(series::impulses),
        cost: Cost {
            budget_ratio: report.cost.budget_ratio.and_then(finite),
            target_ratio: report.cost.target_ratio.and_then(finite),
            self_cpu_ratio: report.cost.self_cpu_ratio.and_then(finite),
            self_rss_bytes: report.cost.self_rss_bytes,
            probe_hits: report.cost.probe_hits,
            bursts: report.cost.bursts,
            bursts_open_s: report.cost.bursts_open_s.and_then(finite),
        },
        loss: loss(snapshot),
    }
}

/// By the books; what hooks counted exactly takes the place of what they say of allocations.
fn heap(snapshot: &model::Snapshot) -> Heap {
    let assessment = snapshot.assessment.as_deref();
    let trend_of = |size_bytes| {
        let classes = assessment.map_or(&[][..], |assessment| &assessment.classes);
        classes.iter().find(|class| class.size_bytes == size_bytes).map(|class| &class.trend)
    };
    let books = snapshot.heap.as_ref().map(|heap| Heap {
        live_bytes: heap.live_bytes,
        marked_growth_bytes_per_s: assessment.and_then(|assessment| rate(assessment.total.rate()?)),
        verdict: assessment.map(|assessment| assessment.verdict.name()),
        why: assessment.map(|assessment| assessment.why.to_string()),
        name_due_s: assessment.and_then(|assessment| assessment.name_due_s).and_then(finite),
        goal_bytes: heap.goal_bytes,
        alloc_bytes_per_s: heap.alloc_bytes_per_s.and_then(rate),
        alloc_objects_per_s: heap.alloc_objects_per_s.and_then(rate),
        counted: Some(heap.allocated.into()),
        gc_cycles: Some(heap.gc_cycles),
        gc_pause_max_s: heap.gc_pause_max_s.and_then(finite),
        limit_bytes: snapshot.limit.map(|limit| limit.bytes),
        limit_source: snapshot.memory.as_ref().map(|_| snapshot.limit.map_or("none", |limit| limit.source.name())),
        seconds_to_limit: snapshot.forecast.and_then(|forecast| rate(forecast.seconds)),
        size_classes: heap
            .size_classes
            .iter()
            .map(|class| SizeClass {
                size_bytes: class.size_bytes,
                live_objects: class.objects,
                live_bytes: class.bytes,
                growth_bytes_per_s: trend_of(class.size_bytes).and_then(|trend| rate(trend.rate()?)),
                verdict: trend_of(class.size_bytes).map(|trend| trend.verdict().name()),
            })
            .collect(),
    });
    let books = books.unwrap_or_default();
    let Some(exact) = &snapshot.exact else { return books };
    Heap {
        alloc_bytes_per_s: per_second(exact.totals.allocated.bytes, exact.window_s),
        alloc_objects_per_s: per_second(exact.totals.allocated.objects, exact.window_s),
        counted: Some(exact.totals.allocated.into()),
        ..books
    }
}

/// The process, as all documents show it.
pub(super) fn process(facts: &ProcessFacts) -> Process {
    let named = |name: &Option<String>| name.as_deref().map(owned_name);
    Process {
        pid: facts.pid,
        exe: untrusted::path(&facts.exe).into_owned(),
        go_version: owned_name(&facts.go_version),
        build_id: named(&facts.build_id),
        main_module: named(&facts.main_module),
        ended: facts.ended,
        stripped: facts.stripped,
        pie: facts.pie,
        cgo: facts.cgo,
        container_id: named(&facts.container_id),
        pod: named(&facts.pod),
        namespace: named(&facts.namespace),
        container: named(&facts.container),
    }
}

fn evidence(report: &Report) -> Evidence {
    Evidence {
        used: report.snapshot.evidence.iter().map(|evidence| evidence.name()).collect(),
        refused: report
            .refusals
            .iter()
            .map(|refusal| Refused { id: owned_name(&refusal.id), text: owned_name(&refusal.text) })
            .collect(),
    }
}

/// The sites in the model's order, then one entry for what belongs to none, if there is any.
fn sites(snapshot: &model::ExactCounts) -> Vec<Site> {
    let evidence = model::Evidence::Exact.name();
    let named = snapshot.sites.iter().map(|site| Site {
        site: site.id.to_string(),
        function: Some(owned_name(&site.place.function)),
        file: file(&site.place),
        line: line_number(&site.place),
        allocator: Some(allocator(&site.allocator)),
        verdict: None,
        why: None,
        hint: None,
        behind_pool: None,
        growth_bytes_per_s: None,
        alloc_bytes_per_s: rate(site.alloc_bytes_per_s),
        alloc_objects_per_s: rate(site.alloc_objects_per_s),
        survival: None,
        counted: Some(site.counted.into()),
        live_bytes: None,
        live_objects: None,
        samples: None,
        evidence: evidence.to_owned(),
        paths: site.paths.iter().map(path).collect(),
    });
    let other = (snapshot.other != model::Counted::default()).then(|| Site {
        alloc_bytes_per_s: per_second(snapshot.other.bytes, snapshot.window_s),
        alloc_objects_per_s: per_second(snapshot.other.objects, snapshot.window_s),
        counted: Some(snapshot.other.into()),
        ..Site::other(evidence.to_owned())
    });
    named.chain(other).collect()
}

/// What is alive: what grows first.
fn judged_sites(snapshot: &model::Snapshot) -> Vec<Site> {
    let site = |site: &Judged<'_>| Site {
        site: site.id.to_string(),
        function: Some(owned_name(&site.place.function)),
        file: file(site.place),
        line: line_number(site.place),
        allocator: Some(allocator(site.allocator)),
        verdict: Some(site.verdict.name()),
        why: site.growth.map(|growth| growth.why.to_string()),
        hint: site.hint.filter(|_| site.verdict >= Verdict::Growing).map(Hint::from),
        behind_pool: (site.is_behind_pool && site.verdict >= Verdict::Growing).then_some(true),
        growth_bytes_per_s: site.growth.and_then(|growth| rate(growth.growth_bytes_per_s)),
        alloc_bytes_per_s: site.births.and_then(|births| rate(births.alloc_bytes_per_s?)),
        alloc_objects_per_s: site.births.and_then(|births| rate(births.alloc_objects_per_s?)),
        survival: site.births.filter(|births| births.is_settled).and_then(|births| rate(births.survival?)),
        counted: None,
        live_bytes: site.live.and_then(|live| rate(live.bytes)),
        live_objects: site.live.map(|live| live.objects),
        samples: Some(samples(site)),
        evidence: stands_on(snapshot, site),
        paths: site
            .paths
            .iter()
            .map(|path| Path {
                share: finite(path.share).unwrap_or_default(),
                counted: None,
                frames: path.frames.iter().map(frame).collect(),
            })
            .collect(),
    };
    let AllJudged { told, rest } = all_judged(snapshot);
    told.iter().map(site).chain(other_births(&rest)).collect()
}

/// What lines allocate that are not told. `None`: there are none.
fn other_births(rest: &[&model::BirthSite]) -> Option<Site> {
    let allocates: Option<Vec<model::Rate>> = rest.iter().map(|site| site.alloc_bytes_per_s).collect();
    let evidence = [model::Evidence::Bursts, model::Evidence::Marks].map(model::Evidence::name).join("+");
    let other = Site {
        alloc_bytes_per_s: allocates.and_then(rates::sum).and_then(rate),
        samples: Some(rest.iter().fold(0, |sum: u64, site| sum.saturating_add(site.caught))),
        ..Site::other(evidence)
    };
    (!rest.is_empty()).then_some(other)
}

/// Sampled objects that say that it grows; where none are asked, those in use, or those that were caught.
fn samples(site: &Judged<'_>) -> u64 {
    match (site.live, site.births) {
        (Some(live), _) => live.samples,
        (None, Some(births)) if site.growth.is_some() => crate::units::whole(births.stayed),
        (None, births) => births.map_or(0, |births| births.caught),
    }
}

/// What the numbers of a site stand on.
fn stands_on(snapshot: &model::Snapshot, site: &Judged<'_>) -> String {
    let profile = snapshot.profile.as_ref().filter(|_| site.live.is_some()).map(|profile| profile.evidence().name());
    let births = site.births.map(|_| [model::Evidence::Bursts.name(), model::Evidence::Marks.name()]);
    let books = site.growth.map(|_| model::Evidence::Books.name());
    let all: Vec<&str> = profile.into_iter().chain(births.into_iter().flatten()).chain(books).collect();
    all.join("+")
}

fn allocator(frame: &symbolize::Frame) -> Allocator {
    Allocator { function: owned_name(&frame.function), file: file(frame), line: line_number(frame) }
}

fn path(path: &model::Path) -> Path {
    Path {
        share: finite(path.share).unwrap_or_default(),
        counted: Some(path.counted.into()),
        frames: path.frames.iter().map(frame).collect(),
    }
}

fn goroutines(snapshot: &model::ExactCounts) -> Goroutines {
    let totals = &snapshot.totals;
    let model::Turnover { created: other_created, exited: other_exited } = snapshot.other_goroutines;
    let named = snapshot.goroutine_sites.iter().map(|site| GoroutineSite {
        site: site.id.to_string(),
        function: Some(owned_name(&site.place.function)),
        file: file(&site.place),
        line: line_number(&site.place),
        created: site.counted.created,
        exited: site.counted.exited,
        created_per_s: rate(site.created_per_s),
        growth_per_s: growth(site.counted.created, site.counted.exited, snapshot),
        creation_stack: site.creation_stack.iter().map(frame).collect(),
    });
    let other = (snapshot.other_goroutines != model::Turnover::default()).then(|| GoroutineSite {
        site: OTHER.into(),
        function: None,
        file: None,
        line: None,
        created: other_created,
        exited: other_exited,
        created_per_s: per_second(other_created, snapshot.window_s),
        growth_per_s: None,
        creation_stack: Vec::new(),
    });
    Goroutines {
        created: totals.goroutines.created,
        exited: totals.goroutines.exited,
        growth_per_s: over_window(net(totals.goroutines.created, totals.goroutines.exited), snapshot.window_s)
            .map(|value| Rate { value, low: value, high: Some(value) }),
        system_created: snapshot.system_goroutines.created,
        system_exited: snapshot.system_goroutines.exited,
        sites: named.chain(other).collect(),
    }
}

/// Net growth of a place over the window. Exact, unless events belong to no place: then the bounds say what the growth
/// would be if all of them belonged to this one.
fn growth(created: u64, exited: u64, snapshot: &model::ExactCounts) -> Option<Rate> {
    let other_created = snapshot.other_goroutines.created;
    let net = net(created, exited);
    Some(Rate {
        value: over_window(net, snapshot.window_s)?,
        low: over_window(net - i128::from(snapshot.uncertain_exits()), snapshot.window_s)?,
        high: over_window(net + i128::from(other_created), snapshot.window_s),
    })
}

fn net(created: u64, exited: u64) -> i128 {
    i128::from(created) - i128::from(exited)
}

/// Every counter by its id. A reason that the snapshot does not name was not counted, and is absent.
fn loss(snapshot: &model::Snapshot) -> BTreeMap<&'static str, u64> {
    let lost = snapshot.exact.iter().flat_map(|exact| &exact.losses).map(|loss| (loss.reason.id(), loss.count));
    let of_births = snapshot.birth_counts.iter().flat_map(BirthCounts::losses).map(|loss| (loss.id, loss.count));
    // The contract has this name for the same number.
    let looks_missed = snapshot.birth_counts.iter().map(|counts| ("looks_missed", counts.cycles_missed));
    lost.chain(of_births)
        .chain(looks_missed)
        .chain(snapshot.discards.iter().map(|(reason, count)| (reason.id(), count)))
        .collect()
}

fn frame(frame: &symbolize::Frame) -> Frame {
    Frame {
        function: owned_name(&frame.function),
        file: file(frame),
        line: line_number(frame),
        inlined: frame.inlined,
        origin: match frame.origin {
            symbolize::Origin::Go => None,
            symbolize::Origin::Native => Some("native"),
            symbolize::Origin::Vdso => Some("vdso"),
            symbolize::Origin::Unknown => Some("unknown"),
        },
    }
}

fn owned_name(name: &str) -> String {
    untrusted::name(name).into_owned()
}

fn file(frame: &symbolize::Frame) -> Option<String> {
    (!frame.file.is_empty()).then(|| untrusted::path(&frame.file).into_owned())
}

fn line_number(frame: &symbolize::Frame) -> Option<u32> {
    (frame.line != 0).then_some(frame.line)
}

fn per_second(count: u64, window_s: f64) -> Option<Rate> {
    over_window(i128::from(count), window_s).map(|value| Rate { value, low: value, high: Some(value) })
}

/// None where the window has no length.
fn over_window(count: i128, window_s: f64) -> Option<f64> {
    (window_s > 0.0).then(|| human::whole(count) / window_s).and_then(finite)
}

fn rate(rate: model::Rate) -> Option<Rate> {
    Some(Rate { value: finite(rate.value)?, low: finite(rate.low)?, high: rate.high.and_then(finite) })
}

/// JSON has no infinity and no NaN: what is neither was not measured.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
