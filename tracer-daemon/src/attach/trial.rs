//! Does this kernel take our programs? Its verifier says so before any process is touched: they are loaded, attached nowhere, and gone again.

use tracer_common::{
    bursts::{BurstConfig, GeneralRegister},
    exact::TargetConfig,
};

use super::{
    AttachError, KernelObject, Mechanism, bytes_of,
    own_code::CAPACITIES,
    self_test::{is_passing, with_cause},
};
use crate::host::{Check, Evidence, Status};

/// The programs of bursts where all points go by one link.
const BY_LINK: &[&str] = &["burst", "cycle_marked", "large_objects", "goroutines"];
/// The same where each kind of point has a program of its own.
const BY_PERF_EVENTS: &[&str] = &[
    "burst_chooses_slot",
    "burst_mallocgc",
    "burst_specialised",
    "burst_slow_path",
    "burst_slot_found",
    "burst_slot_searched",
    "burst_large_span_found",
    "cycle_marked",
    "large_objects",
];
const OF_EXACT: &[&str] =
    &["allocation", "specialised_allocation", "goroutine_created", "goroutine_returned", "goroutine_exited"];

/// Constants as two programs have them that take different branches. The verifier leaves out what cannot be reached: with
/// other constants it sees other code.
fn constants() -> [(TargetConfig, BurstConfig); 2] {
    // Offsets are numbers like any others to it.
    let burst = BurstConfig {
        g_m: 48,
        g_goid: 152,
        g_startpc: 288,
        g_gc_assist_bytes: 400,
        m_p: 208,
        p_mcache: 64,
        mcache_tiny: 24,
        mcache_alloc: 48,
        span_start: 24,
        span_freeindex: 48,
        span_nelems: 50,
        span_index_bits: 64,
        span_alloc_cache: 56,
        span_alloc_bits: 64,
        span_elemsize: 104,
        span_spanclass: 98,
        gc_blacken_enabled: 0x55_0000,
        sweepgen: 0x56_0000,
        slot_span_register: 0,
        slot_address_register: GeneralRegister::Ax as u64,
        has_slow_paths: 0,
        mallocgc_is_probed: 0,
    };
    let target = TargetConfig {
        mallocgc_start: 0x41_0000,
        mallocgc_end: 0x41_1000,
        g_goid_offset: 152,
        g_gopc_offset: 280,
        malloc_header_bytes: 0,
        stack_check_flags: 65,
    };
    let newer = BurstConfig {
        span_index_bits: 16,
        slot_span_register: GeneralRegister::Cx as u64,
        has_slow_paths: 1,
        mallocgc_is_probed: 1,
        ..burst
    };
    [(target, burst), (TargetConfig { malloc_header_bytes: 8, stack_check_flags: 0, ..target }, newer)]
}

/// For `leakline doctor`: a check for each kind of evidence that takes programs. Takes some tenths of a second, most of it in the kernel.
pub fn program_checks(mechanism: Mechanism) -> [Check; 2] {
    let of_bursts = match mechanism {
        Mechanism::UprobeMulti => BY_LINK,
        Mechanism::PerfEvents => BY_PERF_EVENTS,
    };
    [
        check("burst_programs", &[Evidence::Bursts], try_to_load(of_bursts, mechanism)),
        check("exact_programs", &[Evidence::Exact], try_to_load(OF_EXACT, Mechanism::PerfEvents)),
    ]
}

fn try_to_load(programs: &[&'static str], mechanism: Mechanism) -> Result<usize, AttachError> {
    for (target, burst) in &constants() {
        let constants = [("TARGET", bytes_of(target)), ("BURST", bytes_of(burst))];
        KernelObject::embedded(&constants, CAPACITIES, programs, mechanism)?;
    }
    Ok(programs.len())
}

fn check(id: &'static str, concerns: &'static [Evidence], tried: Result<usize, AttachError>) -> Check {
    let (status, found, fix) = match tried {
        Ok(programs) => return Check::good(id, format!("the kernel takes all {programs}")),
        Err(error) if is_passing(&error) => {
            let found = format!("not tried: {}", with_cause(&error));
            return Check::not_good(id, Status::Limited, &[], found, "try again when memory or descriptors are free");
        }
        Err(AttachError::NotAllowed { needs, .. }) => {
            (Status::Missing, format!("not tried: that takes {needs}"), format!("run as root, or grant {needs}"))
        }
        Err(error) => {
            let found = match &error {
                AttachError::LoadProgram { program, source, verifier } => {
                    format!("the kernel refuses `{program}`: {source}; its verifier ends with: {verifier}")
                }
                other => with_cause(other),
            };
            (Status::Missing, found, "boot another kernel, and report this as a bug: it should take them".to_owned())
        }
    };
    Check::not_good(id, status, concerns, found, fix)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::attach::KERNEL_OBJECT;

    #[test]
    fn every_program_is_tried() {
        let object = aya_obj::Object::parse(KERNEL_OBJECT).unwrap();
        let tried: Vec<&str> = [BY_LINK, BY_PERF_EVENTS, OF_EXACT].concat();
        let untried: Vec<&String> = object.programs.keys().filter(|name| !tried.contains(&name.as_str())).collect();
        assert!(object.programs.len() > 10 && untried.is_empty(), "{untried:?}");
    }

    #[test]
    fn a_refusal_says_what_cannot_be_had() {
        let refused = |kind: io::ErrorKind| {
            let verifier = "R2 invalid mem access".to_owned();
            Err(AttachError::LoadProgram { program: "burst", source: kind.into(), verifier })
        };
        let found = check("burst_programs", &[Evidence::Bursts], refused(io::ErrorKind::PermissionDenied));
        assert_eq!((found.status, found.concerns), (Status::Missing, &[Evidence::Bursts][..]));
        assert!(found.found.contains("`burst`") && found.found.contains("R2 invalid mem access"), "{}", found.found);
        assert_eq!(check("burst_programs", &[], Ok(4)).status, Status::Good);
    }
}
