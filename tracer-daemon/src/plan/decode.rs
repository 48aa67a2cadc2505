//! From code bytes to probe points: the only maker of [`ProbePoint`].
//!
//! Every rule decodes from the function's entry, so that a point lies on an instruction boundary, and accepts only
//! instructions that the kernel emulates instead of single-stepping (`push`, `call rel32`, `jmp`, `jcc`;
//! arch/x86/kernel/uprobes.c: `push_setup_xol_ops`, `branch_setup_xol_ops`).

use std::collections::HashMap;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter as _, Instruction, InstructionInfoFactory, IntelFormatter,
    Mnemonic, OpAccess, OpKind, Register,
};

use tracer_common::bursts::GeneralRegister;

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
    on_stack_check: bool,
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

    /// Whether it is the stack check's own jump: then a hit with CF or ZF set is no call yet, the function makes room
    /// for its frame and begins anew.
    pub fn on_stack_check(&self) -> bool {
        self.on_stack_check
    }
}

/// Instructions between the entry and `push rbp`: a stack check has at most six.
const PROLOGUE_LIMIT: usize = 8;

/// Where a call of the function can be seen with its arguments still in their registers and the caller's frame still
/// the current one.
///
/// From go1.21 on, the `push rbp` behind the stack check: a call that makes the stack grow and begins again passes it
/// once. go1.19 and go1.20 save the frame pointer by a `mov`, which the kernel would single-step; there it is the check's own
/// `jbe` ([`ProbePoint::on_stack_check`]).
pub(super) fn entry(code: &FunctionCode, purpose: Purpose) -> Result<ProbePoint, Refusal> {
    let mut before: Option<Instruction> = None;
    for instruction in decoder(code).iter().take(PROLOGUE_LIMIT) {
        if instruction.is_invalid() {
            break;
        }
        if instruction.mnemonic() == Mnemonic::Push && instruction.op0_register() == Register::RBP {
            return point(code, purpose, &instruction);
        }
        if makes_frame(&instruction)
            && let Some(check) = before.filter(|before| before.mnemonic() == Mnemonic::Jbe)
        {
            return Ok(ProbePoint { on_stack_check: true, ..point(code, purpose, &check)? });
        }
        if !belongs_to_stack_check(&instruction) {
            return Err(Refusal::new(
                RefusalReason::PrologueUnknown,
                format!("{} begins with `{}` before any `push rbp`", code.name, text(&instruction)),
            ));
        }
        before = Some(instruction);
    }
    Err(Refusal::new(
        RefusalReason::PrologueUnknown,
        format!("{} has no `push rbp` among its first {PROLOGUE_LIMIT} instructions", code.name),
    ))
}

