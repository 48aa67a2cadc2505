//! Function names of code that is not Go's: the symbol table of an ELF file, whatever wrote it.
//!
//! Owns the reading of `.symtab`, else `.dynsym`, of the main binary, of shared libraries and of the vdso. Refuses to
//! name an address that no symbol covers by its stated size: the nearest symbol before it would be a guess. Counterpart:
//! `symbolize/native.rs`, which knows what is mapped where.

use std::ops::ControlFlow;
use std::sync::Arc;

use object::LittleEndian as Le;
use object::elf;

use super::InspectError;
use super::elf::{ElfImage, Section, address, each_entry, file_offset};
use super::source::{ByteSource, CachedSource, INSPECTION_COST_MAX};
use crate::addr::{FileOffset, Svma};

const STRUCTURE: &str = "ELF symbol table";
/// Most functions of one file that are kept, 16 bytes each: 4 MiB. What comes behind them has no name.
const SYMBOLS_MAX: usize = 1 << 18;
/// Most bytes of a symbol table that are read: 2.8 million symbols, some 20 ms.
const TABLE_BYTES_MAX: u64 = 64 << 20;
/// How far before an address a symbol is sought that covers it: symbols seldom lie in others.
const NESTED_MAX: usize = 16;
/// The longest `call` of amd64 with the operands that compilers give it.
const CALL_BYTES_MAX: usize = 7;

