//! `/proc/PID/smaps`: what is mapped in a process, and how much of it is resident.
//!
//! Read line by line and reduced at once: a process may have 65,530 mappings (`vm.max_map_count`), and procfs's own reader
//! holds a table of twenty names for each.

use std::io::{self, BufRead};

use crate::addr::Avma;

/// Most mappings that are looked at; the default limit of the kernel is 65,530.
const MAPPINGS_MAX: usize = 1 << 20;
/// Longest line that is believed: a path has at most 4,096 bytes, escaped four times that.
const LINE_MAX: u64 = 32 << 10;

/// What a mapping is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingKind {
    /// A file, also one without a name any more; memory that processes share counts as one.
    File {
        /// As the process sees it.
        path: String,
    },
    /// No file. The name is what the process told the kernel (`prctl(PR_SET_VMA)`): Go from 1.25 on says `Go: heap` and
    /// the like where the kernel can keep it.
    Anonymous {
        /// Without `[anon:` and `]`; `None`: it has none.
        name: Option<String>,
    },
    /// What `brk(2)` extends: C's malloc.
    Break,
    /// The stack of the first thread.
    Stack,
    /// The kernel's own: `[vdso]` and its data.
    Kernel,
}

/// A range of addresses with something resident or in swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: Avma,
    /// Behind the last.
    pub end: Avma,
    /// What it is of.
    pub kind: MappingKind,
    /// Bytes in memory.
    pub rss_bytes: u64,
    /// Of them: not of a file, or changed since they were read from it.
    pub anonymous_bytes: u64,
    /// Of them: given back by `MADV_FREE`, and still there since the kernel does not need them.
    pub lazy_free_bytes: u64,
    /// Of them: in huge pages.
    pub huge_bytes: u64,
    /// Bytes in swap.
    pub swap_bytes: u64,
}

impl Mapping {
    fn is_worth_keeping(&self) -> bool {
        self.rss_bytes > 0 || self.swap_bytes > 0
    }
}

/// All mappings with something in memory or in swap, in order of address.
///
/// # Errors
/// Where reading fails, or the text is not what the kernel writes.
pub fn parse(mut from: impl BufRead) -> io::Result<Vec<Mapping>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    let mut current: Option<Mapping> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut from, LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        if let Some(mapping) = header(text) {
            mappings.extend(current.replace(mapping).filter(Mapping::is_worth_keeping));
            if mappings.len() >= MAPPINGS_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "more than a million mappings"));
            }
            continue;
        }
        let Some(mapping) = &mut current else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "does not begin with a mapping"));
        };
        let mut words = text.split_ascii_whitespace();
        let field = match words.next() {
            Some("Rss:") => &mut mapping.rss_bytes,
            Some("Anonymous:") => &mut mapping.anonymous_bytes,
            Some("LazyFree:") => &mut mapping.lazy_free_bytes,
            Some("AnonHugePages:") => &mut mapping.huge_bytes,
            Some("Swap:") => &mut mapping.swap_bytes,
            _ => continue,
        };
        let kibibytes = words.next().and_then(|number| number.parse::<u64>().ok());
        *field = kibibytes
            .and_then(|number| number.checked_mul(1024))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a field without a number"))?;
    }
    mappings.extend(current.filter(Mapping::is_worth_keeping));
    Ok(mappings)
}

