//! `leakline memory --output json`: the envelope and the statement, as DESIGN 7.2 names its fields.
//!
//! The counterpart that others read is `docs/schema/memory.schema.json`: change both in one commit.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::{Hint, Process, Rate, Refused, SCHEMA, process, rate};
use crate::export::{ProcessFacts, Refusal, growth_words, memory_words, untrusted};
use crate::model::hints::{self, Program};
use crate::model::memory as model;
use crate::model::memory::growth::MemoryGrowthReport;
use crate::model::verdict::Verdict;
use crate::read::system::cgroup;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// `leakline/1`.
    pub schema: &'static str,
    /// Whose memory it is.
    pub process: Process,
    /// The statement.
    pub memory: Memory,
}

/// What is said of memory that Go's runtime knows nothing of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Native {
    /// What is said.
    pub verdict: &'static str,
    /// Why.
    pub why: String,
    /// What it looks like, where it grows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Hint>,
}

/// What the resident memory consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    /// Resident memory.
    pub rss_bytes: u64,
    /// With `unexplained_bytes` they sum to `rss_bytes`.
    pub lines: Vec<Line>,
    /// What no line explains; may be negative.
    pub unexplained_bytes: i64,
    /// What is noteworthy.
    pub diagnoses: Vec<Diagnosis>,
    /// What to set.
    pub advice: Vec<Advice>,
    /// What is said of the growth of memory that Go's runtime knows nothing of. Absent: looked at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// What the resident memory does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misleading: Option<Misleading>,
    /// The heap as the runtime counts it: addresses, not pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap: Option<Heap>,
    /// The group that accounts for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// What could not be read, and why.
    pub refused: Vec<Refused>,
}

/// One line of the statement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What for.
    pub name: &'static str,
    /// Resident bytes.
    pub bytes: u64,
    /// Absent where it was looked at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_s: Option<Rate>,
    /// What the number stands on.
    pub source: Cow<'static, str>,
    /// The largest contributors; need not be all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// A contributor to a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Path of a file, or a few words.
    pub name: String,
    /// Resident bytes.
    pub bytes: u64,
}

/// Something noteworthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Stable identifier.
    pub id: &'static str,
    /// A sentence for the operator.
    pub text: String,
    /// The numbers that it stands on.
    pub numbers: BTreeMap<&'static str, u64>,
}

/// What to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Stable identifier.
    pub id: &'static str,
    /// A sentence for the operator.
    pub text: String,
    /// How the number comes about, step by step.
    pub arithmetic: Vec<String>,
    /// Environment variables to set, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<&'static str, String>,
}

/// What the resident memory does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Misleading {
    /// In swap.
    pub swap_bytes: u64,
    /// Given back, in memory until the kernel needs it.
    pub lazy_free_bytes: u64,
    /// Of the heap, in huge pages.
    pub huge_bytes: u64,
    /// Allocated, never touched.
    pub untouched_bytes: u64,
}

/// The heap as the runtime counts it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Heap {
    /// `HeapSys`.
    pub sys_bytes: u64,
    /// `HeapInuse`.
    pub in_use_bytes: u64,
    /// `HeapIdle`.
    pub idle_bytes: u64,
    /// `HeapReleased`.
    pub released_bytes: u64,
    /// `HeapAlloc`.
    pub allocated_bytes: u64,
    /// `StackInuse`.
    pub stacks_bytes: u64,
    /// What the runtime has for itself, neither heap nor stacks.
    pub system_bytes: u64,
    /// Marked by the last collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked_bytes: Option<u64>,
    /// Where the next collection will end; absent where nothing will start one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal_bytes: Option<u64>,
    /// Collections so far.
    pub gc_cycles: u32,
    /// GOGC, percent; absent where it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gogc: Option<u32>,
    /// GOMEMLIMIT; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gomemlimit_bytes: Option<u64>,
    /// Allocated per second since the last collection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alloc_bytes_per_s: Option<f64>,
}

