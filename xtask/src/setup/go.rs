//! Which Go builds the programs under test, and getting one where there is none that is recent enough.
//!
//! Go 1.21 and later fetch other releases themselves (`GOTOOLCHAIN`). Debian bookworm has 1.19, which does not, but a
//! release is also a module, so the old go can download it as one.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{doing, packages};
use crate::{command, workspace};

/// Tells tests and other child processes which `go` to use.
pub(crate) const GO_VARIABLE: &str = "LEAKLINE_GO";
/// The first release that fetches other releases.
const OLDEST: (u32, u32) = (1, 21);
/// What is fetched where there is none.
const FETCHED: &str = "1.26.6";

/// A `go` of at least 1.21. Never changes the machine; where there is none, the error says what to run.
pub(crate) fn go_command(root: &Path) -> Result<PathBuf> {
    found(root).map(|(go, _)| go).context("no go of 1.21 or later: run `cargo xtask setup`")
}

pub(super) fn ensure(root: &Path) -> Result<String> {
    if let Some((go, (major, minor))) = found(root) {
        return Ok(format!("{} ({major}.{minor})", go.display()));
    }
    if any_go().is_none() {
        packages::install(&["golang-go"])?;
    }
    let old = any_go().context("the package golang-go brought no go")?;
    let go = fetch(&old, &module_cache(root))?;
    let version = version(&go).with_context(|| format!("{} does not run", go.display()))?;
    Ok(format!("{} ({}.{}), fetched", go.display(), version.0, version.1))
}

/// The first candidate that is recent enough, and its version.
fn found(root: &Path) -> Option<(PathBuf, (u32, u32))> {
    let given = env::var_os(GO_VARIABLE).map(PathBuf::from);
    let fetched = toolchain_folder(&module_cache(root)).join("bin/go");
    let candidates = [given, Some("go".into()), Some("/usr/local/go/bin/go".into()), Some(fetched)];
    candidates.into_iter().flatten().find_map(|go| {
        let version = version(&go).filter(|&version| version >= OLDEST)?;
        // A bare name would mean another go where PATH is another.
        let go = if go.is_absolute() { go } else { workspace::find_executable(&go.to_string_lossy())? };
        Some((go, version))
    })
}

/// A go of any age.
fn any_go() -> Option<PathBuf> {
    ["go", "/usr/local/go/bin/go", "/usr/bin/go"].into_iter().map(PathBuf::from).find(|go| version(go).is_some())
}

fn version(go: &Path) -> Option<(u32, u32)> {
    // Outside any module: a go.mod could ask for another release.
    let printed =
        command::capture(Command::new(go).current_dir("/").env("GOTOOLCHAIN", "local").arg("version")).ok()?;
    parse_version(&printed)
}

/// `go version go1.26.6 linux/amd64` is (1, 26). None means that no release is named (development builds).
fn parse_version(printed: &str) -> Option<(u32, u32)> {
    let release = printed.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut parts = release.split(['.', '-', 'r', 'b']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn module_cache(root: &Path) -> PathBuf {
    workspace::cache(root).join("go-modules")
}

fn toolchain_module() -> String {
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("golang.org/toolchain@v0.0.1-go{FETCHED}.linux-{architecture}")
}

fn toolchain_folder(module_cache: &Path) -> PathBuf {
    module_cache.join(toolchain_module())
}

/// Downloads the release with an old go, through the ordinary module client (so its checksum is verified).
fn fetch(old: &Path, module_cache: &Path) -> Result<PathBuf> {
    fs::create_dir_all(module_cache)?;
    let module = toolchain_module();
    doing(&format!("go mod download {module} (about 70 MB)"));
    let mut download = Command::new(old);
    download
        // Outside any module, and into a place of our own that can be deleted without special rights.
        .current_dir(module_cache)
        .env("GOMODCACHE", module_cache)
        .env("GOFLAGS", "-modcacherw")
        .args(["mod", "download", "-json", &module]);
    let printed = command::capture(&mut download)?;
    let answer: serde_json::Value = serde_json::from_str(&printed)
        .with_context(|| format!("`{}` did not print JSON: {printed}", command::shown(&download)))?;
    let Some(folder) = answer["Dir"].as_str().map(PathBuf::from) else {
        bail!("`{}` names no folder: {printed}", command::shown(&download));
    };
    // Modules are unpacked without their execute bits.
    make_executable(&folder.join("bin"))?;
    make_executable(&folder.join("pkg/tool"))?;
    Ok(folder.join("bin/go"))
}

fn make_executable(path: &Path) -> Result<()> {
    if !path.is_dir() {
        return fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()));
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        make_executable(&entry?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{OLDEST, parse_version};

    #[test]
    fn versions_of_all_forms_are_read() {
        assert_eq!(parse_version("go version go1.26.6 linux/amd64\n"), Some((1, 26)));
        assert_eq!(parse_version("go version go1.19 linux/amd64"), Some((1, 19)));
        assert_eq!(parse_version("go version go1.21rc2 linux/amd64"), Some((1, 21)));
        assert_eq!(parse_version("go version go1.24-abc X:none linux/amd64"), Some((1, 24)));
        assert_eq!(parse_version("go version devel +8e496f1 linux/amd64"), None);
        assert_eq!(parse_version("command not found"), None);
    }

    #[test]
    fn the_go_of_bookworm_is_too_old() {
        assert!(parse_version("go version go1.19.8 linux/amd64").unwrap() < OLDEST);
    }
}
