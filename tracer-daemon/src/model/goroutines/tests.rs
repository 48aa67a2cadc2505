//! Tables made by hand, and what becomes of them.

use proptest::prelude::*;

use super::*;
use crate::read::goroutines::{Channel, NoStack, Queue, Stack, State, WaitsOn};
use crate::symbolize::Origin;

pub(super) fn frames(functions: &[&str]) -> Vec<Frame> {
    let frame = |function: &&str| Frame {
        function: (*function).into(),
        file: "/src/f.go".into(),
        line: 12,
        function_start_line: 10,
        inlined: false,
        origin: Origin::Go,
    };
    functions.iter().map(frame).collect()
}

const USER: Kind = Kind { creation: Avma(1), start: Avma(2), state: State::Waiting, wait_reason: 14 };

fn counted(kind: Kind, count: u64) -> KindCount {
    KindCount { kind, count, stack_bytes: 2048 * count, lowest_id: 7, highest_id: 90, waiting_since_ns: 0 }
}

fn member(id: u64, kind: Kind, stack: usize, waits_on: WaitsOn) -> Goroutine {
    Goroutine {
        id,
        parent: Some(1),
        kind,
        stack_bytes: 2048,
        waiting_since_ns: 0,
        running_cleanups: false,
        stack: Ok(crate::read::goroutines::StackId::new(stack)),
        waits_on,
    }
}

/// Groups a table whose stacks are these, with three creation addresses and start functions.
fn table_of(table: &Table, stacks: &[&[&str]]) -> GoroutineTable {
    let creations = [(Avma(1), frames(&["main.spawn"])), (Avma(11), frames(&["runtime.createfing"]))];
    let starts = [(2, "main.worker"), (12, "runtime.bgsweep"), (22, "runtime.runfinq")];
    tabulate(TableInput {
        table,
        stacks: &stacks.iter().map(|functions| frames(functions)).collect::<Vec<_>>(),
        creations: &creations.into(),
        starts: &starts.map(|(at, name)| (Avma(at), Arc::from(name))).into(),
        main_module: None,
        clock: &IdClock::new(Some(0)),
        now_ns: 5_000_000_000,
    })
}

fn with_stacks(table: Table, count: usize) -> Table {
    let stack = Stack { pcs: Box::new([]), cut: false };
    let reasons = [(14, "chan receive".to_owned())].into();
    Table { stacks: vec![stack; count], wait_reasons: reasons, ..table }
}

#[test]
fn the_runtimes_own_are_counted_apart_until_they_execute_a_function_of_the_program() {
    let system = Kind { creation: Avma(11), start: Avma(12), ..USER };
    let finalizers = Kind { creation: Avma(11), start: Avma(22), ..USER };
    let stacks: &[&[&str]] =
        &[&["runtime.gopark", "runtime.runfinq"], &["runtime.gopark", "main.close", "runtime.runfinq"]];
    for (stack, callbacks) in [(0, 0), (1, 1)] {
        let table = Table {
            kinds: vec![counted(system, 4), counted(finalizers, 1)],
            goroutines: vec![member(3, finalizers, stack, WaitsOn::Nothing)],
            complete: true,
            ..Table::default()
        };
        let grouped = table_of(&with_stacks(table, 2), stacks);
        assert_eq!((grouped.live, grouped.system, grouped.callbacks), (0, 5, callbacks));
        assert_eq!(grouped.sites.len() as u64, callbacks);
    }
}

#[test]
fn where_a_sample_waits_is_an_estimate_that_sums_to_the_count() {
    let stacks: &[&[&str]] = &[&["runtime.gopark", "main.a"], &["runtime.gopark", "main.b"]];
    let goroutines = (0..100).map(|id| member(id + 1, USER, usize::from(id % 4 == 0), WaitsOn::Nothing)).collect();
    let table = Table { kinds: vec![counted(USER, 1_000_000)], goroutines, ..Table::default() };
    let grouped = table_of(&with_stacks(table, 2), stacks);
    assert_eq!((grouped.live, grouped.sampled, grouped.sites[0].live), (1_000_000, Some(100), 1_000_000));
    let states = &grouped.sites[0].states;
    assert_eq!((states[0].count, states[1].count), (750_000, 250_000));
    // Wilson's interval for 25 of 100.
    assert_eq!(states[1].interval.map(|(low, high)| (low / 1000, high / 1000)), Some((175, 343)));
}

#[test]
fn who_waits_for_each_other_leads_to_each_other() {
    let (one, two) = (Avma(0x1000), Avma(0x2000));
    let stacks: &[&[&str]] =
        &[&["runtime.gopark", "main.a"], &["runtime.gopark", "main.b"], &["runtime.gopark", "main.c"]];
    let third = Avma(0x3000);
    let channel = |address| Channel {
        address,
        len: 0,
        cap: 0,
        element_bytes: 8,
        closed: false,
        of_timer: Some(false),
        senders: Queue::default(),
        receivers: Queue { count: 1, or_more: false },
    };
    let mut table = Table {
        kinds: vec![counted(USER, 3)],
        goroutines: vec![
            member(1, USER, 0, WaitsOn::Channel(one)),
            member(2, USER, 1, WaitsOn::Channel(two)),
            member(3, USER, 2, WaitsOn::Channel(third)),
        ],
        complete: true,
        channels: [one, two, third].map(|address| (address, channel(address))).into(),
        mentions: vec![(one, 1), (two, 0)],
        ..Table::default()
    };
    table = with_stacks(table, 3);
    let grouped = table_of(&table, stacks);
    let states = &grouped.sites[0].states;
    let of =
        |function: &str| states.iter().find(|state| &*state.blocked.as_ref().unwrap().function == function).unwrap();
    let holder = |function: &str| {
        let holders = of(function).holders.as_ref().unwrap();
        let names = holders.groups.iter().map(|holder| {
            grouped.sites[holder.site].states[holder.state].blocked.as_ref().unwrap().function.to_string()
        });
        (names.collect::<Vec<_>>(), holders.on_no_other_stack, holders.all_searched)
    };
    assert_eq!(holder("main.a"), (vec!["main.b".to_owned()], 0, true));
    assert_eq!(holder("main.b"), (vec!["main.a".to_owned()], 0, true));
    assert_eq!(holder("main.c"), (Vec::new(), 1, true));
    // One whose stack is not known may have any address.
    table.goroutines[0].stack = Err(NoStack::Running);
    let grouped = table_of(&table, stacks);
    let holders = grouped.sites[0].states.iter().filter_map(|state| state.holders.as_ref());
    assert!(holders.clone().count() > 0 && holders.clone().all(|holders| !holders.all_searched));
}

proptest! {
    #[test]
    fn bounds_of_a_share_hold_it(looks in 1_usize..600, hit in 0.0..1.0_f64, count in 600_u64..2_000_000) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "small")]
        let hits = (hit * looks as f64) as usize;
        let (estimate, (low, high)) = share_of(hits, looks, count);
        #[allow(clippy::cast_precision_loss, reason = "small")]
        let all = count as f64;
        prop_assert!(0.0 <= low && low <= estimate + 1e-6 && estimate <= high + 1e-6 && high <= all);
    }
}
