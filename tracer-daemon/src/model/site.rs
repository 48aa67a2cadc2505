//! Site identity: which line does a stack stand for, and under which name is it known tomorrow?
//!
//! A site is keyed by (allocating frame below the runtime, first frame in the main module, else first frame outside the
//! standard library). Its id is a hash over function names and lines relative to the start of their functions, so that
//! it survives restarts, rebuilds of the same code, and edits elsewhere in the file.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use super::SiteId;
use crate::symbolize::{
    Frame, Origin,
    names::{self, is_main_module, is_runtime, is_standard_library},
};

/// Functions of the runtime through which every allocation goes: never themselves the place that allocates.
const ALLOCATION_FUNNEL: [&str; 14] = [
    "runtime.mallocgc",
    "runtime.newobject",
    "runtime.newarray",
    "runtime.makeslice",
    "runtime.makeslice64",
    "runtime.makeslicecopy",
    "runtime.growslice",
    "runtime.makechan",
    "runtime.makechan64",
    "runtime.rawbyteslice",
    "runtime.rawruneslice",
    "runtime.rawstring",
    "runtime.rawstringtmp",
    "runtime.concatstrings",
];

/// Functions of the runtime through which every goroutine is created.
const CREATION_FUNNEL: [&str; 8] = [
    "runtime.newproc.func1",
    "runtime.newproc1",
    "runtime.newproc",
    "runtime.newcoro.func1",
    "runtime.newcoro",
    "runtime.systemstack",
    "runtime.systemstack_switch",
    "runtime.corostart",
];

/// What the runtime does for itself on the stack of whoever happens to need it: a collection that is due, a new thread.
const OWN_BUSINESS: [&str; 2] = ["runtime.gcStart", "runtime.newm"];

/// Where the runtime leaves a goroutine's stack for the scheduler's. The frame pointers lead on into the goroutine that
/// yielded, which has not called what the scheduler does next (running timers, say).
const STACK_SWITCHES: [&str; 2] = ["runtime.mcall", "runtime.morestack"];

/// The file in which cgo puts the Go side of calls (cmd/cgo/out.go).
const CGO_FILE: &str = "_cgo_gotypes.go";

/// A stack with its site.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) id: SiteId,
    /// The line a person would change.
    pub(super) place: Frame,
    /// The frame below the runtime.
    pub(super) allocator: Frame,
    /// Leaf first, runtime frames at both ends trimmed.
    pub(super) frames: Vec<Frame>,
}

/// What created a goroutine.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Creation {
    /// A `go` statement or `iter.Pull` outside the runtime.
    By(Placed),
    /// The runtime itself, for its own purposes.
    Runtime,
}

/// The site of an allocation stack. None: no frame at all.
pub(super) fn place_allocation(frames: &[Frame], main_module: Option<&str>) -> Option<Placed> {
    let frames = callers(frames);
    let below_runtime = frames.iter().position(is_outside_runtime);
    let (runtime, _) = frames.split_at(below_runtime.unwrap_or(frames.len()));
    if let Some(end) = own_business(runtime) {
        return place_within_runtime(runtime.get(..end)?, main_module);
    }
    match below_runtime {
        Some(start) => place(frames.get(start..)?, main_module),
        None => place_within_runtime(frames, main_module),
    }
}

/// As [`place_allocation`], where the main module is not known: the first frame outside the standard library is the place. In large
/// programs `main` only starts what others do.
pub(super) fn place_outside_standard_library(frames: &[Frame]) -> Option<Placed> {
    let placed = place_allocation(frames, None)?;
    let is_outside = |frame: &&Frame| package_of(frame).is_some_and(|package| !is_standard_library(&package));
    let place = placed.frames.iter().find(is_outside).unwrap_or(&placed.allocator).clone();
    Some(Placed { id: identity(&placed.allocator, &place), place, ..placed })
}

/// Where in the runtime's frames its own business ends: at the frame that began it, or below an allocation on which it
/// came up (waking or starting a thread, say). None: the caller's business.
fn own_business(runtime: &[Frame]) -> Option<usize> {
    let begun = runtime
        .iter()
        .position(|frame| !is_native(frame) && OWN_BUSINESS.contains(&&*frame.function))
        .map(|begun| begun + 1);
    begun.or_else(|| {
        let first_inside = runtime.iter().position(allocates_for_itself)?;
        let inner = runtime.get(first_inside..)?;
        let is_allocation = |frame: &Frame| !is_native(frame) && frame.function.starts_with("runtime.mallocgc");
        let outer = inner.iter().position(is_allocation)?;
        Some(first_inside + outer)
    })
}

