//! A report as a pprof file: what is alive, and what of it grew in the window, stack by stack, with the verdicts as labels
//! and comments.
//!
//! `growth_space` is a claim about lines, so that it has those only that are said to grow: their rate times the window,
//! divided among a site's stacks as what is alive is. The hooks of `exact` see allocations and no deaths: then it is
//! `alloc_space`. The file of `leakline snapshot` has what the runtime itself has counted instead.

use std::collections::HashMap;
use std::sync::Arc;

use super::heap_profile::MAIN_MODULE;
use super::pprof::{Function, Line, Location, Mapping, Profile, Sample, ValueType};
use super::{Report, human, untrusted};
use crate::model::judged::{Judged, judged};
use crate::model::verdict::Verdict;
use crate::model::{ExactCounts, Rate, Snapshot};
use crate::symbolize::Frame;

/// Lines of which the comments say something.
const COMMENTED_MAX: usize = 50;

/// The report as a profile. `mappings`: where its program was, the program's own first.
pub fn of(report: &Report, mappings: Vec<Mapping>) -> Profile {
    let snapshot = &*report.snapshot;
    let mut stacks = Stacks { has_mapping: !mappings.is_empty(), ..Stacks::default() };
    let judged = judged(snapshot);
    let (kinds, shown_first): (&[(&str, &str)], &str) = if let Some(exact) = &snapshot.exact {
        stacks.count(exact);
        (&[("alloc_objects", "count"), ("alloc_space", "bytes")], "alloc_space")
    } else {
        for site in &judged {
            stacks.judge(site, snapshot.window_s);
        }
        let grows = judged.iter().any(|site| growth(site).is_some());
        let shown_first = if grows { "growth_space" } else { "inuse_space" };
        (&[("inuse_objects", "count"), ("inuse_space", "bytes"), ("growth_space", "bytes")], shown_first)
    };
    let rate_bytes = snapshot.profile.as_ref().map_or(1, |profile| profile.rate_bytes);
    // Each location has its lines: viewers need no symbol table.
    let mappings = mappings.into_iter().take(1).map(|mapping| Mapping { has_functions: true, ..mapping });
    Profile {
        sample_types: kinds.iter().map(|(kind, unit)| ValueType::new(kind, unit)).collect(),
        shown_first: shown_first.into(),
        period_type: ValueType::new("space", "bytes"),
        period: rate_bytes,
        time_unix_ns: i64::try_from(report.started_unix_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000),
        duration_ns: whole(snapshot.window_s * 1e9),
        mappings: mappings.collect(),
        functions: stacks.functions,
        locations: stacks.locations,
        samples: stacks.samples,
        comments: comments(report, &judged).into_iter().map(Arc::from).collect(),
    }
}

/// What of a site's growth is said to be growth, bytes per second.
fn growth(site: &Judged<'_>) -> Option<Rate> {
    site.growth.filter(|_| site.verdict >= Verdict::WarmingUp).map(|growth| growth.growth_bytes_per_s)
}

