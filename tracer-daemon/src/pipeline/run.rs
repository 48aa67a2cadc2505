//! `leakline run`: many targets, until told to stop, with their metrics served.
//!
//! The supervisor looks for new processes once a second and gives each a thread (`follow`). On shutdown every thread closes
//! its gate, so that nothing is counted any more; the probes go when the program ends (see [`super::Session::leave`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write as _},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    Means, StartError,
    attach::Stop,
    follow::{After, Shared, follow},
    own,
};
use crate::{
    cli::EvidenceChoice,
    discover::{DiscoverError, NamePattern, Presence, ProcessIdentity, Target, presence, target_by_pid},
    export::{
        http::{self, HttpState, Readiness},
        metrics::{Metrics, MetricsSettings},
    },
};

/// How often new processes are looked for.
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// How often the end looks whether the threads are done.
const END_STEP: Duration = Duration::from_millis(10);
/// Targets at once, each with a thread. What comes on top is refused, and taken when another ends.
const MAX_TARGETS: usize = 512;
/// The same with `exact` evidence, which takes up to 42 MiB of kernel memory for each.
const MAX_EXACT_TARGETS: usize = 32;
/// How long a process is left alone that could not be taken up for a passing reason.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// How long a client may take for the last answer after the end was decided.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// What to watch and where to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Processes by id: those that have the id at the start, not their successors.
    pub pids: Vec<u32>,
    /// Processes by the name of their executable.
    pub names: Vec<NamePattern>,
    /// Where to serve.
    pub listen: SocketAddr,
    /// Whether series carry the process id.
    pub pid_label: bool,
    /// What to look with at each target.
    pub means: Means,
}

/// A process that was taken up, or refused.
#[derive(Debug)]
struct Known {
    identity: ProcessIdentity,
    /// None: refused.
    thread: Option<JoinHandle<After>>,
    /// When it is tried again; None: not while the process stays the same.
    again: Option<Instant>,
}

/// Watches until SIGINT or SIGTERM. When this returns nothing is counted any more, and the probes go with the program.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let metrics = Metrics::new(MetricsSettings { pid_label: options.pid_label, ..MetricsSettings::default() });
    let readiness = Readiness::default();
    let listener = listen(options.listen).await?;
    tracing::info!(address = %listener.local_addr().unwrap_or(options.listen), "serving /metrics, /healthz, /readyz");
    let shared = Arc::new(Shared::new(metrics.clone(), options.means.clone()));
    let router = http::router(HttpState { metrics: metrics.clone(), readiness: readiness.clone() });
    let (close_server, server_closed) = oneshot::channel::<()>();
    let mut server = tokio::spawn(async move {
        let until = async move {
            // An error means that the sender is gone: then, too, it is over.
            let _closed = server_closed.await;
        };
        axum::serve(listener, router).with_graceful_shutdown(until).await
    });

    let mut supervisor = Supervisor::new(options, Arc::clone(&shared));
    metrics.set_own(own::facts());
    let outcome = tokio::select! {
        () = stop.asked() => Ok(()),
        outcome = supervisor.watch(&readiness) => outcome,
    };
    shared.stop.store(true, Ordering::SeqCst);
    supervisor.finish().await;
    // The server may be gone already: then there is nothing to close.
    let _server_gone = close_server.send(());
    if timeout(LAST_ANSWER, &mut server).await.is_err() {
        server.abort(); // a client that does not read, or never asked to the end
    }
    outcome
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                ": another program, perhaps another leakline, has it; choose another with --listen"
            }
            io::ErrorKind::PermissionDenied => ": choose a port above 1023 with --listen",
            _ => ": choose an address of this host with --listen",
        };
        anyhow::Error::new(error).context(format!("cannot listen on {address}{hint}"))
    })
}

struct Supervisor {
    options: Options,
    shared: Arc<Shared>,
    /// When the processes named by id were started: a successor under the same id is another process.
    start_ticks: BTreeMap<u32, u64>,
    known: BTreeMap<u32, Known>,
    /// Threads whose process has been replaced by another program and is watched anew.
    leaving: Vec<JoinHandle<After>>,
    is_full: bool,
}

impl Supervisor {
    fn new(options: Options, shared: Arc<Shared>) -> Self {
        Self {
            options,
            shared,
            start_ticks: BTreeMap::new(),
            known: BTreeMap::new(),
            leaving: Vec::new(),
            is_full: false,
        }
    }

