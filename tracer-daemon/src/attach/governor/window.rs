//! How long a window is, at how many hits it ends early, and how many births it records. The formulae are in the module above.

use super::Config;

/// Births that are worth a burst: fewer say nothing of rare lines.
pub(super) const BIRTHS_MIN: f64 = 20.0;
/// More births of one burst say the same as these, since what one burst catches belongs together.
pub(super) const BIRTHS_MAX: f64 = 2_000.0;
/// So many hits all become births; where it is known what to look for half of them.
const BIRTHS_OF_FEW: f64 = 500.0;
/// Of more, one in this many becomes a birth, within the limits above: then births cost about a third of the burst.
const HITS_PER_BIRTH: f64 = 4.0;
/// Hits that a long window on births waits for, and one on slots.
pub(super) const HITS_GOAL: f64 = 4_000.0;
pub(super) const SLOTS_GOAL: f64 = 300.0;
/// Fewer hits than this are no window: it would end before anything is seen.
const HITS_MIN: f64 = 64.0;
/// A slow program rarely makes so many within what it can pay for.
const HITS_FEW: f64 = 16.0;

/// What is known of a target and of its hits before a window opens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlook {
    /// Hits per second while nothing is slowed.
    pub(super) hits_per_s: f64,
    /// The same, as high as it was of late. The length of windows follows it: were they short in fast phases of a program and long in slow ones, the long
    /// ones would reach into the fast phases, and these would be seen more often than they are there.
    pub(super) peak_per_s: f64,
    /// Threads that run at once, at least one.
    pub(super) busy_threads: f64,
    /// A hit that is counted, trap included, ns.
    pub(super) hit_ns: f64,
    /// What a birth takes more, or a slot that is recorded, ns.
    pub(super) birth_ns: f64,
    /// Births wanted, at most. 0: a window on slots, of which each is recorded.
    pub(super) births_max: f64,
    /// Whether births are chosen from what grows.
    pub(super) prefers: bool,
    /// Hits for which a window is made longer.
    pub(super) hits_goal: f64,
    /// What switching on and off costs the target, ns.
    pub(super) switch_ns: f64,
    /// Time before and behind the window in which hits cost and do not count, ns: the mean, and what it is rarely above.
    pub(super) tail_ns: (f64, f64),
    /// What other hooks cost that are on in windows only, ns per second.
    pub(super) beside_ns_per_s: f64,
}

/// What a window may cost, ns.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "the unit is part of a name")]
pub(super) struct Allowance {
    /// What it should cost.
    pub(super) planned_ns: f64,
    /// What it must not exceed.
    pub(super) most_ns: f64,
    /// What a tail may cost above its mean without a word, ns: the purse holds so much less than the budget allows.
    pub(super) slack_ns: f64,
    /// The longest window of all, ns: other targets wait meanwhile.
    pub(super) longest_ns: f64,
}

/// A window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) length_ns: f64,
    /// Hits that are expected in it, and what they would be without a cap.
    pub(super) hits: f64,
    pub(super) uncapped: f64,
    /// Hits if the program were as fast as it was of late.
    pub(super) peak_hits: f64,
    pub(super) hit_cap: f64,
    /// What hits and births may cost together, and each of them, ns.
    pub(super) caught_ns: f64,
    pub(super) hit_ns: f64,
    pub(super) birth_ns: f64,
    pub(super) births: f64,
    /// What it is expected to cost, and what at most, ns.
    pub(super) cost_ns: f64,
    pub(super) most_ns: f64,
}

impl Outlook {
    /// Hits per second where each costs its thread some ns.
    pub(super) fn slowed_per_s(&self, hit_ns: f64) -> f64 {
        self.slowed(self.hits_per_s, hit_ns)
    }

    fn slowed(&self, per_s: f64, hit_ns: f64) -> f64 {
        per_s / (1.0 + per_s * hit_ns / 1e9 / self.busy_threads)
    }

    /// What hits before and behind the window cost, when these take so long, ns.
    fn tail_cost_ns(&self, tail_ns: f64) -> f64 {
        self.slowed_per_s(self.hit_ns) * tail_ns / 1e9 * self.hit_ns
    }

    /// What a window costs that sees nothing, ns.
    pub(super) fn fixed_ns(&self) -> f64 {
        self.switch_ns + self.tail_cost_ns(self.tail_ns.0)
    }

    /// What has to be kept for the time before and behind the window, ns.
    fn reserve_ns(&self, slack_ns: f64) -> f64 {
        self.switch_ns + self.tail_cost_ns(self.tail_ns.0).max(self.tail_cost_ns(self.tail_ns.1) - slack_ns)
    }

