//! A map with a bound: what was not asked for lately is forgotten, and counted.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations of at most `generation` entries each. When the young one is full, the old one is dropped and the
/// young one becomes old; an old entry that is asked for becomes young again. Costs no order to keep, and never forgets
/// an entry that was among the last `generation` asked for.
#[derive(Debug)]
pub(crate) struct RecentMap<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation: usize,
    forgotten: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> RecentMap<K, V> {
    pub(crate) fn new(generation: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation: generation.max(1), forgotten: 0 }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    /// The key must not be there.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// How many entries were dropped to keep the bound.
    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bound_holds_and_every_entry_is_held_or_counted(keys in prop::collection::vec(0..60_u32, 0..500)) {
            let mut map = RecentMap::new(8);
            let mut inserted = 0;
            for key in keys {
                if let Some(value) = map.get(&key) {
                    prop_assert_eq!(value, key * 2);
                } else {
                    map.insert(key, key * 2);
                    inserted += 1;
                }
                prop_assert_eq!(map.get(&key), Some(key * 2));
                prop_assert!(map.len() <= 16);
                prop_assert_eq!(map.len() as u64 + map.forgotten(), inserted);
            }
        }
    }
}
