//! At which place in the source?
//!
//! Owns the way from program counters to frames with function, file and line, inlined frames included, and the
//! classification of function names (runtime, standard library, main module). Counterpart of `inspect`, whose tables it
//! reads. What cannot be named is a frame without a file, never a guess.

mod batch;
mod cache;
mod expand;
pub mod names;
mod native;
mod recorded;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::native::NativeCode;
pub use self::recorded::{Line, Location, Recorded, RuntimeFrames};

use self::batch::{Ahead, Batch};
use self::cache::RecentMap;
use self::expand::{Expansion, expand};
use self::names::GenericMethods;
use crate::addr::{Avma, LoadBias};
use crate::inspect::{BinaryFacts, FileName, FunctionName, FunctionTable, InspectError};

/// Name of a frame that is not in Go code, or whose name could not be read.
pub const UNKNOWN_FUNCTION: &str = "[unknown]";
/// Most program counters of one stack that are looked at.
pub const STACK_PCS_MAX: usize = 1024;
/// Most frames of one stack, inlined ones included.
pub const STACK_FRAMES_MAX: usize = 4096;
/// Program counters per generation of the cache, of which there are two: about 200 KiB a process in all.
const CACHE_GENERATION: usize = 512;
/// Bytes of names per generation, each use of a name counted. Real ones take about 100 KiB; a
/// hostile binary can give an address 129 frames with names of 4 KiB.
const CACHE_GENERATION_BYTES: usize = 4 << 20;
/// Distinct names held of functions, of files, and of what is not Go's; at the bound all are dropped and collected anew.
const STRINGS_MAX: usize = 4096;

/// One frame of a stack as a person reads it. Inlined calls are frames of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The function's name as Go prints it: `main.(*store).put`, `slices.Sort[...]`.
    pub function: Arc<str>,
    /// Path of the source file as the compiler recorded it; empty where the address is not in Go code, or where the
    /// compiler recorded none (Go prints `?`).
    pub file: Arc<str>,
    /// Line in `file`, from 1; 0 where unknown.
    pub line: u32,
    /// First line of the function, from 1; 0 where unknown. The site identity is relative to it. Of programs of go1.19 that of
    /// the function's first instruction, and not known of inlined functions.
    pub function_start_line: u32,
    /// Whether this call was inlined into the frame that follows.
    pub inlined: bool,
    /// Whose code it is.
    pub origin: Origin,
}

impl Frame {
    /// Of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            function: UNKNOWN_FUNCTION.into(),
            file: "".into(),
            line: 0,
            function_start_line: 0,
            inlined: false,
            origin: Origin::Unknown,
        }
    }
}

/// Whose code a frame is. Only Go's has lines that a person could change, and packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// In the binary's function table, the assembly of Go's runtime included.
    Go,
    /// C and the like: linked into the binary, or of a shared library. Named as the symbol table names it, or `[file]`.
    Native,
    /// The kernel's code in the process. Named as its symbol table names it, or `[vdso]`.
    Vdso,
    /// In no file, or in Go's code where the binary cannot be read.
    Unknown,
}

/// What a [`Symbolizer`] could not do, and what its bounds cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SymbolizeCounts {
    /// Program counters outside of Go's code.
    pub outside: u64,
    /// Program counters in Go's code for which the binary could not be read or is malformed.
    pub unreadable: u64,
    /// Stacks cut at [`STACK_PCS_MAX`] or [`STACK_FRAMES_MAX`].
    pub cut: u64,
    /// Program counters that the cache forgot.
    pub forgotten: u64,
}

/// Names the addresses of one process.
#[derive(Debug)]
pub struct Symbolizer {
    facts: Arc<BinaryFacts>,
    bias: LoadBias,
    native: Option<NativeCode>,
    cache: RecentMap<Key, Arc<Expansion>>,
    strings: Strings,
    counts: SymbolizeCounts,
}

/// A program counter and what it points at.
type Key = (Avma, Position);

/// What a program counter of a stack points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Position {
    /// The instruction itself.
    Exact,
    /// The instruction behind a call.
    Return,
}

impl Symbolizer {
    /// For a process that runs the binary of `facts`, loaded at `bias`. Names Go's code only.
    pub fn new(facts: Arc<BinaryFacts>, bias: LoadBias) -> Self {
        Self {
            facts,
            bias,
            native: None,
            cache: RecentMap::new(CACHE_GENERATION, CACHE_GENERATION_BYTES),
            strings: Strings::default(),
            counts: SymbolizeCounts::default(),
        }
    }

    /// Names the code beside Go's, too.
    #[must_use]
    pub fn with_native(self, native: NativeCode) -> Self {
        Self { native: Some(native), ..self }
    }

    /// The frames of a stack, leaf first, as `runtime.CallersFrames` names them, wrappers left out as `runtime.Callers`
    /// does (but never the leaf).
    ///
    /// `pcs` are leaf first; the first is an exact address, the others are return addresses, except behind a frame that
    /// a signal put there. Consecutive addresses of which nothing is known give one frame [`UNKNOWN_FUNCTION`], those of
    /// native functions without a name one frame for their file.
    pub fn stack(&mut self, pcs: &[Avma]) -> Vec<Frame> {
        self.frames(pcs, Ahead::NOTHING)
    }

    /// The frames of several stacks, each as [`Self::stack`] gives them; cheaper by far where they are many and new.
    pub fn stacks(&mut self, stacks: &[&[Avma]]) -> Vec<Vec<Frame>> {
        let batch = Batch::of(self, stacks);
        stacks.iter().zip(batch.of_each(stacks)).map(|(pcs, ahead)| self.frames(pcs, ahead)).collect()
    }

