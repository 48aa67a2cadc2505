//! The target `names` under libFuzzer; its body is in `src/names.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("names", bytes));