/// `sub rsp, imm`: how go1.19 and go1.20 begin a frame.
fn makes_frame(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Sub
        && instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::RSP
        && instruction.op1_kind() != OpKind::Register
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
pub(super) fn call_of(code: &FunctionCode, callee: &FunctionCode, purpose: Purpose) -> Result<ProbePoint, Refusal> {
    let instructions = whole(code)?;
    let index = only_call(code, &instructions, callee)?;
    point(code, purpose, &instructions[index])
}

/// The first jump behind the one direct call of `callee`, where AX still holds what the call returned.
pub(super) fn result_of(code: &FunctionCode, callee: &FunctionCode, purpose: Purpose) -> Result<ProbePoint, Refusal> {
    let instructions = whole(code)?;
    let index = only_call(code, &instructions, callee)?;
    let mut info = InstructionInfoFactory::new();
    let jumps = jumps(&instructions);
    for instruction in instructions.iter().skip(index + 1) {
        // Who comes from elsewhere brings another AX.
        if let Some(from) = jumps.get(&instruction.ip()) {
            return Err(Refusal::new(
                RefusalReason::JumpNotFound,
                format!("in {} `{}` leads behind the call of {}", code.name, text(from), callee.name),
            ));
        }
        if is_jump(instruction) {
            return point(code, purpose, instruction);
        }
        if instruction.flow_control() != FlowControl::Next || writes(&mut info, instruction, Register::RAX) {
            return Err(Refusal::new(
                RefusalReason::JumpNotFound,
                format!("in {} the call of {} is followed by `{}`", code.name, callee.name, text(instruction)),
            ));
        }
    }
    Err(Refusal::new(RefusalReason::JumpNotFound, format!("{} ends behind its call of {}", code.name, callee.name)))
}

/// The last conditional jump before the function's one `ret`, and which register holds there what the function returns in AX.
pub(super) fn before_return(code: &FunctionCode, purpose: Purpose) -> Result<(ProbePoint, GeneralRegister), Refusal> {
    let instructions = whole(code)?;
    let refusal = |why: String| Refusal::new(RefusalReason::JumpNotFound, why);
    let mut returns =
        instructions.iter().enumerate().filter(|(_, instruction)| instruction.mnemonic() == Mnemonic::Ret);
    let (Some((end, _)), None) = (returns.next(), returns.next()) else {
        return Err(refusal(format!("{} does not return at exactly one place", code.name)));
    };
    let mut info = InstructionInfoFactory::new();
    let jumps = jumps(&instructions);
    // Who comes from elsewhere does not pass the point.
    let joined = |at: &Instruction| jumps.contains_key(&at.ip());
    if instructions.get(end).is_some_and(joined) {
        return Err(refusal(format!("{} jumps to its return", code.name)));
    }
    let mut register = Register::RAX;
    for instruction in instructions.iter().take(end).rev() {
        if joined(instruction) && !is_jump(instruction) {
            return Err(refusal(format!("{} jumps behind its last jump before it returns", code.name)));
        }
        if instruction.flow_control() == FlowControl::ConditionalBranch {
            let held = holds(register)
                .ok_or_else(|| refusal(format!("{} has its result in {register:?} at its last jump", code.name)))?;
            return Ok((point(code, purpose, instruction)?, held));
        }
        let before = before(&mut info, instruction, register);
        let (FlowControl::Next, Some(before)) = (instruction.flow_control(), before) else {
            return Err(refusal(format!(
                "{} has `{}` between its last jump and its return",
                code.name,
                text(instruction)
            )));
        };
        register = before;
    }
    Err(refusal(format!("{} returns without any jump", code.name)))
}

/// The register that at the point of [`before_return`] holds what the function returns second, in BX. None: none is known to.
pub(super) fn span_register(code: &FunctionCode) -> Option<GeneralRegister> {
    let instructions = whole(code).ok()?;
    let end = instructions.iter().position(|instruction| instruction.mnemonic() == Mnemonic::Ret)?;
    let mut info = InstructionInfoFactory::new();
    let behind = |instruction: &&Instruction| instruction.flow_control() != FlowControl::ConditionalBranch;
    let mut last = instructions.get(..end)?.iter().rev().take_while(behind);
    holds(last.try_fold(Register::RBX, |register, instruction| before(&mut info, instruction, register))?)
}

/// Which register holds before an instruction what `register` holds behind it. None: nobody knows.
fn before(info: &mut InstructionInfoFactory, instruction: &Instruction, register: Register) -> Option<Register> {
    if !writes(info, instruction, register) {
        return Some(register);
    }
    let is_copy = instruction.mnemonic() == Mnemonic::Mov
        && instruction.op0_register() == register
        && instruction.op1_kind() == OpKind::Register;
    is_copy.then(|| instruction.op1_register())
}

/// None: one that is not handed on.
fn holds(register: Register) -> Option<GeneralRegister> {
    Some(match register {
        Register::RAX => GeneralRegister::Ax,
        Register::RBX => GeneralRegister::Bx,
        Register::RCX => GeneralRegister::Cx,
        Register::RDX => GeneralRegister::Dx,
        Register::RSI => GeneralRegister::Si,
        Register::RDI => GeneralRegister::Di,
        Register::R8 => GeneralRegister::R8,
        Register::R9 => GeneralRegister::R9,
        Register::R10 => GeneralRegister::R10,
        Register::R11 => GeneralRegister::R11,
        _ => return None,
    })
}

/// All jumps by where they lead; made once, since a hostile function can have 64 Ki instructions.
fn jumps(instructions: &[Instruction]) -> HashMap<u64, &Instruction> {
    instructions.iter().filter(|from| is_jump(from)).map(|from| (from.near_branch_target(), from)).collect()
}

fn is_jump(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
}

/// Whether it changes any part of a register.
fn writes(info: &mut InstructionInfoFactory, instruction: &Instruction, register: Register) -> bool {
    let writes =
        |access| !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
    let used = info.info(instruction).used_registers();
    used.iter().any(|used| used.register().full_register() == register && writes(used.access()))
}

fn only_call(code: &FunctionCode, instructions: &[Instruction], callee: &FunctionCode) -> Result<usize, Refusal> {
    let mut calls = instructions
        .iter()
        .enumerate()
        .filter(|(_, instruction)| instruction.is_call_near() && instruction.near_branch_target() == callee.start.0)
        .map(|(index, _)| index);
    let refusal = |how: &str| Refusal::new(RefusalReason::CallNotFound, format!("{} {how} {}", code.name, callee.name));
    match (calls.next(), calls.next()) {
        (Some(index), None) => Ok(index),
        (None, _) => Err(refusal("does not call")),
        (Some(_), Some(_)) => Err(refusal("does not call exactly once")),
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
        on_stack_check: false,
    })
}

