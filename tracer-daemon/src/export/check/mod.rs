//! What `leakline check` found, in every format: for a reviewer (`text/check.rs`), as JSON, as `JUnit` XML, as Markdown.
//!
//! Owns the words that all of them share: the headline, why a site is judged as it is, what is missing to be sure. Names of
//! the target and of the baseline are escaped here for what may be printed at all, and by each format for its own syntax.

#[cfg(test)]
pub(crate) mod fixture;
mod json;
mod junit;
mod markdown;

pub use json::line;
pub use junit::junit;
pub use markdown::markdown;

use super::{ProcessFacts, Refusal, growth_words, human, untrusted};
use crate::model::compare::{Change, Compared, Measure, Quantity, Rules};
use crate::model::gate::{Baseline, Doubt, Judgement, Outcome};
use crate::model::live::LiveSite;
use crate::model::reason::Reason;
use crate::model::verdict::Verdict;
use crate::model::{Rate, Snapshot};

/// One check of one command.
#[derive(Clone, Copy, Debug)]
pub struct CheckReport<'a> {
    /// Whose process was measured.
    pub process: &'a ProcessFacts,
    /// At the end.
    pub snapshot: &'a Snapshot,
    /// What is said of it.
    pub judgement: &'a Judgement,
    /// By what.
    pub rules: &'a Rules,
    /// Whether what is not certain fails, too.
    pub strict: bool,
    /// What it was compared with.
    pub baseline: Option<&'a Baseline>,
    /// The command, as it was given.
    pub command: &'a str,
    /// When measuring began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// What was not measured, and why.
    pub refusals: &'a [Refusal],
}

/// What the model says.
struct Said {
    text: String,
    /// Whether the rate is in it.
    has_numbers: bool,
}

