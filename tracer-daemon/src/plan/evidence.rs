//! Which kinds of evidence does a binary allow?

use super::{BirthPoints, BurstPlan, ProbePlan};
use crate::inspect::{BinaryFacts, Global};

/// Names of the kinds that a binary allows, cheapest first. `exact`: its plan. Whether the host allows them, too, is another question.
pub fn evidence(facts: &BinaryFacts, exact: &ProbePlan) -> Vec<&'static str> {
    let has = |globals: &[Global]| globals.iter().all(|global| facts.globals.get(*global).is_ok());
    // What `read::books`, `read::profile` and a window cannot do without.
    let books = has(&[Global::Memstats, Global::Allp]);
    let profile = facts.sampler_linked() && has(&[Global::Mbuckets, Global::MProfCycle, Global::MemProfileRate]);
    let bursts = has(&[Global::Mheap, Global::GcBlackenEnabled]) && BurstPlan::of(facts, BirthPoints::Certain).is_ok();
    let kinds = [("books", books), ("profile", profile), ("bursts", bursts), ("exact", exact.counts_allocations)];
    kinds.into_iter().filter_map(|(name, is_possible)| is_possible.then_some(name)).collect()
}