/// The runtime allocates for itself: name its function that does.
fn place_within_runtime(frames: &[Frame], main_module: Option<&str>) -> Option<Placed> {
    let own = frames.iter().position(allocates_for_itself);
    let last = || frames.iter().rposition(|frame| !is_native(frame));
    place(frames.get(own.or_else(last).unwrap_or(0)..)?, main_module)
}

/// The site of a goroutine creation stack. None: no frame at all.
pub(super) fn place_creation(frames: &[Frame], main_module: Option<&str>) -> Option<Creation> {
    let frames = callers(frames);
    // With a profile the compiler puts parts of the scheduler into the first function, before the funnel as seen from the leaf.
    let frames = frames.get(frames.iter().position(|frame| !frame.inlined)?..)?;
    let start = frames.iter().position(|frame| !CREATION_FUNNEL.contains(&&*frame.function))?;
    let creator = without_native(frames.get(start..)?);
    if creator.first().is_some_and(|frame| !is_native(frame) && is_runtime(&frame.function)) {
        return Some(Creation::Runtime);
    }
    place(creator, main_module).map(Creation::By)
}

/// The site of a goroutine creation stack by its `go` statement alone, as [`place_creator`] finds it in the goroutine table, with the frames of
/// the whole stack. `None`: no frame at all, or the runtime's own.
pub(super) fn place_go_statement(frames: &[Frame], main_module: Option<&str>) -> Option<Placed> {
    let Creation::By(Placed { frames, .. }) = place_creation(frames, main_module)? else { return None };
    let end = frames.iter().position(|frame| !frame.inlined)?;
    Some(Placed { frames: frames.clone(), ..place_creator(frames.get(..=end)?, main_module) })
}

/// The site of goroutines of which only the frame with the `go` statement is known, and what that is inlined into. Those that the
/// runtime started stand for themselves; without any frame it is one site for all.
pub(super) fn place_creator(frames: &[Frame], main_module: Option<&str>) -> Placed {
    place(frames, main_module).unwrap_or_else(|| {
        let place = Frame::unknown();
        Placed { id: identity(&place, &place), allocator: place.clone(), place, frames: Vec::new() }
    })
}

/// The line where a goroutine waits: the first of the main module, else the first outside the standard library, else the first
/// outside the runtime, else its leaf. None: no frame at all.
pub(super) fn place_blocked(frames: &[Frame], main_module: Option<&str>) -> Option<Frame> {
    let start = frames.iter().position(is_outside_runtime).unwrap_or(0);
    place(frames.get(start..)?, main_module).map(|placed| placed.place)
}

/// The frames that really called, without those of a goroutine that was switched away from.
fn callers(frames: &[Frame]) -> &[Frame] {
    let switch = frames.iter().position(|frame| STACK_SWITCHES.contains(&&*frame.function));
    frames.get(..switch.unwrap_or(frames.len())).unwrap_or(frames)
}

/// Of the runtime's frames, one that no allocation of others goes through.
fn allocates_for_itself(frame: &Frame) -> bool {
    let function = &*frame.function;
    !is_native(frame) && !ALLOCATION_FUNNEL.contains(&function) && !function.starts_with("runtime.mallocgc")
}

/// From the first frame on that is not native; all where every one is.
fn without_native(frames: &[Frame]) -> &[Frame] {
    let first = frames.iter().position(|frame| !is_native(frame));
    frames.get(first.unwrap_or(0)..).unwrap_or(frames)
}

fn place(frames: &[Frame], main_module: Option<&str>) -> Option<Placed> {
    let frames = without_native(frames);
    // Where all are native none is blamed, and the count is kept.
    let allocator = Some(frames.first()?).filter(|frame| !is_native(frame)).cloned().unwrap_or_else(Frame::unknown);
    let end = frames.iter().rposition(|frame| !is_bottom(frame)).map_or(1, |last| last + 1);
    let frames = frames.get(..end + callers_in_c(frames.get(end..)?))?.to_vec();
    let place = frames
        .iter()
        .find(|frame| package_of(frame).is_some_and(|package| is_main_module(&package, main_module)))
        .or_else(|| frames.iter().find(|frame| package_of(frame).is_some_and(|package| !is_standard_library(&package))))
        .unwrap_or(&allocator)
        .clone();
    Some(Placed { id: identity(&allocator, &place), place, allocator, frames })
}

