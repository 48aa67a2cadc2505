//! A thread that measures again what a hit costs: on a shared machine that changes, and one measurement may have met a bad moment.
//!
//! A measurement takes about 80 ms of CPU time, on our own code (`attach/calibration.rs`): first often, then every five minutes.

use std::{
    iter,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::host::{Command, Shared};
use crate::{attach::Calibration, pipeline::Killswitch};

/// Pauses before the first measurements: with that at the start they are as many as are remembered.
const FIRST: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20), Duration::from_secs(40)];
/// The pause before each that follows.
const EVERY: Duration = Duration::from_secs(300);

/// Ends the thread when dropped.
#[derive(Debug)]
pub(super) struct Calibrator {
    /// Nothing is sent: that it is gone is what the thread hears.
    alive: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Calibrator {
    /// Starts the thread. No probe is put into our own code, either, while the killswitch is on.
    ///
    /// # Errors
    /// Where the system has no room for it.
    pub(super) fn start(
        shared: Arc<Shared>,
        mut calibration: Calibration,
        killswitch: Option<Killswitch>,
    ) -> std::io::Result<Self> {
        let (alive, ended) = mpsc::sync_channel(0);
        let measure = move || {
            for pause in FIRST.into_iter().chain(iter::repeat(EVERY)) {
                if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                if killswitch.as_ref().is_some_and(Killswitch::is_on) {
                    continue;
                }
                match calibration.again() {
                    Ok(()) => {
                        let costs = calibration.costs();
                        tracing::debug!(push_ns = costs.push.ns, jump_ns = costs.jump.ns, "what a hit costs");
                        shared.command(Command::Calibrate(costs));
                    }
                    Err(error) => tracing::debug!(%error, "what a hit costs was not measured again"),
                }
            }
        };
        let thread = thread::Builder::new().name("calibrator".into()).spawn(measure)?;
        Ok(Self { alive: Some(alive), thread: Some(thread) })
    }
}

impl Drop for Calibrator {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _panicked = thread.join();
        }
    }
}
