//! The thread of one target under `leakline run`: from attach to its end or ours.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Means, Session, StartError};
use crate::{
    discover::{Presence, Target},
    export::{
        ProcessFacts,
        metrics::{Metrics, ProcessKey},
        untrusted,
    },
    inspect::cache::FactsCache,
};

/// How often a target's thread takes new stacks from the ring, and notices that it shall stop.
const STEP: Duration = Duration::from_millis(50);
/// Steps between two snapshots of a target.
const STEPS_PER_SNAPSHOT: u32 = 20;

/// What the supervisor and the threads of all targets share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Metrics,
    means: Means,
    pub(super) facts: FactsCache,
    pub(super) stop: AtomicBool,
    /// Targets whose hits count at this moment.
    pub(super) open_gates: AtomicUsize,
    /// Probes in place.
    pub(super) probes: AtomicUsize,
    next_key: AtomicU64,
}

impl Shared {
    pub(super) fn new(metrics: Metrics, means: Means) -> Self {
        Self {
            metrics,
            means,
            facts: FactsCache::default(),
            stop: AtomicBool::new(false),
            open_gates: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            next_key: AtomicU64::new(0),
        }
    }

    /// A thread is over; one that panicked is a bug of ours, and its target is not taken up again.
    pub(super) fn join(&self, pid: u32, thread: JoinHandle<()>) {
        if thread.join().is_err() {
            self.metrics.refuse("internal_error");
            tracing::error!(pid, "the thread that watched it panicked: please report this");
        }
    }
}

/// Counts a target among the living until dropped, by a panic too.
struct Living<'a> {
    shared: &'a Shared,
    key: ProcessKey,
    is_open: bool,
}

impl Living<'_> {
    fn gate_is_closed(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.shared.open_gates.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Living<'_> {
    fn drop(&mut self) {
        self.gate_is_closed();
        self.shared.metrics.end(self.key);
    }
}

/// One target from attach to its end or ours, on its own thread.
pub(super) fn follow(target: &Target, shared: &Shared, tell: Option<oneshot::Sender<Result<(), StartError>>>) {
    let pid = target.identity.pid;
    let name = untrusted::name(&target.name()).into_owned();
    let span = tracing::info_span!("target", pid, name);
    let _inside = span.enter();
    let mut living = Living {
        shared,
        key: ProcessKey(shared.next_key.fetch_add(1, Ordering::Relaxed)),
        // Before the gate is opened, so that nobody believes it closed while it is open.
        is_open: true,
    };
    shared.open_gates.fetch_add(1, Ordering::SeqCst);
    let started = Session::start(target, &shared.means, &shared.facts).and_then(|mut session| {
        session.announce();
        if !shared.stop.load(Ordering::SeqCst) {
            session.open()?;
        }
        Ok(session)
    });
    let mut session = match started {
        Ok(session) => session,
        Err(error) => {
            shared.metrics.refuse(error.reason());
            tracing::warn!(reason = error.reason(), "not taken up: {}", error.full_text());
            if let Some(tell) = tell {
                // Nobody waits any more: the program is ending.
                let _unheard = tell.send(Err(error));
            }
            return;
        }
    };
    for refusal in session.refused() {
        shared.metrics.refuse(refusal.id.clone());
    }
    shared.probes.fetch_add(session.probes(), Ordering::SeqCst);
    if let Some(tell) = tell {
        let _unheard = tell.send(Ok(()));
    }
    let facts = session.subject().process_facts();
    let is_target_over = watch(&mut session, living.key, &facts, shared);
    report_failure(session.close());
    living.gate_is_closed();
    publish(&mut session, living.key, &facts, shared);
    session.warn_of_gaps();
    if is_target_over {
        // Its memory is gone, so there is no breakpoint left that closing could fail to remove.
        while session.detach_next() {
            shared.probes.fetch_sub(1, Ordering::SeqCst);
        }
        tracing::info!("the process is over");
    } else {
        session.leave();
    }
}

/// Watches until told to stop (false) or until the target is over (true).
fn watch(session: &mut Session, key: ProcessKey, facts: &ProcessFacts, shared: &Shared) -> bool {
    let mut step = 0_u32;
    while !shared.stop.load(Ordering::SeqCst) {
        if let Err(error) = session.step() {
            report_failure(Err(error));
            return true;
        }
        if step.is_multiple_of(STEPS_PER_SNAPSHOT) {
            publish(session, key, facts, shared);
            if session.subject().presence() != Presence::Running {
                return true;
            }
        }
        step = step.wrapping_add(1);
        thread::sleep(STEP);
    }
    false
}

fn publish(session: &mut Session, key: ProcessKey, facts: &ProcessFacts, shared: &Shared) {
    match session.snapshot() {
        Ok(snapshot) => shared.metrics.observe(key, facts, &snapshot),
        Err(error) => report_failure(Err(error)),
    }
}

fn report_failure(outcome: Result<(), StartError>) {
    if let Err(error) = outcome {
        tracing::error!(reason = error.reason(), "{}", error.full_text());
    }
}