/// The symbols of one ELF file. Holds its source open, and no bytes of it.
#[derive(Debug)]
pub struct NativeImage {
    image: ElfImage,
    /// By `start`.
    symbols: Vec<Symbol>,
    /// Where the names begin in the file, and where they end.
    names: (u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct Symbol {
    start: u64,
    size_bytes: u32,
    /// From the beginning of the names.
    name: u32,
}

impl NativeImage {
    /// Reads the file's segments and symbols.
    ///
    /// # Errors
    /// Where the file cannot be read or is no ELF file of this machine. A file without symbols is no error.
    pub fn read(source: Box<dyn ByteSource>) -> Result<Self, InspectError> {
        let source = Arc::new(CachedSource::new(source, INSPECTION_COST_MAX));
        let image = ElfImage::read(Arc::clone(&source))?;
        let mut native = Self { image, symbols: Vec::new(), names: (0, 0) };
        // The table for debuggers holds what the table for the loader holds, and the functions of one file alone.
        for (symbols, names) in [(".symtab", ".strtab"), (".dynsym", ".dynstr")] {
            let (Some(symbols), Some(names)) = (native.image.section(symbols), native.image.section(names)) else {
                continue;
            };
            native.names = (names.file_offset, names.file_offset.saturating_add(names.size_bytes));
            native.symbols = read_symbols(&source, symbols)?;
            break;
        }
        source.rest();
        Ok(native)
    }

    /// How many functions have a name.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.symbols.is_empty()
    }

    /// At which address the file says that a byte of it goes; `None` where no segment takes it.
    pub fn address(&self, offset: FileOffset) -> Option<Svma> {
        address(&self.image.segments, offset)
    }

    /// The name of the function that holds an address. `None` where no symbol covers it. Of several names for one place
    /// it is always the same: that with the fewest underscores in front, else the shortest, else the first.
    ///
    /// # Errors
    /// Where the file cannot be read, or where a name has no end.
    pub fn name_at(&self, at: Svma) -> Result<Option<String>, InspectError> {
        let behind = self.symbols.partition_point(|symbol| symbol.start <= at.0);
        let before = self.symbols.get(..behind).unwrap_or_default().iter().rev().take(NESTED_MAX);
        let covers = |symbol: &&Symbol| at.0 - symbol.start < u64::from(symbol.size_bytes);
        let mut covering = before.filter(covers).peekable();
        let Some(start) = covering.peek().map(|symbol| symbol.start) else { return Ok(None) };
        let mut names = Vec::new();
        for symbol in covering.take_while(|symbol| symbol.start == start) {
            names.extend(self.name(symbol)?);
        }
        self.image.source.release();
        let rank = |name: &String| (name.len() - name.trim_start_matches('_').len(), name.len(), name.clone());
        Ok(names.into_iter().min_by_key(rank))
    }

    /// Whether the bytes before an address can be a call, as they are before a return address. `None` where the file
    /// cannot be read there.
    pub fn follows_call(&self, at: Svma) -> Option<bool> {
        let mut bytes = [0; CALL_BYTES_MAX];
        let offset = file_offset(&self.image.segments, Svma(at.0.checked_sub(CALL_BYTES_MAX as u64)?))?;
        let read = self.image.source.read(STRUCTURE, offset.0, &mut bytes);
        self.image.source.release();
        read.ok()?;
        Some(ends_with_call(bytes))
    }

    fn name(&self, symbol: &Symbol) -> Result<Option<String>, InspectError> {
        let (start, end) = self.names;
        let offset = start.saturating_add(u64::from(symbol.name));
        if offset >= end {
            return Err(InspectError::malformed(STRUCTURE, "offset of a name", u64::from(symbol.name)));
        }
        let mut name = Vec::new();
        self.image.source.c_string(STRUCTURE, offset, &mut name)?;
        Ok(String::from_utf8(name).ok().filter(|name| !name.is_empty()))
    }
}

/// The functions that say where they end.
fn read_symbols(source: &CachedSource, section: &Section) -> Result<Vec<Symbol>, InspectError> {
    let mut symbols = Vec::new();
    let size_bytes = section.size_bytes.min(TABLE_BYTES_MAX);
    each_entry(source, STRUCTURE, section.file_offset, size_bytes, |entry| {
        symbols.extend(function(entry));
        Ok(if symbols.len() == SYMBOLS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    symbols.sort_unstable_by_key(|symbol| (symbol.start, symbol.size_bytes, symbol.name));
    symbols.shrink_to_fit();
    Ok(symbols)
}

fn function(entry: &elf::Sym64<Le>) -> Option<Symbol> {
    let (size_bytes, section) = (entry.st_size.get(Le), entry.st_shndx.get(Le));
    if entry.st_type() != elf::STT_FUNC || section == elf::SHN_UNDEF || size_bytes == 0 {
        return None;
    }
    let size_bytes = u32::try_from(size_bytes).unwrap_or(u32::MAX);
    Some(Symbol { start: entry.st_value.get(Le), size_bytes, name: entry.st_name.get(Le) })
}

/// Whether a `call` can end where these bytes do: near relative (E8), or through a register or memory (FF /2) with each
/// length of operand (Intel SDM volume 2A, CALL; tables 2-2 and 2-3 of ModR/M and SIB).
fn ends_with_call(bytes: [u8; CALL_BYTES_MAX]) -> bool {
    let [_, _, relative, ..] = bytes;
    if relative == 0xe8 {
        return true;
    }
    (2..=CALL_BYTES_MAX).any(|length| {
        let mut tail = bytes.iter().skip(CALL_BYTES_MAX - length);
        let (Some(0xff), Some(modrm)) = (tail.next(), tail.next()) else { return false };
        let (mode, opcode, register) = (modrm >> 6, (modrm >> 3) & 7, modrm & 7);
        let scaled = mode != 3 && register == 4;
        let base = tail.next().map_or(0, |sib| sib & 7);
        let displacement = match mode {
            0 if register == 5 || (scaled && base == 5) => 4,
            1 => 1,
            2 => 4,
            _ => 0,
        };
        opcode == 2 && length == 2 + usize::from(scaled) + displacement
    })
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, FlowControl};
    use proptest::prelude::*;

    use super::*;

    /// Whether a disassembler finds a call of at most seven bytes that ends where these bytes do.
    fn disassembles_to_call(bytes: [u8; CALL_BYTES_MAX]) -> bool {
        (0..CALL_BYTES_MAX - 1).any(|start| {
            let tail = &bytes[start..];
            let call = Decoder::with_ip(64, tail, 0, DecoderOptions::NONE).decode();
            let is_call = matches!(call.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
            is_call
                && call.len() == tail.len()
                && call.mnemonic() == iced_x86::Mnemonic::Call
                && !call.is_call_far_indirect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn calls_are_told_as_a_disassembler_tells_them(
            mut bytes: [u8; CALL_BYTES_MAX],
            place in 0..CALL_BYTES_MAX,
            opcode in prop::sample::select(vec![0xe8_u8, 0xff]),
        ) {
            bytes[place] = opcode;
            prop_assert_eq!(ends_with_call(bytes), disassembles_to_call(bytes));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, at: u64) {
            if let Ok(image) = NativeImage::read(Box::new(bytes)) {
                drop(image.name_at(Svma(at)));
                image.follows_call(Svma(at));
            }
        }
    }
}
