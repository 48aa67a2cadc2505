//! Do links of `uprobe_multi` do on this kernel what windows need? Tried on ourselves, once.

use std::{hint::black_box, io, iter, sync::OnceLock, thread};

use rustix::io::Errno;

use super::{
    AttachError, Mechanism,
    own_code::{InstructionKind, OwnProbes, own_file, point_of},
    perf_event,
};
use crate::host::{Check, Evidence, Status};

/// Calls of the probed function in another thread.
const CALLS: u64 = 64;

/// What this kernel makes of a link of `uprobe_multi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiSupport {
    /// Probes of a process are hit by all its threads.
    Works,
    /// Only its first thread hits them: the kernels from 6.6 to 6.9 without the fix of 6.10 (commit 46ba0e49b642).
    ThreadsMissed,
    /// There are no such links, or none for us.
    Unsupported {
        /// What the kernel said, or what did not come true.
        reason: String,
    },
}

impl MultiSupport {
    /// What it is on this kernel. The first call takes some tens of ms, others nothing.
    ///
    /// # Errors
    /// Where the system lacks memory, descriptors or threads for the trial: that may be otherwise in a minute.
    pub fn of_this_kernel() -> Result<&'static Self, AttachError> {
        static FOUND: OnceLock<MultiSupport> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        match try_it() {
            Ok(found) => Ok(FOUND.get_or_init(|| found)),
            Err(error) if is_passing(&error) => Err(error),
            Err(error) => Ok(FOUND.get_or_init(|| Self::Unsupported { reason: with_cause(&error) })),
        }
    }

    /// Why it is not used: "…, since" this. `None`: it is.
    pub fn why_not(&self) -> Option<String> {
        match self {
            Self::Works => None,
            Self::ThreadsMissed => Some("links of uprobe_multi miss threads on this kernel".into()),
            Self::Unsupported { reason } => Some(format!("there are no links of uprobe_multi (Linux 6.6): {reason}")),
        }
    }

    /// How windows are opened here.
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Works => Mechanism::UprobeMulti,
            Self::ThreadsMissed | Self::Unsupported { .. } => Mechanism::PerfEvents,
        }
    }

    /// For `leakline doctor`. Whether perf events do is another check.
    pub fn check(&self) -> Check {
        const ID: &str = "uprobe_multi";
        match self {
            Self::Works => Check::good(ID, "works: all probes of a process go on and off by one link"),
            Self::ThreadsMissed => Check::not_good(
                ID,
                Status::Limited,
                &[Evidence::Bursts],
                "only the first thread of a process hits its probes: bursts then need perf events, which are slow to detach: fewer bursts",
                "boot a kernel of 6.10 or newer, or one with the fix \"bpf: fix multi-uprobe PID filtering logic\"",
            ),
            Self::Unsupported { reason } => Check::not_good(
                ID,
                Status::Limited,
                &[Evidence::Bursts],
                format!(
                    "not to be had: {reason}; bursts then need perf events, which are slow to detach: fewer bursts"
                ),
                "boot a kernel of 6.6 or newer, and grant CAP_BPF and CAP_PERFMON",
            ),
        }
    }
}

/// For `leakline doctor`: probes on ourselves by each mechanism, by all that attaching takes. The first call takes about 0.2 s, most of it
/// waiting.
pub fn probe_checks(multi: &MultiSupport) -> [Check; 2] {
    [multi.check(), perf_events_check(multi, try_perf_events())]
}

