//! What a hostile file may cost: bytes read are counted, memory is limited for the program `leakline` itself. No clock.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::Command;
use std::sync::Arc;

use tracer_daemon::addr::{Avma, LoadBias};
use tracer_daemon::inspect::source::{ByteSource, STRING_BYTES_MAX};
use tracer_daemon::inspect::{InspectError, inspect_source, inspect_source_within};
use tracer_daemon::plan::{ProbePlan, RefusalReason};
use tracer_daemon::symbolize::Symbolizer;

use crate::fuzz_targets::image::{Built, Function, GoImage, address};
use crate::fuzz_targets::mutation::Counted;

const GIB: u64 = 1 << 30;
/// Here instead of `INSPECTION_COST_MAX`, for the sake of builds without optimisation. The good programs need 1 MiB.
const COST_MAX: u64 = 16 << 20;

/// A file of these bytes, then zeros up to a size: on disk it takes no more than the bytes.
struct Sparse {
    built: Built,
    size_bytes: u64,
}

/// A good program whose data segment reaches to the end of such a file.
fn sparse(size_bytes: u64) -> Sparse {
    let mut image = GoImage::usual(26);
    image.sections = false;
    let mut file = Sparse { built: image.build(), size_bytes };
    file.stretch(2);
    file
}

impl Sparse {
    /// Makes a segment reach to the end of the file.
    fn stretch(&mut self, segment: usize) {
        let header = 64 + 56 * segment;
        let start = u64::from_le_bytes(self.built.bytes[header + 8..header + 16].try_into().unwrap());
        let size = (self.size_bytes - start).to_le_bytes();
        self.built.patch(header + 32, &[size, size].concat());
    }
}

/// Its function table is nowhere: every segment is searched.
fn without_a_table() -> Sparse {
    let mut file = sparse(10 * GIB);
    let table = file.built.part("function table").start;
    file.built.patch(table, &[0; 8]);
    file
}

/// Nothing points at the function table: all that is writable is searched.
fn without_module_data() -> Sparse {
    let mut file = sparse(10 * GIB);
    let module = file.built.part("module data").start;
    file.built.patch(module, &[0; 16]);
    file
}

/// 500 program headers name the same 10 GiB.
fn with_many_overlapping_segments() -> Sparse {
    let mut file = without_a_table();
    // Behind everything else, where there is room for them.
    let header = file.built.bytes[64 + 56..64 + 2 * 56].to_vec();
    let data = file.built.bytes[64 + 2 * 56..64 + 3 * 56].to_vec();
    let at = file.built.bytes.len().next_multiple_of(64);
    file.built.bytes.resize(at, 0);
    file.built.bytes.extend(data);
    file.built.bytes.extend(header.repeat(500));
    file.built.patch(32, &(at as u64).to_le_bytes());
    file.built.patch(56, &501_u16.to_le_bytes());
    file
}

/// 2^23 functions whose index and records are zeros.
fn with_all_functions_that_are_accepted() -> Sparse {
    let mut file = sparse(10 * GIB);
    file.stretch(1);
    let table = file.built.part("function table").start;
    file.built.patch(table + 8, &(1_u64 << 23).to_le_bytes());
    file.built.patch(table + 64, &(1_u64 << 20).to_le_bytes());
    file
}

/// Inline trees without end.
fn with_inline_trees_everywhere() -> Sparse {
    let mut file = sparse(10 * GIB);
    file.stretch(1);
    file
}

/// Relocations without end.
fn with_relocations_everywhere() -> Sparse {
    let mut image = GoImage::usual(26);
    image.position_independent = true;
    let mut built = image.build();
    let dynamic = built.part("dynamic").start;
    built.patch(dynamic + 24, &(10 * GIB).to_le_bytes());
    Sparse { built, size_bytes: 20 * GIB }
}

