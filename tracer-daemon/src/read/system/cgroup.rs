//! The control group that accounts for a process's memory: use, limits, pressure and kills; version 1 and version 2.
//!
//! Which group it is stands in `/proc/PID/cgroup`, relative to the root of our own cgroup namespace; where its files are,
//! in the mounts. Where our own mounts do not show it (another cgroup namespace), the target's own are tried, through
//! `/proc/PID/root`. On a hybrid host the hierarchy that has the memory controller is taken, which is one of version 1.
//!
//! Files: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, MountInfos};
use procfs::{FromBufRead as _, MemoryPressure, ProcessCGroups};

use serde::{Deserialize, Serialize};

use super::{Absent, System};

/// Longest file of a group that is believed.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most groups above one another that are looked at.
const DEPTH_MAX: usize = 64;
/// Version 1 says this, rounded down to pages, where there is no limit (`PAGE_COUNTER_MAX` of `include/linux/page_counter.h`).
const NO_LIMIT_V1: u64 = 1 << 62;

/// Which interface a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// One hierarchy for each controller.
    V1,
    /// One for all.
    V2,
}

/// Memory of the group as the kernel accounts for it. None: the file is missing, or there is no such limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Which interface.
    pub version: Version,
    /// Its path, as `/proc/PID/cgroup` names it.
    pub path: String,
    /// All memory charged to the group and those below it: `memory.current`, `memory.usage_in_bytes`.
    pub current_bytes: Option<u64>,
    /// The least limit of it and all groups above that can be seen.
    pub limit: Option<Limit>,
    /// Beyond this it is slowed down: `memory.high`, the least of it and those above. Version 2 only.
    pub high: Option<Limit>,
    /// Protected up to this: `memory.low`; in version 1 the soft limit says nothing of the kind and is left out.
    pub low_bytes: Option<u64>,
    /// In swap: `memory.swap.current`; in version 1 `swap` of `memory.stat`.
    pub swap_bytes: Option<u64>,
    /// `memory.swap.max`; in version 1 what `memory.memsw.limit_in_bytes` leaves beyond the limit.
    pub swap_limit_bytes: Option<u64>,
    /// Anonymous memory: `anon` of `memory.stat`; `total_rss` in version 1.
    pub anonymous_bytes: Option<u64>,
    /// Pages of files: `file`; `total_cache`.
    pub file_bytes: Option<u64>,
    /// Of them, those not used lately, which the kernel takes first: `inactive_file`; `total_inactive_file`.
    pub inactive_file_bytes: Option<u64>,
    /// Of them, shared memory, which it cannot take: `shmem`; `total_shmem`.
    pub shared_bytes: Option<u64>,
    /// How often the limit was reached: `max` of `memory.events`; `memory.failcnt`.
    pub limit_reached: Option<u64>,
    /// How often a process of the group was killed for it: `oom_kill` of `memory.events` or of `memory.oom_control`.
    pub oom_kills: Option<u64>,
    /// How long tasks waited for memory: `memory.pressure`. Version 2 where the kernel has PSI on.
    pub pressure: Option<Pressure>,
}

/// A limit and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// How many groups above: 0 is the process's own.
    pub levels_above: usize,
}

/// Percent of the time in which tasks waited for memory, over some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// Some task, of the last 10 s.
    pub some_10s: f32,
    /// Some task, of the last 60 s.
    pub some_60s: f32,
    /// All tasks, of the last 10 s.
    pub full_10s: f32,
    /// All tasks, of the last 60 s.
    pub full_60s: f32,
}

/// The group and those above, as far as they can be seen.
struct Folders {
    version: Version,
    path: String,
    /// The process's own first.
    upwards: Vec<PathBuf>,
}

