//! From code bytes to probe points: the only maker of [`ProbePoint`].
//!
//! Every rule decodes from the function's entry, so that a point lies on an instruction boundary, and accepts only
//! instructions that the kernel emulates instead of single-stepping (`push`, `call rel32`, `jcc`;
//! arch/x86/kernel/uprobes.c: `push_setup_xol_ops`, `branch_setup_xol_ops`).

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter as _, Instruction, IntelFormatter, Mnemonic, OpKind, Register,
};

use super::{Purpose, Refusal, RefusalReason};
use crate::{
    addr::{FileOffset, Svma},
    inspect::FunctionCode,
};

/// An instruction on which a probe may sit. Its fields cannot be set outside the decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePoint {
    function: String,
    purpose: Purpose,
    file_offset: FileOffset,
    address: Svma,
    bytes: Vec<u8>,
    instruction: String,
}

impl ProbePoint {
    /// The function that the instruction belongs to.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// What the probe is for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Where to attach.
    pub fn file_offset(&self) -> FileOffset {
        self.file_offset
    }

    /// Address in the file.
    pub fn address(&self) -> Svma {
        self.address
    }

    /// The instruction's bytes, to be compared again right before attaching.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The instruction as a person reads it.
    pub fn instruction(&self) -> &str {
        &self.instruction
    }
}

/// Instructions between the entry and `push rbp`: a stack check has at most six.
const PROLOGUE_LIMIT: usize = 8;

/// The `push rbp` behind the stack check at the function's entry: arguments are still in their registers, and a call
/// that grows the stack and starts again passes it once.
pub(super) fn push_after_stack_check(code: &FunctionCode, purpose: Purpose) -> Result<ProbePoint, Refusal> {
    for instruction in decoder(code).iter().take(PROLOGUE_LIMIT) {
        if instruction.is_invalid() {
            break;
        }
        if instruction.mnemonic() == Mnemonic::Push && instruction.op0_register() == Register::RBP {
            return point(code, purpose, &instruction);
        }
        if !belongs_to_stack_check(&instruction) {
            return Err(Refusal::new(
                RefusalReason::PrologueUnknown,
                format!("{} begins with `{}` before any `push rbp`", code.name, text(&instruction)),
            ));
        }
    }
    Err(Refusal::new(
        RefusalReason::PrologueUnknown,
        format!("{} has no `push rbp` among its first {PROLOGUE_LIMIT} instructions", code.name),
    ))
}

/// The stack check of cmd/internal/obj/x86 (`stacksplit`): a comparison with the stack guard, by way of the scratch
/// registers R12 and R13 for large frames, and jumps to `morestack`. It leaves arguments and stack alone.
fn belongs_to_stack_check(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Jbe | Mnemonic::Jb | Mnemonic::Nop => true,
        Mnemonic::Lea | Mnemonic::Mov | Mnemonic::Sub => {
            instruction.op0_kind() == OpKind::Register
                && matches!(instruction.op0_register(), Register::R12 | Register::R13)
        }
        _ => false,
    }
}

/// The one direct call of `callee`.
pub(super) fn call_of(code: &FunctionCode, callee: &str, entry: Svma, purpose: Purpose) -> Result<ProbePoint, Refusal> {
    let instructions = whole(code)?;
    let index = only_call(code, &instructions, callee, entry)?;
    point(code, purpose, &instructions[index])
}

/// The conditional jump behind the one direct call of `callee`, with nothing but comparisons in between, so that AX still
/// holds what the call returned.
pub(super) fn jump_behind_call_of(
    code: &FunctionCode,
    callee: &str,
    entry: Svma,
    purpose: Purpose,
) -> Result<ProbePoint, Refusal> {
    let instructions = whole(code)?;
    let index = only_call(code, &instructions, callee, entry)?;
    for instruction in &instructions[index + 1..] {
        match instruction.mnemonic() {
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop => {}
            _ if instruction.flow_control() == FlowControl::ConditionalBranch => {
                return point(code, purpose, instruction);
            }
            _ => {
                return Err(Refusal::new(
                    RefusalReason::JumpNotFound,
                    format!("in {} the call of {callee} is followed by `{}`", code.name, text(instruction)),
                ));
            }
        }
    }
    Err(Refusal::new(RefusalReason::JumpNotFound, format!("{} ends behind its call of {callee}", code.name)))
}

