//! The laws of what is estimated from births.

use super::*;

/// One object that was caught.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Birth {
    pub(in crate::model) site: SiteId,
    pub(in crate::model) size_bytes: u64,
    pub(in crate::model) burst: u32,
    pub(in crate::model) age_cycles: u32,
    pub(in crate::model) died: bool,
    pub(in crate::model) weight: f64,
}

/// A cell for each object.
pub(in crate::model) fn reading_of(window_s: f64, bursts: u32, births: &[Birth]) -> BirthReading {
    let clusters = u32::try_from(CLUSTERS).unwrap();
    let cells = births.iter().map(|birth| BirthCell {
        site: Some(birth.site),
        path: 0,
        size_bytes: birth.size_bytes,
        group: 0,
        cluster: u8::try_from(birth.burst % clusters).unwrap(),
        number: 1,
        lives: Lives {
            age_cycles: birth.age_cycles,
            died: birth.died,
            weight: birth.weight,
            squares: birth.weight * birth.weight,
        },
    });
    let mut of_cluster = [0; CLUSTERS];
    (0..bursts).for_each(|burst| of_cluster[(burst % clusters) as usize] += 1);
    BirthReading { window_s, bursts: of_cluster, cells: cells.collect(), ..BirthReading::default() }
}

fn birth(burst: u32, age_cycles: u32, died: bool) -> Birth {
    Birth { site: SiteId(1), size_bytes: 64, burst, age_cycles, died, weight: 10.0 }
}

fn growth(reading: &BirthReading) -> Estimate {
    estimate(reading).sites[0].growth.unwrap()
}

#[test]
fn growth_is_births_times_what_stays() {
    // In each burst 10 births, of which 8 die at once and 2 stay.
    let births = (0..24).flat_map(|burst| {
        let dead = (0..8).map(move |_| birth(burst, 0, true));
        dead.chain((0..2).map(move |_| birth(burst, 9, false)))
    });
    let mut reading = reading_of(60.0, 24, &births.collect::<Vec<_>>());
    let expected = 24.0 * 2.0 * 10.0 * 64.0 / 60.0;
    assert!((growth(&reading).growth / expected - 1.0).abs() < 1e-9, "{:?}", growth(&reading));
    assert!(growth(&reading).variance > 0.0);
    reading.classes = vec![ClassRate { size_bytes: Some(64), bytes_per_s: 1_000.0 }];
    assert!((growth(&reading).growth - 1000.0 * 0.2).abs() < 1e-6, "the books say how much");
    reading.bursts = [1, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(estimate(&reading).sites[0].growth, None, "two bursts say nothing of how much they differ");
}

#[test]
fn what_may_still_die_is_somewhere_between_none_and_all() {
    let births: Vec<Birth> = (0..80).map(|number| birth(number % 24, 4, false)).collect();
    let known = estimate(&reading_of(60.0, 24, &births)).sites[0];
    let all = 80.0 * 10.0 * 64.0 / 60.0;
    assert!(!known.is_settled && (known.growth.unwrap().growth / all - 0.5).abs() < 1e-9, "{known:?}");
    assert!(known.growth.unwrap().variance.sqrt() > 0.28 * all);
    let gone: Vec<Birth> = (0..80).map(|number| birth(number % 24, 5, true)).collect();
    let known = estimate(&reading_of(60.0, 24, &gone)).sites[0];
    assert!(known.is_settled && known.growth.unwrap().growth.abs() < 1e-9, "{known:?}");
}

#[test]
fn refills_say_how_much_of_a_class_each_group_has() {
    // One goroutine is slowed so much that as many of its births are seen, millions a second, as of another that has a hundredth.
    let cell = |site, group, cluster| BirthCell {
        site: Some(SiteId(site)),
        path: 0,
        size_bytes: 64,
        group,
        cluster,
        number: 50,
        lives: Lives { age_cycles: 0, died: true, weight: 5e7, squares: 5e13 },
    };
    let refill = |group, cluster, number| RefillCell {
        size_bytes: 64,
        group,
        cluster,
        number,
        weight: 3.0 * approximate(number),
    };
    let clusters = || 0..8_u8;
    let mut reading = BirthReading {
        refill_trap: 0.0,
        window_s: 60.0,
        bursts: [4; CLUSTERS],
        cells: clusters().flat_map(|cluster| [cell(1, 1, cluster), cell(2, 2, cluster)]).collect(),
        refills: clusters().flat_map(|cluster| [refill(1, cluster, 1_000), refill(2, cluster, 10)]).collect(),
        classes: vec![ClassRate { size_bytes: Some(64), bytes_per_s: 101.0 }],
        ..BirthReading::default()
    };
    let rates = |reading: &BirthReading| -> Vec<f64> {
        estimate(reading).sites.iter().map(|site| site.allocates.unwrap().growth).collect()
    };
    let [fast, slow] = rates(&reading)[..] else { panic!() };
    assert!((fast - 100.0).abs() < 0.1 && (slow - 1.0).abs() < 0.1, "{fast} {slow}");
    // Of a group that births have not shown nobody gets its part.
    reading.refills.extend(clusters().map(|cluster| refill(3, cluster, 1_010)));
    let [fast, slow] = rates(&reading)[..] else { panic!() };
    assert!((fast - 50.0).abs() < 0.1 && (slow - 0.5).abs() < 0.1, "{fast} {slow}");
    // Who allocates seven times a second is slowed by nobody: then births, of which there are more, say it.
    for cell in &mut reading.cells {
        cell.lives = Lives { weight: 50.0, squares: 50.0, ..cell.lives };
    }
    let [one, other] = rates(&reading)[..] else { panic!() };
    assert!((one - 50.5).abs() < 0.1 && (other - 50.5).abs() < 0.1, "{one} {other}");
}
