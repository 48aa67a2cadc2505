//! The program whose cost is measured: builds `allocrate` with a given Go release, starts it, reads its reports, and
//! knows where its `runtime.mallocgc` is. The reports are also the only clock of the bench.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection, ObjectSymbol, elf};
use serde::Deserialize;

use crate::setup;

/// Bytes of `runtime.mallocgc` that are watched for a tracer's breakpoint.
const WATCHED_BYTES: usize = 96;

/// A built `allocrate` and the two instructions that tracers are put on.
#[derive(Debug)]
pub(crate) struct TargetBinary {
    pub(crate) path: PathBuf,
    /// The same program; but its ELF symbol `runtime.mallocgc` points at `body`, since bpftrace 0.17 refuses offsets into
    /// functions. Go itself does not read ELF symbols.
    pub(crate) path_with_moved_symbol: PathBuf,
    /// First instruction of `runtime.mallocgc`, an address of the ELF file (the binary is not position independent).
    pub(crate) entry: u64,
    /// The `push rbp` behind the stack check.
    pub(crate) body: u64,
    text: Vec<u8>,
}

impl TargetBinary {
    /// Builds with `go` and the release `go_release` (for example `1.22.12`), into `directory`.
    pub(crate) fn build(repository: &Path, directory: &Path, go_release: &str) -> Result<Self> {
        let path = directory.join(format!("allocrate-go{go_release}"));
        let status = Command::new(setup::go_command(repository)?)
            .args(["build", "-o"])
            .arg(&path)
            .arg(".")
            .current_dir(repository.join("tracer-daemon/tests/programs/allocrate"))
            .env("GOTOOLCHAIN", format!("go{go_release}"))
            .env("CGO_ENABLED", "0")
            .status()
            .context("start `go build` of allocrate")?;
        ensure!(status.success(), "`go build` of allocrate with Go {go_release} ended with {status}");
        Self::inspect(path, go_release)
    }

    fn inspect(path: PathBuf, go_release: &str) -> Result<Self> {
        let mut bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let file = object::File::parse(&*bytes).with_context(|| format!("parse {}", path.display()))?;
        let symbol = file
            .symbols()
            .find(|symbol| symbol.name() == Ok("runtime.mallocgc"))
            .with_context(|| format!("{} has no symbol runtime.mallocgc", path.display()))?;
        let entry = symbol.address();
        let text = file
            .section_by_name(".text")
            .and_then(|section| section.data_range(entry, WATCHED_BYTES as u64).ok().flatten())
            .with_context(|| format!("runtime.mallocgc of {} is not in .text", path.display()))?
            .to_vec();
        let push_offset = push_after_stack_check(&text)
            .with_context(|| format!("runtime.mallocgc of {} begins with unknown instructions", path.display()))?;

        let table = file.section_by_name(".symtab").and_then(|section| section.file_range()).context("no .symtab")?;
        let record_size = size_of::<elf::Sym64<object::Endianness>>();
        let record = usize::try_from(table.0)? + symbol.index().0 * record_size;
        let (value_at, size_at) = (record + 8, record + 16); // Elf64_Sym: st_value, st_size
        let size = symbol.size() - push_offset;
        bytes[value_at..size_at].copy_from_slice(&(entry + push_offset).to_le_bytes());
        bytes[size_at..size_at + 8].copy_from_slice(&size.to_le_bytes());
        let path_with_moved_symbol = path.with_file_name(format!("allocrate-go{go_release}-moved"));
        fs::copy(&path, &path_with_moved_symbol)?; // for the permissions
        fs::write(&path_with_moved_symbol, &bytes)?;
        Ok(Self { path, path_with_moved_symbol, entry, body: entry + push_offset, text })
    }
}

/// Offset of `push rbp` behind `cmp rsp,[r14+16]; jbe …` (short or long jump); None for any other beginning.
fn push_after_stack_check(text: &[u8]) -> Option<u64> {
    match text {
        [0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, _, _, _, _, 0x55, ..] => Some(10),
        [0x49, 0x3b, 0x66, 0x10, 0x76, _, 0x55, ..] => Some(6),
        _ => None,
    }
}

/// What `allocrate` is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Bytes of each object. None: objects of 64 to 1,024 bytes, half of them with pointers.
    pub(crate) size_bytes: Option<u32>,
    /// Frames below the allocating one.
    pub(crate) depth: u32,
    /// Of the whole program. None: as fast as it can.
    pub(crate) allocations_per_s: Option<u64>,
    pub(crate) goroutines: u32,
    /// Memory that stays alive, MiB.
    pub(crate) live_mib: u32,
}

