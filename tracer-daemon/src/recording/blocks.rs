//! The container: a header, then blocks that are whole or not there.
//!
//! A block stands for itself: a file that was cut, or whose end was never written, is readable up to the last whole one. Blocks of
//! an unknown kind are passed over.
//!
//! ```text
//! file   "LEAKLINE"  major u16  minor u16  0 u32                              little endian
//! block  kind u32  bytes in the file u32  bytes of records u32  CRC-32 u32    the checksum: of the three before it and of the bytes
//! ```

use std::io::{self, Read, Write};

use super::{BLOCK_BYTES_MAX, RecordingError, STORED_BYTES_MAX};

const MAGIC: [u8; 8] = *b"LEAKLINE";
/// What an older reader cannot read has another one.
pub(super) const MAJOR: u16 = 1;
/// What an older reader can pass over has another one.
const MINOR: u16 = 0;
/// Records, as a frame of zstd (RFC 8878).
const RECORDS: u32 = 1;
/// Nothing: the recording is complete.
const END: u32 = 2;

const FILE_HEADER_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 16;
/// Bytes that may come of one byte of the file, beyond a small block.
const RATIO_MAX: usize = 1024;
const SMALL_BLOCK_BYTES: usize = 64 << 10;
/// Of ten minutes of a service: 331 KB with level 3, 319 KB with 9 and with 15.
const LEVEL: i32 = 9;

/// A block.
#[derive(Debug)]
pub(super) enum Block {
    /// Records.
    Records(Vec<u8>),
    /// The recording is complete.
    End,
    /// Of a kind that is not known.
    Other,
}

/// Writes the header.
pub(super) fn write_header(file: &mut impl Write) -> io::Result<usize> {
    let [major, minor] = [MAJOR, MINOR].map(u16::to_le_bytes);
    let header = [&MAGIC[..], &major, &minor, &[0; 4]].concat();
    file.write_all(&header)?;
    Ok(header.len())
}

/// Writes records, and gives the number of bytes that they take in the file.
pub(super) fn write_records(file: &mut impl Write, records: &[u8]) -> Result<usize, RecordingError> {
    let packed = zstd::bulk::compress(records, LEVEL)?;
    if packed.len() > STORED_BYTES_MAX || records.len() > unpacked_max(packed.len()) {
        return Err(RecordingError::TooLarge { what: "a block", max: unpacked_max(packed.len()) });
    }
    write_block(file, RECORDS, records.len(), &packed)
}

/// Says that the recording is complete.
pub(super) fn write_end(file: &mut impl Write) -> Result<usize, RecordingError> {
    write_block(file, END, 0, &[])
}

fn write_block(file: &mut impl Write, kind: u32, unpacked: usize, stored: &[u8]) -> Result<usize, RecordingError> {
    let count = |bytes: usize| {
        u32::try_from(bytes).map_err(|_beyond| RecordingError::TooLarge { what: "a block", max: BLOCK_BYTES_MAX })
    };
    let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + stored.len());
    for number in [kind, count(stored.len())?, count(unpacked)?] {
        block.extend(number.to_le_bytes());
    }
    let checksum = checksum(&block, stored);
    block.extend(checksum.to_le_bytes());
    block.extend(stored);
    // At once, so that what is in the file after a kill is whole blocks for all but the last.
    file.write_all(&block)?;
    Ok(block.len())
}

fn checksum(header: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(stored);
    hasher.finalize()
}

/// Most bytes of records that so many bytes of the file may stand for.
fn unpacked_max(stored: usize) -> usize {
    stored.saturating_mul(RATIO_MAX).saturating_add(SMALL_BLOCK_BYTES).min(BLOCK_BYTES_MAX)
}

/// Reads blocks.
#[derive(Debug)]
pub(super) struct Blocks<R> {
    file: R,
    /// Bytes of the file that were read.
    pub(super) read: usize,
}

impl<R: Read> Blocks<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Where it is no recording, or one of a later format.
    pub(super) fn new(mut file: R) -> Result<Self, RecordingError> {
        let mut header = Vec::new();
        file.by_ref().take(FILE_HEADER_BYTES as u64).read_to_end(&mut header)?;
        let Some(rest) = header.strip_prefix(&MAGIC).filter(|_| header.len() == FILE_HEADER_BYTES) else {
            return Err(RecordingError::NoRecording);
        };
        match rest.first_chunk().map(|major| u16::from_le_bytes(*major)) {
            Some(major) if major > MAJOR => Err(RecordingError::Newer { found: major, known: MAJOR }),
            Some(MAJOR) => Ok(Self { file, read: FILE_HEADER_BYTES }),
            _ => Err(RecordingError::NoRecording),
        }
    }

    /// The next one. `None`: the file ends here, between two blocks or within one.
    ///
    /// # Errors
    /// Where the file cannot be read, or the block is not what was written.
    pub(super) fn next(&mut self) -> Result<Option<Block>, RecordingError> {
        let mut header = Vec::new();
        self.file.by_ref().take(BLOCK_HEADER_BYTES as u64).read_to_end(&mut header)?;
        let word = |index: usize| {
            let bytes = header.get(4 * index..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let (Some(kind), Some(stored), Some(unpacked), Some(expected)) = (word(0), word(1), word(2), word(3)) else {
            return Ok(None);
        };
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (stored, unpacked) = (size(stored), size(unpacked));
        if stored > STORED_BYTES_MAX || unpacked > unpacked_max(stored) {
            return Err(RecordingError::TooLarge { what: "a block", max: unpacked_max(stored) });
        }
        let mut bytes = Vec::new();
        self.file.by_ref().take(stored as u64).read_to_end(&mut bytes)?;
        if bytes.len() < stored {
            return Ok(None);
        }
        self.read = self.read.saturating_add(header.len()).saturating_add(stored);
        let checked = header.get(..BLOCK_HEADER_BYTES - 4).unwrap_or_default();
        if checksum(checked, &bytes) != expected {
            return Err(RecordingError::Malformed { what: "block: its checksum is another one" });
        }
        Ok(Some(match kind {
            RECORDS => {
                let records = zstd::bulk::decompress(&bytes, unpacked);
                let records = records.ok().filter(|records| records.len() == unpacked);
                Block::Records(records.ok_or(RecordingError::Malformed { what: "block: it cannot be decompressed" })?)
            }
            END => Block::End,
            _ => Block::Other,
        }))
    }
}
