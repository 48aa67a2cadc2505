//! Which processes are ours?
//!
//! Owns the identity of a process over time and the choice of targets by pid or name. Refuses what can never be a
//! target (kernel threads, zombies, ourselves) with a sentence that says what to do. Whether a process runs a Go
//! program is for `inspect` to say.

mod descendants;
mod executables;
mod file_identity;
mod life;
mod mapping;
mod regular_file;
mod select;

use std::{
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use procfs::{ProcError, process::Process};
use thiserror::Error;

pub use descendants::{Descendant, descendants, listens, resident_bytes};
pub use executables::{FilesBelow, RunningExecutable, RunningExecutables, elf_files_below, running_executables};
pub use file_identity::FileIdentity;
use life::Life;
pub use mapping::{CodeMapping, MappedCode, code_mapping, code_mappings, open_mapped};
pub use regular_file::{Links, open_regular};
pub use select::{NameError, NamePattern};

/// `PF_KTHREAD` of `include/linux/sched.h`: set in the flags of a kernel thread.
const KERNEL_THREAD_FLAG: u32 = 0x0020_0000;

/// What stays the same while one process runs one program: a pid alone is reused, and survives `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessIdentity {
    /// Process id as this PID namespace sees it.
    pub pid: u32,
    /// When the process was forked, clock ticks since boot.
    pub start_ticks: u64,
    /// Address of the bottom of the first stack, chosen anew by every `exec` (0 where it may not be read).
    pub start_stack: u64,
    /// Device of the executable.
    pub exe_device: u64,
    /// Inode of the executable.
    pub exe_inode: u64,
}

/// A process that we may look at.
#[derive(Debug)]
pub struct Target {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// Path of the executable as the process sees it, ` (deleted)` cut off.
    pub exe_path: PathBuf,
    /// Whether the file at that path is gone or another one by now.
    pub exe_replaced: bool,
    /// The executable itself, held open: what is inspected is what is probed, whatever happens to the path or the pid.
    pub exe: File,
}

impl Target {
    /// The executable's file name, for people and for `--name`.
    pub fn name(&self) -> String {
        name_of(&self.exe_path)
    }
}

/// Whether a target is still what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The same process, running the same program.
    Running,
    /// It ended.
    Ended,
    /// The process replaced its program by `exec`: what was attached to is gone.
    Replaced,
}

