//! What a goroutine waits for: from its wait reason, its record in the runtime and the functions that it waits in.

use serde::{Deserialize, Serialize};

use crate::addr::Avma;
use crate::read::goroutines::{State, WaitsOn};
use crate::symbolize::Frame;

/// Kinds of things that goroutines wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// A channel.
    Chan,
    /// A channel that is nil: for ever.
    NilChan,
    /// One of several channels.
    Select,
    /// A select without cases: for ever.
    EmptySelect,
    /// `sync.Mutex`.
    Mutex,
    /// `sync.RWMutex`.
    RwMutex,
    /// `sync.WaitGroup`.
    WaitGroup,
    /// `sync.Cond`.
    Cond,
    /// Another semaphore of the runtime.
    Semaphore,
    /// `time.Sleep`.
    Sleep,
    /// The channel of a timer, in programs with the timers of go1.23; before they look like any channel.
    Timer,
    /// A file or connection.
    Io,
    /// The kernel, or C code.
    Syscall,
    /// The other side of a coroutine (`iter.Pull`).
    Coroutine,
    /// Something of the runtime's own.
    Runtime,
}

impl ObjectKind {
    /// The name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chan => "chan",
            Self::NilChan => "nil_chan",
            Self::Select => "select",
            Self::EmptySelect => "empty_select",
            Self::Mutex => "mutex",
            Self::RwMutex => "rwmutex",
            Self::WaitGroup => "waitgroup",
            Self::Cond => "cond",
            Self::Semaphore => "semaphore",
            Self::Sleep => "sleep",
            Self::Timer => "timer",
            Self::Io => "io",
            Self::Syscall => "syscall",
            Self::Coroutine => "coroutine",
            Self::Runtime => "runtime",
        }
    }

    /// Whether nothing will ever end this.
    pub const fn is_for_ever(self) -> bool {
        matches!(self, Self::NilChan | Self::EmptySelect)
    }
}

/// What one goroutine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Waited {
    pub(super) kind: ObjectKind,
    /// Of the lock, not of the part of it that the runtime knows. `None` where the runtime has no record of it, and for a select.
    pub(super) address: Option<Avma>,
}

/// Distances of semaphores from the beginning of what they are a part of (package sync, go1.19 to go1.27).
mod semaphore {
    /// `state int32, sema uint32`.
    pub(super) const IN_MUTEX: u64 = 4;
    /// Behind the Mutex of writers: the one on which a writer waits for readers.
    pub(super) const OF_WRITER: u64 = 8;
    /// The one on which readers wait.
    pub(super) const OF_READERS: u64 = 12;
    /// Behind the counters.
    pub(super) const IN_WAIT_GROUP: u64 = 8;
    /// The list of who waits, behind an interface.
    pub(super) const LIST_IN_COND: u64 = 16;
}

/// `None` where it does not wait. `frames`: its stack, leaf first, as far as it is known.
pub(super) fn of(
    state: State,
    reason: &str,
    waits_on: &WaitsOn,
    of_timer: impl Fn(Avma) -> bool,
    frames: &[Frame],
) -> Option<Waited> {
    let plain = |kind| Some(Waited { kind, address: None });
    match state {
        State::Syscall => return plain(ObjectKind::Syscall),
        State::Waiting | State::Leaked => {}
        State::Runnable | State::Running | State::CopyStack | State::Preempted => return None,
    }
    match (waits_on, reason) {
        (WaitsOn::Select(_), _) => return plain(ObjectKind::Select),
        (WaitsOn::Channel(channel), reason) => {
            let kind = match reason {
                "select" => ObjectKind::Select,
                _ if of_timer(*channel) => ObjectKind::Timer,
                _ => ObjectKind::Chan,
            };
            return Some(Waited { kind, address: Some(*channel) });
        }
        // Texts of `waitReasonStrings` (runtime/runtime2.go), the same in go1.19 to go1.27.
        (_, "chan receive (nil chan)" | "chan send (nil chan)") => return plain(ObjectKind::NilChan),
        (_, "select (no cases)") => return plain(ObjectKind::EmptySelect),
        (_, "chan receive" | "chan send") => return plain(ObjectKind::Chan),
        (_, "select") => return plain(ObjectKind::Select),
        (_, "sleep") => return plain(ObjectKind::Sleep),
        (_, "IO wait") => return plain(ObjectKind::Io),
        (_, "coroutine") => return plain(ObjectKind::Coroutine),
        _ => {}
    }
    let address = match waits_on {
        WaitsOn::Semaphore(address) => Some(*address),
        WaitsOn::Nothing | WaitsOn::Channel(_) | WaitsOn::Select(_) => None,
    };
    match lock(frames) {
        Some((kind, distance)) => {
            let begin = |address: Avma| address.0.checked_sub(distance).map(Avma);
            Some(Waited { kind, address: address.and_then(begin) })
        }
        None if address.is_some() || reason == "semacquire" => Some(Waited { kind: ObjectKind::Semaphore, address }),
        None => plain(ObjectKind::Runtime),
    }
}

