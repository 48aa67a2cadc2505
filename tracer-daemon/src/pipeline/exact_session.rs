//! One target with hooks on every allocation and goroutine: the stages joined end to end.

use std::{
    collections::HashMap,
    fs::File,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tracer_common::{
    exact::{MILLISECOND_NS, StackKey},
    loss::Loss,
};

use super::{StartError, Subject, goroutines::monotonic_ns, own};

use crate::{
    addr::Avma,
    attach::{Attachment, Claim, Limits},
    collect::{Counts, NewStack, Reader, milliseconds::MillisecondNews},
    export::Refusal,
    model::{Counted, ExactCounts, ExactInput, Stack, Totals, Turnover, series::Milliseconds, summarize},
    plan::ProbePlan,
};

/// Between two readings of the totals after the gate was closed. A program takes some microseconds.
const SETTLE_STEP: Duration = Duration::from_millis(10);
/// Stacks named together: what is near in the binary is read once.
const NAMED_AT_ONCE: usize = 512;
/// After so many readings that differ, no more is waited for.
const SETTLE_READINGS: u32 = 50;

/// A target whose allocations and goroutines are being counted.
#[derive(Debug)]
pub struct ExactSession {
    subject: Subject,
    refused: Vec<Refusal>,
    claim: Claim,
    attachment: Attachment,
    reader: Reader,
    stacks: HashMap<StackKey, Stack>,
    milliseconds: Milliseconds,
    started: Instant,
    stopped: Option<Instant>,
}

impl ExactSession {
    /// Plans and attaches. Nothing is counted before [`Self::open`].
    ///
    /// # Errors
    /// With the subject, which can still be looked at in another way.
    pub fn start(subject: Subject, exe: &File, limits: Limits) -> Result<Self, Box<(Subject, StartError)>> {
        match attach(&subject, exe, limits) {
            Ok((refused, claim, attachment, reader)) => Ok(Self {
                subject,
                refused,
                claim,
                attachment,
                reader,
                stacks: HashMap::new(),
                milliseconds: Milliseconds::default(),
                started: own::now(),
                stopped: None,
            }),
            Err(error) => Err(Box::new((subject, error))),
        }
    }

    /// Tells the operator what was attached to, and what is odd about it.
    pub fn announce(&self) {
        let pid = self.subject.identity.pid;
        let (exe, go) = (&self.subject.exe, &self.subject.facts.go_version.text);
        tracing::info!(pid, exe, go, probes = self.probes(), "attached");
        if self.claim.is_shared() {
            tracing::warn!(pid, "another leakline watches this process: both are right, and both cost it time");
        }
        self.subject.announce();
    }

    /// From now on hits count.
    pub fn open(&mut self) -> Result<(), StartError> {
        let now = millisecond();
        self.milliseconds = Milliseconds::new(now);
        self.reader.begin_milliseconds(now);
        self.attachment.open_gate()?;
        self.started = own::now();
        tracing::info!(pid = self.subject.identity.pid, "counting");
        Ok(())
    }

    /// From now on no hit counts. The window ends here.
    pub fn close(&mut self) -> Result<(), StartError> {
        if self.stopped.is_none() {
            self.stopped = Some(own::now());
            self.attachment.close_gate()?;
            self.settle()?;
        }
        Ok(())
    }

    /// Waits until the programs that passed the gate before it was closed have counted: until two readings agree.
    fn settle(&mut self) -> Result<(), StartError> {
        let mut before = self.reader.totals()?;
        for _ in 0..SETTLE_READINGS {
            self.receive_stacks();
            thread::sleep(SETTLE_STEP);
            let now = self.reader.totals()?;
            if now == before {
                break;
            }
            before = now;
        }
        self.receive_milliseconds();
        Ok(())
    }

    /// Takes what was allocated in which millisecond: often, since the kernel side tells those of some seconds apart.
    fn receive_milliseconds(&mut self) {
        let (now, milliseconds) = (millisecond(), &mut self.milliseconds);
        let read = self.reader.milliseconds(now, |news| match news {
            MillisecondNews::Allocated { millisecond, count } => {
                milliseconds.add(millisecond, Counted { objects: count.objects, bytes: count.bytes });
            }
            MillisecondNews::Unread { first, last, count } => {
                milliseconds.unread(first, last, Counted { objects: count.objects, bytes: count.bytes });
            }
        });
        match read {
            Ok(()) if self.stopped.is_none() => self.milliseconds.go_on_to(now),
            Ok(()) => {}
            // Counts by line do not depend on it; the next reading says what was not read.
            Err(error) => tracing::debug!(%error, "milliseconds were not read"),
        }
    }

    /// Takes what has come.
    pub fn step(&mut self) {
        self.receive_milliseconds();
        self.receive_stacks();
    }

    /// Tells the operator what could not be read or named; nothing where all is well.
    pub fn warn_of_gaps(&self) {
        let pid = self.subject.identity.pid;
        let undecodable = self.reader.undecodable();
        if undecodable > 0 {
            tracing::error!(pid, undecodable, "ring records that no kernel program of ours writes: please report this");
        }
        let named = self.subject.symbolizer.counts();
        if named.unreadable > 0 {
            tracing::warn!(pid, addresses = named.unreadable, "addresses that could not be named from the binary");
        }
    }

    /// Leaves the probes in place until this process exits: the kernel then takes them away, about 100 ms each.
    ///
    /// This is how a living target must be left. Closing a probe by a system call walks the target's memory, and that walk
    /// fails half-way where the caller has a SIGKILL pending: the breakpoint then stays. An exiting process takes no
    /// signals, so there nothing stops the walk (kernel/events/uprobes.c: `uprobe_unregister`, "leaking uprobe";
    /// mm/gup.c: `fatal_signal_pending`).
    pub fn leave(self) {
        self.attachment.leave();
    }

    /// Takes the next probe away by a system call; about 100 ms each. False: none is left.
    pub fn detach_next(&mut self) -> bool {
        self.attachment.detach_next()
    }

    /// How many probes are in place.
    pub fn probes(&self) -> usize {
        self.attachment.probes()
    }

    /// Names the stacks that have come since the last call, so that the ring has room.
    pub fn receive_stacks(&mut self) {
        let Self { reader, subject, stacks, .. } = self;
        let mut name = |new: &mut Vec<NewStack>| {
            new.retain(|stack| !stacks.contains_key(&stack.key));
            let addresses: Vec<&[Avma]> = new.iter().map(|stack| &*stack.frames).collect();
            let named = subject.symbolizer.stacks(&addresses);
            stacks.extend(new.iter().map(|stack| stack.key).zip(named.into_iter().map(Stack::from)));
            new.clear();
        };
        let mut new = Vec::new();
        reader.drain_stacks(|stack| {
            new.push(stack);
            if new.len() == NAMED_AT_ONCE {
                name(&mut new);
            }
        });
        name(&mut new);
    }

    /// What is known now.
    pub fn snapshot(&mut self) -> Result<ExactCounts, StartError> {
        self.step();
        let mut counts = self.reader.counts()?;
        self.receive_stacks();
        let series = self.milliseconds.series();
        counts.losses[Loss::MillisecondsUnread as usize] = series.unplaced.objects;
        Ok(summarize(&ExactInput { series: Some(Arc::new(series)), ..self.named(&counts) }))
    }

    fn named(&mut self, counts: &Counts) -> ExactInput {
        let Self { stacks, subject, .. } = self;
        let stack = |key: &StackKey| stacks.get(key).map(Arc::clone);
        ExactInput {
            window_s: self.stopped.unwrap_or_else(own::now).duration_since(self.started).as_secs_f64(),
            main_module: subject.facts.main_module.as_deref().map(Arc::from),
            allocations: counts
                .allocations
                .iter()
                .filter_map(|(key, count)| Some((stack(key)?, Counted { objects: count.objects, bytes: count.bytes })))
                .collect(),
            goroutines: counts
                .goroutines
                .iter()
                .filter_map(|(key, count)| {
                    Some((stack(key)?, Turnover { created: count.created, exited: count.exited }))
                })
                .collect(),
            exits_by_creator: counts
                .exits_by_creator
                .iter()
                .map(|&(creator, exits)| (subject.symbolizer.return_address(creator).into(), exits))
                .collect(),
            totals: Totals {
                allocated: Counted { objects: counts.allocated.objects, bytes: counts.allocated.bytes },
                goroutines: Turnover { created: counts.goroutines_created, exited: counts.goroutines_exited },
                probe_hits: counts.probe_hits,
            },
            losses: counts.losses,
            series: None,
        }
    }

    /// The process that is followed.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// What is not measured, and why.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// How long hits have counted.
    pub fn window(&self) -> Duration {
        self.stopped.unwrap_or_else(own::now).duration_since(self.started)
    }
}

/// The millisecond that is, by the clock of the kernel side.
fn millisecond() -> u64 {
    monotonic_ns() / MILLISECOND_NS
}

fn attach(
    subject: &Subject,
    exe: &File,
    limits: Limits,
) -> Result<(Vec<Refusal>, Claim, Attachment, Reader), StartError> {
    let plan = ProbePlan::exact(&subject.facts);
    if !plan.counts_allocations {
        let (pid, exe) = (subject.identity.pid, subject.exe.clone());
        return Err(StartError::NoEvidence { pid, exe, refused: plan.refused });
    }
    let claim = Claim::on(&subject.identity);
    let mut attachment = Attachment::new(&plan, exe, subject.identity.pid, subject.bias, limits)?;
    let reader = Reader::new(&mut attachment)?;
    subject.still_there()?;
    let refused = plan.refused.iter().map(|refusal| Refusal::new(refusal.reason.id(), refusal.text.clone())).collect();
    Ok((refused, claim, attachment, reader))
}
