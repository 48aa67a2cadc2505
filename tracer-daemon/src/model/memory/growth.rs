//! How fast does each line of the memory statement grow, and does memory outside of Go's heap leak?
//!
//! Native memory is known by its resident pages only: nobody counts what C's malloc gives out. So what makes pages resident
//! without any allocation must not look like a leak: pages that come back from swap, small pages that the kernel puts together
//! to huge ones, and a single step (a cache that is filled, a thread's arena). Pages of files are another line and never accused.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::{Component, MemoryStatement};
use crate::model::slope::{Point, missing_s, rise, span_s, within};
use crate::model::verdict::{Hysteresis, Trend, Verdict};
use crate::units::approximate;

/// Looks that are kept; at the bound every second of the older half goes.
const LOOKS_MAX: usize = 128;
/// Where looks are rare, the window has so many.
const LOOKS_PER_WINDOW: usize = 5;
/// Growth of native memory below these is nobody's trouble.
const NATIVE_MIN_BYTES: f64 = 1_048_576.0;
const NATIVE_FLOOR_BYTES_PER_S: f64 = 1024.0;
/// What grew in one step by more than this part of all growth is no steady growth.
const STEP_SHARE: f64 = 0.5;
/// A fall within two windows counts where it took away so much of what has grown.
const FALL_SHARE: f64 = 0.5;
/// What grew in huge pages, or came back from swap, explains growth where it is more than this part of it.
const EXPLAINED_SHARE: f64 = 0.5;

const COMPONENTS: [Component; 8] = [
    Component::LiveHeap,
    Component::Garbage,
    Component::Fragmentation,
    Component::Idle,
    Component::Stacks,
    Component::RuntimeMetadata,
    Component::File,
    Component::Native,
];

/// Why native memory has its verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NativeWhy {
    /// It is not known apart from other memory.
    NotMeasured,
    /// More looks and time are needed.
    TooEarly {
        /// Seconds, at least.
        needs_s: f64,
    },
    /// It does not grow beyond chance.
    NoGrowth,
    /// It falls.
    Falls,
    /// It grows, and ever more slowly.
    SlowsDown,
    /// It grows too little to matter.
    BelowFloor,
    /// It grew by one step for the most part.
    OneStep {
        /// So large.
        bytes: u64,
    },
    /// So much came back from swap meanwhile.
    SwappedIn {
        /// That much.
        bytes: u64,
    },
    /// It fell between, by that much, and may do so again.
    FellBefore {
        /// That much.
        bytes: u64,
    },
    /// Huge pages explain it, for the time being.
    HugePages {
        /// Their growth.
        bytes: u64,
    },
    /// It grows; whether that goes on is to be seen.
    Unconfirmed {
        /// Seconds until it will have been seen for long enough; 0: only a second report is missing.
        needs_s: f64,
    },
    /// It grows on and on.
    Grows,
}

/// What is said of memory outside of Go's heap.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeGrowth {
    /// How much there is. `None`: not measured.
    pub bytes: Option<u64>,
    /// What it does.
    pub trend: Trend,
    /// What is said of it.
    pub verdict: Verdict,
    /// Why.
    pub why: NativeWhy,
    /// Seconds until it may be said to leak; 0: now.
    pub leak_due_s: f64,
    /// The mapping with most of it. `None`: not known.
    pub largest: Option<String>,
    /// Whether the binary links C code, whose malloc is most likely the owner; else the program maps memory itself.
    pub cgo: bool,
}

impl NativeGrowth {
    /// Whether it accuses more than another judgement of the same memory.
    pub fn is_worse_than(&self, other: &Self) -> bool {
        self.verdict >= Verdict::Growing && self.verdict > other.verdict
    }
}

/// What is said of all lines.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryGrowthReport {
    /// Looks that count.
    pub looks: usize,
    /// Between the first of them and the last, seconds.
    pub window_s: f64,
    /// What the resident memory does.
    pub rss: Trend,
    /// What each line does, in the order of [`Component`]; those that were not measured at the last look are not there.
    pub lines: Vec<(Component, Trend)>,
    /// Memory outside of Go's heap.
    pub native: NativeGrowth,
}

