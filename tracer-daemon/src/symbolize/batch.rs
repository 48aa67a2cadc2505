//! Many addresses at once, in the order of the binary: what lies together is read once.

use std::sync::Arc;

use super::expand::Expansion;
use super::{Key, Position, STACK_PCS_MAX, Symbolizer};
use crate::addr::Avma;

/// Most addresses that are expanded ahead; some 200 bytes each, given back when the batch is done.
const ADDRESSES_MAX: usize = 16_384;

/// Bytes of names among them, each use of a name counted; a hostile binary can have half a megabyte an address.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// What was expanded ahead for the stacks at hand.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// By address.
    expansions: Vec<(Key, Option<Arc<Expansion>>)>,
    /// For each address of each stack, one stack after the other: where in `expansions` it is.
    places: Vec<u32>,
}

/// The part of a batch that belongs to one stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead<'batch> {
    expansions: &'batch [(Key, Option<Arc<Expansion>>)],
    places: &'batch [u32],
}

impl Batch {
    /// Expands the addresses of some stacks, leaves first: each once, up to a bound.
    pub(super) fn of(symbolizer: &mut Symbolizer, stacks: &[&[Avma]]) -> Self {
        let positions = || std::iter::once(Position::Exact).chain(std::iter::repeat(Position::Return));
        let keys = stacks.iter().flat_map(|stack| stack.iter().take(STACK_PCS_MAX).copied().zip(positions()));
        let mut sought: Vec<(Key, u32)> = keys.zip(0..).collect();
        let mut batch = Self { expansions: Vec::new(), places: vec![u32::MAX; sought.len()] };
        sought.sort_unstable();
        let mut text_bytes = 0;
        for (key, place) in sought {
            if batch.expansions.last().is_none_or(|(last, _)| *last != key) {
                if batch.expansions.len() == ADDRESSES_MAX || text_bytes > TEXT_BYTES_MAX {
                    break;
                }
                let expansion = symbolizer.expansion(key);
                text_bytes += expansion.as_ref().map_or(0, |expansion| expansion.text_bytes());
                batch.expansions.push((key, expansion));
            }
            let index = u32::try_from(batch.expansions.len() - 1).unwrap_or(u32::MAX);
            let place = usize::try_from(place).ok().and_then(|place| batch.places.get_mut(place));
            *place.unwrap_or(&mut 0) = index;
        }
        batch
    }

    /// What belongs to each of these stacks, which are those of [`Self::of`].
    pub(super) fn of_each<'batch>(&'batch self, stacks: &'batch [&[Avma]]) -> impl Iterator<Item = Ahead<'batch>> {
        let mut rest = &*self.places;
        stacks.iter().map(move |stack| {
            let (places, behind) = rest.split_at(stack.len().min(STACK_PCS_MAX).min(rest.len()));
            rest = behind;
            Ahead { expansions: &self.expansions, places }
        })
    }
}

impl Ahead<'_> {
    /// Nothing was expanded ahead.
    pub(super) const NOTHING: Self = Self { expansions: &[], places: &[] };

    /// The expansion of a stack's address number `index`; `None` where it is not there, or of another position.
    pub(super) fn get(&self, index: usize, key: Key) -> Option<&Arc<Expansion>> {
        let place = usize::try_from(*self.places.get(index)?).ok()?;
        let (known, expansion) = self.expansions.get(place)?;
        expansion.as_ref().filter(|_| *known == key)
    }
}
