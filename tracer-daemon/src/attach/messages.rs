//! What leakline and the processes that hold its probes say to each other, one packet of a socket each: words of 64 bits.
//!
//! Both ends are the same program file, so there is no version. Still nothing that arrives can do more than be refused.

use std::{num::TryFromIntError, os::fd::OwnedFd};

use tracer_common::bursts::WindowState;

use super::{
    LinkPoint, Mechanism,
    governor::CaughtCost,
    holder::{Most, MostCost},
};

/// Points that one link may have: a few dozen are needed.
pub(super) const POINTS_MAX: usize = 4_096;
/// Longest packet, bytes.
pub(super) const PACKET_MAX: usize = (HEADER_WORDS + 2 * POINTS_MAX) * WORD;
/// Programs that come with an order, at most: one for each kind of point.
const PROGRAMS_MAX: usize = 8;
/// Descriptors that come with an order, at most.
pub(super) const DESCRIPTORS_MAX: usize = PROGRAMS_MAX + 3;

const WORD: usize = 8;
/// Words of an [`Order`] before its points.
const HEADER_WORDS: usize = 13;
/// Words of it that say when the link ends.
const END_WORDS: usize = 9;

/// Programs that one link may have.
pub(super) const fn programs_max(mechanism: Mechanism) -> usize {
    match mechanism {
        Mechanism::UprobeMulti => 1,
        Mechanism::PerfEvents => PROGRAMS_MAX,
    }
}

/// What a holder is to do, beside the descriptors that come with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The target, as our PID namespace names it.
    pub(super) pid: u32,
    pub(super) mechanism: Mechanism,
    /// Programs that come with the order, from 1 to [`PROGRAMS_MAX`]; for links of `uprobe_multi` one.
    pub(super) programs: usize,
    /// Never empty, at most [`POINTS_MAX`].
    pub(super) points: Vec<LinkPoint>,
    /// Which entry of the per-CPU array of totals counts hits. None: no such map comes with the order.
    pub(super) hits_index: Option<u32>,
    /// When it ends by itself.
    pub(super) end: End,
}

/// When a link ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Behind the window: a map of windows comes with the order.
    Window { length_ns: u64, most: Most, state: WindowState },
    /// When no heartbeat has come for so long.
    Silence { at_most_ns: u64 },
}

impl End {
    fn encode(self) -> [u64; END_WORDS] {
        let (length_ns, most, state) = match self {
            Self::Window { length_ns, most, state } => (length_ns, most, state),
            Self::Silence { at_most_ns } => return [2, at_most_ns, 0, 0, 0, 0, 0, 0, 0],
        };
        let [births_index, cost_ns, hit_ns, birth_ns] = match most.cost {
            Some(MostCost { births_index, caught }) => {
                [births_index.into(), caught.most_ns, caught.hit_ns, caught.birth_ns]
            }
            None => [u64::MAX, 0, 0, 0],
        };
        let number_and_kind = u64::from(state.burst) << 32 | u64::from(state.kind);
        [1, length_ns, most.hits, births_index, cost_ns, hit_ns, birth_ns, state.mean_birth_bytes, number_and_kind]
    }

    /// None: no end.
    fn decode(words: [u64; END_WORDS]) -> Option<Self> {
        Some(match words {
            [1, length_ns, hits, births, most_ns, hit_ns, birth_ns, mean_birth_bytes, number_and_kind] => {
                let caught = CaughtCost { most_ns, hit_ns, birth_ns };
                let cost = index(births).ok()?.map(|births_index| MostCost { births_index, caught });
                let burst = u32::try_from(number_and_kind >> 32).ok()?;
                let kind = u32::try_from(number_and_kind & u64::from(u32::MAX)).ok()?;
                let state = WindowState { until_ns: 0, mean_birth_bytes, burst, kind };
                Self::Window { length_ns, most: Most { hits, cost }, state }
            }
            [2, at_most_ns, ..] => Self::Silence { at_most_ns },
            _ => return None,
        })
    }
}

/// What comes with an order, in this order.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// Never empty.
    pub(super) programs: Vec<OwnedFd>,
    pub(super) exe: OwnedFd,
    /// Where hits are counted; as [`Order::hits_index`] says.
    pub(super) totals: Option<OwnedFd>,
    /// Where the window is written; as [`Order::end`] says.
    pub(super) window: Option<OwnedFd>,
}

