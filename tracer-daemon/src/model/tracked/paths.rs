//! Numbers of stacks.

use std::collections::{HashMap, HashSet};

use crate::model::birth_look::OTHER_PATH;

/// Return addresses of one stack that are kept.
const FRAMES_MAX: usize = 128;

/// The stacks that are known, numbered in the order of their first appearance. A number is never given twice.
#[derive(Debug)]
pub(super) struct Paths {
    max: usize,
    numbers: HashMap<Box<[u64]>, u32>,
    next: u32,
    /// Not told yet, in the order of their numbers.
    new: Vec<Box<[u64]>>,
    /// Forgotten, and nobody was told.
    gone: Vec<u32>,
    frames: usize,
    /// Births of stacks that had no room.
    refused: u64,
}

impl Paths {
    pub(super) fn new(max: usize) -> Self {
        Self { max, numbers: HashMap::new(), next: 0, new: Vec::new(), gone: Vec::new(), frames: 0, refused: 0 }
    }

    /// The number of a stack; [`OTHER_PATH`] where there is no room for one more, or it has no frame.
    pub(super) fn number(&mut self, frames: &[u64]) -> u32 {
        let frames = frames.get(..FRAMES_MAX).unwrap_or(frames);
        if let Some(number) = self.numbers.get(frames) {
            return *number;
        }
        if frames.is_empty() {
            return OTHER_PATH;
        }
        if self.numbers.len() >= self.max || self.next == OTHER_PATH {
            self.refused = self.refused.saturating_add(1);
            return OTHER_PATH;
        }
        let number = self.next;
        self.next += 1;
        self.numbers.insert(frames.into(), number);
        self.new.push(frames.into());
        self.frames += frames.len();
        number
    }

    /// Forgets all but these, and those that nobody was told of yet.
    pub(super) fn keep(&mut self, used: &HashSet<u32>) {
        let untold_from = self.next.saturating_sub(u32::try_from(self.new.len()).unwrap_or(u32::MAX));
        let Self { numbers, gone, frames, .. } = self;
        numbers.retain(|stack, number| {
            let is_kept = *number >= untold_from || used.contains(number);
            if !is_kept {
                *frames -= stack.len();
                gone.push(*number);
            }
            is_kept
        });
    }

    /// Those that nobody was told of: new stacks, and the numbers of those that were forgotten, ascending.
    pub(super) fn take_news(&mut self) -> (Vec<Box<[u64]>>, Vec<u32>) {
        self.gone.sort_unstable();
        (std::mem::take(&mut self.new), std::mem::take(&mut self.gone))
    }

    /// Births of stacks that had no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.frames * size_of::<u64>() + self.numbers.capacity() * size_of::<(Box<[u64]>, u32)>()
    }
}