fn comments(report: &Report, judged: &[Judged<'_>]) -> Vec<String> {
    let snapshot = &*report.snapshot;
    let process = &report.process;
    let exe = untrusted::path(&process.exe);
    let mut comments = vec![format!("leakline attach of process {} ({exe}): {:.1} s", process.pid, snapshot.window_s)];
    comments.extend(outlook(snapshot));
    for site in judged.iter().take(COMMENTED_MAX) {
        let Some(rate) = growth(site) else { continue };
        let place = site.place;
        comments.push(format!(
            "{}: {} {}:{}, {}, site {}",
            site.verdict.name(),
            untrusted::name(&place.function),
            untrusted::path(&place.file),
            place.line,
            per_second(rate),
            site.id,
        ));
    }
    comments.extend(report.refusals.iter().map(|refusal| format!("not measured: {}", untrusted::name(&refusal.text))));
    comments.extend(process.main_module.as_ref().map(|module| format!("{MAIN_MODULE}{}", untrusted::name(module))));
    comments.into_iter().map(|comment| comment.replace('\u{a0}', " ")).collect()
}

/// What is said of the process as a whole.
fn outlook(snapshot: &Snapshot) -> Vec<String> {
    let Some(assessment) = snapshot.assessment.as_deref() else { return Vec::new() };
    let heap = assessment.total.rate().map_or_else(String::new, |rate| format!(", {}", per_second(rate)));
    let mut said = vec![format!("heap: {}{heap}", assessment.verdict.name())];
    if let Some(forecast) = snapshot.forecast {
        let Rate { value, low, high } = forecast.seconds;
        let high = high.map_or_else(|| "never".to_owned(), human::seconds);
        said.push(format!(
            "the limit of {} ({}) is reached in {} ({} to {high})",
            human::bytes(human::approximate(forecast.limit.bytes)),
            forecast.limit.source.name(),
            human::seconds(value),
            human::seconds(low),
        ));
    }
    said
}

fn per_second(rate: Rate) -> String {
    let high = rate.high.map_or_else(|| "more".to_owned(), human::bytes);
    format!("{}/s ({} to {high})", human::bytes(rate.value), human::bytes(rate.low))
}

/// Samples and what they refer to, each place once.
#[derive(Debug, Default)]
struct Stacks {
    has_mapping: bool,
    functions: Vec<Function>,
    known_functions: HashMap<(Arc<str>, Arc<str>), usize>,
    locations: Vec<Location>,
    known_locations: HashMap<Vec<Line>, usize>,
    samples: Vec<Sample>,
}

impl Stacks {
    fn judge(&mut self, site: &Judged<'_>, window_s: f64) {
        let grown = growth(site).map_or(0.0, |rate| rate.value.max(0.0) * window_s);
        let held = site.live.map_or([0.0; 2], |live| [human::approximate(live.objects), live.bytes.value]);
        let totals = [held[0], held[1], grown];
        let labels = vec![("verdict", site.verdict.name().into()), ("site", site.id.to_string().into())];
        // Of what is rounded each stack has its part, and all of them have the total.
        let mut share = 0.0;
        for path in site.paths {
            let (before, behind) = (share, share + path.share);
            let values = totals.map(|total| whole(total * behind) - whole(total * before)).to_vec();
            share = behind;
            self.add(&path.frames, values, labels.clone());
        }
    }

    fn count(&mut self, exact: &ExactCounts) {
        for site in &exact.sites {
            for path in &site.paths {
                let values = [path.counted.objects, path.counted.bytes];
                let values = values.map(|count| i64::try_from(count).unwrap_or(i64::MAX)).to_vec();
                self.add(&path.frames, values, vec![("site", site.id.to_string().into())]);
            }
        }
    }

    fn add(&mut self, frames: &[Frame], values: Vec<i64>, labels: Vec<(&'static str, Arc<str>)>) {
        let mut locations = Vec::with_capacity(frames.len());
        // What is inlined is of one address with what it is inlined into, the frame that follows.
        for frames in frames.split_inclusive(|frame| !frame.inlined) {
            locations.push(self.location(frames));
        }
        self.samples.push(Sample { locations, values, size_bytes: None, labels });
    }

    fn location(&mut self, frames: &[Frame]) -> usize {
        let lines: Vec<Line> =
            frames.iter().map(|frame| Line { function: self.function(frame), line: frame.line.into() }).collect();
        let next = self.locations.len();
        let number = *self.known_locations.entry(lines.clone()).or_insert(next);
        if number == next {
            self.locations.push(Location { mapping: self.has_mapping.then_some(0), address: 0, lines });
        }
        number
    }

    fn function(&mut self, frame: &Frame) -> usize {
        let next = self.functions.len();
        let key = (Arc::clone(&frame.function), Arc::clone(&frame.file));
        let number = *self.known_functions.entry(key).or_insert(next);
        if number == next {
            self.functions.push(Function {
                name: Arc::clone(&frame.function),
                file: Arc::clone(&frame.file),
                start_line: frame.function_start_line.into(),
            });
        }
        number
    }
}

/// The nearest whole number.
#[expect(clippy::cast_possible_truncation, reason = "a cast takes what is too large to the largest")]
fn whole(value: f64) -> i64 {
    value.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixture;

    fn sum(profile: &Profile, kind: &str) -> i64 {
        let position = profile.position(kind).unwrap();
        profile.samples.iter().map(|sample| sample.values[position]).sum()
    }

    #[test]
    fn values_sum_to_what_is_alive_and_to_rate_times_window() {
        let mut snapshot = fixture::growing();
        let profile = snapshot.profile.as_mut().unwrap();
        let mut sites = profile.sites.to_vec();
        let path = sites[0].paths[0].clone();
        let part = |share, line| {
            let mut path = path.clone();
            path.frames[0].line = line;
            path.share = share;
            path
        };
        sites[0].paths = vec![part(1.0 / 3.0, 1), part(1.0 / 3.0, 2), part(1.0 / 3.0, 3)];
        profile.sites = sites.into();
        let profile = of(&fixture::report_of(snapshot), Vec::new());
        assert_eq!(sum(&profile, "inuse_space"), 39_000_000);
        assert_eq!(sum(&profile, "inuse_objects"), 750_000);
        assert_eq!(sum(&profile, "growth_space"), 98_000 * 30);
        assert_eq!((profile.samples.len(), &*profile.shown_first), (4, "growth_space"));
        let leaking: Vec<_> = profile.samples.iter().filter(|sample| *sample.labels[0].1 == *"leaking").collect();
        assert_eq!(leaking.iter().map(|sample| sample.values[2]).collect::<Vec<_>>(), [980_000; 3]);
    }

    #[test]
    fn comments_say_what_leaks_and_until_when() {
        let profile = of(&fixture::report_of(fixture::growing()), Vec::new());
        let comments: Vec<&str> = profile.comments.iter().map(|comment| &**comment).collect();
        assert_eq!(
            comments,
            [
                "leakline attach of process 4711 (/srv/shop): 30.0 s",
                "heap: leaking, 117 KiB/s (107 KiB to 127 KiB)",
                "the limit of 512 MiB (cgroup) is reached in 34 min 6 s (31 min 29 s to 37 min 12 s)",
                "leaking: main.(*store).put /src/shop/store.go:42, 95.7 KiB/s (88.9 KiB to 103 KiB), site 3f9c2a1b77d0e4c1",
                "not measured: this version does not read the runtime's books",
                "leakline main module: example.com/shop",
            ]
        );
    }

    #[test]
    fn what_only_may_grow_is_no_growth() {
        let mut snapshot = fixture::growing();
        let assessment = snapshot.assessment.as_mut().map(Arc::make_mut).unwrap();
        assessment.sites[0].verdict = Verdict::Steady;
        let profile = of(&fixture::report_of(snapshot), Vec::new());
        assert_eq!((sum(&profile, "growth_space"), &*profile.shown_first), (0, "inuse_space"));
        assert!(!profile.comments.iter().any(|comment| comment.contains("main.(*store).put")));
    }

    #[test]
    fn what_hooks_counted_is_what_was_allocated() {
        let profile = of(&fixture::report(), Vec::new());
        let counts = fixture::counts();
        let bytes: u64 = counts.sites.iter().flat_map(|site| &site.paths).map(|path| path.counted.bytes).sum();
        assert_eq!(sum(&profile, "alloc_space"), i64::try_from(bytes).unwrap());
        // An inlined call is of one location with the frame that follows.
        let lines: Vec<usize> =
            profile.samples[0].locations.iter().map(|place| profile.locations[*place].lines.len()).collect();
        assert_eq!(lines, [1, 2, 1, 1]);
    }

    #[test]
    fn without_names_it_is_empty_and_says_why() {
        let snapshot = Snapshot { profile: None, ..fixture::growing() };
        let profile = of(&fixture::report_of(snapshot), Vec::new());
        assert!(profile.samples.is_empty() && profile.to_bytes().is_ok());
        assert!(profile.comments.iter().any(|comment| comment.starts_with("not measured: ")));
    }
}
