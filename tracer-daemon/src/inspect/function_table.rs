//! Go's function table (`pclntab`): from an address to function, file, line and inlined calls.
//!
//! Reads the file on demand through the binary's bounded cache; nothing of the table is kept in memory. Format:
//! runtime/symtab.go, runtime/symtabinl.go and runtime/runtime2.go (`_func`), the same in go1.20 to go1.27; go1.19 has
//! shorter functions and longer inlined calls (`TableFormat`).
//! `symbolize` builds frames from it.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, OnceLock};

use super::InspectError;
use super::elf::{Segment, file_offset};
use super::module_data::{ModuleData, TableFormat, TableHeader};
use super::pc_values::{StepBudget, each_value};
use super::source::{CachedSource, STRING_BYTES_MAX, u32_in};
use super::version::{FunctionIds, Release};
use crate::addr::Svma;

const STRUCTURE: &str = "go function table";
/// `_func` up to `cuOffset`, the last field that stands at the same place in all versions.
const RECORD_HEAD_BYTES: usize = 36;
/// `PCDATA_InlTreeIndex` (internal/abi/symtab.go).
const PCDATA_INLINE_INDEX: u32 = 2;
/// `FUNCDATA_InlTree` (internal/abi/symtab.go).
const FUNCDATA_INLINE_TREE: u8 = 3;
/// `FuncFlag_TopFrame` (internal/abi/symtab.go).
const FLAG_TOP_FRAME: u8 = 1;
/// `FuncFlag_SPWrite` (internal/abi/symtab.go).
const FLAG_WRITES_STACK_POINTER: u8 = 2;
/// Entries of an inline tree: `newInlineUnwinder` knows no more.
const INLINE_TREE_MAX: u32 = 1 << 20;
/// Names are read in pieces of this size.
const NAMES_CHUNK_BYTES: usize = 64 * 1024;
/// Functions between two entries of the index that is held: their part of the table is read at once.
const INDEX_STRIDE: u64 = 16;
/// Most bytes of such a part: `INDEX_STRIDE` functions and where the last one ends.
const PART_BYTES_MAX: usize = 16 * 8 + 4;

/// The function table of one binary. Clones share it.
#[derive(Clone, Debug)]
pub struct FunctionTable(Arc<Table>);

#[derive(Debug)]
struct Table {
    source: Arc<CachedSource>,
    segments: Vec<Segment>,
    header: TableHeader,
    module: ModuleData,
    release: Release,
    /// Where every [`INDEX_STRIDE`]th function begins, and where the last one ends; read when it is first needed. A quarter of
    /// a byte a function: 125 KiB for the largest known programs, at most 2 MiB.
    index: OnceLock<(Vec<u32>, u32)>,
}

/// One function of the binary, as the table records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionRecord {
    /// First instruction.
    pub start: Svma,
    /// Where the next function begins: padding included.
    pub end: Svma,
    /// First line (the `func` keyword), from 1; 0 where unknown.
    pub start_line: u32,
    /// Number among the functions that stack walks treat apart, see [`FunctionTable::ids`]; 0 for all others.
    pub id: u8,
    name_offset: u32,
    stack_table: u32,
    file_table: u32,
    line_table: u32,
    unit: u32,
    pcdata_count: u32,
    funcdata_count: u8,
    flags: u8,
    /// Where the record begins, from the beginning of the table.
    record: u64,
}

/// Where the path of a source file stands in the table: the same for the same path, mostly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileName(u32);

/// Where the name of a function stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FunctionName(u32);

/// A call that the compiler replaced by the body of the called function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InlinedCall {
    /// An instruction of the calling code, at the place of the call.
    pub parent: Svma,
    /// First line of the called function, from 1; 0 where unknown.
    pub start_line: u32,
    /// As [`FunctionRecord::id`].
    pub id: u8,
    name_offset: u32,
}

/// The inline tree of one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InlineTree {
    /// Its first entry.
    pub(crate) start: Svma,
    /// The pc-value table that says which instruction belongs to which entry.
    indices: u32,
}

impl FunctionRecord {
    /// Where its name stands.
    pub fn name(&self) -> FunctionName {
        FunctionName(self.name_offset)
    }

    /// Whether no function called it: a stack ends here.
    pub fn ends_stacks(&self) -> bool {
        self.flags & FLAG_TOP_FRAME != 0
    }

