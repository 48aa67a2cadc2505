//! Programs of versions that we do not know: their own DWARF tells where things lie, or they are refused.

use std::fs;
use std::sync::LazyLock;

use object::{Object as _, ObjectSection as _};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tracer_daemon::inspect::{BinaryFacts, InspectError, LayoutSource, inspect_source};

use crate::go::{Build, build};

const PROGRAM: &str = "layouts";
/// How a version stands in a program: in the build info, and as the value of a variable.
const FUTURE: &[u8] = b"go1.28.0";

/// The bytes of a program, said to be built by another version of the same length.
fn claimed(mut bytes: Vec<u8>, toolchain: &str, version: &[u8]) -> Vec<u8> {
    let start = bytes.windows(14).position(|window| window == b"\xff Go buildinf:").unwrap() + 33;
    assert_eq!(&bytes[start..start + toolchain.len()], toolchain.as_bytes());
    bytes[start..start + toolchain.len()].copy_from_slice(version);
    bytes
}

fn inspected(bytes: Vec<u8>) -> Result<BinaryFacts, InspectError> {
    inspect_source(Box::new(bytes))
}

fn check_own_dwarf(toolchain: &str, flags: &[&str], cgo: bool) {
    let environment = &[("CGO_ENABLED", if cgo { "1" } else { "0" })];
    let bytes = fs::read(Build { program: PROGRAM, toolchain, flags, environment }.path()).unwrap();
    let known = inspected(bytes.clone()).unwrap();
    let version = &FUTURE[..toolchain.len()];
    let future = inspected(claimed(bytes, toolchain, version)).unwrap();
    assert_eq!((known.layout_source, future.layout_source), (LayoutSource::Table, LayoutSource::Dwarf));
    assert_eq!(future.go_version.minor, 28);
    assert_eq!(future.layout, known.layout, "{toolchain} {flags:?}");
    assert_eq!(future.functions, known.functions);
    let (known, future) = (known.functions_table, future.functions_table);
    assert_eq!((future.len(), future.ids(), future.text().unwrap()), (known.len(), known.ids(), known.text().unwrap()));
}

#[test]
fn own_dwarf_of_an_unknown_version_tells_what_the_table_tells() {
    check_own_dwarf("go1.27.3", &[], false);
    check_own_dwarf("go1.27.3", &["-buildmode=pie"], false);
    check_own_dwarf("go1.27.3", &["-gcflags=all=-N -l"], false);
    check_own_dwarf("go1.27.3", &["-ldflags=-compressdwarf=false"], false);
}

#[test]
fn newer_version_without_a_field_of_the_newest_known_is_refused() {
    // Renamed, it would be taken for an older release. DWARF 4.
    let bytes = claimed(fs::read(build(PROGRAM, "go1.22.1", &[])).unwrap(), "go1.22.1", FUTURE);
    let error = inspected(bytes).unwrap_err();
    assert!(matches!(error, InspectError::UnusableDwarf { .. }), "{error}");
}

#[test]
fn dwarf_that_an_external_linker_has_written_is_read_too() {
    // zlib in the form of the ELF specification, and in the older one of GNU.
    for style in ["zlib-gabi", "zlib-gnu", "none"] {
        let flags = format!("-ldflags=-linkmode=external -extldflags=-Wl,--compress-debug-sections={style}");
        check_own_dwarf("go1.26.6", &[&flags], true);
    }
}

#[test]
fn stripped_program_of_an_unknown_version_is_refused_with_the_newest_known_one() {
    for flags in ["-ldflags=-s -w", "-ldflags=-w"] {
        let bytes = fs::read(build(PROGRAM, "go1.27.3", &[flags])).unwrap();
        let error = inspected(claimed(bytes, "go1.27.3", FUTURE)).unwrap_err();
        assert_eq!(error.to_string(), "built by go1.28.0, and only go1.19 to go1.27 are supported");
        assert_eq!((error.id(), error.is_refusal()), ("go_version_unsupported", true));
    }
}

