//! What goroutines wait for: the records of their waiting (`sudog`), channels, and the texts of wait reasons.
//!
//! A channel's queues are lists that change while they are followed, and anything can be in the memory of a hostile target:
//! each step is counted, and lists are followed among the records that were already read where that is possible.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::memory::{MemoryError, TargetMemory, Words};
use crate::addr::Avma;
use crate::inspect::RuntimeLayout;

/// Places read by one call of [`TargetMemory::read_each`].
pub(super) const BATCH: usize = 1024;
/// Steps along one queue beyond the records that are known.
const UNKNOWN_STEPS_MAX: usize = 32;
/// The same along all queues of one look: each step is a system call.
const UNKNOWN_STEPS_IN_ALL_MAX: usize = 1 << 17;
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// So many were found.
    pub count: u64,
    /// Whether there may be more.
    pub or_more: bool,
}

/// A channel that somebody waits for (`runtime.hchan`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    let mut unknown_left = UNKNOWN_STEPS_IN_ALL_MAX;
    for batch in addresses.chunks(BATCH) {
        bytes.clear();
        bytes.resize(piece * batch.len(), 0);
        let readable = memory.read_each(batch, &mut bytes)?;
        for ((address, content), readable) in batch.iter().zip(bytes.chunks(piece)).zip(readable) {
            let head = readable.then(|| head(layout, *address, Words(content))).flatten();
            let Some(Head { mut channel, first_sender, first_receiver }) = head else { continue };
            let steps_max = waiters_of.get(address).copied().unwrap_or_default();
            let mut length = |first| queue_length(memory, layout, known, *address, first, steps_max, &mut unknown_left);
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
    unknown_in_all: &mut usize,
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
            None if unknown_left == 0 || *unknown_in_all == 0 => return Ok(Queue { or_more: true, ..queue }),
            None => {
                unknown_left -= 1;
                *unknown_in_all -= 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Architecture, layout};
    use crate::read::memory::FakeMemory;

    const CHANNEL: Avma = Avma(0x1000);

    fn layout_of(minor: u32) -> RuntimeLayout {
        layout::known(minor, Architecture::Amd64).unwrap()
    }

    fn put(memory: &mut FakeMemory, at: u64, value: u64) {
        let (start, bytes) = memory.0.range_mut(..=at).next_back().unwrap();
        let from = usize::try_from(at - start).unwrap();
        bytes[from..from + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// A channel with the first record of a queue of senders, and records that each lead to the next one.
    fn queue(layout: &RuntimeLayout, next: &[u64]) -> FakeMemory {
        let mut memory = FakeMemory(std::iter::once((0x1000, vec![0; 0x1_0000])).collect());
        let record = |index: u64| 0x2000 + 0x100 * index;
        put(&mut memory, CHANNEL.0 + layout.hchan.sendq + layout.waitq.first, record(0));
        for (index, next) in (0..).zip(next) {
            put(&mut memory, record(index) + layout.sudog.c + layout.sudog.c_bytes - 8, CHANNEL.0);
            put(&mut memory, record(index) + layout.sudog.next, *next);
        }
        memory
    }

    fn senders(memory: &FakeMemory, layout: &RuntimeLayout, known: &HashMap<Avma, (Avma, Avma)>) -> Queue {
        read_channels(memory, layout, &[CHANNEL], known).unwrap()[&CHANNEL].senders
    }

    #[test]
    fn a_queue_is_followed_to_its_end_and_one_that_goes_round_is_not_followed_for_ever() {
        for minor in [19, 25, 26, 27] {
            let layout = layout_of(minor);
            let none = HashMap::new();
            let three = queue(&layout, &[0x2100, 0x2200, 0]);
            assert_eq!(senders(&three, &layout, &none), Queue { count: 3, or_more: false }, "go1.{minor}");
            let round = queue(&layout, &[0x2100, 0x2200, 0x2000]);
            let counted = senders(&round, &layout, &none);
            assert!(counted.or_more && counted.count <= UNKNOWN_STEPS_MAX as u64, "go1.{minor}: {counted:?}");
            // Records that were read before: the steps are as many as they are.
            let known: HashMap<Avma, (Avma, Avma)> =
                [(0x2000, 0x2100), (0x2100, 0x2000)].map(|(at, next)| (Avma(at), (CHANNEL, Avma(next)))).into();
            assert_eq!(senders(&round, &layout, &known), Queue { count: 2, or_more: true }, "go1.{minor}");
            let nowhere = queue(&layout, &[0x2100, 8]);
            assert_eq!(senders(&nowhere, &layout, &none), Queue { count: 2, or_more: true }, "go1.{minor}");
        }
    }

    #[test]
    fn steps_along_all_queues_together_are_bounded() {
        let layout = layout_of(26);
        let round = queue(&layout, &[0x2100, 0x2000]);
        let none = HashMap::new();
        let mut left = UNKNOWN_STEPS_MAX + 5;
        let mut length = || queue_length(&round, &layout, &none, CHANNEL, Avma(0x2000), 0, &mut left).unwrap().count;
        assert_eq!([length(), length(), length()], [UNKNOWN_STEPS_MAX as u64, 5, 0]);
    }

    #[test]
    fn what_cannot_be_a_channel_is_none() {
        let layout = layout_of(26);
        for (offset, value) in
            [(layout.hchan.dataqsiz, CAPACITY_MAX + 1), (layout.hchan.qcount, 1), (layout.hchan.closed, 2)]
        {
            let mut memory = queue(&layout, &[0]);
            put(&mut memory, CHANNEL.0 + offset, value);
            assert!(read_channels(&memory, &layout, &[CHANNEL], &HashMap::new()).unwrap().is_empty(), "{offset}");
        }
        let memory = queue(&layout, &[0]);
        assert!(read_channels(&memory, &layout, &[Avma(8)], &HashMap::new()).unwrap().is_empty());
    }

    #[test]
    fn a_wait_reason_is_text_that_can_be_printed_or_none() {
        let mut memory = FakeMemory(std::iter::once((0x1000, vec![0; 0x1000])).collect());
        let mut string = |reason: u64, text: &[u8; 8], length: u64| {
            put(&mut memory, 0x1800 + 8 * reason, u64::from_le_bytes(*text));
            put(&mut memory, 0x1000 + 16 * reason, 0x1800 + 8 * reason);
            put(&mut memory, 0x1008 + 16 * reason, length);
        };
        string(1, b"select  ", 6);
        string(2, b"\x1b[2J    ", 4);
        string(3, b"select  ", u64::MAX);
        string(4, b"select  ", 0);
        let text = |reason| wait_reason(&memory, Avma(0x1000), reason).unwrap();
        assert_eq!(text(1).as_deref(), Some("select"));
        assert_eq!([text(0), text(2), text(3), text(4), text(200)], [const { None }; 5]);
    }
}
