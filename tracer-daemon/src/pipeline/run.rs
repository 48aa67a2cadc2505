//! `leakline run`: many targets, until told to stop, with their metrics served.
//!
//! One thread per target drives its [`Session`]; the supervisor looks for new processes once a second. On shutdown every
//! thread closes its gate first, so that nothing is counted any more, and then takes its probes away.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{net::TcpListener, sync::oneshot, time::sleep};

use super::{Session, StartError, attach::Stop, own};
use crate::{
    attach::Limits,
    discover::{DiscoverError, NamePattern, Presence, ProcessIdentity, Target, presence, target_by_pid},
    export::{
        ProcessFacts,
        http::{self, HttpState, Readiness},
        metrics::{Metrics, MetricsSettings, ProcessKey},
    },
};

/// How often new processes are looked for.
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// How often a target's thread takes new stacks from the ring, and notices that it shall stop.
const STEP: Duration = Duration::from_millis(50);
/// Steps between two snapshots of a target.
const STEPS_PER_SNAPSHOT: u32 = 20;
/// Targets at once. What comes on top is refused, and taken when another ends.
const MAX_TARGETS: usize = 128;

/// What to watch and where to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Processes by id.
    pub pids: Vec<u32>,
    /// Processes by the name of their executable.
    pub names: Vec<NamePattern>,
    /// Where to serve.
    pub listen: SocketAddr,
    /// Whether series carry the process id.
    pub pid_label: bool,
    /// How much the kernel side may hold, for each target.
    pub limits: Limits,
}

/// What the supervisor and the threads of all targets share.
#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    limits: Limits,
    stop: AtomicBool,
    probes_left: AtomicUsize,
    next_key: AtomicU64,
}

/// A process that was taken up, or refused.
#[derive(Debug)]
struct Known {
    identity: ProcessIdentity,
    /// None: refused, and not tried again while the process stays the same.
    thread: Option<JoinHandle<()>>,
}

/// Watches until SIGINT or SIGTERM. Everything is detached when this returns.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let metrics = Metrics::new(MetricsSettings { pid_label: options.pid_label, ..MetricsSettings::default() });
    let readiness = Readiness::default();
    let listener = TcpListener::bind(options.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: is another leakline running? choose another address with --listen",
            options.listen
        )
    })?;
    tracing::info!(address = %listener.local_addr().unwrap_or(options.listen), "serving /metrics, /healthz, /readyz");
    let shared = Arc::new(Shared {
        metrics: metrics.clone(),
        limits: options.limits,
        stop: AtomicBool::new(false),
        probes_left: AtomicUsize::new(0),
        next_key: AtomicU64::new(0),
    });
    let router = http::router(HttpState { metrics: metrics.clone(), readiness: readiness.clone() });
    let (close_server, server_closed) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let until = async move {
            // An error means that the sender is gone: then, too, it is over.
            let _closed = server_closed.await;
        };
        axum::serve(listener, router).with_graceful_shutdown(until).await
    });

    let mut supervisor = Supervisor { options, shared: Arc::clone(&shared), known: BTreeMap::new() };
    metrics.set_own(own::facts());
    let outcome = supervisor.first_scan().await;
    if outcome.is_ok() {
        readiness.mark_ready();
        loop {
            tokio::select! {
                () = stop.asked() => break,
                () = sleep(SCAN_EVERY) => {}
            }
            metrics.set_own(own::facts());
            supervisor.scan();
        }
    }
    shared.stop.store(true, Ordering::SeqCst);
    supervisor.finish(&mut stop).await;
    // The server may be gone already: then there is nothing to close.
    let _server_gone = close_server.send(());
    server.await.context("the server broke")?.context("the server failed")?;
    outcome
}

struct Supervisor {
    options: Options,
    shared: Arc<Shared>,
    known: BTreeMap<u32, Known>,
}

