//! Names of frames that are not Go's: C code of the program, of shared libraries, of the vdso.
//!
//! Owns which file holds an address of the process, and the symbols of those files, read when an address of theirs is
//! first asked for. Refuses to name what cannot be a return address: C code without frame pointers leaves words on the
//! walk that only look like one. Counterpart: `inspect/native.rs`, which reads one file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use procfs::process::{MMapPath, Process};

use super::{Origin, Position};
use crate::addr::{Avma, FileOffset, Svma};
use crate::discover::{CodeMapping, MappedCode, ProcessIdentity, code_mappings, open_mapped};
use crate::inspect::NativeImage;
use crate::inspect::source::FileSource;

/// Most files of one process whose symbols are held.
const IMAGES_MAX: usize = 64;
/// Most functions held for one process, 16 bytes each: 8 MiB. Files that would exceed it have no names.
const SYMBOLS_MAX: usize = 1 << 19;
/// How often the mappings of one process are read: at first, and when an address lies in none of them, as after `dlopen`.
const READINGS_MAX: u32 = 64;
/// Largest vdso that is read; kernels make 8 to 16 KiB.
const VDSO_BYTES_MAX: u64 = 256 * 1024;

/// What is known about an address outside of Go's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NativePlace {
    /// The function, or `[file]` where its name is not known.
    pub(super) function: String,
    pub(super) origin: Origin,
    /// Whether `function` is a name.
    pub(super) named: bool,
}

/// The native code of one process.
#[derive(Debug)]
pub struct NativeCode {
    identity: ProcessIdentity,
    mappings: Vec<CodeMapping>,
    readings: u32,
    /// By what is mapped; `None` for what could not be read, which is not tried again.
    images: HashMap<MappedCode, Option<Arc<NativeImage>>>,
    symbols: usize,
}

impl NativeCode {
    /// Of a process; nothing is read before an address is asked for.
    pub fn new(identity: ProcessIdentity) -> Self {
        Self { identity, mappings: Vec::new(), readings: 0, images: HashMap::new(), symbols: 0 }
    }

    /// What lies at an address. `None` where no file is mapped, and where it is no return address though it should be.
    pub(super) fn place(&mut self, at: Avma, position: Position) -> Option<NativePlace> {
        let mapping = self.mapping(at)?;
        let origin = if mapping.code == MappedCode::Vdso { Origin::Vdso } else { Origin::Native };
        let unnamed = || NativePlace { function: format!("[{}]", file_name(&mapping.code)), origin, named: false };
        let Some(image) = self.image(&mapping) else { return Some(unnamed()) };
        let offset = mapping.offset.0.checked_add(at.0.checked_sub(mapping.start.0)?)?;
        let Some(address) = image.address(FileOffset(offset)) else { return Some(unnamed()) };
        // The call may be the last instruction of a function that does not return.
        let back = u64::from(position == Position::Return);
        if position == Position::Return && image.follows_call(address) != Some(true) {
            return None;
        }
        let name = image.name_at(Svma(address.0.checked_sub(back)?)).ok().flatten();
        Some(name.map_or_else(unnamed, |function| NativePlace { function, origin, named: true }))
    }

    fn mapping(&mut self, at: Avma) -> Option<CodeMapping> {
        let find = |mappings: &[CodeMapping]| mappings.iter().find(|it| it.start <= at && at < it.end).cloned();
        find(&self.mappings).or_else(|| {
            if self.readings == READINGS_MAX {
                return None;
            }
            self.readings += 1;
            self.mappings = code_mappings(&self.identity).unwrap_or_default();
            find(&self.mappings)
        })
    }

    fn image(&mut self, mapping: &CodeMapping) -> Option<Arc<NativeImage>> {
        let held = self.images.len();
        match self.images.entry(mapping.code.clone()) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(_) if held == IMAGES_MAX => None,
            Entry::Vacant(new) => {
                let image = read(&self.identity, mapping).filter(|image| self.symbols + image.len() <= SYMBOLS_MAX);
                self.symbols += image.as_ref().map_or(0, NativeImage::len);
                new.insert(image.map(Arc::new)).clone()
            }
        }
    }
}

fn read(identity: &ProcessIdentity, mapping: &CodeMapping) -> Option<NativeImage> {
    match mapping.code {
        MappedCode::File { .. } => {
            let file = open_mapped(identity.pid, mapping).ok()?;
            NativeImage::read(Box::new(FileSource::new(file).ok()?)).ok()
        }
        MappedCode::Vdso => NativeImage::read(Box::new(own_vdso(mapping.end.0 - mapping.start.0).ok()?)).ok(),
    }
}

/// The vdso as it is mapped into our own process: the kernel maps the same pages into every 64-bit process
/// (`vdso_image_64`, arch/x86/entry/vdso/vma.c). An error where it has another size than the target's.
fn own_vdso(size_bytes: u64) -> io::Result<Vec<u8>> {
    let other_size = || io::Error::other("our own vdso is another one");
    let maps = Process::myself().and_then(|process| process.maps()).map_err(io::Error::other)?;
    let (start, end) = maps
        .iter()
        .find(|map| map.pathname == MMapPath::Vdso)
        .map(|map| map.address)
        .filter(|(start, end)| end - start == size_bytes && size_bytes <= VDSO_BYTES_MAX)
        .ok_or_else(other_size)?;
    let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
    File::open("/proc/self/mem")?.read_exact_at(&mut bytes, start)?;
    Ok(bytes)
}

