//! The memory of a target, read from outside.
//!
//! One trait, so that all that is decoded from memory can be tested with a fake or a recording. Never writes, never stops the
//! target. What the target changes while we read is for the readers to notice: nothing here is a snapshot.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::denial::Denial;
use crate::addr::Avma;

/// Pieces of one system call (`UIO_MAXIOV` of include/uapi/linux/uio.h).
const PIECES_MAX: usize = 1024;
/// Most bytes that one call of [`TargetMemory::read`] may ask for.
pub const READ_BYTES_MAX: usize = 16 << 20;

/// Why memory could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The process is gone.
    #[error("process {pid} ended while its memory was read")]
    Gone {
        /// Its id.
        pid: u32,
    },
    /// The kernel does not allow it.
    #[error("not allowed to read the memory of process {pid}: {denial}")]
    NotAllowed {
        /// Its id.
        pid: u32,
        /// What forbids it, as far as that can be seen.
        denial: Box<Denial>,
    },
    /// Nothing is mapped there, or it cannot be read.
    #[error("nothing to read at {at} ({length_bytes} bytes)")]
    Unmapped {
        /// Where.
        at: Avma,
        /// How many bytes were asked for.
        length_bytes: usize,
    },
    /// Anything else.
    #[error("cannot read the memory of process {pid}")]
    System {
        /// Its id.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A range of a target's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it begins.
    pub at: Avma,
    /// Its length.
    pub length_bytes: usize,
}

/// Memory that can be read.
pub trait TargetMemory: fmt::Debug + Send + Sync {
    /// Fills all of `into` from `at` on.
    ///
    /// # Errors
    /// Where any byte of it cannot be read.
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError>;

    /// Reads pieces in their order, one behind the other in `into`, which is as long as they are together.
    ///
    /// # Errors
    /// Where any byte of any piece cannot be read; `Unmapped` names the piece.
    fn read_pieces(&self, pieces: &[Piece], into: &mut [u8]) -> Result<(), MemoryError> {
        let mut rest = into;
        for piece in pieces {
            let (now, behind) = rest.split_at_mut_checked(piece.length_bytes).unwrap_or_default();
            self.read(piece.at, now)?;
            rest = behind;
        }
        Ok(())
    }

    /// Reads equal pieces from many places, one behind the other in `into`, whose length is a multiple of their number.
    /// Says of each whether it could be read; what could not is zero.
    ///
    /// # Errors
    /// Where the target is gone or may not be read at all.
    fn read_each(&self, places: &[Avma], into: &mut [u8]) -> Result<Vec<bool>, MemoryError> {
        let Some(piece_bytes) = into.len().checked_div(places.len()).filter(|bytes| *bytes > 0) else {
            return Ok(Vec::new());
        };
        let mut readable = Vec::with_capacity(places.len());
        for (at, piece) in places.iter().zip(into.chunks_mut(piece_bytes)) {
            readable.push(match self.read(*at, piece) {
                Ok(()) => true,
                Err(MemoryError::Unmapped { .. }) => {
                    piece.fill(0);
                    false
                }
                Err(error) => return Err(error),
            });
        }
        Ok(readable)
    }
}

/// The memory of a running process, by `process_vm_readv(2)`; by `/proc/PID/mem` where that is forbidden to us, as a seccomp
/// profile of a container does, or not there.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: u32,
    target: Pid,
    /// Open once the system call was refused and this was not. It stays with the memory that the process had when it was
    /// opened, so it ends when the process executes another program.
    file: OnceLock<File>,
}

