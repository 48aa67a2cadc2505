//! Debian packages: which are there, and getting those that are not.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use anyhow::{Result, bail};

use super::doing;
use crate::command;

/// Only root may install packages: what to run instead. Apart from other errors since tests may be skipped for it.
#[derive(Debug)]
pub(crate) struct NeedsRoot {
    command: String,
}

impl std::fmt::Display for NeedsRoot {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "not root; run: sudo {}", self.command)
    }
}

impl std::error::Error for NeedsRoot {}

/// Installs those of the packages that are not installed yet.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !command::succeeds(Command::new("apt-get").arg("--version")) {
        bail!("this machine has no apt-get; install what these Debian packages hold: {}", missing.join(" "));
    }
    if !is_root() {
        return Err(NeedsRoot { command: install }.into());
    }
    doing(&install);
    let arguments: Vec<_> = install.split(' ').skip(1).collect();
    if command::capture(apt().args(&arguments)).is_ok() {
        return Ok(());
    }
    // The lists of packages may be absent or name versions that are gone.
    doing("apt-get update");
    command::capture(apt().arg("update"))?;
    command::capture(apt().args(&arguments))?;
    Ok(())
}

/// Whether dpkg has it, configured.
pub(super) fn is_installed(package: &str) -> bool {
    let status = command::capture(Command::new("dpkg-query").args(["--show", "--showformat=${Status}", package]));
    status.is_ok_and(|status| status.ends_with(" ok installed"))
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300"]);
    apt
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::NeedsRoot;

    #[test]
    fn without_root_the_command_to_run_is_named() {
        let error = NeedsRoot { command: "apt-get install -y golang-go".to_owned() };
        assert_eq!(error.to_string(), "not root; run: sudo apt-get install -y golang-go");
    }
}
