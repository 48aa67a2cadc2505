//! The goroutine table: every goroutine of a process, what it does, its stack, what it waits for.
//!
//! The runtime lists all goroutines in `allgs` (runtime/proc.go); entries are never removed, those of dead goroutines are used
//! again. Nothing is stopped: each goroutine is read, then its stack and what it waits for, then the goroutine once more, and what
//! was read counts only where it has not run between. A goroutine that runs has no stack that could be read.
//!
//! Above [`LOOKS_MAX`] goroutines all are counted by kind, and of each kind a random sample is looked at.

mod census;
mod header;
mod look;

use std::collections::{BTreeMap, HashMap};

pub use self::census::{Kind, KindCount};
pub use self::header::State;
pub use super::wait::{Channel, Queue};

use self::census::{Census, kind_of};
use self::header::{Header, Slot, read_slots};
use super::memory::{MemoryError, TargetMemory, Words};
use super::stack::Unwinder;
use super::wait::{self, BATCH};
use super::{Discard, Discards, ReadError, Runtime};
use crate::addr::Avma;
use crate::inspect::Global;

/// Most goroutines that are all looked at; of more, a sample is.
pub const LOOKS_MAX: usize = 50_000;
/// Most entries of the runtime's list that are believed: 64 GiB of goroutines without their stacks.
const LISTED_MAX: u64 = 1 << 27;

/// Which of [`Table::stacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StackId(pub(super) u32);

impl StackId {
    /// Of the stack at this place, for tests.
    #[cfg(test)]
    pub(crate) fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap())
    }

    /// Its place in [`Table::stacks`].
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Why a goroutine has no stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoStack {
    /// It runs: only its processor knows where.
    Running,
    /// It could not be read, or was not believed; counted in the discards.
    Discarded,
}

/// What a goroutine waits for, as far as the runtime has a record of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WaitsOn {
    /// Nothing that has an address.
    #[default]
    Nothing,
    /// To send to a channel, or to receive from it.
    Channel(Avma),
    /// For one of several channels, in the order of their addresses.
    Select(Box<[Avma]>),
    /// For the semaphore at this address, which is a part of a lock or the like.
    Semaphore(Avma),
}

/// One goroutine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// Its number, never used again.
    pub id: u64,
    /// The number of the goroutine that started it. `None` before go1.21, and for those that the runtime started first.
    pub parent: Option<u64>,
    /// What it has in common with others.
    pub kind: Kind,
    /// Bytes of its stack, used or not.
    pub stack_bytes: u64,
    /// Since when it waits at least, monotonic, ns: when the collector first saw it wait. 0: not known.
    pub waiting_since_ns: u64,
    /// Whether it executes cleanups that the program has registered.
    pub running_cleanups: bool,
    /// Its stack.
    pub stack: Result<StackId, NoStack>,
    /// What it waits for.
    pub waits_on: WaitsOn,
}

/// A stack that one or more goroutines have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Leaf first: the instruction at which it stopped, then where each caller goes on.
    pub pcs: Box<[Avma]>,
    /// Whether it goes on.
    pub cut: bool,
}

/// All that was read in one look.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// How many there are of each kind, the most frequent first. Exact.
    pub kinds: Vec<KindCount>,
    /// Those that were looked at: all where `complete`, otherwise a random sample of each kind.
    pub goroutines: Vec<Goroutine>,
    /// Whether `goroutines` are all there are.
    pub complete: bool,
    /// Alive, but of no kind: they ended and began faster than they could be read, or there are too many kinds.
    pub unknown: u64,
    /// Each stack once.
    pub stacks: Vec<Stack>,
    /// Channels that somebody waits for.
    pub channels: BTreeMap<Avma, Channel>,
    /// Which goroutines (index in `goroutines`) have the address of a channel (of `channels`) on their stacks without waiting for
    /// it themselves. In order.
    pub mentions: Vec<(Avma, u32)>,
    /// Whether `mentions` leaves out some of what is on stacks that were read.
    pub mentions_cut: bool,
    /// Texts of the wait reasons that occur.
    pub wait_reasons: BTreeMap<u8, String>,
    /// No goroutine had a number above this when the look began. `None`: not known.
    pub highest_id: Option<u64>,
    /// What was read and not believed, in this look.
    pub discards: Discards,
}

impl Table {
    /// Goroutines that are alive, those of the runtime included.
    pub fn alive(&self) -> u64 {
        self.kinds.iter().map(|counted| counted.count).sum::<u64>() + self.unknown
    }

    /// The runtime's text for what goroutines of a kind wait for, or the name of their state.
    pub fn state_name(&self, kind: &Kind) -> String {
        match self.wait_reasons.get(&kind.wait_reason) {
            Some(text) if kind.state.waits() => text.clone(),
            None if kind.state.waits() && kind.wait_reason != 0 => format!("wait reason {}", kind.wait_reason),
            _ => kind.state.name().to_owned(),
        }
    }
}

