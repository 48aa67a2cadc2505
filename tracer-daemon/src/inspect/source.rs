//! Bytes of a binary, read on demand through a small cache.
//!
//! Nothing is mapped: a file that is cut short under us gives an error, not a signal, and the memory held is bounded
//! whatever the size of the binary. So is the work: while a binary is inspected, reading it costs, and there is a budget.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::InspectError;
use crate::addr::FileOffset;

/// Size of one cached block. Lookups touch few bytes at a dozen places, hence many small blocks.
const BLOCK_BYTES: u64 = 4 * 1024;
/// Blocks held while a binary is inspected: 1 MiB.
const BLOCKS_WHILE_INSPECTING: usize = 256;
/// Blocks held per binary afterwards, for symbolizing: 512 KiB.
const BLOCKS_AT_REST: usize = 128;
/// What inspecting one binary may cost: bytes read from its source, and 128 for each look into the cache. Large
/// programs (promtool, terraform, dockerd, kubectl; 54 to 86 MB) cost 1.1 to 1.7 for each byte of their file. A sparse
/// file costs its maker nothing, whatever size it claims and however often its headers name the same range.
pub const INSPECTION_COST_MAX: u64 = 1 << 30;
/// What a look into the cache costs in terms of bytes read, so that looks are bounded too: 8 million.
const ACCESS_COST: u64 = 128;
/// Longest string that is read from a binary.
pub const STRING_BYTES_MAX: usize = 4096;

/// Where the bytes of a binary come from.
pub trait ByteSource: fmt::Debug + Send + Sync {
    /// Size in bytes, as it was when the source was opened.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the whole of `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Where the system refuses, or where the source ends before `into` is full.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A file, such as one opened from `/proc/PID/exe`.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length_bytes: u64,
}

impl FileSource {
    /// Notes the present size of the file.
    ///
    /// # Errors
    /// Where the file's size cannot be asked.
    pub fn new(file: File) -> Result<Self, InspectError> {
        let unasked = |source| InspectError::Io { structure: "size", offset: FileOffset(0), length_bytes: 0, source };
        let length_bytes = file.metadata().map_err(unasked)?.len();
        Ok(Self { file, length_bytes })
    }
}

impl ByteSource for FileSource {
    fn len(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }
}

impl ByteSource for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(into.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }
}

/// A [`ByteSource`] behind a bounded cache of blocks; shared by all who read one binary.
#[derive(Debug)]
pub(crate) struct CachedSource {
    source: Box<dyn ByteSource>,
    length_bytes: u64,
    blocks: Mutex<Blocks>,
    /// What inspection may still cost; [`u64::MAX`] afterwards, when each question has its own bounds.
    budget: AtomicU64,
    /// What it might cost at the beginning.
    cost_max: u64,
}

/// Two generations, so that room is made without a look at every block: when the young one is full, the old one goes and
/// the young one takes its place; an old block that is asked for is young again.
struct Blocks {
    /// Block number to its bytes.
    young: HashMap<u64, Arc<[u8]>, BuildHasherDefault<BlockHasher>>,
    old: HashMap<u64, Arc<[u8]>, BuildHasherDefault<BlockHasher>>,
    /// The block that was asked for last: most reads follow one another.
    last: Option<(u64, Arc<[u8]>)>,
    /// Both generations together.
    capacity: usize,
}

/// Spreads block numbers, which are small; a file whose offsets collide on purpose meets at most the few blocks held.
#[derive(Default)]
struct BlockHasher(u64);

impl Hasher for BlockHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, 6.4).
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The table looks at the upper and the lower bits.
        self.0 ^= self.0 >> 32;
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} blocks", self.len(), self.capacity)
    }
}

impl CachedSource {
    /// `cost_max`: what may be read until [`Self::rest`].
    pub(crate) fn new(source: Box<dyn ByteSource>, cost_max: u64) -> Self {
        let blocks = Blocks::with_capacity(BLOCKS_WHILE_INSPECTING);
        let length_bytes = source.len();
        Self { source, length_bytes, blocks: Mutex::new(blocks), budget: AtomicU64::new(cost_max), cost_max }
    }

    pub(crate) fn len(&self) -> u64 {
        self.length_bytes
    }

    /// Gives the cache back and makes do with less from now on: inspection is over.
    pub(crate) fn rest(&self) {
        self.budget.store(u64::MAX, Ordering::Relaxed);
        *self.lock() = Blocks::with_capacity(BLOCKS_AT_REST);
    }

