//! Any notes, dynamic table and relocations in an otherwise good position independent program.

use arbitrary::Arbitrary;

use super::image::{GoImage, address};
use super::mutation::inspected;

#[derive(Arbitrary, Debug)]
struct Input {
    without_sections: bool,
    /// Kind and content; written over the note, as many as fit.
    notes: Vec<(u32, u8, Vec<u8>)>,
    dynamic: Vec<(u8, u64)>,
    /// Place, kind, addend.
    relocations: Vec<(u16, u8, u64)>,
    note_bytes: Option<u64>,
    dynamic_bytes: Option<u64>,
}

pub(super) fn run(bytes: &[u8]) {
    let Some(input) = super::input::<Input>(bytes) else { return };
    let mut image = GoImage::usual(26);
    image.position_independent = true;
    image.sections = !input.without_sections;
    let mut built = image.build();
    let note = built.part("note").start;
    let bytes = input.notes.iter().flat_map(|(kind, name_bytes, content)| {
        let words = [u32::from(*name_bytes), u32::try_from(content.len()).unwrap_or(0), *kind];
        words.into_iter().flat_map(u32::to_le_bytes).chain(content.iter().copied())
    });
    let bytes: Vec<u8> = bytes.take(1024).collect();
    built.patch(note, &bytes);
    let dynamic = built.part("dynamic").start;
    for (index, (tag, value)) in input.dynamic.iter().take(3).enumerate() {
        built.patch(dynamic + 16 * index, &[u64::from(*tag).to_le_bytes(), value.to_le_bytes()].concat());
    }
    let (relocations, module) = (built.part("relocations").start, built.part("module data").start);
    for (index, (place, kind, addend)) in input.relocations.iter().take(4).enumerate() {
        let words = [address(module + usize::from(*place)), u64::from(*kind), *addend];
        let entry: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        built.patch(relocations + 24 * index, &entry);
    }
    // Sizes of the segments of notes and of the dynamic table: the fourth and fifth program header.
    for (header, size) in [(3, input.note_bytes), (4, input.dynamic_bytes)] {
        if let Some(size) = size {
            built.patch(64 + 56 * header + 32, &size.to_le_bytes());
        }
    }
    let length = built.bytes.len();
    let Ok(facts) = inspected(built.bytes) else { return };
    assert!(facts.build_id.is_none_or(|id| id.len() <= 2 * length), "not more than the file holds, in hex");
}
