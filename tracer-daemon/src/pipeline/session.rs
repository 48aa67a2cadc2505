//! One target from discovery to snapshots: the stages joined end to end.

use std::{
    collections::HashMap,
    error::Error as _,
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;
use tracer_common::exact::StackKey;

use super::own;

use crate::{
    addr::{Avma, LoadBias},
    attach::{AttachError, Attachment, Claim, Limits},
    collect::{CollectError, Counts, NewStack, Reader},
    discover::{DiscoverError, NameError, Presence, ProcessIdentity, Target, code_mapping, presence},
    export::untrusted,
    inspect::{BinaryFacts, InspectError, cache::FactsCache},
    model::{Counted, ExactInput, Snapshot, Stack, Totals, Turnover, summarize},
    plan::{ProbePlan, Refusal},
    symbolize::{NativeCode, Symbolizer},
};

/// Between two readings of the totals after the gate was closed. A program takes some microseconds.
const SETTLE_STEP: Duration = Duration::from_millis(10);
/// Stacks named together: what is near in the binary is read once.
const NAMED_AT_ONCE: usize = 512;
/// After so many readings that differ, no more is waited for.
const SETTLE_READINGS: u32 = 50;

/// Why a target could not be followed. `exit_code` maps it to the command line's contract.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no such target.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// `--name` leads nowhere.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The binary is not one that we can read.
    #[error("process {pid} ({exe})")]
    Inspect {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
        /// Why not.
        source: Arc<InspectError>,
    },
    /// The file is not one that we can read.
    #[error("{file}")]
    InspectFile {
        /// Its path.
        file: String,
        /// Why not.
        source: Arc<InspectError>,
    },
    /// `auto` has nothing to choose from.
    #[error(
        "--evidence auto has nothing to choose from yet: it never chooses `exact`, and nothing else is implemented; \
         ask for --evidence exact by hand (it costs the target about 1 us per allocation while attached)"
    )]
    NothingToChoose,
    /// The executable cannot be read.
    #[error("cannot read the executable of process {pid}")]
    Exe {
        /// The process.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is nowhere to put probes.
    #[error("process {pid} ({exe}): no evidence is left: {}", .refused.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoEvidence {
        /// The process.
        pid: u32,
        /// Its executable.
        exe: String,
        /// Why not.
        refused: Vec<Refusal>,
    },
    /// The executable's place in memory is unknown.
    #[error("process {pid} ended or replaced its program while we looked at it")]
    Vanished {
        /// The process.
        pid: u32,
    },
    /// The probes could not be put in place.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The maps could not be read.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

impl StartError {
    /// The message with its causes, for a log line.
    pub fn full_text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(current) = cause {
            text = format!("{text}: {current}");
            cause = current.source();
        }
        text
    }

    /// The stable identifier for the metric `leakline_refusals_total{reason}`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Discover(DiscoverError::Gone { .. })
            | Self::Vanished { .. }
            | Self::Attach(AttachError::TargetGone { .. }) => "process_gone",
            Self::Discover(DiscoverError::KernelThread { .. }) => "kernel_thread",
            Self::Discover(DiscoverError::Zombie { .. }) => "zombie",
            Self::Discover(DiscoverError::Ourselves { .. }) => "ourselves",
            Self::Discover(DiscoverError::NotAllowed { .. }) | Self::Attach(AttachError::NotAllowed { .. }) => {
                "not_allowed"
            }
            Self::Discover(DiscoverError::Unreadable { .. }) | Self::Exe { .. } => "process_unreadable",
            Self::Name(_) => "name",
            Self::Inspect { source, .. } | Self::InspectFile { source, .. } => source.id(),
            Self::NothingToChoose => "nothing_to_choose",
            Self::NoEvidence { refused, .. } => refused.first().map_or("no_evidence", |refusal| refusal.reason.id()),
            Self::Attach(_) => "attach_failed",
            Self::Collect(_) => "collect_failed",
        }
    }

    /// DESIGN 7.1: 1 failed, 2 usage, 3 this host cannot, 4 no such target.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Discover(DiscoverError::NotAllowed { .. })
            | Self::NoEvidence { .. }
            | Self::NothingToChoose
            | Self::Attach(
                AttachError::NotAllowed { .. } | AttachError::Load { .. } | AttachError::LoadProgram { .. },
            ) => 3,
            Self::Discover(DiscoverError::Unreadable { .. }) | Self::Exe { .. } | Self::Collect(_) => 1,
            Self::Discover(_)
            | Self::Vanished { .. }
            | Self::Attach(AttachError::TargetGone { .. })
            | Self::Name(NameError::NoMatch { .. }) => 4,
            Self::Attach(_) => 1,
            Self::Name(_) => 2,
            Self::Inspect { source, .. } | Self::InspectFile { source, .. } => {
                if source.is_no_target() {
                    4
                } else if source.is_refusal() {
                    3
                } else {
                    1
                }
            }
        }
    }
}

/// A target whose allocations and goroutines are being counted.
#[derive(Debug)]
pub struct Session {
    identity: ProcessIdentity,
    name: String,
    exe: String,
    exe_replaced: bool,
    facts: Arc<BinaryFacts>,
    refused: Vec<Refusal>,
    claim: Claim,
    attachment: Attachment,
    reader: Reader,
    symbolizer: Symbolizer,
    stacks: HashMap<StackKey, Stack>,
    started: Instant,
    stopped: Option<Instant>,
}

