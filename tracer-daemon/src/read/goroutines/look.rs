//! A look at goroutines one by one: stacks, and what they wait for, believed only where they have not run meanwhile.

use std::collections::HashMap;

use super::header::{Header, Slot};
use super::{Goroutine, GoroutineReader, NoStack, Stack, StackId, Table, WaitsOn, alive};
use crate::addr::Avma;
use crate::read::memory::{MemoryError, TargetMemory, Words};
use crate::read::stack::{End, SemaphoreFrame, Used};
use crate::read::wait::{BATCH, Waiter, read_channels, read_waiters};
use crate::read::{Discard, Discards, ReadError};

/// How often a goroutine is read that runs each time.
const ATTEMPTS: usize = 5;
/// Most bytes of a stack that are read, from its leaf on.
const STACK_BYTES_MAX: usize = 64 << 10;
/// Most bytes of stacks that are held at a time.
const STACKS_BYTES_MAX: usize = 2 << 20;
/// The least that is read of a stack.
const PIECE_BYTES_MIN: usize = 256;
/// Channels of one `select` that are followed.
const CASES_MAX: usize = 256;
/// Records of the waiting of all goroutines that are held at a time: about 60 MiB. A list of one can go round.
const WAITERS_MAX: usize = 1 << 20;
/// Different stacks that are kept, and their program counters in all.
const STACKS_MAX: usize = 16_384;
const PCS_MAX: usize = 1 << 18;
/// Addresses on stacks that are kept.
const MENTIONS_MAX: usize = 1 << 19;
/// Words of a frame that can lead to the record of what its goroutine waits for.
const CANDIDATES_MAX: usize = 64;

/// What one goroutine waits for, of a look that is not confirmed yet.
type Waits = HashMap<usize, Vec<Waiter>>;

/// What is collected over all attempts.
#[derive(Default)]
struct Collected {
    stack_ids: HashMap<Box<[Avma]>, StackId>,
    pcs: usize,
    /// Channels whose addresses are looked for on stacks, and how many stacks had been read before each was known.
    channels: HashMap<Avma, usize>,
    lowest_channel: u64,
    highest_channel: u64,
    stacks_read: usize,
    /// By the address of the record: its channel, and the next in the queue.
    queued: HashMap<Avma, (Avma, Avma)>,
}

/// What was read of one goroutine's stack.
#[derive(Default)]
struct Walked {
    stack: Option<Box<[Avma]>>,
    cut: bool,
    semaphore: Option<(SemaphoreFrame, Avma)>,
    candidates: Vec<Avma>,
    mentions: Vec<Avma>,
}

impl GoroutineReader {
    /// Looks at goroutines and adds them to the table.
    pub(super) fn look(
        &mut self,
        memory: &dyn TargetMemory,
        headers: Vec<Header>,
        table: &mut Table,
    ) -> Result<(), ReadError> {
        let mut collected = Collected { lowest_channel: u64::MAX, ..Collected::default() };
        let mut waits = self.waits(memory, &headers, &mut collected, &mut table.discards)?;
        let mut rest = headers;
        for attempt in 0..ATTEMPTS {
            let is_last = attempt + 1 == ATTEMPTS;
            let mut moved = Vec::new();
            // Stacks differ in size; like ones are read together.
            let mut order: Vec<usize> = (0..rest.len()).collect();
            order.sort_by_key(|index| rest.get(*index).map(piece_bytes));
            let mut from = 0;
            while from < order.len() {
                let piece = order.get(from).and_then(|index| rest.get(*index)).map_or(0, piece_bytes);
                let fitting = STACKS_BYTES_MAX.checked_div(piece).unwrap_or(BATCH).clamp(1, BATCH);
                let batch: Vec<usize> = order
                    .get(from..)
                    .unwrap_or_default()
                    .iter()
                    .copied()
                    .take(fitting)
                    .take_while(|index| rest.get(*index).map_or(0, piece_bytes) == piece)
                    .collect();
                from += batch.len().max(1);
                let batch: Vec<(Header, Vec<Waiter>)> = batch
                    .iter()
                    .filter_map(|index| Some((*rest.get(*index)?, waits.remove(index).unwrap_or_default())))
                    .collect();
                moved.extend(self.attempt(memory, &batch, piece, is_last, &mut collected, table)?);
            }
            if moved.is_empty() {
                break;
            }
            let slots = self.slots(memory, &moved)?;
            rest = slots.iter().filter_map(alive).collect();
            waits = self.waits(memory, &rest, &mut collected, &mut table.discards)?;
        }
        self.add_channels(memory, &collected, table)
    }

