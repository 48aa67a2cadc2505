//! Where things lie in the structures of Go's runtime, by version and architecture.
//!
//! Two sources: [`known`], a table made from the DWARF of programs built by each release (`cargo xtask codegen layouts`), and
//! `from_dwarf`, the DWARF of the program at hand, for releases that the table does not have. `fields.rs` is the one list of
//! what is read; both sources give all of it or nothing.

mod dwarf;
mod fields;
mod sections;
mod table;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;

use self::fields::wanted;
pub use self::fields::*;

use super::InspectError;
use super::build_info::BuildInfo;
use super::elf::{Architecture, ElfImage};
use super::source::{CachedSource, FileSource, INSPECTION_COST_MAX};
use super::version::FunctionIds;

pub(crate) use self::dwarf::globals;

/// Where a binary's layout comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayoutSource {
    /// The table of known releases.
    Table,
    /// Its own DWARF.
    Dwarf,
}

impl LayoutSource {
    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Dwarf => "dwarf",
        }
    }
}

/// Why DWARF gives no layout.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// There are no debug sections.
    #[error("it has no DWARF")]
    NoDwarf,
    /// The file cannot be read.
    #[error("its DWARF cannot be read")]
    Io(#[from] Box<InspectError>),
    /// A debug section ends early, or is not what a compressor wrote.
    #[error("a debug section cannot be read after {offset} bytes")]
    Section {
        /// Bytes read before.
        offset: u64,
        /// What is wrong.
        source: io::Error,
    },
    /// A debug section is compressed by another method than zlib.
    #[error("a debug section is compressed by method {kind:#x}, and only zlib is supported")]
    Compression {
        /// The number of the method; 2 is zstd.
        kind: u32,
    },
    /// The DWARF contradicts the format.
    #[error("its DWARF is malformed: {0}")]
    Malformed(#[from] gimli::Error),
    /// A number exceeds our bound.
    #[error("{what} in its DWARF is {size}, more than {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// As found.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// Something is not there that every known version has.
    #[error("its DWARF has no {structure}, or not its {field}")]
    Missing {
        /// The name in Go, alternatives behind `|`; empty for a constant.
        structure: &'static str,
        /// Our name of the field.
        field: &'static str,
    },
    /// A member is not as wide as in every known version.
    #[error("its DWARF gives {structure} a member {field} of {found_bytes} bytes instead of {expected_bytes}")]
    Width {
        /// As in [`Self::Missing`].
        structure: &'static str,
        /// The path in Go, alternatives behind `|`.
        field: &'static str,
        /// Bytes in every known version.
        expected_bytes: u64,
        /// Bytes here; 0 where the DWARF does not say.
        found_bytes: u64,
    },
    /// The numbers contradict each other.
    #[error("its layout is not plausible: {what}")]
    Implausible {
        /// What contradicts what.
        what: &'static str,
    },
}

impl From<InspectError> for LayoutError {
    fn from(error: InspectError) -> Self {
        Self::Io(Box::new(error))
    }
}

/// One row of the generated table.
#[derive(Clone, Copy, Debug)]
struct Row {
    minor: u32,
    architecture: Architecture,
    /// The releases that it was made from and is right for.
    toolchains: &'static [&'static str],
    layout: RuntimeLayout,
}

/// The layout of all releases of a minor version: 26 is go1.26. `None` means that there is no row.
pub fn known(minor: u32, architecture: Architecture) -> Option<RuntimeLayout> {
    table::ROWS.iter().find(|row| (row.minor, row.architecture) == (minor, architecture)).map(|row| row.layout)
}

/// The releases that the row of a minor version was made from; empty where there is no row.
pub fn toolchains(minor: u32, architecture: Architecture) -> &'static [&'static str] {
    let row = table::ROWS.iter().find(|row| (row.minor, row.architecture) == (minor, architecture));
    row.map(|row| row.toolchains).unwrap_or_default()
}

