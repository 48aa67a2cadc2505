//! A made-up report that the tests of all exporters share.

use std::sync::Arc;

use tracer_common::loss::Loss;

use super::report::{CostFacts, ProcessFacts, Refusal, Report};
use crate::{
    model::{
        BirthSite, Births, ClassAccount, Counted, Evidence, ExactCounts, GoroutineSite, Heap, Limit, LimitSource,
        LossCount, Path, Profile, Rate, Site, SiteId, Snapshot, Totals, Turnover,
        assess::{Assessment, ClassAssessment, SiteAssessment},
        birth_look::BirthCounts,
        forecast::Forecast,
        impulses::{CaughtSite, Impulse, ImpulseBurst, ImpulseKind, Impulses, Noticed},
        live::{LivePath, LiveSite},
        reason::{Measured, Named, Reason},
        series::{Peak, Series, Step},
        verdict::{Trend, Verdict},
    },
    symbolize::{Frame, Origin},
};

/// The window of the fixture.
pub(crate) const WINDOW_S: f64 = 30.0;

/// Any text at all: proptest's own strings have no control characters.
pub(crate) fn any_text() -> impl proptest::strategy::Strategy<Value = String> {
    proptest::string::string_regex("(?s).{0,64}").unwrap()
}

/// A frame in Go code.
pub(crate) fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        function: function.into(),
        file: file.into(),
        line,
        function_start_line: 1,
        inlined: false,
        origin: Origin::Go,
    }
}

