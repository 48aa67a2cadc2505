//! What goroutines wait for: the records of their waiting (`sudog`), channels, and the texts of wait reasons.
//!
//! A channel's queues are lists that change while they are followed, and anything can be in the memory of a hostile target:
//! each step is counted, and lists are followed among the records that were already read where that is possible.

use std::collections::{BTreeMap, HashMap};

use super::memory::{MemoryError, TargetMemory, Words};
use crate::addr::Avma;
use crate::inspect::RuntimeLayout;

/// Places read by one call of [`TargetMemory::read_each`].
pub(super) const BATCH: usize = 1024;
/// Steps along one queue beyond the records that are known.
const UNKNOWN_STEPS_MAX: usize = 32;
/// Most values that a channel's buffer is believed to hold.
const CAPACITY_MAX: u64 = 1 << 48;
/// Longest text of a wait reason that is believed; the longest of go1.27 has 33 bytes.
const REASON_BYTES_MAX: u64 = 64;
/// Wait reasons that are believed; go1.27 has 47.
const REASONS_MAX: u8 = 96;

/// One record: a goroutine in the queue of a channel or a semaphore (`runtime.sudog`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) address: Avma,
    /// The goroutine.
    pub(super) goroutine: Avma,
    /// Zero: a semaphore.
    pub(super) channel: Avma,
    /// For a semaphore, its address.
    pub(super) element: Avma,
    /// The next in the queue of the channel.
    pub(super) next: Avma,
    /// The next of the same goroutine, where it waits for channels.
    pub(super) of_same: Avma,
}

/// How many wait in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// So many were found.
    pub count: u64,
    /// Whether there may be more.
    pub or_more: bool,
}

/// A channel that somebody waits for (`runtime.hchan`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Where it is: what `%p` prints.
    pub address: Avma,
    /// Values in its buffer.
    pub len: u64,
    /// Room in its buffer.
    pub cap: u64,
    /// Bytes of a value.
    pub element_bytes: u64,
    /// Whether it was closed.
    pub closed: bool,
    /// Whether a timer sends to it. `None` means before go1.23: not known.
    pub of_timer: Option<bool>,
    /// Who waits to send.
    pub senders: Queue,
    /// Who waits to receive.
    pub receivers: Queue,
}

/// Reads records; `None` for what cannot be read.
pub(super) fn read_waiters(
    memory: &dyn TargetMemory,
    layout: &RuntimeLayout,
    places: &[Avma],
) -> Result<Vec<Option<Waiter>>, MemoryError> {
    let sudog = &layout.sudog;
    let piece = usize::try_from(sudog.size_bytes).unwrap_or_default().clamp(1, 1024);
    let mut found = Vec::with_capacity(places.len());
    let mut bytes = Vec::new();
    for batch in places.chunks(BATCH) {
        bytes.clear();
        bytes.resize(piece * batch.len(), 0);
        let readable = memory.read_each(batch, &mut bytes)?;
        for ((address, content), readable) in batch.iter().zip(bytes.chunks(piece)).zip(readable) {
            let words = Words(content);
            // From go1.26 on an address stands there twice, and the second is the true one.
            let address_at = |offset: u64, width: u64| Avma(words.u64((offset + width).saturating_sub(8)));
            found.push(readable.then(|| Waiter {
                address: *address,
                goroutine: Avma(words.u64(sudog.g)),
                channel: address_at(sudog.c, sudog.c_bytes),
                element: address_at(sudog.elem, sudog.elem_bytes),
                next: Avma(words.u64(sudog.next)),
                of_same: Avma(words.u64(sudog.waitlink)),
            }));
        }
    }
    Ok(found)
}

/// A channel as its structure says, and the first records of its queues.
#[derive(Clone, Copy, Debug)]
struct Head {
    channel: Channel,
    first_sender: Avma,
    first_receiver: Avma,
}