/// What stands below every goroutine: the runtime's start of it, or what lies outside Go code.
fn is_bottom(frame: &Frame) -> bool {
    is_runtime(&frame.function) || frame.file.is_empty()
}

/// How many of the frames below the last of Go's say which function of a C thread called it.
fn callers_in_c(below: &[Frame]) -> usize {
    let is_name = |frame: &Frame| is_native(frame) && !frame.function.starts_with('[');
    let beyond_runtime = below.iter().take_while(|frame| is_native(frame) || frame.origin == Origin::Unknown);
    beyond_runtime.enumerate().filter(|(_, frame)| is_name(frame)).last().map_or(0, |(last, _)| last + 1)
}

/// Go code that is not the runtime's, or what cannot be told.
fn is_outside_runtime(frame: &Frame) -> bool {
    !is_native(frame) && !is_runtime(&frame.function)
}

fn is_native(frame: &Frame) -> bool {
    matches!(frame.origin, Origin::Native | Origin::Vdso)
}

/// The package that a frame's line belongs to. None: it is not Go's, or belongs to none, or cgo wrote it
/// (`_Cfunc_GoString`): then a person would change the line that calls it.
fn package_of(frame: &Frame) -> Option<Cow<'_, str>> {
    let written_by_cgo = frame.file.rsplit('/').next() == Some(CGO_FILE);
    names::package_of(&frame.function).filter(|_| frame.origin == Origin::Go && !written_by_cgo)
}

