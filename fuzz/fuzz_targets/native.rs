//! The target `native` under libFuzzer; its body is in `src/native.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("native", bytes));
