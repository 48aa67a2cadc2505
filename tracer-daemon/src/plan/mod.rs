//! Where would probes go, at which instruction, or why not?
//!
//! Pure: code bytes in, probe points and refusals out. A [`ProbePoint`] can only be made by this stage's decoder
//! (`decode.rs`), which proves that it lies on an instruction boundary and on an instruction that the kernel emulates:
//! a probe in the middle of an instruction kills the target, and one on any other instruction costs ten times as much.

mod decode;
mod refusal;

use tracer_common::exact::TargetConfig;

use crate::{
    addr::{LoadBias, Svma},
    inspect::{BinaryFacts, FunctionCode},
};

pub use decode::ProbePoint;
pub use refusal::{Refusal, RefusalReason};

/// What a probe is for; decides which kernel program runs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Every allocation passes here: size and type in registers.
    Allocation,
    /// Go 1.27's specialised functions, called by compiled code directly and by `mallocgc`, which has counted then.
    SpecialisedAllocation,
    /// A `go` statement has made a goroutine.
    GoroutineCreated,
    /// `iter.Pull` has made a coroutine, without the usual path of a `go` statement.
    CoroutineCreated,
    /// A goroutine or coroutine has ended.
    GoroutineExited,
}

impl Purpose {
    /// The name in `plan --output json`, and of the kernel program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allocation => "allocation",
            Self::SpecialisedAllocation => "specialised_allocation",
            Self::GoroutineCreated => "goroutine_created",
            Self::CoroutineCreated => "coroutine_created",
            Self::GoroutineExited => "goroutine_exited",
        }
    }
}

/// What would be probed in a binary.
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
    /// Start and end of `runtime.mallocgc`, in the file.
    mallocgc: (Svma, Svma),
    g_goid_offset: u64,
    g_gopc_offset: u64,
    malloc_header_bytes: u64,
}

impl ProbePlan {
    /// Plans the `exact` evidence: every allocation, every goroutine creation and exit.
    pub fn exact(facts: &BinaryFacts) -> Self {
        let mut plan = Self {
            g_goid_offset: facts.layout.g_goid,
            g_gopc_offset: facts.layout.g_gopc,
            malloc_header_bytes: facts.layout.malloc_header_bytes,
            ..Self::default()
        };
        match goroutine_points(facts) {
            Ok(points) => {
                plan.counts_goroutines = true;
                plan.points.extend(points);
            }
            Err(refusal) => plan.refused.push(refusal),
        }
        match allocation_points(facts) {
            Ok((points, mallocgc)) => {
                plan.counts_allocations = true;
                plan.mallocgc = mallocgc;
                plan.points.extend(points);
            }
            Err(refusal) => plan.refused.push(refusal),
        }
        plan
    }

    /// What the kernel programs must know of one process.
    pub fn target_config(&self, bias: LoadBias) -> TargetConfig {
        TargetConfig {
            mallocgc_start: self.mallocgc.0.in_process(bias).0,
            mallocgc_end: self.mallocgc.1.in_process(bias).0,
            g_goid_offset: self.g_goid_offset,
            g_gopc_offset: self.g_gopc_offset,
            malloc_header_bytes: self.malloc_header_bytes,
        }
    }
}

/// Without every single one of these the counts would be wrong, so one refusal is the refusal of all.
fn allocation_points(facts: &BinaryFacts) -> Result<(Vec<ProbePoint>, (Svma, Svma)), Refusal> {
    const MALLOCGC: &str = "runtime.mallocgc";
    if let Some(unknown) = facts.functions.keys().find(|name| is_unknown_allocator(name)) {
        let text = format!("{unknown} is not known: it may allocate without passing a known function");
        return Err(Refusal::new(RefusalReason::AllocatorUnknown, text));
    }
    let mut points = Vec::new();
    for code in facts.functions.values().flatten().filter(|code| is_specialised(&code.name)) {
        points.push(decode::push_after_stack_check(code, Purpose::SpecialisedAllocation)?);
    }
    let mallocgc = only(facts, MALLOCGC)?;
    points.push(decode::push_after_stack_check(mallocgc, Purpose::Allocation)?);
    Ok((points, (mallocgc.start, mallocgc.end)))
}

