//! What /proc says of the machine and of the processes that benches run.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Threads that run or wait for a processor or a disk, over about a minute.
pub(super) fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    text.split(' ').next().context("no load average")?.parse().context("a load average that is no number")
}

/// CPU time of a process, with that of the children that it has seen end or without.
pub(super) fn cpu_s(pid: u32, with_children: bool) -> Result<f64> {
    /// Ticks per second in /proc, whatever the kernel's own (`USER_HZ`).
    const TICKS_PER_S: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
    let (_, fields) = stat.rsplit_once(") ").context("a stat without a name")?;
    // proc_pid_stat(5): utime is field 14, of which the first two are cut off here; stime, cutime and cstime follow.
    let count = if with_children { 4 } else { 2 };
    let ticks = fields.split(' ').skip(11).take(count).map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS_PER_S)
}

/// How many bytes of a process's text differ from its file.
pub(super) fn changed_text(pid: u32) -> Result<usize> {
    let executable = fs::read_link(format!("/proc/{pid}/exe"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let file = File::open(format!("/proc/{pid}/exe"))?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let (mut seen, mut changed) = (0, 0);
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, permissions, offset) = (fields.next(), fields.next(), fields.next());
        let is_text = permissions.is_some_and(|permissions| permissions.contains('x'));
        if !is_text || fields.nth(2).map(Path::new) != Some(executable.as_path()) {
            continue;
        }
        let (start, end) = range.and_then(|range| range.split_once('-')).context("a mapping without a range")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let mut is = vec![0; usize::try_from(end - start)?];
        let mut should_be = is.clone();
        memory.read_exact_at(&mut is, start)?;
        // The last page of a mapping may reach beyond the file.
        let mut from = u64::from_str_radix(offset.context("a mapping without an offset")?, 16)?;
        let mut rest = should_be.as_mut_slice();
        loop {
            let read = file.read_at(rest, from)?;
            if read == 0 {
                break;
            }
            from += u64::try_from(read)?;
            rest = &mut rest[read..];
        }
        seen += is.len();
        changed += is.iter().zip(&should_be).filter(|(is, should_be)| is != should_be).count();
    }
    ensure!(seen > 100_000, "only {seen} bytes of text of process {pid} were found");
    Ok(changed)
}

/// Memory of a process and its children, pages that they share counted once between those that have them (`Pss` of `proc_pid_smaps_rollup(5)`).
pub(super) fn proportional_bytes(pid: u32) -> Result<f64> {
    let of = |process: u32| -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_ascii_whitespace().next()?.parse::<f64>().ok()
    };
    let own = of(pid).with_context(|| format!("process {pid} is gone"))?;
    // One that held a window may have ended meanwhile.
    Ok(1024.0 * (own + children(pid)?.into_iter().filter_map(of).sum::<f64>()))
}

/// CPU time of a process and of all its children, those that live and those that it has seen end.
pub(super) fn cpu_with_all_children_s(pid: u32) -> Result<f64> {
    let living: f64 = children(pid)?.into_iter().filter_map(|child| cpu_s(child, false).ok()).sum();
    Ok(living + cpu_s(pid, true)?)
}

/// Processes that a process has started, and that live. Each of its threads has its own.
fn children(pid: u32) -> Result<Vec<u32>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?.filter_map(Result::ok);
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    Ok(children.collect::<String>().split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect())
}

/// How many processes run this program.
pub(super) fn processes_of(program: &Path) -> Result<usize> {
    let runs_it = |entry: &fs::DirEntry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program);
    Ok(fs::read_dir("/proc")?.filter_map(Result::ok).filter(runs_it).count())
}