/// As many notes as there may be, each of 10 GiB.
fn with_notes_everywhere() -> Sparse {
    let mut file = sparse(10 * GIB);
    let note = 64 + 3 * 56;
    let (kept, mut header) = (file.built.bytes[64..note].to_vec(), file.built.bytes[note..note + 56].to_vec());
    let at = file.built.bytes.len().next_multiple_of(64);
    header[8..16].copy_from_slice(&(at as u64 + 64 * 1024).to_le_bytes());
    header[32..40].copy_from_slice(&(5 * GIB).to_le_bytes());
    file.built.bytes.resize(at, 0);
    file.built.bytes.extend(kept);
    file.built.bytes.extend(header.repeat(509));
    file.built.patch(32, &(at as u64).to_le_bytes());
    file.built.patch(56, &512_u16.to_le_bytes());
    file
}

/// Each with what the refusal must say; none: it is inspected.
fn hostile_files() -> Vec<(&'static str, Sparse, Option<&'static str>)> {
    let costly = Some("exceeds what inspecting one binary may cost");
    vec![
        ("sparse, 200 MiB", sparse(200 << 20), None),
        ("sparse, 10 GiB", sparse(10 * GIB), None),
        ("no table", without_a_table(), costly),
        ("no module data", without_module_data(), costly),
        ("overlapping segments", with_many_overlapping_segments(), costly),
        ("8 million functions", with_all_functions_that_are_accepted(), costly),
        ("inline trees", with_inline_trees_everywhere(), costly),
        ("relocations", with_relocations_everywhere(), costly),
        ("notes", with_notes_everywhere(), costly),
    ]
}

/// Headers that claim more of something than there can be, each with what is said of it.
fn hostile_headers() -> Vec<(&'static str, Built, Option<&'static str>)> {
    let with = |changes: &[(usize, &[u8])]| {
        let mut built = GoImage::usual(26).build();
        for (at, bytes) in changes {
            built.patch(*at, bytes);
        }
        built
    };
    let good = GoImage::usual(26).build();
    let sections = good.part("section headers").start;
    let names = sections + 64 * 8;
    vec![
        ("65,535 sections", with(&[(60, &[0xff, 0xff])]), Some("ELF section headers: count")),
        // The count stands in the first section header: 65,536.
        ("2^16 sections", with(&[(60, &[0, 0]), (sections + 32, &[0, 0, 1, 0])]), None),
        ("16,384 sections", with(&[(60, &[0, 0x40])]), Some("ELF section headers")),
        ("65,535 segments", with(&[(56, &[0xff, 0xff])]), Some("ELF program headers: count")),
        ("sections far away", with(&[(40, &[0xff; 7])]), Some("ELF section headers")),
        ("section names without end", with(&[(names + 32, &[0xff; 8])]), Some("ELF section names")),
    ]
}

/// DWARF of a version that only its DWARF could tell about, as large as is read of it: one unit of the runtime, and as many
/// abbreviations as fit.
fn with_much_dwarf() -> Built {
    let mut image = GoImage::usual(28);
    let mut unit = (32_u32 << 20).to_le_bytes().to_vec();
    // DWARF 5, a compile unit, addresses of 8 bytes; its first entry is `runtime`, then come ends of lists.
    unit.extend([5, 0, 1, 8, 0, 0, 0, 0, 1]);
    unit.extend(b"runtime\0");
    unit.resize((32 << 20) + 4, 0);
    // The first is of a unit, whose name is a string; the others have no attributes.
    let mut abbreviations = vec![1, 0x11, 1, 0x03, 0x08, 0, 0];
    for code in 2_u32.. {
        let [a, b, c, _] = code.to_le_bytes();
        let (low, middle, high) = (a | 0x80, (a >> 7) | (b << 1) | 0x80, (b >> 6) | (c << 2));
        abbreviations.extend([low, middle, high & 0x7f, 0x24, 0, 0, 0]);
        if abbreviations.len() > (1 << 20) - 16 {
            break;
        }
    }
    abbreviations.push(0);
    image.more = vec![(".debug_info", 0, unit), (".debug_abbrev", 0, abbreviations)];
    image.build()
}

