//! The symbol table of a binary that was not stripped: addresses of variables by name.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use object::LittleEndian as Le;
use object::elf;

use super::InspectError;
use super::elf::{ElfImage, each_entry};
use crate::addr::Svma;

const STRUCTURE: &str = "ELF symbol table";
/// Most bytes of the table that are read: 2^23 symbols. The largest known Go programs have about a million.
const TABLE_BYTES_MAX: u64 = (1 << 23) * size_of::<elf::Sym64<Le>>() as u64;

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
    let size_bytes = table.size_bytes.min(TABLE_BYTES_MAX);
    each_entry(&image.source, STRUCTURE, table.file_offset, size_bytes, |symbol: &elf::Sym64<Le>| {
        // The linker gives the beginning of a variable's section (`runtime.noptrbss`) no type; none of those is wanted.
        if symbol.st_type() != elf::STT_OBJECT {
            return Ok(ControlFlow::Continue(()));
        }
        let name = names.file_offset.saturating_add(u64::from(symbol.st_name.get(Le)));
        let read = image.source.read_up_to("ELF symbol names", name, &mut buffer)?;
        let name = buffer.get(..read).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
        if let Some(wanted) = wanted.iter().find(|wanted| wanted.as_bytes() == name) {
            found.entry(*wanted).or_insert(Svma(symbol.st_value.get(Le)));
        }
        Ok(if found.len() == wanted.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found)
}
