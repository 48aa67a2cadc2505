//! Who owns each resident page of a process: the Go heap, the runtime, files, C code.
//!
//! `smaps` says how much of each mapping is in memory; the runtime's own tables say which mappings are its heap, and where its
//! structures are. What is anonymous and nobody's of those is native: memory that C code, or the program itself, took from
//! the kernel.
//!
//! The kernel joins neighbouring anonymous mappings, so that structures of the runtime and memory of C may lie in one. Then
//! what lies near a known structure is the runtime's: it takes memory for structures in chunks (`persistentChunkSize`,
//! runtime/malloc.go), so that near is within one chunk. The chunks themselves are known where the runtime's processors lead
//! to them; nothing around them is claimed for their sake.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::heap_pages::{ARENA_BYTES, CHUNK_BYTES, HeapPages, HeapTally, merged};
use super::system::pagemap::{Page, Pages};
use super::system::smaps::{Mapping, MappingKind};
use crate::addr::Avma;

/// How many contributors to a total are named.
const PARTS_MAX: usize = 5;

/// What a process is made of, as far as its mappings are concerned.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Path of its executable, as the process sees it.
    pub exe: &'a str,
    /// Where its variables are: the writable segments, in memory. What lies there and is of no file began as zero.
    pub variables: &'a [(Avma, Avma)],
}

/// A contributor to a total.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it is; a path or name from the target is as the target spells it.
    pub name: String,
    /// Resident bytes.
    pub bytes: u64,
}

/// A total with its largest contributors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Resident bytes.
    pub bytes: u64,
    /// The largest first; together they may be less than all.
    pub parts: Vec<Part>,
}

/// The heap's arenas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapResidency {
    /// What their resident pages hold.
    pub tally: HeapTally,
    /// Resident bytes, as the kernel counts them for the mappings.
    pub rss_bytes: u64,
    /// Of them: given back, and still there since the kernel does not need them.
    pub lazy_free_bytes: u64,
    /// Of them: in huge pages.
    pub huge_bytes: u64,
    /// In swap, on top.
    pub swap_bytes: u64,
}

/// All resident memory of a process, by owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// All: the sum over the mappings.
    pub rss_bytes: u64,
    /// In swap, on top.
    pub swap_bytes: u64,
    /// The Go heap. None: it could not be told from other anonymous memory.
    pub heap: Option<HeapResidency>,
    /// The runtime's structures outside the heap. None: as the heap.
    pub runtime_bytes: Option<u64>,
    /// Files, the program's own among them with its variables, memory shared between processes, and the kernel's pages.
    pub file: Owned,
    /// The stack of the first thread.
    pub first_stack_bytes: u64,
    /// Anonymous memory of nobody else. Where the heap is not known, what C's malloc alone takes.
    pub native: Owned,
    /// Of it, in huge pages: the kernel may have put them together, so that more is resident than was ever touched.
    pub native_huge_bytes: u64,
    /// Anonymous memory that could not be told apart.
    pub unknown_bytes: u64,
}

/// Adds up by name.
#[derive(Default)]
struct Parts(BTreeMap<String, u64>);

impl Parts {
    fn add(&mut self, name: &str, bytes: u64) {
        if bytes > 0 {
            *self.0.entry(name.to_owned()).or_default() += bytes;
        }
    }

    fn owned(self) -> Owned {
        let bytes = self.0.values().sum();
        let mut parts: Vec<Part> = self.0.into_iter().map(|(name, bytes)| Part { name, bytes }).collect();
        parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        parts.truncate(PARTS_MAX);
        Owned { bytes, parts }
    }
}

