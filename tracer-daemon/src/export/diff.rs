//! `leakline diff`: from two pprof files to stacks that the model compares, and what it found as JSON and as a pprof file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Serialize;

use super::json::SCHEMA;
use super::pprof::{Function, Line, Location, Profile, Sample, ValueType};
use super::untrusted;
use crate::model::profile_change::{Amount, Change, ProfileChange, ProfileStack, SiteChange};
use crate::symbolize::names::{GenericMethods, for_print};
use crate::symbolize::{Frame, Origin};

pub use super::heap_profile::{CountsOf, main_module};
use super::heap_profile::{as_of_unix_ns, counts_of};

/// Sites in JSON.
const SITES_MAX: usize = 10_000;
/// Stacks of one site in JSON.
const PATHS_MAX: usize = 20;
/// Most frames of one stack.
const FRAMES_MAX: usize = 4096;

/// Why two profiles cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiffError {
    /// It is a profile of something else.
    #[error("not a heap profile: it has no {missing}, but {}", .found.join(", "))]
    NoHeapProfile {
        /// Which values are missing.
        missing: &'static str,
        /// What it has.
        found: Vec<String>,
    },
}

/// What is said about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Its name, escaped.
    pub name: String,
    /// When it was made, ns since 1970; 0: not known.
    pub time_unix_ns: i64,
    /// Mean bytes between two samples.
    pub rate_bytes: i64,
    /// What its counts are of. `None`: it does not say, being none of ours.
    pub counts_of: Option<CountsOf>,
    /// When the collection ended that they are as of, ns since 1970. `None`: not known, or they are of when it was made.
    pub as_of_unix_ns: Option<i64>,
}

impl FileFacts {
    /// Of a profile that was read from a file of this name.
    pub fn of(name: String, profile: &Profile) -> Self {
        Self {
            name,
            time_unix_ns: profile.time_unix_ns,
            rate_bytes: profile.period,
            counts_of: counts_of(profile),
            as_of_unix_ns: as_of_unix_ns(profile),
        }
    }
}

/// Where the four values of a heap profile stand.
struct Positions {
    alloc_objects: usize,
    alloc_space: usize,
    inuse_objects: usize,
    inuse_space: usize,
}

impl Positions {
    fn of(profile: &Profile) -> Result<Self, DiffError> {
        let position = |kind: &'static str| {
            profile.position(kind).ok_or_else(|| DiffError::NoHeapProfile {
                missing: kind,
                found: profile
                    .sample_types
                    .iter()
                    .map(|known| format!("{}/{}", untrusted::name(&known.kind), untrusted::name(&known.unit)))
                    .collect(),
            })
        };
        Ok(Self {
            inuse_space: position("inuse_space")?,
            inuse_objects: position("inuse_objects")?,
            alloc_space: position("alloc_space")?,
            alloc_objects: position("alloc_objects")?,
        })
    }
}

/// The stacks of a heap profile, as the model takes them.
///
/// # Errors
/// Where it is a profile of something else.
pub fn stacks(profile: &Profile) -> Result<Vec<ProfileStack>, DiffError> {
    let positions = Positions::of(profile)?;
    let mut frames = FramesOf { profile, printed: HashMap::new() };
    let stack = |sample: &Sample| {
        let value = |position: usize| sample.values.get(position).copied().unwrap_or(0);
        let amount = |objects, bytes| Amount { objects: value(objects), bytes: value(bytes) };
        ProfileStack {
            frames: frames.of(sample),
            in_use: amount(positions.inuse_objects, positions.inuse_space),
            allocated: amount(positions.alloc_objects, positions.alloc_space),
        }
    };
    Ok(profile.samples.iter().map(stack).collect())
}

/// Makes frames of a profile's lines.
struct FramesOf<'a> {
    profile: &'a Profile,
    /// The name of each function as Go prints it.
    printed: HashMap<usize, Arc<str>>,
}

