//! Packages of any suite of Debian: fetched by the machine's own apt with a state of its own, and unpacked, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;

/// apt with a state of its own.
#[derive(Debug)]
pub(crate) struct Apt {
    folder: PathBuf,
    configuration: PathBuf,
}

impl Apt {
    /// Takes the archive that the machine's own apt uses, and learns what is in the suites.
    pub(crate) fn new(folder: &Path, suites: &[&str]) -> Result<Self> {
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
            suites.iter().map(|suite| format!("deb [arch=amd64{signed_by}] {archive} {suite} main")).collect();
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
        self.program("apt-get")
    }

    fn program(&self, name: &str) -> Command {
        let mut apt = Command::new(name);
        apt.env("APT_CONFIG", &self.configuration);
        apt
    }

    /// One field of what the lists say of a package of a suite.
    pub(crate) fn field(&self, suite: &str, package: &str, field: &str) -> Result<String> {
        let wanted = format!("{package}/{suite}");
        let shown = command::capture(self.program("apt-cache").args(["show", "--no-all-versions", &wanted]))?;
        let start = format!("{field}: ");
        let value = shown.lines().find_map(|line| line.strip_prefix(&start));
        value.map(str::to_owned).with_context(|| format!("{wanted} has no field `{field}`"))
    }

    /// Name with version, and the folder into which it was unpacked.
    pub(crate) fn fetch(&self, suite: &str, package: &str) -> Result<(String, PathBuf)> {
        self.fetch_by(suite, package, |file, folder| {
            command::capture(Command::new("dpkg-deb").arg("-x").arg(file).arg(folder)).map(drop)
        })
    }

    /// The same, unpacked in a way of the caller's.
    pub(crate) fn fetch_by(
        &self,
        suite: &str,
        package: &str,
        unpack: impl FnOnce(&Path, &Path) -> Result<()>,
    ) -> Result<(String, PathBuf)> {
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
                eprintln!("… fetching {wanted}");
                command::capture(self.command().current_dir(&folder).args(["download", &wanted]))?;
            }
            unpack_into(&unpacked, |partial| unpack(&folder.join(file), partial))?;
        }
        Ok((format!("{package} {version}"), unpacked))
    }
}

/// Unpacks under another name first, so that what is cut off does not look whole.
pub(crate) fn unpack_into(folder: &Path, unpack: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    unpack(&partial)?;
    fs::rename(&partial, folder)?;
    Ok(())
}
