//! The three address words, as types so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A byte position in an ELF file: what a uprobe is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileOffset(pub u64);

/// A stated virtual memory address: what the ELF file says, before the loader adds its bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Svma(pub u64);

/// An actual virtual memory address: in a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Avma(pub u64);

/// What the loader added to every stated address of a process; 0 where the binary is not position independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LoadBias(pub u64);

impl Svma {
    /// Where this address lies in a process.
    #[must_use]
    pub fn in_process(self, bias: LoadBias) -> Avma {
        Avma(self.0.wrapping_add(bias.0))
    }
}

impl Avma {
    /// Where this address lies in the file.
    #[must_use]
    pub fn in_file(self, bias: LoadBias) -> Svma {
        Svma(self.0.wrapping_sub(bias.0))
    }
}

macro_rules! show_as_hex {
    ($($address:ty),*) => {$(
        impl fmt::Display for $address {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:#x}", self.0)
            }
        }
    )*};
}
show_as_hex!(FileOffset, Svma, Avma, LoadBias);
