//! The facts of binaries that were inspected, shared by all processes that run them; failures too.
//!
//! The key is the identity of the open file ([`FileIdentity`]), which the kernel tells. It is not the build id: that stands
//! in the file, so that a patched or hostile file can carry the id of another one, and facts of the wrong file would put
//! probes into the middle of instructions. Two copies of a binary are therefore inspected twice.
//! Whoever asks for a file that is being inspected waits for that inspection. Nothing is remembered of a file that
//! changed meanwhile, nor of one that could not be read: that may work the next time. Bounded in entries; what had to go
//! is counted. Reads no clock: [`FactsCache::grow_older`] is called once a second by whoever has one.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{BinaryFacts, InspectError, inspect_file};
use crate::{addr::FileOffset, discover::FileIdentity};

/// What an inspection gave; both are shared.
pub type Inspected = Result<Arc<BinaryFacts>, Arc<InspectError>>;

/// How much is remembered.
#[derive(Clone, Copy, Debug)]
pub struct CacheLimits {
    /// Binaries with facts. Each holds its file open and takes up to 0.6 MiB (blocks of the file, code of the runtime).
    pub facts: usize,
    /// Files without: a few hundred bytes each.
    pub failures: usize,
    /// Calls of [`FactsCache::grow_older`] that facts live through without being asked for and without anybody holding
    /// them: an open file keeps a deleted binary on its disk.
    pub idle: u32,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self { facts: 32, failures: 4096, idle: 300 }
    }
}

/// What the cache did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Files that were inspected.
    pub inspected: u64,
    /// Questions that were answered from memory, or by an inspection that was under way.
    pub shared: u64,
    /// Entries that had to go for newer ones.
    pub evicted: u64,
}

/// See the module's description. Clones share it.
#[derive(Clone, Debug)]
pub struct FactsCache(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: CacheLimits,
    state: Mutex<State>,
    /// An inspection has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<FileIdentity, Entry>,
    /// Counts questions; the order of entries.
    now: u64,
    counts: CacheCounts,
}

#[derive(Debug)]
struct Entry {
    content: Content,
    /// When it was last asked for.
    used: u64,
    /// Calls of `grow_older` since nobody but us has held it.
    idle: u32,
}

#[derive(Debug)]
enum Content {
    /// Somebody inspects it now.
    UnderWay,
    Known(Inspected),
}

impl Default for FactsCache {
    fn default() -> Self {
        Self::new(CacheLimits::default())
    }
}

