//! The target `build_info` under libFuzzer; its body is in `src/build_info.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("build_info", bytes));