fn goroutine_points(facts: &BinaryFacts) -> Result<Vec<ProbePoint>, Refusal> {
    let exit = decode::push_after_stack_check(only(facts, "runtime.gdestroy")?, Purpose::GoroutineExited)?;
    let runqput = only(facts, "runtime.runqput")?.start;
    let newproc = only(facts, "runtime.newproc.func1")?;
    let created = decode::call_of(newproc, "runtime.runqput", runqput, Purpose::GoroutineCreated)?;
    let mut points = vec![exit, created];
    // Linked only where something uses `iter.Pull`.
    if facts.functions.contains_key("runtime.newcoro.func1") {
        let newcoro = only(facts, "runtime.newcoro.func1")?;
        let newproc1 = only(facts, "runtime.newproc1")?.start;
        points.push(decode::jump_behind_call_of(newcoro, "runtime.newproc1", newproc1, Purpose::CoroutineCreated)?);
    }
    Ok(points)
}

/// Go 1.27: `mallocgcTinySC2`, `mallocgcSmallNoScanSC5`, …; with an experiment of 1.26 also `mallocgcTinySize7`.
/// Their slow paths are called by them, hence not counted again.
fn is_specialised(function: &str) -> bool {
    let Some(kind) = function.strip_prefix("runtime.mallocgc") else { return false };
    let class = kind
        .strip_prefix("TinySC")
        .or_else(|| kind.strip_prefix("TinySize"))
        .or_else(|| kind.strip_prefix("SmallNoScanSC"))
        .or_else(|| kind.strip_prefix("SmallScanNoHeaderSC"));
    class.is_some_and(|class| !class.is_empty() && class.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether the name is one of the allocator's and none of those whose place in it is known: with one more way in, counts
/// would be wrong.
fn is_unknown_allocator(function: &str) -> bool {
    /// Called by `mallocgc`, or by a specialised function that was counted (Go 1.24 to 1.27).
    const INNER: [&str; 8] = [
        "",
        "Tiny",
        "SmallNoscan",
        "SmallScanNoHeader",
        "SmallScanHeader",
        "Large",
        "TinySlowPath",
        "SmallScanSlowPath",
    ];
    let Some(kind) = function.strip_prefix("runtime.mallocgc") else { return false };
    let kind = kind.split('.').next().unwrap_or_default(); // closures belong to their function
    !INNER.contains(&kind) && kind != "SmallNoScanSlowPath" && !is_specialised(&format!("runtime.mallocgc{kind}"))
}

/// The function of this name; a refusal where there is none or more than one.
fn only<'a>(facts: &'a BinaryFacts, name: &str) -> Result<&'a FunctionCode, Refusal> {
    match facts.functions.get(name).map(Vec::as_slice) {
        Some([code]) => Ok(code),
        None | Some([]) => {
            Err(Refusal::new(RefusalReason::FunctionMissing, format!("{name} is not in the function table")))
        }
        Some(_) => {
            Err(Refusal::new(RefusalReason::FunctionAmbiguous, format!("{name} is in the function table twice")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_specialised, is_unknown_allocator};

    #[test]
    fn an_allocator_that_we_do_not_know_is_refused() {
        for known in ["", "Tiny", "Large", "Large.func1", "SmallScanNoHeaderSC7", "SmallNoScanSlowPath"] {
            assert!(!is_unknown_allocator(&format!("runtime.mallocgc{known}")), "{known}");
        }
        for unknown in ["Huge", "TinySC", "SmallScanHeaderSC3", "TinyFast"] {
            assert!(is_unknown_allocator(&format!("runtime.mallocgc{unknown}")), "{unknown}");
        }
    }

    #[test]
    fn specialised_functions_are_known_by_name() {
        for name in ["TinySC2", "TinySize15", "SmallNoScanSC2", "SmallNoScanSC26", "SmallScanNoHeaderSC1"] {
            assert!(is_specialised(&format!("runtime.mallocgc{name}")), "{name}");
        }
        for name in ["", "Tiny", "SmallNoscan", "SmallScanNoHeader", "SmallScanHeader", "Large", "TinySlowPath"] {
            assert!(!is_specialised(&format!("runtime.mallocgc{name}")), "{name}");
        }
        assert!(!is_specialised("main.mallocgcTinySC2"));
    }
}
