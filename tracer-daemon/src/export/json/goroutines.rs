//! The goroutine table as one line of JSON (DESIGN 7.2), with what hooks counted beside it; `docs/schema/goroutines.schema.json` describes it.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Frame, Hint, Process, Rate, SCHEMA, file, frame, line_number, owned_name, process, rate};
use crate::export::growth_words;
use crate::export::report::GoroutineReport;
use crate::model::goroutines::growth::{GoroutinesGrowth, SiteGrowth};
use crate::model::goroutines::hooks::HookedGoroutines;
use crate::model::goroutines::{AgeBounds, GoroutineTable, Holders, Object, TablePath, TableSite, TableState};
use crate::model::hints::{self, Program};
use crate::model::verdict::Verdict;
use crate::model::{self, GoroutineSite};
use crate::read::Discards;
use crate::read::goroutines::{Channel, Queue};

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    process: Process,
    goroutines: Table,
}

/// The goroutines of one process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    live: u64,
    system: u64,
    callbacks: u64,
    unknown: u64,
    stack_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled: Option<u64>,
    without_stack: u64,
    #[serde(flatten)]
    counted: Option<Counted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_per_s: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    sites: Vec<Site>,
    discarded: BTreeMap<&'static str, u64>,
}

/// What hooks counted of all.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "fields of the document")]
struct Counted {
    /// For how long they counted.
    counted_s: f64,
    created: u64,
    exited: u64,
    /// The runtime's own, which belong to no site.
    system_created: u64,
    system_exited: u64,
    /// Those whose stack had no room.
    other_created: u64,
    other_exited: u64,
}

