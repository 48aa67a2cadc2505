//! Numbers of stacks.

use std::collections::HashMap;

use crate::model::birth_look::OTHER_PATH;

/// Return addresses of one stack that are kept.
const FRAMES_MAX: usize = 128;

/// The stacks that were seen, numbered in the order of their first appearance.
#[derive(Debug)]
pub(super) struct Paths {
    max: usize,
    numbers: HashMap<Box<[u64]>, u32>,
    new: Vec<Box<[u64]>>,
    frames: usize,
}

impl Paths {
    pub(super) fn new(max: usize) -> Self {
        Self { max, numbers: HashMap::new(), new: Vec::new(), frames: 0 }
    }

    /// The number of a stack; [`OTHER_PATH`] where there is no room for one more, or it has no frame.
    pub(super) fn number(&mut self, frames: &[u64]) -> u32 {
        let frames = frames.get(..FRAMES_MAX).unwrap_or(frames);
        if let Some(number) = self.numbers.get(frames) {
            return *number;
        }
        let Ok(number) = u32::try_from(self.numbers.len()) else { return OTHER_PATH };
        if self.numbers.len() >= self.max || frames.is_empty() {
            return OTHER_PATH;
        }
        self.numbers.insert(frames.into(), number);
        self.new.push(frames.into());
        self.frames += frames.len();
        number
    }

    /// Those that nobody was told of.
    pub(super) fn take_new(&mut self) -> Vec<Box<[u64]>> {
        std::mem::take(&mut self.new)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.frames * size_of::<u64>() + self.numbers.capacity() * size_of::<(Box<[u64]>, u32)>()
    }
}
