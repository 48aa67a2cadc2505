//! Headers of the kernel, which bcc compiles its programs with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::command::succeeds;

/// Whether bcc finds headers of the running kernel without help.
pub(super) fn has_own() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Path::new("/sys/kernel/kheaders.tar.xz").exists()
        || Path::new("/lib/modules").join(release.trim()).join("build").exists()
}

/// Debian splits headers into `…-common` and `…-amd64`, bcc wants one tree: a directory of symbolic links to both. The
/// headers may be of another kernel release: the programs here use only `pt_regs`, which does not change. None
/// when no such package is installed.
pub(super) fn merge_debian(directory: &Path) -> Result<Option<PathBuf>> {
    let Some(common) = fs::read_dir("/usr/src")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().contains("/linux-headers-"))
        .find(|path| path.to_string_lossy().ends_with("-common"))
    else {
        return Ok(None);
    };
    let own = PathBuf::from(common.to_string_lossy().replace("-common", "-amd64"));
    let merged = directory.join("kernel-headers");
    fs::create_dir_all(&merged)?;
    for part in [common, own] {
        let copied = succeeds(Command::new("cp").arg("-rsf").arg(part.join(".")).arg(&merged));
        ensure!(copied, "cannot link {} into {}", part.display(), merged.display());
    }
    Ok(Some(merged))
}