/// `c000000000-c004000000 rw-p 00000000 00:00 0    [anon: Go: heap]`; `None`: another line.
fn header(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = behind;
        word
    };
    let (start, end) = word().split_once('-')?;
    let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).ok());
    let (_permissions, _offset, _device) = (word(), word(), word());
    let inode: u64 = word().parse().ok()?;
    let name = rest.trim_start_matches(' ');
    let kind = match name {
        "[heap]" => MappingKind::Break,
        "[vdso]" | "[vvar]" | "[vvar_vclock]" | "[vsyscall]" | "[uprobes]" | "[uprobes-trampoline]" => {
            MappingKind::Kernel
        }
        _ if name == "[stack]" || name.starts_with("[stack:") => MappingKind::Stack,
        // Memory that processes share and that has a name has a file behind it, which is no file for anyone.
        _ if name.starts_with("[anon_shmem:") || inode != 0 => MappingKind::File { path: name.to_owned() },
        _ => MappingKind::Anonymous {
            name: name.strip_prefix("[anon:").map(|name| name.trim_end_matches(']').trim().to_owned()),
        },
    };
    Some(Mapping {
        start: Avma(start?),
        end: Avma(end?),
        kind,
        rss_bytes: 0,
        anonymous_bytes: 0,
        lazy_free_bytes: 0,
        huge_bytes: 0,
        swap_bytes: 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMAPS: &str = "\
00400000-004a0000 r-xp 00000000 fe:00 10209777                           /srv/a program
Size:                640 kB
Rss:                 636 kB
Anonymous:             4 kB
VmFlags: rd ex mr mw me 
00568000-0059d000 rw-p 00000000 00:00 0 
Rss:                   0 kB
Swap:                  0 kB
00fe3000-08ffd000 rw-p 00000000 00:00 0                                  [heap]
Rss:              131112 kB
c000000000-c004000000 rw-p 00000000 00:00 0                              [anon: Go: heap]
Rss:               65536 kB
Anonymous:         65536 kB
LazyFree:           1024 kB
AnonHugePages:      4096 kB
Swap:                  8 kB
7f4fa7d85000-7f4faa600000 rw-s 00000000 00:01 77                         /memfd:x (deleted)
Rss:                   4 kB
7f4faaa00000-7f4faaa07000 rw-p 00000000 00:00 0 
Rss:                   0 kB
Swap:                 12 kB
7ffe03396000-7ffe033b7000 rw-p 00000000 00:00 0                          [stack]
Rss:                  16 kB
";

    #[test]
    fn what_is_resident_or_in_swap_is_kept_with_its_kind() {
        let mappings = parse(SMAPS.as_bytes()).unwrap();
        let anonymous = |name: Option<&str>| MappingKind::Anonymous { name: name.map(str::to_owned) };
        let kinds: Vec<&MappingKind> = mappings.iter().map(|mapping| &mapping.kind).collect();
        assert_eq!(
            kinds,
            [
                &MappingKind::File { path: "/srv/a program".into() },
                &MappingKind::Break,
                &anonymous(Some("Go: heap")),
                &MappingKind::File { path: "/memfd:x (deleted)".into() },
                &anonymous(None),
                &MappingKind::Stack,
            ]
        );
        let heap = &mappings[2];
        assert_eq!((heap.start, heap.end), (Avma(0xc0_0000_0000), Avma(0xc0_0400_0000)));
        let sizes = [heap.rss_bytes, heap.anonymous_bytes, heap.lazy_free_bytes, heap.huge_bytes, heap.swap_bytes];
        assert_eq!(sizes.map(|bytes| bytes >> 10), [65536, 65536, 1024, 4096, 8]);
    }

    #[test]
    fn own_mappings_add_up_to_what_the_kernel_says_of_all() {
        let mappings = parse(io::BufReader::new(std::fs::File::open("/proc/self/smaps").unwrap())).unwrap();
        assert!(mappings.iter().any(|mapping| mapping.kind == MappingKind::Stack));
        assert!(mappings.iter().all(|mapping| mapping.rss_bytes <= mapping.end.0 - mapping.start.0));
        let executable = std::env::current_exe().unwrap().display().to_string();
        assert!(mappings.iter().any(|mapping| mapping.kind == MappingKind::File { path: executable.clone() }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), line in 0_usize..30, at in 0_usize..60) {
            drop(parse(&*bytes));
            let mut lines: Vec<String> = SMAPS.lines().map(str::to_owned).collect();
            let line = line % lines.len();
            let at = at.min(lines[line].len());
            lines[line].truncate(at);
            drop(parse(lines.join("\n").as_bytes()));
        }
    }
}
