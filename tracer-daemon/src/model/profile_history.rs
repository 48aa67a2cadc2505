//! The runtime's own heap profile, look after look: what is alive by it, and the samples that growth is attributed with.

use std::collections::HashMap;
use std::sync::Arc;

use super::assess::{ProfileReading, SiteSamples};
use super::live::{LiveInput, LiveSite, live_sites};
use super::observation::{Moment, ProfileLook};
use super::process::ProcessConstants;
use super::profile::since;
use super::site::place_allocation;
use super::{Profile, SiteId, Stack};
use crate::read::books::Books;
use crate::read::profile::{Bucket, Counts};
use crate::units::approximate;

/// Collections before which nothing is published.
const UNPUBLISHED_COLLECTIONS: u32 = 3;

/// What is known of the profile.
#[derive(Debug, Default)]
pub(super) struct ProfileHistory {
    stacks: Vec<Stack>,
    /// The site of each stack; `None`: it has no frame.
    sites: Vec<Option<SiteId>>,
    buckets: Vec<Bucket>,
    /// The samples that were there when we turned the sampler on, by number of stack.
    baseline: Option<(Moment, Vec<Counts>)>,
    last: Option<Last>,
}

/// The last look.
#[derive(Debug)]
struct Last {
    at: Moment,
    rate_bytes: i64,
    lag_cycles: u32,
    /// Whether what is alive is what is published: else it is as new as can be.
    is_published: bool,
    sites: Arc<[LiveSite]>,
}

impl ProfileHistory {
    /// Seconds since the last look. `None`: there was none.
    pub(super) fn age_s(&self, now: Moment) -> Option<f64> {
        self.last.as_ref().map(|last| now.seconds_since(last.at))
    }

    /// One more look.
    pub(super) fn observe(&mut self, at: Moment, look: ProfileLook, constants: &ProcessConstants) {
        let main_module = constants.main_module.as_deref();
        self.sites.extend(look.new_stacks.iter().map(|stack| Some(place_allocation(stack, main_module)?.id)));
        self.stacks.extend(look.new_stacks);
        self.buckets.resize(self.stacks.len(), Bucket::default());
        for (number, bucket) in look.changed {
            let known = usize::try_from(number).ok().and_then(|number| self.buckets.get_mut(number));
            if let Some(known) = known {
                *known = bucket;
            }
        }
        if look.is_baseline {
            self.baseline = Some((at, self.buckets.iter().map(|bucket| bucket.newest).collect()));
            return;
        }
        // Before the first collections nothing is published, and in the life of an adopted sampler little.
        let is_published = self.baseline.is_none() && self.buckets.iter().any(|bucket| !bucket.published.is_zero());
        let counts = self.buckets.iter().enumerate().map(|(number, bucket)| {
            if is_published { bucket.published } else { self.since_baseline(number, bucket.newest) }
        });
        let stacks = self.stacks.iter().cloned().zip(counts).collect();
        let rate_bytes = look.rate_bytes;
        self.last = Some(Last {
            at,
            rate_bytes,
            lag_cycles: look.lag_cycles,
            is_published,
            sites: live_sites(&LiveInput { rate_bytes, program: constants.program(), stacks }).into(),
        });
    }

    fn since_baseline(&self, number: usize, counts: Counts) -> Counts {
        let Some((_, baseline)) = &self.baseline else { return counts };
        since(baseline.get(number).copied().unwrap_or_default(), counts)
    }

    /// The samples by which growth is attributed: those that are published. Newer counts hold garbage, of which there is more at
    /// the same phase of each cycle as the heap grows, so that each line that allocates would seem to grow beside a leak.
    /// `None`: the sampler is off, or nothing is published yet.
    pub(super) fn reading(&self, books: Option<&Books>) -> Option<ProfileReading> {
        let last = self.last.as_ref()?;
        let published_unix_ns = published_unix_ns(last.lag_cycles, books?)?;
        let rate_bytes = u64::try_from(last.rate_bytes).ok().filter(|rate| *rate > 0)?;
        let mut samples: HashMap<(SiteId, u64), (u64, u64)> = HashMap::new();
        for (number, (site, bucket)) in self.sites.iter().zip(&self.buckets).enumerate() {
            let counts = self.since_baseline(number, bucket.published);
            if let (Some(site), Some(size_bytes)) = (site, counts.alloc_bytes.checked_div(counts.allocs)) {
                let (allocs, frees) = samples.entry((*site, size_bytes)).or_default();
                *allocs = allocs.saturating_add(counts.allocs);
                *frees = frees.saturating_add(counts.frees);
            }
        }
        let samples = samples.into_iter();
        let mut samples: Vec<SiteSamples> = samples
            .map(|((site, size_bytes), (allocs, frees))| SiteSamples { site, size_bytes, allocs, frees })
            .collect();
        samples.sort_unstable_by_key(|sample| (sample.site, sample.size_bytes));
        Some(ProfileReading { at_unix_ns: published_unix_ns, rate_bytes: approximate(rate_bytes), samples })
    }

    /// What is alive by the last look. `None`: there was none.
    pub(super) fn live(&self, books: Option<&Books>, now: Moment) -> Option<Profile> {
        let last = self.last.as_ref()?;
        let lag_cycles = if last.is_published { last.lag_cycles } else { 0 };
        let end_unix_ns = books.filter(|_| lag_cycles > 0).and_then(|books| published_unix_ns(lag_cycles, books));
        Some(Profile {
            adopted_s: self.baseline.as_ref().map(|(since, _)| last.at.seconds_since(*since)),
            rate_bytes: last.rate_bytes,
            lag_cycles,
            lag_s: end_unix_ns.map(|end| approximate(now.unix_ns.saturating_sub(end)) / 1e9),
            sites: Arc::clone(&last.sites),
        })
    }
}

/// When the collection ended that the published counts are complete up to, ns since 1970. `None`: there is none, or it is not
/// known.
fn published_unix_ns(lag_cycles: u32, books: &Books) -> Option<u64> {
    if books.collections < UNPUBLISHED_COLLECTIONS {
        return None;
    }
    let back = usize::try_from(lag_cycles.saturating_sub(1)).ok()?;
    Some(books.pauses.get(back)?.end_unix_ns)
}
