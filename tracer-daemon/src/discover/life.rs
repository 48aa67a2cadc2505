//! The three fields of `/proc/PID/stat` that tell a process from what comes after it.

use std::{fs::File, io::Read as _};

/// What tells whether a process lives, and from its successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) state: u8,
    /// Clock ticks since boot.
    pub(super) start_ticks: u64,
    /// 0: it may not be read.
    pub(super) start_stack: u64,
}

impl Life {
    /// Of each target this is asked several times a second, and a whole `Stat` takes ten system calls. `None`: it is gone.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let mut text = [0; 1024];
        let bytes = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
        Self::parse(text.get(..bytes)?)
    }

    /// `proc_pid_stat(5)`: the name, field 2, may have any bytes but ends with the last parenthesis.
    fn parse(stat: &[u8]) -> Option<Self> {
        let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
        let mut fields = std::str::from_utf8(stat.get(name_ends..)?).ok()?.split_ascii_whitespace().skip(1);
        let state = *fields.next()?.as_bytes().first()?;
        let start_ticks = fields.nth(18)?.parse().ok()?;
        let start_stack = fields.nth(5)?.parse().ok()?;
        Some(Self { state, start_ticks, start_stack })
    }
}

#[cfg(test)]
mod tests {
    use procfs::process::Process;

    use super::Life;

    #[test]
    fn it_is_what_the_whole_file_says() {
        let stat = Process::myself().unwrap().stat().unwrap();
        let life = Life::of(std::process::id()).unwrap();
        assert_eq!((life.start_ticks, life.start_stack), (stat.starttime, stat.startstack));
        assert!(b"RS".contains(&life.state));
        assert_eq!(Life::of(u32::MAX), None);
    }

    #[test]
    fn a_name_may_have_parentheses_spaces_and_bytes_that_are_no_text() {
        let rest = b" S 1 7 7 0 -1 4194304 100 0 0 0 5 6 0 0 20 0 9 0 4242 1 2 3 4 5 140000 0";
        let stat = [b"7 (a) R (\xff b".as_slice(), b")", rest].concat();
        assert_eq!(Life::parse(&stat), Some(Life { state: b'S', start_ticks: 4242, start_stack: 140_000 }));
        for short in 0..stat.len() - 9 {
            assert_eq!(Life::parse(&stat[..short]), None, "{short} bytes");
        }
    }
}
