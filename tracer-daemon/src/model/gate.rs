//! Does a run pass? What is measured of one process, compared with a baseline, and what is missing to be sure.
//!
//! The one place where what a snapshot says becomes [`Measure`]s: whatever else comes to be judged (goroutines, say) is added
//! to [`measures`], and compared and shown like the rest.

use std::collections::BTreeSet;

use super::assess::Assessment;
use super::compare::{Compared, Measure, Place, Quantity, Rules, compare, compare_known};
use super::judged::judged;
use super::memory::growth::NativeWhy;
use super::verdict::{Trend, Verdict};
use super::{Evidence, Rate, Snapshot};
use crate::symbolize::Frame;
use crate::units::approximate;

/// What was measured of an earlier run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    /// Path of the main module. `None`: not known.
    pub module: Option<String>,
    /// Its version as the build info has it. `None`: not known.
    pub version: Option<String>,
    /// The Go release that built it.
    pub go_version: String,
    /// Between the first and the last collection that count, seconds.
    pub window_s: f64,
    /// Collections that count.
    pub cycles: u64,
    /// Names of the evidence.
    pub evidence: Vec<String>,
    /// The process as a whole first, then sites.
    pub measures: Vec<Measure>,
}

/// Why it is not certain that nothing leaks.
#[derive(Clone, Debug, PartialEq)]
pub enum Doubt {
    /// The runtime's accounts could not be read.
    NoBooks,
    /// Something else was not measured.
    NotMeasured {
        /// What.
        quantity: Quantity,
    },
    /// Too little was seen to say anything.
    TooShort {
        /// Of what.
        quantity: Quantity,
        /// Values that are missing: of the heap a collection each, else a look.
        values: usize,
        /// Seconds that are missing, at least.
        seconds: f64,
    },
    /// It grows, and no line is named for it.
    Unnamed {
        /// Bytes per second.
        growth: Rate,
        /// Seconds until a name is due. `None`: not known, or there is nothing to name lines by.
        due_s: Option<f64>,
    },
    /// The program ended before the measurement was complete.
    Ended {
        /// Seconds measured.
        measured_s: f64,
        /// Seconds asked for.
        wanted_s: f64,
    },
    /// The baseline is of another program.
    OtherModule {
        /// That one.
        baseline: String,
        /// This one.
        found: String,
    },
    /// The baseline knew more.
    LessEvidence {
        /// The evidence that is missing.
        missing: String,
    },
    /// The baseline does not know of what would fail by its verdict.
    BaselineLessEvidence {
        /// What it does not know.
        quantity: Quantity,
        /// Whether that is so of lines; else of the process as a whole.
        is_of_lines: bool,
    },
    /// A site leaks by its verdict, but among so many sites that is not beyond chance.
    AmongMany {
        /// So many.
        sites: usize,
    },
}

impl Doubt {
    /// Stable identifier.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::NoBooks => "no_books",
            Self::NotMeasured { .. } => "not_measured",
            Self::TooShort { .. } => "too_short",
            Self::Unnamed { .. } => "unnamed",
            Self::Ended { .. } => "ended",
            Self::OtherModule { .. } => "other_module",
            Self::LessEvidence { .. } => "less_evidence",
            Self::BaselineLessEvidence { .. } => "baseline_less_evidence",
            Self::AmongMany { .. } => "among_many",
        }
    }
}

/// How a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Nothing leaks, or not more than before.
    Passed,
    /// It cannot be said.
    Unknown,
    /// Something leaks.
    Failed,
}

impl Outcome {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Unknown => "unknown",
            Self::Failed => "failed",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// How it ends.
    pub outcome: Outcome,
    /// What fails first.
    pub rows: Vec<Compared>,
    /// Why it is not certain.
    pub doubts: Vec<Doubt>,
}

/// What was to be measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Seconds.
    pub window_s: f64,
    /// Whether the program ended before that.
    pub ended: bool,
}

/// Judges a snapshot at the end of its window. `module`: that of the program.
pub fn judge(
    snapshot: &Snapshot,
    baseline: Option<&Baseline>,
    module: Option<&str>,
    rules: &Rules,
    wanted: &Wanted,
) -> Judgement {
    let after = measures(snapshot);
    let (now, before) = (Known::of(snapshot, &after), baseline.map(Known::of_baseline));
    let both_know = |measure: &Measure| now.has(measure) && before.as_ref().is_none_or(|before| before.has(measure));
    let rows = compare_known(baseline.map(|baseline| &*baseline.measures), &after, rules, both_know);
    let doubts = doubts(snapshot, baseline, module, &rows, rules, wanted);
    let outcome = if rows.iter().any(|row| row.fails) {
        Outcome::Failed
    } else if doubts.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Unknown
    };
    Judgement { outcome, rows, doubts }
}

/// What a run had the evidence for.
struct Known {
    /// What was measured of the process as a whole.
    whole: Vec<Quantity>,
    /// Whether the lines that hold memory have names.
    has_lines: bool,
}

