//! The target `symbolize` under libFuzzer; its body is in `src/symbolize.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("symbolize", bytes));
