//! The target `elf_and_facts` under libFuzzer; its body is in `src/elf_and_facts.rs`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leakline_fuzz::run("elf_and_facts", bytes));
