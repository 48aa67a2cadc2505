//! Many executables at once: those that run now, and the ELF files below a folder.
//!
//! Only says which files there are; whether they are Go programs is for `inspect` to say. Follows no symbolic link, opens
//! nothing but regular files, enters no file system that the kernel makes up (/proc, /sys, …: reading a file there can do
//! something), and bounds depth and number of entries. What is left out is counted.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use procfs::process::all_processes;
use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

use super::{DiscoverError, FileIdentity, Links, open_regular, target_by_pid};

/// Folders within folders; deeper ones are counted and not entered.
const DEPTH_MAX: usize = 64;
/// Entries of folders that are looked at in all.
const ENTRIES_MAX: u64 = 4_000_000;
/// ELF files that are kept.
const FILES_MAX: usize = 200_000;
/// Processes of one executable that are tried when it is opened again.
const OPEN_TRIES: usize = 16;

/// How a folder is opened.
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// File systems without files of users (include/uapi/linux/magic.h).
const MADE_UP: [u64; 14] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x6165_676c, // pstore
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
];

/// An executable that runs.
#[derive(Clone, Debug)]
pub struct RunningExecutable {
    /// As its first process sees it.
    pub path: PathBuf,
    /// Which file it is.
    pub identity: FileIdentity,
    /// The processes that run it, ascending.
    pub pids: Vec<u32>,
}

/// All executables that run.
#[derive(Clone, Debug, Default)]
pub struct RunningExecutables {
    /// Sorted by path.
    pub executables: Vec<RunningExecutable>,
    /// Processes that run them.
    pub processes: u64,
    /// Processes that we may not look at.
    pub not_allowed: u64,
}

/// Looks at every process; kernel threads, zombies and ourselves are left out.
///
/// # Errors
/// Where /proc cannot be read.
pub fn running_executables() -> io::Result<RunningExecutables> {
    let mut found = RunningExecutables::default();
    let mut places: HashMap<FileIdentity, usize> = HashMap::new();
    for process in all_processes().map_err(io::Error::other)?.flatten() {
        let Ok(pid) = u32::try_from(process.pid()) else { continue };
        let target = match target_by_pid(pid) {
            Ok(target) => target,
            Err(DiscoverError::NotAllowed { .. } | DiscoverError::Unreadable { .. }) => {
                found.not_allowed += 1;
                continue;
            }
            Err(_not_a_target) => continue,
        };
        let Ok(identity) = FileIdentity::of(&target.exe) else {
            found.not_allowed += 1;
            continue;
        };
        found.processes += 1;
        if let Some(known) = places.get(&identity).and_then(|place| found.executables.get_mut(*place)) {
            known.pids.push(pid);
        } else {
            places.insert(identity, found.executables.len());
            found.executables.push(RunningExecutable { path: target.exe_path, identity, pids: vec![pid] });
        }
    }
    found.executables.iter_mut().for_each(|executable| executable.pids.sort_unstable());
    found.executables.sort_by(|one, other| one.path.cmp(&other.path).then(one.pids.cmp(&other.pids)));
    Ok(found)
}

impl RunningExecutable {
    /// Opens it through one of its processes. `None` where all that were tried are gone, or run something else by now.
    pub fn open(&self) -> Option<File> {
        let files = self.pids.iter().take(OPEN_TRIES).filter_map(|pid| target_by_pid(*pid).ok());
        files.map(|target| target.exe).find(|exe| FileIdentity::of(exe).is_ok_and(|now| now == self.identity))
    }
}

/// The ELF files below a folder, and what was left out.
#[derive(Clone, Debug, Default)]
pub struct FilesBelow {
    /// Sorted.
    pub elf: Vec<PathBuf>,
    /// Regular files that are no ELF files.
    pub other_files: u64,
    /// Regular files that could not be opened or read.
    pub unreadable_files: u64,
    /// Folders that could not be read.
    pub unreadable_folders: u64,
    /// Folders not entered: too deep.
    pub too_deep: u64,
    /// Folders not entered: file systems that the kernel makes up.
    pub made_up: u64,
    /// ELF files that are not in `elf`: there are too many.
    pub too_many: u64,
    /// Whether the search ended before everything was seen: too many entries.
    pub is_cut_short: bool,
}

