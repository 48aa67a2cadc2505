//! Which instruction serves which purpose, and how that depends on the version of Go and on what the compiler inlined.
//!
//! A function that was inlined somewhere is not passed by those calls: where every call counts, that is a refusal, or
//! another point serves instead.

use tracer_common::bursts::GeneralRegister;

use super::{BirthPoints, ProbePoint, Purpose, Refusal, RefusalReason, decode};
use crate::{
    addr::Svma,
    inspect::{BinaryFacts, FunctionCode},
};

const MALLOCGC: &str = "runtime.mallocgc";
const NEWPROC1: &str = "runtime.newproc1";
const RUNQPUT: &str = "runtime.runqput";

/// All ways into the allocator, and the bounds of `runtime.mallocgc`. Without every single one of these the counts
/// would be wrong, so one refusal is the refusal of all.
pub(super) fn allocations(facts: &BinaryFacts) -> Result<(Vec<ProbePoint>, (Svma, Svma)), Refusal> {
    let asan = facts.settings.iter().any(|(key, value)| key == "-asan" && value == "true");
    if asan || facts.functions.contains_key("runtime.asanpoison") {
        let text = "built with -asan: every object is larger than what was asked for";
        return Err(Refusal::new(RefusalReason::RedZones, text));
    }
    // Also those that are inlined everywhere.
    let mut allocators = facts.functions.keys().chain(facts.inlined.keys());
    if let Some(unknown) = allocators.find(|name| is_unknown_allocator(name)) {
        let text = format!("{unknown} is not known: it may allocate without passing a known function");
        return Err(Refusal::new(RefusalReason::AllocatorUnknown, text));
    }
    let mut points = specialised(facts)?;
    let mallocgc = called(facts, MALLOCGC)?;
    points.push(decode::entry(mallocgc, Purpose::Allocation)?);
    Ok((points, (mallocgc.start, mallocgc.end)))
}

/// Compiled code calls these without passing through the intermediate code in which the compiler inlines, but the runtime
/// itself calls them by name.
fn specialised(facts: &BinaryFacts) -> Result<Vec<ProbePoint>, Refusal> {
    let mut points = Vec::new();
    for name in facts.functions.keys().filter(|name| is_specialised(name)) {
        // Inlined into mallocgc, which is counted itself, they cost nothing.
        only_inlined_into(facts, name, MALLOCGC)?;
        points.push(decode::entry(only(facts, name)?, Purpose::SpecialisedAllocation)?);
    }
    Ok(points)
}

/// Every creation and every end of a goroutine.
pub(super) fn goroutines(facts: &BinaryFacts) -> Result<Vec<ProbePoint>, Refusal> {
    let of_synctest = |name: &String| name.starts_with("runtime.synctestRun.func");
    if facts.go_version.minor >= 25 && facts.functions.keys().any(of_synctest) {
        let text = "runtime.synctestRun (testing/synctest) makes goroutines that pass no probe; test binaries have it";
        return Err(Refusal::new(RefusalReason::CreatorUnknown, text));
    }
    let mut points = goroutine_exited(facts)?;
    points.push(goroutine_created(facts)?);
    // Linked only where something uses `iter.Pull`.
    if facts.functions.contains_key("runtime.newcoro.func1") {
        let newcoro = only(facts, "runtime.newcoro.func1")?;
        points.push(decode::result_of(newcoro, only(facts, NEWPROC1)?, Purpose::GoroutineReturned)?);
    }
    Ok(points)
}

fn goroutine_created(facts: &BinaryFacts) -> Result<ProbePoint, Refusal> {
    let newproc = only(facts, "runtime.newproc.func1")?;
    let handed_over =
        only(facts, RUNQPUT).and_then(|runqput| decode::call_of(newproc, runqput, Purpose::GoroutineCreated));
    match handed_over {
        Err(refusal) if matches!(refusal.reason, RefusalReason::CallNotFound | RefusalReason::FunctionMissing) => {
            decode::result_of(newproc, only(facts, NEWPROC1)?, Purpose::GoroutineReturned)
        }
        outcome => outcome,
    }
}