impl FactsCache {
    /// An empty cache.
    pub fn new(limits: CacheLimits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default(), ended: Condvar::new() }))
    }

    /// The facts of an open file: known ones, else by inspecting it now.
    ///
    /// # Errors
    /// As [`inspect_file`].
    pub fn inspect(&self, file: File) -> Inspected {
        self.inspect_with(file, inspect_file)
    }

    fn inspect_with(&self, file: File, inspect: impl FnOnce(File) -> Result<BinaryFacts, InspectError>) -> Inspected {
        let unreadable = |source| {
            Arc::new(InspectError::Io { structure: "identity", offset: FileOffset(0), length_bytes: 0, source })
        };
        let identity = FileIdentity::of(&file).map_err(unreadable)?;
        let again = file.try_clone().map_err(unreadable)?;
        if let Some(known) = self.known_or_begun(identity) {
            return known;
        }
        let mut turn = Turn { shared: &self.0, identity, found: None };
        let inspected = inspect(file).map(Arc::new).map_err(Arc::new);
        let is_unchanged = FileIdentity::of(&again).is_ok_and(|now| now == identity);
        let may_differ_next_time = matches!(&inspected, Err(error) if matches!(**error, InspectError::Io { .. }));
        if is_unchanged && !may_differ_next_time {
            turn.found = Some(inspected.clone());
        }
        inspected
    }

    /// One second has passed: forgets facts that nobody has wanted for a while.
    pub fn grow_older(&self) {
        let limit = self.0.limits.idle;
        self.0.lock().entries.retain(|_, entry| {
            let Content::Known(Ok(facts)) = &entry.content else { return true };
            entry.idle = if Arc::strong_count(facts) > 1 { 0 } else { entry.idle.saturating_add(1) };
            entry.idle <= limit
        });
    }

    /// What it did so far.
    pub fn counts(&self) -> CacheCounts {
        self.0.lock().counts
    }

    /// What is known; `None` makes it the caller's turn to inspect.
    fn known_or_begun(&self, identity: FileIdentity) -> Option<Inspected> {
        let mut state = self.0.lock();
        state.now += 1;
        let now = state.now;
        loop {
            match state.entries.get_mut(&identity) {
                None => {
                    state.counts.inspected += 1;
                    state.entries.insert(identity, Entry { content: Content::UnderWay, used: now, idle: 0 });
                    return None;
                }
                Some(Entry { content: Content::Known(inspected), used, idle }) => {
                    (*used, *idle) = (now, 0);
                    let inspected = inspected.clone();
                    state.counts.shared += 1;
                    return Some(inspected);
                }
                // Where that inspection gives nothing to remember, it is our turn then.
                Some(Entry { content: Content::UnderWay, .. }) => {
                    state = self.0.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// The right to inspect a file. Ends with what was found, or, after a panic too, with nothing.
struct Turn<'a> {
    shared: &'a Shared,
    identity: FileIdentity,
    found: Option<Inspected>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(found) = self.found.take() {
            state.make_room(self.shared.limits, found.is_ok());
            if let Some(entry) = state.entries.get_mut(&self.identity) {
                entry.content = Content::Known(found);
            }
        } else {
            state.entries.remove(&self.identity);
        }
        drop(state);
        self.shared.ended.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Makes room for one more with facts, or without.
    fn make_room(&mut self, limits: CacheLimits, with_facts: bool) {
        let limit = if with_facts { limits.facts } else { limits.failures };
        loop {
            let same_kind = self.entries.iter().filter_map(|(identity, entry)| match &entry.content {
                Content::Known(known) if known.is_ok() == with_facts => Some((entry.used, *identity)),
                _ => None,
            });
            let (count, oldest) = same_kind.fold((0_usize, None), |(count, oldest), this| {
                (count + 1, Some(oldest.map_or(this, |oldest| std::cmp::min(oldest, this))))
            });
            let Some((_, oldest)) = oldest.filter(|_| count >= limit.max(1)) else { return };
            self.entries.remove(&oldest);
            self.counts.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        os::unix::fs::FileExt as _,
        sync::{
            Barrier,
            atomic::{AtomicU32, Ordering},
        },
        thread,
    };

    use super::*;

    /// The test itself is no Go program: files of a few bytes give [`InspectError::NotElf`].
    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn counts(cache: &FactsCache) -> (u64, u64, u64) {
        let counts = cache.counts();
        (counts.inspected, counts.shared, counts.evicted)
    }

    #[test]
    fn a_failure_is_remembered() {
        let cache = FactsCache::default();
        let file = file("no ELF file");
        for _ in 0..3 {
            let error = cache.inspect(file.try_clone().unwrap()).unwrap_err();
            assert!(matches!(*error, InspectError::NotElf), "{error:?}");
        }
        assert_eq!(counts(&cache), (1, 2, 0));
    }

    #[test]
    fn a_failure_to_read_is_not_remembered() {
        let cache = FactsCache::default();
        let file = file("x");
        let fails = |_| {
            Err(InspectError::Io {
                structure: "test",
                offset: FileOffset(0),
                length_bytes: 1,
                source: std::io::ErrorKind::Interrupted.into(),
            })
        };
        for _ in 0..2 {
            cache.inspect_with(file.try_clone().unwrap(), fails).unwrap_err();
        }
        assert_eq!(counts(&cache), (2, 0, 0));
        assert!(cache.0.lock().entries.is_empty());
    }

    #[test]
    fn what_was_found_in_a_file_that_changed_meanwhile_is_not_remembered() {
        let cache = FactsCache::default();
        let file = file("before");
        let writes = |file: File| {
            file.write_all_at(b"longer than before", 0).unwrap();
            Err(InspectError::NotElf)
        };
        cache.inspect_with(file.try_clone().unwrap(), writes).unwrap_err();
        assert!(cache.0.lock().entries.is_empty());
    }

    #[test]
    fn who_comes_while_a_file_is_inspected_waits_for_that_inspection() {
        let cache = FactsCache::default();
        let file = file("x");
        let (inspections, begun) = (AtomicU32::new(0), Barrier::new(2));
        thread::scope(|scope| {
            let first = scope.spawn(|| {
                cache.inspect_with(file.try_clone().unwrap(), |_| {
                    inspections.fetch_add(1, Ordering::SeqCst);
                    begun.wait();
                    Err(InspectError::NotGo)
                })
            });
            begun.wait();
            for _ in 0..8 {
                let error = cache
                    .inspect_with(file.try_clone().unwrap(), |_| {
                        inspections.fetch_add(1, Ordering::SeqCst);
                        Err(InspectError::NotElf)
                    })
                    .unwrap_err();
                assert!(matches!(*error, InspectError::NotGo), "{error:?}");
            }
            first.join().unwrap().unwrap_err();
        });
        assert_eq!(inspections.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn after_a_panic_it_is_the_next_ones_turn() {
        let cache = FactsCache::default();
        let file = file("x");
        thread::scope(|scope| {
            let panics = scope.spawn(|| cache.inspect_with(file.try_clone().unwrap(), |_| panic!("on purpose")));
            assert!(panics.join().is_err());
        });
        assert!(matches!(*cache.inspect(file).unwrap_err(), InspectError::NotElf));
    }

    #[test]
    fn the_oldest_goes_when_it_is_full_and_is_counted() {
        let cache = FactsCache::new(CacheLimits { failures: 2, ..CacheLimits::default() });
        let files = [file("a"), file("b"), file("c")];
        let inspect = |index: usize| cache.inspect(files[index].try_clone().unwrap()).unwrap_err();
        for index in [0, 1, 0, 2] {
            inspect(index);
        }
        assert_eq!(counts(&cache), (3, 1, 1));
        inspect(0);
        assert_eq!(counts(&cache), (3, 2, 1), "the one that was used again has stayed");
        inspect(1);
        assert_eq!(counts(&cache), (4, 2, 2));
        assert_eq!(cache.0.lock().entries.len(), 2);
    }
}
