//! The target `dwarf` under libFuzzer; its body is in `src/dwarf.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("dwarf", bytes));