fn only_call(code: &FunctionCode, instructions: &[Instruction], callee: &str, entry: Svma) -> Result<usize, Refusal> {
    let mut calls = instructions
        .iter()
        .enumerate()
        .filter(|(_, instruction)| instruction.is_call_near() && instruction.near_branch_target() == entry.0)
        .map(|(index, _)| index);
    match (calls.next(), calls.next()) {
        (Some(index), None) => Ok(index),
        (None, _) => Err(Refusal::new(RefusalReason::CallNotFound, format!("{} does not call {callee}", code.name))),
        (Some(_), Some(_)) => {
            Err(Refusal::new(RefusalReason::CallNotFound, format!("{} calls {callee} more than once", code.name)))
        }
    }
}

fn decoder(code: &FunctionCode) -> Decoder<'_> {
    Decoder::with_ip(64, &code.bytes, code.start.0, DecoderOptions::NONE)
}

/// All instructions of a function, every byte accounted for.
fn whole(code: &FunctionCode) -> Result<Vec<Instruction>, Refusal> {
    let unreadable = |what: &str| Refusal::new(RefusalReason::CodeUnreadable, format!("{}: {what}", code.name));
    if code.end.0.checked_sub(code.start.0) != Some(code.bytes.len() as u64) {
        return Err(unreadable("not all of its code was read"));
    }
    let instructions: Vec<Instruction> = decoder(code).iter().collect();
    if instructions.iter().any(Instruction::is_invalid) {
        return Err(unreadable("its bytes are not all instructions"));
    }
    Ok(instructions)
}

fn point(code: &FunctionCode, purpose: Purpose, instruction: &Instruction) -> Result<ProbePoint, Refusal> {
    let unreadable = || Refusal::new(RefusalReason::CodeUnreadable, format!("{}: address out of range", code.name));
    let within = instruction.ip().checked_sub(code.start.0).ok_or_else(unreadable)?;
    let begin = usize::try_from(within).map_err(|_too_large| unreadable())?;
    let bytes = code.bytes.get(begin..begin + instruction.len()).ok_or_else(unreadable)?.to_vec();
    if !is_emulated(&bytes) {
        return Err(Refusal::new(
            RefusalReason::NotEmulated,
            format!("{}: the kernel would single-step `{}`", code.name, text(instruction)),
        ));
    }
    let file_offset = FileOffset(code.file_offset.0.checked_add(within).ok_or_else(unreadable)?);
    Ok(ProbePoint {
        function: code.name.clone(),
        purpose,
        file_offset,
        address: Svma(instruction.ip()),
        bytes,
        instruction: text(instruction),
    })
}

