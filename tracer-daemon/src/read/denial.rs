//! What forbids us to read another process's memory: the knobs, each with the value that it has now.
//!
//! The kernel says no more than EPERM (`__ptrace_may_access` in kernel/ptrace.c; `security/yama/yama_lsm.c`). All of this is
//! read afterwards, for the message alone.

use std::fmt;
use std::fs;

/// The bit of `CAP_SYS_PTRACE` (include/uapi/linux/capability.h).
const CAP_SYS_PTRACE: u32 = 19;

/// What was seen of each knob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// Whether we have `CAP_SYS_PTRACE`. None means not known.
    pub capability: Option<bool>,
    /// `kernel.yama.ptrace_scope`. None means that there is no Yama.
    pub yama_scope: Option<u8>,
    /// Our real user id, which is what counts here.
    pub our_uid: u32,
    /// That of the process. None means that it is hidden from us (`hidepid` of /proc), or gone.
    pub target_uid: Option<u32>,
    /// Whether /proc belongs to another than the process's own user: it may not be dumped (`PR_SET_DUMPABLE`, or a program
    /// that is set-user-id or unreadable).
    pub undumpable: bool,
    /// Whether the process is in another user namespace. None means not known.
    pub other_user_namespace: Option<bool>,
    /// Whether a seccomp filter restricts us (`Seccomp: 2`).
    pub our_seccomp: bool,
}

impl Denial {
    /// What is seen now.
    pub(super) fn of(pid: u32) -> Self {
        let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let target = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let capabilities = field(&own, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
        let target_uid = field(&target, "Uid:").and_then(|uid| uid.parse().ok());
        let owner =
            fs::metadata(format!("/proc/{pid}/mem")).ok().map(|file| std::os::unix::fs::MetadataExt::uid(&file));
        Self {
            capability: capabilities.map(|bits| bits >> CAP_SYS_PTRACE & 1 == 1),
            yama_scope: fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            our_uid: field(&own, "Uid:").and_then(|uid| uid.parse().ok()).unwrap_or_default(),
            target_uid,
            undumpable: owner.zip(target_uid).is_some_and(|(owner, uid)| owner != uid),
            other_user_namespace: namespace("self").zip(namespace(&pid.to_string())).map(|(own, other)| own != other),
            our_seccomp: field(&own, "Seccomp:") == Some("2"),
        }
    }
}

/// The first word behind a name in `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = Vec::new();
        match self.capability {
            Some(true) => reasons.push("we have CAP_SYS_PTRACE".to_owned()),
            Some(false) => reasons.push("we lack CAP_SYS_PTRACE, which would suffice".to_owned()),
            None => reasons.push("it needs CAP_SYS_PTRACE".to_owned()),
        }
        match (self.yama_scope, self.capability) {
            (Some(3), _) => reasons.push("kernel.yama.ptrace_scope is 3: nobody may until the next boot".to_owned()),
            (Some(scope @ (1 | 2)), Some(false) | None) => {
                reasons.push(format!("kernel.yama.ptrace_scope is {scope}: without the capability only 0 allows it"));
            }
            _ => {}
        }
        match self.target_uid {
            None => reasons.push("the process is hidden from us (hidepid of /proc) or gone".to_owned()),
            Some(uid) if uid != self.our_uid => {
                reasons.push(format!("it runs as user {uid} and we as {}", self.our_uid));
            }
            Some(_) => {}
        }
        if self.undumpable {
            reasons.push("it is marked as not dumpable, or its executable may not be read".to_owned());
        }
        if self.other_user_namespace == Some(true) {
            reasons.push("it is in another user namespace, where our capabilities may not count".to_owned());
        }
        if self.our_seccomp {
            reasons.push("a seccomp filter restricts us: it may forbid process_vm_readv and ptrace".to_owned());
        }
        write!(formatter, "{}", reasons.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_that_forbids_is_named_with_its_value() {
        let denial = Denial {
            capability: Some(false),
            yama_scope: Some(1),
            our_uid: 1000,
            target_uid: Some(0),
            undumpable: false,
            other_user_namespace: Some(true),
            our_seccomp: true,
        };
        let text = denial.to_string();
        for expected in ["CAP_SYS_PTRACE", "ptrace_scope is 1", "user 0 and we as 1000", "user namespace", "seccomp"] {
            assert!(text.contains(expected), "{text}");
        }
        let nobody = Denial { capability: Some(true), yama_scope: Some(3), ..Denial::default() };
        assert!(nobody.to_string().contains("ptrace_scope is 3"), "{nobody}");
        let hidden = Denial { target_uid: None, ..denial }.to_string();
        assert!(hidden.contains("hidepid"), "{hidden}");
    }

    #[test]
    fn what_is_seen_of_ourselves_is_right() {
        let denial = Denial::of(std::process::id());
        assert_eq!(denial.target_uid, Some(denial.our_uid));
        assert_eq!(denial.other_user_namespace, Some(false));
        assert!(denial.capability.is_some());
    }
}
