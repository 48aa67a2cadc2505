//! The stack of a goroutine that does not run: from its stack pointer to the address at which each caller goes on.
//!
//! Goes by the table of frame sizes, as the runtime does (`unwinder` in runtime/traceback.go, go1.19 to go1.27), and not by
//! frame pointers: those skip the caller of a function that was interrupted before it made its frame, and assembly.
//! Pure but for the binary's tables: the words of the stack are input. A stack that does not end where stacks end is none.

use std::collections::HashMap;

use super::memory::Words;
use crate::addr::{Avma, LoadBias};
use crate::inspect::{BinaryFacts, FunctionRecord, StepBudget};

/// Most frames of a stack that are followed; the rest is cut off.
const FRAMES_MAX: usize = 512;
/// Distinct program counters of which the frame size is remembered; at the bound all are forgotten.
const STEPS_MAX: usize = 1 << 16;
/// The runtime's functions in whose frames the record of what a goroutine waits for can be found.
const SEMAPHORE_WAIT: &str = "runtime.semacquire1";
/// Switches stacks in a way that can be followed, though it sets the stack pointer (`resolveInternal`).
const CGO_CALLBACK: &str = "runtime.cgocallback";

/// What lies below one program counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// Bytes of the frame, the return address included.
    frame_bytes: u32,
    caller: Caller,
    /// Whether it waits for a semaphore here.
    semaphore: bool,
    /// Whether this is the first instruction of a function: it has not begun.
    at_start: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// Its address is at the end of the frame.
    Saved,
    /// There is none.
    None,
    /// It cannot be known unless this is the leaf, which has not changed the stack pointer yet.
    Hidden,
}

/// The part of a stack that is in use, as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used<'a> {
    /// From the stack pointer on.
    pub(super) bytes: &'a [u8],
    /// Whether more follows that was not read.
    pub(super) cut: bool,
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where all stacks end, or where the runtime itself cannot go on.
    Bottom,
    /// At a bound of ours.
    Cut,
    /// At something that no stack has: it changed while it was read.
    Broken,
}

/// The frame in which a goroutine waits for a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SemaphoreFrame {
    /// The program counter in it.
    pub(super) pc: Avma,
    /// Its first byte, from the beginning of the used part.
    pub(super) start: usize,
    /// Its end.
    pub(super) end: usize,
}

/// A walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// Leaf first: the instruction at which it stopped, then where each caller goes on.
    pub(super) pcs: Vec<Avma>,
    pub(super) end: End,
    pub(super) semaphore: Option<SemaphoreFrame>,
}

/// Walks the stacks of one process.
#[derive(Debug)]
pub(super) struct Unwinder {
    bias: LoadBias,
    /// `None`: outside of Go's code, or not readable.
    steps: HashMap<Avma, Option<Step>>,
}

impl Unwinder {
    pub(super) fn new(bias: LoadBias) -> Self {
        Self { bias, steps: HashMap::new() }
    }

    /// From the leaf's program counter to the first function.
    pub(super) fn walk(&mut self, facts: &BinaryFacts, pc: Avma, used: Used<'_>) -> Walk {
        let mut walk = Walk { pcs: Vec::new(), end: End::Broken, semaphore: None };
        let words = Words(used.bytes);
        let (mut pc, mut start) = (pc, 0_usize);
        if pc.0 == 0 {
            // A call of a nil function: it begins with the caller.
            pc = Avma(words.u64(0));
            start = 8;
        }
        // Each frame has at least the return address, so that the stack's length bounds the steps too.
        loop {
            let is_leaf = walk.pcs.is_empty();
            let Some(step) = self.step(facts, pc) else {
                // What called Go from C has no frames that the table knows: the runtime ends here, too.
                walk.end = if facts.cgo && !is_leaf { End::Bottom } else { End::Broken };
                return walk;
            };
            // Where it stopped, it had called something, too: the line is that of the call.
            walk.pcs.push(if is_leaf && !step.at_start { Avma(pc.0.saturating_sub(1)) } else { pc });
            let end = start.saturating_add(usize::try_from(step.frame_bytes).unwrap_or(usize::MAX));
            if step.semaphore {
                walk.semaphore = Some(SemaphoreFrame { pc, start, end: end.min(used.bytes.len()) });
            }
            match step.caller {
                Caller::None => walk.end = End::Bottom,
                Caller::Hidden if !is_leaf => walk.end = End::Bottom,
                Caller::Saved | Caller::Hidden if end > used.bytes.len() => {
                    walk.end = if used.cut { End::Cut } else { End::Broken };
                }
                Caller::Saved | Caller::Hidden if walk.pcs.len() == FRAMES_MAX => walk.end = End::Cut,
                Caller::Saved | Caller::Hidden => {
                    pc = Avma(words.u64(end.saturating_sub(8) as u64));
                    start = end;
                    continue;
                }
            }
            return walk;
        }
    }

    fn step(&mut self, facts: &BinaryFacts, pc: Avma) -> Option<Step> {
        if let Some(known) = self.steps.get(&pc) {
            return *known;
        }
        if self.steps.len() >= STEPS_MAX {
            self.steps.clear();
        }
        let step = step_of(facts, pc, self.bias);
        self.steps.insert(pc, step);
        step
    }
}

fn step_of(facts: &BinaryFacts, pc: Avma, bias: LoadBias) -> Option<Step> {
    let table = &facts.functions_table;
    let at = pc.in_file(bias);
    let function = table.function_at(at).ok()??;
    let named = |name: &str| table.name(&function).is_ok_and(|found| found == name);
    let caller = caller_of(&function, || named(CGO_CALLBACK));
    let budget = &mut StepBudget::of_one_address();
    let local_bytes = match table.stack_bytes_at(&function, at, budget) {
        Ok(Some(bytes)) => bytes,
        // A stack's first function can have no frame that is told of.
        _ if caller == Caller::None => 0,
        _ => return None,
    };
    Some(Step {
        frame_bytes: local_bytes.checked_add(8)?,
        caller,
        semaphore: named(SEMAPHORE_WAIT),
        at_start: at == function.start,
    })
}

fn caller_of(function: &FunctionRecord, is_callback: impl Fn() -> bool) -> Caller {
    if function.ends_stacks() {
        Caller::None
    } else if function.writes_stack_pointer() && !is_callback() {
        Caller::Hidden
    } else {
        Caller::Saved
    }
}
