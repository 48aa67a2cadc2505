//! The laws of the book-keeping.

use super::*;
use crate::addr::Avma;
use crate::model::birth_look::CellSum;

const S: u64 = 1_000_000_000;

fn event(at_ns: u64, burst: u32, address: u64, cycle: u32) -> BirthEvent<'static> {
    BirthEvent {
        at_ns,
        burst,
        goroutine: Goroutine { id: 7, start_pc: 0x100 },
        frames: &[0x40, 0x50],
        object: (address > 0).then_some(TrackedObject {
            address: Avma(address),
            span: None,
            born: Cycle(cycle),
            alive: Cycle(cycle),
        }),
        slot_bytes: 64,
        is_black: false,
        weight: 2.0,
    }
}

fn end(number: u32, began_ns: u64) -> BurstEnd<'static> {
    BurstEnd {
        number,
        began_ns,
        open_ns: 5_000_000,
        stands_for_ns: 50_000_000,
        chosen_per_told: 1.0,
        kind: BurstKind::Births,
    }
}

fn look(tracked: &mut Tracked, cycle: u32, answer: impl Fn(&TrackedObject) -> Look) {
    let objects = tracked.objects().to_vec();
    let looks: Vec<Look> = objects.iter().map(answer).collect();
    tracked.looked_at(Cycle(cycle), &objects, &looks);
}

/// What was told so far, as whoever is told keeps it.
#[derive(Default)]
struct Told {
    cells: Vec<(CellKey, CellSum)>,
    slices: Vec<Slice>,
}

impl Told {
    fn take(&mut self, tracked: &mut Tracked, now_ns: u64) {
        let Taken { look, .. } = tracked.take(now_ns);
        self.cells.extend(look.new_cells.iter().map(|key| (*key, CellSum::default())));
        for (number, sum) in look.changed {
            self.cells[usize::try_from(number).unwrap()].1 = sum;
        }
        self.slices = look.slices;
    }

    fn known(&self) -> impl Iterator<Item = &(CellKey, CellSum)> {
        let is_known = |slice: u32| self.slices.iter().any(|known| known.number == slice);
        self.cells.iter().filter(move |(key, sum)| sum.number > 0 && is_known(key.slice))
    }

    /// Age, whether dead, number, weight.
    fn lives(&self) -> Vec<(u32, bool, u64, f64)> {
        let mut lives: Vec<_> = self
            .known()
            .filter_map(|(key, sum)| match key.seen {
                Seen::Lives { age_cycles, died, .. } => Some((age_cycles, died, sum.number, sum.weight)),
                Seen::Refills => None,
            })
            .collect();
        lives.sort_by_key(|life| (life.0, life.1));
        lives
    }
}

#[test]
fn births_are_told_when_their_burst_has_ended_with_what_they_stand_for() {
    let (mut tracked, mut told) = (Tracked::new(Limits::default()), Told::default());
    tracked.born(&event(S, 1, 0x1000, 10));
    tracked.born(&event(S, 1, 0, 10));
    told.take(&mut tracked, S);
    assert_eq!(told.lives(), []);
    look(&mut tracked, 12, |_| Look::Dead { cycle: Cycle(12) });
    tracked.burst_ended(&end(1, S));
    told.take(&mut tracked, S);
    assert_eq!(told.lives(), [(0, false, 1, 20.0), (0, true, 1, 20.0)]);
    assert_eq!((tracked.counts().unresolved, tracked.counts().died, tracked.followed()), (1, 1, 0));
}

