//! The programs of the zoo and on which versions of Go each is built. What a program leaks it says itself.

/// Releases, as `GOTOOLCHAIN` names them without `go`.
const GO_19: &str = "1.19.13";
const GO_21: &str = "1.21.13";
const GO_22: &str = "1.22.12";
const GO_24: &str = "1.24.11";
const GO_26: &str = "1.26.6";
const GO_27: &str = "1.27.3";

/// How long each is watched.
const SECONDS: u64 = 150;

/// One program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Folder of its module below the zoo.
    pub(super) module: &'static str,
    /// Go releases that build it, without `go`.
    pub(super) releases: [&'static str; 2],
    /// How long it is watched.
    pub(super) seconds: u64,
    traits: &'static [Trait],
}

/// What is special about a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trait {
    /// `--quick` runs it.
    Quick,
    /// It needs a C compiler.
    Cgo,
    /// It keeps a core busy, so that nothing else may run.
    Heavy,
    /// It also runs without a sampler of its own, and leakline turns it on.
    Adopted,
}

use Trait::{Adopted, Cgo, Heavy, Quick};

/// In a module without dependencies.
const fn plain(name: &'static str, releases: [&'static str; 2], traits: &'static [Trait]) -> Case {
    Case { name, module: "plain", releases, seconds: SECONDS, traits }
}

/// In a module of its own, with a library.
const fn library(name: &'static str, releases: [&'static str; 2], traits: &'static [Trait]) -> Case {
    Case { module: name, ..plain(name, releases, traits) }
}

impl Case {
    const fn seconds(self, seconds: u64) -> Self {
        Self { seconds, ..self }
    }

    pub(super) fn is(&self, wanted: Trait) -> bool {
        self.traits.contains(&wanted)
    }

    /// Where its sources lie below the zoo, and what `go build` is told in the module's folder.
    pub(super) fn folder(&self) -> String {
        if self.module == self.name { self.name.to_owned() } else { format!("{}/{}", self.module, self.name) }
    }

    pub(super) fn package(&self) -> String {
        if self.module == self.name { ".".to_owned() } else { format!("./{}", self.name) }
    }
}

/// Leaks first, then the innocent. gorm and go-redis need Go 1.21.
pub(super) const CASES: &[Case] = &[
    plain("global_slice", [GO_19, GO_24], &[Quick, Adopted]),
    plain("map_no_delete", [GO_26, GO_19], &[Adopted]),
    plain("session_afterfunc", [GO_22, GO_27], &[]),
    plain("ticker", [GO_26, GO_19], &[]),
    plain("response_body", [GO_21, GO_27], &[]),
    plain("context_no_cancel", [GO_24, GO_22], &[]),
    plain("blocked_send", [GO_19, GO_27], &[Quick]),
    plain("wait_group", [GO_24, GO_21], &[]),
    plain("mutex_chain", [GO_22, GO_26], &[]),
    plain("pool_grown", [GO_21, GO_19], &[]),
    plain("substring", [GO_24, GO_26], &[]),
    plain("subslice", [GO_22, GO_21], &[]),
    plain("closure", [GO_19, GO_22], &[]),
    plain("finalizer", [GO_27, GO_26], &[]),
    plain("cgo_cstring", [GO_24, GO_27], &[Quick, Cgo]),
    plain("cgo_malloc", [GO_24, GO_19], &[Cgo]),
    library("protobuf", [GO_21, GO_26], &[Adopted]),
    library("zap", [GO_27, GO_22], &[]),
    library("gorm", [GO_21, GO_26], &[]),
    library("redis", [GO_27, GO_21], &[]),
    plain("json_copies", [GO_22, GO_24], &[Quick, Adopted]),
    plain("generic_helper", [GO_27, GO_19], &[]),
    plain("shared_class", [GO_21, GO_24], &[Quick, Adopted]),
    plain("two_leaks", [GO_26, GO_22], &[]),
    plain("slow_under_churn", [GO_19, GO_21], &[Heavy]).seconds(310),
    plain("queue", [GO_26, GO_24], &[]),
    plain("images", [GO_21, GO_22], &[]),
    plain("log_lines", [GO_22, GO_19], &[]),
    plain("sync_map", [GO_26, GO_27], &[]),
    plain("held_receive", [GO_27, GO_24], &[]),
    plain("read_all", [GO_19, GO_24], &[Adopted]),
    plain("lru", [GO_26, GO_21], &[Quick, Adopted]),
    plain("cache_fills", [GO_22, GO_27], &[Quick]),
    plain("sawtooth", [GO_26, GO_19], &[]),
    plain("burst_idle", [GO_21, GO_27], &[]),
    plain("static_churn", [GO_24, GO_22], &[Heavy]),
    plain("workers", [GO_19, GO_27], &[]),
    plain("goroutine_churn", [GO_24, GO_21], &[Heavy]),
    plain("map_up_down", [GO_22, GO_26], &[]),
    plain("gogc_400", [GO_21, GO_19], &[]),
    plain("gc_often", [GO_24, GO_26], &[Heavy]),
    plain("gc_rare", [GO_22, GO_21], &[]),
    plain("ttl_cache", [GO_19, GO_22], &[Adopted]),
    plain("pool_steady", [GO_27, GO_26], &[]),
    plain("http_service", [GO_24, GO_27], &[Quick]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn each_release_builds_as_many_cases_as_the_others() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for release in CASES.iter().flat_map(|case| case.releases) {
            *counts.entry(release).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| *count == CASES.len() / 3), "{counts:?}");
        assert!(CASES.iter().all(|case| case.releases[0] != case.releases[1]));
    }

    #[test]
    fn each_case_has_its_folder_and_each_folder_its_case() {
        let zoo = crate::workspace::root().join(super::super::ZOO);
        for case in CASES {
            assert!(zoo.join(case.folder()).join("main.go").is_file(), "{}", case.name);
        }
        let folders = std::fs::read_dir(zoo.join("plain")).unwrap();
        let programs = folders.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
        assert_eq!(programs, CASES.iter().filter(|case| case.module == "plain").count());
    }

    #[test]
    fn quick_is_eight_cases_of_which_none_is_heavy() {
        let quick: Vec<_> = CASES.iter().filter(|case| case.is(Quick)).collect();
        assert_eq!(quick.len(), 8);
        assert!(quick.iter().all(|case| !case.is(Heavy)));
    }
}
