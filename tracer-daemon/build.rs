//! Chooses the kernel object that the daemon embeds, and refuses one that was made of other sources.
//!
//! Sets `LEAKLINE_EBPF_OBJECT` to the absolute path of the object. Does not build it: that takes a toolchain which few
//! people have, so the object is committed and `cargo xtask ebpf` renews it.
#![allow(clippy::print_stdout, reason = "this is how a build script talks to cargo")]

mod source_hash;

use std::env;
use std::path::{Path, PathBuf};

/// Names an object to embed instead of the prebuilt one: what the test command has just built from the sources.
const FRESH: &str = "LEAKLINE_EBPF_OBJECT_FRESH";

fn main() {
    println!("cargo::rerun-if-env-changed={FRESH}");
    match object() {
        Ok(path) => println!("cargo::rustc-env=LEAKLINE_EBPF_OBJECT={}", path.display()),
        Err(why) => println!("cargo::error={why}"),
    }
}

fn object() -> Result<PathBuf, String> {
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).ok_or("run by cargo only")?;
    if let Some(fresh) = env::var_os(FRESH) {
        let fresh = PathBuf::from(fresh);
        println!("cargo::rerun-if-changed={}", fresh.display());
        return if fresh.is_absolute() && fresh.is_file() {
            Ok(fresh)
        } else {
            Err(format!("{FRESH}={} is not the absolute path of a file", fresh.display()))
        };
    }
    let workspace = package.parent().unwrap_or(&package);
    check_freshness(workspace)?;
    // A published crate has no sibling folders and brings the object itself.
    let candidates = [workspace.join(source_hash::OBJECT), package.join("prebuilt/leakline-ebpf.o")];
    let found = candidates
        .iter()
        .find(|path| path.is_file())
        .ok_or_else(|| format!("the kernel object {} is missing: run `cargo xtask ebpf`", source_hash::OBJECT))?;
    println!("cargo::rerun-if-changed={}", found.display());
    Ok(found.clone())
}

fn check_freshness(workspace: &Path) -> Result<(), String> {
    let Some(now) = source_hash::of_workspace(workspace)
        .map_err(|error| format!("cannot read the sources of the kernel programs: {error}"))?
    else {
        return Ok(());
    };
    for source in source_hash::SOURCES.into_iter().chain(["Cargo.toml", source_hash::HASH]) {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let recorded = std::fs::read_to_string(workspace.join(source_hash::HASH)).unwrap_or_default();
    if recorded.trim() == now {
        return Ok(());
    }
    Err(format!(
        "the kernel object {} was not made of the present sources (tracer-ebpf, tracer-common): run `cargo xtask ebpf`",
        source_hash::OBJECT
    ))
}
