//! The mechanism of every kernel since 5.10: one perf-event uprobe per point.
//!
//! Attaching takes a few ms; closing waits for RCU grace periods, about 100 ms a point, one after the other
//! (`holder.rs` has the other mechanism).

use std::{
    ffi::{CStr, CString},
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use super::{AttachError, KernelObject, LinkPoint, bpf, is_permission};
use crate::plan::ProbePoint;

/// Says the number of the event source.
const SOURCE: &str = "/sys/bus/event_source/devices/uprobe/type";

/// In the order in which they were made, rare points first: the link of each, or, where the kernel is older than 5.15, the event
/// itself. Each probe is gone when its descriptor is.
#[derive(Debug, Default)]
pub(super) struct PerfEventLinks(Vec<OwnedFd>);

impl PerfEventLinks {
    /// Attaches all points, or none.
    pub(super) fn attach(
        object: &KernelObject,
        points: &[ProbePoint],
        exe: &File,
        pid: u32,
    ) -> Result<Self, AttachError> {
        let source = source().map_err(|source| AttachError::Events { source })?;
        // The descriptor leads to the inspected inode, also when it was deleted or lies in another mount namespace.
        let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
        let path = CString::new(path).map_err(|error| AttachError::Events { source: error.into() })?;
        let mut links = Self::default();
        for point in points {
            let program = object.program(point.purpose().name())?;
            let link = bpf::open_uprobe_event(source, &path, point.file_offset().0, pid)
                .and_then(|event| linked(program, event));
            match link {
                Ok(link) => links.0.push(link),
                Err(error) => {
                    while links.detach_next() {}
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
    pub(super) fn detach_next(&mut self) -> bool {
        self.0.pop().is_some()
    }
}

fn linked(program: BorrowedFd<'_>, event: OwnedFd) -> io::Result<OwnedFd> {
    if aya::features().bpf_perf_link() {
        return bpf::link_perf_event(program, event.as_fd());
    }
    bpf::set_program(program, event.as_fd())?;
    Ok(event)
}

/// Has a program called at all points.
pub(super) fn open_all(
    program: BorrowedFd<'_>,
    path: &CStr,
    points: &[LinkPoint],
    pid: u32,
) -> io::Result<Vec<OwnedFd>> {
    let source = source()?;
    let open = |point: &LinkPoint| {
        let event = bpf::open_uprobe_event(source, path, point.file_offset, pid)?;
        bpf::set_program(program, event.as_fd()).map(|()| event)
    };
    points.iter().map(open).collect()
}

/// Lacking capabilities for such probes.
pub(super) fn not_allowed() -> AttachError {
    AttachError::NotAllowed {
        doing: "attach a uprobe by perf event",
        needs: "CAP_PERFMON and, on kernels patched since mid-2025, CAP_SYS_ADMIN",
    }
}

/// The number of the event source.
pub(super) fn source() -> io::Result<u32> {
    fs::read_to_string(SOURCE)?.trim().parse().map_err(io::Error::other)
}

fn attach_error(error: io::Error, point: &ProbePoint, pid: u32) -> AttachError {
    if error.raw_os_error() == Some(libc::ESRCH) {
        AttachError::TargetGone { pid }
    } else if is_permission(&error) {
        not_allowed()
    } else {
        AttachError::Attach { function: point.function().to_owned(), offset: point.file_offset(), pid, source: error }
    }
}