impl CheckReport<'_> {
    /// Whether the check fails: something leaks, or `strict` and it is not certain.
    pub fn fails(&self) -> bool {
        match self.judgement.outcome {
            Outcome::Failed => true,
            Outcome::Unknown => self.strict,
            Outcome::Passed => false,
        }
    }

    /// What is to be shown: what fails first; what is quiet is not.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Compared> {
        self.judgement.rows.iter().filter(|row| row.fails || row.change != Change::Quiet)
    }

    /// How many sites were judged and do nothing.
    pub(super) fn quiet(&self) -> usize {
        let is_quiet = |row: &&Compared| !row.fails && row.change == Change::Quiet && row.site().is_some();
        self.judgement.rows.iter().filter(is_quiet).count()
    }

    /// What a site holds now, with the stacks that lead there.
    pub(super) fn live(&self, row: &Compared) -> Option<&LiveSite> {
        let site = row.site().filter(|_| row.quantity() == Some(Quantity::Bytes))?;
        self.snapshot.profile.as_ref()?.sites.iter().find(|live| live.id == site)
    }

    /// The first line: passed or not, and by whom.
    pub(super) fn headline(&self) -> String {
        let (failing, whole): (Vec<_>, Vec<_>) =
            self.judgement.rows.iter().filter(|row| row.fails).partition(|row| row.site().is_some());
        let than = if self.baseline.is_some() { " more than in the baseline" } else { "" };
        match self.judgement.outcome {
            Outcome::Failed if failing.is_empty() => {
                let subject = match whole.first().and_then(|row| row.quantity()) {
                    Some(Quantity::Goroutines) => "goroutines become more",
                    Some(Quantity::Native) => "memory outside of Go's heap grows",
                    Some(Quantity::Bytes) | None => "the process as a whole grows",
                };
                format!("FAILED: {subject}{than}.")
            }
            Outcome::Failed => {
                let (lines, verb) = if failing.len() == 1 { ("line", "leaks") } else { ("lines", "leak") };
                let verb = match failing.iter().any(|row| verdict(row) == Verdict::Leaking) {
                    true => verb,
                    false if failing.len() == 1 => "grows",
                    false => "grow",
                };
                format!("FAILED: {} {lines} {verb}{than}.", failing.len())
            }
            Outcome::Unknown if self.strict => String::from("FAILED: it cannot be said whether it leaks (--strict)."),
            Outcome::Unknown => String::from("UNKNOWN: it cannot be said whether it leaks."),
            Outcome::Passed => {
                let grows = |row: &&Compared| row.site().is_some() && verdict(row) == Verdict::Growing;
                let new = self.shown().filter(grows).filter(|row| row.change != Change::Known).count();
                let beside = match new {
                    0 => String::new(),
                    1 => String::from("; 1 line grows (see --fail-on growing)"),
                    _ => format!("; {new} lines grow (see --fail-on growing)"),
                };
                format!("PASSED: nothing leaks{than}{beside}.")
            }
        }
    }

    /// Over what it was measured.
    pub(super) fn scope(&self) -> String {
        let cycles = self.snapshot.assessment.as_deref().map_or(0, |assessment| assessment.cycles);
        let evidence: Vec<&str> = self.snapshot.evidence.iter().map(|evidence| evidence.name()).collect();
        format!(
            "{} for {}, {cycles} collections, evidence {}",
            untrusted::name(self.process.exe_name()),
            human::seconds(self.snapshot.window_s),
            if evidence.is_empty() { String::from("none") } else { evidence.join(" + ") }
        )
    }

    /// What the baseline is of.
    pub(super) fn compared_with(&self) -> Option<String> {
        let baseline = self.baseline?;
        let module = baseline.module.as_deref().map_or_else(|| "a program".into(), untrusted::name);
        let version = baseline.version.as_deref().map(|version| format!(" {}", untrusted::name(version)));
        Some(format!(
            "{module}{}, {}, {} collections in {}",
            version.unwrap_or_default(),
            untrusted::name(&baseline.go_version),
            baseline.cycles,
            human::seconds(baseline.window_s)
        ))
    }

    /// When memory runs out, if it goes on like this.
    pub(super) fn forecast(&self) -> Option<String> {
        let forecast = self.snapshot.forecast?;
        Some(format!(
            "at this pace memory reaches its limit ({}, {}) in {}",
            human::bytes(human::approximate(forecast.limit.bytes)),
            forecast.limit.source.name(),
            human::seconds(forecast.seconds.value)
        ))
    }

    /// What is said of it now, with the numbers that it rests on.
    fn now(&self, row: &Compared) -> String {
        let measured = row.after.as_ref().and_then(|after| Some((after.quantity, after.growth?)));
        let grows = measured.map(|(quantity, rate)| {
            let verb = if rate.low > 0.0 { "grows by" } else { "does not grow beyond chance:" };
            format!("{verb} {}", with_interval(quantity, rate))
        });
        match (self.reason(row), grows) {
            (Some(reason), Some(grows)) if !reason.has_numbers => format!("{grows}; {}", reason.text),
            (Some(reason), _) => reason.text,
            (None, Some(grows)) => grows,
            (None, None) if row.after.is_none() && !row.is_comparable => String::from("was not measured now"),
            (None, None) if row.after.as_ref().is_some_and(|after| after.verdict == Verdict::Unknown) => {
                String::from("too little is known")
            }
            (None, None) => String::from("does not grow beyond chance"),
        }
    }

    /// What the model says of why. `None`: nothing.
    fn reason(&self, row: &Compared) -> Option<Said> {
        let site = row.after.as_ref()?.site;
        if row.quantity() == Some(Quantity::Goroutines) {
            let growth = self.snapshot.goroutine_growth.as_deref()?;
            let growth = growth.sites.iter().find(|growth| Some(growth.id) == site)?;
            return Some(Said { text: growth_words::goroutines(growth), has_numbers: true });
        }
        if row.quantity() == Some(Quantity::Native) {
            let native = &self.snapshot.memory_growth.as_deref()?.native;
            return Some(Said { text: growth_words::native(native), has_numbers: true });
        }
        let assessment = self.snapshot.assessment.as_deref()?;
        let why = match site {
            Some(site) => assessment.sites.iter().find(|judged| judged.site == site)?.why,
            // That of a line stands with the line.
            None if assessment.verdict >= Verdict::Growing => return None,
            None => assessment.why,
        };
        let has_numbers = !matches!(why, Reason::Unconfirmed | Reason::WithinChance { .. } | Reason::Missing(_));
        Some(Said { text: why.to_string(), has_numbers })
    }

    /// Why a row is judged as it is: one sentence.
    pub(super) fn why(&self, row: &Compared) -> String {
        let growth =
            |measure: &Option<Measure>| measure.as_ref().and_then(|measure| Some((measure.quantity, measure.growth?)));
        let now = self.now(row);
        let before = growth(&row.before).map(|(quantity, rate)| with_interval(quantity, rate));
        let chance = row.p_value.map(|p| format!("; chance does as much once in {}", once_in(p))).unwrap_or_default();
        match (row.change, before) {
            (Change::Doubtful, Some(before))
                if !row.is_comparable && row.after.as_ref().is_none_or(|after| after.verdict == Verdict::Unknown) =>
            {
                format!("{now}; in the baseline by {before}")
            }
            (Change::Doubtful, _) if !row.is_comparable => format!("{now}; the baseline does not know of it"),
            (Change::New, _) if row.before.is_none() => format!("{now}; the baseline does not have it{chance}"),
            (Change::New, _) => format!("{now}; in the baseline it does not grow{chance}"),
            (Change::Worse, before) => format!("{now}; in the baseline by {}{chance}", before.unwrap_or_default()),
            (Change::Known, before) => {
                format!("{now}; in the baseline by {}: not beyond chance and tolerance", before.unwrap_or_default())
            }
            (Change::Doubtful, _) if row.p_value.is_some() => {
                format!("{now}; among {} sites that may be chance", self.judgement.rows.len().saturating_sub(1))
            }
            (Change::Gone, before) => format!("{now}; in the baseline by {}", before.unwrap_or_default()),
            (Change::Doubtful | Change::Uncompared | Change::Quiet, _) => now,
        }
    }
}

