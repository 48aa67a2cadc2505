//! Runs one program of the zoo with leakline attached, and collects what both say.
//!
//! Both write into files, so that neither waits for a reader. Whatever happens, both have ended when a run is over.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::cases::{CASES, Case, Trait};
use super::cell::Evidence;
use crate::watch::{self, Look, Target};
use crate::{command, setup};

/// How long it lives after the watch is over, if nobody ends it.
const REST_S: u64 = 60;
/// Where profiles for the compiler are, by version of Go; from the zoo's folder.
const PROFILES: &str = "../cpuprofile";

/// How a program is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// By `leakline attach`.
    Attach,
    /// By `leakline record`; what it would have said is said by `leakline replay`.
    Record,
    /// It is not: the recording of an earlier run is replayed.
    Again,
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

    /// Where the program of a cell is.
    pub(super) fn program(&self, case: &Case, release: &str, evidence: Evidence) -> PathBuf {
        self.folder.join(format!("{}-{release}-{}", case.name, evidence.name()))
    }

    /// Builds a program. Go's own cache makes a second time cheap.
    pub(super) fn build(&self, case: &Case, release: &str, evidence: Evidence) -> Result<PathBuf> {
        let with = if evidence == Evidence::Sampler { "sampler" } else { "none" };
        let program = self.program(case, release, evidence);
        let mut go = Command::new(&self.go);
        go.current_dir(self.zoo.join(case.module))
            .env("GOTOOLCHAIN", format!("go{release}"))
            .env("GOWORK", "off")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .env("CGO_ENABLED", if case.is(Trait::Cgo) { "1" } else { "0" })
            .args(["build", "-tags", with])
            .args(self.flags(case, release, evidence))
            .arg("-o")
            .arg(&program)
            .arg(case.package());
        command::capture(&mut go)?;
        Ok(program)
    }

    /// How a program without a sampler is built must make no difference to what probes see: stripped, position-independent, or with a profile by which
    /// the compiler inlines parts of the runtime (each second case, where the release can).
    fn flags(&self, case: &Case, release: &str, evidence: Evidence) -> Vec<OsString> {
        if evidence != Evidence::Bursts {
            return Vec::new();
        }
        if case.releases[0] == release {
            return vec!["-ldflags=-s -w".into()];
        }
        let version = release.rsplit_once('.').map_or(release, |(version, _)| version);
        let profile = self.zoo.join(format!("{PROFILES}/go{version}.pgo"));
        let is_odd = CASES.iter().position(|known| known.name == case.name).is_some_and(|index| index % 2 == 1);
        if is_odd && profile.exists() {
            let mut flag = OsString::from("-pgo=");
            flag.push(profile);
            return vec![flag];
        }
        vec!["-buildmode=pie".into()]
    }

    /// Runs it for so long; leaves the logs. What both said: the program, and leakline.
    pub(super) fn watch(
        &self,
        program: &Path,
        evidence: Evidence,
        seconds: u64,
        how: Watch,
    ) -> Result<(String, watch::Said)> {
        let files = files(program, evidence);
        if how == Watch::Again {
            return watch::again(&self.leakline, &files);
        }
        let target = Target::start(program, &[], Duration::from_secs(seconds + REST_S), &files)?;
        let looks = if evidence == Evidence::None { "books" } else { "auto" };
        // The hardest on innocents: nothing is put down to warming up.
        let arguments = ["--evidence", looks, "--interval", "5s", "--warm-after", "0s"];
        let mut arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
        if evidence == Evidence::Adopted {
            arguments.extend(["--adopt-sampler".into(), "--state-dir".into(), self.folder.join("state").into()]);
        }
        let records = how == Watch::Record;
        let said = target.look(&Look { leakline: &self.leakline, seconds, arguments, files: &files, records })?;
        // A line of truth more, which tells what was at the end of the window.
        thread::sleep(Duration::from_millis(1500));
        Ok((target.told()?, said))
    }
}

/// Whether there is a recording of a cell.
pub(super) fn is_recorded(program: &Path, evidence: Evidence) -> bool {
    watch::is_recorded(&files(program, evidence))
}

/// What the names of the files begin with that a cell leaves.
fn files(program: &Path, evidence: Evidence) -> PathBuf {
    watch::with_suffix(program, evidence.name())
}