impl System {
    /// The group of a process.
    ///
    /// # Errors
    /// The reason for which it is not known.
    pub fn cgroup(&self, pid: u32) -> Result<Cgroup, Absent> {
        let Folders { version, path, upwards: folders } = self.folders(pid)?;
        let own = folders.first().cloned().unwrap_or_default();
        let number = |file: &str| number(&own.join(file));
        let least = |file: &str, none: u64| {
            let limits = folders.iter().enumerate().filter_map(|(levels_above, folder)| {
                let bytes = self::number(&folder.join(file)).filter(|bytes| *bytes < none)?;
                Some(Limit { bytes, levels_above })
            });
            limits.min_by_key(|limit| limit.bytes)
        };
        let stat = text(&own.join("memory.stat")).unwrap_or_default();
        let stat = |name: &str| field(&stat, name);
        let mut group = match version {
            Version::V2 => {
                let events = text(&own.join("memory.events")).unwrap_or_default();
                Cgroup {
                    version,
                    path,
                    current_bytes: number("memory.current"),
                    limit: least("memory.max", u64::MAX),
                    high: least("memory.high", u64::MAX),
                    low_bytes: number("memory.low").filter(|bytes| *bytes > 0),
                    swap_bytes: number("memory.swap.current"),
                    swap_limit_bytes: number("memory.swap.max"),
                    anonymous_bytes: stat("anon"),
                    file_bytes: stat("file"),
                    inactive_file_bytes: stat("inactive_file"),
                    shared_bytes: stat("shmem"),
                    limit_reached: field(&events, "max"),
                    oom_kills: field(&events, "oom_kill"),
                    pressure: pressure(&own.join("memory.pressure")),
                }
            }
            Version::V1 => {
                let limit = least("memory.limit_in_bytes", NO_LIMIT_V1);
                let both = number("memory.memsw.limit_in_bytes").filter(|bytes| *bytes < NO_LIMIT_V1);
                Cgroup {
                    version,
                    path,
                    current_bytes: number("memory.usage_in_bytes"),
                    swap_limit_bytes: both.zip(limit.as_ref()).map(|(both, limit)| both.saturating_sub(limit.bytes)),
                    limit,
                    high: None,
                    low_bytes: None,
                    swap_bytes: stat("total_swap"),
                    anonymous_bytes: stat("total_rss"),
                    file_bytes: stat("total_cache"),
                    inactive_file_bytes: stat("total_inactive_file"),
                    shared_bytes: stat("total_shmem"),
                    limit_reached: number("memory.failcnt"),
                    oom_kills: field(&text(&own.join("memory.oom_control")).unwrap_or_default(), "oom_kill"),
                    pressure: None,
                }
            }
        };
        // The root of version 2 has neither `memory.current` nor limits; it is no group then that says anything.
        if group.current_bytes.is_none() && group.limit.is_none() && group.anonymous_bytes.is_none() {
            return Err(Absent {
                id: "cgroup_without_memory",
                text: format!("the cgroup {} has no files of the memory controller", group.path),
            });
        }
        // Pages of shared memory count as pages of files in both versions; the kernel cannot take them back.
        if let (Some(file), Some(shared)) = (group.file_bytes, group.shared_bytes) {
            group.shared_bytes = Some(shared.min(file));
        }
        Ok(group)
    }

    fn folders(&self, pid: u32) -> Result<Folders, Absent> {
        let process = self.process(pid);
        let cgroup_file = process.join("cgroup");
        let unread =
            |why: String| Absent { id: "cgroup_unread", text: format!("cannot read {}: {why}", cgroup_file.display()) };
        let file = File::open(&cgroup_file).map_err(|error| unread(error.to_string()))?;
        let groups = ProcessCGroups::from_buf_read(BufReader::new(file)).map_err(|error| unread(error.to_string()))?;
        // The controller is in one hierarchy only: in one of version 1, else in that of version 2.
        let version_1 = groups.0.iter().find(|group| group.controllers.iter().any(|name| name == "memory"));
        let version_2 = groups.0.iter().find(|group| group.hierarchy == 0);
        let (version, group) = version_1
            .map(|group| (Version::V1, group))
            .or_else(|| version_2.map(|group| (Version::V2, group)))
            .ok_or_else(|| Absent {
                id: "cgroup_none",
                text: format!("{} names no group of the memory controller", cgroup_file.display()),
            })?;
        // Where the files of the one are not mounted, as in a container whose host is hybrid, there is no other.
        let own = (self.root.join("proc/self/mountinfo"), self.root.clone());
        let theirs = (process.join("mountinfo"), process.join("root"));
        for (mountinfo, root) in [own, theirs] {
            let Ok(file) = File::open(&mountinfo) else { continue };
            let Ok(mounts) = MountInfos::from_buf_read(BufReader::new(file)) else { continue };
            let found = mounts.0.iter().rev().find_map(|mount| folders_below(mount, version, &group.pathname, &root));
            if let Some(folders) = found {
                return Ok(Folders { version, path: group.pathname.clone(), upwards: folders });
            }
        }
        Err(Absent {
            id: "cgroup_not_mounted",
            text: format!("the files of the cgroup {} are not mounted where leakline runs", group.pathname),
        })
    }
}

