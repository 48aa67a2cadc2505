//! Which functions contain the body of another: the inline trees read backwards.
//!
//! A probe at a function does not see the calls that the compiler replaced by the function's body, as it does with hot ones
//! of the runtime in builds with a profile (`-pgo`). Walking all inline trees would take longer than all the rest; so the
//! region that holds them is searched for the names first, and only what that finds is looked at closely.

use std::collections::{BTreeMap, HashMap};

use super::InspectError;
use super::elf::ElfImage;
use super::function_table::{FunctionTable, InlineTree};
use super::source::u32_in;
use crate::addr::Svma;

const STRUCTURE: &str = "go inline trees";
/// Bytes searched at a time, and what the next piece shares with it.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Most places that are looked at closely. A program with a profile has some dozens.
const PLACES_MAX: usize = 65_536;
/// Entries of one tree: the largest function seen (go1.27) has about 3,000.
const TREE_ENTRIES_MAX: u64 = 1 << 16;
/// Most pairs of a place and a function that are compared.
const COMPARISONS_MAX: u32 = 1 << 26;
/// Most functions that are named for one that was inlined. Whether there are others than the ones that are accepted is
/// seen with fewer; names can be 4 KiB long, and a hostile binary can have any number of them.
const OWNERS_MAX: usize = 4;

/// An entry that may name a wanted function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Where the entry begins.
    entry: Svma,
    /// Of the function's name.
    name_offset: u32,
}

/// By the names of the inlined functions, those whose code holds them. `names` are the wanted ones by the offset of their
/// name.
pub(crate) fn find(
    table: &FunctionTable,
    names: &HashMap<u32, String>,
    image: &ElfImage,
) -> Result<BTreeMap<String, Vec<String>>, InspectError> {
    let places = places(table, names, image)?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if places.is_empty() {
        return Ok(found);
    }
    let entry_bytes = table.format().inlined_call_bytes();
    let mut comparisons = 0_u32;
    for index in 0..table.len() {
        let Some(function) = table.function(index)? else { break };
        let Some(tree) = table.inline_tree(&function)? else { continue };
        // Trees are not told where they end: an entry is this function's where one of its instructions says so.
        let first = places.partition_point(|place| place.entry < tree.start);
        for place in places.iter().skip(first) {
            comparisons += 1;
            if comparisons == COMPARISONS_MAX {
                return Err(InspectError::malformed(STRUCTURE, "overlapping trees", u64::from(comparisons)));
            }
            let Some(distance) = distance_in(tree, place.entry, entry_bytes) else { break };
            let Some(number) = u32::try_from(distance / entry_bytes).ok().filter(|_| distance % entry_bytes == 0)
            else {
                continue;
            };
            if !table.uses_inlined_call(&function, tree, number)? {
                continue;
            }
            let Some(name) = names.get(&place.name_offset) else { continue };
            let owners = found.entry(name.clone()).or_default();
            if owners.len() == OWNERS_MAX {
                continue;
            }
            let owner = table.name(&function)?;
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
    }
    Ok(found)
}

/// Bytes from the beginning of the tree to the entry; `None` where it is too far behind to be part of the tree.
fn distance_in(tree: InlineTree, entry: Svma, entry_bytes: u64) -> Option<u64> {
    entry.0.checked_sub(tree.start.0).filter(|distance| *distance < TREE_ENTRIES_MAX * entry_bytes)
}

/// All places in the region of inline trees that look like an entry for one of the names, in order.
fn places(table: &FunctionTable, names: &HashMap<u32, String>, image: &ElfImage) -> Result<Vec<Place>, InspectError> {
    let mut found = Vec::new();
    let Some((start, size_bytes)) = table.inline_trees() else { return Ok(found) };
    let Some(offset) = image.offset_of(start) else { return Ok(found) };
    // One bit per low part of an offset: most words are seen to be none of the names without a search.
    let mut sieve = [0_u64; 1024];
    let bit = |word: u32| (usize::try_from((word >> 6) & 1023).unwrap_or_default(), 1_u64 << (word & 63));
    for name in names.keys() {
        let (index, mask) = bit(*name);
        if let Some(bits) = sieve.get_mut(index) {
            *bits |= mask;
        }
    }
    let (entry_bytes, name_at) = (table.format().inlined_call_bytes(), table.format().inlined_name_at());
    let mut done = 0;
    while done < size_bytes {
        let length_bytes = (CHUNK_BYTES + entry_bytes).min(size_bytes - done);
        let bytes = image.source.bytes(STRUCTURE, offset.0.saturating_add(done), length_bytes)?;
        let chunk = usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX);
        for at in (0..bytes.len().min(chunk)).step_by(4) {
            let Some(word) = u32_in(&bytes, at + name_at) else { break };
            let (index, mask) = bit(word);
            if sieve.get(index).is_none_or(|bits| bits & mask == 0) || !names.contains_key(&word) {
                continue;
            }
            if found.len() == PLACES_MAX {
                return Err(InspectError::malformed(STRUCTURE, "entries for one function", PLACES_MAX as u64));
            }
            found.push(Place { entry: Svma(start.0.saturating_add(done + at as u64)), name_offset: word });
        }
        done = done.saturating_add(CHUNK_BYTES);
    }
    Ok(found)
}