    /// Whether it sets the stack pointer in a way that no table tells: its caller cannot be found.
    pub fn writes_stack_pointer(&self) -> bool {
        self.flags & FLAG_WRITES_STACK_POINTER != 0
    }
}

impl InlinedCall {
    /// Where the name of the called function stands.
    pub fn name(&self) -> FunctionName {
        FunctionName(self.name_offset)
    }
}

impl FunctionTable {
    pub(crate) fn new(
        source: Arc<CachedSource>,
        segments: Vec<Segment>,
        header: TableHeader,
        module: ModuleData,
        release: Release,
    ) -> Self {
        Self(Arc::new(Table { source, segments, header, module, release, index: OnceLock::new() }))
    }

    /// How many functions there are.
    pub fn len(&self) -> u64 {
        self.0.header.functions
    }

    /// Whether there are none, which does not happen: inspection refuses such a table.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of the functions that stack walks treat apart.
    pub fn ids(&self) -> FunctionIds {
        self.0.release.function_ids
    }

    /// Whether it says on which line each function begins (go1.20 and later).
    pub fn has_start_lines(&self) -> bool {
        match self.0.header.format {
            TableFormat::Go118 => false,
            TableFormat::Go120 => true,
        }
    }

    /// Whether methods can have type parameters of their own (go1.27 and later).
    pub fn generic_methods(&self) -> bool {
        self.0.release.generic_methods
    }

    /// The addresses of Go's code: from the first function to the end of the last.
    ///
    /// # Errors
    /// Where the binary cannot be read.
    pub fn text(&self) -> Result<Range<Svma>, InspectError> {
        Ok(self.at_text(self.entry(0)?)..self.at_text(self.entry(self.len())?))
    }

    /// The function number `index`, in the order of their addresses; `None` past the last.
    ///
    /// # Errors
    /// Where the binary cannot be read or the record is malformed.
    pub fn function(&self, index: u64) -> Result<Option<FunctionRecord>, InspectError> {
        if index >= self.len() {
            return Ok(None);
        }
        let entry: [u8; 12] = self.0.source.array(STRUCTURE, self.entry_at(index))?;
        let [start, record, end] = [0, 4, 8].map(|offset| u32_in(&entry, offset).unwrap_or_default());
        self.record(start, record, end).map(Some)
    }

    /// The function from `start` to `end`, whose record is at `record`.
    fn record(&self, start: u32, record: u32, end: u32) -> Result<FunctionRecord, InspectError> {
        if end < start {
            return Err(InspectError::malformed(STRUCTURE, "end of a function", u64::from(end)));
        }
        let header = &self.0.header;
        let record = header.records.saturating_add(u64::from(record));
        // All formats begin alike and end with the same four bytes.
        let (bytes, tail, start_line): ([u8; RECORD_HEAD_BYTES], [u8; 4], u32) = match header.format {
            TableFormat::Go118 => {
                let [head @ .., a, b, c, d] = self.read::<{ RECORD_HEAD_BYTES + 4 }>(record)?;
                (head, [a, b, c, d], 0)
            }
            TableFormat::Go120 => {
                let bytes: [u8; RECORD_HEAD_BYTES + 8] = self.read(record)?;
                let [head @ .., l0, l1, l2, l3, a, b, c, d] = bytes;
                (head, [a, b, c, d], u32::from_le_bytes([l0, l1, l2, l3]))
            }
        };
        let field = |offset| u32_in(&bytes, offset).unwrap_or_default();
        let [id, flags, _, funcdata_count] = tail;
        Ok(FunctionRecord {
            // From the index, not from the record: obfuscators (garble) scramble the latter.
            start: self.at_text(start),
            end: self.at_text(end),
            start_line: line_number(start_line),
            id,
            name_offset: field(4),
            stack_table: field(16),
            file_table: field(20),
            line_table: field(24),
            unit: field(32),
            pcdata_count: field(28),
            funcdata_count,
            flags,
            record,
        })
    }

