//! Facts of real binaries, refusals of what is none, and no panic on any bytes.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use expect_test::{Expect, expect};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tracer_daemon::addr::{Avma, LoadBias, Svma};
use tracer_daemon::inspect::{BinaryFacts, FoundBy, Global, InspectError, StepBudget, inspect_file, inspect_source};
use tracer_daemon::plan::{ProbePlan, RefusalReason};
use tracer_daemon::symbolize::{STACK_FRAMES_MAX, STACK_PCS_MAX, Symbolizer, UNKNOWN_FUNCTION};

use crate::go::{Build, build};

const PROGRAM: &str = "callersframes";

fn inspected(path: &Path) -> BinaryFacts {
    inspect_file(File::open(path).unwrap()).unwrap()
}

fn refused(bytes: Vec<u8>) -> InspectError {
    inspect_source(Box::new(bytes)).unwrap_err()
}

/// A small binary to mutate: stripped, as those are what we mostly meet.
static BINARY: LazyLock<Vec<u8>> = LazyLock::new(|| fs::read(build(PROGRAM, "go1.26.6", &["-ldflags=-s -w"])).unwrap());
static FACTS: LazyLock<BinaryFacts> = LazyLock::new(|| inspect_source(Box::new(BINARY.clone())).unwrap());

/// What does not depend on addresses, file paths and patch releases.
fn summary(facts: &BinaryFacts) -> String {
    let names: Vec<&str> = facts.functions.keys().filter_map(|name| name.strip_prefix("runtime.")).collect();
    let layout = facts.layout;
    format!(
        "{} minor {} patch {:?}, module {:?}, path {:?}\n\
         stripped {}, position independent {}, cgo {}, goid {}, gopc {}, header {}\n{}\n",
        facts.go_version.text,
        facts.go_version.minor,
        facts.go_version.patch,
        facts.main_module,
        facts.package_path,
        facts.stripped,
        facts.position_independent,
        facts.cgo,
        layout.g.goid,
        layout.g.gopc,
        layout.malloc_header_bytes(),
        names.join(" ")
    )
}

fn check(toolchain: &str, flags: &[&str], expected: &Expect) {
    expected.assert_eq(&summary(&inspected(&build(PROGRAM, toolchain, flags))));
}