    /// Watches until dropped. An error where processes were named by id alone and none could be taken up.
    async fn watch(&mut self, readiness: &Readiness) -> anyhow::Result<()> {
        self.first_scan().await?;
        readiness.mark_ready();
        loop {
            sleep(SCAN_EVERY).await;
            self.shared.metrics.set_own(own::facts());
            self.shared.facts.grow_older();
            self.scan();
        }
    }

    async fn first_scan(&mut self) -> anyhow::Result<()> {
        let mut first_error = None;
        // Not `watched`: the thread of a refused target says so a moment before it ends.
        let mut any_taken_up = false;
        for pid in self.options.pids.iter().copied().chain(self.named()).collect::<BTreeSet<_>>() {
            match target_by_pid(pid) {
                Ok(target) => {
                    self.start_ticks.insert(pid, target.identity.start_ticks);
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
        let named = self.named();
        for pid in self.options.pids.iter().copied().chain(named.iter().copied()).collect::<BTreeSet<_>>() {
            if self.known.get(&pid).is_some_and(|known| presence(&known.identity) == Presence::Running) {
                continue;
            }
            match target_by_pid(pid) {
                Ok(target) => {
                    if named.contains(&pid) || self.start_ticks.get(&pid) == Some(&target.identity.start_ticks) {
                        self.take_up(target, None);
                    }
                }
                // Named by id and gone, or gone since we looked: nothing new to say every second.
                Err(DiscoverError::Gone { .. }) => {}
                Err(error) => tracing::debug!(pid, %error, "not taken up"),
            }
        }
    }

    /// Processes that match a name now. Looks through all of /proc.
    fn named(&self) -> BTreeSet<u32> {
        self.options.names.iter().flat_map(NamePattern::pids).collect()
    }

    /// Threads that still have something to do.
    fn watched(&self) -> usize {
        let threads = self.known.values().filter_map(|known| known.thread.as_ref());
        threads.chain(&self.leaving).filter(|thread| !thread.is_finished()).count()
    }

    fn forget_the_ended(&mut self) {
        for known in self.known.values_mut() {
            if let Some(thread) = known.thread.take_if(|thread| thread.is_finished())
                && self.shared.join(known.identity.pid, thread) == After::TryAgain
            {
                known.again = own::now().checked_add(TRY_AGAIN);
            }
        }
        let is_due = |known: &Known| known.again.is_some_and(|again| own::now() >= again);
        self.known.retain(|_, known| {
            known.thread.is_some() || !is_due(known) && presence(&known.identity) == Presence::Running
        });
        self.leaving.retain(|thread| !thread.is_finished());
    }

    fn take_up(&mut self, target: Target, tell: Option<oneshot::Sender<Result<(), StartError>>>) {
        let identity = target.identity;
        let most = if self.options.means.evidence == EvidenceChoice::Exact { MAX_EXACT_TARGETS } else { MAX_TARGETS };
        if self.watched() >= most {
            if !self.is_full {
                self.is_full = true;
                self.shared.metrics.refuse("too_many_targets");
                tracing::warn!(pid = identity.pid, most, "not taken up, nor are others before one ends");
            }
            return;
        }
        self.is_full = false;
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name(format!("target-{}", identity.pid))
            .spawn(move || follow(&target, &shared, tell))
            .map_err(|error| tracing::error!(pid = identity.pid, %error, "cannot start a thread for it"))
            .ok();
        let before = self.known.insert(identity.pid, Known { identity, thread, again: None });
        self.leaving.extend(before.and_then(|known| known.thread));
    }

    /// Waits until nothing is counted any more and every thread is done.
    async fn finish(&mut self) {
        while self.shared.open_gates.load(Ordering::SeqCst) > 0 {
            sleep(END_STEP).await;
        }
        say("counting has stopped");
        while self.watched() > 0 {
            sleep(END_STEP).await;
        }
        let probes = self.shared.probes.load(Ordering::SeqCst);
        if probes > 0 {
            // About 100 ms each: the kernel waits for every CPU.
            say(&format!("the kernel takes {probes} probes away as leakline ends, about {} s", probes.div_ceil(10)));
        }
    }
}

/// Progress, for whoever waits.
fn say(text: &str) {
    // Progress that cannot be written is no reason to stop.
    let _unwritten = writeln!(io::stderr(), "leakline: {text}");
}
