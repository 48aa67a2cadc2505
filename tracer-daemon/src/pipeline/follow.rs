//! The thread of one target under `leakline run`: from attach to its end or ours.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Means, Session, StartError, own};
use crate::{
    cli::EvidenceChoice,
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
/// The same where there is no ring.
const STEP_WITHOUT_PROBES: Duration = Duration::from_millis(250);
/// Between two snapshots of a target.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);
/// Numbers older than this are not served as if they were of now: the target is left, and taken up anew.
const BLIND_MAX: Duration = Duration::from_secs(60);

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
    pub(super) fn join(&self, pid: u32, thread: JoinHandle<After>) -> After {
        thread.join().unwrap_or_else(|_panic| {
            self.metrics.refuse("internal_error");
            tracing::error!(pid, "the thread that watched it panicked: please report this");
            After::Done
        })
    }
}

/// What shall become of a target whose thread is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// There is nothing more to do about it.
    Done,
    /// What hindered may be over in a while.
    TryAgain,
}

/// Why watching ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// We were told to.
    Stopped,
    /// It ended, or replaced its program.
    Target,
    /// Somebody wants no probes.
    SwitchedOff,
    /// Probes are allowed again.
    SwitchedOn,
    /// It is there and cannot be read any more.
    Unreadable,
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
pub(super) fn follow(target: &Target, shared: &Shared, tell: Option<oneshot::Sender<Result<(), StartError>>>) -> After {
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
            let after = if error.is_passing() { After::TryAgain } else { After::Done };
            if let Some(tell) = tell {
                // Nobody waits any more: the program is ending.
                let _unheard = tell.send(Err(error));
            }
            return after;
        }
    };
    shared.probes.fetch_add(session.probes(), Ordering::SeqCst);
    if let Some(tell) = tell {
        let _unheard = tell.send(Ok(()));
    }
    let mut publisher = Publisher {
        facts: session.subject().process_facts(),
        key: living.key,
        shared,
        announced: session.refused().into_iter().map(|refusal| refusal.id).collect(),
        refused: BTreeSet::new(),
    };
    let end = watch(&mut session, &mut publisher);
    report_failure(session.close());
    living.gate_is_closed();
    publisher.publish(&mut session);
    session.warn_of_gaps();
    match end {
        End::Target => {
            // Its memory is gone, so there is no breakpoint left that closing could fail to remove.
            while session.detach_next() {
                shared.probes.fetch_sub(1, Ordering::SeqCst);
            }
            tracing::info!("the process is over");
        }
        End::Stopped => session.leave(),
        End::SwitchedOn => {
            tracing::info!("taken up anew: probes are allowed again");
            return After::TryAgain;
        }
        End::SwitchedOff => {
            while session.detach_next() {
                shared.probes.fetch_sub(1, Ordering::SeqCst);
            }
            return After::TryAgain;
        }
        End::Unreadable => {
            tracing::warn!("left alone for now: what is known of it is too old");
            session.leave();
            return After::TryAgain;
        }
    }
    After::Done
}

fn watch(session: &mut Session, publisher: &mut Publisher<'_>) -> End {
    let pause = match session {
        Session::Exact(_) => STEP,
        Session::Books(_) => STEP_WITHOUT_PROBES,
    };
    let means = &publisher.shared.means;
    // Nothing but the file has kept hooks on every allocation away.
    let is_kept_away = means.evidence == EvidenceChoice::Exact
        && session.refused().iter().any(|refusal| refusal.id == means.killswitch.refusal().id);
    let mut next_snapshot = own::now();
    while !publisher.shared.stop.load(Ordering::SeqCst) {
        session.step();
        if let Some(why) = session.must_end(&publisher.shared.means.killswitch) {
            tracing::warn!("its probes are taken away: {}", why.text);
            return End::SwitchedOff;
        }
        let now = own::now();
        if now >= next_snapshot {
            next_snapshot = now + SNAPSHOT_EVERY;
            if is_kept_away && !publisher.shared.means.killswitch.is_on() {
                return End::SwitchedOn;
            }
            let is_readable = publisher.publish(session);
            if session.subject().presence() != Presence::Running {
                return End::Target;
            }
            if !is_readable || session.blind_for() > BLIND_MAX {
                return End::Unreadable;
            }
        }
        thread::sleep(pause);
    }
    End::Stopped
}

/// Tells the metrics about one target.
struct Publisher<'a> {
    facts: ProcessFacts,
    key: ProcessKey,
    shared: &'a Shared,
    /// Reasons that the operator was told at the beginning.
    announced: BTreeSet<Cow<'static, str>>,
    /// Reasons that were counted.
    refused: BTreeSet<Cow<'static, str>>,
}

impl Publisher<'_> {
    /// False: what was counted cannot be read.
    fn publish(&mut self, session: &mut Session) -> bool {
        for refusal in session.refused() {
            if self.refused.insert(refusal.id.clone()) {
                if !self.announced.contains(&refusal.id) {
                    tracing::info!("since now: {} ({})", untrusted::name(&refusal.text), refusal.id);
                }
                self.shared.metrics.refuse(refusal.id);
            }
        }
        let at = session.moment();
        match session.snapshot(at) {
            Ok(snapshot) => {
                self.shared.metrics.observe(self.key, &self.facts, &snapshot);
                self.shared.metrics.observe_cost(self.key, &session.cost(&snapshot));
                true
            }
            Err(error) => {
                report_failure(Err(error));
                false
            }
        }
    }
}

fn report_failure(outcome: Result<(), StartError>) {
    if let Err(error) = outcome {
        tracing::error!(reason = error.reason(), "{}", error.full_text());
    }
}
