//! What in the books asks for a burst at once: a rate that jumps, a heap that grows, a long pause.

use super::Impulse;

/// Times the usual rate that is a jump.
const JUMP: f64 = 3.0;
/// Below this a rate is no news, bytes per second.
const RATE_MIN: f64 = 4_194_304.0;
/// How fast the usual rate follows the present one, per second.
const FOLLOWS_PER_S: f64 = 0.1;
/// Growth of the heap above what it ever was since the last impulse.
const GROWTH: f64 = 0.25;
/// Below this growth is no news, bytes.
const GROWTH_MIN: f64 = 33_554_432.0;
/// A pause that users notice, ns.
const PAUSE_NS: u64 = 20_000_000;

/// What the books say at one look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pulse {
    /// Since the look before, seconds.
    pub seconds: f64,
    /// Bytes allocated since then.
    pub allocated_bytes: f64,
    /// Bytes of objects, alive or not yet swept.
    pub heap_bytes: f64,
    /// The longest pause since then, ns.
    pub pause_ns: u64,
}

/// An impulse, and how large it is: bytes per second, bytes, or seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jump {
    /// What it is.
    pub impulse: Impulse,
    /// What was usual. `None`: a pause has no such thing.
    pub usual: Option<f64>,
    /// What was seen.
    pub seen: f64,
}

/// Remembers what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impulses {
    rate: Option<f64>,
    heap_bytes: Option<f64>,
}

impl Impulses {
    /// One more look. `None`: as usual, or not known yet.
    pub fn observe(&mut self, pulse: Pulse) -> Option<Jump> {
        if !(pulse.seconds > 0.0 && pulse.allocated_bytes.is_finite() && pulse.heap_bytes.is_finite()) {
            return None;
        }
        let rate = pulse.allocated_bytes / pulse.seconds;
        let usual = *self.rate.get_or_insert(rate);
        self.rate = Some(usual + (FOLLOWS_PER_S * pulse.seconds).min(1.0) * (rate - usual));
        let most_bytes = *self.heap_bytes.get_or_insert(pulse.heap_bytes);
        let grown_bytes = pulse.heap_bytes - most_bytes;
        if rate > JUMP * usual.max(RATE_MIN) {
            // It is usual from now on: one burst for each jump.
            self.rate = Some(rate);
            return Some(Jump { impulse: Impulse::AllocationRate, usual: Some(usual), seen: rate });
        }
        if grown_bytes > (GROWTH * most_bytes).max(GROWTH_MIN) {
            self.heap_bytes = Some(pulse.heap_bytes);
            return Some(Jump { impulse: Impulse::HeapGrowth, usual: Some(most_bytes), seen: pulse.heap_bytes });
        }
        (pulse.pause_ns >= PAUSE_NS).then(|| Jump {
            impulse: Impulse::Pause,
            usual: None,
            seen: crate::units::approximate(pulse.pause_ns) / 1e9,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    fn pulse(allocated_mib: f64, heap_mib: f64) -> Pulse {
        Pulse { seconds: 0.1, allocated_bytes: allocated_mib * MIB, heap_bytes: heap_mib * MIB, pause_ns: 100_000 }
    }

    fn kind(impulses: &mut Impulses, pulse: Pulse) -> Option<Impulse> {
        impulses.observe(pulse).map(|jump| jump.impulse)
    }

    #[test]
    fn a_jump_says_from_where_to_where() {
        let mut impulses = Impulses::default();
        assert_eq!(impulses.observe(pulse(1.0, 10.0)), None);
        let jump = impulses.observe(pulse(8.0, 10.0)).unwrap();
        assert_eq!((jump.impulse, jump.usual, jump.seen), (Impulse::AllocationRate, Some(10.0 * MIB), 80.0 * MIB));
        let jump = impulses.observe(pulse(8.0, 100.0)).unwrap();
        assert_eq!((jump.impulse, jump.usual, jump.seen), (Impulse::HeapGrowth, Some(10.0 * MIB), 100.0 * MIB));
        let jump = impulses.observe(Pulse { pause_ns: 30_000_000, ..pulse(8.0, 100.0) }).unwrap();
        assert_eq!((jump.impulse, jump.usual, jump.seen), (Impulse::Pause, None, 0.03));
    }

    #[test]
    fn a_jump_of_the_rate_is_one_impulse_and_what_goes_on_is_usual() {
        let mut impulses = Impulses::default();
        for _ in 0..50 {
            assert_eq!(kind(&mut impulses, pulse(1.0, 10.0)), None);
        }
        assert_eq!(kind(&mut impulses, pulse(8.0, 10.0)), Some(Impulse::AllocationRate));
        for _ in 0..50 {
            assert_eq!(kind(&mut impulses, pulse(8.0, 10.0)), None);
        }
    }

    #[test]
    fn what_is_little_is_no_news() {
        let mut impulses = Impulses::default();
        assert_eq!(kind(&mut impulses, pulse(0.01, 1.0)), None);
        assert_eq!(kind(&mut impulses, pulse(0.5, 20.0)), None);
    }

    #[test]
    fn a_heap_that_grows_by_a_quarter_is_an_impulse_and_collections_are_none() {
        let mut impulses = Impulses::default();
        let seen: Vec<_> = (0..100).map(|look| kind(&mut impulses, pulse(1.0, 200.0 - f64::from(look % 10)))).collect();
        assert!(seen.iter().all(Option::is_none));
        assert_eq!(kind(&mut impulses, pulse(1.0, 300.0)), Some(Impulse::HeapGrowth));
        assert_eq!(kind(&mut impulses, pulse(1.0, 310.0)), None);
    }

    #[test]
    fn a_long_pause_is_an_impulse() {
        let mut impulses = Impulses::default();
        assert_eq!(kind(&mut impulses, Pulse { pause_ns: 30_000_000, ..pulse(1.0, 1.0) }), Some(Impulse::Pause));
    }
}