/// Before go1.22 `goexit0`. From then on `gdestroy`, which `goexit0` and the ends of coroutines call; where it is inlined
/// into `goexit0`, whose argument is the same, both.
fn goroutine_exited(facts: &BinaryFacts) -> Result<Vec<ProbePoint>, Refusal> {
    const GDESTROY: &str = "runtime.gdestroy";
    const GOEXIT0: &str = "runtime.goexit0";
    let goexit0 = || decode::entry(called(facts, GOEXIT0)?, Purpose::GoroutineExited);
    if facts.go_version.minor < 22 {
        return Ok(vec![goexit0()?]);
    }
    only_inlined_into(facts, GDESTROY, GOEXIT0)?;
    if !facts.inlined.contains_key(GDESTROY) {
        return Ok(vec![decode::entry(only(facts, GDESTROY)?, Purpose::GoroutineExited)?]);
    }
    let mut points = vec![goexit0()?];
    // Gone where nothing else calls it.
    if facts.functions.contains_key(GDESTROY) {
        points.push(decode::entry(only(facts, GDESTROY)?, Purpose::GoroutineExited)?);
    }
    Ok(points)
}

/// Where an object's slot can be predicted: in the functions that choose one, which exist from go1.24 on. Where few points are wanted, or some
/// are inlined into `mallocgc`, and before go1.24, at the beginning of `mallocgc`: then the specialised functions that it
/// calls itself are hit for the same object, and told by their return address (hence the bounds of `mallocgc`) as for [`Purpose::SpecialisedAllocation`].
/// While the collector marks, an allocation may first have to help it and go on on another processor: in `mallocgc` and
/// in slow paths it shows beforehand whether it must.
pub(super) fn births(facts: &BinaryFacts, which: BirthPoints) -> Result<(Vec<ProbePoint>, (Svma, Svma)), Refusal> {
    let (_, bounds) = allocations(facts)?;
    let mallocgc = only(facts, MALLOCGC)?;
    let of_kind = |kind: Inner| {
        let kinds = INNER.into_iter().filter(move |(_, place)| *place == kind);
        kinds.map(|(name, _)| format!("{MALLOCGC}{name}")).collect::<Vec<String>>()
    };
    let inner = of_kind(Inner::ChoosesSlot);
    let is_linked = |name: &&String| facts.functions.contains_key(*name);
    let mut points = Vec::new();
    let is_inlined = inner.iter().any(|name| facts.inlined.contains_key(name));
    if which == BirthPoints::Few || is_inlined || !inner.iter().any(|name| is_linked(&name)) {
        points.push(decode::entry(mallocgc, Purpose::BirthAtEntrance)?);
    } else {
        for name in inner.iter().filter(is_linked) {
            points.push(decode::entry(only(facts, name)?, Purpose::Birth)?);
        }
    }
    let specialised: Vec<&String> = facts.functions.keys().filter(|name| is_specialised(name)).collect();
    for name in &specialised {
        points.push(decode::entry(only(facts, name)?, Purpose::SpecialisedBirth)?);
    }
    if !specialised.is_empty() {
        // Where one is missing or inlined, the specialised functions answer for their objects themselves.
        let slow = of_kind(Inner::SlowPath);
        let slow: Result<Vec<ProbePoint>, Refusal> = slow
            .iter()
            .filter(is_linked)
            .map(|name| decode::entry(called(facts, name)?, Purpose::SlowPathBirth))
            .collect();
        points.extend(slow.unwrap_or_default());
    }
    Ok((points, bounds))
}

/// Where it is seen which slot an object gets whose cached span is full.
#[derive(Debug)]
pub(super) struct SlotPoints {
    /// The end of `nextFree`, if each such object passes it.
    pub(super) found: Result<Vec<ProbePoint>, Refusal>,
    /// Points of which each such object passes one, where that is not so. Empty: there are none, or none are needed.
    pub(super) searches: Vec<ProbePoint>,
    /// What holds the slot's address at the end of `nextFree`, and the span.
    pub(super) address: Option<GeneralRegister>,
    pub(super) span: Option<GeneralRegister>,
}

