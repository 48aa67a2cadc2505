//! What can this kernel and this user do?
//!
//! Owns every question that is about the machine and not about a target; `leakline doctor` prints the answers. Each
//! check says what was found, what it means, and how to fix it.

mod capabilities;
mod evidence;
mod limits;
mod reading;

use std::{fs, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_map_supported, is_program_supported},
};
use procfs::KernelVersion;

pub use capabilities::{Capabilities, Capability};
pub use evidence::Evidence;
pub use limits::raise_limits;

/// The oldest kernel whose features are enough for probes.
pub const OLDEST_KERNEL: (u8, u8) = (5, 10);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Good,
    /// It works, with less than it could have.
    Limited,
    /// The evidence that it concerns cannot be had.
    Missing,
}

impl Status {
    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Stable identifier.
    pub id: &'static str,
    /// How it ended.
    pub status: Status,
    /// The evidence that cannot be had, or has less, as long as nothing is done. Empty: nothing is to be done, or it is not known.
    pub concerns: &'static [Evidence],
    /// What was found, and what it means.
    pub found: String,
    /// What to do; None: nothing to do.
    pub fix: Option<String>,
}

impl Check {
    /// Nothing to do.
    pub fn good(id: &'static str, found: impl Into<String>) -> Self {
        Self { id, status: Status::Good, concerns: &[], found: found.into(), fix: None }
    }

