//! Why a verdict is what it is: the numbers that it rests on, as one sentence in plain words.
//!
//! A sentence claims no more than was measured. Counterpart: `verdict` decides, `assess` fills in the numbers.

use std::fmt;

use super::Rate;
use super::marked::Restart;

/// Why something is said of a process, a size class, or a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Collections are missing.
    NeedsCollections {
        /// How many.
        collections: usize,
        /// How long they take at the present pace, seconds; `None`: none has ended yet.
        seconds: Option<f64>,
        /// Why what was known before does not count; `None`: nothing was.
        anew: Option<Restart>,
    },
    /// Time is missing.
    NeedsTime {
        /// Seconds.
        seconds: f64,
        /// As above.
        anew: Option<Restart>,
    },
    /// What is alive does not grow beyond chance.
    NoGrowth(Measured),
    /// It grows less than anybody need care.
    BelowFloor {
        /// By how much.
        measured: Measured,
        /// What is cared about, bytes per second.
        floor_bytes_per_s: f64,
    },
    /// It becomes less.
    Falls(Measured),
    /// It grew, and less and less.
    Slows(Measured),
    /// It grows.
    Grows(Measured),
    /// It grew over all of the time, a little above chance, and not in both halves of it.
    GrewOnce(Measured),
    /// A size class grows and nobody can be named yet.
    NeedsName {
        /// Bytes of a slot; `None`: large objects.
        size_bytes: Option<u64>,
        /// How fast.
        measured: Measured,
        /// When enough samples are due, seconds; `None`: nothing samples.
        seconds: Option<f64>,
    },
    /// A size class grows and samples do not: one of them is wrong.
    SamplesDisagree {
        /// Samples that the growth should have brought.
        expected: f64,
        /// Samples that came.
        samples: f64,
    },
    /// Samples grow and the size class does not: one of them is wrong, or it was chance.
    BooksDisagree {
        /// Samples that came.
        samples: f64,
    },
    /// A line's part of the growth is above chance, report after report and in both halves of what was seen.
    Leaks(Named),
    /// It grows, and that is all for now.
    Grew {
        /// By how much and how surely.
        named: Named,
        /// Why it is not said to leak.
        but: Doubt,
    },
    /// Said for one report more although the last one did not confirm it, or not yet said although it did.
    Unconfirmed,
    /// Its part of what grows is no more than chance.
    WithinChance {
        /// Samples more in use than before.
        samples: f64,
    },
    /// Evidence is missing for a reason that whoever collects it knows.
    Missing(&'static str),
}

/// A growth and what it was measured on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Bytes per second.
    pub bytes_per_s: Rate,
    /// Collections.
    pub collections: usize,
    /// Between the first and the last of them, seconds.
    pub window_s: f64,
}

/// The growth of one line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Named {
    /// Bytes per second.
    pub bytes_per_s: Rate,
    /// Samples more in use than before.
    pub samples: f64,
    /// Standard deviations of sampling above none.
    pub deviations: f64,
    /// Seconds over which.
    pub window_s: f64,
}

/// Why growth is not called a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// The samples are too few, or too near to chance.
    FewSamples,
    /// Other lines grow in the same size classes.
    Shared,
    /// Nothing was seen of the process for long enough.
    SeenTooShortly,
    /// The process is so young that what fills up looks the same.
    SinceStart,
    /// The process is younger than a program is taken to be warm.
    Young,
    /// The heap was larger before we looked.
    LargerBefore,
    /// It did not grow in both halves of what was seen.
    NotBefore,
    /// One more report has to say the same.
    Once,
}

impl fmt::Display for Doubt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::FewSamples => "these are too few samples to be sure of the line",
            Self::Shared => "other lines grow in the same size classes",
            Self::SeenTooShortly => "it was not seen for long enough to call it a leak",
            Self::SinceStart => "it has grown since the process began, which a cache that fills would do as well",
            Self::Young => "the process is young, and a program that warms up looks the same",
            Self::LargerBefore => "its heap was larger before, so that this may come down again",
            Self::NotBefore => "it did not grow in both halves of the time",
            Self::Once => "one more report has to say the same",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsCollections { collections, seconds, anew } => {
                let s = if *collections == 1 { "" } else { "s" };
                write!(formatter, "needs {collections} more GC cycle{s}")?;
                match seconds {
                    Some(seconds) => write!(formatter, ", about {} at the present pace", Seconds(*seconds))?,
                    None => formatter.write_str(", and none has ended yet")?,
                }
                since(*anew, formatter)
            }
            Self::NeedsTime { seconds, anew } => {
                write!(formatter, "needs {} more", Seconds(*seconds))?;
                since(*anew, formatter)
            }
            Self::NoGrowth(measured) => write!(formatter, "does not grow beyond chance: {measured}"),
            Self::BelowFloor { measured, floor_bytes_per_s } => {
                write!(formatter, "grows less than {}/s: {measured}", Bytes(*floor_bytes_per_s))
            }
            Self::Falls(measured) => write!(formatter, "falls: {measured}"),
            Self::Slows(measured) => {
                write!(formatter, "grew, and in the last third less than half as fast as before: {measured}")
            }
            Self::Grows(measured) => write!(formatter, "grows: {measured}"),
            Self::GrewOnce(measured) => write!(formatter, "grew: {measured}; {}", Doubt::NotBefore),
            Self::NeedsName { size_bytes, measured, seconds } => {
                match size_bytes {
                    Some(size) => {
                        write!(formatter, "objects of {} grow: {measured}", Bytes(crate::units::approximate(*size)))?;
                    }
                    None => write!(formatter, "large objects grow: {measured}")?,
                }
                match seconds {
                    Some(seconds) => write!(formatter, "; who allocates them needs about {} more", Seconds(*seconds)),
                    None => formatter.write_str("; who allocates them was not sampled"),
                }
            }
            Self::SamplesDisagree { expected, samples } => write!(
                formatter,
                "the books say that its size class grows by {expected:.0} samples, the profile has {samples:.0}: nobody is accused"
            ),
            Self::BooksDisagree { samples } => {
                write!(formatter, "{samples:.0} more samples are in use, and by the books its size classes do not grow")
            }
            Self::Leaks(named) => write!(formatter, "grew in both halves of the time, by {named}"),
            Self::Grew { named, but } => write!(formatter, "grew by {named}; {but}"),
            Self::Unconfirmed => formatter.write_str("the last two reports differ"),
            Self::WithinChance { samples } => {
                write!(formatter, "its part of what grows, {samples:+.0} samples, is no more than chance")
            }
            Self::Missing(what) => formatter.write_str(what),
        }
    }
}