    /// The function that holds an address; `None` outside of Go's code. Padding belongs to the function before it.
    ///
    /// # Errors
    /// Where the binary cannot be read or the table is malformed.
    pub fn function_at(&self, address: Svma) -> Result<Option<FunctionRecord>, InspectError> {
        let Some(target) = address.0.checked_sub(self.0.module.text.0) else { return Ok(None) };
        let Ok(target) = u32::try_from(target) else { return Ok(None) };
        let (index, end) = self.index()?;
        if target >= *end {
            return Ok(None);
        }
        let Some(before) = index.partition_point(|start| *start <= target).checked_sub(1) else { return Ok(None) };
        let low = before as u64 * INDEX_STRIDE;
        let high = low.saturating_add(INDEX_STRIDE).min(self.len());
        // The functions from low on, and where the last one ends.
        let length_bytes = usize::try_from((high - low) * 8 + 4).unwrap_or(usize::MAX);
        let mut buffer = [0; PART_BYTES_MAX];
        let part = buffer.get_mut(..length_bytes).unwrap_or_default();
        self.0.source.read(STRUCTURE, self.entry_at(low), part)?;
        let starts_behind = |entry: &[u8]| u32_in(entry, 0).is_none_or(|start| start > target);
        let behind = part.chunks(8).position(starts_behind).unwrap_or(part.len() / 8);
        let entry = behind.checked_sub(1).and_then(|at| part.get(at * 8..at * 8 + 12));
        // Where the table is not in order.
        let entry = entry.ok_or_else(|| InspectError::malformed(STRUCTURE, "order of functions", u64::from(target)))?;
        let [start, record, end] = [0, 4, 8].map(|offset| u32_in(entry, offset).unwrap_or_default());
        if target < start || target >= end {
            return Err(InspectError::malformed(STRUCTURE, "order of functions", u64::from(target)));
        }
        self.record(start, record, end).map(Some)
    }

    fn index(&self) -> Result<&(Vec<u32>, u32), InspectError> {
        if let Some(index) = self.0.index.get() {
            return Ok(index);
        }
        let every = (0..self.len().div_ceil(INDEX_STRIDE)).map(|part| self.entry(part * INDEX_STRIDE));
        let index = every.collect::<Result<Vec<u32>, _>>()?;
        let end = self.entry(self.len())?;
        Ok(self.0.index.get_or_init(|| (index, end)))
    }

    /// The function's name as it stands in the table: type arguments in full, package path escaped.
    ///
    /// # Errors
    /// Where the binary cannot be read or the name is longer than
    /// [`STRING_BYTES_MAX`](super::source::STRING_BYTES_MAX).
    pub fn name(&self, function: &FunctionRecord) -> Result<String, InspectError> {
        self.function_name(function.name())
    }

    /// As [`Self::name`], of an inlined function, too.
    ///
    /// # Errors
    /// As [`Self::name`].
    pub fn function_name(&self, name: FunctionName) -> Result<String, InspectError> {
        self.name_at(name.0)
    }

    /// File and line of an instruction of `function` (`runtime.funcline1`). `None` where the compiler recorded none.
    ///
    /// # Errors
    /// Where the binary cannot be read, the table is malformed or the budget spent.
    pub fn file_and_line(
        &self,
        function: &FunctionRecord,
        at: Svma,
        budget: &mut StepBudget,
    ) -> Result<Option<(FileName, u32)>, InspectError> {
        let file = self.value_at(function, function.file_table, at, budget)?;
        let line = self.value_at(function, function.line_table, at, budget)?;
        let (Ok(file), Ok(line)) = (u32::try_from(file), u32::try_from(line)) else { return Ok(None) };
        let slot = u64::from(function.unit).saturating_add(u64::from(file)).saturating_mul(4);
        let name = u32::from_le_bytes(self.read(self.0.header.units.saturating_add(slot))?);
        Ok((name != u32::MAX).then_some((FileName(name), line)))
    }

    /// Bytes between the stack pointer at an instruction of `function` and the address that its caller goes on at
    /// (`funcspdelta` in runtime/symtab.go). `None` where the compiler recorded none.
    ///
    /// # Errors
    /// Where the binary cannot be read, the table is malformed or the budget spent.
    pub fn stack_bytes_at(
        &self,
        function: &FunctionRecord,
        at: Svma,
        budget: &mut StepBudget,
    ) -> Result<Option<u32>, InspectError> {
        Ok(u32::try_from(self.value_at(function, function.stack_table, at, budget)?).ok())
    }

    /// The path of a source file as the compiler recorded it.
    ///
    /// # Errors
    /// As [`Self::name`].
    pub fn file(&self, name: FileName) -> Result<String, InspectError> {
        let mut path = Vec::new();
        self.c_string(self.0.header.files, name.0, &mut path)?;
        Ok(text(path))
    }