    /// The records of what goroutines wait with, by the goroutine's place in `headers`.
    fn waits(
        &self,
        memory: &dyn TargetMemory,
        headers: &[Header],
        collected: &mut Collected,
        discards: &mut Discards,
    ) -> Result<Waits, ReadError> {
        let layout = *self.runtime.layout();
        let mut waits = Waits::new();
        let mut heads: Vec<(usize, Avma)> = headers
            .iter()
            .enumerate()
            .filter(|(_, header)| header.waiting.0 != 0)
            .map(|(index, header)| (index, header.waiting))
            .collect();
        let mut held = 0;
        for _ in 0..CASES_MAX {
            if heads.is_empty() || held >= WAITERS_MAX {
                break;
            }
            let places: Vec<Avma> = heads.iter().map(|(_, place)| *place).collect();
            let found = read_waiters(memory, &layout, &places)?;
            let mut further = Vec::new();
            for ((index, _), waiter) in heads.iter().zip(found) {
                let goroutine = headers.get(*index).map(|header| header.address);
                match waiter.filter(|waiter| Some(waiter.goroutine) == goroutine) {
                    Some(waiter) => {
                        // A semaphore's records are linked with those of others.
                        if waiter.channel.0 != 0 {
                            collected.add_channel(waiter);
                            if waiter.of_same.0 != 0 {
                                further.push((*index, waiter.of_same));
                            }
                        }
                        waits.entry(*index).or_default().push(waiter);
                        held += 1;
                    }
                    // Left over from an earlier wait, or about to change: then the goroutine is found to have run.
                    None => discards.add(Discard::WaiterImplausible),
                }
            }
            heads = further;
        }
        Ok(waits)
    }

    /// Reads the stacks of goroutines, then the goroutines again. Gives the addresses of those that have run.
    fn attempt(
        &mut self,
        memory: &dyn TargetMemory,
        batch: &[(Header, Vec<Waiter>)],
        piece: usize,
        is_last: bool,
        collected: &mut Collected,
        table: &mut Table,
    ) -> Result<Vec<Avma>, ReadError> {
        let mut walked = self.walk_all(memory, batch, piece, collected, &mut table.discards)?;
        let semaphores = self.semaphores(memory, batch, &walked)?;
        let addresses: Vec<Avma> = batch.iter().map(|(header, _)| header.address).collect();
        let slots = self.slots(memory, &addresses)?;
        let mut moved = Vec::new();
        for (index, ((header, waiters), slot)) in batch.iter().zip(&slots).enumerate() {
            let parked = header.is_parked();
            let believed =
                if parked { header.is_unmoved(slot) } else { alive(slot).is_some_and(|now| header.is_same(&now)) };
            if believed {
                let walked = walked.get_mut(index).map(std::mem::take).unwrap_or_default();
                let semaphore = semaphores.get(&index).copied();
                keep(header, waiters, semaphore, walked, collected, table);
                continue;
            }
            match slot {
                Slot::Dead => {}
                Slot::Implausible => table.discards.add(Discard::GoroutineImplausible),
                Slot::Alive(now) if !is_last => {
                    table.discards.add(Discard::GoroutineMoved);
                    moved.push(now.address);
                }
                Slot::Alive(now) if header.is_same(now) => {
                    table.discards.add(Discard::GoroutineRestless);
                    let stack = Err(if now.is_parked() { NoStack::Discarded } else { NoStack::Running });
                    table.goroutines.push(Goroutine::new(now, stack, WaitsOn::Nothing));
                }
                Slot::Alive(_) => {
                    table.discards.add(Discard::GoroutineReplaced);
                    table.unknown += 1;
                }
            }
        }
        Ok(moved)
    }

