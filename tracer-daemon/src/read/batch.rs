//! Many ranges of a target's memory, read in one system call into one buffer that is kept.

use super::memory::{MemoryError, Piece, TargetMemory, Words};
use crate::addr::Avma;

/// Where in the buffer something is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    start: usize,
    length: usize,
}

impl Slot {
    /// A part of it.
    pub(super) fn part(self, offset: u64, length_bytes: u64) -> Self {
        let offset = usize::try_from(offset).unwrap_or(self.length).min(self.length);
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX).min(self.length - offset);
        Self { start: self.start + offset, length }
    }
}

/// Ranges to be read in this order, and what was read.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pieces: Vec<Piece>,
    bytes: Vec<u8>,
    length: usize,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.length = 0;
    }

    /// One more range.
    pub(super) fn add(&mut self, at: Avma, length_bytes: u64) -> Slot {
        let length_bytes = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        let slot = Slot { start: self.length, length: length_bytes };
        self.pieces.push(Piece { at, length_bytes });
        self.length = self.length.saturating_add(length_bytes);
        slot
    }

    /// Reads all of them.
    pub(super) fn read(&mut self, memory: &dyn TargetMemory, bytes_max: usize) -> Result<(), MemoryError> {
        if self.length > bytes_max {
            let at = self.pieces.first().map_or(Avma(0), |piece| piece.at);
            return Err(MemoryError::Unmapped { at, length_bytes: self.length });
        }
        self.bytes.resize(self.length, 0);
        memory.read_pieces(&self.pieces, &mut self.bytes)
    }

    pub(super) fn bytes(&self, slot: Slot) -> &[u8] {
        self.bytes.get(slot.start..slot.start.saturating_add(slot.length)).unwrap_or_default()
    }

    pub(super) fn words(&self, slot: Slot) -> Words<'_> {
        Words(self.bytes(slot))
    }
}
