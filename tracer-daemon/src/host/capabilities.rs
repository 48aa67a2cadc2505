//! The capabilities of this process.

use procfs::process::Process;

/// A capability that evidence of some kind needs; the number is the kernel's (`include/uapi/linux/capability.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Read another process's executable and memory.
    SysPtrace = 19,
    /// Perf-event uprobes, on kernels patched since mid-2025.
    SysAdmin = 21,
    /// Programs that trace.
    Perfmon = 38,
    /// Programs and maps.
    Bpf = 39,
}

impl Capability {
    /// The name that manuals and manifests use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

/// A set of effective capabilities, as the kernel's bit mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// What this process may do. None: /proc does not say.
    pub fn of_this_process() -> Option<Self> {
        Process::myself().ok()?.status().ok().map(|status| Self(status.capeff))
    }

    /// Whether the capability is in the set.
    pub fn has(self, capability: Capability) -> bool {
        self.0 >> (capability as u32) & 1 == 1
    }

    /// What loading programs that trace needs and is not in the set. `CAP_SYS_ADMIN` stands for both: they were split off from it.
    pub fn missing_for_programs(self) -> impl Iterator<Item = Capability> {
        let is_granted = move |capability| self.has(capability) || self.has(Capability::SysAdmin);
        [Capability::Bpf, Capability::Perfmon].into_iter().filter(move |&capability| !is_granted(capability))
    }
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Capability};

    #[test]
    fn bits_are_the_kernels() {
        let set = Capabilities(1 << 39 | 1 << 19);
        assert!(set.has(Capability::Bpf) && set.has(Capability::SysPtrace));
        assert_eq!(set.missing_for_programs().collect::<Vec<_>>(), [Capability::Perfmon]);
        let administrator = Capabilities(1 << 21);
        assert_eq!(administrator.missing_for_programs().count(), 0);
    }
}
