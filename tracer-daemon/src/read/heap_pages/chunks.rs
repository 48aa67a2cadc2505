//! The chunks that the runtime takes from the kernel for small structures of its own, which are never freed.
//!
//! Each chunk's first word leads to the one that was taken before it (`persistentChunks` of runtime/malloc.go). The variable with
//! the newest one is known in no stripped program, since one function alone refers to it; but each processor has the chunk that
//! it last took, and the newest of them leads to all that are older. So what is missing is at most what was taken since then
//! without a processor, and what is older than a chunk that is being linked at this moment.

use std::collections::BTreeSet;

use crate::addr::Avma;
use crate::inspect::Global;
use crate::read::memory::{MemoryError, TargetMemory, Words};
use crate::read::{ReadError, Runtime};

/// Bytes of a chunk (`persistentChunkSize`, runtime/malloc.go).
pub(in crate::read) const CHUNK_BYTES: u64 = 256 << 10;
/// Most processors that are believed.
const PROCESSORS_MAX: u64 = 4096;
/// Most chunks that are followed: 4 GiB. A list can go round, or on for ever.
const CHUNKS_MAX: usize = 1 << 14;
/// What the kernel maps begins at a page, and the smallest have 4 KiB.
const PAGE_BYTES_MIN: u64 = 4 << 10;

/// The chunks, in order. What cannot be is left out; none where the processors are not known.
pub(super) fn chunks(runtime: &Runtime, memory: &dyn TargetMemory) -> Result<Vec<(Avma, Avma)>, ReadError> {
    let Ok(allp) = runtime.address(Global::Allp) else { return Ok(Vec::new()) };
    let found = followed(memory, newest(memory, allp, runtime.layout().p.persistent_chunk)?)?;
    Ok(found.into_iter().map(|start| (Avma(start), Avma(start + CHUNK_BYTES))).collect())
}

/// The chunk that each processor last took; zero where it took none.
fn newest(memory: &dyn TargetMemory, allp: Avma, offset: u64) -> Result<Vec<u64>, MemoryError> {
    let header = words(memory, &[0, 16].map(|offset| Avma(allp.0.saturating_add(offset))))?;
    let [Some(array), Some(capacity)] = *header else { return Ok(Vec::new()) };
    if capacity > PROCESSORS_MAX {
        return Ok(Vec::new());
    }
    // Behind the slice's length are those that were unmade when GOMAXPROCS fell: they keep their chunks (`procresize`,
    // runtime/proc.go).
    let entries: Vec<Avma> = (0..capacity).map(|index| Avma(array.saturating_add(8 * index))).collect();
    let processors = words(memory, &entries)?.into_iter().flatten().filter(|processor| *processor != 0);
    let places: Vec<Avma> = processors.map(|processor| Avma(processor.saturating_add(offset))).collect();
    Ok(words(memory, &places)?.into_iter().flatten().collect())
}

/// The beginnings of all chunks to which these lead, none overlapping another.
fn followed(memory: &dyn TargetMemory, newest: Vec<u64>) -> Result<BTreeSet<u64>, MemoryError> {
    let mut found: BTreeSet<u64> = BTreeSet::new();
    let mut next = newest;
    while !next.is_empty() {
        // The lists run into one another: where one is known already, the rest of it is, too.
        let mut fresh = Vec::new();
        for start in next {
            let overlapped = start.saturating_sub(CHUNK_BYTES - 1)..start.saturating_add(CHUNK_BYTES);
            let is_free = found.range(overlapped).next().is_none();
            if is_plausible(start) && is_free && found.len() < CHUNKS_MAX {
                found.insert(start);
                fresh.push(Avma(start));
            }
        }
        next = Vec::new();
        for (start, older) in fresh.iter().zip(words(memory, &fresh)?) {
            match older {
                Some(older) => next.push(older),
                None => drop(found.remove(&start.0)),
            }
        }
    }
    Ok(found)
}

/// Whether a chunk can begin there. User space begins above the first page and has 47 bits.
fn is_plausible(start: u64) -> bool {
    (PAGE_BYTES_MIN..(1 << 47) - CHUNK_BYTES).contains(&start) && start.is_multiple_of(PAGE_BYTES_MIN)
}