fn identity(allocator: &Frame, place: &Frame) -> SiteId {
    let mut hash = Sha256::new();
    for frame in [allocator, place] {
        hash.update(frame.function.as_bytes());
        hash.update([0]);
        hash.update(i64::from(frame.line).wrapping_sub(i64::from(frame.function_start_line)).to_le_bytes());
    }
    let digest = hash.finalize();
    SiteId(digest.iter().take(8).fold(0, |id, &byte| (id << 8) | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::symbolize::UNKNOWN_FUNCTION;

    /// Frames of every origin with the names that decide.
    fn any_frame() -> impl Strategy<Value = Frame> {
        let names = ["runtime.mallocgc", "runtime.newproc", "runtime.malg", "runtime.newm", "runtime.mcall", "main.f"];
        let origins = [Origin::Go, Origin::Native, Origin::Vdso, Origin::Unknown];
        (prop::sample::select(names.to_vec()), prop::sample::select(origins.to_vec()), any::<bool>())
            .prop_map(|(name, origin, inlined)| Frame { inlined, origin, ..frame(name, 12) })
    }

    proptest! {
        #[test]
        fn no_native_frame_is_ever_blamed(frames in prop::collection::vec(any_frame(), 0..8)) {
            let created = match place_creation(&frames, None) {
                Some(Creation::By(placed)) => Some(placed),
                Some(Creation::Runtime) | None => None,
            };
            let allocated = place_allocation(&frames, None);
            for placed in allocated.into_iter().chain(created) {
                prop_assert!(!is_native(&placed.allocator) && !is_native(&placed.place), "{placed:?}");
            }
        }
    }

    #[test]
    fn what_only_native_frames_follow_is_the_runtimes() {
        let native = Frame { origin: Origin::Native, file: "".into(), ..frame("malloc", 0) };
        let mut frames = stack(&["runtime.mallocgc"]);
        frames.push(native.clone());
        assert_eq!(&*place_allocation(&frames, None).unwrap().allocator.function, "runtime.mallocgc");
        assert_eq!(&*place_allocation(&[native], None).unwrap().place.function, UNKNOWN_FUNCTION);
    }

    fn frame(function: &str, line: u32) -> Frame {
        let file = format!("/src/{}.go", function.split('.').next().unwrap());
        Frame {
            function: function.into(),
            file: file.into(),
            line,
            function_start_line: 10,
            inlined: false,
            origin: Origin::Go,
        }
    }

    fn stack(functions: &[&str]) -> Vec<Frame> {
        functions.iter().map(|function| frame(function, 12)).collect()
    }

    fn place_of(functions: &[&str], main_module: Option<&str>) -> (String, String) {
        let placed = place_allocation(&stack(functions), main_module).unwrap();
        (placed.place.function.to_string(), placed.allocator.function.to_string())
    }

    #[test]
    fn the_main_modules_line_stands_for_what_the_standard_library_allocates() {
        let functions = [
            "runtime.mallocgc",
            "runtime.newobject",
            "encoding/json.Unmarshal",
            "main.load",
            "main.main",
            "runtime.main",
        ];
        assert_eq!(place_of(&functions, None), ("main.load".into(), "encoding/json.Unmarshal".into()));
    }

    #[test]
    fn without_a_main_module_frame_the_first_third_party_frame_stands() {
        let functions = ["runtime.mallocgc", "bytes.growSlice", "github.com/x/log.Print", "net/http.serve"];
        assert_eq!(place_of(&functions, Some("example.com/shop")).0, "github.com/x/log.Print");
        let functions = ["runtime.mallocgc", "bytes.growSlice", "net/http.serve", "runtime.goexit"];
        assert_eq!(place_of(&functions, Some("example.com/shop")).0, "bytes.growSlice");
    }

    #[test]
    fn the_main_module_comes_before_a_library_nearer_to_the_leaf() {
        let functions = ["runtime.mallocgc", "github.com/x/log.Print", "example.com/shop/cart.Add"];
        assert_eq!(place_of(&functions, Some("example.com/shop")).0, "example.com/shop/cart.Add");
    }

    #[test]
    fn runtime_frames_are_trimmed_at_both_ends() {
        let functions =
            ["runtime.mallocgc", "main.f", "runtime.gopanic", "main.main", "runtime.main", "runtime.goexit"];
        let placed = place_allocation(&stack(&functions), None).unwrap();
        let names: Vec<&str> = placed.frames.iter().map(|frame| &*frame.function).collect();
        assert_eq!(names, ["main.f", "runtime.gopanic", "main.main"]);
    }

    #[test]
    fn native_frames_are_shown_and_never_blamed() {
        let native = |function: &str| Frame { file: "".into(), line: 0, origin: Origin::Native, ..frame(function, 0) };
        let mut frames = stack(&["runtime.mallocgc", "main.callback", "crosscall2"]);
        frames.extend([native("main.cold"), native("runtime.gcStart")]);
        frames.extend(stack(&["runtime.cgocall", "main.call", "runtime.goexit"]));
        frames.extend([native("start_thread"), native("[libc.so.6]")]);
        let placed = place_allocation(&frames, None).unwrap();
        assert_eq!((&*placed.place.function, &*placed.allocator.function), ("main.callback", "main.callback"));
        assert_eq!(placed.frames, frames[1..7]);
        // The runtime allocates for the callback: the line below is the next one that a person wrote.
        frames.remove(1);
        assert_eq!(&*place_allocation(&frames, None).unwrap().place.function, "main.call");
        frames.remove(1);
        let placed = place_allocation(&frames, None).unwrap();
        assert_eq!((&*placed.place.function, &*placed.allocator.function), ("main.call", "main.call"));
    }

    #[test]
    fn what_of_c_called_go_on_a_thread_of_its_own_is_shown() {
        let mut frames = stack(&["runtime.mallocgc", "main.callback", "runtime.cgocallback", "crosscall2"]);
        let native = |function: &str| Frame { file: "".into(), line: 0, origin: Origin::Native, ..frame(function, 0) };
        let unknown = Frame { origin: Origin::Unknown, ..native("[unknown]") };
        frames.extend([unknown, native("on_event"), native("[libc.so.6]")]);
        assert_eq!(place_allocation(&frames, None).unwrap().frames, frames[1..6]);
    }

    #[test]
    fn what_cgo_wrote_is_not_a_line_to_change() {
        let generated = Frame { file: "_cgo_gotypes.go".into(), ..frame("main._Cfunc_GoString", 90) };
        let mut frames = stack(&["runtime.mallocgc", "runtime.gostring"]);
        frames.push(generated);
        frames.extend(stack(&["main.read", "main.main"]));
        let placed = place_allocation(&frames, None).unwrap();
        assert_eq!((&*placed.place.function, &*placed.allocator.function), ("main.read", "main._Cfunc_GoString"));
    }

    #[test]
    fn a_stack_of_the_runtime_alone_names_the_function_that_allocates() {
        assert_eq!(place_of(&["runtime.mallocgc", "runtime.newobject", "runtime.malg"], None).0, "runtime.malg");
    }

    #[test]
    fn what_the_collector_allocates_is_not_blamed_on_the_line_that_was_due_to_start_it() {
        let functions = [
            "runtime.mallocgc",
            "runtime.newobject",
            "runtime.acquireSudog",
            "runtime.gcBgMarkStartWorkers",
            "runtime.gcStart",
            "runtime.mallocgc",
            "runtime.makeslice",
            "main.f",
            "main.main",
        ];
        assert_eq!(place_of(&functions, None).0, "runtime.acquireSudog");
        let functions = [
            "runtime.mallocgc",
            "runtime.newobject",
            "runtime.traceback",
            "runtime.mallocgcLarge",
            "runtime.mallocgc",
            "runtime.makeslice",
            "main.f",
            "main.main",
        ];
        assert_eq!(place_of(&functions, None).0, "runtime.traceback");
        let thread = [
            "runtime.mallocgc",
            "runtime.newobject",
            "runtime.allocm",
            "runtime.newm",
            "runtime.startm",
            "runtime.wakep",
            "runtime.ready",
            "runtime.chansend",
            "main.send",
        ];
        assert_eq!(place_of(&thread, None).0, "runtime.allocm");
        let own_line = ["runtime.mallocgcSmallScanNoHeaderSC3", "runtime.mallocgc", "runtime.newobject", "main.f"];
        assert_eq!(place_of(&own_line, None).0, "main.f");
    }

    #[test]
    fn the_identity_moves_with_the_function_and_not_with_the_file() {
        let moved = |by: u32| {
            let mut frames = stack(&["runtime.mallocgc", "main.f"]);
            frames[1].line += by;
            frames[1].function_start_line += by;
            place_allocation(&frames, None).unwrap().id
        };
        assert_eq!(moved(0), moved(500));
        let mut frames = stack(&["runtime.mallocgc", "main.f"]);
        frames[1].line += 1;
        assert_ne!(place_allocation(&frames, None).unwrap().id, moved(0));
    }

    #[test]
    fn a_goroutine_that_yields_to_the_scheduler_is_not_blamed_for_what_it_runs() {
        let timer_fires = [
            "runtime.newproc.func1",
            "runtime.systemstack",
            "runtime.newproc",
            "time.goFunc",
            "runtime.(*timer).unlockAndRun",
            "runtime.findRunnable",
            "runtime.schedule",
            "runtime.gosched_m",
            "runtime.mcall",
            "runtime.Gosched",
            "main.innocent",
            "main.main",
        ];
        let Some(Creation::By(placed)) = place_creation(&stack(&timer_fires), None) else { panic!() };
        assert_eq!((&*placed.place.function, placed.frames.len()), ("time.goFunc", 1));
        let sudog = ["runtime.mallocgc", "runtime.newobject", "runtime.schedule", "runtime.mcall", "main.innocent"];
        assert_eq!(place_of(&sudog, None).0, "runtime.schedule");
    }

    #[test]
    fn goroutines_of_the_runtime_belong_to_no_site_even_on_a_users_stack() {
        let started_by_gc = [
            "runtime.newproc.func1",
            "runtime.systemstack",
            "runtime.newproc",
            "runtime.gcBgMarkStartWorkers",
            "runtime.gcStart",
            "runtime.mallocgc",
            "main.f",
        ];
        assert_eq!(place_creation(&stack(&started_by_gc), None), Some(Creation::Runtime));
        let by_user = ["runtime.newproc.func1", "runtime.systemstack", "runtime.newproc", "main.f", "main.main"];
        let Some(Creation::By(placed)) = place_creation(&stack(&by_user), None) else { panic!() };
        assert_eq!(&*placed.place.function, "main.f");
    }

    #[test]
    fn what_a_profile_inlines_into_the_creation_of_a_goroutine_is_not_its_creator() {
        let mut frames =
            stack(&["runtime.(*guintptr).cas", "runtime.runqput", "runtime.newproc.func1", "runtime.newproc"]);
        frames[0].inlined = true;
        frames[1].inlined = true;
        frames.extend(stack(&["main.f", "main.main"]));
        let Some(Creation::By(placed)) = place_creation(&frames, None) else { panic!() };
        assert_eq!(&*placed.place.function, "main.f");
    }
}
