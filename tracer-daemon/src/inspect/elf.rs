//! The ELF part of a binary: segments, sections, notes and relocations. Knows nothing of Go.
//!
//! Structures are those of the `object` crate; the reading is ours, so that every count is bounded before memory is
//! taken for it.

use std::ops::ControlFlow;
use std::sync::Arc;

use object::LittleEndian as Le;
use object::elf;
use object::pod::{Pod, from_bytes, slice_from_all_bytes};

use super::InspectError;
use super::source::CachedSource;
use crate::addr::{FileOffset, Svma};

/// Most program headers that we read; linkers make about ten.
const SEGMENTS_MAX: u64 = 512;
/// Most section headers that we read; linkers make about forty, C++ with a section per function does not reach Go.
const SECTIONS_MAX: u64 = 16_384;
/// Largest note segment and section name table that we read.
const TABLE_BYTES_MAX: u64 = 1 << 20;

/// A processor for which we know where things lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit Arm; its programs are not inspected yet.
    Arm64,
}

impl Architecture {
    /// The name in Go.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

/// One `PT_LOAD` segment: a range of the file and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in memory, before the load bias.
    pub svma: Svma,
    /// Where it begins in the file.
    pub file_offset: FileOffset,
    /// Bytes that come from the file.
    pub file_size_bytes: u64,
    /// Bytes in memory; what exceeds the file's is zero.
    pub memory_size_bytes: u64,
    /// Whether it holds code.
    pub executable: bool,
    /// Whether the program may write to it.
    pub writable: bool,
}

/// One section, as far as we look at it.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) kind: elf::SectionType,
    pub(crate) svma: Svma,
    pub(crate) file_offset: u64,
    pub(crate) size_bytes: u64,
    /// Number of another section; for a symbol table, of its names.
    pub(crate) link: u32,
    /// Whether a header and compressed bytes stand in the file (`SHF_COMPRESSED`).
    pub(crate) compressed: bool,
}

/// A 64-bit little-endian ELF file for a machine that we support.
#[derive(Debug)]
pub(crate) struct ElfImage {
    pub(crate) source: Arc<CachedSource>,
    pub(crate) architecture: Architecture,
    pub(crate) segments: Vec<Segment>,
    pub(crate) sections: Vec<Section>,
    pub(crate) position_independent: bool,
    /// Where the notes are, and their size in bytes.
    notes: Vec<(u64, u64)>,
    /// `DT_RELA`: file offset and size in bytes.
    relocations: Option<(u64, u64)>,
    /// Where the program headers end in the file.
    programs_end: u64,
}

impl ElfImage {
    /// Reads a program that can be inspected.
    pub(crate) fn read(source: Arc<CachedSource>) -> Result<Self, InspectError> {
        Self::read_for(source, &[Architecture::Amd64])
    }

    /// Reads a program for any architecture whose layouts we know.
    pub(crate) fn read_any(source: Arc<CachedSource>) -> Result<Self, InspectError> {
        Self::read_for(source, &[Architecture::Amd64, Architecture::Arm64])
    }

    fn read_for(source: Arc<CachedSource>, architectures: &[Architecture]) -> Result<Self, InspectError> {
        let (header, architecture) = read_header(&source, architectures)?;
        let programs = read_programs(&source, &header)?;
        let mut image = Self {
            architecture,
            segments: programs.iter().filter(|program| program.p_type.get(Le) == elf::PT_LOAD).map(segment).collect(),
            sections: read_sections(&source, &header)?,
            position_independent: header.e_type.get(Le) == elf::ET_DYN,
            notes: programs
                .iter()
                .filter(|program| program.p_type.get(Le) == elf::PT_NOTE)
                .map(|program| (program.p_offset.get(Le), program.p_filesz.get(Le)))
                .collect(),
            relocations: None,
            programs_end: header.e_phoff.get(Le).saturating_add(size_of_val(programs.as_slice()) as u64),
            source,
        };
        // Go's linker puts the GNU build id (go1.24 and later) behind the end of its segment of notes.
        let sections = image.sections.iter().filter(|section| section.kind == elf::SHT_NOTE);
        let of_sections: Vec<_> = sections.map(|section| (section.file_offset, section.size_bytes)).collect();
        image.notes.extend(of_sections);
        if image.position_independent
            && let Some(dynamic) = programs.iter().find(|program| program.p_type.get(Le) == elf::PT_DYNAMIC)
        {
            image.relocations = image.find_relocations(dynamic.p_offset.get(Le), dynamic.p_filesz.get(Le))?;
        }
        Ok(image)
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        let has_bytes = |section: &&Section| section.kind != elf::SHT_NOBITS && section.kind != elf::SHT_NULL;
        self.sections.iter().filter(has_bytes).find(|section| section.name == name)
    }

