//! The target `globals` under libFuzzer; its body is in `src/globals.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("globals", bytes));
