//! The target `function_table` under libFuzzer; its body is in `src/function_table.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("function_table", bytes));