    /// What the time before and behind the window may cost above what is kept for it, should the threads that run now spend all of it in hits, ns.
    pub(super) fn sudden_ns(&self, slack_ns: f64) -> f64 {
        (self.switch_ns + self.busy_threads * self.tail_ns.1 - self.reserve_ns(slack_ns)).max(0.0)
    }

    /// The least that a useful window costs, ns.
    pub(super) fn least_ns(&self, slack_ns: f64) -> f64 {
        self.reserve_ns(slack_ns) + HITS_FEW * (self.hit_ns + self.birth_ns)
    }

    /// The window for an allowance. `None`: less than [`HITS_MIN`] hits could be paid for, though there would be more.
    pub(super) fn shape(&self, allowance: Allowance, config: &Config) -> Option<Shape> {
        let births_max = self.births_max;
        if births_max <= 0.0 {
            let shape = Shape { births: 0.0, ..self.with_share(1.0, allowance, config) };
            return (shape.hit_cap >= HITS_MIN.min(shape.uncapped)).then_some(shape);
        }
        // How many hits are births depends on how many hits there are, and these on what each costs: three rounds are enough.
        let mut shape = self.with_share(births_max.min(1.0) / HITS_PER_BIRTH, allowance, config);
        for _ in 0..2 {
            let births = births_of(shape.hits, births_max, self.prefers);
            shape = self.with_share((births / shape.hits.max(1.0)).min(1.0), allowance, config);
        }
        (shape.hit_cap >= HITS_MIN.min(shape.uncapped)).then_some(shape)
    }

    fn with_share(&self, birth_share: f64, allowance: Allowance, config: &Config) -> Shape {
        let approximate = crate::units::approximate;
        let hit_ns = self.hit_ns + birth_share * self.birth_ns;
        let per_s = self.slowed_per_s(hit_ns);
        let peak_per_s = self.slowed(self.peak_per_s, hit_ns);
        let ns_per_ns = (peak_per_s * hit_ns + self.beside_ns_per_s) / 1e9;
        let fixed_ns = self.fixed_ns();
        let shortest_ns = approximate(config.window_min_ns);
        let usual_ns = approximate(config.window_max_ns).max(shortest_ns);
        // Where 20 ms would see few hits a window waits for more.
        let seeing_ns =
            (self.hits_goal / peak_per_s.max(1e-9) * 1e9).clamp(usual_ns, allowance.longest_ns.max(usual_ns));
        let paid_ns = (allowance.planned_ns - fixed_ns).max(0.0) / ns_per_ns.max(1e-12);
        let length_ns = paid_ns.min(seeing_ns).max(shortest_ns);
        let beside_ns = self.beside_ns_per_s * length_ns / 1e9;
        let reserve_ns = self.reserve_ns(allowance.slack_ns) + beside_ns;
        let caught_ns = (allowance.most_ns - reserve_ns).max(0.0);
        let hit_cap = (caught_ns / hit_ns).floor();
        let uncapped = per_s * length_ns / 1e9;
        let hits = uncapped.min(hit_cap);
        Shape {
            length_ns,
            hits,
            uncapped,
            peak_hits: peak_per_s * length_ns / 1e9,
            hit_cap,
            caught_ns,
            hit_ns: self.hit_ns,
            birth_ns: self.birth_ns,
            births: birth_share * hits,
            cost_ns: fixed_ns + hits * hit_ns + beside_ns,
            most_ns: reserve_ns + hit_cap * hit_ns,
        }
    }
}

/// Births wanted of so many hits. The trap costs as much as a birth takes more, so of few hits all are wanted; where those are chosen that are looked for, half:
/// windows are then half as long again.
fn births_of(hits: f64, most: f64, prefers: bool) -> f64 {
    let of_few = (if prefers { hits / 2.0 } else { hits }).min(BIRTHS_OF_FEW);
    (hits / HITS_PER_BIRTH).max(of_few).max(BIRTHS_MIN).min(most).min(BIRTHS_MAX)
}

/// How many births one burst should add where so many objects are tracked already, so many fit, and a look at each comes so often.
///
/// A look takes about 3 us an object of our own time, so at 100 collections a second few objects can be looked at before the next one ends.
pub(super) fn births_for_tracker(tracked: u64, capacity: u64, collections_per_s: f64) -> f64 {
    const LOOK_NS: f64 = 3_000.0;
    /// Share of the time between two collections that a look may take.
    const LOOK_SHARE: f64 = 0.2;
    let (tracked, capacity) = (crate::units::approximate(tracked), crate::units::approximate(capacity));
    let room = ((capacity - tracked) / 4.0).max(0.0);
    let in_time = LOOK_SHARE * 1e9 / collections_per_s.max(1e-3) / LOOK_NS - tracked;
    room.min(in_time).clamp(BIRTHS_MIN, BIRTHS_MAX)
}