    /// Reads and walks the stacks of goroutines of which `piece` bytes each are to be read; none where that is 0.
    fn walk_all(
        &mut self,
        memory: &dyn TargetMemory,
        batch: &[(Header, Vec<Waiter>)],
        piece: usize,
        collected: &mut Collected,
        discards: &mut Discards,
    ) -> Result<Vec<Walked>, ReadError> {
        if piece == 0 {
            return Ok(Vec::new());
        }
        let starts: Vec<Avma> = batch.iter().map(|(header, _)| piece_start(header, piece)).collect();
        self.buffer.clear();
        self.buffer.resize(piece * starts.len(), 0);
        let readable = memory.read_each(&starts, &mut self.buffer)?;
        let facts = self.runtime.facts();
        let mut all = Vec::with_capacity(batch.len());
        let stacks = batch.iter().zip(&starts).zip(self.buffer.chunks(piece)).zip(readable);
        for ((((header, waiters), start), bytes), readable) in stacks {
            collected.stacks_read += 1;
            let skipped = usize::try_from(header.stack_pointer.0.saturating_sub(start.0)).unwrap_or(usize::MAX);
            let Some(bytes) = bytes.get(skipped..).filter(|_| readable) else {
                discards.add(Discard::StackUnreadable);
                all.push(Walked::default());
                continue;
            };
            let cut = header.used_bytes() > bytes.len() as u64;
            let used = Used { bytes, cut };
            let walk = self.unwinder.walk(facts, header.pc, used);
            if walk.end == End::Broken {
                discards.add(Discard::StackBroken);
                all.push(Walked { mentions: collected.mentioned(used, waiters), ..Walked::default() });
                continue;
            }
            let mut walked = Walked {
                stack: Some(walk.pcs.into()),
                cut: walk.end == End::Cut,
                mentions: collected.mentioned(used, waiters),
                ..Walked::default()
            };
            // Where the goroutine itself leads to the record, there is nothing to look for.
            if let Some(frame) = walk.semaphore.filter(|_| waiters.is_empty()) {
                let frame_bytes = bytes.get(frame.start..frame.end).unwrap_or_default();
                walked.candidates = frame_bytes.chunks(8).map(|word| Avma(Words(word).u64(0))).collect();
                walked.candidates.truncate(CANDIDATES_MAX);
                walked.semaphore = Some((frame, header.address));
            }
            all.push(walked);
        }
        Ok(all)
    }

    /// The addresses of semaphores that goroutines wait for, by their places in the batch. Up to go1.25 a goroutine does not lead to
    /// its record, but the function that waits has the record's address in its frame, and the record names the goroutine.
    fn semaphores(
        &mut self,
        memory: &dyn TargetMemory,
        batch: &[(Header, Vec<Waiter>)],
        walked: &[Walked],
    ) -> Result<HashMap<usize, Avma>, MemoryError> {
        let mut found = HashMap::new();
        let mut expected: Vec<(usize, Avma)> = Vec::new();
        for (index, walked) in walked.iter().enumerate() {
            let Some((frame, goroutine)) = walked.semaphore else { continue };
            let known = self.waiter_slots.get(&frame.pc).and_then(|slots| slots.first());
            match known.and_then(|slot| walked.candidates.get(*slot)) {
                Some(place) => expected.push((index, *place)),
                None => found.extend(self.search(memory, frame.pc, goroutine, walked)?.map(|address| (index, address))),
            }
        }
        let places: Vec<Avma> = expected.iter().map(|(_, place)| *place).collect();
        let waiters = read_waiters(memory, self.runtime.layout(), &places)?;
        for ((index, _), waiter) in expected.iter().zip(waiters) {
            let goroutine = batch.get(*index).map(|(header, _)| header.address).unwrap_or_default();
            let mut semaphore = waiter.and_then(|waiter| semaphore_of(&waiter, goroutine));
            if let (None, Some(walked)) = (semaphore, walked.get(*index)) {
                let pc = walked.semaphore.map(|(frame, _)| frame.pc).unwrap_or_default();
                semaphore = self.search(memory, pc, goroutine, walked)?;
            }
            found.extend(semaphore.map(|address| (*index, address)));
        }
        Ok(found)
    }

