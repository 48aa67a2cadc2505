//! Which limit comes first: that of the group, that of the runtime, or the memory of the host.

use super::memory::MemoryStatement;
use crate::read::books::Books;

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitSource {
    /// The control group, or one above it: beyond it the kernel kills.
    Cgroup,
    /// GOMEMLIMIT: beyond it the collector runs all the time.
    Gomemlimit,
    /// The memory of the host.
    Host,
}

impl LimitSource {
    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Gomemlimit => "gomemlimit",
            Self::Host => "host",
        }
    }
}

/// The least limit of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// Whose it is.
    pub source: LimitSource,
}

impl Limit {
    /// The least of those that are known; of equals the one that kills. `None`: none is.
    pub fn least(books: Option<&Books>, statement: Option<&MemoryStatement>) -> Option<Self> {
        let group = statement.and_then(|statement| statement.cgroup.as_ref()?.limit.as_ref());
        let pacer = books.and_then(|books| books.pacer.as_ref().ok());
        let host = statement.and_then(|statement| statement.host);
        let limits = [
            (group.map(|limit| limit.bytes), LimitSource::Cgroup),
            (host.map(|host| host.total_bytes), LimitSource::Host),
            (pacer.and_then(|pacer| pacer.memory_limit_bytes), LimitSource::Gomemlimit),
        ];
        let known = limits.into_iter().filter_map(|(bytes, source)| Some(Self { bytes: bytes?, source }));
        known.min_by_key(|limit| limit.bytes)
    }
}