#[test]
fn the_living_grow_older_and_the_dead_stay_counted() {
    let (mut tracked, mut told) = (Tracked::new(Limits::default()), Told::default());
    for address in 1..=10 {
        tracked.born(&event(S, 1, address, 10));
    }
    tracked.burst_ended(&end(1, S));
    for cycle in [12, 14, 16] {
        look(&mut tracked, cycle, |object| {
            let is_alive = object.address.0 > u64::from(cycle - 10) / 2;
            if is_alive { Look::Alive { cycle: Cycle(cycle) } } else { Look::Dead { cycle: Cycle(cycle) } }
        });
        told.take(&mut tracked, S);
    }
    assert_eq!(told.lives(), [(0, true, 1, 20.0), (1, true, 1, 20.0), (2, true, 1, 20.0), (3, false, 7, 140.0)]);
    let again = tracked.take(S).look;
    assert_eq!((again.new_cells.len(), again.changed.len()), (0, 0), "only what changed is told");
}

#[test]
fn a_black_birth_is_not_tested_by_the_collection_that_runs() {
    let (mut tracked, mut told) = (Tracked::new(Limits::default()), Told::default());
    tracked.born(&BirthEvent { is_black: true, ..event(S, 1, 0x1000, 10) });
    tracked.burst_ended(&end(1, S));
    look(&mut tracked, 12, |_| Look::Alive { cycle: Cycle(12) });
    told.take(&mut tracked, S);
    assert_eq!(told.lives(), [(0, false, 1, 20.0)]);
    look(&mut tracked, 14, |_| Look::Dead { cycle: Cycle(14) });
    told.take(&mut tracked, S);
    assert_eq!(told.lives(), [(0, true, 1, 20.0)]);
}

#[test]
fn behind_a_missed_cycle_neither_life_nor_death_is_believed() {
    let (mut tracked, mut told) = (Tracked::new(Limits::default()), Told::default());
    tracked.born(&event(S, 1, 1, 10));
    tracked.born(&event(S, 1, 2, 10));
    tracked.burst_ended(&end(1, S));
    look(&mut tracked, 12, |_| Look::Alive { cycle: Cycle(12) });
    look(&mut tracked, 16, |object| match object.address.0 {
        1 => Look::Dead { cycle: Cycle(16) },
        _ => Look::Censored(Censored::MissedCycle),
    });
    told.take(&mut tracked, S);
    assert_eq!(told.lives(), [(1, false, 2, 40.0)]);
    let counts = tracked.counts();
    assert_eq!((counts.missed_cycle, counts.cycles_missed, counts.cycles_looked), (2, 1, 2));
}

#[test]
fn while_nobody_looks_for_cycles_none_is_missed() {
    let mut tracked = Tracked::new(Limits::default());
    look(&mut tracked, 10, |_| Look::Alive { cycle: Cycle(10) });
    tracked.looks_no_more();
    look(&mut tracked, 30, |_| Look::Alive { cycle: Cycle(30) });
    assert_eq!(tracked.counts().cycles_missed, 0);
    look(&mut tracked, 36, |_| Look::Alive { cycle: Cycle(36) });
    assert_eq!(tracked.counts().cycles_missed, 2);
}

#[test]
fn a_span_that_is_gone_when_the_collector_goes_on_is_a_death_if_the_living_were_seen_in_time() {
    let (mut tracked, mut told) = (Tracked::new(Limits::default()), Told::default());
    (1..=3).for_each(|address| tracked.born(&event(S, 1, address, 10)));
    tracked.burst_ended(&end(1, S));
    look(&mut tracked, 12, |object| match object.address.0 {
        1 => Look::Dead { cycle: Cycle(14) },
        _ => Look::Alive { cycle: Cycle(12) },
    });
    told.take(&mut tracked, S);
    assert_eq!(told.lives(), [(0, true, 1, 20.0), (1, false, 2, 40.0)]);
}

