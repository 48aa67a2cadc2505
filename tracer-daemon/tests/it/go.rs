//! Builds the Go programs under test: once per source, toolchain and flags, into `target/test-programs/`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One build of a program of `tests/programs/`.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Build<'a> {
    /// Folder below `tests/programs/`.
    pub(crate) program: &'a str,
    /// `go1.26.6`: what GOTOOLCHAIN is set to.
    pub(crate) toolchain: &'a str,
    /// Arguments of `go build`.
    pub(crate) flags: &'a [&'a str],
    /// Environment on top of our own, such as `("CGO_ENABLED", "0")`.
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

/// The path of the program built by `toolchain` with `flags`, without cgo. Builds it where no earlier call has.
///
/// # Panics
/// Where it cannot be built; the message holds what `go` said.
pub(crate) fn build(program: &str, toolchain: &str, flags: &[&str]) -> PathBuf {
    Build { program, toolchain, flags, environment: &[("CGO_ENABLED", "0")] }.path()
}

impl Build<'_> {
    /// As [`build`].
    pub(crate) fn path(&self) -> PathBuf {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(self.program);
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hash_files(&sources, &mut hasher);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-programs");
        fs::create_dir_all(&folder).expect("making the folder for test programs");
        let built =
            folder.join(format!("{}-{}-{:016x}", self.program.replace('/', "-"), self.toolchain, hasher.finish()));
        // Tests run in parallel, also in several processes: one builds, the others wait for it.
        let lock = File::create(built.with_extension("lock")).expect("making the lock of a test program");
        lock.lock().expect("taking the lock of a test program");
        if !built.exists() {
            // Under another name first, so that a build which is cut off leaves nothing that looks built.
            let partial = built.with_extension("partial");
            let output = Command::new(std::env::var_os("LEAKLINE_GO").unwrap_or_else(|| "go".into()))
                .args(["build", "-o"])
                .arg(&partial)
                .args(self.flags)
                .arg(".")
                .current_dir(&sources)
                .env("GOTOOLCHAIN", self.toolchain)
                .env("GOWORK", "off")
                .envs(self.environment.iter().copied())
                .output()
                .expect("running go, which builds the test programs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{self:?} cannot be built: {said}");
            fs::rename(&partial, &built).expect("renaming a test program");
        }
        built
    }
}

fn hash_files(folder: &Path, hasher: &mut DefaultHasher) {
    let entries = fs::read_dir(folder).expect("reading the sources of a test program");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("reading the sources").path()).collect();
    paths.sort();
    for path in paths {
        path.file_name().hash(hasher);
        if path.is_dir() {
            hash_files(&path, hasher);
        } else {
            fs::read(&path).expect("reading a source file").hash(hasher);
        }
    }
}
