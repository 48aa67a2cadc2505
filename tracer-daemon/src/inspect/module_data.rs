//! Finds the function table (`runtime.pclntab`) and the runtime's record of the program (`runtime.firstmoduledata`).
//!
//! The beginning of Go's text comes from that record and from nothing else: `.text` begins with C code under external
//! linking, and the field in the table's header is 0 from go1.26 on.

use std::ops::ControlFlow;

use super::InspectError;
use super::elf::{ElfImage, address, file_offset};
use super::layout::ModuleLayout;
use super::source::{u32_in, u64_in};

use crate::addr::{FileOffset, Svma};

const TABLE: &str = "go function table";
/// `go118magic` (debug/gosym/pclntab.go), as go1.18 and go1.19 write it.
const MAGIC_1_18: u32 = 0xffff_fff0;
/// `Go120PCLnTabMagic` (internal/abi/symtab.go), as go1.20 and later write it.
const MAGIC_1_20: u32 = 0xffff_fff1;
/// `pcHeader` of runtime/symtab.go, go1.18 to go1.27.
const HEADER_BYTES: u64 = 72;
const HEADER_LENGTH: usize = 72;
/// Most functions that we accept. The largest known programs have about 500,000.
const FUNCTIONS_MAX: u64 = 1 << 23;
/// Bytes searched at a time where the section's name is gone.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Places that may hold the address of the function table; the right one is found by its neighbour.
const CANDIDATES_MAX: usize = 64;

/// How the records in the function table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableFormat {
    /// go1.18 and go1.19: functions have no first line, and inlined calls know their own place.
    Go118,
    /// go1.20 and later.
    Go120,
}

impl TableFormat {
    fn of_magic(magic: u32) -> Option<Self> {
        match magic {
            MAGIC_1_18 => Some(Self::Go118),
            MAGIC_1_20 => Some(Self::Go120),
            _ => None,
        }
    }

    /// Size of `_func` without the arrays behind it.
    pub(crate) fn record_bytes(self) -> u64 {
        match self {
            Self::Go118 => 40,
            Self::Go120 => 44,
        }
    }

    /// Where in a `runtime.inlinedCall` the offset of the function's name stands.
    pub(crate) fn inlined_name_at(self) -> usize {
        match self {
            Self::Go118 => 12,
            Self::Go120 => 4,
        }
    }

    /// Size of `runtime.inlinedCall`.
    pub(crate) fn inlined_call_bytes(self) -> u64 {
        match self {
            Self::Go118 => 20,
            Self::Go120 => 16,
        }
    }
}

/// Where the function table is and how its parts lie. Offsets are from the table's beginning, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableHeader {
    pub(crate) format: TableFormat,
    /// In the file.
    pub(crate) start: u64,
    pub(crate) svma: Svma,
    /// How far the table can reach: the end of its section, or of its segment.
    pub(crate) size_bytes: u64,
    /// Smallest instruction in bytes: what pc deltas count in (1 on amd64, 4 on arm64).
    pub(crate) quantum_bytes: u64,
    pub(crate) functions: u64,
    pub(crate) names: u64,
    pub(crate) units: u64,
    pub(crate) files: u64,
    pub(crate) pc_tables: u64,
    pub(crate) records: u64,
}

/// The addresses that the function table counts from, and where Go's variables lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModuleData {
    /// Where the record itself is.
    pub(crate) at: Svma,
    pub(crate) text: Svma,
    pub(crate) gofunc: Svma,
    /// `noptrdata`, `data`, `bss`, `noptrbss`: first address, and the first behind.
    pub(crate) variables: [(Svma, Svma); 4],
}

impl ModuleData {
    /// Whether one of Go's variables can be at an address.
    pub(crate) fn is_variable(&self, address: Svma) -> bool {
        self.variables.iter().any(|(start, end)| *start <= address && address < *end)
    }
}

