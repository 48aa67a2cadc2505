//! What a process has started, and what that has started.

use std::collections::HashMap;

use procfs::process::all_processes;

/// A process below another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its id.
    pub pid: u32,
    /// Its process group.
    pub group: u32,
    /// When it was forked, clock ticks since boot.
    pub start_ticks: u64,
}

/// All living processes below this one, the oldest first. One that begins or ends meanwhile may be missing.
pub fn descendants(pid: u32) -> Vec<Descendant> {
    let Ok(processes) = all_processes() else { return Vec::new() };
    let mut children: HashMap<u32, Vec<Descendant>> = HashMap::new();
    for stat in processes.flatten().filter_map(|process| process.stat().ok()) {
        let [pid, parent, group] = [stat.pid, stat.ppid, stat.pgrp].map(|id| u32::try_from(id).unwrap_or_default());
        if !matches!(stat.state, 'Z' | 'X' | 'x') || has_children(&stat) {
            children.entry(parent).or_default().push(Descendant { pid, group, start_ticks: stat.starttime });
        }
    }
    // Each process has one parent; that of one which was listed twice is taken away with it.
    let mut found: Vec<Descendant> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found.sort_unstable_by_key(|process| (process.start_ticks, process.pid));
    found
}

/// A leading thread that has ended before its process: what is shown as a zombie runs on.
fn has_children(stat: &procfs::process::Stat) -> bool {
    stat.num_threads > 1
}

/// Whether a process waits for connections of TCP. What may not be looked at does not.
pub fn listens(pid: u32) -> bool {
    use procfs::net::{TcpNetEntry, TcpState};
    use procfs::process::{FDTarget, Process};
    let Ok(process) = i32::try_from(pid).map_err(|_too_large| ()).and_then(|pid| Process::new(pid).map_err(|_gone| ()))
    else {
        return false;
    };
    let entries = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    let listening: std::collections::HashSet<u64> =
        entries.filter(|entry: &TcpNetEntry| entry.state == TcpState::Listen).map(|entry| entry.inode).collect();
    let is_listening = |target: FDTarget| matches!(target, FDTarget::Socket(inode) if listening.contains(&inode));
    !listening.is_empty()
        && process.fd().is_ok_and(|descriptors| descriptors.flatten().any(|descriptor| is_listening(descriptor.target)))
}

/// Resident memory, bytes. `None`: it is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?.statm().ok()?;
    Some(statm.resident.saturating_mul(procfs::page_size()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn children_of_children_are_found_and_those_of_others_are_not() {
        let mut shell = Command::new("sh");
        let mut shell = shell.args(["-c", "sleep 60 & sleep 60; true"]).stdin(Stdio::null()).spawn().unwrap();
        let below = |pid| descendants(pid).into_iter().map(|process| process.pid).collect::<Vec<_>>();
        while below(shell.id()).len() < 2 {
            std::thread::yield_now();
        }
        let own = below(std::process::id());
        let children = below(shell.id());
        assert!(children.iter().chain([&shell.id()]).all(|pid| own.contains(pid)), "{own:?} {children:?}");
        assert!(!children.contains(&shell.id()) && !own.contains(&1));
        shell.kill().unwrap();
        for pid in children {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }

    #[test]
    fn who_listens_is_known() {
        let mut silent = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(!listens(silent.id()));
        let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listens(std::process::id()));
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
        silent.kill().unwrap();
        silent.wait().unwrap();
    }
}