/// The verdict now; of what was looked for and not seen, that of the baseline is none.
pub(super) fn verdict(row: &Compared) -> Verdict {
    let unseen = if row.is_comparable { Verdict::Steady } else { Verdict::Unknown };
    row.after.as_ref().map_or(unseen, |after| after.verdict)
}

/// What is not shown.
pub(super) fn quiet(report: &CheckReport<'_>) -> String {
    let quiet = report.quiet();
    let noun = if quiet == 1 { "line was" } else { "lines were" };
    format!("{quiet} more {noun} judged: nothing beyond chance.")
}

/// What stands before a row, in a word or two.
pub(super) fn mark(row: &Compared) -> &'static str {
    match row.change {
        _ if row.fails => "FAILS",
        Change::New => "new",
        Change::Worse => "worse",
        Change::Uncompared => "grows",
        Change::Doubtful => "unsure",
        Change::Known => "as before",
        Change::Gone => "gone",
        Change::Quiet => "",
    }
}

/// `main.(*store).put`, or the process; escaped.
pub(super) fn subject(row: &Compared) -> String {
    let newest = row.newest();
    let whole = match newest.map(|newest| newest.quantity) {
        Some(Quantity::Goroutines) => "all goroutines",
        Some(Quantity::Native) => "memory outside of Go's heap",
        Some(Quantity::Bytes) | None => "the process as a whole",
    };
    newest.and_then(|newest| newest.place.as_ref()).map_or_else(
        || String::from(whole),
        |place| match place.function.as_str() {
            "" => String::from("?"),
            function => untrusted::name(function).into_owned(),
        },
    )
}

