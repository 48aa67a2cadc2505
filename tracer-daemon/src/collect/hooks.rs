//! What the hooks on goroutines counted, and until when they count.
//!
//! Counterpart: `tracer-ebpf/src/goroutines.rs`, program `goroutines`. Three parts, since who lets it count, who watches how often it is hit
//! and who reads the counts need not be the same.

use std::{fmt, sync::Arc};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use tracer_common::exact::{GoroutineCount, StackKey, Total};

use super::ring::Records;
use super::{CollectError, NewStack, decode, sum, unreadable};
use crate::addr::Avma;

/// Until when hits count.
pub struct HookGate(Array<MapData, u64>);

/// How often the hooks were hit, and what that was.
pub struct HookTotals(PerCpuArray<MapData, u64>);

/// Counts by stack and by place.
pub struct HookReader {
    stacks: Records,
    created: HashMap<MapData, StackKey, GoroutineCount>,
    exited: HashMap<MapData, u64, u64>,
    totals: Arc<HookTotals>,
}

/// Everything that was counted since the programs were loaded. While hits count it is of slightly different moments, and the totals are
/// never below the sums.
#[derive(Clone, Debug, Default)]
pub struct HookCounts {
    /// Creations by stack.
    pub created: Vec<(StackKey, u64)>,
    /// Exits by the return address of the `go` statement, whenever they were created.
    pub exited: Vec<(Avma, u64)>,
    /// All creations, and all exits.
    pub totals: [u64; 2],
}

impl fmt::Debug for HookGate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HookGate").finish_non_exhaustive()
    }
}

impl fmt::Debug for HookTotals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HookTotals").finish_non_exhaustive()
    }
}

impl fmt::Debug for HookReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HookReader").field("stacks", &self.stacks).finish_non_exhaustive()
    }
}

impl HookGate {
    /// From now on hits count until then, ns of the monotonic clock; 0: none does.
    pub fn set(&mut self, until_ns: u64) -> Result<(), CollectError> {
        self.0.set(0, until_ns, 0).map_err(unreadable("HOOKS_UNTIL"))
    }
}

impl HookTotals {
    /// Hits since the programs were loaded, counted or not: what costs the target.
    pub fn hits(&self) -> Result<u64, CollectError> {
        sum(&self.0, "TOTALS", Total::ProbeHits as u32)
    }

    /// Creations and exits that were counted.
    pub fn turnover(&self) -> Result<[u64; 2], CollectError> {
        let total = |which: Total| sum(&self.0, "TOTALS", which as u32);
        Ok([total(Total::GoroutinesCreated)?, total(Total::GoroutinesExited)?])
    }
}

/// Takes the maps of the hooks out of an object. Works once for each.
pub fn take_hooks(
    mut take_map: impl FnMut(&'static str) -> Option<Map>,
) -> Result<(HookGate, Arc<HookTotals>, HookReader), CollectError> {
    macro_rules! take {
        ($name:literal) => {
            take_map($name)
                .ok_or(CollectError::NoSuchMap { name: $name })?
                .try_into()
                .map_err(|source| CollectError::Unreadable { name: $name, source })?
        };
    }
    let gate = HookGate(take!("HOOKS_UNTIL"));
    let totals = Arc::new(HookTotals(take!("TOTALS")));
    let reader = HookReader {
        stacks: Records::new(take!("STACKS")),
        created: take!("GOROUTINES"),
        exited: take!("EXIT_PLACES"),
        totals: Arc::clone(&totals),
    };
    Ok((gate, totals, reader))
}

impl HookReader {
    /// Hands every stack now in the ring to `receive`, oldest first. A stack that is in the counts was sent, or is being sent.
    pub fn drain_stacks(&mut self, receive: impl FnMut(NewStack)) {
        self.stacks.drain(decode, receive);
    }

    /// Ring records that did not follow the contract; anything but 0 is a bug.
    pub fn undecodable(&self) -> u64 {
        self.stacks.undecodable()
    }

    /// Creations and exits that were counted.
    pub fn turnover(&self) -> Result<[u64; 2], CollectError> {
        self.totals.turnover()
    }

    /// Reads all counts.
    pub fn counts(&self) -> Result<HookCounts, CollectError> {
        let mut counts = HookCounts::default();
        for entry in &self.created {
            let (key, counted) = entry.map_err(unreadable("GOROUTINES"))?;
            counts.created.push((key, counted.created));
        }
        for entry in &self.exited {
            let (creator, exits) = entry.map_err(unreadable("EXIT_PLACES"))?;
            counts.exited.push((Avma(creator), exits));
        }
        counts.totals = self.turnover()?;
        Ok(counts)
    }
}