/// Why a process cannot be a target.
#[derive(Debug, Error)]
pub enum DiscoverError {
    /// No process has that id.
    #[error("no process {pid}: it may have ended (`pgrep -a NAME` finds its successor; --name NAME attaches by name)")]
    Gone {
        /// The id asked for.
        pid: u32,
    },
    /// A kernel thread has no program in user space.
    #[error("process {pid} ({name}) is a kernel thread: it runs no Go program")]
    KernelThread {
        /// The id asked for.
        pid: u32,
        /// The kernel's name for it.
        name: String,
    },
    /// The process has ended and its parent has not taken notice.
    #[error("process {pid} ({name}) has ended and is waiting for its parent (a zombie)")]
    Zombie {
        /// The id asked for.
        pid: u32,
        /// The kernel's name for it.
        name: String,
    },
    /// Attaching to ourselves would trap our own reader.
    #[error("process {pid} is this leakline")]
    Ourselves {
        /// The id asked for.
        pid: u32,
    },
    /// The kernel does not let this user look.
    #[error(
        "not allowed to look at process {pid} while {doing}: run as root, or as the user of the process, or with \
         CAP_SYS_PTRACE (and CAP_DAC_READ_SEARCH for the memory statement; windows need CAP_BPF and CAP_PERFMON, too, and \
         --evidence exact CAP_SYS_ADMIN beside these)"
    )]
    NotAllowed {
        /// The id asked for.
        pid: u32,
        /// What was tried.
        doing: &'static str,
    },
    /// Anything else.
    #[error("cannot read about process {pid} while {doing}")]
    Unreadable {
        /// The id asked for.
        pid: u32,
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The process with this id, if it can be a target.
pub fn target_by_pid(pid: u32) -> Result<Target, DiscoverError> {
    if pid == std::process::id() {
        return Err(DiscoverError::Ourselves { pid });
    }
    let doing = "reading /proc/PID/stat";
    let process = i32::try_from(pid).map_err(|_too_large| DiscoverError::Gone { pid })?;
    let process = Process::new(process).map_err(|error| from_procfs(pid, doing, error))?;
    let stat = process.stat().map_err(|error| from_procfs(pid, doing, error))?;
    if stat.flags & KERNEL_THREAD_FLAG != 0 {
        return Err(DiscoverError::KernelThread { pid, name: shown(&stat.comm) });
    }
    if matches!(stat.state, 'Z' | 'X' | 'x') {
        return Err(DiscoverError::Zombie { pid, name: shown(&stat.comm) });
    }
    let doing = "opening /proc/PID/exe";
    let link = PathBuf::from(format!("/proc/{pid}/exe"));
    let shown = std::fs::read_link(&link).map_err(|error| from_io(pid, doing, error))?;
    let exe = File::open(&link).map_err(|error| from_io(pid, doing, error))?;
    let metadata = exe.metadata().map_err(|error| from_io(pid, doing, error))?;
    let (exe_path, deleted) = without_deleted_mark(&shown);
    let identity = ProcessIdentity {
        pid,
        start_ticks: stat.starttime,
        start_stack: stat.startstack,
        exe_device: metadata.dev(),
        exe_inode: metadata.ino(),
    };
    let exe_replaced = deleted || path_leads_elsewhere(pid, &exe_path, identity);
    Ok(Target { identity, exe_path, exe_replaced, exe })
}

/// Whether the process is still there and still runs the same program.
pub fn presence(identity: &ProcessIdentity) -> Presence {
    let Some(stat) = Life::of(identity.pid) else { return Presence::Ended };
    if stat.start_ticks != identity.start_ticks || matches!(stat.state, b'Z' | b'X' | b'x') {
        return Presence::Ended;
    }
    let exe = std::fs::metadata(format!("/proc/{}/exe", identity.pid));
    match exe {
        Ok(exe)
            if exe.dev() == identity.exe_device
                && exe.ino() == identity.exe_inode
                // 0: it may not be read, or an exec was under way when we first looked.
                && (identity.start_stack == 0 || stat.start_stack == identity.start_stack) =>
        {
            Presence::Running
        }
        Ok(_) => Presence::Replaced,
        Err(_) => Presence::Ended,
    }
}

/// CPU time of a process since its start, seconds. None where it is gone.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "2^53 ticks are millions of years")]
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// A name that a process has chosen, without what could command a terminal or begin a line.
fn shown(name: &str) -> String {
    name.chars().flat_map(char::escape_debug).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The kernel marks the link of an executable that has no name any more.
fn without_deleted_mark(shown: &Path) -> (PathBuf, bool) {
    match shown.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => (PathBuf::from(path), true),
        None => (shown.to_path_buf(), false),
    }
}

/// Whether the executable's path, as the process sees it, leads to another file than the one that runs.
fn path_leads_elsewhere(pid: u32, exe_path: &Path, identity: ProcessIdentity) -> bool {
    let Ok(relative) = exe_path.strip_prefix("/") else { return false };
    let seen_by_process = PathBuf::from(format!("/proc/{pid}/root")).join(relative);
    std::fs::metadata(seen_by_process)
        .is_ok_and(|now| now.dev() != identity.exe_device || now.ino() != identity.exe_inode)
}

fn from_procfs(pid: u32, doing: &'static str, error: ProcError) -> DiscoverError {
    match error {
        ProcError::NotFound(_) => DiscoverError::Gone { pid },
        ProcError::PermissionDenied(_) => DiscoverError::NotAllowed { pid, doing },
        ProcError::Io(source, _) => from_io(pid, doing, source),
        other => DiscoverError::Unreadable { pid, doing, source: io::Error::other(other.to_string()) },
    }
}

fn from_io(pid: u32, doing: &'static str, error: io::Error) -> DiscoverError {
    /// `ESRCH`: the process went away between two reads.
    const NO_SUCH_PROCESS: i32 = 3;
    match error.kind() {
        io::ErrorKind::NotFound => DiscoverError::Gone { pid },
        io::ErrorKind::PermissionDenied => DiscoverError::NotAllowed { pid, doing },
        _ if error.raw_os_error() == Some(NO_SUCH_PROCESS) => DiscoverError::Gone { pid },
        _ => DiscoverError::Unreadable { pid, doing, source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_was_never_given_out_is_gone() {
        assert!(matches!(target_by_pid(u32::MAX), Err(DiscoverError::Gone { .. })));
        assert!(matches!(target_by_pid(0x7fff_fff0), Err(DiscoverError::Gone { .. })));
    }

    #[test]
    fn we_do_not_attach_to_ourselves() {
        assert!(matches!(target_by_pid(std::process::id()), Err(DiscoverError::Ourselves { .. })));
    }

    #[test]
    fn a_process_is_itself_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::new(child.id().cast_signed()).unwrap();
        while process.cmdline().unwrap_or_default().first().is_none_or(|program| program != "sleep")
            || process.stat().unwrap().startstack == 0
        {
            std::thread::yield_now(); // until its exec is complete
        }
        let target = target_by_pid(child.id()).unwrap();
        assert_eq!(presence(&target.identity), Presence::Running);
        assert_eq!(presence(&ProcessIdentity { start_stack: 1, ..target.identity }), Presence::Replaced);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(presence(&target.identity), Presence::Ended);
    }

    #[test]
    fn the_mark_of_a_deleted_file_is_not_part_of_its_path() {
        assert_eq!(without_deleted_mark(Path::new("/srv/shop (deleted)")), (PathBuf::from("/srv/shop"), true));
        assert_eq!(without_deleted_mark(Path::new("/srv/shop")), (PathBuf::from("/srv/shop"), false));
    }
}
