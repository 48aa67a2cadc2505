//! The target `ring_record` under libFuzzer; its body is in `src/ring_record.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("ring_record", bytes));