/// What a program's own DWARF says: the layout, and the numbers of functions, which a version that we do not know must tell
/// as well.
///
/// # Errors
/// Where there is no DWARF, it cannot be read, or something is missing from it.
pub(crate) fn from_dwarf(image: &ElfImage) -> Result<(RuntimeLayout, FunctionIds), LayoutError> {
    let mut wanted = wanted();
    wanted.constants.extend(FunctionIds::constants());
    let found = dwarf::find(image, &wanted)?;
    let id = |name: &str| found.constants.get(name).and_then(|id| u8::try_from(*id).ok());
    let missing = LayoutError::Missing { structure: "internal/abi", field: "FuncID" };
    let layout = RuntimeLayout::of(&found)?;
    plausible(&layout)?;
    Ok((layout, FunctionIds::from_constants(id).ok_or(missing)?))
}

/// An error where a newer release lacks a field that the newest known one has: it was renamed, and absent would be taken
/// for an older release.
pub(super) fn has_what_the_newest_has(
    minor: u32,
    architecture: Architecture,
    found: &RuntimeLayout,
) -> Result<(), LayoutError> {
    let newest = table::ROWS.iter().filter(|row| row.architecture == architecture).max_by_key(|row| row.minor);
    let Some(newest) = newest.filter(|newest| newest.minor < minor) else { return Ok(()) };
    for (known, found) in newest.layout.sources().into_iter().zip(found.sources()) {
        let mut fields = known.fields.iter().zip(&found.fields);
        if let Some(((field, _), _)) =
            fields.find(|((_, known), (_, found))| known.starts_with("Some") && found == "None")
        {
            return Err(LayoutError::Missing { structure: known.type_name, field });
        }
    }
    Ok(())
}

/// Relations that hold in every known version.
fn plausible(layout: &RuntimeLayout) -> Result<(), LayoutError> {
    let header = layout.constants.malloc_header_bytes;
    let relations = [
        // Both came with go1.22 (runtime/mheap.go, runtime/malloc.go).
        (header.is_some() == layout.mspan.large_type.is_some(), "malloc headers and the type of large objects"),
        (matches!(header, None | Some(8)), "bytes of a malloc header"),
        // mallocgc and stack checks read them at these places (cmd/internal/obj/x86/obj6.go, cmd/internal/objabi/stack.go).
        (layout.g.stack_lo == 0 && layout.g.stack_hi == 8, "bounds of a goroutine's stack"),
        (layout.mem_record.active == 0, "published counts of a memory bucket"),
        (layout.special_profile.bucket == layout.special.size_bytes, "special and profile special"),
        (layout.mem_record.future == layout.mem_record_cycle.size_bytes, "memory record and memory cycle"),
        (layout.mcache.alloc_count == layout.heap_stats_delta.size_classes.saturating_mul(2), "size and span classes"),
    ];
    match relations.into_iter().find(|(holds, _)| !holds) {
        Some((_, what)) => Err(LayoutError::Implausible { what }),
        None => Ok(()),
    }
}

/// A program's release and what its DWARF says: what the table is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramLayout {
    /// As the build info states it.
    pub version: String,
    /// Which processor it is for.
    pub architecture: Architecture,
    /// All numbers.
    pub layout: RuntimeLayout,
    /// The numbers of the functions that stack walks treat apart.
    pub function_ids: FunctionIds,
}

/// Reads the DWARF of a program, whichever version built it.
///
/// # Errors
/// Where the file is no Go program with build info, or where its DWARF does not tell all.
pub fn of_program(file: File) -> Result<ProgramLayout, LayoutError> {
    let source = FileSource::new(file)?;
    let image = ElfImage::read_any(Arc::new(CachedSource::new(Box::new(source), INSPECTION_COST_MAX)))?;
    let info = BuildInfo::read(&image)?.ok_or(InspectError::NotGo)?;
    let (layout, function_ids) = from_dwarf(&image)?;
    Ok(ProgramLayout { version: info.version, architecture: image.architecture, layout, function_ids })
}
