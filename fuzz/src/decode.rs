//! Any code bytes: a probe point lies on an instruction boundary of its function, inside of it, on an instruction that the
//! kernel emulates, and its bytes are those of the code. Checked with a decoder of its own.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic};
use tracer_daemon::addr::Svma;
use tracer_daemon::inspect::{BinaryFacts, inspect_source};
use tracer_daemon::plan::{ProbePlan, ProbePoint, RarePoints};

use super::image::GoImage;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Which function gets which code.
    code: Vec<(u8, Code)>,
    /// Moves a function.
    moved: Option<(u8, u64)>,
    /// Leaves a function out, or puts one in twice.
    absent: Option<u8>,
    twice: Option<u8>,
    inlined: Option<(u8, u8)>,
    version: u8,
}

#[derive(Arbitrary, Debug)]
enum Code {
    Bytes(Vec<u8>),
    /// Of pieces that compilers write.
    Pieces(Vec<(u8, u8)>),
    Patched(u8, Vec<u8>),
}

/// `cmp rsp,[r14+10h]`, `jbe rel32`, `push rbp`, `mov rbp,rsp`, `sub rsp,8`, `lea r12,[rsp-8]`, `test eax,eax`, `je`,
/// `nop`, `call rel32`, `ret`, `REX push rbp`, `jne rel32`, `cmp`, `int3`, `push r13`, `jmp rel8`, `jmp rel32`, `mov eax,ecx`,
/// `bnd jmp`.
const PIECES: [&[u8]; 20] = [
    &[0x49, 0x3b, 0x66, 0x10],
    &[0x0f, 0x86, 0x80, 0, 0, 0],
    &[0x55],
    &[0x48, 0x89, 0xe5],
    &[0x48, 0x83, 0xec, 0x08],
    &[0x4c, 0x8d, 0x64, 0x24, 0xf8],
    &[0x85, 0xc0],
    &[0x74, 0x02],
    &[0x90],
    &[0xe8, 0, 0, 0, 0],
    &[0xc3],
    &[0x48, 0x55],
    &[0x0f, 0x85, 0, 0, 0, 0],
    &[0x83, 0x3d, 0, 0, 0, 0, 0],
    &[0xcc],
    &[0x41, 0x55],
    &[0xeb, 0x02],
    &[0xe9, 0, 0, 0, 0],
    &[0x89, 0xc8],
    &[0xf2, 0xeb, 0x00],
];

static FACTS: LazyLock<Vec<BinaryFacts>> = LazyLock::new(|| {
    let facts = [19, 22, 25, 27].map(|minor| inspect_source(Box::new(GoImage::usual(minor).build().bytes)));
    facts.into_iter().flatten().collect()
});

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let mut facts = FACTS[usize::from(input.version) % FACTS.len()].clone();
    let names: Vec<String> = facts.functions.keys().cloned().collect();
    let name = |number: u8| names[usize::from(number) % names.len()].as_str();
    for (number, code) in &input.code {
        let Some(function) = facts.functions.get_mut(name(*number)).and_then(|found| found.first_mut()) else {
            continue;
        };
        function.bytes = code.bytes(&function.bytes);
        function.end = Svma(function.start.0 + function.bytes.len() as u64);
    }
    if let Some((number, to)) = input.moved
        && let Some(function) = facts.functions.get_mut(name(number)).and_then(|found| found.first_mut())
    {
        function.end = Svma(to.wrapping_add(function.end.0 - function.start.0));
        function.start = Svma(to);
    }
    if let Some(number) = input.twice
        && let Some(found) = facts.functions.get_mut(name(number))
    {
        found.extend(found.clone());
    }
    if let Some(number) = input.absent {
        facts.functions.remove(name(number));
    }
    if let Some((inlined, into)) = input.inlined {
        facts.inlined.insert(name(inlined).to_owned(), vec![name(into).to_owned()]);
    }
    let (plan, rare) = (ProbePlan::exact(&facts), RarePoints::of(&facts));
    plan.points.iter().chain(&rare.points).for_each(|point| check(&facts, point));
}

impl Code {
    fn bytes(&self, before: &[u8]) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Pieces(pieces) => pieces.iter().take(200).flat_map(|piece| piece_bytes(*piece)).collect(),
            Self::Patched(at, with) => {
                let mut bytes = before.to_vec();
                bytes.iter_mut().skip(usize::from(*at)).zip(with).for_each(|(to, from)| *to = *from);
                bytes
            }
        }
    }
}

/// The second number replaces the last byte but three: of a long jump or call, its distance.
fn piece_bytes((piece, distance): (u8, u8)) -> Vec<u8> {
    let mut bytes = PIECES[usize::from(piece) % PIECES.len()].to_vec();
    if bytes.len() >= 5 && piece >= 128 {
        let at = bytes.len() - 4;
        bytes[at] = distance;
    }
    bytes
}

fn check(facts: &BinaryFacts, point: &ProbePoint) {
    let functions = facts.functions.get(point.function()).map(Vec::as_slice).unwrap_or_default();
    let found = functions.iter().find_map(|code| {
        let mut decoder = Decoder::with_ip(64, &code.bytes, code.start.0, DecoderOptions::NONE);
        let instruction = decoder.iter().find(|instruction| instruction.ip() == point.address().0)?;
        Some((code, instruction))
    });
    let Some((code, instruction)) = found else { panic!("{point:?} is on no boundary") };
    let within = usize::try_from(point.address().0 - code.start.0).unwrap_or(usize::MAX);
    assert_eq!(code.bytes.get(within..within + instruction.len()), Some(point.bytes()));
    assert_eq!(point.file_offset().0, code.file_offset.0 + within as u64);
    assert!(emulated(&instruction, point.bytes()), "{point:?}");
}

/// As in arch/x86/kernel/uprobes.c: no prefix, and of these only.
fn emulated(instruction: &Instruction, bytes: &[u8]) -> bool {
    let plain = match bytes.first() {
        Some(0x0f) => 6,
        Some(0xe8 | 0xe9) => 5,
        Some(0xeb | 0x70..=0x7f) => 2,
        _ => 1,
    };
    let kind = instruction.mnemonic() == Mnemonic::Push
        || instruction.is_call_near()
        || matches!(instruction.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch);
    kind && bytes.len() == plain
}