/// One look.
#[derive(Clone, Debug)]
struct Look {
    /// Since the first one.
    at_s: f64,
    rss_bytes: u64,
    /// In the order of [`COMPONENTS`], with what the number stands on.
    lines: [Option<(u64, Cow<'static, str>)>; 8],
    /// Whether native memory is known apart from the heap.
    is_by_pages: bool,
    swap_bytes: u64,
    native_huge_bytes: u64,
}

/// The memory of one process over time.
#[derive(Clone, Debug)]
pub struct MemoryGrowth {
    window_s: f64,
    cgo: bool,
    began_ns: u64,
    looks: VecDeque<Look>,
    largest: Option<String>,
    native: Hysteresis,
}

impl MemoryGrowth {
    /// Judges growth over windows of so many seconds. Native memory is said to leak after two of them. `cgo`: whether the binary
    /// links C code.
    pub fn new(window_s: f64, cgo: bool) -> Self {
        Self { window_s, cgo, began_ns: 0, looks: VecDeque::new(), largest: None, native: Hysteresis::default() }
    }

    /// One more look; `at_ns`: by any clock that goes on. Where it went back, all that was before is forgotten.
    pub fn observe(&mut self, at_ns: u64, statement: &MemoryStatement) {
        let since = at_ns.checked_sub(self.began_ns).map(|ns| approximate(ns) / 1e9);
        let at_s = match (since, self.looks.back()) {
            (Some(at_s), Some(last)) if at_s > last.at_s => at_s,
            _ => {
                self.looks.clear();
                self.began_ns = at_ns;
                0.0
            }
        };
        if self.looks.len() >= LOOKS_MAX {
            let mut index = 0;
            self.looks.retain(|_| {
                index += 1;
                index > LOOKS_MAX / 2 || index % 2 == 1
            });
        }
        let line = |component| statement.lines.iter().find(|line| line.component == component);
        let misleading = statement.misleading.unwrap_or_default();
        self.largest = line(Component::Native).and_then(|line| line.parts.first()).map(|part| part.name.clone());
        self.looks.push_back(Look {
            at_s,
            rss_bytes: statement.rss_bytes,
            lines: COMPONENTS.map(|component| line(component).map(|line| (line.bytes, line.source.clone()))),
            is_by_pages: line(Component::Fragmentation).is_some_and(|line| line.source == "pages"),
            swap_bytes: misleading.swap_bytes,
            native_huge_bytes: misleading.native_huge_bytes,
        });
        // What is before two windows no longer counts, but for one look.
        let begin_s = at_s - 2.0 * self.window();
        while self.looks.get(1).is_some_and(|second| second.at_s <= begin_s) {
            self.looks.pop_front();
        }
    }

    /// What each line does; a line whose number stands on something else than before begins anew.
    pub fn lines(&self) -> Vec<(Component, Trend)> {
        let of = |component| Some((component, self.trend(&self.line(component)?, 1.0)));
        COMPONENTS.into_iter().filter_map(of).collect()
    }

    /// The statement with the growth of each line, where it is known.
    #[must_use]
    pub fn annotated(&self, mut statement: MemoryStatement) -> MemoryStatement {
        let trends = self.lines();
        for line in &mut statement.lines {
            let trend = trends.iter().find(|(component, _)| *component == line.component);
            line.growth_bytes_per_s = trend.and_then(|(_, trend)| trend.rate());
        }
        statement
    }

    /// One report. The verdict needs two that agree.
    pub fn report(&mut self) -> MemoryGrowthReport {
        let rss: Vec<Point> = self.looks.iter().map(|look| point(look, look.rss_bytes)).collect();
        let in_window = within(&rss, self.window());
        let (looks, window_s) = (in_window.len(), span_s(in_window));
        let points = self.line(Component::Native).unwrap_or_default();
        let trend = self.trend(&points, 1.0);
        let (verdict, why) = self.judge(&points, &trend);
        let shown = self.native.observe(verdict);
        let why = match (shown, verdict) {
            (Verdict::Growing, Verdict::Leaking) => NativeWhy::Unconfirmed { needs_s: 0.0 },
            _ => why,
        };
        let bytes = self.looks.back().and_then(|last| last.lines.last()?.as_ref()).map(|(bytes, _)| *bytes);
        MemoryGrowthReport {
            looks,
            window_s,
            rss: self.trend(&rss, 1.0),
            lines: self.lines(),
            native: NativeGrowth {
                bytes,
                trend,
                verdict: shown,
                why,
                leak_due_s: (2.0 * self.window() - span_s(&points)).max(0.0),
                largest: self.largest.clone(),
                cgo: self.cgo,
            },
        }
    }

    /// One report's verdict on native memory.
    fn judge(&self, all: &[Point], trend: &Trend) -> (Verdict, NativeWhy) {
        let Some(last) = self.looks.back().filter(|last| last.is_by_pages) else {
            return (Verdict::Unknown, NativeWhy::NotMeasured);
        };
        let points = within(all, self.window());
        let rate = match trend {
            Trend::Unknown { values, seconds } => {
                let needs_s = missing_s(points, *values, *seconds);
                return (Verdict::Unknown, NativeWhy::TooEarly { needs_s });
            }
            Trend::Flat(_) => return (Verdict::Steady, NativeWhy::NoGrowth),
            Trend::Falling(_) => return (Verdict::Shrinking, NativeWhy::Falls),
            Trend::Slowing(rate) | Trend::Rising(rate) => rate,
        };
        let net = rise(points);
        if net < NATIVE_MIN_BYTES || rate.value < NATIVE_FLOOR_BYTES_PER_S {
            return (Verdict::Steady, NativeWhy::BelowFloor);
        }
        let step = largest_step(points);
        if step > STEP_SHARE * net {
            return (Verdict::Steady, NativeWhy::OneStep { bytes: whole(step) });
        }
        let begin_s = points.first().map_or(0.0, |first| first.at_s);
        let first = self.looks.iter().find(|look| look.at_s >= begin_s).unwrap_or(last);
        let swapped_in = first.swap_bytes.saturating_sub(last.swap_bytes);
        if approximate(swapped_in) > EXPLAINED_SHARE * net {
            return (Verdict::Steady, NativeWhy::SwappedIn { bytes: swapped_in });
        }
        if matches!(trend, Trend::Slowing(_)) {
            return (Verdict::WarmingUp, NativeWhy::SlowsDown);
        }
        // At most the rest of each block of which some small pages are there can come that way. How many blocks there are is not
        // known, so it is taken for the explanation until there are more bytes in them than there were small ones.
        let huge = last.native_huge_bytes.saturating_sub(first.native_huge_bytes);
        let small = points.first().map_or(0.0, |first| first.value) - approximate(first.native_huge_bytes);
        if approximate(huge) > EXPLAINED_SHARE * net && approximate(huge) <= small {
            return (Verdict::Growing, NativeWhy::HugePages { bytes: huge });
        }
        let two_s = 2.0 * self.window();
        if span_s(all) < two_s || !matches!(Trend::of(all, two_s), Trend::Rising(_)) {
            return (Verdict::Growing, NativeWhy::Unconfirmed { needs_s: (two_s - span_s(all)).max(0.0) });
        }
        if largest_step(all) > STEP_SHARE * rise(all) {
            return (Verdict::Growing, NativeWhy::OneStep { bytes: whole(largest_step(all)) });
        }
        let fall = deepest_fall(all);
        if fall > FALL_SHARE * rise(all) {
            return (Verdict::Growing, NativeWhy::FellBefore { bytes: whole(fall) });
        }
        (Verdict::Leaking, NativeWhy::Grows)
    }

    /// The window, longer where looks are rare.
    fn window(&self) -> f64 {
        let first = self.looks.len().checked_sub(LOOKS_PER_WINDOW).and_then(|first| self.looks.get(first));
        let of_looks = first.zip(self.looks.back()).map_or(0.0, |(first, last)| last.at_s - first.at_s);
        self.window_s.max(of_looks)
    }

    fn trend(&self, points: &[Point], windows: f64) -> Trend {
        let window_s = windows * self.window();
        Trend::of(within(points, window_s), window_s)
    }

    /// The series of a line. `None`: the last look did not measure it.
    fn line(&self, component: Component) -> Option<Vec<Point>> {
        let index = COMPONENTS.iter().position(|one| *one == component)?;
        let of = |look: &Look| look.lines.get(index).cloned().flatten();
        let (_, source) = of(self.looks.back()?)?;
        let is_by_pages = self.looks.back()?.is_by_pages;
        let is_alike = |look: &&Look| {
            look.is_by_pages == is_by_pages && of(look).is_some_and(|(_, its_source)| its_source == source)
        };
        let alike = self.looks.iter().rev().take_while(is_alike);
        let mut points: Vec<Point> =
            alike.filter_map(|look| Some(point(look, of(look).map(|(bytes, _)| bytes)?))).collect();
        points.reverse();
        Some(points)
    }
}

fn point(look: &Look, bytes: u64) -> Point {
    Point { at_s: look.at_s, value: approximate(bytes) }
}

/// The largest rise between two looks.
fn largest_step(points: &[Point]) -> f64 {
    points.iter().zip(points.iter().skip(1)).map(|(one, next)| next.value - one.value).fold(0.0, f64::max)
}

/// The deepest fall from what was there before.
fn deepest_fall(points: &[Point]) -> f64 {
    let falls = points.iter().scan(0.0_f64, |highest, point| {
        *highest = highest.max(point.value);
        Some(*highest - point.value)
    });
    falls.fold(0.0, f64::max)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a process, not negative")]
fn whole(bytes: f64) -> u64 {
    bytes.max(0.0) as u64
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "numbers of looks")]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::model::memory::{Line, Misleading};

    const MIB: u64 = 1 << 20;
    const EPOCH_NS: u64 = 1_790_000_000_000_000_000;

    /// What one look sees.
    #[derive(Clone, Copy, Default)]
    struct Seen {
        native: u64,
        file: u64,
        huge: u64,
        swap: u64,
    }

    fn statement(seen: Seen) -> MemoryStatement {
        let line = |component, bytes, source: &'static str| Line {
            component,
            bytes,
            growth_bytes_per_s: None,
            source: source.into(),
            parts: Vec::new(),
        };
        MemoryStatement {
            rss_bytes: 100 * MIB + seen.native + seen.file,
            lines: vec![
                line(Component::LiveHeap, 99 * MIB, "books+pages"),
                line(Component::Fragmentation, MIB, "pages"),
                line(Component::File, seen.file, "smaps"),
                line(Component::Native, seen.native, "smaps"),
            ],
            unexplained_bytes: 0,
            heap: None,
            misleading: Some(Misleading {
                swap_bytes: seen.swap,
                native_huge_bytes: seen.huge,
                ..Misleading::default()
            }),
            cgroup: None,
            host: None,
            diagnoses: Vec::new(),
            advice: Vec::new(),
        }
    }