impl FramesOf<'_> {
    fn of(&mut self, sample: &Sample) -> Vec<Frame> {
        let mut frames = Vec::new();
        for location in sample.locations.iter().filter_map(|place| self.profile.locations.get(*place)) {
            if frames.len() >= FRAMES_MAX {
                break;
            }
            if location.lines.is_empty() {
                frames.push(Frame::unknown());
            }
            let last = location.lines.len().saturating_sub(1);
            for (index, line) in location.lines.iter().enumerate() {
                frames.extend(self.frame(line, index < last));
            }
        }
        frames
    }

    fn frame(&mut self, line: &Line, inlined: bool) -> Option<Frame> {
        let function = self.profile.functions.get(line.function)?;
        let printed = || Arc::from(&*for_print(&function.name, GenericMethods::Present));
        let name = Arc::clone(self.printed.entry(line.function).or_insert_with(printed));
        let number = |value: i64| u32::try_from(value).unwrap_or(0);
        Some(Frame {
            function: name,
            file: Arc::clone(&function.file),
            line: number(line.line),
            function_start_line: number(function.start_line),
            inlined,
            origin: if function.file.is_empty() { Origin::Unknown } else { Origin::Go },
        })
    }
}

/// The second profile less the first, stack by stack and size by size, as a profile. Places in the source are what counts, not
/// addresses: the two may be of different processes.
pub fn profile(before: &Profile, after: &Profile) -> Profile {
    let mut difference = Difference::default();
    let time_between = after.time_unix_ns.saturating_sub(before.time_unix_ns);
    for (profile, sign) in [(before, -1), (after, 1)] {
        difference.add(profile, sign);
    }
    let samples = difference.samples.into_iter().filter(|(_, values)| values.iter().any(|value| *value != 0));
    Profile {
        sample_types: ValueType::of_heap(),
        shown_first: "".into(),
        period_type: after.period_type.clone(),
        period: after.period,
        time_unix_ns: after.time_unix_ns,
        duration_ns: time_between.max(0),
        // Viewers want to know the program. All that has lines is taken to be of it.
        mappings: after.mappings.first().cloned().into_iter().collect(),
        functions: difference.functions,
        locations: difference.locations,
        samples: samples
            .map(|((locations, size_bytes), values)| Sample {
                locations,
                values: values.into(),
                size_bytes,
                labels: Vec::new(),
            })
            .collect(),
        comments: vec!["leakline diff: the second profile less the first".into()],
    }
}

/// The places of a stack, and the size of its objects.
type SampleKey = (Vec<usize>, Option<i64>);

#[derive(Debug, Default)]
struct Difference {
    functions: Vec<Function>,
    known_functions: HashMap<(Arc<str>, Arc<str>), usize>,
    locations: Vec<Location>,
    known_locations: HashMap<(u64, Vec<(usize, i64)>), usize>,
    samples: BTreeMap<SampleKey, [i64; 4]>,
}

impl Difference {
    fn add(&mut self, profile: &Profile, sign: i64) {
        let Ok(positions) = Positions::of(profile) else { return };
        let positions =
            [positions.alloc_objects, positions.alloc_space, positions.inuse_objects, positions.inuse_space];
        let functions: Vec<usize> = profile.functions.iter().map(|function| self.function(function)).collect();
        let has_mapping = !profile.mappings.is_empty();
        let locations: Vec<usize> =
            profile.locations.iter().map(|location| self.location(location, &functions, has_mapping)).collect();
        for sample in &profile.samples {
            let places = sample.locations.iter().filter_map(|place| locations.get(*place).copied()).collect();
            let sums = self.samples.entry((places, sample.size_bytes)).or_default();
            for (sum, position) in sums.iter_mut().zip(positions) {
                let value = sample.values.get(position).copied().unwrap_or(0);
                *sum = sum.saturating_add(value.saturating_mul(sign));
            }
        }
    }

    fn function(&mut self, function: &Function) -> usize {
        let next = self.functions.len();
        let key = (Arc::clone(&function.name), Arc::clone(&function.file));
        let number = *self.known_functions.entry(key).or_insert(next);
        if number == next {
            self.functions.push(function.clone());
        }
        number
    }