fn inspected(built: &Built, size_bytes: u64) -> (Result<(), InspectError>, u64) {
    let zeros = size_bytes.saturating_sub(built.bytes.len() as u64);
    let source = Counted::new(built.bytes.clone(), zeros);
    let outcome = inspect_source_within(Box::new(source.clone()), COST_MAX).map(drop);
    (outcome, source.read_bytes())
}

fn check(name: &str, said: Option<&str>, expected: Option<&str>) {
    match (said, expected) {
        (None, None) => {}
        (Some(said), Some(expected)) => assert!(said.contains(expected), "{name}: {said}"),
        _ => panic!("{name}: {said:?}, expected {expected:?}"),
    }
}

#[test]
fn a_hostile_file_costs_no_more_to_inspect_than_the_bound() {
    for (name, file, expected) in hostile_files() {
        let (outcome, read_bytes) = inspected(&file.built, file.size_bytes);
        assert!(read_bytes <= COST_MAX, "{name}: {read_bytes} bytes read");
        check(name, outcome.err().map(|error| error.to_string()).as_deref(), expected);
    }
    for (name, built, expected) in hostile_headers() {
        let (outcome, read_bytes) = inspected(&built, 0);
        assert!(read_bytes <= 1 << 20, "{name}: {read_bytes} bytes read");
        check(name, outcome.err().map(|error| error.to_string()).as_deref(), expected);
    }
}

/// A function table whose records lie all over the file, so that each costs a read of its own.
#[derive(Debug)]
struct Scattered {
    under: Counted,
    /// The index of functions in the file.
    index: u64,
}

impl ByteSource for Scattered {
    fn len(&self) -> u64 {
        self.under.len()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.under.read_at(offset, into)?;
        for (at, byte) in (offset..).zip(into) {
            let Some(within) = at.checked_sub(self.index).filter(|within| *within < 1 << 26) else { continue };
            let number = u32::try_from(within / 8).unwrap_or(0);
            // Every function begins a byte behind the one before it, and has its record anywhere.
            let word = if within & 4 == 0 { number } else { number.wrapping_mul(0x9e37_79b1) };
            *byte = word.to_le_bytes()[usize::try_from(within % 4).unwrap_or(0)];
        }
        Ok(())
    }
}

#[test]
fn a_function_table_that_points_all_over_a_sparse_file_is_too_costly() {
    let file = with_all_functions_that_are_accepted();
    let index = file.built.part("function table").start as u64 + (1 << 20);
    let counted = Counted::new(file.built.bytes.clone(), file.size_bytes - file.built.bytes.len() as u64);
    let error = inspect_source_within(Box::new(Scattered { under: counted.clone(), index }), COST_MAX).unwrap_err();
    assert!(matches!(error, InspectError::TooCostly { structure: "go function table", .. }), "{error}");
    assert!(counted.read_bytes() <= COST_MAX);
}

#[test]
fn a_name_without_end_is_refused_after_its_bound() {
    let mut image = GoImage::usual(26);
    image.functions[7].name = format!("runtime.mallocgc{}", "x".repeat(100_000));
    let source = Counted::new(image.build().bytes, 0);
    let facts = inspect_source(Box::new(source.clone())).unwrap();
    assert!(facts.functions.keys().all(|name| name.len() <= STRING_BYTES_MAX));
    let function = facts.functions_table.function(7).unwrap().unwrap();
    let error = facts.functions_table.name(&function).unwrap_err().to_string();
    assert!(error.contains("length of a string"), "{error}");
    assert!(source.read_bytes() <= 1 << 20, "{}", source.read_bytes());
}

