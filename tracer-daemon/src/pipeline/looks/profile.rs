//! The runtime's own heap profile, as often as it can have changed; also where we turn its sampler on.

use std::time::{Duration, Instant};

use super::{Look, Pace};
use crate::{
    addr::Avma,
    attach::adopt::Adopted,
    model::{Stack, observation::ProfileLook},
    pipeline::{Subject, own, restore::tell},
    read::{
        Discards, ReadError,
        profile::{Bucket, HeapProfile, ProfileReader},
    },
    symbolize::RuntimeFrames,
};

/// It changes with each collection; a look at a large one takes some milliseconds.
const EVERY: Duration = Duration::from_secs(5);
/// For so long after we turned the sampler on its samples do not count: the first one of each processor is no chance.
pub(in crate::pipeline) const SETTLE: Duration = Duration::from_secs(1);

/// How it is looked at.
#[derive(Debug)]
pub(in crate::pipeline) struct ProfileLooks {
    reader: ProfileReader,
    pace: Pace,
    /// Collections that had ended at the last look.
    collections: Option<u32>,
    /// Buckets whose stacks have been told of.
    told: usize,
    /// As they were told of last.
    buckets: Vec<Bucket>,
    adoption: Option<Adoption>,
    /// Read, but not yet known to be of the same process.
    pending: Option<Pending>,
}

/// A sampler that we turned on.
#[derive(Debug)]
struct Adoption {
    adopted: Adopted,
    since: Instant,
    /// Whether what was sampled before it had settled is known.
    has_baseline: bool,
}

/// What was read.
#[derive(Debug)]
struct Pending {
    profile: HeapProfile,
    is_baseline: bool,
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
        let adoption = Adoption { adopted, since: now, has_baseline: false };
        Ok(Self::of(ProfileReader::new(&subject.runtime())?, Some(adoption)))
    }

    fn of(reader: ProfileReader, adoption: Option<Adoption>) -> Self {
        Self {
            reader,
            pace: Pace::new(EVERY),
            collections: None,
            told: 0,
            buckets: Vec::new(),
            adoption,
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
        if let Some(adoption) = self.adoption.as_mut().filter(|adoption| !adoption.has_baseline) {
            if now.saturating_duration_since(adoption.since) < SETTLE {
                return Ok(Look::NotDue);
            }
            self.pending = Some(Pending { profile: self.reader.read(&subject.memory)?, is_baseline: true });
            adoption.has_baseline = true;
            return Ok(Look::Had);
        }
        // An adopted sampler's newest counts move without a collection.
        let may_have_changed =
            self.adoption.is_some() || self.told == 0 || collections.is_none() || collections != self.collections;
        let is_due = may_have_changed && self.pace.is_due(now);
        if !(is_due || must) {
            return Ok(Look::NotDue);
        }
        let asked = own::now();
        self.pending = Some(Pending { profile: self.reader.read(&subject.memory)?, is_baseline: false });
        self.collections = collections;
        self.pace.took(own::now().saturating_duration_since(asked), EVERY);
        Ok(Look::Had)
    }

    /// What is new in what was read last, with names, once.
    pub(in crate::pipeline) fn take(&mut self, subject: &mut Subject) -> Option<ProfileLook> {
        let Pending { profile, is_baseline } = self.pending.take()?;
        let new_stacks = self.name_the_new(subject);
        let before = self.buckets.iter().map(Some).chain(std::iter::repeat(None));
        let changed = (0..).zip(profile.counts.iter().zip(before));
        let changed = changed
            .filter(|(_, (now, before))| *before != Some(*now))
            .map(|(number, (now, _))| (number, *now))
            .collect();
        self.buckets = profile.counts;
        let HeapProfile { rate_bytes, lag_cycles, .. } = profile;
        Some(ProfileLook { rate_bytes, lag_cycles, is_baseline, new_stacks, changed })
    }

    fn name_the_new(&mut self, subject: &mut Subject) -> Vec<Stack> {
        let buckets = self.reader.buckets();
        let new: Vec<&[Avma]> = (self.told..buckets.len()).map(|number| buckets.stack(number)).collect();
        self.told = buckets.len();
        if new.is_empty() {
            return Vec::new();
        }
        let named = subject.symbolizer.recorded(&new, RuntimeFrames::Shown);
        (0..new.len()).map(|stack| named.frames(stack).cloned().collect::<Stack>()).collect()
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
}
