//! The one table of all metrics: name, kind, unit, labels, help, and where the samples come from.
//!
//! The collector walks it, `reference` makes `docs/metrics.md` from it: a metric that is not here does not exist. Names are those
//! of `OpenMetrics` families; `_total` and `_info` are added where the text is written.

use prometheus_client::{metrics::MetricType, registry::Unit};

use super::{
    costs::Costs,
    identity::Identity,
    outlook::Outlooks,
    runtime::{Pauses, RuntimeBooks},
    state::{Group, State},
    top_sites::TopSites,
};
use crate::model::{Evidence, Rate, SiteId, impulses::ImpulseKind};

/// The `site` of what no visible site did.
pub const OTHER: &str = "other";

/// One metric.
pub(super) struct Definition {
    /// Family name without unit and suffix.
    pub(super) stem: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: Option<Base>,
    /// Whether the identity labels come first.
    pub(super) by_identity: bool,
    /// Names of the further labels.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    pub(super) samples: fn(&State) -> Vec<Sample>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never falls while leakline runs.
    Counter,
    Gauge,
    /// How often something lay within bounds.
    Histogram,
    /// Always 1; the labels are the message.
    Info,
}

/// The base units that we use, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Bytes,
    BytesPerSecond,
    Seconds,
}

/// One sample: the identity if there is one, the values of the further labels in their order, the number.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) identity: Option<Identity>,
    pub(super) labels: Vec<String>,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Count(u64),
    Real(f64),
    Pauses(Box<Pauses>),
}

