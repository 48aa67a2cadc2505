//! `leakline goroutines`: one look at the goroutine table of one process. No probes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

use super::{Subject, stdout};
use crate::addr::Avma;
use crate::cli::OutputFormat;
use crate::discover::Target;
use crate::export::{GoroutineReport, json, text};
use crate::inspect::cache::FactsCache;
use crate::model::goroutines::{GoroutineTable, IdClock, TableInput, tabulate};
use crate::read::ReadError;
use crate::read::goroutines::{GoroutineReader, Table};
use crate::symbolize::{Frame, Origin};

/// Looks and prints.
///
/// # Errors
/// Where the target cannot be read, or stdout not be written.
pub fn print(target: &Target, output: OutputFormat) -> anyhow::Result<()> {
    let mut subject = Subject::open(target, &FactsCache::default())?;
    subject.announce();
    let mut reader = GoroutineReader::new(subject.runtime()).map_err(|source| subject.unread(source))?;
    let now_ns = monotonic_ns();
    let mut clock = IdClock::new(began_ns(subject.identity.start_ticks, now_ns));
    let (table, read) =
        tabulated(&mut subject, &mut reader, &mut clock, now_ns).map_err(|source| subject.unread(source))?;
    subject.still_there()?;
    let report = GoroutineReport { process: &subject.process_facts(), table: &table, discards: &read.discards };
    stdout::print(&match output {
        OutputFormat::Text => text::goroutine_table(&report, stdout::style()),
        OutputFormat::Json => json::goroutine_table(&report).context("cannot write the goroutines as JSON")?,
    })?;
    Ok(())
}

/// One look: what was read, and what it means. `now_ns`: of [`monotonic_ns`].
///
/// # Errors
/// Where the target cannot be read.
pub fn tabulated(
    subject: &mut Subject,
    reader: &mut GoroutineReader,
    clock: &mut IdClock,
    now_ns: u64,
) -> Result<(GoroutineTable, Table), ReadError> {
    let read = reader.read(&subject.memory, now_ns)?;
    if let Some(highest_id) = read.highest_id {
        clock.record(now_ns, highest_id);
    }
    let names = Names::of(subject, &read);
    let table = tabulate(TableInput {
        table: &read,
        stacks: &names.stacks,
        creations: &names.creations,
        starts: &names.starts,
        main_module: subject.facts.main_module.as_deref(),
        clock,
        now_ns,
    });
    Ok((table, read))
}

/// The names of what is in a table.
#[derive(Debug)]
struct Names {
    stacks: Vec<Vec<Frame>>,
    creations: BTreeMap<Avma, Vec<Frame>>,
    starts: BTreeMap<Avma, Arc<str>>,
}

impl Names {
    fn of(subject: &mut Subject, read: &Table) -> Self {
        let symbolizer = &mut subject.symbolizer;
        let pcs: Vec<&[Avma]> = read.stacks.iter().map(|stack| &*stack.pcs).collect();
        let stacks = symbolizer.stacks(&pcs);
        let (mut creations, mut starts) = (BTreeMap::new(), BTreeMap::new());
        for counted in &read.kinds {
            let kind = counted.kind;
            creations.entry(kind.creation).or_insert_with(|| symbolizer.return_address(kind.creation));
            if !starts.contains_key(&kind.start) {
                let function = symbolizer.stack(&[kind.start]).pop().filter(|frame| frame.origin == Origin::Go);
                starts.extend(function.map(|frame| (kind.start, frame.function)));
            }
        }
        Self { stacks, creations, starts }
    }
}

/// The clock that the runtime notes the begin of waits by.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// When a process began by that clock: the kernel counts from boot, the time asleep included. `None`: before that clock began.
pub(super) fn began_ns(start_ticks: u64, now_ns: u64) -> Option<u64> {
    let start = Duration::from_secs(start_ticks) / u32::try_from(procfs::ticks_per_second()).ok()?;
    let age_ns = nanoseconds(ClockId::Boottime).checked_sub(u64::try_from(start.as_nanos()).ok()?)?;
    now_ns.checked_sub(age_ns)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default())
}
