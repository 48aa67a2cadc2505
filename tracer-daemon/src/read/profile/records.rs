//! The counts of all buckets at one moment.
//!
//! Records of buckets that were made one after the other lie a few hundred bytes apart: what lies between them is read, too.
//! Measured on Linux 6.18: 5,000 records take 0.16 ms so, 2.1 ms where each is a piece of its own.

use super::{Counts, Layouts, implausible};
use crate::addr::Avma;
use crate::read::ReadError;
use crate::read::memory::{MemoryError, TargetMemory, Words};

/// Longest span.
const SPAN_BYTES_MAX: u64 = 64 << 10;
/// Most bytes between two records of a span: a stack of some hundred frames and a bucket.
const GAP_BYTES_MAX: u64 = 2048;

/// Memory that is read at once.
#[derive(Debug)]
pub(super) struct Span {
    at: Avma,
    length_bytes: usize,
    members: Vec<Member>,
}

/// A record in a span.
#[derive(Debug)]
struct Member {
    /// Of its bucket.
    number: usize,
    /// Where it begins in the span.
    offset: usize,
}

/// The spans that hold the records at these addresses.
pub(super) fn spans(records: &[Avma], record_bytes: u64) -> Vec<Span> {
    let mut order: Vec<(Avma, usize)> = records.iter().copied().zip(0..).collect();
    order.sort_unstable();
    let mut spans: Vec<Span> = Vec::new();
    for (at, number) in order {
        let end = |span: &Span| span.at.0.saturating_add(span.length_bytes as u64);
        let reaches = |span: &Span| {
            let gap = at.0.saturating_sub(end(span));
            gap <= GAP_BYTES_MAX && at.0.saturating_add(record_bytes) - span.at.0 <= SPAN_BYTES_MAX
        };
        if spans.last().is_none_or(|span| !reaches(span)) {
            spans.push(Span { at, length_bytes: 0, members: Vec::new() });
        }
        let Some(span) = spans.last_mut() else { continue };
        let offset = usize::try_from(at.0 - span.at.0).unwrap_or_default();
        span.members.push(Member { number, offset });
        span.length_bytes = span.length_bytes.max(offset + usize::try_from(record_bytes).unwrap_or_default());
    }
    spans
}

/// Records, one behind the other by the number of their bucket.
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
    /// Reads those of these spans, which are `count` in all.
    pub(super) fn read(
        memory: &dyn TargetMemory,
        spans: &[Span],
        count: usize,
        layouts: Layouts,
    ) -> Result<Self, ReadError> {
        let record_bytes = usize::try_from(layouts.record.size_bytes).unwrap_or_default();
        let mut records = Self { bytes: vec![0; record_bytes.saturating_mul(count)], layouts };
        let mut buffer = Vec::new();
        for span in spans {
            buffer.resize(span.length_bytes, 0);
            match memory.read(span.at, &mut buffer) {
                Ok(()) => {}
                // A hole between two records: each by itself.
                Err(MemoryError::Unmapped { .. }) => {
                    for member in &span.members {
                        let piece = buffer.get_mut(member.offset..member.offset + record_bytes).unwrap_or_default();
                        let at = Avma(span.at.0 + member.offset as u64);
                        memory.read(at, piece).map_err(implausible("address of a memory record", at))?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            for member in &span.members {
                let from = buffer.get(member.offset..member.offset + record_bytes).unwrap_or_default();
                let start = member.number * record_bytes;
                if let Some(into) = records.bytes.get_mut(start..start + from.len()) {
                    into.copy_from_slice(from);
                }
            }
        }
        Ok(records)
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
