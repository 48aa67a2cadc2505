//! Births and deaths with known truth: whether what stays is found without bias, and how sure it is, where bursts cluster and
//! looks are missed.

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::super::SiteId;
use super::super::births::tests::{Birth, reading_of};
use super::super::births::{BirthReading, ClassRate, estimate};
use super::chance::{normal, poisson};

const WINDOW_S: f64 = 120.0;
const BURSTS: u32 = 60;
const SIZE_BYTES: u64 = 256;
/// A burst catches this part of what is born in its time.
const CAUGHT: f64 = 0.01;
/// Collections in the window.
const CYCLES: u32 = 40;

/// One site of which a known part stays. Bursts differ: in how much is born, and in how much of that stays.
struct Truth {
    births: f64,
    stays: f64,
}

fn caught(truth: &Truth, random: &mut SmallRng) -> BirthReading {
    let mut births = Vec::new();
    for burst in 0..BURSTS {
        // A request that runs in the burst, or does not.
        let busy = (0.4 * normal(random) - 0.08).exp();
        let stays = (truth.stays * (0.5 * normal(random) - 0.125).exp()).min(1.0);
        let oldest = CYCLES * (BURSTS - burst) / BURSTS;
        for _ in 0..poisson(truth.births * CAUGHT / f64::from(BURSTS) * busy, random) {
            // One event in twenty is lost: its object was never caught.
            if random.random_bool(0.05) {
                continue;
            }
            let is_black = random.random_bool(0.2);
            let mut age_cycles = 0;
            let dies_at = if random.random_bool(stays) { u32::MAX } else { u32::from(random.random_bool(0.3)) };
            // What is black is kept by the collection that runs, whatever becomes of it.
            let dies_at = dies_at.saturating_add(u32::from(is_black));
            let mut died = false;
            for cycle in 0..oldest {
                // Some looks are missed: nothing is known of later.
                if random.random_bool(0.02) {
                    break;
                }
                if cycle == dies_at {
                    died = true;
                    break;
                }
                age_cycles = cycle + 1;
            }
            // Its first age says nothing (`tracked`).
            if is_black {
                let Some(tested) = age_cycles.checked_sub(1) else { continue };
                age_cycles = tested;
            }
            let weight = 1.0 / (CAUGHT * 0.95);
            births.push(Birth { site: SiteId(1), size_bytes: SIZE_BYTES, burst, age_cycles, died, weight });
        }
    }
    reading_of(WINDOW_S, BURSTS, &births)
}

#[test]
fn growth_from_births_is_unbiased_and_covers_the_truth_though_bursts_cluster() {
    const RUNS: u64 = 1000;
    for is_counted in [false, true] {
        let (mut known, mut covered, mut sum) = (0_u32, 0_u32, 0.0);
        for seed in 0..RUNS {
            let mut random = SmallRng::seed_from_u64(seed ^ 0xb117);
            let truth = Truth { births: 60_000.0, stays: random.random_range(0.05..0.25) };
            let mut reading = caught(&truth, &mut random);
            if is_counted {
                let bytes_per_s = truth.births * SIZE_BYTES as f64 / WINDOW_S;
                reading.classes = vec![ClassRate { size_bytes: Some(SIZE_BYTES), bytes_per_s }];
            }
            let Some(growth) = estimate(&reading).sites.first().and_then(|site| site.growth) else { continue };
            let expected = truth.births * truth.stays * SIZE_BYTES as f64 / WINDOW_S;
            known += 1;
            covered += u32::from((growth.growth - expected).abs() <= 1.96 * growth.variance.sqrt());
            sum += growth.growth / expected - 1.0;
        }
        let percent = f64::from(covered) * 100.0 / f64::from(known);
        let bias = sum * 100.0 / f64::from(known);
        println!(
            "births, counted in full: {is_counted}: {percent:.1} % of {known} intervals cover the truth, bias {bias:+.1} %"
        );
        assert!(u64::from(known) * 10 > RUNS * 9, "{known}");
        assert!(bias.abs() < 2.0, "{bias}");
        assert!((92.1..=98.5).contains(&percent), "{percent}");
    }
}
