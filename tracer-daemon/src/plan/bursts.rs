//! The points of a burst, the point that tells of collections, and what the kernel programs must know beside them.

use tracer_common::bursts::{BurstConfig, BurstPoint};
use tracer_common::exact::TargetConfig;
use tracer_common::goroutines::GoroutinePoint;

use super::points::SlotPoints;
use super::{Constants, ProbePoint, Purpose, Refusal, points};
use crate::addr::{Avma, LoadBias};
use crate::inspect::BinaryFacts;
use crate::inspect::layout::RuntimeLayout;

/// Bits of a word.
const WORD_BITS: u64 = 64;

/// Which points births take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BirthPoints {
    /// Those at which the slot of an object is certain.
    Certain,
    /// As few as will do, where each takes time to go: then one in a thousand addresses is wrong while the collector runs.
    Few,
}

/// What bursts and marks need of one binary.
#[derive(Clone, Debug)]
pub struct BurstPlan {
    /// Where births are seen. Rare points first.
    pub births: Vec<ProbePoint>,
    /// Where it is seen that a slot was found in another span. Empty: windows that weigh goroutines cannot be opened.
    pub slots: Vec<ProbePoint>,
    /// Where it is seen that a slot is looked for, if it is not seen that one was found. If that is empty, too, births whose span is full
    /// have no address.
    pub searches: Vec<ProbePoint>,
    /// Where large objects are seen. Empty: they are in the books only.
    pub large: Vec<ProbePoint>,
    /// Where it is seen that marking is over. Empty: the daemon has to look how far the collector is.
    pub cycle: Vec<ProbePoint>,
    /// Where goroutines are seen to begin and to end: all of them. The refusal: not all pass a point.
    pub goroutines: Result<Vec<ProbePoint>, Refusal>,
    config: BurstConfig,
    constants: Constants,
}

impl BurstPlan {
    /// Plans births for one binary.
    ///
    /// # Errors
    /// Where not every allocation of a small object passes a point.
    pub fn of(facts: &BinaryFacts, which: BirthPoints) -> Result<Self, Refusal> {
        let (births, mallocgc) = points::births(facts, which)?;
        // What is missing, and why, `RarePoints` says.
        let SlotPoints { found, searches, address, span } = points::slots(facts);
        let slots = found.unwrap_or_default();
        let large = points::large_span_found(facts).unwrap_or_default();
        let cycle = points::beginning_of(facts, "runtime.gcSweep", Purpose::CycleMarked).unwrap_or_default();
        let has = |purpose| births.iter().any(|point| point.purpose() == purpose);
        let config = BurstConfig {
            slot_span_register: span.map_or(0, |register| register as u64),
            slot_address_register: address.map_or(0, |register| register as u64),
            has_slow_paths: u64::from(has(Purpose::SlowPathBirth)),
            mallocgc_is_probed: u64::from(has(Purpose::BirthAtEntrance)),
            ..offsets(&facts.layout)
        };
        let constants = Constants { mallocgc, ..Constants::of(&facts.layout) };
        let goroutines = points::goroutines(facts);
        Ok(Self { births, slots, searches, large, cycle, goroutines, config, constants })
    }

    /// What the kernel programs must know of one process: where `gcBlackenEnabled` and `mheap_` are in it.
    pub fn config(&self, gc_blacken_enabled: Avma, mheap: Avma, layout: &RuntimeLayout) -> BurstConfig {
        BurstConfig {
            gc_blacken_enabled: gc_blacken_enabled.0,
            sweepgen: mheap.0.wrapping_add(layout.mheap.sweepgen),
            ..self.config
        }
    }

    /// What all programs must know of one process.
    pub fn target_config(&self, bias: LoadBias) -> TargetConfig {
        let goroutines = self.goroutines.iter().flatten();
        self.constants.of_process(self.window().chain(&self.cycle).chain(goroutines), bias)
    }

    /// Everything that is probed in a window of births: rare points first.
    pub fn window(&self) -> impl Iterator<Item = &ProbePoint> {
        self.large.iter().chain(&self.slots).chain(&self.searches).chain(&self.births)
    }
}

impl Purpose {
    /// The cookie with which the kernel program is called at a point of a burst. None: it is no point of a burst.
    pub const fn burst_point(self) -> Option<BurstPoint> {
        match self {
            Self::Birth => Some(BurstPoint::ChoosesSlot),
            Self::BirthAtEntrance => Some(BurstPoint::Mallocgc),
            Self::SpecialisedBirth => Some(BurstPoint::Specialised),
            Self::SlowPathBirth => Some(BurstPoint::SlowPath),
            Self::SlotFound => Some(BurstPoint::SlotFound),
            Self::SlotSearched => Some(BurstPoint::SlotSearched),
            Self::LargeSpanFound => Some(BurstPoint::LargeSpanFound),
            _ => None,
        }
    }

    /// The cookie with which the kernel program is called at a point of goroutines. None: it is none.
    pub const fn goroutine_point(self) -> Option<GoroutinePoint> {
        match self {
            Self::GoroutineCreated => Some(GoroutinePoint::Created),
            Self::GoroutineReturned => Some(GoroutinePoint::Returned),
            Self::GoroutineExited => Some(GoroutinePoint::Exited),
            _ => None,
        }
    }
}

fn offsets(layout: &RuntimeLayout) -> BurstConfig {
    BurstConfig {
        g_m: layout.g.m,
        g_goid: layout.g.goid,
        g_startpc: layout.g.startpc,
        g_gc_assist_bytes: layout.g.gc_assist_bytes,
        m_p: layout.m.p,
        p_mcache: layout.p.mcache,
        mcache_tiny: layout.mcache.tiny,
        mcache_alloc: layout.mcache.alloc,
        span_start: layout.mspan.start_addr,
        span_freeindex: layout.mspan.freeindex,
        span_nelems: layout.mspan.nelems,
        span_index_bits: if layout.mspan.freeindex_bytes == 8 { WORD_BITS } else { 16 },
        span_alloc_cache: layout.mspan.alloc_cache,
        span_alloc_bits: layout.mspan.alloc_bits,
        span_elemsize: layout.mspan.elemsize,
        span_spanclass: layout.mspan.spanclass,
        ..BurstConfig::default()
    }
}
