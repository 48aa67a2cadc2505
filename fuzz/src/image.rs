//! A small Go program, as far as inspection looks at one: headers, code, function table, inline tree, build info, module
//! data. Made in memory, so that no binary is committed and a test can say which number it makes a lie.
//!
//! Formats: runtime/symtab.go (`pcHeader`, `moduledata`), runtime/runtime2.go (`_func`), runtime/symtabinl.go
//! (`inlinedCall`), debug/buildinfo/buildinfo.go. The kernel cannot run it.

use std::ops::Range;

pub use super::elf::address;
use super::elf::{BASE, PROGRAM_BYTES, SECTION_BYTES, add, add_sections, header, length, note, program};

/// `moduledata` up to the end of `gofunc` in every version.
const MODULE_BYTES: usize = 400;

/// Offset in `moduledata` of the first and the last address of variables.
const VARIABLES_AT: usize = 192;
/// Room for variables, bytes.
pub const VARIABLES_BYTES: usize = 256;

/// Offsets of `text` and `gofunc` in `moduledata`, by version: see `inspect/version.rs`.
const fn module_offsets(minor: u32) -> (usize, usize) {
    match minor {
        0..=19 => (176, 304),
        20..=26 => (176, 320),
        _ => (176, 344),
    }
}

/// A call that was inlined.
#[derive(Clone, Debug)]
pub struct Inlined {
    /// The called function.
    pub name: String,
    /// Where the call is, from the beginning of the function.
    pub parent: u32,
    /// First line of the called function.
    pub start_line: u32,
}

/// So many bytes of code are of one line.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// How far it reaches, bytes.
    pub length: u32,
    /// Line in the file.
    pub line: i32,
    /// Index of the innermost inlined call; -1: the function's own code.
    pub inlined: i32,
}

/// One function.
#[derive(Clone, Debug)]
pub struct Function {
    /// As it stands in the table.
    pub name: String,
    /// Its instructions.
    pub code: Vec<u8>,
    /// The lines of its code.
    pub steps: Vec<Step>,
    /// Its inline tree.
    pub inlined: Vec<Inlined>,
    /// `FuncID`.
    pub id: u8,
}

/// What to build.
#[derive(Clone, Debug)]
pub struct GoImage {
    /// 26 in `go1.26.6`: decides the formats.
    pub minor: u32,
    /// As the build info states it.
    pub version: String,
    /// The module text of the build info, without its frame.
    pub modules: String,
    /// Whether pointers are left to relocations.
    pub position_independent: bool,
    /// Whether there are section headers.
    pub sections: bool,
    /// In the order of their addresses.
    pub functions: Vec<Function>,
    /// Name and place among the variables; empty: stripped.
    pub symbols: Vec<(String, u64)>,
    /// Name, flags and content of further sections.
    pub more: Vec<(&'static str, u64, Vec<u8>)>,
}

/// A built image and where its parts are.
#[derive(Clone, Debug)]
pub struct Built {
    /// The file.
    pub bytes: Vec<u8>,
    /// Name and place of each part.
    pub parts: Vec<(&'static str, Range<usize>)>,
}

impl Built {
    /// Where a part is; an empty range where there is none of that name.
    pub fn part(&self, name: &str) -> Range<usize> {
        self.parts.iter().find(|(known, _)| *known == name).map_or(0..0, |(_, place)| place.clone())
    }

