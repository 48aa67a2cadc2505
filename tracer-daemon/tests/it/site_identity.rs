//! One place in the source has one id, however and with whichever patch release of Go it is built; what an id depends on is written
//! in `docs/site-identity.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    go::{Build, WITH_PROFILE, build},
    leakline::leakline,
    target::Target,
};

const PROGRAM: &str = "siteidentity";
const SOURCE: &str = include_str!("../programs/siteidentity/main.go");
const REFERENCE: &str = "go1.26.6";
/// Sites that lie in the standard library, which changes from one minor version to the next.
const OF_STANDARD_LIBRARY: [&str; 3] = ["standard-library", "repeat", "buffer"];
/// Its name in the binary is `glob..func1` up to go1.21 and `init.func1` since.
const PACKAGE_CLOSURE: &str = "package-closure";
/// Of what is inlined go1.19 does not say where it begins: the id holds the line in the file instead.
const INLINED: &str = "inlined-helper";

/// The ids of each marked line.
type Ids = BTreeMap<String, BTreeSet<String>>;

/// Where each marker stands in a source.
fn markers(source: &str) -> BTreeMap<u64, String> {
    let lines = (1..).zip(source.lines());
    lines.filter_map(|(number, line)| Some((number, line.split_once("//site:")?.1.to_owned()))).collect()
}

/// What leakline calls the places of a running program.
fn ids(program: &Path, source: &str) -> Ids {
    let target = Target::start(program, &[]);
    let pid = target.pid().to_string();
    let output = leakline(&["attach", "--pid", &pid, "--duration", "1s", "--output", "json"]);
    assert!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let markers = markers(source);
    let mut ids: Ids = markers.values().map(|marker| (marker.clone(), BTreeSet::new())).collect();
    for (part, of_goroutines) in [(&document["sites"], false), (&document["goroutines"]["sites"], true)] {
        for site in part.as_array().unwrap() {
            let in_source = site["file"].as_str().is_some_and(|file| file.ends_with("/main.go"));
            let marker = site["line"].as_u64().and_then(|line| markers.get(&line));
            if let Some(marker) = marker.filter(|marker| in_source && marker.starts_with("go-") == of_goroutines) {
                let id = site["site"].as_str().unwrap();
                assert!(id.len() == 16 && id.bytes().all(|digit| b"0123456789abcdef".contains(&digit)), "{id}");
                ids.get_mut(marker).unwrap().insert(id.to_owned());
            }
        }
    }
    let unseen: Vec<_> = ids.iter().filter(|(_, ids)| ids.is_empty()).collect();
    assert!(unseen.is_empty(), "{}: {unseen:?}\n{:#}", program.display(), document["sites"]);
    ids
}

fn reference() -> Ids {
    ids(&build(PROGRAM, REFERENCE, &[]), SOURCE)
}

/// Markers whose ids are not the same.
fn differing<'a>(one: &'a Ids, other: &Ids) -> Vec<&'a str> {
    assert_eq!(one.len(), other.len());
    one.iter().filter(|(marker, ids)| other[*marker] != **ids).map(|(marker, _)| marker.as_str()).collect()
}

#[test]
fn places_have_ids_of_their_own() {
    let ids = reference();
    let mut all: Vec<&String> = ids.values().flatten().collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "{ids:#?}");
    println!("{} places, {count} ids", ids.len());
    // A helper inlined at two places, and a generic one with three types, is one place.
    for marker in ["inlined-helper", "inlined-generic", "generic"] {
        assert_eq!(ids[marker].len(), 1, "{marker}: {ids:#?}");
    }
}

#[test]
fn an_id_outlives_restarts_and_ways_to_build() {
    let first = reference();
    assert_eq!(reference(), first, "started again");
    for flags in [
        &["-trimpath"][..],
        &["-ldflags=-s -w"],
        &["-buildmode=pie"],
        &["-trimpath", "-buildmode=pie", "-ldflags=-s -w"],
        &["-gcflags=-l"],
        &[WITH_PROFILE],
    ] {
        assert_eq!(ids(&build(PROGRAM, REFERENCE, flags), SOURCE), first, "{flags:?}");
    }
    let with_c =
        Build { program: PROGRAM, toolchain: REFERENCE, flags: &["-race"], environment: &[("CGO_ENABLED", "1")] };
    assert_eq!(ids(&with_c.path(), SOURCE), first, "-race");
}

