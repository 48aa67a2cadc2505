//! Programs that are not where their path says: deleted, in another mount namespace, on an overlay, in memory only. What is
//! inspected and probed is what runs, so counts are exact in each.

use std::fs;
use std::path::Path;

use crate::{
    exact::knownsites,
    go,
    leakline::{Running, can_attach, leakline},
    target::Target,
};

/// Plans and counts a running `knownsites`, and leaves it well.
fn is_planned_and_counted(mut target: Target) {
    let pid = target.pid().to_string();
    let planned = leakline(&["plan", "--pid", &pid, "--output", "json"]);
    let said = String::from_utf8_lossy(&planned.stderr);
    assert!(planned.status.success(), "{said}");
    let document: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(document["plan"]["refused"].as_array().map(Vec::len), Some(0), "{document}");
    let running = Running::attach(target.pid(), &[]);
    target.say("go");
    assert_eq!(target.line(), "done");
    let document = running.report();
    let tiny = document["sites"].as_array().unwrap().iter().find(|site| site["function"] == "main.(*worker).tiny");
    assert_eq!(tiny.unwrap()["counted"]["objects"], 30_011);
    target.close_stdin();
    assert!(target.wait().success(), "the target did not end well after it was watched");
}

/// Whether this user may mount; where not, says so as `cargo xtask test` wants it, with what `unshare` said.
fn can_mount(test: &str, kind: &str) -> bool {
    let script = match kind {
        "overlay" => {
            "mount -t tmpfs none /mnt && mkdir /mnt/l /mnt/u /mnt/w /mnt/m && \
                      mount -t overlay none -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/m"
        }
        _ => "mount -t tmpfs none /mnt",
    };
    let output = std::process::Command::new("unshare").args(["-m", "sh", "-c", script]).output();
    let said = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(!said.is_empty(), "mounting failed and nobody said why");
    println!("SKIPPED: {test}: cannot mount {kind}: {said}");
    false
}

/// Starts the program where only it can see it: `script` has its path as `$0` and ends with an `exec`.
fn start_elsewhere(program: &Path, script: &str) -> Target {
    let target = Target::start(Path::new("unshare"), &["-m", "sh", "-ec", script, program.to_str().unwrap()]);
    let exe = fs::read_link(format!("/proc/{}/exe", target.pid())).unwrap();
    assert!(exe.ends_with("hidden/program") && !exe.exists(), "{} is seen from here", exe.display());
    target
}

#[test]
fn a_deleted_program_is_planned_and_counted() {
    const TEST: &str = "a_deleted_program_is_planned_and_counted";
    if !can_attach(TEST) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program");
    fs::copy(knownsites("go1.26.6", &[]), &file).unwrap();
    let target = Target::start(&file, &[]);
    drop(folder);
    assert!(!file.exists());
    is_planned_and_counted(target);
}

#[test]
fn a_program_in_another_mount_namespace_is_planned_and_counted() {
    const TEST: &str = "a_program_in_another_mount_namespace_is_planned_and_counted";
    if !can_attach(TEST) || !can_mount(TEST, "tmpfs") {
        return;
    }
    let script = "mount -t tmpfs none /mnt; mkdir /mnt/hidden; cp \"$0\" /mnt/hidden/program; exec /mnt/hidden/program";
    is_planned_and_counted(start_elsewhere(&knownsites("go1.27.3", &["-ldflags=-s -w"]), script));
}

#[test]
fn a_program_of_the_lower_layer_of_an_overlay_is_planned_and_counted() {
    const TEST: &str = "a_program_of_the_lower_layer_of_an_overlay_is_planned_and_counted";
    if !can_attach(TEST) || !can_mount(TEST, "overlay") {
        return;
    }
    let script = "mount -t tmpfs none /mnt; cd /mnt; mkdir lower upper work hidden; cp \"$0\" lower/program; \
                  mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work hidden; exec /mnt/hidden/program";
    is_planned_and_counted(start_elsewhere(&knownsites("go1.26.6", &[]), script));
}

#[test]
fn a_program_of_the_upper_layer_of_an_overlay_is_planned_and_counted() {
    const TEST: &str = "a_program_of_the_upper_layer_of_an_overlay_is_planned_and_counted";
    if !can_attach(TEST) || !can_mount(TEST, "overlay") {
        return;
    }
    let script = "mount -t tmpfs none /mnt; cd /mnt; mkdir lower upper work hidden; echo old > lower/program; \
                  mount -t overlay none -o lowerdir=lower,upperdir=upper,workdir=work hidden; \
                  cp \"$0\" hidden/program; chmod +x hidden/program; exec /mnt/hidden/program";
    is_planned_and_counted(start_elsewhere(&knownsites("go1.26.6", &["-buildmode=pie"]), script));
}

#[test]
fn a_program_that_exists_in_memory_only_is_planned_and_counted() {
    const TEST: &str = "a_program_that_exists_in_memory_only_is_planned_and_counted";
    if !can_attach(TEST) {
        return;
    }
    let program = knownsites("go1.26.6", &[]);
    let target = Target::start(&go::build("misc/memfd", "go1.26.6", &[]), &[program.to_str().unwrap()]);
    let exe = fs::read_link(format!("/proc/{}/exe", target.pid())).unwrap();
    assert!(exe.to_string_lossy().starts_with("/memfd:"), "{}", exe.display());
    is_planned_and_counted(target);
}
