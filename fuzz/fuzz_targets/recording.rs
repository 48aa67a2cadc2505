//! The target `recording` under libFuzzer; its body is in `src/recording.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("recording", bytes));
