//! From counts per stack to counts per site.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use tracer_common::loss::Loss;

use super::{
    Counted, ExactCounts, GoroutineSite, LossCount, Path, Rate, Site, SiteId, Totals, Turnover,
    series::Series,
    site::{Creation, Placed, place_allocation, place_creation},
};
use crate::symbolize::Frame;

/// A named stack, leaf first, runtime frames included.
pub type Stack = Arc<[Frame]>;

/// Everything that was counted in a window, with names.
#[derive(Clone, Debug, Default)]
pub struct ExactInput {
    /// Length of the window, seconds.
    pub window_s: f64,
    /// The main module's path; None: only the packages named `main` are the user's.
    pub main_module: Option<Arc<str>>,
    /// Allocations by stack.
    pub allocations: Vec<(Stack, Counted)>,
    /// Goroutine creations, and the exits of those, by creation stack.
    pub goroutines: Vec<(Stack, Turnover)>,
    /// Exits of goroutines whose creation was not seen, by the frames of their `go` statement.
    pub exits_by_creator: Vec<(Stack, u64)>,
    /// What is right whatever was lost.
    pub totals: Totals,
    /// Losses by reason.
    pub losses: [u64; Loss::COUNT as usize],
    /// How much was allocated in each millisecond. `None`: nobody looked.
    pub series: Option<Arc<Series>>,
}

/// Groups stacks into sites. The sum of all sites and `other` equals the totals.
pub fn summarize(input: &ExactInput) -> ExactCounts {
    let sites = allocation_sites(input);
    let attributed = sites.iter().fold(Counted::default(), |sum, site| sum.plus(site.counted));
    let (goroutine_sites, system_goroutines) = goroutine_sites(input);
    let named = goroutine_sites.iter().fold(system_goroutines, |sum, site| sum.plus(site.counted));
    ExactCounts {
        window_s: input.window_s,
        sites,
        other: Counted {
            objects: input.totals.allocated.objects.saturating_sub(attributed.objects),
            bytes: input.totals.allocated.bytes.saturating_sub(attributed.bytes),
        },
        goroutine_sites,
        other_goroutines: Turnover {
            created: input.totals.goroutines.created.saturating_sub(named.created),
            exited: input.totals.goroutines.exited.saturating_sub(named.exited),
        },
        system_goroutines,
        exits_by_line_alone: input.exits_by_creator.iter().fold(0, |sum, (_, exits)| sum.saturating_add(*exits)),
        totals: input.totals,
        losses: Loss::ALL
            .into_iter()
            .map(|reason| LossCount { reason, count: input.losses[reason as usize] })
            .collect(),
        series: input.series.clone(),
    }
}

impl Counted {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { objects: self.objects.saturating_add(other.objects), bytes: self.bytes.saturating_add(other.bytes) }
    }
}

impl Turnover {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { created: self.created.saturating_add(other.created), exited: self.exited.saturating_add(other.exited) }
    }
}

struct SiteParts {
    place: Frame,
    allocator: Frame,
    paths: HashMap<Vec<Frame>, Counted>,
}

fn allocation_sites(input: &ExactInput) -> Vec<Site> {
    let mut parts: BTreeMap<SiteId, SiteParts> = BTreeMap::new();
    for (stack, counted) in &input.allocations {
        let Some(placed) = place_allocation(stack, input.main_module.as_deref()) else { continue };
        let Placed { id, place, allocator, frames } = placed;
        let site = parts.entry(id).or_insert_with(|| SiteParts { place, allocator, paths: HashMap::new() });
        let path = site.paths.entry(frames).or_default();
        *path = path.plus(*counted);
    }
    let mut sites: Vec<Site> = parts.into_iter().map(|(id, parts)| finish_site(id, parts, input.window_s)).collect();
    sites.sort_by(|a, b| (b.counted.bytes, a.id).cmp(&(a.counted.bytes, b.id)));
    sites
}

fn finish_site(id: SiteId, parts: SiteParts, window_s: f64) -> Site {
    let counted = parts.paths.values().fold(Counted::default(), |sum, &path| sum.plus(path));
    let mut paths: Vec<Path> = parts
        .paths
        .into_iter()
        .map(|(frames, path)| Path { share: share(path.bytes, counted.bytes), counted: path, frames })
        .collect();
    paths.sort_by(|a, b| b.counted.bytes.cmp(&a.counted.bytes).then_with(|| a.frames.cmp(&b.frames)));
    Site {
        id,
        place: parts.place,
        allocator: parts.allocator,
        counted,
        alloc_objects_per_s: per_second(counted.objects, window_s),
        alloc_bytes_per_s: per_second(counted.bytes, window_s),
        paths,
    }
}

struct CreationParts {
    place: Frame,
    counted: Turnover,
    /// The stack seen most, and how often.
    stack: (u64, Vec<Frame>),
}

