//! The scheduler as others see it: targets are handed to it, and taken from it.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use super::{bell::Bell, calibrator::Calibrator, scheduler::Scheduler, target::BurstTarget};
use crate::{
    attach::{
        Calibration, Holders, Mechanism, TrapCosts,
        governor::{Config, Costs, TargetId},
    },
    pipeline::Killswitch,
};

/// The scheduler of this host. Ends all windows when dropped.
#[derive(Debug)]
pub(in crate::pipeline) struct BurstHost {
    shared: Arc<Shared>,
    mechanism: Mechanism,
    why_slow: Option<String>,
    thread: Option<JoinHandle<()>>,
    calibrator: Option<Calibrator>,
}

/// What both sides have.
#[derive(Debug)]
pub(super) struct Shared {
    commands: Mutex<VecDeque<Command>>,
    /// Wakes the thread up.
    pub(super) bell: Bell,
    /// Targets that have a place.
    targets: AtomicUsize,
    /// Targets so far: the number of the next.
    numbers: AtomicU64,
}

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Command {
    Add(TargetId, Box<BurstTarget>),
    Remove(TargetId),
    /// What traps cost was measured again.
    Calibrate(TrapCosts),
    Stop,
}

impl Shared {
    fn commands(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that were not obeyed yet.
    pub(super) fn take_commands(&self) -> VecDeque<Command> {
        std::mem::take(&mut *self.commands())
    }

    pub(super) fn command(&self, command: Command) {
        self.commands().push_back(command);
        self.bell.ring();
    }
}

/// Windows are opened in so many processes at most: each takes about 2 MB and 0.1 % of a core of ours, and where they are busy they share what windows may take.
pub(in crate::pipeline) const TARGETS_MAX: usize = 64;

/// A target that the scheduler has. Taken from it when dropped.
#[derive(Debug)]
pub(in crate::pipeline) struct Place {
    shared: Arc<Shared>,
    id: TargetId,
}

impl Place {
    /// The session has left something on the desk that is not to wait.
    pub(in crate::pipeline) fn ring(&self) {
        self.shared.bell.ring();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.targets.fetch_sub(1, Ordering::Relaxed);
        self.shared.command(Command::Remove(self.id));
    }
}

impl BurstHost {
    /// Starts the thread. `why_slow`: why windows are not opened by the faster mechanism.
    ///
    /// # Errors
    /// Where the system has no room for it.
    pub(super) fn start(
        config: Config,
        costs: Costs,
        holders: Holders,
        mechanism: Mechanism,
        why_slow: Option<String>,
        killswitch: Option<Killswitch>,
    ) -> std::io::Result<Self> {
        let bell = Bell::new()?;
        let (targets, numbers) = (AtomicUsize::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { commands: Mutex::default(), bell, targets, numbers });
        let mut scheduler = Scheduler::new(Arc::clone(&shared), config, costs, holders, killswitch);
        let thread = thread::Builder::new().name("bursts".into()).spawn(move || scheduler.run())?;
        Ok(Self { shared, mechanism, why_slow, thread: Some(thread), calibrator: None })
    }

    /// From now on what a hit costs is measured again and again. Without a thread for it the first measurement is believed.
    pub(super) fn calibrate(&mut self, calibration: Calibration, killswitch: Option<Killswitch>) {
        match Calibrator::start(Arc::clone(&self.shared), calibration, killswitch) {
            Ok(calibrator) => self.calibrator = Some(calibrator),
            Err(error) => tracing::debug!(%error, "what a hit costs is measured only once"),
        }
    }

    /// How windows are opened.
    pub(in crate::pipeline) fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// Why windows are not opened by the faster mechanism. `None`: they are.
    pub(in crate::pipeline) fn why_slow(&self) -> Option<&str> {
        self.why_slow.as_deref()
    }

    /// Whether one target more may be added; beyond that windows would be rare for all.
    pub(in crate::pipeline) fn has_room(&self) -> bool {
        self.shared.targets.load(Ordering::Relaxed) < TARGETS_MAX
    }

    /// From now on windows are opened in this target, until the place is dropped.
    pub(in crate::pipeline) fn add(&self, target: BurstTarget) -> Place {
        // A process that became another program is another target, which may come before the first has gone.
        let id = TargetId(self.shared.numbers.fetch_add(1, Ordering::Relaxed));
        self.shared.targets.fetch_add(1, Ordering::Relaxed);
        self.shared.command(Command::Add(id, Box::new(target)));
        Place { shared: Arc::clone(&self.shared), id }
    }
}

impl Drop for BurstHost {
    fn drop(&mut self) {
        self.calibrator = None;
        self.shared.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so; links end with this process.
            let _panicked = thread.join();
        }
    }
}