/// `None` where the binary has no function table.
pub(crate) fn find_table(image: &ElfImage, scan: bool) -> Result<Option<TableHeader>, InspectError> {
    for name in [".gopclntab", ".data.rel.ro.gopclntab"] {
        if let Some(section) = image.section(name) {
            let end = section.file_offset.saturating_add(section.size_bytes);
            return read_header(image, section.file_offset, section.svma, end).map(Some);
        }
    }
    if scan { scan_for_table(image) } else { Ok(None) }
}

/// External linking makes the table part of `.data.rel.ro` in position independent programs up to go1.25.
fn scan_for_table(image: &ElfImage) -> Result<Option<TableHeader>, InspectError> {
    let magics = [MAGIC_1_18.to_le_bytes(), MAGIC_1_20.to_le_bytes()];
    for segment in image.segments.iter().filter(|segment| !segment.executable) {
        let end = segment.file_offset.0.saturating_add(segment.file_size_bytes).min(image.source.len());
        let mut start = segment.file_offset.0;
        while start < end {
            let bytes = image.source.bytes(TABLE, start, CHUNK_BYTES.min(end - start))?;
            // The linker aligns the table to at least eight bytes, and so are segments.
            let found = |chunk: &[u8]| magics.iter().any(|magic| chunk.starts_with(magic));
            for (index, _) in bytes.chunks(8).enumerate().filter(|(_, chunk)| found(chunk)) {
                let offset = start.saturating_add(index as u64 * 8);
                let Some(svma) = address(&image.segments, FileOffset(offset)) else { continue };
                if let Ok(header) = read_header(image, offset, svma, end) {
                    return Ok(Some(header));
                }
            }
            start = start.saturating_add(CHUNK_BYTES);
        }
    }
    Ok(None)
}

fn read_header(image: &ElfImage, start: u64, svma: Svma, end: u64) -> Result<TableHeader, InspectError> {
    let bytes: [u8; HEADER_LENGTH] = image.source.array(TABLE, start)?;
    let word = |offset| u64_in(&bytes, offset).unwrap_or_default();
    let magic = u32_in(&bytes, 0).unwrap_or_default();
    let format =
        TableFormat::of_magic(magic).ok_or_else(|| InspectError::malformed(TABLE, "magic", u64::from(magic)))?;
    let [_, _, _, _, pad1, pad2, quantum, pointer_bytes, ..] = bytes;
    if pad1 != 0 || pad2 != 0 {
        return Err(InspectError::malformed(TABLE, "padding", u64::from(pad1.max(pad2))));
    }
    if quantum != 1 {
        return Err(InspectError::malformed(TABLE, "instruction size", u64::from(quantum)));
    }
    if pointer_bytes != 8 {
        return Err(InspectError::malformed(TABLE, "pointer size", u64::from(pointer_bytes)));
    }
    let header = TableHeader {
        format,
        start,
        svma,
        size_bytes: end.min(image.source.len()).saturating_sub(start),
        quantum_bytes: u64::from(quantum),
        functions: word(8),
        names: word(32),
        units: word(40),
        files: word(48),
        pc_tables: word(56),
        records: word(64),
    };
    let parts = [header.names, header.units, header.files, header.pc_tables, header.records];
    let bounds = [HEADER_BYTES].into_iter().chain(parts).zip(parts.into_iter().chain([header.size_bytes]));
    for (low, high) in bounds {
        if low > high {
            return Err(InspectError::malformed(TABLE, "offset of a part", low));
        }
    }
    // Eight bytes per function and four for the end of the last.
    let index_bytes = header.functions.saturating_mul(8).saturating_add(4);
    if header.functions == 0 || header.functions > FUNCTIONS_MAX || index_bytes > header.size_bytes - header.records {
        return Err(InspectError::malformed(TABLE, "number of functions", header.functions));
    }
    Ok(header)
}

