//! `cargo xtask ebpf`: builds the kernel programs and renews the prebuilt object and the hash of its sources.
//!
//! Owns the recipe (toolchain, flags, path remapping). Refuses an object that names paths of the building machine.
//! Counterpart: `tracer-daemon/build.rs`, which refuses an object whose hash is stale.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{command, machine_paths, source_hash, workspace};

/// The Debian toolchain is named by path, since a rustup proxy may come first in `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "bpf";
const PROGRAM: &str = "leakline-ebpf";
/// What these would change about the build is decided here.
const IGNORED_VARIABLES: [&str; 9] = [
    "RUSTUP_TOOLCHAIN",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_DIR",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only check that the prebuilt object was made of the present sources
    #[arg(long)]
    check: bool,
}

/// A compiler that can build `core` for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The nightly of rustup, with the component rust-src.
    Nightly { sysroot: PathBuf },
    /// Debian's packages of a recent compiler and of its library's source, with unstable features switched on.
    Debian { sysroot: PathBuf },
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    if options.check {
        let problems = problems(root)?;
        for problem in &problems {
            eprintln!("{problem}");
        }
        if problems.is_empty() {
            println!("{} is fresh", source_hash::OBJECT);
        }
        return Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    // Before the build: what changes meanwhile makes the object stale.
    let hash = source_hash::of_workspace(root)?.context("tracer-ebpf/src is missing")?;
    let built = build(root)?;
    let object = root.join(source_hash::OBJECT);
    fs::create_dir_all(object.parent().unwrap_or(root))?;
    fs::copy(&built, &object).with_context(|| format!("cannot write {}", object.display()))?;
    fs::write(root.join(source_hash::HASH), format!("{hash}\n"))?;
    println!("wrote {} ({} bytes) and {}", source_hash::OBJECT, fs::metadata(&object)?.len(), source_hash::HASH);
    Ok(ExitCode::SUCCESS)
}

/// Builds the object from the sources below `target/` and returns its path; the prebuilt one is left alone.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    if linker().is_none() {
        bail!("no bpf-linker: run `cargo xtask setup --ebpf`");
    }
    let toolchains = toolchains();
    let mut failure = None;
    for toolchain in &toolchains {
        println!("building {PROGRAM} with {}", toolchain.name());
        match build_with(root, toolchain) {
            Ok(object) => return Ok(object),
            Err(error) => {
                eprintln!("{} cannot build it: {error:#}", toolchain.name());
                failure = Some(error);
            }
        }
    }
    Err(failure.unwrap_or_else(|| {
        anyhow::anyhow!("no compiler that can build core for {TARGET}: run `cargo xtask setup --ebpf`")
    }))
}

/// What is wrong with the prebuilt object: stale, missing, or with paths of a building machine in it.
pub(crate) fn problems(root: &Path) -> Result<Vec<String>> {
    let Some(now) = source_hash::of_workspace(root)? else {
        return Ok(Vec::new());
    };
    let Ok(object) = fs::read(root.join(source_hash::OBJECT)) else {
        return Ok(vec![format!("{}: missing: run `cargo xtask ebpf`", source_hash::OBJECT)]);
    };
    let recorded = fs::read_to_string(root.join(source_hash::HASH)).unwrap_or_default();
    let mut problems = path_problems(&object, root);
    if recorded.trim() != now {
        let object = source_hash::OBJECT;
        problems.push(format!("{object}: not made of the present sources: run `cargo xtask ebpf`"));
    }
    Ok(problems)
}

/// The toolchains that could build the object here, the preferred one first.
pub(crate) fn toolchains() -> Vec<Toolchain> {
    let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]));
    let debian = Path::new(DEBIAN_CARGO).is_file().then(|| sysroot(&mut Command::new(DEBIAN_RUSTC))).flatten();
    nightly
        .map(|sysroot| Toolchain::Nightly { sysroot })
        .into_iter()
        .chain(debian.map(|sysroot| Toolchain::Debian { sysroot }))
        .collect()
}

/// The linker that turns the compiler's output into a kernel object.
pub(crate) fn linker() -> Option<PathBuf> {
    workspace::find_executable("bpf-linker")
}

impl Toolchain {
    fn name(&self) -> &'static str {
        match self {
            Self::Nightly { .. } => "rustup's nightly",
            Self::Debian { .. } => "Debian's rustc",
        }
    }

    fn library_source(&self) -> PathBuf {
        let (Self::Nightly { sysroot } | Self::Debian { sysroot }) = self;
        sysroot.join("lib/rustlib/src/rust")
    }

    fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Nightly { .. } => Command::new("rustup"),
            Self::Debian { .. } => Command::new(DEBIAN_CARGO),
        };
        for variable in IGNORED_VARIABLES {
            command.env_remove(variable);
        }
        match self {
            Self::Nightly { .. } => command.args(["run", "nightly", "cargo"]),
            Self::Debian { .. } => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
        };
        command
    }
}