/// The group. A field whose file is missing is absent, as is a limit that is not set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cgroup {
    /// 1 or 2.
    pub version: u8,
    /// Its path.
    pub path: String,
    /// All memory charged to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_bytes: Option<u64>,
    /// The least limit of it and those above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// How many groups above the one with that limit is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_levels_above: Option<usize>,
    /// Beyond this it is slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high_bytes: Option<u64>,
    /// Protected up to this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_bytes: Option<u64>,
    /// In swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// At most in swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_limit_bytes: Option<u64>,
    /// Anonymous memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_bytes: Option<u64>,
    /// Pages of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Of them, not used lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inactive_file_bytes: Option<u64>,
    /// Of them, shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_bytes: Option<u64>,
    /// How often the limit was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_reached: Option<u64>,
    /// How often a process was killed for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Percent of the time in which tasks waited for memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// Percent of the time in which tasks waited for memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pressure {
    /// Some task, of the last 10 s.
    pub some_10s_percent: f32,
    /// Some task, of the last 60 s.
    pub some_60s_percent: f32,
    /// All tasks, of the last 10 s.
    pub full_10s_percent: f32,
    /// All tasks, of the last 60 s.
    pub full_60s_percent: f32,
}

/// The host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// All memory.
    pub total_bytes: u64,
    /// What could be had without swapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_bytes: Option<u64>,
}

/// One line of JSON without the line feed.
pub fn line(
    facts: &ProcessFacts,
    statement: &model::MemoryStatement,
    refused: &[Refusal],
) -> serde_json::Result<String> {
    let memory = memory(statement, None, refused);
    serde_json::to_string(&Document { schema: SCHEMA, process: process(facts), memory })
}

/// The part of a document that is the statement.
pub fn memory(statement: &model::MemoryStatement, growth: Option<&MemoryGrowthReport>, refused: &[Refusal]) -> Memory {
    let lines = statement.lines.iter().map(|line| Line {
        name: line.component.name(),
        bytes: line.bytes,
        growth_bytes_per_s: line.growth_bytes_per_s.and_then(rate),
        source: line.source.clone(),
        parts: line
            .parts
            .iter()
            .map(|part| Part { name: untrusted::path(&part.name).into_owned(), bytes: part.bytes })
            .collect(),
    });
    let diagnoses = statement.diagnoses.iter().map(|diagnosis| Diagnosis {
        id: diagnosis.id(),
        text: plain(&memory_words::diagnosis(diagnosis, statement)),
        numbers: diagnosis.numbers().into_iter().collect(),
    });
    let advice = statement.advice.iter().map(|advice| Advice {
        id: advice.id(),
        text: plain(&memory_words::advice(advice)),
        arithmetic: memory_words::arithmetic(advice).iter().map(|step| plain(step)).collect(),
        environment: memory_words::environment(advice).into_iter().collect(),
    });
    Memory {
        rss_bytes: statement.rss_bytes,
        lines: lines.collect(),
        unexplained_bytes: i64::try_from(statement.unexplained_bytes).unwrap_or(i64::MAX),
        diagnoses: diagnoses.collect(),
        advice: advice.collect(),
        native: growth.map(|growth| Native {
            verdict: growth.native.verdict.name(),
            why: plain(&growth_words::native(&growth.native)),
            hint: (growth.native.verdict >= Verdict::Growing)
                .then(|| hints::of_native(Program { cgo: growth.native.cgo, ..Program::default() }).into()),
        }),
        misleading: statement.misleading.map(|misleading| Misleading {
            swap_bytes: misleading.swap_bytes,
            lazy_free_bytes: misleading.lazy_free_bytes,
            huge_bytes: misleading.huge_bytes,
            untouched_bytes: misleading.untouched_bytes,
        }),
        heap: statement.heap.map(heap),
        cgroup: statement.cgroup.as_ref().map(group),
        host: statement.host.map(|host| Host { total_bytes: host.total_bytes, available_bytes: host.available_bytes }),
        refused: refused
            .iter()
            .map(|refusal| Refused { id: refusal.id.to_string(), text: untrusted::name(&refusal.text).into_owned() })
            .collect(),
    }
}

