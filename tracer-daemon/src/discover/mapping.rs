//! Where the loader put the executable of a process, and what other code is mapped there.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

use super::{Links, Presence, ProcessIdentity, open_regular, presence};
use crate::addr::{Avma, FileOffset};

/// Most executable mappings of one process that are looked at. Programs with many shared libraries have some hundred.
const CODE_MAPPINGS_MAX: usize = 4096;

/// The executable mapping of the executable file that holds this offset: its address and the file offset mapped there.
/// None where it cannot be read, or where there is none or more than one.
///
/// The file is known by its inode, else by its path: some file systems show another inode in the maps than in `stat`.
pub fn code_mapping(identity: &ProcessIdentity, code: FileOffset) -> Option<(Avma, FileOffset)> {
    let process = Process::new(i32::try_from(identity.pid).ok()?).ok()?;
    let (maps, exe) = (process.maps().ok()?, process.exe().ok()?);
    let holds_code = |map: &&MemoryMap| {
        map.perms.contains(MMPermissions::EXECUTE)
            && (map.offset..map.offset.saturating_add(map.address.1 - map.address.0)).contains(&code.0)
    };
    let by_inode = maps
        .iter()
        .filter(holds_code)
        .filter(|map| map.inode == identity.exe_inode && matches!(map.pathname, MMapPath::Path(_)));
    let by_path =
        || maps.iter().filter(holds_code).filter(|map| matches!(&map.pathname, MMapPath::Path(path) if *path == exe));
    only(by_inode).or_else(|| only(by_path())).map(|map| (Avma(map.address.0), FileOffset(map.offset)))
}

fn only<'a>(mut maps: impl Iterator<Item = &'a MemoryMap>) -> Option<&'a MemoryMap> {
    let first = maps.next();
    first.filter(|_| maps.next().is_none())
}

/// A range of a process's memory that holds code of a file or of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeMapping {
    /// First address.
    pub start: Avma,
    /// Behind the last.
    pub end: Avma,
    /// What lies at `start`, in the file.
    pub offset: FileOffset,
    /// What is mapped.
    pub code: MappedCode,
}

/// What holds code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MappedCode {
    /// A file: an executable or a shared library.
    File {
        /// As the process sees it; ` (deleted)` at its end where the file has no name any more.
        path: PathBuf,
        /// Device and inode as the maps show them; some file systems show others in `stat`.
        device: (i32, i32),
        /// See `device`.
        inode: u64,
    },
    /// The kernel's own code for system calls that need no system call.
    Vdso,
}

/// The executable mappings of a process, by address: files and the vdso, not what a program has written itself. At most
/// 4,096.
///
/// # Errors
/// Where they cannot be read, or where the process is not the same any more.
pub fn code_mappings(identity: &ProcessIdentity) -> io::Result<Vec<CodeMapping>> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let pid = i32::try_from(identity.pid).map_err(|_too_large| gone())?;
    let maps = Process::new(pid).and_then(|process| process.maps()).map_err(io::Error::other)?;
    // What was read before it became another program was of the one that we mean.
    if presence(identity) != Presence::Running {
        return Err(gone());
    }
    Ok(maps.into_iter().filter_map(code_of).take(CODE_MAPPINGS_MAX).collect())
}

fn code_of(map: MemoryMap) -> Option<CodeMapping> {
    let code = match map.pathname {
        _ if !map.perms.contains(MMPermissions::EXECUTE) => return None,
        MMapPath::Path(path) => MappedCode::File { path, device: map.dev, inode: map.inode },
        MMapPath::Vdso => MappedCode::Vdso,
        _ => return None,
    };
    let (start, end) = map.address;
    Some(CodeMapping { start: Avma(start), end: Avma(end), offset: FileOffset(map.offset), code })
}

/// Opens the file of a mapping, whether or not it still has a name.
///
/// # Errors
/// Where it cannot be had, is no regular file, or where another one has its path by now.
pub fn open_mapped(pid: u32, mapping: &CodeMapping) -> io::Result<File> {
    let MappedCode::File { path, inode, .. } = &mapping.code else { return Err(io::ErrorKind::Unsupported.into()) };
    // The file itself; needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start.0, mapping.end.0);
    if let Ok(file) = open_regular(Path::new(&link), Links::Follow) {
        return Ok(file);
    }
    let within = path.strip_prefix("/").map_err(io::Error::other)?;
    let file = open_regular(&Path::new("/proc").join(pid.to_string()).join("root").join(within), Links::Follow)?;
    if file.metadata()?.ino() != *inode {
        return Err(io::Error::other("another file has the path of a mapped one"));
    }
    Ok(file)
}