/// Which lock the functions at the leaf are of, and where in it what they wait on lies.
fn lock(frames: &[Frame]) -> Option<(ObjectKind, u64)> {
    let mut found = None;
    let mut in_mutex = false;
    for frame in frames {
        let function = &*frame.function;
        if function.starts_with("sync.(*Mutex).") || function.starts_with("internal/sync.(*Mutex).") {
            in_mutex = true;
            found = Some((ObjectKind::Mutex, semaphore::IN_MUTEX));
        } else if function.starts_with("sync.(*RWMutex).") {
            // Writers wait for each other on a Mutex that comes first in it.
            let distance = match function {
                _ if in_mutex => semaphore::IN_MUTEX,
                "sync.(*RWMutex).RLock" => semaphore::OF_READERS,
                _ => semaphore::OF_WRITER,
            };
            found = Some((ObjectKind::RwMutex, distance));
        } else if function == "sync.(*WaitGroup).Wait" {
            found = Some((ObjectKind::WaitGroup, semaphore::IN_WAIT_GROUP));
        } else if function == "sync.(*Cond).Wait" {
            found = Some((ObjectKind::Cond, semaphore::LIST_IN_COND));
        } else if !["runtime.", "sync.", "internal/sync."].iter().any(|package| function.starts_with(package)) {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::goroutines::tests::frames;

    fn kind_of(reason: &str, functions: &[&str], semaphore: u64) -> (ObjectKind, Option<u64>) {
        let frames = frames(functions);
        let waits_on = if semaphore == 0 { WaitsOn::Nothing } else { WaitsOn::Semaphore(Avma(semaphore)) };
        let waited = of(State::Waiting, reason, &waits_on, |_| false, &frames).unwrap();
        (waited.kind, waited.address.map(|address| address.0))
    }

    #[test]
    fn the_address_of_a_lock_is_that_of_its_beginning() {
        let mutex =
            ["runtime.gopark", "sync.runtime_SemacquireMutex", "internal/sync.(*Mutex).lockSlow", "sync.(*Mutex).Lock"];
        assert_eq!(kind_of("sync.Mutex.Lock", &mutex, 0x1004), (ObjectKind::Mutex, Some(0x1000)));
        let mut writers = mutex.to_vec();
        writers.push("sync.(*RWMutex).Lock");
        assert_eq!(kind_of("sync.Mutex.Lock", &writers, 0x1004), (ObjectKind::RwMutex, Some(0x1000)));
        let writer = ["sync.runtime_SemacquireRWMutex", "sync.(*RWMutex).Lock", "main.f"];
        assert_eq!(kind_of("sync.RWMutex.Lock", &writer, 0x1008), (ObjectKind::RwMutex, Some(0x1000)));
        let reader = ["sync.runtime_SemacquireRWMutexR", "sync.(*RWMutex).RLock", "main.f"];
        assert_eq!(kind_of("semacquire", &reader, 0x100c), (ObjectKind::RwMutex, Some(0x1000)));
        let group = ["runtime.semacquire1", "sync.(*WaitGroup).Wait", "main.f"];
        assert_eq!(kind_of("semacquire", &group, 0x1008), (ObjectKind::WaitGroup, Some(0x1000)));
    }

    #[test]
    fn a_lock_further_up_the_stack_is_not_what_is_waited_for() {
        let functions = ["runtime.gopark", "internal/poll.(*fdMutex).rwlock", "sync.(*Mutex).Lock"];
        assert_eq!(kind_of("semacquire", &functions, 0x1004), (ObjectKind::Semaphore, Some(0x1004)));
        assert_eq!(kind_of("GC assist wait", &["runtime.gopark"], 0).0, ObjectKind::Runtime);
    }
}
