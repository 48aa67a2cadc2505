//! Tests of layouts: the table against independent facts, and DWARF made by hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::dwarf::{Member, Wanted, find, globals};
use super::*;
use crate::addr::Svma;
use crate::inspect::version::RELEASES;

const ARCHITECTURES: [Architecture; 2] = [Architecture::Amd64, Architecture::Arm64];

/// All values as Rust source, by `structure.field`.
fn values(layout: &RuntimeLayout) -> Vec<(String, String)> {
    let structures = layout.sources().into_iter();
    let fields = structures.flat_map(|structure| {
        structure.fields.into_iter().map(move |(field, value)| (format!("{}.{field}", structure.name), value))
    });
    fields.collect()
}

#[test]
fn every_release_has_a_row_per_architecture_made_of_two_patch_levels() {
    let rows: Vec<_> = table::ROWS.iter().map(|row| (row.minor, row.architecture)).collect();
    let wanted = RELEASES.iter().flat_map(|release| ARCHITECTURES.map(|architecture| (release.minor, architecture)));
    assert_eq!(rows, wanted.collect::<Vec<_>>());
    for (minor, architecture) in rows {
        let patches: BTreeSet<_> = toolchains(minor, architecture).iter().collect();
        assert!(patches.len() >= 2, "go1.{minor} {architecture:?} {patches:?}");
        assert!(patches.iter().all(|patch| patch.starts_with(&format!("go1.{minor}."))), "{patches:?}");
        assert!(plausible(&known(minor, architecture).unwrap()).is_ok());
    }
    assert_eq!(known(18, Architecture::Amd64), None);
}

#[test]
fn table_agrees_with_independently_measured_facts() {
    let facts = include_str!("../../../tests/facts/runtime-offsets.csv");
    let mut lines = facts.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let minors: Vec<u32> =
        header[2..].iter().map(|version| version.strip_prefix("1.").unwrap().parse().unwrap()).collect();
    assert_eq!(minors, [19, 21, 22, 23, 24, 25, 26, 27]);
    let (mut compared, mut fields) = (0, BTreeSet::new());
    for line in lines {
        let (field, architecture) = (line[0], line[1]);
        for known_architecture in ARCHITECTURES {
            if architecture != "both" && architecture != known_architecture.name() {
                continue;
            }
            for (minor, fact) in minors.iter().zip(&line[2..]) {
                let values = values(&known(*minor, known_architecture).unwrap());
                let (_, value) = values.iter().find(|(name, _)| name == field).unwrap();
                let value = value.trim_start_matches("Some(").trim_end_matches(')');
                let fact = if fact.is_empty() { "None" } else { fact };
                assert_eq!(value, fact, "{field} of go1.{minor} on {known_architecture:?}");
                compared += 1;
            }
        }
        fields.insert(field);
    }
    // Elements of arrays and constants are not among the facts.
    let all = values(&known(27, Architecture::Amd64).unwrap()).len();
    let counts = [
        "spans_count",
        "page_summaries_count",
        "page_chunks_count",
        "alloc_count",
        "heap_stats_count",
        "pause_ns_count",
        "size_classes",
        "future_count",
    ];
    let constants = ["malloc_header_bytes", "special_kind_profile", "special_kind_finalizer"];
    let beyond = counts.len() + constants.len();
    assert_eq!(fields.len(), all - beyond);
    assert_eq!(compared, fields.len() * minors.len() * 2);
}