    /// Gives the whole cache back: what follows is far between.
    pub(crate) fn release(&self) {
        let mut blocks = self.lock();
        *blocks = Blocks::with_capacity(blocks.capacity);
    }

    /// Fills `into` from `offset` on; `structure` names in an error what was being read.
    pub(crate) fn read(&self, structure: &'static str, offset: u64, into: &mut [u8]) -> Result<(), InspectError> {
        let read = self.read_up_to(structure, offset, into)?;
        if read == into.len() {
            return Ok(());
        }
        Err(InspectError::Io {
            structure,
            offset: FileOffset(offset),
            length_bytes: into.len() as u64,
            source: io::ErrorKind::UnexpectedEof.into(),
        })
    }

    /// Like [`Self::read`], but stops without error at the end of the source; returns how many bytes were filled.
    pub(crate) fn read_up_to(
        &self,
        structure: &'static str,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, InspectError> {
        let mut filled = 0;
        while filled < into.len() {
            let position = offset.saturating_add(filled as u64);
            if position >= self.length_bytes {
                break;
            }
            let block = self.block(structure, position / BLOCK_BYTES)?;
            let within = index(position % BLOCK_BYTES);
            let available = block.get(within..).unwrap_or_default();
            let target = into.get_mut(filled..).unwrap_or_default();
            let count = available.len().min(target.len());
            if count == 0 {
                break;
            }
            if let (Some(to), Some(from)) = (target.get_mut(..count), available.get(..count)) {
                to.copy_from_slice(from);
            }
            filled += count;
        }
        Ok(filled)
    }