#[test]
fn as_many_are_followed_as_may_be_and_all_births_are_counted() {
    let limits = Limits { objects: 100, cells: 64, ..Limits::default() };
    let (mut tracked, mut told) = (Tracked::new(limits), Told::default());
    let mut most = 0;
    for burst in 0..200 {
        for object in 0..50 {
            tracked.born(&event(S, burst, 1 + u64::from(burst) * 50 + object, 10));
            most = most.max(tracked.followed());
        }
        tracked.burst_ended(&end(burst, S));
    }
    told.take(&mut tracked, S);
    assert!(most < 100 && tracked.thrown > 5, "{most} {}", tracked.thrown);
    let weight: f64 = told.lives().iter().map(|life| life.3).sum();
    assert!((weight - 200.0 * 50.0 * 20.0).abs() < 1e-6, "{weight}");
    let counts = tracked.counts();
    assert_eq!((counts.born, counts.no_room, counts.no_end), (10_000, 0, 0));
    // With room again, one coin less each time.
    for cycle in 0..20 {
        look(&mut tracked, 12 + 2 * cycle, |_| Look::Dead { cycle: Cycle(12 + 2 * cycle) });
    }
    assert_eq!((tracked.thrown, tracked.followed()), (0, 0));
}

#[test]
fn what_is_older_than_the_window_is_gone_with_its_objects() {
    let (mut tracked, mut told) = (Tracked::new(Limits::default()), Told::default());
    for minute in 0..60_u32 {
        let at_ns = u64::from(minute) * 60 * S;
        tracked.born(&event(at_ns, minute, u64::from(minute) + 1, 10));
        tracked.burst_ended(&end(minute, at_ns));
        look(&mut tracked, 12 + 2 * minute, |_| Look::Alive { cycle: Cycle(12 + 2 * minute) });
        told.take(&mut tracked, at_ns);
        let known: u64 = told.known().map(|(_, sum)| sum.number).sum();
        assert!(known <= 19 && tracked.followed() <= 19, "{minute}: {known}");
        assert!(minute < 20 || known >= 15);
        let bursts: u32 = told.slices.iter().flat_map(|slice| slice.birth_bursts).sum();
        assert_eq!(u64::from(bursts), known);
    }
}

#[test]
fn a_burst_whose_end_is_never_told_is_lost_and_counted() {
    let mut tracked = Tracked::new(Limits::default());
    for burst in 0..100 {
        tracked.born(&event(S, burst, 0x1000, 10));
        tracked.born(&event(S, burst, 0, 10));
    }
    let counts = tracked.counts();
    assert_eq!((counts.no_end, tracked.followed()), (168, 16));
    assert_eq!(tracked.take(S).look.changed.len(), 0);
}

#[test]
fn bounds_hold_under_any_births() {
    let limits = Limits { objects: 500, cells: 200, paths: 50, ..Limits::default() };
    let mut tracked = Tracked::new(limits);
    let mut numbers = 0_u64;
    for number in 0..20_000_u64 {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let burst = u32::try_from(number / 100).unwrap();
        tracked.born(&BirthEvent {
            at_ns: mixed * 1_000,
            goroutine: Goroutine { id: mixed, start_pc: mixed },
            frames: &[mixed % 1_000, mixed % 7],
            slot_bytes: mixed,
            weight: if number % 50 == 0 { f64::NAN } else { 1.5 },
            ..event(S, burst, mixed, u32::try_from(mixed & 0xff).unwrap())
        });
        if number % 100 == 99 {
            tracked.burst_ended(&end(burst, mixed * 1_000));
            look(&mut tracked, burst, |object| match object.address.0 % 4 {
                0 => Look::Dead { cycle: Cycle(burst) },
                1 => Look::Censored(Censored::Moving),
                2 => Look::Censored(Censored::MissedCycle),
                _ => Look::Alive { cycle: Cycle(burst) },
            });
            let taken = tracked.take(mixed * 1_000);
            numbers += u64::try_from(taken.look.new_cells.len()).unwrap();
            assert!(taken.new_paths.len() <= 50);
            assert!(taken.look.changed.iter().all(|(cell, _)| u64::from(*cell) < numbers));
            assert!(tracked.followed() <= 500 && tracked.sums.len() <= 200);
        }
    }
    assert!(tracked.counts().stacks_no_room > 0, "not all of the 7,000 stacks find room");
    assert!(tracked.memory_bytes() < 4 << 20);
}

