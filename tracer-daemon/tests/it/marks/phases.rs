//! What is done to the program, and what must be seen.
//!
//! *Quiet*: collections on request only, so that the truth is known of each object at each moment. *Frozen*: the program
//! is stopped right when marking has ended, in the middle of sweeping. *Concurrent*: the program collects all the time, and we look
//! at its own pace.

use std::collections::HashMap;
use std::env;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracer_daemon::read::marks::{Censored, Cycle, Look, MarksReader, TrackedObject};
use tracer_daemon::read::memory::ProcessMemory;

use super::program::{Followed, Program};
use super::results::Row;
use crate::target::wait_until;

/// Collections that the concurrent phase must look at, unless `LEAKLINE_MARKS_CYCLES` says another number.
const CYCLES: u32 = 200;
/// Answers of each kind without which nothing is proved.
const ANSWERS: u64 = 5000;
/// Answers that must come from unswept spans, and from marks within spans where the collector makes those.
const UNSWEPT: u64 = 500;

/// Differences between what was seen and the truth; the first few of them.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    list: Vec<String>,
    count: usize,
}

impl Mistakes {
    fn add(&mut self, mistake: String) {
        self.count += 1;
        if self.list.len() < 5 {
            self.list.push(mistake);
        }
    }

    fn check(&mut self, phase: &str, followed: &[Followed], looks: &[Look]) {
        assert_eq!(followed.len(), looks.len());
        for (followed, look) in followed.iter().zip(looks) {
            if let Err(mistake) = followed.compare(*look) {
                self.add(format!("{phase}: {mistake}"));
            }
        }
    }

    pub(super) fn none(&self) -> Result<(), String> {
        if self.count == 0 { Ok(()) } else { Err(format!("{} wrong answers: {:#?}", self.count, self.list)) }
    }
}

/// Takes over what a look says: the dead are looked at no more.
fn advance(followed: &mut Vec<Followed>, looks: &[Look]) {
    let mut looks = looks.iter();
    followed.retain_mut(|followed| match looks.next() {
        Some(Look::Alive { cycle }) => {
            followed.object.alive = *cycle;
            true
        }
        Some(Look::Dead { .. }) => false,
        _ => true,
    });
}

/// Makes the program forget every n-th of these.
fn drop_some(program: &mut Program, followed: &mut [Followed], n: usize) {
    let mut line = "drop".to_owned();
    for followed in followed.iter_mut().filter(|followed| !followed.holders.is_empty()).step_by(n) {
        for id in followed.holders.drain(..) {
            write!(line, " {id}").unwrap();
        }
    }
    program.tell(&line);
}

pub(super) fn quiet(program: &mut Program, mistakes: &mut Mistakes, row: &mut Row) {
    for line in ["percent -1", "gc", "gc"] {
        program.tell(line);
    }
    let (mut followed, before, after) = program.allocate("half 6");
    assert_eq!(before, after, "nothing may be collected while it is off");
    row.objects += followed.len();
    let looks = program.look(&followed);
    assert!(looks.iter().all(|look| *look == Look::Censored(Censored::NotYetKnown)), "{looks:?}");

    program.tell("gc");
    assert_eq!(program.cycle().since(after), 1);
    let stale = followed.clone();
    let looks = program.look(&followed);
    mistakes.check("after the first collection", &followed, &looks);
    program.tell("churn 30");
    assert_eq!(program.look(&followed), looks, "allocating changes no answer");
    advance(&mut followed, &looks);
    row.count(&looks);

    let looks = program.look(&followed);
    drop_some(program, &mut followed, 3);
    assert_eq!(program.look(&followed), looks, "forgetting changes no answer before the next collection");
    program.tell("gc");
    let looks = program.look(&followed);
    mistakes.check("after the second collection", &followed, &looks);
    row.count(&looks);

    missed(program, mistakes, row, &stale, &followed);
}

/// Objects at which nobody looked after the first of two collections: nothing may be called alive, and only what is dead dead.
/// Slots that others took over meanwhile look alive.
fn missed(program: &mut Program, mistakes: &mut Mistakes, row: &mut Row, stale: &[Followed], now: &[Followed]) {
    let kept: HashMap<u64, bool> = now.iter().map(|followed| (followed.object.address.0, followed.is_kept())).collect();
    let mut taken_over = 0;
    let looks = program.look(stale);
    for (followed, look) in stale.iter().zip(&looks) {
        let is_kept = followed.revived || kept.get(&followed.object.address.0).is_some_and(|kept| *kept);
        match look {
            Look::Dead { .. } if !is_kept => {}
            Look::Censored(Censored::MissedCycle) => taken_over += usize::from(!is_kept),
            _ => mistakes.add(format!("missed cycle: {}: {look:?}, kept: {is_kept}", followed.name)),
        }
    }
    row.count(&looks);
    row.taken_over = taken_over;
    assert!(taken_over > 20, "only {taken_over} slots were taken over: nothing is proved");
}