/// What hooks counted of one site.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct SiteCounted {
    created: u64,
    exited: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_per_s: Option<Rate>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Site {
    #[serde(rename = "site")]
    id: String,
    function: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// `None`: none of them was there when the table was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    entry_function: Option<String>,
    live: u64,
    stack_bytes: u64,
    #[serde(flatten)]
    oldest: Oldest,
    #[serde(flatten)]
    counted: Option<SiteCounted>,
    #[serde(flatten)]
    judgement: Option<Judgement>,
    creation_stack: Vec<Frame>,
    states: Vec<State>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Oldest {
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_at_most_s: Option<f64>,
}

/// What is said of the growth of a site.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Judgement {
    verdict: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth_per_s: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<Hint>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct State {
    wait_reason: String,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    count_low: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count_high: Option<u64>,
    looked_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    entry_function: String,
    #[serde(flatten)]
    oldest: Oldest,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_on: Option<WaitsOn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Channels>,
    paths: Vec<Path>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct WaitsOn {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    waiters: u64,
    objects: u64,
    #[serde(flatten)]
    channel: Option<ChannelFacts>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cases: Vec<Case>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Case {
    address: String,
    #[serde(flatten)]
    channel: ChannelFacts,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct ChannelFacts {
    len: u64,
    cap: u64,
    element_bytes: u64,
    closed: bool,
    senders: u64,
    receivers: u64,
    /// Whether `senders` or `receivers` are lower bounds.
    or_more: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Channels {
    count: u64,
    on_no_other_stack: u64,
    all_searched: bool,
    candidates: Vec<Candidate>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Candidate {
    site: String,
    wait_reason: String,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Path {
    count: u64,
    cut: bool,
    frames: Vec<Frame>,
}

/// The table as one line of JSON without the line feed.
pub fn goroutine_table(report: &GoroutineReport<'_>) -> serde_json::Result<String> {
    let goroutines = document(report.table, None, None, report.process.program(), report.discards);
    serde_json::to_string(&Document { schema: SCHEMA, process: process(report.process), goroutines })
}

/// The table under the key `goroutines`.
pub(super) fn document(
    table: &GoroutineTable,
    growth: Option<&GoroutinesGrowth>,
    hooks: Option<&HookedGoroutines>,
    program: Program<'_>,
    discards: &Discards,
) -> Table {
    let counted: HashMap<_, _> =
        hooks.map(|hooks| hooks.sites.iter().map(|site| (site.id, site)).collect()).unwrap_or_default();
    let growths: HashMap<_, _> =
        growth.map(|growth| growth.sites.iter().map(|site| (site.id, site)).collect()).unwrap_or_default();
    let present = table.sites.iter().map(|one| {
        let (growth, counted) = (growths.get(&one.id).copied(), counted.get(&one.id).copied());
        site(table, one, growth, counted, hooks.is_some(), program)
    });
    let is_there = |id| table.sites.iter().any(|site| site.id == id);
    let gone = hooks.iter().flat_map(|hooks| &hooks.sites).filter(|site| !is_there(site.id)).map(gone_site);
    Table {
        live: table.live,
        system: table.system,
        callbacks: table.callbacks,
        unknown: table.unknown,
        stack_bytes: table.stack_bytes,
        sampled: table.sampled,
        without_stack: table.without_stack,
        counted: hooks.map(|hooks| Counted {
            counted_s: hooks.counted_s,
            created: hooks.totals.created,
            exited: hooks.totals.exited,
            system_created: hooks.system.created,
            system_exited: hooks.system.exited,
            other_created: hooks.other.created,
            other_exited: hooks.other.exited,
        }),
        growth_per_s: growth.and_then(|growth| rate(growth.total.rate()?)),
        verdict: growth.map(|growth| growth.verdict.name()),
        sites: present.chain(gone).collect(),
        discarded: discards.iter().map(|(reason, count)| (reason.id(), count)).collect(),
    }
}

/// A site whose goroutines had all ended when the table was read.
fn gone_site(counted: &GoroutineSite) -> Site {
    Site {
        id: counted.id.to_string(),
        function: owned_name(&counted.place.function),
        file: file(&counted.place),
        line: line_number(&counted.place),
        entry_function: None,
        live: 0,
        stack_bytes: 0,
        oldest: Oldest { oldest_s: None, oldest_at_most_s: None },
        counted: Some(counted_of(counted)),
        judgement: None,
        creation_stack: counted.creation_stack.iter().map(frame).collect(),
        states: Vec::new(),
    }
}

fn counted_of(site: &GoroutineSite) -> SiteCounted {
    SiteCounted { created: site.counted.created, exited: site.counted.exited, created_per_s: rate(site.created_per_s) }
}

fn site(
    table: &GoroutineTable,
    site: &TableSite,
    growth: Option<&SiteGrowth>,
    counted: Option<&GoroutineSite>,
    is_hooked: bool,
    program: Program<'_>,
) -> Site {
    // Where hooks count all and nothing was counted there, nothing happened.
    let nothing = || SiteCounted { created: 0, exited: 0, created_per_s: rate(model::Rate::counted(0.0)) };
    let creation_stack = counted.map_or(&site.creation_stack, |counted| &counted.creation_stack);
    Site {
        id: site.id.to_string(),
        function: owned_name(&site.place.function),
        file: file(&site.place),
        line: line_number(&site.place),
        entry_function: Some(owned_name(&site.entry_function)),
        live: site.live,
        stack_bytes: site.stack_bytes,
        oldest: oldest(site.oldest),
        counted: counted.map(counted_of).or_else(|| is_hooked.then(nothing)),
        judgement: growth.map(|growth| Judgement {
            verdict: growth.verdict.name(),
            why: growth_words::goroutines(growth),
            growth_per_s: growth.trend.rate().and_then(rate),
            hint: (growth.verdict >= Verdict::Growing)
                .then(|| hints::of_goroutines(site, program).map(Hint::from))
                .flatten(),
        }),
        creation_stack: creation_stack.iter().map(frame).collect(),
        states: site.states.iter().map(|one| state(table, one)).collect(),
    }
}

fn state(table: &GoroutineTable, state: &TableState) -> State {
    let blocked = state.blocked.as_ref();
    State {
        wait_reason: owned_name(&state.wait_reason),
        count: state.count,
        count_low: state.interval.map(|(low, _)| low),
        count_high: state.interval.map(|(_, high)| high),
        looked_at: state.looked_at,
        function: blocked.map(|frame| owned_name(&frame.function)),
        file: blocked.and_then(file),
        line: blocked.and_then(line_number),
        entry_function: owned_name(&state.entry_function),
        oldest: oldest(state.oldest),
        waits_on: state.waits_on.as_ref().map(|object| waits_on(object, state.objects)),
        channels: state.holders.as_ref().map(|holders| channels(table, holders)),
        paths: state.paths.iter().map(path).collect(),
    }
}

fn oldest(age: AgeBounds) -> Oldest {
    let seconds = |ns: u64| crate::export::human::approximate(ns) / 1e9;
    Oldest {
        oldest_s: (age.at_least_ns > 0).then(|| seconds(age.at_least_ns)),
        oldest_at_most_s: age.at_most_ns.map(seconds),
    }
}

fn waits_on(object: &Object, objects: u64) -> WaitsOn {
    WaitsOn {
        kind: object.kind.name(),
        address: object.address.map(|address| format!("{:#x}", address.0)),
        waiters: object.waiters,
        objects,
        channel: object.channel.as_ref().map(channel),
        cases: object
            .cases
            .iter()
            .map(|case| Case { address: format!("{:#x}", case.address.0), channel: channel(case) })
            .collect(),
    }
}

fn channel(channel: &Channel) -> ChannelFacts {
    let Queue { count: senders, or_more: more_senders } = channel.senders;
    let Queue { count: receivers, or_more: more_receivers } = channel.receivers;
    ChannelFacts {
        len: channel.len,
        cap: channel.cap,
        element_bytes: channel.element_bytes,
        closed: channel.closed,
        senders,
        receivers,
        or_more: more_senders || more_receivers,
    }
}

fn channels(table: &GoroutineTable, holders: &Holders) -> Channels {
    let candidate = |holder: &model::goroutines::Holder| {
        let site = table.sites.get(holder.site)?;
        let state = site.states.get(holder.state)?;
        let blocked = state.blocked.as_ref();
        Some(Candidate {
            site: site.id.to_string(),
            wait_reason: owned_name(&state.wait_reason),
            count: holder.count,
            function: blocked.map(|frame| owned_name(&frame.function)),
            file: blocked.and_then(file),
            line: blocked.and_then(line_number),
        })
    };
    Channels {
        count: holders.channels,
        on_no_other_stack: holders.on_no_other_stack,
        all_searched: holders.all_searched,
        candidates: holders.groups.iter().filter_map(candidate).collect(),
    }
}

fn path(path: &TablePath) -> Path {
    Path { count: path.count, cut: path.cut, frames: path.frames.iter().map(frame).collect() }
}