/// Gives every mapping, or the parts of it, to its owner. Without `heap`, anonymous memory stays untold.
///
/// # Errors
/// Where the kernel does not show the pages.
pub fn residency(
    mappings: &[Mapping],
    heap: Option<&HeapPages>,
    pages: &dyn Pages,
    program: Program<'_>,
) -> io::Result<Residency> {
    let mut found = Residency {
        rss_bytes: mappings.iter().map(|mapping| mapping.rss_bytes).sum(),
        swap_bytes: mappings.iter().map(|mapping| mapping.swap_bytes).sum(),
        ..Residency::default()
    };
    let (mut file, mut native) = (Parts::default(), Parts::default());
    let mut arenas = HeapResidency::default();
    let mut runtime_bytes = 0;
    let near = heap.map(|heap| near(&heap.structures, &heap.chunks)).unwrap_or_default();
    for mapping in mappings {
        let name = match &mapping.kind {
            MappingKind::File { path } if path == program.exe => {
                file.add("the executable", mapping.rss_bytes);
                continue;
            }
            MappingKind::File { path } => {
                file.add(path, mapping.rss_bytes);
                continue;
            }
            MappingKind::Kernel => {
                file.add("pages of the kernel", mapping.rss_bytes);
                continue;
            }
            MappingKind::Stack => {
                found.first_stack_bytes += mapping.rss_bytes;
                continue;
            }
            MappingKind::Break => {
                native.add("[heap] (malloc of C)", mapping.rss_bytes);
                found.native_huge_bytes += mapping.huge_bytes;
                continue;
            }
            MappingKind::Anonymous { .. } if is_variables(mapping, program) => {
                file.add("variables of the executable", mapping.rss_bytes);
                continue;
            }
            MappingKind::Anonymous { name } => name.as_deref(),
        };
        let Some(heap) = heap else {
            found.unknown_bytes += mapping.rss_bytes;
            continue;
        };
        let in_arenas = arenas_of(mapping, heap, pages)?;
        if in_arenas > 0 {
            arenas.rss_bytes += in_arenas;
            // Not told by page; arenas share a mapping with other memory only by chance.
            arenas.lazy_free_bytes += mapping.lazy_free_bytes.min(in_arenas);
            arenas.huge_bytes += mapping.huge_bytes.min(in_arenas);
            arenas.swap_bytes += mapping.swap_bytes;
        }
        let rest = mapping.rss_bytes - in_arenas;
        let of_runtime = match name {
            // Go says so from 1.25 on (runtime/set_vma_name_linux.go).
            Some(name) if name.starts_with("Go: ") => rest,
            Some(_) => 0,
            None => resident_in(mapping, &near, pages)?.min(rest),
        };
        runtime_bytes += of_runtime;
        native.add(name.unwrap_or("anonymous mappings"), rest - of_runtime);
        if in_arenas == 0 {
            found.native_huge_bytes += mapping.huge_bytes.min(rest - of_runtime);
        }
    }
    if let Some(heap) = heap {
        let distance = |tally: &HeapTally| tally.resident_bytes().abs_diff(arenas.rss_bytes);
        // Pages of zeros are in memory and of nobody; the kernel's sum leaves them out. Pages that a child shares it counts.
        arenas.tally = if distance(&heap.own) <= distance(&heap.all) { heap.own } else { heap.all };
        found.heap = Some(arenas);
        found.runtime_bytes = Some(runtime_bytes);
    }
    (found.file, found.native) = (file.owned(), native.owned());
    Ok(found)
}

fn is_variables(mapping: &Mapping, program: Program<'_>) -> bool {
    program.variables.iter().any(|(start, end)| (*start..*end).contains(&mapping.start))
}

/// Each structure with a chunk around it, and the chunks; in order, none touching another.
fn near(structures: &[(Avma, Avma)], chunks: &[(Avma, Avma)]) -> Vec<(Avma, Avma)> {
    let around = |(start, end): &(Avma, Avma)| {
        (Avma(start.0.saturating_sub(CHUNK_BYTES)), Avma(end.0.saturating_add(CHUNK_BYTES)))
    };
    merged(structures.iter().map(around).chain(chunks.iter().copied()).collect())
}

