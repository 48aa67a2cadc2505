//! What the kernel says of a process's memory: its mappings and pages, its cgroup, the host.
//!
//! Every file may be missing: then that part is absent with a reason, and never 0. Paths of the file system are given, so
//! that tests have folders of their own.

pub mod cgroup;
pub mod pagemap;
pub mod smaps;
pub mod status;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use self::smaps::Mapping;

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Stable identifier.
    pub id: &'static str,
    /// A sentence for the operator.
    pub text: String,
}

impl Absent {
    fn unread(id: &'static str, path: &Path, error: &io::Error) -> Self {
        Self { id, text: format!("cannot read {}: {error}", path.display()) }
    }
}

/// Where the kernel shows what it knows.
#[derive(Clone, Debug)]
pub struct System {
    /// Usually `/`; files are found below it.
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl System {
    /// With all of its files below another folder.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder of a process.
    pub fn process(&self, pid: u32) -> PathBuf {
        self.root.join("proc").join(pid.to_string())
    }

    /// Its mappings with something in memory or in swap.
    ///
    /// # Errors
    /// The reason for which they are not known; `process_gone` and `memory_not_allowed` among them.
    pub fn mappings(&self, pid: u32) -> Result<Vec<Mapping>, Absent> {
        let path = self.process(pid).join("smaps");
        let mappings = File::open(&path).and_then(|file| smaps::parse(BufReader::with_capacity(64 << 10, file)));
        let mappings = mappings.map_err(|error| Absent::unread("smaps_unread", &path, &error))?;
        // The file of a process that has ended, and of a thread of the kernel, is there and empty.
        if mappings.is_empty() {
            return Err(Absent { id: "smaps_empty", text: format!("{} is empty", path.display()) });
        }
        Ok(mappings)
    }

    /// Which pages are in memory.
    ///
    /// # Errors
    /// The reason for which that is not known.
    pub fn pages(&self, pid: u32) -> Result<pagemap::PageMap, Absent> {
        let process = self.process(pid);
        pagemap::PageMap::open(&process)
            .map_err(|error| Absent::unread("pagemap_unread", &process.join("pagemap"), &error))
    }
}