    /// Looks every 10 s for so many, judged over 120 s; each verdict with its reason.
    fn verdicts(looks: u64, seen: impl Fn(u64) -> Seen) -> Vec<(Verdict, NativeWhy)> {
        let mut growth = MemoryGrowth::new(120.0, true);
        let mut each = |look| {
            growth.observe(EPOCH_NS + look * 10_000_000_000, &statement(seen(look)));
            let native = growth.report().native;
            (native.verdict, native.why)
        };
        (0..looks).map(&mut each).collect()
    }

    #[test]
    fn native_memory_that_grows_is_said_to_leak_after_two_windows_with_its_rate() {
        let said = verdicts(30, |look| Seen { native: 20 * MIB + look * 2 * MIB, ..Seen::default() });
        assert_eq!(said[3], (Verdict::Unknown, NativeWhy::TooEarly { needs_s: 42.0 }));
        assert_eq!(said[12], (Verdict::Growing, NativeWhy::Unconfirmed { needs_s: 120.0 }));
        assert_eq!(said[24], (Verdict::Growing, NativeWhy::Unconfirmed { needs_s: 0.0 }));
        assert_eq!(said[25], (Verdict::Leaking, NativeWhy::Grows));
        let due = |looks| {
            let mut growth = MemoryGrowth::new(120.0, true);
            (0..looks).for_each(|look| growth.observe(EPOCH_NS + look * 10_000_000_000, &statement(Seen::default())));
            growth.report().native.leak_due_s
        };
        assert_eq!([due(1), due(13), due(25), due(90)].map(whole), [240, 120, 0, 0]);
        let mut growth = MemoryGrowth::new(120.0, true);
        for look in 0..30 {
            let seen = Seen { native: 20 * MIB + look * 2 * MIB, file: 7 * MIB, ..Seen::default() };
            growth.observe(EPOCH_NS + look * 10_000_000_000, &statement(seen));
        }
        let annotated = growth.annotated(statement(Seen::default()));
        let rates: Vec<_> = annotated.lines.iter().map(|line| line.growth_bytes_per_s.unwrap()).collect();
        assert!((rates[3].value - 209_715.2).abs() < 1.0 && rates[3].low < rates[3].value, "{rates:?}");
        assert!(rates[2].value == 0.0 && rates[0].value == 0.0, "{rates:?}");
    }