    /// The innermost inlined call whose body holds the instruction at `at`; `None` where that is the function's own
    /// code.
    ///
    /// # Errors
    /// Where the binary cannot be read, the table is malformed or the budget spent.
    pub fn inlined_call_at(
        &self,
        function: &FunctionRecord,
        at: Svma,
        budget: &mut StepBudget,
    ) -> Result<Option<InlinedCall>, InspectError> {
        let format = self.0.header.format;
        let Some(tree) = self.inline_tree(function)? else { return Ok(None) };
        let Ok(index) = u32::try_from(self.value_at(function, tree.indices, at, budget)?) else { return Ok(None) };
        if index >= INLINE_TREE_MAX {
            return Err(InspectError::malformed("go inline tree", "index", u64::from(index)));
        }
        let address = Svma(tree.start.0.saturating_add(u64::from(index) * format.inlined_call_bytes()));
        let offset = file_offset(&self.0.segments, address)
            .ok_or_else(|| InspectError::malformed("go inline tree", "address", address.0))?;
        let (id, name_offset, parent, start_line) = match format {
            // parent i16, funcID u8, pad, file i32, line i32, func_ i32, parentPc i32
            TableFormat::Go118 => {
                let bytes: [u8; 20] = self.0.source.array("go inline tree", offset.0)?;
                let field = |offset| u32_in(&bytes, offset).unwrap_or_default();
                (bytes[2], field(12), field(16), 0)
            }
            // funcID u8, pads, nameOff i32, parentPc i32, startLine i32
            TableFormat::Go120 => {
                let bytes: [u8; 16] = self.0.source.array("go inline tree", offset.0)?;
                let field = |offset| u32_in(&bytes, offset).unwrap_or_default();
                (bytes[0], field(4), field(8), field(12))
            }
        };
        Ok(Some(InlinedCall {
            parent: Svma(function.start.0.wrapping_add_signed(i64::from(parent.cast_signed()))),
            start_line: line_number(start_line),
            id,
            name_offset,
        }))
    }

    /// Where the function's inline tree is; `None` where nothing was inlined into it.
    pub(crate) fn inline_tree(&self, function: &FunctionRecord) -> Result<Option<InlineTree>, InspectError> {
        if function.pcdata_count <= PCDATA_INLINE_INDEX || function.funcdata_count <= FUNCDATA_INLINE_TREE {
            return Ok(None);
        }
        let arrays = function.record.saturating_add(self.0.header.format.record_bytes());
        let indices = u32::from_le_bytes(self.read(arrays.saturating_add(u64::from(PCDATA_INLINE_INDEX) * 4))?);
        let number = u64::from(function.pcdata_count).saturating_add(u64::from(FUNCDATA_INLINE_TREE));
        let tree = u32::from_le_bytes(self.read(arrays.saturating_add(number.saturating_mul(4)))?);
        let start = Svma(self.0.module.gofunc.0.saturating_add(u64::from(tree)));
        Ok((tree != u32::MAX).then_some(InlineTree { start, indices }))
    }

