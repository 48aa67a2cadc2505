//! The lines that the heap profile or births know, with what is said of their growth: what every format shows in the same
//! order, and what the gate compares.

use std::collections::{BTreeMap, HashMap};

use super::assess::{Assessment, SiteAssessment};
use super::hints::Hint;
use super::live::{LivePath, LiveSite};
use super::snapshot::BirthSite;
use super::verdict::Verdict;
use super::{SiteId, Snapshot};
use crate::symbolize::Frame;

/// Lines of which only births are known and that do not grow: so many are told, those that allocate most.
const ALLOCATING_MAX: usize = 50;

/// A site with its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// Stable identity.
    pub id: SiteId,
    /// The line a person would change.
    pub place: &'a Frame,
    /// The frame below the runtime, which allocates.
    pub allocator: &'a Frame,
    /// What it looks like.
    pub hint: Option<Hint>,
    /// Whether it allocates for a pool: then another line may be the one that keeps.
    pub is_behind_pool: bool,
    /// The stacks that lead to it, the weightiest first.
    pub paths: &'a [LivePath],
    /// What it holds, by the heap profile. `None`: there is none, or it does not know the site.
    pub live: Option<&'a LiveSite>,
    /// What births that were caught say. `None`: there are none.
    pub births: Option<&'a BirthSite>,
    /// How it grows. `None`: nothing above chance, or not known.
    pub growth: Option<&'a SiteAssessment>,
    /// What is said of it.
    pub verdict: Verdict,
}

impl<'a> Judged<'a> {
    fn of(live: Option<&'a LiveSite>, births: Option<&'a BirthSite>) -> Option<Self> {
        // Both say whose it is; the profile is asked first.
        let ((id, place, allocator), hint, is_behind_pool, paths) = match (live, births) {
            (Some(site), _) => ((site.id, &site.place, &site.allocator), site.hint, site.is_behind_pool, &site.paths),
            (None, Some(site)) => {
                ((site.id, &site.place, &site.allocator), site.hint, site.is_behind_pool, &site.paths)
            }
            (None, None) => return None,
        };
        let (growth, verdict) = (None, Verdict::Unknown);
        Some(Self { id, place, allocator, hint, is_behind_pool, paths, live, births, growth, verdict })
    }

    /// Bytes that it holds, or allocates per second where that is not known: what decides among those that do not grow.
    fn weight(&self) -> (f64, f64) {
        let allocates = self.births.and_then(|births| births.alloc_bytes_per_s).map_or(0.0, |rate| rate.value);
        (self.live.map_or(0.0, |live| live.bytes.value), allocates)
    }
}

/// The sites that are told, and what is summed up of the others.
#[derive(Clone, Debug)]
pub struct AllJudged<'a> {
    /// Those that grow first, the fastest of them at the top; then by what they hold, then by what they allocate.
    pub told: Vec<Judged<'a>>,
    /// Those of which only births are known, that do not grow, and that allocate least. In no order.
    pub rest: Vec<&'a BirthSite>,
}

/// The sites that are told, of all that hold anything or were seen to allocate.
pub fn judged(snapshot: &Snapshot) -> Vec<Judged<'_>> {
    all_judged(snapshot).told
}

/// All sites that hold anything, or were seen to allocate.
pub fn all_judged(snapshot: &Snapshot) -> AllJudged<'_> {
    let assessment = snapshot.assessment.as_deref();
    let growths = assessment.map_or(&[][..], |assessment| &assessment.sites);
    let growths: HashMap<SiteId, &SiteAssessment> = growths.iter().map(|site| (site.site, site)).collect();
    let otherwise = assessment.map_or(Verdict::Unknown, verdict_of_the_rest);
    let live = snapshot.profile.as_ref().map_or(&[][..], |profile| &profile.sites);
    let births = snapshot.births.as_ref().map_or(&[][..], |births| &births.sites);
    let mut by_births: BTreeMap<SiteId, &BirthSite> = births.iter().map(|site| (site.id, site)).collect();
    let known: Vec<_> = live.iter().map(|live| (Some(live), by_births.remove(&live.id))).collect();
    let allocating = births.iter().filter(|site| by_births.contains_key(&site.id)).map(|site| (None, Some(site)));
    let mut judged: Vec<Judged<'_>> = known
        .into_iter()
        .chain(allocating)
        .filter_map(|(live, births)| {
            let site = Judged::of(live, births)?;
            let growth = growths.get(&site.id).copied();
            Some(Judged { growth, verdict: growth.map_or(otherwise, |growth| growth.verdict), ..site })
        })
        .collect();
    let rank = |site: &Judged<'_>| {
        let growth = site.growth.map_or(0.0, |growth| growth.growth_bytes_per_s.value.max(0.0));
        (site.verdict.max(Verdict::WarmingUp), growth)
    };
    judged.sort_by(|one, other| {
        let ((one_verdict, one_growth), (other_verdict, other_growth)) = (rank(one), rank(other));
        let ((one_holds, one_allocates), (other_holds, other_allocates)) = (one.weight(), other.weight());
        let by_growth = other_verdict.cmp(&one_verdict).then_with(|| other_growth.total_cmp(&one_growth));
        by_growth
            .then_with(|| other_holds.total_cmp(&one_holds))
            .then_with(|| other_allocates.total_cmp(&one_allocates))
    });
    let (mut allocating, mut rest) = (0, Vec::new());
    judged.retain(|site| {
        let is_rest = site.live.is_none() && site.growth.is_none();
        allocating += usize::from(is_rest);
        let is_told = !is_rest || allocating <= ALLOCATING_MAX;
        rest.extend(site.births.filter(|_| !is_told));
        is_told
    });
    AllJudged { told: judged, rest }
}

/// What is said of a site that is not among those that may grow.
fn verdict_of_the_rest(assessment: &Assessment) -> Verdict {
    if assessment.total.rate().is_some() { Verdict::Steady } else { Verdict::Unknown }
}
