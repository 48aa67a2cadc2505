//! Builds one program of the zoo and runs it with leakline attached (`watch.rs`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::cases::{Case, Trait};
use super::cell::Evidence;
use crate::watch::{Said, Watch};
use crate::{command, setup};

/// A program of the zoo tells the truth once a second; somewhat longer.
const TELLS_EVERY: Duration = Duration::from_millis(1500);

/// Where a run happens.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) leakline: PathBuf,
    /// The folder of the zoo's sources.
    pub(super) zoo: PathBuf,
    /// For what is built and printed.
    pub(super) folder: PathBuf,
    pub(super) go: PathBuf,
}

impl Place {
    pub(super) fn new(root: &Path, leakline: PathBuf) -> Result<Self> {
        let folder = root.join("target/zoo");
        fs::create_dir_all(&folder)?;
        Ok(Self { leakline, zoo: root.join(super::ZOO), folder, go: setup::go_command(root)? })
    }

    /// Builds a program. Go's own cache makes a second time cheap.
    pub(super) fn build(&self, case: &Case, release: &str, evidence: Evidence) -> Result<PathBuf> {
        let with = if evidence == Evidence::Sampler { "sampler" } else { "none" };
        // How it is built must make no difference to what probes see.
        let flags: &[&str] = match (evidence, case.releases.iter().position(|known| *known == release)) {
            (Evidence::Bursts, Some(0)) => &["-ldflags=-s -w"],
            (Evidence::Bursts, Some(_)) => &["-buildmode=pie"],
            _ => &[],
        };
        let program = self.folder.join(format!("{}-{release}-{}", case.name, evidence.name()));
        let mut go = Command::new(&self.go);
        go.current_dir(self.zoo.join(case.module))
            .env("GOTOOLCHAIN", format!("go{release}"))
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .env("CGO_ENABLED", if case.is(Trait::Cgo) { "1" } else { "0" })
            .args(["build", "-tags", with])
            .args(flags)
            .arg("-o")
            .arg(&program)
            .arg(case.package());
        command::capture(&mut go)?;
        Ok(program)
    }

    /// Runs it for so long; leaves the logs.
    pub(super) fn watch(&self, program: &Path, evidence: Evidence, seconds: u64) -> Result<Said> {
        let looks = if evidence == Evidence::Bursts { "bursts" } else { "auto" };
        // The hardest on innocents: nothing is put down to warming up.
        let mut attach: Vec<OsString> =
            ["--evidence", looks, "--interval", "5s", "--warm-after", "0s"].map(OsString::from).to_vec();
        if evidence == Evidence::Adopted {
            attach.extend(["--adopt-sampler".into(), "--state-dir".into(), self.folder.join("state").into()]);
        }
        // Not `with_extension`, which would cut the name at the last dot of the release.
        let mut files = program.as_os_str().to_owned();
        files.push(format!(".{}", evidence.name()));
        let watch = Watch {
            leakline: &self.leakline,
            program,
            arguments: Vec::new(),
            warmup: Duration::ZERO,
            seconds,
            attach,
            after: TELLS_EVERY,
            files: files.into(),
        };
        watch.run()
    }
}
