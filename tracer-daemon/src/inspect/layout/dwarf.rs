//! What a program's own DWARF says: members of structures, addresses of variables, values of constants.
//!
//! Go's linker writes one unit for each package, and all types of the program into one more unit, whose name is `runtime`
//! too (`dwarfGenerateDebugInfo` in cmd/link/internal/ld/dwarf.go). So only units named `runtime` or `internal/abi` are
//! looked at, one at a time: the rest of the section streams past. Every number is the file's claim: bytes, units and steps
//! are bounded, and a bound that is hit is an error.

use std::collections::{BTreeMap, BTreeSet};

use gimli::{
    Abbreviations, Attribute, AttributeValue, DebugAbbrev, DebugInfo, EndianSlice, EntriesRaw, LittleEndian, Operation,
    UnitHeader, UnitOffset,
};

use super::LayoutError;
use super::sections::SectionStream;
use crate::addr::Svma;
use crate::inspect::elf::ElfImage;
use crate::inspect::source::{u32_in, u64_in};

/// Most bytes of one unit. The types of promtool 3.8 (84 MB) take 4.2 MB.
const UNIT_BYTES_MAX: u64 = 32 << 20;
/// Most bytes of all units that are looked at, with what is read beside each of them.
const UNITS_BYTES_MAX: u64 = 64 << 20;
/// Most units: one per package, and one per C file under external linking. promtool has 888.
const UNITS_MAX: usize = 1 << 17;
/// Most bytes of `.debug_info`, decompressed. promtool has 22 MB.
const INFO_BYTES_MAX: u64 = 512 << 20;
/// Most bytes of `.debug_abbrev`. Go writes about 350; C compilers about 1 KB a file.
const ABBREVIATIONS_BYTES_MAX: u64 = 1 << 20;
/// Most bytes of `.debug_addr`. promtool has 154 KB.
const ADDRESSES_BYTES_MAX: u64 = 4 << 20;
/// Attributes and members that are read: the unit of types of promtool has 1.4 million.
const STEPS_MAX: u64 = 1 << 25;
/// How far the name of a unit can be from its beginning: header, one abbreviation code.
const NAME_WITHIN_BYTES: usize = 32;
/// Names of the units that are looked at.
const UNIT_NAMES: [&[u8]; 2] = [b"runtime", b"internal/abi"];
/// Links of typedefs that are followed.
const TYPEDEFS_MAX: usize = 16;

type Bytes<'unit> = EndianSlice<'unit, LittleEndian>;

/// What to look for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted<'names> {
    /// Structures and their members; a dot leads into a member that is a structure itself.
    pub(crate) structures: BTreeMap<&'names str, BTreeSet<&'names str>>,
    /// Variables.
    pub(crate) globals: BTreeSet<&'names str>,
    /// Constants.
    pub(crate) constants: BTreeSet<&'names str>,
}

/// What was found; what is not there is not in the DWARF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) structures: BTreeMap<String, Structure>,
    pub(crate) globals: BTreeMap<String, Svma>,
    pub(crate) constants: BTreeMap<String, u64>,
}

/// One structure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Structure {
    pub(crate) size_bytes: u64,
    /// By path.
    pub(crate) members: BTreeMap<String, Member>,
}

/// One member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// From the beginning of the structure that the path begins in.
    pub(crate) offset_bytes: u64,
    /// `None` where its type does not say.
    pub(crate) size_bytes: Option<u64>,
    /// `None` where it is no array.
    pub(crate) elements: Option<u64>,
}

/// The addresses of variables by name (`runtime.mheap_`), before the load bias. A name that is not in the answer has no
/// address in the DWARF: it does not exist, or the linker left it out.
///
/// # Errors
/// Where there is no DWARF, or it cannot be read.
pub(crate) fn globals(image: &ElfImage, names: &[&str]) -> Result<BTreeMap<String, Svma>, LayoutError> {
    let wanted = Wanted { globals: names.iter().copied().collect(), ..Wanted::default() };
    Ok(find(image, &wanted)?.globals)
}