    /// Overwrites bytes; what lies behind the end of the file is left out.
    pub fn patch(&mut self, at: usize, with: &[u8]) {
        let target = self.bytes.get_mut(at..).unwrap_or_default();
        target.iter_mut().zip(with).for_each(|(to, from)| *to = *from);
    }
}

/// `cmp rsp,[r14+10h]; jbe +80h; push rbp; mov rbp,rsp`, as functions of Go begin.
const PROLOGUE: [u8; 14] = [0x49, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0x80, 0, 0, 0, 0x55, 0x48, 0x89, 0xe5];

impl GoImage {
    /// A program with the functions that are probed, each as a compiler might make it.
    pub fn usual(minor: u32) -> Self {
        let names = [
            "runtime.mallocgc",
            "runtime.newproc1",
            "runtime.newproc.func1",
            "runtime.newcoro.func1",
            "runtime.runqput",
            "runtime.gdestroy",
            "main.(*store[go.shape.int]).put",
            "main.main",
        ];
        let mut functions: Vec<Function> = names.into_iter().map(Function::usual).collect();
        // Every function has 64 bytes, so that the callee of these calls begins so far from the byte behind the call.
        for (caller, callee) in [(2_i32, 4_i32), (3, 1)] {
            let distance = (callee - caller) * 64 - 14 - 5;
            if let Some(function) = usize::try_from(caller).ok().and_then(|caller| functions.get_mut(caller)) {
                let call = [&[0xe8][..], &distance.to_le_bytes(), &[0x85, 0xc0, 0x74, 0x02]].concat();
                function.code.splice(14..14 + call.len(), call);
            }
        }
        Self {
            minor,
            version: format!("go1.{minor}.1"),
            modules:
                "path\texample.com/shop\nmod\texample.com/shop\tv1.0.0\t\nbuild\t-compiler=gc\nbuild\tCGO_ENABLED=0\n"
                    .to_owned(),
            position_independent: false,
            sections: true,
            functions,
            symbols: Vec::new(),
            more: Vec::new(),
        }
    }

    /// The bytes.
    pub fn build(&self) -> Built {
        let mut built = Built { bytes: Vec::new(), parts: Vec::new() };
        let programs = if self.position_independent { 5 } else { 4 };
        add(&mut built, "elf header", vec![0; 64]);
        add(&mut built, "program headers", vec![0; programs * PROGRAM_BYTES]);
        let text = add(&mut built, "text", self.functions.iter().flat_map(|function| function.code.clone()).collect());
        let (tree, indices) = self.inline_tree();
        let (table, inner) = self.function_table(&indices);
        let table = add(&mut built, "function table", table);
        built
            .parts
            .extend(inner.into_iter().map(|(name, place)| (name, place.start + table.start..place.end + table.start)));
        let tree = add(&mut built, "inline tree", tree);
        let note = add(&mut built, "note", note());
        let info = add(&mut built, "build info", self.build_info());
        let module = add(&mut built, "module data", vec![0; MODULE_BYTES]);
        let names = built.part("names").start;
        let (text_at, gofunc_at) = module_offsets(self.minor);
        let variables = add(&mut built, "variables", vec![0; VARIABLES_BYTES]);
        let pointers = [
            (0, table.start),
            (8, names),
            (text_at, text.start),
            (VARIABLES_AT, variables.start),
            (VARIABLES_AT + 8, variables.end),
            (gofunc_at, tree.start),
        ];
        let (mut relocations, mut dynamic) = (0..0, 0..0);
        if self.position_independent {
            let entries = pointers.iter().flat_map(|&(at, to)| {
                // R_X86_64_RELATIVE
                [BASE + (module.start + at) as u64, 8, BASE + to as u64].into_iter().flat_map(u64::to_le_bytes)
            });
            relocations = add(&mut built, "relocations", entries.collect());
            // DT_RELA, DT_RELASZ, DT_NULL
            let words = [7, BASE + relocations.start as u64, 8, relocations.len() as u64, 0, 0];
            dynamic = add(&mut built, "dynamic", words.into_iter().flat_map(u64::to_le_bytes).collect());
        } else {
            for (at, to) in pointers {
                built.patch(module.start + at, &(BASE + to as u64).to_le_bytes());
            }
        }
        let end = built.bytes.len();
        let (read, write, execute) = (4, 2, 1);
        let mut headers = vec![
            program(1, read | execute, 0..text.end),
            program(1, read, text.end..note.end),
            program(1, read | write, note.end..end),
            program(4, read, note.clone()),
        ];
        if self.position_independent {
            headers.push(program(2, read | write, dynamic.clone()));
        }
        built.patch(64, &headers.concat());
        let mut section_table = 0..0;
        if self.sections {
            let (symbols, symbol_names) = self.symbol_table(&mut built, variables.start);
            let mut sections = vec![
                (".text", 1, 0, text),
                (".gopclntab", 1, 0, table),
                (".note.go.buildid", 7, 0, note),
                (".go.buildinfo", 1, 0, info),
                (if self.minor >= 26 { ".go.module" } else { ".noptrdata" }, 1, 0, module),
                (".rela.dyn", 4, 0, relocations),
                (".dynamic", 6, 0, dynamic),
            ];
            for (name, flags, content) in &self.more {
                sections.push((name, 1, *flags, add(&mut built, name, content.clone())));
            }
            if !self.symbols.is_empty() {
                sections.extend([(".symtab", 2, 0, symbols), (".strtab", 3, 0, symbol_names)]);
            }
            section_table = add_sections(&mut built, &sections);
        }
        let count = section_table.len() / SECTION_BYTES;
        built.patch(0, &header(self.position_independent, headers.len(), section_table.start, count));
        built
    }