/// `tried`: how a probe by perf event ended; `false`: there was nothing to try it on.
fn perf_events_check(multi: &MultiSupport, tried: Result<bool, AttachError>) -> Check {
    const ID: &str = "perf_uprobes";
    let untried = |why: &str, fix| Check::not_good(ID, Status::Limited, &[], format!("not tried: {why}"), fix);
    let error = match tried {
        Ok(true) => return Check::good(ID, "work (about 100 ms a probe to detach)"),
        Ok(false) => return untried("no instruction of leakline's own code can be probed", "report this as a bug"),
        Err(error) => error,
    };
    if matches!(error, AttachError::OwnCode { .. }) {
        return untried(&with_cause(&error), "give leakline /proc, with its own program in it");
    }
    if is_passing(&error) {
        return untried(&with_cause(&error), "try again when memory, descriptors or threads are free");
    }
    // Where links do, windows need none.
    let concerns: &'static [Evidence] =
        if *multi == MultiSupport::Works { &[Evidence::Exact] } else { Evidence::WITH_PROBES };
    let fix = match &error {
        AttachError::NotAllowed { needs, .. } => format!("run as root, or grant {needs}"),
        AttachError::Events { .. } => {
            "mount /sys into the container, or boot a kernel built with CONFIG_UPROBE_EVENTS".to_owned()
        }
        _ => "boot a kernel built with CONFIG_BPF_EVENTS and CONFIG_UPROBE_EVENTS".to_owned(),
    };
    Check::not_good(ID, Status::Missing, concerns, with_cause(&error), fix)
}

fn try_perf_events() -> Result<bool, AttachError> {
    perf_event::source().map_err(|source| AttachError::Events { source })?;
    let exe = own_file()?;
    for kind in InstructionKind::ALL {
        if let Some(point) = point_of(kind, &exe).map_err(|source| AttachError::OwnCode { source })? {
            return OwnProbes::attach(&exe, &[point], Mechanism::PerfEvents).map(|_probes| true);
        }
    }
    Ok(false)
}

fn try_it() -> Result<MultiSupport, AttachError> {
    let unsupported = |reason: &str| MultiSupport::Unsupported { reason: reason.to_owned() };
    let exe = own_file()?;
    for kind in InstructionKind::ALL {
        let Some(point) = point_of(kind, &exe).map_err(|source| AttachError::OwnCode { source })? else { continue };
        let mut probes = OwnProbes::attach(&exe, &[point], Mechanism::UprobeMulti)?;
        // Not the thread that the process began with, whoever calls us.
        if thread::Builder::new().spawn(move || call(kind)).map(thread::JoinHandle::join).is_err() {
            return Ok(unsupported("it cannot be tried, since no thread can be started"));
        }
        return Ok(match probes.hits()? {
            0 => MultiSupport::ThreadsMissed,
            CALLS => MultiSupport::Works,
            hits => MultiSupport::Unsupported { reason: format!("{hits} of {CALLS} hits came") },
        });
    }
    Ok(unsupported("it cannot be tried, since no instruction of our own code can be probed"))
}

fn call(kind: InstructionKind) {
    let function = kind.function();
    for number in 0..CALLS {
        black_box(function(black_box(number)));
    }
}

/// Whether it says nothing of the kernel, only of what there is room for now.
pub(super) fn is_passing(error: &AttachError) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut causes = iter::successors(Some(first), |error| error.source());
    causes.any(|cause| {
        let errno = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error).map(Errno::from_raw_os_error);
        errno.is_some_and(|errno| [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::AGAIN].contains(&errno))
    })
}

pub(super) fn with_cause(error: &AttachError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_need_perf_events_only_where_there_are_no_links() {
        let refused = || Err(perf_event::not_allowed());
        let none = MultiSupport::Unsupported { reason: "old".into() };
        let of = |multi| perf_events_check(multi, refused());
        assert_eq!(of(&MultiSupport::Works).concerns, [Evidence::Exact]);
        assert_eq!(of(&none).concerns, [Evidence::Bursts, Evidence::Exact]);
        assert_eq!(
            of(&none).fix.unwrap(),
            "run as root, or grant CAP_PERFMON and, on kernels patched since mid-2025, CAP_SYS_ADMIN"
        );
        assert_eq!(perf_events_check(&none, Ok(true)).status, Status::Good);
    }
}