/// Reads the goroutine table of one process, again and again.
#[derive(Debug)]
pub struct GoroutineReader {
    runtime: Runtime,
    list_length: Avma,
    list: Avma,
    /// `None`: not known, and then neither is the highest number.
    scheduler: Option<Avma>,
    /// `None`: not known, and then reasons have numbers only.
    reason_strings: Option<Avma>,
    unwinder: Unwinder,
    /// By the program counter in the function that waits: where in its frame the address of the record of the waiting can lie.
    waiter_slots: HashMap<Avma, Vec<usize>>,
    buffer: Vec<u8>,
}

impl GoroutineReader {
    /// Of a process.
    ///
    /// # Errors
    /// Where the address of the runtime's list is not known.
    pub fn new(runtime: Runtime) -> Result<Self, ReadError> {
        Ok(Self {
            list_length: runtime.address(Global::Allglen)?,
            list: runtime.address(Global::Allgptr)?,
            scheduler: runtime.address(Global::Sched).ok(),
            reason_strings: runtime.address(Global::WaitReasonStrings).ok(),
            unwinder: Unwinder::new(runtime.bias()),
            waiter_slots: HashMap::new(),
            buffer: Vec::new(),
            runtime,
        })
    }

    /// One look at all goroutines. `seed` chooses the sample where there are too many of them.
    ///
    /// # Errors
    /// Where the target is gone, may not be read, or holds something else than goroutines.
    pub fn read(&mut self, memory: &dyn TargetMemory, seed: u64) -> Result<Table, ReadError> {
        self.read_within(memory, seed, LOOKS_MAX)
    }

    /// As [`Self::read`], with another bound than [`LOOKS_MAX`].
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_within(&mut self, memory: &dyn TargetMemory, seed: u64, looks_max: usize) -> Result<Table, ReadError> {
        let mut table = Table { highest_id: self.highest_id(memory)?, ..Table::default() };
        match self.list_alive(memory, seed, looks_max, &mut table)? {
            Alive::All(headers) => {
                table.complete = true;
                self.look(memory, headers, &mut table)?;
                table.kinds = kinds_of(&table.goroutines);
            }
            Alive::Many(census) => {
                table.unknown += census.beyond;
                let (kinds, chosen) = census.finish();
                table.kinds = kinds;
                let headers = self.read_chosen(memory, &chosen, &mut table)?;
                let unknown = table.unknown;
                self.look(memory, headers, &mut table)?;
                // Those of the sample are counted already.
                table.unknown = unknown;
            }
        }
        self.name_reasons(memory, &mut table)?;
        Ok(table)
    }

    /// Goes through the runtime's list.
    fn list_alive(
        &mut self,
        memory: &dyn TargetMemory,
        seed: u64,
        looks_max: usize,
        table: &mut Table,
    ) -> Result<Alive, ReadError> {
        // The length first: the list that is published later is at least as long (`allgadd`).
        let length = word(memory, self.list_length)?;
        let list = word(memory, self.list)?;
        if length == 0 || list == 0 {
            return Err(ReadError::NotStarted);
        }
        if length > LISTED_MAX {
            return Err(ReadError::Implausible { what: "number of goroutines", value: length });
        }
        let mut headers: Vec<Header> = Vec::new();
        let mut census: Option<Census> = None;
        let mut implausible = 0_u64;
        let mut pointers = Vec::new();
        let mut at = 0;
        while at < length {
            let count = (length - at).min(BATCH as u64);
            pointers.clear();
            pointers.resize(usize::try_from(8 * count).unwrap_or_default(), 0);
            memory.read(Avma(list.saturating_add(8 * at)), &mut pointers)?;
            at += count;
            let addresses: Vec<Avma> = pointers.chunks(8).map(|bytes| Avma(Words(bytes).u64(0))).collect();
            let slots = self.slots(memory, &addresses)?;
            let bad = slots.iter().filter(|slot| matches!(slot, Slot::Implausible)).count() as u64;
            (0..bad).for_each(|_| table.discards.add(Discard::GoroutineImplausible));
            implausible += bad;
            match &mut census {
                None => headers.extend(slots.iter().filter_map(alive)),
                Some(census) => self.count_again(memory, &slots, census, table)?,
            }
            if census.is_none() && headers.len() > looks_max {
                let mut all = Census::new(seed);
                headers.drain(..).for_each(|header| all.add(&header));
                headers = Vec::new();
                census = Some(all);
            }
        }
        // One may be there that is being made; many mean that the layout is another one.
        if implausible > 1 && implausible > length / 8 {
            return Err(ReadError::Implausible {
                what: "goroutines: not readable or not plausible",
                value: implausible,
            });
        }
        Ok(census.map_or(Alive::All(headers), Alive::Many))
    }

