//! Builds the Go programs under test: once per source, toolchain and flags, into `target/test-programs/`.
//!
//! The flag [`WITH_PROFILE`] stands for `-pgo=FILE`, with the committed profile for this version of Go: a profile made anew
//! would have other samples each time, and the compiler would inline other functions.

use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Build with a profile under which the compiler inlines in the allocator whatever it can.
pub(crate) const WITH_PROFILE: &str = "-pgo=of-cpuprofile";
/// Before the version of garble that builds it.
const WITH_GARBLE: &str = "garble=";

/// Which go builds; in the environment of a build or of the tests.
pub(crate) const GO_VARIABLE: &str = "LEAKLINE_GO";

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

/// As [`build`], obfuscated by this version of garble, which knows some versions of Go only. Takes minutes, since all of
/// the standard library is obfuscated with the program.
///
/// # Panics
/// As [`build`].
pub(crate) fn garbled(program: &str, toolchain: &str, garble: &str) -> PathBuf {
    let garble = format!("{WITH_GARBLE}{garble}");
    Build { program, toolchain, flags: &[&garble], environment: &[("CGO_ENABLED", "0")] }.path()
}

impl Build<'_> {
    /// As [`build`].
    pub(crate) fn path(&self) -> PathBuf {
        self.path_of(".")
    }

    /// As [`build`], of a package that the program's folder holds or whose module it pins.
    pub(crate) fn path_of(&self, package: &str) -> PathBuf {
        let sources = self.folder();
        let mut hasher = DefaultHasher::new();
        (self, package).hash(&mut hasher);
        hash_files(&sources, &mut hasher);
        if self.flags.contains(&WITH_PROFILE) {
            fs::read(self.profile()).expect("reading a profile").hash(&mut hasher);
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("test-programs");
        fs::create_dir_all(&folder).expect("making the folder for test programs");
        let name = format!("{}-{}", self.program, package.trim_start_matches(['.', '/']));
        let name = name.trim_end_matches('-').replace('/', "-");
        let built = folder.join(format!("{name}-{}-{:016x}", self.toolchain, hasher.finish()));
        // Tests run in parallel, also in several processes: one builds, the others wait for it.
        let lock = File::create(with_suffix(&built, ".lock")).expect("making the lock of a test program");
        lock.lock().expect("taking the lock of a test program");
        if !built.exists() {
            // Not `println!`, which is not seen before the test has ended: the first build of a large program takes minutes.
            writeln!(io::stdout(), "building {name} with {}", self.toolchain).expect("saying what is being built");
            // Under another name first, so that a build which is cut off leaves nothing that looks built.
            let partial = with_suffix(&built, ".partial");
            let garble = self.flags.iter().find_map(|flag| flag.strip_prefix(WITH_GARBLE));
            let mut go = garble.map_or_else(|| self.go(), |version| self.garble(version, &folder));
            go.args(["build", "-o"]).arg(&partial);
            for flag in self.flags.iter().filter(|flag| !flag.starts_with(WITH_GARBLE)) {
                if *flag == WITH_PROFILE {
                    go.arg(format!("-pgo={}", self.profile().display()));
                } else {
                    go.arg(flag);
                }
            }
            go.arg(package);
            said_by(go, &format!("{self:?}"));
            fs::rename(&partial, &built).expect("renaming a test program");
        }
        built
    }

    /// The profile for this toolchain's version of Go; the folder's `main.go` says how it was made.
    fn profile(&self) -> PathBuf {
        let version = self.toolchain.rsplit_once('.').map_or(self.toolchain, |(minor, _)| minor);
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/programs/cpuprofile/{version}.pgo"))
    }

    /// garble replaces files of the toolchain, which it refuses to do where that lies in the module cache: so it gets another
    /// cache. The seed makes its names the same every time.
    fn garble(&self, version: &str, folder: &Path) -> Command {
        let root = self.go_env("GOROOT");
        let mut go = Command::new(root.join("bin/go"));
        go.current_dir(self.folder())
            .args(["run", &format!("mvdan.cc/garble@{version}"), "-seed=AAAAAAAAAAA="])
            .env("GOTOOLCHAIN", "local")
            .env("GOROOT", &root)
            .env("PATH", path_with(&root.join("bin")))
            .env("GOMODCACHE", folder.join("modules-of-garble"))
            .env("GOFLAGS", "-modcacherw -buildvcs=false")
            .env("GOWORK", "off")
            .envs(self.environment.iter().copied());
        go
    }

    /// What `go env NAME` says for this build.
    pub(crate) fn go_env(&self, name: &str) -> PathBuf {
        let mut go = self.go();
        go.args(["env", name]);
        PathBuf::from(said_by(go, name).trim())
    }

    /// Where the sources of a package lie that this build can name.
    pub(crate) fn folder_of(&self, package: &str) -> PathBuf {
        let mut go = self.go();
        go.args(["list", "-f", "{{.Dir}}", package]);
        PathBuf::from(said_by(go, package).trim())
    }

    /// The program's own folder.
    pub(crate) fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(self.program)
    }

    fn go(&self) -> Command {
        let own = self.environment.iter().find(|(name, _)| *name == GO_VARIABLE).map(|(_, go)| OsString::from(go));
        let mut go = Command::new(own.or_else(|| std::env::var_os(GO_VARIABLE)).unwrap_or_else(|| "go".into()));
        go.current_dir(self.folder())
            .env("GOTOOLCHAIN", self.toolchain)
            .env("GOWORK", "off")
            .envs(self.environment.iter().copied());
        go
    }
}

/// `PATH` with a folder before all others.
fn path_with(folder: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).expect("a folder that can stand in PATH")
}

fn said_by(mut command: Command, what: &str) -> String {
    let output = command.output().expect("running go or what it has built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

/// Not `with_extension`, which would cut the name at the last dot of the toolchain's version.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
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
