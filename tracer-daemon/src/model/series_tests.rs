//! Laws of series: what was allocated is in some step, or said to be in none; nothing is without bound.

use proptest::prelude::*;

use super::*;
use crate::model::memory;

const MS: u64 = 1_000_000;

/// Books of a program that has allocated so many large objects of 1 MB each.
fn books(objects: u64) -> Books {
    Books {
        collections: 3,
        classes: Vec::new(),
        tiny_allocs: 0,
        large_allocs: objects,
        large_alloc_bytes: objects * 1_000_000,
        large_frees: objects,
        large_free_bytes: objects * 999_999,
        ..memory::tests::books()
    }
}

fn at(milliseconds: u64) -> Moment {
    Moment { at_ns: milliseconds * MS, unix_ns: 7_000 * MS + milliseconds * MS }
}

fn objects(series: &Series) -> Vec<Option<u64>> {
    series.steps.iter().map(|step| step.allocated.map(|allocated| allocated.objects)).collect()
}

fn counted(objects: u64) -> Counted {
    Counted { objects, bytes: objects * 100 }
}

#[test]
fn looks_every_100_ms_give_what_came_between_them() {
    let mut series = BookSeries::default();
    for (look, objects) in [50, 50, 60, 60, 100].into_iter().enumerate() {
        series.observe(at(1_000 + 100 * look as u64), &books(objects));
    }
    let found = series.series(at(1_000)).unwrap();
    assert_eq!((found.step_ns, found.began_ns), (100 * MS, 0));
    assert_eq!(objects(&found), [Some(0), Some(10), Some(0), Some(40)]);
    assert_eq!(found.steps[3].heap_bytes, Some(100));
    let peak = found.most(|counted| counted.bytes).unwrap();
    assert_eq!(peak, Peak { began_ns: 300 * MS, allocated: Counted { objects: 40, bytes: 40_000_000 } });
}

#[test]
fn what_came_between_two_looks_is_spread_over_the_steps_that_they_cover() {
    let mut series = BookSeries::default();
    for (milliseconds, objects) in [(950, 0), (1_100, 150), (1_250, 150), (1_400, 450)] {
        series.observe(at(milliseconds), &books(objects));
    }
    let found = series.series(at(1_000)).unwrap();
    assert_eq!(found.step_ns, 100 * MS);
    assert_eq!(objects(&found), [Some(100), Some(0), Some(100), Some(200)]);
}

#[test]
fn steps_are_as_long_as_what_is_between_looks() {
    let mut series = BookSeries::default();
    for look in 0..20 {
        series.observe(at(250 * look), &books(look));
    }
    assert_eq!(series.series(at(0)).unwrap().step_ns, 200 * MS);
    let mut series = BookSeries::default();
    for look in 0..20 {
        series.observe(at(1_000 * look), &books(look));
    }
    assert_eq!(series.series(at(0)).unwrap().step_ns, 1_000 * MS);
}

#[test]
fn of_a_time_in_which_nobody_looked_nothing_is_said() {
    let mut series = BookSeries::default();
    for milliseconds in (0..=300).step_by(100).chain((2_000..=2_200).step_by(100)) {
        series.observe(at(milliseconds), &books(milliseconds));
    }
    let found = series.series(at(0)).unwrap();
    let (known, unknown): (Vec<_>, Vec<_>) = (0..22).partition(|step| found.steps[*step].allocated.is_some());
    assert_eq!(known, [0, 1, 2, 20, 21]);
    assert_eq!(unknown.len(), 17);
    assert_eq!(found.steps[21].allocated.unwrap().objects, 100);
}

#[test]
fn the_last_minute_is_kept_and_no_more() {
    let mut series = BookSeries::default();
    for look in 0..3_000 {
        series.observe(at(100 * look), &books(look));
    }
    assert!(series.looks.len() <= 602);
    let found = series.series(at(0)).unwrap();
    assert_eq!((found.steps.len(), found.began_ns), (600, 239_900 * MS));
    assert!(objects(&found).iter().all(|objects| *objects == Some(1)));
}

