//! Counts by kind, exact for any number of goroutines in bounded memory, and for each kind a random sample of its members.

use std::collections::HashMap;

use super::header::{Header, State};
use crate::addr::Avma;

/// Distinct kinds that are kept apart.
const KINDS_MAX: usize = 2048;
/// Members of a kind that are chosen where there are too many to look at all.
const SAMPLE: usize = 512;
/// Members that are chosen in all.
const SAMPLES_MAX: usize = 16_384;

/// What goroutines have in common without a look at their stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The address behind the `go` statement.
    pub creation: Avma,
    /// The function that was started.
    pub start: Avma,
    /// What they do.
    pub state: State,
    /// Why they wait; 0 where they do not.
    pub wait_reason: u8,
}

/// The members of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// What they have in common.
    pub kind: Kind,
    /// How many there are.
    pub count: u64,
    /// Bytes of all their stacks.
    pub stack_bytes: u64,
    /// The lowest number among them.
    pub lowest_id: u64,
    /// The highest number among them.
    pub highest_id: u64,
    /// The longest known wait among them began then, monotonic, ns. 0: not known of any.
    pub waiting_since_ns: u64,
}

impl KindCount {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, count: 0, stack_bytes: 0, lowest_id: u64::MAX, highest_id: 0, waiting_since_ns: 0 }
    }

    pub(super) fn add(&mut self, id: u64, stack_bytes: u64, waiting_since_ns: u64) {
        self.count += 1;
        self.stack_bytes = self.stack_bytes.saturating_add(stack_bytes);
        self.lowest_id = self.lowest_id.min(id);
        self.highest_id = self.highest_id.max(id);
        if waiting_since_ns != 0 && (self.waiting_since_ns == 0 || waiting_since_ns < self.waiting_since_ns) {
            self.waiting_since_ns = waiting_since_ns;
        }
    }
}

pub(super) fn kind_of(header: &Header) -> Kind {
    Kind { creation: header.creation, start: header.start, state: header.state, wait_reason: header.wait_reason }
}

/// Counts and samples while it is shown one goroutine after the other.
#[derive(Debug)]
pub(super) struct Census {
    kinds: HashMap<Kind, (KindCount, Vec<(Avma, u64)>)>,
    random: Random,
    /// Goroutines of kinds beyond the bound.
    pub(super) beyond: u64,
}

impl Census {
    pub(super) fn new(seed: u64) -> Self {
        Self { kinds: HashMap::new(), random: Random(seed), beyond: 0 }
    }

    pub(super) fn add(&mut self, header: &Header) {
        let kind = kind_of(header);
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&kind) {
            self.beyond += 1;
            return;
        }
        let (counted, sample) = self.kinds.entry(kind).or_insert_with(|| (KindCount::new(kind), Vec::new()));
        counted.add(header.id, header.stack_bytes(), header.waiting_since_ns);
        let member = (header.address, header.id);
        // Each member stays with the same probability (algorithm R of Vitter, 1985).
        if sample.len() < SAMPLE {
            sample.push(member);
        } else if let Ok(place) = usize::try_from(self.random.below(counted.count))
            && let Some(kept) = sample.get_mut(place)
        {
            *kept = member;
        }
    }

    /// The counts, the most frequent first, and who was chosen.
    pub(super) fn finish(self) -> (Vec<KindCount>, Vec<(Avma, u64)>) {
        let mut kinds: Vec<_> = self.kinds.into_values().collect();
        kinds.sort_by(|(a, _), (b, _)| b.count.cmp(&a.count).then(a.kind.cmp(&b.kind)));
        let chosen = kinds.iter().flat_map(|(_, sample)| sample.iter().copied()).take(SAMPLES_MAX).collect();
        (kinds.into_iter().map(|(counted, _)| counted).collect(), chosen)
    }
}

/// Numbers that look random (`SplitMix64`, Steele et al. 2014): enough to choose a sample by.
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    /// Below `bound`, which is not 0. The bias is below 2^-40 for any number of goroutines.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(index: u64) -> Header {
        Header {
            address: Avma(0x1000 + index * 8),
            id: index + 1,
            parent: None,
            creation: Avma(1),
            start: Avma(2),
            state: State::Waiting,
            wait_reason: 14,
            stack_low: 0x1000,
            stack_high: 0x1800,
            stack_pointer: Avma(0x1700),
            pc: Avma(3),
            waiting: Avma(0),
            running_cleanups: false,
            stops: 0,
            waiting_since_ns: 1000 - index.min(900),
        }
    }

    #[test]
    fn every_member_has_the_same_chance_to_be_chosen() {
        let (members, rounds) = (4096_u64, 200_u64);
        let mut chosen_from = [0_u64; 4];
        for round in 0..rounds {
            let mut census = Census::new(round);
            (0..members).for_each(|index| census.add(&header(index)));
            let (kinds, chosen) = census.finish();
            assert_eq!((kinds[0].count, chosen.len()), (members, SAMPLE));
            assert_eq!((kinds[0].lowest_id, kinds[0].highest_id, kinds[0].waiting_since_ns), (1, members, 100));
            for (_, id) in chosen {
                chosen_from[usize::try_from((id - 1) * 4 / members).unwrap()] += 1;
            }
        }
        // Of 102,400 choices a quarter each; the standard deviation is 131.
        assert!(chosen_from.iter().all(|count| count.abs_diff(25_600) < 1000), "{chosen_from:?}");
    }

    #[test]
    fn kinds_beyond_the_bound_are_counted_together() {
        let mut census = Census::new(1);
        for index in 0..KINDS_MAX as u64 + 5 {
            census.add(&Header { creation: Avma(index), ..header(0) });
        }
        assert_eq!((census.beyond, census.finish().0.len()), (5, KINDS_MAX));
    }
}
