//! Programs that hide what they are: packed, obfuscated. Refused for a stated reason; never a wrong name.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use crate::{exact::knownsites, fuzz_targets::image::GoImage, go, leakline::failure, target::Target};

/// `plan` and `attach` refuse the program, each with this text.
fn is_refused(program: &str, with: &str) {
    let (status, message) = failure(&["plan", program]);
    assert_eq!(status, 3, "{message}");
    assert!(message.contains(with), "{message}");
}

#[test]
fn a_program_packed_by_upx_is_refused_as_packed() {
    const TEST: &str = "a_program_packed_by_upx_is_refused_as_packed";
    match Command::new("upx").arg("--version").stdout(Stdio::null()).status() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("SKIPPED: {TEST}: running upx: {error}");
            return;
        }
        outcome => assert!(outcome.unwrap().success()),
    }
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    let mut upx = Command::new("upx");
    upx.args(["-q", "-1", "-o"]).arg(&packed).arg(knownsites("go1.26.6", &[])).stdout(Stdio::null());
    assert!(upx.status().unwrap().success());
    is_refused(packed.to_str().unwrap(), "packed by UPX");
    // Also while it runs: its file stays the packed one.
    let target = Target::start(&packed, &[]);
    let (status, message) = failure(&["plan", "--pid", &target.pid().to_string()]);
    assert_eq!(status, 3, "{message}");
    assert!(message.contains("packed by UPX"), "{message}");
}

/// As UPX 4.2.2 writes: two segments, no sections, its mark behind the program headers, compressed bytes.
#[test]
fn a_file_with_the_mark_of_upx_is_refused_as_packed() {
    let mut built = GoImage::usual(26).build();
    // No sections; two program headers; everything behind them is something else.
    built.patch(40, &[0; 8]);
    built.patch(56, &[2, 0]);
    built.patch(60, &[0; 4]);
    let headers_end = 64 + 2 * 56;
    let rest = built.bytes.len() - headers_end;
    built.patch(headers_end, &vec![0xa5; rest]);
    built.patch(headers_end, b"\x45\xec\xcd\x1cUPX!");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("packed");
    fs::write(&file, &built.bytes).unwrap();
    is_refused(file.to_str().unwrap(), "packed by UPX");
    // Without the mark, which some remove, it is just no Go program.
    built.patch(headers_end + 4, b"XPU?");
    fs::write(&file, &built.bytes).unwrap();
    let (status, message) = failure(&["plan", file.to_str().unwrap()]);
    assert_eq!(status, 4, "{message}");
    assert!(message.contains("not a Go program"), "{message}");
}

/// garble renames functions, encrypts positions in the function table and takes the version away.
#[test]
fn a_garbled_program_is_refused_for_its_version() {
    let program = go::garbled("knownsites", "go1.26.6", "v0.17.0");
    is_refused(program.to_str().unwrap(), "without a readable version (found \"unknown\")");
    // It is a program that runs.
    let target = Target::start(&program, &[]);
    let (status, message) = failure(&["attach", "--pid", &target.pid().to_string(), "--evidence", "exact"]);
    assert_eq!(status, 3, "{message}");
    assert!(message.contains("obfuscated"), "{message}");
}
