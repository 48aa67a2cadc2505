//! Which of the processes that a command has started is the program to be checked.

use std::sync::Arc;

use crate::discover::{Descendant, NamePattern, Target, descendants, listens, resident_bytes, target_by_pid};
use crate::inspect::cache::FactsCache;
use crate::inspect::{BinaryFacts, InspectError};

/// What is looked for.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Below which process.
    pub(super) supervisor: u32,
    /// The command itself.
    pub(super) command: Option<u32>,
    /// The process group of the load: it is not what is checked.
    pub(super) load: Option<u32>,
    /// By name, where that was asked for.
    pub(super) name: Option<NamePattern>,
    /// What is known of binaries.
    pub(super) cache: FactsCache,
    /// A Go program that leakline does not support, if that is all there was.
    pub(super) refused: Option<(u32, String, Arc<InspectError>)>,
}

impl Candidates {
    /// The best one now. `None`: there is none yet.
    ///
    /// By name the only one asked for; else the command itself; else who listens for connections; else who holds most memory. The
    /// tools of Go themselves (`go run` and what it runs) are never meant, unless by name.
    pub(super) fn best(&mut self) -> Option<Target> {
        let mut found = self.all();
        if let Some(own) = found.iter().position(|target| Some(target.identity.pid) == self.command) {
            return Some(found.swap_remove(own));
        }
        if found.len() < 2 {
            return found.pop();
        }
        let worth = |target: &Target| {
            let pid = target.identity.pid;
            (listens(pid), resident_bytes(pid).unwrap_or_default())
        };
        let best = found.iter().enumerate().max_by_key(|(_, target)| worth(target)).map(|(index, _)| index)?;
        let pids: Vec<String> =
            found.iter().map(|target| format!("{} ({})", target.identity.pid, target.name())).collect();
        let chosen = found.swap_remove(best);
        tracing::info!(
            pid = chosen.identity.pid,
            "the command runs {} Go programs: {}. Taking the one that {}; --name GLOB takes another",
            pids.len(),
            pids.join(", "),
            if listens(chosen.identity.pid) { "listens" } else { "holds most memory" }
        );
        Some(chosen)
    }

    /// All Go programs that may be meant, the oldest first.
    fn all(&mut self) -> Vec<Target> {
        let (below, load) = (descendants(self.supervisor), self.load);
        below.into_iter().filter(|process| Some(process.group) != load).filter_map(|one| self.meant(one)).collect()
    }

    fn meant(&mut self, process: Descendant) -> Option<Target> {
        let target = target_by_pid(process.pid).ok()?;
        if self.name.as_ref().is_some_and(|name| !name.matches(&target.name())) {
            return None;
        }
        let exe = target.exe.try_clone().ok()?;
        match self.cache.inspect(exe) {
            Ok(facts) => (self.name.is_some() || !is_tool(&facts)).then_some(target),
            Err(error) => {
                if error.is_refusal() && !error.is_no_target() {
                    self.refused = Some((process.pid, target.exe_path.display().to_string(), error));
                }
                None
            }
        }
    }
}

/// `go`, `compile`, `link`: their main packages are below `cmd/`, which no module may be called.
fn is_tool(facts: &BinaryFacts) -> bool {
    facts.package_path.as_deref().is_some_and(|path| path.starts_with("cmd/"))
}