/// `/src/store.go:42`; escaped. `None`: not known, or the process.
pub(super) fn file_and_line(row: &Compared) -> Option<String> {
    let place = row.newest()?.place.as_ref().filter(|place| !place.file.is_empty())?;
    let file = untrusted::path(&place.file);
    Some(if place.line == 0 { file.into_owned() } else { format!("{file}:{}", place.line) })
}

/// `971 KiB/s`, `2.50/s`; `-` where nothing is beyond chance.
pub(super) fn growth(measure: Option<&Measure>) -> String {
    let rate = measure.and_then(|measure| Some((measure.quantity, measure.growth?.value)));
    rate.map_or_else(|| String::from("-"), |(quantity, value)| per_second(quantity, value))
}

fn per_second(quantity: Quantity, value: f64) -> String {
    match quantity {
        Quantity::Bytes | Quantity::Native => format!("{}/s", human::bytes(value)),
        Quantity::Goroutines => format!("{} goroutines/s", human::count(value)),
    }
}

fn with_interval(quantity: Quantity, rate: Rate) -> String {
    let high = rate.high.map_or_else(|| String::from("no bound"), |high| per_second(quantity, high));
    format!("{} ({} to {high})", per_second(quantity, rate.value), per_second(quantity, rate.low))
}

fn once_in(p_value: f64) -> String {
    if p_value < 1e-6 { String::from("more than a million") } else { human::count((1.0 / p_value).round()) }
}

fn noun(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Bytes => "the heap",
        Quantity::Goroutines => "goroutines",
        Quantity::Native => "memory outside of Go's heap",
    }
}

/// What is missing to be sure, and what to do.
pub fn doubt(doubt: &Doubt) -> String {
    match doubt {
        Doubt::NoBooks => String::from("the runtime's accounts could not be read, so nothing is known of growth"),
        Doubt::NotMeasured { quantity } => format!("{} could not be measured", noun(*quantity)),
        Doubt::TooShort { quantity, values, seconds } => {
            let of = if *quantity == Quantity::Bytes { "collections" } else { "looks" };
            let missing = [
                (*values > 0).then(|| format!("{values} more {of}")),
                (*seconds > 0.0).then(|| format!("{} more", human::seconds(*seconds))),
            ];
            let missing = missing.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            let more = match quantity {
                Quantity::Bytes => "a longer --duration, or more load",
                Quantity::Goroutines | Quantity::Native => "a longer --duration",
            };
            format!("too little was seen of {}: a verdict needs {missing} ({more})", noun(*quantity))
        }
        Doubt::Unnamed { growth, due_s } => {
            let due =
                due_s.map_or_else(String::new, |due| format!(": a name needs about {} more", human::seconds(due)));
            format!("the heap grows by {}, and no line is named{due}", with_interval(Quantity::Bytes, *growth))
        }
        Doubt::Ended { measured_s, wanted_s } => {
            format!("the program ended after {} of {}", human::seconds(*measured_s), human::seconds(*wanted_s))
        }
        Doubt::OtherModule { baseline, found } => format!(
            "the baseline is of another program: {}, this is {}",
            untrusted::name(baseline),
            untrusted::name(found)
        ),
        Doubt::LessEvidence { missing } => {
            format!("the baseline was made with more evidence: {} is missing", untrusted::name(missing))
        }
        Doubt::BaselineLessEvidence { quantity, is_of_lines } => {
            let of = match (quantity, is_of_lines) {
                (Quantity::Bytes, true) => "the lines that hold the heap",
                (Quantity::Goroutines, true) => "the lines that start goroutines",
                _ => noun(*quantity),
            };
            format!("the baseline does not know of {of}, so what grows there cannot be compared: write it anew")
        }
        Doubt::AmongMany { sites } => {
            format!("a line leaks by its verdict, but among {sites} that may be chance: measure for longer")
        }
    }
}
