//! Made-up checks that the tests of all formats share, with names that try to break out of each.

use std::sync::Arc;

use super::CheckReport;
use crate::export::fixture::{books, frame, report_of};
use crate::export::{ProcessFacts, Refusal};
use crate::model::assess::Assessment;
use crate::model::compare::{Measure, Place, Quantity, Rules};
use crate::model::gate::{Baseline, Wanted, judge};
use crate::model::live::{LivePath, LiveSite};
use crate::model::reason::{Named, Reason};
use crate::model::verdict::{Trend, Verdict};
use crate::model::{Rate, SiteId, Snapshot};

/// A name that tries XML, HTML, Markdown, a terminal and a line of its own.
pub(crate) const HOSTILE: &str =
    "main.]]></failure><x a=\"1\" b='2'>&amp;|`**![@me](http://e.vil)\u{1b}[31m\n\u{ffff}<script>";
/// The same as JSON shows it.
pub(crate) const HOSTILE_ESCAPED: &str =
    "main.]]></failure><x a=\"1\" b='2'>&amp;|`**![@me](http://e.vil)\\u{1b}[31m\\u{a}\u{ffff}<script>";

const HOSTILE_ID: SiteId = SiteId(0x0bad);

/// What a check stands on.
pub(crate) struct Checked {
    pub(crate) snapshot: Snapshot,
    pub(crate) baseline: Option<Baseline>,
    pub(crate) strict: bool,
    pub(crate) started_unix_ms: u64,
    process: ProcessFacts,
    judgement: crate::model::gate::Judgement,
    rules: Rules,
    refusals: Vec<Refusal>,
}

fn rate(value: f64, half_width: f64) -> Rate {
    Rate { value, low: value - half_width, high: Some(value + half_width) }
}

fn snapshot(total: Trend, sites: Vec<crate::model::assess::SiteAssessment>) -> Snapshot {
    let mut snapshot = books();
    let place = frame(HOSTILE, "/src/a|b<c>/store.go", 42);
    if let Some(profile) = &mut snapshot.profile {
        let hostile = LiveSite {
            id: HOSTILE_ID,
            place: place.clone(),
            allocator: place.clone(),
            objects: 7,
            bytes: rate(4e7, 1e6),
            samples: 80,
            hint: None,
            is_behind_pool: false,
            paths: vec![LivePath { share: 1.0, frames: vec![place, frame("main.main", "/src/main.go", 9)] }],
        };
        profile.sites = profile.sites.iter().cloned().chain([hostile]).collect();
    }
    let worst = sites.iter().map(|site| site.verdict).max();
    let assessment = Assessment {
        window_s: 60.0,
        cycles: 32,
        total,
        classes: Vec::new(),
        rising_bytes_per_s: 0.0,
        sites,
        name_due_s: Some(17.0),
        leak_due_s: 0.0,
        verdict: worst.unwrap_or_else(|| total.verdict()),
        why: Reason::NeedsCollections { collections: 3, seconds: Some(12.5), anew: None },
    };
    Snapshot { window_s: 60.0, assessment: Some(Arc::new(assessment)), ..snapshot }
}

fn leaks(bytes_per_s: Rate) -> Reason {
    Reason::Leaks(Named { bytes_per_s, samples: 77.0, deviations: 8.5, window_s: 60.0 })
}

fn site(id: SiteId, verdict: Verdict, growth: Rate) -> crate::model::assess::SiteAssessment {
    crate::model::assess::SiteAssessment {
        site: id,
        verdict,
        growth_bytes_per_s: growth,
        samples: 77.0,
        why: leaks(growth),
    }
}

/// A store that grew a little, and a line that is gone.
pub(crate) fn baseline() -> Baseline {
    let place = |function: &str| Some(Place { function: function.into(), file: "/src/shop/store.go".into(), line: 42 });
    let measure = |site: Option<u64>, function: &str, verdict, growth| Measure {
        quantity: Quantity::Bytes,
        site: site.map(SiteId),
        place: site.and(place(function)),
        verdict,
        growth,
        live: Some(30e6),
    };
    Baseline {
        module: Some("example.com/shop".into()),
        version: Some("v1.2.3".into()),
        go_version: "go1.26.6".into(),
        window_s: 60.0,
        cycles: 31,
        evidence: vec!["books".into(), "profile".into()],
        measures: vec![
            measure(None, "", Verdict::Leaking, Some(rate(994_321.7, 9_642.1))),
            measure(Some(0x3f9c_2a1b_77d0_e4c1), "main.(*store).put", Verdict::Leaking, Some(rate(994_321.7, 9_642.1))),
            measure(Some(0xdead), "main.(*hub).old", Verdict::Growing, Some(rate(9_943.2, 99.0))),
            measure(Some(0xaa), "example.com/shop/internal/cache.(*LRU[...]).Clone", Verdict::Steady, None),
            Measure { quantity: Quantity::Goroutines, ..measure(None, "", Verdict::Steady, Some(rate(0.1, 0.2))) },
            Measure { quantity: Quantity::Native, ..measure(None, "", Verdict::Steady, Some(rate(10.0, 200.0))) },
        ],
    }
}

impl Checked {
    fn of(snapshot: Snapshot, baseline: Option<Baseline>) -> Self {
        let (rules, wanted) = (Rules::default(), Wanted { window_s: 60.0, ended: false });
        let judgement = judge(&snapshot, baseline.as_ref(), Some("example.com/shop"), &rules, &wanted);
        let around = report_of(Snapshot::default());
        let (process, started_unix_ms) = (around.process, around.started_unix_ms);
        Self {
            snapshot,
            baseline,
            strict: false,
            started_unix_ms,
            process,
            judgement,
            rules,
            refusals: around.refusals,
        }
    }

    /// A hostile line leaks, and a known one as before.
    pub(crate) fn failed() -> Self {
        let known = site(SiteId(0x3f9c_2a1b_77d0_e4c1), Verdict::Leaking, rate(1_010_000.0, 10_000.0));
        let sites = vec![known, site(HOSTILE_ID, Verdict::Leaking, rate(500_000.0, 60_000.0))];
        Self::of(snapshot(Trend::Rising(rate(1_500_000.0, 20_000.0)), sites), Some(baseline()))
    }

    /// The hostile line alone.
    pub(crate) fn without_baseline() -> Self {
        let sites = vec![site(HOSTILE_ID, Verdict::Leaking, rate(500_000.0, 60_000.0))];
        Self::of(snapshot(Trend::Rising(rate(500_000.0, 20_000.0)), sites), None)
    }

    /// Too little was seen.
    pub(crate) fn unknown() -> Self {
        Self::of(snapshot(Trend::Unknown { values: 3, seconds: 12.5 }, Vec::new()), None)
    }

    pub(crate) fn report(&self) -> CheckReport<'_> {
        CheckReport {
            process: &self.process,
            snapshot: &self.snapshot,
            judgement: &self.judgement,
            rules: &self.rules,
            strict: self.strict,
            baseline: self.baseline.as_ref(),
            command: "./shop --listen <here>",
            started_unix_ms: self.started_unix_ms,
            refusals: &self.refusals,
        }
    }
}
