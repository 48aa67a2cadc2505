//! Whose memory may be read? `CAP_SYS_PTRACE`, the user and Yama decide (`__ptrace_may_access` in `kernel/ptrace.c`,
//! `yama_ptrace_access_check` in `security/yama/yama_lsm.c`).
//!
//! About the host; what forbids it for one process is told by `read::Denial`.

use std::fs;

use super::{Capabilities, Capability, Check, Evidence, Status};

const YAMA: &str = "yama_ptrace_scope";
const GRANT: &str = "run as root, or grant CAP_SYS_PTRACE";

/// Whether any process may be read, and what Yama says to that.
pub(super) fn of_this_process() -> [Check; 2] {
    let may_read_any = Capabilities::of_this_process().map(|held| held.has(Capability::SysPtrace));
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    [reading(may_read_any), yama(may_read_any, scope.and_then(|scope| scope.trim().parse().ok()))]
}

/// `may_read_any`: whether we have `CAP_SYS_PTRACE`; `None`: not known.
fn reading(may_read_any: Option<bool>) -> Check {
    let found = match may_read_any {
        Some(true) => return Check::good("reading", "CAP_SYS_PTRACE: processes of all users"),
        Some(false) => "lacking CAP_SYS_PTRACE: only processes of the same user that have no capability that we lack",
        None => "only processes of the same user, unless we have CAP_SYS_PTRACE, which /proc/self/status does not say",
    };
    Check::not_good("reading", Status::Limited, &Evidence::ALL, found, GRANT)
}

/// `scope`: `kernel.yama.ptrace_scope`; `None`: there is no Yama.
fn yama(may_read_any: Option<bool>, scope: Option<u8>) -> Check {
    match (scope, may_read_any) {
        (None, _) => Check::good(YAMA, "there is no Yama"),
        (Some(0), _) => Check::good(YAMA, "0: forbids nothing"),
        (Some(scope @ (1 | 2)), Some(true)) => Check::good(YAMA, format!("{scope}: forbids nothing to CAP_SYS_PTRACE")),
        // `leakline check` reads what it has started, and opens no windows.
        (Some(1), _) => Check::not_good(
            YAMA,
            Status::Missing,
            &[Evidence::Bursts],
            "1: without CAP_SYS_PTRACE only the memory of what leakline has started itself may be read: books, by `leakline check`",
            "run as root, grant CAP_SYS_PTRACE, or set kernel.yama.ptrace_scope to 0",
        ),
        (Some(2), _) => Check::not_good(
            YAMA,
            Status::Missing,
            Evidence::READING,
            "2: nobody may read another process's memory without CAP_SYS_PTRACE",
            GRANT,
        ),
        (Some(scope), _) => Check::not_good(
            YAMA,
            Status::Missing,
            Evidence::READING,
            format!("{scope}: nobody may read another process's memory"),
            "set kernel.yama.ptrace_scope to 1 in /etc/sysctl.d and boot: until then it cannot be changed",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yama_counts_without_the_capability_and_at_3_with_it() {
        let possible = |may_read_any, scope| {
            let checks = [reading(Some(may_read_any)), yama(Some(may_read_any), scope)];
            Evidence::ALL.map(|evidence| evidence.is_possible(&checks))
        };
        for scope in [None, Some(0), Some(1), Some(2)] {
            assert_eq!(possible(true, scope), [true; 3], "{scope:?}");
        }
        for scope in [None, Some(0)] {
            assert_eq!(possible(false, scope), [true; 3], "{scope:?}");
        }
        assert_eq!(possible(false, Some(1)), [true, false, true]);
        assert_eq!(possible(false, Some(2)), [false, false, true]);
        assert_eq!(possible(true, Some(3)), [false, false, true]);
        assert_eq!(reading(Some(false)).status, Status::Limited);
    }
}