pub(super) fn frozen(program: &mut Program, mistakes: &mut Mistakes, row: &mut Row, inline_marks: bool) {
    for line in ["percent -1", "ballast 16", "gc"] {
        program.tell(line);
    }
    let mut followed = Vec::new();
    let begin = program.reader.sources();
    let (mut unswept, mut inline) = (0, 0);
    let mut pass = 0;
    wait_until("enough answers came from unswept spans", || {
        followed.extend(program.allocate("half 2").0);
        drop_some(program, &mut followed, 4);
        let cycle = program.cycle();
        program.target.say("gc");
        // A busy wait: what is to be seen lasts some hundred microseconds.
        while program.cycle() == cycle {}
        for _ in 0..pass % 8 * 40 {
            program.cycle();
        }
        program.freeze();
        let now = program.cycle();
        let before = program.reader.sources();
        let looks = program.look(&followed);
        let sources = program.reader.sources();
        unswept +=
            sources.unswept + sources.inline + sources.finalizer - (before.unswept + before.inline + before.finalizer);
        inline += sources.inline - before.inline;
        assert_eq!((now.since(cycle), program.cycle()), (1, now), "a frozen program collects nothing");
        let (moving, known): (Vec<_>, Vec<_>) = followed
            .iter()
            .cloned()
            .zip(looks.iter().copied())
            .partition(|(_, look)| *look == Look::Censored(Censored::Moving));
        let (followed_known, looks_known): (Vec<_>, Vec<_>) = known.into_iter().unzip();
        mistakes.check("frozen", &followed_known, &looks_known);
        row.count(&looks_known);
        row.being_swept += moving.len();
        program.thaw();
        assert!(program.answer().is_empty());
        let later = program.look(&followed);
        mistakes.check("thawed", &followed, &later);
        advance(&mut followed, &later);
        pass += 1;
        pass >= 8 && unswept >= UNSWEPT && (!inline_marks || inline >= UNSWEPT / 4)
    });
    row.frozen = pass;
    if !inline_marks {
        assert_eq!(program.reader.sources().inline, begin.inline, "this collector makes no marks within spans");
    }
}

/// What the thread that speaks to the program tells the one that looks.
enum Event {
    /// With their numbers.
    Born(Vec<(usize, Followed)>),
    /// The numbers of those of which nothing is kept any more; the cycles before and after.
    Dropped(Vec<usize>, Cycle, Cycle),
}

/// One slot and what was seen of it.
struct Seen {
    followed: Followed,
    dropped: Option<(Cycle, Cycle)>,
    dead: Option<Cycle>,
    censored: bool,
}

impl Seen {
    /// The object was kept up to the cycle before it was forgotten. Whatever was forgotten before a marking began, it does not
    /// reach: that is the one behind the next, since the next may have begun.
    fn mistake(&self) -> Option<String> {
        let name = &self.followed.name;
        let alive = self.followed.object.alive;
        match (self.dead, self.dropped) {
            (Some(dead), _) if self.followed.revived => Some(format!("{name}: dead in {dead:?}, but revived")),
            (Some(dead), None) => Some(format!("{name}: dead in {dead:?}, but kept: {:?}", self.followed)),
            (Some(dead), Some((before, _))) if dead.since(before) <= 0 => {
                Some(format!("{name}: dead in {dead:?}, but kept until {before:?}: {:?}", self.followed))
            }
            (_, Some((_, after))) if self.followed.ours_alone && !self.followed.revived && alive.since(after) >= 2 => {
                Some(format!("{name}: alive in {alive:?}, but forgotten in {after:?}: {:?}", self.followed.object))
            }
            _ => None,
        }
    }
}

pub(super) fn concurrent(program: &mut Program, mistakes: &mut Mistakes, row: &mut Row) {
    let done = AtomicBool::new(false);
    let (sender, receiver) = sync_channel(256);
    program.tell("percent 20");
    program.tell("start");
    let memory = ProcessMemory::new(program.target.pid());
    let mut reader = MarksReader::new(&program.subject.runtime()).unwrap();
    let (finished, reading, counted) = (&done, &mut reader, &mut *row);
    let seen = thread::scope(|scope| {
        let looking = scope.spawn(move || {
            // Also where this fails: the other one must not go on for ever.
            struct Done<'a>(&'a AtomicBool);
            impl Drop for Done<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
            let done = Done(finished);
            let mut seen = HashMap::new();
            follow(reading, &memory, &receiver, &mut seen, counted);
            drop(done);
            // What was forgotten last may be dead already.
            for event in receiver {
                take_note(event, &mut seen);
            }
            seen
        });
        speak(program, &sender, &done);
        drop(sender);
        looking.join().unwrap()
    });
    program.tell("stop");
    row.objects += seen.len();
    for mistake in seen.values().filter_map(Seen::mistake) {
        mistakes.add(format!("concurrent: {mistake}"));
    }
    row.add_sources(&reader.sources());
    for answer in ["alive", "dead"] {
        let count = row.answers.get(answer).copied().unwrap_or_default();
        assert!(count >= ANSWERS, "only {count} answers say {answer}: nothing is proved");
    }
}

