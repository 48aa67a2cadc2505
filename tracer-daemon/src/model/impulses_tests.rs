//! Laws of impulses: shares are those of the births, by bytes; what is kept is bounded; who has no burst says why.

use super::*;
use crate::symbolize::Origin;

fn frame(function: &str) -> Frame {
    Frame {
        function: function.into(),
        file: "/src/a.go".into(),
        line: 7,
        function_start_line: 1,
        inlined: false,
        origin: Origin::Go,
    }
}

fn named(catch: &Catch, name: impl Fn(&[u64]) -> String) -> Caught {
    let stacks = catch.stacks.iter().map(|(frames, sum)| CaughtStack {
        stack: Arc::from([frame("runtime.mallocgc"), frame(&name(frames))]),
        sum: *sum,
    });
    Caught { stacks: stacks.collect(), ..catch.caught.clone() }
}

fn noticed(number: u32) -> ImpulseLook {
    let noticed = Noticed { number, kind: ImpulseKind::AllocationRate, usual: Some(1e6), seen: 5e6 };
    ImpulseLook { noticed: vec![noticed], ..ImpulseLook::default() }
}

fn moment(at_ns: u64) -> Moment {
    Moment { at_ns, unix_ns: 1_000_000_000_000 + at_ns }
}

#[test]
fn shares_are_by_the_bytes_that_births_stand_for() {
    let mut catching = Catching::new(3, 40);
    // A thousand small objects, of which one in ten was chosen, and nine large ones.
    for _ in 0..100 {
        catching.born(&[1, 9], 10.0, 100);
    }
    for _ in 0..9 {
        catching.born(&[2, 9], 1.0, 100_000);
    }
    let catch = catching.ended(1_500, 700, 2.0);
    let mut impulses = Impulses::default();
    impulses.observe(moment(1_000), moment(0), &noticed(3), None);
    let caught = vec![named(&catch, |frames| format!("main.f{}", frames[0]))];
    impulses.observe(moment(9_000), moment(0), &ImpulseLook { caught, ..ImpulseLook::default() }, None);
    let burst = impulses.last[0].burst.as_ref().unwrap();
    assert_eq!((burst.delay_ns, burst.open_ns, burst.births), (500, 700, 109));
    assert!((burst.bytes - 2_000_000.0).abs() < 1e-6 && (burst.objects - 2_018.0).abs() < 1e-6, "{burst:?}");
    let sites: Vec<(&str, u64, f64)> = burst
        .sites
        .iter()
        .map(|site| (&*site.place.function, site.births, (site.share.value * 100.0).round()))
        .collect();
    assert_eq!(sites, [("main.f2", 9, 90.0), ("main.f1", 100, 10.0)]);
    for site in &burst.sites {
        let Rate { value, low, high } = site.share;
        assert!(low < value && value < high.unwrap() && low > 0.0 && high.unwrap() < 1.0, "{site:?}");
    }
    assert_eq!(impulses.counts, [1, 0, 0]);
}

#[test]
fn of_many_stacks_those_with_most_bytes_are_told_and_the_others_are_in_the_sum() {
    let mut catching = Catching::new(1, 1);
    for stack in 0..5_000_u64 {
        catching.born(&[stack], 1.0, 1 + stack % 1_024);
    }
    assert_eq!(catching.stacks.len(), STACKS_MAX);
    let all: u64 = (0..5_000_u64).map(|stack| 1 + stack % 1_024).sum();
    let catch = catching.ended(0, 1, 1.0);
    assert_eq!(catch.stacks.len(), TOLD_MAX);
    assert!(catch.stacks.iter().all(|(_, sum)| sum.bytes > 1_024.0 - 64.5));
    let told: f64 = catch.stacks.iter().map(|(_, sum)| sum.bytes).sum();
    assert!((told + catch.caught.other.bytes - approximate(all)).abs() < 1e-3);
    assert_eq!(catch.caught.other.births + catch.stacks.len() as u64, 5_000);
}

#[test]
fn births_that_cannot_be_count_for_nothing() {
    let mut catching = Catching::new(1, 1);
    for weight in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        catching.born(&[1], weight, 8);
    }
    catching.born(&[1], 1.0, 0);
    assert_eq!(
        catching.ended(0, 1, f64::NAN),
        Catch { caught: Caught { number: 1, open_ns: 1, ..Caught::default() }, stacks: Vec::new() }
    );
    let sum = CaughtSum { births: 1, objects: 1.0, bytes: f64::INFINITY, squares: -1.0 };
    let caught = Caught {
        stacks: vec![CaughtStack { stack: Arc::from([frame("main.f")]), sum }],
        other: sum,
        ..Caught::default()
    };
    let burst = burst(&caught, 5, None);
    assert!(burst.sites.is_empty() && burst.births == 0);
}

#[test]
fn the_last_eight_are_kept_and_those_without_a_burst_go_first() {
    let mut impulses = Impulses::default();
    for number in 0..20 {
        impulses.observe(moment(u64::from(number)), moment(0), &noticed(number), None);
        let look = if number == 0 {
            ImpulseLook { caught: vec![Caught { number, ..Caught::default() }], ..ImpulseLook::default() }
        } else {
            ImpulseLook { unserved: vec![Unserved { number, why: "too soon".into() }], ..ImpulseLook::default() }
        };
        impulses.observe(moment(u64::from(number)), moment(0), &look, None);
    }
    let kept: Vec<u32> = impulses.last.iter().map(|impulse| impulse.noticed.number).collect();
    assert_eq!(kept, [0, 13, 14, 15, 16, 17, 18, 19]);
    assert_eq!(impulses.counts, [20, 0, 0]);
    assert_eq!(impulses.last[7].unserved.as_deref(), Some("too soon"));
    // What comes for one that is gone is passed over.
    let late = ImpulseLook { caught: vec![Caught { number: 5, ..Caught::default() }], ..ImpulseLook::default() };
    impulses.observe(moment(30), moment(0), &late, None);
    assert_eq!(impulses.last.iter().filter(|impulse| impulse.burst.is_some()).count(), 1);
    impulses.opened();
    assert_eq!(impulses, Impulses::default());
}
