//! Allocation over time, and what impulses caught: the twins of `model::series` and `model::impulses`.

use serde::Serialize;

use super::{
    allocator,
    document::{Allocator, Counted, Frame, Rate},
    file, finite, frame, line_number, owned_name, rate,
};
use crate::{
    export::untrusted,
    model::{impulses, series as model},
    units::approximate,
};

/// How much was allocated in each step. The lists have the same length, oldest first; `null`: not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Length of a step.
    pub step_s: f64,
    /// When the first began, since the window began.
    pub began_s: f64,
    /// Bytes allocated in each.
    pub alloc_bytes: Vec<Option<u64>>,
    /// Objects allocated in each.
    pub alloc_objects: Vec<Option<u64>>,
    /// Bytes of objects at the end of each: alive, or garbage not yet swept. Absent: nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap_bytes: Option<Vec<Option<u64>>>,
    /// Bytes that the last collection before the end of each found alive. Absent: nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<Vec<Option<u64>>>,
    /// The steps with most bytes and those with most objects, oldest first.
    pub peaks: Vec<Peak>,
    /// Of what was allocated it is not known in which step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unplaced: Option<Counted>,
}

/// A step with much.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peak {
    /// When it began, since the window began.
    pub at_s: f64,
    /// Objects allocated in it.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A jump of the books.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Impulse {
    /// When it was noticed, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// The same, since the window began.
    pub at_s: f64,
    /// `allocation_rate` (bytes per second), `heap_growth` (bytes), `pause` (seconds).
    pub kind: &'static str,
    /// What was usual, in that unit. Absent: there is nothing usual to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual: Option<f64>,
    /// What was seen, in that unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<f64>,
    /// What the window caught that was opened at once. Absent: there was none, or it is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<ImpulseBurst>,
    /// Why there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_burst: Option<String>,
}

/// What a window caught that was opened since the books have jumped. It is no random sample: it stands for itself alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImpulseBurst {
    /// When it began, since the jump was noticed.
    pub delay_s: f64,
    /// How long hits counted.
    pub open_s: f64,
    /// Objects that were recorded.
    pub caught: u64,
    /// All objects of the window that they stand for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<f64>,
    /// Their bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
    /// Most bytes first.
    pub sites: Vec<CaughtSite>,
}

/// A line and what it allocated in such a window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaughtSite {
    /// 16 hex digits.
    pub site: String,
    /// The function a person would change.
    pub function: String,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The frame below the runtime.
    pub allocator: Allocator,
    /// Objects that were recorded.
    pub caught: u64,
    /// Its part of the bytes of the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Rate>,
    /// The stack with most bytes, leaf first.
    pub frames: Vec<Frame>,
}

pub(super) fn series(series: &model::Series) -> Series {
    let of = |pick: fn(&model::Step) -> Option<u64>| series.steps.iter().map(pick).collect::<Vec<_>>();
    let known = |values: Vec<Option<u64>>| values.iter().any(Option::is_some).then_some(values);
    Series {
        step_s: seconds(series.step_ns),
        began_s: seconds(series.began_ns),
        alloc_bytes: of(|step| step.allocated.map(|allocated| allocated.bytes)),
        alloc_objects: of(|step| step.allocated.map(|allocated| allocated.objects)),
        heap_bytes: known(of(|step| step.heap_bytes)),
        live_bytes: known(of(|step| step.live_bytes)),
        peaks: series
            .peaks
            .iter()
            .map(|peak| Peak {
                at_s: seconds(peak.began_ns),
                objects: peak.allocated.objects,
                bytes: peak.allocated.bytes,
            })
            .collect(),
        unplaced: (series.unplaced.objects > 0).then(|| series.unplaced.into()),
    }
}

pub(super) fn impulses(impulses: &impulses::Impulses) -> Vec<Impulse> {
    let impulse = |impulse: &impulses::Impulse| Impulse {
        at_unix_ms: impulse.unix_ns / 1_000_000,
        at_s: seconds(impulse.at_ns),
        kind: impulse.noticed.kind.name(),
        usual: impulse.noticed.usual.and_then(finite),
        seen: finite(impulse.noticed.seen),
        burst: impulse.burst.as_ref().map(burst),
        no_burst: impulse.unserved.as_deref().map(|why| untrusted::name(why).into_owned()),
    };
    impulses.last.iter().map(impulse).collect()
}

fn burst(burst: &impulses::ImpulseBurst) -> ImpulseBurst {
    ImpulseBurst {
        delay_s: seconds(burst.delay_ns),
        open_s: seconds(burst.open_ns),
        caught: burst.births,
        objects: finite(burst.objects),
        bytes: finite(burst.bytes),
        sites: burst
            .sites
            .iter()
            .map(|site| CaughtSite {
                site: site.id.to_string(),
                function: owned_name(&site.place.function),
                file: file(&site.place),
                line: line_number(&site.place),
                allocator: allocator(&site.allocator),
                caught: site.births,
                share: rate(site.share),
                frames: site.frames.iter().map(frame).collect(),
            })
            .collect(),
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    approximate(nanoseconds) / 1e9
}
