//! A map with a bound: what was not asked for lately is forgotten, and counted.

use std::collections::HashMap;
use std::hash::Hash;

/// Two generations of at most `generation` entries each, of at most `weight_max` together (of whatever the caller weighs in).
/// When the young one is full, the old one is dropped and the young one becomes old; an old entry that is asked for becomes
/// young again. Costs no order to keep, and never forgets an entry that was among the last `generation` asked for unless
/// those weigh too much.
#[derive(Debug)]
pub(crate) struct RecentMap<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    generation: usize,
    weight_max: usize,
    /// Of the young ones.
    weight: usize,
    forgotten: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> RecentMap<K, V> {
    pub(crate) fn new(generation: usize, weight_max: usize) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self { young, old, generation: generation.max(1), weight_max, weight: 0, forgotten: 0 }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    /// The key must not be there. What weighs more than all may is kept alone.
    pub(crate) fn insert(&mut self, key: K, value: V, weight: usize) {
        let too_heavy = self.weight.saturating_add(weight) > self.weight_max && !self.young.is_empty();
        if self.young.len() >= self.generation || too_heavy {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
            self.weight = 0;
        }
        self.weight = self.weight.saturating_add(weight);
        self.young.insert(key, (value, weight));
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

    #[test]
    fn heavy_entries_are_fewer() {
        let mut map = RecentMap::new(8, 100);
        for key in 0..20 {
            map.insert(key, key, 40);
        }
        // Two of 40 in each of two generations.
        assert_eq!((map.len(), map.forgotten()), (4, 16));
        assert_eq!((map.get(&19), map.get(&15)), (Some(19), None));
        map.insert(100, 100, 1_000);
        assert_eq!(map.get(&100), Some(100));
    }

    proptest! {
        #[test]
        fn bound_holds_and_every_entry_is_held_or_counted(keys in prop::collection::vec(0..60_u32, 0..500)) {
            let mut map = RecentMap::new(8, usize::MAX);
            let mut inserted = 0;
            for key in keys {
                if let Some(value) = map.get(&key) {
                    prop_assert_eq!(value, key * 2);
                } else {
                    map.insert(key, key * 2, 1);
                    inserted += 1;
                }
                prop_assert_eq!(map.get(&key), Some(key * 2));
                prop_assert!(map.len() <= 16);
                prop_assert_eq!(map.len() as u64 + map.forgotten(), inserted);
            }
        }
    }
}