    #[test]
    fn what_no_allocation_made_resident_is_not_accused() {
        use Verdict::{Growing, WarmingUp};
        let never = |name: &str, seen: &dyn Fn(u64) -> Seen, worst: Verdict| {
            let said = verdicts(60, seen);
            assert!(said.iter().all(|(verdict, _)| *verdict <= worst), "{name}: {said:?}");
        };
        let of = |native| Seen { native, ..Seen::default() };
        never("files", &|look| Seen { file: look * 50 * MIB, native: MIB, ..Seen::default() }, WarmingUp);
        never("one step", &|look| of(if look < 20 { MIB } else { 200 * MIB }), WarmingUp);
        never("two steps", &|look| of(MIB + 64 * MIB * (look / 25)), WarmingUp);
        never("fills", &|look| of(whole(1e9 * (1.0 - (-approximate(look) / 4.0).exp()))), WarmingUp);
        never(
            "swapped in",
            &|look| Seen { native: look * MIB, swap: 100 * MIB - look * MIB, ..Seen::default() },
            WarmingUp,
        );
        never("huge pages", &|look| Seen { native: (200 + look) * MIB, huge: look * MIB, ..Seen::default() }, Growing);
        never("little", &|look| of(50 * MIB + look * 4096), WarmingUp);
    }