impl Known {
    fn of(snapshot: &Snapshot, measures: &[Measure]) -> Self {
        Self::new(measures, snapshot.evidence.iter().any(|evidence| names_lines(evidence.name())))
    }

    fn of_baseline(baseline: &Baseline) -> Self {
        Self::new(&baseline.measures, baseline.evidence.iter().any(|name| names_lines(name)))
    }

    fn new(measures: &[Measure], has_lines: bool) -> Self {
        let whole = measures.iter().filter(|measure| measure.site.is_none() && measure.verdict != Verdict::Unknown);
        Self { whole: whole.map(|measure| measure.quantity).collect(), has_lines }
    }

    /// Whether it would have been seen.
    fn has(&self, measure: &Measure) -> bool {
        let needs_lines = measure.quantity == Quantity::Bytes && measure.site.is_some();
        self.whole.contains(&measure.quantity) && (self.has_lines || !needs_lines)
    }
}

/// Whether evidence of this name tells which lines hold the heap.
fn names_lines(name: &str) -> bool {
    name == Evidence::Profile.name() || name == Evidence::Adopted.name()
}

/// Whether a snapshot alone has a verdict of at least this, on the process or any site.
///
/// # Errors
/// Where none is known to have it: what is too little known to say that none has.
pub fn is_at_least(snapshot: &Snapshot, verdict: Verdict) -> Result<bool, Vec<Doubt>> {
    let rules = Rules { fail_on: verdict, ..Rules::default() };
    let rows = compare(None, &measures(snapshot), &rules);
    if rows.iter().any(|row| row.fails) {
        return Ok(true);
    }
    let doubts = unmeasured(snapshot, &rows, &rules);
    if doubts.is_empty() { Ok(false) } else { Err(doubts) }
}

/// All that is judged of a process: each quantity by itself, as a whole and then by site. What was not measured is not there.
pub fn measures(snapshot: &Snapshot) -> Vec<Measure> {
    let heap = snapshot.assessment.as_deref().into_iter();
    let heap = heap.flat_map(|assessment| heap_measures(snapshot, assessment));
    heap.chain(goroutine_measures(snapshot)).chain(native_measure(snapshot)).collect()
}

/// Memory outside of Go's heap: nobody counts it by line.
fn native_measure(snapshot: &Snapshot) -> Option<Measure> {
    let native = &snapshot.memory_growth.as_deref()?.native;
    (native.why != NativeWhy::NotMeasured).then(|| Measure {
        quantity: Quantity::Native,
        site: None,
        place: None,
        verdict: native.verdict,
        growth: native.trend.rate(),
        live: native.bytes.map(approximate),
    })
}

/// All goroutines, then each place that starts them.
fn goroutine_measures(snapshot: &Snapshot) -> impl Iterator<Item = Measure> + '_ {
    let growth = snapshot.goroutine_growth.as_deref();
    let whole = growth.map(|growth| Measure {
        quantity: Quantity::Goroutines,
        site: None,
        place: None,
        verdict: growth.verdict,
        growth: growth.total.rate(),
        live: snapshot.goroutines.as_ref().map(|table| approximate(table.live)),
    });
    let sites = growth.into_iter().flat_map(|growth| &growth.sites).map(|site| Measure {
        quantity: Quantity::Goroutines,
        site: Some(site.id),
        place: Some(place(&site.place)),
        verdict: site.verdict,
        growth: site.trend.rate().filter(|rate| rate.low > 0.0),
        live: Some(approximate(site.live)),
    });
    whole.into_iter().chain(sites)
}

/// All that is alive, then each line that holds anything.
fn heap_measures<'a>(snapshot: &'a Snapshot, assessment: &'a Assessment) -> impl Iterator<Item = Measure> + 'a {
    let whole = Measure {
        quantity: Quantity::Bytes,
        site: None,
        place: None,
        verdict: assessment.verdict,
        growth: assessment.total.rate(),
        live: snapshot.heap.as_ref().and_then(|heap| heap.live_bytes).map(approximate),
    };
    let sites = judged(snapshot).into_iter().map(|site| Measure {
        quantity: Quantity::Bytes,
        site: Some(site.id),
        place: Some(place(site.place)),
        verdict: site.verdict,
        growth: site.growth.map(|growth| growth.growth_bytes_per_s),
        live: site.live.map(|live| live.bytes.value),
    });
    std::iter::once(whole).chain(sites)
}

fn place(frame: &Frame) -> Place {
    Place { function: frame.function.to_string(), file: frame.file.to_string(), line: frame.line }
}