impl Order {
    pub(super) fn encode(&self) -> Vec<u8> {
        let hits_index = self.hits_index.map_or(u64::MAX, u64::from);
        let end = self.end.encode();
        let mechanism = match self.mechanism {
            Mechanism::UprobeMulti => 0,
            Mechanism::PerfEvents => 1,
        };
        let by = self.programs as u64 | mechanism << 32;
        let header = [u64::from(self.pid), by, hits_index, self.points.len() as u64];
        let points = self.points.iter().flat_map(|point| [point.file_offset, point.cookie]);
        header.into_iter().chain(end).chain(points).flat_map(u64::to_le_bytes).collect()
    }

    /// None: no order.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, points) = words(bytes)?.split_first_chunk::<HEADER_WORDS>().map(|(a, b)| (*a, b.to_vec()))?;
        let [pid, by, hits_index, count, end @ ..] = header;
        let count = usize::try_from(count).ok().filter(|count| (1..=POINTS_MAX).contains(count))?;
        if points.len() != 2 * count {
            return None;
        }
        let mechanism = match by >> 32 {
            0 => Mechanism::UprobeMulti,
            1 => Mechanism::PerfEvents,
            _ => return None,
        };
        let programs = usize::try_from(by & u64::from(u32::MAX)).ok()?;
        if !(1..=programs_max(mechanism)).contains(&programs) {
            return None;
        }
        let point = |pair: &[u64; 2]| LinkPoint { file_offset: pair[0], cookie: pair[1] };
        let end = End::decode(end)?;
        Some(Self {
            pid: u32::try_from(pid).ok()?,
            mechanism,
            programs,
            points: points.as_chunks().0.iter().map(point).collect(),
            hits_index: index(hits_index).ok()?,
            end,
        })
    }

    /// Puts names to the descriptors that came along. None: they are not those that the order speaks of.
    pub(super) fn descriptors(&self, came: Vec<OwnedFd>) -> Option<Descriptors> {
        let mut came = came.into_iter();
        let programs: Vec<OwnedFd> = came.by_ref().take(self.programs).collect();
        let exe = came.next().filter(|_| programs.len() == self.programs)?;
        let mut one_if = |wanted: bool| if wanted { came.next().map(Some) } else { Some(None) };
        let totals = one_if(self.hits_index.is_some())?;
        let window = one_if(matches!(self.end, End::Window { .. }))?;
        came.next().is_none().then_some(Descriptors { programs, exe, totals, window })
    }
}

/// What leakline says to a holder behind its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// We are alive.
    Heartbeat,
    /// It is enough.
    Close,
}

impl Word {
    pub(super) fn encode(self) -> [u8; WORD] {
        match self {
            Self::Heartbeat => 1_u64,
            Self::Close => 2,
        }
        .to_le_bytes()
    }

    /// Whatever else is said means the end, too.
    pub(super) fn decode(bytes: &[u8]) -> Self {
        if *bytes == Self::Heartbeat.encode() { Self::Heartbeat } else { Self::Close }
    }
}

/// What a holder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Since then, on the monotonic clock, the probes are in place, and hits count.
    Opened { at_ns: u64 },
    /// Since then hits do not count; the probes go when the process does.
    Closed { at_ns: u64, hits: Option<u64> },
    /// It could not do this, for this reason (an error number of the kernel's; 0: not known).
    Failed { step: Step, errno: i32 },
}

/// What a holder may fail at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Understand the order.
    Order = 1,
    /// Make the link.
    Link = 2,
    /// Read the totals.
    Totals = 3,
    /// Write the window.
    Window = 4,
}

impl Said {
    pub(super) fn encode(self) -> Vec<u8> {
        let words = match self {
            Self::Opened { at_ns } => [1, at_ns, 0],
            Self::Closed { at_ns, hits } => [2, at_ns, hits.unwrap_or(u64::MAX)],
            Self::Failed { step, errno } => [3, step as u64, u64::from(errno.cast_unsigned())],
        };
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// None: nothing that a holder says.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let words: [u64; 3] = words(bytes)?.try_into().ok()?;
        Some(match words {
            [1, at_ns, _] => Self::Opened { at_ns },
            [2, at_ns, hits] => Self::Closed { at_ns, hits: (hits != u64::MAX).then_some(hits) },
            [3, step, errno] => {
                let steps = [Step::Order, Step::Link, Step::Totals, Step::Window];
                let step = steps.into_iter().find(|known| *known as u64 == step)?;
                Self::Failed { step, errno: u32::try_from(errno).ok()?.cast_signed() }
            }
            _ => return None,
        })
    }
}

/// The index of a counter; the largest number stands for none.
fn index(word: u64) -> Result<Option<u32>, TryFromIntError> {
    (word != u64::MAX).then(|| word.try_into()).transpose()
}

