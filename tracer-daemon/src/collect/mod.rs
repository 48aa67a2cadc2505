//! What happened? Ring bytes and map contents to stacks and counts, losses counted.
//!
//! Counterpart: `tracer-ebpf/src/{allocations,goroutines,milliseconds,stacks,counters}.rs`, which write what is read here. Holds the maps of one
//! attachment; the attachment itself (programs, links, gate) is `attach`'s.

pub mod births;
pub mod hooks;
pub mod milliseconds;
mod record;
mod ring;

use std::fmt;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap};
use thiserror::Error;
use tracer_common::{
    exact::{AllocationCount, GoroutineCount, StackKey, Total},
    loss::Loss,
};

use crate::{addr::Avma, attach::Attachment};

use milliseconds::{MillisecondNews, MillisecondReader};
pub use record::{NewStack, decode};
use ring::Records;

/// A map could not be found or read: the world broke.
#[derive(Debug, Error)]
pub enum CollectError {
    /// The kernel object has no map of that name.
    #[error("the kernel object has no map `{name}`: object and daemon are of different builds; build leakline anew")]
    NoSuchMap {
        /// Name in the object.
        name: &'static str,
    },
    /// The kernel refused a read.
    #[error("cannot read map `{name}` of our kernel programs (please report this)")]
    Unreadable {
        /// Name in the object.
        name: &'static str,
        /// What the kernel said.
        source: MapError,
    },
}

/// Everything that was counted since counting began.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Allocations by stack.
    pub allocations: Vec<(StackKey, AllocationCount)>,
    /// Goroutine creations, and exits of those, by creation stack.
    pub goroutines: Vec<(StackKey, GoroutineCount)>,
    /// Exits of goroutines whose creation was not seen, by the return address of their `go` statement.
    pub exits_by_creator: Vec<(Avma, u64)>,
    /// All allocations.
    pub allocated: AllocationCount,
    /// All goroutine creations.
    pub goroutines_created: u64,
    /// All goroutine exits.
    pub goroutines_exited: u64,
    /// How often a probe fired, counting or not.
    pub probe_hits: u64,
    /// Every loss reason of the kernel programs.
    pub losses: [u64; Loss::COUNT as usize],
}

/// The maps of one attachment.
pub struct Reader {
    stacks: Records,
    allocations: PerCpuHashMap<MapData, StackKey, AllocationCount>,
    goroutines: HashMap<MapData, StackKey, GoroutineCount>,
    exit_places: HashMap<MapData, u64, u64>,
    totals: PerCpuArray<MapData, u64>,
    losses: PerCpuArray<MapData, u64>,
    milliseconds: PerCpuArray<MapData, AllocationCount>,
    seen_milliseconds: MillisecondReader,
}

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Reader").field("stacks", &self.stacks).finish_non_exhaustive()
    }
}

impl Reader {
    /// Takes the maps out of an attachment. Works once for each.
    pub fn new(attachment: &mut Attachment) -> Result<Self, CollectError> {
        macro_rules! take {
            ($name:literal) => {
                attachment
                    .take_map($name)
                    .ok_or(CollectError::NoSuchMap { name: $name })?
                    .try_into()
                    .map_err(|source| CollectError::Unreadable { name: $name, source })?
            };
        }
        Ok(Self {
            stacks: Records::new(take!("STACKS")),
            allocations: take!("ALLOCATIONS"),
            goroutines: take!("GOROUTINES"),
            exit_places: take!("EXIT_PLACES"),
            totals: take!("TOTALS"),
            losses: take!("LOSSES"),
            milliseconds: take!("MILLISECONDS"),
            seen_milliseconds: MillisecondReader::default(),
        })
    }

    /// Hands every stack now in the ring to `receive`, oldest first.
    pub fn drain_stacks(&mut self, receive: impl FnMut(NewStack)) {
        self.stacks.drain(decode, receive);
    }

    /// Ring records that did not follow the contract; anything but 0 is a bug.
    pub fn undecodable(&self) -> u64 {
        self.stacks.undecodable()
    }

    /// From now on allocations may count; `now`: the millisecond of the monotonic clock.
    pub fn begin_milliseconds(&mut self, now: u64) {
        self.seen_milliseconds.begin(now);
    }

    /// Tells what was allocated in which millisecond since it was asked last. To be asked at least once a second.
    pub fn milliseconds(&mut self, now: u64, tell: impl FnMut(MillisecondNews)) -> Result<(), CollectError> {
        let Self { milliseconds, seen_milliseconds, .. } = self;
        let read = |entry| {
            let per_cpu = milliseconds.get(&entry, 0).map_err(unreadable("MILLISECONDS"))?;
            Ok(over_cpus(per_cpu.iter()))
        };
        seen_milliseconds.look(now, read, tell)
    }

    /// Reads the totals alone.
    pub fn totals(&self) -> Result<[u64; Total::COUNT as usize - 1], CollectError> {
        let total = |which: Total| sum(&self.totals, "TOTALS", which as u32);
        Ok([
            total(Total::AllocatedObjects)?,
            total(Total::AllocatedBytes)?,
            total(Total::GoroutinesCreated)?,
            total(Total::GoroutinesExited)?,
        ])
    }

    /// Reads all counts. While counting is on they are of slightly different moments; once the gate is closed they are exact.
    pub fn counts(&self) -> Result<Counts, CollectError> {
        // The totals are read last, so that while counting is on they are never below the sum of the stacks.
        let mut counts = Counts::default();
        for entry in &self.allocations {
            let (key, per_cpu) = entry.map_err(unreadable("ALLOCATIONS"))?;
            counts.allocations.push((key, over_cpus(per_cpu.iter())));
        }
        for entry in &self.goroutines {
            counts.goroutines.push(entry.map_err(unreadable("GOROUTINES"))?);
        }
        for entry in &self.exit_places {
            let (creator, exits) = entry.map_err(unreadable("EXIT_PLACES"))?;
            counts.exits_by_creator.push((Avma(creator), exits));
        }
        for reason in Loss::ALL {
            counts.losses[reason as usize] = sum(&self.losses, "LOSSES", reason as u32)?;
        }
        let [objects, bytes, created, exited] = self.totals()?;
        counts.allocated = AllocationCount { objects, bytes };
        counts.goroutines_created = created;
        counts.goroutines_exited = exited;
        counts.probe_hits = sum(&self.totals, "TOTALS", Total::ProbeHits as u32)?;
        Ok(counts)
    }
}

fn over_cpus<'a>(counts: impl Iterator<Item = &'a AllocationCount>) -> AllocationCount {
    counts.fold(AllocationCount::default(), |sum, cpu| AllocationCount {
        objects: sum.objects.wrapping_add(cpu.objects),
        bytes: sum.bytes.wrapping_add(cpu.bytes),
    })
}

fn unreadable(name: &'static str) -> impl Fn(MapError) -> CollectError {
    move |source| CollectError::Unreadable { name, source }
}

fn sum(map: &PerCpuArray<MapData, u64>, name: &'static str, index: u32) -> Result<u64, CollectError> {
    let per_cpu = map.get(&index, 0).map_err(unreadable(name))?;
    Ok(per_cpu.iter().fold(0, |sum: u64, &cpu| sum.wrapping_add(cpu)))
}
