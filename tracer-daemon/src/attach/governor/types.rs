//! What the governor is told and what it says.

use std::fmt;

use super::hooks::HookDecision;

/// A target, by a number that whoever asks has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u64);

/// What is known of a target when it is added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TargetFacts {
    /// Points that a window on births probes.
    pub birth_points: u32,
    /// Points that a window on slots probes; 0: there is none.
    pub slot_points: u32,
    /// What hits cost at its points.
    pub costs: super::Costs,
    /// CPU time that it has used since it began, user and system, ns.
    pub cpu_ns: u64,
    /// How long it has been running, ns.
    pub age_ns: u64,
    /// Births of one window that find room until they are read.
    pub births_max: u64,
    /// Objects that can be tracked.
    pub tracked_max: u64,
}

/// Hits at hooks that stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct HookHits {
    /// At the cycle probe.
    pub cycles: u64,
    /// What our program took there, beyond the traps, ns.
    pub cycles_ns: u64,
    /// At the hook on large objects.
    pub large_objects: u64,
    /// At the hooks on goroutines.
    pub goroutines: u64,
}

/// A look at a target, about every second.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Observation {
    /// When, ns of a clock that never goes back.
    pub at_ns: u64,
    /// CPU time that it has used since it began, ns. Where it falls, the process is another one, and nothing is earned.
    pub cpu_ns: u64,
    /// Threads that can run Go code at once (GOMAXPROCS); `None`: not known.
    pub threads_max: Option<u32>,
    /// Objects per second, as the books say; `None`: they cannot be read.
    pub allocations_per_s: Option<f64>,
    /// Bytes per second of these.
    pub bytes_per_s: Option<f64>,
    /// Objects above 32 KiB per second.
    pub large_per_s: Option<f64>,
    /// Goroutines that begin per second.
    pub goroutines_per_s: Option<f64>,
    /// Collections per second.
    pub collections_per_s: Option<f64>,
    /// Objects whose marks are looked at.
    pub tracked: u64,
    /// Hits at continuous hooks since the last observation.
    pub hits: HookHits,
    /// Whether some size class grows, so that births are chosen from it.
    pub prefers: bool,
}

/// What a window probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    /// All birth points.
    Births,
    /// Only where threads take new slots: weights between goroutines, with little slowing.
    Slots,
}

/// Why a window opens now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A random time.
    Random,
    /// A random time of a target that cannot pay for more than one a minute.
    Floor,
    /// Something was seen: this window is no random sample.
    Impulse(Impulse),
}

/// What a window can be opened for at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impulse {
    /// The rate of allocation has jumped.
    AllocationRate,
    /// The heap has grown.
    HeapGrowth,
    /// A collection has stopped the world for long.
    Pause,
}

/// A window to open now.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowPlan {
    /// To be named when it has closed.
    pub window: u64,
    /// Whose.
    pub target: TargetId,
    /// What it probes.
    pub kind: WindowKind,
    /// Why now.
    pub cause: Cause,
    /// How long hits count, from when all points are on, ns.
    pub length_ns: u64,
    /// Hits at which it ends early.
    pub hit_cap: u64,
    /// The same by what they cost, where more of them become births than expected.
    pub caught: CaughtCost,
    /// A birth of so many bytes is certainly recorded, a smaller one with a probability in proportion. 0: none is recorded.
    pub mean_birth_bytes: u64,
    /// Hits that are expected.
    pub hits: f64,
    /// Births that are expected to be recorded.
    pub births: f64,
    /// How much of the time the window stands for, ns: the inverse of the rate at which windows opened, and the time before it in which none could, because of
    /// what the last one had cost. Means over windows are weighted by it, and divided by the sum of the weights. 0: it is no random sample.
    pub stands_for_ns: u64,
    /// What it is expected to cost the target, ns of CPU.
    pub cost_ns: f64,
    /// What it costs at most, ns.
    pub most_ns: f64,
    /// It is longer than windows on fast programs are, since hits are few.
    pub is_long: bool,
}

impl WindowPlan {
    /// All of it in words.
    pub fn reason(&self) -> String {
        let why = match self.cause {
            Cause::Random => "at a random time",
            Cause::Floor => "the one of a minute",
            Cause::Impulse(Impulse::AllocationRate) => "the rate of allocation has jumped",
            Cause::Impulse(Impulse::HeapGrowth) => "the heap has grown",
            Cause::Impulse(Impulse::Pause) => "a collection has stopped the program for long",
        };
        let long = if self.is_long { ", long since hits are few" } else { "" };
        format!(
            "{:.1} ms, {why}: about {:.0} hits and {:.0} births for {:.2} ms of CPU, at most {} hits for {:.2} ms{long}",
            crate::units::approximate(self.length_ns) / 1e6,
            self.hits,
            self.births,
            self.cost_ns / 1e6,
            self.hit_cap,
            self.most_ns / 1e6
        )
    }
}

/// What is caught in a window costs, and how much of that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CaughtCost {
    /// All hits and births, ns.
    pub most_ns: u64,
    /// A hit, ns.
    pub hit_ns: u64,
    /// What a birth takes more, ns.
    pub birth_ns: u64,
}

impl CaughtCost {
    /// Whether so many cost all that they may.
    pub(in crate::attach) fn is_reached(self, hits: u64, births: u64) -> bool {
        let cost_ns = hits.saturating_mul(self.hit_ns).saturating_add(births.saturating_mul(self.birth_ns));
        cost_ns >= self.most_ns
    }
}

