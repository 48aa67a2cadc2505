//! Which file is it: equal identities mean equal bytes, as long as nobody writes to the file.

use std::{fs::File, io, os::unix::fs::MetadataExt as _};

/// What the kernel says of an open file.
///
/// Device and inode alone are given out again after a file is deleted, and a file can be written in place. Nobody but the
/// kernel sets the time of the last change of an inode (`ctime`): an inode that was given out again, a write, a rename and
/// a faked modification time all give it a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIdentity {
    /// Device of the file system.
    pub device: u64,
    /// Number of the file there.
    pub inode: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Time of the last write, seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// Time of the last change of contents, name or rights, seconds and nanoseconds since 1970.
    pub changed: (i64, i64),
}

impl FileIdentity {
    /// Asks for the identity of an open file.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_hard_link_is_the_same_file_and_a_copy_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [first, link, copy] = ["first", "link", "copy"].map(|name| folder.path().join(name));
        std::fs::write(&first, "text").unwrap();
        std::fs::hard_link(&first, &link).unwrap();
        std::fs::copy(&first, &copy).unwrap();
        let [first, link, copy] = [first, link, copy].map(|path| FileIdentity::of(&File::open(path).unwrap()).unwrap());
        assert_eq!(first, link);
        assert_ne!(first, copy);
    }

    #[test]
    fn a_file_that_was_written_is_another_file_even_with_its_old_size_and_time() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before").unwrap();
        let before = FileIdentity::of(&file).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        // The kernel's clock for files moves in steps of some milliseconds.
        let changed = std::iter::repeat_with(|| {
            std::thread::yield_now();
            std::os::unix::fs::FileExt::write_all_at(&file, b"behind", 0).unwrap();
            file.set_modified(modified).unwrap();
            FileIdentity::of(&file).unwrap()
        });
        let after = changed.take(10_000_000).find(|now| now.changed != before.changed).unwrap();
        assert_eq!((after.size_bytes, after.modified), (before.size_bytes, before.modified));
        assert_ne!(after, before);
    }
}
