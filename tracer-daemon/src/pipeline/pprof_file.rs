//! What a pprof file of a process needs beside its samples: where the program is mapped, and being written whole.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use super::Subject;
use crate::{
    discover::{CodeMapping, MappedCode, code_mappings},
    export::pprof,
};

/// The executable mappings, the program's own first.
pub(super) fn mappings(subject: &Subject) -> Vec<pprof::Mapping> {
    let is_own = |mapping: &CodeMapping| matches!(&mapping.code, MappedCode::File { inode, .. } if *inode == subject.identity.exe_inode);
    let mut found = code_mappings(&subject.identity).unwrap_or_default();
    found.sort_by_key(|mapping| !is_own(mapping));
    let build_id = subject.facts.build_id.as_deref();
    // Go's own build id is not what viewers compare.
    let build_id = build_id.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())).unwrap_or_default();
    let mapping = |mapping: &CodeMapping| pprof::Mapping {
        start: mapping.start.0,
        end: mapping.end.0,
        file_offset: mapping.offset.0,
        file: match &mapping.code {
            MappedCode::File { path, .. } => path.to_string_lossy().trim_end_matches(" (deleted)").into(),
            MappedCode::Vdso => "[vdso]".into(),
        },
        build_id: if is_own(mapping) { build_id.into() } else { "".into() },
        has_functions: false,
    };
    found.iter().map(mapping).collect()
}

/// Writes a file as a whole or not at all; what is no regular file (a pipe, say) is written to.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(file).is_ok_and(|found| !found.is_file()) {
        return fs::write(file, bytes);
    }
    let mut partial = OsString::from(file);
    partial.push(format!(".{}.partial", std::process::id()));
    // Made anew, so that in a folder of others it is nobody's link to somewhere else.
    let mut made = OpenOptions::new().write(true).create_new(true).open(&partial)?;
    made.write_all(bytes).and_then(|()| fs::rename(&partial, file)).inspect_err(|_error| {
        // It may be gone already.
        drop(fs::remove_file(&partial));
    })
}
