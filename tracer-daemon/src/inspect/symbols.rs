//! The symbol table of a binary that was not stripped: addresses of variables by name.
//!
//! Read in pieces, so that the memory taken does not depend on the number of symbols.

use std::collections::BTreeMap;

use object::LittleEndian as Le;
use object::elf;

use super::InspectError;
use super::elf::{ElfImage, pods};
use crate::addr::Svma;

const STRUCTURE: &str = "ELF symbol table";
/// Most symbols that are looked at. The largest known Go programs have about a million.
const SYMBOLS_MAX: u64 = 1 << 23;
const ENTRY_BYTES: u64 = size_of::<elf::Sym64<Le>>() as u64;
/// Symbols read at a time.
const CHUNK: u64 = 512;

/// The addresses of the variables of these names; what is not in the table is absent. Empty where the binary is stripped.
pub(crate) fn variables(
    image: &ElfImage,
    wanted: &[&'static str],
) -> Result<BTreeMap<&'static str, Svma>, InspectError> {
    let mut found = BTreeMap::new();
    let Some(table) = image.sections.iter().find(|section| section.kind == elf::SHT_SYMTAB) else { return Ok(found) };
    let names = usize::try_from(table.link).ok().and_then(|number| image.sections.get(number));
    let Some(names) = names else {
        return Err(InspectError::malformed(STRUCTURE, "number of the names' section", u64::from(table.link)));
    };
    let longest = wanted.iter().map(|name| name.len()).max().unwrap_or_default();
    let mut buffer = vec![0; longest + 1];
    let count = (table.size_bytes / ENTRY_BYTES).min(SYMBOLS_MAX);
    let mut done = 0;
    while done < count && found.len() < wanted.len() {
        let chunk = CHUNK.min(count - done);
        let offset = table.file_offset.saturating_add(done * ENTRY_BYTES);
        let bytes = image.source.bytes(STRUCTURE, offset, chunk * ENTRY_BYTES)?;
        for symbol in pods::<elf::Sym64<Le>>(STRUCTURE, &bytes)? {
            // The linker gives the beginning of a variable's section (`runtime.noptrbss`) no type; none of those is wanted.
            if symbol.st_type() != elf::STT_OBJECT {
                continue;
            }
            let name = names.file_offset.saturating_add(u64::from(symbol.st_name.get(Le)));
            let read = image.source.read_up_to("ELF symbol names", name, &mut buffer)?;
            let name = buffer.get(..read).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
            if let Some(wanted) = wanted.iter().find(|wanted| wanted.as_bytes() == name) {
                found.entry(*wanted).or_insert(Svma(symbol.st_value.get(Le)));
            }
        }
        done += chunk;
    }
    Ok(found)
}