#[test]
fn before_the_first_whole_step_there_is_no_series() {
    let mut series = BookSeries::default();
    assert_eq!(series.series(at(0)), None);
    series.observe(at(0), &books(1));
    assert_eq!(series.series(at(0)), None);
    series.observe(at(90), &books(2));
    assert_eq!(series.series(at(0)), None);
}

#[test]
fn milliseconds_of_which_nobody_knows_are_none_and_what_was_in_them_is_said() {
    let mut milliseconds = Milliseconds::new(1_000);
    milliseconds.add(1_001, counted(5));
    milliseconds.unread(1_002, 1_004, counted(7));
    milliseconds.add(1_006, counted(2));
    milliseconds.add(1_003, counted(1));
    let series = milliseconds.series();
    assert_eq!(objects(&series), [Some(0), Some(5), None, None, None, Some(0), Some(2)]);
    assert_eq!(series.unplaced, counted(8));
    assert_eq!(series.most(|counted| counted.objects).unwrap().began_ns, MS);
}

#[test]
fn peaks_are_of_the_whole_window_though_its_beginning_is_not_kept() {
    let mut milliseconds = Milliseconds::new(1_000);
    milliseconds.add(1_002, counted(900));
    milliseconds.add(1_005, Counted { objects: 1, bytes: 1 << 40 });
    for later in 0..40_000 {
        milliseconds.add(1_010 + later, counted(later % 7));
    }
    let series = milliseconds.series();
    assert_eq!(series.steps.len(), 10_000);
    assert_eq!(series.began_ns, (40_010 - 10_000) * MS);
    assert_eq!(series.most(|counted| counted.objects).unwrap(), Peak { began_ns: 2 * MS, allocated: counted(900) });
    assert_eq!(series.most(|counted| counted.bytes).unwrap().began_ns, 5 * MS);
    assert!(series.peaks.len() <= 2 * PEAKS_MAX);
    milliseconds.go_on_to(u64::MAX - 1);
    assert_eq!(milliseconds.series().most(|counted| counted.objects).unwrap().began_ns, 2 * MS);
}

proptest! {
    #[test]
    fn known_steps_sum_to_what_the_books_grew_by(gaps in prop::collection::vec((1u64..200, 0u64..1_000), 3..200)) {
        let (mut series, mut now, mut allocated) = (BookSeries::default(), 5_000, 0);
        let mut looks = vec![(now, allocated)];
        series.observe(at(now), &books(allocated));
        for (gap, objects) in gaps {
            (now, allocated) = (now + gap, allocated + objects);
            series.observe(at(now), &books(allocated));
            looks.push((now, allocated));
        }
        if let Some(found) = series.series(at(5_000)) {
            prop_assert!(found.steps.iter().all(|step| step.allocated.is_some()), "no gap is long");
            let end_ms = 5_000 + found.step_ns / MS * found.steps.len() as u64;
            let (sum, before) = (objects(&found).iter().flatten().sum::<u64>(), looks.iter().rev().find(|(at, _)| *at <= end_ms));
            let after = looks.iter().find(|(at, _)| *at >= end_ms).unwrap();
            prop_assert!((before.unwrap().1..=after.1).contains(&sum));
        }
    }

    #[test]
    fn whatever_the_clock_says_a_series_is_bounded(
        looks in prop::collection::vec((any::<u64>(), any::<u64>()), 0..60),
        opened in any::<u64>(),
        milliseconds in prop::collection::vec((prop_oneof![any::<u64>(), u64::MAX - 2..=u64::MAX], any::<u64>()), 0..6),
    ) {
        let mut series = BookSeries::default();
        for (at_ns, large_allocs) in looks {
            let books = Books { large_allocs, large_alloc_bytes: large_allocs, ..books(0) };
            series.observe(Moment { at_ns, unix_ns: at_ns }, &books);
        }
        let found = series.series(Moment { at_ns: opened, unix_ns: 0 });
        prop_assert!(found.is_none_or(|found| found.steps.len() <= 600 && found.peaks.len() <= 2 * PEAKS_MAX));
        let mut kept = Milliseconds::new(opened);
        for (millisecond, objects) in milliseconds {
            kept.add(millisecond, Counted { objects, bytes: objects });
        }
        prop_assert!(kept.series().steps.len() <= MILLISECONDS_MAX);
    }
}
