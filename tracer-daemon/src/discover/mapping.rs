//! Where the loader put the executable of a process.

use procfs::process::{MMapPath, Process};

use super::ProcessIdentity;
use crate::addr::{Avma, FileOffset};

/// The executable's first mapping: its address and the file offset mapped there. None where it cannot be read.
///
/// Known by its inode, else by its path: some file systems show another inode in the maps than in `stat`.
pub fn first_mapping(identity: &ProcessIdentity) -> Option<(Avma, FileOffset)> {
    let process = Process::new(i32::try_from(identity.pid).ok()?).ok()?;
    let (maps, exe) = (process.maps().ok()?, process.exe().ok()?);
    let by_inode = maps.iter().find(|map| map.inode == identity.exe_inode && matches!(map.pathname, MMapPath::Path(_)));
    let by_path = || maps.iter().find(|map| matches!(&map.pathname, MMapPath::Path(path) if *path == exe));
    by_inode.or_else(by_path).map(|map| (Avma(map.address.0), FileOffset(map.offset)))
}