/// The folder of a group and of those above it, where this mount shows them.
fn folders_below(mount: &MountInfo, version: Version, group: &str, root: &Path) -> Option<Vec<PathBuf>> {
    let is_of_version = match version {
        Version::V1 => mount.fs_type == "cgroup" && mount.super_options.contains_key("memory"),
        Version::V2 => mount.fs_type == "cgroup2",
    };
    if !is_of_version {
        return None;
    }
    // A mount may show a part of the hierarchy: its root is a group then, named as seen from our namespace.
    let relative = Path::new(group).strip_prefix(&mount.root).ok()?;
    let is_inside = relative.components().all(|component| matches!(component, std::path::Component::Normal(_)));
    let top = root.join(mount.mount_point.strip_prefix("/").unwrap_or(&mount.mount_point));
    let own = top.join(relative);
    if !is_inside || !own.is_dir() {
        return None;
    }
    let levels = relative.components().count() + 1;
    Some(own.ancestors().take(levels.min(DEPTH_MAX)).map(Path::to_owned).collect())
}

/// Seen through the mounts of a process, which it can make as it likes, anything can be there: a pipe that nobody writes to, or a
/// link to a device without end.
fn text(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A file with one number. `max` is none: there is no limit.
fn number(path: &Path) -> Option<u64> {
    text(path).ok()?.trim().parse().ok()
}

/// The number behind a name, in a file with a line for each.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

fn pressure(path: &Path) -> Option<Pressure> {
    // Where PSI is off, the file is missing, or opening it says that it is not supported.
    let text = text(path).ok()?;
    let pressure = MemoryPressure::from_buf_read(text.as_bytes()).ok()?;
    Some(Pressure {
        some_10s: pressure.some.avg10,
        some_60s: pressure.some.avg60,
        full_10s: pressure.full.avg10,
        full_60s: pressure.full.avg60,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A host: files by path.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let system = System::below(root.path());
        (root, system)
    }

    const MOUNT_V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn version_2_takes_the_least_limit_of_all_groups_above() {
        let (_root, system) = host(&[
            ("proc/7/cgroup", "0::/a.slice/b.scope\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/a.slice/memory.max", "1048576\n"),
            ("sys/fs/cgroup/a.slice/memory.high", "max\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.high", "4096000\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.low", "0\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.current", "700000\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.swap.max", "max\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.swap.current", "5\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.events", "low 0\nhigh 3\nmax 4\noom 2\noom_kill 1\n"),
            ("sys/fs/cgroup/a.slice/b.scope/memory.stat", "anon 500\nfile 300\ninactive_file 100\nshmem 900\n"),
            (
                "sys/fs/cgroup/a.slice/b.scope/memory.pressure",
                "some avg10=1.50 avg60=2.00 avg300=0.00 total=7\nfull avg10=0.25 avg60=0.50 avg300=0.00 total=7\n",
            ),
        ]);
        let group = system.cgroup(7).unwrap();
        assert_eq!(
            group,
            Cgroup {
                version: Version::V2,
                path: "/a.slice/b.scope".into(),
                current_bytes: Some(700_000),
                limit: Some(Limit { bytes: 1_048_576, levels_above: 1 }),
                high: Some(Limit { bytes: 4_096_000, levels_above: 0 }),
                low_bytes: None,
                swap_bytes: Some(5),
                swap_limit_bytes: None,
                anonymous_bytes: Some(500),
                file_bytes: Some(300),
                inactive_file_bytes: Some(100),
                shared_bytes: Some(300),
                limit_reached: Some(4),
                oom_kills: Some(1),
                pressure: Some(Pressure { some_10s: 1.5, some_60s: 2.0, full_10s: 0.25, full_60s: 0.5 }),
            }
        );
    }

    #[test]
    fn on_a_hybrid_host_the_hierarchy_with_the_controller_is_taken() {
        let (_root, system) = host(&[
            ("proc/7/cgroup", "9:name=systemd:/\n4:memory:/docker/c1\n1:cpu,cpuacct:/\n0::/\n"),
            (
                "proc/self/mountinfo",
                "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/unified/cgroup.procs", ""),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "900000000\n"),
            ("sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes", "536870912\n"),
            ("sys/fs/cgroup/memory/docker/c1/memory.memsw.limit_in_bytes", "536871012\n"),
            ("sys/fs/cgroup/memory/docker/c1/memory.usage_in_bytes", "400000000\n"),
            ("sys/fs/cgroup/memory/docker/c1/memory.failcnt", "12\n"),
            ("sys/fs/cgroup/memory/docker/c1/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            (
                "sys/fs/cgroup/memory/docker/c1/memory.stat",
                "rss 1\ncache 2\ntotal_rss 300\ntotal_cache 200\ntotal_inactive_file 50\ntotal_swap 9\n",
            ),
        ]);
        let group = system.cgroup(7).unwrap();
        assert_eq!(group.version, Version::V1);
        assert_eq!(group.limit, Some(Limit { bytes: 512 << 20, levels_above: 0 }));
        assert_eq!((group.swap_limit_bytes, group.swap_bytes), (Some(100), Some(9)));
        assert_eq!((group.current_bytes, group.limit_reached, group.oom_kills), (Some(400_000_000), Some(12), Some(2)));
        assert_eq!((group.anonymous_bytes, group.file_bytes, group.shared_bytes), (Some(300), Some(200), None));
        assert_eq!(group.pressure, None);
    }

    #[test]
    fn a_group_outside_our_namespace_is_found_through_the_mounts_of_the_process() {
        let (_root, system) = host(&[
            ("proc/7/cgroup", "0::/../other\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("proc/7/mountinfo", "30 23 0:26 /../other /sys/fs/cgroup rw - cgroup2 cgroup rw\n"),
            ("proc/7/root/sys/fs/cgroup/memory.current", "42\n"),
            ("proc/7/root/sys/fs/cgroup/memory.max", "100\n"),
            // Not to be taken: what our own mount shows there is another group.
            ("sys/fs/cgroup/memory.current", "1\n"),
        ]);
        let group = system.cgroup(7).unwrap();
        assert_eq!(group.current_bytes, Some(42));
        assert_eq!(group.limit, Some(Limit { bytes: 100, levels_above: 0 }));
    }

    #[test]
    fn what_is_no_file_of_a_group_is_neither_waited_for_nor_read_for_ever() {
        let (root, system) = host(&[
            ("proc/7/cgroup", "0::/../other\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("proc/7/mountinfo", "30 23 0:26 /../other /sys/fs/cgroup rw - cgroup2 cgroup rw\n"),
            ("proc/7/root/sys/fs/cgroup/memory.current", "42\n"),
            ("elsewhere", "100\n"),
        ]);
        let group = root.path().join("proc/7/root/sys/fs/cgroup");
        // Nobody ever opens its other end.
        rustix::fs::mkfifoat(rustix::fs::CWD, group.join("memory.max"), rustix::fs::Mode::RWXU).unwrap();
        symlink("/dev/zero", group.join("memory.pressure")).unwrap();
        symlink(root.path().join("elsewhere"), group.join("memory.high")).unwrap();
        let group = system.cgroup(7).unwrap();
        assert_eq!(group.current_bytes, Some(42));
        assert_eq!((group.limit, group.high, group.pressure), (None, None, None));
    }

    #[test]
    fn what_is_missing_is_absent_and_never_0() {
        let (_root, system) = host(&[("proc/7/cgroup", "0::/x\n"), ("proc/self/mountinfo", MOUNT_V2)]);
        assert_eq!(system.cgroup(7).unwrap_err().id, "cgroup_not_mounted");
        assert_eq!(system.cgroup(8).unwrap_err().id, "cgroup_unread");
        let (_root, system) = host(&[("proc/7/cgroup", "3:cpu:/x\n"), ("proc/self/mountinfo", MOUNT_V2)]);
        assert_eq!(system.cgroup(7).unwrap_err().id, "cgroup_none");
        let (_root, system) = host(&[
            ("proc/7/cgroup", "0::/x\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/x/cgroup.procs", "7\n"),
        ]);
        assert_eq!(system.cgroup(7).unwrap_err().id, "cgroup_without_memory");
        let (_root, system) = host(&[
            ("proc/7/cgroup", "0::/x\n"),
            ("proc/self/mountinfo", MOUNT_V2),
            ("sys/fs/cgroup/x/memory.current", "700\n"),
        ]);
        let group = system.cgroup(7).unwrap();
        assert_eq!(group.current_bytes, Some(700));
        assert_eq!((group.limit, group.swap_bytes, group.oom_kills), (None, None, None));
    }
}
