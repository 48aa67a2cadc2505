//! Sums over objects that are alike, and what of them is new since it was told.

use std::collections::HashMap;

use crate::model::birth_look::{CellKey, CellSum, OTHER_PATH, Seen};

/// Of the sums, this part is for objects whose path has no room.
const OTHER_SHARE: usize = 4;

/// A sum.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Over objects of which nothing more will be known.
    ended: CellSum,
    /// With those that are alive.
    now: CellSum,
    /// What was told last, with its number.
    told: Option<(u32, CellSum)>,
}

#[derive(Debug)]
pub(super) struct Sums {
    max: usize,
    cells: HashMap<CellKey, Cell>,
    numbers: u32,
}

impl Sums {
    pub(super) fn new(max: usize) -> Self {
        Self { max, cells: HashMap::new(), numbers: 0 }
    }

    /// One more object. False: there was no room for it.
    pub(super) fn add(&mut self, key: CellKey, weight: f64) -> bool {
        self.cell(key).map(|cell| cell.ended.add(weight)).is_some()
    }

    /// So many of the same weight.
    pub(super) fn add_many(&mut self, key: CellKey, number: u64, weight: f64) -> bool {
        let all = crate::units::approximate(number);
        let sum = CellSum { number, weight: all * weight, squares: all * weight * weight };
        self.cell(key).map(|cell| cell.ended.add_all(&sum)).is_some()
    }

    /// The cell of a key; where there are too many, that of all whose path has no room.
    fn cell(&mut self, key: CellKey) -> Option<&mut Cell> {
        let has_room = self.cells.len() < self.max - self.max / OTHER_SHARE;
        let key = if has_room || self.cells.contains_key(&key) { key } else { other(key) };
        if self.cells.len() >= self.max && !self.cells.contains_key(&key) {
            return None;
        }
        Some(self.cells.entry(key).or_default())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &CellKey> {
        self.cells.keys()
    }

    pub(super) fn forget_before(&mut self, slice: u32) {
        self.cells.retain(|key, _| key.slice >= slice);
    }

    /// The keys that were not told yet, what of the sums has changed, and how many objects had no room. Alive objects are added anew
    /// each time.
    pub(super) fn changed_with(
        &mut self,
        alive: impl Iterator<Item = (CellKey, f64)>,
    ) -> (Vec<CellKey>, Vec<(u32, CellSum)>, u64) {
        for cell in self.cells.values_mut() {
            cell.now = cell.ended;
        }
        let mut refused = 0_u64;
        for (key, weight) in alive {
            match self.cell(key) {
                Some(cell) => cell.now.add(weight),
                None => refused += 1,
            }
        }
        // The order is that of the keys, so that the same births are told in the same words.
        let is_news = |cell: &Cell| match cell.told {
            Some((_, told)) => told != cell.now,
            None => cell.now.number > 0,
        };
        let mut news: Vec<(CellKey, &mut Cell)> =
            self.cells.iter_mut().filter(|(_, cell)| is_news(cell)).map(|(key, cell)| (*key, cell)).collect();
        news.sort_unstable_by_key(|(key, cell)| (cell.told.is_none(), cell.told.map(|(number, _)| number), *key));
        let (mut new_cells, mut changed) = (Vec::new(), Vec::new());
        for (key, cell) in news {
            let number = cell.told.map_or(self.numbers, |(number, _)| number);
            if cell.told.is_none() {
                let Some(next) = self.numbers.checked_add(1) else { break };
                self.numbers = next;
                new_cells.push(key);
            }
            cell.told = Some((number, cell.now));
            changed.push((number, cell.now));
        }
        // Nothing is in them any more, and that was told.
        self.cells.retain(|_, cell| cell.now.number > 0);
        (new_cells, changed, refused)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.cells.capacity() * size_of::<(CellKey, Cell)>()
    }
}

fn other(key: CellKey) -> CellKey {
    let seen = match key.seen {
        Seen::Lives { age_cycles, died, .. } => Seen::Lives { path: OTHER_PATH, age_cycles, died },
        Seen::Refills => Seen::Refills,
    };
    CellKey { seen, ..key }
}