fn build_with(root: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    // So that the folders of the registry, which are remapped below, exist on a fresh machine too.
    command::run(toolchain.cargo().current_dir(root).args(["fetch", "--quiet"]))?;
    let target_folder = root.join("target/ebpf");
    let mut cargo = toolchain.cargo();
    cargo
        .current_dir(root)
        .env("PATH", workspace::path_with_cargo_bin())
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root, toolchain).join("\x1f"))
        .args(["build", "--package", "tracer-ebpf", "--profile", PROFILE, "--target", TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(&target_folder);
    command::run(&mut cargo)?;
    let object = target_folder.join(TARGET).join(PROFILE).join(PROGRAM);
    let content = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    let problems = path_problems(&content, root);
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(object)
}

fn flags(root: &Path, toolchain: &Toolchain) -> Vec<String> {
    let library = toolchain.library_source();
    let mut remapped = vec![(library.canonicalize().unwrap_or_else(|_| library.clone()), "rust"), (library, "rust")];
    if let Some(home) = workspace::cargo_home() {
        let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
        let registries: Vec<_> = registries.map(|entry| (entry.path(), "registry")).collect();
        // The last one that matches wins: the particular after the general.
        remapped.push((home, "cargo"));
        remapped.extend(registries);
    }
    remapped.push((root.to_path_buf(), "leakline"));
    let given = ["--cfg", "bpf_target_arch=\"x86_64\"", "-Cdebuginfo=2", "-Clink-arg=--btf"].map(str::to_owned);
    let remapped = remapped.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    given.into_iter().chain(remapped).collect()
}

fn path_problems(object: &[u8], root: &Path) -> Vec<String> {
    let found = machine_paths::find(object, &machine_paths::of_this_machine(root));
    found
        .into_iter()
        .map(|(at, path)| format!("{}: byte {at} names a path of the building machine: {path}", source_hash::OBJECT))
        .collect()
}

/// Where the compiler lives. None means that it does not run or has no source of its library.
fn sysroot(rustc: &mut Command) -> Option<PathBuf> {
    let printed = command::capture(rustc.args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN")).ok()?;
    let sysroot = PathBuf::from(printed.trim());
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir().then_some(sysroot)
}

#[cfg(test)]
mod tests {
    use super::{Toolchain, flags, path_problems};
    use crate::machine_paths::FIXED;
    use crate::source_hash::{deciding_lines, of_files};
    use std::path::Path;

    fn files(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        list.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_hash_depends_on_names_and_contents_but_not_on_order() {
        let hash = of_files(files(&[("a", "1"), ("b", "2")]));
        assert_eq!(hash.len(), 64);
        assert_eq!(hash, of_files(files(&[("b", "2"), ("a", "1")])));
        assert_ne!(hash, of_files(files(&[("a", "1"), ("b", "3")])));
        assert_ne!(hash, of_files(files(&[("a", "1"), ("c", "2")])));
        assert_ne!(of_files(files(&[("ab", "c")])), of_files(files(&[("a", "bc")])));
    }

    #[test]
    fn of_the_workspace_manifest_only_the_pin_and_the_profile_count() {
        let manifest = "[workspace.dependencies]\naya = \"=0.14.0\"\naya-ebpf = \"=0.2.1\"\n\n[profile.release]\ndebug = 1\n\
                        # why\n[profile.bpf]\n# why\nlto = true\n\n[profile.dev]\nlto = false\n";
        assert_eq!(deciding_lines(manifest), "aya-ebpf = \"=0.2.1\"\n[profile.bpf]\nlto = true\n");
    }

    #[test]
    fn an_object_with_a_path_of_the_building_machine_is_refused() {
        let root = Path::new("/srv/leakline");
        let bad = [format!("\0{}x.rs\0", FIXED[0]), format!("\0{}u/x.rs\0", FIXED[1]), "\0/srv/leakline\0".to_owned()];
        for content in bad {
            assert_eq!(path_problems(content.as_bytes(), root).len(), 1, "{content:?}");
        }
        assert!(path_problems(b"\0leakline/tracer-ebpf/src/main.rs\0rust/library/core\0", root).is_empty());
    }

    #[test]
    fn the_workspace_the_registry_and_the_library_are_remapped() {
        let toolchain = Toolchain::Debian { sysroot: "/opt/rust".into() };
        let flags = flags(Path::new("/srv/leakline"), &toolchain);
        assert!(flags.contains(&"--remap-path-prefix=/srv/leakline=leakline".to_owned()), "{flags:?}");
        assert!(flags.contains(&"--remap-path-prefix=/opt/rust/lib/rustlib/src/rust=rust".to_owned()), "{flags:?}");
    }
}
