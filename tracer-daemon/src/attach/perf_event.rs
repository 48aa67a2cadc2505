//! The mechanism of every kernel since 5.10: one perf-event uprobe per point.
//!
//! Attaching takes a few ms; closing waits for RCU grace periods, about 100 ms a point, one after the other
//! (`uprobe_multi` will be the other mechanism).

use std::{fs::File, io, num::NonZeroU32, os::fd::AsRawFd as _, path::PathBuf};

use aya::{
    Ebpf,
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope},
    },
};

use super::{AttachError, io_cause, is_permission};
use crate::plan::{ProbePoint, Purpose};

/// `ESRCH`: the process of a perf event is gone.
const NO_SUCH_PROCESS: i32 = 3;

/// Links in the order in which they were made: rare points first.
#[derive(Debug, Default)]
pub(super) struct PerfEventLinks(Vec<(Purpose, UProbeLinkId)>);

impl PerfEventLinks {
    /// Attaches all points, or none.
    pub(super) fn attach(object: &mut Ebpf, points: &[ProbePoint], exe: &File, pid: u32) -> Result<Self, AttachError> {
        let gone = || AttachError::TargetGone { pid };
        let scope = UProbeScope::OneProcess(NonZeroU32::new(pid).ok_or_else(gone)?);
        // The descriptor leads to the inspected inode, also when it was deleted or lies in another mount namespace.
        let path = PathBuf::from(format!("/proc/self/fd/{}", exe.as_raw_fd()));
        let mut links = Self::default();
        for point in points {
            let program = loaded(object, point.purpose())?;
            let location = UProbeAttachLocation::AbsoluteOffset(point.file_offset().0);
            match program.attach(UProbeAttachPoint { location, cookie: None }, &path, scope) {
                Ok(link) => links.0.push((point.purpose(), link)),
                Err(error) => {
                    while links.detach_next(object) {}
                    return Err(attach_error(error, point, pid));
                }
            }
        }
        Ok(links)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Closes the link that was made last. False: none is left.
    pub(super) fn detach_next(&mut self, object: &mut Ebpf) -> bool {
        let Some((purpose, link)) = self.0.pop() else { return false };
        if let Ok(program) = program(object, purpose)
            && let Err(error) = program.detach(link)
        {
            tracing::warn!(%error, point = purpose.name(), "a probe was already gone at detach");
        }
        true
    }
}

fn program(object: &mut Ebpf, purpose: Purpose) -> Result<&mut UProbe, AttachError> {
    let name = purpose.name();
    let program = object.program_mut(name).ok_or(AttachError::NotInObject { name })?;
    program.try_into().map_err(|_other_kind: ProgramError| AttachError::NotInObject { name })
}

fn loaded(object: &mut Ebpf, purpose: Purpose) -> Result<&mut UProbe, AttachError> {
    let program = program(object, purpose)?;
    if program.fd().is_err() {
        program.load().map_err(|error| {
            if is_permission(&error) {
                AttachError::NotAllowed { doing: "load a BPF program" }
            } else {
                AttachError::LoadProgram { program: purpose.name(), source: Box::new(error) }
            }
        })?;
    }
    Ok(program)
}

fn attach_error(error: ProgramError, point: &ProbePoint, pid: u32) -> AttachError {
    if io_cause(&error).and_then(io::Error::raw_os_error) == Some(NO_SUCH_PROCESS) {
        AttachError::TargetGone { pid }
    } else if is_permission(&error) {
        AttachError::NotAllowed { doing: "attach a uprobe by perf event" }
    } else {
        AttachError::Attach {
            function: point.function().to_owned(),
            offset: point.file_offset(),
            pid,
            source: Box::new(error),
        }
    }
}
