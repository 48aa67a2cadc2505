//! From one program counter to its frames: the inlined calls from the innermost out, then the function itself.
//!
//! Follows `newInlineUnwinder` and `inlineUnwinder.next` of runtime/symtabinl.go (go1.21 to go1.27).

use std::sync::Arc;

use super::{Frame, Origin, Position, Strings};
use crate::addr::Svma;
use crate::inspect::{FileName, FunctionName, FunctionRecord, FunctionTable, InspectError, StepBudget};

/// Deepest inlining that is followed. The compiler's budget keeps real depths far below.
const INLINE_DEPTH_MAX: usize = 128;

/// The frames of one program counter, leaf first.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    pub(super) places: Vec<Place>,
    /// Whether the one place stands for any number of functions: several in a row are shown once.
    pub(super) nameless: bool,
}

impl Expansion {
    /// One frame outside of Go's code.
    pub(super) fn of(frame: Frame) -> Self {
        Self { places: vec![Place { frame, id: 0, name: None, at: Svma::default() }], nameless: false }
    }

    /// As [`Self::of`], of which only the whereabouts are known, if anything.
    pub(super) fn nameless(frame: Frame) -> Self {
        Self { nameless: true, ..Self::of(frame) }
    }

    pub(super) fn is_outside(&self) -> bool {
        self.places.first().is_none_or(|place| place.frame.origin != Origin::Go)
    }
}

impl Expansion {
    /// Bytes of all names, whether shared with others or not.
    pub(super) fn text_bytes(&self) -> usize {
        self.places.iter().map(|place| place.frame.function.len() + place.frame.file.len()).sum()
    }
}

/// One frame, and the number of its function among those that stack walks treat apart.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) frame: Frame,
    pub(super) id: u8,
    /// Where its name stands; `None` outside of Go's code.
    pub(super) name: Option<FunctionName>,
    /// The instruction that it was found by: of an inlined call's caller the one that the compiler left in the call's place.
    pub(super) at: Svma,
}

/// The frames at one address; no place at all outside of Go's code.
pub(super) fn expand(
    table: &FunctionTable,
    strings: &mut Strings,
    at: Svma,
    position: Position,
) -> Result<Expansion, InspectError> {
    let mut expansion = Expansion::default();
    let Some(function) = table.function_at(at)? else { return Ok(expansion) };
    // Never out of the function: the return address of the first frame of a goroutine is its function's beginning + 1.
    let back = u64::from(position == Position::Return && at > function.start);
    let mut instruction = Svma(at.0 - back);
    let mut budget = StepBudget::of_one_address();
    let (mut parents, mut lost) = (Vec::new(), false);
    while let Some(call) = table.inlined_call_at(&function, instruction, &mut budget)? {
        // Where no instruction is left of the calling code, the compiler names the function's first as the parent. That
        // can belong to the inlined call itself (seen in package initialisation, go1.26): the chain would never end, and
        // the line of the call is not recorded anywhere.
        lost = parents.contains(&call.parent);
        if lost {
            break;
        }
        parents.push(call.parent);
        if expansion.places.len() == INLINE_DEPTH_MAX {
            return Err(InspectError::Malformed {
                structure: "go inline tree",
                field: "depth",
                value: INLINE_DEPTH_MAX as u64,
            });
        }
        let place = table.file_and_line(&function, instruction, &mut budget)?;
        let (file, line) = file_and_line(table, strings, place)?;
        let frame = Frame {
            function: strings.function(table, call.name())?,
            file,
            line,
            function_start_line: call.start_line,
            inlined: true,
            origin: Origin::Go,
        };
        expansion.places.push(Place { frame, id: call.id, name: Some(call.name()), at: instruction });
        instruction = call.parent;
    }
    let place = if lost { None } else { table.file_and_line(&function, instruction, &mut budget)? };
    let (file, line) = file_and_line(table, strings, place)?;
    let frame = Frame {
        function: strings.function(table, function.name())?,
        file,
        line,
        function_start_line: start_line(table, &function, &mut budget)?,
        inlined: false,
        origin: Origin::Go,
    };
    expansion.places.push(Place { frame, id: function.id, name: Some(function.name()), at: instruction });
    Ok(expansion)
}

/// First line of a function; 0 where it is not known.
///
/// Up to go1.19 no table says it, and the line of the function's first instruction stands for it: that checks or makes the
/// stack, for which the compiler notes the place of the function itself (`stacksplit` in cmd/internal/obj/x86/obj6.go). Of
/// inlined functions there is no such instruction.
fn start_line(table: &FunctionTable, function: &FunctionRecord, budget: &mut StepBudget) -> Result<u32, InspectError> {
    if table.has_start_lines() {
        return Ok(function.start_line);
    }
    if table.inlined_call_at(function, function.start, budget)?.is_some() {
        return Ok(0);
    }
    Ok(table.file_and_line(function, function.start, budget)?.map_or(0, |(_, line)| line))
}

/// What is not known is an empty path and line 0.
fn file_and_line(
    table: &FunctionTable,
    strings: &mut Strings,
    place: Option<(FileName, u32)>,
) -> Result<(Arc<str>, u32), InspectError> {
    Ok(match place {
        Some((file, line)) => (strings.file(table, file)?, line),
        None => (strings.of(""), 0),
    })
}
