//! The bytes of debug sections, which linkers compress, as a stream: nothing is decompressed that is not asked for.
//!
//! Knows the two forms that Go's linker has written: `SHF_COMPRESSED` with zlib (go1.19 and later), and `.zdebug_…`, which
//! external linkers still make on demand. Refuses zstd, which neither of them writes for Go.

use std::io::{self, BufReader, Read};

use flate2::bufread::ZlibDecoder;

use super::LayoutError;
use crate::inspect::elf::{ElfImage, Section};
use crate::inspect::source::{CachedSource, u32_in, u64_in};

/// Bytes read from the file at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// `Elf64_Chdr`.
const COMPRESSION_HEADER_BYTES: u64 = 24;
/// `ELFCOMPRESS_ZLIB`.
const ZLIB: u32 = 1;
/// `ZLIB` and the decompressed size, eight bytes, big endian.
const GNU_HEADER_BYTES: u64 = 12;

/// One section, decompressed as it is read.
pub(super) struct SectionStream<'image> {
    bytes: Bytes<'image>,
    /// Bytes read so far.
    pub(super) position: u64,
    /// Bytes that the section has when decompressed, as it claims.
    pub(super) size_bytes: u64,
}

enum Bytes<'image> {
    Plain(Plain<'image>),
    Zlib(Box<ZlibDecoder<BufReader<Plain<'image>>>>),
}

impl<'image> SectionStream<'image> {
    /// The section of this name without its `.debug_`; `None` where there is none.
    pub(super) fn open(image: &'image ElfImage, name: &str) -> Result<Option<Self>, LayoutError> {
        if let Some(section) = image.section(&format!(".debug_{name}")) {
            return if section.compressed {
                Self::compressed(image, section).map(Some)
            } else {
                Ok(Some(Self::plain(image, section)))
            };
        }
        image.section(&format!(".zdebug_{name}")).map(|section| Self::gnu(image, section)).transpose()
    }

    fn plain(image: &'image ElfImage, section: &Section) -> Self {
        let plain = Plain::new(image, section, 0);
        Self { size_bytes: plain.end.saturating_sub(plain.position), bytes: Bytes::Plain(plain), position: 0 }
    }

    fn compressed(image: &'image ElfImage, section: &Section) -> Result<Self, LayoutError> {
        let header: [u8; 24] = image.source.array("compressed section", section.file_offset)?;
        match u32_in(&header, 0) {
            Some(ZLIB) => {
                let size_bytes = u64_in(&header, 8).unwrap_or_default();
                Ok(Self::zlib(image, section, COMPRESSION_HEADER_BYTES, size_bytes))
            }
            kind => Err(LayoutError::Compression { kind: kind.unwrap_or_default() }),
        }
    }

    fn gnu(image: &'image ElfImage, section: &Section) -> Result<Self, LayoutError> {
        let header: [u8; 12] = image.source.array("compressed section", section.file_offset)?;
        match header {
            [b'Z', b'L', b'I', b'B', size @ ..] => {
                Ok(Self::zlib(image, section, GNU_HEADER_BYTES, u64::from_be_bytes(size)))
            }
            other => Err(LayoutError::Compression { kind: u32_in(&other, 0).unwrap_or_default() }),
        }
    }

    fn zlib(image: &'image ElfImage, section: &Section, header_bytes: u64, size_bytes: u64) -> Self {
        let plain = BufReader::with_capacity(CHUNK_BYTES, Plain::new(image, section, header_bytes));
        Self { bytes: Bytes::Zlib(Box::new(ZlibDecoder::new(plain))), position: 0, size_bytes }
    }

    /// Fills `into` as far as there are bytes; returns how many there were.
    pub(super) fn read_up_to(&mut self, into: &mut [u8]) -> Result<usize, LayoutError> {
        let mut filled = 0;
        // Not more than the section claims: a compressed one could go on for ever.
        let left = usize::try_from(self.size_bytes.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        while let Some(rest) = into.get_mut(filled..wanted).filter(|rest| !rest.is_empty()) {
            let count = match &mut self.bytes {
                Bytes::Plain(plain) => plain.read(rest),
                Bytes::Zlib(zlib) => zlib.read(rest),
            };
            match count.map_err(|source| LayoutError::Section { offset: self.position, source })? {
                0 => break,
                count => {
                    filled = filled.saturating_add(count);
                    self.position = self.position.saturating_add(count as u64);
                }
            }
        }
        Ok(filled)
    }

    /// Appends `count` bytes to `into`; the caller has bounded `count`.
    pub(super) fn append(&mut self, into: &mut Vec<u8>, count: usize) -> Result<(), LayoutError> {
        let before = into.len();
        into.resize(before.saturating_add(count), 0);
        let read = self.read_up_to(into.get_mut(before..).unwrap_or_default())?;
        if read == count { Ok(()) } else { Err(self.cut_short()) }
    }

    /// Goes over `count` bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), LayoutError> {
        if let Bytes::Plain(plain) = &mut self.bytes {
            if count > plain.end.saturating_sub(plain.position) {
                return Err(self.cut_short());
            }
            plain.position = plain.position.saturating_add(count);
            self.position = self.position.saturating_add(count);
            return Ok(());
        }
        let mut buffer = [0; CHUNK_BYTES];
        let mut left = count;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            match self.read_up_to(buffer.get_mut(..wanted).unwrap_or_default())? {
                0 => return Err(self.cut_short()),
                read => left = left.saturating_sub(read as u64),
            }
        }
        Ok(())
    }

    /// The whole section, which must not be larger than `limit_bytes`.
    pub(super) fn whole(mut self, what: &'static str, limit_bytes: u64) -> Result<Vec<u8>, LayoutError> {
        if self.size_bytes > limit_bytes {
            return Err(LayoutError::TooLarge { what, size: self.size_bytes, limit: limit_bytes });
        }
        let mut bytes = Vec::new();
        self.append(&mut bytes, usize::try_from(self.size_bytes).unwrap_or_default())?;
        Ok(bytes)
    }

    fn cut_short(&self) -> LayoutError {
        LayoutError::Section { offset: self.position, source: io::ErrorKind::UnexpectedEof.into() }
    }
}

/// The bytes of a section as the file has them.
struct Plain<'image> {
    source: &'image CachedSource,
    position: u64,
    end: u64,
}

impl<'image> Plain<'image> {
    fn new(image: &'image ElfImage, section: &Section, skipped_bytes: u64) -> Self {
        Self {
            source: &image.source,
            position: section.file_offset.saturating_add(skipped_bytes),
            end: section.file_offset.saturating_add(section.size_bytes).min(image.source.len()),
        }
    }
}

impl Read for Plain<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = into.len().min(left);
        let into = into.get_mut(..wanted).unwrap_or_default();
        let read = self.source.read_up_to("debug section", self.position, into).map_err(io::Error::other)?;
        self.position = self.position.saturating_add(read as u64);
        Ok(read)
    }
}