#[test]
fn a_function_that_is_inlined_everywhere_is_named_with_some_of_its_owners() {
    let mut image = GoImage::usual(26);
    for number in 0..200 {
        let mut function = Function::usual(&format!("main.owner{number}"));
        function.inlined[0].name = "runtime.mallocgc".to_owned();
        image.functions.push(function);
    }
    let facts = inspect_source(Box::new(image.build().bytes)).unwrap();
    assert_eq!(facts.inlined["runtime.mallocgc"].len(), 4);
    assert_eq!(facts.inlined["runtime.mallocgc"][0], "main.owner0");
    let plan = ProbePlan::exact(&facts);
    assert!(!plan.counts_allocations && plan.refused[0].reason == RefusalReason::FunctionInlined, "{plan:?}");
}

#[test]
fn inlined_calls_that_call_each_other_end() {
    let mut image = GoImage::usual(26);
    // Of the function's 64 bytes, bytes 16 to 31 belong to call 0 and bytes 32 to 47 to call 1.
    image.functions[7].inlined[0].parent = 40;
    image.functions[7].inlined[1].parent = 20;
    let built = image.build();
    let code = address(built.part("text").start) + 7 * 64;
    let facts = inspect_source(Box::new(built.bytes)).unwrap();
    let mut symbolizer = Symbolizer::new(Arc::new(facts), LoadBias(0));
    let frames = symbolizer.stack(&[Avma(code + 20)]);
    let names: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
    assert_eq!(names, ["main.main.outer", "main.main.inner[...]", "main.main"]);
    assert_eq!((&*frames[2].file, frames[2].line), ("", 0), "the line of the call is lost");
}

/// Memory beside what any run of `leakline plan` needs.
const SPARE_KIB: u64 = 64 * 1024;

/// Runs `leakline plan` with so much address space; exit status and stderr.
fn plan_within(address_space_kib: u64, file: &str) -> (Option<i32>, String) {
    let script = format!("ulimit -v {address_space_kib} && exec \"$0\" plan \"$1\"");
    let output = Command::new("sh").args(["-c", &script, env!("CARGO_BIN_EXE_leakline"), file]).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The smallest address space in which a small good program is planned, KiB, within 1 MiB.
fn address_space_of_a_plan(file: &str) -> u64 {
    let (mut too_small, mut enough) = (0, 4 * 1024 * 1024);
    while enough - too_small > 1024 {
        let middle = u64::midpoint(too_small, enough);
        if plan_within(middle, file).0 == Some(0) { enough = middle } else { too_small = middle }
    }
    enough
}

#[test]
fn a_hostile_file_is_inspected_within_64_mib() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8], size_bytes: u64| {
        let path = folder.path().join(name.replace(' ', "-"));
        let mut file = File::create(&path).unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(size_bytes.max(bytes.len() as u64)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good", &GoImage::usual(26).build().bytes, 0);
    let needed_kib = address_space_of_a_plan(&good);
    assert!(needed_kib > 4096, "the limit limits nothing");
    let check_within = |name: &str, path: &str, expected: Option<&str>| {
        let (status, said) = plan_within(needed_kib + SPARE_KIB, path);
        // 1: something is broken; 3: refused. Not the end by a signal that a failed allocation brings.
        assert!(if expected.is_some() { matches!(status, Some(1 | 3)) } else { status == Some(0) }, "{name}: {said}");
        check(name, expected.map(|_| said.as_str()), expected);
        fs::remove_file(path).unwrap();
    };
    // Of those that cost much one is enough here.
    let costly = ["no table", "no module data", "overlapping segments", "inline trees", "relocations", "notes"];
    for (name, file, expected) in hostile_files().into_iter().filter(|(name, ..)| !costly.contains(name)) {
        check_within(name, &write(name, &file.built.bytes, file.size_bytes), expected);
    }
    let said = Some("its own DWARF does not tell its layout");
    check_within("DWARF", &write("DWARF", &with_much_dwarf().bytes, 0), said);
    for (name, built, expected) in hostile_headers() {
        check_within(name, &write(name, &built.bytes, 0), expected);
    }
}
