//! Where the loader put the executable of a process.

use procfs::process::{MMapPath, Process};

use super::ProcessIdentity;
use crate::addr::{Avma, FileOffset};

/// The executable's first mapping: its address and the file offset mapped there. None where it cannot be read.
pub fn first_mapping(identity: &ProcessIdentity) -> Option<(Avma, FileOffset)> {
    let maps = Process::new(i32::try_from(identity.pid).ok()?).ok()?.maps().ok()?;
    maps.into_iter()
        .find(|map| map.inode == identity.exe_inode && matches!(map.pathname, MMapPath::Path(_)))
        .map(|map| (Avma(map.address.0), FileOffset(map.offset)))
}
