//! When does memory run out?
//!
//! What collections find alive is not what the kernel counts: between two collections the heap grows to its goal, so that a
//! byte that leaks takes 1 + GOGC/100 bytes of a limit of the kernel (runtime/mgcpacer.go, `gcControllerCommit`). GOMEMLIMIT
//! is met by collecting more often instead, until what is alive alone reaches it.

use super::memory::{Component, MemoryStatement};
use super::{Limit, LimitSource, Rate};
use crate::read::books::Books;
use crate::units::approximate;

/// When memory reaches its limit, if it goes on like this.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Seconds from now; open upwards where it may not grow at all.
    pub seconds: Rate,
    /// The limit.
    pub limit: Limit,
    /// What counts against it now, bytes.
    pub used_bytes: f64,
    /// How fast that grows, bytes per second.
    pub growth_bytes_per_s: Rate,
}

impl Forecast {
    /// `live_growth`: how fast what collections find alive grows, bytes per second; 0 where that is no more than chance. `None`:
    /// nothing grows, or what is used is not known.
    pub fn of(
        limit: Limit,
        live_growth: Rate,
        books: Option<&Books>,
        statement: Option<&MemoryStatement>,
    ) -> Option<Self> {
        let pacer = books.and_then(|books| books.pacer.as_ref().ok());
        let (used_bytes, growth_bytes_per_s) = match limit.source {
            LimitSource::Gomemlimit => {
                let (books, pacer) = books.zip(pacer)?;
                let heap_bytes = books.heap_in_use_bytes.saturating_add(books.heap_free_bytes);
                let beside = pacer.mapped_ready_bytes.saturating_sub(heap_bytes);
                (approximate(pacer.heap_marked_bytes.saturating_add(beside)), live_growth)
            }
            source => {
                // With GOGC off the heap grows to GOMEMLIMIT whatever is alive, and then only what is alive matters.
                let percent = pacer.and_then(|pacer| pacer.gc_percent).unwrap_or_default();
                let heap = times(live_growth, 1.0 + f64::from(percent) / 100.0);
                let statement = statement?;
                let beside = [Component::Native, Component::Stacks].map(|component| growth(statement, component));
                (approximate(used(source, statement)?), beside.into_iter().fold(heap, plus))
            }
        };
        let seconds = seconds_to_limit(used_bytes, approximate(limit.bytes), growth_bytes_per_s)?;
        Some(Self { seconds, limit, used_bytes, growth_bytes_per_s })
    }
}

/// What the kernel counts against a limit and cannot take back, bytes.
fn used(source: LimitSource, statement: &MemoryStatement) -> Option<u64> {
    if source == LimitSource::Host {
        return statement.host.and_then(|host| host.total_bytes.checked_sub(host.available_bytes?));
    }
    let group = statement.cgroup.as_ref();
    let anonymous = group.and_then(|group| group.anonymous_bytes);
    let shared = group.and_then(|group| group.shared_bytes).unwrap_or_default();
    Some(anonymous.map_or(statement.rss_bytes, |anonymous| anonymous.saturating_add(shared)))
}

/// How fast a line grows, where that is above chance; else not at all.
fn growth(statement: &MemoryStatement, component: Component) -> Rate {
    let line = statement.lines.iter().find(|line| line.component == component);
    line.and_then(|line| line.growth_bytes_per_s).filter(|rate| rate.low > 0.0).unwrap_or_default()
}

fn times(rate: Rate, factor: f64) -> Rate {
    Rate { value: rate.value * factor, low: rate.low * factor, high: rate.high.map(|high| high * factor) }
}

/// Both together; ends are added, which is wider than chance would be.
fn plus(one: Rate, other: Rate) -> Rate {
    let high = |rate: Rate| rate.high.unwrap_or(rate.value);
    Rate { value: one.value + other.value, low: one.low + other.low, high: Some(high(one) + high(other)) }
}

/// Seconds until `now_bytes` reaches `limit_bytes` at this growth, with the interval that the growth's interval gives: open
/// upwards where it may not grow at all. `None`: it does not grow.
pub fn seconds_to_limit(now_bytes: f64, limit_bytes: f64, growth_bytes_per_s: Rate) -> Option<Rate> {
    let left = (limit_bytes - now_bytes).max(0.0);
    let seconds = |growth: f64| (growth > 0.0).then(|| left / growth).filter(|seconds| seconds.is_finite());
    let value = seconds(growth_bytes_per_s.value)?;
    let low = growth_bytes_per_s.high.map_or(Some(0.0), seconds)?;
    Some(Rate { value, low, high: seconds(growth_bytes_per_s.low) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_change_places_and_no_growth_is_no_end() {
        let growth = Rate { value: 10.0, low: 5.0, high: Some(20.0) };
        assert_eq!(seconds_to_limit(900.0, 1000.0, growth), Some(Rate { value: 10.0, low: 5.0, high: Some(20.0) }));
        let unsure = Rate { low: -1.0, ..growth };
        assert_eq!(seconds_to_limit(900.0, 1000.0, unsure).unwrap().high, None);
        assert_eq!(seconds_to_limit(900.0, 1000.0, Rate { value: -1.0, ..unsure }), None);
        assert!(seconds_to_limit(1100.0, 1000.0, growth).unwrap().value.abs() < 1e-12, "beyond the limit already");
    }
}
