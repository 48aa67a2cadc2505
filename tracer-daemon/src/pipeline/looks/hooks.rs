//! Goroutines that began and ended, counted by hooks: read and named, told to the model as what has changed.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use tracer_common::exact::StackKey;

use super::Pace;
use crate::{
    addr::Avma,
    collect::{CollectError, NewStack, hooks::HookReader},
    model::{Stack, Turnover, goroutines::hooks::HookLook},
    pipeline::{Subject, bursts::Desk, goroutines::monotonic_ns},
};

/// How often counts are read. A read is two system calls for each stack that ever created a goroutine, and none where nothing has happened.
const EVERY: Duration = Duration::from_secs(1);

/// The counts of one target, as its session sees them.
#[derive(Debug)]
pub(in crate::pipeline) struct HookLooks {
    reader: HookReader,
    desk: Arc<Desk>,
    pace: Pace,
    /// The number of each stack and place, as the model knows it.
    numbers: HashMap<Creator, u32>,
    /// What the model was told of each.
    told: Vec<Turnover>,
    totals: [u64; 2],
    counted_ns: u64,
    /// Why the last read failed; said once.
    failure: Option<String>,
}

/// What a count is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Creator {
    Stack(StackKey),
    /// The return address of a `go` statement.
    Place(Avma),
}

impl HookLooks {
    /// Nothing was read yet.
    pub(in crate::pipeline) fn new(reader: HookReader, desk: Arc<Desk>) -> Self {
        Self {
            reader,
            desk,
            pace: Pace::new(EVERY),
            numbers: HashMap::new(),
            told: Vec::new(),
            totals: [0; 2],
            counted_ns: 0,
            failure: None,
        }
    }

    /// What is new, where it is time to look or it must be. `None`: nothing.
    pub(in crate::pipeline) fn look(&mut self, subject: &mut Subject, now: Instant, must: bool) -> Option<HookLook> {
        if !(self.pace.is_due(now) || must) {
            return None;
        }
        match self.read(subject) {
            Ok(look) => look,
            Err(error) => {
                let failure = error.to_string();
                if self.failure.as_ref() != Some(&failure) {
                    tracing::error!(pid = subject.identity.pid, "what goroutine hooks counted is not known: {failure}");
                    self.failure = Some(failure);
                }
                None
            }
        }
    }

    fn read(&mut self, subject: &mut Subject) -> Result<Option<HookLook>, CollectError> {
        // Before the counts, so that rates are rather too high than too low by what is counted meanwhile.
        let counted_ns = self.desk.hooks_counted_ns(monotonic_ns());
        if counted_ns == self.counted_ns {
            return Ok(None);
        }
        self.counted_ns = counted_ns;
        let mut look = HookLook { counted_ns, ..HookLook::default() };
        if self.reader.turnover()? != self.totals {
            let counts = self.reader.counts()?;
            self.totals = counts.totals;
            self.introduce(subject, &mut look);
            for (key, created) in counts.created {
                self.tell(Creator::Stack(key), Turnover { created, exited: 0 }, &mut look);
            }
            for (creator, exited) in counts.exited {
                let creator = Creator::Place(creator);
                if let Creator::Place(address) = creator
                    && !self.numbers.contains_key(&creator)
                {
                    self.number(creator, subject.symbolizer.return_address(address).into(), &mut look);
                }
                self.tell(creator, Turnover { created: 0, exited }, &mut look);
            }
        }
        let [created, exited] = self.totals;
        look.totals = Turnover { created, exited };
        Ok(Some(look))
    }

    /// Names the stacks that have come.
    fn introduce(&mut self, subject: &mut Subject, look: &mut HookLook) {
        let mut new: Vec<NewStack> = Vec::new();
        self.reader.drain_stacks(|stack| new.push(stack));
        let addresses: Vec<&[Avma]> = new.iter().map(|stack| &*stack.frames).collect();
        let named = subject.symbolizer.stacks(&addresses);
        for (stack, frames) in new.iter().zip(named) {
            self.number(Creator::Stack(stack.key), frames.into(), look);
        }
    }

    fn number(&mut self, creator: Creator, stack: Stack, look: &mut HookLook) {
        let Ok(number) = u32::try_from(self.told.len()) else { return };
        // Two processors may have introduced it.
        if let Entry::Vacant(entry) = self.numbers.entry(creator) {
            entry.insert(number);
            self.told.push(Turnover::default());
            look.new_stacks.push(stack);
        }
    }

    fn tell(&mut self, creator: Creator, now: Turnover, look: &mut HookLook) {
        // A stack without a number is still on its way, or found no room in the ring.
        let Some(number) = self.numbers.get(&creator) else { return };
        let index = usize::try_from(*number).unwrap_or(usize::MAX);
        if let Some(told) = self.told.get_mut(index).filter(|told| **told != now) {
            *told = now;
            look.changed.push((*number, now));
        }
    }
}
