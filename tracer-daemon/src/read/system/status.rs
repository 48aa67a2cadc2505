//! `/proc/PID/status` and `/proc/meminfo`: what the kernel counts of a process and of the host.

use std::fs::File;
use std::io::BufReader;

use procfs::process::Status;
use procfs::{FromBufRead as _, Meminfo};

use serde::{Deserialize, Serialize};

use super::{Absent, System};

/// Resident memory as the kernel counts it on the way. Since it counts per thread or processor, it may be some dozens of
/// pages away from what the tables of pages say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// All: `VmRSS`.
    pub rss_bytes: u64,
    /// Not of files: `RssAnon`. None before Linux 4.5.
    pub anonymous_bytes: Option<u64>,
    /// Of files: `RssFile`. None before Linux 4.5.
    pub file_bytes: Option<u64>,
    /// Shared: `RssShmem`. None before Linux 4.5.
    pub shared_bytes: Option<u64>,
    /// In swap: `VmSwap`.
    pub swap_bytes: Option<u64>,
    /// Threads.
    pub threads: u64,
}

/// The memory of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// All: `MemTotal`.
    pub total_bytes: u64,
    /// What could be had without swapping: `MemAvailable`. None before Linux 3.14.
    pub available_bytes: Option<u64>,
}

impl System {
    /// What the kernel counts of the process.
    ///
    /// # Errors
    /// The reason for which it is not known.
    pub fn resident(&self, pid: u32) -> Result<Resident, Absent> {
        let path = self.process(pid).join("status");
        let file = File::open(&path).map_err(|error| Absent::unread("status_unread", &path, &error))?;
        let not_understood =
            |why: String| Absent { id: "status_unread", text: format!("cannot understand {}: {why}", path.display()) };
        let status = Status::from_buf_read(BufReader::new(file)).map_err(|error| not_understood(error.to_string()))?;
        let bytes = |kibibytes: Option<u64>| kibibytes.and_then(|kibibytes| kibibytes.checked_mul(1024));
        Ok(Resident {
            rss_bytes: bytes(status.vmrss).ok_or_else(|| not_understood("it has no VmRSS".to_owned()))?,
            anonymous_bytes: bytes(status.rssanon),
            file_bytes: bytes(status.rssfile),
            shared_bytes: bytes(status.rssshmem),
            swap_bytes: bytes(status.vmswap),
            threads: status.threads,
        })
    }

    /// The memory of the host.
    ///
    /// # Errors
    /// The reason for which it is not known.
    pub fn host(&self) -> Result<Host, Absent> {
        let path = self.root.join("proc/meminfo");
        let file = File::open(&path).map_err(|error| Absent::unread("meminfo_unread", &path, &error))?;
        let meminfo = Meminfo::from_buf_read(BufReader::new(file)).map_err(|error| Absent {
            id: "meminfo_unread",
            text: format!("cannot understand {}: {error}", path.display()),
        })?;
        Ok(Host { total_bytes: meminfo.mem_total, available_bytes: meminfo.mem_available })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_missing_or_not_understood_is_absent_with_a_reason() {
        let root = tempfile::tempdir().unwrap();
        let system = System::below(root.path());
        assert_eq!(system.resident(7).unwrap_err().id, "status_unread");
        assert!(system.host().unwrap_err().text.contains("No such file"));
        fs::create_dir_all(root.path().join("proc/7")).unwrap();
        fs::write(root.path().join("proc/meminfo"), "nonsense").unwrap();
        assert_eq!(system.host().unwrap_err().id, "meminfo_unread");
        // Of a thread of the kernel it has no VmRSS; and nothing makes it 0.
        fs::write(root.path().join("proc/7/status"), "Name:\tx\n").unwrap();
        assert_eq!(system.resident(7).unwrap_err().id, "status_unread");
    }

    #[test]
    fn own_memory_is_told() {
        let resident = System::default().resident(std::process::id()).unwrap();
        assert!(resident.rss_bytes > 1 << 20 && resident.threads > 0);
        assert!(resident.anonymous_bytes.is_some_and(|bytes| bytes < resident.rss_bytes));
        let host = System::default().host().unwrap();
        assert!(host.available_bytes.unwrap() < host.total_bytes);
    }
}