/// Searches a folder and all below it, on other file systems too. `progress` is told the number of entries seen.
///
/// # Errors
/// Where the folder itself cannot be read, or where the kernel makes up what is in it.
pub fn elf_files_below(folder: &Path, progress: &mut dyn FnMut(u64)) -> io::Result<FilesBelow> {
    let mut found = FilesBelow::default();
    let mut entries_seen = 0_u64;
    // Follows a link, but only this one: it was named. The kernel follows it, since the text of a link below /proc
    // (/proc/PID/root, say) is not where it leads.
    let root = File::from(openat(CWD, folder, FOLDER, Mode::empty())?);
    if is_made_up(&root) {
        return Err(io::Error::other(
            "the kernel makes up what is in it; name a folder of files (/proc/PID/root is what a process sees as /)",
        ));
    }
    let device = root.metadata()?.dev();
    let mut waiting = vec![(PathBuf::new(), 0_usize, device)];
    while let Some((relative, depth, device_above)) = waiting.pop() {
        let opened = open_below(&root, &relative).and_then(|opened| Ok((opened.metadata()?.dev(), opened)));
        let Ok((device, opened)) = opened else {
            found.unreadable_folders += 1;
            continue;
        };
        if device != device_above && is_made_up(&opened) {
            found.made_up += 1;
            continue;
        }
        // What is open is read, not what its path leads to by now.
        let Ok(entries) = fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd())) else {
            found.unreadable_folders += 1;
            continue;
        };
        for entry in entries {
            if entries_seen == ENTRIES_MAX {
                found.is_cut_short = true;
                waiting.clear();
                break;
            }
            entries_seen += 1;
            progress(entries_seen);
            let Some((kind, entry)) = entry.ok().and_then(|entry| Some((entry.file_type().ok()?, entry))) else {
                found.unreadable_files += 1;
                continue;
            };
            let below = relative.join(entry.file_name());
            if kind.is_dir() && depth < DEPTH_MAX {
                waiting.push((below, depth + 1, device));
            } else if kind.is_dir() {
                found.too_deep += 1;
            } else if kind.is_file() {
                found.take_file(&entry.path(), || folder.join(below));
            }
        }
    }
    found.elf.sort_unstable();
    Ok(found)
}

/// A folder that the search came to. Refuses links on the way: it may have been replaced by one meanwhile.
fn open_below(root: &File, relative: &Path) -> io::Result<File> {
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let on_the_way = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(root, relative, FOLDER, Mode::empty(), on_the_way) {
        // Sandboxes that do not know this call yet; then the last part is looked at.
        Err(Errno::NOSYS | Errno::PERM) => Ok(openat(root, relative, FOLDER | OFlags::NOFOLLOW, Mode::empty())?.into()),
        opened => Ok(opened?.into()),
    }
}

impl FilesBelow {
    /// `opened_by` is the path for us, `path` the one to keep.
    fn take_file(&mut self, opened_by: &Path, path: impl FnOnce() -> PathBuf) {
        match begins_as_elf(opened_by) {
            Ok(true) if self.elf.len() < FILES_MAX => self.elf.push(path()),
            Ok(true) => self.too_many += 1,
            Ok(false) => self.other_files += 1,
            Err(_) => self.unreadable_files += 1,
        }
    }
}

