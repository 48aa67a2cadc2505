//! The runtime's own heap profile, as often as it can have changed; also where we turn its sampler on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Look, Pace};
use crate::{
    addr::Avma,
    attach::adopt::Adopted,
    model::{
        Profile, Stack,
        live::{LiveInput, LiveSite, live_sites},
        profile::since,
    },
    pipeline::{Subject, own, restore::tell},
    read::{
        Discards, ReadError,
        books::Books,
        profile::{Bucket, Counts, HeapProfile, ProfileReader},
    },
    symbolize::RuntimeFrames,
};

/// It changes with each collection; a look at a large one takes some milliseconds.
const EVERY: Duration = Duration::from_secs(5);
/// For so long after we turned the sampler on its samples do not count: the first one of each processor is no chance.
pub(in crate::pipeline) const SETTLE: Duration = Duration::from_secs(1);

/// The last look.
#[derive(Debug)]
pub(in crate::pipeline) struct ProfileLooks {
    reader: ProfileReader,
    pace: Pace,
    /// Collections that had ended at the last look.
    collections: Option<u32>,
    /// By number of bucket.
    stacks: Vec<Stack>,
    adoption: Option<Adoption>,
    last: Option<Seen>,
    /// Read, but not yet known to be of the same process.
    pending: Option<(Instant, HeapProfile)>,
}

/// A sampler that we turned on.
#[derive(Debug)]
struct Adoption {
    adopted: Adopted,
    since: Instant,
    /// What was sampled before it had settled, by bucket, and when that was read.
    baseline: Option<(Instant, Vec<Counts>)>,
}

/// What was seen.
#[derive(Debug)]
struct Seen {
    rate_bytes: i64,
    lag_cycles: u32,
    adopted_s: Option<f64>,
    sites: Arc<[LiveSite]>,
}

impl ProfileLooks {
    /// Finds the profile. `None`: the sampler is off.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(in crate::pipeline) fn start(subject: &Subject) -> Result<Option<Self>, ReadError> {
        let reader = ProfileReader::new(&subject.runtime())?;
        let is_on = reader.rate(&subject.memory)? > 0;
        Ok(is_on.then(|| Self::of(reader, None)))
    }

    /// The profile of a sampler that we have just turned on. It is turned off again with [`Self::restore`], or where this is dropped.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(in crate::pipeline) fn adopted(subject: &Subject, adopted: Adopted, now: Instant) -> Result<Self, ReadError> {
        let adoption = Adoption { adopted, since: now, baseline: None };
        Ok(Self::of(ProfileReader::new(&subject.runtime())?, Some(adoption)))
    }

    fn of(reader: ProfileReader, adoption: Option<Adoption>) -> Self {
        Self {
            reader,
            pace: Pace::new(EVERY),
            collections: None,
            stacks: Vec::new(),
            adoption,
            last: None,
            pending: None,
        }
    }

    /// Looks where it is time to and a collection has ended since, or where it must be.
    pub(in crate::pipeline) fn look(
        &mut self,
        subject: &Subject,
        now: Instant,
        collections: Option<u32>,
        must: bool,
    ) -> Result<Look, ReadError> {
        if let Some(adoption) = self.adoption.as_mut().filter(|adoption| adoption.baseline.is_none()) {
            if now.saturating_duration_since(adoption.since) >= SETTLE {
                let counts = self.reader.read(&subject.memory)?.counts;
                adoption.baseline = Some((now, counts.iter().map(|bucket| bucket.newest).collect()));
            }
            return Ok(Look::NotDue);
        }
        // An adopted sampler's newest counts move without a collection.
        let may_have_changed =
            self.adoption.is_some() || self.last.is_none() || collections.is_none() || collections != self.collections;
        let is_due = may_have_changed && self.pace.is_due(now);
        if !(is_due || must) {
            return Ok(Look::NotDue);
        }
        let asked = own::now();
        self.pending = Some((now, self.reader.read(&subject.memory)?));
        self.collections = collections;
        self.pace.took(own::now().saturating_duration_since(asked), EVERY);
        Ok(Look::Had)
    }

    /// Believes and names what was read last where the process behind it was still the same.
    pub(in crate::pipeline) fn settle(&mut self, is_same: bool, subject: &mut Subject) {
        let Some((at, profile)) = self.pending.take().filter(|_| is_same) else { return };
        self.name_the_new(subject);
        let baseline = self.adoption.as_ref().and_then(|adoption| adoption.baseline.as_ref());
        // Before the first collections nothing is published, and in the life of an adopted sampler little.
        let is_published = baseline.is_none() && profile.counts.iter().any(|bucket| !bucket.published.is_zero());
        let counts = |(number, bucket): (usize, &Bucket)| match baseline {
            _ if is_published => bucket.published,
            Some((_, counts)) => since(counts.get(number).copied().unwrap_or_default(), bucket.newest),
            None => bucket.newest,
        };
        let stacks = self.stacks.iter().cloned().zip(profile.counts.iter().enumerate().map(counts)).collect();
        let main_module = subject.facts.main_module.as_deref();
        let rate_bytes = profile.rate_bytes;
        self.last = Some(Seen {
            rate_bytes,
            lag_cycles: if is_published { profile.lag_cycles } else { 0 },
            adopted_s: baseline.map(|(since, _)| at.saturating_duration_since(*since).as_secs_f64()),
            sites: live_sites(&LiveInput { rate_bytes, main_module, stacks }).into(),
        });
    }

    fn name_the_new(&mut self, subject: &mut Subject) {
        let buckets = self.reader.buckets();
        let new: Vec<&[Avma]> = (self.stacks.len()..buckets.len()).map(|number| buckets.stack(number)).collect();
        if new.is_empty() {
            return;
        }
        let named = subject.symbolizer.recorded(&new, RuntimeFrames::Shown);
        self.stacks.extend((0..new.len()).map(|stack| named.frames(stack).cloned().collect::<Stack>()));
    }

    /// Turns off what we turned on.
    pub(in crate::pipeline) fn restore(&mut self, pid: u32) {
        if let Some(adoption) = self.adoption.take() {
            tell(pid, adoption.adopted.restore());
        }
    }

    /// What was not believed so far.
    pub(in crate::pipeline) fn discards(&self) -> Discards {
        self.reader.discards()
    }

    /// What is alive by the last look. `None`: there was none.
    pub(in crate::pipeline) fn live(&self, books: Option<&Books>, now_unix_ns: u64) -> Option<Profile> {
        let look = self.last.as_ref()?;
        let published_by = look.lag_cycles.checked_sub(1).and_then(|back| usize::try_from(back).ok());
        let end_unix_ns =
            books.zip(published_by).and_then(|(books, back)| books.pauses.get(back)).map(|pause| pause.end_unix_ns);
        Some(Profile {
            adopted_s: look.adopted_s,
            rate_bytes: look.rate_bytes,
            lag_cycles: look.lag_cycles,
            lag_s: end_unix_ns.map(|end| Duration::from_nanos(now_unix_ns.saturating_sub(end)).as_secs_f64()),
            sites: Arc::clone(&look.sites),
        })
    }
}