/// Looks for all of `wanted` in one pass, which ends early where everything is found.
///
/// # Errors
/// As [`globals`].
pub(crate) fn find(image: &ElfImage, wanted: &Wanted<'_>) -> Result<Found, LayoutError> {
    let mut found = Found::default();
    let mut info = SectionStream::open(image, "info")?.ok_or(LayoutError::NoDwarf)?;
    let abbreviations = SectionStream::open(image, "abbrev")?.ok_or(LayoutError::NoDwarf)?;
    let abbreviations = abbreviations.whole(".debug_abbrev", ABBREVIATIONS_BYTES_MAX)?;
    if info.size_bytes > INFO_BYTES_MAX {
        return Err(LayoutError::TooLarge { what: ".debug_info", size: info.size_bytes, limit: INFO_BYTES_MAX });
    }
    let mut limits = Limits { steps: 0, bytes: 0 };
    let mut unit = Vec::new();
    for _ in 0..UNITS_MAX {
        let start = info.position;
        if start >= info.size_bytes || found.has_all(wanted) {
            return Ok(found);
        }
        if next_unit(&mut info, &mut unit, &mut limits)?
            && let Some(unit) = Unit::open(&unit, start, &abbreviations, &mut limits)?
        {
            unit.search(image, wanted, &mut limits, &mut found)?;
        }
    }
    Err(LayoutError::TooLarge { what: "number of units", size: UNITS_MAX as u64 + 1, limit: UNITS_MAX as u64 })
}

impl Found {
    fn has_all(&self, wanted: &Wanted<'_>) -> bool {
        self.structures.len() == wanted.structures.len()
            && self.globals.len() == wanted.globals.len()
            && self.constants.len() == wanted.constants.len()
    }
}

/// What has been spent so far.
struct Limits {
    steps: u64,
    bytes: u64,
}

impl Limits {
    fn step(&mut self, count: usize) -> Result<(), LayoutError> {
        self.steps = self.steps.saturating_add(count as u64).saturating_add(1);
        if self.steps <= STEPS_MAX {
            return Ok(());
        }
        Err(LayoutError::TooLarge { what: "number of attributes", size: self.steps, limit: STEPS_MAX })
    }

    fn bytes(&mut self, count: u64) -> Result<(), LayoutError> {
        self.bytes = self.bytes.saturating_add(count);
        if self.bytes <= UNITS_BYTES_MAX {
            return Ok(());
        }
        Err(LayoutError::TooLarge { what: "units of the runtime", size: self.bytes, limit: UNITS_BYTES_MAX })
    }
}

/// Reads the next unit into `unit` where its name can be one of ours, else goes over it.
fn next_unit(info: &mut SectionStream<'_>, unit: &mut Vec<u8>, limits: &mut Limits) -> Result<bool, LayoutError> {
    unit.clear();
    info.append(unit, 4)?;
    let length_bytes = u64::from(u32_in(unit, 0).unwrap_or_default());
    // 64-bit DWARF, which Go does not write: the true length would follow.
    if length_bytes >= 0xffff_fff0 {
        return Err(LayoutError::TooLarge { what: "unit", size: length_bytes, limit: UNIT_BYTES_MAX });
    }
    let head = usize::try_from(length_bytes).unwrap_or(NAME_WITHIN_BYTES).min(NAME_WITHIN_BYTES);
    info.append(unit, head)?;
    let rest = length_bytes.saturating_sub(head as u64);
    let named = |name: &&[u8]| {
        let mut windows = unit.windows(name.len() + 1);
        windows.any(|window| window.split_last().is_some_and(|(end, start)| *end == 0 && start == *name))
    };
    if !UNIT_NAMES.iter().any(named) {
        info.skip(rest)?;
        return Ok(false);
    }
    if length_bytes > UNIT_BYTES_MAX {
        return Err(LayoutError::TooLarge { what: "unit of the runtime", size: length_bytes, limit: UNIT_BYTES_MAX });
    }
    limits.bytes(length_bytes)?;
    info.append(unit, usize::try_from(rest).unwrap_or_default())?;
    Ok(true)
}

/// One unit of `.debug_info` in memory.
struct Unit<'unit> {
    header: UnitHeader<Bytes<'unit>>,
    abbreviations: Abbreviations,
    /// Where it begins in the section: what references count from.
    start: u64,
    /// `DW_AT_addr_base`: where its part of `.debug_addr` begins.
    addresses: Option<u64>,
}

/// A read entry: its attributes of interest.
#[derive(Clone, Copy, Debug, Default)]
struct Entry<'unit> {
    tag: Option<gimli::DwTag>,
    name: Option<&'unit [u8]>,
    has_children: bool,
    size_bytes: Option<u64>,
    member_offset: Option<u64>,
    elements: Option<u64>,
    value: Option<u64>,
    type_: Option<UnitOffset>,
    location: Option<Bytes<'unit>>,
    addresses: Option<u64>,
}

