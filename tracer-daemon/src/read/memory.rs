//! The memory of a target, read from outside.
//!
//! One trait, so that all that is decoded from memory can be tested with a fake. Never writes, never stops the target.
//! What the target changes while we read is for the readers to notice: nothing here is a snapshot.

use std::fmt;
use std::io::{self, IoSliceMut};

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

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
    #[error(
        "not allowed to read the memory of process {pid}: needs CAP_SYS_PTRACE, and where Yama is on \
         (/proc/sys/kernel/yama/ptrace_scope is 3) nobody may"
    )]
    NotAllowed {
        /// Its id.
        pid: u32,
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

/// Memory that can be read.
pub trait TargetMemory: fmt::Debug + Send + Sync {
    /// Fills all of `into` from `at` on.
    ///
    /// # Errors
    /// Where any byte of it cannot be read.
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError>;

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

/// The memory of a running process, by `process_vm_readv(2)`.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: u32,
    target: Pid,
}

impl ProcessMemory {
    /// Of the process with this id; the caller makes sure that it is still the same process.
    pub fn new(pid: u32) -> Self {
        Self { pid, target: Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)) }
    }

    fn error(&self, errno: Errno, at: Avma, length_bytes: usize) -> MemoryError {
        match errno {
            Errno::ESRCH => MemoryError::Gone { pid: self.pid },
            Errno::EPERM | Errno::EACCES => MemoryError::NotAllowed { pid: self.pid },
            Errno::EFAULT | Errno::EIO => MemoryError::Unmapped { at, length_bytes },
            other => MemoryError::System { pid: self.pid, source: other.into() },
        }
    }
}

fn remote(at: Avma, len: usize) -> Option<RemoteIoVec> {
    Some(RemoteIoVec { base: usize::try_from(at.0).ok()?, len })
}

impl TargetMemory for ProcessMemory {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let length_bytes = into.len();
        let unmapped = || MemoryError::Unmapped { at, length_bytes };
        if length_bytes == 0 {
            return Ok(());
        }
        let place = remote(at, length_bytes).filter(|_| length_bytes <= READ_BYTES_MAX).ok_or_else(unmapped)?;
        let read = process_vm_readv(self.target, &mut [IoSliceMut::new(into)], &[place])
            .map_err(|errno| self.error(errno, at, length_bytes))?;
        if read == length_bytes { Ok(()) } else { Err(unmapped()) }
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
            let target = into.get_mut(from..to).unwrap_or_default();
            let read = match process_vm_readv(self.target, &mut [IoSliceMut::new(target)], &batch) {
                Ok(read) => read / piece_bytes,
                Err(Errno::EFAULT | Errno::EIO) => 0,
                Err(errno) => return Err(self.error(errno, rest.first().copied().unwrap_or_default(), piece_bytes)),
            };
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
        let memory = ProcessMemory::new(std::process::id());
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
    }

    #[test]
    fn process_that_is_gone_is_told_apart() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = ProcessMemory::new(child.id()).read(Avma(4096), &mut [0; 8]).unwrap_err();
        assert!(matches!(error, MemoryError::Gone { .. }), "{error}");
    }
}
