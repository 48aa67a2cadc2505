//! The lines of the heap profile with what is said of their growth: what every format shows in the same order, and what the
//! gate compares.

use std::collections::HashMap;

use super::assess::{Assessment, SiteAssessment};
use super::live::LiveSite;
use super::verdict::Verdict;
use super::{SiteId, Snapshot};

/// A site with its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What it holds.
    pub live: &'a LiveSite,
    /// How it grows. `None`: nothing above chance, or not known.
    pub growth: Option<&'a SiteAssessment>,
    /// What is said of it.
    pub verdict: Verdict,
}

/// All sites that hold anything: those that grow first, the fastest of them at the top; then by what they hold.
pub fn judged(snapshot: &Snapshot) -> Vec<Judged<'_>> {
    let Some(profile) = &snapshot.profile else { return Vec::new() };
    let assessment = snapshot.assessment.as_deref();
    let sites = assessment.map_or(&[][..], |assessment| &assessment.sites);
    let growths: HashMap<SiteId, &SiteAssessment> = sites.iter().map(|site| (site.site, site)).collect();
    let otherwise = assessment.map_or(Verdict::Unknown, verdict_of_the_rest);
    let mut judged: Vec<Judged<'_>> = profile
        .sites
        .iter()
        .map(|live| {
            let growth = growths.get(&live.id).copied();
            Judged { live, growth, verdict: growth.map_or(otherwise, |growth| growth.verdict) }
        })
        .collect();
    let rank = |site: &Judged<'_>| {
        let growth = site.growth.map_or(0.0, |growth| growth.growth_bytes_per_s.value.max(0.0));
        (site.verdict.max(Verdict::WarmingUp), growth)
    };
    judged.sort_by(|one, other| {
        let ((one_verdict, one_growth), (other_verdict, other_growth)) = (rank(one), rank(other));
        let by_growth = other_verdict.cmp(&one_verdict).then_with(|| other_growth.total_cmp(&one_growth));
        by_growth.then_with(|| other.live.bytes.value.total_cmp(&one.live.bytes.value))
    });
    judged
}

/// What is said of a site that is not among those that may grow.
fn verdict_of_the_rest(assessment: &Assessment) -> Verdict {
    if assessment.total.rate().is_some() { Verdict::Steady } else { Verdict::Unknown }
}
