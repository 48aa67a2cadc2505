//! The Go version of a program whose build info was removed: the string variable `runtime.buildVersion`, which
//! `runtime.Version` returns and the linker sets (`-X runtime.buildVersion=…`; runtime/extern.go, cmd/link/internal/ld/main.go).
//!
//! The variable is found by the code that uses it. `runtime.schedinit` of every version compares its length with 0 and
//! replaces an empty one (runtime/proc.go: "Condition should never trigger"), so it stands 8 bytes before a word that is
//! compared there with 0. What it holds must read as a Go version; where `runtime.Version` is linked too it must load the
//! same variable. Refuses (by finding nothing) where two variables fit, or where the two functions disagree.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

use super::InspectError;
use super::elf::{ElfImage, file_offset};
use super::function_table::{FunctionRecord, FunctionTable};
use super::version::{GoVersion, VERSION_BYTES_MAX, printable};
use crate::addr::Svma;

/// Uses the variable in all versions.
const USER: &str = "runtime.schedinit";
/// Returns the variable; linked only where something calls it and nothing inlined it.
const GETTER: &str = "runtime.Version";
/// Most bytes of code that are looked at; `schedinit` has about two thousand.
const CODE_BYTES_MAX: u64 = 16 * 1024;
/// Functions of one name that are looked at.
const SAME_NAME_MAX: usize = 4;
/// Most variables whose value is looked at.
const CANDIDATES_MAX: usize = 64;

/// `None` where the rules find no version, or more than one.
///
/// Only names and places of functions are asked of the table, which are the same in all versions of its format.
pub(crate) fn read(image: &ElfImage, table: &FunctionTable) -> Result<Option<String>, InspectError> {
    let (mut user_names, mut getter_names) = (BTreeSet::new(), BTreeSet::new());
    table.each_name(|offset, name| {
        if name == USER.as_bytes() {
            user_names.insert(offset);
        } else if name == GETTER.as_bytes() {
            getter_names.insert(offset);
        }
    })?;
    // A name can stand for two functions: one translates between calling conventions.
    let (mut users, mut getters) = (Vec::new(), Vec::new());
    for index in 0..table.len() {
        let Some(offset) = table.name_offset(index)? else { break };
        for (names, functions) in [(&user_names, &mut users), (&getter_names, &mut getters)] {
            if names.contains(&offset) && functions.len() < SAME_NAME_MAX {
                functions.extend(table.function(index)?);
            }
        }
    }
    let mut candidates = BTreeSet::new();
    for user in &users {
        candidates.extend(compared_lengths(&code(image, user)?, user.start));
    }
    if !getters.is_empty() {
        let mut loaded = BTreeSet::new();
        for getter in &getters {
            loaded.extend(loaded_words(&code(image, getter)?, getter.start));
        }
        candidates.retain(|variable| loaded.contains(&variable.0) && loaded.contains(&variable.0.saturating_add(8)));
    }
    let mut found = BTreeSet::new();
    for variable in candidates.into_iter().take(CANDIDATES_MAX) {
        found.extend(version_in(image, variable)?);
    }
    Ok(if found.len() == 1 { found.pop_first() } else { None })
}

fn code(image: &ElfImage, function: &FunctionRecord) -> Result<Vec<u8>, InspectError> {
    let offset = file_offset(&image.segments, function.start)
        .ok_or_else(|| InspectError::malformed("go function table", "address of a function", function.start.0))?;
    let length_bytes = function.end.0.saturating_sub(function.start.0).min(CODE_BYTES_MAX);
    image.source.bytes("code of a function", offset.0, length_bytes)
}

/// Every string variable whose length is compared with 0.
fn compared_lengths(code: &[u8], start: Svma) -> BTreeSet<Svma> {
    instructions(code, start)
        .filter(|instruction| {
            matches!(instruction.code(), Code::Cmp_rm64_imm8 | Code::Cmp_rm64_imm32)
                && instruction.is_ip_rel_memory_operand()
                && instruction.immediate(1) == 0
        })
        .filter_map(|instruction| instruction.ip_rel_memory_address().checked_sub(8).map(Svma))
        .collect()
}

/// Every word that is loaded into a register.
fn loaded_words(code: &[u8], start: Svma) -> BTreeSet<u64> {
    instructions(code, start)
        .take_while(|instruction| instruction.flow_control() != FlowControl::Return)
        .filter(|instruction| {
            instruction.code() == Code::Mov_r64_rm64
                && instruction.op1_kind() == OpKind::Memory
                && instruction.is_ip_rel_memory_operand()
        })
        .map(|instruction| instruction.ip_rel_memory_address())
        .collect()
}

fn instructions(code: &[u8], start: Svma) -> impl Iterator<Item = Instruction> {
    let mut decoder = Decoder::with_ip(64, code, start.0, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
        .take_while(|instruction| !instruction.is_invalid())
}

/// The text of the string variable at an address, where that is a Go version.
fn version_in(image: &ElfImage, variable: Svma) -> Result<Option<String>, InspectError> {
    let length_at = Svma(variable.0.saturating_add(8));
    if [variable, length_at].iter().any(|at| file_offset(&image.segments, *at).is_none()) {
        return Ok(None); // in .bss: empty in the file
    }
    let length_bytes = image.word(length_at)?;
    if length_bytes == 0 || length_bytes > VERSION_BYTES_MAX as u64 {
        return Ok(None);
    }
    let [text_at] = image.pointers([variable])?;
    let end = text_at.saturating_add(length_bytes - 1);
    let (Some(start), Some(_)) = (file_offset(&image.segments, Svma(text_at)), file_offset(&image.segments, Svma(end)))
    else {
        return Ok(None);
    };
    let text = image.source.bytes("go version", start.0, length_bytes)?;
    let text = String::from_utf8(text).ok();
    // A development version is told from what is no version at all, so that the refusal can name it.
    Ok(text.filter(|text| GoVersion::parse(text).is_some() || (text.starts_with("devel go1.") && printable(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_compared_with_zero_and_words_loaded_are_told_apart() {
        let code = [
            0x48, 0x83, 0x3d, 0xf8, 0x0f, 0, 0, 0, // cmp qword [rip+0xff8], 0
            0x48, 0x83, 0x3d, 0xf8, 0x1f, 0, 0, 1, // cmp qword [rip+0x1ff8], 1
            0x83, 0x3d, 0xf8, 0x0f, 0, 0, 0, // cmp dword [rip+0xff8], 0
            0x48, 0x8b, 0x05, 0x10, 0, 0, 0, // mov rax, [rip+0x10]
            0x48, 0x8d, 0x05, 0x10, 0, 0, 0,    // lea rax, [rip+0x10]
            0xc3, // ret
            0x48, 0x8b, 0x05, 0x10, 0, 0, 0, // mov rax, [rip+0x10]
        ];
        let start = Svma(0x40_0000);
        assert_eq!(compared_lengths(&code, start), BTreeSet::from([Svma(0x40_0ff8)]));
        assert_eq!(loaded_words(&code, start), BTreeSet::from([0x40_001e + 0x10]));
        assert_eq!(compared_lengths(&[0x48, 0x83], start), BTreeSet::new());
    }
}