/// Whether the kernel emulates the instruction in these encodings: `push rbp`, `call rel32`, `jmp rel8`, `jmp rel32`,
/// `jcc rel8`, `jcc rel32`.
fn is_emulated(bytes: &[u8]) -> bool {
    matches!(bytes, [0x55] | [0xe8 | 0xe9, _, _, _, _] | [0xeb | 0x70..=0x7f, _] | [0x0f, 0x80..=0x8f, _, _, _, _])
}

fn text(instruction: &Instruction) -> String {
    let mut text = String::new();
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_show_branch_size(false);
    formatter.format(instruction, &mut text);
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

    fn place(start: u64) -> FunctionCode {
        FunctionCode { name: "f".to_owned(), start: Svma(start), ..code(&[]) }
    }

    /// `cmp rsp,[r14+10h]; jbe +80h; push rbp; mov rbp,rsp` as in Go 1.26's mallocgc.
    const USUAL: [u8; 14] = [0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0x80, 0x00, 0x00, 0x00, 0x55, 0x48, 0x89, 0xe5];

    #[test]
    fn the_push_behind_the_stack_check_is_found() {
        let point = entry(&code(&USUAL), Purpose::Allocation).unwrap();
        assert_eq!(point.address(), Svma(0x40_100a));
        assert_eq!(point.file_offset(), FileOffset(0x100a));
        assert_eq!((point.instruction(), point.bytes()), ("push rbp", &[0x55][..]));
    }

    #[test]
    fn where_no_push_follows_the_point_is_the_stack_check_itself() {
        // cmp rsp,[r14+10h]; jbe +80h; sub rsp,70h; mov [rsp+68h],rbp as in Go 1.19's mallocgc.
        let bytes = [&USUAL[..10], &[0x48, 0x83, 0xec, 0x70, 0x48, 0x89, 0x6c, 0x24, 0x68]].concat();
        let point = entry(&code(&bytes), Purpose::Allocation).unwrap();
        assert!(point.on_stack_check());
        assert_eq!((point.address(), point.bytes()), (Svma(0x40_1004), &USUAL[4..10]));
        assert!(!entry(&code(&USUAL), Purpose::Allocation).unwrap().on_stack_check());
        // Without a check nothing can be said about the flags.
        assert!(entry(&code(&bytes[10..]), Purpose::Allocation).is_err());
    }

    #[test]
    fn before_a_return_the_result_may_not_be_written_any_more() {
        // jb +3; xor ecx,ecx; ret; int3
        let good = code(&[0x72, 0x03, 0x31, 0xc9, 0xc3, 0xcc]);
        let (point, held) = before_return(&good, Purpose::SlotFound).unwrap();
        assert_eq!((point.address(), held), (Svma(0x40_1000), GeneralRegister::Ax));
        // jb +4; mov rax,rdi; ret; int3: it was in DI.
        let moved = code(&[0x72, 0x04, 0x48, 0x89, 0xf8, 0xc3, 0xcc]);
        assert_eq!(before_return(&moved, Purpose::SlotFound).unwrap().1, GeneralRegister::Di);
        // jb +4; mov rax,r15; ret; int3: one that no kernel program reads.
        let far = code(&[0x72, 0x04, 0x4c, 0x89, 0xf8, 0xc3, 0xcc]);
        assert!(before_return(&far, Purpose::SlotFound).unwrap_err().text.contains("R15"));
        // jb +3; mov eax,edi; ret; int3: half of it.
        let half = code(&[0x72, 0x03, 0x89, 0xf8, 0xc3, 0xcc]);
        assert!(before_return(&half, Purpose::SlotFound).is_err());
        // jb +3; xor eax,eax; ret; int3
        let late = code(&[0x72, 0x03, 0x31, 0xc0, 0xc3, 0xcc]);
        assert_eq!(before_return(&late, Purpose::SlotFound).unwrap_err().reason, RefusalReason::JumpNotFound);
        // jb +5; xor ecx,ecx; ret; jmp back to the xor; int3
        let joined = code(&[0x72, 0x05, 0x31, 0xc9, 0xc3, 0xeb, 0xfb, 0xcc]);
        assert!(before_return(&joined, Purpose::SlotFound).is_err());
        // jb +1; ret; ret
        let twice = code(&[0x72, 0x01, 0xc3, 0xc3]);
        assert!(before_return(&twice, Purpose::SlotFound).unwrap_err().text.contains("exactly one place"));
    }

    #[test]
    fn a_function_that_begins_otherwise_is_refused() {
        // mov rax,[rbx]; push rbp: an argument register is gone before the push.
        let refusal = entry(&code(&[0x48, 0x8b, 0x03, 0x55]), Purpose::Allocation).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::PrologueUnknown);
        assert!(refusal.text.contains("mov rax,[rbx]"), "{}", refusal.text);
    }

    #[test]
    fn an_encoding_that_the_kernel_would_single_step_is_refused() {
        // `push rbp` with a needless REX prefix.
        let refusal = entry(&code(&[0x48, 0x55]), Purpose::Allocation).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::NotEmulated);
    }

    #[test]
    fn a_call_is_found_once_or_refused() {
        // call +0 (target: next instruction) ; ret
        let once = code(&[0xe8, 0, 0, 0, 0, 0xc3]);
        let callee = place(0x40_1005);
        assert_eq!(call_of(&once, &callee, Purpose::GoroutineCreated).unwrap().address(), Svma(0x40_1000));
        let refusal = call_of(&once, &place(1), Purpose::GoroutineCreated).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::CallNotFound);
        // Two calls of 0x401005: the second goes back by 5 + 5 - 5.
        let twice = code(&[0xe8, 0, 0, 0, 0, 0xe8, 0xfb, 0xff, 0xff, 0xff, 0xc3]);
        let refusal = call_of(&twice, &callee, Purpose::GoroutineCreated).unwrap_err();
        assert!(refusal.text.contains("exactly once"), "{}", refusal.text);
    }

    #[test]
    fn nothing_between_a_call_and_its_jump_may_write_the_result() {
        let callee = place(0x40_1005);
        // call +0; cmp dword [rip+0],0; jne +0; ret
        let good = code(&[0xe8, 0, 0, 0, 0, 0x83, 0x3d, 0, 0, 0, 0, 0, 0x75, 0, 0xc3]);
        let point = result_of(&good, &callee, Purpose::GoroutineReturned).unwrap();
        assert_eq!((point.address(), point.bytes()), (Svma(0x40_100c), &[0x75, 0][..]));
        // call +0; jne +0 (its own target is behind it); jmp back to the jne
        let joined = code(&[0xe8, 0, 0, 0, 0, 0x75, 0, 0xeb, 0xfc]);
        let refusal = result_of(&joined, &callee, Purpose::GoroutineReturned).unwrap_err();
        assert!(refusal.text.contains("leads behind the call"), "{}", refusal.text);
        // call +0; xor eax,eax; jne +0; ret
        let bad = code(&[0xe8, 0, 0, 0, 0, 0x31, 0xc0, 0x75, 0, 0xc3]);
        let refusal = result_of(&bad, &callee, Purpose::GoroutineReturned).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::JumpNotFound);
    }

    #[test]
    fn a_long_way_behind_a_call_is_walked_once() {
        // call +0; 60,000 nops, each of which could be jumped to; ret
        let bytes = [&[0xe8, 0, 0, 0, 0][..], &vec![0x90; 60_000], &[0xc3]].concat();
        let callee = FunctionCode { start: Svma(0x40_1005), ..code(&[]) };
        let refusal = result_of(&code(&bytes), &callee, Purpose::GoroutineReturned).unwrap_err();
        assert!(refusal.text.contains("is followed by `ret`"), "{}", refusal.text);
    }

    proptest! {
        /// Whatever the bytes are: no panic, and a point lies on a boundary, on one of the emulated instructions.
        #[test]
        fn any_bytes_give_a_sound_point_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let code = code(&bytes);
            let points = [
                entry(&code, Purpose::Allocation),
                call_of(&code, &place(0x40_1005), Purpose::GoroutineCreated),
                result_of(&code, &place(0x40_1005), Purpose::GoroutineReturned),
                before_return(&code, Purpose::SlotFound).map(|(point, _)| point),
            ];
            for point in points.into_iter().flatten() {
                let boundaries: Vec<u64> = decoder(&code).iter().map(|instruction| instruction.ip()).collect();
                prop_assert!(boundaries.contains(&point.address().0));
                prop_assert!(is_emulated(point.bytes()), "{}", point.instruction());
            }
        }
    }
}