    fn location(&mut self, location: &Location, functions: &[usize], has_mapping: bool) -> usize {
        let next = self.locations.len();
        let line = |line: &Line| Some((*functions.get(line.function)?, line.line));
        let lines: Vec<(usize, i64)> = location.lines.iter().filter_map(line).collect();
        // An address is all that is known of a place without lines.
        let address = if lines.is_empty() { location.address } else { 0 };
        let number = *self.known_locations.entry((address, lines.clone())).or_insert(next);
        if number == next {
            let mapping = (has_mapping && !lines.is_empty()).then_some(0);
            let lines = lines.into_iter().map(|(function, line)| Line { function, line }).collect();
            self.locations.push(Location { mapping, address, lines });
        }
        number
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    diff: DiffDocument<'a>,
}

#[derive(Serialize)]
struct DiffDocument<'a> {
    before: FileDocument<'a>,
    after: FileDocument<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_s: Option<f64>,
    in_use: ChangeDocument,
    allocated: ChangeDocument,
    sites: Vec<SiteDocument>,
    #[serde(skip_serializing_if = "is_zero")]
    sites_left_out: usize,
}

#[derive(Serialize)]
struct FileDocument<'a> {
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_unix_ms: Option<i64>,
    rate_bytes: i64,
}

#[derive(Serialize)]
struct ChangeDocument {
    before: AmountDocument,
    after: AmountDocument,
    change: AmountDocument,
}

#[derive(Serialize)]
struct AmountDocument {
    objects: i64,
    bytes: i64,
}

#[derive(Serialize)]
struct SiteDocument {
    site: String,
    #[serde(flatten)]
    place: FrameDocument,
    allocator: FrameDocument,
    in_use: ChangeDocument,
    allocated: ChangeDocument,
    paths: Vec<PathDocument>,
    #[serde(skip_serializing_if = "is_zero")]
    paths_left_out: usize,
}

#[derive(Serialize)]
struct PathDocument {
    in_use: ChangeDocument,
    frames: Vec<StackFrameDocument>,
}

#[derive(Serialize)]
struct FrameDocument {
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
struct StackFrameDocument {
    #[serde(flatten)]
    frame: FrameDocument,
    inlined: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl From<Amount> for AmountDocument {
    fn from(amount: Amount) -> Self {
        Self { objects: amount.objects, bytes: amount.bytes }
    }
}

impl From<Change> for ChangeDocument {
    fn from(change: Change) -> Self {
        Self { before: change.before.into(), after: change.after.into(), change: change.difference().into() }
    }
}

impl From<&Frame> for FrameDocument {
    fn from(frame: &Frame) -> Self {
        Self {
            function: untrusted::name(&frame.function).into_owned(),
            file: Some(untrusted::path(&frame.file).into_owned()).filter(|file| !file.is_empty()),
            line: Some(frame.line).filter(|line| *line > 0),
        }
    }
}

impl From<&SiteChange> for SiteDocument {
    fn from(site: &SiteChange) -> Self {
        let frame = |frame: &Frame| StackFrameDocument { frame: frame.into(), inlined: frame.inlined };
        Self {
            site: site.id.to_string(),
            place: (&site.place).into(),
            allocator: (&site.allocator).into(),
            in_use: site.in_use.into(),
            allocated: site.allocated.into(),
            paths: site
                .paths
                .iter()
                .take(PATHS_MAX)
                .map(|path| PathDocument {
                    in_use: path.in_use.into(),
                    frames: path.frames.iter().map(frame).collect(),
                })
                .collect(),
            paths_left_out: site.paths.len().saturating_sub(PATHS_MAX),
        }
    }
}

/// Why the difference of two files is not what grew between them. `None`: nothing is known against it.
pub fn unlike(before: &FileFacts, after: &FileFacts) -> Option<&'static str> {
    match (before.counts_of?, after.counts_of?) {
        (CountsOf::Adopted, CountsOf::Adopted) => Some(
            "each file knows only what was allocated while its own sampler was on (--adopt-sampler): the difference is not \
             growth, look at each by itself",
        ),
        (before, after) if before != after => Some(
            "the files count different things, one as of a collection, the other with garbage (--newest) or of a sampler \
             that was on for a while (--adopt-sampler): the difference is not growth, make both in the same way",
        ),
        _ => None,
    }
}

/// Between the moments that the two files are of, seconds; `None` where they are not known, or mean nothing.
pub(super) fn window_s(before: &FileFacts, after: &FileFacts) -> Option<f64> {
    if unlike(before, after).is_some() {
        return None;
    }
    // A file that is not ours does not say how old its counts are: then as old as those of the other.
    let both_say = before.counts_of.is_some() && after.counts_of.is_some();
    let [before, after] = [before, after]
        .map(|file| file.as_of_unix_ns.filter(|_| both_say && file.time_unix_ns > 0).unwrap_or(file.time_unix_ns));
    let nanoseconds = after.checked_sub(before).filter(|_| before > 0 && after > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "shown with a few digits")]
    Some(nanoseconds as f64 / 1e9)
}

