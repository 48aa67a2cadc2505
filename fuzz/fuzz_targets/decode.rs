//! The target `decode` under libFuzzer; its body is in `src/decode.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("decode", bytes));