/// Every metric, in the order in which it is served.
pub(super) const TABLE: &[Definition] = &[
    Definition {
        stem: "leakline_site_allocated",
        kind: Kind::Counter,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &["site", "evidence"],
        help: "Bytes allocated at a site: exact by hooks on every allocation, or an estimate, what the runtime's books have counted shared as windows see it. Volume is not a leak. The site other has what sites without a series did.",
        samples: |state| allocated(state, |[bytes, _]| bytes).into_iter().chain(estimated(state)).collect(),
    },
    Definition {
        stem: "leakline_site_allocated_objects",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &["site", "evidence"],
        help: "Objects allocated at a site, by hooks on every allocation.",
        samples: |state| allocated(state, |[_, objects]| objects),
    },
    Definition {
        stem: "leakline_site",
        kind: Kind::Info,
        unit: None,
        by_identity: true,
        labels: &["site", "function", "file", "line"],
        help: "The place in the source that a site stands for. Join on the identity labels and site.",
        samples: places,
    },
    Definition {
        stem: "leakline_goroutines_created",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &["site"],
        help: "Goroutines created at a go statement.",
        samples: |state| goroutines(state, |[created, _]| created),
    },
    Definition {
        stem: "leakline_goroutines_exited",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &["site"],
        help: "Exits of goroutines that were created at a go statement. Created less exited that keeps growing is a leak.",
        samples: |state| goroutines(state, |[_, exited]| exited),
    },
    Definition {
        stem: "leakline_site_live",
        kind: Kind::Gauge,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &["site"],
        help: "What is alive, by the line that allocated it: an estimate from the runtime's own heap profile.",
        samples: |state| {
            by_identity(state, |group| {
                let sums = group.live.sums().into_iter();
                sums.map(|((site, _), bytes)| (vec![site_label(site)], Value::Count(bytes))).collect()
            })
        },
    },
    Definition {
        stem: "leakline_site_growth",
        kind: Kind::Gauge,
        unit: Some(Base::BytesPerSecond),
        by_identity: true,
        labels: &["site"],
        help: "How fast grows what a line allocated and collections find alive: an estimate; its interval and leakline_site_verdict say what it is worth. Absent where it is too little to matter.",
        samples: |state| growth_of(state, |group| group.live.growths(), |growth| Some(growth.value)),
    },
    Definition {
        stem: "leakline_site_growth_bytes_per_second_low",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &["site"],
        help: "Lower end of its 95 % interval. Above zero the growth is no chance.",
        samples: |state| growth_of(state, |group| group.live.growths(), |growth| Some(growth.low)),
    },
    Definition {
        stem: "leakline_site_growth_bytes_per_second_high",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &["site"],
        help: "Upper end of its 95 % interval. Absent where that is open.",
        samples: |state| growth_of(state, |group| group.live.growths(), |growth| growth.high),
    },
    Definition {
        stem: "leakline_site_verdict",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &["site", "verdict"],
        help: "Always 1, for what is said of a line now: leaking, growing, warming_up, steady, shrinking or unknown; of several processes the worst.",
        samples: |state| {
            by_identity(state, |group| {
                let verdicts = group.live.verdicts().into_iter();
                verdicts
                    .map(|(site, verdict)| (vec![site.to_string(), verdict.name().to_owned()], Value::Count(1)))
                    .collect()
            })
        },
    },
    Definition {
        stem: "leakline_goroutines",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &["site", "wait_reason"],
        help: "Goroutines that there are, by the line of their go statement and what they wait for.",
        samples: |state| {
            by_identity(state, |group| {
                let sums = group.table.sums().into_iter();
                sums.map(|((site, reason), count)| (vec![site_label(site), reason.to_owned()], Value::Count(count)))
                    .collect()
            })
        },
    },
    Definition {
        stem: "leakline_goroutine_growth_per_second",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &["site"],
        help: "How fast goroutines become more, by the line of their go statement.",
        samples: |state| growth_of(state, |group| group.table.growths(), |growth| Some(growth.value)),
    },
    Definition {
        stem: "leakline_memory",
        kind: Kind::Gauge,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &["component"],
        help: "Resident memory, by what it is for.",
        samples: |state| {
            by_identity(state, |group| {
                let sums = group.memory.by_component().into_iter();
                sums.map(|(component, bytes)| (vec![component.to_owned()], Value::Count(bytes))).collect()
            })
        },
    },
    Definition {
        stem: "leakline_memory_limit",
        kind: Kind::Gauge,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &[],
        help: "The limit that memory will reach first, of the control group, GOMEMLIMIT and the host; the least of all processes.",
        samples: |state| {
            by_identity(state, |group| {
                group.limits.values().min().map(|bytes| (Vec::new(), Value::Count(*bytes))).into_iter().collect()
            })
        },
    },
    Definition {
        stem: "leakline_memory_seconds_to_limit",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Seconds until memory reaches its limit if it goes on like this; of several processes the least. Absent without a limit or growth.",
        samples: |state| outlook(state, |outlooks| Some(outlooks.seconds_to_limit()?.value)),
    },
    Definition {
        stem: "leakline_memory_seconds_to_limit_low",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Lower end of its 95 % interval: not before that.",
        samples: |state| outlook(state, |outlooks| Some(outlooks.seconds_to_limit()?.low)),
    },
    Definition {
        stem: "leakline_memory_seconds_to_limit_high",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Upper end of its 95 % interval. Absent where that is open.",
        samples: |state| outlook(state, |outlooks| outlooks.seconds_to_limit()?.high),
    },
    Definition {
        stem: "leakline_heap_growth",
        kind: Kind::Gauge,
        unit: Some(Base::BytesPerSecond),
        by_identity: true,
        labels: &[],
        help: "How fast grows what collections find alive. Below zero: it shrinks.",
        samples: |state| outlook(state, |outlooks| Some(outlooks.heap_growth()?.value)),
    },
    Definition {
        stem: "leakline_heap_growth_bytes_per_second_low",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Lower end of its 95 % interval. Above zero the growth is no chance.",
        samples: |state| outlook(state, |outlooks| Some(outlooks.heap_growth()?.low)),
    },
    Definition {
        stem: "leakline_heap_growth_bytes_per_second_high",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Upper end of its 95 % interval. Absent where that is open.",
        samples: |state| outlook(state, |outlooks| outlooks.heap_growth()?.high),
    },
    Definition {
        stem: "leakline_process_verdict",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &["verdict"],
        help: "Always 1, for what is said of the heap as a whole, in the words of leakline_site_verdict; of several processes the worst.",
        samples: |state| {
            by_identity(state, |group| {
                let verdict = group.outlooks.verdict();
                verdict.map(|verdict| (vec![verdict.name().to_owned()], Value::Count(1))).into_iter().collect()
            })
        },
    },
    Definition {
        stem: "leakline_heap_live",
        kind: Kind::Gauge,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &[],
        help: "What the last collection found alive.",
        samples: |state| books(state, |books| books.sum(|heap| heap.live_bytes).map(Value::Count)),
    },
    Definition {
        stem: "leakline_gc_goal",
        kind: Kind::Gauge,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &[],
        help: "Size of the heap at which the next collection is to end.",
        samples: |state| books(state, |books| books.sum(|heap| heap.goal_bytes).map(Value::Count)),
    },
    Definition {
        stem: "leakline_gc_cycles",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Collections that ended while leakline looked.",
        samples: |state| books(state, |books| Some(Value::Count(books.gc_cycles))),
    },
    Definition {
        stem: "leakline_gc_pause",
        kind: Kind::Histogram,
        unit: Some(Base::Seconds),
        by_identity: true,
        labels: &[],
        help: "How long the collections that ended while leakline looked stopped the program, both pauses of each added.",
        samples: |state| books(state, |books| Some(Value::Pauses(Box::new(books.pauses.clone())))),
    },
    Definition {
        stem: "leakline_runtime_allocated",
        kind: Kind::Counter,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &[],
        help: "Bytes allocated while leakline looked, exact, by the runtime's own books.",
        samples: |state| books(state, |books| Some(Value::Count(books.allocated_bytes))),
    },
    Definition {
        stem: "leakline_runtime_freed",
        kind: Kind::Counter,
        unit: Some(Base::Bytes),
        by_identity: true,
        labels: &[],
        help: "Bytes freed while leakline looked, exact, by the runtime's own books.",
        samples: |state| books(state, |books| Some(Value::Count(books.freed_bytes))),
    },
    Definition {
        stem: "leakline_target_cpu_overhead_ratio",
        kind: Kind::Gauge,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "CPU time that bursts added to a process in the last minute, as a share of its own, by our account; of several processes the worst.",
        samples: |state| {
            by_identity(state, |group| {
                group.costs.ratio().map(|ratio| (Vec::new(), Value::Real(ratio))).into_iter().collect()
            })
        },
    },
    Definition {
        stem: "leakline_target_added_cpu",
        kind: Kind::Counter,
        unit: Some(Base::Seconds),
        by_identity: true,
        labels: &[],
        help: "CPU time that bursts have added to the processes, by our account.",
        samples: |state| costs(state, |costs| Value::Real(costs.added_s)),
    },
    Definition {
        stem: "leakline_bursts",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Windows in which allocations were hooked.",
        samples: |state| costs(state, |costs| Value::Count(costs.bursts)),
    },
    Definition {
        stem: "leakline_bursts_open",
        kind: Kind::Counter,
        unit: Some(Base::Seconds),
        by_identity: true,
        labels: &[],
        help: "How long windows were open.",
        samples: |state| costs(state, |costs| Value::Real(costs.open_s)),
    },
    Definition {
        stem: "leakline_impulses",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &["kind"],
        help: "Jumps that the runtime's books have shown, each of which asks for a window at once.",
        samples: impulses,
    },
    Definition {
        stem: "leakline_births",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Objects that were caught in windows when they were born.",
        samples: |state| costs(state, |costs| Value::Count(costs.births)),
    },
    Definition {
        stem: "leakline_collections_looked",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Collections after which it was looked which of the objects that were caught are alive.",
        samples: |state| costs(state, |costs| Value::Count(costs.looked)),
    },
    Definition {
        stem: "leakline_collections_missed",
        kind: Kind::Counter,
        unit: None,
        by_identity: true,
        labels: &[],
        help: "Collections after which the next was over before it was looked. Objects that lived then are left out.",
        samples: |state| costs(state, |costs| Value::Count(costs.missed)),
    },
    Definition {
        stem: "leakline_build",
        kind: Kind::Info,
        unit: None,
        by_identity: false,
        labels: &["version"],
        help: "The version of leakline.",
        samples: |state| vec![own([state.settings.version], Value::Count(1))],
    },
    Definition {
        stem: "leakline_processes",
        kind: Kind::Gauge,
        unit: None,
        by_identity: false,
        labels: &["best_evidence"],
        help: "Processes that are looked at, by the best evidence that is used.",
        samples: |state| {
            Evidence::ALL
                .into_iter()
                .map(|evidence| own([evidence.name()], Value::Count(state.processes_with(evidence))))
                .collect()
        },
    },
    Definition {
        stem: "leakline_refusals",
        kind: Kind::Counter,
        unit: None,
        by_identity: false,
        labels: &["reason"],
        help: "How often something was not done, by reason.",
        samples: |state| state.refusals.iter().map(|(reason, count)| own([reason], Value::Count(*count))).collect(),
    },
    Definition {
        stem: "leakline_events_lost",
        kind: Kind::Counter,
        unit: None,
        by_identity: false,
        labels: &["reason"],
        help: "How often something that happened could not be kept, by reason.",
        samples: |state| state.losses.iter().map(|(reason, count)| own([reason], Value::Count(*count))).collect(),
    },
    Definition {
        stem: "leakline_reads_discarded",
        kind: Kind::Counter,
        unit: None,
        by_identity: false,
        labels: &["reason"],
        help: "How often something that was read from a target's memory was not believed, and read again or left out.",
        samples: |state| state.discards.iter().map(|(reason, count)| own([reason], Value::Count(*count))).collect(),
    },
    Definition {
        stem: "leakline_probe_hits",
        kind: Kind::Counter,
        unit: None,
        by_identity: false,
        labels: &[],
        help: "How often a probe fired in any target, those of bursts included.",
        samples: |state| vec![own([""; 0], Value::Count(state.probe_hits))],
    },
    Definition {
        stem: "leakline_identities_forgotten",
        kind: Kind::Counter,
        unit: None,
        by_identity: false,
        labels: &[],
        help: "Identities without a living process whose series were dropped to bound memory.",
        samples: |state| vec![own([""; 0], Value::Count(state.identities_forgotten))],
    },
    Definition {
        stem: "process_cpu",
        kind: Kind::Counter,
        unit: Some(Base::Seconds),
        by_identity: false,
        labels: &[],
        help: "User and system CPU time that leakline itself has used, that of its processes that held probes and have ended included.",
        samples: |state| state.own.cpu_seconds.map(|seconds| own([""; 0], Value::Real(seconds))).into_iter().collect(),
    },
    Definition {
        stem: "process_resident_memory",
        kind: Kind::Gauge,
        unit: Some(Base::Bytes),
        by_identity: false,
        labels: &[],
        help: "Resident memory of leakline itself.",
        samples: |state| {
            state.own.resident_memory_bytes.map(|bytes| own([""; 0], Value::Count(bytes))).into_iter().collect()
        },
    },
    Definition {
        stem: "process_open_fds",
        kind: Kind::Gauge,
        unit: None,
        by_identity: false,
        labels: &[],
        help: "Open file descriptors of leakline itself.",
        samples: |state| state.own.open_fds.map(|count| own([""; 0], Value::Count(count))).into_iter().collect(),
    },
];

