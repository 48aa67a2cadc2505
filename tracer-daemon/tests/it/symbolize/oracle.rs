//! Big programs are asked for the truth: the compiler of each Go release, and Prometheus. They answer because the build
//! puts the files of `tests/programs/callersframes` into their main package (`go build -overlay`).

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::{Compared, PROGRAM, compare_pcs};
use crate::go::{Build, GO_VARIABLE};
use crate::real::PROMETHEUS;

/// Program counters per program.
const QUESTIONS: usize = 12_000;
/// Set by `cargo xtask test --oracle`: all releases, not only [`FEW`], and Prometheus.
const ALL_VARIABLE: &str = "LEAKLINE_ORACLE_ALL";
const ALL: [&str; 9] =
    ["go1.19.13", "go1.20.14", "go1.21.13", "go1.22.12", "go1.23.12", "go1.24.11", "go1.25.5", "go1.26.6", "go1.27.3"];
/// One for each way in which names are written: the table of go1.18, that of go1.20, and generic methods.
const FEW: [&str; 3] = ["go1.19.13", "go1.22.12", "go1.27.3"];
/// The files of `tests/programs/callersframes` that answer, and their names in another main package.
const HOOK: [(&str, &str); 5] = [
    ("answers.go", "leakline_answers.go"),
    ("startline.go", "leakline_startline.go"),
    ("startline_none.go", "leakline_startline_none.go"),
    ("link.s", "leakline_link.s"),
    ("hook/hook.go", "leakline_hook.go"),
];

/// Where the files of the hook are to be seen in a package, and where they are.
fn files_of_hook(package: &Path) -> Vec<(PathBuf, PathBuf)> {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(PROGRAM);
    HOOK.into_iter().map(|(ours, theirs)| (package.join(theirs), programs.join(ours))).collect()
}

/// Writes the overlay that shows files where they are not, and says where it is.
fn overlay(files: &[(PathBuf, PathBuf)], name: &str) -> PathBuf {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let shown: Map<String, Value> = files.iter().map(|(seen, real)| (text(seen), text(real).into())).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("hooked-{name}.json"));
    // Under another name first: tests of several processes may write it at once.
    let partial = tempfile::NamedTempFile::new_in(folder).unwrap();
    fs::write(partial.path(), json!({ "Replace": shown }).to_string()).unwrap();
    partial.persist(&path).unwrap();
    path
}

/// The compiler of `toolchain`, able to answer.
fn compiler(toolchain: &str) -> PathBuf {
    let build = Build { program: PROGRAM, toolchain, flags: &[], environment: &[("CGO_ENABLED", "0")] };
    let root = build.go_env("GOROOT");
    let overlay = overlay(&files_of_hook(&root.join("src/cmd/compile")), &format!("compile-{toolchain}"));
    let flag = format!("-overlay={}", overlay.display());
    // From go1.25 on go refuses to replace what lies in the module cache, as downloaded toolchains do. It needs no
    // modules here, so it is told of another cache; and not to look there for the toolchain, it is that of the toolchain.
    let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let (go, modules) = (text(root.join("bin/go")), text(Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-modules")));
    let environment = [("CGO_ENABLED", "0"), (GO_VARIABLE, &*go), ("GOTOOLCHAIN", "local"), ("GOMODCACHE", &*modules)];
    Build { flags: &[&flag], environment: &environment, ..build }.path_of("cmd/compile")
}

/// Prometheus, as `toolchain` builds it, able to answer: our own package that pins it is seen to have its files. (Those in
/// the module cache must not be added to, and a package in no folder at all cannot have assembly.)
fn prometheus(toolchain: &str) -> PathBuf {
    let build = Build { toolchain, ..PROMETHEUS };
    let package = build.folder();
    let mut files = files_of_hook(&package);
    for file in fs::read_dir(build.folder_of("github.com/prometheus/prometheus/cmd/prometheus")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_some_and(|kind| kind == "go") && !name.ends_with("_test.go") {
            files.push((package.join(name), path));
        }
    }
    let flag = format!("-overlay={}", overlay(&files, &format!("prometheus-{toolchain}")).display());
    let flags: Vec<&str> = build.flags.iter().copied().chain([&*flag]).collect();
    Build { flags: &flags, ..build }.path_of(".")
}

/// Prints what came of it and adds the differences.
fn ask(path: &Path, name: &str, differences: &mut Vec<String>) {
    // Where the runtime's answer has no end, the program shall end before the machine's memory does.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 8000000 && exec \"$0\""]).arg(path).env("LEAKLINE_CALLERSFRAMES", "pcs");
    let Compared { pcs, inlined, wrappers, endless, differences: found } = compare_pcs(path, &mut limited, QUESTIONS);
    let differ = found.len();
    println!(
        "{name}: {pcs} addresses, {inlined} in inlined code, {wrappers} in wrappers, {differ} differences; \
         {endless} more without an end in Go's own answer"
    );
    differences.extend(found);
}

#[test]
fn frames_of_big_programs_equal_those_of_their_runtimes() {
    let all = env::var_os(ALL_VARIABLE).is_some();
    let toolchains: &[&str] = if all { &ALL } else { &FEW };
    let mut differences = Vec::new();
    for toolchain in toolchains {
        ask(&compiler(toolchain), &format!("cmd/compile of {toolchain}"), &mut differences);
    }
    if let Some(newest) = ALL.last().filter(|_| all) {
        ask(&prometheus(newest), &format!("prometheus built by {newest}"), &mut differences);
    }
    assert!(differences.is_empty(), "{} differ: {}", differences.len(), differences[0]);
}
