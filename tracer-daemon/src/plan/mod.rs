//! Where would probes go, at which instruction, or why not?
//!
//! Pure: code bytes in, probe points and refusals out. A [`ProbePoint`] can only be made by this stage's decoder
//! (`decode.rs`), which proves that it lies on an instruction boundary and on an instruction that the kernel emulates:
//! a probe in the middle of an instruction kills the target, and one on any other instruction costs ten times as much.

mod bursts;
mod decode;
mod evidence;
mod points;
mod refusal;

use tracer_common::exact::TargetConfig;

use crate::{
    addr::{LoadBias, Svma},
    inspect::{BinaryFacts, layout::RuntimeLayout},
};

pub use bursts::{BirthPoints, BurstPlan};
pub use decode::ProbePoint;
pub use evidence::evidence;
pub use refusal::{Refusal, RefusalReason};

/// What a probe is for; decides which kernel program runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Every allocation passes here: size and type in registers.
    Allocation,
    /// Go 1.27's specialised functions, called by compiled code directly and by `mallocgc`, which has counted then.
    SpecialisedAllocation,
    /// A `go` statement has made a goroutine, and hands it to the scheduler: the second argument.
    GoroutineCreated,
    /// `newproc1` has made a goroutine and returned it: a coroutine of `iter.Pull`, or any goroutine where the call that
    /// [`Self::GoroutineCreated`] needs was inlined.
    GoroutineReturned,
    /// A goroutine or coroutine has ended.
    GoroutineExited,
    /// An object is about to be put into a slot that can be predicted: size and type in registers.
    Birth,
    /// The same at the beginning of `mallocgc`, before what may come between: help for the collector.
    BirthAtEntrance,
    /// The same in one of Go 1.27's specialised functions.
    SpecialisedBirth,
    /// The same in a slow path of these, to which they leave the object while the collector marks.
    SlowPathBirth,
    /// `nextFree` has found a slot: its address in AX, or in another register that the code says.
    SlotFound,
    /// `nextFreeIndex` begins to look for a slot in a span, in AX: where `nextFree` is inlined.
    SlotSearched,
    /// A span for one large object was made: the span in AX.
    LargeSpanFound,
    /// Marking is over and the world stopped: mark bits are final (once a collection).
    CycleMarked,
    /// The collection is over but for sweeping (once a collection).
    CycleEnded,
    /// The runtime's own profiler has sampled an object: address in BX, size of its slot in CX.
    ProfiledBirth,
    /// An object with a special record is freed: record in AX, address in BX, size in CX. Only where the record is the
    /// profiler's (its kind says so) does it mean a death: finalizers revive objects, and weak handles are records too.
    ProfiledDeath,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 16] = [
        Self::Allocation,
        Self::SpecialisedAllocation,
        Self::GoroutineCreated,
        Self::GoroutineReturned,
        Self::GoroutineExited,
        Self::Birth,
        Self::BirthAtEntrance,
        Self::SpecialisedBirth,
        Self::SlowPathBirth,
        Self::SlotFound,
        Self::SlotSearched,
        Self::LargeSpanFound,
        Self::CycleMarked,
        Self::CycleEnded,
        Self::ProfiledBirth,
        Self::ProfiledDeath,
    ];

    /// The name in `plan --output json`, and of the kernel program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocation => "allocation",
            Self::SpecialisedAllocation => "specialised_allocation",
            Self::GoroutineCreated => "goroutine_created",
            Self::GoroutineReturned => "goroutine_returned",
            Self::GoroutineExited => "goroutine_exited",
            Self::Birth => "birth",
            Self::BirthAtEntrance => "birth_at_entrance",
            Self::SpecialisedBirth => "specialised_birth",
            Self::SlowPathBirth => "slow_path_birth",
            Self::SlotFound => "slot_found",
            Self::SlotSearched => "slot_searched",
            Self::LargeSpanFound => "large_span_found",
            Self::CycleMarked => "cycle_marked",
            Self::CycleEnded => "cycle_ended",
            Self::ProfiledBirth => "profiled_birth",
            Self::ProfiledDeath => "profiled_death",
        }
    }
}