/// Resident bytes of a mapping that lie in arenas.
fn arenas_of(mapping: &Mapping, heap: &HeapPages, pages: &dyn Pages) -> io::Result<u64> {
    let (start, end) = (mapping.start.0, mapping.end.0);
    let overlaps: Vec<(Avma, Avma)> = heap
        .arenas
        .range(start.saturating_sub(ARENA_BYTES)..end)
        .map(|base| (Avma((*base).max(start)), Avma(base.saturating_add(ARENA_BYTES).min(end))))
        .filter(|(from, to)| from < to)
        .collect();
    let covered: u64 = overlaps.iter().map(|(from, to)| to.0 - from.0).sum();
    if covered == end - start {
        return Ok(mapping.rss_bytes);
    }
    Ok(resident_in(mapping, &overlaps, pages)?.min(mapping.rss_bytes))
}

/// Resident bytes of a mapping that lie in ranges, which are in order.
fn resident_in(mapping: &Mapping, ranges: &[(Avma, Avma)], pages: &dyn Pages) -> io::Result<u64> {
    let mut resident = 0;
    let first = ranges.partition_point(|(_, end)| *end <= mapping.start);
    for (start, end) in ranges.iter().skip(first).take_while(|(start, _)| *start < mapping.end) {
        let (from, to) = ((*start).max(mapping.start), (*end).min(mapping.end));
        if from == mapping.start && to == mapping.end {
            return Ok(mapping.rss_bytes);
        }
        pages.each(from, to, &mut |_, page| {
            resident += if page == Page::Own { pages.page_bytes() } else { 0 };
        })?;
    }
    Ok(resident)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Everything is there.
    #[derive(Debug)]
    struct AllPages;

    impl Pages for AllPages {
        fn page_bytes(&self) -> u64 {
            4096
        }

        fn each(&self, start: Avma, end: Avma, visit: &mut dyn FnMut(Avma, Page)) -> io::Result<()> {
            (start.0.div_ceil(4096)..end.0.div_ceil(4096)).for_each(|page| visit(Avma(page * 4096), Page::Own));
            Ok(())
        }
    }

    fn mapping(start: u64, bytes: u64, kind: MappingKind) -> Mapping {
        Mapping {
            start: Avma(start),
            end: Avma(start + bytes),
            kind,
            rss_bytes: bytes,
            anonymous_bytes: bytes,
            lazy_free_bytes: 0,
            huge_bytes: 0,
            swap_bytes: 0,
        }
    }

    const MIB: u64 = 1 << 20;
    const ARENA: u64 = 0xc0_0000_0000;
    const FAR: u64 = 0x7f00_0000_0000;

    fn unnamed(start: u64, bytes: u64) -> Mapping {
        mapping(start, bytes, MappingKind::Anonymous { name: None })
    }

    fn named(start: u64, name: &str) -> Mapping {
        mapping(start, MIB, MappingKind::Anonymous { name: Some(name.to_owned()) })
    }

    fn file(start: u64, path: &str) -> Mapping {
        mapping(start, MIB, MappingKind::File { path: path.to_owned() })
    }

    fn heap(structures: Vec<(Avma, Avma)>) -> HeapPages {
        let tally = HeapTally { free_resident_bytes: 8 * MIB, ..HeapTally::default() };
        HeapPages { own: tally, all: tally, arenas: BTreeSet::from([ARENA]), structures, ..HeapPages::default() }
    }

    const PROGRAM: Program<'static> = Program { exe: "/srv/x", variables: &[(Avma(0x60_0000), Avma(0x70_0000))] };

    #[test]
    fn every_mapping_has_an_owner_and_the_owners_have_it_all() {
        let mappings = [
            file(0x40_0000, "/srv/x"),
            unnamed(0x60_0000, MIB),
            mapping(0x900_0000, 3 * MIB, MappingKind::Break),
            unnamed(ARENA, 8 * MIB),
            unnamed(FAR, 4 * MIB),
            named(FAR + 8 * MIB, "Go: gc bits"),
            named(FAR + 16 * MIB, "glibc: malloc"),
            file(FAR + 32 * MIB, "/lib/libc.so"),
            mapping(FAR + 64 * MIB, 4096, MappingKind::Kernel),
            mapping(FAR + 65 * MIB, 8192, MappingKind::Stack),
        ];
        // One page of structures in the second mebibyte of four: with a chunk around it.
        let known = heap(vec![(Avma(FAR + 2 * MIB), Avma(FAR + 2 * MIB + 4096))]);
        let found = residency(&mappings, Some(&known), &AllPages, PROGRAM).unwrap();
        assert_eq!(found.heap.unwrap().rss_bytes, 8 * MIB);
        let near = 2 * CHUNK_BYTES + 4096;
        assert_eq!(found.runtime_bytes, Some(near + MIB));
        assert_eq!(found.native.bytes, 3 * MIB + (4 * MIB - near) + MIB);
        assert_eq!(found.native.parts[0], Part { name: "anonymous mappings".into(), bytes: 4 * MIB - near });
        assert_eq!(found.file.bytes, 3 * MIB + 4096);
        assert_eq!(found.first_stack_bytes, 8192);
        let all = 8 * MIB + near + MIB + found.native.bytes + found.file.bytes + 8192;
        assert_eq!(found.rss_bytes, all);

        let untold = residency(&mappings, None, &AllPages, PROGRAM).unwrap();
        assert_eq!((untold.heap, untold.runtime_bytes), (None, None));
        assert_eq!(untold.native.bytes, 3 * MIB);
        assert_eq!(untold.unknown_bytes, 14 * MIB);
    }

    #[test]
    fn a_chunk_is_the_runtimes_and_nothing_around_it_is() {
        let chunk = |number: u64| {
            let start = FAR + MIB + number * CHUNK_BYTES;
            (Avma(start), Avma(start + CHUNK_BYTES))
        };
        // Of two in a row one is near a structure, which reaches a chunk further down; the last one is alone.
        let structure = (Avma(FAR + MIB), Avma(FAR + MIB + 4096));
        let known = HeapPages { chunks: vec![chunk(0), chunk(1), chunk(5)], ..heap(vec![structure]) };
        let found = residency(&[unnamed(FAR, 4 * MIB)], Some(&known), &AllPages, PROGRAM).unwrap();
        assert_eq!(found.runtime_bytes, Some(4 * CHUNK_BYTES));
        assert_eq!(found.native.bytes, 4 * MIB - 4 * CHUNK_BYTES);
    }

    #[test]
    fn a_mapping_that_the_heap_shares_is_divided() {
        // The last half of the arena, and as much behind it.
        let mappings = [unnamed(ARENA + ARENA_BYTES / 2, ARENA_BYTES)];
        let found = residency(&mappings, Some(&heap(Vec::new())), &AllPages, PROGRAM).unwrap();
        assert_eq!(found.heap.unwrap().rss_bytes, ARENA_BYTES / 2);
        assert_eq!(found.native.bytes, ARENA_BYTES / 2);
    }

    #[test]
    fn pages_of_zeros_are_left_out_where_the_kernel_leaves_them_out() {
        let mut known = heap(Vec::new());
        known.all.small_resident_bytes = 100 * MIB;
        let of = |bytes: u64| residency(&[unnamed(ARENA, bytes)], Some(&known), &AllPages, PROGRAM).unwrap();
        assert_eq!(of(8 * MIB).heap.unwrap().tally, known.own);
        // A child has the same pages: they are shared, and count.
        let shared = Mapping { rss_bytes: 60 << 20, ..unnamed(ARENA, 64 << 20) };
        let found = residency(&[shared], Some(&known), &AllPages, PROGRAM).unwrap();
        assert_eq!(found.heap.unwrap().tally, known.all);
    }

    #[test]
    fn the_largest_contributors_are_named() {
        let mappings: Vec<Mapping> =
            (0..20).map(|number| file(FAR + number * 2 * MIB, &format!("/data/{}", number / 2))).collect();
        let found = residency(&mappings, None, &AllPages, PROGRAM).unwrap();
        assert_eq!(found.file.bytes, 20 * MIB);
        assert_eq!(found.file.parts.len(), PARTS_MAX);
        assert!(found.file.parts.iter().all(|part| part.bytes == 2 * MIB));
    }
}