#[test]
fn stacks_that_no_birth_is_of_any_more_make_room_for_others() {
    let mut tracked = Tracked::new(Limits { paths: 4, ..Limits::default() });
    let mut known: Vec<(u32, u64)> = Vec::new();
    let mut next = 0;
    for minute in 0..120_u32 {
        let at_ns = u64::from(minute) * 60 * S;
        // One stack is there all the time, and every ten minutes comes a new one.
        for frame in [7, 100 + u64::from(minute / 10)] {
            tracked.born(&BirthEvent { frames: &[frame], ..event(at_ns, minute, 0, 10) });
        }
        tracked.burst_ended(&end(minute, at_ns));
        let taken = tracked.take(at_ns);
        for path in &taken.new_paths {
            known.push((next, path[0]));
            next += 1;
        }
        known.retain(|(number, _)| !taken.look.gone_stacks.contains(number));
        assert!(known.len() <= 4, "{minute}: {known:?}");
        let of = |frame: u64| known.iter().any(|(_, known)| *known == frame);
        assert!(of(7) && of(100 + u64::from(minute / 10)), "{minute}: {known:?}");
        let told = taken.look.new_cells.iter().filter_map(|key| match key.seen {
            Seen::Lives { path, .. } => Some(path),
            Seen::Refills => None,
        });
        for path in told {
            assert!(known.iter().any(|(number, _)| *number == path), "{minute}: a cell of a stack that is gone");
        }
    }
    assert_eq!(tracked.counts().stacks_no_room, 0);
    assert!(next > 10);
}

#[test]
fn births_count_no_more_when_no_burst_has_come_for_long() {
    let mut tracked = Tracked::new(Limits::default());
    let mut told = Told::default();
    tracked.born(&event(S, 1, 0x1000, 10));
    tracked.burst_ended(&end(1, S));
    told.take(&mut tracked, 2 * S);
    assert_eq!((told.known().count(), tracked.followed()), (1, 1));
    told.take(&mut tracked, 900 * S);
    assert_eq!((told.known().count(), tracked.followed()), (1, 1));
    told.take(&mut tracked, 1_082 * S);
    assert_eq!((told.known().count(), tracked.followed()), (0, 0));
    tracked.born(&event(2_000 * S, 2, 0x1000, 12));
    tracked.burst_ended(&end(2, 2_000 * S));
    told.take(&mut tracked, 2_001 * S);
    assert_eq!((told.known().count(), told.slices[0].number), (1, 1), "numbers of slices are never used again");
}

#[test]
fn answers_are_those_of_the_objects_that_were_asked_for() {
    let mut tracked = Tracked::new(Limits { window_ns: 10 * S, slice_ns: 10 * S, ..Limits::default() });
    tracked.born(&event(0, 1, 0x1000, 10));
    tracked.burst_ended(&end(1, 0));
    for address in [0x2000, 0x3000] {
        tracked.born(&event(12 * S, 2, address, 10));
    }
    let asked = tracked.objects().to_vec();
    let looks = [Look::Dead { cycle: Cycle(12) }, Look::Alive { cycle: Cycle(12) }, Look::Dead { cycle: Cycle(12) }];
    // Meanwhile the first has become too old, and one more is born.
    tracked.take(23 * S);
    tracked.born(&event(12 * S, 2, 0x4000, 10));
    tracked.looked_at(Cycle(12), &asked, &looks);
    let left: Vec<(u64, Cycle)> = tracked.objects().iter().map(|object| (object.address.0, object.alive)).collect();
    assert_eq!(left, [(0x2000, Cycle(12)), (0x4000, Cycle(10))]);
    assert_eq!(tracked.counts().died, 1);
}