/// `nextFree` asks `nextFreeIndex` about the span that is cached, and where that is full about the one that it takes instead. A compiler with a profile
/// inlines the one here and the other there: then both are points.
pub(super) fn slots(facts: &BinaryFacts) -> SlotPoints {
    const NEXT_FREE: &str = "runtime.(*mcache).nextFree";
    const NEXT_FREE_INDEX: &str = "runtime.(*mspan).nextFreeIndex";
    /// Calls it of a span that was just swept, as `nextFree` will do again.
    const CACHE_SPAN: &str = "runtime.(*mcentral).cacheSpan";

    let end = only(facts, NEXT_FREE).and_then(|code| decode::before_return(code, Purpose::SlotFound));
    let address = end.as_ref().ok().map(|(_, held)| *held);
    let span = only(facts, NEXT_FREE).ok().and_then(decode::span_register);
    let end = end.map(|(point, _)| vec![point]);
    let found = only_inlined_into(facts, NEXT_FREE, NEXT_FREE).and_then(|()| end.clone());
    let mut owners = facts.inlined.get(NEXT_FREE_INDEX).into_iter().flatten();
    let is_seen = owners.all(|owner| owner == CACHE_SPAN || (owner == NEXT_FREE && end.is_ok()));
    let searches = match (&found, only(facts, NEXT_FREE_INDEX)) {
        (Err(_), Ok(code)) if is_seen => decode::entry(code, Purpose::SlotSearched)
            .map(|point| [point].into_iter().chain(end.into_iter().flatten()).collect())
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    SlotPoints { found, searches, address, span }
}

/// Behind the call of `allocLarge`: in `mallocgcLarge` from go1.24 on, before in `mallocgc`.
pub(super) fn large_span_found(facts: &BinaryFacts) -> Result<Vec<ProbePoint>, Refusal> {
    const LARGE: &str = "runtime.mallocgcLarge";
    let caller = if facts.functions.contains_key(LARGE) { called(facts, LARGE)? } else { called(facts, MALLOCGC)? };
    let allocate = called(facts, "runtime.(*mcache).allocLarge")?;
    Ok(vec![decode::result_of(caller, allocate, Purpose::LargeSpanFound)?])
}

/// The beginning of a function that every call must pass.
pub(super) fn beginning_of(facts: &BinaryFacts, name: &str, purpose: Purpose) -> Result<Vec<ProbePoint>, Refusal> {
    Ok(vec![decode::entry(called(facts, name)?, purpose)?])
}

/// Go 1.27: `mallocgcTinySC2`, `mallocgcSmallNoScanSC5`, …; with an experiment of 1.26 also `mallocgcTinySize7`.
/// Their slow paths are called by them, hence not counted again.
fn is_specialised(function: &str) -> bool {
    let Some(kind) = function.strip_prefix(MALLOCGC) else { return false };
    let class = kind
        .strip_prefix("TinySC")
        .or_else(|| kind.strip_prefix("TinySize"))
        .or_else(|| kind.strip_prefix("SmallNoScanSC"))
        .or_else(|| kind.strip_prefix("SmallScanNoHeaderSC"));
    class.is_some_and(|class| !class.is_empty() && class.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What a function of the allocator does that is called by `mallocgc`, or by a specialised function that was counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inner {
    /// Chooses the slot of a small object.
    ChoosesSlot,
    /// Called by the specialised functions while the collector marks, with arguments that were seen there.
    SlowPath,
    /// Something else.
    Other,
}

/// By the end of its name (go1.24 to go1.27).
const INNER: [(&str, Inner); 9] = [
    ("", Inner::Other),
    ("Tiny", Inner::ChoosesSlot),
    ("SmallNoscan", Inner::ChoosesSlot),
    ("SmallScanNoHeader", Inner::ChoosesSlot),
    ("SmallScanHeader", Inner::ChoosesSlot),
    ("Large", Inner::Other),
    ("TinySlowPath", Inner::SlowPath),
    ("SmallScanSlowPath", Inner::SlowPath),
    ("SmallNoScanSlowPath", Inner::SlowPath),
];

/// Whether the name is one of the allocator's and none of those whose place in it is known: with one more way in, counts
/// would be wrong.
fn is_unknown_allocator(function: &str) -> bool {
    let Some(kind) = function.strip_prefix(MALLOCGC) else { return false };
    let kind = kind.split('.').next().unwrap_or_default(); // closures belong to their function
    !INNER.iter().any(|(known, _)| *known == kind) && !is_specialised(&format!("{MALLOCGC}{kind}"))
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

/// As [`only`], and every call of it is a call: it is inlined nowhere.
fn called<'a>(facts: &'a BinaryFacts, name: &str) -> Result<&'a FunctionCode, Refusal> {
    only_inlined_into(facts, name, name)?;
    only(facts, name)
}

fn only_inlined_into(facts: &BinaryFacts, name: &str, accepted: &str) -> Result<(), Refusal> {
    match facts.inlined.get(name).and_then(|owners| owners.iter().find(|owner| *owner != accepted)) {
        None => Ok(()),
        Some(owner) => Err(Refusal::new(
            RefusalReason::FunctionInlined,
            format!("{name} is inlined into {owner}, whose calls of it pass no probe"),
        )),
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
