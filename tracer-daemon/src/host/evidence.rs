//! What a host allows of each kind of evidence.

use super::{Check, Status};

/// A kind of evidence, as far as it depends on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The memory of a process is read, without a probe.
    Books,
    /// Probes in short windows, beside the books.
    Bursts,
    /// A probe on every allocation.
    Exact,
}

impl Evidence {
    /// All of them, cheapest first.
    pub const ALL: [Self; 3] = [Self::Books, Self::Bursts, Self::Exact];
    /// Those that put probes into a program.
    pub const WITH_PROBES: &'static [Self] = &[Self::Bursts, Self::Exact];
    /// Those that read its memory.
    pub const READING: &'static [Self] = &[Self::Books, Self::Bursts];

    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Books => "books",
            Self::Bursts => "bursts",
            Self::Exact => "exact",
        }
    }

    /// The checks for which it cannot be had.
    pub fn missing(self, checks: &[Check]) -> impl Iterator<Item = &Check> {
        self.concerned(checks, Status::Missing)
    }

    /// The checks for which it gives less than it could.
    pub fn limited(self, checks: &[Check]) -> impl Iterator<Item = &Check> {
        self.concerned(checks, Status::Limited)
    }

    /// Whether nothing that it takes is missing.
    pub fn is_possible(self, checks: &[Check]) -> bool {
        self.missing(checks).next().is_none()
    }

    fn concerned(self, checks: &[Check], status: Status) -> impl Iterator<Item = &Check> {
        checks.iter().filter(move |check| check.status == status && check.concerns.contains(&self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_for_one_kind_leaves_the_others() {
        let limited = Check::not_good("slow", Status::Limited, &[Evidence::Bursts], "slow", "fix it");
        let missing = Check::not_good("none", Status::Missing, &[Evidence::Exact], "none", "fix it");
        let checks = [Check::good("kernel", "new"), limited, missing];
        assert_eq!(Evidence::ALL.map(|evidence| evidence.is_possible(&checks)), [true, true, false]);
        assert_eq!(Evidence::Bursts.limited(&checks).map(|check| check.id).collect::<Vec<_>>(), ["slow"]);
        assert_eq!(Evidence::Exact.missing(&checks).map(|check| check.id).collect::<Vec<_>>(), ["none"]);
    }
}