/// No-break spaces are for the terminal.
fn plain(text: &str) -> String {
    text.replace('\u{a0}', " ")
}

fn heap(heap: model::HeapNumbers) -> Heap {
    let pacer = heap.pacer;
    Heap {
        sys_bytes: heap.sys_bytes,
        in_use_bytes: heap.in_use_bytes,
        idle_bytes: heap.idle_bytes,
        released_bytes: heap.released_bytes,
        allocated_bytes: heap.allocated_bytes,
        stacks_bytes: heap.stacks_bytes,
        system_bytes: heap.system_bytes,
        marked_bytes: pacer.map(|pacer| pacer.marked_bytes),
        goal_bytes: pacer
            .filter(|pacer| pacer.gc_percent.is_some() || pacer.memory_limit_bytes.is_some())
            .map(|pacer| pacer.goal_bytes),
        gc_cycles: heap.collections,
        gogc: pacer.and_then(|pacer| pacer.gc_percent),
        gomemlimit_bytes: pacer.and_then(|pacer| pacer.memory_limit_bytes),
        alloc_bytes_per_s: pacer.and_then(|pacer| pacer.alloc_bytes_per_s()),
    }
}

fn group(group: &cgroup::Cgroup) -> Cgroup {
    Cgroup {
        version: match group.version {
            cgroup::Version::V1 => 1,
            cgroup::Version::V2 => 2,
        },
        path: untrusted::path(&group.path).into_owned(),
        current_bytes: group.current_bytes,
        limit_bytes: group.limit.as_ref().map(|limit| limit.bytes),
        limit_levels_above: group.limit.as_ref().map(|limit| limit.levels_above),
        high_bytes: group.high.as_ref().map(|limit| limit.bytes),
        low_bytes: group.low_bytes,
        swap_bytes: group.swap_bytes,
        swap_limit_bytes: group.swap_limit_bytes,
        anonymous_bytes: group.anonymous_bytes,
        file_bytes: group.file_bytes,
        inactive_file_bytes: group.inactive_file_bytes,
        shared_bytes: group.shared_bytes,
        limit_reached: group.limit_reached,
        oom_kills: group.oom_kills,
        pressure: group.pressure.map(|pressure| Pressure {
            some_10s_percent: pressure.some_10s,
            some_60s_percent: pressure.some_60s,
            full_10s_percent: pressure.full_10s,
            full_60s_percent: pressure.full_60s,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::export::json::closed_schema::{bundled, closed};
    use crate::model::memory::tests::example;

    #[test]
    fn a_statement_with_everything_is_what_the_schema_says() {
        let process = ProcessFacts { pid: 7, ..ProcessFacts::default() };
        let refused = [Refusal::new("meminfo_unread", "cannot read it")];
        let document: Value = serde_json::from_str(&line(&process, &example(), &refused).unwrap()).unwrap();
        let schema = include_str!("../../../../docs/schema/memory.schema.json");
        let validator = jsonschema::validator_for(&closed(bundled(serde_json::from_str(schema).unwrap()))).unwrap();
        let problems: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:#?}");

        let memory = &document["memory"];
        let sum: i64 = memory["lines"].as_array().unwrap().iter().map(|line| line["bytes"].as_i64().unwrap()).sum();
        assert_eq!(sum + memory["unexplained_bytes"].as_i64().unwrap(), memory["rss_bytes"].as_i64().unwrap());
        assert_eq!(memory["advice"][0]["environment"]["GOMEMLIMIT"], "448MiB");
        assert_eq!(memory["diagnoses"][0]["numbers"]["swap_bytes"], 5 << 20);
        let file = &memory["lines"][6];
        assert_eq!(file["parts"][1]["name"], "/data/a\\u{a}b", "a path from the target is escaped");
        assert!(!document.to_string().contains('\u{a0}'), "no-break spaces are for the terminal");
    }
}
