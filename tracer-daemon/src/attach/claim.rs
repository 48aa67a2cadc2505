//! Is another leakline on the same target?
//!
//! Two are allowed and both are right, but each costs the target; the user should know. A claim is a socket name in the
//! abstract namespace: the kernel takes it back when its owner dies, and it leaves no file. It is seen within one network
//! namespace.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use crate::discover::ProcessIdentity;

/// Our claim on a target, held while this value lives.
#[derive(Debug)]
#[allow(dead_code, reason = "the socket is held, not used")]
pub struct Claim {
    /// None: there was no claim to be had.
    socket: Option<UnixDatagram>,
    is_shared: bool,
}

impl Claim {
    /// Claims a target.
    pub fn on(target: &ProcessIdentity) -> Self {
        // An exec makes another target: our own claim on the old one may not have ended yet.
        let name = format!("leakline/{}/{}/{:x}", target.pid, target.start_ticks, target.start_stack);
        match SocketAddr::from_abstract_name(name).and_then(|name| UnixDatagram::bind_addr(&name)) {
            Ok(socket) => Self { socket: Some(socket), is_shared: false },
            // Any other error says nothing about others.
            Err(error) => Self { socket: None, is_shared: error.kind() == io::ErrorKind::AddrInUse },
        }
    }

    /// Whether another leakline was here first.
    pub fn is_shared(&self) -> bool {
        self.is_shared
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
