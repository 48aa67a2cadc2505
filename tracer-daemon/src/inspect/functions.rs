//! The runtime functions whose code is decoded: one table of names, and the search for them.

use std::collections::{BTreeMap, HashMap};

use super::InspectError;
use super::elf::{ElfImage, file_offset};
use super::function_table::{FunctionRecord, FunctionTable};
use super::{globals, inlined};
use crate::addr::{FileOffset, Svma};

/// Most bytes of code that are kept of one function; `mallocgc` has about two thousand.
pub const CODE_BYTES_MAX: u64 = 64 * 1024;
/// Most functions that are kept. 34 fit the table in go1.27, fewer before; GOEXPERIMENT=sizespecializedmalloc of go1.26
/// adds some seventy, and the rules for variables as many as there are.
const FUNCTIONS_MAX: usize = 512;

/// Most bytes of code that are kept of all functions for later stages; go1.27 has about 40 KiB.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// How much of a function is kept for later stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Where it is and its code.
    Code,
    /// Where it is.
    Place,
}

const MALLOCGC: &[u8] = b"runtime.mallocgc";
/// Make goroutines by themselves (testing/synctest, go1.25 and later). The function itself bears a name of another package.
const SYNCTEST: &[u8] = b"runtime.synctestRun.func";

/// Which functions are wanted beside those of [`SYNCTEST`] and all whose name begins with `runtime.mallocgc` (`mallocgc` itself; one by kind of object
/// from go1.24 on; one by size class from go1.27 on, with their slow paths); how much of them, and what for.
const WANTED: [(&str, Part, &str); 16] = [
    ("runtime.newproc.func1", Part::Code, "a go statement, on the system stack: the new goroutine is known here"),
    ("runtime.newproc1", Part::Code, "makes the goroutine of a go statement; returns it"),
    ("runtime.newcoro.func1", Part::Code, "a coroutine (iter.Pull), which is a goroutine without a go statement"),
    ("runtime.gdestroy", Part::Code, "the end of every goroutine, go1.22 and later"),
    ("runtime.goexit0", Part::Code, "the end of every goroutine up to go1.21"),
    ("runtime.runqput", Part::Place, "newproc.func1 calls it with the new goroutine"),
    ("runtime.(*mcache).nextFree", Part::Code, "finds a slot where the cached span is full"),
    ("runtime.(*mspan).nextFreeIndex", Part::Code, "looks for a slot in a span, for nextFree"),
    ("runtime.(*mcache).allocLarge", Part::Code, "makes the span of a large object"),
    ("runtime.gcSweep", Part::Code, "marking is over, the world is stopped"),
    ("runtime.gcMarkTermination", Part::Code, "ends a collection"),
    ("runtime.profilealloc", Part::Code, "an object that the runtime's own profiler samples"),
    ("runtime.asanpoison", Part::Place, "built with -asan: objects have red zones"),
    ("runtime.freeSpecial", Part::Code, "the end of an object with a special record, such as a sampled one"),
    ("runtime.MemProfile", Part::Place, "linked where the runtime samples allocations itself, up to go1.22"),
    ("runtime.memProfileInternal", Part::Place, "the same, go1.23 and later"),
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

/// What one walk over all names and all functions finds. A name can stand for two functions: one per calling convention.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// For later stages, by name.
    pub(crate) functions: BTreeMap<String, Vec<FunctionCode>>,
    /// For the search for global variables, by name.
    pub(crate) of_rules: BTreeMap<String, Vec<FunctionCode>>,
    /// Into which functions the compiler put the bodies of those in `functions`, or of their kind: by name. What is not
    /// here was inlined nowhere.
    pub(crate) inlined: BTreeMap<String, Vec<String>>,
    /// Whether package runtime/cgo is linked.
    pub(crate) cgo: bool,
}

/// A name that is wanted and in the binary.
#[derive(Debug)]
struct Wanted {
    name: String,
    /// `None`: for the rules only.
    part: Option<Part>,
    of_rules: bool,
}

/// Goes over all names once, then over all functions once.
pub(crate) fn find(image: &ElfImage, table: &FunctionTable) -> Result<Found, InspectError> {
    let mut found = Found::default();
    let parts = wanted_names();
    let mut by_offset: HashMap<u32, Wanted> = HashMap::new();
    let mut too_many = false;
    table.each_name(|offset, name| {
        found.cgo |= name == b"crosscall2" || name.starts_with(b"runtime/cgo.");
        if !name.starts_with(b"runtime.") {
            return;
        }
        let listed = parts.get(name);
        let part = match listed {
            Some((part, _)) if part.is_some() => *part,
            _ if name.starts_with(MALLOCGC) => Some(Part::Code),
            _ => name.starts_with(SYNCTEST).then_some(Part::Place),
        };
        let of_rules = listed.is_some_and(|(_, of_rules)| *of_rules);
        if part.is_some() || of_rules {
            if by_offset.len() == FUNCTIONS_MAX {
                too_many = true;
                return;
            }
            let name = String::from_utf8_lossy(name).into_owned();
            by_offset.insert(offset, Wanted { name, part, of_rules });
        }
    })?;
    if too_many {
        return Err(InspectError::malformed("go function table", "number of runtime functions", FUNCTIONS_MAX as u64));
    }
    let (mut kept, mut kept_bytes) = (0_usize, 0_usize);
    for index in 0..table.len() {
        let Some(wanted) = table.name_offset(index)?.and_then(|offset| by_offset.get(&offset)) else { continue };
        let Some(function) = table.function(index)? else { break };
        if kept == FUNCTIONS_MAX {
            return Err(InspectError::malformed("go function table", "number of runtime functions", kept as u64));
        }
        kept += 1;
        if kept_bytes > KEPT_BYTES_MAX {
            return Err(InspectError::malformed("go function table", "code of runtime functions", kept_bytes as u64));
        }
        // The rules need the code.
        let part = if wanted.of_rules { Part::Code } else { wanted.part.unwrap_or(Part::Place) };
        let code = read_code(image, wanted.name.clone(), &function, part)?;
        if wanted.of_rules {
            found.of_rules.entry(wanted.name.clone()).or_default().push(code.clone());
        }
        if wanted.part.is_some() {
            kept_bytes += code.bytes.len();
            found.functions.entry(wanted.name.clone()).or_default().push(code);
        }
    }
    let names = by_offset.into_iter().filter(|(_, wanted)| wanted.part.is_some());
    found.inlined = inlined::find(table, &names.map(|(offset, wanted)| (offset, wanted.name)).collect(), image)?;
    Ok(found)
}

/// All names of [`WANTED`] and of the rules: how much is wanted for later stages, and whether for the rules.
fn wanted_names() -> HashMap<&'static [u8], (Option<Part>, bool)> {
    let mut names: HashMap<&[u8], (Option<Part>, bool)> =
        WANTED.iter().map(|(name, part, _)| (name.as_bytes(), (Some(*part), false))).collect();
    for name in globals::functions() {
        names.entry(name.as_bytes()).or_insert((None, false)).1 = true;
    }
    names
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
