//! Builds one program of the zoo and runs it with leakline attached (`watch.rs`).

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::cases::{Case, Trait};
use super::cell::Evidence;
use crate::watch::{Look, Said, Target};
use crate::{command, setup};

/// A program of the zoo tells the truth once a second; somewhat longer.
const TELLS_EVERY: Duration = Duration::from_millis(1500);

/// How long it lives after the watch is over, if nobody ends it.
const REST: Duration = Duration::from_secs(60);

/// What both said.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) truth: String,
    pub(super) documents: Vec<Value>,
    /// leakline's own CPU time over wall time.
    pub(super) self_cpu_ratio: f64,
}

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
    pub(super) fn watch(&self, program: &Path, evidence: Evidence, seconds: u64) -> Result<Seen> {
        let looks = if evidence == Evidence::Bursts { "bursts" } else { "auto" };
        // The hardest on innocents: nothing is put down to warming up.
        let mut arguments: Vec<OsString> =
            ["--evidence", looks, "--interval", "5s", "--warm-after", "0s"].map(OsString::from).to_vec();
        if evidence == Evidence::Adopted {
            arguments.extend(["--adopt-sampler".into(), "--state-dir".into(), self.folder.join("state").into()]);
        }
        // Not `with_extension`, which would cut the name at the last dot of the release.
        let mut files = program.as_os_str().to_owned();
        files.push(format!(".{}", evidence.name()));
        let files = PathBuf::from(files);
        let length = Duration::from_secs(seconds) + REST;
        let target = Target::start(program, &[], length, &files)?;
        let look = Look { leakline: &self.leakline, seconds, arguments, files: &files };
        let Said { documents, self_cpu_ratio } = target.look(&look)?;
        // A line of truth more, which tells what was at the end of the window.
        thread::sleep(TELLS_EVERY);
        Ok(Seen { truth: target.told()?, documents, self_cpu_ratio })
    }
}