/// The word at each place; `None` where it cannot be read.
fn words(memory: &dyn TargetMemory, places: &[Avma]) -> Result<Vec<Option<u64>>, MemoryError> {
    let mut bytes = vec![0; 8 * places.len()];
    let readable = memory.read_each(places, &mut bytes)?;
    Ok(bytes.chunks(8).zip(readable).map(|(word, readable)| readable.then(|| Words(word).u64(0))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::memory::FakeMemory;

    const ALLP: u64 = 0x60_0000;
    const ARRAY: u64 = 0xc0_0000_0000;
    const OFFSET: u64 = 4632;

    /// `allp` with this capacity, a processor for each of these newest chunks, and the first words of chunks.
    fn memory(capacity: u64, newest: &[u64], first_words: &[(u64, u64)]) -> FakeMemory {
        let mut memory = FakeMemory::default();
        let mut put = |at: u64, words: &[u64]| {
            memory.0.insert(at, words.iter().flat_map(|word| word.to_le_bytes()).collect());
        };
        put(ALLP, &[ARRAY, 1, capacity]);
        for (number, chunk) in (0_u64..).zip(newest) {
            let processor = ARRAY + 0x10_0000 * (number + 1);
            put(ARRAY + 8 * number, &[processor]);
            put(processor + OFFSET, &[*chunk]);
        }
        for (chunk, older) in first_words {
            put(*chunk, &[*older]);
        }
        memory
    }

    fn found(memory: &FakeMemory) -> Vec<u64> {
        let newest = newest(memory, Avma(ALLP), OFFSET).unwrap();
        followed(memory, newest).unwrap().into_iter().collect()
    }

    /// Chunks far from one another.
    fn chunk(number: u64) -> u64 {
        0x7f00_0000_0000 + number * 3 * CHUNK_BYTES
    }

    #[test]
    fn the_newest_chunk_of_any_processor_leads_to_all_that_are_older() {
        // In the order 1, 2, 3, 4, of which the second is full and its processor took the fourth.
        let links = [(chunk(4), chunk(3)), (chunk(3), chunk(2)), (chunk(2), chunk(1)), (chunk(1), 0)];
        let all = [1, 2, 3, 4].map(chunk);
        assert_eq!(found(&memory(2, &[chunk(3), chunk(4)], &links)), all);
        // A processor that was unmade, one that took none, and a place without one.
        assert_eq!(found(&memory(3, &[chunk(1), 0, chunk(4)], &links)), all);
        assert_eq!(
            found(&memory(1, &[chunk(1), chunk(4)], &links)),
            [chunk(1)],
            "behind the capacity is something else"
        );
    }

    #[test]
    fn a_list_that_lies_ends_where_it_does() {
        let round = memory(1, &[chunk(1)], &[(chunk(1), chunk(2)), (chunk(2), chunk(1))]);
        assert_eq!(found(&round), [1, 2].map(chunk));
        let itself = memory(1, &[chunk(1)], &[(chunk(1), chunk(1))]);
        assert_eq!(found(&itself), [chunk(1)]);
        let unmapped = memory(1, &[chunk(1)], &[(chunk(1), chunk(2))]);
        assert_eq!(found(&unmapped), [chunk(1)], "what cannot be read is no chunk");
        for absurd in [1, 4095, chunk(2) + 8, u64::MAX, u64::MAX << 12, 1 << 47] {
            let lying = memory(1, &[chunk(1)], &[(chunk(1), absurd), (absurd, 0)]);
            assert_eq!(found(&lying), [chunk(1)], "{absurd:#x}");
        }
        let overlapping = memory(1, &[chunk(1)], &[(chunk(1), chunk(1) + 4096), (chunk(1) + 4096, 0)]);
        assert_eq!(found(&overlapping), [chunk(1)]);
        for capacity in [0, PROCESSORS_MAX + 1, u64::MAX] {
            assert!(found(&memory(capacity, &[chunk(1)], &[(chunk(1), 0)])).is_empty(), "{capacity}");
        }
    }

    #[test]
    fn a_list_without_end_is_followed_for_so_long() {
        /// Each chunk leads to the one above it.
        #[derive(Debug)]
        struct Endless;

        impl TargetMemory for Endless {
            fn read(&self, at: Avma, into: &mut [u8]) -> Result<(), MemoryError> {
                into.copy_from_slice(&(at.0 + CHUNK_BYTES).to_le_bytes());
                Ok(())
            }
        }

        assert_eq!(followed(&Endless, vec![chunk(1)]).unwrap().len(), CHUNKS_MAX);
    }
}
