//! The runtime's own heap profile, as often as it can have changed.

use std::time::{Duration, Instant};

use super::Pace;
use crate::{
    addr::Avma,
    model::{
        Profile, Stack,
        live::{LiveInput, live_sites},
    },
    pipeline::Subject,
    read::{
        Discards, ReadError,
        books::Books,
        profile::{Bucket, HeapProfile, ProfileReader},
    },
    symbolize::RuntimeFrames,
};

/// It changes with each collection; a look at a large one takes some milliseconds.
const EVERY: Duration = Duration::from_secs(5);

/// The last look.
#[derive(Debug)]
pub(in crate::pipeline) struct ProfileLooks {
    reader: ProfileReader,
    pace: Pace,
    /// Collections that had ended at the last look.
    collections: Option<u32>,
    /// By number of bucket.
    stacks: Vec<Stack>,
    last: Option<HeapProfile>,
    /// Read, but not yet known to be of the same process.
    pending: Option<HeapProfile>,
}

impl ProfileLooks {
    /// Finds the profile. `None`: the sampler is off.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(in crate::pipeline) fn start(subject: &Subject) -> Result<Option<Self>, ReadError> {
        let reader = ProfileReader::new(&subject.runtime())?;
        let is_on = reader.rate(&subject.memory)? > 0;
        Ok(is_on.then(|| Self {
            reader,
            pace: Pace::new(EVERY),
            collections: None,
            stacks: Vec::new(),
            last: None,
            pending: None,
        }))
    }

    /// Looks where it is time to and a collection has ended since, or where it must be.
    pub(in crate::pipeline) fn look(
        &mut self,
        subject: &Subject,
        now: Instant,
        collections: Option<u32>,
        must: bool,
    ) -> Result<(), ReadError> {
        let may_have_changed = self.last.is_none() || collections.is_none() || collections != self.collections;
        if !(must || may_have_changed && self.pace.is_due(now)) {
            return Ok(());
        }
        self.pending = Some(self.reader.read(&subject.memory)?);
        self.collections = collections;
        Ok(())
    }

    /// Believes and names what was read last where the process behind it was still the same.
    pub(in crate::pipeline) fn settle(&mut self, is_same: bool, subject: &mut Subject) {
        if let Some(profile) = self.pending.take().filter(|_| is_same) {
            self.last = Some(profile);
            self.name_the_new(subject);
        }
    }

    /// What was not believed so far.
    pub(in crate::pipeline) fn discards(&self) -> Discards {
        self.reader.discards()
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

    /// What is alive by the last look. `None`: there was none.
    pub(in crate::pipeline) fn live(
        &self,
        subject: &Subject,
        books: Option<&Books>,
        now_unix_ns: u64,
    ) -> Option<Profile> {
        let profile = self.last.as_ref()?;
        // Before the first collections nothing is published.
        let is_published = profile.counts.iter().any(|bucket| !bucket.published.is_zero());
        let counts = |bucket: &Bucket| if is_published { bucket.published } else { bucket.newest };
        let stacks = self.stacks.iter().cloned().zip(profile.counts.iter().map(counts)).collect();
        let main_module = subject.facts.main_module.as_deref();
        let lag_cycles = if is_published { profile.lag_cycles } else { 0 };
        let published_by = lag_cycles.checked_sub(1).and_then(|back| usize::try_from(back).ok());
        let end_unix_ns =
            books.zip(published_by).and_then(|(books, back)| books.pauses.get(back)).map(|pause| pause.end_unix_ns);
        Some(Profile {
            rate_bytes: profile.rate_bytes,
            lag_cycles,
            lag_s: end_unix_ns.map(|end| Duration::from_nanos(now_unix_ns.saturating_sub(end)).as_secs_f64()),
            sites: live_sites(&LiveInput { rate_bytes: profile.rate_bytes, main_module, stacks }),
        })
    }
}
