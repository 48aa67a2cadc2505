//! The list of all buckets: walked once, then only as far as it has grown.

use std::collections::HashSet;

use super::records::{Span, spans};
use super::{Layouts, Places, implausible};
use crate::addr::Avma;
use crate::read::memory::{TargetMemory, Words};
use crate::read::{Discard, Discards, ReadError};

/// Most buckets that are read; with their counts, read twice, about 40 MiB.
const BUCKETS_MAX: usize = 1 << 17;
/// Most program counters of all stacks together: 32 MiB.
const PROGRAM_COUNTERS_MAX: usize = 1 << 22;
/// Longest stack: `maxProfStackDepth` (runtime/mprof.go, go1.23 and later; before it is 32) and the two frames that are added.
const STACK_MAX: u64 = 1024 + 2;
/// `memProfile` among the kinds of buckets (runtime/mprof.go).
const KIND_MEMORY: u64 = 1;
/// What is read at once. Buckets come one behind the other out of chunks of 256 KiB (`persistentalloc`, runtime/malloc.go).
const BLOCK_BYTES: u64 = 16 << 10;

/// Stacks and sizes, by the number of their bucket.
#[derive(Debug, Default)]
pub struct Buckets {
    sizes: Vec<u64>,
    /// Where the stack of each ends among `program_counters`; it begins where that of its predecessor ends.
    ends: Vec<usize>,
    program_counters: Vec<Avma>,
}

impl Buckets {
    /// How many.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Bytes of the slot of each object of a bucket; 0 where there is no such bucket.
    pub fn size_bytes(&self, number: usize) -> u64 {
        self.sizes.get(number).copied().unwrap_or(0)
    }

    /// Where its objects were allocated: return addresses, leaf first, one for every frame, inlined ones included
    /// (`tracebackPCs` of runtime/traceback.go). From go1.26 on it begins with the runtime's allocator.
    pub fn stack(&self, number: usize) -> &[Avma] {
        let start = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(number).and_then(|end| self.program_counters.get(start..*end)).unwrap_or_default()
    }

    fn push(&mut self, size_bytes: u64, stack: &[Avma]) {
        self.sizes.push(size_bytes);
        self.program_counters.extend_from_slice(stack);
        self.ends.push(self.program_counters.len());
    }
}

/// A bucket as it was found.
#[derive(Debug)]
struct Found {
    at: Avma,
    size_bytes: u64,
    stack: Vec<Avma>,
}

/// The buckets that are known.
#[derive(Debug, Default)]
pub(super) struct BucketList {
    buckets: Buckets,
    /// Where the counts of each are.
    records: Vec<Avma>,
    /// How they are read.
    spans: Vec<Span>,
    known: HashSet<Avma>,
    /// The head of the list when it was walked last.
    head: Avma,
    is_cut: bool,
    /// Buckets of which no address is in the program's own code.
    foreign: usize,
}