    /// Whether the symbol table is gone.
    pub(crate) fn stripped(&self) -> bool {
        !self.sections.iter().any(|section| section.kind == elf::SHT_SYMTAB)
    }

    /// Whether a section is one that the Go linker makes, or no section has a name.
    pub(crate) fn may_be_go(&self) -> bool {
        const OF_GO: [&str; 4] = [".note.go.buildid", ".go.buildinfo", ".noptrdata", ".noptrbss"];
        self.sections.is_empty() || self.sections.iter().any(|section| OF_GO.contains(&section.name.as_str()))
    }

    /// Whether UPX packed it: `l_info` (linux.h of UPX) stands behind the program headers, and its second word is this.
    pub(crate) fn packed_by_upx(&self) -> bool {
        let magic = self.source.array("header of a packer", self.programs_end.saturating_add(4));
        magic.is_ok_and(|magic: [u8; 4]| magic == *b"UPX!")
    }

    /// The GNU build id in hex, else the text of Go's own.
    pub(crate) fn build_id(&self) -> Result<Option<String>, InspectError> {
        let mut go = None;
        for &(offset, size_bytes) in &self.notes {
            let bytes = self.source.bytes("ELF notes", offset, size_bytes.min(TABLE_BYTES_MAX))?;
            let mut rest = bytes.as_slice();
            while let Some((note, after)) = next_note(rest) {
                match (note.kind, note.name) {
                    // NT_GNU_BUILD_ID
                    (3, b"GNU") => return Ok(Some(hex(note.content))),
                    // ELF_NOTE_GOBUILDID_TAG in cmd/internal/buildid/note.go
                    (4, b"Go") => go = String::from_utf8(note.content.to_vec()).ok(),
                    _ => {}
                }
                rest = after;
            }
        }
        Ok(go)
    }

