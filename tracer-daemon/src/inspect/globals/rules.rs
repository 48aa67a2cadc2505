//! Which instruction of which runtime function refers to which global variable: the table that serves where the symbol
//! table is gone.
//!
//! A rule counts the variables that a function refers to, each once, in the order of its code. What is no variable of Go
//! (code, constants, types) is not counted, so that position independent programs count alike. Found by trying all runtime
//! functions of 70 programs whose symbol table tells the truth (go1.19.13, 1.20.14, 1.21.13, 1.22.12, 1.23.12, 1.24.11,
//! 1.25.5, 1.26.6, 1.27.3; built plainly, position independent, with cgo linked externally, with -race, GOAMD64=v3,
//! -gcflags=all='-N -l', and with a profile): only rules without any wrong answer are here.

use std::ops::RangeInclusive;

use super::Global;

/// "The variable number `index`, from 0, to which `function` refers, lies `offset` bytes behind the global."
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) function: &'static str,
    pub(super) index: usize,
    pub(super) offset: u64,
    /// The minor versions of Go for which it holds.
    pub(super) minors: RangeInclusive<u32>,
    pub(super) condition: Condition,
}

/// Whether a rule holds where the compiler was told not to inline (`-gcflags=-l`): small functions are functions of their
/// own then.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    /// It does, and elsewhere.
    Always,
    /// Only where there is no function of this name.
    Without(&'static str),
    /// Only where there is one.
    With(&'static str),
}

const ALWAYS: RangeInclusive<u32> = 0..=u32::MAX;

const fn rule(function: &'static str, index: usize) -> Rule {
    Rule { function, index, offset: 0, minors: ALWAYS, condition: Condition::Always }
}

/// The rules for one global; none for what is found otherwise.
pub(super) fn rules(global: Global) -> Vec<Rule> {
    const NEXT_CYCLE: &str = "runtime.mProf_NextCycle";
    const NEXT_SAMPLE: &str = "runtime.nextSample";
    match global {
        Global::Mheap => vec![
            rule("runtime.(*mcache).allocLarge", 0),
            rule("runtime.sweepone.func1", 0),
            rule("runtime.gcSweep", 1),
            rule("runtime.stackpoolalloc", 1),
        ],
        Global::Memstats => vec![
            rule("runtime.(*mcache).allocLarge", 1),
            rule("runtime.(*mcache).releaseAll", 2),
            rule("runtime.(*mheap).grow", 2),
        ],
        Global::GcController => vec![
            // Not releaseAll and gcControllerCommit: with some profiles they refer to parts of it in another order.
            rule("runtime.(*mcache).allocLarge", 3),
            rule("runtime.gcinit", 1),
            Rule { minors: 22..=u32::MAX, ..rule("runtime.traceLocker.HeapGoal", 0) },
        ],
        Global::Allgs => vec![
            rule("runtime.forEachG", 1),
            // The length is read before or behind, in the order in which a slice is taken apart.
            Rule { minors: 0..=20, ..rule("runtime.allgadd", 2) },
            Rule { minors: 21..=u32::MAX, ..rule("runtime.allgadd", 3) },
        ],
        Global::Allglen => {
            vec![rule("runtime.allgadd", 6), rule("runtime.forEachGRace", 0), rule("runtime.atomicAllG", 0)]
        }
        Global::Allgptr => {
            vec![rule("runtime.allgadd", 5), rule("runtime.forEachGRace", 1), rule("runtime.atomicAllG", 1)]
        }
        Global::Allp => {
            vec![rule("runtime.preemptall", 0), rule("runtime.gcMarkTinyAllocs", 0), rule("runtime.timeSleepUntil", 1)]
        }
        Global::Sched => vec![
            rule("runtime.oneNewExtraM", 1),
            // sched.lastpoll and sched.pollUntil.
            Rule { offset: 8, ..rule("runtime.wakeNetPoller", 0) },
        ],
        Global::Mbuckets => vec![
            rule("runtime.stkbucket", 3),
            Rule { condition: Condition::Without(NEXT_CYCLE), ..rule("runtime.mProf_FlushLocked", 0) },
            Rule { condition: Condition::With(NEXT_CYCLE), ..rule("runtime.mProf_FlushLocked", 2) },
        ],
        Global::MemProfileRate => vec![
            rule("runtime.nextSample", 0),
            Rule { condition: Condition::Without(NEXT_SAMPLE), ..rule("runtime.profilealloc", 1) },
            Rule { condition: Condition::Without(NEXT_SAMPLE), ..rule("runtime.allocmcache", 1) },
        ],
        Global::MProfCycle => {
            vec![rule("runtime.mProf_Flush", 0), rule("runtime.mProf_Free", 0), rule("runtime.mProf_PostSweep", 0)]
        }
        Global::Gcphase => {
            vec![rule("runtime.gcSweep", 0), rule("runtime.(*gcWork).balance", 0), rule("runtime.queuefinalizer", 0)]
        }
        Global::GcBlackenEnabled => {
            vec![rule("runtime.gcAssistAlloc1", 1), rule("runtime.gcParkAssist", 1), rule("runtime.checkIdleGCNoP", 0)]
        }
        Global::WaitReasonStrings => vec![rule("runtime.waitReason.String", 0), rule("runtime.schedtrace.func1", 0)],
        Global::Gomaxprocs => vec![
            rule("runtime.sysmon", 6),
            rule("runtime.(*scavengerState).init.func4", 0),
            rule("runtime.GOMAXPROCS", 1),
        ],
        Global::Finq => vec![
            rule("runtime.queuefinalizer", 2),
            Rule { minors: 0..=24, ..rule("runtime.runfinq", 3) },
            Rule { minors: 25..=u32::MAX, ..rule("runtime.runFinalizers", 3) },
        ],
        Global::FirstModuleData => Vec::new(),
    }
}
