//! A ring of records, whatever they are: taken out oldest first, and counted where they follow no contract.

use std::{
    fmt,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::maps::{MapData, RingBuf};

/// A ring and what was not understood of it.
pub(super) struct Records {
    ring: RingBuf<MapData>,
    undecodable: u64,
}

impl fmt::Debug for Records {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Records").field("undecodable", &self.undecodable).finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring, undecodable: 0 }
    }

    /// Hands every record now in the ring to `receive`, oldest first.
    pub(super) fn drain<T>(&mut self, decode: impl Fn(&[u8]) -> Option<T>, mut receive: impl FnMut(T)) {
        while let Some(bytes) = self.ring.next() {
            match decode(&bytes) {
                Some(record) => receive(record),
                None => self.undecodable += 1,
            }
        }
    }

    /// Records that did not follow the contract; anything but 0 is a bug.
    pub(super) fn undecodable(&self) -> u64 {
        self.undecodable
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
