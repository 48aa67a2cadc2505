//! The runtime functions whose code later stages decode: one table of names, and the search for them.

use std::collections::BTreeMap;

use super::InspectError;
use super::elf::{ElfImage, file_offset};
use super::function_table::{FunctionRecord, FunctionTable};
use crate::addr::{FileOffset, Svma};

/// Most bytes of code that are kept of one function; `mallocgc` has about two thousand.
pub const CODE_BYTES_MAX: u64 = 64 * 1024;
/// Most functions that are kept. 26 fit the table in go1.27, fewer before; GOEXPERIMENT=sizespecializedmalloc of go1.26 adds
/// some seventy.
const FUNCTIONS_MAX: usize = 256;

/// How much of each name is looked at: more than the longest in [`WANTED`].
const NAME_START_BYTES: usize = 64;

/// A name in [`WANTED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// This function.
    Is(&'static str),
    /// Every function whose name begins so.
    BeginsWith(&'static str),
}

/// How much of a function is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Where it is and its code.
    Code,
    /// Where it is.
    Place,
}

/// Which functions are wanted, how much of them, and what for.
const WANTED: [(Name, Part, &str); 6] = [
    (
        Name::BeginsWith("runtime.mallocgc"),
        Part::Code,
        "every allocation: mallocgc itself, by kind of object from go1.24 (mallocgcTiny, SmallNoscan, SmallScan…, Large), \
         and by size class from go1.27 (mallocgc…SC1 to SC7 and their slow paths)",
    ),
    (
        Name::Is("runtime.newproc.func1"),
        Part::Code,
        "a go statement, on the system stack: the new goroutine is known here",
    ),
    (Name::Is("runtime.newproc1"), Part::Code, "makes the goroutine of a go statement; returns it"),
    (
        Name::Is("runtime.newcoro.func1"),
        Part::Code,
        "a coroutine (iter.Pull), which is a goroutine without a go statement",
    ),
    (Name::Is("runtime.gdestroy"), Part::Code, "the end of every goroutine, go1.22 and later"),
    (Name::Is("runtime.runqput"), Part::Place, "newproc.func1 calls it with the new goroutine"),
];

/// One function of the binary and its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCode {
    /// As Go names it, with package: `runtime.mallocgc`.
    pub name: String,
    /// First instruction.
    pub start: Svma,
    /// Where the next function begins: padding included.
    pub end: Svma,
    /// Where `start` lies in the file.
    pub file_offset: FileOffset,
    /// The code from `start` on: up to `end` but at most [`CODE_BYTES_MAX`]; empty where only the place is wanted.
    pub bytes: Vec<u8>,
}

/// What one walk over all functions finds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By name. A name can stand for two functions: one per calling convention.
    pub(crate) functions: BTreeMap<String, Vec<FunctionCode>>,
    /// Whether package runtime/cgo is linked.
    pub(crate) cgo: bool,
}

/// Goes over the names of all functions once.
pub(crate) fn find(image: &ElfImage, table: &FunctionTable) -> Result<Found, InspectError> {
    let mut found = Found::default();
    let (mut buffer, mut kept) = ([0; NAME_START_BYTES], 0_usize);
    for index in 0..table.len() {
        let Some(function) = table.function(index)? else { break };
        let name = table.name_start(&function, &mut buffer)?;
        found.cgo |= name == b"crosscall2" || name.starts_with(b"runtime/cgo.");
        let Some(part) = wanted(name) else { continue };
        if kept == FUNCTIONS_MAX {
            return Err(InspectError::malformed("go function table", "number of mallocgc functions", kept as u64));
        }
        kept += 1;
        let code = read_code(image, table.name(&function)?, &function, part)?;
        found.functions.entry(code.name.clone()).or_default().push(code);
    }
    Ok(found)
}

fn wanted(name: &[u8]) -> Option<Part> {
    WANTED.iter().find_map(|(pattern, part, _)| {
        let fits = match pattern {
            Name::Is(wanted) => name == wanted.as_bytes(),
            Name::BeginsWith(start) => name.starts_with(start.as_bytes()),
        };
        fits.then_some(*part)
    })
}

fn read_code(
    image: &ElfImage,
    name: String,
    function: &FunctionRecord,
    part: Part,
) -> Result<FunctionCode, InspectError> {
    let offset = file_offset(&image.segments, function.start)
        .ok_or_else(|| InspectError::malformed("go function table", "address of a function", function.start.0))?;
    let length_bytes = match part {
        Part::Code => function.end.0.saturating_sub(function.start.0).min(CODE_BYTES_MAX),
        Part::Place => 0,
    };
    let bytes = image.source.bytes("code of a function", offset.0, length_bytes)?;
    Ok(FunctionCode { name, start: function.start, end: function.end, file_offset: offset, bytes })
}
