//! The program under test, its objects, and what is true of them.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};
use tracer_common::size_class::allocated_bytes;
use tracer_daemon::addr::Avma;
use tracer_daemon::discover::target_by_pid;
use tracer_daemon::inspect::cache::FactsCache;
use tracer_daemon::pipeline::Subject;
use tracer_daemon::read::heap::Slot;
use tracer_daemon::read::marks::{Cycle, Look, MarksReader, TrackedObject};

use crate::go::Build;
use crate::target::{Target, wait_until};

/// One slot of the heap, of whose objects we know. Only tiny objects share one.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) name: String,
    pub(super) object: TrackedObject,
    /// What the program keeps it by.
    pub(super) holders: Vec<usize>,
    /// Whether no other object can be in the slot.
    pub(super) ours_alone: bool,
    pub(super) is_tiny: bool,
    /// Whether a finalizer keeps it.
    pub(super) revived: bool,
}

impl Followed {
    pub(super) fn is_kept(&self) -> bool {
        self.revived || !self.holders.is_empty()
    }

    /// An error where a look of an object of which everything is known says anything else than the truth.
    pub(super) fn compare(&self, look: Look) -> Result<(), String> {
        match look {
            Look::Alive { .. } if self.is_kept() || !self.ours_alone => Ok(()),
            // A block of tiny objects which a processor was filling is kept by the next collection.
            Look::Alive { cycle } if self.is_tiny && cycle.since(self.object.born) == 1 => Ok(()),
            Look::Dead { .. } if !self.is_kept() => Ok(()),
            _ => Err(format!("{}: {look:?}, kept: {}, {:?}", self.name, self.is_kept(), self.object)),
        }
    }
}

/// The running program.
pub(super) struct Program {
    pub(super) target: Target,
    pub(super) subject: Subject,
    pub(super) reader: MarksReader,
}

impl Program {
    pub(super) fn start(build: &Build<'_>) -> Self {
        let target = Target::start(&build.path(), &[]);
        let subject = Subject::open(&target_by_pid(target.pid()).unwrap(), &FactsCache::default()).unwrap();
        let reader = MarksReader::new(&subject.runtime()).unwrap();
        Self { target, subject, reader }
    }

    /// Sends a line, waits for all that the program says to it.
    pub(super) fn ask(&mut self, line: &str) -> Vec<String> {
        self.target.say(line);
        self.answer()
    }

    pub(super) fn answer(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.target.line();
            assert!(!line.is_empty(), "the program ended after {lines:?}");
            if line == "ok" {
                return lines;
            }
            lines.push(line);
        }
    }

    /// As [`Self::ask`], where nothing is said.
    pub(super) fn tell(&mut self, line: &str) {
        let said = self.ask(line);
        assert!(said.is_empty(), "to {line:?} the program says {said:?}");
    }

    pub(super) fn cycle(&self) -> Cycle {
        self.reader.cycle(&self.subject.memory).unwrap()
    }

    pub(super) fn look(&mut self, followed: &[Followed]) -> Vec<Look> {
        let objects: Vec<TrackedObject> = followed.iter().map(|followed| followed.object).collect();
        let cycle = self.cycle();
        self.reader.look(&self.subject.memory, &objects, cycle).unwrap()
    }

    /// Allocates; the objects are taken for born in the cycle that it was afterwards, since all that is not kept may be
    /// gone if another one began meanwhile. Says which cycles it was before and after.
    pub(super) fn allocate(&mut self, line: &str) -> (Vec<Followed>, Cycle, Cycle) {
        let before = self.cycle();
        let lines = self.ask(line);
        let told: Vec<Told> = lines.iter().map(|line| Told::of(line)).collect();
        let addresses: Vec<Avma> = told.iter().map(|told| told.address).collect();
        let slots = self.reader.slots(&self.subject.memory, &addresses).unwrap();
        let after = self.cycle();
        let mut by_slot: BTreeMap<u64, (u64, Followed)> = BTreeMap::new();
        for (told, slot) in told.into_iter().zip(slots) {
            let slot = match slot {
                Ok(slot) => slot,
                // Of an object that is gone already.
                Err(_) if before != after && told.id.is_none() => continue,
                Err(why) => panic!("{}: {why:?}", told.name()),
            };
            if before == after || told.id.is_some() {
                told.compare(&slot, self.subject.facts.layout.malloc_header_bytes());
            }
            let (bytes, followed) = by_slot.entry(slot.start().0).or_insert_with(|| {
                let followed = Followed {
                    name: told.name(),
                    object: TrackedObject::new(&slot, after),
                    holders: Vec::new(),
                    ours_alone: true,
                    is_tiny: told.kind == "tiny",
                    revived: told.kind == "finalizer",
                };
                (0, followed)
            });
            *bytes += told.bytes;
            followed.holders.extend(told.id);
            followed.ours_alone = told.kind != "tiny" || *bytes == slot.span.slot_bytes;
        }
        (by_slot.into_values().map(|(_, followed)| followed).collect(), before, after)
    }

    /// Sends the signal to all threads and waits until it has stopped them.
    pub(super) fn freeze(&self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.target.pid());
        wait_until("all threads are stopped", || {
            fs::read_dir(&threads).unwrap().all(|thread| {
                let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('T'))
            })
        });
    }

    pub(super) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.target.pid()).unwrap()).unwrap(), signal).unwrap();
    }
}

/// An object as the program tells of it.
#[derive(Debug)]
struct Told {
    kind: String,
    bytes: u64,
    address: Avma,
    id: Option<usize>,
}

impl Told {
    fn of(line: &str) -> Self {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, bytes, address, id] = words.as_slice() else { panic!("the program says {line:?}") };
        Self {
            kind: (*kind).to_owned(),
            bytes: bytes.parse().unwrap(),
            address: Avma(address.parse().unwrap()),
            id: id.parse().ok(),
        }
    }

    fn name(&self) -> String {
        format!("{} of {} bytes", self.kind, self.bytes)
    }

    /// The slot must be the one that the allocator's rules give to such an object.
    fn compare(&self, slot: &Slot, header_bytes: u64) {
        let without_pointers = matches!(self.kind.as_str(), "tiny" | "bytes");
        let mut expected = allocated_bytes(self.bytes, without_pointers, header_bytes);
        if self.kind == "tiny" {
            expected = 16;
            assert!(slot.span.may_be_shared());
        } else {
            assert_eq!(slot.object(), self.address, "{}: {slot:?}", self.name());
        }
        assert_eq!(slot.span.slot_bytes, expected, "{}: {slot:?}", self.name());
        assert_eq!(slot.span.without_pointers(), without_pointers, "{}: {slot:?}", self.name());
        let is_large = self.bytes > 32768 - header_bytes;
        assert_eq!(slot.span.size_class() == 0, is_large, "{}: {slot:?}", self.name());
    }
}
