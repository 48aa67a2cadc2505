//! What do the target's books say now?
//!
//! Owns all reading of a target's memory. Every pointer found there is taken for a guess: what does not fit is read again a few
//! times, then refused or counted, never believed.

pub mod books;
pub mod memory;

use crate::addr::{Avma, LoadBias};
use crate::inspect::{BinaryFacts, Global, GlobalMissing, RuntimeLayout};

/// Where one process keeps its books.
#[derive(Clone, Debug)]
pub struct Runtime {
    layout: RuntimeLayout,
    bias: LoadBias,
    globals: crate::inspect::Globals,
}

impl Runtime {
    /// Of a process that runs the binary of `facts`, loaded at `bias`.
    pub fn new(facts: &BinaryFacts, bias: LoadBias) -> Self {
        Self { layout: facts.layout, bias, globals: facts.globals.clone() }
    }

    /// Where things lie in the runtime's structures.
    pub fn layout(&self) -> &RuntimeLayout {
        &self.layout
    }

    /// Where a variable is in the process.
    ///
    /// # Errors
    /// The reason for which that is not known.
    pub fn address(&self, global: Global) -> Result<Avma, GlobalMissing> {
        Ok(self.globals.get(global)?.address.in_process(self.bias))
    }
}
