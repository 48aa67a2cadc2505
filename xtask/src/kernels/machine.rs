//! A virtual machine: its kernel, the image that it boots, and QEMU.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::apt::Apt;
use crate::command;

const INIT: &str = include_str!("init.sh");
const BUSYBOX: &str = "/bin/busybox";
/// Share of its time that each program pays. An emulated processor makes everything dearer than the governor's defaults expect, and a run is short.
const OVERHEAD: &str = "10%";
/// A machine that takes longer does not end any more, seconds.
const PATIENCE_S: u32 = 900;
const MEMORY_MIB: &str = "1536";

/// The newest kernel of a suite: the name of its package, with version, and the file that a machine boots.
pub(super) fn kernel(apt: &Apt, suite: &str) -> Result<(String, PathBuf)> {
    let depends = apt.field(suite, "linux-image-amd64", "Depends")?;
    let names = depends.split(", ").filter_map(|one| one.split(' ').next());
    let image = names.into_iter().find(|name| name.starts_with("linux-image-"));
    let image = image.with_context(|| format!("linux-image-amd64 of {suite} depends on no kernel: {depends}"))?;
    // From forky on the kernel itself is in a package beside it.
    let beside = image.replacen("linux-image-", "linux-binary-", 1);
    let has_beside = apt.field(suite, image, "Depends")?.contains(&beside);
    let package = if has_beside { &beside } else { image };
    // Modules are a hundred times as large.
    let (name, folder) = apt.fetch_by(suite, package, |file, folder| {
        let mut archive = Command::new("dpkg-deb").arg("--fsys-tarfile").arg(file).stdout(Stdio::piped()).spawn()?;
        let contents = archive.stdout.take().context("no pipe")?;
        let mut tar = Command::new("tar");
        tar.args(["-x", "-C"]).arg(folder).args(["--wildcards", "*/vmlinuz*"]).stdin(contents);
        command::run(&mut tar)?;
        ensure!(archive.wait()?.success(), "dpkg-deb cannot read {}", file.display());
        Ok(fs::remove_file(file)?)
    })?;
    let kernel = find(&folder)?.with_context(|| format!("no kernel in {name}"))?;
    Ok((name, kernel))
}

fn find(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_kernel = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
        let found = if path.is_dir() { find(&path)? } else { is_kernel.then_some(path) };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Everything that is in a machine beside its kernel: an archive that the kernel unpacks into memory.
pub(super) fn image(folder: &Path, leakline: &Path, programs: &[PathBuf], duration: &str) -> Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for below in ["bin", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(root.join(below))?;
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    let own = root.join("bin/leakline");
    fs::copy(leakline, &own)?;
    command::capture(Command::new("strip").arg("--strip-debug").arg(&own))?;
    for program in programs {
        let name = program.file_name().context("a program without a name")?;
        fs::copy(program, root.join("bin").join(name))?;
    }
    // linux-vdso.so.1 (0x…)
    // libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)
    let libraries = command::capture(Command::new("ldd").arg(leakline))?;
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().context("a library without a folder")?)?;
        fs::copy(library, to)?;
    }
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), Permissions::from_mode(0o755))?;
    fs::write(root.join("duration"), duration)?;
    fs::write(root.join("overhead"), OVERHEAD)?;
    let image = folder.join("image.cpio");
    let files = command::capture(Command::new("find").arg(".").current_dir(&root))?;
    let mut archive = Command::new(BUSYBOX);
    archive.args(["cpio", "-o", "-H", "newc"]).current_dir(&root).stderr(Stdio::null());
    let mut archive = archive.stdin(Stdio::piped()).stdout(File::create(&image)?).spawn()?;
    archive.stdin.take().context("no pipe")?.write_all(files.as_bytes())?;
    ensure!(archive.wait()?.success(), "busybox makes no archive");
    Ok(image)
}

/// Boots and waits for the end. What is said on the console goes to the log.
pub(super) fn boot(kernel: &Path, image: &Path, log: &Path, processors: u8, kvm: bool) -> Result<()> {
    let mut qemu = Command::new("timeout");
    qemu.args([
        &PATIENCE_S.to_string(),
        "qemu-system-x86_64",
        "-smp",
        &processors.to_string(),
        "-m",
        MEMORY_MIB,
        "-nographic",
        "-no-reboot",
    ]);
    qemu.args(if kvm { ["-accel", "kvm", "-cpu", "host"] } else { ["-accel", "tcg,thread=multi", "-cpu", "max"] });
    qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(image).args(["-append", "console=ttyS0 panic=-1 quiet"]);
    qemu.stdin(Stdio::null()).stdout(File::create(log)?).stderr(File::options().append(true).open(log)?);
    let status = qemu.status().context("cannot start QEMU")?;
    if !status.success() {
        bail!("the machine ended with {status}");
    }
    Ok(())
}
