//! Of which sources the prebuilt kernel object was made: one hash over all that decides its content.
//!
//! Shared by this crate's build script, which refuses a stale object, and by `cargo xtask ebpf`, which writes the hash. It
//! lies here and not in `tracer-ebpf` because this crate must build where that folder is absent. Needs only `sha2`.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Where the object lies, relative to the workspace.
pub(crate) const OBJECT: &str = "tracer-ebpf/prebuilt/leakline-ebpf.o";
/// Where the hash of its sources lies, relative to the workspace.
pub(crate) const HASH: &str = "tracer-ebpf/prebuilt/sources.sha256";
/// Folders and files whose content decides the object, relative to the workspace.
pub(crate) const SOURCES: [&str; 4] =
    ["tracer-common/Cargo.toml", "tracer-common/src", "tracer-ebpf/Cargo.toml", "tracer-ebpf/src"];

/// The hash of the sources below `workspace`, 64 hex digits. None means that they are not there (a published crate).
///
/// Covers [`SOURCES`] and, of the workspace manifest, the version of aya-ebpf and the build profile; not `Cargo.lock`,
/// which changes with every dependency of the daemon.
pub(crate) fn of_workspace(workspace: &Path) -> io::Result<Option<String>> {
    if !workspace.join("tracer-ebpf/src").is_dir() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for source in SOURCES {
        collect(workspace, source, &mut files)?;
    }
    let manifest = std::fs::read_to_string(workspace.join("Cargo.toml"))?;
    files.push(("Cargo.toml".to_owned(), deciding_lines(&manifest).into_bytes()));
    Ok(Some(of_files(files)))
}

/// The hash over paths and contents, whatever their order.
pub(crate) fn of_files(mut files: Vec<(String, Vec<u8>)>) -> String {
    files.sort();
    let mut hash = Sha256::new();
    for (path, content) in &files {
        for part in [path.as_bytes(), content] {
            // The length keeps a byte from moving between a path and a content unseen.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    let mut digits = String::new();
    for byte in hash.finalize() {
        for half in [byte >> 4, byte & 0xf] {
            digits.extend(char::from_digit(half.into(), 16));
        }
    }
    digits
}

/// The lines of the workspace manifest that decide the object: the pin of aya-ebpf, and `[profile.bpf]`.
pub(crate) fn deciding_lines(manifest: &str) -> String {
    let mut kept = String::new();
    let mut in_profile = false;
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            in_profile = line == "[profile.bpf]";
        }
        let is_pin = line.split('=').next().is_some_and(|name| name.trim() == "aya-ebpf");
        if (in_profile || is_pin) && !line.is_empty() && !line.starts_with('#') {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn collect(workspace: &Path, relative: &str, files: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let path = workspace.join(relative);
    if !path.is_dir() {
        files.push((relative.to_owned(), std::fs::read(path)?));
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        // Editors keep their own files beside ours.
        if !name.starts_with('.') {
            collect(workspace, &format!("{relative}/{name}"), files)?;
        }
    }
    Ok(())
}
