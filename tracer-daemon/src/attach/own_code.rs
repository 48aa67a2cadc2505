//! Probes on ourselves: small functions of this program, the instructions in them that the kernel emulates, and a link on these.
//!
//! What is tried out here harms nobody else: the breakpoints are in our own memory and go with us.

use std::{
    ffi::CString,
    fs::File,
    hint::black_box,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use aya::maps::PerCpuArray;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use procfs::process::Process;
use rustix::{
    fs::fstat,
    time::{ClockId, clock_gettime},
};
use tracer_common::exact::Total;

use super::{AttachError, KernelObject, LinkPoint, Mechanism, bpf, holder::link_error, perf_event};

/// The program that counts hits and does nothing else while its gate is closed.
const PROGRAM: &str = "allocation";
/// Nothing is kept of what programs would count here.
pub(super) const CAPACITIES: &[(&str, u32)] = &[
    ("STACKS", 4096),
    ("BIRTHS", 4096),
    ("ALLOCATIONS", 1),
    ("GOROUTINES", 1),
    ("LIVE_GOROUTINES", 1),
    ("EXIT_PLACES", 1),
];
/// Bytes of code that are looked at: the functions are shorter, or their interesting part is.
const CODE_BYTES: usize = 256;

/// A kind of instruction that the kernel emulates instead of single-stepping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InstructionKind {
    /// `push` of a register.
    Push,
    /// `call` of an address in the code.
    Call,
    /// A conditional jump.
    Jump,
}

impl InstructionKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Push, Self::Call, Self::Jump];

    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Call => "call",
            Self::Jump => "jump",
        }
    }

    /// The function of ours that has one, if the compiler did as expected.
    pub(super) fn function(self) -> fn(u64) -> u64 {
        match self {
            Self::Push => pushes,
            Self::Call => calls,
            Self::Jump => jumps,
        }
    }

    fn is(self, instruction: &Instruction) -> bool {
        match self {
            Self::Push => instruction.mnemonic() == Mnemonic::Push && instruction.op0_kind() == OpKind::Register,
            Self::Call => instruction.code() == Code::Call_rel32_64,
            Self::Jump => instruction.is_jcc_short_or_near(),
        }
    }
}

/// Keeps a value over a call: in a register that it must save.
#[inline(never)]
fn pushes(number: u64) -> u64 {
    let kept = black_box(number);
    opaque(kept).wrapping_add(kept)
}

#[inline(never)]
fn calls(number: u64) -> u64 {
    opaque(number).wrapping_mul(3)
}

#[inline(never)]
fn jumps(number: u64) -> u64 {
    if black_box(number) == u64::MAX {
        return opaque(number);
    }
    number
}

#[inline(never)]
fn opaque(number: u64) -> u64 {
    black_box(number)
}

/// Where in the file a function of ours has such an instruction that is executed once in each call. None: it has none.
pub(super) fn point_of(kind: InstructionKind, exe: &File) -> io::Result<Option<LinkPoint>> {
    let Some(begin) = file_offset(kind.function() as usize as u64, exe)? else { return Ok(None) };
    let mut code = [0; CODE_BYTES];
    let length = exe.read_at(&mut code, begin)?;
    let at = within(kind, code.get(..length).unwrap_or_default());
    Ok(at.map(|at| LinkPoint { file_offset: begin + at, cookie: 0 }))
}

/// The offset of the first such instruction that nothing jumps over.
fn within(kind: InstructionKind, code: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    for instruction in &mut decoder {
        if kind.is(&instruction) {
            return Some(instruction.ip());
        }
        let goes_on =
            matches!(instruction.flow_control(), FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall);
        if !goes_on || instruction.is_invalid() {
            return None;
        }
    }
    None
}

/// Where an address of ours lies in our file. None: nowhere.
fn file_offset(address: u64, exe: &File) -> io::Result<Option<u64>> {
    let own = fstat(exe)?;
    let maps = Process::myself().and_then(|own| own.maps()).map_err(io::Error::other)?;
    let holds = |map: &&procfs::process::MemoryMap| (map.address.0..map.address.1).contains(&address);
    Ok(maps
        .iter()
        .find(holds)
        .filter(|map| map.inode == own.st_ino)
        .and_then(|map| (address - map.address.0).checked_add(map.offset)))
}

/// Probes in our own code. Closed when dropped: by a system call, since whoever kills us then ends what is probed, too.
pub(super) struct OwnProbes {
    object: KernelObject,
    _links: Vec<OwnedFd>,
}

impl OwnProbes {
    pub(super) fn attach(exe: &File, points: &[LinkPoint], mechanism: Mechanism) -> Result<Self, AttachError> {
        let object = KernelObject::embedded(&[], CAPACITIES, &[PROGRAM], mechanism)?;
        let pid = std::process::id();
        let path = CString::new(format!("/proc/self/fd/{}", exe.as_raw_fd()));
        let path = path.map_err(|error| AttachError::OwnCode { source: error.into() })?;
        let program = object.program(PROGRAM)?;
        let links = match mechanism {
            Mechanism::UprobeMulti => bpf::link_uprobe_multi(program, &path, points, pid).map(|link| vec![link]),
            Mechanism::PerfEvents => perf_event::open_all(program, &path, points, pid),
        };
        let links = links.map_err(|error| match link_error(error, mechanism, points.len(), pid) {
            AttachError::Link { points, source, .. } => AttachError::OwnLink { points, source },
            other => other,
        })?;
        Ok(Self { object, _links: links })
    }

    /// Hits so far.
    pub(super) fn hits(&mut self) -> Result<u64, AttachError> {
        let missing = AttachError::NotInObject { name: "TOTALS" };
        let Some(map) = self.object.map_mut("TOTALS") else { return Err(missing) };
        let read = PerCpuArray::<_, u64>::try_from(&*map).and_then(|totals| totals.get(&(Total::ProbeHits as u32), 0));
        let hits = read.map_err(|source| AttachError::Totals { source })?;
        Ok(hits.iter().fold(0, |sum: u64, hits| sum.saturating_add(*hits)))
    }
}

/// The file of this program.
pub(super) fn own_file() -> Result<File, AttachError> {
    File::open("/proc/self/exe").map_err(|source| AttachError::OwnCode { source })
}

/// CPU time of this thread so far, ns.
pub fn thread_cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_functions_have_what_they_are_for() {
        let exe = own_file().unwrap();
        // Which they have is the compiler's choice; calls it cannot avoid.
        let found = InstructionKind::ALL.map(|kind| point_of(kind, &exe).unwrap());
        println!("{found:?}");
        assert!(found[1].is_some());
    }

    #[test]
    fn an_instruction_that_is_jumped_over_is_none() {
        // cmp rdi, 1; je +1; push rbx; ret
        let code = [0x48, 0x83, 0xff, 0x01, 0x74, 0x01, 0x53, 0xc3];
        assert_eq!(within(InstructionKind::Push, &code), None);
        assert_eq!(within(InstructionKind::Jump, &code), Some(4));
        // push r12; call +0; ret
        let code = [0x41, 0x54, 0xe8, 0, 0, 0, 0, 0xc3];
        assert_eq!(within(InstructionKind::Push, &code), Some(0));
        assert_eq!(within(InstructionKind::Call, &code), Some(2));
        assert_eq!(within(InstructionKind::Jump, &code), None);
        assert_eq!(within(InstructionKind::Call, &[]), None);
    }
}