    /// The symbol table and its names.
    fn symbol_table(&self, built: &mut Built, variables: usize) -> (Range<usize>, Range<usize>) {
        let (mut names, mut symbols) = (vec![0], Vec::new());
        for (name, place) in &self.symbols {
            symbols.extend(length(&names).to_le_bytes());
            // STB_LOCAL with STT_OBJECT, default visibility, section
            symbols.extend([1, 0, 1, 0]);
            symbols.extend([BASE + variables as u64 + place, 8].into_iter().flat_map(u64::to_le_bytes));
            names.extend(name.bytes().chain([0]));
        }
        (add(built, "symbols", symbols), add(built, "symbol names", names))
    }

    /// The trees of all functions one behind the other, and where each begins.
    fn inline_tree(&self) -> (Vec<u8>, Vec<u32>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        let mut names = self.name_offsets();
        for function in &self.functions {
            starts.push(if function.inlined.is_empty() { u32::MAX } else { length(&bytes) });
            names.next();
            for call in &function.inlined {
                let name = names.next().unwrap_or_default();
                let words = if self.minor < 20 {
                    vec![0, 0, 1, name, call.parent]
                } else {
                    vec![0, name, call.parent, call.start_line]
                };
                bytes.extend(words.into_iter().flat_map(u32::to_le_bytes));
            }
        }
        (bytes, starts)
    }

