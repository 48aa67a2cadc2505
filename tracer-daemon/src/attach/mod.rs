//! Put the probes there, take them away.
//!
//! Owns one attachment: the loaded kernel programs of one target, their links, and the gate that decides whether a hit
//! counts. The kernel closes everything when this process dies in any way, since all of it hangs on our descriptors.
//! Probes are placed through a descriptor of the inspected file, so that neither a reused pid nor a replaced path can
//! lead them into other code.

pub mod adopt;
mod bpf;
mod calibration;
mod claim;
pub mod governor;
mod holder;
pub mod holding;
mod limits;
mod messages;
mod object;
mod own_code;
mod perf_event;
mod self_test;
mod trial;

use std::{collections::BTreeSet, fs::File, io, os::unix::fs::FileExt as _};

use aya::{
    EbpfError, include_bytes_aligned,
    maps::{Array, Map, MapError},
};
use thiserror::Error;

use crate::{
    addr::{FileOffset, LoadBias},
    plan::{ProbePlan, ProbePoint},
};

pub use bpf::{LinkPoint, bytes_of};
pub use calibration::{Calibration, TrapCost, TrapCosts};
pub use claim::Claim;
pub use holder::{Holder, Holders, Link, Most, MostCost, News, Until};
pub use limits::Limits;
pub use object::{KernelObject, Mechanism};
pub use own_code::{InstructionKind, thread_cpu_ns};
use perf_event::PerfEventLinks;
pub use self_test::{MultiSupport, probe_checks};
pub use trial::program_checks;

/// The kernel object that `cargo xtask ebpf` built from `tracer-ebpf/`.
static KERNEL_OBJECT: &[u8] = include_bytes_aligned!(env!("LEAKLINE_EBPF_OBJECT"));

/// What loading takes.
const FOR_PROGRAMS: &str = "CAP_BPF and CAP_PERFMON";

/// Why the probes could not be put in place. Nothing stays attached then.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The kernel refused for lack of a capability.
    #[error("not allowed to {doing}: needs {needs}; run as root or see `leakline doctor`")]
    NotAllowed {
        /// What was tried.
        doing: &'static str,
        /// The capabilities that it takes.
        needs: &'static str,
    },
    /// The kernel refused the programs or a map.
    #[error("the kernel does not take our programs (see `leakline doctor`)")]
    Load {
        /// aya's account of it.
        source: Box<EbpfError>,
    },
    /// The kernel refused one program.
    #[error(
        "the kernel does not take program `{program}` (see `leakline doctor`): {source}; its verifier ends with: {verifier}"
    )]
    LoadProgram {
        /// Name in the object.
        program: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// The end of what its verifier said, in one line.
        verifier: String,
    },
    /// The kernel's event source for uprobes cannot be used.
    #[error("the event source of uprobes is not to be had (see `leakline doctor`)")]
    Events {
        /// What the kernel said.
        source: io::Error,
    },
    /// The process that is to hold a link could not be started, or not told what to do.
    #[error(
        "cannot {doing} the process that holds probes; it is tried again: limits on processes or open files may be why"
    )]
    Holder {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Object and daemon do not fit together.
    #[error("the kernel object has no `{name}`: object and daemon are of different builds; build leakline anew")]
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
    #[error("cannot read the code at file offset {offset} of the executable; is it being replaced? Try again")]
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
    #[error(
        "the kernel does not attach a probe at {function} (file offset {offset}) of process {pid} (see `leakline doctor`)"
    )]
    Attach {
        /// The function.
        function: String,
        /// The file offset.
        offset: FileOffset,
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused the probes of a link.
    #[error("the kernel does not attach probes to process {pid}, {points} at once (see `leakline doctor`)")]
    Link {
        /// How many.
        points: usize,
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The same, tried on ourselves.
    #[error("the kernel does not attach probes to leakline itself, where it tries them first, {points} at once")]
    OwnLink {
        /// How many.
        points: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// Our own program file cannot be read or found.
    #[error("cannot find our own code in /proc/self, to try probes on it (is /proc mounted?)")]
    OwnCode {
        /// What the kernel said.
        source: io::Error,
    },
    /// The totals of the kernel programs could not be read.
    #[error("cannot read map `TOTALS` of our kernel programs (please report this)")]
    Totals {
        /// aya's account of it.
        source: MapError,
    },
    /// The probes on ourselves were not hit as they should be.
    #[error("the price of a hit is not known: {hits} hits of our own probes came, {expected} should have")]
    Uncalibrated {
        /// Hits that came.
        hits: u64,
        /// Hits that should have come.
        expected: u64,
    },
    /// A map could not be read or written by the process that holds a link.
    #[error("the process that holds the probes of process {pid} cannot use map `{map}` (please report this)")]
    HolderMap {
        /// The process.
        pid: u32,
        /// Which.
        map: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The gate could not be moved.
    #[error("cannot write map `GATE` of our kernel programs (please report this)")]
    Gate {
        /// aya's account of it.
        source: MapError,
    },
}

/// The probes of one target, in place.
#[derive(Debug)]
pub struct Attachment {
    links: PerfEventLinks,
    object: KernelObject,
}

impl Attachment {
    /// Loads the programs for one process and attaches all points. Nothing is counted before [`Self::open_gate`].
    pub fn new(plan: &ProbePlan, exe: &File, pid: u32, bias: LoadBias, limits: Limits) -> Result<Self, AttachError> {
        let config = plan.target_config(bias);
        let constants = [("TARGET", bytes_of(&config))];
        let programs: BTreeSet<_> = plan.points.iter().map(|point| point.purpose().name()).collect();
        let programs: Vec<_> = programs.into_iter().collect();
        let object = KernelObject::embedded(&constants, &limits.capacities(), &programs, Mechanism::PerfEvents)?;
        for point in &plan.points {
            verify_code(exe, point)?;
        }
        let links = PerfEventLinks::attach(&object, &plan.points, exe, pid)?;
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
        self.links.detach_next()
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
pub fn verify_code(exe: &File, point: &ProbePoint) -> Result<(), AttachError> {
    let offset = point.file_offset();
    let mut now = vec![0; point.bytes().len()];
    exe.read_exact_at(&mut now, offset.0).map_err(|source| AttachError::ReadCode { offset, source })?;
    if now == point.bytes() {
        Ok(())
    } else {
        Err(AttachError::CodeChanged { function: point.function().to_owned(), offset })
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