/// Lets the program allocate and forget, batch by batch, until the other thread has seen enough.
fn speak(program: &mut Program, events: &SyncSender<Event>, done: &AtomicBool) {
    let mut batches: Vec<Vec<(usize, Followed)>> = Vec::new();
    let mut numbers = 0..;
    while !done.load(Ordering::Relaxed) {
        let half = batches.len() % 2 == 1;
        let (mut followed, before, after) = program.allocate(if half { "half 1" } else { "fill 1" });
        if before != after {
            // What was not kept may have been gone, and its slot another's, before we knew where it was.
            followed.retain(|followed| !followed.holders.is_empty());
        }
        let batch: Vec<(usize, Followed)> = numbers.by_ref().zip(followed).collect();
        let forgotten = batch.iter().filter(|(_, followed)| followed.holders.is_empty());
        let forgotten = Event::Dropped(forgotten.map(|(number, _)| *number).collect(), before, after);
        let born = Event::Born(batch.clone());
        if events.send(born).is_err() || events.send(forgotten).is_err() {
            return;
        }
        batches.push(batch);
        // A quarter of all that is kept, and what is old altogether.
        let mut dropped = Vec::new();
        let mut line = "drop".to_owned();
        let young = batches.len().saturating_sub(8);
        for (index, batch) in batches.iter_mut().enumerate() {
            let n = if index < young { 1 } else { 4 };
            for (number, followed) in batch.iter_mut().filter(|(_, followed)| !followed.holders.is_empty()).step_by(n) {
                dropped.push(*number);
                for id in followed.holders.drain(..) {
                    write!(line, " {id}").unwrap();
                }
            }
        }
        batches.drain(..young);
        let before = program.cycle();
        program.tell(&line);
        let after = program.cycle();
        if events.send(Event::Dropped(dropped, before, after)).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(15));
    }
}

fn take_note(event: Event, seen: &mut HashMap<usize, Seen>) {
    match event {
        Event::Born(followed) => {
            seen.extend(
                followed
                    .into_iter()
                    .map(|(number, followed)| (number, Seen { followed, dropped: None, dead: None, censored: false })),
            );
        }
        Event::Dropped(numbers, before, after) => {
            for number in numbers {
                seen.get_mut(&number).expect("born before").dropped = Some((before, after));
            }
        }
    }
}

/// Looks once in each cycle at all that is followed.
fn follow(
    reader: &mut MarksReader,
    memory: &ProcessMemory,
    events: &Receiver<Event>,
    all: &mut HashMap<usize, Seen>,
    row: &mut Row,
) {
    let mut open: Vec<usize> = Vec::new();
    let mut last = reader.cycle(memory).unwrap();
    let wanted = env::var("LEAKLINE_MARKS_CYCLES").map_or(CYCLES, |number| number.parse().unwrap());
    while row.cycles - row.missed_cycles < wanted {
        for event in events.try_iter() {
            if let Event::Born(followed) = &event {
                open.extend(followed.iter().map(|(number, _)| *number));
            }
            take_note(event, all);
        }
        let now = reader.cycle(memory).unwrap();
        if now == last {
            // Not a wait for something to happen: the pace at which it is asked whether it has.
            thread::sleep(Duration::from_micros(500));
            continue;
        }
        row.cycles += u32::try_from(now.since(last)).unwrap();
        row.missed_cycles += u32::try_from(now.since(last) - 1).unwrap();
        last = now;
        let objects: Vec<TrackedObject> = open.iter().map(|number| all[number].followed.object).collect();
        let looks = reader.look(memory, &objects, now).unwrap();
        row.count(&looks);
        for (number, look) in open.iter().zip(looks) {
            let seen = all.get_mut(number).expect("born before");
            match look {
                Look::Alive { cycle } => seen.followed.object.alive = cycle,
                Look::Dead { cycle } => seen.dead = Some(cycle),
                Look::Censored(reason) => seen.censored = reason.is_final(),
            }
        }
        open.retain(|number| !all[number].censored && all[number].dead.is_none());
    }
}