/// One line of JSON without the line feed.
///
/// # Errors
/// None that is known: it is written to memory.
pub fn line(change: &ProfileChange, before: &FileFacts, after: &FileFacts) -> serde_json::Result<String> {
    fn file(facts: &FileFacts) -> FileDocument<'_> {
        let time_unix_ms = Some(facts.time_unix_ns / 1_000_000).filter(|time| *time > 0);
        FileDocument { file: &facts.name, time_unix_ms, rate_bytes: facts.rate_bytes }
    }
    serde_json::to_string(&Document {
        schema: SCHEMA,
        diff: DiffDocument {
            before: file(before),
            after: file(after),
            window_s: window_s(before, after),
            in_use: change.in_use.into(),
            allocated: change.allocated.into(),
            sites: change.sites.iter().take(SITES_MAX).map(SiteDocument::from).collect(),
            sites_left_out: change.sites.len().saturating_sub(SITES_MAX),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(counts_of: Option<CountsOf>, made_s: i64, as_of_s: Option<i64>) -> FileFacts {
        FileFacts {
            name: String::new(),
            time_unix_ns: made_s * 1_000_000_000,
            rate_bytes: 524_288,
            counts_of,
            as_of_unix_ns: as_of_s.map(|seconds| seconds * 1_000_000_000),
        }
    }

    #[test]
    fn growth_is_between_the_moments_that_are_counted() {
        let published = Some(CountsOf::Published);
        let window = |before: &FileFacts, after: &FileFacts| window_s(before, after);
        assert_eq!(window(&file(published, 100, Some(40)), &file(published, 110, Some(105))), Some(65.0));
        assert_eq!(window(&file(published, 100, Some(40)), &file(published, 110, Some(40))), Some(0.0));
        assert_eq!(window(&file(published, 30, None), &file(published, 110, Some(40))), Some(10.0));
        assert_eq!(window(&file(None, 100, None), &file(published, 110, Some(40))), Some(10.0));
        assert_eq!(window(&file(None, 100, None), &file(None, 110, None)), Some(10.0));
        assert_eq!(window(&file(None, 0, None), &file(None, 110, None)), None);
    }

    #[test]
    fn what_counts_other_things_has_not_grown() {
        let [published, newest, adopted] = [CountsOf::Published, CountsOf::Newest, CountsOf::Adopted].map(Some);
        for (before, after) in [(published, newest), (newest, adopted), (adopted, adopted)] {
            let [before, after] = [file(before, 100, None), file(after, 110, None)];
            assert!(unlike(&before, &after).is_some() && window_s(&before, &after).is_none());
        }
        for (before, after) in [(published, published), (newest, newest), (None, adopted)] {
            assert_eq!(unlike(&file(before, 100, None), &file(after, 110, None)), None);
        }
    }
}
