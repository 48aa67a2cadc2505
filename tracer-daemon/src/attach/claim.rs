//! Is another leakline on the same target?
//!
//! Two are allowed and both are right, but each costs the target; the user should know. A claim is a socket name in the
//! abstract namespace: the kernel takes it back when its owner dies, and it leaves no file. It is seen within one network
//! namespace.

use std::os::{
    linux::net::SocketAddrExt as _,
    unix::net::{SocketAddr, UnixDatagram},
};

use crate::discover::ProcessIdentity;

/// Our claim on a target, held while this value lives.
#[derive(Debug)]
pub struct Claim {
    socket: Option<UnixDatagram>,
}

impl Claim {
    /// Claims a target.
    pub fn on(target: &ProcessIdentity) -> Self {
        let name = format!("leakline/{}/{}", target.pid, target.start_ticks);
        let socket = SocketAddr::from_abstract_name(name).and_then(|name| UnixDatagram::bind_addr(&name)).ok();
        Self { socket }
    }

    /// Whether another leakline was here first.
    pub fn is_shared(&self) -> bool {
        self.socket.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::Claim;
    use crate::discover::ProcessIdentity;

    #[test]
    fn the_second_claim_is_shared_until_the_first_ends() {
        let target = ProcessIdentity { pid: 1, start_ticks: u64::MAX, start_stack: 0, exe_device: 0, exe_inode: 0 };
        let first = Claim::on(&target);
        assert!(!first.is_shared());
        assert!(Claim::on(&target).is_shared());
        drop(first);
        assert!(!Claim::on(&target).is_shared());
    }
}
