//! One process from discovery to everything that is known of it without a probe.

use std::{path::Path, sync::Arc, time::Duration};

use super::goroutines::{began_ns, monotonic_ns};
use super::{StartError, own};
use crate::{
    addr::LoadBias,
    attach::adopt::{AdoptError, Adopted},
    discover::{Presence, ProcessIdentity, Target, presence},
    export::{ProcessFacts, untrusted},
    inspect::{BinaryFacts, cache::FactsCache},
    model::process::ProcessConstants,
    read::{ReadError, Runtime, load_bias, memory::ProcessMemory},
    symbolize::{NativeCode, Symbolizer},
};

/// A process whose binary was inspected and whose memory can be read.
#[derive(Debug)]
pub struct Subject {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// The executable's file name, escaped.
    pub name: String,
    /// The executable's path as the process sees it, escaped.
    pub exe: String,
    /// Whether the file at that path is gone or another one by now.
    pub exe_replaced: bool,
    /// Facts about the binary.
    pub facts: Arc<BinaryFacts>,
    /// What the loader added to every address of the file.
    pub bias: LoadBias,
    /// Its memory.
    pub memory: ProcessMemory,
    /// Names its addresses.
    pub symbolizer: Symbolizer,
}

impl Subject {
    /// Inspects the binary, or takes what is known of it from `cache`, and finds where it was loaded.
    ///
    /// # Errors
    /// Where the binary is none that we can read, or the process is over.
    pub fn open(target: &Target, cache: &FactsCache) -> Result<Self, StartError> {
        let identity = target.identity;
        let pid = identity.pid;
        let exe = untrusted::path(&target.exe_path.display().to_string()).into_owned();
        let file = target.exe.try_clone().map_err(|source| StartError::Exe { pid, source })?;
        let facts = cache.inspect(file).map_err(|source| StartError::Inspect { pid, exe: exe.clone(), source })?;
        let bias = load_bias(&facts, &identity).ok_or(StartError::Vanished { pid })?;
        Ok(Self {
            identity,
            name: untrusted::name(&target.name()).into_owned(),
            exe,
            exe_replaced: target.exe_replaced,
            symbolizer: Symbolizer::new(Arc::clone(&facts), bias).with_native(NativeCode::new(identity)),
            memory: ProcessMemory::new(pid),
            facts,
            bias,
        })
    }

    /// Tells the operator what is odd about it.
    pub fn announce(&self) {
        if self.exe_replaced {
            tracing::warn!(
                pid = self.identity.pid,
                exe = self.exe,
                "the file at this path is not what the process runs; reading the latter"
            );
        }
    }

    /// Where its runtime keeps its structures.
    pub fn runtime(&self) -> Runtime {
        Runtime::new(Arc::clone(&self.facts), self.bias)
    }

    /// What documents say of the process.
    pub fn process_facts(&self) -> ProcessFacts {
        ProcessFacts::of(self.identity.pid, &self.exe, &self.facts)
    }

    /// What the model knows of it beforehand; `warm_after`: from which age on it is taken to be warm, `None`: it is already.
    pub fn constants(&self, warm_after: Option<Duration>) -> ProcessConstants {
        let now_ns = monotonic_ns();
        let age_ns = began_ns(self.identity.start_ticks, now_ns).map(|began_ns| now_ns.saturating_sub(began_ns));
        ProcessConstants {
            main_module: self.facts.main_module.as_deref().map(Arc::from),
            cgo: self.facts.cgo,
            go_minor: Some(self.facts.go_version.minor),
            began_unix_ns: age_ns.filter(|_| warm_after.is_some()).map(|age_ns| own::unix_ns().saturating_sub(age_ns)),
            warm_after_s: warm_after.unwrap_or_default().as_secs_f64(),
        }
    }

    /// Whether it is still what it was.
    pub fn presence(&self) -> Presence {
        presence(&self.identity)
    }

    /// What was read since it was opened is its own, and not that of a successor under the same id.
    ///
    /// # Errors
    /// Where it ended or replaced its program.
    pub fn still_there(&self) -> Result<(), StartError> {
        match self.presence() {
            Presence::Running => Ok(()),
            Presence::Ended | Presence::Replaced => Err(StartError::Vanished { pid: self.identity.pid }),
        }
    }

    /// Turns its heap sampler on until the value goes away. `folder` is where it is noted for `leakline restore`.
    ///
    /// # Errors
    /// Where it is on, where it is not certain where to write, or where that is not allowed. Nothing was written then.
    pub fn adopt(&self, folder: &Path) -> Result<Adopted, StartError> {
        Adopted::on(&self.identity, &self.facts, self.bias, folder).map_err(|source| self.unadopted(source))
    }

    /// An error of turning its sampler on or off.
    pub fn unadopted(&self, source: AdoptError) -> StartError {
        StartError::Adopt { pid: self.identity.pid, source }
    }

    /// An error of reading this process.
    pub fn unread(&self, source: ReadError) -> StartError {
        StartError::Read { pid: self.identity.pid, source }
    }
}