impl Definition {
    /// The name under which the samples are served.
    pub(super) fn sample_name(&self) -> String {
        let mut name = self.stem.to_owned();
        if let Some(unit) = self.unit {
            name.push('_');
            name.push_str(unit.name());
        }
        name.push_str(match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
            Kind::Info => "_info",
        });
        name
    }
}

impl Kind {
    pub(super) const fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

impl Base {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::BytesPerSecond => "bytes_per_second",
            Self::Seconds => "seconds",
        }
    }

    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Bytes => Unit::Bytes,
            Self::BytesPerSecond => Unit::Other(self.name().to_owned()),
            Self::Seconds => Unit::Seconds,
        }
    }
}

fn own<'a>(labels: impl IntoIterator<Item = impl AsRef<str> + 'a>, value: Value) -> Sample {
    Sample { identity: None, labels: labels.into_iter().map(|label| label.as_ref().to_owned()).collect(), value }
}

fn allocated(state: &State, pick: fn([u64; 2]) -> u64) -> Vec<Sample> {
    by_site(state, |group| &group.allocations, pick, Some(Evidence::Exact.name()))
}

fn estimated(state: &State) -> Vec<Sample> {
    by_site(state, |group| &group.estimated, |[bytes, _]| bytes, Some("estimate"))
}

