//! From samples to estimates: what the counts of the runtime's heap profile stand for.

use super::Counted;
use crate::read::profile::Counts;
use crate::units::approximate;

/// What was allocated, estimated from samples of one stack and size.
///
/// The sampler takes an object of `s` bytes with the probability 1 - exp(-s / rate); each sample stands for the inverse of
/// that (`scaleHeapSample` in runtime/pprof/protomem.go, go1.19 to go1.27, which also rounds down). A rate of 1 and below means that
/// nothing is to be scaled.
pub fn unsample(sampled: Counted, rate_bytes: i64) -> Counted {
    if sampled.objects == 0 || sampled.bytes == 0 {
        return Counted::default();
    }
    if rate_bytes <= 1 {
        return sampled;
    }
    let (objects, bytes) = (approximate(sampled.objects), approximate(sampled.bytes));
    #[expect(clippy::cast_precision_loss, reason = "a rate is far below 2^53")]
    let scale = 1.0 / (1.0 - (-(bytes / objects) / rate_bytes as f64).exp());
    Counted { objects: whole(objects * scale), bytes: whole(bytes * scale) }
}

/// Objects and bytes allocated, as sampled.
pub fn allocated(counts: Counts) -> Counted {
    Counted { objects: counts.allocs, bytes: counts.alloc_bytes }
}

/// Objects and bytes in use, as sampled.
pub fn in_use(counts: Counts) -> Counted {
    Counted { objects: counts.in_use(), bytes: counts.in_use_bytes() }
}

/// Counts without the samples that were there at `baseline`.
///
/// When the sampler is switched on in a running program, the first allocation on each processor is sampled whatever its
/// size (the caches' `nextSample` has run out, or their rate differs: `mallocgc` in runtime/malloc.go). A weight that
/// assumes chance would make far too much of it. Which of the objects were freed since is not known: those of the
/// baseline are taken to go first.
#[must_use]
pub fn since(baseline: Counts, now: Counts) -> Counts {
    let frees = now.frees.saturating_sub(baseline.allocs);
    let free_bytes = now.free_bytes.saturating_sub(baseline.alloc_bytes);
    let allocs = now.allocs.saturating_sub(baseline.allocs);
    let alloc_bytes = now.alloc_bytes.saturating_sub(baseline.alloc_bytes);
    Counts { allocs, frees: frees.min(allocs), alloc_bytes, free_bytes: free_bytes.min(alloc_bytes) }
}

/// Rounded down; what is too large for a signed word, in which profiles count, is the largest.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the bounds")]
fn whole(value: f64) -> u64 {
    value.clamp(0.0, 9.2e18) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(objects: u64, bytes: u64) -> Counted {
        Counted { objects, bytes }
    }

    #[test]
    fn a_sample_stands_for_the_inverse_of_its_probability() {
        // Values of Go's scaleHeapSample.
        assert_eq!(unsample(counted(1, 524_288), 524_288), counted(1, 829_411));
        assert_eq!(unsample(counted(3, 144), 524_288), counted(32_769, 1_572_936));
        assert_eq!(unsample(counted(7, 7 << 20), 4096), counted(7, 7 << 20));
    }

    #[test]
    fn nothing_is_scaled_where_everything_is_sampled_or_nothing_was() {
        for rate in [1, 0, -5] {
            assert_eq!(unsample(counted(3, 144), rate), counted(3, 144));
        }
        assert_eq!(unsample(counted(0, 144), 4096), counted(0, 0));
        assert_eq!(unsample(counted(3, 0), 4096), counted(0, 0));
    }

    fn counts(allocs: u64, frees: u64) -> Counts {
        Counts { allocs, frees, alloc_bytes: 48 * allocs, free_bytes: 48 * frees }
    }

    #[test]
    fn what_was_sampled_before_is_taken_off_and_goes_first() {
        assert_eq!(since(counts(2, 0), counts(10, 0)), counts(8, 0));
        assert_eq!(since(counts(2, 0), counts(10, 2)), counts(8, 0));
        assert_eq!(since(counts(2, 1), counts(10, 5)), counts(8, 3));
        assert_eq!(since(counts(2, 0), counts(2, 2)), counts(0, 0));
        assert_eq!(since(counts(0, 0), counts(9, 4)), counts(9, 4));
    }

    proptest! {
        #[test]
        fn estimates_are_never_below_the_samples(objects in 1..1_000_000_u64, size in 1..1_000_000_u64, rate in any::<i64>()) {
            let sampled = counted(objects, objects * size);
            let estimate = unsample(sampled, rate);
            prop_assert!(estimate.objects >= sampled.objects && estimate.bytes >= sampled.bytes);
        }

        #[test]
        fn no_more_is_freed_than_allocated_behind_a_baseline(a in any::<[u32; 4]>()) {
            let [a, b, c, d] = a.map(u64::from);
            let before = counts(a, b.min(a));
            let now = counts(a + c, before.frees + d.min(a + c - before.frees));
            let rest = since(before, now);
            prop_assert!(rest.frees <= rest.allocs && rest.free_bytes <= rest.alloc_bytes);
            prop_assert!(rest.in_use() <= now.in_use());
        }
    }
}