/// What became of a window. Hits cost whether or not they counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// From when hits counted, ns: all points were on.
    pub opened_ns: u64,
    /// Until when.
    pub closed_ns: u64,
    /// Hits that counted.
    pub hits: u64,
    /// Hits before and after. `None`: not known.
    pub hits_outside: Option<u64>,
    /// Births recorded.
    pub births: u64,
    /// Frames of their stacks.
    pub frames: u64,
    /// What the program took to record them, ns; 0: not known.
    pub recorded_ns: u64,
}

/// What a window has cost of which it is not known how it went: it could not be opened, or whoever held it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Paid {
    /// Hits, inside of it or not.
    pub hits: u64,
    /// What the program took at those that it recorded, ns.
    pub recorded_ns: u64,
}

/// Why a window could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// The target is frozen or stopped.
    Frozen,
    /// It ended or runs another program.
    Gone,
    /// The kernel does not allow it.
    NotAllowed,
    /// Anything else.
    Other,
}

impl fmt::Display for OpenFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Frozen => "the target is stopped or frozen",
            Self::Gone => "the target has ended or runs another program",
            Self::NotAllowed => "the kernel does not allow it",
            Self::Other => "it failed",
        })
    }
}

/// What to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Open this window. It is open until [`super::Governor::closed`] or [`super::Governor::failed`] is called.
    Open(Box<WindowPlan>),
    /// Ask again at this time, or when something was observed.
    Wait {
        /// ns.
        until_ns: u64,
    },
}

/// Whether a target has windows, and why not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standing {
    /// Windows open at random times.
    Scheduled {
        /// Their mean distance now, seconds.
        gap_s: f64,
    },
    /// About one window a minute.
    Floor(Refusal),
    /// None.
    Refused(Refusal),
}

/// Why a target has fewer windows than it could use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    /// A window costs more than the target's budget can save up.
    BudgetTooSmall {
        /// What a window costs that is worth its while, ns.
        window_ns: f64,
        /// The budget of a minute, ns.
        minute_ns: f64,
    },
    /// What was spent has to come in first.
    Debt {
        /// How much, ns.
        owed_ns: f64,
    },
    /// Others of this host use up what all may cost together.
    Node {
        /// The host's budget, a share of a core.
        share: f64,
    },
    /// Nothing would be seen: the books say that next to nothing is allocated.
    NothingAllocated,
    /// How much is allocated is not known yet.
    NothingKnown,
    /// leakline itself takes more than it may.
    Shed,
    /// Windows could not be opened.
    Failed {
        /// Why.
        failure: OpenFailure,
        /// How often in a row.
        times: u32,
        /// Until when none is tried, ns.
        until_ns: u64,
    },
    /// A burst for the same reason was not long ago, or is about to open.
    TooSoon,
    /// It was never added, or was removed.
    NoSuchTarget,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BudgetTooSmall { window_ns, minute_ns } => write!(
                formatter,
                "the budget is {:.2} ms a minute, too little for many bursts of {:.2} ms",
                minute_ns / 1e6,
                window_ns / 1e6
            ),
            Self::Debt { owed_ns } => {
                write!(
                    formatter,
                    "what bursts may cost is nearly spent; {:.2} ms are missing for the next",
                    owed_ns / 1e6
                )
            }
            Self::Node { share } => {
                write!(formatter, "the targets of this host together may take {:.1} % of a core", 100.0 * share)
            }
            Self::NothingAllocated => formatter.write_str("next to nothing is allocated"),
            Self::NothingKnown => formatter.write_str("it is not known yet how much is allocated"),
            Self::Shed => formatter.write_str("leakline itself takes more CPU than it may"),
            Self::Failed { failure, times, .. } => {
                write!(formatter, "bursts could not begin, {times} in a row: {failure}")
            }
            Self::TooSoon => formatter.write_str("a burst for this reason was not long ago"),
            Self::NoSuchTarget => formatter.write_str("no such target"),
        }
    }
}

/// Modes of the hooks that may stay.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Hooks {
    /// The cycle probe.
    pub cycles: HookDecision,
    /// Large objects.
    pub large_objects: HookDecision,
    /// Goroutines.
    pub goroutines: HookDecision,
}

/// What a target has paid, by our own account.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Account {
    /// All of it, ns of its CPU time.
    pub cost_ns: f64,
    /// CPU time that it used meanwhile, ns.
    pub cpu_ns: f64,
    /// Cost over CPU time since we began; 0 where it used none.
    pub ratio: f64,
    /// The same over the last minute.
    pub ratio_last_minute: f64,
    /// Spent in the last minute, ns.
    pub last_minute_ns: f64,
    /// Budget of the last minute, ns.
    pub budget_last_minute_ns: f64,
    /// Bursts.
    pub bursts: u64,
    /// Of them: at random times of one a minute, beside the budget.
    pub floor_bursts: u64,
    /// Of them: for a reason.
    pub impulse_bursts: u64,
    /// Windows that could not be opened.
    pub failures: u64,
    /// Hits, those that did not count and those of continuous hooks included.
    pub hits: u64,
    /// How long windows were open, ns.
    pub open_ns: u64,
    /// Time that no window stands for, ns: nothing was allocated, as the books say, or it was frozen or could not be probed.
    pub unseen_ns: u64,
}
