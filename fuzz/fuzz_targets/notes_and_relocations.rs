//! The target `notes_and_relocations` under libFuzzer; its body is in `src/notes_and_relocations.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("notes_and_relocations", bytes));