/// The points of the `exact` evidence.
#[derive(Clone, Debug, Default)]
pub struct ProbePlan {
    /// Rare points first, so that the costly ones are on for the shortest time.
    pub points: Vec<ProbePoint>,
    /// Whether every allocation passes one of the points.
    pub counts_allocations: bool,
    /// Whether every goroutine creation and exit passes one of the points.
    pub counts_goroutines: bool,
    /// What is left out, and why.
    pub refused: Vec<Refusal>,
    constants: Constants,
}

/// CF and ZF: `jbe` jumps where one of them is set.
const STACK_CHECK_FLAGS: u64 = 1 | 1 << 6;

impl ProbePlan {
    /// Plans the `exact` evidence: every allocation, every goroutine creation and exit.
    pub fn exact(facts: &BinaryFacts) -> Self {
        let mut plan = Self { constants: Constants::of(&facts.layout), ..Self::default() };
        match points::goroutines(facts) {
            Ok(points) => {
                plan.counts_goroutines = true;
                plan.points.extend(points);
            }
            Err(refusal) => plan.refused.push(refusal),
        }
        match points::allocations(facts) {
            Ok((points, mallocgc)) => {
                plan.counts_allocations = true;
                plan.constants.mallocgc = mallocgc;
                plan.points.extend(points);
            }
            Err(refusal) => plan.refused.push(refusal),
        }
        plan
    }

    /// What the kernel programs must know of one process.
    pub fn target_config(&self, bias: LoadBias) -> TargetConfig {
        self.constants.of_process(&self.points, bias)
    }
}

/// What all kernel programs must know of one binary.
#[derive(Clone, Debug, Default)]
struct Constants {
    /// Start and end of `runtime.mallocgc`, in the file.
    mallocgc: (Svma, Svma),
    /// Without addresses and flags.
    offsets: TargetConfig,
}

impl Constants {
    fn of(layout: &RuntimeLayout) -> Self {
        let offsets = TargetConfig {
            g_goid_offset: layout.g.goid,
            g_gopc_offset: layout.g.gopc,
            malloc_header_bytes: layout.malloc_header_bytes(),
            ..TargetConfig::default()
        };
        Self { offsets, ..Self::default() }
    }

    fn of_process<'a>(&self, points: impl IntoIterator<Item = &'a ProbePoint>, bias: LoadBias) -> TargetConfig {
        let on_stack_check = points.into_iter().any(ProbePoint::on_stack_check);
        TargetConfig {
            mallocgc_start: self.mallocgc.0.in_process(bias).0,
            mallocgc_end: self.mallocgc.1.in_process(bias).0,
            // Behind a stack check both flags are clear, so that it does no harm where points of both kinds are mixed.
            stack_check_flags: if on_stack_check { STACK_CHECK_FLAGS } else { 0 },
            ..self.offsets
        }
    }
}

/// The points that kinds of evidence other than `exact` need, with what each is for; a refusal where a point that all
/// of them need is missing. They are shown by `leakline plan`; [`BurstPlan`] takes those of bursts from here.
#[derive(Clone, Debug, Default)]
pub struct RarePoints {
    /// In the order of [`Purpose::ALL`].
    pub points: Vec<ProbePoint>,
    /// What is missing, and why.
    pub refused: Vec<(Purpose, Refusal)>,
}

impl RarePoints {
    /// Finds them in one binary.
    pub fn of(facts: &BinaryFacts) -> Self {
        let mut found = Self::default();
        let slots = points::slots(facts);
        let purposes = [
            (Purpose::Birth, points::births(facts, BirthPoints::Certain).map(|(points, _)| points)),
            (Purpose::SlotFound, if slots.searches.is_empty() { slots.found } else { Ok(slots.searches) }),
            (Purpose::LargeSpanFound, points::large_span_found(facts)),
            (Purpose::CycleMarked, points::beginning_of(facts, "runtime.gcSweep", Purpose::CycleMarked)),
            (Purpose::CycleEnded, points::beginning_of(facts, "runtime.gcMarkTermination", Purpose::CycleEnded)),
            (Purpose::ProfiledBirth, points::beginning_of(facts, "runtime.profilealloc", Purpose::ProfiledBirth)),
            (Purpose::ProfiledDeath, points::beginning_of(facts, "runtime.freeSpecial", Purpose::ProfiledDeath)),
        ];
        for (purpose, points) in purposes {
            match points {
                Ok(points) => found.points.extend(points),
                Err(refusal) => found.refused.push((purpose, refusal)),
            }
        }
        found
    }
}