    /// Tries all words of a frame, and learns which of them it was. Another one can hold the same for once, left over from a call.
    fn search(
        &mut self,
        memory: &dyn TargetMemory,
        pc: Avma,
        goroutine: Avma,
        walked: &Walked,
    ) -> Result<Option<Avma>, MemoryError> {
        let places: Vec<(usize, Avma)> =
            walked.candidates.iter().copied().enumerate().filter(|(_, place)| is_pointer(*place)).collect();
        let addresses: Vec<Avma> = places.iter().map(|(_, place)| *place).collect();
        let waiters = read_waiters(memory, self.runtime.layout(), &addresses)?;
        let semaphores: Vec<(usize, Avma)> = places
            .iter()
            .zip(waiters)
            .filter_map(|((slot, _), waiter)| Some((*slot, semaphore_of(&waiter?, goroutine)?)))
            .collect();
        if semaphores.is_empty() {
            return Ok(None);
        }
        let slots = self.waiter_slots.entry(pc).or_default();
        slots.retain(|slot| semaphores.iter().any(|(found, _)| found == slot));
        if slots.is_empty() {
            slots.extend(semaphores.iter().map(|(slot, _)| *slot));
        }
        Ok(semaphores.first().map(|(_, semaphore)| *semaphore))
    }

    /// Reads the channels that goroutines wait for.
    fn add_channels(
        &self,
        memory: &dyn TargetMemory,
        collected: &Collected,
        table: &mut Table,
    ) -> Result<(), ReadError> {
        let mut addresses: Vec<Avma> = Vec::new();
        for goroutine in &table.goroutines {
            match &goroutine.waits_on {
                WaitsOn::Channel(channel) => addresses.push(*channel),
                WaitsOn::Select(channels) => addresses.extend(channels.iter().copied()),
                WaitsOn::Nothing | WaitsOn::Semaphore(_) => {}
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        table.channels = read_channels(memory, self.runtime.layout(), &addresses, &collected.queued)?;
        for _ in table.channels.len()..addresses.len() {
            table.discards.add(Discard::ChannelImplausible);
        }
        // One that became known late was not looked for on the stacks that had been read by then.
        table.mentions_cut |=
            addresses.iter().any(|channel| collected.channels.get(channel).is_none_or(|read| *read > 0));
        let channels = &table.channels;
        table.mentions.retain(|(channel, _)| channels.contains_key(channel));
        table.mentions.sort_unstable();
        Ok(())
    }
}

impl Collected {
    fn add_channel(&mut self, waiter: Waiter) {
        let stacks_read = self.stacks_read;
        self.channels.entry(waiter.channel).or_insert(stacks_read);
        self.lowest_channel = self.lowest_channel.min(waiter.channel.0);
        self.highest_channel = self.highest_channel.max(waiter.channel.0);
        self.queued.insert(waiter.address, (waiter.channel, waiter.next));
    }

    /// The channels whose addresses are on a stack, each once, without those that its goroutine waits for.
    fn mentioned(&self, used: Used<'_>, waiters: &[Waiter]) -> Vec<Avma> {
        let mut mentioned = Vec::new();
        for word in used.bytes.chunks_exact(8) {
            let word = Words(word).u64(0);
            if word < self.lowest_channel || word > self.highest_channel {
                continue;
            }
            let channel = Avma(word);
            if self.channels.contains_key(&channel) {
                mentioned.push(channel);
            }
        }
        // Sorted, so that a stack full of channels takes no longer than others.
        mentioned.sort_unstable();
        mentioned.dedup();
        let mut waited: Vec<Avma> = waiters.iter().map(|waiter| waiter.channel).collect();
        waited.sort_unstable();
        mentioned.retain(|channel| waited.binary_search(channel).is_err());
        mentioned
    }

    /// The number of a stack, which is kept once. `None`: there is no room.
    fn stack_id(&mut self, pcs: Box<[Avma]>, cut: bool, stacks: &mut Vec<Stack>) -> Option<StackId> {
        if let Some(known) = self.stack_ids.get(&pcs) {
            return Some(*known);
        }
        if stacks.len() >= STACKS_MAX || self.pcs + pcs.len() > PCS_MAX {
            return None;
        }
        self.pcs += pcs.len();
        let id = StackId(u32::try_from(stacks.len()).ok()?);
        stacks.push(Stack { pcs: pcs.clone(), cut });
        self.stack_ids.insert(pcs, id);
        Some(id)
    }
}

/// Adds a goroutine that has not run since its stack was read.
fn keep(
    header: &Header,
    waiters: &[Waiter],
    semaphore: Option<Avma>,
    walked: Walked,
    collected: &mut Collected,
    table: &mut Table,
) {
    let stack = match walked.stack {
        Some(pcs) => collected.stack_id(pcs, walked.cut, &mut table.stacks).ok_or_else(|| {
            table.discards.add(Discard::StacksFull);
            NoStack::Discarded
        }),
        None if header.is_parked() => Err(NoStack::Discarded),
        None => Err(NoStack::Running),
    };
    let index = u32::try_from(table.goroutines.len()).unwrap_or(u32::MAX);
    let room = MENTIONS_MAX.saturating_sub(table.mentions.len());
    table.mentions_cut |= walked.mentions.len() > room || walked.cut;
    table.mentions.extend(walked.mentions.into_iter().take(room).map(|channel| (channel, index)));
    let mut channels: Vec<Avma> =
        waiters.iter().map(|waiter| waiter.channel).filter(|channel| channel.0 != 0).collect();
    channels.dedup();
    let semaphore = semaphore.or_else(|| waiters.iter().find_map(|waiter| semaphore_of(waiter, header.address)));
    let waits_on = match (channels.as_slice(), semaphore) {
        ([], Some(semaphore)) => WaitsOn::Semaphore(semaphore),
        ([], None) => WaitsOn::Nothing,
        ([channel], _) => WaitsOn::Channel(*channel),
        _ => WaitsOn::Select(channels.into()),
    };
    table.goroutines.push(Goroutine::new(header, stack, waits_on));
}

/// The semaphore that this goroutine waits for with this record.
fn semaphore_of(waiter: &Waiter, goroutine: Avma) -> Option<Avma> {
    let is_ours = waiter.goroutine == goroutine && waiter.channel.0 == 0 && is_pointer_to_u32(waiter.element);
    is_ours.then_some(waiter.element)
}

/// User space begins above the first page and has 47 bits.
fn is_pointer(address: Avma) -> bool {
    address.0 >= 4096 && address.0 < 1 << 47 && address.0.is_multiple_of(8)
}

fn is_pointer_to_u32(address: Avma) -> bool {
    address.0 >= 4096 && address.0 < 1 << 47 && address.0.is_multiple_of(4)
}

/// Bytes to read of a goroutine's stack: its end, or its beginning where it is too long; 0 where it has none.
fn piece_bytes(header: &Header) -> usize {
    if !header.is_parked() {
        return 0;
    }
    // Stacks are powers of two, so that the next one above what is used is still inside.
    let used = usize::try_from(header.used_bytes()).unwrap_or(usize::MAX);
    if used > STACK_BYTES_MAX { STACK_BYTES_MAX } else { used.next_power_of_two().max(PIECE_BYTES_MIN) }
}

/// Where the bytes to read begin.
fn piece_start(header: &Header, piece: usize) -> Avma {
    if header.used_bytes() > piece as u64 {
        header.stack_pointer
    } else {
        Avma(header.stack_high.saturating_sub(piece as u64))
    }
}