fn since(anew: Option<Restart>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    match anew {
        None => Ok(()),
        Some(Restart::CountsFell) => {
            formatter.write_str("; its counts fell, so that what was known before does not count")
        }
        Some(Restart::ClockWentBack) => {
            formatter.write_str("; the clock went back, so that what was known before does not count")
        }
        Some(Restart::Gap { seconds }) => write!(
            formatter,
            "; nothing was read for {}, so that what was known before does not count",
            Seconds(crate::units::approximate(seconds))
        ),
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes_per_s, collections, window_s } = self;
        write!(formatter, "{} over {} and {collections} GC cycles", Interval(*bytes_per_s), Seconds(*window_s))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes_per_s, samples, deviations, window_s } = self;
        write!(
            formatter,
            "{} over {}, {samples:+.0} samples, {deviations:.1} standard deviations of sampling above none",
            Interval(*bytes_per_s),
            Seconds(*window_s)
        )
    }
}

struct Interval(Rate);

impl fmt::Display for Interval {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate { value, low, high } = self.0;
        write!(formatter, "{}/s ({} to ", Bytes(value), Bytes(low))?;
        match high {
            Some(high) => write!(formatter, "{})", Bytes(high)),
            None => formatter.write_str("any)"),
        }
    }
}

/// Bytes with a binary unit, of two or three digits.
struct Bytes(f64);

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut scaled = self.0;
        let mut units = UNITS.iter();
        let mut unit = units.next();
        while scaled.abs() >= 1023.5 {
            let Some(next) = units.next() else { break };
            scaled /= 1024.0;
            unit = Some(next);
        }
        let decimals = usize::from(scaled.abs() < 9.95 && scaled.fract() != 0.0);
        // Not "-0".
        write!(formatter, "{:.decimals$} {}", scaled + 0.0, unit.copied().unwrap_or_default())
    }
}

/// A length of time, in seconds, minutes or hours.
struct Seconds(f64);

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds < 119.5 => write!(formatter, "{:.0} s", seconds.ceil()),
            seconds if seconds < 119.5 * 60.0 => write!(formatter, "{:.0} min", seconds / 60.0),
            seconds => write!(formatter, "{:.1} h", seconds / 3600.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(reason: Reason, expected: &Expect) {
        expected.assert_eq(&reason.to_string());
    }

    #[test]
    fn sentences_say_what_was_measured() {
        let rate = Rate { value: 20480.0, low: 18000.0, high: Some(23000.0) };
        let measured = Measured { bytes_per_s: rate, collections: 24, window_s: 61.0 };
        let named = Named { bytes_per_s: rate, samples: 7.0, deviations: 5.23, window_s: 240.0 };
        check(
            Reason::NeedsCollections { collections: 3, seconds: Some(360.0), anew: None },
            &expect!["needs 3 more GC cycles, about 6 min at the present pace"],
        );
        check(
            Reason::NeedsCollections { collections: 1, seconds: None, anew: Some(Restart::Gap { seconds: 600 }) },
            &expect![
                "needs 1 more GC cycle, and none has ended yet; nothing was read for 10 min, so that what was known before does not count"
            ],
        );
        check(Reason::NeedsTime { seconds: 11.2, anew: None }, &expect!["needs 12 s more"]);
        check(
            Reason::NoGrowth(Measured {
                bytes_per_s: Rate { value: -20.0, low: -3000.0, high: Some(2960.0) },
                ..measured
            }),
            &expect!["does not grow beyond chance: -20 B/s (-2.9 KiB to 2.9 KiB) over 61 s and 24 GC cycles"],
        );
        check(
            Reason::NeedsName { size_bytes: Some(512), measured, seconds: Some(160.0) },
            &expect![
                "objects of 512 B grow: 20 KiB/s (18 KiB to 22 KiB) over 61 s and 24 GC cycles; who allocates them needs about 3 min more"
            ],
        );
        check(
            Reason::Leaks(named),
            &expect![
                "grew in both halves of the time, by 20 KiB/s (18 KiB to 22 KiB) over 4 min, +7 samples, 5.2 standard deviations of sampling above none"
            ],
        );
        check(
            Reason::Grew { named: Named { samples: 2.0, deviations: 1.4, ..named }, but: Doubt::FewSamples },
            &expect![
                "grew by 20 KiB/s (18 KiB to 22 KiB) over 4 min, +2 samples, 1.4 standard deviations of sampling above none; these are too few samples to be sure of the line"
            ],
        );
    }
}
