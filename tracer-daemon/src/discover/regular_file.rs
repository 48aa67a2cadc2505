//! Opening what may be no file at all: a pipe that nobody writes to would be waited for, and opening a device can do something.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

/// What to do with a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Open what it leads to.
    Follow,
    /// Open nothing.
    Refuse,
}

/// Opens a file for reading if it is a regular one; never waits.
///
/// # Errors
/// Where it cannot be opened or is no regular file, or where it is a link and those are refused.
pub fn open_regular(path: &Path, links: Links) -> io::Result<File> {
    let is_regular = |is_file| if is_file { Ok(()) } else { Err(io::Error::other("is no regular file")) };
    // Looked at before it is opened; and again, since the path can change meanwhile.
    let (metadata, flags) = match links {
        Links::Follow => (path.metadata()?, 0),
        Links::Refuse => (path.symlink_metadata()?, libc::O_NOFOLLOW),
    };
    is_regular(metadata.is_file())?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | flags).open(path)?;
    is_regular(file.metadata()?.is_file())?;
    Ok(file)
}