    /// Function, then its inlined calls, function by function.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.iter().flat_map(|function| {
            std::iter::once(function.name.as_str()).chain(function.inlined.iter().map(|call| call.name.as_str()))
        })
    }

    /// Offsets of [`Self::names`]; 0 is no name.
    fn name_offsets(&self) -> impl Iterator<Item = u32> {
        self.names().scan(1, |next, name| {
            let offset = *next;
            *next += u32::try_from(name.len()).unwrap_or(0) + 1;
            Some(offset)
        })
    }

    fn function_table(&self, trees: &[u32]) -> (Vec<u8>, Vec<(&'static str, Range<usize>)>) {
        let mut name_bytes = vec![0];
        self.names().for_each(|name| name_bytes.extend(name.bytes().chain([0])));
        let files = b"\0/src/shop/main.go\0/src/shop/store.go\0".to_vec();
        let units: Vec<u8> = [1_u32, 19].into_iter().flat_map(u32::to_le_bytes).collect();
        let mut pc_tables = vec![0];
        let mut records = Vec::new();
        let index_bytes = self.functions.len() * 8 + 4;
        let (mut index, mut entry) = (Vec::new(), 0_u32);
        let mut names = self.name_offsets();
        for (function, tree) in self.functions.iter().zip(trees) {
            index.extend([entry, length(&records) + u32::try_from(index_bytes).unwrap_or(0)]);
            let file = pc_table(&mut pc_tables, &[(length(&function.code), 1)]);
            let lines: Vec<_> = function.steps.iter().map(|step| (step.length, step.line)).collect();
            let lines = pc_table(&mut pc_tables, &lines);
            let inlined: Vec<_> = function.steps.iter().map(|step| (step.length, step.inlined)).collect();
            let inlined = pc_table(&mut pc_tables, &inlined);
            let name = names.next().unwrap_or_default();
            for _ in &function.inlined {
                names.next();
            }
            // entryOff, nameOff, args, deferreturn, pcsp, pcfile, pcln, npcdata, cuOffset
            let mut words = vec![entry, name, 0, 0, 0, file, lines, 3, 0];
            if self.minor >= 20 {
                words.push(7); // startLine
            }
            // funcID, flag, pad, nfuncdata; then pcdata and funcdata
            words.push(u32::from_le_bytes([function.id, 0, 0, 4]));
            words.extend([0, 0, inlined, u32::MAX, u32::MAX, u32::MAX, *tree]);
            records.extend(words.into_iter().flat_map(u32::to_le_bytes));
            entry += length(&function.code);
        }
        index.push(entry);
        let parts = [
            ("names", name_bytes),
            ("units", units),
            ("files", files),
            ("pc tables", pc_tables),
            ("records", [index.into_iter().flat_map(u32::to_le_bytes).collect(), records].concat()),
        ];
        let magic: u32 = if self.minor < 20 { 0xffff_fff0 } else { 0xffff_fff1 };
        let mut table = [&magic.to_le_bytes()[..], &[0, 0, 1, 8]].concat();
        table.extend([self.functions.len() as u64, 2, 0].into_iter().flat_map(u64::to_le_bytes));
        let (mut places, mut body) = (Vec::new(), Vec::new());
        for (name, bytes) in parts {
            let start = 72 + body.len();
            body.extend(bytes);
            body.resize(body.len().next_multiple_of(8), 0);
            table.extend((start as u64).to_le_bytes());
            places.push((name, start..72 + body.len()));
        }
        table.extend(body);
        (table, places)
    }

    fn build_info(&self) -> Vec<u8> {
        let mut bytes = b"\xff Go buildinf:\x08\x02".to_vec();
        bytes.resize(32, 0);
        let frame = [0x5a; 16];
        let modules = [&frame[..], self.modules.as_bytes(), &frame].concat();
        for text in [self.version.as_bytes(), &modules] {
            let mut left = text.len();
            while left >= 0x80 {
                bytes.push(u8::try_from(left & 0x7f).unwrap_or(0) | 0x80);
                left >>= 7;
            }
            bytes.push(u8::try_from(left).unwrap_or(0));
            bytes.extend(text);
        }
        bytes
    }
}

impl Function {
    /// 64 bytes of code, with a call inlined into it and one into that.
    pub fn usual(name: &str) -> Self {
        let mut code = PROLOGUE.to_vec();
        code.resize(63, 0x90);
        code.push(0xc3);
        Self {
            name: name.to_owned(),
            code,
            steps: vec![
                Step { length: 16, line: 7, inlined: -1 },
                Step { length: 16, line: 8, inlined: 0 },
                Step { length: 16, line: 40, inlined: 1 },
                Step { length: 16, line: 9, inlined: -1 },
            ],
            inlined: vec![
                Inlined { name: format!("{name}.outer"), parent: 2, start_line: 30 },
                Inlined { name: format!("{name}.inner[...]"), parent: 17, start_line: 39 },
            ],
            id: 0,
        }
    }
}

/// Appends a pc-value table of (length, value) and gives its offset.
fn pc_table(tables: &mut Vec<u8>, steps: &[(u32, i32)]) -> u32 {
    let offset = length(tables);
    let mut before = -1_i32;
    for &(bytes, value) in steps {
        let delta = value.wrapping_sub(before);
        varint(tables, ((delta << 1) ^ (delta >> 31)).cast_unsigned());
        varint(tables, bytes);
        before = value;
    }
    tables.push(0);
    offset
}

fn varint(into: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        into.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    into.push(value.to_le_bytes()[0]);
}