fn goroutine_sites(input: &ExactInput) -> (Vec<GoroutineSite>, Turnover) {
    let mut system = Turnover::default();
    let mut parts: BTreeMap<SiteId, CreationParts> = BTreeMap::new();
    let exits = input.exits_by_creator.iter().map(|(stack, exited)| (stack, Turnover { created: 0, exited: *exited }));
    for (stack, counted) in input.goroutines.iter().map(|(stack, counted)| (stack, *counted)).chain(exits) {
        match place_creation(stack, input.main_module.as_deref()) {
            None => {}
            Some(Creation::Runtime) => system = system.plus(counted),
            Some(Creation::By(Placed { id, place, frames, .. })) => {
                let site = parts.entry(id).or_insert_with(|| CreationParts {
                    place,
                    counted: Turnover::default(),
                    stack: (0, Vec::new()),
                });
                site.counted = site.counted.plus(counted);
                let candidate = (counted.created, frames);
                // More creations win; between equals the smaller stack, so that the order of input does not matter.
                if site.stack.1.is_empty()
                    || candidate.0 > site.stack.0
                    || (candidate.0 == site.stack.0 && candidate.1 < site.stack.1)
                {
                    site.stack = candidate;
                }
            }
        }
    }
    let mut sites: Vec<GoroutineSite> = parts
        .into_iter()
        .map(|(id, parts)| GoroutineSite {
            id,
            place: parts.place,
            counted: parts.counted,
            created_per_s: per_second(parts.counted.created, input.window_s),
            creation_stack: parts.stack.1,
        })
        .collect();
    sites.sort_by(|a, b| (b.counted.created, b.counted.exited, a.id).cmp(&(a.counted.created, a.counted.exited, b.id)));
    (sites, system)
}

#[allow(clippy::cast_precision_loss, reason = "a rate of over 2^53 objects has other problems")]
fn per_second(count: u64, window_s: f64) -> Rate {
    Rate::counted(if window_s > 0.0 { count as f64 / window_s } else { 0.0 })
}

#[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::Origin;
    use proptest::prelude::*;

    fn frame(function: &str, line: u32) -> Frame {
        Frame {
            function: function.into(),
            file: "/src/a.go".into(),
            line,
            function_start_line: 1,
            inlined: function.contains("helper"),
            origin: Origin::Go,
        }
    }

    fn stack(frames: &[(&str, u32)]) -> Stack {
        frames.iter().map(|&(function, line)| frame(function, line)).collect()
    }

    fn input(allocations: Vec<(Stack, Counted)>) -> ExactInput {
        let allocated = allocations.iter().fold(Counted::default(), |sum, (_, counted)| sum.plus(*counted));
        ExactInput {
            window_s: 2.0,
            allocations,
            totals: Totals { allocated, ..Totals::default() },
            ..ExactInput::default()
        }
    }

    #[test]
    fn a_helper_inlined_at_three_places_is_one_site_with_three_paths() {
        let via = |caller: u32| stack(&[("runtime.mallocgc", 9), ("main.helper", 5), ("main.caller", caller)]);
        let counted = |objects| Counted { objects, bytes: objects * 64 };
        let snapshot = summarize(&input(vec![(via(20), counted(1)), (via(30), counted(6)), (via(40), counted(3))]));
        let [site] = snapshot.sites.as_slice() else { panic!("{:?}", snapshot.sites) };
        assert_eq!(site.counted, counted(10));
        assert_eq!(site.place.line, 5);
        let shares: Vec<(u32, f64)> = site.paths.iter().map(|path| (path.frames[1].line, path.share)).collect();
        assert_eq!(shares, [(30, 0.6), (40, 0.3), (20, 0.1)]);
        assert!((site.alloc_objects_per_s.value - 5.0).abs() < 1e-9);
    }

    #[test]
    fn what_has_no_stack_is_other() {
        let counted = Counted { objects: 3, bytes: 192 };
        let mut input = input(vec![(stack(&[("runtime.mallocgc", 1), ("main.f", 2)]), counted)]);
        input.totals.allocated = Counted { objects: 10, bytes: 1000 };
        assert_eq!(summarize(&input).other, Counted { objects: 7, bytes: 808 });
    }

    #[test]
    fn exits_of_older_goroutines_join_the_site_of_their_creating_line() {
        let creation =
            [("runtime.newproc.func1", 1), ("runtime.systemstack", 2), ("runtime.newproc", 3), ("main.f", 4)];
        let input = ExactInput {
            window_s: 1.0,
            goroutines: vec![(stack(&creation), Turnover { created: 5, exited: 2 })],
            exits_by_creator: vec![(stack(&[("main.f", 4)]), 7), (stack(&[("runtime.gcenable", 8)]), 1)],
            totals: Totals { goroutines: Turnover { created: 5, exited: 10 }, ..Totals::default() },
            ..ExactInput::default()
        };
        let snapshot = summarize(&input);
        assert_eq!(snapshot.goroutine_sites.len(), 1);
        assert_eq!(snapshot.goroutine_sites[0].counted, Turnover { created: 5, exited: 9 });
        assert_eq!(snapshot.system_goroutines, Turnover { created: 0, exited: 1 });
        assert_eq!(snapshot.other_goroutines, Turnover::default());
    }

    proptest! {
        #[test]
        fn sites_and_other_sum_to_the_totals_in_any_order(
            counts in prop::collection::vec((0usize..6, 0u32..4, 0u64..1000, 0u64..100_000), 0..60),
            extra in 0u64..50,
            seed in any::<u64>(),
        ) {
            let functions = ["main.a", "main.b", "encoding/json.c", "github.com/x/y.d", "runtime.e", "main.helper"];
            let mut allocations: Vec<(Stack, Counted)> = counts
                .into_iter()
                .map(|(function, line, objects, bytes)| {
                    (stack(&[("runtime.mallocgc", 1), (functions[function], line)]), Counted { objects, bytes })
                })
                .collect();
            let mut one = input(allocations.clone());
            one.totals.allocated.objects += extra;
            let first = summarize(&one);
            let sum = first.sites.iter().fold(first.other, |sum, site| sum.plus(site.counted));
            prop_assert_eq!(sum, one.totals.allocated);
            let shift = usize::try_from(seed % (allocations.len() as u64 + 1)).unwrap();
            allocations.rotate_left(shift);
            let mut other = input(allocations);
            other.totals.allocated.objects += extra;
            prop_assert_eq!(summarize(&other), first);
        }
    }
}