impl Session {
    /// Inspects, plans and attaches. Nothing is counted before [`Self::open`].
    pub fn start(target: &Target, limits: Limits, cache: &FactsCache) -> Result<Self, StartError> {
        let identity = target.identity;
        let pid = identity.pid;
        let exe = untrusted::path(&target.exe_path.display().to_string()).into_owned();
        let file = target.exe.try_clone().map_err(|source| StartError::Exe { pid, source })?;
        let facts = cache.inspect(file).map_err(|source| StartError::Inspect { pid, exe: exe.clone(), source })?;
        let plan = ProbePlan::exact(&facts);
        if !plan.counts_allocations {
            return Err(StartError::NoEvidence { pid, exe, refused: plan.refused });
        }
        let bias = load_bias(&facts, &identity).ok_or(StartError::Vanished { pid })?;
        let claim = Claim::on(&identity);
        let mut attachment = Attachment::new(&plan, &target.exe, pid, bias, limits)?;
        let reader = Reader::new(&mut attachment)?;
        if presence(&identity) != Presence::Running {
            return Err(StartError::Vanished { pid });
        }
        Ok(Self {
            identity,
            name: untrusted::name(&target.name()).into_owned(),
            exe,
            exe_replaced: target.exe_replaced,
            symbolizer: Symbolizer::new(Arc::clone(&facts), bias).with_native(NativeCode::new(identity)),
            facts,
            refused: plan.refused,
            claim,
            attachment,
            reader,
            stacks: HashMap::new(),
            started: own::now(),
            stopped: None,
        })
    }

    /// Tells the operator what was attached to, and what is odd about it.
    pub fn announce(&self) {
        let pid = self.identity.pid;
        tracing::info!(pid, exe = self.exe, go = self.facts.go_version.text, probes = self.probes(), "attached");
        if self.claim.is_shared() {
            tracing::warn!(pid, "another leakline watches this process: both are right, and both cost it time");
        }
        if self.exe_replaced {
            tracing::warn!(
                pid,
                exe = self.exe,
                "the file at this path is not what the process runs; reading the latter"
            );
        }
        for refusal in &self.refused {
            tracing::warn!(pid, "not measured: {refusal}");
        }
    }

    /// From now on hits count.
    pub fn open(&mut self) -> Result<(), StartError> {
        self.attachment.open_gate()?;
        self.started = own::now();
        tracing::info!(pid = self.identity.pid, "counting");
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
        Ok(())
    }

    /// Tells the operator what could not be read or named; nothing where all is well.
    pub fn warn_of_gaps(&self) {
        let pid = self.identity.pid;
        let undecodable = self.reader.undecodable();
        if undecodable > 0 {
            tracing::error!(pid, undecodable, "ring records that no kernel program of ours writes: please report this");
        }
        let named = self.symbolizer.counts();
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
        let Self { reader, symbolizer, stacks, .. } = self;
        let mut name = |new: &mut Vec<NewStack>| {
            new.retain(|stack| !stacks.contains_key(&stack.key));
            let addresses: Vec<&[Avma]> = new.iter().map(|stack| &*stack.frames).collect();
            let named = symbolizer.stacks(&addresses);
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
    pub fn snapshot(&mut self) -> Result<Snapshot, StartError> {
        let counts = self.reader.counts()?;
        self.receive_stacks();
        Ok(summarize(&self.named(&counts)))
    }

    fn named(&mut self, counts: &Counts) -> ExactInput {
        let Self { stacks, symbolizer, .. } = self;
        let stack = |key: &StackKey| stacks.get(key).map(Arc::clone);
        ExactInput {
            window_s: self.stopped.unwrap_or_else(own::now).duration_since(self.started).as_secs_f64(),
            main_module: self.facts.main_module.as_deref().map(Arc::from),
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
                .map(|&(creator, exits)| (symbolizer.return_address(creator).into(), exits))
                .collect(),
            totals: Totals {
                allocated: Counted { objects: counts.allocated.objects, bytes: counts.allocated.bytes },
                goroutines: Turnover { created: counts.goroutines_created, exited: counts.goroutines_exited },
                probe_hits: counts.probe_hits,
            },
            losses: counts.losses,
        }
    }

    /// Whether the target is still what it was.
    pub fn presence(&self) -> Presence {
        presence(&self.identity)
    }

    /// Who the target is.
    pub fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// The executable's file name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The executable's path as the process sees it.
    pub fn exe(&self) -> &str {
        &self.exe
    }

    /// Facts about the binary.
    pub fn facts(&self) -> &BinaryFacts {
        &self.facts
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

/// What the loader added to every address of the file. None: the process is gone.
fn load_bias(facts: &BinaryFacts, identity: &ProcessIdentity) -> Option<LoadBias> {
    if !facts.position_independent {
        return Some(LoadBias(0));
    }
    // A program can map its own file a second time, for data. Code of it is mapped once, by the loader.
    let code = facts.segments.iter().find(|segment| segment.executable)?;
    let (address, offset) = code_mapping(identity, code.file_offset)?;
    // Mappings begin at page boundaries, segments need not: but what is mapped where differs by the same amount for both.
    let stated = code.svma.0.wrapping_sub(code.file_offset.0);
    Some(LoadBias(address.0.wrapping_sub(offset.0).wrapping_sub(stated)))
}
