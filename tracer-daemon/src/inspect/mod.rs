//! What is this binary: Go version, layout, functions, lines?
//!
//! Owns the reading of ELF files and of what the Go linker puts into them: build info, function table, module data.
//! One [`BinaryFacts`] per binary, shared by all processes that run it. Reads the file only, never a process; trusts
//! no number in it: every count is bounded and every offset checked, and a file cut short under us is an error.
//! Refuses what is not a supported Go program with an [`InspectError`] that says what it is instead.
//! Counterpart: `symbolize`, which names addresses by the function table found here.

mod build_info;
mod build_version;
pub mod cache;
mod elf;
mod error;
mod function_table;
mod functions;
mod globals;
mod inlined;
pub mod layout;
mod module_data;
mod native;
mod pc_values;
pub mod source;
mod symbols;
mod version;

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

pub use self::elf::{Architecture, Segment};
pub use self::error::InspectError;
pub use self::function_table::{FileName, FunctionName, FunctionRecord, FunctionTable, InlinedCall};
pub use self::functions::{CODE_BYTES_MAX, FunctionCode};
pub use self::globals::{FoundBy, Global, GlobalAddress, GlobalMissing, Globals};
pub use self::layout::{LayoutError, LayoutSource, RuntimeLayout};
pub use self::native::NativeImage;
pub use self::pc_values::StepBudget;
pub use self::version::{FunctionIds, GoVersion};

use self::build_info::BuildInfo;
use self::elf::ElfImage;
use self::module_data::TableHeader;
use self::source::{ByteSource, CachedSource, FileSource};
use self::version::{Release, Support};
use crate::addr::{FileOffset, Svma};

/// All that later stages need to know about one Go binary.
#[derive(Clone, Debug)]
pub struct BinaryFacts {
    /// Which Go built it.
    pub go_version: GoVersion,
    /// Where the version stands. Without build info, main module, main package and settings are not known.
    pub version_source: VersionSource,
    /// The GNU build id in hex, else Go's own as text; `None` where the binary carries neither.
    pub build_id: Option<String>,
    /// The module whose packages are the user's own: the `mod` line of the build info, else the repository prefix of
    /// `package_path` (`github.com/x/y`). `None`: only package `main` is known to be.
    pub main_module: Option<String>,
    /// Its version as the `mod` line has it, `(devel)` for a working copy; `None` where it does not say.
    pub main_version: Option<String>,
    /// The main package (`path` line of the build info); `None` where the build info does not say.
    pub package_path: Option<String>,
    /// The settings of the build (`build` lines): `CGO_ENABLED`, `-buildmode`, …
    pub settings: Vec<(String, String)>,
    /// Whether there is no `.symtab`.
    pub stripped: bool,
    /// Whether the loader may put it anywhere.
    pub position_independent: bool,
    /// Whether package runtime/cgo is linked, so that stacks can hold C frames.
    pub cgo: bool,
    /// The `PT_LOAD` segments.
    pub segments: Vec<Segment>,
    /// The runtime functions that later stages decode, by name. A name stands for two functions where one of them
    /// translates between calling conventions. What is not there is not in the binary (not linked, or inlined).
    pub functions: BTreeMap<String, Vec<FunctionCode>>,
    /// Into which functions the compiler put the bodies of the runtime's allocator and of those in `functions`: by name.
    /// What is not here was inlined nowhere.
    pub inlined: BTreeMap<String, Vec<String>>,
    /// Where the runtime's variables are.
    pub globals: Globals,
    /// Where things lie in the runtime's structures.
    pub layout: RuntimeLayout,
    /// Who says so.
    pub layout_source: LayoutSource,
    /// Names, files and lines of all addresses.
    pub functions_table: FunctionTable,
}

/// Where the Go version of a binary stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSource {
    /// In the build info.
    BuildInfo,
    /// In the variable `runtime.buildVersion`; the build info was removed.
    RuntimeVariable,
}

impl BinaryFacts {
    /// Whether the runtime keeps a heap profile of its own: the linker turns the sampler off (`disableMemoryProfiling` in
    /// cmd/link/internal/ld) in programs in which this function cannot be reached.
    pub fn sampler_linked(&self) -> bool {
        let reads_profile =
            if self.go_version.minor >= 23 { "runtime.memProfileInternal" } else { "runtime.MemProfile" };
        self.functions.contains_key(reads_profile)
    }

    /// Where the byte at an address lies in the file; `None` where no segment takes it from there.
    pub fn file_offset(&self, svma: Svma) -> Option<FileOffset> {
        elf::file_offset(&self.segments, svma)
    }
}

/// Inspects a file, such as one opened from `/proc/PID/exe`. Reads every function's
/// name once: about 5 ms for the go command (14,000 functions), 0.1 s for kubectl (80,000), in a release build.
///
/// # Errors
/// Where the file cannot be read, is malformed, or is not a supported Go program.
pub fn inspect_file(file: File) -> Result<BinaryFacts, InspectError> {
    inspect_source(Box::new(FileSource::new(file)?))
}

/// As [`inspect_file`], for bytes from anywhere.
///
/// # Errors
/// As [`inspect_file`].
pub fn inspect_source(source: Box<dyn ByteSource>) -> Result<BinaryFacts, InspectError> {
    inspect_source_within(source, source::INSPECTION_COST_MAX)
}

