//! `cargo xtask codegen layouts`: builds a small Go program with each release, reads where things lie from its DWARF, and
//! writes or checks the daemon's table.
//!
//! The reading is the daemon's own: its example `runtime_layout` does it, since xtask does not depend on the daemon. Which
//! fields are read says `tracer-daemon/src/inspect/layout/fields.rs`. Programs are built once, into `target/layouts/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::table;
use crate::{command, setup, workspace};

/// First and last release of each minor version that was out when this was written: what moves between the two is refused.
/// A newer Go comes at the end.
const TOOLCHAINS: [&str; 18] = [
    "go1.19.1",
    "go1.19.13",
    "go1.20.1",
    "go1.20.14",
    "go1.21.1",
    "go1.21.13",
    "go1.22.1",
    "go1.22.12",
    "go1.23.1",
    "go1.23.12",
    "go1.24.1",
    "go1.24.11",
    "go1.25.0",
    "go1.25.5",
    "go1.26.0",
    "go1.26.6",
    "go1.27.0",
    "go1.27.3",
];
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// What is written.
const TABLE: &str = "tracer-daemon/src/inspect/layout/table.rs";
/// What is written by hand and compared as well.
const VERSIONS: &str = "tracer-daemon/src/inspect/version.rs";
/// The Go program.
const PROGRAM: &str = "tracer-daemon/tests/programs/layouts";
/// The daemon's reader.
const READER: &str = "runtime_layout";
/// What stands in the table's place where the committed one does not compile, because its fields have changed.
const EMPTY_TABLE: &str =
    "//! Being written by `cargo xtask codegen layouts`.\n\npub(super) const ROWS: &[super::Row] = &[];\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Change nothing; fail where the committed table is not what would be written, and show the lines that differ
    #[arg(long)]
    check: bool,
    /// Compare with this release only, such as go1.27.3; can be given more than once
    #[arg(long, value_name = "RELEASE", requires = "check")]
    toolchain: Vec<String>,
    /// Compare with the newest release of each minor version on amd64 only
    #[arg(long, requires = "check", conflicts_with = "toolchain")]
    short: bool,
}

/// What the reader prints for one program.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Program {
    /// `go1.27.3`
    pub(super) version: String,
    pub(super) minor: u32,
    pub(super) architecture: String,
    /// From its DWARF.
    pub(super) layout: Vec<Structure>,
    /// From the daemon's table; `None` where that has no row.
    pub(super) known: Option<Vec<Structure>>,
    /// Numbers of functions, from its DWARF.
    pub(super) function_ids: String,
    /// As written by hand in the daemon's `version.rs`; `None` where that has no row.
    pub(super) known_function_ids: Option<String>,
}

/// One structure, as Rust source.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Structure {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) type_name: String,
    pub(super) fields: Vec<(String, String)>,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    if !options.check {
        return write(root).map(|()| ExitCode::SUCCESS);
    }
    let toolchains: Vec<&str> = match (options.short, options.toolchain.is_empty()) {
        (true, _) => newest_of_each(&TOOLCHAINS),
        (_, true) => TOOLCHAINS.to_vec(),
        (_, false) => options.toolchain.iter().map(String::as_str).collect(),
    };
    let architectures = if options.short { &ARCHITECTURES[..1] } else { &ARCHITECTURES[..] };
    let programs = read(root, &toolchains, architectures, &reader(root)?)?;
    let mut stale: Vec<String> = programs.iter().flat_map(differences).collect();
    if stale.is_empty() && !options.short && options.toolchain.is_empty() {
        let committed = fs::read_to_string(root.join(TABLE)).with_context(|| format!("cannot read {TABLE}"))?;
        stale = differing_lines(&committed, &formatted(root, &table::render(&programs)?)?);
    }
    for line in &stale {
        println!("{line}");
    }
    if !stale.is_empty() {
        println!("run `cargo xtask codegen layouts` where {TABLE} is stale; {VERSIONS} is written by hand");
        return Ok(ExitCode::FAILURE);
    }
    println!("{TABLE} agrees with {} programs", programs.len());
    Ok(ExitCode::SUCCESS)
}

