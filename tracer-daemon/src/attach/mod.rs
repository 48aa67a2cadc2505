//! Put the probes there, take them away.
//!
//! Owns one attachment: the loaded kernel programs of one target, their links, and the gate that decides whether a hit
//! counts. The kernel closes everything when this process dies in any way, since all of it hangs on our descriptors.
//! Probes are placed through a descriptor of the inspected file, so that neither a reused pid nor a replaced path can
//! lead them into other code.

pub mod adopt;
mod claim;
pub mod governor;
mod limits;
mod perf_event;

use std::{fs::File, io, os::unix::fs::FileExt as _};

use aya::{
    Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{Array, Map, MapError},
    programs::ProgramError,
};
use thiserror::Error;

use crate::{
    addr::{FileOffset, LoadBias},
    plan::{ProbePlan, ProbePoint},
};

pub use claim::Claim;
pub use limits::Limits;
use perf_event::PerfEventLinks;

/// The kernel object that `cargo xtask ebpf` built from `tracer-ebpf/`.
static KERNEL_OBJECT: &[u8] = include_bytes_aligned!(env!("LEAKLINE_EBPF_OBJECT"));

/// Why the probes could not be put in place. Nothing stays attached then.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The kernel refused for lack of a capability.
    #[error(
        "not allowed to {doing}: needs CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN (perf-event uprobes); run as root or see \
         `leakline doctor`"
    )]
    NotAllowed {
        /// What was tried.
        doing: &'static str,
    },
    /// The kernel refused the programs or a map.
    #[error("the kernel does not take our programs (see `leakline doctor`)")]
    Load {
        /// aya's account of it.
        source: Box<EbpfError>,
    },
    /// The kernel refused one program.
    #[error("the kernel does not take program `{program}` (see `leakline doctor`)")]
    LoadProgram {
        /// Name in the object.
        program: &'static str,
        /// aya's account of it.
        source: Box<ProgramError>,
    },
    /// Object and daemon do not fit together.
    #[error("the kernel object has no `{name}`: object and daemon are of different builds")]
    NotInObject {
        /// What is missing.
        name: &'static str,
    },
    /// A probe point holds other bytes than those that were planned on.
    #[error("the code at {function} (file offset {offset}) changed while we looked at it; try again")]
    CodeChanged {
        /// The function.
        function: String,
        /// The file offset.
        offset: FileOffset,
    },
    /// The executable could not be read.
    #[error("cannot read the code at file offset {offset} of the executable")]
    ReadCode {
        /// The file offset.
        offset: FileOffset,
        /// What the kernel said.
        source: io::Error,
    },
    /// The target went away.
    #[error("process {pid} ended or replaced its program while we attached to it")]
    TargetGone {
        /// Its id.
        pid: u32,
    },
    /// The kernel refused a probe.
    #[error("the kernel does not attach a probe at {function} (file offset {offset}) of process {pid}")]
    Attach {
        /// The function.
        function: String,
        /// The file offset.
        offset: FileOffset,
        /// The process.
        pid: u32,
        /// aya's account of it.
        source: Box<ProgramError>,
    },
    /// The gate could not be moved.
    #[error("cannot write map `GATE`")]
    Gate {
        /// aya's account of it.
        source: MapError,
    },
}

/// The probes of one target, in place.
#[derive(Debug)]
pub struct Attachment {
    links: PerfEventLinks,
    object: Ebpf,
}

impl Attachment {
    /// Loads the programs for one process and attaches all points. Nothing is counted before [`Self::open_gate`].
    pub fn new(plan: &ProbePlan, exe: &File, pid: u32, bias: LoadBias, limits: Limits) -> Result<Self, AttachError> {
        let config = plan.target_config(bias);
        let mut loader = EbpfLoader::new();
        loader.override_global("TARGET", &config, true);
        for (map, capacity) in limits.capacities() {
            loader.map_max_entries(map, capacity);
        }
        let mut object = loader.load(KERNEL_OBJECT).map_err(load_error)?;
        for point in &plan.points {
            verify_code(exe, point)?;
        }
        let links = PerfEventLinks::attach(&mut object, &plan.points, exe, pid)?;
        Ok(Self { links, object })
    }

    /// From now on hits count.
    pub fn open_gate(&mut self) -> Result<(), AttachError> {
        self.set_gate(1)
    }

    /// From now on hits do not count. Programs that run at this moment may still finish.
    pub fn close_gate(&mut self) -> Result<(), AttachError> {
        self.set_gate(0)
    }

    fn set_gate(&mut self, open: u32) -> Result<(), AttachError> {
        let map = self.object.map_mut("GATE").ok_or(AttachError::NotInObject { name: "GATE" })?;
        let mut gate: Array<_, u32> = map.try_into().map_err(|source| AttachError::Gate { source })?;
        gate.set(0, open, 0).map_err(|source| AttachError::Gate { source })
    }

    /// How many probes are in place.
    pub fn probes(&self) -> usize {
        self.links.len()
    }

    /// Takes the next probe away by a system call, the costliest first; about 100 ms each. False: none is left.
    pub fn detach_next(&mut self) -> bool {
        self.links.detach_next(&mut self.object)
    }

    /// Leaves the probes in place until this process exits.
    pub fn leave(self) {
        // Dropping would close them.
        std::mem::forget(self);
    }

    /// Takes a map out of the object, for `collect`.
    pub(crate) fn take_map(&mut self, name: &str) -> Option<Map> {
        self.object.take_map(name)
    }
}

/// Compares the bytes at a point with those that were planned on. This also brings the page into the page cache:
/// attaching to an uncached page made an ext4 kernel warn.
fn verify_code(exe: &File, point: &ProbePoint) -> Result<(), AttachError> {
    let offset = point.file_offset();
    let mut now = vec![0; point.bytes().len()];
    exe.read_exact_at(&mut now, offset.0).map_err(|source| AttachError::ReadCode { offset, source })?;
    if now == point.bytes() {
        Ok(())
    } else {
        Err(AttachError::CodeChanged { function: point.function().to_owned(), offset })
    }
}

fn load_error(error: EbpfError) -> AttachError {
    if is_permission(&error) {
        AttachError::NotAllowed { doing: "load BPF programs and maps" }
    } else {
        AttachError::Load { source: Box::new(error) }
    }
}

/// Whether an `EPERM` or `EACCES` is at the bottom of an error.
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    io_cause(error).is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied)
}

/// The IO error at the bottom of an error, if one is.
fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(cause) = current.downcast_ref::<io::Error>() {
            return Some(cause);
        }
        error = current.source();
    }
    None
}
