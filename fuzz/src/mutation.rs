//! What a fuzzer may do to an image: choose its kind, overwrite numbers in its parts, cut it. So that inputs get past the
//! first magic number, which random bytes do not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Arbitrary;
use tracer_daemon::inspect::source::ByteSource;
use tracer_daemon::inspect::{BinaryFacts, InspectError, inspect_source};

use super::image::{Built, GoImage, address};

/// Most bytes that an inspection may read of such an image, which has some 5 KiB: so many times over may a mutated header
/// make it walk through the same bytes. Reading is by blocks of 16 KiB.
const READ_BYTES_MAX: u64 = 256 << 20;
/// Most patches that are applied.
const PATCHES_MAX: usize = 64;

/// An image and what is done to it.
#[derive(Arbitrary, Clone, Debug)]
pub struct Mutated {
    /// Go 1.19 and later.
    pub release: u8,
    /// See [`GoImage`].
    pub position_independent: bool,
    /// See [`GoImage`].
    pub without_sections: bool,
    /// In this order.
    pub patches: Vec<Patch>,
    /// How much is cut off the end, bytes.
    pub cut: Option<u16>,
}

/// Bytes that are overwritten.
#[derive(Arbitrary, Clone, Debug)]
pub struct Patch {
    /// Number of the part.
    pub part: u8,
    /// From the part's beginning, modulo its length.
    pub offset: u16,
    /// With what.
    pub with: Value,
}

/// What is written.
#[derive(Arbitrary, Clone, Debug)]
pub enum Value {
    /// One byte.
    Byte(u8),
    /// Four bytes.
    Half(u32),
    /// Eight bytes.
    Word(u64),
    /// The address of a byte of the file.
    Address(u16),
    /// The distance of a byte from the beginning of the function table, which most offsets count from.
    Offset(i16),
    /// Anything.
    Bytes(Vec<u8>),
}

impl Mutated {
    /// The image as its maker meant it.
    pub fn plan(&self) -> GoImage {
        let mut image = GoImage::usual(19 + u32::from(self.release) % 9);
        image.position_independent = self.position_independent;
        image.sections = !self.without_sections;
        image
    }

    /// The image with all patches.
    pub fn built(&self) -> Built {
        let mut built = self.plan().build();
        self.apply(&mut built);
        built
    }

    /// Patches and cuts.
    pub fn apply(&self, built: &mut Built) {
        let table = built.part("function table").start;
        for patch in self.patches.iter().take(PATCHES_MAX) {
            let Some((_, part)) = built.parts.get(usize::from(patch.part) % built.parts.len().max(1)) else { continue };
            let at = part.start + usize::from(patch.offset) % part.len().max(1);
            match &patch.with {
                Value::Byte(byte) => built.patch(at, &[*byte]),
                Value::Half(half) => built.patch(at, &half.to_le_bytes()),
                Value::Word(word) => built.patch(at, &word.to_le_bytes()),
                Value::Address(offset) => built.patch(at, &address(usize::from(*offset)).to_le_bytes()),
                Value::Offset(distance) => {
                    let offset = (at - table.min(at)) as u64;
                    built.patch(at, &offset.wrapping_add_signed(i64::from(*distance)).to_le_bytes());
                }
                Value::Bytes(bytes) => built.patch(at, bytes),
            }
        }
        if let Some(cut) = self.cut {
            built.bytes.truncate(built.bytes.len().saturating_sub(usize::from(cut)));
        }
    }
}

/// Bytes that count how much of them is read.
#[derive(Clone, Debug)]
pub struct Counted {
    bytes: Arc<Vec<u8>>,
    /// Zeros behind them.
    zeros: u64,
    read_bytes: Arc<AtomicU64>,
}

impl Counted {
    /// These bytes, and so many zeros behind them, which take no memory: a sparse file.
    pub fn new(bytes: Vec<u8>, zeros: u64) -> Self {
        Self { bytes: Arc::new(bytes), zeros, read_bytes: Arc::default() }
    }

    /// Bytes read so far, by this and its clones.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

impl ByteSource for Counted {
    fn len(&self) -> u64 {
        self.bytes.len() as u64 + self.zeros
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let length = into.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_bytes.fetch_add(length, Ordering::Relaxed);
        into.fill(0);
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let held = self.bytes.get(start..).unwrap_or_default();
        into.iter_mut().zip(held).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// Inspects, within the bound of work.
///
/// # Errors
/// As inspection's.
///
/// # Panics
/// Where inspection reads more than it may.
pub fn inspected(bytes: Vec<u8>) -> Result<BinaryFacts, InspectError> {
    let source = Counted::new(bytes, 0);
    let facts = inspect_source(Box::new(source.clone()));
    assert!(source.read_bytes() <= READ_BYTES_MAX, "inspection read {} bytes", source.read_bytes());
    facts
}