/// Reads channels and counts who waits in their queues. `known`: the records that were read before. What is no channel is left
/// out.
pub(super) fn read_channels(
    memory: &dyn TargetMemory,
    layout: &RuntimeLayout,
    addresses: &[Avma],
    known: &HashMap<Avma, (Avma, Avma)>,
) -> Result<BTreeMap<Avma, Channel>, MemoryError> {
    let hchan = &layout.hchan;
    let fields = [hchan.qcount, hchan.dataqsiz, hchan.elemsize, hchan.closed, hchan.recvq, hchan.sendq];
    let last = fields.into_iter().chain(hchan.timer).max().unwrap_or_default();
    let piece = usize::try_from(last + 16).unwrap_or_default().clamp(1, 1024);
    let mut waiters_of: HashMap<Avma, usize> = HashMap::new();
    for (channel, _) in known.values() {
        *waiters_of.entry(*channel).or_default() += 1;
    }
    let mut found = BTreeMap::new();
    let mut bytes = Vec::new();
    for batch in addresses.chunks(BATCH) {
        bytes.clear();
        bytes.resize(piece * batch.len(), 0);
        let readable = memory.read_each(batch, &mut bytes)?;
        for ((address, content), readable) in batch.iter().zip(bytes.chunks(piece)).zip(readable) {
            let head = readable.then(|| head(layout, *address, Words(content))).flatten();
            let Some(Head { mut channel, first_sender, first_receiver }) = head else { continue };
            let steps_max = waiters_of.get(address).copied().unwrap_or_default();
            let length = |first| queue_length(memory, layout, known, *address, first, steps_max);
            channel.senders = length(first_sender)?;
            channel.receivers = length(first_receiver)?;
            found.insert(*address, channel);
        }
    }
    Ok(found)
}

fn head(layout: &RuntimeLayout, address: Avma, words: Words<'_>) -> Option<Head> {
    let (hchan, first) = (&layout.hchan, layout.waitq.first);
    let (len, cap) = (words.u64(hchan.qcount), words.u64(hchan.dataqsiz));
    let closed = words.u32(hchan.closed);
    (cap <= CAPACITY_MAX && len <= cap && closed <= 1).then(|| Head {
        channel: Channel {
            address,
            len,
            cap,
            element_bytes: words.u16(hchan.elemsize).into(),
            closed: closed != 0,
            of_timer: hchan.timer.map(|offset| words.u64(offset) != 0),
            senders: Queue::default(),
            receivers: Queue::default(),
        },
        first_sender: Avma(words.u64(hchan.sendq + first)),
        first_receiver: Avma(words.u64(hchan.recvq + first)),
    })
}

/// Follows a queue: among known records as far as they belong to this channel, then a few steps in memory.
fn queue_length(
    memory: &dyn TargetMemory,
    layout: &RuntimeLayout,
    known: &HashMap<Avma, (Avma, Avma)>,
    channel: Avma,
    first: Avma,
    known_max: usize,
) -> Result<Queue, MemoryError> {
    let mut queue = Queue::default();
    let (mut at, mut known_left, mut unknown_left) = (first, known_max, UNKNOWN_STEPS_MAX);
    while at.0 != 0 {
        let next = match known.get(&at).filter(|(of, _)| *of == channel) {
            Some((_, next)) if known_left > 0 => {
                known_left -= 1;
                *next
            }
            // More steps than records: the list goes round.
            Some(_) => return Ok(Queue { or_more: true, ..queue }),
            None if unknown_left == 0 => return Ok(Queue { or_more: true, ..queue }),
            None => {
                unknown_left -= 1;
                match read_waiters(memory, layout, &[at])?.first().copied().flatten() {
                    Some(waiter) if waiter.channel == channel => waiter.next,
                    _ => return Ok(Queue { or_more: true, ..queue }),
                }
            }
        };
        queue.count += 1;
        at = next;
    }
    Ok(queue)
}

/// The text of a wait reason, from the target's own array. `None` where it has none that is believed.
pub(super) fn wait_reason(memory: &dyn TargetMemory, strings: Avma, reason: u8) -> Result<Option<String>, MemoryError> {
    if reason >= REASONS_MAX {
        return Ok(None);
    }
    let mut header = [0; 16];
    match memory.read(Avma(strings.0.saturating_add(16 * u64::from(reason))), &mut header) {
        Ok(()) => {}
        Err(MemoryError::Unmapped { .. }) => return Ok(None),
        Err(error) => return Err(error),
    }
    let (text, length) = (Words(&header).u64(0), Words(&header).u64(8));
    if length == 0 || length > REASON_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    match memory.read(Avma(text), &mut bytes) {
        Ok(()) => {}
        Err(MemoryError::Unmapped { .. }) => return Ok(None),
        Err(error) => return Err(error),
    }
    let printable = bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    Ok(String::from_utf8(bytes).ok().filter(|_| printable))
}
