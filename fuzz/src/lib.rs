//! The bodies of the fuzz targets: bytes in, a panic where a law is broken.
//!
//! Two run them: `fuzz_targets/` under libFuzzer (`cargo xtask fuzz`), and `tracer-daemon/tests/it/fuzz.rs`, which replays
//! `corpus/` and some random inputs on any toolchain. To add a target: its file here, its lines in this one, three lines in
//! `fuzz_targets/`, its `[[bin]]` in `Cargo.toml`; a test says what was forgotten.

pub mod image;
pub mod mutation;

mod build_info;
mod decode;
mod dwarf;
mod elf;
mod elf_and_facts;
mod function_table;
mod globals;
mod names;
mod native;
mod notes_and_relocations;
mod pprof;
mod recording;
mod ring_record;
mod symbolize;

/// Runs one input.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("build_info", build_info::run),
    ("decode", decode::run),
    ("dwarf", dwarf::run),
    ("elf_and_facts", elf_and_facts::run),
    ("function_table", function_table::run),
    ("globals", globals::run),
    ("names", names::run),
    ("native", native::run),
    ("notes_and_relocations", notes_and_relocations::run),
    ("pprof", pprof::run),
    ("recording", recording::run),
    ("ring_record", ring_record::run),
    ("symbolize", symbolize::run),
];

/// The target of this name.
///
/// # Panics
/// Where there is none.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| target);
    target.unwrap_or_else(|| panic!("no target {name}"))(bytes);
}

/// An input of this type, taken from all bytes; `None` where they are too few.
fn input<'bytes, Input: arbitrary::Arbitrary<'bytes>>(bytes: &'bytes [u8]) -> Option<Input> {
    Input::arbitrary_take_rest(arbitrary::Unstructured::new(bytes)).ok()
}
