//! At which place in the source?
//!
//! Owns the way from program counters to frames with function, file and line, inlined frames included, and the
//! classification of function names (runtime, standard library, main module). Counterpart of `inspect`, whose tables it
//! reads. What cannot be named is a frame without a file, never a guess.

mod cache;
mod expand;
pub mod names;

use std::collections::HashSet;
use std::sync::Arc;

use self::cache::RecentMap;
use self::expand::{Expansion, expand};
use crate::addr::{Avma, LoadBias, Svma};
use crate::inspect::BinaryFacts;

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
/// Distinct function and file names held; at the bound all are dropped and collected anew.
const STRINGS_MAX: usize = 4096;

/// One frame of a stack as a person reads it. Inlined calls are frames of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    /// The function's name as Go prints it: `main.(*store).put`, `slices.Sort[...]`.
    pub function: Arc<str>,
    /// Path of the source file as the compiler recorded it; empty where the address is not in Go code, or where the
    /// compiler recorded none (Go prints `?`).
    pub file: Arc<str>,
    /// Line in `file`, from 1; 0 where unknown.
    pub line: u32,
    /// First line of the function, from 1; 0 where unknown. The site identity is relative to it.
    pub function_start_line: u32,
    /// Whether this call was inlined into the frame that follows.
    pub inlined: bool,
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
    cache: RecentMap<(Svma, Position), Arc<Expansion>>,
    strings: Strings,
    counts: SymbolizeCounts,
}

/// What a program counter of a stack points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Position {
    /// The instruction itself.
    Exact,
    /// The instruction behind a call.
    Return,
}

impl Symbolizer {
    /// For a process that runs the binary of `facts`, loaded at `bias`.
    pub fn new(facts: Arc<BinaryFacts>, bias: LoadBias) -> Self {
        Self {
            facts,
            bias,
            cache: RecentMap::new(CACHE_GENERATION, CACHE_GENERATION_BYTES),
            strings: Strings::default(),
            counts: SymbolizeCounts::default(),
        }
    }

    /// The frames of a stack, leaf first, as `runtime.CallersFrames` names them, wrappers left out as `runtime.Callers`
    /// does (but never the leaf).
    ///
    /// `pcs` are leaf first; the first is an exact address, the others are return addresses, except behind a frame that
    /// a signal put there. Consecutive addresses outside of Go's code give one frame [`UNKNOWN_FUNCTION`].
    pub fn stack(&mut self, pcs: &[Avma]) -> Vec<Frame> {
        let ids = self.facts.functions_table.ids();
        let mut frames: Vec<Frame> = Vec::with_capacity(pcs.len().min(STACK_PCS_MAX));
        let (mut position, mut callee, mut unknown_before) = (Position::Exact, 0, false);
        let mut cut = pcs.len() > STACK_PCS_MAX;
        for pc in pcs.iter().take(STACK_PCS_MAX) {
            let expansion = self.expansion(pc.in_file(self.bias), position);
            position = Position::Return;
            if expansion.places.is_empty() {
                if !unknown_before {
                    frames.push(self.strings.unknown());
                }
                (callee, unknown_before) = (0, true);
                continue;
            }
            unknown_before = false;
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
        let expansion = self.expansion(pc.in_file(self.bias), Position::Return);
        expansion.places.iter().map(|place| place.frame.clone()).collect()
    }

    /// What could not be done so far.
    pub fn counts(&self) -> SymbolizeCounts {
        SymbolizeCounts { forgotten: self.cache.forgotten(), ..self.counts }
    }

    fn expansion(&mut self, at: Svma, position: Position) -> Arc<Expansion> {
        let key = (at, position);
        if let Some(known) = self.cache.get(&key) {
            self.counts.outside += u64::from(known.places.is_empty());
            return known;
        }
        let Ok(expansion) = expand(&self.facts.functions_table, &mut self.strings, at, position) else {
            // Not kept: a failed read may succeed the next time.
            self.counts.unreadable += 1;
            return Arc::default();
        };
        self.counts.outside += u64::from(expansion.places.is_empty());
        let expansion = Arc::new(expansion);
        self.cache.insert(key, Arc::clone(&expansion), expansion.text_bytes());
        expansion
    }
}

/// Each distinct name once.
#[derive(Debug, Default)]
struct Strings(HashSet<Arc<str>>);

impl Strings {
    fn of(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        if self.0.len() >= STRINGS_MAX {
            self.0.clear();
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }

    fn unknown(&mut self) -> Frame {
        Frame {
            function: self.of(UNKNOWN_FUNCTION),
            file: self.of(""),
            line: 0,
            function_start_line: 0,
            inlined: false,
        }
    }
}