/// Whether the kernel emulates the instruction in these encodings: `push rbp`, `call rel32`, `jcc rel8`, `jcc rel32`.
fn is_emulated(bytes: &[u8]) -> bool {
    matches!(bytes, [0x55] | [0xe8, _, _, _, _] | [0x70..=0x7f, _] | [0x0f, 0x80..=0x8f, _, _, _, _])
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    IntelFormatter::new().format(instruction, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(bytes: &[u8]) -> FunctionCode {
        FunctionCode {
            name: "runtime.mallocgc".to_owned(),
            start: Svma(0x40_1000),
            end: Svma(0x40_1000 + bytes.len() as u64),
            file_offset: FileOffset(0x1000),
            bytes: bytes.to_vec(),
        }
    }

    /// `cmp rsp,[r14+10h]; jbe +80h; push rbp; mov rbp,rsp` as in Go 1.26's mallocgc.
    const USUAL: [u8; 14] = [0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0x80, 0x00, 0x00, 0x00, 0x55, 0x48, 0x89, 0xe5];

    #[test]
    fn the_push_behind_the_stack_check_is_found() {
        let point = push_after_stack_check(&code(&USUAL), Purpose::Allocation).unwrap();
        assert_eq!(point.address(), Svma(0x40_100a));
        assert_eq!(point.file_offset(), FileOffset(0x100a));
        assert_eq!((point.instruction(), point.bytes()), ("push rbp", &[0x55][..]));
    }

    #[test]
    fn a_function_that_begins_otherwise_is_refused() {
        // mov rax,[rbx]; push rbp: an argument register is gone before the push.
        let refusal = push_after_stack_check(&code(&[0x48, 0x8b, 0x03, 0x55]), Purpose::Allocation).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::PrologueUnknown);
        assert!(refusal.text.contains("mov rax,[rbx]"), "{}", refusal.text);
    }

    #[test]
    fn an_encoding_that_the_kernel_would_single_step_is_refused() {
        // `push rbp` with a needless REX prefix.
        let refusal = push_after_stack_check(&code(&[0x48, 0x55]), Purpose::Allocation).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::NotEmulated);
    }

    #[test]
    fn a_call_is_found_once_or_refused() {
        // call +0 (target: next instruction) ; ret
        let once = code(&[0xe8, 0, 0, 0, 0, 0xc3]);
        let target = Svma(0x40_1005);
        assert_eq!(call_of(&once, "f", target, Purpose::GoroutineCreated).unwrap().address(), Svma(0x40_1000));
        let refusal = call_of(&once, "f", Svma(1), Purpose::GoroutineCreated).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::CallNotFound);
        // Two calls of 0x401005: the second goes back by 5 + 5 - 5.
        let twice = code(&[0xe8, 0, 0, 0, 0, 0xe8, 0xfb, 0xff, 0xff, 0xff, 0xc3]);
        let refusal = call_of(&twice, "f", target, Purpose::GoroutineCreated).unwrap_err();
        assert!(refusal.text.contains("more than once"), "{}", refusal.text);
    }

    #[test]
    fn only_comparisons_may_stand_between_a_call_and_its_jump() {
        let target = Svma(0x40_1005);
        // call +0; cmp dword [rip+0],0; jne +0; ret
        let good = code(&[0xe8, 0, 0, 0, 0, 0x83, 0x3d, 0, 0, 0, 0, 0, 0x75, 0, 0xc3]);
        let point = jump_behind_call_of(&good, "f", target, Purpose::CoroutineCreated).unwrap();
        assert_eq!((point.address(), point.bytes()), (Svma(0x40_100c), &[0x75, 0][..]));
        // call +0; xor eax,eax; jne +0; ret
        let bad = code(&[0xe8, 0, 0, 0, 0, 0x31, 0xc0, 0x75, 0, 0xc3]);
        let refusal = jump_behind_call_of(&bad, "f", target, Purpose::CoroutineCreated).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::JumpNotFound);
    }

    proptest! {
        /// Whatever the bytes are: no panic, and a point lies on a boundary, on one of the emulated instructions.
        #[test]
        fn any_bytes_give_a_sound_point_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let code = code(&bytes);
            let points = [
                push_after_stack_check(&code, Purpose::Allocation),
                call_of(&code, "f", Svma(0x40_1005), Purpose::GoroutineCreated),
                jump_behind_call_of(&code, "f", Svma(0x40_1005), Purpose::CoroutineCreated),
            ];
            for point in points.into_iter().flatten() {
                let boundaries: Vec<u64> = decoder(&code).iter().map(|instruction| instruction.ip()).collect();
                prop_assert!(boundaries.contains(&point.address().0));
                prop_assert!(is_emulated(point.bytes()), "{}", point.instruction());
            }
        }
    }
}
