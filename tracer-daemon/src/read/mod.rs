//! What do the target's books say now?
//!
//! Owns all reading of a target's memory. Every pointer found there is taken for a guess: what does not fit is read again a few
//! times, then refused or counted, never believed. Never stops a target, never writes to it.

mod batch;
mod blocks;
pub mod books;
mod denial;
mod discard;
mod error;
pub mod goroutines;
pub mod heap;
pub mod heap_pages;
pub mod marks;
pub mod memory;
pub mod profile;
pub mod recording;
pub mod residency;
mod stack;
pub mod system;
mod wait;

pub use self::denial::Denial;
pub use self::discard::{Discard, Discards};
pub use self::error::ReadError;

use std::ops::Range;
use std::sync::Arc;

use crate::addr::{Avma, LoadBias};
use crate::discover::{ProcessIdentity, code_mapping};
use crate::inspect::{BinaryFacts, Global, GlobalMissing, RuntimeLayout};

/// Where one process keeps its runtime's structures. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runtime {
    facts: Arc<BinaryFacts>,
    bias: LoadBias,
}

impl Runtime {
    /// Of a process that runs the binary of `facts`, loaded at `bias`.
    pub fn new(facts: Arc<BinaryFacts>, bias: LoadBias) -> Self {
        Self { facts, bias }
    }

    /// What is known of the binary.
    pub fn facts(&self) -> &BinaryFacts {
        &self.facts
    }

    /// Where things lie in the runtime's structures.
    pub fn layout(&self) -> &RuntimeLayout {
        &self.facts.layout
    }

    /// What the loader added to every address of the file.
    pub fn bias(&self) -> LoadBias {
        self.bias
    }

    /// Where a variable is in the process.
    ///
    /// # Errors
    /// The reason for which that is not known.
    pub fn address(&self, global: Global) -> Result<Avma, GlobalMissing> {
        Ok(self.facts.globals.get(global)?.address.in_process(self.bias))
    }

    /// Go's code in the process, without that of plugins. `None`: the binary cannot be read.
    pub fn text(&self) -> Option<Range<Avma>> {
        let text = self.facts.functions_table.text().ok()?;
        Some(text.start.in_process(self.bias)..text.end.in_process(self.bias))
    }
}

/// What the loader added to every address of the file. None: the process is gone.
pub fn load_bias(facts: &BinaryFacts, identity: &ProcessIdentity) -> Option<LoadBias> {
    if !facts.position_independent {
        return Some(LoadBias(0));
    }
    // A program can map its own file a second time, for data. Code of it is mapped once, by the loader.
    let code = facts.segments.iter().find(|segment| segment.executable)?;
    let (address, offset) = code_mapping(identity, code.file_offset)?;
    // Mappings begin at page boundaries, segments need not: but what is mapped where differs by the same amount for both.
    let stated = code.svma.0.wrapping_sub(code.file_offset.0);
    Some(LoadBias(address.0.wrapping_sub(offset.0).wrapping_sub(stated)))
}