fn file_name(code: &MappedCode) -> String {
    match code {
        MappedCode::File { path, .. } => {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        }
        MappedCode::Vdso => "vdso".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use object::{Object as _, ObjectSymbol as _, SymbolKind};

    use super::*;

    fn ourselves() -> ProcessIdentity {
        let stat = Process::myself().unwrap().stat().unwrap();
        let exe = std::fs::metadata("/proc/self/exe").unwrap();
        ProcessIdentity {
            pid: std::process::id(),
            start_ticks: stat.starttime,
            start_stack: stat.startstack,
            exe_device: exe.dev(),
            exe_inode: exe.ino(),
        }
    }

    fn place(native: &mut NativeCode, at: u64) -> Option<(String, Origin, bool)> {
        native.place(Avma(at), Position::Exact).map(|place| (place.function, place.origin, place.named))
    }

    /// Every function of an ELF file that is mapped into our own process, as another parser reads it, and what we say
    /// about its first and its last byte.
    fn agrees_with_another_parser(native: &mut NativeCode, bytes: &[u8], base: u64, origin: Origin) -> usize {
        let file = object::File::parse(bytes).unwrap();
        let functions = file.dynamic_symbols().chain(file.symbols());
        let functions: Vec<(u64, u64, &str)> = functions
            .filter(|it| it.kind() == SymbolKind::Text && it.is_definition() && it.size() > 0)
            .map(|it| (it.address(), it.size(), it.name().unwrap()))
            .collect();
        let mut agreed = 0;
        for (start, size_bytes, name) in functions.iter().step_by(functions.len() / 500 + 1) {
            for at in [*start, start + size_bytes - 1] {
                let (ours, whose, named) = place(native, base + at).unwrap();
                let holds = |(start, size_bytes, _): &&(u64, u64, &str)| *start <= at && at < start + size_bytes;
                let names: Vec<&str> = functions.iter().filter(holds).map(|(_, _, name)| *name).collect();
                assert!(named && whose == origin && names.contains(&&*ours), "{name}: {ours:?} and not {names:?}");
                agreed += 1;
            }
        }
        agreed
    }

    fn mapped(path_holds: &str) -> (Vec<u8>, u64) {
        let maps = Process::myself().unwrap().maps().unwrap();
        let is_it = |path: &std::path::Path| path.to_string_lossy().contains(path_holds);
        let first = maps.iter().find(|map| matches!(&map.pathname, MMapPath::Path(path) if is_it(path))).unwrap();
        let MMapPath::Path(path) = &first.pathname else { panic!("no file") };
        (std::fs::read(path).unwrap(), first.address.0 - first.offset)
    }

    #[test]
    fn functions_of_a_shared_library_are_named_as_it_names_them() {
        let (bytes, base) = mapped("libc.so");
        assert!(agrees_with_another_parser(&mut NativeCode::new(ourselves()), &bytes, base, Origin::Native) > 500);
    }

    #[test]
    fn functions_of_the_vdso_are_named_as_it_names_them() {
        let maps = Process::myself().unwrap().maps().unwrap();
        let (start, end) = maps.iter().find(|map| map.pathname == MMapPath::Vdso).unwrap().address;
        let bytes = own_vdso(end - start).unwrap();
        assert!(own_vdso(end - start + 4096).is_err());
        assert!(agrees_with_another_parser(&mut NativeCode::new(ourselves()), &bytes, start, Origin::Vdso) >= 4);
    }

    #[test]
    fn nothing_is_said_about_what_no_file_holds() {
        let mut native = NativeCode::new(ourselves());
        for at in [0, 1, 0x7fff, u64::MAX] {
            assert_eq!(place(&mut native, at), None);
        }
        for _ in 0..READINGS_MAX * 2 {
            assert_eq!(place(&mut native, 1), None);
        }
        assert_eq!(native.readings, READINGS_MAX);
        let mut gone = NativeCode::new(ProcessIdentity { start_ticks: 1, ..ourselves() });
        assert_eq!(place(&mut gone, mapped("libc.so").1 + 0x30000), None);
    }

    #[test]
    fn what_follows_no_call_is_no_return_address() {
        let (bytes, base) = mapped("libc.so");
        let file = object::File::parse(&*bytes).unwrap();
        let getpid = file.dynamic_symbols().find(|it| it.name() == Ok("getpid")).unwrap().address();
        let mut native = NativeCode::new(ourselves());
        assert_eq!(place(&mut native, base + getpid).unwrap().0, "getpid");
        // mov eax, 39: none of its bytes ends a call.
        assert_eq!(native.place(Avma(base + getpid + 5), Position::Return), None);
    }
}