/// A site with one path per share of its counts.
pub(crate) fn site(id: u64, place: &Frame, allocator: &Frame, counted: Counted, shares: &[f64]) -> Site {
    let paths = shares.iter().enumerate().map(|(index, &share)| Path {
        share,
        counted: Counted { objects: part(counted.objects, share), bytes: part(counted.bytes, share) },
        frames: vec![
            allocator.clone(),
            Frame { inlined: true, ..frame("main.encode", "/src/shop/encode.go", 7) },
            place.clone(),
            frame(&format!("main.(*server).handle{index}"), "/src/shop/internal/server/handlers/orders.go", 180),
            frame("net/http.(*conn).serve", "/usr/local/go/src/net/http/server.go", 2092),
        ],
    });
    Site {
        id: SiteId(id),
        place: place.clone(),
        allocator: allocator.clone(),
        counted,
        alloc_objects_per_s: Rate::counted(super::human::approximate(counted.objects) / WINDOW_S),
        alloc_bytes_per_s: Rate::counted(super::human::approximate(counted.bytes) / WINDOW_S),
        paths: paths.collect(),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shares of small counts")]
fn part(total: u64, share: f64) -> u64 {
    (super::human::approximate(total) * share) as u64
}

/// A place where goroutines start.
pub(crate) fn goroutine_site(id: u64, place: &Frame, created: u64, exited: u64) -> GoroutineSite {
    GoroutineSite {
        id: SiteId(id),
        place: place.clone(),
        counted: Turnover { created, exited },
        created_per_s: Rate::counted(super::human::approximate(created) / WINDOW_S),
        creation_stack: vec![place.clone()],
    }
}

/// Three sites, one of them behind a library, some bytes in `other`; one goroutine place that grows, one that does not.
pub(crate) fn counts() -> ExactCounts {
    let put = frame("main.(*store).put", "/src/shop/store.go", 42);
    let unmarshal = frame("encoding/json.Unmarshal", "/usr/local/go/src/encoding/json/decode.go", 108);
    let clone = frame("example.com/shop/internal/cache.(*LRU[...]).Clone", "/src/shop/internal/cache/lru.go", 217);
    let copy = frame("main.copy", "/src/shop/copy.go", 9);
    let subscribe = frame("main.(*hub).subscribe", "/src/shop/hub.go", 17);
    let counted = |objects, bytes| Counted { objects, bytes };
    ExactCounts {
        window_s: WINDOW_S,
        sites: vec![
            site(0x3f9c_2a1b_77d0_e4c1, &put, &unmarshal, counted(6_300_000, 660_602_880), &[0.97, 0.03]),
            site(0x0000_0000_0000_00aa, &clone, &clone, counted(1_200_000, 576_716_800), &[1.0]),
            site(0xffee_0000_1234_5678, &copy, &copy, counted(9, 432), &[1.0]),
        ],
        other: counted(1000, 48_000),
        goroutine_sites: vec![
            goroutine_site(0x11, &frame("main.handle", "/src/shop/handle.go", 88), 9_120, 9_118),
            GoroutineSite {
                creation_stack: vec![
                    subscribe.clone(),
                    frame("main.(*server).events", "/src/shop/internal/server/handlers/events.go", 61),
                    frame("net/http.(*conn).serve", "/usr/local/go/src/net/http/server.go", 2092),
                ],
                ..goroutine_site(0x22, &subscribe, 310, 0)
            },
        ],
        other_goroutines: Turnover::default(),
        system_goroutines: Turnover::default(),
        exits_by_line_alone: 0,
        totals: Totals {
            allocated: counted(7_501_009, 1_237_368_112),
            goroutines: Turnover { created: 9_430, exited: 9_118 },
            probe_hits: 7_519_557,
        },
        losses: Loss::ALL.into_iter().map(|reason| LossCount { reason, count: 0 }).collect(),
        series: Some(Arc::new(milliseconds())),
    }
}

/// Three milliseconds, of one of which nothing is known; the peaks were before.
fn milliseconds() -> Series {
    let counted = |objects, bytes| Counted { objects, bytes };
    let step = |allocated| Step { allocated, ..Step::default() };
    Series {
        step_ns: 1_000_000,
        began_ns: 20_000_000_000,
        steps: vec![step(Some(counted(250, 41_246))), step(None), step(Some(counted(0, 0)))],
        peaks: vec![
            Peak { began_ns: 3_120_000_000, allocated: counted(12_345, 592_560) },
            Peak { began_ns: 12_345_000_000, allocated: counted(410, 3_355_443) },
        ],
        unplaced: counted(40, 6_000),
    }
}

/// A second of the books.
pub(crate) fn steps() -> Series {
    let step = |objects: u64| Step {
        allocated: Some(Counted { objects, bytes: objects * 160 }),
        heap_bytes: Some(50_000_000 + objects),
        live_bytes: Some(44_040_192),
    };
    Series {
        step_ns: 100_000_000,
        began_ns: 0,
        steps: [24_000, 26_000, 260_000, 25_000].into_iter().map(step).collect(),
        peaks: vec![Peak { began_ns: 200_000_000, allocated: Counted { objects: 260_000, bytes: 260_000 * 160 } }],
        unplaced: Counted::default(),
    }
}

/// Three jumps: one with a burst, one that came too soon, one of which nobody knows why it had none.
pub(crate) fn impulses() -> Impulses {
    let share = |value: f64| Rate { value, low: value - 0.03, high: Some(value + 0.03) };
    let site = |id, place: &Frame, births, of: f64| CaughtSite {
        id: SiteId(id),
        place: place.clone(),
        allocator: place.clone(),
        births,
        share: share(of),
        frames: vec![place.clone()],
    };
    let impulse = |number, kind, usual, seen| Impulse {
        at_ns: 3_200_000_000 * u64::from(number),
        unix_ns: 1_790_000_003_000_000_000 + 3_200_000_000 * u64::from(number),
        noticed: Noticed { number, kind, usual, seen },
        burst: None,
        unserved: None,
    };
    let burst = ImpulseBurst {
        delay_ns: 12_000_000,
        open_ns: 14_900_000,
        births: 1_846,
        objects: 4_012.5,
        bytes: 2_065_000.0,
        sites: vec![
            site(0x3f9c_2a1b_77d0_e4c1, &frame("main.(*store).put", "/src/shop/store.go", 42), 1_495, 0.81),
            site(0xaa, &frame("main.copy", "/src/shop/copy.go", 9), 222, 0.12),
            site(0xbb, &frame("main.(*server).events", "/src/shop/events.go", 61), 129, 0.069),
            site(0xcc, &frame("main.main", "/src/shop/main.go", 12), 1, 0.031),
        ],
    };
    let last = [
        Impulse { burst: Some(burst), ..impulse(1, ImpulseKind::AllocationRate, Some(10_485_760.0), 262_144_000.0) },
        Impulse {
            unserved: Some("a burst for this reason was not long ago".into()),
            ..impulse(2, ImpulseKind::HeapGrowth, Some(44_040_192.0), 99_614_720.0)
        },
        impulse(3, ImpulseKind::Pause, None, 0.0314),
    ];
    Impulses { counts: [5, 3, 1], last: last.into() }
}

/// The accounts of a heap that holds objects of two sizes and a large one.
pub(crate) fn heap() -> Heap {
    let class = |size_bytes, objects, bytes| ClassAccount { size_bytes, objects, bytes };
    Heap {
        live_bytes: Some(44_040_192),
        goal_bytes: Some(88_080_384),
        allocated: Counted { objects: 7_501_009, bytes: 1_237_368_112 },
        alloc_bytes_per_s: Some(Rate::counted(41_245_603.7)),
        alloc_objects_per_s: Some(Rate::counted(250_033.6)),
        allocated_bytes: 9_237_368_112,
        freed_bytes: 9_187_368_112,
        gc_cycles: 28,
        gc_cycles_total: 210,
        recent_pauses_s: vec![0.000_12; 28],
        gc_pause_max_s: Some(0.000_81),
        size_classes: vec![
            class(Some(48), 600_000, 28_800_000),
            class(Some(1024), 12_000, 12_288_000),
            class(None, 3, 8_912_000),
        ],
    }
}

/// What stands on the books and the profile.
pub(crate) fn books() -> Snapshot {
    let site = |id, place: &Frame, allocator: &Frame, bytes: f64, samples| LiveSite {
        id: SiteId(id),
        place: place.clone(),
        allocator: allocator.clone(),
        objects: samples * 10_000,
        bytes: Rate { value: bytes, low: 0.6 * bytes, high: Some(1.5 * bytes) },
        samples,
        paths: vec![LivePath { share: 1.0, frames: vec![allocator.clone(), place.clone()] }],
        hint: None,
        is_behind_pool: false,
    };
    let put = frame("main.(*store).put", "/src/shop/store.go", 42);
    let unmarshal = frame("encoding/json.Unmarshal", "/usr/local/go/src/encoding/json/decode.go", 108);
    let clone = frame("example.com/shop/internal/cache.(*LRU[...]).Clone", "/src/shop/internal/cache/lru.go", 217);
    let profile = Profile {
        adopted_s: None,
        rate_bytes: 524_288,
        lag_cycles: 2,
        lag_s: Some(1.5),
        sites: Arc::new([
            site(0x3f9c_2a1b_77d0_e4c1, &put, &unmarshal, 30e6, 58),
            site(0x0000_0000_0000_00aa, &clone, &clone, 9e6, 17),
        ]),
    };
    Snapshot {
        window_s: WINDOW_S,
        evidence: vec![Evidence::Books, Evidence::Profile],
        heap: Some(heap()),
        profile: Some(profile),
        limit: Some(Limit { bytes: 536_870_912, source: LimitSource::Cgroup }),
        ..Snapshot::default()
    }
}

/// [`books`], of which the first line leaks, so that memory runs out within the hour.
pub(crate) fn growing() -> Snapshot {
    let rate = |value: f64, half_width: f64| Rate { value, low: value - half_width, high: Some(value + half_width) };
    let limit = Limit { bytes: 536_870_912, source: LimitSource::Cgroup };
    let measured = |bytes_per_s| Measured { bytes_per_s, collections: 28, window_s: WINDOW_S };
    let (whole, class, flat) = (rate(120_000.0, 10_000.0), rate(100_000.0, 5_000.0), rate(20_000.0, 30_000.0));
    let named = Named { bytes_per_s: rate(98_000.0, 7_000.0), samples: 5.6, deviations: 27.4, window_s: WINDOW_S };
    let assessment = Assessment {
        window_s: WINDOW_S,
        cycles: 28,
        total: Trend::Rising(whole),
        classes: vec![
            ClassAssessment {
                size_bytes: Some(48),
                trend: Trend::Rising(class),
                is_confirmed: true,
                why: Reason::Grows(measured(class)),
            },
            ClassAssessment {
                size_bytes: Some(1024),
                trend: Trend::Flat(flat),
                is_confirmed: false,
                why: Reason::NoGrowth(measured(flat)),
            },
        ],
        rising_bytes_per_s: 100_000.0,
        sites: vec![SiteAssessment {
            site: SiteId(0x3f9c_2a1b_77d0_e4c1),
            verdict: Verdict::Leaking,
            growth_bytes_per_s: named.bytes_per_s,
            samples: named.samples,
            why: Reason::Leaks(named),
        }],
        name_due_s: None,
        leak_due_s: 0.0,
        verdict: Verdict::Leaking,
        why: Reason::Leaks(named),
    };
    let forecast = Forecast {
        seconds: Rate { value: 2_046.0, low: 1_889.0, high: Some(2_232.0) },
        limit,
        used_bytes: 44_040_192.0,
        growth_bytes_per_s: rate(240_000.0, 20_000.0),
    };
    Snapshot { assessment: Some(Arc::new(assessment)), forecast: Some(forecast), ..books() }
}

/// What windows caught: a line that keeps a part, one of which that is not known yet, and one of which few were caught.
pub(crate) fn births() -> Births {
    let rate = |value: f64, half_width: f64| Rate { value, low: value - half_width, high: Some(value + half_width) };
    let site = |id, place: &Frame, allocator: &Frame, caught| BirthSite {
        id: SiteId(id),
        place: place.clone(),
        allocator: allocator.clone(),
        caught,
        stayed: 0.0,
        alloc_bytes_per_s: None,
        alloc_objects_per_s: None,
        survival: None,
        is_settled: false,
        hint: None,
        is_behind_pool: false,
        paths: vec![LivePath { share: 1.0, frames: vec![allocator.clone(), place.clone()] }],
    };
    let put = frame("main.(*store).put", "/src/shop/store.go", 42);
    let unmarshal = frame("encoding/json.Unmarshal", "/usr/local/go/src/encoding/json/decode.go", 108);
    let clone = frame("example.com/shop/internal/cache.(*LRU[...]).Clone", "/src/shop/internal/cache/lru.go", 217);
    let copy = frame("main.copy", "/src/shop/copy.go", 9);
    let sites = [
        BirthSite {
            alloc_bytes_per_s: Some(rate(22e6, 1.1e6)),
            alloc_objects_per_s: Some(rate(210e3, 11e3)),
            survival: Some(rate(0.004_5, 0.000_3)),
            is_settled: true,
            stayed: 31.0,
            ..site(0x3f9c_2a1b_77d0_e4c1, &put, &unmarshal, 6_871)
        },
        BirthSite {
            alloc_bytes_per_s: Some(rate(19e6, 0.9e6)),
            survival: Some(Rate { value: 0.3, low: 0.0, high: Some(1.0) }),
            ..site(0x0000_0000_0000_00aa, &clone, &clone, 5_904)
        },
        site(0xffee_0000_1234_5678, &copy, &copy, 1),
    ];
    let counts = BirthCounts { born: 12_776, cycles_looked: 28, ..BirthCounts::default() };
    Births { window_s: 28.0, bursts: 260, counts, all_bytes_per_s: 44e6, sites: Arc::new(sites) }
}

/// [`growing`] without a heap profile: who grows is known by births alone.
pub(crate) fn growing_by_births() -> Snapshot {
    Snapshot {
        evidence: vec![Evidence::Books, Evidence::Bursts, Evidence::Marks],
        profile: None,
        births: Some(Arc::new(births())),
        birth_counts: Some(births().counts),
        ..growing()
    }
}

/// What stands on [`counts`] alone.
pub(crate) fn snapshot() -> Snapshot {
    counts().into()
}

/// The report around [`snapshot`].
pub(crate) fn report() -> Report {
    report_of(snapshot())
}

/// A report around any snapshot.
pub(crate) fn report_of(snapshot: impl Into<Snapshot>) -> Report {
    let snapshot = snapshot.into();
    let cost =
        CostFacts { self_cpu_ratio: Some(0.031), self_rss_bytes: Some(23_068_672), ..CostFacts::counted_in(&snapshot) };
    Report {
        snapshot: Arc::new(snapshot),
        process: ProcessFacts {
            pid: 4711,
            exe: "/srv/shop".into(),
            go_version: "go1.26.6".into(),
            build_id: Some("n0tAReal/BuildId".into()),
            main_module: Some("example.com/shop".into()),
            pod: Some("shop-7c9d".into()),
            namespace: Some("prod".into()),
            container: Some("shop".into()),
            ..ProcessFacts::default()
        },
        started_unix_ms: 1_790_000_000_000,
        is_final: true,
        cost,
        refusals: vec![Refusal::new("books_not_implemented", "this version does not read the runtime's books")],
    }
}
