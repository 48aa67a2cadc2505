//! Everything that one document about one process needs, whatever its format.
//!
//! Plain values that the pipeline puts together; the exporters beside this file turn them into text and JSON. Nothing
//! here is formatted. What `recording` keeps is `Serialize` for its sake alone: documents have types of their own.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    inspect::{BinaryFacts, GoVersion},
    model::{SharedSnapshot, Snapshot, goroutines::GoroutineTable, hints::Program},
    read::Discards,
};

/// One report about one process at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What the model says.
    pub snapshot: SharedSnapshot,
    /// Whose report this is.
    pub process: ProcessFacts,
    /// When the window began, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Whether this is the last report about this process.
    pub is_final: bool,
    /// What the look cost.
    pub cost: CostFacts,
    /// What was not done, and why.
    pub refusals: Vec<Refusal>,
}

/// One look at the goroutine table of one process.
#[derive(Clone, Copy, Debug)]
pub struct GoroutineReport<'a> {
    /// Whose table this is.
    pub process: &'a ProcessFacts,
    /// What the model says.
    pub table: &'a GoroutineTable,
    /// What was read and not believed.
    pub discards: &'a Discards,
}

/// What is known about the process and its binary. Names are as the target spells them: exporters escape them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts, which the contract names one by one")]
pub struct ProcessFacts {
    /// Process id as leakline's own PID namespace numbers it.
    pub pid: u32,
    /// Path of the executable.
    pub exe: String,
    /// The Go version of the build info: `go1.26.6`.
    pub go_version: String,
    /// The linker's build id; None where the binary has none.
    pub build_id: Option<String>,
    /// Path of the main module; None where build info names none.
    pub main_module: Option<String>,
    /// Whether the process ended before the window did.
    pub ended: bool,
    /// Whether the binary has no symbol table.
    pub stripped: bool,
    /// Whether the binary is position independent.
    pub pie: bool,
    /// Whether the binary links C code.
    pub cgo: bool,
    /// Id of the container; None outside one, or where it is not known.
    pub container_id: Option<String>,
    /// Name of the pod; None where there is none or it is not known.
    pub pod: Option<String>,
    /// Namespace of the pod; None where there is none or it is not known.
    pub namespace: Option<String>,
    /// Name of the container in the pod; None where there is none or it is not known.
    pub container: Option<String>,
}

impl ProcessFacts {
    /// What is known of a process from its binary. Container and pod are not known here.
    pub fn of(pid: u32, exe: &str, binary: &BinaryFacts) -> Self {
        Self {
            pid,
            exe: exe.to_owned(),
            go_version: binary.go_version.text.clone(),
            build_id: binary.build_id.clone(),
            main_module: binary.main_module.clone(),
            stripped: binary.stripped,
            pie: binary.position_independent,
            cgo: binary.cgo,
            ..Self::default()
        }
    }

    /// What hints depend on.
    pub fn program(&self) -> Program<'_> {
        Program {
            go_minor: GoVersion::parse(&self.go_version).map(|version| version.minor),
            main_module: self.main_module.as_deref(),
            cgo: self.cgo,
        }
    }

    /// The last element of the executable's path; what a process without a container is called.
    pub fn exe_name(&self) -> &str {
        let path = self.exe.strip_suffix(" (deleted)").unwrap_or(&self.exe);
        path.rsplit('/').find(|element| !element.is_empty()).unwrap_or(path)
    }
}

/// What looking cost the target and us. None means that it was not measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CostFacts {
    /// How often a probe fired in the target.
    pub probe_hits: u64,
    /// Windows in which allocations were hooked. None: none was to be opened.
    pub bursts: Option<u64>,
    /// How long they were open in all, seconds.
    pub bursts_open_s: Option<f64>,
    /// The share of the target's CPU time that we may cost it; None where there is no budget, as in `exact`.
    pub budget_ratio: Option<f64>,
    /// CPU time added to the target / CPU time of the target.
    pub target_ratio: Option<f64>,
    /// The same over the last minute.
    pub target_ratio_last_minute: Option<f64>,
    /// CPU time added to the target, seconds. None: no probe is there that we have an account of.
    pub target_added_s: Option<f64>,
    /// Our own CPU time / wall time: 1 is a full core.
    pub self_cpu_ratio: Option<f64>,
    /// Our own resident memory.
    pub self_rss_bytes: Option<u64>,
}

impl CostFacts {
    /// What the snapshot alone says about the cost.
    pub fn counted_in(snapshot: &Snapshot) -> Self {
        Self { probe_hits: snapshot.exact.as_ref().map_or(0, |exact| exact.totals.probe_hits), ..Self::default() }
    }
}

/// A stated reason for not doing something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable identifier, never reused.
    pub id: Cow<'static, str>,
    /// A sentence for the operator.
    pub text: String,
}

impl Refusal {
    /// A refusal from the identifier and sentence of any stage's reason.
    pub fn new(id: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { id: id.into(), text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exe_name_is_the_last_path_element() {
        let name_of = |exe: &str| ProcessFacts { exe: exe.into(), ..ProcessFacts::default() }.exe_name().to_owned();
        assert_eq!(name_of("/srv/shop"), "shop");
        assert_eq!(name_of("/srv/shop (deleted)"), "shop");
        assert_eq!(name_of("shop"), "shop");
        assert_eq!(name_of("/"), "/");
        assert_eq!(name_of(""), "");
    }
}
