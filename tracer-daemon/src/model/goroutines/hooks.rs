//! What hooks on the creation and the exit of goroutines counted, by the `go` statement: told as what has changed, kept since the window began.
//!
//! The goroutine table knows of each goroutine its `go` statement and no more, so that statement is the site here, too; the whole stack
//! comes beside. Where the hooks were off for a part of the window, counts are of the rest, and rates are over the rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::site::{Creation, Placed, place_creation, place_go_statement};
use crate::model::{GoroutineSite, Rate, SiteId, Stack, Turnover, by_number};
use crate::symbolize::Frame;
use crate::units::approximate;

/// Stacks that are kept: several times what the kernel side keeps. More are a broken recording.
const STACKS_MAX: usize = 1 << 16;

/// What is new since the look before. Counts are since the hooks were loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookLook {
    /// Stacks that were not there before, numbered on from the last one; with the frames of the runtime. One of which only the frames of the
    /// `go` statement are known counts exits alone.
    pub new_stacks: Vec<Stack>,
    /// Counts that are others than at the look before, by the number of the stack.
    #[serde(with = "by_number")]
    pub changed: Vec<(u32, Turnover)>,
    /// All of them, also those that are of no stack.
    pub totals: Turnover,
    /// For how long hits have counted, ns.
    pub counted_ns: u64,
}

/// Goroutines that began and ended while the hooks counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HookedGoroutines {
    /// For how long of the window they counted, seconds.
    pub counted_s: f64,
    /// All of them.
    pub totals: Turnover,
    /// By their `go` statement; most creations first.
    pub sites: Vec<GoroutineSite>,
    /// The runtime's own, which belong to no site.
    pub system: Turnover,
    /// Those whose stack had no room.
    pub other: Turnover,
}

/// Whose goroutines a stack creates.
#[derive(Clone, Debug)]
enum Creator {
    By(Placed),
    Runtime,
    Unknown,
}

impl Creator {
    fn of(stack: &[Frame], main_module: Option<&str>) -> Self {
        match place_creation(stack, main_module) {
            None => Self::Unknown,
            Some(Creation::Runtime) => Self::Runtime,
            Some(Creation::By(_)) => place_go_statement(stack, main_module).map_or(Self::Unknown, Self::By),
        }
    }
}

/// What was told so far.
#[derive(Debug, Default)]
pub(in crate::model) struct HookHistory {
    creators: Vec<Creator>,
    /// Counts by stack: when the window began, and now.
    counts: Vec<[Turnover; 2]>,
    totals: [Turnover; 2],
    counted_ns: [u64; 2],
    report: Option<Arc<HookedGoroutines>>,
}

impl HookHistory {
    /// The window begins: what was counted until now is of before.
    pub(in crate::model) fn opened(&mut self) {
        for [before, now] in &mut self.counts {
            *before = *now;
        }
        self.totals[0] = self.totals[1];
        self.counted_ns[0] = self.counted_ns[1];
        self.report = None;
    }

    /// One more look.
    pub(in crate::model) fn observe(&mut self, look: &HookLook, main_module: Option<&str>) {
        let room = STACKS_MAX.saturating_sub(self.creators.len());
        for stack in look.new_stacks.iter().take(room) {
            self.creators.push(Creator::of(stack, main_module));
            self.counts.push(<[Turnover; 2]>::default());
        }
        for (number, turnover) in &look.changed {
            let index = usize::try_from(*number).unwrap_or(usize::MAX);
            if let Some([_, now]) = self.counts.get_mut(index) {
                *now = *turnover;
            }
        }
        self.totals[1] = look.totals;
        self.counted_ns[1] = look.counted_ns;
        self.report = self.summary().map(Arc::new);
    }

    /// What is known now. `None`: the hooks have not counted in this window.
    pub(in crate::model) fn report(&self) -> Option<Arc<HookedGoroutines>> {
        self.report.clone()
    }

    fn summary(&self) -> Option<HookedGoroutines> {
        let [before_ns, now_ns] = self.counted_ns;
        let counted_s = approximate(now_ns.checked_sub(before_ns).filter(|counted_ns| *counted_ns > 0)?) / 1e9;
        let mut report = HookedGoroutines { counted_s, totals: since(self.totals), ..HookedGoroutines::default() };
        let mut sites: BTreeMap<SiteId, Site<'_>> = BTreeMap::new();
        for (creator, counts) in self.creators.iter().zip(&self.counts) {
            let counted = since(*counts);
            if counted == Turnover::default() {
                continue;
            }
            match creator {
                Creator::Unknown => {}
                Creator::Runtime => report.system = report.system.plus(counted),
                Creator::By(placed) => sites.entry(placed.id).or_insert_with(|| Site::new(placed)).add(counted, placed),
            }
        }
        report.sites = sites.into_values().map(|site| site.finish(counted_s)).collect();
        report.sites.sort_by_key(|site| (std::cmp::Reverse((site.counted.created, site.counted.exited)), site.id));
        let named = report.sites.iter().fold(report.system, |sum, site| sum.plus(site.counted));
        report.other = Turnover {
            created: report.totals.created.saturating_sub(named.created),
            exited: report.totals.exited.saturating_sub(named.exited),
        };
        Some(report)
    }
}

fn since([before, now]: [Turnover; 2]) -> Turnover {
    Turnover { created: now.created.saturating_sub(before.created), exited: now.exited.saturating_sub(before.exited) }
}

