//! `/proc/PID/pagemap`: which pages of a range are in memory.
//!
//! One word of 64 bits for each page (Documentation/admin-guide/mm/pagemap.rst). Where the page lies is hidden from who has
//! no `CAP_SYS_ADMIN`; whether it is there is not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::addr::Avma;

/// The page is in memory.
const PRESENT: u64 = 1 << 63;
/// This process alone has mapped it. The page of zeros, which is mapped where something was read that was never written, belongs
/// to nobody: it is present, not exclusive, and not part of the resident memory.
const EXCLUSIVE: u64 = 1 << 56;
/// Words read at once: half a mebibyte.
const WORDS_MAX: usize = 64 << 10;

/// Whether a page is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// It is not.
    Absent,
    /// It is, and belongs to this process.
    Own,
    /// It is, and may be the page of zeros, or belong to others too.
    Shared,
}

/// The pages of one process.
pub trait Pages {
    /// Bytes of a page.
    fn page_bytes(&self) -> u64;

    /// Calls `visit` with the address of each page that begins in the range, in order.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn each(&self, start: Avma, end: Avma, visit: &mut dyn FnMut(Avma, Page)) -> io::Result<()>;
}

/// As the kernel shows them.
#[derive(Debug)]
pub struct PageMap {
    file: File,
    page_bytes: u64,
}

impl PageMap {
    /// Of the process whose folder this is.
    ///
    /// # Errors
    /// Where the kernel has no such file or does not let us.
    pub fn open(process: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(process.join("pagemap"))?, page_bytes: procfs::page_size().max(1) })
    }
}

impl Pages for PageMap {
    fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    fn each(&self, start: Avma, end: Avma, visit: &mut dyn FnMut(Avma, Page)) -> io::Result<()> {
        let (mut next, end) = (start.0.div_ceil(self.page_bytes), end.0.div_ceil(self.page_bytes));
        let mut bytes = vec![0; 8 * WORDS_MAX.min(usize::try_from(end.saturating_sub(next)).unwrap_or(WORDS_MAX))];
        while next < end {
            let wanted = usize::try_from(8 * (end - next)).unwrap_or(usize::MAX).min(bytes.len());
            let into = bytes.get_mut(..wanted).unwrap_or_default();
            let read = self.file.read_at(into, 8 * next)?;
            if read < 8 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for word in into.get(..read).unwrap_or_default().chunks_exact(8) {
                let word = word.try_into().map_or(0, u64::from_le_bytes);
                let page = match (word & PRESENT != 0, word & EXCLUSIVE != 0) {
                    (false, _) => Page::Absent,
                    (true, true) => Page::Own,
                    (true, false) => Page::Shared,
                };
                visit(Avma(next * self.page_bytes), page);
                next += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_pages_are_there_and_others_are_not() {
        let page = usize::try_from(procfs::page_size()).unwrap();
        // Beyond any threshold of malloc, so that it is a fresh mapping; pages behind the twelfth are not touched.
        let mut memory: Vec<u8> = Vec::with_capacity(64 << 20);
        let base = (memory.as_ptr() as u64).next_multiple_of(procfs::page_size());
        memory.resize(12 * page, 1);
        let map = PageMap::open(Path::new("/proc/self")).unwrap();
        let mut seen = Vec::new();
        map.each(Avma(base), Avma(base + 40 * procfs::page_size()), &mut |at, page| seen.push((at, page))).unwrap();
        assert_eq!(seen.len(), 40);
        assert_eq!(seen[0].0, Avma(base));
        assert!(seen[..9].iter().all(|(_, page)| *page == Page::Own), "{seen:?}");
        assert_eq!(seen[39].1, Page::Absent);
    }
}