#[test]
fn an_id_outlives_patch_releases_of_go() {
    for (one, other) in [
        ("go1.19.1", "go1.19.13"),
        ("go1.20.1", "go1.20.14"),
        ("go1.21.1", "go1.21.13"),
        ("go1.22.1", "go1.22.12"),
        ("go1.23.1", "go1.23.12"),
        ("go1.24.1", "go1.24.11"),
        ("go1.25.0", "go1.25.5"),
        ("go1.26.0", "go1.26.6"),
        ("go1.27.0", "go1.27.3"),
    ] {
        let [one_ids, other_ids] = [one, other].map(|toolchain| ids(&build(PROGRAM, toolchain, &[]), SOURCE));
        assert_eq!(one_ids, other_ids, "{one} {other}");
    }
}

#[test]
fn an_id_of_ones_own_code_outlives_minor_releases_of_go() {
    let first = reference();
    for toolchain in
        ["go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.27.3"]
    {
        let of_this = ids(&build(PROGRAM, toolchain, &[]), SOURCE);
        let differing = differing(&of_this, &first);
        println!("{toolchain}: other ids than {REFERENCE} at {differing:?}");
        let before = |minor: u32| (19..minor).any(|old| toolchain.starts_with(&format!("go1.{old}.")));
        let may_differ = |marker: &str| {
            OF_STANDARD_LIBRARY.contains(&marker)
                || (marker == PACKAGE_CLOSURE && before(22))
                || (marker == INLINED && before(20))
        };
        let others: Vec<_> = differing.iter().filter(|marker| !may_differ(marker)).collect();
        assert!(others.is_empty(), "{toolchain}: {others:?}");
    }
}

/// The program with lines and functions put before each of its own, and what makes `go build` take it.
fn edited() -> (String, PathBuf) {
    let mut edited = String::new();
    let mut functions = 0;
    for line in SOURCE.lines() {
        if line.starts_with("func ") && functions < 40 {
            functions += 1;
            // In front of a comment or directive that belongs to the function there is nothing to be put.
            let is_alone = edited.ends_with("\n\n");
            if is_alone {
                writeln!(edited, "func added{functions}() int {{\n\treturn {functions}\n}}\n").unwrap();
            }
        }
        if line.starts_with("type ") || line.starts_with("//go:noinline") {
            edited.push_str("// A line more.\n\n");
        }
        edited.push_str(line);
        edited.push('\n');
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("siteidentity");
    fs::create_dir_all(&folder).unwrap();
    let (file, overlay) = (folder.join("main.go"), folder.join("overlay.json"));
    let original =
        Build { program: PROGRAM, toolchain: REFERENCE, flags: &[], environment: &[] }.folder().join("main.go");
    fs::write(&file, &edited).unwrap();
    fs::write(&overlay, serde_json::json!({ "Replace": { original.to_str().unwrap(): file } }).to_string()).unwrap();
    (edited, overlay)
}

#[test]
fn an_id_outlives_edits_elsewhere_in_the_file() {
    let (source, overlay) = edited();
    let moved: Vec<u64> =
        markers(&source).into_keys().zip(markers(SOURCE).into_keys()).map(|(now, then)| now - then).collect();
    assert!(moved.iter().all(|by| *by > 0), "{moved:?}");
    let flag = format!("-overlay={}", overlay.display());
    for toolchain in ["go1.19.13", "go1.20.14", REFERENCE, "go1.27.3"] {
        let before = ids(&build(PROGRAM, toolchain, &[]), SOURCE);
        let after = ids(&build(PROGRAM, toolchain, &[&flag]), &source);
        let differing = differing(&after, &before);
        if toolchain == "go1.19.13" {
            assert_eq!(differing, [INLINED], "what docs/site-identity.md says of go1.19");
        } else {
            assert_eq!(differing, [""; 0], "{toolchain}");
        }
    }
}

#[test]
fn another_line_of_the_function_is_another_place() {
    let lines = markers(SOURCE);
    let ids = reference();
    // Three places of one function.
    let of_function: BTreeSet<_> =
        ["map", "channel", "string", "append"].iter().flat_map(|marker| &ids[*marker]).collect();
    assert!(of_function.len() >= 4 && lines.len() == ids.len(), "{of_function:?}");
}
