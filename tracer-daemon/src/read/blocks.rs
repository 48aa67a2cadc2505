//! Words at many places of a target, of which neighbours are read together.

use super::memory::{MemoryError, TargetMemory, Words};
use crate::addr::Avma;

/// Bytes that are read around each word that is wanted: neighbours are mostly wanted, too, and each piece costs about as
/// much as a kilobyte.
const BLOCK_BYTES: usize = 256;

const fn offset_in_block(at: Avma) -> u64 {
    at.0 % BLOCK_BYTES as u64
}

/// Words at scattered places, read as the aligned blocks around them.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Sorted.
    starts: Vec<Avma>,
    bytes: Vec<u8>,
    readable: Vec<bool>,
}

impl Blocks {
    /// Reads the blocks around all places.
    pub(super) fn read(memory: &dyn TargetMemory, places: impl IntoIterator<Item = Avma>) -> Result<Self, MemoryError> {
        let mut starts: Vec<Avma> = places.into_iter().map(|at| Avma(at.0 - offset_in_block(at))).collect();
        starts.sort_unstable();
        starts.dedup();
        let mut bytes = vec![0; BLOCK_BYTES * starts.len()];
        let readable = memory.read_each(&starts, &mut bytes)?;
        Ok(Self { starts, bytes, readable })
    }

    fn at(&self, at: Avma, length: u64) -> Option<(Words<'_>, u64)> {
        let offset = offset_in_block(at);
        let index = self.starts.binary_search(&Avma(at.0 - offset)).ok()?;
        let block = self.bytes.chunks(BLOCK_BYTES).nth(index)?;
        let readable = self.readable.get(index).copied().unwrap_or_default();
        (readable && offset + length <= BLOCK_BYTES as u64).then_some((Words(block), offset))
    }

    /// The word at a place that was asked for; none where it cannot be read.
    pub(super) fn u64(&self, at: Avma) -> Option<u64> {
        self.at(at, 8).map(|(words, offset)| words.u64(offset))
    }

    /// As [`Self::u64`], of one byte.
    pub(super) fn u8(&self, at: Avma) -> Option<u8> {
        self.at(at, 1).map(|(words, offset)| words.u8(offset))
    }
}