impl<'unit> Unit<'unit> {
    /// `None` where it is not one of ours after all.
    fn open(
        bytes: &'unit [u8],
        start: u64,
        abbreviations: &'unit [u8],
        limits: &mut Limits,
    ) -> Result<Option<Self>, LayoutError> {
        let Some(header) = DebugInfo::new(bytes, LittleEndian).units().next()? else { return Ok(None) };
        // At most so many: a table ends where it says so.
        limits.bytes(abbreviations.len() as u64)?;
        let abbreviations = header.abbreviations(&DebugAbbrev::new(abbreviations, LittleEndian))?;
        let mut unit = Self { header, abbreviations, start, addresses: None };
        let root = unit.entry(&mut unit.entries(None)?, limits)?;
        if !root.name.is_some_and(|name| UNIT_NAMES.contains(&name)) {
            return Ok(None);
        }
        unit.addresses = root.addresses;
        Ok(Some(unit))
    }

    /// The entries from a place on, or all.
    fn entries(&self, from: Option<UnitOffset>) -> Result<EntriesRaw<'_, '_, Bytes<'unit>>, LayoutError> {
        Ok(self.header.entries_raw(&self.abbreviations, from)?)
    }

    /// Looks at the entries right below the unit.
    fn search(
        &self,
        image: &ElfImage,
        wanted: &Wanted<'_>,
        limits: &mut Limits,
        found: &mut Found,
    ) -> Result<(), LayoutError> {
        let mut entries = self.entries(None)?;
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset());
            let Some(abbreviation) = entries.read_abbreviation()? else {
                limits.step(0)?;
                continue;
            };
            let interesting = matches!(
                abbreviation.tag(),
                gimli::DW_TAG_structure_type | gimli::DW_TAG_variable | gimli::DW_TAG_constant
            );
            if depth != 1 || !interesting {
                limits.step(abbreviation.attributes().len())?;
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let entry = self.attributes(&mut entries, abbreviation, limits)?;
            let Some(name) = entry.name.and_then(|name| str::from_utf8(name).ok()) else { continue };
            match abbreviation.tag() {
                gimli::DW_TAG_structure_type if !found.structures.contains_key(name) => {
                    if let (Some(paths), Some(size_bytes)) = (wanted.structures.get(name), entry.size_bytes) {
                        let mut members = BTreeMap::new();
                        for path in paths {
                            if let Some(member) = self.member(limits, offset, size_bytes, path)? {
                                members.insert((*path).to_owned(), member);
                            }
                        }
                        found.structures.insert(name.to_owned(), Structure { size_bytes, members });
                    }
                }
                gimli::DW_TAG_variable if wanted.globals.contains(name) && !found.globals.contains_key(name) => {
                    if let Some(address) = self.address(image, &entry, limits)? {
                        found.globals.insert(name.to_owned(), address);
                    }
                }
                gimli::DW_TAG_constant if wanted.constants.contains(name) => {
                    found.constants.extend(entry.value.map(|value| (name.to_owned(), value)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The member at the end of a path.
    fn member(
        &self,
        limits: &mut Limits,
        structure: UnitOffset,
        size_bytes: u64,
        path: &str,
    ) -> Result<Option<Member>, LayoutError> {
        let (mut at, mut offset_bytes) = (structure, 0_u64);
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let Some(member) = self.child(limits, at, |entry| {
                entry.tag == Some(gimli::DW_TAG_member) && entry.name == Some(name.as_bytes())
            })?
            else {
                return Ok(None);
            };
            let (Some(within), Some(type_)) = (member.member_offset, member.type_) else { return Ok(None) };
            offset_bytes = offset_bytes.saturating_add(within);
            let (offset, entry) = self.resolved(limits, type_)?;
            if names.peek().is_some() {
                at = offset;
                continue;
            }
            let elements = match entry.tag {
                Some(gimli::DW_TAG_array_type) => {
                    let subrange = |entry: &Entry<'_>| entry.tag == Some(gimli::DW_TAG_subrange_type);
                    self.child(limits, offset, subrange)?.and_then(|range| range.elements)
                }
                _ => None,
            };
            let pointer = entry.tag == Some(gimli::DW_TAG_pointer_type);
            let width = entry.size_bytes.or_else(|| pointer.then(|| u64::from(self.header.address_size())));
            let end = offset_bytes.saturating_add(width.unwrap_or_default());
            if end > size_bytes {
                return Err(LayoutError::TooLarge { what: "end of a member", size: end, limit: size_bytes });
            }
            return Ok(Some(Member { offset_bytes, size_bytes: width, elements }));
        }
        Ok(None)
    }

    /// The first child of the entry at `parent` that fits.
    fn child(
        &self,
        limits: &mut Limits,
        parent: UnitOffset,
        fits: impl Fn(&Entry<'unit>) -> bool,
    ) -> Result<Option<Entry<'unit>>, LayoutError> {
        let mut entries = self.entries(Some(parent))?;
        if !self.entry(&mut entries, limits)?.has_children {
            return Ok(None);
        }
        while entries.next_depth() > 0 {
            let depth = entries.next_depth();
            let Some(abbreviation) = entries.read_abbreviation()? else {
                limits.step(0)?;
                continue;
            };
            let entry = self.attributes(&mut entries, abbreviation, limits)?;
            if depth == 1 && fits(&entry) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The type itself behind its names.
    fn resolved(&self, limits: &mut Limits, type_: UnitOffset) -> Result<(UnitOffset, Entry<'unit>), LayoutError> {
        let mut at = type_;
        for _ in 0..TYPEDEFS_MAX {
            limits.step(0)?;
            let entry = self.entry(&mut self.entries(Some(at))?, limits)?;
            match (entry.tag, entry.type_) {
                (Some(gimli::DW_TAG_typedef), Some(next)) => at = next,
                _ => return Ok((at, entry)),
            }
        }
        Err(LayoutError::TooLarge {
            what: "chain of typedefs",
            size: TYPEDEFS_MAX as u64 + 1,
            limit: TYPEDEFS_MAX as u64,
        })
    }

    /// Where a variable is; `None` where its location is no plain address.
    fn address(
        &self,
        image: &ElfImage,
        entry: &Entry<'unit>,
        limits: &mut Limits,
    ) -> Result<Option<Svma>, LayoutError> {
        let Some(mut location) = entry.location else { return Ok(None) };
        let operation = Operation::parse(&mut location, self.header.encoding())?;
        if !location.is_empty() {
            return Ok(None);
        }
        match operation {
            Operation::Address { address } => Ok(Some(Svma(address))),
            Operation::AddressIndex { index } => self.indexed_address(image, index.0 as u64, limits),
            _ => Ok(None),
        }
    }

    /// The entry of `.debug_addr` (DWARF 5).
    fn indexed_address(&self, image: &ElfImage, index: u64, limits: &mut Limits) -> Result<Option<Svma>, LayoutError> {
        let (Some(base), Some(section)) = (self.addresses, SectionStream::open(image, "addr")?) else {
            return Ok(None);
        };
        limits.bytes(section.size_bytes)?;
        let bytes = section.whole(".debug_addr", ADDRESSES_BYTES_MAX)?;
        let at = usize::try_from(base.saturating_add(index.saturating_mul(8))).unwrap_or(usize::MAX);
        Ok(u64_in(&bytes, at).map(Svma))
    }

    /// The entry that comes next; one without tag where it is the end of a list.
    fn entry(
        &self,
        entries: &mut EntriesRaw<'_, '_, Bytes<'unit>>,
        limits: &mut Limits,
    ) -> Result<Entry<'unit>, LayoutError> {
        let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(Entry::default()) };
        self.attributes(entries, abbreviation, limits)
    }

    fn attributes(
        &self,
        entries: &mut EntriesRaw<'_, '_, Bytes<'unit>>,
        abbreviation: &gimli::Abbreviation,
        limits: &mut Limits,
    ) -> Result<Entry<'unit>, LayoutError> {
        limits.step(abbreviation.attributes().len())?;
        let tag = Some(abbreviation.tag());
        let mut entry = Entry { tag, has_children: abbreviation.has_children(), ..Entry::default() };
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            match attribute.name() {
                gimli::DW_AT_name => {
                    if let AttributeValue::String(name) = attribute.raw_value() {
                        entry.name = Some(name.slice());
                    }
                }
                gimli::DW_AT_byte_size => entry.size_bytes = attribute.udata_value(),
                gimli::DW_AT_data_member_location => entry.member_offset = attribute.udata_value(),
                gimli::DW_AT_count => entry.elements = attribute.udata_value(),
                gimli::DW_AT_const_value => entry.value = attribute.udata_value(),
                gimli::DW_AT_type => entry.type_ = self.reference(&attribute),
                gimli::DW_AT_location => entry.location = attribute.exprloc_value().map(|expression| expression.0),
                gimli::DW_AT_addr_base => {
                    if let AttributeValue::DebugAddrBase(base) = attribute.value() {
                        entry.addresses = Some(base.0 as u64);
                    }
                }
                _ => {}
            }
        }
        Ok(entry)
    }

    /// A reference to an entry of this unit: Go refers to types by their place in the section.
    fn reference(&self, attribute: &Attribute<Bytes<'unit>>) -> Option<UnitOffset> {
        match attribute.value() {
            AttributeValue::UnitRef(offset) => Some(offset),
            AttributeValue::DebugInfoRef(offset) => (offset.0 as u64)
                .checked_sub(self.start)
                .and_then(|offset| usize::try_from(offset).ok())
                .map(UnitOffset),
            _ => None,
        }
    }
}