    /// Something to do.
    pub fn not_good(
        id: &'static str,
        status: Status,
        concerns: &'static [Evidence],
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { id, status, concerns, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Looks at everything that evidence of any kind needs, in the order in which a person would fix it; what is tried out on
/// ourselves stands in `attach::probe_checks`.
pub fn examine() -> Vec<Check> {
    let [reading, yama] = reading::of_this_process();
    vec![
        architecture(),
        kernel(),
        reading,
        yama,
        capabilities(Capabilities::of_this_process()),
        bpf_programs(),
        ring_buffer(),
        lockdown(),
        btf(),
        pid_namespace(),
        tracefs(),
    ]
}

fn architecture() -> Check {
    match std::env::consts::ARCH {
        "x86_64" => Check::good("architecture", "x86-64"),
        other => Check::not_good(
            "architecture",
            Status::Missing,
            &Evidence::ALL,
            format!("{other}: only x86-64 is supported so far"),
            "run leakline on an x86-64 host",
        ),
    }
}

fn kernel() -> Check {
    let (major, minor) = OLDEST_KERNEL;
    match KernelVersion::current() {
        Ok(version) if (version.major, version.minor) >= OLDEST_KERNEL => {
            Check::good("kernel", format!("Linux {}.{}.{}", version.major, version.minor, version.patch))
        }
        Ok(version) => Check::not_good(
            "kernel",
            Status::Missing,
            Evidence::WITH_PROBES,
            format!("Linux {}.{}.{}: older than {major}.{minor}", version.major, version.minor, version.patch),
            format!("boot a kernel of {major}.{minor} or newer"),
        ),
        Err(error) => Check::not_good(
            "kernel",
            Status::Limited,
            Evidence::WITH_PROBES,
            format!("version unknown: {error}"),
            "make /proc readable for leakline",
        ),
    }
}

fn capabilities(held: Option<Capabilities>) -> Check {
    const ID: &str = "capabilities";
    let Some(held) = held else {
        return Check::not_good(
            ID,
            Status::Limited,
            &[],
            "unknown: /proc/self/status has no CapEff",
            "make /proc readable for leakline",
        );
    };
    let missing: Vec<&str> = held.missing_for_programs().map(Capability::name).collect();
    if missing.is_empty() {
        return Check::good(ID, "programs may be loaded that trace");
    }
    Check::not_good(
        ID,
        Status::Missing,
        Evidence::WITH_PROBES,
        format!("lacking {}: no programs may be loaded that trace", missing.join(" and ")),
        "run as root, or grant them; in Kubernetes add them to securityContext.capabilities.add",
    )
}

fn bpf_programs() -> Check {
    match is_program_supported(ProgramType::KProbe) {
        Ok(true) => Check::good("bpf_programs", "the kernel loads uprobe programs"),
        Ok(false) => Check::not_good(
            "bpf_programs",
            Status::Missing,
            Evidence::WITH_PROBES,
            "the kernel knows no uprobe programs",
            "boot a kernel built with CONFIG_BPF_EVENTS and CONFIG_UPROBE_EVENTS",
        ),
        Err(error) => Check::not_good(
            "bpf_programs",
            Status::Missing,
            Evidence::WITH_PROBES,
            format!("the kernel refused a test program: {error}"),
            "grant CAP_BPF and CAP_PERFMON, or run as root; in a container allow the bpf system call (seccomp)",
        ),
    }
}

fn ring_buffer() -> Check {
    match is_map_supported(MapType::RingBuf) {
        Ok(true) => Check::good("ring_buffer", "supported"),
        Ok(false) => Check::not_good(
            "ring_buffer",
            Status::Missing,
            Evidence::WITH_PROBES,
            "the kernel has no BPF ring buffer",
            "boot a kernel of 5.8 or newer",
        ),
        Err(error) => Check::not_good(
            "ring_buffer",
            Status::Missing,
            Evidence::WITH_PROBES,
            format!("the kernel refused a test map: {error}"),
            "grant CAP_BPF, or run as root; in a container allow the bpf system call (seccomp)",
        ),
    }
}

fn lockdown() -> Check {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if text.contains("[confidentiality]") {
        Check::not_good(
            "lockdown",
            Status::Limited,
            Evidence::WITH_PROBES,
            "confidentiality: the kernel may refuse programs that read memory",
            "boot with lockdown=integrity",
        )
    } else {
        Check::good("lockdown", "does not stand in the way")
    }
}

fn btf() -> Check {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Check::good("btf", "present")
    } else {
        Check::good("btf", "absent: not needed, the programs use no kernel structures")
    }
}

fn pid_namespace() -> Check {
    /// The inode of the first PID namespace (`PROC_PID_INIT_INO` of the kernel, 0xEFFFFFFC).
    const OF_THE_HOST: &str = "pid:[4026531836]";
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if namespace.as_os_str() == OF_THE_HOST => {
            Check::good("pid_namespace", "the host's: all processes can be seen")
        }
        Ok(_) => Check::not_good(
            "pid_namespace",
            Status::Limited,
            &Evidence::ALL,
            "leakline runs in a PID namespace of its own and sees only the processes in it",
            "run with the host's PID namespace (Kubernetes: hostPID: true) to see the others",
        ),
        Err(error) => Check::not_good(
            "pid_namespace",
            Status::Limited,
            &[],
            format!("unknown: {error}"),
            "mount /proc for leakline",
        ),
    }
}

fn tracefs() -> Check {
    Check::good("tracefs", "not needed")
}

#[cfg(test)]
mod tests {
    use super::{Capabilities, Capability, Evidence, Status, capabilities, examine};

    #[test]
    fn windows_need_no_administrator() {
        let held = |held: &[Capability]| Capabilities(held.iter().map(|held| 1 << *held as u32).sum());
        let of = |capabilities_held: &[Capability]| capabilities(Some(held(capabilities_held)));
        assert_eq!(of(&[Capability::Bpf, Capability::Perfmon]).status, Status::Good);
        assert_eq!(of(&[Capability::SysAdmin]).status, Status::Good);
        let checks = [of(&[Capability::Bpf, Capability::SysPtrace])];
        assert_eq!(checks[0].found, "lacking CAP_PERFMON: no programs may be loaded that trace");
        assert_eq!(Evidence::ALL.map(|evidence| evidence.is_possible(&checks)), [true, false, false]);
    }

    #[test]
    fn what_is_not_good_says_how_to_fix_it_and_ids_are_unique() {
        let checks = examine();
        for check in &checks {
            assert_eq!(check.status == Status::Good, check.fix.is_none(), "{check:?}");
            assert!(check.status != Status::Missing || !check.concerns.is_empty(), "{check:?}");
        }
        let mut ids: Vec<_> = checks.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), checks.len());
    }
}
