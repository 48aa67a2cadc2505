//! The ELF part of an image: headers, sections, a note.

use std::ops::Range;

use super::image::Built;

/// Where the first byte of the file goes.
pub(super) const BASE: u64 = 0x40_0000;
/// Entries of a program header and of a section header, bytes.
pub(super) const PROGRAM_BYTES: usize = 56;
pub(super) const SECTION_BYTES: usize = 64;
/// Every part begins at a multiple of this.
const ALIGNMENT: usize = 32;

/// The address of a byte of the file.
pub fn address(offset: usize) -> u64 {
    BASE + offset as u64
}

/// Appends the contents of the section headers and of their names.
pub(super) fn add_sections(built: &mut Built, sections: &[(&str, u32, u64, Range<usize>)]) -> Range<usize> {
    let mut names = vec![0];
    let mut headers = vec![0; SECTION_BYTES];
    let count = u64::try_from(sections.len()).unwrap_or(0);
    let mut push = |names: &mut Vec<u8>, name: &str, kind: u32, flags: u64, place: Range<usize>| {
        let words = [length(names), kind];
        names.extend(name.bytes().chain([0]));
        // The names of symbols are the last section before this table's own.
        let link = if kind == 2 { count } else { 0 };
        let wide = [flags, address(place.start), place.start as u64, place.len() as u64, link, 1, 0];
        headers.extend(words.into_iter().flat_map(u32::to_le_bytes));
        headers.extend(wide.into_iter().flat_map(u64::to_le_bytes));
    };
    for (name, kind, flags, place) in sections {
        push(&mut names, name, *kind, *flags, place.clone());
    }
    let own = ".shstrtab";
    let start = built.bytes.len().next_multiple_of(ALIGNMENT);
    let place = start..start + names.len() + own.len() + 1;
    push(&mut names, own, 3, 0, place);
    add(built, "section names", names);
    add(built, "section headers", headers)
}

/// The file's header.
pub(super) fn header(position_independent: bool, programs: usize, sections_at: usize, sections: usize) -> Vec<u8> {
    let half = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    bytes.resize(16, 0);
    bytes.extend([if position_independent { 3 } else { 2 }, 62_u16].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([BASE, 64, sections_at as u64].into_iter().flat_map(u64::to_le_bytes));
    bytes.extend(0_u32.to_le_bytes());
    let last = sections.saturating_sub(1);
    let halves = [64, half(PROGRAM_BYTES), half(programs), half(SECTION_BYTES), half(sections), half(last)];
    bytes.extend(halves.into_iter().flat_map(u16::to_le_bytes));
    bytes
}

/// A program header: kind, flags, place in the file.
pub(super) fn program(kind: u32, flags: u32, place: Range<usize>) -> Vec<u8> {
    let (start, size) = (place.start as u64, place.len() as u64);
    let words = [start, BASE + start, BASE + start, size, size, 8];
    [kind, flags].into_iter().flat_map(u32::to_le_bytes).chain(words.into_iter().flat_map(u64::to_le_bytes)).collect()
}

/// Go's build id.
pub(super) fn note() -> Vec<u8> {
    let id = b"abc/def/ghi/jkl!";
    let words = [4, u32::try_from(id.len()).unwrap_or(0), 4];
    words.into_iter().flat_map(u32::to_le_bytes).chain(*b"Go\0\0").chain(*id).collect()
}

/// Appends a part at the next aligned place.
pub(super) fn add(built: &mut Built, name: &'static str, bytes: Vec<u8>) -> Range<usize> {
    built.bytes.resize(built.bytes.len().next_multiple_of(ALIGNMENT), 0);
    let start = built.bytes.len();
    built.bytes.extend(bytes);
    built.parts.push((name, start..built.bytes.len()));
    start..built.bytes.len()
}

pub(super) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
