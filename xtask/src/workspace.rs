//! Where things lie: the workspace, cargo's home, the user's cache. Reads only the environment.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of the workspace manifest.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's home folder. None means that neither `CARGO_HOME` nor `HOME` is set.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    set("CARGO_HOME").or_else(|| Some(set("HOME")?.join(".cargo")))
}

/// Where downloads that outlive `cargo clean` go.
pub(crate) fn cache(root: &Path) -> PathBuf {
    set("XDG_CACHE_HOME")
        .or_else(|| Some(set("HOME")?.join(".cache")))
        .map_or_else(|| root.join("target/cache"), |cache| cache.join("leakline"))
}

/// The cargo that runs us.
pub(crate) fn cargo() -> PathBuf {
    set("CARGO").unwrap_or_else(|| "cargo".into())
}

/// An executable of this name in `PATH` or among those that cargo installed.
pub(crate) fn find_executable(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = cargo_home().map(|home| home.join("bin"));
    env::split_paths(&path).chain(installed).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// The value of `PATH` with the folder of the programs that cargo installed at its end.
pub(crate) fn path_with_cargo_bin() -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = cargo_home().map(|home| home.join("bin"));
    env::join_paths(env::split_paths(&path).chain(installed)).unwrap_or(path)
}

fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}