    #[test]
    fn what_is_not_known_apart_is_unknown() {
        let mut growth = MemoryGrowth::new(60.0, false);
        for look in 0..30 {
            let mut statement = statement(Seen { native: look * MIB, ..Seen::default() });
            statement.lines.retain(|line| line.component != Component::Fragmentation);
            growth.observe(EPOCH_NS + look * 10_000_000_000, &statement);
        }
        assert_eq!(
            (growth.report().native.verdict, growth.report().native.why),
            (Verdict::Unknown, NativeWhy::NotMeasured)
        );
        // From now on it is: what was before does not count.
        growth.observe(EPOCH_NS + 300_000_000_000, &statement(Seen { native: 900 * MIB, ..Seen::default() }));
        let report = growth.report();
        assert!(matches!(report.native.trend, Trend::Unknown { values: 3, .. }), "{:?}", report.native);
        assert!(matches!(report.rss, Trend::Rising(_) | Trend::Flat(_)));
    }

    #[test]
    fn looks_are_bounded() {
        let mut growth = MemoryGrowth::new(1e6, false);
        for look in 0..10_000 {
            growth.observe(EPOCH_NS + look * 1_000_000_000, &statement(Seen::default()));
        }
        assert!(growth.looks.len() <= LOOKS_MAX);
        growth.observe(EPOCH_NS, &statement(Seen::default()));
        assert_eq!(growth.looks.len(), 1, "the clock went back");
    }

    #[test]
    fn random_steady_native_memory_is_never_said_to_leak() {
        let (mut leaking, mut growing, mut reports) = (0, 0, 0);
        for seed in 0..2000 {
            let mut random = SmallRng::seed_from_u64(seed);
            let base: u64 = random.random_range(1..500) * MIB;
            let amplitude: u64 = random.random_range(1..300) * MIB;
            let shape = random.random_range(0..4);
            // In looks: within two windows, and a fill within one.
            let period: u64 = random.random_range(1..if shape == 3 { 10 } else { 23 });
            let noise: Vec<u64> = (0..40).map(|_| random.random_range(0..amplitude)).collect();
            let said = verdicts(40, |look| {
                let part = approximate(look % period) / approximate(period);
                let more = match shape {
                    0 => noise[look as usize],
                    1 => whole(approximate(amplitude) * part),
                    2 => {
                        if part < 0.3 {
                            amplitude
                        } else {
                            0
                        }
                    }
                    _ => whole(approximate(amplitude) * (1.0 - (-approximate(look) / approximate(period)).exp())),
                };
                Seen { native: base + more + noise[look as usize] / 50, ..Seen::default() }
            });
            reports += said.len();
            growing += said.iter().filter(|(verdict, _)| *verdict == Verdict::Growing).count();
            let accused = said.iter().position(|(verdict, _)| *verdict == Verdict::Leaking);
            if let Some(look) = accused {
                println!("{seed}: look {look} shape {shape} amplitude {amplitude} period {period} base {base}");
            }
            leaking += said.iter().filter(|(verdict, _)| *verdict == Verdict::Leaking).count();
        }
        println!("steady native memory: {reports} reports, growing {growing}, leaking {leaking}");
        assert_eq!(leaking, 0);
    }
}