    /// Whether any instruction of the function belongs to the entry `index` of its inline tree.
    pub(crate) fn uses_inlined_call(
        &self,
        function: &FunctionRecord,
        tree: InlineTree,
        index: u32,
    ) -> Result<bool, InspectError> {
        let mut used = false;
        let mut budget = StepBudget::of_one_table();
        each_value(&self.0.source, &self.0.header, tree.indices, &mut budget, |_, value| {
            used = u32::try_from(value) == Ok(index);
            if used { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(used && function.end > function.start)
    }

    /// Where the name of the function number `index` begins among the names; `None` past the last.
    pub(crate) fn name_offset(&self, index: u64) -> Result<Option<u32>, InspectError> {
        if index >= self.len() {
            return Ok(None);
        }
        let record = u32::from_le_bytes(self.0.source.array(STRUCTURE, self.entry_at(index).saturating_add(4))?);
        let at = self.0.header.records.saturating_add(u64::from(record)).saturating_add(4);
        Ok(Some(u32::from_le_bytes(self.read(at)?)))
    }

    /// Calls `visit` with the offset and the text of every name of at most [`STRING_BYTES_MAX`], each once.
    pub(crate) fn each_name(&self, mut visit: impl FnMut(u32, &[u8])) -> Result<(), InspectError> {
        let header = &self.0.header;
        let (start, end) = (header.start.saturating_add(header.names), header.start.saturating_add(header.units));
        // What a chunk ends with is read again with the next one.
        let mut chunk = vec![0; NAMES_CHUNK_BYTES];
        let mut position = start;
        while position < end {
            let wanted = usize::try_from(end - position).unwrap_or(usize::MAX).min(NAMES_CHUNK_BYTES);
            let read = self.0.source.read_up_to(STRUCTURE, position, chunk.get_mut(..wanted).unwrap_or_default())?;
            let mut rest = chunk.get(..read).unwrap_or_default();
            let mut taken = 0_u64;
            while let Some(length) = rest.iter().position(|byte| *byte == 0) {
                let offset = u32::try_from(position + taken - start).unwrap_or(u32::MAX);
                // Longer ones are type arguments without end, or no names: none that anybody asks for.
                if length <= STRING_BYTES_MAX {
                    visit(offset, rest.get(..length).unwrap_or_default());
                }
                rest = rest.get(length + 1..).unwrap_or_default();
                taken += length as u64 + 1;
            }
            if read == 0 {
                break;
            }
            if taken == 0 {
                // A name longer than a chunk: go on within it.
                taken = read as u64;
            }
            position = position.saturating_add(taken);
        }
        Ok(())
    }

    /// The addresses that can hold inline trees: from where FUNCDATA begins to the end of its segment, or to this table
    /// where that comes before.
    pub(crate) fn inline_trees(&self) -> Option<(Svma, u64)> {
        let start = self.0.module.gofunc;
        let segment = self.0.segments.iter().find(|segment| {
            start >= segment.svma && start.0 < segment.svma.0.saturating_add(segment.file_size_bytes)
        })?;
        let end = segment.svma.0.saturating_add(segment.file_size_bytes);
        let table = self.0.header.svma.0;
        let end = if table > start.0 { end.min(table) } else { end };
        Some((start, end.saturating_sub(start.0)))
    }

    /// How the records of this table are written.
    pub(crate) fn format(&self) -> TableFormat {
        self.0.header.format
    }

    /// The value for an instruction in one of the function's pc-value tables; -1 where it has none (`runtime.pcvalue`).
    fn value_at(
        &self,
        function: &FunctionRecord,
        table: u32,
        at: Svma,
        budget: &mut StepBudget,
    ) -> Result<i32, InspectError> {
        let Some(target) = at.0.checked_sub(function.start.0) else { return Ok(-1) };
        let mut found = -1;
        each_value(&self.0.source, &self.0.header, table, budget, |end, value| {
            if target < end {
                found = value;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn name_at(&self, offset: u32) -> Result<String, InspectError> {
        // `moduledata.funcName`: offset 0 is no name.
        if offset == 0 {
            return Ok(String::new());
        }
        let mut name = Vec::new();
        self.c_string(self.0.header.names, offset, &mut name)?;
        Ok(text(name))
    }

    fn c_string(&self, part: u64, offset: u32, into: &mut Vec<u8>) -> Result<(), InspectError> {
        self.0.source.c_string(STRUCTURE, self.string_offset(part, offset)?, into)
    }

    /// Where a string of a part of the table lies in the file.
    fn string_offset(&self, part: u64, offset: u32) -> Result<u64, InspectError> {
        let start = part.saturating_add(u64::from(offset));
        if start >= self.0.header.size_bytes {
            return Err(InspectError::malformed(STRUCTURE, "offset of a string", start));
        }
        Ok(self.0.header.start.saturating_add(start))
    }

    /// `N` bytes from `offset` of the table on.
    fn read<const N: usize>(&self, offset: u64) -> Result<[u8; N], InspectError> {
        if offset.saturating_add(N as u64) > self.0.header.size_bytes {
            return Err(InspectError::malformed(STRUCTURE, "offset", offset));
        }
        self.0.source.array(STRUCTURE, self.0.header.start.saturating_add(offset))
    }

    /// Where the function number `index` begins, from the beginning of the text.
    fn entry(&self, index: u64) -> Result<u32, InspectError> {
        Ok(u32::from_le_bytes(self.0.source.array(STRUCTURE, self.entry_at(index))?))
    }

    fn entry_at(&self, index: u64) -> u64 {
        let header = &self.0.header;
        header.start.saturating_add(header.records).saturating_add(index.saturating_mul(8))
    }

    fn at_text(&self, offset: u32) -> Svma {
        Svma(self.0.module.text.0.saturating_add(u64::from(offset)))
    }
}

/// Lines are signed in the table and never negative.
fn line_number(field: u32) -> u32 {
    u32::try_from(field.cast_signed()).unwrap_or(0)
}

/// Go's names are UTF-8; what is not is made so.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