/// Reads the runtime's record of the program.
pub(crate) fn read_module(
    image: &ElfImage,
    table: &TableHeader,
    layout: ModuleLayout,
) -> Result<ModuleData, InspectError> {
    let at = find_module(image, table)?.ok_or_else(|| {
        InspectError::malformed("go module data", "address of the function table (nowhere)", table.svma.0)
    })?;
    let field = |offset: u64| Svma(at.0.saturating_add(offset));
    let [text, gofunc, ends @ ..] = image.pointers([
        field(layout.text),
        field(layout.gofunc),
        field(layout.noptrdata),
        field(layout.enoptrdata),
        field(layout.data),
        field(layout.edata),
        field(layout.bss),
        field(layout.ebss),
        field(layout.noptrbss),
        field(layout.enoptrbss),
    ])?;
    for (name, value) in [("text", text), ("gofunc", gofunc)] {
        if file_offset(&image.segments, Svma(value)).is_none() {
            return Err(InspectError::malformed("go module data", name, value));
        }
    }
    let [noptrdata, enoptrdata, data, edata, bss, ebss, noptrbss, enoptrbss] = ends.map(Svma);
    let variables = [(noptrdata, enoptrdata), (data, edata), (bss, ebss), (noptrbss, enoptrbss)];
    if let Some((start, _)) = variables.iter().find(|(start, end)| start > end) {
        return Err(InspectError::malformed("go module data", "beginning of variables", start.0));
    }
    Ok(ModuleData { at, text: Svma(text), gofunc: Svma(gofunc), variables })
}

/// The record begins with the address of the function table, followed by that of the table's names.
fn find_module(image: &ElfImage, table: &TableHeader) -> Result<Option<Svma>, InspectError> {
    let first = table.svma.0;
    let second = table.svma.0.saturating_add(table.names);
    if let Some(module) = find_module_by_relocations(image, first, second)? {
        return Ok(Some(module));
    }
    // From go1.26 on in a section of its own, before that in .noptrdata.
    let sections = [".go.module", ".noptrdata", ".data"].map(|name| image.section(name));
    let ranges = sections.into_iter().flatten().map(|section| (section.file_offset, section.size_bytes));
    let segments = image.segments.iter().filter(|segment| segment.writable);
    let ranges = ranges.chain(segments.map(|segment| (segment.file_offset.0, segment.file_size_bytes)));
    for (start, size_bytes) in ranges {
        if let Some(offset) = find_words(image, start, size_bytes, first, second)? {
            return Ok(address(&image.segments, FileOffset(offset)));
        }
    }
    Ok(None)
}

fn find_module_by_relocations(image: &ElfImage, first: u64, second: u64) -> Result<Option<Svma>, InspectError> {
    let (mut begins, mut follows) = (Vec::new(), Vec::new());
    image.each_relative_relocation(|place, addend| {
        if addend == first && begins.len() < CANDIDATES_MAX {
            begins.push(place);
        }
        if addend == second && follows.len() < CANDIDATES_MAX {
            follows.push(place);
        }
        ControlFlow::Continue(())
    })?;
    Ok(begins.into_iter().find(|place| follows.contains(&Svma(place.0.saturating_add(8)))))
}

/// The file offset of the first aligned pair of words.
fn find_words(
    image: &ElfImage,
    start: u64,
    size_bytes: u64,
    first: u64,
    second: u64,
) -> Result<Option<u64>, InspectError> {
    let end = start.saturating_add(size_bytes).min(image.source.len());
    let mut position = start.checked_next_multiple_of(8).unwrap_or(end);
    while position < end {
        // One word more than a chunk, so that a pair on the border is seen.
        let bytes = image.source.bytes("data segment", position, (CHUNK_BYTES + 8).min(end - position))?;
        let pair = bytes
            .windows(16)
            .step_by(8)
            .position(|pair| u64_in(pair, 0) == Some(first) && u64_in(pair, 8) == Some(second));
        if let Some(index) = pair {
            return Ok(position.checked_add(index as u64 * 8));
        }
        position = position.saturating_add(CHUNK_BYTES);
    }
    Ok(None)
}
