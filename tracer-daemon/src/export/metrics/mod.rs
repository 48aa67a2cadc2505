//! Metrics in the words of DESIGN 7.3, as `OpenMetrics` or classic Prometheus text.
//!
//! [`Metrics`] is the handle: the pipeline tells it about snapshots, ends and refusals; the HTTP pages ask it for text.
//! `table` says what exists, `state` holds the numbers, `top_sites` keeps counters from falling, `estimates` makes counters of rates, `classic` rewrites the
//! text for older clients. Refuses to measure anything itself: facts about our own process are given to it.

pub mod classic;
mod costs;
mod estimates;
mod identity;
mod outlook;
mod reference;
mod runtime;
mod site_gauges;
mod state;
mod table;
pub mod top_sites;

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::exemplar::Exemplar,
    registry::Registry,
};

pub use identity::Identity;
pub use reference::reference;
pub use state::{MAX_ENDED_IDENTITIES, OwnFacts};
pub use table::OTHER;
pub use top_sites::ProcessKey;

use self::{
    runtime::PAUSE_BUCKETS_S,
    state::State,
    table::{Definition, Kind, Sample, TABLE, Value},
};
use crate::{
    export::report::{CostFacts, ProcessFacts},
    model::Snapshot,
};

/// What can be chosen about the metrics.
#[derive(Clone, Copy, Debug)]
pub struct MetricsSettings {
    /// Most sites with a series of their own, for each identity and each of allocations and goroutines.
    pub sites_per_target: usize,
    /// Whether each process is told apart by a `pid` label.
    pub pid_label: bool,
    /// The version in `leakline_build_info`.
    pub version: &'static str,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self { sites_per_target: 20, pid_label: false, version: env!("CARGO_PKG_VERSION") }
    }
}

/// The metrics of all targets and of leakline itself. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<State>>);

impl Metrics {
    /// No targets yet.
    pub fn new(settings: MetricsSettings) -> Self {
        Self(Arc::new(Mutex::new(State::new(settings))))
    }

    /// A snapshot of a process, whose counts go on from its last one, or begin anew. The key must not be reused for
    /// another process.
    pub fn observe(&self, key: ProcessKey, process: &ProcessFacts, snapshot: &Snapshot) {
        let mut state = self.state();
        let identity = Identity::of(process, state.settings.pid_label);
        state.observe(key, &identity, snapshot);
    }

    /// What looking has cost a process of which a snapshot was given: so far, in all.
    pub fn observe_cost(&self, key: ProcessKey, cost: &CostFacts) {
        self.state().observe_cost(key, cost);
    }

    /// A process is gone or no longer looked at. Its counts stay.
    pub fn end(&self, key: ProcessKey) {
        self.state().end(key);
    }

    /// Something was not done, for the reason with this id.
    pub fn refuse(&self, reason: impl Into<Cow<'static, str>>) {
        self.state().refuse(reason.into());
    }

    /// What leakline's own process looks like now.
    pub fn set_own(&self, facts: OwnFacts) {
        self.state().own = facts;
    }

    /// The whole exposition as `OpenMetrics` 1.0.0.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut exposition = String::new();
        text::encode(&mut exposition, &registry)?;
        Ok(exposition)
    }

    /// The whole exposition in the classic text format.
    pub fn classic_text(&self) -> Result<String, fmt::Error> {
        self.open_metrics().map(|exposition| classic::from_open_metrics(&exposition))
    }

    /// No operation on the state can leave it half done in a way that matters to a reader, so that a panic elsewhere
    /// does not silence the metrics.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        // Samples are copied out, so that the lock is not held while text is written.
        let families: Vec<(&Definition, Vec<Sample>)> = {
            let state = self.state();
            TABLE.iter().map(|definition| (definition, (definition.samples)(&state))).collect()
        };
        for (definition, samples) in families.iter().filter(|(_, samples)| !samples.is_empty()) {
            encode_family(&mut encoder, definition, samples)?;
        }
        Ok(())
    }
}

fn encode_family(
    encoder: &mut DescriptorEncoder<'_>,
    definition: &Definition,
    samples: &[Sample],
) -> Result<(), fmt::Error> {
    let unit = definition.unit.map(table::Base::unit);
    let mut family =
        encoder.encode_descriptor(definition.stem, definition.help, unit.as_ref(), definition.kind.metric_type())?;
    for sample in samples {
        let labels: Vec<(&str, String)> = sample
            .identity
            .iter()
            .flat_map(Identity::labels)
            .chain(definition.labels.iter().copied().zip(sample.labels.iter().cloned()))
            .collect();
        if definition.kind == Kind::Info {
            family.encode_info(&labels)?;
        } else if labels.is_empty() {
            encode_value(&mut family, definition.kind, &sample.value)?;
        } else {
            encode_value(&mut family.encode_family(&labels)?, definition.kind, &sample.value)?;
        }
    }
    Ok(())
}

fn encode_value(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), fmt::Error> {
    const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;
    match (kind, value) {
        (_, Value::Pauses(pauses)) => {
            let buckets: Vec<(f64, u64)> = PAUSE_BUCKETS_S.into_iter().zip(pauses.buckets).collect();
            encoder.encode_histogram::<NoLabelSet>(pauses.sum_s, pauses.count, &buckets, None)
        }
        (Kind::Counter, Value::Count(count)) => encoder.encode_counter(count, NO_EXEMPLAR),
        (Kind::Counter, Value::Real(real)) => encoder.encode_counter(real, NO_EXEMPLAR),
        (Kind::Gauge | Kind::Info | Kind::Histogram, Value::Count(count)) => encoder.encode_gauge(count),
        (Kind::Gauge | Kind::Info | Kind::Histogram, Value::Real(real)) => encoder.encode_gauge(real),
    }
}