    /// Counts those that are the same goroutines at a second look.
    fn count_again(
        &mut self,
        memory: &dyn TargetMemory,
        slots: &[Slot],
        census: &mut Census,
        table: &mut Table,
    ) -> Result<(), ReadError> {
        let before: Vec<Header> = slots.iter().filter_map(alive).collect();
        let addresses: Vec<Avma> = before.iter().map(|header| header.address).collect();
        let after = self.slots(memory, &addresses)?;
        for (before, after) in before.iter().zip(&after) {
            match after {
                Slot::Alive(after) if before.is_same(after) => census.add(after),
                Slot::Alive(_) => {
                    table.discards.add(Discard::GoroutineReplaced);
                    table.unknown += 1;
                }
                // It has ended.
                Slot::Dead => {}
                Slot::Implausible => table.discards.add(Discard::GoroutineImplausible),
            }
        }
        Ok(())
    }

    /// The structures of a sample, as far as they are still those that were chosen.
    fn read_chosen(
        &mut self,
        memory: &dyn TargetMemory,
        chosen: &[(Avma, u64)],
        table: &mut Table,
    ) -> Result<Vec<Header>, ReadError> {
        let mut headers = Vec::with_capacity(chosen.len());
        for batch in chosen.chunks(BATCH) {
            let addresses: Vec<Avma> = batch.iter().map(|(address, _)| *address).collect();
            for (slot, (_, id)) in self.slots(memory, &addresses)?.iter().zip(batch) {
                match alive(slot) {
                    Some(header) if header.id == *id => headers.push(header),
                    _ => table.discards.add(Discard::GoroutineMoved),
                }
            }
        }
        Ok(headers)
    }

    fn slots(&mut self, memory: &dyn TargetMemory, addresses: &[Avma]) -> Result<Vec<Slot>, MemoryError> {
        let layout = self.runtime.layout().g;
        let mut slots = Vec::with_capacity(addresses.len());
        for batch in addresses.chunks(BATCH) {
            slots.extend(read_slots(memory, &layout, batch, &mut self.buffer)?);
        }
        Ok(slots)
    }

    /// The highest number that a goroutine can have so far, as [`Table::highest_id`]. `None`: it is not known where it is.
    ///
    /// # Errors
    /// Where the target cannot be read.
    pub fn numbers_given(&self, memory: &dyn TargetMemory) -> Result<Option<u64>, ReadError> {
        self.highest_id(memory)
    }

    /// No goroutine has a higher number. Processors take numbers in batches, so that many below it are not in use yet.
    fn highest_id(&self, memory: &dyn TargetMemory) -> Result<Option<u64>, ReadError> {
        let Some(scheduler) = self.scheduler else { return Ok(None) };
        let at = Avma(scheduler.0.saturating_add(self.runtime.layout().sched.goidgen));
        Ok(Some(word(memory, at)?))
    }

    fn name_reasons(&self, memory: &dyn TargetMemory, table: &mut Table) -> Result<(), ReadError> {
        let Some(strings) = self.reason_strings else { return Ok(()) };
        for reason in table.kinds.iter().map(|counted| counted.kind.wait_reason) {
            if reason != 0
                && !table.wait_reasons.contains_key(&reason)
                && let Some(text) = wait::wait_reason(memory, strings, reason)?
            {
                table.wait_reasons.insert(reason, text);
            }
        }
        Ok(())
    }
}

/// The goroutines that are not dead.
enum Alive {
    All(Vec<Header>),
    Many(Census),
}

fn alive(slot: &Slot) -> Option<Header> {
    match slot {
        Slot::Alive(header) => Some(*header),
        Slot::Dead | Slot::Implausible => None,
    }
}

fn kinds_of(goroutines: &[Goroutine]) -> Vec<KindCount> {
    let mut kinds: BTreeMap<Kind, KindCount> = BTreeMap::new();
    for goroutine in goroutines {
        let counted = kinds.entry(goroutine.kind).or_insert_with(|| KindCount::new(goroutine.kind));
        counted.add(goroutine.id, goroutine.stack_bytes, goroutine.waiting_since_ns);
    }
    let mut kinds: Vec<KindCount> = kinds.into_values().collect();
    kinds.sort_by(|a, b| b.count.cmp(&a.count).then(a.kind.cmp(&b.kind)));
    kinds
}

fn word(memory: &dyn TargetMemory, at: Avma) -> Result<u64, MemoryError> {
    let mut bytes = [0; 8];
    memory.read(at, &mut bytes)?;
    Ok(Words(&bytes).u64(0))
}

impl Goroutine {
    fn new(header: &Header, stack: Result<StackId, NoStack>, waits_on: WaitsOn) -> Self {
        Self {
            id: header.id,
            parent: header.parent,
            kind: kind_of(header),
            stack_bytes: header.stack_bytes(),
            waiting_since_ns: header.waiting_since_ns,
            running_cleanups: header.running_cleanups,
            stack,
            waits_on,
        }
    }
}
