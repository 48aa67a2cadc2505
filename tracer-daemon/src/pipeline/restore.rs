//! `leakline restore`: undoes what a leakline that was killed has left in a process.

use std::path::Path;

use super::{StartError, Subject};
use crate::{
    attach::adopt::{AdoptError, Leftovers, Restored},
    discover::target_by_pid,
    inspect::cache::FactsCache,
};

/// What was done, in a sentence, and whether nothing of ours is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For people.
    pub sentence: String,
    /// Exit status.
    pub code: u8,
}

fn outcome(sentence: String, code: u8) -> Outcome {
    Outcome { sentence, code }
}

/// Tells the operator how it went to turn off a sampler that we turned on.
pub(super) fn tell(pid: u32, restored: Result<Restored, AdoptError>) {
    match restored {
        Ok(Restored::Off) => tracing::info!(pid, "the sampler of the target is off again"),
        Ok(Restored::WasOff) => {
            tracing::warn!(pid, "the sampler of the target was turned off by somebody else meanwhile");
        }
        Ok(Restored::NotOurs { rate_bytes }) => {
            tracing::warn!(pid, rate_bytes, "somebody has set another rate meanwhile; the sampler was left alone");
        }
        Ok(Restored::Gone) => tracing::info!(pid, "the target ended"),
        Err(error) => tracing::error!(
            pid,
            reason = error.id(),
            "the sampler of the target could not be turned off: {error}; try `leakline restore --pid {pid}`"
        ),
    }
}

/// Turns off the sampler of a process where a leakline that is no more has left it on.
///
/// # Errors
/// Where it cannot be turned off, or where it is not certain that it was us.
pub fn restore(pid: u32, folder: &Path) -> Result<Outcome, StartError> {
    let failed = |source: AdoptError| StartError::Adopt { pid, source };
    let mut gone = 0;
    let mut current = None;
    for leftovers in Leftovers::of(pid, folder).map_err(failed)? {
        if leftovers.is_current() {
            current = Some(leftovers);
        } else {
            leftovers.forget().map_err(failed)?;
            gone += 1;
        }
    }
    let Some(leftovers) = current else {
        return Ok(match gone {
            0 => outcome(format!("nothing to restore: no leakline has left anything on in process {pid}"), 0),
            _ => outcome(format!("process {pid} that was written to is gone, and with it what was written"), 0),
        });
    };
    let target = target_by_pid(pid)?;
    let subject = Subject::open(&target, &FactsCache::default())?;
    let restored = leftovers.restore(&subject.facts, subject.bias).map_err(failed)?;
    Ok(match restored {
        Restored::Off => outcome(format!("restored: the sampler of process {pid} is off again"), 0),
        Restored::WasOff => outcome(format!("nothing to restore: the sampler of process {pid} is off already"), 0),
        Restored::Gone => outcome(format!("process {pid} ended meanwhile, and with it what was written"), 0),
        Restored::NotOurs { rate_bytes } => outcome(
            format!(
                "the value is not ours: MemProfileRate of process {pid} is {rate_bytes}, which somebody else has set since; it \
                 was left alone"
            ),
            1,
        ),
    })
}
