//! What can this kernel and this user do?
//!
//! Owns every question that is about the machine and not about a target; `leakline doctor` prints the answers. Each
//! check says what was found, what it means, and how to fix it.

mod capabilities;
mod limits;

use std::{fs, path::Path};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_map_supported, is_program_supported},
};
use procfs::KernelVersion;

pub use capabilities::{Capabilities, Capability};
pub use limits::raise_limits;

/// The oldest kernel whose features are enough. Tests run on newer ones.
pub const OLDEST_KERNEL: (u8, u8) = (5, 10);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Good,
    /// leakline works, with less than it could have.
    Limited,
    /// leakline cannot attach.
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
    /// What was found, and what it means.
    pub found: String,
    /// What to do; None: nothing to do.
    pub fix: Option<String>,
}

impl Check {
    /// Nothing to do.
    pub fn good(id: &'static str, found: impl Into<String>) -> Self {
        Self { id, status: Status::Good, found: found.into(), fix: None }
    }

    /// Something to do.
    pub fn not_good(id: &'static str, status: Status, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { id, status, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Looks at everything that `exact` evidence needs, in the order in which a person would fix it.
pub fn examine() -> Vec<Check> {
    vec![
        architecture(),
        kernel(),
        capabilities(),
        bpf_programs(),
        ring_buffer(),
        perf_uprobes(),
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
            format!("Linux {}.{}.{}: older than {major}.{minor}", version.major, version.minor, version.patch),
            format!("boot a kernel of {major}.{minor} or newer"),
        ),
        Err(error) => Check::not_good(
            "kernel",
            Status::Limited,
            format!("version unknown: {error}"),
            "make /proc readable for leakline",
        ),
    }
}

fn capabilities() -> Check {
    match Capabilities::of_this_process() {
        None => Check::not_good(
            "capabilities",
            Status::Limited,
            "unknown: /proc/self/status has no CapEff",
            "make /proc readable for leakline",
        ),
        Some(held) => {
            let missing: Vec<&str> = held.missing().map(Capability::name).collect();
            if missing.is_empty() {
                Check::good("capabilities", "all that attaching needs")
            } else {
                Check::not_good(
                    "capabilities",
                    Status::Missing,
                    format!("lacking {}", missing.join(", ")),
                    "run as root; in Kubernetes add them to securityContext.capabilities.add",
                )
            }
        }
    }
}

fn bpf_programs() -> Check {
    match is_program_supported(ProgramType::KProbe) {
        Ok(true) => Check::good("bpf_programs", "the kernel loads uprobe programs"),
        Ok(false) => Check::not_good(
            "bpf_programs",
            Status::Missing,
            "the kernel knows no uprobe programs",
            "boot a kernel built with CONFIG_BPF_EVENTS and CONFIG_UPROBE_EVENTS",
        ),
        Err(error) => Check::not_good(
            "bpf_programs",
            Status::Missing,
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
            "the kernel has no BPF ring buffer",
            "boot a kernel of 5.8 or newer",
        ),
        Err(error) => Check::not_good(
            "ring_buffer",
            Status::Missing,
            format!("the kernel refused a test map: {error}"),
            "grant CAP_BPF, or run as root; in a container allow the bpf system call (seccomp)",
        ),
    }
}

fn perf_uprobes() -> Check {
    if Path::new("/sys/bus/event_source/devices/uprobe/type").exists() {
        Check::good("perf_uprobes", "supported (about 100 ms a probe to detach)")
    } else {
        Check::not_good(
            "perf_uprobes",
            Status::Missing,
            "no uprobe event source under /sys/bus/event_source/devices",
            "mount /sys into the container, or boot a kernel built with CONFIG_UPROBE_EVENTS",
        )
    }
}

fn lockdown() -> Check {
    let text = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if text.contains("[confidentiality]") {
        Check::not_good(
            "lockdown",
            Status::Limited,
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
            "leakline runs in a PID namespace of its own and sees only the processes in it",
            "run with the host's PID namespace (Kubernetes: hostPID: true) to see the others",
        ),
        Err(error) => {
            Check::not_good("pid_namespace", Status::Limited, format!("unknown: {error}"), "mount /proc for leakline")
        }
    }
}

fn tracefs() -> Check {
    Check::good("tracefs", "not needed")
}

#[cfg(test)]
mod tests {
    use super::{Status, examine};

    #[test]
    fn what_is_not_good_says_how_to_fix_it_and_ids_are_unique() {
        let checks = examine();
        for check in &checks {
            assert_eq!(check.status == Status::Good, check.fix.is_none(), "{check:?}");
        }
        let mut ids: Vec<_> = checks.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), checks.len());
    }
}