    /// `length_bytes` bytes from `offset` on; the caller has bounded the length.
    pub(crate) fn bytes(
        &self,
        structure: &'static str,
        offset: u64,
        length_bytes: u64,
    ) -> Result<Vec<u8>, InspectError> {
        let within = offset.checked_add(length_bytes).is_some_and(|end| end <= self.length_bytes);
        if !within {
            return Err(InspectError::Io {
                structure,
                offset: FileOffset(offset),
                length_bytes,
                source: io::ErrorKind::UnexpectedEof.into(),
            });
        }
        let mut bytes = vec![0; index(length_bytes)];
        self.read(structure, offset, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&self, structure: &'static str, offset: u64) -> Result<[u8; N], InspectError> {
        let mut bytes = [0; N];
        self.read(structure, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes from `offset` up to a zero byte, without it, in `into` (cleared first).
    pub(crate) fn c_string(
        &self,
        structure: &'static str,
        offset: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), InspectError> {
        into.clear();
        let mut chunk = [0; 64];
        while into.len() < STRING_BYTES_MAX {
            let read = self.read_up_to(structure, offset.saturating_add(into.len() as u64), &mut chunk)?;
            let bytes = chunk.get(..read).unwrap_or_default();
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                into.extend_from_slice(bytes.get(..end).unwrap_or_default());
                return Ok(());
            }
            if bytes.is_empty() {
                break;
            }
            into.extend_from_slice(bytes);
        }
        Err(InspectError::malformed(structure, "length of a string", into.len() as u64))
    }

    fn block(&self, structure: &'static str, number: u64) -> Result<Arc<[u8]>, InspectError> {
        self.spend(structure, ACCESS_COST)?;
        if let Some(block) = self.lock().get(number) {
            return Ok(block);
        }
        self.spend(structure, BLOCK_BYTES)?;
        let start = number.saturating_mul(BLOCK_BYTES);
        let length_bytes = self.length_bytes.saturating_sub(start).min(BLOCK_BYTES);
        // Made in place: a block is copied out of, and not moved.
        let mut block: Arc<[u8]> = std::iter::repeat_n(0, index(length_bytes)).collect();
        let bytes = Arc::get_mut(&mut block).unwrap_or_default();
        // Not under the lock: the disk may be slow.
        self.source.read_at(start, bytes).map_err(|source| InspectError::Io {
            structure,
            offset: FileOffset(start),
            length_bytes,
            source,
        })?;
        self.lock().put(number, Arc::clone(&block));
        Ok(block)
    }

    fn spend(&self, structure: &'static str, cost: u64) -> Result<(), InspectError> {
        let left = |budget: u64| if budget == u64::MAX { Some(budget) } else { budget.checked_sub(cost) };
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, left)
            .map(drop)
            .map_err(|_left| InspectError::TooCostly { structure, cost_max: self.cost_max })
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    fn with_capacity(capacity: usize) -> Self {
        Self { young: HashMap::default(), old: HashMap::default(), last: None, capacity }
    }

    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn get(&mut self, number: u64) -> Option<Arc<[u8]>> {
        if let Some((last, block)) = &self.last
            && *last == number
        {
            return Some(Arc::clone(block));
        }
        if let Some(block) = self.young.get(&number) {
            self.last = Some((number, Arc::clone(block)));
        } else {
            let block = self.old.remove(&number)?;
            self.put(number, block);
        }
        self.last.as_ref().map(|(_, block)| Arc::clone(block))
    }

    fn put(&mut self, number: u64, block: Arc<[u8]>) {
        if self.young.len() >= self.capacity / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.last = Some((number, Arc::clone(&block)));
        self.young.insert(number, block);
    }
}

/// A bounded length as an index; the daemon runs on 64-bit hosts only, where this loses nothing.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The little-endian number in the first bytes of `bytes` from `offset` on; `None` where they end before.
pub(crate) fn u32_in(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_le_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// As [`u32_in`], eight bytes wide.
pub(crate) fn u64_in(bytes: &[u8], offset: usize) -> Option<u64> {
    let end = offset.checked_add(8)?;
    Some(u64::from_le_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims more bytes than it has, as a file does which was cut after we asked for its size.
    #[derive(Debug)]
    struct CutShort(Vec<u8>);

    impl ByteSource for CutShort {
        fn len(&self) -> u64 {
            1 << 20
        }

        fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
            self.0.read_at(offset, into)
        }
    }

    #[test]
    fn file_cut_under_us_is_an_error() {
        let source = CachedSource::new(Box::new(CutShort(vec![7; 40_000])), INSPECTION_COST_MAX);
        assert_eq!(source.array::<4>("header", 16_384).unwrap(), [7; 4]);
        let error = source.bytes("header", 32_768, 9_000).unwrap_err();
        assert!(matches!(error, InspectError::Io { structure: "header", offset: FileOffset(36_864), .. }), "{error:?}");
    }

    #[test]
    fn reads_across_blocks_equal_the_bytes_and_the_cache_keeps_its_bound() {
        let bytes: Vec<u8> = (0..4_000_000_u32).map(|index| (index % 251) as u8).collect();
        let source = CachedSource::new(Box::new(bytes.clone()), INSPECTION_COST_MAX);
        for start in (0..3_900_000_usize).step_by(15_999) {
            let read = source.bytes("test", start as u64, 33_000).unwrap();
            assert_eq!(read, bytes[start..start + 33_000]);
        }
        let held = source.lock().len();
        assert!(held > BLOCKS_WHILE_INSPECTING / 2 && held <= BLOCKS_WHILE_INSPECTING, "{held}");
        source.rest();
        assert_eq!(source.lock().len(), 0);
        for start in (0..3_900_000_usize).step_by(977) {
            assert_eq!(source.array::<7>("test", start as u64).unwrap(), bytes[start..start + 7]);
            assert!(source.lock().len() <= BLOCKS_AT_REST);
        }
    }

    #[test]
    fn what_is_read_costs_until_inspection_is_over() {
        let source = CachedSource::new(Box::new(vec![7; 100_000]), 3 * (BLOCK_BYTES + ACCESS_COST));
        let read = |at: u64| source.array::<4>("header", at);
        assert!(read(0).is_ok() && read(50_000).is_ok());
        let cheap = (0..BLOCK_BYTES / ACCESS_COST).filter(|_| read(0).is_ok()).count();
        assert_eq!(cheap as u64, BLOCK_BYTES / ACCESS_COST, "a block costs as much as so many looks into the cache");
        let error = read(80_000).unwrap_err();
        assert!(matches!(error, InspectError::TooCostly { structure: "header", .. }), "{error:?}");
        source.rest();
        assert!(read(80_000).is_ok());
    }

    #[test]
    fn strings_end_at_zero_and_are_capped() {
        let mut bytes = b"name\0".to_vec();
        bytes.extend(vec![b'x'; 10_000]);
        let source = CachedSource::new(Box::new(bytes), INSPECTION_COST_MAX);
        let mut name = Vec::new();
        source.c_string("names", 0, &mut name).unwrap();
        assert_eq!(name, b"name");
        assert!(matches!(source.c_string("names", 5, &mut name), Err(InspectError::Malformed { .. })));
        assert!(matches!(source.c_string("names", 10_000, &mut name), Err(InspectError::Malformed { .. })));
        assert!(source.c_string("names", u64::MAX, &mut name).is_err());
    }
}