impl Supervisor {
    /// Takes up what is there. An error where processes were named by id alone and none could be taken up.
    async fn first_scan(&mut self) -> anyhow::Result<()> {
        let mut first_error = None;
        // Not `watched`: the thread of a refused target says so a moment before it ends.
        let mut any_taken_up = false;
        for pid in self.pids_now() {
            match target_by_pid(pid) {
                Ok(target) => {
                    let (tell, told) = oneshot::channel();
                    self.take_up(target, Some(tell));
                    match told.await {
                        Ok(Ok(())) => any_taken_up = true,
                        Ok(Err(error)) => {
                            first_error.get_or_insert(error);
                        }
                        // No thread, or too many targets: that has been said.
                        Err(_untold) => {}
                    }
                }
                Err(error) => {
                    let error = StartError::from(error);
                    self.shared.metrics.refuse(error.reason());
                    tracing::warn!(pid, reason = error.reason(), "not taken up: {}", error.full_text());
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) if self.options.names.is_empty() && !any_taken_up => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Takes up what is new, forgets what is gone.
    fn scan(&mut self) {
        self.forget_the_ended();
        for pid in self.pids_now() {
            if self.known.get(&pid).is_some_and(|known| presence(&known.identity) == Presence::Running) {
                continue;
            }
            match target_by_pid(pid) {
                Ok(target) => self.take_up(target, None),
                // Named by id and gone, or gone since we looked: nothing new to say every second.
                Err(DiscoverError::Gone { .. }) => {}
                Err(error) => tracing::debug!(pid, %error, "not taken up"),
            }
        }
    }

    fn pids_now(&self) -> BTreeSet<u32> {
        let named = self.options.names.iter().flat_map(NamePattern::pids);
        self.options.pids.iter().copied().chain(named).collect()
    }

    fn watched(&self) -> usize {
        self.known.values().filter(|known| known.thread.as_ref().is_some_and(|thread| !thread.is_finished())).count()
    }

    fn forget_the_ended(&mut self) {
        self.known.retain(|_, known| {
            let over = known.thread.as_ref().is_none_or(JoinHandle::is_finished);
            !(over && presence(&known.identity) != Presence::Running)
        });
    }

    fn take_up(&mut self, target: Target, tell: Option<oneshot::Sender<Result<(), StartError>>>) {
        let identity = target.identity;
        if self.watched() >= MAX_TARGETS {
            self.shared.metrics.refuse("too_many_targets");
            tracing::warn!(pid = identity.pid, MAX_TARGETS, "not taken up: too many targets");
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name(format!("target-{}", identity.pid))
            .spawn(move || follow(&target, &shared, tell))
            .map_err(|error| tracing::error!(pid = identity.pid, %error, "cannot start a thread for it"))
            .ok();
        self.known.insert(identity.pid, Known { identity, thread });
    }

    /// Waits until every thread has taken its probes away. A second signal leaves the rest to the kernel.
    async fn finish(&mut self, stop: &mut Stop) {
        let mut told = usize::MAX;
        while self.watched() > 0 {
            let left = self.shared.probes_left.load(Ordering::Relaxed);
            if left < told {
                told = left;
                // Progress that cannot be written is no reason to stop.
                let _unwritten =
                    writeln!(io::stderr(), "leakline: counting has stopped; taking probes away, {left} left");
            }
            tokio::select! {
                () = stop.asked() => return,
                () = sleep(SCAN_EVERY / 2) => {}
            }
        }
    }
}

/// One target from attach to detach, on its own thread.
fn follow(target: &Target, shared: &Shared, tell: Option<oneshot::Sender<Result<(), StartError>>>) {
    let pid = target.identity.pid;
    let name = target.name();
    let span = tracing::info_span!("target", pid, name);
    let _inside = span.enter();
    let started = Session::start(target, shared.limits).and_then(|mut session| {
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
    shared.probes_left.fetch_add(session.probes(), Ordering::Relaxed);
    session.announce();
    if let Some(tell) = tell {
        let _unheard = tell.send(Ok(()));
    }
    let key = ProcessKey(shared.next_key.fetch_add(1, Ordering::Relaxed));
    let facts = ProcessFacts::of(pid, session.exe(), session.facts());
    watch(&mut session, key, &facts, shared);
    report_failure(session.close());
    while session.probes() > 0 {
        session.receive_stacks();
        session.detach_next();
        shared.probes_left.fetch_sub(1, Ordering::Relaxed);
    }
    publish(&mut session, key, &facts, shared);
    session.warn_of_gaps();
    shared.metrics.end(key);
    tracing::info!("detached");
}

fn watch(session: &mut Session, key: ProcessKey, facts: &ProcessFacts, shared: &Shared) {
    let mut step = 0_u32;
    while !shared.stop.load(Ordering::SeqCst) {
        session.receive_stacks();
        if step.is_multiple_of(STEPS_PER_SNAPSHOT) {
            publish(session, key, facts, shared);
            if session.presence() != Presence::Running {
                return;
            }
        }
        step = step.wrapping_add(1);
        thread::sleep(STEP);
    }
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