/// As `codegen layouts --check --short`: what the tests can afford.
pub(crate) fn check_short(root: &Path) -> Result<()> {
    match run(root, &Options { check: true, toolchain: Vec::new(), short: true })? {
        ExitCode::SUCCESS => Ok(()),
        _ => bail!("see above"),
    }
}

fn write(root: &Path) -> Result<()> {
    let path = root.join(TABLE);
    let before = fs::read_to_string(&path).unwrap_or_default();
    let made = reader(root)
        .or_else(|_| {
            println!("{TABLE} does not compile: starting from an empty one");
            fs::write(&path, EMPTY_TABLE)?;
            reader(root)
        })
        .and_then(|reader| read(root, &TOOLCHAINS, &ARCHITECTURES, &reader))
        .and_then(|programs| formatted(root, &table::render(&programs)?));
    // The old table is not lost to a failure.
    let text = made.as_ref().unwrap_or(&before);
    if fs::read_to_string(&path).ok().as_ref() != Some(text) {
        fs::write(&path, text).with_context(|| format!("cannot write {TABLE}"))?;
    }
    let made = made?;
    let differing = differing_lines(&before, &made).len();
    println!("{TABLE}: {} lines, {differing} of them removed or new", made.lines().count());
    Ok(())
}

/// The last of each minor version: the list is in order.
fn newest_of_each<'a>(toolchains: &[&'a str]) -> Vec<&'a str> {
    let minor = |toolchain: &'a str| toolchain.rsplit_once('.').map_or(toolchain, |(minor, _)| minor);
    let last = |index: usize| toolchains.get(index + 1).is_none_or(|next| minor(next) != minor(toolchains[index]));
    (0..toolchains.len()).filter(|index| last(*index)).map(|index| toolchains[index]).collect()
}

