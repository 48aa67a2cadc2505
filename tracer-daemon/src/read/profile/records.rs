//! The counts of all buckets at one moment: one batch of reads.

use super::{Counts, Layouts};
use crate::addr::Avma;
use crate::read::ReadError;
use crate::read::memory::{TargetMemory, Words};

/// Records, one behind the other as they lie in memory.
#[derive(Debug)]
pub(super) struct Records {
    bytes: Vec<u8>,
    layouts: Layouts,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    words: Words<'a>,
    layouts: Layouts,
}

impl Records {
    /// Reads those at these addresses.
    pub(super) fn read(memory: &dyn TargetMemory, at: &[Avma], layouts: Layouts) -> Result<Self, ReadError> {
        let record_bytes = usize::try_from(layouts.record.size_bytes).unwrap_or_default();
        let mut bytes = vec![0; record_bytes.saturating_mul(at.len())];
        let readable = memory.read_each(at, &mut bytes)?;
        match at.iter().zip(readable).find(|(_, readable)| !readable) {
            Some((at, _)) => Err(ReadError::Implausible { what: "address of a memory record", value: at.0 }),
            None => Ok(Self { bytes, layouts }),
        }
    }

    fn record_bytes(&self) -> usize {
        usize::try_from(self.layouts.record.size_bytes).unwrap_or_default().max(1)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.record_bytes()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let layouts = self.layouts;
        self.bytes.chunks(self.record_bytes()).map(move |record| Record { words: Words(record), layouts })
    }
}

impl Record<'_> {
    /// What is published.
    pub(super) fn active(self) -> Counts {
        self.counts(self.layouts.record.active)
    }

    /// What is counted for a cycle that is not.
    pub(super) fn future(self, index: u64) -> Counts {
        self.counts(self.layouts.record.future + index * self.layouts.cycle.size_bytes)
    }

    fn counts(self, at: u64) -> Counts {
        let cycle = &self.layouts.cycle;
        let word = |offset: Option<u64>| offset.map(|offset| self.words.u64(at + offset));
        let (allocs, frees) = (self.words.u64(at + cycle.allocs), self.words.u64(at + cycle.frees));
        Counts {
            allocs,
            frees,
            alloc_bytes: word(cycle.alloc_bytes).unwrap_or(0),
            free_bytes: word(cycle.free_bytes).unwrap_or(0),
        }
    }
}