fn goroutines(state: &State, pick: fn([u64; 2]) -> u64) -> Vec<Sample> {
    by_site(state, |group| &group.goroutines, pick, None)
}

fn by_site(
    state: &State,
    sites: fn(&Group) -> &TopSites,
    pick: fn([u64; 2]) -> u64,
    evidence: Option<&str>,
) -> Vec<Sample> {
    by_identity(state, |group| {
        let sites = sites(group);
        let visible = sites.visible().map(|(site, amounts)| (site.to_string(), pick(amounts)));
        let other = sites.is_known().then(|| (OTHER.to_owned(), pick(sites.other())));
        let labels = |site| [site].into_iter().chain(evidence.map(str::to_owned)).collect();
        visible.chain(other).map(|(site, count)| (labels(site), Value::Count(count))).collect()
    })
}

fn places(state: &State) -> Vec<Sample> {
    by_identity(state, |group| {
        let labels = |(site, place): (&SiteId, &super::state::Place)| {
            let line = if place.line == 0 { String::new() } else { place.line.to_string() };
            (vec![site.to_string(), place.function.clone(), place.file.clone(), line], Value::Count(1))
        };
        group.places.iter().map(labels).collect()
    })
}

fn site_label(site: Option<SiteId>) -> String {
    site.map_or_else(|| OTHER.to_owned(), |site| site.to_string())
}

