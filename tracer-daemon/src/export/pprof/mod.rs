//! Profiles as pprof files: profile.proto in gzip, which `go tool pprof` and many services read.
//!
//! Owns the format, in both directions: [`Profile::to_bytes`] writes, [`Profile::parse`] reads any such file, which is hostile
//! input. What is read is kept as far as heap profiles need it; labels other than the size of an object, columns and
//! instructions for viewers are not.

mod message;
mod parse;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

pub use self::parse::{FILE_BYTES_MAX, PprofError};

/// What a value is: `inuse_space` in `bytes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueType {
    /// What is counted.
    pub kind: Arc<str>,
    /// In which unit.
    pub unit: Arc<str>,
}

impl ValueType {
    /// From its two names.
    pub fn new(kind: &str, unit: &str) -> Self {
        Self { kind: kind.into(), unit: unit.into() }
    }

    /// The four of a heap profile, in the order of runtime/pprof.
    pub fn of_heap() -> Vec<Self> {
        let types = [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ];
        types.map(|(kind, unit)| Self::new(kind, unit)).into()
    }
}

/// A profile. Things refer to each other by their place in these lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What the values of a sample are.
    pub sample_types: Vec<ValueType>,
    /// The kind that viewers show first; empty: the last. Not read.
    pub shown_first: Arc<str>,
    /// What `period` is.
    pub period_type: ValueType,
    /// Mean bytes between two samples of a heap profile.
    pub period: i64,
    /// When, ns since 1970; 0: not known.
    pub time_unix_ns: i64,
    /// How long, ns; 0: since the program began.
    pub duration_ns: i64,
    /// Files in memory.
    pub mappings: Vec<Mapping>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Addresses of stacks.
    pub locations: Vec<Location>,
    /// Stacks.
    pub samples: Vec<Sample>,
    /// For people and for ourselves.
    pub comments: Vec<Arc<str>>,
}

/// A file in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// Behind the last.
    pub end: u64,
    /// What of the file lies at the first address.
    pub file_offset: u64,
    /// Its path.
    pub file: Arc<str>,
    /// Its GNU build id in hex, or empty.
    pub build_id: Arc<str>,
    /// Whether all its locations have functions: then viewers ask no symbol table.
    pub has_functions: bool,
}

/// A function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    /// Its name with type arguments.
    pub name: Arc<str>,
    /// Its source file.
    pub file: Arc<str>,
    /// Its first line; 0: not known.
    pub start_line: i64,
}

/// An address, or a place in the source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Which mapping; `None`: none.
    pub mapping: Option<usize>,
    /// Where; 0: not known.
    pub address: u64,
    /// The innermost inlined call first.
    pub lines: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Line {
    /// Which function.
    pub function: usize,
    /// From 1; 0: not known.
    pub line: i64,
}

/// A stack with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Which locations, leaf first.
    pub locations: Vec<usize>,
    /// One for each sample type.
    pub values: Vec<i64>,
    /// Bytes of each object (the label `bytes` of runtime/pprof).
    pub size_bytes: Option<i64>,
    /// Further labels with their texts. Not read.
    pub labels: Vec<(&'static str, Arc<str>)>,
}

impl Profile {
    /// Where the values of a type stand; `None`: the profile has none.
    pub fn position(&self, kind: &str) -> Option<usize> {
        self.sample_types.iter().position(|known| &*known.kind == kind)
    }
}
