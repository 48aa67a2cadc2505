//! From one program counter to its frames: the inlined calls from the innermost out, then the function itself.
//!
//! Follows `newInlineUnwinder` and `inlineUnwinder.next` of runtime/symtabinl.go (go1.21 to go1.27).

use super::names::GenericMethods;
use super::{Frame, Position, Strings, names};
use crate::addr::Svma;
use crate::inspect::{FunctionTable, InspectError};

/// Deepest inlining that is followed. The compiler's budget keeps real depths far below.
const INLINE_DEPTH_MAX: usize = 128;

/// The frames of one program counter, leaf first; none outside of Go's code.
#[derive(Debug, Default)]
pub(super) struct Expansion {
    pub(super) places: Vec<Place>,
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
}

pub(super) fn expand(
    table: &FunctionTable,
    strings: &mut Strings,
    at: Svma,
    position: Position,
) -> Result<Expansion, InspectError> {
    let mut expansion = Expansion::default();
    let generic_methods = if table.generic_methods() { GenericMethods::Present } else { GenericMethods::Absent };
    let Some(function) = table.function_at(at)? else { return Ok(expansion) };
    // Never out of the function: the return address of the first frame of a goroutine is its function's beginning + 1.
    let back = u64::from(position == Position::Return && at > function.start);
    let mut instruction = Svma(at.0 - back);
    let (mut parents, mut lost) = (Vec::new(), false);
    while let Some(call) = table.inlined_call_at(&function, instruction)? {
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
        let (file, line) = table.file_and_line(&function, instruction)?.unwrap_or_default();
        let frame = Frame {
            function: strings.of(&names::for_print(&table.inlined_name(&call)?, generic_methods)),
            file: strings.of(&file),
            line,
            function_start_line: call.start_line,
            inlined: true,
        };
        expansion.places.push(Place { frame, id: call.id });
        instruction = call.parent;
    }
    let place = if lost { None } else { table.file_and_line(&function, instruction)? };
    let (file, line) = place.unwrap_or_default();
    let frame = Frame {
        function: strings.of(&names::for_print(&table.name(&function)?, generic_methods)),
        file: strings.of(&file),
        line,
        function_start_line: function.start_line,
        inlined: false,
    };
    expansion.places.push(Place { frame, id: function.id });
    Ok(expansion)
}