impl ProcessMemory {
    /// Of the process with this id; the caller makes sure that it is still the same process.
    pub fn new(pid: u32) -> Self {
        Self { pid, target: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), file: OnceLock::new() }
    }

    /// As [`Self::new`], through `/proc/PID/mem` from the beginning: what is done where the system call is forbidden.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn of_file(pid: u32) -> Result<Self, MemoryError> {
        let memory = Self::new(pid);
        memory.open_file().map_err(|source| memory.error_of_file(source))?;
        Ok(memory)
    }

    fn open_file(&self) -> Result<&File, io::Error> {
        let file = File::open(format!("/proc/{}/mem", self.pid))?;
        Ok(self.file.get_or_init(|| file))
    }

    fn error_of_file(&self, source: io::Error) -> MemoryError {
        match source.kind() {
            io::ErrorKind::NotFound => MemoryError::Gone { pid: self.pid },
            io::ErrorKind::PermissionDenied => self.not_allowed(),
            _ => MemoryError::System { pid: self.pid, source },
        }
    }

    fn not_allowed(&self) -> MemoryError {
        MemoryError::NotAllowed { pid: self.pid, denial: Box::new(Denial::of(self.pid)) }
    }

    /// Memory of a process that ends goes away before the process does.
    fn unmapped(&self, at: Avma, length_bytes: usize) -> MemoryError {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        // The state follows the name, which can hold anything but ends with the last parenthesis.
        let state = status.as_deref().ok().and_then(|text| text.rsplit_once(") ")).map(|(_, rest)| rest.chars().next());
        match state {
            Some(Some('Z' | 'X')) | None => MemoryError::Gone { pid: self.pid },
            Some(_) => MemoryError::Unmapped { at, length_bytes },
        }
    }

    /// How many bytes of the pieces were read, up to the first one that could not be read whole.
    fn read_some(&self, batch: &[RemoteIoVec], into: &mut [u8]) -> Result<usize, MemoryError> {
        if let Some(file) = self.file.get() {
            return self.read_some_of_file(file, batch, into);
        }
        match process_vm_readv(self.target, &mut [IoSliceMut::new(into)], batch) {
            Ok(read) => Ok(read),
            Err(Errno::ESRCH) => Err(MemoryError::Gone { pid: self.pid }),
            Err(Errno::EFAULT | Errno::EIO) => Ok(0),
            Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => match self.open_file() {
                Ok(file) => self.read_some_of_file(file, batch, into),
                Err(_) if errno != Errno::ENOSYS => Err(self.not_allowed()),
                Err(source) => Err(self.error_of_file(source)),
            },
            Err(other) => Err(MemoryError::System { pid: self.pid, source: other.into() }),
        }
    }

    fn read_some_of_file(&self, file: &File, batch: &[RemoteIoVec], into: &mut [u8]) -> Result<usize, MemoryError> {
        let mut done = 0_usize;
        for piece in batch {
            let part = into.get_mut(done..done.saturating_add(piece.len)).unwrap_or_default();
            match file.read_at(part, piece.base as u64) {
                // What it was opened for is gone: the process ended, or executes another program.
                Ok(0) if !part.is_empty() => return Err(MemoryError::Gone { pid: self.pid }),
                Ok(read) if read == part.len() => done += read,
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                // EIO: not mapped; EINVAL: beyond what a file's position can be.
                Err(error)
                    if error.raw_os_error() == Some(Errno::EIO as i32)
                        || error.raw_os_error() == Some(Errno::EINVAL as i32) =>
                {
                    break;
                }
                Err(source) => return Err(MemoryError::System { pid: self.pid, source }),
            }
        }
        Ok(done)
    }
}

fn remote(at: Avma, len: usize) -> Option<RemoteIoVec> {
    Some(RemoteIoVec { base: usize::try_from(at.0).ok()?, len })
}

impl TargetMemory for ProcessMemory {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let length_bytes = into.len();
        if length_bytes == 0 {
            return Ok(());
        }
        let place = remote(at, length_bytes).filter(|_| length_bytes <= READ_BYTES_MAX);
        let place = place.ok_or(MemoryError::Unmapped { at, length_bytes })?;
        match self.read_some(&[place], into)? {
            read if read == length_bytes => Ok(()),
            _ => Err(self.unmapped(at, length_bytes)),
        }
    }

    fn read_pieces(&self, pieces: &[Piece], into: &mut [u8]) -> Result<(), MemoryError> {
        let mut rest = into;
        for pieces in pieces.chunks(PIECES_MAX) {
            let wanted = pieces.iter().map(|piece| piece.length_bytes).fold(0, usize::saturating_add);
            let unmapped = |read: usize| {
                let mut end = 0_usize;
                let missing = pieces.iter().find(|piece| {
                    end = end.saturating_add(piece.length_bytes);
                    end > read
                });
                missing.map_or((Avma(0), 0), |piece| (piece.at, piece.length_bytes))
            };
            let batch: Vec<RemoteIoVec> =
                pieces.iter().map_while(|piece| remote(piece.at, piece.length_bytes)).collect();
            let (now, behind) = rest.split_at_mut_checked(wanted).unwrap_or_default();
            let read = if now.len() == wanted && wanted <= READ_BYTES_MAX { self.read_some(&batch, now)? } else { 0 };
            if read != wanted {
                let (at, length_bytes) = unmapped(read);
                return Err(self.unmapped(at, length_bytes));
            }
            rest = behind;
        }
        Ok(())
    }

    fn read_each(&self, places: &[Avma], into: &mut [u8]) -> Result<Vec<bool>, MemoryError> {
        let Some(piece_bytes) = into.len().checked_div(places.len()).filter(|bytes| *bytes > 0) else {
            return Ok(Vec::new());
        };
        let mut readable = vec![true; places.len()];
        let mut done = 0;
        // The call stops at the first place that cannot be read; the next one goes on behind it.
        while let Some(rest) = places.get(done..).filter(|rest| !rest.is_empty()) {
            let batch: Vec<RemoteIoVec> =
                rest.iter().take(PIECES_MAX).map_while(|at| remote(*at, piece_bytes)).collect();
            let (from, to) = (done * piece_bytes, (done + batch.len()) * piece_bytes);
            let read = self.read_some(&batch, into.get_mut(from..to).unwrap_or_default())? / piece_bytes;
            done += read;
            if read < batch.len() {
                if let Some(flag) = readable.get_mut(done) {
                    *flag = false;
                }
                into.get_mut(done * piece_bytes..(done + 1) * piece_bytes).unwrap_or_default().fill(0);
                done += 1;
            }
        }
        Ok(readable)
    }
}

/// Numbers in bytes that were read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a>(pub(crate) &'a [u8]);