    /// The pointer at an address as the program sees it, before the load bias: the addend of the relocation there, else
    /// what the file holds.
    pub(crate) fn pointers<const N: usize>(&self, at: [Svma; N]) -> Result<[u64; N], InspectError> {
        let mut values = [0; N];
        for (value, address) in values.iter_mut().zip(at) {
            *value = self.word(address)?;
        }
        self.each_relative_relocation(|offset, addend| {
            for (value, address) in values.iter_mut().zip(at) {
                if address == offset {
                    *value = addend;
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(values)
    }

    /// Where the byte at an address lies in the file; `None` where no segment takes it from there.
    pub(crate) fn offset_of(&self, at: Svma) -> Option<FileOffset> {
        file_offset(&self.segments, at)
    }

    /// The eight bytes that the file holds for an address.
    pub(crate) fn word(&self, at: Svma) -> Result<u64, InspectError> {
        let offset = file_offset(&self.segments, at)
            .ok_or_else(|| InspectError::malformed("ELF segments", "address of a pointer", at.0))?;
        Ok(u64::from_le_bytes(self.source.array("a pointer", offset.0)?))
    }

    /// Calls `visit` with place and addend of every relocation that adds the load bias to a constant.
    pub(crate) fn each_relative_relocation(
        &self,
        mut visit: impl FnMut(Svma, u64) -> ControlFlow<()>,
    ) -> Result<(), InspectError> {
        let Some((start, size_bytes)) = self.relocations else { return Ok(()) };
        each_entry(&self.source, "ELF relocations", start, size_bytes, |entry: &elf::Rela64<Le>| {
            let relative = entry.r_info.get(Le) == u64::from(elf::R_X86_64_RELATIVE.0);
            let place = Svma(entry.r_offset.get(Le));
            Ok(if relative { visit(place, entry.r_addend.get(Le).cast_unsigned()) } else { ControlFlow::Continue(()) })
        })
    }

    fn find_relocations(&self, offset: u64, size_bytes: u64) -> Result<Option<(u64, u64)>, InspectError> {
        let whole = size_bytes.min(TABLE_BYTES_MAX) / 16 * 16;
        let bytes = self.source.bytes("ELF dynamic table", offset, whole)?;
        let entries = pods::<elf::Dyn64<Le>>("ELF dynamic table", &bytes)?;
        let value = |tag| entries.iter().find(|entry| entry.d_tag.get(Le) == tag).map(|entry| entry.d_val.get(Le));
        let (Some(address), Some(size_bytes)) = (value(elf::DT_RELA), value(elf::DT_RELASZ)) else { return Ok(None) };
        Ok(file_offset(&self.segments, Svma(address)).map(|offset| (offset.0, size_bytes.min(self.source.len()))))
    }
}

/// Where the byte at `svma` lies in the file; `None` where no segment takes it from there.
pub(crate) fn file_offset(segments: &[Segment], svma: Svma) -> Option<FileOffset> {
    segments.iter().find_map(|segment| {
        let within = svma.0.checked_sub(segment.svma.0).filter(|within| *within < segment.file_size_bytes)?;
        segment.file_offset.0.checked_add(within).map(FileOffset)
    })
}

/// At which address the byte of the file goes.
pub(crate) fn address(segments: &[Segment], offset: FileOffset) -> Option<Svma> {
    segments.iter().find_map(|segment| {
        let within = offset.0.checked_sub(segment.file_offset.0).filter(|within| *within < segment.file_size_bytes)?;
        segment.svma.0.checked_add(within).map(Svma)
    })
}

fn read_header(
    source: &CachedSource,
    architectures: &[Architecture],
) -> Result<(elf::FileHeader64<Le>, Architecture), InspectError> {
    const STRUCTURE: &str = "ELF header";
    let mut bytes = [0; size_of::<elf::FileHeader64<Le>>()];
    let read = source.read_up_to(STRUCTURE, 0, &mut bytes)?;
    if read < bytes.len() || !bytes.starts_with(&elf::ELFMAG) {
        return Err(InspectError::NotElf);
    }
    let header = *pod::<elf::FileHeader64<Le>>(STRUCTURE, &bytes)?;
    match header.e_ident.class {
        elf::ELFCLASS64 => {}
        elf::ELFCLASS32 => return Err(InspectError::Elf32),
        other => return Err(InspectError::malformed(STRUCTURE, "class", u64::from(other.0))),
    }
    if header.e_ident.data != elf::ELFDATA2LSB {
        return Err(InspectError::WrongArchitecture { architecture: "a big-endian machine".to_owned() });
    }
    let machine = header.e_machine.get(Le);
    let architecture = match machine {
        elf::EM_X86_64 => Some(Architecture::Amd64),
        elf::EM_AARCH64 => Some(Architecture::Arm64),
        _ => None,
    };
    match architecture.filter(|architecture| architectures.contains(architecture)) {
        Some(architecture) => Ok((header, architecture)),
        None => Err(InspectError::WrongArchitecture { architecture: machine_name(machine.0) }),
    }
}

fn machine_name(machine: u16) -> String {
    // The ports of Go to Linux, by GOARCH.
    match elf::Machine(machine) {
        elf::EM_AARCH64 => "arm64".to_owned(),
        elf::EM_386 => "386".to_owned(),
        elf::EM_ARM => "arm".to_owned(),
        elf::EM_LOONGARCH => "loong64".to_owned(),
        elf::EM_MIPS => "mips".to_owned(),
        elf::EM_PPC64 => "ppc64le".to_owned(),
        elf::EM_RISCV => "riscv64".to_owned(),
        elf::EM_S390 => "s390x".to_owned(),
        _ => format!("machine {machine}"),
    }
}

fn read_programs(
    source: &CachedSource,
    header: &elf::FileHeader64<Le>,
) -> Result<Vec<elf::ProgramHeader64<Le>>, InspectError> {
    const STRUCTURE: &str = "ELF program headers";
    let count = u64::from(header.e_phnum.get(Le));
    if count > SEGMENTS_MAX {
        return Err(InspectError::malformed(STRUCTURE, "count", count));
    }
    let entry_bytes = u64::from(header.e_phentsize.get(Le));
    let expected_bytes = size_of::<elf::ProgramHeader64<Le>>() as u64;
    if count > 0 && entry_bytes != expected_bytes {
        return Err(InspectError::malformed(STRUCTURE, "entry size", entry_bytes));
    }
    let bytes = source.bytes(STRUCTURE, header.e_phoff.get(Le), count * expected_bytes)?;
    Ok(pods(STRUCTURE, &bytes)?.to_vec())
}

fn segment(program: &elf::ProgramHeader64<Le>) -> Segment {
    let flags = program.p_flags.get(Le);
    Segment {
        svma: Svma(program.p_vaddr.get(Le)),
        file_offset: FileOffset(program.p_offset.get(Le)),
        file_size_bytes: program.p_filesz.get(Le),
        memory_size_bytes: program.p_memsz.get(Le),
        executable: flags.0 & elf::PF_X.0 != 0,
        writable: flags.0 & elf::PF_W.0 != 0,
    }
}

fn read_sections(source: &CachedSource, header: &elf::FileHeader64<Le>) -> Result<Vec<Section>, InspectError> {
    const STRUCTURE: &str = "ELF section headers";
    let count = u64::from(header.e_shnum.get(Le));
    // A file may have none (they are not needed to run). Where there are more than 65,279 the number stands elsewhere;
    // no Go linker makes so many, and what we seek is then found through the segments.
    if header.e_shoff.get(Le) == 0 || count == 0 {
        return Ok(Vec::new());
    }
    if count > SECTIONS_MAX {
        return Err(InspectError::malformed(STRUCTURE, "count", count));
    }
    let entry_bytes = u64::from(header.e_shentsize.get(Le));
    let expected_bytes = size_of::<elf::SectionHeader64<Le>>() as u64;
    if entry_bytes != expected_bytes {
        return Err(InspectError::malformed(STRUCTURE, "entry size", entry_bytes));
    }
    let bytes = source.bytes(STRUCTURE, header.e_shoff.get(Le), count * expected_bytes)?;
    let headers = pods::<elf::SectionHeader64<Le>>(STRUCTURE, &bytes)?;
    let names = match headers.get(usize::from(header.e_shstrndx.get(Le).0)) {
        Some(section) => {
            let size_bytes = section.sh_size.get(Le).min(TABLE_BYTES_MAX);
            source.bytes("ELF section names", section.sh_offset.get(Le), size_bytes)?
        }
        None => Vec::new(),
    };
    Ok(headers
        .iter()
        .map(|section| Section {
            name: name_at(&names, section.sh_name.get(Le)),
            kind: section.sh_type.get(Le),
            svma: Svma(section.sh_addr.get(Le)),
            file_offset: section.sh_offset.get(Le),
            size_bytes: section.sh_size.get(Le),
            link: section.sh_link.get(Le),
            compressed: section.sh_flags.get(Le).0 & elf::SHF_COMPRESSED.0 != 0,
        })
        .collect())
}

fn name_at(names: &[u8], offset: u32) -> String {
    // Names of interest are short; a longer one is cut and then equals none of them.
    const NAME_BYTES_MAX: usize = 64;
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = names.get(start..).unwrap_or_default();
    let length = rest.iter().take(NAME_BYTES_MAX).take_while(|byte| **byte != 0).count();
    String::from_utf8_lossy(rest.get(..length).unwrap_or_default()).into_owned()
}

/// One ELF note.
struct Note<'bytes> {
    kind: u32,
    /// Without the zero at its end.
    name: &'bytes [u8],
    content: &'bytes [u8],
}

/// The first note of `bytes`, and what follows it.
fn next_note(bytes: &[u8]) -> Option<(Note<'_>, &[u8])> {
    let (header, rest) = from_bytes::<elf::NoteHeader64<Le>>(bytes).ok()?;
    let (name, rest) = split_padded(rest, header.n_namesz.get(Le))?;
    let (content, rest) = split_padded(rest, header.n_descsz.get(Le))?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some((Note { kind: header.n_type.get(Le).0, name, content }, rest))
}

/// The first `length` bytes, and what follows them after padding to four bytes.
fn split_padded(bytes: &[u8], length: u32) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(length).ok()?;
    let padded = length.checked_next_multiple_of(4)?.min(bytes.len());
    Some((bytes.get(..length)?, bytes.get(padded..)?))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn pod<'bytes, T: Pod>(structure: &'static str, bytes: &'bytes [u8]) -> Result<&'bytes T, InspectError> {
    let short = |()| InspectError::malformed(structure, "length", bytes.len() as u64);
    from_bytes(bytes).map(|(value, _)| value).map_err(short)
}

/// Calls `visit` with each whole entry of a table, in order, until it breaks. Read in pieces, so that the memory taken does not
/// depend on the table's size.
pub(super) fn each_entry<T: Pod>(
    source: &CachedSource,
    structure: &'static str,
    start: u64,
    size_bytes: u64,
    mut visit: impl FnMut(&T) -> Result<ControlFlow<()>, InspectError>,
) -> Result<(), InspectError> {
    const CHUNK_ENTRIES: u64 = 512;
    let entry_bytes = size_of::<T>() as u64;
    let whole = size_bytes / entry_bytes * entry_bytes;
    let mut done = 0;
    while done < whole {
        let length_bytes = (CHUNK_ENTRIES * entry_bytes).min(whole - done);
        let bytes = source.bytes(structure, start.saturating_add(done), length_bytes)?;
        for entry in pods::<T>(structure, &bytes)? {
            if visit(entry)?.is_break() {
                return Ok(());
            }
        }
        done += length_bytes;
    }
    Ok(())
}

fn pods<'bytes, T: Pod>(structure: &'static str, bytes: &'bytes [u8]) -> Result<&'bytes [T], InspectError> {
    slice_from_all_bytes(bytes).map_err(|()| InspectError::malformed(structure, "length", bytes.len() as u64))
}