/// A site while it is collected.
struct Site<'a> {
    placed: &'a Placed,
    counted: Turnover,
    /// The stack seen most, and how often.
    stack: (u64, &'a [Frame]),
}

impl<'a> Site<'a> {
    fn new(placed: &'a Placed) -> Self {
        Self { placed, counted: Turnover::default(), stack: (0, &placed.frames) }
    }

    fn add(&mut self, counted: Turnover, placed: &'a Placed) {
        self.counted = self.counted.plus(counted);
        let (most, frames) = self.stack;
        // Between equals the smaller stack, so that the order in which they came does not matter.
        if counted.created > most || (counted.created == most && *placed.frames < *frames) {
            self.stack = (counted.created, &placed.frames);
        }
    }

    fn finish(self, counted_s: f64) -> GoroutineSite {
        GoroutineSite {
            id: self.placed.id,
            place: self.placed.place.clone(),
            counted: self.counted,
            created_per_s: Rate::counted(approximate(self.counted.created) / counted_s),
            creation_stack: self.stack.1.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::Origin;

    fn frame(function: &str, line: u32, inlined: bool) -> Frame {
        Frame {
            function: function.into(),
            file: "/src/a.go".into(),
            line,
            function_start_line: 1,
            inlined,
            origin: Origin::Go,
        }
    }

    /// A creation stack with these frames below the runtime's.
    fn creation(frames: &[Frame]) -> Stack {
        let funnel = ["runtime.newproc.func1", "runtime.systemstack", "runtime.newproc"];
        funnel.iter().map(|name| frame(name, 3, false)).chain(frames.iter().cloned()).collect()
    }

    fn look(new_stacks: Vec<Stack>, changed: &[(u32, u64, u64)], totals: (u64, u64), counted_s: u64) -> HookLook {
        HookLook {
            new_stacks,
            changed: changed.iter().map(|&(number, created, exited)| (number, Turnover { created, exited })).collect(),
            totals: Turnover { created: totals.0, exited: totals.1 },
            counted_ns: counted_s * 1_000_000_000,
        }
    }

    #[test]
    fn stacks_of_one_go_statement_are_one_site_with_the_stack_seen_most_and_its_exits() {
        let pool = frame("example.com/pool.Go", 7, false);
        let [one, two] = [10, 20].map(|line| creation(&[pool.clone(), frame("main.serve", line, false)]));
        let statement: Stack = [pool.clone()].into();
        let mut history = HookHistory::default();
        history.observe(&look(vec![one, two, statement], &[(0, 3, 0), (1, 5, 0), (2, 0, 6)], (8, 6), 4), None);
        let report = history.report().unwrap();
        let [site] = report.sites.as_slice() else { panic!("{report:?}") };
        assert_eq!(site.counted, Turnover { created: 8, exited: 6 });
        assert_eq!(site.place, pool);
        assert_eq!(site.creation_stack, [pool, frame("main.serve", 20, false)]);
        assert!((site.created_per_s.value - 2.0).abs() < 1e-9);
        assert_eq!(report.other, Turnover::default());
    }

    #[test]
    fn a_site_is_the_one_that_the_table_finds_by_the_go_statement_and_what_it_is_inlined_into() {
        let statement = [frame("example.com/pool.Go", 7, true), frame("main.serve", 20, false)];
        let below = frame("main.main", 5, false);
        let stack = creation(&[statement[0].clone(), statement[1].clone(), below]);
        let mut history = HookHistory::default();
        history.observe(&look(vec![stack], &[(0, 1, 0)], (1, 0), 1), None);
        let site = history.report().unwrap().sites[0].clone();
        assert_eq!(site.id, crate::model::site::place_creator(&statement, None).id);
        assert_eq!(site.place, statement[1]);
        assert_eq!(site.creation_stack.len(), 3);
    }

    #[test]
    fn what_was_counted_before_the_window_is_not_of_it_and_no_time_is_no_count() {
        let stack = creation(&[frame("main.f", 4, false)]);
        let mut history = HookHistory::default();
        history.observe(&look(vec![stack], &[(0, 5, 1)], (5, 1), 2), None);
        history.opened();
        assert_eq!(history.report(), None);
        history.observe(&look(vec![], &[], (5, 1), 2), None);
        assert_eq!(history.report(), None, "they have not counted since");
        history.observe(&look(vec![], &[(0, 9, 3)], (11, 4), 4), None);
        let report = history.report().unwrap();
        assert_eq!(report.sites[0].counted, Turnover { created: 4, exited: 2 });
        assert_eq!(report.totals, Turnover { created: 6, exited: 3 });
        assert_eq!(report.other, Turnover { created: 2, exited: 1 });
        assert!((report.counted_s - 2.0).abs() < 1e-9);
    }

    #[test]
    fn the_runtimes_own_are_of_no_site_and_numbers_without_a_stack_are_other() {
        let mut history = HookHistory::default();
        let own: Stack = [frame("runtime.gcenable", 8, false)].into();
        history.observe(&look(vec![own], &[(0, 0, 2), (9, 100, 0)], (7, 2), 1), None);
        let report = history.report().unwrap();
        assert!(report.sites.is_empty());
        assert_eq!((report.system.exited, report.other.created), (2, 7));
    }
}