fn begins_as_elf(path: &Path) -> io::Result<bool> {
    let mut magic = [0; 4];
    match open_regular(path, Links::Refuse)?.read_exact_at(&mut magic, 0) {
        Ok(()) => Ok(magic == *b"\x7fELF"),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where the kernel does not say, it is a real one.
fn is_made_up(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|file_system| {
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "a magic number of 32 bits")]
        let magic = u64::from(file_system.f_type as u32);
        MADE_UP.contains(&magic)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn below(folder: &Path) -> FilesBelow {
        elf_files_below(folder, &mut |_| {}).unwrap()
    }

    #[test]
    fn elf_files_are_found_whatever_they_are_called_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("b/c")).unwrap();
        fs::write(path("b/c/text.txt"), b"\x7fELF and more").unwrap();
        fs::write(path("a"), b"\x7fELF").unwrap();
        fs::write(path("short"), b"\x7f").unwrap();
        fs::write(path("script"), b"#!/bin/sh").unwrap();
        symlink(path("a"), path("link")).unwrap();
        symlink("..", path("b/up")).unwrap();
        symlink("nowhere", path("b/nowhere")).unwrap();
        rustix::fs::mkfifoat(CWD, path("pipe"), Mode::RWXU).unwrap();
        let found = below(folder.path());
        assert_eq!(found.elf, [path("a"), path("b/c/text.txt")]);
        assert_eq!((found.other_files, found.unreadable_files, found.unreadable_folders), (2, 0, 0));
        let link = path("b/to_c");
        symlink("c", &link).unwrap();
        assert_eq!(below(&link).elf.len(), 1, "the folder that was named may be a link");
    }

    #[test]
    fn folders_deeper_than_the_bound_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut path = folder.path().to_owned();
        (0..=DEPTH_MAX).for_each(|_| path.push("d"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("deep"), b"\x7fELF").unwrap();
        fs::write(path.with_file_name("not_so_deep"), b"\x7fELF").unwrap();
        let found = below(folder.path());
        assert_eq!((found.elf.len(), found.too_deep), (1, 1));
    }

    #[test]
    fn what_the_kernel_makes_up_is_not_searched_even_if_named() {
        for named in ["/proc", "/proc/self", "/proc/sys/kernel"] {
            let error = elf_files_below(Path::new(named), &mut |_| {}).unwrap_err();
            assert!(error.to_string().contains("/proc/PID/root"), "{named}: {error}");
        }
    }

    #[test]
    fn a_link_of_the_kernels_leads_where_the_kernel_says_and_paths_begin_as_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/a"), b"\x7fELF").unwrap();
        let opened = File::open(folder.path()).unwrap();
        let link = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        for named in [link.clone(), link.join(".")] {
            assert_eq!(below(&named).elf, [named.join("bin/a")]);
        }
    }

    #[test]
    fn a_folder_that_has_become_a_link_is_not_opened() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(elsewhere.path().join("below")).unwrap();
        fs::create_dir_all(folder.path().join("real/below")).unwrap();
        symlink(elsewhere.path(), folder.path().join("link")).unwrap();
        let root = File::open(folder.path()).unwrap();
        assert!(open_below(&root, Path::new("")).is_ok());
        assert!(open_below(&root, Path::new("real/below")).is_ok());
        assert!(open_below(&root, Path::new("link")).is_err());
        assert!(open_below(&root, Path::new("link/below")).is_err(), "on the way, too");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(elf_files_below(Path::new("/nonexistent"), &mut |_| {}).is_err());
    }

    #[test]
    fn processes_of_one_executable_are_one_entry() {
        let mut children = [(); 3].map(|()| std::process::Command::new("sleep").arg("60").spawn().unwrap());
        let mut pids = children.each_ref().map(std::process::Child::id).to_vec();
        pids.sort_unstable();
        let has_all = || {
            let found = running_executables().unwrap();
            found.executables.into_iter().find(|executable| pids.iter().all(|pid| executable.pids.contains(pid)))
        };
        // Until all three have gone through `exec`.
        let sleeping = std::iter::repeat_with(has_all).take(1_000).flatten().next().unwrap();
        assert!(sleeping.open().is_some());
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(RunningExecutable { pids, ..sleeping }.open().is_none());
    }
}
