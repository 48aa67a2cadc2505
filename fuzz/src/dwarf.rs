//! Any DWARF in a program of a version that only its DWARF could tell about: a layout or a stated reason.

use arbitrary::Arbitrary;
use tracer_daemon::inspect::{InspectError, LayoutSource};

use super::image::GoImage;
use super::mutation::inspected;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Of `.debug_info`.
    units: Vec<Unit>,
    abbreviations: Option<Vec<u8>>,
    addresses: Vec<u64>,
    /// Of the section of units: `SHF_COMPRESSED`, which the bytes are not.
    compressed: bool,
    raw: Option<Vec<u8>>,
}

#[derive(Arbitrary, Debug)]
struct Unit {
    /// The bytes of its header that follow the length: version, kind or size of an address.
    header: Option<[u8; 8]>,
    name: u8,
    entries: Vec<Entry>,
    /// Added to its length.
    lie: i8,
}

/// Names are numbers of [`NAMES`], types are places in the section.
#[derive(Arbitrary, Debug)]
enum Entry {
    Structure { name: u8, size: u16 },
    Member { name: u8, offset: u16, kind: u16 },
    Base { name: u8, size: u8 },
    Typedef { name: u8, kind: u16 },
    Array { name: u8, size: u16, kind: u16 },
    Range { kind: u16, count: u64 },
    Pointer { name: u8 },
    Variable { name: u8, location: Vec<u8> },
    Constant { name: u8, value: u64 },
    End,
    Raw(Vec<u8>),
}

const NAMES: [&str; 24] = [
    "runtime",
    "internal/abi",
    "main",
    "runtime.g",
    "goid",
    "gopc",
    "stack",
    "lo",
    "hi",
    "runtime.stack",
    "runtime.mspan",
    "runtime.mheap",
    "runtime.mheap_",
    "runtime.moduledata",
    "text",
    "gofunc",
    "runtime.bucket",
    "runtime.mcache",
    "runtime.special",
    "size",
    "runtime.mallocHeaderSize",
    "internal/abi.FuncID_wrapper",
    "internal/abi.FuncID_gopanic",
    "",
];

/// Tag, whether it has children, then pairs of attribute and form: name as `string`, numbers as `udata`, types as `ref_addr`,
/// locations as `exprloc`. As many as kinds of [`Entry`], the unit itself first.
const ABBREVIATIONS: [(u8, u8, &[u8]); 10] = [
    (0x11, 1, &[0x03, 0x08]),
    (0x13, 1, &[0x03, 0x08, 0x0b, 0x0f]),
    (0x0d, 0, &[0x03, 0x08, 0x38, 0x0f, 0x49, 0x10]),
    (0x24, 0, &[0x03, 0x08, 0x0b, 0x0b]),
    (0x16, 0, &[0x03, 0x08, 0x49, 0x10]),
    (0x01, 1, &[0x03, 0x08, 0x0b, 0x0f, 0x49, 0x10]),
    (0x21, 0, &[0x49, 0x10, 0x37, 0x0f]),
    (0x0f, 0, &[0x03, 0x08]),
    (0x34, 0, &[0x03, 0x08, 0x02, 0x18]),
    (0x27, 0, &[0x03, 0x08, 0x1c, 0x0f]),
];

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let mut image = GoImage::usual(28);
    let mut info: Vec<u8> = input.units.iter().take(8).flat_map(Unit::bytes).collect();
    info.extend(input.raw.unwrap_or_default());
    let abbreviations = input.abbreviations.unwrap_or_else(abbreviations);
    let flags = if input.compressed { 0x800 } else { 0 };
    image.more = vec![
        (".debug_info", flags, info),
        (".debug_abbrev", 0, abbreviations),
        (".debug_addr", 0, input.addresses.into_iter().flat_map(u64::to_le_bytes).collect()),
    ];
    match inspected(image.build().bytes) {
        Ok(facts) => assert_eq!(facts.layout_source, LayoutSource::Dwarf),
        Err(InspectError::UnusableDwarf { source, .. }) => assert!(!source.to_string().is_empty()),
        Err(error) => assert!(matches!(error, InspectError::UnsupportedGoVersion { .. }), "{error}"),
    }
}

fn abbreviations() -> Vec<u8> {
    let mut bytes = Vec::new();
    for (code, (tag, children, attributes)) in (1_u8..).zip(ABBREVIATIONS) {
        bytes.extend([code, tag, children]);
        bytes.extend(attributes);
        bytes.extend([0, 0]);
    }
    bytes.push(0);
    bytes
}

impl Unit {
    fn bytes(&self) -> Vec<u8> {
        // DWARF 5, a compile unit, addresses of 8 bytes, the first abbreviations.
        let mut bytes = self.header.unwrap_or([5, 0, 1, 8, 0, 0, 0, 0]).to_vec();
        bytes.push(1);
        name(&mut bytes, self.name);
        self.entries.iter().take(200).for_each(|entry| entry.write(&mut bytes));
        let length = u32::try_from(bytes.len()).unwrap_or(0).wrapping_add_signed(i32::from(self.lie));
        [&length.to_le_bytes()[..], &bytes].concat()
    }
}

impl Entry {
    fn write(&self, into: &mut Vec<u8>) {
        let kind_of = |kind: &u16| u32::from(*kind).to_le_bytes();
        match self {
            Self::Structure { name: text, size } => {
                into.push(2);
                name(into, *text);
                number(into, u64::from(*size));
            }
            Self::Member { name: text, offset, kind } => {
                into.push(3);
                name(into, *text);
                number(into, u64::from(*offset));
                into.extend(kind_of(kind));
            }
            Self::Base { name: text, size } => {
                into.push(4);
                name(into, *text);
                into.push(*size);
            }
            Self::Typedef { name: text, kind } => {
                into.push(5);
                name(into, *text);
                into.extend(kind_of(kind));
            }
            Self::Array { name: text, size, kind } => {
                into.push(6);
                name(into, *text);
                number(into, u64::from(*size));
                into.extend(kind_of(kind));
            }
            Self::Range { kind, count } => {
                into.push(7);
                into.extend(kind_of(kind));
                number(into, *count);
            }
            Self::Pointer { name: text } => {
                into.push(8);
                name(into, *text);
            }
            Self::Variable { name: text, location } => {
                into.push(9);
                name(into, *text);
                number(into, location.len() as u64);
                into.extend(location);
            }
            Self::Constant { name: text, value } => {
                into.push(10);
                name(into, *text);
                number(into, *value);
            }
            Self::End => into.push(0),
            Self::Raw(bytes) => into.extend(bytes),
        }
    }
}

fn name(into: &mut Vec<u8>, number: u8) {
    into.extend(NAMES[usize::from(number) % NAMES.len()].bytes().chain([0]));
}

/// As `udata`.
fn number(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    into.push(value.to_le_bytes()[0]);
}