fn doubts(
    snapshot: &Snapshot,
    baseline: Option<&Baseline>,
    module: Option<&str>,
    rows: &[Compared],
    rules: &Rules,
    wanted: &Wanted,
) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let baseline_module = baseline.and_then(|baseline| baseline.module.as_deref());
    if let Some((of_baseline, found)) = baseline_module.zip(module).filter(|(one, other)| one != other) {
        doubts.push(Doubt::OtherModule { baseline: of_baseline.to_owned(), found: found.to_owned() });
    }
    doubts.extend(unmeasured(snapshot, rows, rules));
    let has = |name: &str| snapshot.evidence.iter().any(|evidence| evidence.name() == name);
    let had_names = baseline.is_some_and(|baseline| baseline.evidence.iter().any(|name| names_lines(name)));
    if had_names && !has(Evidence::Profile.name()) && !has(Evidence::Adopted.name()) {
        doubts.push(Doubt::LessEvidence { missing: Evidence::Profile.name().to_owned() });
    }
    let leaks = |row: &&Compared| row.newest().is_some_and(|newest| newest.verdict >= rules.fail_on);
    let is_unknown_before =
        |row: &&Compared| !row.is_comparable && row.after.as_ref().is_some_and(|after| after.verdict >= rules.fail_on);
    let unknown: BTreeSet<(Quantity, bool)> =
        rows.iter().filter(is_unknown_before).filter_map(|row| Some((row.quantity()?, row.site().is_some()))).collect();
    doubts.extend(
        unknown.into_iter().map(|(quantity, is_of_lines)| Doubt::BaselineLessEvidence { quantity, is_of_lines }),
    );
    let is_tested = |row: &&Compared| row.site().is_some() && row.is_comparable;
    if rows.iter().filter(is_tested).filter(leaks).any(Compared::is_doubtful) {
        doubts.push(Doubt::AmongMany { sites: rows.iter().filter(|row| row.site().is_some()).count() });
    }
    if wanted.ended && snapshot.window_s < wanted.window_s {
        doubts.push(Doubt::Ended { measured_s: snapshot.window_s, wanted_s: wanted.window_s });
    }
    doubts
}

/// What is missing to say that nothing fails.
fn unmeasured(snapshot: &Snapshot, rows: &[Compared], rules: &Rules) -> Vec<Doubt> {
    let is_there = |quantity: &Quantity| {
        let mut of_it = rows.iter().filter_map(|row| row.after.as_ref()).filter(|after| after.quantity == *quantity);
        of_it.any(|after| after.verdict >= rules.fail_on)
    };
    let unnamed = snapshot.assessment.as_deref().and_then(|assessment| unnamed(assessment, rows, rules));
    let missing = Quantity::ALL.into_iter().filter(|quantity| !is_there(quantity));
    let missing = missing.filter_map(|quantity| missing_of(snapshot, quantity, rules.fail_on));
    unnamed.into_iter().chain(missing).collect()
}

/// What is missing of a quantity, until it can be said to be what fails. `None`: nothing.
fn missing_of(snapshot: &Snapshot, quantity: Quantity, fail_on: Verdict) -> Option<Doubt> {
    let measured = match quantity {
        Quantity::Bytes => snapshot.assessment.as_deref().map(|assessment| (assessment.total, assessment.leak_due_s)),
        Quantity::Goroutines => snapshot.goroutine_growth.as_deref().map(|growth| (growth.total, growth.leak_due_s)),
        Quantity::Native => snapshot
            .memory_growth
            .as_deref()
            .filter(|growth| growth.native.why != NativeWhy::NotMeasured)
            .map(|growth| (growth.native.trend, growth.native.leak_due_s)),
    };
    let Some((trend, leak_due_s)) = measured else {
        let is_heap = quantity == Quantity::Bytes;
        return Some(if is_heap { Doubt::NoBooks } else { Doubt::NotMeasured { quantity } });
    };
    // Who is to fail only where it leaks could not have failed before.
    let due_s = if fail_on >= Verdict::Leaking { leak_due_s } else { 0.0 };
    match trend {
        Trend::Unknown { values, seconds } => Some(Doubt::TooShort { quantity, values, seconds: seconds.max(due_s) }),
        _ => (due_s > 0.0).then_some(Doubt::TooShort { quantity, values: 0, seconds: due_s }),
    }
}

/// Growth of the heap that no line is named for.
fn unnamed(assessment: &Assessment, rows: &[Compared], rules: &Rules) -> Option<Doubt> {
    match assessment.total {
        // What is below the floor is nobody's trouble, and needs no name.
        Trend::Rising(growth) if assessment.verdict >= Verdict::Growing => {
            let is_named = rows.iter().filter(|row| row.quantity() == Some(Quantity::Bytes)).any(|row| {
                row.site().is_some() && row.after.as_ref().is_some_and(|after| after.verdict >= Verdict::Growing)
            });
            let whole = rows.iter().find(|row| row.site().is_none() && row.quantity() == Some(Quantity::Bytes));
            // As in the baseline: nothing new has to be named.
            let is_known = whole.is_some_and(|row| row.before.is_some() && row.is_comparable && !exceeds(row, rules));
            (!is_named && !is_known).then_some(Doubt::Unnamed { growth, due_s: assessment.name_due_s })
        }
        _ => None,
    }
}

/// Whether a row would fail by its numbers alone.
fn exceeds(row: &Compared, rules: &Rules) -> bool {
    let by_numbers = Rules { fail_on: Verdict::Unknown, ..*rules };
    let [before, after] = [&row.before, &row.after].map(|measure| measure.clone().into_iter().collect::<Vec<_>>());
    compare(Some(&before), &after, &by_numbers).iter().any(|row| row.fails)
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
