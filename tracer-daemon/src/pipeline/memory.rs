//! `leakline memory`: one look at what the resident memory of a process consists of.

use anyhow::Context as _;

use super::{StartError, Subject, own, stdout};
use crate::addr::Avma;
use crate::cli::OutputFormat;
use crate::discover::Target;
use crate::export::{ProcessFacts, Refusal, json, text};
use crate::inspect::cache::FactsCache;
use crate::model::memory::{MemoryInput, MemoryStatement, memory};
use crate::read::ReadError;
use crate::read::books::{Books, BooksReader};
use crate::read::heap_pages::{HeapPages, heap_pages};
use crate::read::memory::MemoryError;
use crate::read::residency::{Program, Residency, residency};
use crate::read::system::smaps::Mapping;
use crate::read::system::{Absent, System};

/// How often a look is begun anew where much changed meanwhile.
const ATTEMPTS: usize = 3;

/// A look and what could not be seen.
#[derive(Clone, Debug)]
pub struct MemoryLook {
    /// Whose memory it is.
    pub process: ProcessFacts,
    /// The statement.
    pub statement: MemoryStatement,
    /// What could not be read, and why.
    pub refused: Vec<Refusal>,
}

/// Looks and prints.
///
/// # Errors
/// Where the process cannot be read at all, or nobody takes what is printed.
pub fn print(target: &Target, output: OutputFormat) -> anyhow::Result<()> {
    let subject = Subject::open(target, &FactsCache::default())?;
    subject.announce();
    let look = look(&subject)?;
    stdout::print(&match output {
        OutputFormat::Text => text::memory::render(&look.process, &look.statement, &look.refused, stdout::style()),
        OutputFormat::Json => json::memory::line(&look.process, &look.statement, &look.refused)
            .context("cannot write the statement as JSON")?,
    })?;
    Ok(())
}

/// One look. What cannot be read is refused by itself; the rest is kept.
///
/// # Errors
/// Where the process is gone, or may not be read at all.
pub fn look(subject: &Subject) -> Result<MemoryLook, StartError> {
    let mut best: Option<MemoryLook> = None;
    for _ in 0..ATTEMPTS {
        let look = attempt(subject)?;
        let distance = |look: &MemoryLook| look.statement.unexplained_bytes.unsigned_abs();
        // Where memory comes and goes while we look, mappings and pages do not agree; perhaps another time.
        let is_steady = distance(&look) <= u128::from(look.statement.rss_bytes / 100);
        if best.as_ref().is_none_or(|best| distance(&look) < distance(best)) {
            best = Some(look);
        }
        if is_steady {
            break;
        }
    }
    subject.still_there()?;
    best.ok_or(StartError::Vanished { pid: subject.identity.pid })
}

fn attempt(subject: &Subject) -> Result<MemoryLook, StartError> {
    let (system, pid) = (System::default(), subject.identity.pid);
    let mut refused = Refusals::default();
    // The least right that all of it needs; without, there is nothing to tell.
    let books = refused.part(books(subject)).map_err(|error| subject.unread(error))?;
    let mappings = refused.absent(system.mappings(pid));
    let pages = mappings.as_ref().and_then(|_| refused.absent(system.pages(pid)));
    let (mut residency, mut heap) = (None, None);
    if let (Some(mappings), Some(pages)) = (&mappings, &pages) {
        let walked = heap_pages(&subject.runtime(), &subject.memory, mappings, pages);
        heap = refused.part(walked).map_err(|error| subject.unread(error))?;
        residency =
            refused.part(owners(subject, mappings, heap.as_ref(), pages)).map_err(|error| subject.unread(error))?;
    }
    let resident = refused.absent(system.resident(pid));
    let cgroup = refused.absent(system.cgroup(pid));
    let host = refused.absent(system.host());
    let input = MemoryInput {
        residency: residency.as_ref(),
        resident: resident.as_ref(),
        books: books.as_ref(),
        cgroup: cgroup.as_ref(),
        host,
        cgo: subject.facts.cgo,
        now_unix_ns: own::unix_ns(),
    };
    tracing::debug!(pid, arenas = heap.as_ref().map(|heap| heap.arenas.len()), "looked at the heap's pages");
    let statement = memory(input).ok_or(StartError::Vanished { pid })?;
    Ok(MemoryLook { process: subject.process_facts(), statement, refused: refused.0 })
}

fn books(subject: &Subject) -> Result<Books, ReadError> {
    BooksReader::new(&subject.runtime())?.read(&subject.memory)
}

fn owners(
    subject: &Subject,
    mappings: &[Mapping],
    heap: Option<&HeapPages>,
    pages: &dyn crate::read::system::pagemap::Pages,
) -> Result<Residency, ReadError> {
    let writable = subject.facts.segments.iter().filter(|segment| segment.writable);
    let variables: Vec<(Avma, Avma)> = writable
        .map(|segment| {
            let start = segment.svma.in_process(subject.bias);
            (start, Avma(start.0.saturating_add(segment.memory_size_bytes)))
        })
        .collect();
    residency(mappings, heap, pages, Program { exe: &subject.exe, variables: &variables })
        .map_err(|source| ReadError::Pages { source })
}

/// What could not be read.
#[derive(Debug, Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    /// A part without which there is still a statement, unless the process is gone or nothing of it may be read.
    fn part<T>(&mut self, part: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        match part {
            Ok(part) => Ok(Some(part)),
            Err(error @ ReadError::Memory(MemoryError::Gone { .. } | MemoryError::NotAllowed { .. })) => Err(error),
            Err(error) => {
                self.0.push(Refusal::new(error.id(), full_text(&error)));
                Ok(None)
            }
        }
    }

    fn absent<T>(&mut self, part: Result<T, Absent>) -> Option<T> {
        part.map_err(|absent| self.0.push(Refusal::new(absent.id, absent.text))).ok()
    }
}

fn full_text(error: &ReadError) -> String {
    match error {
        ReadError::Pages { source } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}
