//! At which place in the source?
//!
//! Owns the way from program counters to frames with function, file and line, inlined frames included, and the
//! classification of function names (runtime, standard library, main module). Counterpart of `inspect`, whose tables it
//! reads. What cannot be named is a frame without a file, never a guess.

use std::sync::Arc;

/// One frame of a stack as a person reads it. Inlined calls are frames of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame {
    /// The function's name as Go prints it: `main.(*store).put`, `slices.Sort[...]`.
    pub function: Arc<str>,
    /// Path of the source file as the compiler recorded it; empty where the address is not in Go code.
    pub file: Arc<str>,
    /// Line in `file`, from 1; 0 where unknown.
    pub line: u32,
    /// First line of the function, from 1; 0 where unknown. The site identity is relative to it.
    pub function_start_line: u32,
    /// Whether this call was inlined into the frame that follows.
    pub inlined: bool,
}