/// As [`inspect_source`], with another bound on the bytes that are read.
///
/// # Errors
/// As [`inspect_file`].
pub fn inspect_source_within(source: Box<dyn ByteSource>, cost_max: u64) -> Result<BinaryFacts, InspectError> {
    let source = Arc::new(CachedSource::new(source, cost_max));
    let image = ElfImage::read(Arc::clone(&source))?;
    let (info, version_source, found) = match BuildInfo::read(&image)? {
        Some(info) => (info, VersionSource::BuildInfo, None),
        None if image.packed_by_upx() => return Err(InspectError::Packed { packer: "UPX" }),
        None => match version_of_runtime(&image)? {
            Some((info, header)) => (info, VersionSource::RuntimeVariable, Some(header)),
            None => return Err(InspectError::NotGo),
        },
    };
    let (go_version, support) = version::supported(&info.version)?;
    let (release, layout, layout_source) = layout_of(&image, &go_version, support)?;
    let header = match found.map_or_else(|| module_data::find_table(&image, true), |header| Ok(Some(header))) {
        Ok(header) => header.ok_or_else(|| InspectError::malformed("go function table", "number of tables", 0))?,
        // A later version may write another table.
        Err(InspectError::Malformed { .. }) if layout_source == LayoutSource::Dwarf => {
            return Err(version::unsupported(&info.version));
        }
        Err(error) => return Err(error),
    };
    let module = module_data::read_module(&image, &header, layout.moduledata)?;
    let minor = go_version.minor;
    let table = FunctionTable::new(Arc::clone(&source), image.segments.clone(), header, module, release);
    let found = functions::find(&image, &table)?;
    // The rules were tried with known releases only.
    let rules_hold = layout_source == LayoutSource::Table;
    let code = if rules_hold { &found.of_rules } else { &BTreeMap::new() };
    let context = globals::Context { image: &image, module: &module, minor, code };
    let globals = globals::find(&context)?;
    let build_id = image.build_id()?;
    source.rest();
    Ok(BinaryFacts {
        go_version,
        version_source,
        build_id,
        main_module: info.main_module(),
        main_version: info.module_version.clone(),
        package_path: info.package_path,
        settings: info.settings,
        stripped: image.stripped(),
        position_independent: image.position_independent,
        cgo: found.cgo,
        segments: image.segments,
        functions: found.functions,
        inlined: found.inlined,
        globals,
        layout,
        layout_source,
        functions_table: table,
    })
}

/// The layout of a known release from the table, else from the program's own DWARF.
fn layout_of(
    image: &ElfImage,
    version: &GoVersion,
    support: Support,
) -> Result<(Release, RuntimeLayout, LayoutSource), InspectError> {
    let release = match support {
        Support::Known(release) => {
            let layout = layout::known(release.minor, image.architecture);
            let layout = layout.ok_or_else(|| version::unsupported(&version.text))?;
            return Ok((release, layout, LayoutSource::Table));
        }
        Support::OnlyWithDwarf(release) => release,
    };
    let unusable = |error| InspectError::UnusableDwarf {
        version: version.text.clone(),
        newest_minor: version::newest_minor(),
        source: Box::new(error),
    };
    match layout::from_dwarf(image) {
        Ok((mut layout, function_ids)) => {
            if version::is_without_malloc_headers(version) {
                layout.constants.malloc_header_bytes = None;
            }
            layout::has_what_the_newest_has(version.minor, image.architecture, &layout).map_err(unusable)?;
            Ok((Release { function_ids, ..release }, layout, LayoutSource::Dwarf))
        }
        Err(LayoutError::NoDwarf)
            if layout::known(version.minor, image.architecture).is_some() && version.patch.is_some() =>
        {
            Err(InspectError::UnsupportedExperiment { version: version.text.clone() })
        }
        Err(LayoutError::NoDwarf) => Err(version::unsupported(&version.text)),
        Err(error) => Err(unusable(error)),
    }
}

/// The version and the function table of a program whose build info was removed. `None`: not a Go program.
fn version_of_runtime(image: &ElfImage) -> Result<Option<(BuildInfo, TableHeader)>, InspectError> {
    // Looking for a table where no section has its name means reading the whole file: not for what does not look like Go.
    let Some(header) = module_data::find_table(image, image.may_be_go())? else { return Ok(None) };
    let unreadable = || InspectError::UnreadableGoVersion { found: String::new() };
    // Which one does not matter yet: only names and places are asked of this table, and `text` stands at the same place
    // in the module data of all versions. The other fields do not, so `text` is read for them.
    let [release, ..] = version::RELEASES;
    let known = layout::known(release.minor, image.architecture).ok_or_else(unreadable)?.moduledata;
    let text = known.text;
    let layout = layout::ModuleLayout {
        gofunc: text,
        noptrdata: text,
        enoptrdata: text,
        data: text,
        edata: text,
        bss: text,
        ebss: text,
        noptrbss: text,
        enoptrbss: text,
        ..known
    };
    let module = module_data::read_module(image, &header, layout)?;
    let table = FunctionTable::new(Arc::clone(&image.source), image.segments.clone(), header, module, release);
    let version = build_version::read(image, &table)?.ok_or_else(unreadable)?;
    Ok(Some((BuildInfo { version, ..BuildInfo::default() }, header)))
}
