//! The fuzz targets on any toolchain, in seconds: every input that was kept, and some random ones. What libFuzzer runs is
//! `cargo xtask fuzz`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::fuzz_targets::TARGETS;

/// Random inputs for each target.
const RANDOM_INPUTS: u32 = 300;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn fuzz_targets_are_listed_everywhere_and_have_a_corpus() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&folder().join("fuzz_targets")), known);
    assert_eq!(names_in(&folder().join("corpus")), known);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    let programs =
        manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));
    assert_eq!(programs.map(str::to_owned).collect::<BTreeSet<_>>(), known);
}

#[test]
fn every_input_of_the_fuzz_corpus_keeps_the_laws() {
    for (name, run) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(folder().join("corpus").join(name)).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            // Seen only where it fails.
            println!("{}", path.display());
            run(&bytes);
            count += 1;
        }
        assert!(count > 0, "{name} has no inputs");
    }
}

#[test]
fn random_inputs_of_the_fuzz_targets_keep_the_laws() {
    for (name, run) in TARGETS {
        let config = ProptestConfig { cases: RANDOM_INPUTS, failure_persistence: None, ..ProptestConfig::default() };
        let outcome = TestRunner::new(config).run(&vec(any::<u8>(), 0..2000), |bytes| {
            run(&bytes);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
