//! Where the loader put the executable of a process.

use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};

use super::ProcessIdentity;
use crate::addr::{Avma, FileOffset};

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
