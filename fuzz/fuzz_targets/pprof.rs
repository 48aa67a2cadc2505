//! The target `pprof` under libFuzzer; its body is in `src/pprof.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("pprof", bytes));
