//! How much of each page of an arena is in memory.

use super::{ARENA_BYTES, PAGE_BYTES, Run};
use crate::addr::Avma;
use crate::read::ReadError;
use crate::read::system::pagemap::{Page, Pages};
use crate::read::system::smaps::Mapping;

/// Bytes in memory of each page of an arena.
pub(super) struct Resident {
    pub(super) own: Vec<u16>,
    pub(super) all: Vec<u16>,
}

impl Resident {
    /// Asks for all mappings that reach into the arena at `base`.
    pub(super) fn of(base: u64, mappings: &[Mapping], pages: &dyn Pages) -> Result<Self, ReadError> {
        let count = usize::try_from(ARENA_BYTES / PAGE_BYTES).unwrap_or_default();
        let mut resident = Self { own: vec![0; count], all: vec![0; count] };
        let end = base.saturating_add(ARENA_BYTES);
        let kernel_page = pages.page_bytes();
        for mapping in mappings {
            let (from, to) = (mapping.start.0.max(base), mapping.end.0.min(end));
            if from >= to || mapping.rss_bytes == 0 {
                continue;
            }
            let mut add = |at: Avma, page: Page| {
                if page == Page::Absent {
                    return;
                }
                // A page of the kernel is a part of one of the runtime's, or, where it is large, several.
                let (mut from, to) = (at.0, at.0.saturating_add(kernel_page).min(to));
                while from < to {
                    let index = usize::try_from((from - base) / PAGE_BYTES).unwrap_or(usize::MAX);
                    let bytes = (to - from).min(PAGE_BYTES - from % PAGE_BYTES);
                    let bytes_16 = u16::try_from(bytes).unwrap_or_default();
                    let to_slot = |slots: &mut [u16]| {
                        if let Some(slot) = slots.get_mut(index) {
                            *slot = slot.saturating_add(bytes_16);
                        }
                    };
                    to_slot(&mut resident.all);
                    if page == Page::Own {
                        to_slot(&mut resident.own);
                    }
                    from += bytes;
                }
            };
            pages.each(Avma(from), Avma(to), &mut add).map_err(|error| ReadError::Pages { source: error })?;
        }
        Ok(resident)
    }

    /// Bytes in memory of some pages: own ones, and all.
    pub(super) fn of_run(&self, run: Run) -> (u64, u64) {
        let sum = |slots: &[u16]| {
            slots.get(run.first..run.first + run.count).unwrap_or_default().iter().map(|bytes| u64::from(*bytes)).sum()
        };
        (sum(&self.own), sum(&self.all))
    }
}