/// Builds the daemon's reader.
fn reader(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(workspace::cargo());
    cargo.current_dir(root).args(["build", "--quiet", "--package", "tracer-daemon", "--example", READER]);
    command::capture(&mut cargo)?;
    Ok(target(root).join("debug/examples").join(READER))
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Builds the program with each release for each architecture and reads what its DWARF says.
fn read(root: &Path, toolchains: &[&str], architectures: &[&str], reader: &Path) -> Result<Vec<Program>> {
    let go = setup::go_command(root)?;
    let folder = target(root).join("layouts");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let sources = hash_of_sources(&root.join(PROGRAM))?;
    let total = toolchains.len() * architectures.len();
    let mut programs = Vec::new();
    for toolchain in toolchains {
        for architecture in architectures {
            let built = folder.join(format!("{toolchain}-{architecture}-{sources}"));
            if !built.exists() {
                println!("{} of {total}: building with {toolchain} for {architecture}", programs.len() + 1);
                build(root, &go, toolchain, architecture, &built)?;
            }
            let printed = command::capture(Command::new(reader).arg(&built))?;
            let program: Program = serde_json::from_str(&printed)
                .with_context(|| format!("`{READER}` printed no layout for {}", built.display()))?;
            if program.version != *toolchain || program.architecture != *architecture {
                bail!("{} is {} for {}", built.display(), program.version, program.architecture);
            }
            programs.push(program);
        }
    }
    Ok(programs)
}

fn build(root: &Path, go: &Path, toolchain: &str, architecture: &str, built: &Path) -> Result<()> {
    // Under another name first, so that a build that is cut off leaves nothing that looks built.
    let mut partial = built.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut build = Command::new(go);
    build.current_dir(root.join(PROGRAM)).args(["build", "-o"]).arg(&partial).arg(".");
    let environment = [
        ("GOTOOLCHAIN", toolchain),
        ("GOOS", "linux"),
        ("GOARCH", architecture),
        ("CGO_ENABLED", "0"),
        ("GOWORK", "off"),
    ];
    command::capture(build.envs(environment).env_remove("GOFLAGS").env_remove("GOEXPERIMENT"))?;
    fs::rename(&partial, built).with_context(|| format!("cannot rename {}", partial.display()))
}

/// Changes when a source of the program does; short enough for a file name.
fn hash_of_sources(folder: &Path) -> Result<String> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let paths: BTreeSet<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let mut hasher = Sha256::new();
    for path in paths {
        hasher.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    let bytes = hasher.finalize();
    Ok(bytes.iter().take(6).fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}

/// As `cargo fmt` leaves it.
fn formatted(root: &Path, text: &str) -> Result<String> {
    // Below the workspace, so that its rustfmt.toml counts.
    let file = target(root).join("layouts/table.rs");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let configuration = root.join("rustfmt.toml");
    command::capture(
        Command::new("rustfmt").arg("--config-path").arg(configuration).args(["--edition", "2024"]).arg(&file),
    )?;
    fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// Where a program and the daemon's table differ, one line each.
fn differences(program: &Program) -> Vec<String> {
    let Program { version, architecture, layout, known, function_ids, known_function_ids, .. } = program;
    let Some(known) = known else { return vec![format!("{version} {architecture}: no row in the table")] };
    let fields = |structures: &[Structure]| -> Vec<(String, String)> {
        let named = structures.iter().flat_map(|structure| {
            structure.fields.iter().map(|(field, value)| (format!("{}.{field}", structure.name), value.clone()))
        });
        named.collect()
    };
    // Both come from one list of fields.
    let pairs = fields(known).into_iter().zip(fields(layout));
    let known_ids = known_function_ids.as_deref().unwrap_or("none");
    let ids = (known_ids != function_ids)
        .then(|| format!("{version} {architecture}: function ids are {function_ids}, and {known_ids} in {VERSIONS}"));
    pairs
        .filter(|(known, found)| known != found)
        .map(|((field, known), (_, found))| {
            format!("{version} {architecture}: {field} is {found}, and {known} in the table")
        })
        .chain(ids)
        .collect()
}

/// The lines that only one of two texts has.
fn differing_lines(before: &str, after: &str) -> Vec<String> {
    let only = |text: &str, other: &str, sign: char| -> Vec<String> {
        let known: BTreeSet<&str> = other.lines().collect();
        text.lines().filter(|line| !known.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    let mut lines = only(before, after, '-');
    lines.extend(only(after, before, '+'));
    if lines.is_empty() && before != after {
        lines.push("the same lines in another order".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Program, Structure, differences, differing_lines, newest_of_each};

    fn structures(goid: &str) -> Vec<Structure> {
        let fields = vec![("size_bytes".to_owned(), "456".to_owned()), ("goid".to_owned(), goid.to_owned())];
        vec![Structure { name: "g".to_owned(), type_name: "GoroutineLayout".to_owned(), fields }]
    }

    fn program(known: Option<Vec<Structure>>) -> Program {
        let (version, architecture) = ("go1.27.3".to_owned(), "amd64".to_owned());
        let (function_ids, known_function_ids) = ("sigpanic: 20".to_owned(), Some("sigpanic: 20".to_owned()));
        Program { version, minor: 27, architecture, layout: structures("152"), known, function_ids, known_function_ids }
    }

    #[test]
    fn a_field_that_differs_is_named_with_both_values() {
        assert!(differences(&program(Some(structures("152")))).is_empty());
        let stale = differences(&program(Some(structures("160"))));
        assert_eq!(stale, ["go1.27.3 amd64: g.goid is 152, and 160 in the table"]);
        assert_eq!(differences(&program(None)), ["go1.27.3 amd64: no row in the table"]);
        let moved = Program { function_ids: "sigpanic: 21".to_owned(), ..program(Some(structures("152"))) };
        let lines = differences(&moved);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("function ids are sigpanic: 21, and sigpanic: 20 in"), "{lines:?}");
    }

    #[test]
    fn texts_that_differ_give_lines() {
        assert!(differing_lines("a\nb\n", "a\nb\n").is_empty());
        assert_eq!(differing_lines("a\nb\n", "a\nc\n"), ["- b", "+ c"]);
        assert_eq!(differing_lines("a\nb\n", "b\na\n").len(), 1);
    }

    #[test]
    fn the_newest_of_each_minor_version_is_its_last() {
        assert_eq!(
            newest_of_each(&["go1.9.1", "go1.9.13", "go1.10.0", "go1.11.2"]),
            ["go1.9.13", "go1.10.0", "go1.11.2"]
        );
    }
}