/// A bound of how fast sites grow, where there is one.
fn growth_of<I: IntoIterator<Item = (Option<SiteId>, Rate)>>(
    state: &State,
    growths: impl Fn(&Group) -> I,
    pick: fn(Rate) -> Option<f64>,
) -> Vec<Sample> {
    by_identity(state, |group| {
        let growths = growths(group).into_iter();
        growths.filter_map(|(site, growth)| Some((vec![site_label(site)], Value::Real(pick(growth)?)))).collect()
    })
}

/// A sample an identity, where it is known.
fn outlook(state: &State, pick: fn(&Outlooks) -> Option<f64>) -> Vec<Sample> {
    by_identity(state, |group| {
        pick(&group.outlooks).map(|value| (Vec::new(), Value::Real(value))).into_iter().collect()
    })
}

/// A sample an identity, of those whose runtime was read.
fn books(state: &State, pick: impl Fn(&RuntimeBooks) -> Option<Value>) -> Vec<Sample> {
    by_identity(state, |group| {
        let value = group.runtime.is_known().then(|| pick(&group.runtime)).flatten();
        value.map(|value| (Vec::new(), value)).into_iter().collect()
    })
}

/// A sample an identity, of those in which windows are opened.
fn costs(state: &State, pick: fn(&Costs) -> Value) -> Vec<Sample> {
    by_identity(state, |group| {
        let value = group.costs.is_known.then(|| pick(&group.costs));
        value.map(|value| (Vec::new(), value)).into_iter().collect()
    })
}

/// A sample an identity and kind, of those in which windows are opened.
fn impulses(state: &State) -> Vec<Sample> {
    by_identity(state, |group| {
        let kinds = ImpulseKind::ALL.into_iter().zip(group.costs.impulses).filter(|_| group.costs.is_known);
        kinds.map(|(kind, count)| (vec![kind.name().to_owned()], Value::Count(count))).collect()
    })
}

fn by_identity(state: &State, samples: impl Fn(&Group) -> Vec<(Vec<String>, Value)>) -> Vec<Sample> {
    state
        .groups
        .iter()
        .flat_map(|(identity, group)| {
            samples(group).into_iter().map(|(labels, value)| Sample { identity: Some(identity.clone()), labels, value })
        })
        .collect()
}