    fn frames(&mut self, pcs: &[Avma], ahead: Ahead<'_>) -> Vec<Frame> {
        let ids = self.facts.functions_table.ids();
        let mut frames: Vec<Frame> = Vec::with_capacity(pcs.len().min(STACK_PCS_MAX));
        let (mut position, mut callee) = (Position::Exact, 0);
        let mut cut = pcs.len() > STACK_PCS_MAX;
        for (index, pc) in pcs.iter().take(STACK_PCS_MAX).enumerate() {
            let key = (*pc, position);
            let expansion = ahead.get(index, key).map_or_else(|| self.expansion_or_unknown(key), Arc::clone);
            self.counts.outside += u64::from(expansion.is_outside());
            position = Position::Return;
            if expansion.nameless && frames.last() == expansion.places.first().map(|place| &place.frame) {
                continue;
            }
            for place in &expansion.places {
                // A wrapper is of interest only where it did not get to call what it wraps.
                let calls_panic = [ids.gopanic, ids.sigpanic, ids.panicwrap].contains(&callee);
                if place.id != ids.wrapper || calls_panic || frames.is_empty() {
                    frames.push(place.frame.clone());
                }
                callee = place.id;
            }
            if [ids.sigpanic, ids.async_preempt, ids.debug_call].contains(&callee) {
                position = Position::Exact;
            }
            if frames.len() > STACK_FRAMES_MAX {
                frames.truncate(STACK_FRAMES_MAX);
                cut = true;
                break;
            }
        }
        self.counts.cut += u64::from(cut);
        frames
    }

    /// The frames at one return address, inlined calls expanded, leaf first. Empty outside of Go's code.
    pub fn return_address(&mut self, pc: Avma) -> Vec<Frame> {
        let expansion = self.expansion_or_unknown((pc, Position::Return));
        self.counts.outside += u64::from(expansion.is_outside());
        let frames = expansion.places.iter().map(|place| &place.frame);
        frames.filter(|frame| frame.origin == Origin::Go).cloned().collect()
    }

    /// What could not be done so far.
    pub fn counts(&self) -> SymbolizeCounts {
        SymbolizeCounts { forgotten: self.cache.forgotten(), ..self.counts }
    }

    fn expansion_or_unknown(&mut self, key: Key) -> Arc<Expansion> {
        self.expansion(key).unwrap_or_else(|| {
            self.counts.unreadable += 1;
            Arc::new(Expansion::nameless(self.strings.frame(UNKNOWN_FUNCTION, Origin::Unknown)))
        })
    }

    /// None: the binary cannot be read there, or is malformed. That is not kept: it may be read the next time.
    fn expansion(&mut self, key: Key) -> Option<Arc<Expansion>> {
        if let Some(known) = self.cache.get(&key) {
            return Some(known);
        }
        let (pc, position) = key;
        let at = pc.in_file(self.bias);
        let mut expansion = expand(&self.facts.functions_table, &mut self.strings, at, position).ok()?;
        if expansion.places.is_empty() {
            expansion = self.outside(pc, position);
        }
        let expansion = Arc::new(expansion);
        self.cache.insert(key, Arc::clone(&expansion), expansion.text_bytes());
        Some(expansion)
    }

    /// What is known about an address outside of Go's code.
    fn outside(&mut self, pc: Avma, position: Position) -> Expansion {
        match self.native.as_mut().and_then(|native| native.place(pc, position)) {
            None => Expansion::nameless(self.strings.frame(UNKNOWN_FUNCTION, Origin::Unknown)),
            Some(place) => {
                let frame = self.strings.frame(&place.function, place.origin);
                if place.named { Expansion::of(frame) } else { Expansion::nameless(frame) }
            }
        }
    }
}

/// Each distinct name once; those of the function table by where they stand in it.
#[derive(Debug, Default)]
struct Strings {
    functions: HashMap<FunctionName, Arc<str>>,
    files: HashMap<FileName, Arc<str>>,
    others: HashSet<Arc<str>>,
}

impl Strings {
    fn function(&mut self, table: &FunctionTable, name: FunctionName) -> Result<Arc<str>, InspectError> {
        if let Some(known) = self.functions.get(&name) {
            return Ok(Arc::clone(known));
        }
        if self.functions.len() >= STRINGS_MAX {
            self.functions.clear();
        }
        let generic_methods = if table.generic_methods() { GenericMethods::Present } else { GenericMethods::Absent };
        let text: Arc<str> = names::for_print(&table.function_name(name)?, generic_methods).into();
        self.functions.insert(name, Arc::clone(&text));
        Ok(text)
    }

    fn file(&mut self, table: &FunctionTable, name: FileName) -> Result<Arc<str>, InspectError> {
        if let Some(known) = self.files.get(&name) {
            return Ok(Arc::clone(known));
        }
        if self.files.len() >= STRINGS_MAX {
            self.files.clear();
        }
        let text: Arc<str> = table.file(name)?.into();
        self.files.insert(name, Arc::clone(&text));
        Ok(text)
    }

    fn of(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.others.get(text) {
            return Arc::clone(known);
        }
        if self.others.len() >= STRINGS_MAX {
            self.others.clear();
        }
        let text: Arc<str> = text.into();
        self.others.insert(Arc::clone(&text));
        text
    }

    /// A frame without a place in the source.
    fn frame(&mut self, function: &str, origin: Origin) -> Frame {
        Frame {
            function: self.of(function),
            file: self.of(""),
            line: 0,
            function_start_line: 0,
            inlined: false,
            origin,
        }
    }
}
