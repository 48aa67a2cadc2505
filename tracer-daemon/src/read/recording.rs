//! Reads of a target's memory, recorded and replayed: what was decoded once can be decoded again without the target.
//!
//! A replay answers the same reads in the same order, byte by byte; a reader that asks for something else was changed, and is
//! told that nothing is there.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::memory::{MemoryError, TargetMemory};
use crate::addr::Avma;

/// One read: where, how much, and what was there. None means that it could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRead {
    /// Where it began.
    pub at: Avma,
    /// How many bytes were asked for.
    pub length_bytes: usize,
    /// The bytes.
    pub bytes: Option<Vec<u8>>,
}

/// Memory whose reads are kept, in their order. For tests and bug reports: it grows with every read.
#[derive(Debug)]
pub struct RecordingMemory<M> {
    inner: M,
    reads: Mutex<Vec<RecordedRead>>,
}

impl<M: TargetMemory> RecordingMemory<M> {
    /// Records what is read from another memory.
    pub fn new(inner: M) -> Self {
        Self { inner, reads: Mutex::default() }
    }

    /// What was recorded.
    pub fn into_recorded(self) -> RecordedMemory {
        let reads = self.reads.into_inner().unwrap_or_else(PoisonError::into_inner);
        RecordedMemory::new(reads)
    }
}

impl<M: TargetMemory> TargetMemory for RecordingMemory<M> {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let outcome = self.inner.read(at, into);
        let bytes = match &outcome {
            Ok(()) => Some(into.to_vec()),
            Err(MemoryError::Unmapped { .. }) => None,
            Err(_) => return outcome,
        };
        let read = RecordedRead { at, length_bytes: into.len(), bytes };
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push(read);
        outcome
    }
}

/// What was recorded, to be read once more.
#[derive(Debug)]
pub struct RecordedMemory {
    reads: Mutex<VecDeque<RecordedRead>>,
}

impl RecordedMemory {
    /// Answers these reads in this order.
    pub fn new(reads: Vec<RecordedRead>) -> Self {
        Self { reads: Mutex::new(reads.into()) }
    }

    /// How many reads have not been asked for yet.
    pub fn rest(&self) -> usize {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl TargetMemory for RecordedMemory {
    fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
        let unmapped = MemoryError::Unmapped { at, length_bytes: into.len() };
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let is_next = reads.front().is_some_and(|read| read.at == at && read.length_bytes == into.len());
        let bytes = if is_next { reads.pop_front().and_then(|read| read.bytes) } else { None };
        match bytes {
            Some(bytes) if bytes.len() == into.len() => into.copy_from_slice(&bytes),
            _ => return Err(unmapped),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{FakeMemory, Piece};
    use super::*;

    #[test]
    fn a_replay_answers_the_same_reads_in_the_same_order_and_no_others() {
        let fake = FakeMemory([(64, (0..32).collect())].into());
        let recording = RecordingMemory::new(fake);
        let pieces = [Piece { at: Avma(64), length_bytes: 4 }, Piece { at: Avma(70), length_bytes: 2 }];
        let mut first = [0; 6];
        recording.read_pieces(&pieces, &mut first).unwrap();
        assert!(recording.read(Avma(8), &mut [0; 8]).is_err());
        recording.read(Avma(64), &mut [0; 1]).unwrap();

        let recorded = recording.into_recorded();
        let mut again = [0xff; 6];
        recorded.read_pieces(&pieces, &mut again).unwrap();
        assert_eq!(again, first);
        assert!(recorded.read(Avma(8), &mut [0; 8]).is_err());
        assert!(recorded.read(Avma(65), &mut [0; 1]).is_err(), "never recorded");
        recorded.read(Avma(64), &mut [0; 1]).unwrap();
        assert_eq!(recorded.rest(), 0);
        assert!(recorded.read(Avma(64), &mut [0; 1]).is_err(), "no more than was recorded");
    }
}