impl BucketList {
    pub(super) fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Adds what is new. Says whether there are buckets that were left out because there are too many.
    pub(super) fn extend(
        &mut self,
        memory: &dyn TargetMemory,
        layouts: &Layouts,
        places: &Places,
        discards: &mut Discards,
    ) -> Result<bool, ReadError> {
        let mut head = [0; 8];
        memory.read(places.mbuckets, &mut head)?;
        let head = Avma(Words(&head).u64(0));
        // Blocks are read behind the head: a bucket that can be reached from it is complete by now.
        let mut blocks = Blocks { memory, at: Avma(0), bytes: Vec::new() };
        let (mut found, mut next, mut program_counters) = (Vec::new(), head, 0);
        let mut visited = HashSet::new();
        while next != self.head && next != Avma(0) {
            let count = self.buckets.len() + found.len();
            if count >= BUCKETS_MAX || self.buckets.program_counters.len() + program_counters > PROGRAM_COUNTERS_MAX {
                discards.add(Discard::ProfileTooLarge);
                self.is_cut = true;
                break;
            }
            if !visited.insert(next) || self.known.contains(&next) {
                return Err(ReadError::Implausible { what: "list of memory buckets", value: next.0 });
            }
            let (bucket, following) = bucket(&mut blocks, next, layouts)?;
            program_counters += bucket.stack.len();
            found.push(bucket);
            next = following;
        }
        self.head = head;
        let is_longer = !found.is_empty();
        for bucket in found.into_iter().rev() {
            self.known.insert(bucket.at);
            // That of nothing but a plugin's code, say, or an empty one.
            if !bucket.stack.iter().any(|pc| places.text.contains(pc)) {
                discards.add(Discard::ForeignStack);
                self.foreign += 1;
            }
            let behind_stack = layouts.bucket.size_bytes + 8 * bucket.stack.len() as u64;
            self.records.push(Avma(bucket.at.0.saturating_add(behind_stack)));
            self.buckets.push(bucket.size_bytes, &bucket.stack);
        }
        if is_longer {
            self.spans = spans(&self.records, layouts.record.size_bytes);
        }
        if self.foreign > 0 && self.foreign == self.buckets.len() {
            let first = self.buckets.stack(0).first().copied().unwrap_or_default();
            return Err(ReadError::Implausible { what: "stacks of the heap profile", value: first.0 });
        }
        Ok(self.is_cut)
    }
}

/// The bucket at an address, and where the next one is.
fn bucket(blocks: &mut Blocks<'_>, at: Avma, layouts: &Layouts) -> Result<(Found, Avma), ReadError> {
    let layout = &layouts.bucket;
    if !at.0.is_multiple_of(8) {
        return Err(ReadError::Implausible { what: "address of a memory bucket", value: at.0 });
    }
    let header = blocks.read(at, layout.size_bytes)?;
    let words = Words(&header);
    let (kind, depth) = (words.u64(layout.typ), words.u64(layout.nstk));
    if kind != KIND_MEMORY {
        return Err(ReadError::Implausible { what: "kind of a memory bucket", value: kind });
    }
    if depth > STACK_MAX {
        return Err(ReadError::Implausible { what: "length of a stack of the heap profile", value: depth });
    }
    let (size_bytes, next) = (words.u64(layout.size), Avma(words.u64(layout.allnext)));
    let stack = blocks.read(Avma(at.0.saturating_add(layout.size_bytes)), 8 * depth)?;
    let stack = stack.chunks(8).map(|word| Avma(Words(word).u64(0))).collect();
    Ok((Found { at, size_bytes, stack }, next))
}

/// Memory in aligned blocks, of which the last one is kept: buckets that were made one after the other lie side by side.
#[derive(Debug)]
struct Blocks<'a> {
    memory: &'a dyn TargetMemory,
    at: Avma,
    bytes: Vec<u8>,
}

impl Blocks<'_> {
    fn read(&mut self, at: Avma, length_bytes: u64) -> Result<Vec<u8>, ReadError> {
        if let Some(bytes) = self.kept(at, length_bytes) {
            return Ok(bytes.to_vec());
        }
        let block = Avma(at.0 - at.0 % BLOCK_BYTES);
        self.bytes.resize(usize::try_from(BLOCK_BYTES).unwrap_or_default(), 0);
        self.at = block;
        if self.memory.read(block, &mut self.bytes).is_err() {
            // Part of it is not mapped; what is wanted may be.
            self.bytes.clear();
        }
        if let Some(bytes) = self.kept(at, length_bytes) {
            return Ok(bytes.to_vec());
        }
        let mut bytes = vec![0; usize::try_from(length_bytes).unwrap_or_default()];
        self.memory.read(at, &mut bytes).map_err(implausible("address of a memory bucket", at))?;
        Ok(bytes)
    }

    fn kept(&self, at: Avma, length_bytes: u64) -> Option<&[u8]> {
        let start = usize::try_from(at.0.checked_sub(self.at.0)?).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(length_bytes).ok()?)?)
    }
}