/// None: not whole words.
fn words(bytes: &[u8]) -> Option<Vec<u64>> {
    let (words, rest) = bytes.as_chunks::<WORD>();
    rest.is_empty().then(|| words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window() -> End {
        let state = WindowState { until_ns: 0, mean_birth_bytes: 4096, burst: 7, kind: 1 };
        End::Window { length_ns: 10_000_000, most: Most::hits(20_000), state }
    }

    fn dear_window() -> End {
        let caught = CaughtCost { most_ns: 3_000_000, hit_ns: 600, birth_ns: 1_500 };
        let cost = MostCost { births_index: 2, caught };
        let most = Most { hits: 20_000, cost: Some(cost) };
        End::Window { length_ns: 10_000_000, most, state: WindowState::default() }
    }

    fn simple(end: End) -> Order {
        Order { pid: 1, mechanism: Mechanism::UprobeMulti, programs: 1, points: points(1), hits_index: None, end }
    }

    fn points(count: usize) -> Vec<LinkPoint> {
        (0..count as u64).map(|at| LinkPoint { file_offset: 0x1000 + at, cookie: at }).collect()
    }

    #[test]
    fn what_is_said_is_understood() {
        for (hits_index, end) in [(Some(0), window()), (Some(1), dear_window()), (None, End::Silence { at_most_ns: 5 })]
        {
            for count in [1, 15, POINTS_MAX] {
                for (mechanism, programs) in [(Mechanism::UprobeMulti, 1), (Mechanism::PerfEvents, PROGRAMS_MAX)] {
                    let order = Order { pid: 42, mechanism, programs, points: points(count), hits_index, end };
                    let packet = order.encode();
                    assert!(packet.len() <= PACKET_MAX);
                    assert_eq!(Order::decode(&packet), Some(order));
                }
            }
        }
        for said in [
            Said::Opened { at_ns: 5 },
            Said::Closed { at_ns: 6, hits: Some(7) },
            Said::Closed { at_ns: 6, hits: None },
            Said::Failed { step: Step::Link, errno: 3 },
            Said::Failed { step: Step::Window, errno: 0 },
        ] {
            assert_eq!(Said::decode(&said.encode()), Some(said));
        }
        for word in [Word::Heartbeat, Word::Close] {
            assert_eq!(Word::decode(&word.encode()), word);
        }
        assert_eq!(Word::decode(b"whatever"), Word::Close);
    }

    #[test]
    fn a_window_ends_by_its_hits_or_by_what_they_and_their_births_cost() {
        let End::Window { most, .. } = dear_window() else { panic!("no window") };
        for (hits, births, is_over) in [
            (1_000, 0, false),
            (1_000, 1_599, false),
            (1_000, 1_600, true),
            (5_000, 0, true),
            (u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(most.is_reached(hits, births), is_over, "{hits} hits, {births} births");
        }
        assert!(Most::hits(10).is_reached(10, 0) && !Most::hits(10).is_reached(9, u64::MAX));
    }

    #[test]
    fn an_order_of_no_points_or_too_many_is_none() {
        for count in [0, POINTS_MAX + 1] {
            let order = Order { points: points(count), ..simple(window()) };
            assert_eq!(Order::decode(&order.encode()), None);
        }
    }

    #[test]
    fn an_order_without_programs_or_with_too_many_is_none() {
        for (mechanism, programs) in [
            (Mechanism::UprobeMulti, 0),
            (Mechanism::UprobeMulti, 2),
            (Mechanism::PerfEvents, 0),
            (Mechanism::PerfEvents, PROGRAMS_MAX + 1),
        ] {
            let order = Order { mechanism, programs, ..simple(window()) };
            assert_eq!(Order::decode(&order.encode()), None);
        }
    }

    #[test]
    fn descriptors_are_those_that_the_order_speaks_of() {
        let came = |count: usize| -> Vec<OwnedFd> {
            (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect()
        };
        let order = |hits_index, end| Order { hits_index, ..simple(end) };
        let of_three = Order { mechanism: Mechanism::PerfEvents, programs: 3, ..simple(window()) };
        let silence = End::Silence { at_most_ns: 1 };
        for (order, count) in [
            (order(Some(0), window()), 4),
            (order(None, window()), 3),
            (order(Some(0), silence), 3),
            (order(None, silence), 2),
            (of_three, 5),
        ] {
            assert!(order.descriptors(came(count)).is_some());
            assert!(order.descriptors(came(count - 1)).is_none());
            assert!(order.descriptors(came(count + 1)).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_order_or_none(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let order = Order::decode(&bytes);
            if let Some(order) = order {
                prop_assert_eq!(order.encode(), bytes.clone());
            }
            let _any = (Said::decode(&bytes), Word::decode(&bytes));
        }
    }
}
