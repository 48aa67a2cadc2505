//! The runtime's heap profile of a process as a pprof file, sample by sample as Go's own writer makes it (`writeHeapProto` in
//! runtime/pprof/protomem.go).

use std::collections::HashMap;
use std::sync::Arc;

use super::pprof::{Function, Line, Location, Mapping, Profile, Sample, ValueType};
use crate::model::profile::{allocated, in_use, unsample};
use crate::read::profile::Counts;
use crate::symbolize::{self, Recorded};

/// In front of the main module's path, in a comment of our files: so that `leakline diff` finds the lines to change.
pub(super) const MAIN_MODULE: &str = "leakline main module: ";

/// In front of what the counts are of, in a comment of our files: so that `leakline diff` does not compare unlike things.
const COUNTS: &str = "leakline counts: ";
/// In front of the time of the collection that the counts are as of.
const AS_OF: &str = "leakline counts as of unix ns: ";

/// What the counts of a file are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountsOf {
    /// All that is in use, as of a collection.
    Published,
    /// All that was allocated until the file was made and is not known to be dead.
    Newest,
    /// As `Newest`, of what was allocated while we had the sampler on.
    Adopted,
}

impl CountsOf {
    const ALL: [Self; 3] = [Self::Published, Self::Newest, Self::Adopted];

    /// As in the file.
    const fn name(self) -> &'static str {
        match self {
            Self::Published => "as of a collection",
            Self::Newest => "until now",
            Self::Adopted => "while the sampler was on",
        }
    }
}

/// What a file of ours says its counts are of. `None`: it does not say.
pub fn counts_of(profile: &Profile) -> Option<CountsOf> {
    let name = comment(profile, COUNTS)?;
    CountsOf::ALL.into_iter().find(|counts| counts.name() == name)
}

/// When the collection ended that the counts of a file of ours are as of, ns since 1970. `None`: it does not say.
pub fn as_of_unix_ns(profile: &Profile) -> Option<i64> {
    comment(profile, AS_OF)?.parse().ok()
}

fn comment<'a>(profile: &'a Profile, start: &str) -> Option<&'a str> {
    profile.comments.iter().find_map(|comment| comment.strip_prefix(start))
}

/// What a file is made of.
#[derive(Clone, Debug)]
pub struct HeapProfileFile<'a> {
    /// Mean bytes between two samples.
    pub rate_bytes: i64,
    /// When, ns since 1970.
    pub time_unix_ns: i64,
    /// How long the sampler was on, ns; 0: since the program began.
    pub duration_ns: i64,
    /// Executable mappings.
    pub mappings: Vec<Mapping>,
    /// The named stacks.
    pub recorded: &'a Recorded,
    /// For each stack: bytes of each object, and the samples.
    pub counts: Vec<(u64, Counts)>,
    /// The user's own module.
    pub main_module: Option<&'a str>,
    /// What the counts are of.
    pub counts_of: CountsOf,
    /// When the collection ended that they are as of, ns since 1970. `None`: not known, or they are of now.
    pub as_of_unix_ns: Option<u64>,
    /// More that a reader should know.
    pub comments: Vec<String>,
}

/// The module that a file of ours names. `None`: it is not ours, or the binary did not say.
pub fn main_module(profile: &Profile) -> Option<&str> {
    comment(profile, MAIN_MODULE)
}

impl HeapProfileFile<'_> {
    /// The profile, stacks of which nothing was ever allocated left out.
    pub fn profile(&self) -> Profile {
        let mut functions = Functions::default();
        let mut mappings = self.mappings.clone();
        // As Go does: where all locations of a mapping, and at least one, have functions.
        let (mut named, mut unnamed) = (vec![false; mappings.len()], vec![false; mappings.len()]);
        let mut locations = Vec::with_capacity(self.recorded.locations.len());
        for location in &self.recorded.locations {
            // Within the call, where viewers look for its line.
            let address = location.return_address.0.saturating_sub(1);
            let mapping = mappings.iter().position(|mapping| (mapping.start..mapping.end).contains(&address));
            let flags = if location.lines.is_empty() { &mut unnamed } else { &mut named };
            if let Some(flag) = mapping.and_then(|place| flags.get_mut(place)) {
                *flag = true;
            }
            let lines = location.lines.iter().map(|line| functions.line(line)).collect();
            locations.push(Location { mapping, address, lines });
        }
        for (mapping, (named, unnamed)) in mappings.iter_mut().zip(named.into_iter().zip(unnamed)) {
            mapping.has_functions = named && !unnamed;
        }
        let samples = self.recorded.stacks.iter().zip(&self.counts).filter(|(_, (_, counts))| counts.allocs > 0);
        let module = self.main_module.map(|module| format!("{MAIN_MODULE}{module}"));
        let as_of = self.as_of_unix_ns.map(|time| format!("{AS_OF}{time}"));
        let facts = [Some(format!("{COUNTS}{}", self.counts_of.name())), as_of, module];
        Profile {
            sample_types: ValueType::of_heap(),
            shown_first: "".into(),
            period_type: ValueType::new("space", "bytes"),
            period: self.rate_bytes,
            time_unix_ns: self.time_unix_ns,
            duration_ns: self.duration_ns,
            mappings,
            functions: functions.all,
            locations,
            samples: samples.map(|(stack, (size, counts))| self.sample(stack, *size, *counts)).collect(),
            comments: self.comments.iter().cloned().chain(facts.into_iter().flatten()).map(Arc::from).collect(),
        }
    }

    fn sample(&self, stack: &[usize], size_bytes: u64, counts: Counts) -> Sample {
        let allocated = unsample(allocated(counts), self.rate_bytes);
        let in_use = unsample(in_use(counts), self.rate_bytes);
        let values = [allocated.objects, allocated.bytes, in_use.objects, in_use.bytes];
        Sample {
            locations: stack.to_vec(),
            values: values.map(signed).into(),
            size_bytes: Some(signed(size_bytes)).filter(|size| *size != 0),
            labels: Vec::new(),
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Functions by name, as Go's writer keeps them.
#[derive(Debug, Default)]
struct Functions {
    all: Vec<Function>,
    numbers: HashMap<Arc<str>, usize>,
}

impl Functions {
    fn line(&mut self, line: &symbolize::Line) -> Line {
        let number = self.numbers.get(&line.symbol).copied().unwrap_or_else(|| {
            let number = self.all.len();
            self.all.push(Function {
                name: Arc::clone(&line.symbol),
                file: Arc::clone(&line.frame.file),
                start_line: line.frame.function_start_line.into(),
            });
            self.numbers.insert(Arc::clone(&line.symbol), number);
            number
        });
        Line { function: number, line: line.frame.line.into() }
    }
}