impl Words<'_> {
    /// Zero where the bytes end before: what was read has the size that was asked for.
    pub(crate) fn u64(self, offset: u64) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    pub(crate) fn u32(self, offset: u64) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    pub(crate) fn u16(self, offset: u64) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    pub(crate) fn u8(self, offset: u64) -> u8 {
        let [byte] = self.array(offset);
        byte
    }

    fn array<const N: usize>(self, offset: u64) -> [u8; N] {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start.checked_add(N).and_then(|end| self.0.get(start..end));
        bytes.and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }
}

/// Memory that is a list of ranges, for tests.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct FakeMemory(pub(crate) std::collections::BTreeMap<u64, Vec<u8>>);

#[cfg(test)]
impl TargetMemory for FakeMemory {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let unmapped = MemoryError::Unmapped { at, length_bytes: into.len() };
        let Some((start, bytes)) = self.0.range(..=at.0).next_back() else { return Err(unmapped) };
        let from = usize::try_from(at.0 - start).unwrap();
        let Some(bytes) = bytes.get(from..from + into.len()) else { return Err(unmapped) };
        into.copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_is_read_as_it_is_and_holes_are_told() {
        // By the system call, and by the file that serves where that is forbidden.
        let file = ProcessMemory::of_file(std::process::id()).unwrap();
        for memory in [ProcessMemory::new(std::process::id()), file] {
            is_read_as_it_is(&memory);
        }
    }

    fn is_read_as_it_is(memory: &ProcessMemory) {
        let words: Vec<u64> = (0..3000).collect();
        let address = |index: usize| Avma(words.as_ptr() as u64 + 8 * index as u64);
        let mut read = vec![0; 8 * words.len()];
        memory.read(address(0), &mut read).unwrap();
        assert!(words.iter().zip(read.chunks(8)).all(|(word, bytes)| word.to_le_bytes() == bytes));

        // More pieces than one system call takes, some of them at addresses that hold nothing.
        let places: Vec<Avma> =
            (0..words.len()).map(|index| if index % 700 == 3 { Avma(index as u64) } else { address(index) }).collect();
        let mut read = vec![0xff; 8 * words.len()];
        let readable = memory.read_each(&places, &mut read).unwrap();
        for (index, bytes) in read.chunks(8).enumerate() {
            let hole = index % 700 == 3;
            assert_eq!(readable[index], !hole);
            assert_eq!(bytes, if hole { 0_u64 } else { index as u64 }.to_le_bytes());
        }
        assert!(matches!(memory.read(Avma(8), &mut [0; 8]), Err(MemoryError::Unmapped { at: Avma(8), .. })));
        assert!(matches!(memory.read(Avma(u64::MAX), &mut [0; 8]), Err(MemoryError::Unmapped { .. })));
        assert!(memory.read_each(&[], &mut []).unwrap().is_empty());

        // Pieces of several lengths, more than one call takes; and the first one that is not there.
        let mut pieces: Vec<Piece> =
            (0..2500).map(|index| Piece { at: address(index), length_bytes: 8 * (index % 3) }).collect();
        let mut read = vec![0xff; pieces.iter().map(|piece| piece.length_bytes).sum()];
        memory.read_pieces(&pieces, &mut read).unwrap();
        let mut rest = read.as_slice();
        for (index, piece) in pieces.iter().enumerate() {
            let (now, behind) = rest.split_at(piece.length_bytes);
            let expected: Vec<u8> =
                words[index..index + index % 3].iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(now, expected);
            rest = behind;
        }
        pieces[2000].at = Avma(16);
        let error = memory.read_pieces(&pieces, &mut read).unwrap_err();
        assert!(matches!(error, MemoryError::Unmapped { at: Avma(16), length_bytes: 16 }), "{error}");
    }

    #[test]
    fn process_that_is_gone_is_told_apart() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = ProcessMemory::new(child.id()).read(Avma(4096), &mut [0; 8]).unwrap_err();
        assert!(matches!(error, MemoryError::Gone { .. }), "{error}");
        assert!(matches!(ProcessMemory::of_file(child.id()), Err(MemoryError::Gone { .. })));
    }

    #[test]
    fn process_that_has_ended_and_is_not_waited_for_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let maps = fs::read_to_string(format!("/proc/{}/maps", child.id())).unwrap();
        let start = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
        let opened = ProcessMemory::of_file(child.id()).unwrap();
        let memory = ProcessMemory::new(child.id());
        memory.read(Avma(start), &mut [0; 8]).unwrap();
        opened.read(Avma(start), &mut [0; 8]).unwrap();
        child.kill().unwrap();
        let is_zombie = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('Z')
        };
        while !is_zombie() {
            std::thread::yield_now();
        }
        let piece = Piece { at: Avma(start), length_bytes: 8 };
        for memory in [memory, opened] {
            for error in [memory.read(Avma(start), &mut [0; 8]), memory.read_pieces(&[piece], &mut [0; 8])] {
                assert!(matches!(error, Err(MemoryError::Gone { .. })), "{error:?}");
            }
        }
        child.wait().unwrap();
    }
}