#[test]
fn unknown_version_with_unusable_dwarf_or_function_table_is_refused() {
    let bytes = claimed(PLAIN.clone(), "go1.27.3", FUTURE);
    let mut without_goid = bytes.clone();
    // In the unit of types, where the name of a member stands behind an abbreviation code.
    let info = section(&bytes, ".debug_info");
    let goid = bytes[info.clone()].windows(6).position(|window| window == b"\x0egoid\0").unwrap();
    without_goid[info.start + goid + 4] = b'c';
    let error = inspected(without_goid).unwrap_err();
    assert_eq!((error.id(), error.is_refusal()), ("go_layout_unknown", true));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "its DWARF has no runtime.g, or not its goid");

    let mut other_table = bytes;
    let table = section(&other_table, ".gopclntab").start;
    other_table[table] = 0xf2;
    let error = inspected(other_table).unwrap_err();
    assert_eq!(error.id(), "go_version_unsupported");
}

/// Uncompressed, so that changes hit what the parser reads.
static PLAIN: LazyLock<Vec<u8>> =
    LazyLock::new(|| fs::read(build(PROGRAM, "go1.27.3", &["-ldflags=-compressdwarf=false"])).unwrap());
static COMPRESSED: LazyLock<Vec<u8>> = LazyLock::new(|| fs::read(build(PROGRAM, "go1.27.3", &[])).unwrap());

fn section(bytes: &[u8], name: &str) -> std::ops::Range<usize> {
    let file = object::File::parse(bytes).unwrap();
    let (start, size) = file.section_by_name(name).unwrap().file_range().unwrap();
    usize::try_from(start).unwrap()..usize::try_from(start + size).unwrap()
}

/// Where the numbers are that the reader believes.
fn interesting(bytes: &[u8]) -> Vec<usize> {
    let info = section(bytes, ".debug_info");
    let units = bytes[info.clone()].windows(9).enumerate().filter(|(_, window)| *window == b"\x01runtime\0");
    let mut places: Vec<usize> = units.map(|(at, _)| info.start + at.saturating_sub(12)).collect();
    let types = [b"runtime.g\0".as_slice(), b"runtime.mheap\0", b"runtime.mstats\0", b"internal/abi.Type\0"];
    for name in types {
        let found = bytes[info.clone()].windows(name.len()).position(|window| window == name);
        places.extend(found.map(|at| info.start + at));
    }
    places.extend([info.start, section(bytes, ".debug_abbrev").start, section(bytes, ".debug_abbrev").start + 200]);
    places
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_dwarf_never_panics(
        compressed in proptest::bool::weighted(0.2),
        changes in vec((any::<Index>(), 0..200_usize, any::<[u8; 4]>(), 1..=4_usize), 1..6),
        anywhere in proptest::option::weighted(0.3, (any::<Index>(), any::<u8>())),
    ) {
        let bytes = if compressed { &*COMPRESSED } else { &*PLAIN };
        let places = interesting(bytes);
        let info = section(bytes, ".debug_info");
        let mut bytes = claimed(bytes.clone(), "go1.27.3", FUTURE);
        for (place, offset, new, count) in changes {
            let start = place.get(&places) + offset;
            bytes[start..start + count].copy_from_slice(&new[..count]);
        }
        if let Some((index, new)) = anywhere {
            bytes[info.start + index.index(info.len())] = new;
        }
        // Whatever it tells: facts, or why not. A panic is the only failure.
        if let Err(error) = inspected(bytes) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn experiments_that_move_fields_are_read_by_dwarf_or_refused() {
    // Without the collector of go1.26, processors are smaller, and spans have no marks of their own.
    let environment = &[("CGO_ENABLED", "0"), ("GOEXPERIMENT", "nogreenteagc")];
    let program =
        |flags| fs::read(Build { program: PROGRAM, toolchain: "go1.26.6", flags, environment }.path()).unwrap();
    let usual = inspected(fs::read(build(PROGRAM, "go1.26.6", &[])).unwrap()).unwrap();
    let without = inspected(program(&[])).unwrap();
    assert_eq!((usual.layout_source, without.layout_source), (LayoutSource::Table, LayoutSource::Dwarf));
    assert!(usual.layout.inline_marks.marks.is_some() && without.layout.inline_marks.marks.is_none());
    assert_ne!(usual.layout.p.stats_seq, without.layout.p.stats_seq);
    let error = inspected(program(&["-ldflags=-s -w"])).unwrap_err();
    assert!(
        matches!(&error, InspectError::UnsupportedExperiment { version } if version.contains("nogreenteagc")),
        "{error}"
    );
}