/// A 64-bit ELF file of these sections and nothing else; contents with `true` are said to be compressed.
fn image(sections: &[(&str, &[u8], bool)]) -> ElfImage {
    let mut names = vec![0];
    let mut headers = vec![0; 64];
    let mut contents = Vec::new();
    let header = |name: usize, kind: u32, flags: u64, offset: usize, size: usize| {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(name).unwrap().to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend((offset as u64).to_le_bytes());
        bytes.extend((size as u64).to_le_bytes());
        bytes.resize(64, 0);
        bytes
    };
    for (name, content, compressed) in sections {
        headers.extend(header(names.len(), 1, u64::from(*compressed) << 11, 64 + contents.len(), content.len()));
        names.extend(name.bytes().chain([0]));
        contents.extend_from_slice(content);
    }
    headers.extend(header(0, 3, 0, 64 + contents.len(), names.len()));
    contents.extend(names);
    let mut file = vec![0; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[18..20].copy_from_slice(&62_u16.to_le_bytes());
    file[40..48].copy_from_slice(&(64 + contents.len() as u64).to_le_bytes());
    file[58..60].copy_from_slice(&64_u16.to_le_bytes());
    file[60..62].copy_from_slice(&u16::try_from(sections.len() + 2).unwrap().to_le_bytes());
    file[62..64].copy_from_slice(&u16::try_from(sections.len() + 1).unwrap().to_le_bytes());
    file.extend(contents);
    file.extend(headers);
    ElfImage::read(Arc::new(CachedSource::new(Box::new(file), INSPECTION_COST_MAX))).unwrap()
}

/// Abbreviations: 1 the unit, 2 a variable, 3 a structure, 4 a member, 5 a typedef, 6 a number, 7 an array, 8 its range,
/// 9 a constant.
const ABBREVIATIONS: &[u8] = &[
    1, 0x11, 1, 0x03, 0x08, 0x73, 0x17, 0, 0, // DW_AT_name string, DW_AT_addr_base sec_offset
    2, 0x34, 0, 0x03, 0x08, 0x02, 0x18, 0, 0, // DW_AT_name string, DW_AT_location exprloc
    3, 0x13, 1, 0x03, 0x08, 0x0b, 0x0f, 0, 0, // DW_AT_name string, DW_AT_byte_size udata
    4, 0x0d, 0, 0x03, 0x08, 0x38, 0x0f, 0x49, 0x10, 0,
    0, // DW_AT_name, DW_AT_data_member_location, DW_AT_type ref_addr
    5, 0x16, 0, 0x03, 0x08, 0x49, 0x10, 0, 0, // DW_AT_name string, DW_AT_type ref_addr
    6, 0x24, 0, 0x03, 0x08, 0x0b, 0x0b, 0, 0, // DW_AT_name string, DW_AT_byte_size data1
    7, 0x01, 1, 0x49, 0x10, 0x0b, 0x0f, 0, 0, // DW_AT_type ref_addr, DW_AT_byte_size udata
    8, 0x21, 0, 0x37, 0x0f, 0, 0, // DW_AT_count udata
    9, 0x27, 0, 0x03, 0x08, 0x1c, 0x0d, 0, 0, // DW_AT_name string, DW_AT_const_value sdata
    0,
];

/// A DWARF 5 unit of this name with these entries.
fn unit(name: &str, entries: &[u8]) -> Vec<u8> {
    let mut body = vec![5, 0, 1, 8, 0, 0, 0, 0, 1];
    body.extend(name.bytes().chain([0]));
    body.extend(8_u32.to_le_bytes());
    body.extend(entries);
    body.push(0);
    let mut unit = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
    unit.extend(body);
    unit
}

/// Where the entries of the first unit begin when it is called `runtime`.
const ENTRIES: u32 = 25;

fn entry(code: u8, name: &str, rest: &[u8]) -> Vec<u8> {
    [&[code], name.as_bytes(), &[0], rest].concat()
}

fn dwarf(info: &[u8]) -> ElfImage {
    image(&[(".debug_info", info, false), (".debug_abbrev", ABBREVIATIONS, false)])
}

fn failure(image: &ElfImage) -> String {
    let wanted = Wanted { structures: [("runtime.g", ["goid"].into())].into(), ..Wanted::default() };
    find(image, &wanted).unwrap_err().to_string()
}

#[test]
fn variables_are_found_by_address_and_by_index() {
    let entries = [
        entry(2, "runtime.allgs", &[9, 0x03, 0x00, 0x10, 0x40, 0, 0, 0, 0, 0]), // DW_OP_addr
        entry(2, "runtime.sched", &[2, 0xa1, 1]),                               // DW_OP_addrx 1
        entry(2, "runtime.local", &[2, 0x91, 8]),                               // DW_OP_fbreg: on a stack
    ];
    let addresses: Vec<u8> = [0, 0x50_0000_u64, 0x60_0000].iter().flat_map(|word| word.to_le_bytes()).collect();
    let info = [unit("other", &entry(2, "runtime.allgs", &[1, 0x30])), unit("runtime", &entries.concat())].concat();
    let sections = [(".debug_info", &info[..], false), (".debug_abbrev", ABBREVIATIONS, false)];
    let found = globals(
        &image(&[&sections[..], &[(".debug_addr", &addresses, false)]].concat()),
        &["runtime.allgs", "runtime.sched", "runtime.local", "runtime.none"],
    );
    let expected = [("runtime.allgs", 0x40_1000), ("runtime.sched", 0x60_0000)];
    assert_eq!(found.unwrap(), expected.map(|(name, address)| (name.to_owned(), Svma(address))).into());
}

#[test]
fn members_are_found_through_structures_typedefs_and_arrays() {
    // The typedef comes last, and the array refers to the number.
    let number = entry(6, "uint64", &[8]);
    let number_at = ENTRIES;
    let array_at = number_at + u32::try_from(number.len()).unwrap();
    let array = [&[7][..], &number_at.to_le_bytes(), &[24, 8, 3, 0]].concat();
    let inner_at = array_at + u32::try_from(array.len()).unwrap();
    let member = |name: &str, offset: u8, to: u32| entry(4, name, &[&[offset][..], &to.to_le_bytes()].concat());
    let inner =
        [entry(3, "runtime.stack", &[32]), member("lo", 4, number_at), member("all", 8, array_at), vec![0]].concat();
    let named_at = inner_at + u32::try_from(inner.len()).unwrap();
    let named = entry(5, "runtime.named", &inner_at.to_le_bytes());
    let outer =
        [entry(3, "runtime.g", &[64]), member("goid", 0, number_at), member("stack", 16, named_at), vec![0]].concat();
    let constant = entry(9, "runtime.mallocHeaderSize", &[8]);
    let image = dwarf(&unit("runtime", &[number, array, inner, named, outer, constant].concat()));
    let paths: [&str; 5] = ["goid", "stack.lo", "stack.all", "stack.none", "goid.none"];
    let wanted = Wanted {
        structures: [("runtime.g", paths.into()), ("runtime.m", ["p"].into())].into(),
        constants: ["runtime.mallocHeaderSize"].into(),
        ..Wanted::default()
    };
    let found = find(&image, &wanted).unwrap();
    assert_eq!(found.constants, [("runtime.mallocHeaderSize".to_owned(), 8)].into());
    assert_eq!(found.structures.len(), 1);
    let structure = &found.structures["runtime.g"];
    assert_eq!(structure.size_bytes, 64);
    let member = |offset_bytes, size_bytes, elements| Member { offset_bytes, size_bytes: Some(size_bytes), elements };
    let expected =
        [("goid", member(0, 8, None)), ("stack.lo", member(20, 8, None)), ("stack.all", member(24, 24, Some(3)))];
    assert_eq!(structure.members, expected.map(|(path, member)| (path.to_owned(), member)).into());
}

#[test]
fn member_behind_the_end_of_its_structure_is_an_error() {
    let number = entry(6, "uint64", &[8]);
    let member = entry(4, "goid", &[&[57][..], &ENTRIES.to_le_bytes()].concat());
    let image = dwarf(&unit("runtime", &[number, entry(3, "runtime.g", &[64]), member, vec![0]].concat()));
    assert_eq!(failure(&image), "end of a member in its DWARF is 65, more than 64");
}

#[test]
fn typedef_of_itself_is_an_error() {
    let typedef = entry(5, "runtime.loop", &ENTRIES.to_le_bytes());
    let member = entry(4, "goid", &[&[0][..], &ENTRIES.to_le_bytes()].concat());
    let image = dwarf(&unit("runtime", &[typedef, entry(3, "runtime.g", &[64]), member, vec![0]].concat()));
    assert_eq!(failure(&image), "chain of typedefs in its DWARF is 17, more than 16");
}

#[test]
fn entries_of_countless_attributes_without_bytes_are_an_error() {
    // Abbreviation 10: a hundred thousand times DW_AT_external flag_present.
    let mut abbreviations = ABBREVIATIONS[..ABBREVIATIONS.len() - 1].to_vec();
    abbreviations.extend([10, 0x34, 0].into_iter().chain([0x3f, 0x19].repeat(100_000)).chain([0, 0, 0]));
    let info = unit("runtime", &vec![10; 100_000]);
    let image = image(&[(".debug_info", &info, false), (".debug_abbrev", &abbreviations, false)]);
    assert!(failure(&image).starts_with("number of attributes in its DWARF is "), "{}", failure(&image));
}

#[test]
fn countless_units_with_a_long_table_of_abbreviations_are_an_error() {
    let mut abbreviations = ABBREVIATIONS.to_vec();
    abbreviations.resize(1 << 20, 0);
    let info = unit("runtime", &[]).repeat(100);
    let image = image(&[(".debug_info", &info, false), (".debug_abbrev", &abbreviations, false)]);
    assert!(failure(&image).starts_with("units of the runtime in its DWARF is "), "{}", failure(&image));
}

#[test]
fn sizes_beyond_the_bounds_are_errors() {
    let mut large = unit("runtime", &[0; 32]);
    large[..4].copy_from_slice(&(33_u32 << 20).to_le_bytes());
    assert_eq!(failure(&dwarf(&large)), "unit of the runtime in its DWARF is 34603008, more than 33554432");
    large[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(failure(&dwarf(&large)), "unit in its DWARF is 4294967295, more than 33554432");
    // Of another name it is gone over, and then the file is at its end.
    let mut other = unit("other", &[0; 32]);
    other[..4].copy_from_slice(&(33_u32 << 20).to_le_bytes());
    assert!(
        failure(&dwarf(&other)).starts_with("a debug section cannot be read after "),
        "{}",
        failure(&dwarf(&other))
    );

    // Elf64_Chdr: kind, padding, size, alignment.
    let header =
        |kind: u32, size: u64| [&u64::from(kind).to_le_bytes()[..], &size.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    let compressed = |header: &[u8]| image(&[(".debug_info", header, true), (".debug_abbrev", ABBREVIATIONS, false)]);
    assert_eq!(
        failure(&compressed(&header(1, 1 << 40))),
        ".debug_info in its DWARF is 1099511627776, more than 536870912"
    );
    assert_eq!(
        failure(&compressed(&header(2, 100))),
        "a debug section is compressed by method 0x2, and only zlib is supported"
    );
    assert!(failure(&compressed(&header(1, 100))).starts_with("a debug section cannot be read after 0 bytes"));
}

#[test]
fn dwarf_without_the_fields_names_the_first_that_is_missing() {
    let error = from_dwarf(&dwarf(&unit("runtime", &entry(3, "runtime.g", &[64, 0])))).unwrap_err();
    assert_eq!(error.to_string(), "its DWARF has no runtime.g, or not its stack_lo");
    assert!(matches!(from_dwarf(&image(&[])).unwrap_err(), LayoutError::NoDwarf));
    assert!(matches!(from_dwarf(&image(&[(".debug_info", &[], false)])).unwrap_err(), LayoutError::NoDwarf));
}