#[test]
fn facts_are_read_from_every_version() {
    check(
        "go1.22.12",
        &[],
        &expect![[r#"
            go1.22.12 minor 22 patch Some(12), module Some("example.com/callersframes"), path Some("example.com/callersframes")
            stripped false, position independent false, cgo false, goid 152, gopc 280, header 8
            (*mcache).allocLarge (*mcache).nextFree (*mspan).nextFreeIndex freeSpecial gcMarkTermination gcSweep gdestroy goexit0 mallocgc newproc.func1 newproc1 profilealloc runqput
        "#]],
    );
    check(
        "go1.23.12",
        &[],
        &expect![[r#"
            go1.23.12 minor 23 patch Some(12), module Some("example.com/callersframes"), path Some("example.com/callersframes")
            stripped false, position independent false, cgo false, goid 160, gopc 288, header 8
            (*mcache).allocLarge (*mcache).nextFree (*mspan).nextFreeIndex freeSpecial gcMarkTermination gcSweep gdestroy goexit0 mallocgc newproc.func1 newproc1 profilealloc runqput
        "#]],
    );
    check(
        "go1.24.11",
        &["-buildmode=pie"],
        &expect![[r#"
            go1.24.11 minor 24 patch Some(11), module Some("example.com/callersframes"), path Some("example.com/callersframes")
            stripped false, position independent true, cgo false, goid 160, gopc 288, header 8
            (*mcache).allocLarge (*mcache).nextFree (*mspan).nextFreeIndex freeSpecial gcMarkTermination gcSweep gdestroy goexit0 mallocgc mallocgcLarge mallocgcSmallNoscan mallocgcSmallScanHeader mallocgcSmallScanNoHeader mallocgcTiny newproc.func1 newproc1 profilealloc runqput
        "#]],
    );
    check(
        "go1.25.5",
        &["-ldflags=-s -w"],
        &expect![[r#"
            go1.25.5 minor 25 patch Some(5), module Some("example.com/callersframes"), path Some("example.com/callersframes")
            stripped true, position independent false, cgo false, goid 152, gopc 280, header 8
            (*mcache).allocLarge (*mcache).nextFree (*mspan).nextFreeIndex freeSpecial gcMarkTermination gcSweep gdestroy goexit0 mallocgc mallocgcLarge mallocgcSmallNoscan mallocgcSmallScanHeader mallocgcSmallScanNoHeader mallocgcTiny newproc.func1 newproc1 profilealloc runqput
        "#]],
    );
    check(
        "go1.26.6",
        &[],
        &expect![[r#"
            go1.26.6 minor 26 patch Some(6), module Some("example.com/callersframes"), path Some("example.com/callersframes")
            stripped false, position independent false, cgo false, goid 152, gopc 288, header 8
            (*mcache).allocLarge (*mcache).nextFree (*mspan).nextFreeIndex freeSpecial gcMarkTermination gcSweep gdestroy goexit0 mallocgc mallocgcLarge mallocgcSmallNoscan mallocgcSmallScanHeader mallocgcSmallScanNoHeader mallocgcTiny newproc.func1 newproc1 profilealloc runqput
        "#]],
    );
    check(
        "go1.27.3",
        &["-ldflags=-s -w", "-trimpath"],
        &expect![[r#"
            go1.27.3 minor 27 patch Some(3), module Some("example.com/callersframes"), path Some("example.com/callersframes")
            stripped true, position independent false, cgo false, goid 152, gopc 288, header 8
            (*mcache).allocLarge (*mcache).nextFree (*mspan).nextFreeIndex freeSpecial gcMarkTermination gcSweep gdestroy goexit0 mallocgc mallocgcLarge mallocgcSmallNoScanSC2 mallocgcSmallNoScanSC3 mallocgcSmallNoScanSC4 mallocgcSmallNoScanSC5 mallocgcSmallNoScanSC6 mallocgcSmallNoScanSC7 mallocgcSmallNoScanSlowPath mallocgcSmallNoscan mallocgcSmallScanHeader mallocgcSmallScanNoHeader mallocgcSmallScanNoHeaderSC1 mallocgcSmallScanNoHeaderSC2 mallocgcSmallScanNoHeaderSC3 mallocgcSmallScanNoHeaderSC4 mallocgcSmallScanNoHeaderSC5 mallocgcSmallScanNoHeaderSC6 mallocgcSmallScanNoHeaderSC7 mallocgcSmallScanSlowPath mallocgcTinySC2 mallocgcTinySlowPath newproc.func1 newproc1 profilealloc runqput
        "#]],
    );
}

#[test]
fn stripping_changes_no_fact_but_one() {
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let (whole, bare) = (build(PROGRAM, toolchain, &[]), build(PROGRAM, toolchain, &["-ldflags=-s -w"]));
        let (whole, bare) = (inspected(&whole), inspected(&bare));
        assert!(!whole.stripped && bare.stripped);
        assert_eq!(whole.functions_table.len(), bare.functions_table.len());
        assert!(whole.functions.keys().eq(bare.functions.keys()));
    }
}

#[test]
fn code_is_that_of_the_file() {
    let facts = &*FACTS;
    let [malloc] = facts.functions["runtime.mallocgc"].as_slice() else { panic!("one mallocgc") };
    let start = usize::try_from(malloc.file_offset.0).unwrap();
    assert_eq!(malloc.bytes, BINARY[start..start + malloc.bytes.len()]);
    assert_eq!(malloc.bytes.len() as u64, malloc.end.0 - malloc.start.0);
    assert_eq!(facts.file_offset(malloc.start), Some(malloc.file_offset));
    assert_eq!(
        facts.functions_table.name(&facts.functions_table.function_at(malloc.start).unwrap().unwrap()).unwrap(),
        malloc.name
    );
    assert!(facts.functions["runtime.runqput"][0].bytes.is_empty(), "only its place is wanted");
}

#[test]
fn cgo_is_seen() {
    let environment = &[("CGO_ENABLED", "1")];
    let flags = &["-ldflags=-linkmode=external"];
    let facts = inspected(&Build { program: PROGRAM, toolchain: "go1.26.6", flags, environment }.path());
    assert!(facts.settings.contains(&("CGO_ENABLED".to_owned(), "1".to_owned())), "{:?}", facts.settings);
    assert!(facts.cgo);
    assert!(!FACTS.cgo);
    assert!(facts.build_id.is_some_and(|id| id.bytes().all(|digit| digit.is_ascii_hexdigit())));
}

#[test]
fn what_is_no_supported_go_program_is_refused_for_what_it_is() {
    assert!(matches!(refused(Vec::new()), InspectError::NotElf));
    assert!(matches!(refused(b"#!/bin/sh\n".repeat(100)), InspectError::NotElf));
    let own = inspect_file(File::open(std::env::current_exe().unwrap()).unwrap()).unwrap_err();
    assert!(matches!(own, InspectError::NotGo), "{own:?}");

    let mut class32 = BINARY.clone();
    class32[4] = 1;
    assert!(matches!(refused(class32), InspectError::Elf32));

    let mut arm64 = BINARY.clone();
    arm64[18..20].copy_from_slice(&183_u16.to_le_bytes());
    assert_eq!(refused(arm64).to_string(), "built for arm64, and only amd64 is supported");

    let with_version = |version: &[u8; 8]| {
        let mut bytes = BINARY.clone();
        let start = bytes.windows(14).position(|window| window == b"\xff Go buildinf:").unwrap() + 33;
        assert_eq!(&bytes[start..start + 8], b"go1.26.6");
        bytes[start..start + 8].copy_from_slice(version);
        refused(bytes).to_string()
    };
    assert_eq!(with_version(b"go1.18.9"), "built by go1.18.9, and only go1.19 to go1.27 are supported");
    assert_eq!(with_version(b"go1.28.0"), "built by go1.28.0, and only go1.19 to go1.27 are supported");
    assert_eq!(
        with_version(b"tip-----"),
        "a Go program without a readable version (found \"tip-----\"); it may be obfuscated or packed"
    );
}

#[test]
fn binary_without_section_headers_is_read_through_its_segments() {
    let mut bytes = BINARY.clone();
    // e_shoff, and e_shnum with e_shstrndx.
    bytes[40..48].fill(0);
    bytes[60..64].fill(0);
    let facts = inspect_source(Box::new(bytes)).unwrap();
    assert!(facts.functions.keys().eq(FACTS.functions.keys()));
}

#[test]
fn cut_files_are_errors() {
    let length = BINARY.len();
    for part in 0..100 {
        let error = refused(BINARY[..length * part / 200].to_vec());
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn addresses_outside_of_go_are_one_unknown_frame() {
    let facts = Arc::new(FACTS.clone());
    let main = Avma(facts.functions["runtime.mallocgc"][0].start.0);
    let mut symbolizer = Symbolizer::new(facts, LoadBias(0));
    let frames = symbolizer.stack(&[Avma(3), Avma(u64::MAX), main, Avma(0)]);
    let names: Vec<&str> = frames.iter().map(|frame| &*frame.function).collect();
    assert_eq!(names, [UNKNOWN_FUNCTION, "runtime.mallocgc", UNKNOWN_FUNCTION]);
    assert!(frames[0].file.is_empty() && frames[0].line == 0);
    assert_eq!(symbolizer.counts().outside, 3);
    assert!(symbolizer.stack(&[]).is_empty());
    let long = symbolizer.stack(&vec![main; STACK_PCS_MAX + 1]);
    assert!(long.len() >= STACK_PCS_MAX && long.len() <= STACK_FRAMES_MAX);
    assert_eq!(symbolizer.counts().cut, 1);
}

#[test]
fn inline_tree_that_leads_back_to_itself_ends_in_the_function() {
    let table = &FACTS.functions_table;
    // A function whose code at `pc` is inlined, and where the record of that call is in the file.
    let found = (0..table.len()).find_map(|index| {
        let function = table.function(index).unwrap().unwrap();
        let pcs = (function.start.0..function.end.0).map(Svma);
        let (pc, call) = pcs.clone().find_map(|pc| {
            Some((pc, table.inlined_call_at(&function, pc, &mut StepBudget::of_one_address()).unwrap()?))
        })?;
        let parent = u32::try_from(call.parent.0 - function.start.0).unwrap().to_le_bytes();
        let pattern = [parent, call.start_line.to_le_bytes()].concat();
        let mut places = BINARY.windows(8).enumerate().filter(|(_, bytes)| *bytes == pattern).map(|(place, _)| place);
        let (place, None) = (places.next()?, places.next()) else { return None };
        Some((function, pc, call, place))
    });
    let (function, pc, call, place) = found.unwrap();
    let mut bytes = BINARY.clone();
    bytes[place..place + 4].copy_from_slice(&u32::try_from(pc.0 - function.start.0).unwrap().to_le_bytes());
    let facts = inspect_source(Box::new(bytes)).unwrap();
    let mut symbolizer = Symbolizer::new(Arc::new(facts), LoadBias(0));
    let frames = symbolizer.stack(&[Avma(pc.0)]);
    let inlined = table.function_name(call.name()).unwrap();
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!((&*frames[0].function, frames[0].inlined), (inlined.as_str(), true));
    assert_eq!(*frames[1].function, *table.name(&function).unwrap());
    assert_eq!((&*frames[1].file, frames[1].line), ("", 0), "the line of the call is lost");
    assert_eq!(symbolizer.counts().unreadable, 0);
}

/// Inspects, and symbolizes what can be: only panics are failures.
fn exercise(bytes: Vec<u8>) {
    let Ok(facts) = inspect_source(Box::new(bytes)) else { return };
    let facts = Arc::new(facts);
    let starts = (0..facts.functions_table.len()).step_by(97);
    let pcs: Vec<Avma> = starts
        .filter_map(|index| facts.functions_table.function(index).ok().flatten())
        .flat_map(|function| [5, 70].map(|offset| Avma(function.start.0.wrapping_add(offset))))
        .collect();
    let mut symbolizer = Symbolizer::new(facts, LoadBias(0));
    symbolizer.stack(&pcs);
}

/// Where the numbers are that the parsers believe: headers, build info, module data, and the parts of the function table.
fn interesting() -> Vec<usize> {
    let bytes = &*BINARY;
    let find = |pattern: &[u8]| bytes.windows(pattern.len()).position(|window| window == pattern).unwrap();
    let table = find(b"\xf1\xff\xff\xff\x00\x00\x01\x08");
    let part = |at: usize| {
        let word = u64::from_le_bytes(bytes[table + at..table + at + 8].try_into().unwrap());
        table + usize::try_from(word).unwrap()
    };
    let section_headers = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    let mut places = vec![0, 64, section_headers, find(b"\xff Go buildinf:"), table];
    places.extend([32, 40, 48, 56, 64].map(part));
    // The records behind the index, and what follows the build info: the module data.
    let functions = usize::try_from(FACTS.functions_table.len()).unwrap();
    places.extend([part(64) + functions * 8, find(b"\xff Go buildinf:") + 0x300]);
    places
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..2000), like_elf: bool) {
        if like_elf && bytes.len() >= 64 {
            bytes[..20].copy_from_slice(&BINARY[..20]);
            // So that the tables are inside.
            for offset in [32, 40] {
                bytes[offset + 1..offset + 8].fill(0);
            }
            bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
            bytes[57] = 0;
            bytes[58..60].copy_from_slice(&64_u16.to_le_bytes());
            bytes[61] = 0;
        }
        exercise(bytes);
    }

    #[test]
    fn mutated_binaries_never_panic(
        changes in vec((any::<Index>(), 0..400_usize, any::<[u8; 4]>(), 1..=4_usize), 1..6),
        cut in proptest::option::weighted(0.1, any::<Index>()),
    ) {
        let places = interesting();
        let mut bytes = BINARY.clone();
        for (place, offset, new, count) in changes {
            let start = place.get(&places) + offset;
            let end = (start + count).min(bytes.len());
            if start < end {
                bytes[start..end].copy_from_slice(&new[..end - start]);
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(bytes);
    }
}

#[test]
fn variables_are_found_by_dwarf_where_only_the_symbol_table_is_gone() {
    // DWARF 4 and 5.
    for toolchain in ["go1.22.12", "go1.27.3"] {
        let path = build(PROGRAM, toolchain, &[]);
        let whole = inspected(&path);
        let mut bytes = fs::read(&path).unwrap();
        let table = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
        let count = usize::from(u16::from_le_bytes(bytes[60..62].try_into().unwrap()));
        for kind in (0..count).map(|section| table + 64 * section + 4) {
            // SHT_SYMTAB
            if bytes[kind] == 2 {
                bytes[kind] = 0;
            }
        }
        let bare = inspect_source(Box::new(bytes)).unwrap();
        assert!(bare.stripped);
        for (global, found) in bare.globals.iter() {
            let found = found.as_ref().unwrap();
            assert_eq!(found.address, whole.globals.get(global).unwrap().address, "{}", global.name());
            if global != Global::FirstModuleData {
                assert_eq!(found.found_by, FoundBy::Dwarf, "{}", global.name());
            }
        }
    }
}

#[test]
fn counting_is_refused_where_the_sanitizer_makes_objects_larger() {
    let flags = &["-asan"];
    let facts = inspected(
        &Build { program: PROGRAM, toolchain: "go1.26.6", flags, environment: &[("CGO_ENABLED", "1")] }.path(),
    );
    let plan = ProbePlan::exact(&facts);
    assert!(!plan.counts_allocations && plan.counts_goroutines);
    let reasons: Vec<RefusalReason> = plan.refused.iter().map(|refusal| refusal.reason).collect();
    assert_eq!(reasons, [RefusalReason::RedZones]);
}

#[test]
fn counting_goroutines_is_refused_where_a_test_makes_its_own() {
    let build = Build { program: "synctest", toolchain: "go1.27.3", flags: &[], environment: &[("CGO_ENABLED", "0")] };
    let plan = ProbePlan::exact(&inspected(&build.path()));
    assert!(plan.counts_allocations && !plan.counts_goroutines);
    let reasons: Vec<RefusalReason> = plan.refused.iter().map(|refusal| refusal.reason).collect();
    assert_eq!(reasons, [RefusalReason::CreatorUnknown]);
}