impl Load {
    /// One goroutine that allocates objects of one size as fast as it can.
    pub(crate) fn of_size(size_bytes: u32, depth: u32) -> Self {
        Self { size_bytes: Some(size_bytes), depth, allocations_per_s: None, goroutines: 1, live_mib: 0 }
    }

    fn arguments(&self, seconds: u32) -> Vec<String> {
        let mut arguments = vec!["-wait".to_owned()];
        let numbers = [
            ("-depth", u64::from(self.depth)),
            ("-rate", self.allocations_per_s.unwrap_or(0)),
            ("-goroutines", u64::from(self.goroutines)),
            ("-live", u64::from(self.live_mib)),
            ("-seconds", u64::from(seconds)),
        ];
        arguments.extend(numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()]));
        match self.size_bytes {
            Some(size_bytes) => arguments.extend(["-size".to_owned(), size_bytes.to_string()]),
            None => arguments.push("-mix".to_owned()),
        }
        arguments
    }
}

/// `allocrate` reports every 25 ms; so many of these are one report of [`Target::next_report`].
const SLICES_PER_REPORT: u32 = 10;

/// One report of `allocrate`.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Report {
    /// Of the kernel's monotonic clock.
    pub(crate) ns: u64,
    pub(crate) allocations: u64,
    pub(crate) cpu_ns: u64,
}

/// A running `allocrate`; killed on drop.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    reports: BufReader<ChildStdout>,
    memory: File,
    text_address: u64,
    text: Vec<u8>,
    /// All reports since they were taken, 25 ms apart.
    slices: Vec<Report>,
}

impl Target {
    /// Starts it, for at most `seconds`.
    pub(crate) fn start(binary: &TargetBinary, moved_symbol: bool, load: &Load, seconds: u32) -> Result<Self> {
        let path = if moved_symbol { &binary.path_with_moved_symbol } else { &binary.path };
        let mut child = Command::new(path)
            .args(load.arguments(seconds))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", path.display()))?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("no pipes to {}", path.display());
        };
        let mut reports = BufReader::new(stdout);
        let mut ready = String::new();
        reports.read_line(&mut ready)?;
        ensure!(ready.contains("\"ready\":true"), "allocrate said {ready:?} in place of ready");
        stdin.write_all(b"go\n")?;
        let memory = File::open(format!("/proc/{}/mem", child.id())).context("open the memory of allocrate")?;
        Ok(Self { child, reports, memory, text_address: binary.entry, text: binary.text.clone(), slices: Vec::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Blocks for the next report: at most about 250 ms while the program has CPU.
    pub(crate) fn next_report(&mut self) -> Result<Report> {
        let mut last = self.next_slice()?;
        for _ in 1..SLICES_PER_REPORT {
            last = self.next_slice()?;
        }
        Ok(last)
    }

    fn next_slice(&mut self) -> Result<Report> {
        let mut line = String::new();
        ensure!(self.reports.read_line(&mut line)? != 0, "allocrate (pid {}) ended early", self.pid());
        let report = serde_json::from_str(&line).with_context(|| format!("report {line:?}"))?;
        self.slices.push(report);
        Ok(report)
    }

    /// All reports since the last call, 25 ms apart.
    pub(crate) fn take_slices(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.slices)
    }

    /// The address of the first byte of `runtime.mallocgc` that differs from the file: there some tracer has put a probe.
    /// None: it is as in the file.
    pub(crate) fn probe(&self) -> Result<Option<u64>> {
        let mut now = vec![0; self.text.len()];
        self.memory.read_exact_at(&mut now, self.text_address).context("read the text of allocrate")?;
        let differs = now.iter().zip(&self.text).zip(self.text_address..).find(|((now, then), _)| now != then);
        Ok(differs.map(|(_, address)| address))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::push_after_stack_check;

    #[test]
    fn push_is_found_behind_both_jumps_and_nowhere_else() {
        let long = [0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0xc0, 0x08, 0, 0, 0x55, 0x48];
        let short = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x30, 0x55, 0x48];
        assert_eq!(push_after_stack_check(&long), Some(10));
        assert_eq!(push_after_stack_check(&short), Some(6));
        assert_eq!(push_after_stack_check(&long[1..]), None);
        assert_eq!(push_after_stack_check(&[]), None);
    }
}
