//! Which goroutines are taken together: those that run long stand for themselves, the others for all that began with the same
//! function.
//!
//! A goroutine that was seen in two bursts is taken to run long, and has a group from then on. What it did before counts for its
//! function's group, in each kind of burst alike; where nobody else was seen that began with that function, this becomes its own.
//! Else the first burst, which stands for much of a short look, would know refills of one group and births of another.

use std::collections::{HashMap, VecDeque};

use super::Goroutine;
use crate::model::birth_look::OTHER_GROUP;

/// Goroutines with a group of their own at a time.
const OWN_MAX: usize = 64;
/// One that was not seen for so long has ended, nanoseconds.
const IDLE_NS: u64 = 60_000_000_000;
/// Goroutines that were seen once, of which is remembered in which burst.
const ONCE_MAX: usize = 1024;
/// Functions that have a group. Of groups that are not used any more nothing is kept here.
const FUNCTIONS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Groups {
    own: HashMap<u64, Own>,
    of_function: HashMap<u64, OfFunction>,
    once: HashMap<u64, u32>,
    once_order: VecDeque<u64>,
    made: u32,
}

#[derive(Debug)]
struct Own {
    group: u32,
    seen_ns: u64,
}

#[derive(Debug)]
struct OfFunction {
    group: u32,
    /// The only goroutine that counts for it so far.
    only: Option<u64>,
}

impl Groups {
    /// The group of a goroutine that was seen in a burst.
    pub(super) fn of(&mut self, goroutine: Goroutine, burst: u32, at_ns: u64) -> u32 {
        if let Some(own) = self.own.get_mut(&goroutine.id) {
            own.seen_ns = own.seen_ns.max(at_ns);
            return own.group;
        }
        let is_second = self.once.get(&goroutine.id).is_some_and(|before| *before != burst);
        if is_second && self.has_room(at_ns) && self.made < OTHER_GROUP {
            let group = self.take_over(goroutine).unwrap_or_else(|| self.make());
            self.own.insert(goroutine.id, Own { group, seen_ns: at_ns });
            return group;
        }
        if !is_second && self.once.insert(goroutine.id, burst).is_none() {
            self.once_order.push_back(goroutine.id);
            if self.once_order.len() > ONCE_MAX
                && let Some(oldest) = self.once_order.pop_front()
            {
                self.once.remove(&oldest);
            }
        }
        if let Some(known) = self.of_function.get_mut(&goroutine.start_pc) {
            known.only = known.only.filter(|only| *only == goroutine.id);
            return known.group;
        }
        if self.of_function.len() >= FUNCTIONS_MAX || self.made == OTHER_GROUP {
            return OTHER_GROUP;
        }
        let group = self.make();
        self.of_function.insert(goroutine.start_pc, OfFunction { group, only: Some(goroutine.id) });
        group
    }

    /// The group of its function, where nobody else counts for it. Who begins with that function later has another.
    fn take_over(&mut self, goroutine: Goroutine) -> Option<u32> {
        let known = self.of_function.get(&goroutine.start_pc)?;
        let group = (known.only == Some(goroutine.id)).then_some(known.group)?;
        self.of_function.remove(&goroutine.start_pc);
        Some(group)
    }

    fn make(&mut self) -> u32 {
        self.made += 1;
        self.made - 1
    }

    fn has_room(&mut self, now_ns: u64) -> bool {
        if self.own.len() >= OWN_MAX {
            self.own.retain(|_, own| now_ns.saturating_sub(own.seen_ns) < IDLE_NS);
        }
        self.own.len() < OWN_MAX
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.own.capacity() * size_of::<(u64, Own)>()
            + self.of_function.capacity() * size_of::<(u64, OfFunction)>()
            + self.once.capacity() * size_of::<(u64, u32)>()
            + self.once_order.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_with_its_function_keeps_what_it_did_before() {
        let mut groups = Groups::default();
        let alone = Goroutine { id: 1, start_pc: 10 };
        let first = groups.of(alone, 1, 0);
        assert_eq!([groups.of(alone, 2, 0), groups.of(alone, 3, 0)], [first; 2]);
        // Another one of the same function, later: it is not the first.
        assert_ne!(groups.of(Goroutine { id: 2, start_pc: 10 }, 4, 0), first);
    }

    #[test]
    fn of_several_with_one_function_none_takes_what_all_did() {
        let mut groups = Groups::default();
        let of = |id| Goroutine { id, start_pc: 10 };
        let shared = groups.of(of(1), 1, 0);
        assert_eq!(groups.of(of(2), 1, 0), shared);
        let own = [groups.of(of(1), 2, 0), groups.of(of(2), 2, 0)];
        assert!(own[0] != shared && own[1] != shared && own[0] != own[1]);
        assert_eq!(groups.of(of(3), 2, 0), shared);
    }
}
