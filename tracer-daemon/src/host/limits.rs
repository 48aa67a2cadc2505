//! The limits of this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises what many targets need: descriptors (one for each probe and map) to the hard limit, and locked memory, to which
/// kernels before 5.11 charge BPF maps, to no limit. What is not allowed stays as it is: it shows where it is short.
pub fn raise_limits() {
    let descriptors = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors });
    let unlocked = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    tracing::debug!(?raised, ?unlocked, "limits of descriptors and of locked memory");
}
